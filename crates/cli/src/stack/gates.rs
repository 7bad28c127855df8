//! The gates in front of the local stack's servers: proxies that make AWS and the chain as strict as the real ones, and
//! inject faults if requested. They run in this process and end with it.
//!
//! The faults are implemented in `signpost_gate`; this module only reads its scripts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};
use signpost_gate::aws::{AwsFault, AwsGate, AwsGateConfig};
use signpost_gate::bsc::{BscFault, BscGate, BscGateConfig};
use signpost_gate::script::{Fault, Script};
use signpost_gate::stats::Stats;

use super::{StackError, file};

/// The fault scripts of both gates.
#[derive(Debug, Clone)]
pub struct Scripts {
    bsc: Script<BscFault>,
    aws: Script<AwsFault>,
}

impl Scripts {
    /// Reads `none`, `all`, or a file with `{"bsc": script, "aws": script}`, where either may be left out.
    pub fn read(faults: &str, seed: u64) -> Result<Self, StackError> {
        let json = match faults {
            "none" | "all" => json!({ "bsc": { "faults": faults }, "aws": { "faults": faults } }),
            path => {
                let text = std::fs::read_to_string(path).map_err(file(Path::new(path)))?;
                serde_json::from_str(&text).map_err(|error| wrong(faults, &error.to_string()))?
            }
        };
        let unknown = |object: &serde_json::Map<String, Value>| {
            object.keys().find(|key| !["bsc", "aws"].contains(&key.as_str())).cloned()
        };
        match json.as_object().map(unknown) {
            Some(None) => {}
            Some(Some(key)) => return Err(wrong(faults, &format!("it has a key {key:?}; known are bsc and aws"))),
            None => return Err(wrong(faults, "it is not an object with the keys bsc and aws")),
        }
        Ok(Self { bsc: script(faults, &json["bsc"], seed)?, aws: script(faults, &json["aws"], seed)? })
    }
}

fn script<F: Fault>(faults: &str, json: &Value, seed: u64) -> Result<Script<F>, StackError> {
    let none = json!([]);
    let json = if json.is_null() { &none } else { json };
    let mut script = Script::parse(json).map_err(|error| wrong(faults, &error.to_string()))?;
    script.seed = script.seed.or(Some(seed));
    Ok(script)
}

fn wrong(faults: &str, reason: &str) -> StackError {
    StackError::Script { path: faults.into(), reason: reason.to_owned() }
}

/// Running gates. They stop when dropped.
#[derive(Debug)]
pub struct Gates {
    bsc: BscGate,
    aws: AwsGate,
    rpc_upstream: String,
    aws_upstream: String,
}

impl Gates {
    /// Listens on free loopback ports, one per node, without faults.
    pub async fn start(aws: &str, rpc: &str, chain_id: u64, nodes: usize) -> Result<Self, StackError> {
        let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); nodes];
        // After a reorganisation, BSC's nodes put transactions back into the pool; anvil does not.
        let config = BscGateConfig { listen, reinject: true, ..BscGateConfig::new(rpc, chain_id) };
        Ok(Self {
            bsc: BscGate::start(config).await?,
            aws: AwsGate::start(AwsGateConfig::new(aws)).await?,
            rpc_upstream: rpc.to_owned(),
            aws_upstream: aws.to_owned(),
        })
    }

    /// Starts the faults.
    pub fn inject(&self, scripts: &Scripts) {
        self.bsc.set_all(&scripts.bsc);
        self.aws.control().set(scripts.aws.clone());
    }

    /// The counts of calls through the AWS gate.
    pub fn aws_stats(&self) -> Stats {
        self.aws.control().stats()
    }

    /// The URL of the emulator behind its gate.
    pub fn aws_upstream(&self) -> &str {
        &self.aws_upstream
    }

    /// The endpoint of all AWS services.
    pub fn aws_endpoint(&self) -> String {
        self.aws.url()
    }

    /// The JSON-RPC URL of every node.
    pub fn rpc_urls(&self) -> Vec<String> {
        self.bsc.urls()
    }

    /// The URLs of the gates and of the servers behind them.
    pub fn shown(&self) -> Value {
        json!({ "rpcUrls": self.rpc_urls(), "rpcUpstream": self.rpc_upstream, "awsUpstream": self.aws_upstream })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Scripts, StackError> {
        let path = std::env::temp_dir().join(format!("signpost-gates-{}-{}.json", std::process::id(), text.len()));
        std::fs::write(&path, text).unwrap();
        let read = Scripts::read(path.to_str().unwrap(), 7);
        std::fs::remove_file(path).unwrap();
        read
    }

    #[test]
    fn script_file_may_leave_out_one_gate() {
        let scripts = read(r#"{"bsc": [{"fault": "silentDrop"}]}"#).unwrap();
        assert_eq!((scripts.bsc.rules.len(), scripts.aws.rules.len()), (1, 0));
        assert_eq!(scripts.bsc.seed, Some(7));
        let own = read(r#"{"aws": {"seed": 3, "faults": "all"}}"#).unwrap();
        assert_eq!(own.aws.seed, Some(3));
        assert!(own.aws.rules.len() > 5);
    }

    #[test]
    fn all_and_none_need_no_script_file() {
        let all = Scripts::read("all", 1).unwrap();
        assert!(!all.bsc.rules.is_empty() && !all.aws.rules.is_empty());
        let none = Scripts::read("none", 1).unwrap();
        assert!(none.bsc.rules.is_empty() && none.aws.rules.is_empty());
    }

    #[test]
    fn invalid_script_is_reported_with_its_reason() {
        for (text, reason) in [
            ("[]", "not an object"),
            (r#"{"bnb": []}"#, "bnb"),
            (r#"{"bsc": [{"fault": "htlm"}]}"#, "htlm"),
            ("{", "EOF"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(matches!(Scripts::read("/no/such/file", 1), Err(StackError::File { .. })));
    }
}
