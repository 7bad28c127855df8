//! A second endpoint's word on something final, against servers on loopback (I18).

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]
#![allow(dead_code, reason = "each test file uses a part of the stub")]

mod common;

use std::sync::Arc;

use common::{Stub, block, block_hash, config, error, height, tx};
use serde_json::{Value, json};
use signpost_bsc::{BscChain, BscConfig};
use signpost_txmgr::machine::{Corroboration, ReceiptView};
use signpost_txmgr::ports::{Chain as _, Finality, NonceUse, SlotQuery, UseQuery, ViewQuery, WitnessQuery};
use signpost_txmgr::record::{BlockRef, Foreign, Receipt};
use signpost_txmgr::units::{Address, BlockNumber, Gas, Millis, Nonce, TxHash, Wei};

const ADDRESS: Address = Address([7; 20]);
/// The block of our transaction on an honest node.
const AT: u64 = 97;

/// A node's answers. By default an honest node at block 100, with our transaction of nonce 5 in block 97.
#[derive(Clone)]
struct NodeAnswers {
    latest: u64,
    finalized: u64,
    count: u64,
    /// The receipt, if the node gives one.
    receipt: Option<Value>,
    /// The hash of block 97.
    block_97: String,
    /// The transactions of that block.
    txs: Vec<TxHash>,
    /// Whether it answers `eth_getBlockReceipts`.
    block_receipts: bool,
    /// Whether it lacks the tag `finalized`.
    no_tag: bool,
}

impl Default for NodeAnswers {
    fn default() -> Self {
        let receipt = json!({
            "transactionHash": tx(1).hash.to_string(), "from": ADDRESS.lower(), "status": "0x1",
            "blockNumber": format!("0x{AT:x}"), "blockHash": block_hash(AT), "gasUsed": "0x5208", "effectiveGasPrice": "0x5",
        });
        Self {
            latest: 100,
            finalized: 98,
            count: 6,
            receipt: Some(receipt),
            block_97: block_hash(AT),
            txs: vec![tx(1).hash],
            block_receipts: false,
            no_tag: false,
        }
    }
}

impl NodeAnswers {
    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut answers = Self::default();
        change(&mut answers);
        answers
    }
}

async fn node(answers: NodeAnswers) -> Stub {
    let answers = Arc::new(answers);
    Stub::calls(move |method, params| {
        let block_at = |at: u64, full: bool| {
            let mut block = block(at);
            if at == AT {
                block["hash"] = json!(answers.block_97);
                let one = |hash: &TxHash| {
                    let whole = json!({"hash": hash.to_string(), "from": ADDRESS.lower(), "nonce": "0x5"});
                    if full { whole } else { json!(hash.to_string()) }
                };
                block["transactions"] = answers.txs.iter().map(one).collect();
            }
            block
        };
        match (method, params[0].as_str(), params[1].as_str()) {
            (_, Some("finalized"), _) | (_, _, Some("finalized")) if answers.no_tag => {
                Err(error(-39001, "unknown block"))
            }
            ("eth_blockNumber", ..) => Ok(json!(format!("0x{:x}", answers.latest))),
            ("eth_getTransactionCount", _, Some("latest" | "finalized")) => Ok(json!(format!("0x{:x}", answers.count))),
            ("eth_getTransactionCount", ..) => {
                Ok(json!(if height(&params[1]) >= AT { format!("0x{:x}", answers.count) } else { "0x5".to_owned() }))
            }
            ("eth_getBlockByNumber", Some("latest"), _) => Ok(block_at(answers.latest, false)),
            ("eth_getBlockByNumber", Some("finalized"), _) => Ok(block_at(answers.finalized, false)),
            ("eth_getBlockByNumber", ..) => Ok(block_at(height(&params[0]), params[1] == true)),
            ("eth_getTransactionReceipt", ..) => Ok(answers.receipt.clone().unwrap_or(Value::Null)),
            ("eth_getBlockReceipts", ..) if answers.block_receipts => Ok(json!([NodeAnswers::default().receipt])),
            _ => Err(error(-32601, "the method does not exist/is not available")),
        }
    })
    .await
}

fn at_97(hash: &str) -> BlockRef {
    BlockRef { number: BlockNumber(AT), hash: hash.parse().unwrap() }
}

fn receipt() -> Receipt {
    Receipt {
        tx_hash: tx(1).hash,
        block: at_97(&block_hash(AT)),
        succeeded: true,
        gas_used: Some(Gas(21_000)),
        effective_gas_price: Some(Wei::from(5)),
        contract: None,
    }
}

