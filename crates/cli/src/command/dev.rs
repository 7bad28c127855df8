//! `signpost dev`: runs the local stack until Ctrl-C, for any AWS client.
//!
//! Guarantees that no process is left behind, however it ends. Keeps no data: the next start is empty.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use aws_config::SdkConfig;
use serde_json::json;
use signpost_host::consumer::Stop;
use signpost_host::observe::{self, Logs};
use signpost_txmgr::ports::Finality;
use signpost_txmgr::registration::Asked;
use signpost_txmgr::signature::PublicKey;
use signpost_txmgr::units::ChainId;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::account::register::{First, register};
use super::{CommandError, Session, asked_to_stop, error_chain};
use crate::aws::{self, LOOPBACK_REGION, Target};
use crate::config::{
    AccountsFrom, BROADCASTER_CONCURRENCY, Chain, Config, Observe, Queues, SIGNER_CONCURRENCY, SealFrom, SendTo,
    Tables, Timing, Worker,
};
use crate::find;
use crate::ports;
use crate::random;
use crate::stack::gates::Scripts;
use crate::stack::provision::{self, Resources, Wanted};
use crate::stack::servers::{LocalStack, Options};
use crate::stack::setup::{self, Tools};
use crate::stack::{StackError, geth};
use crate::terminal::{Step, remark, say, say_json};
use crate::worker::Stage;

/// Initial balance of each account: 10,000 BNB.
const FUNDS_WEI: &str = "0x21e19e0c9bab2400000";
const RETENTION_DAYS: u64 = 90;
/// How long a worker may take to finish messages in progress after Ctrl-C.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The floor on Chapel: 0.1 gwei.
const FEE_FLOOR_WEI: u64 = 100_000_000;
/// Two blocks, like finality on BSC. geth's own `finalized` lags by up to 31 blocks.
const GETH_CONFIRMATIONS: u64 = 2;
/// Calls to a local node are free: a bit more than two per block.
const POLL_MS: u64 = 200;
/// Short, because a developer who kills a worker waits for the redelivery.
const VISIBILITY_S: u64 = 5;

const EXAMPLES: &str = "\
Examples:
  signpost dev
  signpost dev --account hot --account treasury --aws-port 14566
  signpost dev --rpc-url http://127.0.0.1:8545
  signpost dev --json | head -1 | jq -r .signingQueueUrl
  signpost dev --gate                                   # refuses what BSC refuses
  signpost dev --gate --gate-nodes 3 --gate-faults all --gate-seed 7
  signpost dev --node geth --gate                       # with the pool of a real node

While it runs, the other commands find it automatically. Any AWS client can use it with AWS_ENDPOINT_URL,
AWS_REGION=us-east-1 and any credentials.

With --gate, workers and clients reach both servers through proxies. The proxy of the chain applies BSC's rules with
BSC's error messages (anvil accepts more than BSC), and a script can inject faults into both:
  {\"bsc\": [{\"fault\": \"silentDrop\", \"probability\": 0.1}], \"aws\": {\"faults\": \"all\"}}
POST a script to URL/_gate/script while it runs (`[]` ends all faults); GET URL/_gate/stats returns counts.";

/// `signpost dev`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Name of an account to create, fund and register; may be repeated
    #[arg(long, value_name = "NAME", default_value = "hot")]
    account: Vec<String>,
    /// Node to start: anvil, or geth, on which BSC's nodes are based (built with Go the first time)
    #[arg(long, value_name = "NODE", default_value = "anvil")]
    node: Node,
    /// Use a running node instead of starting one
    #[arg(long, value_name = "URL", conflicts_with_all = ["rpc_port", "node"])]
    rpc_url: Option<String>,
    /// Start the stack without a worker; run `signpost worker` yourself
    #[arg(long)]
    no_worker: bool,
    /// Make the signing queue a standard queue instead of FIFO
    #[arg(long)]
    standard_queue: bool,
    /// Port for AWS [default: 4566, or a free port]
    #[arg(long, value_name = "PORT")]
    aws_port: Option<u16>,
    /// Port for the chain [default: 8545, or a free port]
    #[arg(long, value_name = "PORT")]
    rpc_port: Option<u16>,
    #[command(flatten)]
    gates: GateOptions,
    #[command(flatten)]
    ending: EndingOptions,
}

/// A node that can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Node {
    Anvil,
    Geth,
}

// What is printed, and whether the stack keeps running.
#[derive(Debug, clap::Args)]
struct EndingOptions {
    /// Only install the tools of the stack, and print where they are
    #[arg(long)]
    install_only: bool,
    /// Print one JSON line on stdout when the stack is ready
    #[arg(long)]
    json: bool,
}

