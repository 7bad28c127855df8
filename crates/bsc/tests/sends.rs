//! Which endpoint gets a transaction that the first did not accept, and when a refusal is confirmed.

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

use std::time::Duration;

use common::{Reply, Stub, chain, config, each, error, tx};
use serde_json::{Value, json};
use signpost_bsc::{BscChain, SendTo};
use signpost_txmgr::ports::Chain;
use signpost_txmgr::record::{SendAnswer, SendClass};
use signpost_txmgr::units::Wei;

/// A node that accepts the transactions that `takes` selects by their first byte, and answers the others with an error.
async fn node(takes: fn(u8) -> bool, code: i64, words: &'static str) -> Stub {
    Stub::calls(move |method, params| match method {
        "eth_blockNumber" => Ok(json!("0x64")),
        "eth_sendRawTransaction" => {
            let bytes = &params[0].as_str().unwrap()[2..4];
            let is_taken = takes(u8::from_str_radix(bytes, 16).unwrap());
            if is_taken { Ok(json!(format!("0x{}", bytes.repeat(32)))) } else { Err(error(code, words)) }
        }
        _ => Err(error(-32601, "the method does not exist/is not available")),
    })
    .await
}

async fn answering(code: i64, words: &'static str) -> Stub {
    node(|_| false, code, words).await
}

async fn good() -> Stub {
    node(|_| true, 0, "").await
}

/// Answers sends with an HTTP status.
async fn broken(status: u16) -> Stub {
    Stub::raw(move |body| match body["method"].as_str() {
        Some("eth_chainId" | "eth_blockNumber") => Reply::Json(each(body, &|_, _| Ok(json!("0x64")))),
        _ => Reply::Http(status, &[], "no".to_owned()),
    })
    .await
}

fn to(send_to: SendTo, stubs: &[&Stub]) -> BscChain {
    let mut config = config(stubs);
    config.send_to = send_to;
    BscChain::new(&config).unwrap()
}

fn sent(stub: &Stub) -> Vec<String> {
    let asked = stub.asked().into_iter().filter(|(method, _)| method == "eth_sendRawTransaction");
    asked.map(|(_, params)| params[0].as_str().unwrap()[2..4].to_owned()).collect()
}

fn classes(answers: &[SendAnswer]) -> Vec<SendClass> {
    answers.iter().map(|answer| answer.class).collect()
}

#[tokio::test]
async fn transaction_not_accepted_by_first_goes_to_next_at_once() {
    let words = [
        (-32001, "plan used up"),
        (-32601, "the method is not available"),
        (-32603, "failed to decode upstream response: unexpected EOF"),
        (-32603, "invalid signature: request token rejected"),
        (-32000, "nonce too low: next nonce 5, tx nonce 4"),
        (-32000, "transaction underpriced"),
        (-32000, "insufficient funds for gas * price + value"),
        (-32000, "exceeds block gas limit"),
        (-32005, "limit exceeded"),
        (-32000, "something nobody has heard of"),
    ];
    for (code, words) in words {
        let (first, second) = (answering(code, words).await, good().await);
        let answer = to(SendTo::First, &[&first, &second]).send(&tx(1)).await;
        assert_eq!(answer, SendAnswer::new(SendClass::Accepted, ""), "{words}");
    }
    for status in [403, 429, 500, 502, 503] {
        let (first, second) = (broken(status).await, good().await);
        let answer = to(SendTo::First, &[&first, &second]).send(&tx(1)).await;
        assert_eq!(answer.class, SendClass::Accepted, "{status}");
    }
    let (mute, second) = (Stub::raw(mute).await, good().await);
    let mut config = config(&[&mute, &second]);
    (config.send_to, config.timeout_ms) = (SendTo::First, 200);
    assert_eq!(BscChain::new(&config).unwrap().send(&tx(1)).await.class, SendClass::Accepted);
}

fn mute(body: &Value) -> Reply {
    match body["method"].as_str() {
        Some("eth_chainId" | "eth_blockNumber") => Reply::Json(each(body, &|_, _| Ok(json!("0x64")))),
        _ => Reply::Never,
    }
}

#[tokio::test]
async fn each_transaction_goes_on_until_a_node_has_it() {
    let first = node(|byte| byte % 2 == 1, -32000, "transaction underpriced").await;
    let second = node(|byte| byte < 5, -32000, "already known").await;
    let third = good().await;
    let raws: Vec<_> = (1..=7).map(tx).collect();
    let answers = to(SendTo::First, &[&first, &second, &third]).send_all(&raws).await;
    let mut expected = [SendClass::Accepted; 7];
    expected[5] = SendClass::AlreadyKnown;
    assert_eq!(classes(&answers), expected);
    assert_eq!(sent(&first).len(), 7);
    assert_eq!(sent(&second), ["02", "04", "06"], "in order, and only the remaining ones");
    assert_eq!(third.asked_for("eth_sendRawTransaction"), 0);
}

