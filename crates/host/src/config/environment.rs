//! The configuration of a Lambda function: environment variables, read once. All problems are reported
//! together, each with its variable's name. The rules are those of the file (see [`super`]).
//!
//! | variable | stage | value |
//! |---|---|---|
//! | `SIGNPOST_CHAIN_ID`, `SIGNPOST_FEE_FLOOR_WEI` | both | like `chain_id`, `fee_floor_wei` |
//! | `SIGNPOST_SIGNING_QUEUE_URL`, `SIGNPOST_RESIGN_QUEUE_URL`, `SIGNPOST_BROADCAST_QUEUE_URL` | both | the queues |
//! | `SIGNPOST_REQUESTS_TABLE`, `SIGNPOST_ACCOUNTS_TABLE`, `SIGNPOST_OUTCOME_TOPIC_ARN` | both | the tables, the topic |
//! | `SIGNPOST_RETENTION_DAYS` | both | optional |
//! | `SIGNPOST_POLICY`, or `SIGNPOST_POLICY_FILE` | signer | the policy's text, or its path; if neither is set, `policy.toml` beside the program |
//! | `SIGNPOST_SEAL_SECRET_ARN` | signer | the secret in Secrets Manager with the key of seals; its current and previous versions are read |
//! | `SIGNPOST_ACCOUNTS` | signer | the accounts that may be signed for, `NAME=0xADDRESS=KMS_KEY`, separated by commas. No other account is, whatever the registry contains. Empty: `accounts.txt` beside the program, one per line |
//! | `SIGNPOST_RPC_SECRET_ARN`, or `SIGNPOST_RPC_URLS` | broadcaster | a secret of Secrets Manager (below), or the nodes' URLs, separated by commas |
//! | `SIGNPOST_SEND_TO`, `SIGNPOST_FINALITY` | broadcaster | like `send_to`, `finality` |
//! | `SIGNPOST_VERDICTS` | broadcaster | optional, like `verdicts` |
//! | `SIGNPOST_FEE_CEILING_WEI`, `SIGNPOST_BUMP_AFTER_MS`, `SIGNPOST_REBROADCAST_AFTER_MS`, `SIGNPOST_POLL_MS` | broadcaster | optional |
//!
//! The secret is a JSON object with `rpc_urls` and, as in the file, `private` and `private_only`. Instead of
//! `authorization_env` an endpoint may have `authorization`, the value of the header. No value of the secret
//! or of a URL is ever printed in a problem.

use std::path::PathBuf;

use signpost_txmgr::spelling::nearest;
use toml::{Table, Value};

use super::parse::{LONELY_VERDICTS, must_be_fifo, read_private, read_send_to, read_verdicts};
use super::reader::Section;
use super::{
    AccountsFrom, BroadcasterSettings, CONFIRMATIONS_MAX, Chain, ConfigError, Private, Queues, RETENTION_DAYS,
    RETENTION_DAYS_MIN, SealFrom, StageSettings, TIMING_MAX_MS, Tables, Timing,
};
use signpost_txmgr::ports::Finality;

const CHAIN_ID: &str = "SIGNPOST_CHAIN_ID";
const FEE_FLOOR: &str = "SIGNPOST_FEE_FLOOR_WEI";
const SIGNING_QUEUE: &str = "SIGNPOST_SIGNING_QUEUE_URL";
const RESIGN_QUEUE: &str = "SIGNPOST_RESIGN_QUEUE_URL";
const BROADCAST_QUEUE: &str = "SIGNPOST_BROADCAST_QUEUE_URL";
const REQUESTS: &str = "SIGNPOST_REQUESTS_TABLE";
const ACCOUNTS_TABLE: &str = "SIGNPOST_ACCOUNTS_TABLE";
const TOPIC: &str = "SIGNPOST_OUTCOME_TOPIC_ARN";
const RETENTION: &str = "SIGNPOST_RETENTION_DAYS";
const POLICY: &str = "SIGNPOST_POLICY";
const POLICY_FILE: &str = "SIGNPOST_POLICY_FILE";
const ACCOUNTS: &str = "SIGNPOST_ACCOUNTS";
const SEAL_SECRET: &str = "SIGNPOST_SEAL_SECRET_ARN";
const RPC_SECRET: &str = "SIGNPOST_RPC_SECRET_ARN";
const RPC_URLS: &str = "SIGNPOST_RPC_URLS";
const SEND_TO: &str = "SIGNPOST_SEND_TO";
const FINALITY: &str = "SIGNPOST_FINALITY";
const VERDICTS: &str = "SIGNPOST_VERDICTS";
const FEE_CEILING: &str = "SIGNPOST_FEE_CEILING_WEI";
const BUMP_AFTER: &str = "SIGNPOST_BUMP_AFTER_MS";
const REBROADCAST_AFTER: &str = "SIGNPOST_REBROADCAST_AFTER_MS";
const POLL: &str = "SIGNPOST_POLL_MS";

