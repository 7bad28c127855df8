//! Faults of a single endpoint, one call at a time: each fault for a send and for a read.

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

use common::{ADDRESS, Reply, SECRET, Stub, chain, config, each, error, tx, whole};
use serde_json::{Value, json};
use signpost_bsc::{BscChain, BscConfig};
use signpost_txmgr::ports::{Chain, Counts, Happened, PortError};
use signpost_txmgr::record::{SendAnswer, SendClass};
use signpost_txmgr::units::{Nonce, Wei};

/// A stub that answers its chain id and answers everything else with `fault`.
async fn faulty(fault: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Stub {
    Stub::raw(move |body| match body["method"].as_str() {
        Some("eth_chainId") => Reply::Json(each(body, &|_, _| Ok(Value::Null))),
        _ => fault(body),
    })
    .await
}

async fn send_and_read(stub: &Stub) -> (SendAnswer, PortError) {
    let answer = chain(&[stub]).send(&tx(1)).await;
    let failure = chain(&[stub]).balance(ADDRESS).await.unwrap_err();
    assert!(!whole(&failure).contains(SECRET), "{}", whole(&failure));
    assert!(!answer.message.contains(SECRET), "{}", answer.message);
    (answer, failure)
}

#[tokio::test]
async fn correct_answers_are_read() {
    let stub = Stub::calls(|method, params| match method {
        "eth_getBalance" => Ok(json!("0x3b9aca00")),
        "eth_getTransactionCount" => match params[1].as_str() {
            Some("finalized") => Ok(json!("0x5")),
            Some("latest") => Ok(json!("0x7")),
            Some("pending") => Ok(json!("0x9")),
            _ => Err(error(-32602, "invalid block")),
        },
        "eth_getCode" => Ok(json!(if params[0] == ADDRESS.lower() { "0x" } else { "0xef0100" })),
        _ => Err(error(-32601, "the method does not exist/is not available")),
    })
    .await;
    let chain = chain(&[&stub]);
    assert_eq!(chain.balance(ADDRESS).await.unwrap(), Wei::from_gwei(1));
    let counts = Counts { latest: Nonce(7), pending: Nonce(9), finalized: Some(Nonce(5)) };
    assert_eq!(chain.counts(ADDRESS).await.unwrap(), counts);
    assert!(!chain.has_code(ADDRESS).await.unwrap());
    assert!(chain.has_code(signpost_txmgr::units::Address([1; 20])).await.unwrap());
    assert_eq!(chain.chain_id().await.unwrap(), common::CHAIN);
}

#[tokio::test]
async fn counts_take_one_request_and_need_no_finalized_block() {
    let stub = Stub::calls(|method, params| match (method, params[1].as_str()) {
        ("eth_getTransactionCount", Some("latest")) => Ok(json!("0x7")),
        ("eth_getTransactionCount", Some("pending")) => Ok(json!("0x8")),
        _ => Err(error(-32000, "finalized block not found")),
    })
    .await;
    let counts = Counts { latest: Nonce(7), pending: Nonce(8), finalized: None };
    let chain = chain(&[&stub]);
    assert_eq!(chain.counts(ADDRESS).await.unwrap(), counts);
    let before = stub.requests();
    assert_eq!(chain.counts(ADDRESS).await.unwrap(), counts);
    assert_eq!(stub.requests() - before, 1, "one request");
    let silent = Stub::calls(|_, _| Err(error(-32000, "header not found"))).await;
    common::chain(&[&silent]).counts(ADDRESS).await.unwrap_err();
}

#[tokio::test]
async fn body_without_json_rpc_is_unknown() {
    for body in ["", "<html>Bad Gateway</html>", "[]", "null", "{}", "\"ok\"", "[1,2]", "[{},{}]"] {
        let stub = faulty(move |_| Reply::Http(200, &[], body.to_owned())).await;
        let (answer, failure) = send_and_read(&stub).await;
        assert_eq!(answer.class, SendClass::Unknown, "{body}");
        assert_eq!((failure.happened, failure.throttled), (Happened::Unknown, false), "{body}");
    }
}

#[tokio::test]
async fn result_that_is_not_a_quantity_is_malformed() {
    for result in [json!(null), json!(5), json!("0x"), json!("five"), json!({})] {
        let stub = Stub::calls(move |_, _| Ok(result.clone())).await;
        let failure = chain(&[&stub]).balance(ADDRESS).await.unwrap_err();
        assert!(whole(&failure).contains("is malformed"), "{}", whole(&failure));
    }
}

#[tokio::test]
async fn server_errors_are_unknown_and_http_refusals_are_not() {
    for (status, class, happened) in [
        (500, SendClass::Unknown, Happened::Unknown),
        (502, SendClass::Unknown, Happened::Unknown),
        (503, SendClass::Unknown, Happened::Unknown),
        (408, SendClass::Unknown, Happened::Unknown),
        (499, SendClass::Unknown, Happened::Unknown),
        (302, SendClass::Unknown, Happened::Unknown),
        (401, SendClass::Retry, Happened::No),
        (403, SendClass::Retry, Happened::No),
        (413, SendClass::Retry, Happened::No),
    ] {
        let stub = faulty(move |_| Reply::Http(status, &[], "no".to_owned())).await;
        let (answer, failure) = send_and_read(&stub).await;
        assert_eq!((answer.class, failure.happened), (class, happened), "{status}");
        assert!(answer.message.contains(&status.to_string()), "{}", answer.message);
    }
}

#[tokio::test]
async fn json_rpc_error_with_http_status_is_the_nodes_error() {
    let stub =
        faulty(|body| Reply::Http(400, &[], each(body, &|_, _| Err(error(-32000, "nonce too low"))).to_string())).await;
    let (answer, failure) = send_and_read(&stub).await;
    assert_eq!(answer, SendAnswer::new(SendClass::NonceTooLow, "nonce too low"));
    assert!(whole(&failure).contains("nonce too low"));
}

#[tokio::test]
async fn rate_limited_call_surely_had_no_effect() {
    let replies: [fn(&Value) -> Reply; 5] = [
        |_| Reply::Http(429, &[("retry-after", "7")], "slow down".to_owned()),
        |_| Reply::Http(200, &[], "message: rate limit exceeded, trace_id: 7".to_owned()),
        |_| Reply::Http(403, &[], r#"{"error":"Too Many Requests"}"#.to_owned()),
        |body| Reply::Json(each(body, &|_, _| Err(error(429, "slow down")))),
        |_| Reply::Json(json!({"id": null, "error": {"code": -32005, "message": "limit exceeded"}})),
    ];
    for reply in replies {
        let stub = faulty(reply).await;
        let (answer, failure) = send_and_read(&stub).await;
        assert_eq!(answer.class, SendClass::Retry, "{}", answer.message);
        assert_eq!((failure.happened, failure.throttled), (Happened::No, true));
    }
}

#[tokio::test]
async fn rate_limited_endpoint_is_paused() {
    let stub = faulty(|_| Reply::Http(429, &[("retry-after", "7")], String::new())).await;
    let chain = chain(&[&stub]);
    assert!(chain.balance(ADDRESS).await.unwrap_err().throttled);
    let requests = stub.requests();
    let again = chain.balance(ADDRESS).await.unwrap_err();
    assert_eq!((again.happened, again.throttled), (Happened::No, true));
    assert_eq!(chain.send(&tx(1)).await.class, SendClass::Retry);
    assert_eq!(stub.requests(), requests);
}

#[tokio::test]
async fn failed_connection_surely_had_no_effect() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/{SECRET}", listener.local_addr().unwrap());
    drop(listener);
    let chain = BscChain::new(&BscConfig::new(common::CHAIN, vec![url])).unwrap();
    let answer = chain.send(&tx(1)).await;
    assert_eq!(answer.class, SendClass::Retry);
    let failure = chain.balance(ADDRESS).await.unwrap_err();
    assert_eq!(failure.happened, Happened::No);
    assert!(!format!("{} {}", whole(&failure), answer.message).contains(SECRET));
}

#[tokio::test]
async fn broken_connection_is_unknown() {
    let stub = faulty(|_| Reply::Http(200, &[("content-length", "1000")], "{".to_owned())).await;
    let (answer, failure) = send_and_read(&stub).await;
    assert_eq!(answer.class, SendClass::Unknown);
    assert_eq!(failure.happened, Happened::Unknown);
}

#[tokio::test]
async fn timeout_is_unknown() {
    let stub = faulty(|_| Reply::Never).await;
    let mut config = config(&[&stub]);
    config.timeout_ms = 150;
    let chain = BscChain::new(&config).unwrap();
    let answer = chain.send(&tx(1)).await;
    assert_eq!(answer.class, SendClass::Unknown);
    assert!(answer.message.ends_with("no answer in time"), "{}", answer.message);
    assert_eq!(chain.balance(ADDRESS).await.unwrap_err().happened, Happened::Unknown);
}

#[tokio::test]
async fn overlong_answer_is_not_read_to_its_end() {
    let stub = faulty(|_| Reply::Http(200, &[], " ".repeat(33 << 20))).await;
    let answer = chain(&[&stub]).send(&tx(1)).await;
    assert_eq!(answer.class, SendClass::Unknown);
    assert!(answer.message.contains("longer than"), "{}", answer.message);
}

#[tokio::test]
async fn other_hash_than_ours_is_unknown() {
    for result in [json!(tx(2).hash.to_string()), json!(null), json!("0x")] {
        let stub = Stub::calls(move |_, _| Ok(result.clone())).await;
        let answer = chain(&[&stub]).send(&tx(1)).await;
        assert_eq!(answer.class, SendClass::Unknown, "{}", answer.message);
    }
    let stub = Stub::calls(|_, _| Ok(json!(tx(1).hash.to_string()))).await;
    assert_eq!(chain(&[&stub]).send(&tx(1)).await, SendAnswer::new(SendClass::Accepted, ""));
}

/// Answers each send with the hash that belongs to its bytes.
fn take(_: &str, params: &Value) -> Result<Value, Value> {
    let byte = &params[0].as_str().unwrap()[2..4];
    Ok(json!(format!("0x{}", byte.repeat(32))))
}

fn classes(answers: &[SendAnswer]) -> Vec<SendClass> {
    answers.iter().map(|answer| answer.class).collect()
}

#[tokio::test]
async fn lane_is_sent_in_order_in_batches() {
    let stub = Stub::calls(take).await;
    let mut config = config(&[&stub]);
    config.batch_items = 3;
    let chain = BscChain::new(&config).unwrap();
    let raws: Vec<_> = (1..=7).map(tx).collect();
    assert_eq!(classes(&chain.send_all(&raws).await), [SendClass::Accepted; 7]);
    // The chain id, then 3 + 3 + 1.
    assert_eq!(stub.requests(), 4);
    let sent: Vec<Value> = stub.asked().into_iter().skip(1).map(|(_, params)| params[0].clone()).collect();
    assert_eq!(sent, raws.iter().map(|raw| json!(format!("0x{}", hex::encode(&raw.bytes)))).collect::<Vec<_>>());
    assert!(chain.send_all(&[]).await.is_empty());
}

#[tokio::test]
async fn large_transactions_make_smaller_batches() {
    let stub = Stub::calls(|_, _| Err(error(-32000, "already known"))).await;
    let chain = chain(&[&stub]);
    let raw = signpost_txmgr::tx::RawTx { bytes: vec![7; 131_072], hash: tx(7).hash };
    assert_eq!(classes(&chain.send_all(&vec![raw; 6]).await), [SendClass::AlreadyKnown; 6]);
    // 256 KiB of hex each: three per request.
    assert_eq!(stub.requests(), 3);
}

#[tokio::test]
async fn reordered_and_repeated_answers_are_matched() {
    let stub = faulty(|body| {
        let mut answers = each(body, &take);
        if let Some(items) = answers.as_array_mut() {
            let mut late = items.clone();
            for item in &mut late {
                item["result"] = json!("late and wrong");
            }
            items.reverse();
            items.extend(late);
            items.push(json!({"id": 1_000_000, "result": "of another request"}));
            items.push(json!("not even an object"));
        }
        Reply::Json(answers)
    })
    .await;
    let raws: Vec<_> = (1..=5).map(tx).collect();
    assert_eq!(classes(&chain(&[&stub]).send_all(&raws).await), [SendClass::Accepted; 5]);
}

#[tokio::test]
async fn ids_returned_as_text_are_matched() {
    let stub = faulty(|body| {
        let mut answers = each(body, &take);
        for item in answers.as_array_mut().unwrap() {
            item["id"] = json!(item["id"].to_string());
        }
        Reply::Json(answers)
    })
    .await;
    assert_eq!(classes(&chain(&[&stub]).send_all(&[tx(1), tx(2)]).await), [SendClass::Accepted; 2]);
}

#[tokio::test]
async fn missing_answer_is_unknown_and_the_others_count() {
    let stub = faulty(|body| {
        let mut answers = each(body, &take);
        let items = answers.as_array_mut().unwrap();
        items.remove(1);
        // Neither result nor error.
        items[1].as_object_mut().unwrap().remove("result");
        Reply::Json(answers)
    })
    .await;
    let answers = chain(&[&stub]).send_all(&[tx(1), tx(2), tx(3), tx(4)]).await;
    let unknown = SendClass::Unknown;
    assert_eq!(classes(&answers), [SendClass::Accepted, unknown, unknown, SendClass::Accepted]);
}

#[tokio::test]
async fn provider_without_batches_gets_single_calls() {
    let refusals: [fn(&Value) -> Value; 4] = [
        |_| json!({"jsonrpc": "2.0", "id": null, "error": error(-32600, "Invalid Request")}),
        |_| json!({"jsonrpc": "2.0", "id": null, "error": error(-32000, "batch requests are not supported")}),
        // geth and BSC: in an array, in place of the first answer.
        |body| json!([{"jsonrpc": "2.0", "id": body[0]["id"], "error": error(-32600, "batch too large")}]),
        |_| json!([{"jsonrpc": "2.0", "id": null, "error": error(-32600, "batch too large")}]),
    ];
    for refusal in refusals {
        let stub =
            faulty(move |body| Reply::Json(if body.is_array() { refusal(body) } else { each(body, &take) })).await;
        let chain = chain(&[&stub]);
        let raws: Vec<_> = (1..=5).map(tx).collect();
        assert_eq!(classes(&chain.send_all(&raws).await), [SendClass::Accepted; 5]);
        let requests = stub.requests();
        assert_eq!(classes(&chain.send_all(&raws).await), [SendClass::Accepted; 5]);
        assert_eq!(stub.requests() - requests, 5, "the size is remembered");
    }
}

#[tokio::test]
async fn one_error_for_a_batch_applies_to_each_call() {
    let stub = faulty(|_| Reply::Json(json!({"id": null, "error": error(-32603, "upstream error")}))).await;
    assert_eq!(classes(&chain(&[&stub]).send_all(&[tx(1), tx(2)]).await), [SendClass::Unknown; 2]);
}

#[tokio::test]
async fn calls_after_a_failed_batch_are_not_sent() {
    let stub = faulty(|_| Reply::Http(502, &[], String::new())).await;
    let mut config = config(&[&stub]);
    config.batch_items = 2;
    let chain = BscChain::new(&config).unwrap();
    let answers = chain.send_all(&[tx(1), tx(2), tx(3)]).await;
    assert_eq!(classes(&answers), [SendClass::Unknown, SendClass::Unknown, SendClass::Retry]);
    // The first two, then the first of them alone, twice.
    assert_eq!(stub.asked_for("eth_sendRawTransaction"), 4);
}

#[tokio::test]
async fn rate_limit_inside_a_batch_affects_only_its_call() {
    let stub = faulty(|body| {
        let mut answers = each(body, &take);
        let last = answers.as_array_mut().unwrap().last_mut().unwrap();
        *last = json!({"id": last["id"], "error": error(429, "The requests per second (RPS) of your account")});
        Reply::Json(answers)
    })
    .await;
    let chain = chain(&[&stub]);
    let answers = chain.send_all(&[tx(1), tx(2)]).await;
    assert_eq!(classes(&answers), [SendClass::Accepted, SendClass::Retry]);
    assert!(chain.balance(ADDRESS).await.unwrap_err().throttled, "and the endpoint is paused");
}
