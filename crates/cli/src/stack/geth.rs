//! geth as a chain like BSC's, where anvil is too kind: BSC's node is made of geth, so its pool has the rules,
//! the words and the order of a real one. Built from its pinned source, with Go, only where it is asked for.
//!
//! Blocks come every whole second, or only by `testing_commitBlockV1`. What stays unlike BSC: one producer, no forks but
//! by `debug_setHead`, `finalized` at multiples of 32 blocks, signature errors that begin with `invalid sender: `,
//! no BSC calls. The rest of BSC is the gate's, in front.
//!
//! **Guarantees:** listens on loopback and talks to no peer. Does not guarantee that a chain outlives a geth
//! that was killed: it goes back to what it had written.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use super::leash::{Leashed, Server};
use super::rpc::Rpc;
use super::setup::{at_least, lock, output, run};
use super::{StackError, file, place};
use crate::terminal;

/// The newest that Go's module proxy has of the line that BSC v1.8 is made of (geth v1.17.3).
const VERSION: &str = "1.17.10";
/// The digest of that source, as `go.sum` has it. Go writes into the program what it was built of.
const SOURCE: &str = "h1:b3WO+xux3pItpm13kqT5Xddv01zOxBFZxQgk/Ate4/M=";
/// What its `go.mod` asks for.
const GO: (u32, u32) = (1, 25);
const GO_HINT: &str = "Go 1.25 or newer, which geth is built with (`dev --node geth`, `cargo verify --real`)";

/// Chapel.
pub const CHAIN_ID: u64 = 97;
/// The account that geth unlocks in every development chain, by its own published key.
const DEVELOPER: &str = "0x71562b71999873db5b286df957af199ec94617f7";
/// More than anybody asks for: 2^200 wei.
const DEVELOPER_WEI: &str = "0x100000000000000000000000000000000000000000000000000";
/// Twice BSC's 55 million: the base fee follows the half, and stays zero below it.
const BLOCK_GAS: u64 = 110_000_000;
/// What BSC's validators ask for on Chapel.
const MINED_FROM_WEI: u64 = 100_000_000;
/// A chain whose blocks are made by hand: the next would come in a year.
pub const BY_HAND: u32 = 31_536_000;

/// How a geth is run. The numbers of the pool are those of BSC's nodes.
#[derive(Debug, Clone)]
pub struct Geth {
    /// Seconds between blocks.
    pub period_s: u32,
    /// Least tip the pool takes, wei.
    pub taken_from_wei: u64,
    /// Least tip that is mined, wei. What is cheaper and taken is stuck, as on BSC.
    pub mined_from_wei: u64,
    /// Executable transactions of all accounts. An account has 200 of them for sure.
    pub global_slots: u32,
    /// Transactions of all accounts that wait for a gap to be filled.
    pub global_queue: u32,
    /// Whether what is sent here is "local": kept in a journal, put back when the pool lost it, and said to be
    /// taken even where the pool was full.
    pub locals: bool,
    /// Accounts that the chain begins with besides geth's own.
    pub accounts: Vec<Begin>,
}

/// What an account begins with.
#[derive(Debug, Clone)]
pub struct Begin {
    /// Its address, 0x-hex.
    pub address: String,
    /// Wei, 0x-hex.
    pub balance: String,
    /// Transactions it has made.
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
    /// Starts it on the chain in `directory`, which is made if there is none yet.
    pub fn start(&self, program: &Path, directory: &Path, port: u16) -> Result<Leashed, StackError> {
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
        Leashed::start(Server { name: "geth", program, arguments, environment: vec![], directory })
    }

    /// `geth init`: a chain of this configuration, with its first block. A geth without one would make its own.
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

