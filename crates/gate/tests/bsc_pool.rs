//! The decisions of a BSC pool from the account and its pooled transactions: nonces, funds, replacement, queue limit,
//! delegated accounts. And the gate's view follows the node behind.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "test code")]

mod support;

use serde_json::{Value, json};
use signpost_bsc::classify::classify;
use signpost_gate::bsc::Limits;
use signpost_txmgr::record::SendClass;
use signpost_txmgr::units::Wei;
use support::{Ask, CHAIN, FLOOR, Stub, ask, dynamic, legacy};

fn refused(message: &str) -> Result<String, (i64, String)> {
    Err((-32000, message.to_owned()))
}

fn with_fee(nonce: u64, cap: u64, tip: u64) -> Ask {
    Ask { fee: dynamic(cap, tip), ..ask(nonce) }
}

#[tokio::test]
async fn repeated_send_is_already_known_while_the_node_has_it() {
    let stub = Stub::rich();
    let (_gate, rpc) = stub.gate(|_| {}).await;
    let raw = ask(0).raw();
    assert!(rpc.send(&raw).await.is_ok());
    assert_eq!(rpc.send(&raw).await, refused("already known"));
    assert_eq!(stub.count("eth_sendRawTransaction"), 1);
    // The node dropped it, so it is accepted again.
    stub.say("eth_getTransactionByHash", Value::Null);
    assert!(rpc.send(&raw).await.is_ok());
    assert_eq!(stub.count("eth_sendRawTransaction"), 2);
    // It was mined: it is no longer known, but its nonce is used.
    stub.say("eth_getTransactionCount", json!("0x1"));
    assert_eq!(rpc.send(&raw).await, refused("nonce too low: next nonce 1, tx nonce 0"));
}

#[tokio::test]
async fn used_nonce_is_reported_with_the_next_one() {
    let stub = Stub::rich();
    stub.say("eth_getTransactionCount", json!("0x5"));
    let (_gate, rpc) = stub.gate(|_| {}).await;
    let message = "nonce too low: next nonce 5, tx nonce 4";
    assert_eq!(rpc.send(&ask(4).raw()).await, refused(message));
    assert_eq!(classify(-32000, message), SendClass::NonceTooLow);
    assert!(rpc.send(&ask(5).raw()).await.is_ok());
    assert!(rpc.send(&ask(9).raw()).await.is_ok(), "a gap is accepted");
}

#[tokio::test]
async fn replacement_needs_ten_percent_in_both_fields() {
    let (_gate, rpc) = Stub::rich().gate(|_| {}).await;
    let base = 10 * FLOOR;
    assert!(rpc.send(&with_fee(0, base, base).raw()).await.is_ok());
    let ten_percent = base + base / 10;
    for (cap, tip) in [
        (base, base - 1),
        (base + 1, base + 1),
        (ten_percent - 1, ten_percent - 1),
        (ten_percent, base + 1),
        (ten_percent, ten_percent - 1),
    ] {
        let sent = rpc.send(&with_fee(0, cap, tip).raw()).await;
        assert_eq!(sent, refused("replacement transaction underpriced"), "{cap} {tip}");
    }
    assert!(rpc.send(&with_fee(0, ten_percent, ten_percent).raw()).await.is_ok());
    // The first one has left the pool, and is too cheap to replace the second one.
    assert_eq!(rpc.send(&with_fee(0, base, base).raw()).await, refused("replacement transaction underpriced"));
    // Rounded down, as in the node; a legacy price counts for both fields.
    let odd = Ask { fee: legacy(FLOOR + 5), ..ask(1) };
    assert!(rpc.send(&odd.raw()).await.is_ok());
    let threshold = (FLOOR + 5) * 110 / 100;
    let below = Ask { fee: legacy(threshold - 1), ..ask(1) };
    assert_eq!(rpc.send(&below.raw()).await, refused("replacement transaction underpriced"));
    assert!(rpc.send(&Ask { fee: legacy(threshold), ..ask(1) }.raw()).await.is_ok());
}

