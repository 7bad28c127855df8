//! The commands. Each has a module with its options, its help with examples, and its implementation.
//!
//! Read next: [`demo`], which uses all of it, or [`worker`].

pub mod account;
pub mod audit;
pub mod bench;
mod blocks;
pub mod bump;
pub mod cancel;
pub mod completions;
pub mod confirm;
pub mod console;
pub mod demo;
pub mod dev;
pub mod doctor;
pub mod evidence;
pub mod export;
pub mod policy;
pub mod redrive;
pub mod registered;
pub mod republish;
pub mod requests;
pub mod rescue;
pub mod status;
pub mod stored;
pub mod submit;
pub mod watch;
pub mod worker;

use std::path::PathBuf;

pub use signpost_host::error_chain;
pub use signpost_host::session::{Session, connect};
use signpost_txmgr::units::RequestId;

use crate::config::Config;
pub use crate::error::CommandError;
use crate::find::find;

/// The option that every command except `dev` and `demo` has.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigOption {
    /// Configuration file [default: `$SIGNPOST_CONFIG`, else the file of the running `signpost dev`]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Parses a request id.
pub fn request_id(text: &str) -> Result<RequestId, CommandError> {
    text.parse().map_err(|error| CommandError::Input(format!("{text} is not a valid request id: it {error}")))
}

impl ConfigOption {
    /// Reads the configuration and the environment. Connects to nothing yet.
    pub async fn open(&self) -> Result<Session, CommandError> {
        Ok(Session::new(Config::load(&find(self.config.as_deref())?)?).await)
    }
}

/// Catches Ctrl-C, SIGTERM and a closed terminal from now on; the returned future ends at the first of them.
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
