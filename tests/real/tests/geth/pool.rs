//! What geth's pool accepts, keeps and refuses, and the texts of its refusals.

use serde_json::{Value, json};
use signpost_cli::stack::geth::Geth;
use signpost_txmgr::header;

use crate::node::{Node, RICH, begin, by_hand, number, plain, priced, refused, wei};
use crate::support::{Ask, FLOOR, address, ask, dynamic, legacy};

const UNDERPRICED: &str = "replacement transaction underpriced";
const GAS: u64 = 21_000;

#[tokio::test]
async fn chain_has_the_parameters_of_bsc() {
    let node = Node::start("chain", by_hand()).await;
    assert_eq!(node.rpc.call("eth_chainId", json!([])).await, "0x61");
    assert_eq!(node.rpc.call("net_version", json!([])).await, "97");
    assert_eq!(node.rpc.call("eth_gasPrice", json!([])).await, format!("{FLOOR:#x}"));
    node.take(&plain(1, 0)).await;
    node.mine().await;
    let latest = node.rpc.call("eth_getBlockByNumber", json!(["latest", false])).await;
    assert_eq!((&latest["baseFeePerGas"], &latest["gasLimit"]), (&json!("0x0"), &json!("0x68e7780")));
    assert_eq!(node.receipt(&plain(1, 0)).await["effectiveGasPrice"], format!("{FLOOR:#x}"));
}

/// Evidence relies on this: the header that the node returns has the hash that the node returns.
#[tokio::test]
async fn a_blocks_hash_follows_from_its_header() {
    let node = Node::start("header", by_hand()).await;
    node.take(&plain(1, 0)).await;
    node.mine().await;
    for tag in ["0x0", "latest"] {
        let block = node.rpc.call("eth_getBlockByNumber", json!([tag, false])).await;
        let header = header::of_block(&block).unwrap();
        assert_eq!(header::hash(&header).unwrap().to_string(), header[header::HASH], "{block}");
    }
}

#[tokio::test]
async fn a_replacement_needs_ten_percent_in_both_fields_rounded_down() {
    let node = Node::start("replacement", by_hand()).await;
    let base = 10 * FLOOR + 5;
    let enough = base * 110 / 100;
    assert!(!(base * 110).is_multiple_of(100), "there is something to round");
    // The second one is not executable yet. The rule is the same.
    for (key, nonce) in [(1, 0), (2, 7)] {
        let with = |cap, tip| Ask { key, fee: dynamic(cap, tip), ..ask(nonce) };
        node.take(&with(base, base)).await;
        for (cap, tip) in [
            (base, base - 1),
            (base + 1, base + 1),
            (enough - 1, enough - 1),
            (enough, base + 1),
            (enough, enough - 1),
            (2 * base, base),
        ] {
            assert_eq!(node.send(&with(cap, tip)).await, refused(UNDERPRICED), "{cap} {tip}");
        }
        node.take(&with(enough, enough)).await;
        assert!(!node.knows(&with(base, base)).await, "the replaced one is gone at once");
        assert_eq!(node.send(&with(base, base)).await, refused(UNDERPRICED), "and too low-priced to come back");
        // A legacy price counts for both fields.
        let next = enough * 110 / 100;
        let old_style = |price| Ask { key, fee: legacy(price), ..ask(nonce) };
        assert_eq!(node.send(&old_style(next - 1)).await, refused(UNDERPRICED));
        node.take(&old_style(next)).await;
    }
    node.until_pooled(1, 1).await;
}

