//! Starts the two servers of the local stack on loopback and in their own directory, and waits until they answer.
//!
//! The servers differ from the real ones: ministack keeps no data after it stops, and anvil accepts transactions that
//! BSC refuses.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;

use super::gates::Gates;
use super::geth::{self, Geth};
use super::rpc::{Rpc, http_client};
use super::setup::Tools;
use super::supervised::{Server, SupervisedServer};
use super::{StackError, file};
use crate::clock::Stopwatch;
use crate::terminal::Step;

const AWS_PORT: u16 = 4566;
const RPC_PORT: u16 = 8545;
/// A cold start takes less than three seconds on two busy cores; a server that takes a minute hangs.
const READY_WITHIN: Duration = Duration::from_mins(1);
const POLL_EVERY: Duration = Duration::from_millis(50);
/// Another program may take a free port between our check and the server's bind; three times is not a coincidence.
const PORT_TRIES: u32 = 3;
/// How many old runs are kept, for their logs.
const OLD_RUNS_KEPT: usize = 5;

/// Starts ministack with logging of each KMS signature, so that signatures are counted by the emulator and not by us.
const MINISTACK: &str =
    "import logging; logging.getLogger('kms').setLevel(logging.DEBUG); from ministack.app import main; main()";
/// The beginning of that log line.
const SIGNED: &str = "Signed ";

/// What to start, and where.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Port of ministack; if `None`, 4566 or a free port.
    pub aws_port: Option<u16>,
    /// Port of the chain; if `None`, 8545 or a free port.
    pub rpc_port: Option<u16>,
    /// A running node to use instead of starting one.
    pub rpc_url: Option<String>,
    /// The geth program to start instead of anvil.
    pub geth: Option<PathBuf>,
}

/// The running servers. They end when this value is dropped, and with this program.
#[derive(Debug)]
pub struct LocalStack {
    /// Directory of this run: logs and whatever the servers write.
    pub directory: PathBuf,
    /// The endpoint of all AWS services for clients.
    pub aws_endpoint: String,
    /// The URLs of the nodes for clients.
    pub rpc_urls: Vec<String>,
    /// The node itself, without a gate.
    pub rpc: Rpc,
    /// The gates in front of both servers, if any.
    pub gates: Option<Gates>,
    /// Whether the node is a geth that was started here.
    pub is_geth: bool,
    ministack: SupervisedServer,
    node: Option<SupervisedServer>,
    /// A lock held while the servers run; it marks the directory as in use.
    _in_use: File,
}

impl LocalStack {
    /// Starts ministack and the node in parallel, and waits until both answer.
    pub async fn start(tools: &Tools, options: &Options) -> Result<Self, StackError> {
        let http = http_client()?;
        // Only one stack starts at a time on a machine: two could select the same free port, and one could count as
        // ready because the server of the other answers.
        let waited = tokio::task::spawn_blocking(turn_to_start).await;
        let _turn = waited.map_err(|error| StackError::Start { name: "the stack", source: error.into() })?;
        let (directory, in_use) = run_directory(&tools.directory)?;
        let node = if options.geth.is_some() { "geth" } else { "anvil" };
        let aws = async {
            start_on_port("ministack", "--aws-port", AWS_PORT, options.aws_port, async |port| {
                let server = ministack(tools, &directory, port)?;
                let log = server.log().to_path_buf();
                // An answer is not enough: our own server must have the port.
                let ours = format!("Running on http://127.0.0.1:{port}");
                let is_ours = || fs::read_to_string(&log).is_ok_and(|log| log.contains(&ours));
                let health = format!("http://127.0.0.1:{port}/_ministack/health");
                await_ready(server, async || is_ours() && get(&http, &health).await).await
            })
            .await
        };
        let rpc = async {
            if let Some(url) = &options.rpc_url {
                let rpc = Rpc { http: http.clone(), url: url.clone() };
                rpc.call("eth_blockNumber", json!([])).await.map(|_| (None, rpc))
            } else {
                let at = |port| Rpc { http: http.clone(), url: format!("http://127.0.0.1:{port}") };
                start_on_port(node, "--rpc-port", RPC_PORT, options.rpc_port, async |port| {
                    let server = match &options.geth {
                        Some(program) => Geth::default().start(program, &directory, port)?,
                        None => anvil(tools, &directory, port)?,
                    };
                    let rpc = at(port);
                    await_ready(server, async || match options.geth {
                        Some(_) => geth::is_ready(&rpc).await,
                        None => rpc.call("eth_blockNumber", json!([])).await.is_ok(),
                    })
                    .await
                })
                .await
                .map(|(server, port)| (Some(server), at(port)))
            }
        };
        let progress = Step::begin(&format!("starting ministack and {node}"));
        let started = tokio::try_join!(aws, rpc);
        progress.end(started.is_ok());
        let ((ministack, aws_port), (node, rpc)) = started?;
        let is_geth = options.geth.is_some();
        let aws_endpoint = format!("http://127.0.0.1:{aws_port}");
        let rpc_urls = vec![rpc.url().to_owned()];
        Ok(Self { directory, aws_endpoint, rpc_urls, rpc, gates: None, is_geth, ministack, node, _in_use: in_use })
    }

