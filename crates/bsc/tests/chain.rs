//! The meaning of a node's answers: the view of a round, the search for the use of a nonce, the replay of a
//! revert.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::unnecessary_wraps,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]
#![allow(dead_code, reason = "each test file uses a part of the stub")]

mod common;

use std::sync::Arc;

use common::{ADDRESS, Stub, block, block_hash, chain, error, height, tx};
use serde_json::{Value, json};
use signpost_txmgr::machine::Corroboration;
use signpost_txmgr::machine::ReceiptView;
use signpost_txmgr::ports::{Chain, NonceUse, SlotQuery, UseQuery, ViewQuery};
use signpost_txmgr::record::{BlockRef, Foreign, Receipt, Searched};
use signpost_txmgr::tx::Intent;
use signpost_txmgr::units::{Address, BlockHash, BlockNumber, Gas, Millis, Nonce, TxHash, U256, Wei};

const LATEST: u64 = 100;
const FINALIZED: u64 = 98;

fn block_ref(height: u64) -> BlockRef {
    BlockRef { number: BlockNumber(height), hash: BlockHash(U256::from(height).to_big_endian()) }
}

fn receipt_json(hash: TxHash, at: u64) -> Value {
    json!({
        "transactionHash": hash.to_string(), "from": ADDRESS.lower(), "status": "0x1",
        "blockNumber": format!("0x{at:x}"), "blockHash": block_hash(at), "gasUsed": "0x5208",
        "effectiveGasPrice": "0x3b9aca00", "contractAddress": null, "logs": [],
    })
}

fn receipt(hash: TxHash, at: u64) -> ReceiptView {
    ReceiptView::Found(Receipt {
        tx_hash: hash,
        block: block_ref(at),
        succeeded: true,
        gas_used: Some(Gas(21_000)),
        effective_gas_price: Some(Wei::from_gwei(1)),
        contract: None,
    })
}

/// A node at [`LATEST`] with 10 mined transactions of the account, 8 of them final. `receipts` gives the
/// receipts.
async fn node(receipts: impl Fn(TxHash) -> Result<Value, Value> + Send + Sync + 'static) -> Stub {
    Stub::calls(move |method, params| match (method, params[1].as_str(), params[0].as_str()) {
        ("eth_getTransactionCount", Some("latest"), _) => Ok(json!("0xa")),
        ("eth_getTransactionCount", Some("finalized"), _) => Ok(json!("0x8")),
        ("eth_getBlockByNumber", _, Some("latest")) => Ok(block(LATEST)),
        ("eth_getBlockByNumber", _, Some("finalized")) => Ok(block(FINALIZED)),
        ("eth_getBlockByNumber", _, Some(_)) => Ok(block(height(&params[0]))),
        ("eth_getTransactionReceipt", _, Some(hash)) => receipts(hash.parse().unwrap()),
        ("eth_gasPrice", ..) => Ok(json!("0x5")),
        ("eth_feeHistory", ..) => Ok(json!({"reward": [["0x0", "0x0"], ["0x7", "0x7"]], "gasUsedRatio": [0.1, 1.0], "baseFeePerGas": ["0x0", "0x0", "0x0"]})),
        _ => Err(error(-32601, "the method does not exist/is not available")),
    })
    .await
}

/// Queries for slots: the nonce, the attempts, and the height of the known receipt.
fn query(slots: &[(u64, &[u8], Option<u64>)]) -> ViewQuery {
    let slot = |(nonce, bytes, mined_at): &(u64, &[u8], Option<u64>)| SlotQuery {
        nonce: Nonce(*nonce),
        hashes: bytes.iter().map(|byte| tx(*byte).hash).collect(),
        mined_at: mined_at.map(BlockNumber),
    };
    ViewQuery { address: ADDRESS, slots: slots.iter().map(slot).collect(), latest_seen: Nonce(0), head_waits: false }
}

