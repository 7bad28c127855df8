//! Runs geth as a chain like BSC's, where anvil is too lenient: BSC's node is based on geth, so geth's pool has the
//! rules, error messages and order of a real one. Built with Go from its pinned source, only on request.
//!
//! Blocks are produced every full second, or only by `testing_commitBlockV1`. Differences from BSC: one producer, forks
//! only by `debug_setHead`, `finalized` at multiples of 32 blocks, signature errors that begin with `invalid sender: `,
//! and no BSC methods. The gate in front adds the other rules of BSC.
//!
//! **Guarantees:** listens on loopback and connects to no peer. Does not guarantee that a chain survives a killed geth:
//! it returns to the state that was written.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use super::rpc::Rpc;
use super::setup::{at_least, lock, output, run};
use super::supervised::{Server, SupervisedServer};
use super::{StackError, file, place};
use crate::terminal;

/// The newest version on Go's module proxy of the line on which BSC v1.8 is based (geth v1.17.3).
const VERSION: &str = "1.17.10";
/// The digest of that source as in `go.sum`. Go records in the program what it was built from.
const SOURCE: &str = "h1:b3WO+xux3pItpm13kqT5Xddv01zOxBFZxQgk/Ate4/M=";
/// The Go version that its `go.mod` requires.
const GO: (u32, u32) = (1, 25);
const GO_HINT: &str = "Go 1.25 or newer, which geth is built with (`dev --node geth`, `cargo verify --real`)";

/// The chain id of Chapel.
pub const CHAIN_ID: u64 = 97;
/// The account that geth unlocks in every development chain; its key is public.
const DEVELOPER: &str = "0x71562b71999873db5b286df957af199ec94617f7";
/// More than any test needs: 2^200 wei.
const DEVELOPER_WEI: &str = "0x100000000000000000000000000000000000000000000000000";
/// Twice BSC's 55 million: the base fee stays zero below half of the limit.
const BLOCK_GAS: u64 = 110_000_000;
/// The lowest price that BSC's validators accept on Chapel.
const MINED_FROM_WEI: u64 = 100_000_000;
/// A block period of a year, for chains whose blocks are made by hand.
pub const BY_HAND: u32 = 31_536_000;

/// The configuration of a geth. The pool limits are those of BSC's nodes.
#[derive(Debug, Clone)]
pub struct Geth {
    /// Seconds between blocks.
    pub period_s: u32,
    /// The lowest tip that the pool accepts, in wei.
    pub taken_from_wei: u64,
    /// The lowest tip that is mined, in wei. A transaction between the two is accepted and stuck, as on BSC.
    pub mined_from_wei: u64,
    /// The limit of executable transactions of all accounts. 200 are guaranteed for each account.
    pub global_slots: u32,
    /// The limit of transactions of all accounts that wait behind a nonce gap.
    pub global_queue: u32,
    /// Whether transactions sent here are "local": kept in a journal, put back if the pool lost them, and reported as
    /// accepted even if the pool was full.
    pub locals: bool,
    /// Accounts in the genesis block besides geth's own.
    pub accounts: Vec<Begin>,
}

/// An account in the genesis block.
#[derive(Debug, Clone)]
pub struct Begin {
    /// Its address, 0x-hex.
    pub address: String,
    /// Wei, 0x-hex.
    pub balance: String,
    /// Its transaction count.
    pub nonce: u64,
    /// Code, 0x-hex, if it has any.
    pub code: Option<String>,
}

impl Default for Geth {
    /// A block every second; the pool of a BSC node, and the price of Chapel's validators.
    fn default() -> Self {
        Self {
            period_s: 1,
            taken_from_wei: 1,
            mined_from_wei: MINED_FROM_WEI,
            global_slots: 8_000,
            global_queue: 4_000,
            locals: false,
            accounts: Vec::new(),
        }
    }
}

