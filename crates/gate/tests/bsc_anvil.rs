//! The BSC gate in front of a real anvil, which each test starts for itself. Blocks are mined only by the test.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "test code")]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use signpost_cli::stack::setup;
use signpost_cli::stack::supervised::{Server, SupervisedServer};
use signpost_gate::bsc::{BscFault, BscGate, BscGateConfig, Limits};
use signpost_gate::script::Rule;
use signpost_txmgr::units::Wei;
use support::{Ask, CHAIN, FLOOR, Rpc, address, ask, bytes, dynamic, forged, legacy, number};

const FLAGS: &str = "--host 127.0.0.1 --chain-id 97 --accounts 0 --base-fee 0 --gas-limit 55000000 --hardfork osaka \
    --enable-tx-gas-limit --slots-in-an-epoch 1 --no-mining --order fees -q";

/// anvil with a funded account, and the gate in front of it.
struct Setup {
    gate: BscGate,
    /// A client through the gate.
    rpc: Rpc,
    /// A client of anvil itself.
    anvil: Rpc,
    _process: SupervisedServer,
}

impl Setup {
    async fn start(name: &str, limits: Limits) -> Self {
        let tools = tokio::task::spawn_blocking(setup::install).await.unwrap().unwrap();
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut arguments: Vec<String> = FLAGS.split_whitespace().map(str::to_owned).collect();
        arguments.extend(["--port".to_owned(), free.to_string()]);
        arguments.extend(["--cache-path".to_owned(), directory.join("cache").display().to_string()]);
        let server =
            Server { name: "anvil", program: &tools.anvil, arguments, environment: vec![], directory: &directory };
        let mut process = SupervisedServer::start(server).unwrap();
        let anvil = Rpc::new(&format!("http://127.0.0.1:{free}"));
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while anvil.post(&json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": [] })).await.is_err() {
            assert_eq!(process.ended(), None, "anvil runs");
            looks.tick().await;
        }
        anvil.call("anvil_setBalance", json!([address(0x11).lower(), "0x8ac7230489e80000"])).await;
        let mut config = BscGateConfig::new(&anvil.url, CHAIN);
        config.limits = limits;
        let gate = BscGate::start(config).await.unwrap();
        let rpc = Rpc::new(&gate.url());
        Self { gate, rpc, anvil, _process: process }
    }

    async fn mine(&self, blocks: u64) {
        for _ in 0..blocks {
            self.rpc.call("evm_mine", json!([])).await;
        }
    }

    async fn receipt(&self, ask: &Ask) -> Value {
        self.rpc.call("eth_getTransactionReceipt", json!([ask.signed().hash.to_string()])).await
    }
}

fn refused(message: &str) -> Result<String, (i64, String)> {
    Err((-32000, message.to_owned()))
}

#[tokio::test]
async fn gate_refuses_what_anvil_accepts_and_bsc_does_not() {
    let setup = Setup::start("strict", Limits::of_chain(CHAIN)).await;
    let good = Ask { fee: dynamic(FLOOR + 5, FLOOR + 5), ..ask(0) };
    assert_eq!(setup.rpc.send(&good.raw()).await, Ok(good.signed().hash.to_string()));
    let unprotected = [number(1), number(FLOOR), number(21_000), bytes(&[0x77; 20]), number(1), bytes(&[])];
    let one_wei_more = Ask { fee: dynamic(FLOOR + 6, FLOOR + 6), ..ask(0) };
    for (raw, words) in [
        (ask(1).high_s(), "invalid transaction v, r, s values"),
        (forged(0, &unprotected), "only replay-protected (EIP-155) transactions allowed over RPC"),
        (Ask { chain: 98, fee: legacy(FLOOR), ..ask(1) }.raw(), "invalid chain id for signer: have 98 want 97"),
        (one_wei_more.raw(), "replacement transaction underpriced"),
        (format!("{}00", ask(1).raw()), "rlp: input contains more than one value"),
        (
            Ask { fee: dynamic(1, 1), ..ask(1) }.raw(),
            "transaction gas price below minimum: gas tip cap 1, minimum needed 100000000",
        ),
        (
            Ask { data: vec![1; 1_000], gas: 37_010, ..ask(1) }.raw(),
            "insufficient gas for floor data gas cost: gas 37010, minimum needed 61000",
        ),
    ] {
        assert_eq!(setup.rpc.send(&raw).await, refused(words));
    }
    assert_eq!(setup.anvil.call("txpool_status", json!([])).await["pending"], "0x1");
    assert_eq!(setup.rpc.send(&good.raw()).await, refused("already known"));
    setup.mine(1).await;
    assert_eq!(setup.receipt(&good).await["status"], "0x1");
    assert_eq!(setup.rpc.send(&good.raw()).await, refused("nonce too low: next nonce 1, tx nonce 0"));
    let bumped = Ask { fee: dynamic(2 * FLOOR, 2 * FLOOR), ..ask(1) };
    assert!(setup.rpc.send(&ask(1).raw()).await.is_ok());
    assert!(setup.rpc.send(&bumped.raw()).await.is_ok());
    setup.mine(1).await;
    assert_eq!(setup.receipt(&bumped).await["status"], "0x1");
    assert_eq!(setup.receipt(&ask(1)).await, Value::Null);
}