#[tokio::test]
async fn balance_must_cover_all_pending_transactions() {
    let stub = Stub::rich();
    let (gas_price, value) = (FLOOR, 1_000_000_000_000_u64);
    let cost = 21_000 * gas_price + value;
    let one = |nonce| Ask { value: Wei::from(value), ..ask(nonce) };
    let balance = 2 * cost + 5;
    stub.say("eth_getBalance", json!(format!("{balance:#x}")));
    let (_gate, rpc) = stub.gate(|_| {}).await;
    let words = "insufficient funds for gas * price + value";

    let dear = Ask { value: Wei::from(balance), ..ask(0) };
    let (alone, overshot) = (balance + 21_000 * gas_price, 21_000 * gas_price);
    let message = format!("{words}: balance {balance}, tx cost {alone}, overshot {overshot}");
    assert_eq!(rpc.send(&dear.raw()).await, refused(&message));
    assert_eq!(classify(-32000, &message), SendClass::Funds);

    // The transaction behind a gap waits in the queue, and does not count yet.
    for nonce in [0, 7, 1] {
        assert!(rpc.send(&one(nonce).raw()).await.is_ok(), "{nonce}");
    }
    let (queued, overshot) = (2 * cost, cost - 5);
    let third = format!("{words}: balance {balance}, queued cost {queued}, tx cost {cost}, overshot {overshot}");
    assert_eq!(rpc.send(&one(2).raw()).await, refused(&third));
    assert!(
        rpc.send(&one(8).raw()).await.is_err(),
        "a transaction behind a gap is checked against the pending ones too"
    );

    let bump = Ask { fee: dynamic(2 * gas_price, 2 * gas_price), ..one(1) };
    let bumped = 21_000 * gas_price;
    let message =
        format!("{words}: balance {balance}, queued cost {queued}, tx bumped {bumped}, overshot {}", bumped - 5);
    assert_eq!(rpc.send(&bump.raw()).await, refused(&message));

    // Once the first is mined, the balance suffices again.
    stub.say("eth_getTransactionCount", json!("0x1"));
    assert!(rpc.send(&one(2).raw()).await.is_ok());
}

#[tokio::test]
async fn full_queue_silently_drops_the_highest_nonce() {
    let stub = Stub::rich();
    let limits = Limits { account_queue: 3, ..Limits::of_chain(CHAIN) };
    assert_eq!(Limits::of_chain(CHAIN).account_queue, 200);
    let (gate, rpc) = stub.gate(|config| config.limits = limits).await;
    for nonce in [10, 11, 12] {
        assert!(rpc.send(&ask(nonce).raw()).await.is_ok());
    }
    let found = async |nonce| {
        let hash = ask(nonce).signed().hash.to_string();
        !rpc.call("eth_getTransactionByHash", json!([hash])).await.is_null()
    };
    stub.say("eth_getTransactionByHash", Value::Null);
    // The highest nonce itself: its hash is returned, but it is dropped.
    assert!(rpc.send(&ask(13).raw()).await.is_ok());
    assert_eq!([found(12).await, found(13).await], [true, false]);
    // A lower nonce drops the highest one.
    assert!(rpc.send(&ask(5).raw()).await.is_ok());
    assert_eq!([found(5).await, found(11).await, found(12).await], [true, true, false]);
    assert_eq!(gate.pool().await.unwrap(), json!({ "miningFloorWei": "0", "pooled": 3, "held": 3 }));
    assert_eq!(stub.count("eth_sendRawTransaction"), 0, "transactions behind a gap wait");
    // Pending transactions do not count.
    for nonce in 0..3 {
        assert!(rpc.send(&ask(nonce).raw()).await.is_ok());
    }
    assert_eq!(gate.pool().await.unwrap(), json!({ "miningFloorWei": "0", "pooled": 6, "held": 3 }));
    for nonce in 3..5 {
        assert!(rpc.send(&ask(nonce).raw()).await.is_ok());
    }
    assert_eq!(stub.last("eth_sendRawTransaction"), json!([ask(5).raw()]), "the gap is filled");
    assert_eq!(stub.count("eth_sendRawTransaction"), 6);
}

#[tokio::test]
async fn account_with_code_has_one_transaction_in_flight() {
    let stub = Stub::rich();
    stub.say("eth_getCode", json!("0xef0100aa"));
    let (_gate, rpc) = stub.gate(|_| {}).await;
    assert_eq!(rpc.send(&ask(1).raw()).await, refused("gapped-nonce tx from delegated accounts"));
    assert!(rpc.send(&ask(0).raw()).await.is_ok());
    let message = "in-flight transaction limit reached for delegated accounts";
    assert_eq!(rpc.send(&ask(1).raw()).await, refused(message));
    assert!(rpc.send(&with_fee(0, 2 * FLOOR, 2 * FLOOR).raw()).await.is_ok(), "it may be replaced");
}

