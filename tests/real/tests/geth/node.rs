//! A geth for one test, which makes a block on request.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use signpost_cli::stack::geth::{self, BY_HAND, Begin, Geth};
use signpost_cli::stack::supervised::SupervisedServer;
use signpost_cli::stack::{rpc, servers};
use signpost_txmgr::units::{U256, Wei};

use crate::support::{Ask, FLOOR, Rpc, address, ask, dynamic, hexed};

/// Another program may take a free port before the node binds it.
const PORT_TRIES: u32 = 3;
/// Balance of a test's accounts: 10 BNB.
pub(crate) const RICH: u64 = 10_000_000_000_000_000_000;
const DIRECTORY_AGE_MAX: Duration = Duration::from_hours(1);
/// How long geth may take for something that it does in the background, on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(1);

/// An answer to a send: the hash, or the code and text of an error.
pub(crate) type Sent = Result<String, (i64, String)>;

/// A running geth.
pub(crate) struct Node {
    pub(crate) rpc: Rpc,
    geth: Geth,
    program: PathBuf,
    directory: PathBuf,
    process: SupervisedServer,
}

/// An account of a new chain.
pub(crate) fn begin(key: u8, wei: u64) -> Begin {
    Begin { address: address(key).lower(), balance: format!("{wei:#x}"), nonce: 0, code: None }
}

/// A chain with rich accounts, which makes blocks only on request.
pub(crate) fn by_hand() -> Geth {
    Geth { period_s: BY_HAND, accounts: (1..=0x30).map(|key| begin(key, RICH)).collect(), ..Geth::default() }
}

