//! `gate`: the BSC gate or the AWS gate as a separate process, for end-to-end tests.
//!
//! Prints one line of JSON when it listens, `{"urls": [...]}`, and runs until its standard input ends (with `--leash`)
//! or it is killed.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};
use signpost_gate::aws::{AwsGate, AwsGateConfig};
use signpost_gate::bsc::{BscGate, BscGateConfig, Limits};
use signpost_gate::script::{Fault, Script};
use signpost_txmgr::units::Wei;
use tokio::io::AsyncReadExt as _;

/// Proxies that make the local stack as strict as the real services and inject their faults.
#[derive(Debug, Parser)]
#[command(
    after_help = "Example: gate bsc --upstream http://127.0.0.1:8545 --listen 127.0.0.1:8555 --faults all --seed 7"
)]
struct Arguments {
    #[command(subcommand)]
    gate: Gate,
}

#[derive(Debug, Subcommand)]
enum Gate {
    /// In front of anvil: BSC's rules, error messages and codes, and the faults of nodes and providers
    Bsc {
        #[command(flatten)]
        common: Common,
        /// EIP-155 chain id
        #[arg(long, value_name = "ID", default_value_t = 97)]
        chain_id: u64,
        /// Lowest tip that the pool accepts [default: BSC's value for the chain]
        #[arg(long, value_name = "WEI")]
        min_gas_price_wei: Option<u64>,
        /// Send orphaned transactions again after a reorg, as BSC's nodes do
        #[arg(long)]
        reinject: bool,
    },
    /// In front of ministack: conflicts, throttling, lost replies, duplicate delivery
    Aws {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// Endpoint of the server behind the gate
    #[arg(long, value_name = "URL")]
    upstream: String,
    /// Address to listen on; port 0 selects a free one. Repeat it for a BSC gate with several nodes
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: Vec<SocketAddr>,
    /// Random seed of the faults
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// `none`, `all`, or a file with a script
    #[arg(long, value_name = "FAULTS", default_value = "none")]
    faults: String,
    /// Stop when standard input ends, so that the gate cannot outlive its caller
    #[arg(long)]
    leash: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().gate).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "{problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(gate: Gate) -> Result<(), String> {
    match gate {
        Gate::Bsc { common, chain_id, min_gas_price_wei, reinject } => {
            let mut limits = Limits::of_chain(chain_id);
            if let Some(wei) = min_gas_price_wei {
                limits.min_gas_price = Wei::from(wei);
            }
            let Common { upstream, listen, seed, faults, leash } = common;
            let script = script(&faults, seed)?;
            let config = BscGateConfig { upstream, listen, limits, reinject, seed };
            let gate = BscGate::start(config).await.map_err(|error| chain_of(&error))?;
            gate.set_all(&script);
            announce(&gate.urls())?;
            until_the_end(leash).await;
            gate.stop();
        }
        Gate::Aws { common } => {
            let Common { upstream, listen, seed, faults, leash } = common;
            let [listen] = listen[..] else {
                return Err("the AWS gate listens on one address only".to_owned());
            };
            let config = AwsGateConfig { listen, seed, ..AwsGateConfig::new(&upstream) };
            let gate = AwsGate::start(config).await.map_err(|error| chain_of(&error))?;
            gate.control().set(script(&faults, seed)?);
            announce(&[gate.url()])?;
            until_the_end(leash).await;
            gate.stop();
        }
    }
    Ok(())
}

fn script<F: Fault>(faults: &str, seed: u64) -> Result<Script<F>, String> {
    let json = match faults {
        "none" | "all" => json!({ "faults": faults }),
        file => read(Path::new(file))?,
    };
    let mut script = Script::parse(&json).map_err(|error| error.to_string())?;
    script.seed = script.seed.or(Some(seed));
    Ok(script)
}

fn read(file: &Path) -> Result<Value, String> {
    let wrong = |problem: String| format!("{}: {problem}", PathBuf::from(file).display());
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
}

fn announce(urls: &[String]) -> Result<(), String> {
    let mut out = std::io::stdout();
    writeln!(out, "{}", json!({ "urls": urls })).and_then(|()| out.flush()).map_err(|error| error.to_string())
}

async fn until_the_end(leash: bool) {
    if !leash {
        return std::future::pending().await;
    }
    let mut input = tokio::io::stdin();
    let mut buffer = [0; 64];
    while input.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