#[tokio::test]
async fn view_has_heads_counts_and_receipts_of_passed_slots() {
    let stub = node(|hash| Ok(if hash == tx(9).hash { receipt_json(hash, 99) } else { Value::Null })).await;
    let chain = chain(&[&stub]);
    let view = chain.view(&query(&[(8, &[7, 8], Some(95)), (9, &[9], None), (10, &[10], Some(96))])).await.unwrap();
    assert_eq!((view.latest, view.finalized), (block_ref(LATEST), block_ref(FINALIZED)));
    assert_eq!((view.latest_nonce, view.finalized_nonce), (Nonce(10), Nonce(8)));
    assert_eq!(view.receipts, [(Nonce(8), ReceiptView::Absent), (Nonce(9), receipt(tx(9).hash, 99))]);
    assert_eq!(view.canonical, [block_ref(95), block_ref(FINALIZED), block_ref(LATEST)]);
    assert_eq!(view.price, Some(Wei::from(7)));
    // The chain id once, heads and counts, receipts and blocks.
    assert_eq!(stub.requests(), 3);
    // The slot above the count is not asked about.
    assert_eq!(stub.asked_for("eth_getTransactionReceipt"), 3);
}

#[tokio::test]
async fn view_without_slots_is_one_request() {
    let stub = node(|_| Ok(Value::Null)).await;
    let chain = chain(&[&stub]);
    let view = chain.view(&query(&[])).await.unwrap();
    assert!(view.receipts.is_empty() && view.finals.is_empty());
    chain.view(&query(&[(10, &[1], None)])).await.unwrap();
    assert_eq!(stub.requests(), 3);
}

#[tokio::test]
async fn price_is_not_read_in_every_round() {
    let stub = node(|_| Ok(Value::Null)).await;
    let chain = chain(&[&stub]);
    for _ in 0..3 {
        assert_eq!(chain.view(&query(&[])).await.unwrap().price, Some(Wei::from(7)));
    }
    assert_eq!((stub.asked_for("eth_gasPrice"), stub.asked_for("eth_feeHistory")), (1, 1));
}

#[tokio::test]
async fn final_receipt_is_shown_by_one_answer() {
    let stub = node(|hash| Ok(receipt_json(hash, if hash == tx(6).hash { 97 } else { 99 }))).await;
    let chain = chain(&[&stub]);
    let ReceiptView::Found(shown) = receipt(tx(6).hash, 97) else { unreachable!() };
    // When it is first seen, its block is requested, together with all of the evidence.
    let view = chain.view(&query(&[(6, &[6], None), (9, &[9], None)])).await.unwrap();
    assert_eq!(view.finals, [(Nonce(6), shown)]);
    assert_eq!(stub.requests(), 4);
    // Once its height is known, one small batch holds everything: count, final block, receipt and block.
    let view = chain.view(&query(&[(6, &[6], Some(97))])).await.unwrap();
    assert_eq!(view.finals, [(Nonce(6), shown)]);
    assert_eq!(stub.requests(), 6);
    // The count at the final block is not past the nonce: the receipt is not final.
    let view = chain.view(&query(&[(8, &[6], Some(97))])).await.unwrap();
    assert_eq!((view.finals.len(), view.receipts.len()), (0, 1));
}

#[tokio::test]
async fn receipt_outside_canonical_final_blocks_is_not_final() {
    let stub = node(|hash| {
        let mut receipt = receipt_json(hash, if hash == tx(1).hash { 97 } else { 99 });
        receipt["blockHash"] = json!(block_hash(if hash == tx(1).hash { 7_777 } else { 99 }));
        Ok(receipt)
    })
    .await;
    for mined_at in [None, Some(97), Some(99)] {
        for hash in [1, 2] {
            let view = chain(&[&stub]).view(&query(&[(5, &[hash], mined_at)])).await.unwrap();
            assert_eq!(view.finals, [], "{hash} {mined_at:?}");
        }
    }
}