/// An empty directory for this run only: the node of an aborted run may still write into its own. Deletes directories
/// of runs that are over an hour old.
pub(crate) fn fresh_directory(name: &str) -> PathBuf {
    let all = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let is_old = |path: &Path| {
        let age = path.metadata().and_then(|found| found.modified()).map(|at| at.elapsed().unwrap_or_default());
        age.is_ok_and(|age| age > DIRECTORY_AGE_MAX)
    };
    for entry in std::fs::read_dir(&all).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("{name}.")) && is_old(&entry.path()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let directory = all.join(format!("{name}.{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

impl Node {
    /// Starts a node on a chain of its own.
    pub(crate) async fn start(name: &str, geth: Geth) -> Self {
        let program = tokio::task::spawn_blocking(geth::install).await.unwrap().unwrap();
        let directory = fresh_directory(&format!("geth-{name}"));
        let (process, rpc) = run(&geth, &program, &directory).await;
        Self { rpc, geth, program, directory, process }
    }

    /// Ends the node with a signal, and starts it again on the same chain.
    pub(crate) async fn restart(self, signal: &str) -> Self {
        let Self { geth, program, directory, mut process, .. } = self;
        let group = format!("-{}", process.group().unwrap());
        assert!(Command::new("kill").args([signal, "--", &group]).status().unwrap().success());
        process.wait().await;
        let (process, rpc) = run(&geth, &program, &directory).await;
        Self { rpc, geth, program, directory, process }
    }

    pub(crate) async fn send(&self, ask: &Ask) -> Sent {
        self.rpc.send(&ask.raw()).await
    }

    /// Sends a transaction that the node must accept.
    pub(crate) async fn take(&self, ask: &Ask) -> String {
        let hash = self.send(ask).await.unwrap();
        assert_eq!(hash, ask.signed().hash.to_string());
        hash
    }

    /// Makes a block from the pool.
    pub(crate) async fn mine(&self) {
        self.commit(Value::Null).await;
    }

    /// Makes a block of these transactions only.
    pub(crate) async fn mine_only(&self, asks: &[&Ask]) {
        self.commit(asks.iter().map(|ask| ask.raw()).collect()).await;
    }

    async fn commit(&self, transactions: Value) {
        let head = self.rpc.call("eth_getBlockByNumber", json!(["latest", false])).await;
        let attributes = json!({
            "timestamp": format!("{:#x}", number(&head["timestamp"]) + 1),
            "prevRandao": hexed(&[0; 32]),
            "suggestedFeeRecipient": hexed(&[0xfe; 20]),
            "withdrawals": [],
            "parentBeaconBlockRoot": hexed(&[0; 32]),
        });
        self.rpc.call("testing_commitBlockV1", json!([attributes, transactions, null])).await;
        self.until("the pool has followed the chain", async || self.has_followed().await).await;
    }

    /// Whether the pool has processed the newest block, which happens a moment later.
    async fn has_followed(&self) -> bool {
        let block = self.rpc.call("eth_getBlockByNumber", json!(["latest", true])).await;
        for sender in block["transactions"].as_array().unwrap().iter().map(|tx| &tx["from"]) {
            let used = number(&self.rpc.call("eth_getTransactionCount", json!([sender, "latest"])).await);
            let next = number(&self.rpc.call("eth_getTransactionCount", json!([sender, "pending"])).await);
            let pooled = self.rpc.call("txpool_contentFrom", json!([sender])).await;
            let pending = pooled["pending"].as_object().into_iter().flatten();
            let stale = pending.filter(|(nonce, _)| nonce.parse::<u64>().unwrap() < used).count();
            if next < used || stale > 0 {
                return false;
            }
        }
        true
    }

    pub(crate) async fn height(&self) -> u64 {
        number(&self.rpc.call("eth_blockNumber", json!([])).await)
    }

    /// Numbers of executable transactions, and of transactions that wait behind a nonce gap.
    pub(crate) async fn pooled(&self) -> (u64, u64) {
        let status = self.rpc.call("txpool_status", json!([])).await;
        (number(&status["pending"]), number(&status["queued"]))
    }

    /// Waits until the pool has these numbers: it sorts what it accepted a moment later.
    pub(crate) async fn until_pooled(&self, pending: u64, queued: u64) {
        let wanted = (pending, queued);
        let what = format!("{wanted:?} are pooled");
        self.until(&what, async || self.pooled().await == wanted).await;
    }

    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let waiting = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(TIMEOUT, waiting).await.is_ok(), "{what}; the pool is {:?}", self.pooled().await);
    }

    /// Whether the node has a transaction, in its pool or in a block.
    pub(crate) async fn knows(&self, ask: &Ask) -> bool {
        !self.rpc.call("eth_getTransactionByHash", json!([ask.signed().hash.to_string()])).await.is_null()
    }

    pub(crate) async fn receipt(&self, ask: &Ask) -> Value {
        self.rpc.call("eth_getTransactionReceipt", json!([ask.signed().hash.to_string()])).await
    }

    /// An account's transaction count at a block tag.
    pub(crate) async fn count(&self, key: u8, tag: &str) -> u64 {
        number(&self.rpc.call("eth_getTransactionCount", json!([address(key).lower(), tag])).await)
    }
}

/// Starts the node and waits until it answers.
async fn run(geth: &Geth, program: &Path, directory: &Path) -> (SupervisedServer, Rpc) {
    for _ in 0..PORT_TRIES {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}");
        let (process, asked) = (geth.start(program, directory, port).unwrap(), rpc::Rpc::at(&url).unwrap());
        if let Ok(process) = servers::await_ready(process, async || geth::is_ready(&asked).await).await {
            return (process, Rpc::new(&url));
        }
    }
    panic!("geth does not start; its log is in {}", directory.display());
}

pub(crate) fn number(quantity: &Value) -> u64 {
    u64::from_str_radix(quantity.as_str().unwrap().strip_prefix("0x").unwrap(), 16).unwrap()
}

/// A refusal, with the code that all refusals of BSC and geth have.
pub(crate) fn refused(message: &str) -> Sent {
    Err((-32000, message.to_owned()))
}

/// A transfer from an account with this price in both fields.
pub(crate) fn priced(key: u8, nonce: u64, price: u64) -> Ask {
    Ask { key, fee: dynamic(price, price), ..ask(nonce) }
}

/// A plain transfer from an account.
pub(crate) fn plain(key: u8, nonce: u64) -> Ask {
    priced(key, nonce, FLOOR)
}

pub(crate) fn wei(number: u64) -> Wei {
    Wei(U256::from(number))
}