fn query() -> ViewQuery {
    let slot = SlotQuery { nonce: Nonce(5), hashes: vec![tx(1).hash], mined_at: Some(BlockNumber(AT)) };
    ViewQuery { address: ADDRESS, slots: vec![slot], latest_seen: Nonce(0), head_waits: false }
}

/// The second node's word on what the first node shows.
async fn second(finality: Finality, answers: &[NodeAnswers]) -> Corroboration {
    let mut stubs = Vec::new();
    for one in answers {
        stubs.push(node(one.clone()).await);
    }
    let config = BscConfig { finality, ..config(&stubs.iter().collect::<Vec<_>>()) };
    let chain = BscChain::new(&config).unwrap();
    let view = chain.view(&query()).await.unwrap();
    assert_eq!(view.finals.len(), 1, "{view:?}");
    let asked = WitnessQuery { address: ADDRESS, source: view.source, finals: view.finals, now: Millis(0) };
    let words = chain.witness(&asked).await;
    assert_eq!(words.len(), 1);
    words[0]
}

#[tokio::test]
async fn second_node_agrees_contradicts_or_is_silent() {
    let cases = [
        ("the same", NodeAnswers::default(), Corroboration::Agrees),
        ("it is behind", NodeAnswers::with(|it| it.finalized = 96), Corroboration::Silent),
        (
            "the block is another one",
            NodeAnswers::with(|it| it.block_97 = block_hash(9_999)),
            Corroboration::Contradicts,
        ),
        ("the nonce is not used", NodeAnswers::with(|it| it.count = 5), Corroboration::Contradicts),
        (
            "no receipt, and the transaction is not in the block",
            NodeAnswers::with(|it| (it.receipt, it.txs) = (None, vec![])),
            Corroboration::Contradicts,
        ),
        (
            "no receipt, though the transaction is in the block",
            NodeAnswers::with(|it| it.receipt = None),
            Corroboration::Silent,
        ),
        (
            "no receipt by hash, but among those of its block",
            NodeAnswers::with(|it| (it.receipt, it.block_receipts) = (None, true)),
            Corroboration::Agrees,
        ),
        (
            "it reverted",
            NodeAnswers::with(|it| it.receipt.as_mut().unwrap()["status"] = json!("0x0")),
            Corroboration::Contradicts,
        ),
        (
            "another block's receipt",
            NodeAnswers::with(|it| it.receipt.as_mut().unwrap()["blockHash"] = json!(block_hash(9_999))),
            Corroboration::Contradicts,
        ),
        (
            "a receipt that cannot be read",
            NodeAnswers::with(|it| it.receipt = Some(json!("what?"))),
            Corroboration::Silent,
        ),
        ("no final block", NodeAnswers::with(|it| it.no_tag = true), Corroboration::Silent),
    ];
    for (what, answers, word) in cases {
        assert_eq!(second(Finality::Finalized, &[NodeAnswers::default(), answers]).await, word, "{what}");
    }
    assert_eq!(second(Finality::Finalized, &[NodeAnswers::default()]).await, Corroboration::Alone);
}

/// If two nodes contradict each other, a third one is asked, and the majority counts.
#[tokio::test]
async fn third_node_decides() {
    let other = NodeAnswers::with(|it| it.block_97 = block_hash(9_999));
    let silent = NodeAnswers::with(|it| it.finalized = 90);
    for (others, word) in [
        ([other.clone(), NodeAnswers::default()], Corroboration::Agrees),
        ([other.clone(), other.clone()], Corroboration::Contradicts),
        ([other.clone(), silent.clone()], Corroboration::Contradicts),
        ([silent.clone(), NodeAnswers::default()], Corroboration::Agrees),
        ([silent.clone(), silent], Corroboration::Silent),
    ] {
        let [second_node, third] = others;
        assert_eq!(second(Finality::Finalized, &[NodeAnswers::default(), second_node, third]).await, word);
    }
}

#[tokio::test]
async fn another_node_is_preferred_after_a_contradiction() {
    let liar = node(NodeAnswers::default()).await;
    let honest = node(NodeAnswers::with(|it| (it.count, it.receipt, it.txs) = (5, None, vec![]))).await;
    let chain = common::chain(&[&liar, &honest]);
    let first = chain.view(&query()).await.unwrap();
    let asked = WitnessQuery { address: ADDRESS, source: first.source.clone(), finals: first.finals, now: Millis(0) };
    assert_eq!(chain.witness(&asked).await, [Corroboration::Contradicts]);
    let next = chain.view(&query()).await.unwrap();
    assert_ne!(next.source, first.source);
    assert_eq!((next.latest_nonce, next.finals.len()), (Nonce(5), 0));
}