/// A URL that accepts only one call per request: its blocks are linked from the final one down.
#[tokio::test]
async fn without_batches_parent_hashes_show_a_receipt_final() {
    let line = |dead: bool| {
        Stub::raw(move |body| {
            if body.is_array() {
                return common::Reply::Json(
                    json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "batch requests are not allowed"}}),
                );
            }
            common::Reply::Json(common::each(body, &move |method, params| match (method, params[0].as_str()) {
                ("eth_chainId", _) => Ok(json!("0x61")),
                ("eth_getTransactionCount", _) => Ok(json!("0x8")),
                ("eth_getBlockByNumber", Some("latest")) => Ok(block(LATEST)),
                ("eth_getBlockByNumber", Some("finalized")) => Ok(linked(FINALIZED)),
                ("eth_getBlockByHash", Some(hash)) => Ok(linked(height(&json!(hash)))),
                // Another node behind the URL follows a branch that died.
                ("eth_getBlockByNumber", Some(_)) if dead => Ok(json!({"number": "0x5f", "hash": block_hash(9_999)})),
                ("eth_getBlockByNumber", Some(_)) => Ok(block(height(&params[0]))),
                ("eth_getTransactionReceipt", Some(hash)) => {
                    let mut receipt = receipt_json(hash.parse().unwrap(), 95);
                    if dead {
                        receipt["blockHash"] = json!(block_hash(9_999));
                    }
                    Ok(receipt)
                }
                _ => Err(error(-32601, "the method does not exist/is not available")),
            }))
        })
    };
    let (honest, mixed) = (line(false).await, line(true).await);
    let ReceiptView::Found(shown) = receipt(tx(1).hash, 95) else { unreachable!() };
    for mined_at in [None, Some(95)] {
        let view = chain(&[&honest]).view(&query(&[(5, &[1], mined_at)])).await.unwrap();
        assert_eq!(view.finals, [(Nonce(5), shown)], "{mined_at:?}");
        let view = chain(&[&mixed]).view(&query(&[(5, &[1], mined_at)])).await.unwrap();
        assert_eq!(view.finals, [], "{mined_at:?}");
    }
}

/// A block that names its parent.
fn linked(height: u64) -> Value {
    let mut block = block(height);
    block["parentHash"] = json!(block_hash(height - 1));
    block
}

#[tokio::test]
async fn slots_below_the_count_seen_elsewhere_are_queried() {
    let stub = node(|_| Ok(Value::Null)).await;
    let mut query = query(&[(10, &[1], None), (12, &[2], None)]);
    query.latest_seen = Nonce(12);
    let view = chain(&[&stub]).view(&query).await.unwrap();
    assert_eq!(view.receipts, [(Nonce(10), ReceiptView::Absent)]);
}

#[tokio::test]
async fn error_for_a_receipt_is_unknown_not_absent() {
    for message in ["transaction indexing is in progress", "internal error", "missing trie node", "too many requests"] {
        let stub =
            node(move |hash| if hash == tx(1).hash { Err(error(-32000, message)) } else { Ok(Value::Null) }).await;
        let view = chain(&[&stub]).view(&query(&[(5, &[1, 2], None), (6, &[3], None)])).await.unwrap();
        let expected = [(Nonce(5), ReceiptView::Unknown), (Nonce(6), ReceiptView::Absent)];
        assert_eq!(view.receipts, expected, "{message}");
    }
}

#[tokio::test]
async fn found_receipt_counts_despite_errors_for_other_attempts() {
    let stub = node(|hash| {
        if hash == tx(2).hash {
            Ok(receipt_json(hash, 97))
        } else {
            Err(error(-32000, "transaction indexing is in progress"))
        }
    })
    .await;
    let view = chain(&[&stub]).view(&query(&[(5, &[1, 2, 3], None)])).await.unwrap();
    assert_eq!(view.receipts, [(Nonce(5), receipt(tx(2).hash, 97))]);
}

#[tokio::test]
async fn canonical_one_of_two_receipts_counts() {
    let stub = node(|hash| {
        let mut receipt = receipt_json(hash, 97);
        if hash == tx(1).hash {
            receipt["blockHash"] = json!(block_hash(7_777));
        }
        Ok(receipt)
    })
    .await;
    let view = chain(&[&stub]).view(&query(&[(5, &[1, 2], None)])).await.unwrap();
    assert_eq!(view.receipts, [(Nonce(5), receipt(tx(2).hash, 97))]);
}

