//! `signpost worker`: runs the two drivers until SIGTERM or Ctrl-C.
//!
//! The exit code is 0 after a requested stop, 2 for a configuration error, and 1 for any other error.

use std::path::PathBuf;
use std::process::ExitCode;

use signpost_host::observe::{self, Logs};
use tokio::sync::watch;

use super::{CommandError, ConfigOption, asked_to_stop};
use crate::worker::{Stage, Worker};

const EXAMPLES: &str = "\
Examples:
  signpost worker --config signpost.toml
  signpost worker --config signpost.toml --stage signer
  RUST_LOG=debug signpost worker --config signpost.toml

Logs go to stderr: as text on a terminal, otherwise as one JSON object per line.";

/// `signpost worker`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "SIGNPOST_CONFIG")]
    config: PathBuf,
    /// Stage to run
    #[arg(long, value_enum, default_value_t = Stage::All)]
    stage: Stage,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let config = ConfigOption { config: Some(arguments.config) };
    let session = config.open().await?;
    let observing = observe::start(&session.config.observe, Logs::Stderr)?;
    tracing::info!(stage = ?arguments.stage, config = ?session.config, "starting");
    let worker = Worker::new(session, arguments.stage).await?;
    let (order, stop) = watch::channel(false);
    let working = worker.run(stop);
    let asked = asked_to_stop()?;
    tracing::info!("working");
    let stopping = async {
        asked.await;
        tracing::info!("stopping: messages in progress are finished or returned to the queue");
        // The worker holds the other end until it returns.
        let _ = order.send(true);
    };
    tokio::join!(working, stopping);
    tracing::info!("stopped");
    observing.end().await;
    Ok(ExitCode::SUCCESS)
}