/// The type of a variable's value.
enum ValueKind {
    Text,
    Whole,
    List,
}

const KNOWN: &[(&str, ValueKind)] = &[
    (CHAIN_ID, ValueKind::Whole),
    (FEE_FLOOR, ValueKind::Whole),
    (SIGNING_QUEUE, ValueKind::Text),
    (RESIGN_QUEUE, ValueKind::Text),
    (BROADCAST_QUEUE, ValueKind::Text),
    (REQUESTS, ValueKind::Text),
    (ACCOUNTS_TABLE, ValueKind::Text),
    (TOPIC, ValueKind::Text),
    (RETENTION, ValueKind::Whole),
    (POLICY, ValueKind::Text),
    (POLICY_FILE, ValueKind::Text),
    (ACCOUNTS, ValueKind::List),
    (SEAL_SECRET, ValueKind::Text),
    (RPC_SECRET, ValueKind::Text),
    (RPC_URLS, ValueKind::List),
    (SEND_TO, ValueKind::Text),
    (FINALITY, ValueKind::Whole),
    (VERDICTS, ValueKind::Text),
    (FEE_CEILING, ValueKind::Whole),
    (BUMP_AFTER, ValueKind::Whole),
    (REBROADCAST_AFTER, ValueKind::Whole),
    (POLL, ValueKind::Whole),
];

/// Keys of the secret, and of its private endpoints.
const SECRET_KEYS: &[&str] = &["rpc_urls", "private", "private_only"];
const SECRET_PRIVATE_KEYS: &[&str] = &["url", "shape", "authorization_env", "authorization", "mev_builders"];

/// Our variables as a TOML table, so that the file's reader and its rules apply to them.
#[derive(Clone)]
pub struct Variables {
    table: Table,
    problems: Vec<String>,
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.table.keys()).finish()
    }
}

/// The variable of ours that `name` is a misspelling of. One that is longer or shorter by more than a letter is
/// another program's.
fn meant(name: &str) -> Option<&'static str> {
    let known: Vec<&str> = KNOWN.iter().map(|(known, _)| *known).collect();
    nearest(name, &known).filter(|meant| meant.len().abs_diff(name.len()) <= 1)
}

impl Variables {
    /// The variables of this process.
    pub fn of_process() -> Self {
        Self::of(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// These variables. An empty one counts as not set, because a template sets an unused parameter to an empty text.
    pub fn of(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let (mut table, mut problems) = (Table::new(), Vec::new());
        for (name, text) in pairs {
            if text.trim().is_empty() || !name.starts_with("SIGNPOST_") {
                continue;
            }
            if let Some((_, kind)) = KNOWN.iter().find(|(known, _)| *known == name) {
                table.insert(name, value(text.trim(), kind));
            } else if let Some(meant) = meant(&name) {
                problems.push(format!("{name} is not known; did you mean {meant}?"));
            }
        }
        Self { table, problems }
    }

    fn read<T>(&self, read: impl FnOnce(&mut Section<'_, '_>) -> Option<T>) -> Result<T, ConfigError> {
        let mut problems = self.problems.clone();
        let read = read(&mut Section::root(&self.table, &mut problems));
        read.filter(|_| problems.is_empty()).ok_or(ConfigError::Environment { problems })
    }
}

fn value(text: &str, kind: &ValueKind) -> Value {
    match kind {
        ValueKind::Text => Value::String(text.to_owned()),
        ValueKind::Whole => text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Integer),
        ValueKind::List => {
            let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
            Value::Array(entries.map(|entry| Value::String(entry.to_owned())).collect())
        }
    }
}

/// The configuration of both functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    chain_id: u64,
    fee_floor_wei: u64,
    queues: Queues,
    tables: Tables,
    outcomes_arn: String,
    retention_days: u64,
}