    /// geth's own development chain, made like BSC's: its chain id, base fee zero, room for 55 million gas before
    /// there is another, Osaka and no fork that BSC has not, money for our accounts.
    fn genesis(&self, mut genesis: Value) -> Value {
        let config = &mut genesis["config"];
        config["chainId"] = json!(CHAIN_ID);
        for unknown in ["bogotaTime", "amsterdamTime"] {
            config.as_object_mut().map(|config| config.remove(unknown));
        }
        genesis["gasLimit"] = json!(format!("{BLOCK_GAS:#x}"));
        genesis["baseFeePerGas"] = json!("0x0");
        // What it has by itself stays: contracts that a block calls.
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

/// Whether a geth that was started has made its first block, which it does by itself, and finds transactions by
/// their hash: for a moment it answers "transaction indexing is in progress".
pub async fn is_ready(rpc: &Rpc) -> bool {
    let nobodys = json!([format!("0x{}", "00".repeat(32))]);
    let height = rpc.call("eth_blockNumber", json!([])).await;
    height.and_then(|height| rpc.number("eth_blockNumber", &height)).is_ok_and(|height| height > 0)
        && rpc.call("eth_getTransactionByHash", nobodys).await.is_ok()
}

/// What `eth_sendTransaction` is told, so that an account gets this much from geth's own.
pub fn transfer(to: &str, wei: &str) -> Value {
    json!({
        "from": DEVELOPER, "to": to, "value": wei, "gas": "0x5208", "gasPrice": format!("{MINED_FROM_WEI:#x}"),
    })
}

/// What holds for every chain. The pool's limits and the RPC's caps are BSC's where they are not geth's, too.
const FLAGS: &str = "--dev --ipcdisable --cache 256 --txpool.pricebump 10 --txpool.accountslots 200 \
    --txpool.accountqueue 200 --rpc.txfeecap 1 --rpc.txsync.defaulttimeout 5s \
    --rpc.txsync.maxtimeout 10s --http --http.addr 127.0.0.1 --http.api eth,net,web3,txpool,debug,miner,testing";

/// Builds geth if it is not there yet, with one line of progress, and says where it is.
pub fn install() -> Result<PathBuf, StackError> {
    let home = place::directory()?.join(format!("geth-{VERSION}"));
    let program = home.join("geth");
    if is_ours(&program) {
        return Ok(program);
    }
    find_go()?;
    fs::create_dir_all(&home).map_err(file(&home))?;
    // Not the set-up's lock: whoever wants anvil need not wait for minutes.
    let _lock = lock(&home.join("install.lock"))?;
    if is_ours(&program) {
        return Ok(program);
    }
    let package = format!("github.com/ethereum/go-ethereum/cmd/geth@v{VERSION}");
    terminal::step(&format!("building geth {VERSION} with Go, some minutes"), || {
        let mut go = Command::new("go");
        run(&home, "go install", go.args(["install", "-trimpath", &package]).env("GOBIN", &home))
    })?;
    if is_ours(&program) {
        return Ok(program);
    }
    let reason = format!("{} is not built of the source that is pinned", program.display());
    Err(StackError::Install { what: "go install", reason, log: home.join("setup.log") })
}

/// Whether a program is there, built of the pinned source: Go has that written into it.
fn is_ours(program: &Path) -> bool {
    let told = program.is_file().then(|| output("go", &["version", "-m", &program.display().to_string()])).flatten();
    told.is_some_and(|told| told.lines().any(is_pinned))
}

fn is_pinned(line: &str) -> bool {
    let version = format!("v{VERSION}");
    line.split_whitespace().eq(["mod", "github.com/ethereum/go-ethereum", &version, SOURCE])
}

fn find_go() -> Result<(), StackError> {
    let told = output("go", &["env", "GOVERSION"]).ok_or(StackError::Missing { program: "go", hint: GO_HINT })?;
    let found = told.trim().trim_start_matches("go").to_owned();
    if !at_least(&found, GO) {
        return Err(StackError::TooOld { program: "go", found, hint: GO_HINT });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_known_by_the_source_it_was_built_of() {
        let line = format!("\tmod\tgithub.com/ethereum/go-ethereum\tv{VERSION}\t{SOURCE}");
        assert!(is_pinned(&line));
        assert!(!is_pinned(&line.replace("h1:", "h1:x")));
        assert!(!is_pinned(&line.replace("mod", "dep")));
        assert!(!is_ours(Path::new("/no/such/geth")));
    }

    #[test]
    fn the_chain_is_made_like_bscs() {
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