#[tokio::test]
async fn below_pool_price_is_refused_below_miner_price_is_stuck() {
    let geth = Geth { taken_from_wei: 1_000, ..by_hand() };
    let node = Node::start("price", geth).await;
    let words = "transaction gas price below minimum: gas tip cap 999, minimum needed 1000";
    assert_eq!(node.send(&priced(1, 0, 999)).await, refused(words));
    // The tip decides.
    assert_eq!(node.send(&Ask { key: 1, fee: dynamic(FLOOR, 999), ..ask(0) }).await, refused(words));
    let cheap = priced(1, 0, FLOOR - 1);
    node.take(&cheap).await;
    node.mine().await;
    assert_eq!((node.receipt(&cheap).await, node.pooled().await), (Value::Null, (1, 0)), "accepted, and stuck");
    let higher = priced(1, 0, 2 * FLOOR);
    node.take(&higher).await;
    node.mine().await;
    assert_eq!(node.receipt(&higher).await["status"], "0x1");
    // Validators may want less one day.
    node.take(&priced(1, 1, FLOOR - 1)).await;
    node.rpc.call("miner_setGasPrice", json!(["0x1"])).await;
    node.mine().await;
    assert_eq!(node.receipt(&priced(1, 1, FLOOR - 1)).await["status"], "0x1");
}

#[tokio::test]
async fn the_same_bytes_are_already_known_and_then_too_low() {
    let node = Node::start("again", by_hand()).await;
    for nonce in [0, 5] {
        node.take(&plain(1, nonce)).await;
        assert_eq!(node.send(&plain(1, nonce)).await, refused("already known"), "{nonce}");
    }
    node.mine().await;
    assert_eq!(node.send(&plain(1, 0)).await, refused("nonce too low: next nonce 1, tx nonce 0"));
    assert_eq!(node.send(&plain(1, 5)).await, refused("already known"), "it still waits");
}

#[tokio::test]
async fn a_gap_waits_and_is_executable_once_it_is_filled() {
    let node = Node::start("gap", by_hand()).await;
    for nonce in [2, 1, 4] {
        node.take(&plain(1, nonce)).await;
    }
    node.until_pooled(0, 3).await;
    node.mine().await;
    assert_eq!((node.count(1, "latest").await, node.count(1, "pending").await), (0, 0));
    node.take(&plain(1, 0)).await;
    node.until_pooled(3, 1).await;
    assert_eq!(node.count(1, "pending").await, 3);
    node.mine().await;
    node.until_pooled(0, 1).await;
    assert_eq!(node.count(1, "latest").await, 3);
    node.take(&plain(1, u64::MAX - 1)).await;
    assert_eq!(node.send(&plain(1, u64::MAX)).await, refused("nonce has max value"));
}

#[tokio::test]
async fn two_hundred_slots_are_guaranteed_and_more_if_free() {
    let node = Node::start("slots", Geth { global_slots: 210, ..by_hand() }).await;
    for nonce in 0..205 {
        node.take(&plain(1, nonce)).await;
    }
    node.until_pooled(205, 0).await;
    // Beyond the total limit, accounts with more than 200 lose their highest nonces without an error.
    for nonce in 0..8 {
        node.take(&plain(2, nonce)).await;
    }
    node.until_pooled(210, 0).await;
    let (kept, lost) = (node.knows(&plain(1, 201)).await, node.knows(&plain(1, 204)).await);
    assert!(kept && !lost, "the highest goes first");
    assert_eq!((node.count(1, "pending").await, node.count(2, "pending").await), (202, 8));
    for nonce in 8..20 {
        node.take(&plain(2, nonce)).await;
    }
    node.until("200 are left of the account with most", async || node.count(1, "pending").await == 200).await;
    assert_eq!(node.count(2, "pending").await, 20, "an account with few loses none, even past the limit");
}

#[tokio::test]
async fn beyond_200_queued_the_highest_nonce_is_dropped_silently() {
    let node = Node::start("queue", by_hand()).await;
    for nonce in 1..=200 {
        node.take(&plain(1, nonce)).await;
    }
    node.until_pooled(0, 200).await;
    node.take(&plain(1, 201)).await;
    node.until("the one too many is gone", async || !node.knows(&plain(1, 201)).await).await;
    assert_eq!(node.pooled().await, (0, 200));
    // With the gap filled all are executable, and the queue is empty again.
    node.take(&plain(1, 0)).await;
    node.until_pooled(201, 0).await;
    // A lower one pushes the highest out.
    for nonce in 2..=201 {
        node.take(&plain(2, nonce)).await;
    }
    node.take(&plain(2, 1)).await;
    node.until("the highest is gone", async || !node.knows(&plain(2, 201)).await).await;
    assert!(node.knows(&plain(2, 1)).await && node.knows(&plain(2, 200)).await);
}