#[tokio::test]
async fn foreign_or_incomplete_receipt_is_unknown() {
    let spoils: [(&str, Value); 5] = [
        ("transactionHash", json!(tx(9).hash.to_string())),
        ("blockHash", Value::Null),
        ("blockNumber", Value::Null),
        ("status", json!("0x2")),
        ("status", Value::Null),
    ];
    for (field, value) in spoils {
        let of = value.clone();
        let stub = node(move |hash| {
            let mut receipt = receipt_json(hash, 97);
            receipt[field] = of.clone();
            Ok(receipt)
        })
        .await;
        let view = chain(&[&stub]).view(&query(&[(5, &[1], None)])).await.unwrap();
        assert_eq!(view.receipts, [(Nonce(5), ReceiptView::Unknown)], "{field} {value}");
    }
}

#[tokio::test]
async fn display_fields_of_a_receipt_may_be_missing_or_malformed() {
    for field in ["from", "gasUsed", "effectiveGasPrice", "contractAddress", "logs", "to", "type"] {
        for odd in [None, Some(Value::Null), Some(json!("")), Some(json!(21_000)), Some(json!("0x12"))] {
            let of = odd.clone();
            let stub = node(move |hash| {
                let mut receipt = receipt_json(hash, 97);
                match of.clone() {
                    Some(value) => receipt[field] = value,
                    None => drop(receipt.as_object_mut().unwrap().remove(field)),
                }
                Ok(receipt)
            })
            .await;
            let view = chain(&[&stub]).view(&query(&[(5, &[1], None)])).await.unwrap();
            let [(_, receipt)] = view.finals[..] else { panic!("{field} {odd:?}: {view:?}") };
            assert_eq!(receipt.block, block_ref(97));
            let is_plain = odd != Some(json!("0x12"));
            assert!(!is_plain || field != "gasUsed" || receipt.gas_used.is_none(), "{odd:?}");
            assert!(!is_plain || field != "effectiveGasPrice" || receipt.effective_gas_price.is_none(), "{odd:?}");
        }
    }
}

#[tokio::test]
async fn status_and_contract_of_a_receipt_are_read() {
    let stub = node(|hash| {
        let mut receipt = receipt_json(hash, 97);
        receipt["status"] = json!("0x0");
        receipt["contractAddress"] = json!(Address([0xcc; 20]).to_string());
        Ok(receipt)
    })
    .await;
    let view = chain(&[&stub]).view(&query(&[(5, &[1], None)])).await.unwrap();
    let ReceiptView::Found(receipt) = view.receipts[0].1 else { panic!("{view:?}") };
    assert_eq!((receipt.succeeded, receipt.contract), (false, Some(Address([0xcc; 20]))));
}

#[tokio::test]
async fn height_without_an_answer_is_missing_from_the_view() {
    let stub = Stub::calls(|method, params| match (method, params[0].as_str()) {
        ("eth_getTransactionCount", _) => Ok(json!("0x9")),
        ("eth_getTransactionReceipt", _) | ("eth_getBlockByNumber", Some("0x5a")) => Ok(Value::Null),
        ("eth_getBlockByNumber", Some("latest")) => Ok(block(LATEST)),
        ("eth_getBlockByNumber", Some("finalized")) => Ok(block(FINALIZED)),
        // 90: not known; 91: an error; 92: another block than requested.
        ("eth_getBlockByNumber", Some("0x5b")) => Err(error(-32000, "header not found")),
        ("eth_getBlockByNumber", Some("0x5c")) => Ok(block(93)),
        ("eth_getBlockByNumber", Some(_)) => Ok(block(height(&params[0]))),
        _ => Err(error(-32601, "the method does not exist/is not available")),
    })
    .await;
    let view = chain(&[&stub])
        .view(&query(&[
            (0, &[1], Some(90)),
            (1, &[2], Some(91)),
            (2, &[3], Some(92)),
            (3, &[4], Some(94)),
            (4, &[5], Some(94)),
            (9, &[6], Some(95)),
        ]))
        .await
        .unwrap();
    assert_eq!(
        view.canonical,
        [block_ref(94), block_ref(FINALIZED), block_ref(LATEST)],
        "and nothing of slots above the count"
    );
    assert_eq!(view.price, None);
}

