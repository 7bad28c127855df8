//! What each command does. A module per command: its options, its help with an example, and its work.
//!
//! Read next: [`demo`], which uses all of it, or [`worker`].

pub mod account;
pub mod cancel;
pub mod demo;
pub mod dev;
pub mod status;
pub mod submit;
pub mod watch;
pub mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use aws_config::SdkConfig;
use signpost_txmgr::ports::PortError;
use signpost_txmgr::units::RequestId;

use crate::aws::{self, Target};
use crate::config::{self, Config, ConfigError};
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
    /// What was asked about is not there.
    #[error("{0}")]
    Unknown(String),
    /// The policy file cannot be used.
    #[error("policy {path} cannot be used: {reason}", path = path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The registered accounts cannot be worked for.
    #[error("the registered accounts cannot be signed for: {0}")]
    Accounts(String),
    /// The demonstration did not end as it should.
    #[error("{0}")]
    Demo(String),
    /// Signals of the operating system cannot be received.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
}

impl CommandError {
    /// What the program ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Input(_) | Self::Policy { .. } => ExitCode::from(MISUSE),
            Self::Stack(_)
            | Self::File { .. }
            | Self::Aws { .. }
            | Self::Port(_)
            | Self::Unknown(_)
            | Self::Accounts(_)
            | Self::Demo(_)
            | Self::Signals(_) => ExitCode::FAILURE,
        }
    }
}

/// The option every command but `dev` and `demo` has.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigOption {
    /// Configuration file; else that of $`SIGNPOST_CONFIG`, else that of the running `signpost dev`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Reads the id a command is about.
pub fn request_id(text: &str) -> Result<RequestId, CommandError> {
    text.parse().map_err(|error| CommandError::Input(format!("{text} is no request id: it {error}")))
}

/// A configuration, and AWS as it says.
#[derive(Debug, Clone)]
pub struct Session {
    /// The configuration.
    pub config: Config,
    /// What AWS clients are made of.
    pub sdk: SdkConfig,
}

impl ConfigOption {
    /// Reads the configuration and the environment. Connects to nothing yet.
    pub async fn open(&self) -> Result<Session, CommandError> {
        let config = Config::load(&config::find(self.config.as_deref())?)?;
        Ok(Session { sdk: connect(&config).await, config })
    }
}

/// AWS as the configuration says; `AWS_ENDPOINT_URL` overrides its endpoint.
pub async fn connect(config: &Config) -> SdkConfig {
    let overridden = std::env::var_os("AWS_ENDPOINT_URL").is_some_and(|url| !url.is_empty());
    let endpoint = if overridden { None } else { config.endpoint.clone() };
    aws::connect(&Target { endpoint, region: config.region.clone() }).await
}

/// From now on Ctrl-C, SIGTERM and a closed terminal do not end the program, but what is returned.
pub fn asked_to_stop() -> Result<impl Future<Output = ()>, CommandError> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt()).map_err(CommandError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(CommandError::Signals)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(CommandError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

/// An error's message with those of its causes.
pub fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
