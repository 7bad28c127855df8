//! The configuration file of a worker and of the commands: one TOML file, read once into
//! one struct. All problems are reported together.
//!
//! Nothing that affects safety has a default: chain, nodes, queues, tables, topic and policy must be
//! set. An unknown key is a problem, not a warning, because it may be a misspelt rule.
//!
//! Never reads a clock, never connects. Read next: [`parse`], and [`environment`] for the configuration of a Lambda
//! function.
//!
//! ## `[chain]`
//!
//! | key | value |
//! |---|---|
//! | `chain_id` | EIP-155 chain id: 56, or 97 for the test network. A node on another chain is not used |
//! | `rpc_urls` | the nodes, the preferred first: `https`, or `http`, which causes a warning unless the node is on this machine; may hold a provider's key. Reads go to the first node that is healthy and not behind |
//! | `send_to` | `"all"`: every healthy node gets each transaction; `"first"`: the first healthy node does, and the next one gets at once what it did not accept |
//! | `fee_floor_wei` | wei per gas below which no validator mines a transaction; nothing is signed, and no price is reported, below it |
//! | `fee_ceiling_wei` | optional: upper bound of the reported network price, whatever blocks paid. It bounds the observed price, and so the price of a bump; the policy decides what may be paid |
//! | `finality` | `"finalized"`, or a number of confirmations |
//! | `verdicts` | optional: `"one"`, the default: a second node of `rpc_urls` is asked before something counts as final. If it contradicts, we wait; if it has no answer, we wait at most 30 s. `"two"`: nothing counts as final without a second node's word |
//! | `explorer_url` | optional: the web page of an explorer of this chain, which `signpost rescue` links to; the default for 56 and 97 is `BscScan` |
//! | `private_only` | required with private endpoints. `true`: transactions never go to `rpc_urls`; `false`: they go there too when they are sent again (3 s later, while not mined) or when no private endpoint was reached |
//!
//! Each `[[chain.private]]` is a send-only endpoint that gets the transactions instead of the nodes. `send_to` applies
//! to these endpoints too.
//!
//! | key | value |
//! |---|---|
//! | `url` | `http` or `https` |
//! | `shape` | optional: `"bloxroute"`, the request `bsc_private_tx`, is the only shape so far |
//! | `authorization_env` | name of the environment variable with the value of the `Authorization` header; the secret itself is never in the file |
//! | `mev_builders` | optional list: `bloxroute`, `48club`, `blockrazor`, `jetbldr`, `nodereal` or `all`; without it, bloXroute uses its own builder |
//!
//! ## `[seal]` and `[accounts]`
//!
//! For programs that sign; the broadcaster and the other commands need neither.
//!
//! | key | value |
//! |---|---|
//! | `secret_arn` or `key_file` in `[seal]` | the key of seals: a secret in Secrets Manager, or a file with one key per line, the newest first. At least 32 characters, the same for every signer, and secret from everybody else |
//! | `pinned` in `[accounts]` | the accounts that may be signed for, `["NAME=0xADDRESS=KMS_KEY"]`; `signpost account register` prints the entry |
//! | `trust_registry` in `[accounts]` | instead of `pinned`, `true`: all registered accounts. Only if nobody else can write the accounts table |
//!
//! ## `[metrics]` and `[traces]`
//!
//! | key | value |
//! |---|---|
//! | `listen` in `[metrics]` | optional: the address of a worker's Prometheus endpoint, `"127.0.0.1:9464"`. Without it there is no endpoint |
//! | `otlp_endpoint` in `[traces]` | optional: a collector for OpenTelemetry traces over OTLP/HTTP, `"http://127.0.0.1:4318"`. `OTEL_EXPORTER_OTLP_ENDPOINT` overrides it |
//!
//! ## The network's price
//!
//! The network's price is read from the last 20 blocks (`eth_feeHistory`). A block with free space counts as the node's
//! own price (`eth_gasPrice`, the lowest price that is mined) or its cheapest tenth, whichever is lower: more was not
//! needed there. A full block counts as its 60th percentile. The price is the 75th percentile of these, within floor
//! and ceiling: a single high-priced transaction, or our own, does not change it. It is reported for at most 60 s after
//! it was read.

