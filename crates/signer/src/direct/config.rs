//! The configuration of `sign-direct`, from its environment. All problems are reported together, each with its
//! variable's name.
//!
//! | variable | value |
//! |---|---|
//! | `KMS_KEY_ID` | the key: id, ARN or alias |
//! | `ETH_NETWORK` | `bsc` or `bsc-mainnet` (56), `bsc-testnet` or `chapel` (97), in any case |
//! | `CHAIN_ID` | decimal; overrides the network's. One of the two must be set: there is no default chain |
//! | `LOG_LEVEL` | `DEBUG`, `INFO` (the default: one line per signature), `WARNING`, `ERROR` or `CRITICAL`, in any case |
//! | `SIGNPOST_POLICY`, or `SIGNPOST_POLICY_FILE` | the policy's text, or its path; if neither is set, `policy.toml` beside the program. The section `[account.sign-direct]` applies, or `[default]` without it. A policy is required; `SIGNPOST_POLICY=none` allows everything except creations, and logs a WARN at every start |
//!
//! An empty variable counts as not set. Read next: [`super`].

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use signpost_txmgr::policy::{AccountPolicy, Policies};
use signpost_txmgr::tx::MAX_CHAIN_ID;
use signpost_txmgr::units::{AccountName, ChainId, KmsKeyId};
use tracing::Level;

const KEY: &str = "KMS_KEY_ID";
const NETWORK: &str = "ETH_NETWORK";
const CHAIN: &str = "CHAIN_ID";
const LOG_LEVEL: &str = "LOG_LEVEL";
const POLICY: &str = "SIGNPOST_POLICY";
const POLICY_FILE: &str = "SIGNPOST_POLICY_FILE";

/// The value of [`POLICY`] for running without a policy.
const NO_POLICY: &str = "none";

/// The policy in the function's package.
const PACKAGED: &str = "policy.toml";

/// The function's name in the policy.
pub const ACCOUNT: &str = "sign-direct";

const MAINNET: ChainId = ChainId(56);
const TESTNET: ChainId = ChainId(97);

/// The configuration of one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectConfig {
    /// The key that signs.
    pub key: KmsKeyId,
    /// The chain id of every transaction.
    pub chain_id: ChainId,
    /// The rules for signing. `None`, which must be requested, allows everything that the network accepts, except
    /// creations.
    pub policy: Option<AccountPolicy>,
}

/// All problems of the environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has {} problem(s): {}", problems.len(), problems.join("; "))]
pub struct DirectConfigError {
    /// One text per problem: the variable, the problem and the remedy.
    pub problems: Vec<String>,
}

impl DirectConfig {
    /// Reads the variables that `lookup` finds, and the policy file, if one is configured or exists in the
    /// program's directory.
    pub fn read(lookup: impl Fn(&str) -> Option<String>, program: &Path) -> Result<Self, DirectConfigError> {
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let mut problems = Vec::new();
        let key = noted(&mut problems, key(set(KEY)));
        let chain_id = noted(&mut problems, chain_id(set(NETWORK).as_deref(), set(CHAIN).as_deref()));
        let policy = noted(&mut problems, policy(set(POLICY), set(POLICY_FILE), &program.join(PACKAGED)));
        noted(&mut problems, level(set(LOG_LEVEL).as_deref()));
        match (key, chain_id, policy) {
            (Some(key), Some(chain_id), Some(policy)) if problems.is_empty() => Ok(Self { key, chain_id, policy }),
            _ => Err(DirectConfigError { problems }),
        }
    }
}

/// The log level. An invalid variable gives the default; [`DirectConfig::read`] reports it.
pub fn log_level(lookup: impl Fn(&str) -> Option<String>) -> Level {
    level(lookup(LOG_LEVEL).filter(|value| !value.is_empty()).as_deref()).unwrap_or(Level::INFO)
}

fn noted<T>(problems: &mut Vec<String>, read: Result<T, String>) -> Option<T> {
    read.map_err(|problem| problems.push(problem)).ok()
}

fn key(text: Option<String>) -> Result<KmsKeyId, String> {
    let text = text.ok_or_else(|| format!("{KEY} is not set; give the id, ARN or alias of the KMS key that signs"))?;
    text.parse().map_err(|error| format!("{KEY} {error}"))
}