#[tokio::test]
async fn a_full_pool_refuses_the_cheapest_and_drops_the_cheapest() {
    let full = |locals| Geth { global_slots: 8, global_queue: 4, locals, ..by_hand() };
    let node = Node::start("full", full(false)).await;
    for key in 1..=12 {
        node.take(&priced(key, 0, FLOOR + u64::from(key))).await;
    }
    assert_eq!(node.send(&priced(20, 0, FLOOR)).await, refused("transaction underpriced"));
    node.take(&priced(21, 0, 2 * FLOOR)).await;
    assert!(!node.knows(&priced(1, 0, FLOOR + 1)).await, "the lowest-priced one makes room without a message");
    let gapped = "future transaction tries to replace pending";
    assert_eq!(node.send(&priced(22, 3, 2 * FLOOR)).await, refused(gapped));

    // Where sent transactions are "local", a refusal for lack of room is answered as a success: a hash proves nothing.
    let node = Node::start("full-locals", full(true)).await;
    for key in 1..=12 {
        node.take(&priced(key, 0, FLOOR + u64::from(key))).await;
    }
    node.take(&priced(20, 0, FLOOR)).await;
    node.take(&priced(22, 3, 2 * FLOOR)).await;
    assert!(!node.knows(&priced(20, 0, FLOOR)).await && !node.knows(&priced(22, 3, 2 * FLOOR)).await);
    // What would not be accepted later either is still refused, and has still displaced the lowest-priced one.
    assert_eq!(node.send(&priced(12, 0, FLOOR + 13)).await, refused(UNDERPRICED));
    assert!(!node.knows(&priced(1, 0, FLOOR + 1)).await);
}

#[tokio::test]
async fn funds_must_cover_all_executable_transactions() {
    let value = GAS * FLOOR;
    let cost = GAS * FLOOR + value;
    let balance = 2 * cost + 5;
    let node = Node::start("funds", Geth { accounts: vec![begin(1, balance)], ..by_hand() }).await;
    let one = |nonce, price| Ask { value: wei(value), ..priced(1, nonce, price) };
    let words = "insufficient funds for gas * price + value";

    let higher = Ask { value: wei(balance), ..plain(1, 0) };
    let (alone, overshot) = (balance + GAS * FLOOR, GAS * FLOOR);
    assert_eq!(
        node.send(&higher).await,
        refused(&format!("{words}: balance {balance}, tx cost {alone}, overshot {overshot}"))
    );
    // Transactions behind a gap do not count yet.
    for nonce in [0, 7, 1] {
        node.take(&one(nonce, FLOOR)).await;
    }
    node.until_pooled(2, 1).await;
    let stacked =
        format!("{words}: balance {balance}, queued cost {}, tx cost {cost}, overshot {}", 2 * cost, cost - 5);
    for nonce in [2, 8] {
        assert_eq!(node.send(&one(nonce, FLOOR)).await, refused(&stacked), "{nonce}");
    }
    let bumped = GAS * FLOOR;
    let bump =
        format!("{words}: balance {balance}, queued cost {}, tx bumped {bumped}, overshot {}", 2 * cost, bumped - 5);
    assert_eq!(node.send(&one(1, 2 * FLOOR)).await, refused(&bump));
    // Funds are checked before the price of a replacement.
    let cheaper = format!("{words}: balance {balance}, queued cost {}, tx bumped 6, overshot 1", 2 * cost);
    assert_eq!(node.send(&Ask { value: wei(value + 6), ..plain(1, 1) }).await, refused(&cheaper));
    assert_eq!(node.send(&Ask { value: wei(value + 5), ..plain(1, 1) }).await, refused(UNDERPRICED));
    // A cancel costs less than an original whose value exceeds the cost of the bump.
    let cancel = Ask { to: Some(address(1)), value: wei(1), ..priced(1, 1, FLOOR + FLOOR / 10) };
    node.mine_only(&[&one(0, FLOOR)]).await;
    node.until_pooled(1, 1).await;
    node.take(&cancel).await;
}

