//! Why a command did not do its work, and what the program ends with then.

use std::path::PathBuf;
use std::process::ExitCode;

use signpost_client::{NotSent, ReadError};
use signpost_host::start::StartError;
use signpost_host::told;
use signpost_txmgr::ports::{KeyCallError, PortError};
use signpost_txmgr::registration::RegisterError;

use crate::aws;
use crate::config::ConfigError;
use crate::stack::StackError;

/// The exit code of a fault in what was asked for: options, files, configuration.
const MISUSE: u8 = 2;

/// Why a command did not do its work. Each message names the way out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The local stack could not be had.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// What was given does not make sense.
    #[error("{0}")]
    Input(String),
    /// A file could not be read or written.
    #[error("cannot use {path}", path = path.display())]
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
        /// What AWS said, or why it did not.
        reason: String,
    },
    /// A port did not answer.
    #[error("it did not work out; see AWS_ENDPOINT_URL, the credentials and the nodes")]
    Port(#[from] PortError),
    /// The key service did not answer, or not with what was asked for.
    #[error("KMS did not give the key; see the key and the rights to it")]
    Keys(#[from] KeyCallError),
    /// What was asked about is not there.
    #[error("{0}")]
    Unknown(String),
    /// A stage cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The demonstration did not end as it should.
    #[error("{0}")]
    Demo(String),
    /// Signals of the operating system cannot be received.
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
            ReadError::Item(error) => told(&error),
        };
        Self::Aws { operation: "GetItem", reason }
    }
}

impl CommandError {
    /// What the program ends with.
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
