//! The `signpost` command: reads its arguments, and calls into the library beside it.
//!
//! Exit codes: 0 done; 1 not done; 2 asked for wrongly (options, files, configuration).

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use signpost_cli::command::{
    CommandError, account, audit, bench, bump, cancel, completions, console, demo, dev, doctor, evidence, export,
    policy, redrive, republish, requests, rescue, status, submit, told, watch, worker,
};
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
    /// Show all of it at work on this machine
    Demo(demo::Arguments),
    /// Run AWS, a chain and a worker on this machine until Ctrl-C
    Dev(dev::Arguments),
    /// Accept, sign, post and watch, until SIGTERM
    Worker(worker::Arguments),
    /// Send requests to the signing queue
    Submit(Box<submit::Arguments>),
    /// Show how a request stands
    Status(status::Arguments),
    /// List requests
    Requests(requests::Arguments),
    /// Ask for a request not to be executed
    Cancel(cancel::Arguments),
    /// Show outcomes as they are published
    Watch(watch::Arguments),
    /// Register, show, pause and end accounts
    Account(account::Arguments),
    /// Show accounts, lanes and requests on a local web page
    Console(console::Arguments),
    /// Publish an outcome once more
    Republish(republish::Arguments),
    /// Have a stuck request signed again at a higher price
    Bump(bump::Arguments),
    /// Show all that gets a stuck request mined by hand
    Rescue(rescue::Arguments),
    /// Hold tables and chain against the promises
    Audit(audit::Arguments),
    /// Look at everything this stands on, and say what to do
    Doctor(doctor::Arguments),
    /// Put messages of the dead-letter queues back
    Redrive(redrive::Arguments),
    /// Write down what shows what became of a request, or check such a file
    Evidence(evidence::Arguments),
    /// Print the audit trail as JSON lines
    Export(export::Arguments),
    /// Print a script that completes commands in your shell
    Completions(completions::Arguments),
    /// Say what a policy would do with a request
    Policy(policy::Arguments),
    /// Load a Signpost and measure it
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
        remark(format!("error: {}", told(&error)));
        error.exit_code()
    })
}