#[tokio::test]
async fn orphans_return_to_the_pool_after_a_reorg() {
    let setup = Setup::start("reorg", Limits::of_chain(CHAIN)).await;
    setup.mine(3).await;
    assert_eq!(setup.gate.look_for_reorg().await.unwrap(), 0);
    for nonce in 0..2 {
        assert!(setup.rpc.send(&ask(nonce).raw()).await.is_ok());
        setup.mine(1).await;
    }
    assert!(setup.rpc.send(&ask(2).raw()).await.is_ok(), "pending during the reorg");
    assert_eq!(setup.gate.look_for_reorg().await.unwrap(), 0);
    setup.anvil.call("anvil_reorg", json!([2, []])).await;
    assert_eq!(setup.receipt(&ask(0)).await, Value::Null);
    // anvil has forgotten two and would drop the third, which cannot be mined yet; a BSC node has all of them.
    assert_eq!(setup.gate.look_for_reorg().await.unwrap(), 3);
    assert_eq!(setup.rpc.send(&ask(1).raw()).await, refused("already known"));
    setup.mine(1).await;
    for nonce in 0..3 {
        assert_eq!(setup.receipt(&ask(nonce)).await["status"], "0x1", "{nonce}");
    }
    assert_eq!(setup.gate.look_for_reorg().await.unwrap(), 0);
}

#[tokio::test]
async fn lost_transaction_can_be_sent_again() {
    let setup = Setup::start("again", Limits::of_chain(CHAIN)).await;
    setup.mine(3).await;
    assert!(setup.rpc.send(&ask(0).raw()).await.is_ok());
    setup.mine(1).await;
    setup.anvil.call("anvil_reorg", json!([2, []])).await;
    assert!(setup.rpc.send(&ask(0).raw()).await.is_ok(), "the same bytes");
    let hash = ask(0).signed().hash.to_string();
    setup.anvil.call("anvil_dropTransaction", json!([hash])).await;
    assert!(setup.rpc.send(&ask(0).raw()).await.is_ok(), "and again");
    setup.rpc.call("anvil_dropTransaction", json!([hash])).await;
    assert!(setup.rpc.send(&ask(0).raw()).await.is_ok(), "and again");
    setup.mine(1).await;
    assert_eq!(setup.receipt(&ask(0)).await["status"], "0x1");
}