#[tokio::test]
async fn lagging_node_is_preferred_for_one_view_only() {
    // No new block is final there; or its count is 0, although another node reported the nonce as used.
    for (odd, latest_seen) in
        [(NodeAnswers::with(|it| it.finalized = 70), 0), (NodeAnswers::with(|it| it.count = 0), 6)]
    {
        let (odd, honest) = (node(odd).await, node(NodeAnswers::default()).await);
        let chain = common::chain(&[&odd, &honest]);
        let query = ViewQuery { latest_seen: Nonce(latest_seen), ..query() };
        assert_eq!(chain.view(&query).await.unwrap().finals, []);
        for _ in 0..3 {
            assert_eq!(chain.view(&query).await.unwrap().finals, [(Nonce(5), receipt())]);
        }
    }
    // If all nodes lag, the order stays.
    let all =
        [node(NodeAnswers::with(|it| it.finalized = 70)).await, node(NodeAnswers::with(|it| it.finalized = 70)).await];
    let chain = common::chain(&[&all[0], &all[1]]);
    let mut sources = Vec::new();
    for _ in 0..4 {
        sources.push(chain.view(&query()).await.unwrap().source);
    }
    assert_eq!((&sources[0], sources[1] != sources[0]), (&sources[2], true));
    assert_eq!(sources[2], sources[3]);
}

/// A node without a `finalized` block: finality is counted from the newest block.
#[tokio::test]
async fn confirmations_do_not_need_the_finalized_tag() {
    let lacks = NodeAnswers::with(|it| it.no_tag = true);
    assert_eq!(second(Finality::Confirmations(3), &[lacks.clone(), lacks.clone()]).await, Corroboration::Agrees);
    let stub = node(lacks).await;
    for (confirmations, is_final) in [(0, true), (3, true), (4, false)] {
        let config = BscConfig { finality: Finality::Confirmations(confirmations), ..config(&[&stub]) };
        let view = BscChain::new(&config).unwrap().view(&query()).await.unwrap();
        assert_eq!(view.finals, if is_final { vec![(Nonce(5), receipt())] } else { vec![] }, "{confirmations}");
        assert_eq!(view.finalized.number, BlockNumber(100 - confirmations));
    }
}

#[tokio::test]
async fn node_with_final_block_above_its_newest_is_rejected() {
    let odd = node(NodeAnswers::with(|it| it.finalized = 101)).await;
    let _ = common::chain(&[&odd]).view(&query()).await.unwrap_err();
    let honest = node(NodeAnswers::default()).await;
    let view = common::chain(&[&odd, &honest]).view(&query()).await.unwrap();
    assert_eq!(view.finalized.number, BlockNumber(98));
}

fn use_query(own: &[TxHash]) -> UseQuery {
    UseQuery {
        address: ADDRESS,
        nonce: Nonce(5),
        own: own.to_vec(),
        finalized: BlockNumber(98),
        searched: None,
        now: Millis(0),
    }
}

#[tokio::test]
async fn second_node_is_asked_about_the_use_of_a_nonce() {
    let foreign = || NodeAnswers::with(|it| (it.receipt, it.txs) = (None, vec![tx(8).hash]));
    let used = Foreign { tx_hash: tx(8).hash, block: at_97(&block_hash(AT)) };
    let cases = [
        ("the same", foreign(), Corroboration::Agrees),
        ("it is behind", NodeAnswers { finalized: 90, ..foreign() }, Corroboration::Silent),
        ("it has another block", NodeAnswers { block_97: block_hash(9_999), ..foreign() }, Corroboration::Contradicts),
        ("it has another transaction", NodeAnswers { txs: vec![tx(9).hash], ..foreign() }, Corroboration::Contradicts),
        ("the nonce is not used", NodeAnswers { count: 5, ..foreign() }, Corroboration::Contradicts),
    ];
    for (what, answers, word) in cases {
        let (first, second) = (node(foreign()).await, node(answers).await);
        let found = common::chain(&[&first, &second]).nonce_use(&use_query(&[tx(1).hash])).await.unwrap();
        assert_eq!(found, NonceUse::Found(used, word), "{what}");
    }
    let alone = node(foreign()).await;
    let found = common::chain(&[&alone]).nonce_use(&use_query(&[])).await.unwrap();
    assert_eq!(found, NonceUse::Found(used, Corroboration::Alone));
}