#[tokio::test]
async fn view_comes_from_one_endpoint() {
    // The first endpoint gives heads and fails on receipts: none of its answers may be in the view.
    let first = Stub::raw(|body| {
        if body.to_string().contains("eth_getTransactionReceipt") {
            return common::Reply::Http(502, &[], String::new());
        }
        common::Reply::Json(common::each(body, &|method, params| match (method, params[0].as_str()) {
            ("eth_getTransactionCount", _) => Ok(json!("0xff")),
            ("eth_blockNumber", _) => Ok(json!("0x64")),
            _ => Ok(block(LATEST)),
        }))
    })
    .await;
    let second = node(|hash| Ok(receipt_json(hash, 97))).await;
    let view = chain(&[&first, &second]).view(&query(&[(5, &[1, 2], None)])).await.unwrap();
    assert_eq!(view.latest_nonce, Nonce(10));
    assert_eq!(view.receipts, [(Nonce(5), receipt(tx(1).hash, 97))]);
}

#[tokio::test]
async fn many_slots_are_queried_in_small_batches() {
    let stub = node(|hash| Ok(receipt_json(hash, 97))).await;
    let slot = |nonce: u8| SlotQuery {
        nonce: Nonce(nonce.into()),
        hashes: (0..5).map(|at| TxHash([nonce * 5 + at; 32])).collect(),
        mined_at: None,
    };
    let query =
        ViewQuery { address: ADDRESS, slots: (0..10).map(slot).collect(), latest_seen: Nonce(0), head_waits: false };
    let view = chain(&[&stub]).view(&query).await.unwrap();
    for (slot, (nonce, found)) in query.slots.iter().zip(&view.receipts) {
        assert_eq!((slot.nonce, *found), (*nonce, receipt(slot.hashes[0], 97)));
    }
    // The chain id, heads, 17 + 17 + 16 receipts, which leaves room for the evidence; then the evidence.
    assert_eq!(view.finals.len(), 8);
    assert!(stub.requests() <= 10, "{}", stub.requests());
}

/// A node on which the account's count passed nonce 7 in block `at`. Counts below `oldest_state` are missing.
async fn history(at: u64, oldest_state: u64, txs: Value) -> Stub {
    history_final_to(1_000, at, oldest_state, txs).await
}

/// The same, on a node that calls the blocks up to `finalized` final.
async fn history_final_to(finalized: u64, at: u64, oldest_state: u64, txs: Value) -> Stub {
    let txs = Arc::new(txs);
    Stub::calls(move |method, params| match method {
        "eth_getTransactionCount" if params[1] == "finalized" => Ok(json!(if finalized >= at { "0x9" } else { "0x6" })),
        "eth_getTransactionCount" if height(&params[1]) < oldest_state => Err(error(-32000, "missing trie node")),
        "eth_getTransactionCount" => Ok(json!(if height(&params[1]) >= at { "0x9" } else { "0x6" })),
        "eth_getBlockByNumber" if params[0] == "finalized" => Ok(block(finalized)),
        "eth_getBlockByNumber" => {
            let height = height(&params[0]);
            let mut block = block(height);
            if height == at && params[1] == true {
                block["transactions"] = (*txs).clone();
            }
            Ok(block)
        }
        _ => Err(error(-32601, "the method does not exist/is not available")),
    })
    .await
}

fn foreign_txs() -> Value {
    json!([
        {"hash": tx(1).hash.to_string(), "from": Address([1; 20]).lower(), "nonce": "0x7"},
        {"hash": tx(2).hash.to_string(), "from": ADDRESS.lower(), "nonce": "0x6"},
        {"hash": tx(3).hash.to_string(), "from": ADDRESS.to_string(), "nonce": "0x7"},
        {"hash": tx(4).hash.to_string(), "from": ADDRESS.lower(), "nonce": "0x8"},
    ])
}

async fn search(stub: &Stub, finalized: u64, searched: Option<Searched>) -> NonceUse {
    chain(&[stub]).nonce_use(&use_query(finalized, searched)).await.unwrap()
}

fn use_query(finalized: u64, searched: Option<Searched>) -> UseQuery {
    UseQuery {
        address: ADDRESS,
        nonce: Nonce(7),
        own: Vec::new(),
        finalized: BlockNumber(finalized),
        searched,
        now: Millis(0),
    }
}