    /// Puts gates in front of both servers, with `nodes` nodes. From now on the endpoints are those of the gates.
    pub async fn put_gates(&mut self, nodes: usize) -> Result<(), StackError> {
        let gates = Gates::start(&self.aws_endpoint, self.rpc.url(), self.rpc.chain_id().await?, nodes).await?;
        self.aws_endpoint = gates.aws_endpoint();
        self.rpc_urls = gates.rpc_urls();
        self.gates = Some(gates);
        Ok(())
    }

    /// Stops both servers and waits until they are gone.
    pub async fn stop(self) {
        let node = async {
            if let Some(node) = self.node {
                node.stop().await;
            }
        };
        tokio::join!(self.ministack.stop(), node);
    }

    /// Waits until a server ends by itself, and returns which one.
    pub async fn ended(&mut self) -> StackError {
        let name = if let Some(node) = &mut self.node {
            tokio::select! {
                () = self.ministack.wait() => self.ministack.name(),
                () = node.wait() => node.name(),
            }
        } else {
            self.ministack.wait().await;
            self.ministack.name()
        };
        let log = self.directory.join(format!("{name}.log"));
        StackError::NotReady { name, what: "ended unexpectedly".to_owned(), log }
    }

    /// Funds an account with `wei` (a 0x-hex number): by `anvil_setBalance`, or with a transfer from geth's unlocked
    /// account, which takes a block.
    pub async fn fund(&self, address: &str, wei: &str) -> Result<(), StackError> {
        if !self.is_geth {
            return self.rpc.call("anvil_setBalance", json!([address, wei])).await.map(|_| ());
        }
        let sent = json!([geth::transfer(address, wei)]);
        let hash = self.rpc.call("eth_sendTransaction", sent).await?;
        let waiting = Stopwatch::start();
        while self.rpc.call("eth_getTransactionReceipt", json!([hash])).await?.is_null() {
            if waiting.elapsed() > READY_WITHIN {
                let reason = format!("{hash} is not mined");
                return Err(StackError::Node { url: self.rpc.url().to_owned(), method: "eth_sendTransaction", reason });
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
        Ok(())
    }

    /// The number of signatures that the emulator's KMS made since it started, from its log.
    pub fn kms_signatures(&self) -> Result<u64, StackError> {
        let log = File::open(self.ministack.log()).map_err(file(self.ministack.log()))?;
        let signed = |line: &String| line.contains("kms") && line.contains(SIGNED);
        let count = BufReader::new(log).lines().map_while(Result::ok).filter(signed).count();
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

fn ministack(tools: &Tools, directory: &Path, port: u16) -> Result<SupervisedServer, StackError> {
    let inside = |name: &str| directory.join(name).display().to_string();
    SupervisedServer::start(Server {
        name: "ministack",
        program: &tools.python,
        arguments: vec!["-c".to_owned(), MINISTACK.to_owned()],
        environment: vec![
            ("BIND_HOST", "127.0.0.1".to_owned()),
            ("IOT_MTLS_ENABLED", "0".to_owned()),
            ("GATEWAY_PORT", port.to_string()),
            ("STATE_DIR", inside("state")),
            ("S3_DATA_DIR", inside("s3")),
            ("TMPDIR", directory.display().to_string()),
            ("PYTHONUNBUFFERED", "1".to_owned()),
        ],
        directory,
    })
}

fn anvil(tools: &Tools, directory: &Path, port: u16) -> Result<SupervisedServer, StackError> {
    let flags = "--host 127.0.0.1 --chain-id 97 --accounts 0 --base-fee 0 --gas-limit 55000000 --hardfork osaka \
        --enable-tx-gas-limit --slots-in-an-epoch 1 --block-time 0.45 --order fees -q";
    let mut arguments: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    arguments.extend(["--port".to_owned(), port.to_string()]);
    arguments.extend(["--cache-path".to_owned(), directory.join("anvil").display().to_string()]);
    SupervisedServer::start(Server { name: "anvil", program: &tools.anvil, arguments, environment: vec![], directory })
}

/// Starts a server on the requested port, or on its usual port, or on a free port.
async fn start_on_port(
    name: &'static str,
    option: &'static str,
    usual: u16,
    asked: Option<u16>,
    start: impl AsyncFn(u16) -> Result<SupervisedServer, StackError>,
) -> Result<(SupervisedServer, u16), StackError> {
    if let Some(port) = asked {
        if !is_free(port) {
            return Err(StackError::PortTaken { name, port, option });
        }
        return start(port).await.map(|server| (server, port));
    }
    let mut port = if is_free(usual) { usual } else { any_free(name)? };
    for _ in 1..PORT_TRIES {
        match start(port).await {
            Ok(server) => return Ok((server, port)),
            Err(StackError::NotReady { .. }) => port = any_free(name)?,
            Err(other) => return Err(other),
        }
    }
    start(port).await.map(|server| (server, port))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn any_free(name: &'static str) -> Result<u16, StackError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|source| StackError::Start { name, source })?;
    listener.local_addr().map(|address| address.port()).map_err(|source| StackError::Start { name, source })
}

/// Polls until the server answers, ends, or exceeds its time.
pub async fn await_ready(
    mut server: SupervisedServer,
    ask: impl AsyncFn() -> bool,
) -> Result<SupervisedServer, StackError> {
    let waiting = Stopwatch::start();
    loop {
        if let Some(status) = server.ended() {
            let what = format!("did not start ({status})");
            return Err(StackError::NotReady { name: server.name(), what, log: server.log().to_path_buf() });
        }
        if ask().await {
            return Ok(server);
        }
        if waiting.elapsed() > READY_WITHIN {
            let what = format!("did not answer within {} s", READY_WITHIN.as_secs());
            let (name, log) = (server.name(), server.log().to_path_buf());
            server.stop().await;
            return Err(StackError::NotReady { name, what, log });
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

async fn get(http: &reqwest::Client, url: &str) -> bool {
    http.get(url).send().await.is_ok_and(|response| response.status().is_success())
}

/// Waits for the lock to start servers, which is held as long as the file. If the file cannot be opened, starts are not
/// serialised.
fn turn_to_start() -> Option<File> {
    let path = std::env::temp_dir().join("signpost-start.lock");
    // The file of another user can be opened for reading, which is enough to lock it.
    let turn = File::options().create(true).append(true).open(&path).or_else(|_| File::open(&path)).ok()?;
    turn.lock().ok()?;
    Some(turn)
}

/// Creates the directory of this run, under the lock of [`LocalStack::start`], and removes directories of old runs.
fn run_directory(stack: &Path) -> Result<(PathBuf, File), StackError> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    remove_old_runs(stack);
    let count = RUNS.fetch_add(1, Ordering::Relaxed);
    let directory = stack.join(format!("run-{}-{count}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).map_err(file(&directory))?;
    let marker = directory.join("in-use");
    let in_use = File::create(&marker).map_err(file(&marker))?;
    in_use.try_lock().map_err(|error| StackError::File { path: marker, source: error.into() })?;
    Ok((directory, in_use))
}

/// Removes directories of old runs; ignores errors.
fn remove_old_runs(stack: &Path) {
    let Ok(entries) = fs::read_dir(stack) else {
        return;
    };
    let mut ended: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("run-"))
        .filter(|entry| File::open(entry.path().join("in-use")).map_or(true, |marker| marker.try_lock().is_ok()))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    ended.sort();
    let excess = ended.len().saturating_sub(OLD_RUNS_KEPT);
    for (_, directory) in ended.into_iter().take(excess) {
        let _ = fs::remove_dir_all(directory);
    }
}