mod clear;
pub mod environment;
mod parse;
mod reader;
mod shared;
mod write;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use signpost_txmgr::ports::Finality;

pub use self::shared::{BroadcasterSettings, StageSettings};

/// Minimum of [`Config::retention_days`]: a stored request must outlive every possible redelivery, 14 days
/// in a queue and 14 days in its dead-letter queue.
pub const RETENTION_DAYS_MIN: u64 = 30;
const RETENTION_DAYS: u64 = 90;
/// Default number of batches that the signer handles concurrently.
pub const SIGNER_CONCURRENCY: u64 = 8;
/// Default number of lanes that one process handles concurrently. A pass mostly waits for the next block, and a lane
/// that must wait for another lane's pass waits up to two minutes. So the number is high.
pub const BROADCASTER_CONCURRENCY: u64 = 200;
/// Maximum number of confirmations: more blocks than any reorganisation of BSC.
const CONFIRMATIONS_MAX: u64 = 10_000;
/// Maximum of a timing in milliseconds: a value above a day is surely a mistake.
const TIMING_MAX_MS: u64 = 86_400_000;

/// The configuration of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// AWS region; by default that of the environment.
    pub region: Option<String>,
    /// AWS endpoint, for an emulator; `AWS_ENDPOINT_URL` overrides it.
    pub endpoint: Option<String>,
    /// The chain and its nodes.
    pub chain: Chain,
    /// The three queues.
    pub queues: Queues,
    /// The two tables.
    pub tables: Tables,
    /// ARN of the outcome topic.
    pub outcomes_arn: String,
    /// The policy file, absolute or relative to the current directory.
    pub policy_file: PathBuf,
    /// The key of seals; only programs that sign need it.
    pub seal: Option<SealFrom>,
    /// The accounts that may be signed for; only programs that sign need them.
    pub accounts: Option<AccountsFrom>,
    /// How long a closed request is kept, in days. At least [`RETENTION_DAYS_MIN`].
    pub retention_days: u64,
    /// Timings; for those left out the drivers' defaults apply.
    pub timing: Timing,
    /// A worker's concurrency and visibility timeout.
    pub worker: Worker,
    /// A worker's metrics and traces.
    pub observe: Observe,
}

/// `[seal]`: the source of the key of seals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealFrom {
    /// A secret in Secrets Manager: its current version and, during a rotation, the previous one.
    Secret(String),
    /// A file with one key per line, the newest first.
    File(PathBuf),
}

/// `[accounts]`: which accounts may be signed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountsFrom {
    /// The registered accounts: everybody with write access to the accounts table can add one.
    Registry,
    /// The listed accounts, as `NAME=0xADDRESS=KMS_KEY`.
    Listed(Vec<String>),
}

/// `[chain]`. `Debug` does not print URLs, because they may hold keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Chain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// JSON-RPC endpoints, at least one.
    pub rpc_urls: Vec<String>,
    /// Which nodes get a transaction.
    pub send_to: SendTo,
    /// Wei per gas below which no validator mines a transaction: it would be stuck, not refused.
    pub fee_floor_wei: u64,
    /// Upper bound of the reported network price, in wei per gas.
    pub fee_ceiling_wei: Option<u64>,
    /// Send-only endpoints.
    pub private: Option<Private>,
    /// When a block counts as final: by the node's tag `finalized`, or by a number of confirmations.
    pub finality: Finality,
    /// Nothing counts as final without a second node's word.
    pub two_verdicts: bool,
    /// The web page of an explorer, for links.
    pub explorer_url: Option<String>,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("chain_id", &self.chain_id)
            .field("rpc_urls", &self.rpc_urls.len())
            .field("send_to", &self.send_to)
            .field("fee_floor_wei", &self.fee_floor_wei)
            .field("fee_ceiling_wei", &self.fee_ceiling_wei)
            .field("private", &self.private)
            .field("finality", &self.finality)
            .field("two_verdicts", &self.two_verdicts)
            .field("explorer_url", &self.explorer_url.is_some())
            .finish()
    }
}