// The proxies in front of the servers.
#[derive(Debug, clap::Args)]
struct GateOptions {
    /// Put proxies (gates) in front: BSC's rules for the chain, and injected faults
    #[arg(long)]
    gate: bool,
    /// Number of nodes of the chain's gate, each with its own faults
    #[arg(long, value_name = "N", default_value_t = 1, requires = "gate")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=16))]
    gate_nodes: u8,
    /// `none`, `all`, or a file with a script; active once the stack is ready
    #[arg(long, value_name = "FAULTS", default_value = "none", requires = "gate")]
    gate_faults: String,
    /// Random seed of the faults
    #[arg(long, value_name = "SEED", default_value_t = 0, requires = "gate")]
    gate_seed: u64,
}

/// A provisioned local stack.
#[derive(Debug)]
pub struct Ready {
    /// Queues, tables, topic.
    pub resources: Resources,
    /// Name, KMS key id and address of each account.
    pub accounts: Vec<Account>,
    /// The configuration of its worker.
    pub config: Config,
    /// The file with that configuration.
    pub config_file: PathBuf,
    /// The configuration of AWS clients.
    pub sdk: SdkConfig,
}

/// An account of the local stack.
#[derive(Debug, Clone)]
pub struct Account {
    /// The name requests use.
    pub name: String,
    /// Its key.
    pub kms_key_id: String,
    /// Its address, EIP-55.
    pub address: String,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    // If Go is missing, fail before anything else takes time.
    let geth = if arguments.node == Node::Geth { Some(blocking(geth::install).await?) } else { None };
    let options = Options {
        aws_port: arguments.aws_port,
        rpc_port: arguments.rpc_port,
        rpc_url: arguments.rpc_url.clone(),
        geth,
    };
    if arguments.ending.install_only {
        return install_only(options.geth.as_deref(), arguments.ending.json).await;
    }
    // Read first, because an error should not take time.
    let scripts = Scripts::read(&arguments.gates.gate_faults, arguments.gates.gate_seed)?;
    let mut stack = start(&options).await?;
    let asked = asked_to_stop()?;
    let (order, stop) = watch::channel(false);
    let mut working = None;
    let running = async {
        if arguments.gates.gate {
            stack.put_gates(arguments.gates.gate_nodes.into()).await?;
        }
        let wanted = Wanted { fifo: !arguments.standard_queue, ..Wanted::default() };
        let ready = prepare(&stack, &wanted, &arguments.account).await?;
        if !arguments.no_worker {
            working = Some(start_worker(&stack, &ready, stop).await?);
        }
        publish_config(&ready)?;
        if let Some(gates) = &stack.gates {
            gates.inject(&scripts);
        }
        announce(&stack, &ready, arguments.ending.json);
        Err::<ExitCode, CommandError>(stack.ended().await.into())
    };
    let ended = tokio::select! {
        ended = running => ended,
        () = asked => Ok(ExitCode::SUCCESS),
    };
    withdraw_config(&stack.directory);
    remark("Stopping");
    let _ = order.send(true);
    if let Some(working) = working {
        finish(working).await;
    }
    stack.stop().await;
    ended
}

/// Starts a worker in this process; its log is beside those of the servers.
pub async fn start_worker(stack: &LocalStack, ready: &Ready, stop: Stop) -> Result<JoinHandle<()>, CommandError> {
    let observing = observe::start(&ready.config.observe, Logs::File(stack.directory.join("worker.log")))?;
    let session = Session { config: ready.config.clone(), sdk: ready.sdk.clone() };
    let worker = Box::pin(crate::worker::Worker::new(session, Stage::All)).await?;
    Ok(tokio::spawn(async move {
        worker.run(stop).await;
        observing.end().await;
    }))
}

/// Waits for a worker that is stopping, but not longer than a user would.
pub async fn finish(mut working: JoinHandle<()>) {
    if tokio::time::timeout(STOP_TIMEOUT, &mut working).await.is_err() {
        // Its messages become visible again by timeout, and the stack ends too.
        working.abort();
    }
}

/// Installs and starts the servers.
pub async fn start(options: &Options) -> Result<LocalStack, CommandError> {
    Ok(LocalStack::start(&install().await?, options).await?)
}

async fn install() -> Result<Tools, CommandError> {
    blocking(setup::install).await
}

/// Runs an installer on a thread for blocking work.
async fn blocking<T: Send + 'static>(install: fn() -> Result<T, StackError>) -> Result<T, CommandError> {
    let installed = tokio::task::spawn_blocking(install).await;
    Ok(installed.map_err(|error| CommandError::Input(format!("the set-up was interrupted: {error}")))??)
}

