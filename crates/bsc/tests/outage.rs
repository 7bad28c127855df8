//! Outages of all endpoints: nothing is concluded, rate limits are respected, and the first call after their
//! return succeeds.

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
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use common::{ADDRESS, Reply, Stub, chain, config, each, error, tx};
use serde_json::{Value, json};
use signpost_bsc::BscChain;
use signpost_txmgr::machine::ReceiptView;
use signpost_txmgr::ports::{Chain, SlotQuery, ViewQuery};
use signpost_txmgr::record::SendClass;
use signpost_txmgr::units::{Nonce, Wei};

/// The block interval, which is also the pause between two rounds while no node answers.
const BLOCK: Duration = Duration::from_millis(450);

const UP: u8 = 0;
const DOWN: u8 = 1;
const MUTE: u8 = 2;
const LIMITED: u8 = 3;
const ALWAYS_A_SECOND: u8 = 4;

/// A node that can be taken down and brought back, and that counts its requests.
struct Node {
    stub: Stub,
    state: Arc<AtomicU8>,
}

impl Node {
    async fn new(state: u8) -> Self {
        let state = Arc::new(AtomicU8::new(state));
        let now = Arc::clone(&state);
        let stub = Stub::raw(move |body| match now.load(Ordering::SeqCst) {
            UP => Reply::Json(each(body, &answer)),
            DOWN => Reply::Http(503, &[], "<html>no</html>".to_owned()),
            LIMITED => Reply::Http(429, &[("retry-after", "20")], String::new()),
            ALWAYS_A_SECOND => Reply::Http(429, &[("retry-after", "1")], String::new()),
            _ => Reply::Never,
        })
        .await;
        Self { stub, state }
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }
}

fn answer(method: &str, params: &Value) -> Result<Value, Value> {
    match method {
        "eth_blockNumber" => Ok(json!("0x64")),
        "eth_getBalance" => Ok(json!("0x5")),
        "eth_getTransactionCount" => Ok(json!("0x7")),
        "eth_getBlockByNumber" => Ok(common::block(100)),
        "eth_getTransactionReceipt" => Ok(Value::Null),
        "eth_feeHistory" => Ok(json!({"reward": [["0x7"]]})),
        "eth_sendRawTransaction" => Ok(json!(format!("0x{}", params[0].as_str().unwrap()[2..4].repeat(32)))),
        _ => Err(error(-32601, "the method does not exist/is not available")),
    }
}

/// While this value lives, paused time advances only when a test advances it, however long a socket takes.
fn hold_time() -> std::sync::mpsc::Sender<()> {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || receiver.recv());
    sender
}

/// Makes rounds at the pace of a worker, all of which fail.
async fn failing_rounds(chain: &BscChain, rounds: usize) {
    for round in 0..rounds {
        assert!(chain.balance(ADDRESS).await.is_err(), "{round}");
        tokio::time::advance(BLOCK).await;
    }
}

#[tokio::test(start_paused = true)]
async fn first_round_after_an_outage_succeeds() {
    let _time = hold_time();
    for back in 0..3 {
        let nodes = [Node::new(DOWN).await, Node::new(DOWN).await, Node::new(DOWN).await];
        let chain = chain(&nodes.each_ref().map(|node| &node.stub));
        // Long enough for pauses of 10 s each.
        failing_rounds(&chain, 60).await;
        nodes[back].set(UP);
        assert_eq!(chain.balance(ADDRESS).await.unwrap(), Wei::from(5), "{back}");
        assert_eq!(chain.send(&tx(1)).await.class, SendClass::Accepted, "{back}");
    }
}

#[tokio::test(start_paused = true)]
async fn first_send_after_an_outage_succeeds() {
    let _time = hold_time();
    let nodes = [Node::new(DOWN).await, Node::new(DOWN).await];
    let chain = chain(&nodes.each_ref().map(|node| &node.stub));
    for _ in 0..30 {
        assert_eq!(chain.send(&tx(1)).await.class, SendClass::Retry, "surely not sent");
        tokio::time::advance(BLOCK).await;
    }
    assert_eq!(nodes[0].stub.asked_for("eth_sendRawTransaction"), 0);
    nodes[1].set(UP);
    assert_eq!(chain.send(&tx(1)).await.class, SendClass::Accepted);
}