/// If a node gives no receipts, the next one is asked, then the receipts of the block.
#[tokio::test]
async fn own_receipt_is_found_on_any_node_or_by_block() {
    let hides = || NodeAnswers::with(|it| it.receipt = None);
    let own = use_query(&[tx(2).hash, tx(1).hash]);
    let (first, second) = (node(hides()).await, node(NodeAnswers::default()).await);
    let found = common::chain(&[&first, &second]).nonce_use(&own).await.unwrap();
    assert_eq!(found, NonceUse::Ours(receipt(), Corroboration::Silent));
    let by_block = node(NodeAnswers { block_receipts: true, ..hides() }).await;
    let found = common::chain(&[&by_block]).nonce_use(&own).await.unwrap();
    assert_eq!(found, NonceUse::Ours(receipt(), Corroboration::Alone));
    let nowhere = node(hides()).await;
    let found = common::chain(&[&nowhere]).nonce_use(&own).await.unwrap();
    assert_eq!(found, NonceUse::Unshown(Foreign { tx_hash: tx(1).hash, block: at_97(&block_hash(AT)) }));
}

#[tokio::test]
async fn final_count_is_the_lower_of_two() {
    let far = || NodeAnswers::with(|it| it.count = 5_000_000_000_000);
    let (liar, honest) = (node(far()).await, node(NodeAnswers::default()).await);
    assert_eq!(common::chain(&[&liar, &honest]).final_count(ADDRESS).await.unwrap(), (Nonce(6), Corroboration::NotYet));
    assert_eq!(
        common::chain(&[&honest, &honest]).final_count(ADDRESS).await.unwrap(),
        (Nonce(6), Corroboration::Agrees)
    );
    assert_eq!(
        common::chain(&[&liar]).final_count(ADDRESS).await.unwrap(),
        (Nonce(5_000_000_000_000), Corroboration::Alone)
    );
    let away = node(NodeAnswers::with(|it| it.no_tag = true)).await;
    assert_eq!(common::chain(&[&honest, &away]).final_count(ADDRESS).await.unwrap(), (Nonce(6), Corroboration::Silent));
}

/// One URL with two nodes behind it. A is on the canonical branch; B is on a dead branch from block 98, which contains
/// our transaction.
#[tokio::test]
async fn one_url_with_two_branches_shows_nothing_final() {
    let dead = block_hash(0xdead);
    let receipt = {
        let mut receipt = NodeAnswers::default().receipt.unwrap();
        receipt["blockNumber"] = json!("0x62");
        receipt["blockHash"] = json!(dead);
        receipt
    };
    for turn in 0..2 {
        let (dead, receipt) = (dead.clone(), receipt.clone());
        let requests = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let stub = Stub::raw(move |body| {
            // Requests alternate between the two nodes.
            let at = requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let is_b = at % 2 == turn;
            let (dead, receipt) = (dead.clone(), receipt.clone());
            common::Reply::Json(common::each(body, &move |method, params| {
                let (latest, finalized) = if is_b { (98, 96) } else { (100, 98) };
                let at = |at: u64| {
                    let mut block = block(at);
                    if is_b && at == 98 {
                        block["hash"] = json!(dead);
                    }
                    block
                };
                match (method, params[0].as_str(), params[1].as_str()) {
                    ("eth_chainId", ..) => Ok(json!("0x61")),
                    ("eth_getTransactionCount", _, Some("latest")) => Ok(json!("0x6")),
                    ("eth_getTransactionCount", _, Some("finalized")) => Ok(json!("0x5")),
                    ("eth_getBlockByNumber", Some("latest"), _) => Ok(at(latest)),
                    ("eth_getBlockByNumber", Some("finalized"), _) => Ok(at(finalized)),
                    ("eth_getBlockByNumber", ..) => Ok(at(height(&params[0]))),
                    ("eth_getTransactionReceipt", ..) if is_b => Ok(receipt.clone()),
                    ("eth_getTransactionReceipt", ..) => Ok(Value::Null),
                    _ => Err(error(-32601, "the method does not exist/is not available")),
                }
            }))
        })
        .await;
        let chain = common::chain(&[&stub]);
        for mined_at in [None, Some(BlockNumber(98)), Some(BlockNumber(98)), None] {
            let slot = SlotQuery { nonce: Nonce(5), hashes: vec![tx(1).hash], mined_at };
            let query = ViewQuery { address: ADDRESS, slots: vec![slot], latest_seen: Nonce(6), head_waits: false };
            let view = chain.view(&query).await.unwrap();
            assert_eq!(view.finals, [], "{view:?}");
            assert!(view.receipts.iter().all(|(_, it)| *it != ReceiptView::Found(self::receipt())));
        }
    }
}