impl Deployed {
    fn read(root: &mut Section<'_, '_>) -> Option<Self> {
        let chain_id = root.whole(CHAIN_ID, 1, u64::MAX);
        let fee_floor_wei = root.whole(FEE_FLOOR, 0, u64::MAX);
        let signing_url = root.url(SIGNING_QUEUE);
        let (resign_url, broadcast_url) = (must_be_fifo(root, RESIGN_QUEUE), must_be_fifo(root, BROADCAST_QUEUE));
        let (requests, accounts) = (root.text(REQUESTS), root.text(ACCOUNTS_TABLE));
        let outcomes_arn = root.text(TOPIC);
        let retention_days = root.within(RETENTION, RETENTION_DAYS_MIN, 36_500).unwrap_or(RETENTION_DAYS);
        Some(Self {
            chain_id: chain_id?,
            fee_floor_wei: fee_floor_wei?,
            queues: Queues { signing_url: signing_url?, resign_url: resign_url?, broadcast_url: broadcast_url? },
            tables: Tables { requests: requests?, accounts: accounts? },
            outcomes_arn: outcomes_arn?,
            retention_days,
        })
    }
}

impl StageSettings for Deployed {
    fn chain_id(&self) -> u64 {
        self.chain_id
    }

    fn fee_floor_wei(&self) -> u64 {
        self.fee_floor_wei
    }

    fn queues(&self) -> &Queues {
        &self.queues
    }

    fn tables(&self) -> &Tables {
        &self.tables
    }

    fn outcomes_arn(&self) -> &str {
        &self.outcomes_arn
    }

    fn retention_days(&self) -> u64 {
        self.retention_days
    }
}

/// The source of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyFrom {
    /// The policy's text.
    Text(String),
    /// A file.
    File(PathBuf),
    /// The file `policy.toml` beside the program.
    Package,
}

/// The signer's environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerEnvironment {
    /// The configuration of both functions.
    pub deployed: Deployed,
    /// The source of the policy.
    pub policy: PolicyFrom,
    /// The key of seals.
    pub seal: SealFrom,
    /// The accounts that may be signed for.
    pub accounts: AccountsFrom,
}

impl SignerEnvironment {
    /// Reads the variables. Reports all problems at once.
    pub fn read(variables: &Variables) -> Result<Self, ConfigError> {
        variables.read(|root| {
            let deployed = Deployed::read(root);
            let policy = match (root.optional_text(POLICY), root.optional_text(POLICY_FILE)) {
                (Some(text), None) => Some(PolicyFrom::Text(text)),
                (None, Some(path)) => Some(PolicyFrom::File(path.into())),
                (None, None) => Some(PolicyFrom::Package),
                (Some(_), Some(_)) => {
                    root.problem(POLICY_FILE, &format!("and {POLICY} are both set; set one of them"));
                    None
                }
            };
            let seal = root.text(SEAL_SECRET).map(SealFrom::Secret);
            // A missing list is an empty one: a new deployment has no accounts yet.
            let accounts = root.optional_texts(ACCOUNTS).map(AccountsFrom::Listed);
            Some(Self { deployed: deployed?, policy: policy?, seal: seal?, accounts: accounts? })
        })
    }
}

/// The broadcaster's environment. `Debug` does not print URLs, because they may hold keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcasterEnvironment {
    deployed: Deployed,
    /// Without nodes if they are in the secret.
    chain: Chain,
    timing: Timing,
    secret_arn: Option<String>,
}

