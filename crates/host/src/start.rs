//! Errors that prevent a stage from starting, and the limits that all hosts of a stage share.

use std::fmt;
use std::path::{Path, PathBuf};

use signpost_txmgr::error_chain;
use signpost_txmgr::policy::Policies;
use signpost_txmgr::start::StartRefused;
use signpost_txmgr::units::ChainId;

use crate::config::{ConfigError, StageSettings};

const DAY_MS: u64 = 86_400_000;

/// Why a stage does not start. Each message names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no usable configuration.
    #[error(transparent)]
    Configuration(ConfigError),
    /// The nodes' secret cannot be read.
    #[error("SIGNPOST_RPC_SECRET_ARN: the secret cannot be read: {0}")]
    Secret(String),
    /// The key of seals cannot be used.
    #[error("the key of seals ([seal]; in Lambda, SIGNPOST_SEAL_SECRET_ARN): {0}")]
    Seal(String),
    /// The list of accounts cannot be used.
    #[error("the accounts that may be signed for ([accounts] pinned; in Lambda, SIGNPOST_ACCOUNTS): {0}")]
    Pins(String),
    /// The policy cannot be used.
    #[error("policy {path} cannot be used: {reason}", path = path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The registered accounts cannot be served.
    #[error("the registered accounts cannot be served: {0}")]
    Accounts(String),
    /// The nodes, or the registered accounts, are on another chain.
    #[error(
        "chain.chain_id is {wanted}, and {subject} on chain {found}; correct one of them (in Lambda, SIGNPOST_CHAIN_ID)"
    )]
    WrongChain {
        /// The configured chain id.
        wanted: u64,
        /// What is on the other chain.
        subject: ChainSubject,
        /// The chain id found.
        found: ChainId,
    },
    /// The log file cannot be written.
    #[error("cannot write {path}", path = path.display())]
    LogFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Metrics cannot be served.
    #[error("[metrics]: {0}")]
    Metrics(String),
    /// Spans cannot be sent.
    #[error("[traces]: {0}")]
    Traces(String),
    /// The nodes cannot be used as configured.
    #[error("[chain]: {0}")]
    Chain(String),
}

/// What can be on another chain than the configured one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainSubject {
    /// The registered accounts.
    Accounts,
    /// The node.
    Node,
}

impl fmt::Display for ChainSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accounts => "the registered accounts are",
            Self::Node => "the node is",
        })
    }
}

impl From<StartRefused> for StartError {
    fn from(refused: StartRefused) -> Self {
        match refused {
            StartRefused::WrongChain { wanted, found } => {
                Self::WrongChain { wanted: wanted.0, subject: ChainSubject::Accounts, found }
            }
            StartRefused::Accounts(_) => Self::Accounts(error_chain(&refused)),
        }
    }
}

/// Reads a policy file.
pub fn policies(path: &Path) -> Result<Policies, StartError> {
    let wrong = |reason: String| StartError::Policy { path: path.to_path_buf(), reason };
    let text = std::fs::read_to_string(path).map_err(|source| wrong(source.to_string()))?;
    Policies::from_toml(&text).map_err(|error| wrong(error.to_string()))
}

/// How long closed requests are kept, in milliseconds.
pub fn retention_ms(config: &impl StageSettings) -> u64 {
    config.retention_days().saturating_mul(DAY_MS)
}
