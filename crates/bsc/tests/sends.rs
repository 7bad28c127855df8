//! Who gets a transaction that the first did not take.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::unnecessary_wraps,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]
#![allow(dead_code, reason = "each test file uses its part of the stub")]

mod common;

use common::{Reply, Stub, config, each, error, tx};
use serde_json::{Value, json};
use signpost_bsc::{BscChain, SendTo};
use signpost_txmgr::ports::Chain;
use signpost_txmgr::record::{SendAnswer, SendClass};
use signpost_txmgr::units::Wei;

/// A node that takes the transactions that `takes` says, by their bytes, and answers the others with an error.
async fn node(takes: fn(u8) -> bool, code: i64, words: &'static str) -> Stub {
    Stub::calls(move |method, params| match method {
        "eth_blockNumber" => Ok(json!("0x64")),
        "eth_sendRawTransaction" => {
            let bytes = &params[0].as_str().unwrap()[2..4];
            let taken = takes(u8::from_str_radix(bytes, 16).unwrap());
            if taken { Ok(json!(format!("0x{}", bytes.repeat(32)))) } else { Err(error(code, words)) }
        }
        _ => Err(error(-32601, "the method does not exist/is not available")),
    })
    .await
}

async fn says(code: i64, words: &'static str) -> Stub {
    node(|_| false, code, words).await
}

async fn good() -> Stub {
    node(|_| true, 0, "").await
}

/// Answers sends with a status.
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
async fn what_the_first_did_not_take_goes_to_the_next_at_once_whatever_it_said() {
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
        let (first, second) = (says(code, words).await, good().await);
        let answer = to(SendTo::First, &[&first, &second]).send(&tx(1)).await;
        assert_eq!(answer, SendAnswer::new(SendClass::Accepted, ""), "{words}");
    }
    for status in [403, 429, 500, 502, 503] {
        let (first, second) = (broken(status).await, good().await);
        let answer = to(SendTo::First, &[&first, &second]).send(&tx(1)).await;
        assert_eq!(answer.class, SendClass::Accepted, "{status}");
    }
    let (mute, second) = (Stub::raw(|body| mute(body)).await, good().await);
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
async fn each_transaction_goes_on_by_itself_until_a_node_has_it() {
    let first = node(|byte| byte % 2 == 1, -32000, "transaction underpriced").await;
    let second = node(|byte| byte < 5, -32000, "already known").await;
    let third = good().await;
    let raws: Vec<_> = (1..=7).map(tx).collect();
    let answers = to(SendTo::First, &[&first, &second, &third]).send_all(&raws).await;
    let mut expected = [SendClass::Accepted; 7];
    expected[5] = SendClass::AlreadyKnown;
    assert_eq!(classes(&answers), expected);
    assert_eq!(sent(&first).len(), 7);
    assert_eq!(sent(&second), ["02", "04", "06"], "in order, and only what was left");
    assert_eq!(third.asked_for("eth_sendRawTransaction"), 0);
}

#[tokio::test]
async fn to_the_first_and_to_all_say_the_same() {
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
            let stubs = [says(-32000, one).await, says(-32000, other).await];
            let stubs = stubs.each_ref();
            let all = to(SendTo::All, &stubs).send(&tx(1)).await;
            assert_eq!(to(SendTo::First, &stubs).send(&tx(1)).await.class, all.class, "{one}, {other}");
        }
    }
    let stubs = [says(-32000, words[3]).await, says(-32000, words[2]).await];
    let answer = to(SendTo::First, &stubs.each_ref()).send(&tx(1)).await;
    assert_eq!(answer.class, SendClass::Underpriced(Some(Wei::from(5))), "the least price named");
}
