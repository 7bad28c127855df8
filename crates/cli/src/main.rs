//! The `signpost` command: reads its arguments, and calls into the library beside it.
//!
//! Exit codes: 0 done; 1 not done; 2 asked for wrongly (options, files, configuration).

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use signpost_cli::command::{CommandError, dev, submit, told, watch};
use signpost_cli::terminal::remark;

/// Signs BNB Smart Chain transactions with AWS KMS and posts them, driven by SQS
#[derive(Debug, Parser)]
#[command(name = "signpost", version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run AWS and a chain on this machine until Ctrl-C
    Dev(dev::Arguments),
    /// Send requests to the signing queue
    Submit(Box<submit::Arguments>),
    /// Show outcomes as they are published
    Watch(watch::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Program::parse().command {
        Command::Dev(arguments) => Box::pin(dev::run(arguments)).await,
        Command::Submit(arguments) => Box::pin(submit::run(*arguments)).await,
        Command::Watch(arguments) => Box::pin(watch::run(arguments)).await,
    };
    ended.unwrap_or_else(|error: CommandError| {
        remark(format!("error: {}", told(&error)));
        error.exit_code()
    })
}