async fn install_only(geth: Option<&Path>, as_json: bool) -> Result<ExitCode, CommandError> {
    let tools = install().await?;
    if as_json {
        let mut line = json!({ "directory": tools.directory, "python": tools.python, "anvil": tools.anvil });
        if let Some(geth) = geth {
            line["geth"] = json!(geth);
        }
        say_json(&line);
    } else {
        say(format!("The local stack is installed in {}", tools.directory.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Creates queues, tables, topic and keys, funds the accounts, and writes the files that a worker reads.
pub async fn prepare(stack: &LocalStack, wanted: &Wanted, names: &[String]) -> Result<Ready, CommandError> {
    let step = Step::begin("creating queues, tables, topic and keys");
    let prepared = Box::pin(prepare_quietly(stack, wanted, names)).await;
    step.end(prepared.is_ok());
    prepared
}

async fn prepare_quietly(stack: &LocalStack, wanted: &Wanted, names: &[String]) -> Result<Ready, CommandError> {
    let target = Target { endpoint: Some(stack.aws_endpoint.clone()), region: Some(LOOPBACK_REGION.to_owned()) };
    let sdk = aws::connect(&target).await;
    let resources = provision::make(&sdk, wanted).await?;
    let mut accounts = Vec::with_capacity(names.len());
    for name in names {
        let account = make_account(&sdk, &wanted.prefix, name).await?;
        if let Err(error) = stack.fund(&account.address, FUNDS_WEI).await {
            remark(format!("{}\n  {} has no funds; send it some", error_chain(&error), account.address));
        }
        accounts.push(account);
    }
    let policy_file = stack.directory.join("policy.toml");
    write(&policy_file, &policy(names))?;
    let seal_key = stack.directory.join("seal.key");
    write_seal_key(&seal_key)?;
    let config = config(stack, &resources, policy_file, seal_key, stack.rpc.chain_id().await?);
    let config_file = stack.directory.join("signpost.toml");
    write(&config_file, &config.to_toml())?;
    register_all(&Session { config: config.clone(), sdk: sdk.clone() }, &accounts).await?;
    Ok(Ready { resources, accounts, config, config_file, sdk })
}

async fn register_all(session: &Session, accounts: &[Account]) -> Result<(), CommandError> {
    let (store, keys, chain) = (ports::store(session), ports::keys(session), ports::chain(session)?);
    for account in accounts {
        let chain_id = ChainId(session.config.chain.chain_id);
        let asked = Asked { name: &account.name, key: &account.kms_key_id, chain_id };
        register(&store, &keys, &chain, asked, First::WhenSettled).await?;
    }
    Ok(())
}

/// Creates the key of an account, and derives its address.
async fn make_account(sdk: &SdkConfig, prefix: &str, name: &str) -> Result<Account, CommandError> {
    let kms_key_id = provision::key(sdk, &format!("{prefix}-{name}")).await?;
    let answer = aws_sdk_kms::Client::new(sdk).get_public_key().key_id(&kms_key_id).send().await;
    let failed = |reason| CommandError::Aws { operation: "GetPublicKey", reason };
    let der = answer
        .map_err(|error| failed(aws::reason(&error)))?
        .public_key
        .ok_or_else(|| failed("the answer has no key".to_owned()))?;
    let key = PublicKey::from_spki(der.as_ref()).map_err(|error| failed(error.to_string()))?;
    Ok(Account { name: name.to_owned(), kms_key_id, address: key.address().to_string() })
}

/// An example policy that allows everything but one recipient.
fn policy(names: &[String]) -> String {
    let places = names.iter().map(|name| format!("account.{name}")).chain(["default".to_owned()]);
    let rules = places.map(|place| {
        format!(
            "\n[{place}]\nmax_gas_price_wei = \"3000000000\"\ngas_price_wei = \"100000000\"\n\
             allow_creation = true\ndeny_to = [\"{DENIED}\"]\n"
        )
    });
    let title = "# The rules of the local stack's accounts. A worker reads them when it starts.\n".to_owned();
    let members: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let pool = format!("\n[pool.{POOL}]\naccounts = [{}]\n", members.join(", "));
    std::iter::once(title).chain(rules).chain([pool]).collect()
}

/// The pool of all accounts of the local stack at its start.
pub const POOL: &str = "all";

/// The recipient that the local policy denies, to show a refusal.
pub const DENIED: &str = "0x000000000000000000000000000000000000dead";

fn config(stack: &LocalStack, made: &Resources, policy_file: PathBuf, seal_key: PathBuf, chain_id: u64) -> Config {
    Config {
        region: Some(LOOPBACK_REGION.to_owned()),
        endpoint: Some(stack.aws_endpoint.clone()),
        chain: Chain {
            chain_id,
            rpc_urls: stack.rpc_urls.clone(),
            send_to: SendTo::All,
            fee_floor_wei: FEE_FLOOR_WEI,
            fee_ceiling_wei: None,
            private: None,
            finality: if stack.is_geth { Finality::Confirmations(GETH_CONFIRMATIONS) } else { Finality::Finalized },
            two_verdicts: false,
            explorer_url: None,
        },
        queues: Queues {
            signing_url: made.signing_url.clone(),
            resign_url: made.resign_url.clone(),
            broadcast_url: made.broadcast_url.clone(),
        },
        tables: Tables { requests: made.requests_table.clone(), accounts: made.accounts_table.clone() },
        outcomes_arn: made.outcomes_arn.clone(),
        policy_file,
        seal: Some(SealFrom::File(seal_key)),
        accounts: Some(AccountsFrom::Registry),
        retention_days: RETENTION_DAYS,
        timing: Timing { poll_ms: Some(POLL_MS), ..Timing::default() },
        worker: Worker {
            signer_concurrency: SIGNER_CONCURRENCY,
            broadcaster_concurrency: BROADCASTER_CONCURRENCY,
            visibility_s: VISIBILITY_S,
        },
        observe: Observe::default(),
    }
}

/// Writes a seal key for this stack. An existing one is kept: requests it sealed may still be open.
fn write_seal_key(path: &Path) -> Result<(), CommandError> {
    if path.exists() {
        return Ok(());
    }
    let key = random::hex::<32>()
        .ok_or_else(|| CommandError::Input("the operating system gives no random bytes for a seal key".to_owned()))?;
    write(path, &format!("{key}\n"))
}

fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    std::fs::write(path, text).map_err(|source| CommandError::File { path: path.to_path_buf(), source })
}

/// Writes the configuration where the other commands look for it.
fn publish_config(ready: &Ready) -> Result<(), CommandError> {
    match find::current() {
        Some(current) => write(&current, &ready.config.to_toml()),
        None => Ok(()),
    }
}

/// Removes it, unless another stack has replaced it.
fn withdraw_config(directory: &Path) {
    let Some(current) = find::current() else { return };
    let ours = Config::load(&current).is_ok_and(|config| config.policy_file.starts_with(directory));
    if ours {
        let _ = std::fs::remove_file(current);
    }
}

fn announce(stack: &LocalStack, ready: &Ready, as_json: bool) {
    let made = &ready.resources;
    if as_json {
        let accounts = ready.accounts.iter().map(|account| json!({ "name": account.name, "address": account.address }));
        let mut line = json!({
            "awsEndpoint": stack.aws_endpoint,
            "region": LOOPBACK_REGION,
            "signingQueueUrl": made.signing_url,
            "requestsTable": made.requests_table,
            "accountsTable": made.accounts_table,
            "outcomeTopicArn": made.outcomes_arn,
            "rpcUrl": stack.rpc_urls.first(),
            "configFile": ready.config_file,
            "accounts": accounts.collect::<Vec<_>>(),
        });
        if let Some(gates) = &stack.gates {
            line["gate"] = gates.shown();
        }
        say_json(&line);
        return;
    }
    say("\nReady. Ctrl-C stops everything.\n");
    let lines = [
        ("AWS endpoint", stack.aws_endpoint.as_str()),
        ("region", LOOPBACK_REGION),
        ("signing queue", &made.signing_url),
        ("requests table", &made.requests_table),
        ("accounts table", &made.accounts_table),
        ("outcome topic", &made.outcomes_arn),
        ("chain", &stack.rpc_urls.join(" ")),
        ("chain id", &ready.config.chain.chain_id.to_string()),
        ("configuration", &ready.config_file.display().to_string()),
        ("logs in", &stack.directory.display().to_string()),
    ];
    for (name, value) in lines {
        say(format!("  {name:<16}{value}"));
    }
    for account in &ready.accounts {
        say(format!("  {:<16}{} {}", "account", account.address, account.name));
    }
    say("\nIn another terminal:");
    say(format!("  export AWS_ENDPOINT_URL={} AWS_REGION={LOOPBACK_REGION}", stack.aws_endpoint));
    say("  export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test");
    let us = std::env::args().next().unwrap_or_else(|| "signpost".to_owned());
    say(format!("  {us} submit --id first --to 0x00000000000000000000000000000000000000aa --value 1 --gas 21000"));
    say(format!("  {us} status first --watch"));
}

#[cfg(test)]
mod tests {
    use signpost_txmgr::policy::Policies;

    #[test]
    fn local_policy_covers_accounts_registered_later() {
        let policies = Policies::from_toml(&super::policy(&["hot".to_owned(), "cold".to_owned()])).unwrap();
        for name in ["hot", "cold", "registered-later"] {
            assert!(policies.of(&name.parse().unwrap()).is_ok(), "{name}");
        }
    }
}