#[tokio::test]
async fn finality_and_milliseconds_match_bsc() {
    let setup = Setup::start("finality", Limits::of_chain(CHAIN)).await;
    setup.mine(5).await;
    let latest = setup.rpc.call("eth_getBlockByNumber", json!(["latest", false])).await;
    assert_eq!(latest["number"], "0x5");
    let seconds = u64::from_str_radix(&latest["timestamp"].as_str().unwrap()[2..], 16).unwrap();
    assert_eq!(latest["milliTimestamp"], format!("{:#x}", seconds * 1_000));
    let header = setup.rpc.call("eth_getFinalizedHeader", json!([-2])).await;
    assert_eq!(header["number"], "0x3");
    let block = setup.rpc.call("eth_getBlockByNumber", json!(["finalized", false])).await;
    assert_eq!(block["hash"], header["hash"]);
    setup.gate.control().set(Rule::new(BscFault::Stale).blocks(2));
    assert_eq!(setup.rpc.call("eth_getFinalizedHeader", json!([-2])).await["number"], "0x1");
    assert_eq!(setup.rpc.call("eth_getBlockByNumber", json!(["latest", false])).await["number"], "0x3");
    let count = json!([address(0x11).lower(), "latest"]);
    assert_eq!(setup.rpc.call("eth_getTransactionCount", count).await, "0x0");
}

#[tokio::test]
async fn nothing_is_mined_below_the_validators_price() {
    let setup = Setup::start("market", Limits::of_chain(CHAIN)).await;
    for nonce in 0..2 {
        assert!(setup.rpc.send(&ask(nonce).raw()).await.is_ok());
    }
    setup.gate.set_mining_floor(Wei::from(3 * FLOOR)).await.unwrap();
    setup.mine(2).await;
    assert_eq!(setup.receipt(&ask(0)).await, Value::Null);
    let hash = ask(0).signed().hash.to_string();
    assert_eq!(setup.rpc.call("eth_getTransactionByHash", json!([hash])).await["blockNumber"], Value::Null);
    let dear = Ask { fee: dynamic(3 * FLOOR, 3 * FLOOR), ..ask(0) };
    assert!(setup.rpc.send(&dear.raw()).await.is_ok());
    setup.mine(1).await;
    assert_eq!(setup.receipt(&dear).await["status"], "0x1");
    assert_eq!(setup.receipt(&ask(1)).await, Value::Null, "next to be mined, but too cheap");
    setup.gate.set_mining_floor(Wei::from(FLOOR)).await.unwrap();
    setup.mine(1).await;
    assert_eq!(setup.receipt(&ask(1)).await["status"], "0x1");
    assert_eq!(setup.gate.pool().await.unwrap(), json!({ "miningFloorWei": "100000000", "pooled": 0, "held": 0 }));
}

#[tokio::test]
async fn account_queue_is_limited_and_drops_silently() {
    let setup = Setup::start("queue", Limits { account_queue: 2, ..Limits::of_chain(CHAIN) }).await;
    for nonce in [5, 6, 7, 1] {
        assert!(setup.rpc.send(&ask(nonce).raw()).await.is_ok(), "{nonce}");
    }
    let known = async |nonce| {
        let hash = ask(nonce).signed().hash.to_string();
        !setup.rpc.call("eth_getTransactionByHash", json!([hash])).await.is_null()
    };
    let kept = [known(1).await, known(5).await, known(6).await, known(7).await];
    assert_eq!(kept, [true, true, false, false]);
    for nonce in [4, 3, 2, 0] {
        assert!(setup.rpc.send(&ask(nonce).raw()).await.is_ok(), "{nonce}");
    }
    setup.mine(1).await;
    let count = json!([address(0x11).lower(), "latest"]);
    assert_eq!(setup.rpc.call("eth_getTransactionCount", count).await, "0x3", "0 to 2: 3, 4 and 5 were dropped");
}

#[tokio::test]
async fn revert_keeps_its_data() {
    let setup = Setup::start("revert-data", Limits::of_chain(CHAIN)).await;
    // Init code that reverts with the word 42.
    let call = json!([{ "from": address(0x11).lower(), "data": "0x602a60005260206000fd" }, "latest"]);
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": call });
    let mut errors = Vec::new();
    for rpc in [&setup.rpc, &setup.anvil] {
        let answer: Value = rpc.post(&body).await.unwrap().json().await.unwrap();
        errors.push(answer["error"].clone());
    }
    assert_eq!(errors[0]["data"], json!(format!("0x{:064x}", 42)));
    assert_eq!(errors[0], errors[1], "the node's error is unchanged");
}