async fn nonce_use(stub: &Stub, finalized: u64) -> Option<Foreign> {
    match search(stub, finalized, None).await {
        NonceUse::Found(foreign, Corroboration::Alone) => Some(foreign),
        NonceUse::NotFound(_) => None,
        other @ (NonceUse::Found(..) | NonceUse::Ours(..) | NonceUse::Unshown(_)) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn use_of_a_nonce_is_found_in_its_block() {
    for at in [1, 2, 500, 998, 999, 1_000] {
        let stub = history(at, 0, foreign_txs()).await;
        let found = nonce_use(&stub, 1_000).await;
        assert_eq!(found, Some(Foreign { tx_hash: tx(3).hash, block: block_ref(at) }), "{at}");
        assert!(stub.requests() < 26, "{} requests", stub.requests());
    }
}

#[tokio::test]
async fn use_of_a_nonce_is_not_searched_above_finalized_block() {
    let stub = history(1_001, 0, foreign_txs()).await;
    assert_eq!(nonce_use(&stub, 1_000).await, None);
    assert_eq!(stub.asked_for("eth_getBlockByNumber"), 0);
}

#[tokio::test]
async fn use_in_a_block_not_final_on_that_node_is_not_evidence() {
    // Another node calls block 1,000 final; this one follows a fork that died after 998.
    let stub = history_final_to(998, 999, 0, foreign_txs()).await;
    assert_eq!(nonce_use(&stub, 1_000).await, None);
}

#[tokio::test]
async fn blocks_are_read_where_counts_are_missing() {
    let stub = history(880, 900, foreign_txs()).await;
    assert_eq!(nonce_use(&stub, 1_000).await, Some(Foreign { tx_hash: tx(3).hash, block: block_ref(880) }));
}

#[tokio::test]
async fn search_continues_below_the_searched_blocks() {
    // Twenty minutes of blocks, with counts for the newest hundred.
    let stub = history_final_to(10_000, 7_300, 9_900, foreign_txs()).await;
    let mut searched = None;
    for step in 1..=42 {
        let before = stub.asked_for("eth_getBlockByNumber");
        let found = search(&stub, 10_000, searched).await;
        let read = stub.asked_for("eth_getBlockByNumber") - before;
        assert!(read <= 65, "{read} blocks in one call");
        match found {
            NonceUse::Found(foreign, _) => {
                assert_eq!((foreign.tx_hash, foreign.block), (tx(3).hash, block_ref(7_300)));
                // 9,936 down to 7,300, none of them twice, and the finalized one.
                assert!(stub.asked_for("eth_getBlockByNumber") <= 2_637 + 8 + 1);
                return;
            }
            NonceUse::NotFound(so_far) => {
                let oldest = BlockNumber(9_937 - 64 * step);
                assert_eq!(so_far, Some(Searched { newest: BlockNumber(9_936), oldest }));
                searched = so_far;
            }
            other @ (NonceUse::Ours(..) | NonceUse::Unshown(_)) => panic!("{other:?}"),
        }
    }
    panic!("not found");
}

#[tokio::test]
async fn search_stops_at_its_depth_limit_unless_counts_exist() {
    let searched = Some(Searched { newest: BlockNumber(60_000), oldest: BlockNumber(20_001) });
    let pruned = history_final_to(60_100, 100, 59_900, foreign_txs()).await;
    assert_eq!(search(&pruned, 60_100, searched).await, NonceUse::NotFound(searched));
    assert_eq!(pruned.asked_for("eth_getBlockByNumber"), 0);
    let archive = history_final_to(60_100, 100, 0, foreign_txs()).await;
    let found = search(&archive, 60_100, searched).await;
    assert_eq!(found, NonceUse::Found(Foreign { tx_hash: tx(3).hash, block: block_ref(100) }, Corroboration::Alone));
}

#[tokio::test]
async fn count_that_rises_without_a_transaction_proves_nothing() {
    let stub = history(500, 0, json!([])).await;
    assert_eq!(nonce_use(&stub, 1_000).await, None);
    let stub = history(0, 0, json!([])).await;
    assert_eq!(nonce_use(&stub, 1_000).await, None, "an account whose first count is above the nonce");
}

#[tokio::test]
async fn block_of_another_height_is_not_evidence() {
    let stub = Stub::calls(|method, params| {
        if method == "eth_getTransactionCount" {
            return Ok(json!(if params[1] == "finalized" || height(&params[1]) >= 500 { "0x9" } else { "0x6" }));
        }
        let mut block = block(501);
        block["transactions"] = foreign_txs();
        Ok(block)
    })
    .await;
    let chain = chain(&[&stub]);
    chain.nonce_use(&use_query(1_000, None)).await.unwrap_err();
}

fn intent(to: Option<Address>) -> Intent {
    Intent { chain_id: common::CHAIN, to, value: Wei::from(5), data: Arc::from([1, 2]), gas: Gas(50_000) }
}

#[tokio::test]
async fn revert_is_replayed_at_its_block() {
    let stub = Stub::calls(|_, _| Err(json!({"code": 3, "message": "execution reverted", "data": "0xdeadbeef"}))).await;
    let chain = chain(&[&stub]);
    let bytes = chain.revert_bytes(ADDRESS, &intent(Some(Address([2; 20]))), block_ref(97)).await.unwrap();
    assert_eq!(bytes, Some(vec![0xde, 0xad, 0xbe, 0xef]));
    let call = json!({
        "from": ADDRESS.lower(), "to": Address([2; 20]).lower(), "value": "0x5", "data": "0x0102", "gas": "0xc350",
    });
    assert_eq!(stub.asked()[1], ("eth_call".to_owned(), json!([call, "0x61"])));
    chain.revert_bytes(ADDRESS, &intent(None), block_ref(97)).await.unwrap();
    assert!(stub.asked()[2].1[0].get("to").is_none(), "a creation has no recipient");
}

#[tokio::test]
async fn replay_without_revert_data_is_none() {
    let answers = [
        Ok(json!("0x")),
        Err(error(3, "execution reverted")),
        Err(error(-32000, "out of gas")),
        Err(error(-32015, "VM execution error: Reverted")),
    ];
    for answer in answers {
        let of = answer.clone();
        let stub = Stub::calls(move |_, _| of.clone()).await;
        let bytes = chain(&[&stub]).revert_bytes(ADDRESS, &intent(None), block_ref(97)).await.unwrap();
        assert_eq!(bytes, None, "{answer:?}");
    }
}

#[tokio::test]
async fn non_execution_error_fails_a_replay() {
    for (code, words) in
        [(429, "slow down"), (-32603, "internal error"), (-32000, "missing trie node"), (-32000, "header not found")]
    {
        let stub = Stub::calls(move |_, _| Err(error(code, words))).await;
        chain(&[&stub]).revert_bytes(ADDRESS, &intent(None), block_ref(97)).await.expect_err(words);
    }
}

#[tokio::test]
async fn replay_uses_the_next_endpoint_if_state_is_missing() {
    let pruned = Stub::calls(|_, _| Err(error(-32000, "missing trie node"))).await;
    let archive = Stub::calls(|_, _| Err(json!({"code": 3, "message": "execution reverted", "data": "0x01"}))).await;
    let bytes = chain(&[&pruned, &archive]).revert_bytes(ADDRESS, &intent(None), block_ref(97)).await.unwrap();
    assert_eq!(bytes, Some(vec![1]));
}

#[tokio::test]
async fn sender_and_nonce_of_a_known_transaction_are_found() {
    let known = json!({"hash": tx(7).hash.to_string(), "from": ADDRESS.lower(), "nonce": "0x9", "blockNumber": null});
    let stub = Stub::calls(move |method, params| match (method, params[0].as_str()) {
        ("eth_chainId", _) => Ok(json!("0x61")),
        ("eth_getTransactionByHash", Some(hash)) if hash == tx(7).hash.to_string() => Ok(known.clone()),
        ("eth_getTransactionByHash", Some(_)) => Ok(Value::Null),
        _ => Err(error(-32601, "the method does not exist/is not available")),
    })
    .await;
    let chain = chain(&[&stub]);
    assert_eq!(chain.sender_of(tx(7).hash).await.unwrap(), Some((ADDRESS, Nonce(9))));
    assert_eq!(chain.sender_of(tx(8).hash).await.unwrap(), None);
}