impl BroadcasterEnvironment {
    /// Reads the variables. Reports all problems at once.
    pub fn read(variables: &Variables) -> Result<Self, ConfigError> {
        variables.read(|root| {
            let deployed = Deployed::read(root);
            let secret_arn = root.optional_text(RPC_SECRET);
            let rpc_urls = match (&secret_arn, root.has(RPC_URLS)) {
                (None, true) => root.urls(RPC_URLS),
                (Some(_), false) => Some(Vec::new()),
                (None, false) => {
                    root.problem(RPC_SECRET, &format!("is missing (or {RPC_URLS}, if the URLs hold no keys)"));
                    None
                }
                (Some(_), true) => {
                    root.problem(RPC_URLS, &format!("and {RPC_SECRET} are both set; set one of them"));
                    None
                }
            };
            let send_to = read_send_to(root, SEND_TO);
            let finality = ("finalized", Finality::Finalized);
            let finality = root.word_or(FINALITY, finality, CONFIRMATIONS_MAX, Finality::Confirmations);
            let two_verdicts = read_verdicts(root, VERDICTS, None);
            let fee_ceiling_wei = root.within(FEE_CEILING, 1, u64::MAX);
            let floor = deployed.as_ref().map(|deployed| deployed.fee_floor_wei);
            if fee_ceiling_wei.zip(floor).is_some_and(|(ceiling, floor)| ceiling < floor) {
                root.problem(FEE_CEILING, &format!("is below {FEE_FLOOR}"));
            }
            let timing = Timing {
                bump_after_ms: root.within(BUMP_AFTER, 1, TIMING_MAX_MS),
                rebroadcast_after_ms: root.within(REBROADCAST_AFTER, 1, TIMING_MAX_MS),
                poll_ms: root.within(POLL, 1, TIMING_MAX_MS),
                // The schedule triggers the sweeps.
                sweep_ms: None,
            };
            let deployed = deployed?;
            let chain = Chain {
                chain_id: deployed.chain_id,
                rpc_urls: rpc_urls?,
                send_to: send_to?,
                fee_floor_wei: deployed.fee_floor_wei,
                fee_ceiling_wei,
                private: None,
                finality: finality?,
                two_verdicts: two_verdicts?,
                explorer_url: None,
            };
            Some(Self { deployed, chain, timing, secret_arn })
        })
    }

    /// The secret to read for [`Self::with_nodes`].
    pub fn secret_arn(&self) -> Option<&str> {
        self.secret_arn.as_deref()
    }

    /// The complete configuration; `secret` is the text of the secret, if there is one.
    pub fn with_nodes(self, secret: Option<&str>) -> Result<DeployedBroadcaster, ConfigError> {
        let Self { deployed, mut chain, timing, secret_arn: _ } = self;
        if let Some(secret) = secret {
            (chain.rpc_urls, chain.private) = nodes(secret)?;
        }
        assert!(!chain.rpc_urls.is_empty(), "nodes come from the variable or from the secret, and both were read");
        if chain.two_verdicts && chain.rpc_urls.len() < 2 {
            return Err(ConfigError::Environment { problems: vec![format!("{VERDICTS} {LONELY_VERDICTS}")] });
        }
        Ok(DeployedBroadcaster { deployed, chain, timing })
    }
}

/// Reads the secret's text. No part of it is ever printed in a problem.
fn nodes(secret: &str) -> Result<(Vec<String>, Option<Private>), ConfigError> {
    let mut problems = Vec::new();
    let read = serde_json::from_str::<Table>(secret).map_err(|error| {
        // The error's text may quote the secret.
        format!("is not a JSON object with rpc_urls (see line {}, column {})", error.line(), error.column())
    });
    let read = match &read {
        Ok(table) => {
            let mut root = Section::root(table, &mut problems);
            root.only(SECRET_KEYS);
            let rpc_urls = root.urls("rpc_urls");
            let private = read_private(&mut root, SECRET_PRIVATE_KEYS);
            rpc_urls.map(|urls| (urls, private))
        }
        Err(problem) => {
            problems.push(problem.clone());
            None
        }
    };
    let place = |problem: &String| format!("the secret of {RPC_SECRET}: {problem}");
    read.filter(|_| problems.is_empty())
        .ok_or_else(|| ConfigError::Environment { problems: problems.iter().map(place).collect() })
}

/// The broadcaster's complete configuration in Lambda.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployedBroadcaster {
    deployed: Deployed,
    chain: Chain,
    timing: Timing,
}

impl StageSettings for DeployedBroadcaster {
    fn chain_id(&self) -> u64 {
        self.deployed.chain_id()
    }

    fn fee_floor_wei(&self) -> u64 {
        self.deployed.fee_floor_wei()
    }

    fn queues(&self) -> &Queues {
        self.deployed.queues()
    }