#[tokio::test]
async fn send_to_first_and_send_to_all_give_the_same_answer() {
    let words = [
        "already known",
        "nonce too low",
        "transaction underpriced: gas tip cap 1, minimum needed 5",
        "transaction underpriced: gas tip cap 1, minimum needed 9",
        "insufficient funds for gas * price + value",
        "something nobody has heard of",
        "txpool is full",
        "invalid sender",
        "exceeds block gas limit",
        "limit exceeded",
    ];
    for one in words {
        for other in words {
            let stubs = [answering(-32000, one).await, answering(-32000, other).await];
            let stubs = stubs.each_ref();
            let all = to(SendTo::All, &stubs).send(&tx(1)).await;
            assert_eq!(to(SendTo::First, &stubs).send(&tx(1)).await.class, all.class, "{one}, {other}");
        }
    }
    let stubs = [answering(-32000, words[3]).await, answering(-32000, words[2]).await];
    let answer = to(SendTo::First, &stubs.each_ref()).send(&tx(1)).await;
    assert_eq!(answer.class, SendClass::Underpriced(Some(Wei::from(5))), "the lowest price named");
}

/// Errors of a single node about our bytes that must neither cancel a request nor pause an account.
const REFUSALS: [(i64, &str, SendClass); 10] = [
    (-32603, "failed to decode upstream response: unexpected EOF", SendClass::Refused),
    (-32602, "Failed to decode transaction", SendClass::Refused),
    (-32000, "rlp: value size exceeds available input length", SendClass::Refused),
    (-32602, "invalid argument 0: json: cannot unmarshal hex string of odd length", SendClass::Refused),
    (-32000, "transaction type not supported", SendClass::Refused),
    (-32000, "exceeds block gas limit", SendClass::Refused),
    (-32603, "invalid signature: request token rejected", SendClass::Misconfigured),
    (-32000, "invalid sender", SendClass::Misconfigured),
    (-32000, "invalid chain id for signer: have 97 want 56", SendClass::Misconfigured),
    (-32000, "invalid transaction v, r, s values", SendClass::Misconfigured),
];

#[tokio::test]
async fn refusals_of_two_nodes_confirm_each_other_at_once() {
    for (code, words, class) in REFUSALS {
        for send_to in [SendTo::All, SendTo::First] {
            let stubs = [answering(code, words).await, answering(code, words).await];
            let answer = to(send_to, &stubs.each_ref()).send(&tx(1)).await;
            assert_eq!(answer, SendAnswer::new(class, words));
        }
    }
    // With other words, and one after the other.
    let (first, second) = (answering(-32000, "invalid sender").await, good_once_then_refuses().await);
    let chain = chain(&[&first, &second]);
    assert_eq!(chain.send(&tx(9)).await.class, SendClass::Accepted);
    assert_eq!(chain.send(&tx(1)).await.class, SendClass::Misconfigured);
}

async fn good_once_then_refuses() -> Stub {
    node(|byte| byte == 9, -32000, "exceeds block gas limit").await
}

/// While this value lives, paused time advances only when a test advances it, however long a socket takes.
fn hold_time() -> std::sync::mpsc::Sender<()> {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || receiver.recv());
    sender
}

#[tokio::test(start_paused = true)]
async fn third_refusal_of_one_node_after_a_minute_counts() {
    let _time = hold_time();
    for (code, words, class) in REFUSALS {
        let stub = answering(code, words).await;
        let chain = chain(&[&stub]);
        for second in 0..60 {
            let answer = chain.send(&tx(1)).await;
            assert_eq!(answer.class, SendClass::Retry, "{words}, {second} s");
            assert!(answer.message.ends_with(words), "{}", answer.message);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(chain.send(&tx(2)).await.class, SendClass::Retry, "another transaction");
        assert_eq!(chain.send(&tx(1)).await, SendAnswer::new(class, words));
    }
}

#[tokio::test(start_paused = true)]
async fn two_refusals_of_one_node_are_never_enough() {
    let _time = hold_time();
    let stub = answering(-32000, "invalid sender").await;
    let chain = chain(&[&stub]);
    assert_eq!(chain.send(&tx(1)).await.class, SendClass::Retry);
    tokio::time::advance(Duration::from_mins(10)).await;
    assert_eq!(chain.send(&tx(1)).await.class, SendClass::Retry);
    assert_eq!(chain.send(&tx(1)).await.class, SendClass::Misconfigured);
}

#[tokio::test]
async fn confirmation_time_of_refusals_is_configurable() {
    let stub = answering(-32000, "exceeds block gas limit").await;
    let mut config = config(&[&stub]);
    assert_eq!(config.refusal_confirm_ms, 60_000);
    config.refusal_confirm_ms = 0;
    let chain = BscChain::new(&config).unwrap();
    for class in [SendClass::Retry, SendClass::Retry, SendClass::Refused, SendClass::Refused] {
        assert_eq!(chain.send(&tx(1)).await.class, class);
    }
}

#[tokio::test]
async fn endpoint_on_another_chain_does_not_pause_at_once() {
    let other_chain = || Stub::raw(|body| Reply::Json(json!({"id": body["id"], "result": "0x38"})));
    let (first, second) = (other_chain().await, other_chain().await);
    assert_eq!(chain(&[&first]).send(&tx(1)).await.class, SendClass::Retry);
    let answer = chain(&[&first, &second]).send(&tx(1)).await;
    assert_eq!(answer.class, SendClass::Misconfigured, "{}", answer.message);
}
