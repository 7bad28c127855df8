//! Several endpoints: which one is read from, which ones are sent to, and which ones are paused.

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

use common::{ADDRESS, Reply, Stub, chain, each, error, tx, whole};
use serde_json::{Value, json};
use signpost_txmgr::ports::{Chain, Happened};
use signpost_txmgr::record::SendClass;
use signpost_txmgr::units::Wei;

/// A node at a height. Its balance identifies it, and it answers sends with `answer`.
async fn node(height: u64, balance: u64, answer: Result<Value, Value>) -> Stub {
    Stub::calls(move |method, _| match method {
        "eth_blockNumber" => Ok(json!(format!("0x{height:x}"))),
        "eth_getBalance" => Ok(json!(format!("0x{balance:x}"))),
        "eth_sendRawTransaction" => answer.clone(),
        _ => Err(error(-32601, "the method does not exist/is not available")),
    })
    .await
}

fn taken() -> Result<Value, Value> {
    Ok(json!(tx(1).hash.to_string()))
}

fn refuses() -> Result<Value, Value> {
    Err(error(-32000, "exceeds block gas limit"))
}

/// Answers the chain id and the height only, everything else with an HTTP status.
async fn broken(status: u16) -> Stub {
    Stub::raw(move |body| match body["method"].as_str() {
        Some("eth_chainId" | "eth_blockNumber") => Reply::Json(each(body, &|_, _| Ok(json!("0x64")))),
        _ => Reply::Http(status, &[], "no".to_owned()),
    })
    .await
}

async fn of_another_chain() -> Stub {
    Stub::raw(|body| {
        let item = json!({"jsonrpc": "2.0", "id": body["id"], "result": "0x38"});
        Reply::Json(item)
    })
    .await
}

#[tokio::test]
async fn reads_go_to_the_first_healthy_endpoint() {
    let (first, second) = (node(100, 1, taken()).await, node(101, 2, taken()).await);
    let chain = chain(&[&first, &second]);
    for _ in 0..3 {
        assert_eq!(chain.balance(ADDRESS).await.unwrap(), Wei::from(1));
    }
    assert_eq!(second.asked_for("eth_getBalance"), 0);
}

#[tokio::test]
async fn reads_go_to_the_next_endpoint_after_a_failure() {
    let (first, second) = (broken(502).await, node(100, 2, taken()).await);
    let chain = chain(&[&first, &second]);
    for _ in 0..3 {
        assert_eq!(chain.balance(ADDRESS).await.unwrap(), Wei::from(2));
    }
    assert_eq!(first.asked_for("eth_getBalance"), 1);
}

#[tokio::test]
async fn next_endpoint_is_read_after_a_node_error() {
    let behind = Stub::calls(|_, _| Err(error(-32000, "header not found"))).await;
    let second = node(100, 2, taken()).await;
    assert_eq!(chain(&[&behind, &second]).balance(ADDRESS).await.unwrap(), Wei::from(2));
}

#[tokio::test]
async fn endpoint_that_is_behind_is_read_last() {
    let (behind, fresh) = (node(89, 1, taken()).await, node(100, 2, taken()).await);
    assert_eq!(chain(&[&behind, &fresh]).balance(ADDRESS).await.unwrap(), Wei::from(2));
    // A lag of ten blocks is tolerated.
    let near = node(90, 3, taken()).await;
    assert_eq!(chain(&[&near, &fresh]).balance(ADDRESS).await.unwrap(), Wei::from(3));
    // Better than nothing.
    assert_eq!(chain(&[&behind, &broken(502).await]).balance(ADDRESS).await.unwrap(), Wei::from(1));
}

#[tokio::test]
async fn failure_of_all_endpoints_reports_whether_it_happened() {
    let (unknown, no) = (broken(502).await, broken(403).await);
    let failure = chain(&[&no, &unknown]).balance(ADDRESS).await.unwrap_err();
    assert_eq!((failure.happened, failure.throttled), (Happened::Unknown, false));
    let failure = chain(&[&no]).balance(ADDRESS).await.unwrap_err();
    assert_eq!(failure.happened, Happened::No);
    let limited = broken(429).await;
    let failure = chain(&[&limited, &limited]).balance(ADDRESS).await.unwrap_err();
    assert!(failure.throttled);
    assert_eq!(failure.operation, "eth_getBalance");
}

#[tokio::test]
async fn single_endpoint_is_retried_while_it_fails() {
    let stub = broken(502).await;
    let chain = chain(&[&stub]);
    for tries in [2, 4] {
        chain.balance(ADDRESS).await.unwrap_err();
        assert_eq!(stub.asked_for("eth_getBalance"), tries);
    }
}

#[tokio::test]
async fn endpoint_on_another_chain_is_never_used() {
    let (wrong, right) = (of_another_chain().await, node(100, 2, taken()).await);
    let both = chain(&[&wrong, &right]);
    assert_eq!(both.balance(ADDRESS).await.unwrap(), Wei::from(2));
    assert_eq!(both.send(&tx(1)).await.class, SendClass::Accepted);
    let alone = chain(&[&wrong]);
    let failure = alone.balance(ADDRESS).await.unwrap_err();
    assert_eq!(failure.happened, Happened::No);
    assert!(whole(&failure).contains("on chain 56, not 97"), "{}", whole(&failure));
    let answer = alone.send(&tx(1)).await;
    assert_eq!(answer.class, SendClass::Retry, "one endpoint's answer, the first time");
    assert!(answer.message.contains("on chain 56, not 97"), "{}", answer.message);
    assert!(wrong.asked().iter().all(|(method, _)| ["eth_chainId", "eth_blockNumber"].contains(&method.as_str())));
    // But its chain id may be asked.
    assert_eq!(alone.chain_id().await.unwrap().0, 56);
}

#[tokio::test]
async fn send_reaches_all_and_one_acceptance_is_enough() {
    let (first, second, third) = (node(100, 1, refuses()).await, node(100, 2, taken()).await, broken(502).await);
    let answer = chain(&[&first, &second, &third]).send(&tx(1)).await;
    assert_eq!(answer.class, SendClass::Accepted);
    for stub in [&first, &second, &third] {
        assert_eq!(stub.asked_for("eth_sendRawTransaction"), 1);
    }
}

#[tokio::test]
async fn refusal_counts_only_if_all_reached_nodes_refuse() {
    let (first, second) = (node(100, 1, refuses()).await, node(100, 2, refuses()).await);
    let answer = chain(&[&first, &second]).send(&tx(1)).await;
    assert_eq!((answer.class, answer.message.as_str()), (SendClass::Refused, "exceeds block gas limit"));
    let surely_not = broken(403).await;
    assert_eq!(chain(&[&first, &second, &surely_not]).send(&tx(1)).await.class, SendClass::Refused);
    let perhaps = broken(502).await;
    assert_eq!(chain(&[&first, &second, &perhaps]).send(&tx(1)).await.class, SendClass::Unknown);
}

#[tokio::test]
async fn send_goes_to_failed_endpoint_if_no_other_is_left() {
    let stub = broken(502).await;
    let chain = chain(&[&stub]);
    for sends in [1, 2] {
        assert_eq!(chain.send(&tx(1)).await.class, SendClass::Unknown);
        assert_eq!(stub.asked_for("eth_sendRawTransaction"), sends);
    }
}