impl Geth {
    /// Starts geth on the chain in `directory`, which is created if it is missing.
    pub fn start(&self, program: &Path, directory: &Path, port: u16) -> Result<SupervisedServer, StackError> {
        let (data, made) = (directory.join("geth"), directory.join("genesis.json"));
        if !made.exists() {
            self.make_chain(program, directory, &data, &made)?;
        }
        let mut arguments: Vec<String> = FLAGS.split_whitespace().map(str::to_owned).collect();
        let mut flag = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        flag("datadir", data.display().to_string());
        flag("http.port", port.to_string());
        flag("dev.period", self.period_s.to_string());
        flag("networkid", CHAIN_ID.to_string());
        flag("miner.gaslimit", BLOCK_GAS.to_string());
        flag("miner.gasprice", self.mined_from_wei.to_string());
        flag("txpool.pricelimit", self.taken_from_wei.to_string());
        flag("txpool.globalslots", self.global_slots.to_string());
        flag("txpool.globalqueue", self.global_queue.to_string());
        if !self.locals {
            arguments.push("--txpool.nolocals".to_owned());
        }
        SupervisedServer::start(Server { name: "geth", program, arguments, environment: vec![], directory })
    }

    /// Runs `geth init`, which creates the chain with its genesis block. Without it, geth would create its own.
    fn make_chain(&self, program: &Path, directory: &Path, data: &Path, made: &Path) -> Result<(), StackError> {
        let log = directory.join("geth-init.log");
        let failed = |reason: String| StackError::Install { what: "geth init", reason, log: log.clone() };
        let dumped = Command::new(program).args(["--dev", "dumpgenesis"]).stdin(Stdio::null()).output();
        let dumped = dumped.map_err(|error| failed(error.to_string()))?;
        let plain: Value = serde_json::from_slice(&dumped.stdout).map_err(|error| failed(error.to_string()))?;
        let genesis = directory.join("genesis.new");
        fs::write(&genesis, self.genesis(plain).to_string()).map_err(file(&genesis))?;
        let out = File::create(&log).map_err(file(&log))?;
        let err = out.try_clone().map_err(file(&log))?;
        let status = Command::new(program)
            .args(["init", "--datadir"])
            .args([data, &genesis])
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .status()
            .map_err(|error| failed(error.to_string()))?;
        if !status.success() {
            return Err(failed(format!("it ended with {status}")));
        }
        fs::rename(&genesis, made).map_err(file(made))
    }

    /// geth's development genesis, changed to be like BSC's: chain id, base fee zero up to 55 million gas, Osaka and no
    /// fork that BSC does not have, and balances of our accounts.
    fn genesis(&self, mut genesis: Value) -> Value {
        let config = &mut genesis["config"];
        config["chainId"] = json!(CHAIN_ID);
        for unknown in ["bogotaTime", "amsterdamTime"] {
            config.as_object_mut().map(|config| config.remove(unknown));
        }
        genesis["gasLimit"] = json!(format!("{BLOCK_GAS:#x}"));
        genesis["baseFeePerGas"] = json!("0x0");
        // Keeps geth's own entries: contracts that every block calls.
        let mut alloc = genesis["alloc"].as_object().cloned().unwrap_or_default();
        alloc.insert(DEVELOPER.to_owned(), json!({ "balance": DEVELOPER_WEI }));
        alloc.extend(self.accounts.iter().map(Begin::entry).collect::<Map<_, _>>());
        genesis["alloc"] = Value::Object(alloc);
        genesis
    }
}

impl Begin {
    fn entry(&self) -> (String, Value) {
        let mut entry = json!({ "balance": self.balance, "nonce": format!("{:#x}", self.nonce) });
        if let Some(code) = &self.code {
            entry["code"] = json!(code);
        }
        (self.address.clone(), entry)
    }
}

/// Whether a started geth has made its first block and finds transactions by hash: at first it answers "transaction
/// indexing is in progress".
pub async fn is_ready(rpc: &Rpc) -> bool {
    let unknown = json!([format!("0x{}", "00".repeat(32))]);
    let height = rpc.call("eth_blockNumber", json!([])).await;
    height.and_then(|height| rpc.number("eth_blockNumber", &height)).is_ok_and(|height| height > 0)
        && rpc.call("eth_getTransactionByHash", unknown).await.is_ok()
}

/// The argument of `eth_sendTransaction` for a transfer from geth's own account.
pub fn transfer(to: &str, wei: &str) -> Value {
    json!({
        "from": DEVELOPER, "to": to, "value": wei, "gas": "0x5208", "gasPrice": format!("{MINED_FROM_WEI:#x}"),
    })
}