    fn tables(&self) -> &Tables {
        self.deployed.tables()
    }

    fn outcomes_arn(&self) -> &str {
        self.deployed.outcomes_arn()
    }

    fn retention_days(&self) -> u64 {
        self.deployed.retention_days()
    }
}

impl BroadcasterSettings for DeployedBroadcaster {
    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn timing(&self) -> Timing {
        self.timing
    }
}

#[cfg(test)]
mod tests {
    use super::super::SendTo;
    use super::*;

    const BOTH: &[(&str, &str)] = &[
        (CHAIN_ID, "97"),
        (FEE_FLOOR, "100000000"),
        (SIGNING_QUEUE, "https://sqs.example/1/signing.fifo"),
        (RESIGN_QUEUE, "https://sqs.example/1/resign.fifo"),
        (BROADCAST_QUEUE, "https://sqs.example/1/broadcast.fifo"),
        (REQUESTS, "requests"),
        (ACCOUNTS_TABLE, "accounts"),
        (TOPIC, "arn:aws:sns:eu-central-1:1:outcomes"),
    ];
    const NODES: &[(&str, &str)] =
        &[(RPC_URLS, "https://one.example/topsecret, https://two.example"), (SEND_TO, "all"), (FINALITY, "finalized")];
    const SECRET: &[(&str, &str)] = &[(RPC_SECRET, "arn:secret"), (SEND_TO, "first"), (FINALITY, "15")];