fn chain_id(network: Option<&str>, chain: Option<&str>) -> Result<ChainId, String> {
    let network = match network.map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("bsc" | "bsc-mainnet") => Some(MAINNET),
        Some("bsc-testnet" | "chapel") => Some(TESTNET),
        Some(_) => {
            return Err(format!("{NETWORK} is not a network we know; give bsc, bsc-mainnet, bsc-testnet or chapel"));
        }
    };
    let Some(chain) = chain else {
        return network.ok_or_else(|| {
            format!("{NETWORK} is not set; give bsc or bsc-testnet (or a chain id in {CHAIN}): no chain is the default")
        });
    };
    let digits = Some(chain).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let id = digits.and_then(|digits| digits.parse().ok()).filter(|id| (1..=MAX_CHAIN_ID).contains(id));
    id.map(ChainId).ok_or_else(|| format!("{CHAIN} is not a chain id: a decimal number from 1 to {MAX_CHAIN_ID}"))
}

fn policy(text: Option<String>, file: Option<String>, packaged: &Path) -> Result<Option<AccountPolicy>, String> {
    let (variable, text) = match (text, file) {
        (None, None) => match fs::read_to_string(packaged) {
            Ok(text) => (PACKAGED, text),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(format!(
                    "there is no policy: set {POLICY} or {POLICY_FILE}, or put {PACKAGED} into the package; \
                     {POLICY}={NO_POLICY} lets every caller sign everything except creations"
                ));
            }
            Err(error) => return Err(format!("{PACKAGED} in the package cannot be read: {error}")),
        },
        (Some(_), Some(_)) => return Err(format!("{POLICY} and {POLICY_FILE} are both set; set one of them")),
        (Some(text), None) if text == NO_POLICY => return Ok(None),
        (Some(text), None) => (POLICY, text),
        (None, Some(file)) => {
            let text = fs::read_to_string(&file);
            (POLICY_FILE, text.map_err(|error| format!("{POLICY_FILE}: {file} cannot be read: {error}"))?)
        }
    };
    let policies = Policies::from_toml(&text).map_err(|error| format!("{variable}: {error}"))?;
    let account: AccountName = ACCOUNT.parse().map_err(|error| format!("{ACCOUNT} {error}"))?;
    let policy = policies.of(&account).map_err(|refused| format!("{variable}: {refused}"))?;
    if let Some(rule) = policy.unfit_for_direct() {
        return Err(format!(
            "{variable}: {rule} cannot be enforced: a request has no sender and no deadline here, and nothing is \
             counted; give sign-direct its own rules in [account.{ACCOUNT}]"
        ));
    }
    Ok(Some(policy.clone()))
}

