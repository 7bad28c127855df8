//! The `signpost` command: reads its arguments and calls the library of this crate.
//!
//! Exit codes: 0 success; 1 failure; 2 wrong options, files or configuration.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use signpost_cli::command::{
    CommandError, account, audit, bench, bump, cancel, completions, console, demo, dev, doctor, error_chain, evidence,
    export, policy, redrive, republish, requests, rescue, status, submit, watch, worker,
};
use signpost_cli::terminal::remark;

/// Signs BNB Smart Chain transactions with AWS KMS and sends them, driven by SQS
#[derive(Debug, Parser)]
#[command(name = "signpost", version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole system at work on this machine
    Demo(demo::Arguments),
    /// Run an AWS emulator, a chain and a worker on this machine until Ctrl-C
    Dev(dev::Arguments),
    /// Accept, sign, send and watch transactions until SIGTERM
    Worker(worker::Arguments),
    /// Send requests to the signing queue
    Submit(Box<submit::Arguments>),
    /// Show the status of a request
    Status(status::Arguments),
    /// List requests
    Requests(requests::Arguments),
    /// Cancel a request
    Cancel(cancel::Arguments),
    /// Show outcomes while they are published
    Watch(watch::Arguments),
    /// Register, show, pause and retire accounts
    Account(account::Arguments),
    /// Show accounts, lanes and requests on a local web page
    Console(console::Arguments),
    /// Publish an outcome again
    Republish(republish::Arguments),
    /// Sign a stuck request again at a higher price
    Bump(bump::Arguments),
    /// Print what is needed to get a stuck request mined by hand
    Rescue(rescue::Arguments),
    /// Check the tables and the chain against the invariants
    Audit(audit::Arguments),
    /// Check queues, tables, keys, nodes and accounts, and say what to fix
    Doctor(doctor::Arguments),
    /// Move messages from the dead-letter queues back to their queues
    Redrive(redrive::Arguments),
    /// Write a file with the evidence of a request's outcome, or verify such a file
    Evidence(evidence::Arguments),
    /// Print the audit trail as JSON lines
    Export(export::Arguments),
    /// Print a completion script for your shell
    Completions(completions::Arguments),
    /// Check a request against a policy file
    Policy(policy::Arguments),
    /// Put load on a Signpost and measure it
    Bench(Box<bench::Arguments>),
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Program::parse().command {
        Command::Demo(arguments) => Box::pin(demo::run(arguments)).await,
        Command::Dev(arguments) => Box::pin(dev::run(arguments)).await,
        Command::Worker(arguments) => Box::pin(worker::run(arguments)).await,
        Command::Submit(arguments) => Box::pin(submit::run(*arguments)).await,
        Command::Status(arguments) => Box::pin(status::run(arguments)).await,
        Command::Requests(arguments) => Box::pin(requests::run(arguments)).await,
        Command::Republish(arguments) => Box::pin(republish::run(arguments)).await,
        Command::Bump(arguments) => Box::pin(bump::run(arguments)).await,
        Command::Rescue(arguments) => Box::pin(rescue::run(arguments)).await,
        Command::Audit(arguments) => Box::pin(audit::run(arguments)).await,
        Command::Doctor(arguments) => Box::pin(doctor::run(arguments)).await,
        Command::Redrive(arguments) => Box::pin(redrive::run(arguments)).await,
        Command::Evidence(arguments) => Box::pin(evidence::run(arguments)).await,
        Command::Export(arguments) => Box::pin(export::run(arguments)).await,
        Command::Cancel(arguments) => Box::pin(cancel::run(arguments)).await,
        Command::Watch(arguments) => Box::pin(watch::run(arguments)).await,
        Command::Account(arguments) => Box::pin(account::run(arguments)).await,
        Command::Console(arguments) => Box::pin(console::run(arguments)).await,
        Command::Completions(arguments) => completions::run(&arguments, &mut Program::command()),
        Command::Policy(arguments) => Box::pin(policy::run(arguments)).await,
        Command::Bench(arguments) => Box::pin(bench::run(*arguments)).await,
    };
    ended.unwrap_or_else(|error: CommandError| {
        remark(format!("error: {}", error_chain(&error)));
        error.exit_code()
    })
}
