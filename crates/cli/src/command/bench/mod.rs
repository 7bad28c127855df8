//! `signpost bench`: puts load on a Signpost, and reports throughput, the time of each step, and costs.
//!
//! The numbers come from the records (when the signature was stored), from the chain (in which block a transaction was
//! mined, and when that block appeared and was final) and, on a local stack, from the operating system (the cost of
//! each stage). Only the time of sending is from the command's own clock.
//!
//! Read next: [`load`] (sends the requests), [`blocks`] (the time of each block), [`report`].

mod load;
mod local;
mod plot;
mod report;

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use signpost_txmgr::request::AccountRef;

use super::registered::ours;
use super::{CommandError, ConfigOption, Session, blocks, dev};
use crate::stack::rpc::Rpc;
use crate::terminal::{remark, say, say_json};

use self::load::{Load, Payload, Sent};
use self::local::Local;
use self::report::{Calls, Cost, Memory, Report};

/// Longer than any request should wait; a run that exceeds it has found a problem.
const OUTCOMES_TIMEOUT: Duration = Duration::from_mins(5);

const EXAMPLES: &str = "\
Examples:
  signpost bench --local --count 500 --rate 40
  signpost bench --local --accounts 1,3,10 --clients 100 --count 1000 --plot accounts.svg
  signpost bench --local --accounts 1,3,10 --pool --clients 100 --count 1000
  signpost bench --local --rate 10,20,40,80 --plot load.svg
  signpost bench --local --rate 20 --count-calls --json | jq .callsPerRequest
  signpost bench --local --rate 10 --count 18000 --plot soak.svg
  signpost bench --account hot --rate 5 --count 100 --json

Open loop (--rate): requests are sent at a fixed rate, independent of outcomes. Closed loop (--clients): each of N
callers sends its next request when the outcome of the last one is final. Several numbers make several runs, which
--plot draws. With --local the command starts its own local stack and measures its two stages as two processes. Without
it, the Signpost of the configuration is loaded with real transactions, which cost real fees.";

/// `signpost bench`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigOption,
    #[command(flatten)]
    stack: StackOptions,
    /// Without --local: an account to load; may be repeated [default: every registered account]
    #[arg(long, value_name = "NAME", conflicts_with = "local")]
    account: Vec<String>,
    /// Open loop: requests per second; several numbers make several runs
    #[arg(long, value_name = "PER_SECOND", value_delimiter = ',', conflicts_with = "clients")]
    rate: Vec<f64>,
    /// Closed loop: number of callers; several numbers make several runs
    #[arg(long, value_name = "N", value_delimiter = ',')]
    clients: Vec<usize>,
    /// Requests per run
    #[arg(long, value_name = "N", default_value_t = 200)]
    count: usize,
    /// Bytes of calldata; several numbers are used in turn
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "0")]
    data: Vec<usize>,
    /// Recipient; calldata is ignored by an address without code
    #[arg(long, value_name = "ADDRESS", default_value = "0x00000000000000000000000000000000000000aa")]
    to: String,
    /// One JSON object per run
    #[arg(long)]
    json: bool,
    /// Draw the runs into this file as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

