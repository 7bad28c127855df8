//! `signpost worker`: the two drivers, until SIGTERM or Ctrl-C.
//!
//! The exit code is 0 after a stop that was asked for, 2 for a fault of the configuration, 1 for
//! anything else.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use super::{CommandError, ConfigOption, asked_to_stop};
use crate::worker::{Stage, Worker};

const EXAMPLES: &str = "\
Examples:
  signpost worker --config signpost.toml
  signpost worker --config signpost.toml --stage signer
  RUST_LOG=debug signpost worker --config signpost.toml

Logs go to stderr: as text on a terminal, else one JSON object per line.";

/// `signpost worker`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "SIGNPOST_CONFIG")]
    config: PathBuf,
    /// Which half of the way to work on
    #[arg(long, value_enum, default_value_t = Stage::All)]
    stage: Stage,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    log_to_stderr();
    let config = ConfigOption { config: Some(arguments.config) };
    let session = config.open().await?;
    tracing::info!(stage = ?arguments.stage, config = ?session.config, "starting");
    let worker = Worker::new(session, arguments.stage).await?;
    let (order, stop) = watch::channel(false);
    let working = worker.run(stop);
    let asked = asked_to_stop()?;
    tracing::info!("working");
    let stopping = async {
        asked.await;
        tracing::info!("stopping: what is in hand is finished or given back");
        // The worker holds the other end until it returns.
        let _ = order.send(true);
    };
    tokio::join!(working, stopping);
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn filter() -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"))
}

fn log_to_stderr() {
    let builder = tracing_subscriber::fmt().with_env_filter(filter()).with_writer(std::io::stderr);
    // The first subscriber of a process stays; a second is no fault.
    let _ = if std::io::stderr().is_terminal() { builder.try_init() } else { builder.json().try_init() };
}

/// Sends the logs of this process to a file, so that the terminal stays readable.
pub fn log_to_file(path: PathBuf) -> Result<(), CommandError> {
    let file = std::fs::File::create(&path).map_err(|source| CommandError::File { path, source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter()).with_ansi(false);
    let _ = builder.with_writer(std::sync::Mutex::new(file)).try_init();
    Ok(())
}