/// The sections `[[chain.private]]` and the key `private_only`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Private {
    /// `private_only`: transactions never go to the nodes.
    pub only: bool,
    /// The endpoints, at least one.
    pub endpoints: Vec<PrivateEndpoint>,
}

/// One private endpoint. `Debug` does not print the URL.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateEndpoint {
    /// The URL; may hold a key.
    pub url: String,
    /// The request format.
    pub shape: PrivateShape,
    /// The source of the `Authorization` header.
    pub authorization: AuthorizationSource,
    /// Builders to name in the request; if empty, the provider chooses.
    pub mev_builders: Vec<String>,
}

impl fmt::Debug for PrivateEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateEndpoint")
            .field("shape", &self.shape)
            .field("mev_builders", &self.mev_builders)
            .finish_non_exhaustive()
    }
}

/// The source of a private endpoint's `Authorization` header.
#[derive(Clone, PartialEq, Eq)]
pub enum AuthorizationSource {
    /// The environment variable with this name.
    Variable(String),
    /// The value itself, which came from a secret together with the endpoint. `Debug` does not print it.
    Value(String),
}

impl fmt::Debug for AuthorizationSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => f.debug_tuple("Variable").field(name).finish(),
            Self::Value(_) => f.debug_tuple("Value").finish_non_exhaustive(),
        }
    }
}

/// The request format of a private endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivateShape {
    /// bloXroute's `bsc_private_tx`.
    Bloxroute,
}

/// Which nodes get a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendTo {
    /// Every healthy node.
    All,
    /// The first healthy node; the next one gets what it did not accept.
    First,
}

/// `[queues]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queues {
    /// The queue for requests. FIFO or standard.
    pub signing_url: String,
    /// The queue from the broadcaster to the signer. FIFO.
    pub resign_url: String,
    /// The queue from the signer to the broadcaster. FIFO.
    pub broadcast_url: String,
}

/// `[tables]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// The table of requests.
    pub requests: String,
    /// The table of accounts and slots.
    pub accounts: String,
}

/// `[timing]`, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// Age of a lane's head before its price is raised.
    pub bump_after_ms: Option<u64>,
    /// Age of a lane's head before it is sent again.
    pub rebroadcast_after_ms: Option<u64>,
    /// Interval between two reads of an active lane.
    pub poll_ms: Option<u64>,
    /// Interval between two sweeps over all lanes.
    pub sweep_ms: Option<u64>,
}

/// `[worker]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// Number of batches that the signer handles concurrently.
    pub signer_concurrency: u64,
    /// Number of lanes that the broadcaster handles concurrently.
    pub broadcaster_concurrency: u64,
    /// Visibility timeout in seconds of a message in progress; renewed until the message is done. After a crash
    /// its lane waits for this time.
    pub visibility_s: u64,
}

/// `[metrics]` and `[traces]`. `Debug` does not print the collector, because its URL may hold a key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Observe {
    /// `metrics.listen`: the address of a worker's Prometheus endpoint.
    pub metrics_listen: Option<SocketAddr>,
    /// `traces.otlp_endpoint`: the URL for spans, without `/v1/traces`.
    pub otlp_endpoint: Option<String>,
}

impl fmt::Debug for Observe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Observe");
        shown.field("metrics_listen", &self.metrics_listen).field("traces", &self.otlp_endpoint.is_some()).finish()
    }
}

