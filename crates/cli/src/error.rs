//! Why a command failed, and the exit code of the program.

use std::path::PathBuf;
use std::process::ExitCode;

use signpost_client::{NotSent, ReadError};
use signpost_host::error_chain;
use signpost_host::start::StartError;
use signpost_txmgr::ports::{KeyCallError, PortError};
use signpost_txmgr::registration::RegisterError;

use crate::aws;
use crate::config::ConfigError;
use crate::stack::StackError;

/// The exit code for wrong options, files or configuration.
const MISUSE: u8 = 2;

/// Why a command failed. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The local stack could not be installed or started.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The options or their values are wrong, or do not fit the current state.
    #[error("{0}")]
    Input(String),
    /// A file could not be read or written.
    #[error("cannot read or write {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A call to AWS failed.
    #[error("{operation} failed: {reason}")]
    Aws {
        /// The call.
        operation: &'static str,
        /// The error of AWS, or why there was no answer.
        reason: String,
    },
    /// A call to a table, queue, topic or node failed.
    #[error("a call failed; check AWS_ENDPOINT_URL, the credentials and the nodes")]
    Port(#[from] PortError),
    /// KMS did not answer, or its answer has no usable key.
    #[error("KMS did not return the public key; check the key and the permissions on it")]
    Keys(#[from] KeyCallError),
    /// The named thing does not exist.
    #[error("{0}")]
    Unknown(String),
    /// A stage could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The demonstration did not end as expected.
    #[error("{0}")]
    Demo(String),
    /// Signals of the operating system could not be received.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
}

impl From<RegisterError> for CommandError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Port(error) => Self::Port(error),
            RegisterError::Keys(error) => Self::Keys(error),
            RegisterError::Name { .. }
            | RegisterError::Key { .. }
            | RegisterError::UnfitKey { .. }
            | RegisterError::OtherName { .. }
            | RegisterError::NameTaken(_)
            | RegisterError::WrongChain { .. }
            | RegisterError::HasCode(_)
            | RegisterError::CannotBegin { .. } => Self::Input(error.to_string()),
        }
    }
}

impl From<NotSent> for CommandError {
    fn from(error: NotSent) -> Self {
        let reason = match error {
            NotSent::Call(error) => aws::reason(&error),
            NotSent::Refused { .. } | NotSent::Unanswered | NotSent::NotTried => error.to_string(),
        };
        Self::Aws { operation: "SendMessageBatch", reason }
    }
}

impl From<ReadError> for CommandError {
    fn from(error: ReadError) -> Self {
        let reason = match error {
            ReadError::Call(error) => aws::reason(&error),
            ReadError::Item(error) => error_chain(&error),
        };
        Self::Aws { operation: "GetItem", reason }
    }
}

impl CommandError {
    /// The exit code of the program.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_)
            | Self::Input(_)
            | Self::Start(
                StartError::Configuration(_)
                | StartError::Policy { .. }
                | StartError::Seal(_)
                | StartError::Pins(_)
                | StartError::WrongChain { .. }
                | StartError::Metrics(_)
                | StartError::Traces(_)
                | StartError::Chain(_),
            ) => ExitCode::from(MISUSE),
            Self::Stack(_)
            | Self::File { .. }
            | Self::Aws { .. }
            | Self::Port(_)
            | Self::Keys(_)
            | Self::Unknown(_)
            | Self::Start(StartError::Accounts(_) | StartError::Secret(_) | StartError::LogFile { .. })
            | Self::Demo(_)
            | Self::Signals(_) => ExitCode::FAILURE,
        }
    }
}