// A stack of its own.
#[derive(Debug, clap::Args)]
struct StackOptions {
    /// Start a local stack for the benchmark
    #[arg(long, conflicts_with = "config")]
    local: bool,
    /// With --local: number of accounts; several numbers make several runs
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", requires = "local")]
    accounts: Vec<usize>,
    /// With --local: send requests to a pool, so that Signpost selects the account of each request
    #[arg(long, requires = "local")]
    pool: bool,
    /// With --local: count the stages' calls to AWS and their bytes
    #[arg(long, requires = "local")]
    count_calls: bool,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let loads = loads(&arguments)?;
    let mut reports = Vec::new();
    if arguments.stack.local {
        for accounts in &arguments.stack.accounts {
            let local = Box::pin(Local::start(*accounts, arguments.stack.count_calls)).await?;
            for load in &loads {
                let measured = local_run(&local, *load, &arguments).await;
                if measured.is_err() {
                    remark(format!("logs are in {}", local.directory().display()));
                }
                reports.push(measured?);
                tell(reports.last(), arguments.json);
            }
            local.stop().await;
        }
    } else {
        let session = arguments.config.open().await?;
        let names = names(&session, &arguments.account).await?;
        for load in &loads {
            reports.push(measure(&session, *load, &names, &arguments).await?);
            tell(reports.last(), arguments.json);
        }
    }
    if let Some(path) = &arguments.plot {
        std::fs::write(path, plot::draw(&reports))
            .map_err(|source| CommandError::File { path: path.clone(), source })?;
    }
    let clean = reports.iter().all(Report::is_clean);
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn loads(arguments: &Arguments) -> Result<Vec<Load>, CommandError> {
    let wrong = |problem: &str| Err(CommandError::Input(problem.to_owned()));
    if arguments.rate.iter().any(|rate| !rate.is_finite() || *rate <= 0.0 || *rate > 10_000.0) {
        return wrong("--rate must be above 0 and at most 10000 requests per second");
    }
    if arguments.clients.iter().chain(&arguments.stack.accounts).chain([&arguments.count]).any(|number| *number == 0) {
        return wrong("--clients, --accounts and --count must be at least 1");
    }
    let open = arguments.rate.iter().map(|rate| Load::Open { per_second: *rate });
    let closed = arguments.clients.iter().map(|clients| Load::Closed { clients: *clients });
    let loads: Vec<_> = open.chain(closed).collect();
    if loads.is_empty() { wrong("give --rate for an open loop, or --clients for a closed one") } else { Ok(loads) }
}

async fn names(session: &Session, asked: &[String]) -> Result<Vec<String>, CommandError> {
    let known: Vec<_> = ours(session).await?.into_iter().map(|head| head.name.to_string()).collect();
    match asked.iter().find(|name| !known.contains(name)) {
        Some(unknown) => {
            let hint = "see `signpost account list`";
            Err(CommandError::Unknown(format!("account {unknown} is not registered; {hint}")))
        }
        None if known.is_empty() => Err(CommandError::Unknown("no account is registered".to_owned())),
        None if asked.is_empty() => Ok(known),
        None => Ok(asked.to_vec()),
    }
}

/// One run on the local stack, with the cost of each stage.
async fn local_run(local: &Local, load: Load, arguments: &Arguments) -> Result<Report, CommandError> {
    let (before, calls_before) = (local.costs(), local.calls());
    let mut memory = Memory::default();
    let names = if arguments.stack.pool { vec![format!("{}{}", AccountRef::POOL, dev::POOL)] } else { local.names() };
    let measured = tokio::select! {
        measured = measure(local.session(), load, &names, arguments) => measured,
        never = watch_memory(local, &mut memory) => match never {},
    };
    let mut report = measured?;
    report.memory = memory;
    report.calls = between(&calls_before, &local.calls());
    report.costs =
        local.costs().into_iter().zip(before).map(|(after, before)| Cost::between(&before, &after)).collect();
    report.accounts = local.names().len();
    Ok(report)
}

fn between(before: &Calls, after: &Calls) -> Calls {
    let since = |name: &String, (count, bytes): &(u64, u64)| {
        let (count_before, bytes_before) = before.get(name).copied().unwrap_or_default();
        (count.saturating_sub(count_before), bytes.saturating_sub(bytes_before))
    };
    after.iter().map(|(name, sums)| (name.clone(), since(name, sums))).filter(|(_, (count, _))| *count > 0).collect()
}

/// Samples the stages' memory until dropped.
async fn watch_memory(local: &Local, memory: &mut Memory) -> Infallible {
    for second in (0_u32..).step_by(2) {
        memory.add(second, &local.costs());
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    std::future::pending().await
}

/// One run: sends, waits for every outcome, and counts.
async fn measure(
    session: &Session,
    load: Load,
    names: &[String],
    arguments: &Arguments,
) -> Result<Report, CommandError> {
    let url = session.config.chain.rpc_urls.first().cloned().unwrap_or_default();
    let rpc = Rpc::at(&url)?;
    let payload = Payload { to: arguments.to.clone(), accounts: names.to_vec(), data_bytes: arguments.data.clone() };
    let mut sent = Sent::default();
    let mut seen = blocks::Seen::default();
    let working = async {
        load.run(session, &payload, arguments.count, &mut sent).await?;
        tokio::time::timeout(OUTCOMES_TIMEOUT, sent.until_closed(session)).await.unwrap_or(Ok(()))
    };
    tokio::select! {
        worked = working => worked?,
        fault = blocks::watch(&rpc, &mut seen) => return Err(fault.into()),
    }
    // The finality of the last blocks may not have been seen yet.
    Ok(Report::of(load, names.len(), &sent, &seen))
}

fn tell(report: Option<&Report>, as_json: bool) {
    let Some(report) = report else { return };
    if as_json {
        say_json(&report.json());
    } else {
        report.lines().into_iter().for_each(say);
    }
}