#[tokio::test(start_paused = true)]
async fn outage_gives_no_view() {
    let _time = hold_time();
    let node = Node::new(UP).await;
    let chain = chain(&[&node.stub]);
    let query = ViewQuery {
        address: ADDRESS,
        slots: vec![SlotQuery { nonce: Nonce(5), hashes: vec![tx(1).hash], mined_at: None }],
        latest_seen: Nonce(7),
        head_waits: false,
    };
    let view = chain.view(&query).await.unwrap();
    assert_eq!((view.receipts, view.price), (vec![(Nonce(5), ReceiptView::Absent)], Some(Wei::from(7))));
    node.set(DOWN);
    for _ in 0..30 {
        chain.view(&query).await.unwrap_err();
        tokio::time::advance(BLOCK).await;
    }
    node.set(UP);
    chain.view(&query).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn rate_limit_is_respected_without_other_endpoints() {
    let _time = hold_time();
    let (limited, down) = (Node::new(LIMITED).await, Node::new(DOWN).await);
    let chain = chain(&[&limited.stub, &down.stub]);
    chain.balance(ADDRESS).await.unwrap_err();
    let asked = limited.stub.requests();
    limited.set(UP);
    // 19.8 s of the 20 s that it named.
    failing_rounds(&chain, 44).await;
    assert_eq!(limited.stub.requests(), asked);
    tokio::time::advance(BLOCK).await;
    assert_eq!(chain.balance(ADDRESS).await.unwrap(), Wei::from(5));
}

#[tokio::test(start_paused = true)]
async fn all_limited_is_reported_without_a_request() {
    let _time = hold_time();
    let nodes = [Node::new(LIMITED).await, Node::new(LIMITED).await];
    let chain = chain(&nodes.each_ref().map(|node| &node.stub));
    assert!(chain.balance(ADDRESS).await.unwrap_err().throttled);
    let asked = nodes.each_ref().map(|node| node.stub.requests());
    let failure = chain.balance(ADDRESS).await.unwrap_err();
    assert!(failure.throttled, "{failure}");
    assert_eq!(chain.send(&tx(1)).await.class, SendClass::Retry);
    assert_eq!(nodes.each_ref().map(|node| node.stub.requests()), asked);
}

#[tokio::test(start_paused = true)]
async fn sends_to_a_limiting_node_back_off() {
    let _time = hold_time();
    let node = Node::new(UP).await;
    let chain = chain(&[&node.stub]);
    assert_eq!(chain.send(&tx(0)).await.class, SendClass::Accepted);
    node.set(ALWAYS_A_SECOND);
    let raws: Vec<_> = (1..=100).map(tx).collect();
    let before = node.stub.requests();
    // A minute of rounds, each with 100 unsent transactions.
    for _ in 0..60_000 / 450 {
        let answers = chain.send_all(&raws).await;
        assert!(answers.iter().all(|answer| answer.class == SendClass::Retry));
        tokio::time::advance(BLOCK).await;
    }
    let asked = node.stub.requests() - before;
    assert!((13..=18).contains(&asked), "{asked} requests in a minute, after 1, 2 and then 4 s");
    node.set(UP);
    tokio::time::advance(Duration::from_secs(4)).await;
    let answers = chain.send_all(&raws).await;
    assert!(answers.iter().all(|answer| answer.class == SendClass::Accepted), "bounded");
}

#[tokio::test]
async fn mute_node_does_not_delay_the_return_of_another() {
    let (mute, down) = (Node::new(MUTE).await, Node::new(DOWN).await);
    let mut config = config(&[&mute.stub, &down.stub]);
    config.timeout_ms = 60_000;
    // The mute node is not asked for its height in the meantime.
    config.probe_every_ms = 600_000;
    mute.set(DOWN);
    let chain = BscChain::new(&config).unwrap();
    chain.balance(ADDRESS).await.unwrap_err();
    mute.set(MUTE);
    down.set(UP);
    let answer = tokio::time::timeout(Duration::from_secs(30), chain.balance(ADDRESS)).await;
    assert_eq!(answer.unwrap().unwrap(), Wei::from(5));
}

#[tokio::test]
async fn concurrent_lanes_share_one_check() {
    let node = Node::new(DOWN).await;
    let chain = chain(&[&node.stub]);
    for _ in 0..6 {
        chain.balance(ADDRESS).await.unwrap_err();
    }
    let asked = node.stub.requests();
    let lanes = futures_util::future::join_all((0..20).map(|_| chain.balance(ADDRESS))).await;
    assert!(lanes.iter().all(Result::is_err));
    assert_eq!(node.stub.requests() - asked, 1, "one check serves all");
    node.set(UP);
    let asked = node.stub.asked_for("eth_chainId");
    let lanes = futures_util::future::join_all((0..20).map(|_| chain.balance(ADDRESS))).await;
    assert!(lanes.iter().all(Result::is_ok));
    assert_eq!(node.stub.asked_for("eth_chainId") - asked, 1);
}