#[tokio::test]
async fn either_the_cancel_or_its_original_is_mined() {
    let node = Node::start("cancel", by_hand()).await;
    let cancel = |key, price| Ask { to: Some(address(key)), value: wei(1), ..priced(key, 0, price) };
    let (original, higher) = (plain(1, 0), cancel(1, 2 * FLOOR));

    // The cancel is in time.
    node.take(&original).await;
    node.take(&higher).await;
    assert_eq!(node.send(&original).await, refused(UNDERPRICED));
    node.mine().await;
    assert_eq!(node.receipt(&higher).await["status"], "0x1");
    assert_eq!(node.receipt(&original).await, Value::Null);
    assert_eq!(node.send(&original).await, refused("nonce too low: next nonce 1, tx nonce 0"));

    // The cancel is too late.
    let (original, late) = (plain(2, 0), cancel(2, 2 * FLOOR));
    node.take(&original).await;
    node.mine().await;
    assert_eq!(node.send(&late).await, refused("nonce too low: next nonce 1, tx nonce 0"));
    assert_eq!(node.receipt(&original).await["status"], "0x1");

    // The pool has the cancel, and the producer had the original: the cancel disappears without an error.
    let (original, lost) = (plain(3, 0), cancel(3, 2 * FLOOR));
    node.take(&original).await;
    node.take(&lost).await;
    node.mine_only(&[&original]).await;
    assert_eq!(node.receipt(&original).await["status"], "0x1");
    assert!(!node.knows(&lost).await);
    assert_eq!(node.send(&lost).await, refused("nonce too low: next nonce 1, tx nonce 0"));
    assert_eq!(node.pooled().await, (0, 0));
}

#[tokio::test]
async fn an_account_with_code_gets_one_in_flight() {
    let delegated = |key| signpost_cli::stack::geth::Begin {
        code: Some(format!("0xef0100{}", "77".repeat(20))),
        ..begin(key, RICH)
    };
    let node = Node::start("delegated", Geth { accounts: vec![delegated(1)], ..by_hand() }).await;
    assert_eq!(node.send(&plain(1, 1)).await, refused("gapped-nonce tx from delegated accounts"));
    node.take(&plain(1, 0)).await;
    node.until_pooled(1, 0).await;
    let words = "in-flight transaction limit reached for delegated accounts";
    assert_eq!(node.send(&plain(1, 1)).await, refused(words));
    node.take(&priced(1, 0, 2 * FLOOR)).await;
}

#[tokio::test]
async fn a_sync_send_waits_for_the_block_or_gives_the_hash() {
    let node = Node::start("sync", by_hand()).await;
    let method = "eth_sendRawTransactionSync";
    let one = plain(1, 0);
    // From v1.17.0 on the timeout is a number. With a hex quantity nothing is sent.
    let wrong = node.rpc.answer(method, json!([one.raw(), "0xc8"])).await;
    assert_eq!(wrong["error"]["code"], -32602, "{wrong}");
    assert!(!node.knows(&one).await);
    let gave_up = node.rpc.answer(method, json!([one.raw(), 200])).await["error"].clone();
    let words = "The transaction was added to the transaction pool but wasn't processed in 200ms";
    let hash = one.signed().hash.to_string();
    assert_eq!(gave_up, json!({ "code": 4, "message": words, "data": hash }));
    let again = node.rpc.answer(method, json!([one.raw()])).await["error"].clone();
    assert_eq!(again, json!({ "code": -32000, "message": "already known" }), "at once");
    let waited = async { node.rpc.call(method, json!([plain(1, 1).raw(), 10_000])).await };
    let mined = async {
        node.until_pooled(2, 0).await;
        node.mine().await;
    };
    let (receipt, ()) = tokio::join!(waited, mined);
    assert_eq!((&receipt["status"], number(&receipt["blockNumber"])), (&json!("0x1"), node.height().await));
}