#[tokio::test]
async fn transaction_dropped_by_the_node_blocks_nothing() {
    let stub = Stub::rich();
    let (_gate, rpc) = stub.gate(|_| {}).await;
    assert!(rpc.send(&with_fee(0, 2 * FLOOR, 2 * FLOOR).raw()).await.is_ok());
    assert_eq!(rpc.send(&ask(0).raw()).await, refused("replacement transaction underpriced"));
    stub.say("eth_getTransactionByHash", Value::Null);
    assert!(rpc.send(&ask(0).raw()).await.is_ok());
}

#[tokio::test]
async fn messages_of_the_node_behind_become_those_of_bsc() {
    let stub = Stub::rich();
    let (gate, rpc) = stub.gate(|_| {}).await;
    let balance = "balance 10000000000000000000, tx cost 2100000000001, overshot 0";
    let funds = format!("insufficient funds for gas * price + value: {balance}");
    for (code, anvil, bsc) in [
        (-32003, "nonce too low", (-32000, "nonce too low: next nonce 0, tx nonce 0")),
        (-32003, "replacement transaction underpriced", (-32000, "replacement transaction underpriced")),
        (-32003, "Insufficient funds for gas * price + value", (-32000, funds.as_str())),
        (-32603, "something new", (-32603, "something new")),
        // The node got it around the gate; from now on it is pooled.
        (-32003, "transaction already imported", (-32000, "already known")),
    ] {
        stub.say("eth_sendRawTransaction", json!({ "error": { "code": code, "message": anvil } }));
        assert_eq!(rpc.send(&ask(0).raw()).await, Err((bsc.0, bsc.1.to_owned())), "{anvil}");
        let pooled = usize::from(bsc.1 == "already known");
        assert_eq!(gate.pool().await.unwrap()["pooled"], pooled, "a refused transaction is not pooled");
    }
}

#[tokio::test]
async fn transaction_below_the_validators_price_is_stuck() {
    let stub = Stub::rich();
    let (gate, rpc) = stub.gate(|_| {}).await;
    let history = json!({ "reward": [["0x0", "0x5f5e100"], ["0x77359400"]], "oldestBlock": "0x1" });
    stub.say("eth_feeHistory", history);
    let cheap = ask(0);
    assert!(rpc.send(&cheap.raw()).await.is_ok());
    gate.set_mining_floor(Wei::from(5 * FLOOR)).await.unwrap();
    let hash = cheap.signed().hash.to_string();
    assert_eq!(stub.last("anvil_dropTransaction"), json!([hash]));
    stub.say("eth_getTransactionByHash", Value::Null);
    let found = rpc.call("eth_getTransactionByHash", json!([hash])).await;
    assert_eq!((&found["hash"], &found["blockNumber"], &found["nonce"]), (&json!(hash), &Value::Null, &json!("0x0")));
    assert_eq!(rpc.send(&cheap.raw()).await, refused("already known"));
    let rewards = rpc.call("eth_feeHistory", json!(["0x2", "latest", [50]])).await["reward"].clone();
    assert_eq!(rewards, json!([["0x1dcd6500", "0x1dcd6500"], ["0x77359400"]]));

    // A replacement with a high enough price is forwarded; another cheap one is not.
    assert!(rpc.send(&ask(1).raw()).await.is_ok());
    assert_eq!(stub.count("eth_sendRawTransaction"), 1);
    let dear = with_fee(0, 5 * FLOOR, 5 * FLOOR);
    assert!(rpc.send(&dear.raw()).await.is_ok());
    assert_eq!(stub.last("eth_sendRawTransaction"), json!([dear.raw()]));
    // When the price falls, the other one is forwarded too.
    let body = json!({ "miningFloorWei": "0" });
    let url = format!("{}/_gate/chain", gate.url());
    let shown: Value = rpc.http.post(url).json(&body).send().await.unwrap().json().await.unwrap();
    assert_eq!(shown, json!({ "miningFloorWei": "0", "pooled": 2, "held": 0 }));
    assert_eq!(stub.last("eth_sendRawTransaction"), json!([ask(1).raw()]));
}

#[tokio::test]
async fn nodes_of_one_gate_share_the_pool() {
    let stub = Stub::rich();
    let (gate, first) = stub
        .gate(|config| {
            let address = config.listen[0];
            config.listen.push(address);
        })
        .await;
    let second = support::Rpc::new(&gate.urls()[1]);
    assert!(first.send(&ask(0).raw()).await.is_ok());
    assert_eq!(second.send(&ask(0).raw()).await, refused("already known"));
    assert_eq!(gate.control_of(1).stats().refused["already known"], 1);
    assert_eq!(gate.control_of(0).stats().refused.len(), 0);
}
