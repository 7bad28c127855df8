//! `signpost demo`: runs the whole system on this machine, from an empty directory to a summary that is counted from
//! the chain and the tables.
//!
//! Read next: [`plan`] (the requests), [`blocks`] (reads the chain), [`summary`].

mod blocks;
mod follow;
mod outcomes;
mod plan;
mod summary;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use signpost_client::{Body, NotSent};
use signpost_txmgr::units::Nonce;
use tokio::sync::watch;

use super::blocks::{Seen, watch};
use super::dev::{Ready, finish, prepare, start, start_worker};
use super::registered::named;
use super::watch::Tail;
use super::{CommandError, Session, asked_to_stop, console};
use crate::console::{Console, Guard};
use crate::stack::provision::Wanted;
use crate::stack::servers::{LocalStack, Options};
use crate::terminal::{Colour, paint, remark, say, say_json};
use crate::{clock, ports};

use self::follow::Following;
use self::plan::{Asked, COUNT_MIN};
use self::summary::Facts;

const ACCOUNT: &str = "hot";
/// Address of the console, if the port is free.
const CONSOLE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);
/// Requests recorded with the same time of sending: the size of one SQS batch.
const WAVE: usize = 10;

const EXAMPLES: &str = "\
Examples:
  signpost demo
  signpost demo --count 300
  signpost demo --console
  signpost demo --json | tail -1 | jq .p50FinalMs

The totals are counted from the chain, the table and the emulator's KMS: `duplicates` are transactions on the chain
that belong to no request, `nonceGaps` are nonces that were assigned and never used. The exit code is 0 only if every
request ended as expected.";

/// `signpost demo`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Requests to send, at least 8
    #[arg(long, value_name = "N", default_value_t = 24)]
    count: usize,
    /// Print the totals as one JSON object, the last line of stdout
    #[arg(long)]
    json: bool,
    /// Use a running node instead of starting anvil
    #[arg(long, value_name = "URL", conflicts_with = "rpc_port")]
    rpc_url: Option<String>,
    /// Port for AWS [default: 4566, or a free port]
    #[arg(long, value_name = "PORT")]
    aws_port: Option<u16>,
    /// Port for the chain [default: 8545, or a free port]
    #[arg(long, value_name = "PORT")]
    rpc_port: Option<u16>,
    /// Also show a web page, and keep everything running until Ctrl-C
    #[arg(long)]
    console: bool,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    if arguments.count < COUNT_MIN {
        return Err(CommandError::Input(format!(
            "--count must be at least {COUNT_MIN}, to show every kind of request"
        )));
    }
    let options = Options {
        aws_port: arguments.aws_port,
        rpc_port: arguments.rpc_port,
        rpc_url: arguments.rpc_url.clone(),
        ..Options::default()
    };
    let stack = start(&options).await?;
    let asked = asked_to_stop()?;
    let (order, stop) = watch::channel(false);
    let mut working = None;
    let ended = tokio::select! {
        ended = async {
            let ready = prepare(&stack, &Wanted::default(), &[ACCOUNT.to_owned()]).await?;
            working = Some(start_worker(&stack, &ready, stop).await?);
            if arguments.console {
                Box::pin(with_console(&stack, &ready, &arguments)).await
            } else {
                demonstrate(&stack, &ready, &arguments).await
            }
        } => ended,
        () = asked => Ok(ExitCode::FAILURE),
    };
    let _ = order.send(true);
    if let Some(working) = working {
        finish(working).await;
    }
    if ended.is_err() {
        remark(format!("logs are in {}", stack.directory.display()));
    }
    stack.stop().await;
    ended
}

/// The demonstration with a web page. The page stays until Ctrl-C.
async fn with_console(stack: &LocalStack, ready: &Ready, arguments: &Arguments) -> Result<ExitCode, CommandError> {
    let session = Session { config: ready.config.clone(), sdk: ready.sdk.clone() };
    let listener = match console::listen(CONSOLE).await {
        Ok(listener) => listener,
        Err(_) => console::listen(SocketAddr::new(CONSOLE.ip(), 0)).await?,
    };
    let url = console::url(&listener)?;
    remark(format!("Watch it at {url}"));
    let page = Console::new(&session)?;
    let shown = async {
        demonstrate(stack, ready, arguments).await?;
        remark(format!("The console stays at {url} until Ctrl-C"));
        std::future::pending::<Result<ExitCode, CommandError>>().await
    };
    tokio::select! {
        shown = shown => shown,
        served = page.serve(listener, Guard::new(None, &[], false)) => {
            Err(CommandError::Demo(format!("the console ended: {served:?}")))
        }
    }
}