fn level(text: Option<&str>) -> Result<Level, String> {
    match text.map(str::to_ascii_uppercase).as_deref() {
        None | Some("INFO") => Ok(Level::INFO),
        Some("DEBUG") => Ok(Level::DEBUG),
        Some("WARNING" | "WARN") => Ok(Level::WARN),
        Some("ERROR" | "CRITICAL") => Ok(Level::ERROR),
        Some(_) => Err(format!("{LOG_LEVEL} is not a level; give DEBUG, INFO, WARNING, ERROR or CRITICAL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "[account.sign-direct]\nmax_gas_price_wei = 5";

    fn read(pairs: &[(&str, &str)]) -> Result<DirectConfig, Vec<String>> {
        let lookup = |name: &str| {
            let found = pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            let has_policy = pairs.iter().any(|(known, _)| [POLICY, POLICY_FILE].contains(known));
            found.or_else(|| match name {
                KEY => Some("alias/hot".to_owned()),
                POLICY if !has_policy => Some(RULES.to_owned()),
                _ => None,
            })
        };
        DirectConfig::read(lookup, Path::new("/nowhere")).map_err(|error| error.problems)
    }

    #[test]
    fn network_is_case_insensitive_and_chain_id_overrides_it() {
        for (pairs, expected) in [
            (&[(NETWORK, "bsc")][..], 56),
            (&[(NETWORK, "BSC-Mainnet")], 56),
            (&[(NETWORK, "Chapel")], 97),
            (&[(NETWORK, "BSC-TESTNET"), (CHAIN, "")], 97),
            (&[(NETWORK, "bsc"), (CHAIN, "97")], 97),
            (&[(CHAIN, "9223372036854775771")], 9_223_372_036_854_775_771),
        ] {
            assert_eq!(read(pairs).map(|config| config.chain_id), Ok(ChainId(expected)), "{pairs:?}");
        }
    }

    #[test]
    fn problem_names_its_variable() {
        let unfit = "[default]\nmax_gas_price_wei = 5\nmax_deadline_s = 60";
        let for_others = "[account.hot]\nmax_gas_price_wei = 5";
        for (pairs, variable) in [
            (&[][..], NETWORK),
            (&[(NETWORK, "")], NETWORK),
            (&[(NETWORK, "mainnet")], NETWORK),
            (&[(NETWORK, "ethereum"), (CHAIN, "97")], NETWORK),
            (&[(CHAIN, "0")], CHAIN),
            (&[(CHAIN, "+97")], CHAIN),
            (&[(CHAIN, " 97")], CHAIN),
            (&[(CHAIN, "9223372036854775772")], CHAIN),
            (&[(CHAIN, "97"), (KEY, "")], KEY),
            (&[(CHAIN, "97"), (KEY, "a key")], KEY),
            (&[(CHAIN, "97"), (LOG_LEVEL, "LOUD")], LOG_LEVEL),
            (&[(CHAIN, "97"), (POLICY, "")], "there is no policy"),
            (&[(CHAIN, "97"), (POLICY, "None")], POLICY),
            (&[(CHAIN, "97"), (POLICY, "none"), (POLICY_FILE, "policy.toml")], POLICY_FILE),
            (&[(CHAIN, "97"), (POLICY, "rules")], POLICY),
            (&[(CHAIN, "97"), (POLICY, unfit)], "max_deadline_s"),
            (&[(CHAIN, "97"), (POLICY, for_others)], POLICY),
            (&[(CHAIN, "97"), (POLICY_FILE, "/nowhere/policy.toml")], POLICY_FILE),
            (&[(CHAIN, "97"), (POLICY, RULES), (POLICY_FILE, "policy.toml")], POLICY_FILE),
        ] {
            let problems = read(pairs).unwrap_err();
            assert!(problems.len() == 1 && problems[0].contains(variable), "{pairs:?}: {problems:?}");
        }
    }

    #[test]
    fn running_without_a_policy_must_be_requested() {
        assert_eq!(read(&[(CHAIN, "97"), (POLICY, "none")]).map(|config| config.policy), Ok(None));
        let problems = read(&[(CHAIN, "97"), (POLICY, "")]).unwrap_err();
        assert!(problems[0].contains("SIGNPOST_POLICY=none"), "{problems:?}");
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let problems = read(&[(KEY, ""), (CHAIN, "0x38"), (LOG_LEVEL, "5"), (POLICY, "rules")]).unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:?}");
    }

    #[test]
    fn rules_of_the_functions_account_apply() {
        let text = format!("[default]\nmax_gas_price_wei = 1\n{RULES}");
        let policy = read(&[(NETWORK, "bsc"), (POLICY, &text)]).unwrap().policy.unwrap();
        assert_eq!(policy.max_gas_price.to_string(), "5");
    }

    #[test]
    fn packaged_policy_applies_unless_another_is_set() {
        let package = std::env::temp_dir().join(format!("sign-direct-{}", std::process::id()));
        fs::create_dir_all(&package).unwrap();
        fs::write(package.join(PACKAGED), RULES).unwrap();
        let read = |policy: Option<&str>| {
            let lookup = |name: &str| match name {
                KEY => Some("alias/hot".to_owned()),
                CHAIN => Some("97".to_owned()),
                POLICY => policy.map(str::to_owned),
                _ => None,
            };
            DirectConfig::read(lookup, &package).map(|config| config.policy.unwrap().max_gas_price.to_string())
        };
        assert_eq!(read(None).as_deref(), Ok("5"));
        assert_eq!(read(Some("[default]\nmax_gas_price_wei = 7")).as_deref(), Ok("7"));
        fs::write(package.join(PACKAGED), "max_gas").unwrap();
        assert!(read(None).unwrap_err().to_string().contains(PACKAGED));
        fs::remove_dir_all(package).unwrap();
    }

    #[test]
    fn signatures_are_logged_by_default() {
        for (text, expected) in [(None, Level::INFO), (Some("Warning"), Level::WARN), (Some("Critical"), Level::ERROR)]
        {
            assert_eq!(log_level(|_| text.map(str::to_owned)), expected);
        }
    }
}