    fn variables(parts: &[&[(&str, &str)]]) -> Variables {
        Variables::of(parts.concat().iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn signer(more: &[(&str, &str)]) -> Result<SignerEnvironment, String> {
        SignerEnvironment::read(&variables(&[BOTH, &[(SEAL_SECRET, "arn:seal")], more]))
            .map_err(|error| error.to_string())
    }

    fn broadcaster(more: &[&[(&str, &str)]]) -> Result<BroadcasterEnvironment, String> {
        BroadcasterEnvironment::read(&variables(&[&[BOTH], more].concat())).map_err(|error| error.to_string())
    }

    #[test]
    fn signer_needs_no_nodes() {
        let read = signer(&[]).unwrap();
        assert_eq!((read.deployed.chain_id, read.deployed.retention_days), (97, 90));
        assert_eq!((read.policy, read.accounts), (PolicyFrom::Package, AccountsFrom::Listed(Vec::new())));
    }

    #[test]
    fn policy_is_a_text_or_a_file_but_not_both() {
        let policy = |more: &[(&str, &str)]| signer(more).map(|read| read.policy);
        assert_eq!(policy(&[(POLICY, "[account.hot]")]), Ok(PolicyFrom::Text("[account.hot]".to_owned())));
        assert_eq!(policy(&[(POLICY_FILE, "p.toml")]), Ok(PolicyFrom::File("p.toml".into())));
        assert!(policy(&[(POLICY, "x"), (POLICY_FILE, "y")]).unwrap_err().contains("set one of them"));
    }

    #[test]
    fn signer_needs_a_seal_and_reads_its_accounts() {
        let read = signer(&[(ACCOUNTS, "hot=0xab=arn:aws:kms:eu-central-1:1:key/k, cold=0xcd=alias/cold")]).unwrap();
        let listed = ["hot=0xab=arn:aws:kms:eu-central-1:1:key/k", "cold=0xcd=alias/cold"].map(str::to_owned).to_vec();
        assert_eq!(read.accounts, AccountsFrom::Listed(listed));
        assert_eq!(read.seal, SealFrom::Secret("arn:seal".to_owned()));
        let text = SignerEnvironment::read(&variables(&[BOTH])).unwrap_err().to_string();
        assert!(text.contains("SIGNPOST_SEAL_SECRET_ARN is missing"), "{text}");
    }

    #[test]
    fn all_problems_are_reported_with_their_variables() {
        let text = BroadcasterEnvironment::read(&variables(&[&[
            (CHAIN_ID, "0x61"),
            (RESIGN_QUEUE, "https://sqs.example/1/resign"),
            (SEND_TO, "some"),
            (FINALITY, "latest"),
            (REQUESTS, " "),
            ("SIGNPOST_REQUEST_TABLE", "x"),
        ]]))
        .unwrap_err()
        .to_string();
        for expected in [
            "SIGNPOST_CHAIN_ID must be a whole number",
            "SIGNPOST_FEE_FLOOR_WEI is missing",
            "SIGNPOST_SIGNING_QUEUE_URL is missing",
            "SIGNPOST_RESIGN_QUEUE_URL must be a FIFO queue",
            "SIGNPOST_BROADCAST_QUEUE_URL is missing",
            "SIGNPOST_REQUESTS_TABLE is missing",
            "SIGNPOST_REQUEST_TABLE is not known; did you mean SIGNPOST_REQUESTS_TABLE?",
            "SIGNPOST_ACCOUNTS_TABLE is missing",
            "SIGNPOST_OUTCOME_TOPIC_ARN is missing",
            "SIGNPOST_RPC_SECRET_ARN is missing",
            "SIGNPOST_SEND_TO must be",
            "SIGNPOST_FINALITY must be",
        ] {
            assert!(text.contains(expected), "{expected} is not in:\n{text}");
        }
    }

    #[test]
    fn nodes_are_urls_or_a_secret_but_not_both() {
        let read = broadcaster(&[NODES]).unwrap();
        assert_eq!(read.secret_arn(), None);
        let config = read.with_nodes(None).unwrap();
        assert_eq!(config.chain().rpc_urls, ["https://one.example/topsecret", "https://two.example"]);
        assert_eq!((config.chain().send_to, config.chain().finality), (SendTo::All, Finality::Finalized));

        let read = broadcaster(&[SECRET]).unwrap();
        assert_eq!(read.secret_arn(), Some("arn:secret"));
        let secret = r#"{"rpc_urls": ["https://three.example"], "private_only": true, "private":
            [{"url": "https://door.example", "authorization": "Bearer topsecret", "mev_builders": ["all"]}]}"#;
        let config = read.with_nodes(Some(secret)).unwrap();
        assert_eq!(config.chain().rpc_urls, ["https://three.example"]);
        assert_eq!((config.chain().send_to, config.chain().finality), (SendTo::First, Finality::Confirmations(15)));
        assert!(config.chain().private.as_ref().unwrap().only);
        assert!(!format!("{config:?}").contains("topsecret"), "{config:?}");

        assert!(broadcaster(&[NODES, SECRET]).unwrap_err().contains("set one of them"));

        let two = |nodes, secret| broadcaster(&[nodes, &[(VERDICTS, "two")]]).unwrap().with_nodes(secret);
        assert!(two(NODES, None).unwrap().chain().two_verdicts);
        assert!(two(SECRET, Some(secret)).unwrap_err().to_string().contains("only one node"));
    }

    #[test]
    fn problems_do_not_print_secrets() {
        let text = broadcaster(&[&[(RPC_URLS, "topsecret"), (SEND_TO, "all"), (FINALITY, "finalized")]]).unwrap_err();
        assert!(text.contains("SIGNPOST_RPC_URLS must be") && !text.contains("topsecret"), "{text}");
        for secret in [
            "topsecret",
            "\"topsecret\"",
            "[\"topsecret\"]",
            r#"{"rpc_urls": "https://topsecret"}"#,
            r#"{"rpc_urls": ["topsecret"]}"#,
            r#"{"rpc_urls": []}"#,
            r#"{"urls": ["https://topsecret"]}"#,
            r#"{"rpc_urls": ["https://a"], "private": [{"url": "https://b", "authorization": 5, "shape": "topsecret"}]}"#,
            r#"{"rpc_urls": ["https://a"], "private": [{"url": "https://b"}], "private_only": true}"#,
        ] {
            let text = broadcaster(&[SECRET]).unwrap().with_nodes(Some(secret)).unwrap_err().to_string();
            assert!(text.contains("the secret of SIGNPOST_RPC_SECRET_ARN: "), "{secret}: {text}");
            assert!(!text.contains("topsecret"), "{text}");
        }
    }

    #[test]
    fn ceiling_below_the_floor_is_a_problem() {
        let text = broadcaster(&[NODES, &[(FEE_CEILING, "99999999")]]).unwrap_err();
        assert!(text.contains("SIGNPOST_FEE_CEILING_WEI is below SIGNPOST_FEE_FLOOR_WEI"), "{text}");
    }
}