async fn demonstrate(stack: &LocalStack, ready: &Ready, arguments: &Arguments) -> Result<ExitCode, CommandError> {
    let session = Session { config: ready.config.clone(), sdk: ready.sdk.clone() };
    let first_block = blocks::height(&stack.rpc).await?;
    let first_nonce = next_nonce(&session).await?;
    let mut seen = Seen::default();
    let mut following = Following::new(ports::store(&session), arguments.json);
    let tail = Tail::open(&session.sdk, &session.config.outcomes_arn, &[]).await?;
    let worked = tokio::select! {
        worked = work(&session, &mut following, arguments.count) => worked,
        fault = watch(&stack.rpc, &mut seen) => Err(fault.into()),
    };
    let (asked, contract) = worked?;
    let account = ready.accounts.first().ok_or_else(|| CommandError::Demo("no account was made".to_owned()))?;
    let last_block = blocks::height(&stack.rpc).await?;
    let facts = Facts {
        table: following.table().await?,
        chain: blocks::transactions(&stack.rpc, &account.address, first_block, last_block).await?,
        seen,
        sent_at: following.sent_at(),
        first_nonce: first_nonce.0,
        next_nonce: next_nonce(&session).await?.0,
        outcomes: outcomes::gather(&tail, asked.len().saturating_add(1)).await?,
        kms_signs: stack.kms_signatures()?,
    };
    tail.remove().await;
    let mut problems = facts.problems(&asked);
    let counted = blocks::counter(&stack.rpc, &contract).await?;
    if counted != plan::CALLS_THAT_COUNT {
        problems.push(format!("the contract counted {counted} calls, not {}", plan::CALLS_THAT_COUNT));
    }
    show(&facts, &asked, &problems, arguments.json);
    if problems.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(CommandError::Demo("the demonstration did not end as expected".to_owned()))
}

/// Sends both waves and follows them to their outcomes. Returns all requests and the contract's address.
async fn work(
    session: &Session,
    following: &mut Following,
    count: usize,
) -> Result<(Vec<Asked>, String), CommandError> {
    let first = plan::first_wave(ACCOUNT, count);
    submit(session, following, &first).await?;
    send_all(session, &plan::repeats(ACCOUNT)).await?;
    let contract = following.contract(plan::creation_id()).await?;
    let second = plan::second_wave(ACCOUNT, &contract);
    submit(session, following, &second).await?;
    following.until_published().await?;
    Ok(([first, second].concat(), contract))
}

async fn submit(session: &Session, following: &mut Following, asked: &[Asked]) -> Result<(), CommandError> {
    let bodies: Vec<String> = asked.iter().map(|asked| asked.body.clone()).collect();
    for (asked, bodies) in asked.chunks(WAVE).zip(bodies.chunks(WAVE)) {
        let now = clock::now_ms();
        for asked in asked {
            following.add(&asked.id, now);
        }
        send_all(session, bodies).await?;
    }
    Ok(())
}

/// Sends bodies without a check: some are meant to be refused.
async fn send_all(session: &Session, bodies: &[String]) -> Result<(), CommandError> {
    let bodies: Vec<Body> = bodies.iter().map(Body::unchecked).collect();
    let sent: Result<Vec<String>, NotSent> = ports::client(session).send_all(&bodies).await.into_iter().collect();
    sent.map(drop).map_err(CommandError::from)
}

async fn next_nonce(session: &Session) -> Result<Nonce, CommandError> {
    Ok(named(session, ACCOUNT).await?.next_nonce)
}

fn show(facts: &Facts, asked: &[Asked], problems: &[String], as_json: bool) {
    let totals = facts.totals();
    let show = |line: String| if as_json { remark(line) } else { say(line) };
    show(String::new());
    facts.lines(asked).into_iter().for_each(show);
    show(String::new());
    totals.lines().into_iter().for_each(show);
    for problem in problems {
        show(paint(Colour::Red, problem));
    }
    if as_json {
        say_json(&totals.json());
    } else if problems.is_empty() {
        say(paint(Colour::Green, "Every request ended as expected."));
    }
}