/// Why there is no usable configuration. The program ends with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file has problems.
    #[error("{path} has {count} problem(s):\n  {list}", path = path.display(), count = problems.len(), list = problems.join("\n  "))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The problems, one line each.
        problems: Vec<String>,
    },
    /// The environment of a Lambda function, or its secret, has problems.
    #[error("the configuration has {count} problem(s):\n  {list}", count = problems.len(), list = problems.join("\n  "))]
    Environment {
        /// The problems, one line each.
        problems: Vec<String>,
    },
    /// No file is given, and no local stack runs.
    #[error("no configuration: give --config FILE, set SIGNPOST_CONFIG, or start a local stack with `signpost dev`")]
    NotFound,
}

impl Config {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_path_buf(), source })?;
        let here = path.parent().unwrap_or(Path::new(""));
        Self::from_toml(&text, here).map_err(|problems| ConfigError::Wrong { path: path.to_path_buf(), problems })
    }

    /// Reads the text of a file in the directory `here`. Reports all problems at once.
    pub fn from_toml(text: &str, here: &Path) -> Result<Self, Vec<String>> {
        let file: toml::Table = text.parse().map_err(|error: toml::de::Error| vec![error.to_string()])?;
        let mut problems = Vec::new();
        let read = parse::read(&file, here, &mut problems);
        match read {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
region = "eu-central-1"
[chain]
chain_id = 97
rpc_urls = ["https://one.example", "https://two.example/path"]
send_to = "all"
fee_floor_wei = 100000000
finality = "finalized"
[queues]
signing_url = "https://sqs.example/1/signing"
resign_url = "https://sqs.example/1/resign.fifo"
broadcast_url = "https://sqs.example/1/broadcast.fifo"
[tables]
requests = "requests"
accounts = "accounts"
[topic]
outcomes_arn = "arn:aws:sns:eu-central-1:1:outcomes"
[policy]
file = "policy.toml"
"#;

    #[test]
    fn signer_has_a_seal_and_pinned_accounts_or_the_registry() {
        let read = |more: &str| Config::from_toml(&format!("{GOOD}{more}"), Path::new("/etc/signpost"));
        let config = read("").unwrap();
        assert_eq!((config.seal, config.accounts), (None, None));
        let config = read("[seal]\nkey_file = \"seal.key\"\n[accounts]\ntrust_registry = true\n").unwrap();
        assert_eq!(config.seal, Some(SealFrom::File("/etc/signpost/seal.key".into())));
        assert_eq!(config.accounts, Some(AccountsFrom::Registry));
        assert_eq!(Config::from_toml(&config.to_toml(), Path::new("/elsewhere")).unwrap(), config);
        let listed = "[seal]\nsecret_arn = \"arn:secret\"\n[accounts]\npinned = [\"hot=0xab=key\"]\n";
        let config = read(listed).unwrap();
        assert_eq!(config.seal, Some(SealFrom::Secret("arn:secret".to_owned())));
        assert_eq!(config.accounts, Some(AccountsFrom::Listed(vec!["hot=0xab=key".to_owned()])));
        assert_eq!(Config::from_toml(&config.to_toml(), Path::new("/elsewhere")).unwrap(), config);
        for (wrong, expected) in [
            ("[seal]\n", "seal.key_file is missing (or seal.secret_arn"),
            ("[seal]\nkey_file = \"a\"\nsecret_arn = \"b\"\n", "set one of them"),
            ("[accounts]\n", "accounts.pinned is missing"),
            ("[accounts]\ntrust_registry = false\n", "accounts.pinned is missing"),
            ("[accounts]\ntrust_registry = true\npinned = [\"a\"]\n", "choose one"),
        ] {
            let found = read(wrong).unwrap_err().join("\n");
            assert!(found.contains(expected), "{wrong}: {found}");
        }
    }

    fn problems(text: &str) -> String {
        Config::from_toml(text, Path::new("/etc/signpost")).unwrap_err().join("\n")
    }

    #[test]
    fn complete_file_is_read() {
        let config = Config::from_toml(GOOD, Path::new("/etc/signpost")).unwrap();
        assert_eq!(config.policy_file, Path::new("/etc/signpost/policy.toml"));
        assert_eq!(config.chain.send_to, SendTo::All);
        assert_eq!(config.retention_days, 90);
        assert_eq!(config.timing, Timing::default());
    }

    #[test]
    fn written_configuration_reads_back_the_same() {
        let mut config = Config::from_toml(GOOD, Path::new("/etc/signpost")).unwrap();
        config.endpoint = Some("http://127.0.0.1:4566".to_owned());
        config.timing.poll_ms = Some(100);
        let again = Config::from_toml(&config.to_toml(), Path::new("/elsewhere")).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn finality_is_the_nodes_tag_or_a_number_of_blocks() {
        let read = |text: &str| Config::from_toml(&GOOD.replace("\"finalized\"", text), Path::new(""));
        assert_eq!(read("\"finalized\"").unwrap().chain.finality, Finality::Finalized);
        assert_eq!(read("15").unwrap().chain.finality, Finality::Confirmations(15));
        for wrong in ["0", "\"latest\"", "true"] {
            assert!(read(wrong).unwrap_err().concat().contains("chain.finality must be"), "{wrong}");
        }
        assert!(problems(&GOOD.replace("finality", "finalty")).contains("chain.finality is missing"));
    }

    #[test]
    fn two_verdicts_need_two_nodes() {
        let read = |urls: &str, verdicts: &str| {
            let mut file: toml::Table = GOOD.parse().unwrap();
            let chain = file.get_mut("chain").unwrap().as_table_mut().unwrap();
            let urls = urls.split(',').map(|url| toml::Value::from(format!("https://{url}.example")));
            chain.insert("rpc_urls".to_owned(), toml::Value::Array(urls.collect()));
            chain.insert("verdicts".to_owned(), verdicts.into());
            Config::from_toml(&file.to_string(), Path::new(""))
        };
        assert!(read("a,b", "two").unwrap().chain.two_verdicts);
        assert!(!read("a", "one").unwrap().chain.two_verdicts);
        let lonely = read("a", "two").unwrap_err().concat();
        assert!(lonely.contains("chain.verdicts is \"two\", and only one node"), "{lonely}");
        assert!(read("a,b", "three").unwrap_err().concat().contains("chain.verdicts must be"));
        let config = read("a,b", "two").unwrap();
        assert_eq!(Config::from_toml(&config.to_toml(), Path::new("")).unwrap(), config);
    }

    const PRIVATE: &str = r#"fee_ceiling_wei = 5000000000
explorer_url = "https://explorer.example"
private_only = true
[[chain.private]]
url = "https://door.example/topsecret"
shape = "bloxroute"
authorization_env = "DOOR_AUTHORIZATION"
mev_builders = ["bloxroute", "48club"]
[[chain.private]]
url = "https://other.example"
authorization_env = "OTHER"
[queues]
"#;

    fn with_private(text: &str) -> String {
        GOOD.replace("[queues]\n", text)
    }

    #[test]
    fn private_endpoints_and_ceiling_are_read_and_written() {
        let config = Config::from_toml(&with_private(PRIVATE), Path::new("/etc/signpost")).unwrap();
        assert_eq!(config.chain.fee_ceiling_wei, Some(5_000_000_000));
        assert_eq!(config.chain.explorer_url.as_deref(), Some("https://explorer.example"));
        let private = config.chain.private.as_ref().unwrap();
        assert!(private.only);
        assert_eq!(private.endpoints[0].authorization, AuthorizationSource::Variable("DOOR_AUTHORIZATION".to_owned()));
        assert_eq!(private.endpoints[0].mev_builders, ["bloxroute", "48club"]);
        assert_eq!(private.endpoints[1].shape, PrivateShape::Bloxroute);
        assert!(private.endpoints[1].mev_builders.is_empty());
        assert_eq!(Config::from_toml(&config.to_toml(), Path::new("")).unwrap(), config);
        assert!(!format!("{config:?}").contains("topsecret"), "{config:?}");
    }

    #[test]
    fn private_only_has_no_default() {
        let text = problems(&with_private(&PRIVATE.replace("private_only = true\n", "")));
        assert_eq!(text, "chain.private_only is missing");
        let text = problems(&with_private("private_only = false\n[queues]\n"));
        assert!(text.contains("there is no [[chain.private]]"), "{text}");
    }

    #[test]
    fn problem_of_a_private_endpoint_has_its_position_not_secrets() {
        for (right, wrong, expected) in [
            ("https://other.example", "topsecret", "chain.private[2].url must be a URL"),
            ("\"OTHER\"", "\"topsecret=\"", "chain.private[2].authorization_env must be the name"),
            ("authorization_env = \"OTHER\"", "", "chain.private[2].authorization_env is missing"),
            ("\"bloxroute\"\n", "\"topsecret\"\n", "chain.private[1].shape must be"),
            (
                "authorization_env = \"OTHER\"",
                "authorization = \"topsecret\"",
                "chain.private[2].authorization is not known",
            ),
            ("[\"bloxroute\", \"48club\"]", "\"topsecret\"", "chain.private[1].mev_builders must be a list"),
            ("private_only = true", "private_only = \"topsecret\"", "chain.private_only must be true or false"),
            ("5000000000", "99999999", "chain.fee_ceiling_wei is below fee_floor_wei"),
        ] {
            let text = problems(&with_private(&PRIVATE.replace(right, wrong)));
            assert!(text.contains(expected), "{expected} is not in:\n{text}");
            assert!(!text.contains("topsecret"), "{text}");
        }
        assert!(
            problems(&with_private("private = 5\n[queues]\n")).contains("chain.private must be one or more sections")
        );
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let bad = GOOD
            .replace("chain_id = 97", "chain_id = \"97\"")
            .replace("send_to = \"all\"", "send_too = \"all\"")
            .replace("/1/resign.fifo", "/1/resign")
            .replace("[tables]", "[tables]\nregion = \"x\"")
            .replace("accounts = \"accounts\"", "");
        let text = problems(&format!("{bad}[retention]\ndays = 3\n"));
        for expected in [
            "chain.chain_id",
            "chain.send_to",
            "chain.send_too",
            "queues.resign_url",
            "tables.region",
            "tables.accounts",
            "retention.days",
        ] {
            assert!(text.contains(expected), "{expected} is not in:\n{text}");
        }
    }

    #[test]
    fn metrics_and_traces_are_read_and_hide_the_collectors_url() {
        let shown = "[metrics]\nlisten = \"127.0.0.1:9464\"\n[traces]\notlp_endpoint = \"http://key@collector\"\n";
        let config = Config::from_toml(&format!("{GOOD}{shown}"), Path::new("")).unwrap();
        assert_eq!(config.observe.metrics_listen, Some(([127, 0, 0, 1], 9464).into()));
        assert!(config.observe.otlp_endpoint.is_some() && !format!("{config:?}").contains("key@"), "{config:?}");
        assert_eq!(Config::from_toml(&config.to_toml(), Path::new("")).unwrap(), config);
        let text = problems(&format!("{GOOD}{}", shown.replace(":9464", "").replace("http", "ftp")));
        assert!(text.contains("metrics.listen must be an address") && text.contains("traces.otlp_endpoint"), "{text}");
        assert!(!text.contains("key@"), "{text}");
        assert!(problems(&format!("{GOOD}[metrics]\nlisten_on = \"x\"\n")).contains("metrics.listen_on is not known"));
    }

    #[test]
    fn nothing_that_affects_safety_has_a_default() {
        let text = problems("");
        for section in ["chain", "queues", "tables", "topic", "policy"] {
            assert!(text.contains(&format!("[{section}] is missing")), "{section} is not in:\n{text}");
        }
    }

    #[test]
    fn misspelt_key_gets_a_suggestion() {
        let text = problems(&GOOD.replace("chain_id", "chain_di"));
        assert!(text.contains("chain.chain_di is not known; did you mean chain_id?"), "{text}");
    }
}