/// The flags of every chain. Pool limits and RPC caps are those of BSC.
const FLAGS: &str = "--dev --ipcdisable --cache 256 --txpool.pricebump 10 --txpool.accountslots 200 \
    --txpool.accountqueue 200 --rpc.txfeecap 1 --rpc.txsync.defaulttimeout 5s \
    --rpc.txsync.maxtimeout 10s --http --http.addr 127.0.0.1 --http.api eth,net,web3,txpool,debug,miner,testing";

/// Builds geth if it is missing, with one line of progress, and returns its path.
pub fn install() -> Result<PathBuf, StackError> {
    let home = place::directory()?.join(format!("geth-{VERSION}"));
    let program = home.join("geth");
    if is_ours(&program) {
        return Ok(program);
    }
    find_go()?;
    fs::create_dir_all(&home).map_err(file(&home))?;
    // Not the lock of the set-up: a run that needs only anvil should not wait for minutes.
    let _lock = lock(&home.join("install.lock"))?;
    if is_ours(&program) {
        return Ok(program);
    }
    let package = format!("github.com/ethereum/go-ethereum/cmd/geth@v{VERSION}");
    terminal::step(&format!("building geth {VERSION} with Go, takes minutes"), || {
        let mut go = Command::new("go");
        run(&home, "go install", go.args(["install", "-trimpath", &package]).env("GOBIN", &home))
    })?;
    if is_ours(&program) {
        return Ok(program);
    }
    let reason = format!("{} is not built from the pinned source", program.display());
    Err(StackError::Install { what: "go install", reason, log: home.join("setup.log") })
}

/// Whether the program exists and was built from the pinned source, as Go recorded in it.
fn is_ours(program: &Path) -> bool {
    let found = program.is_file().then(|| output("go", &["version", "-m", &program.display().to_string()])).flatten();
    found.is_some_and(|found| found.lines().any(is_pinned))
}

fn is_pinned(line: &str) -> bool {
    let version = format!("v{VERSION}");
    line.split_whitespace().eq(["mod", "github.com/ethereum/go-ethereum", &version, SOURCE])
}

fn find_go() -> Result<(), StackError> {
    let version = output("go", &["env", "GOVERSION"]).ok_or(StackError::Missing { program: "go", hint: GO_HINT })?;
    let found = version.trim().trim_start_matches("go").to_owned();
    if !at_least(&found, GO) {
        return Err(StackError::TooOld { program: "go", found, hint: GO_HINT });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_identified_by_its_source_digest() {
        let line = format!("\tmod\tgithub.com/ethereum/go-ethereum\tv{VERSION}\t{SOURCE}");
        assert!(is_pinned(&line));
        assert!(!is_pinned(&line.replace("h1:", "h1:x")));
        assert!(!is_pinned(&line.replace("mod", "dep")));
        assert!(!is_ours(Path::new("/no/such/geth")));
    }

    #[test]
    fn genesis_has_bscs_parameters() {
        let begin = Begin { address: "0xaa".into(), balance: "0x5".into(), nonce: 7, code: Some("0xef".into()) };
        let geth = Geth { accounts: vec![begin], ..Geth::default() };
        let plain = json!({
            "config": { "chainId": 1337, "osakaTime": 0, "bogotaTime": 0 },
            "gasLimit": "0x1", "baseFeePerGas": "0x3b9aca00", "alloc": { "2935": { "code": "0x60" } },
        });
        let genesis = geth.genesis(plain);
        assert_eq!(genesis["config"], json!({ "chainId": 97, "osakaTime": 0 }));
        assert_eq!((&genesis["baseFeePerGas"], &genesis["gasLimit"]), (&json!("0x0"), &json!("0x68e7780")));
        let alloc = &genesis["alloc"];
        assert_eq!(alloc["0xaa"], json!({ "balance": "0x5", "nonce": "0x7", "code": "0xef" }));
        assert_eq!(alloc["2935"]["code"], "0x60");
        assert_eq!(alloc[DEVELOPER]["balance"], DEVELOPER_WEI);
    }
}
