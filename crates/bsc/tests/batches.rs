//! Endpoints that refuse batches in different ways: the calls are answered anyway, in few requests.

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
use signpost_txmgr::ports::{Chain, Counts, SlotQuery, ViewQuery};
use signpost_txmgr::record::{SendAnswer, SendClass};
use signpost_txmgr::units::{Nonce, Wei};

/// A good node's answers.
fn answer(method: &str, params: &Value) -> Result<Value, Value> {
    match method {
        "eth_blockNumber" => Ok(json!("0x64")),
        "eth_getBalance" => Ok(json!("0x5")),
        "eth_getTransactionCount" => match params[1].as_str() {
            Some("pending") => Ok(json!("0x9")),
            Some("latest") => Ok(json!("0x8")),
            _ => Ok(json!("0x7")),
        },
        "eth_getBlockByNumber" => Ok(common::block(100)),
        "eth_getTransactionReceipt" => Ok(Value::Null),
        "eth_feeHistory" => Ok(json!({"reward": [["0x7"]]})),
        "eth_sendRawTransaction" => Ok(json!(format!("0x{}", params[0].as_str().unwrap()[2..4].repeat(32)))),
        _ => Err(error(-32601, "the method does not exist/is not available")),
    }
}

fn good(body: &Value) -> Reply {
    Reply::Json(each(body, &answer))
}

fn size(body: &Value) -> usize {
    body.as_array().map_or(1, Vec::len)
}

/// Answers arrays of more than `most` calls with `fault`, and everything else correctly.
async fn node(most: usize, fault: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Stub {
    Stub::raw(move |body| if size(body) > most { fault(body) } else { good(body) }).await
}

fn classes(answers: &[SendAnswer]) -> Vec<SendClass> {
    answers.iter().map(|answer| answer.class).collect()
}

fn raws(count: u8) -> Vec<signpost_txmgr::tx::RawTx> {
    (1..=count).map(tx).collect()
}

/// The answers to the array, each modified by `change`.
fn changed(body: &Value, change: impl Fn(usize, &mut Value)) -> Value {
    let mut answers = each(body, &answer);
    for (at, item) in answers.as_array_mut().unwrap().iter_mut().enumerate() {
        change(at, item);
    }
    answers
}

const CODE_31: &str = r#"{"id":1,"error":{"code":31,"message":"Batch of more than 3 requests are not allowed"}}"#;
const PAGE: &str = "<html><body>no</body></html>";

type Fault = fn(&Value) -> Reply;

/// A name, the largest batch that is answered correctly, and the answer to larger ones.
type Oddity = (&'static str, usize, Fault);

/// Each of these was seen in public reports, or is close to one that was.
const ODDITIES: [Oddity; 26] = [
    ("one error with a status", 3, |_| Reply::Http(500, &[], CODE_31.to_owned())),
    ("one error without a status", 3, |_| Reply::Http(200, &[], CODE_31.to_owned())),
    ("the same error for each call", 3, |body| {
        Reply::Json(each(body, &|_, _| Err(error(31, "Batch of more than 3 requests are not allowed"))))
    }),
    ("the same error for each call, with numbers", 3, |body| {
        let said = |at: usize, item: &mut Value| {
            *item = json!({"id": item["id"], "error": {"code": 31, "message": format!("no array, trace {at}a")}});
        };
        Reply::Json(changed(body, said))
    }),
    ("too large, with a page", 5, |_| Reply::Http(413, &[], PAGE.to_owned())),
    ("a bad request", 1, |_| Reply::Http(400, &[], String::new())),
    ("a bad request above a number", 4, |_| Reply::Http(400, &[], "bad".to_owned())),
    ("not allowed", 1, |_| Reply::Http(405, &[], "Method Not Allowed".to_owned())),
    ("a redirection", 1, |_| Reply::Http(302, &[("location", "/")], String::new())),
    ("a bad gateway", 1, |_| Reply::Http(502, &[], PAGE.to_owned())),
    ("a page", 1, |_| Reply::Http(200, &[], PAGE.to_owned())),
    ("an empty array", 1, |_| Reply::Json(json!([]))),
    ("a result without a call", 1, |_| Reply::Json(json!({"jsonrpc": "2.0", "id": null, "result": "0x1"}))),
    ("the first call's result alone", 1, |body| Reply::Json(each(&body[0], &answer))),
    ("no body", 1, |_| Reply::Http(200, &[], String::new())),
    ("no content", 1, |_| Reply::Http(204, &[], String::new())),
    ("the answers inside a result", 1, |body| Reply::Json(json!({"jsonrpc": "2.0", "result": each(body, &answer)}))),
    ("ids of its own", 1, |body| Reply::Json(changed(body, |at, item| item["id"] = json!(format!("call-{at}"))))),
    ("ids off by one", 1, |body| {
        Reply::Json(changed(body, |_, item| item["id"] = json!(item["id"].as_u64().unwrap() + 1)))
    }),
    ("the first id for all", 2, |body| Reply::Json(changed(body, |_, item| item["id"] = body[0]["id"].clone()))),
    ("no ids", 1, |body| Reply::Json(changed(body, |_, item| item["id"] = Value::Null))),
    ("one answer many times", 1, |body| {
        let first = each(&body[0], &answer);
        Reply::Json(body.as_array().unwrap().iter().map(|_| first.clone()).collect())
    }),
    ("nulls", 1, |body| Reply::Json(body.as_array().unwrap().iter().map(|_| Value::Null).collect())),
    ("errors without a message", 1, |body| Reply::Json(each(body, &|_, _| Err(json!({"code": -32000}))))),
    ("no such method", 1, |_| Reply::Json(json!({"id": null, "error": error(-32601, "Method not found")}))),
    ("a connection that breaks", 1, |_| Reply::Http(200, &[("content-length", "1000")], "[".to_owned())),
];

#[tokio::test]
async fn sends_succeed_despite_every_batch_oddity() {
    for (name, most, fault) in ODDITIES {
        let stub = node(most, fault).await;
        let chain = chain(&[&stub]);
        let answers = chain.send_all(&raws(20)).await;
        assert_eq!(classes(&answers), [SendClass::Accepted; 20], "{name}: {answers:?}");
        assert!(stub.requests() <= 1 + 20 + 5, "{name}: {} requests", stub.requests());
        let before = stub.requests();
        assert_eq!(classes(&chain.send_all(&raws(20)).await), [SendClass::Accepted; 20], "{name}");
        // At worst half of the size that works, and no failing request.
        assert!((stub.requests() - before) * most.div_ceil(2) <= 20 + most, "{name}: the size is remembered");
    }
}

#[tokio::test]
async fn reads_succeed_despite_every_batch_oddity() {
    for (name, most, fault) in ODDITIES {
        let stub = node(most.min(2), fault).await;
        let chain = chain(&[&stub]);
        let counts = Counts { latest: Nonce(8), pending: Nonce(9), finalized: Some(Nonce(7)) };
        assert_eq!(chain.counts(ADDRESS).await.unwrap(), counts, "{name}");
        let view = chain.view(&query()).await.unwrap();
        assert_eq!(view.receipts, [(Nonce(5), ReceiptView::Absent)], "{name}");
        assert_eq!(view.price, Some(Wei::from(7)), "{name}");
    }
}

fn query() -> ViewQuery {
    ViewQuery {
        address: ADDRESS,
        slots: vec![SlotQuery { nonce: Nonce(5), hashes: vec![tx(1).hash, tx(2).hash], mined_at: None }],
        latest_seen: Nonce(8),
        head_waits: false,
    }
}

#[tokio::test]
async fn endpoint_that_is_down_gets_at_most_three_requests() {
    let faults: [Fault; 4] = [
        |_| Reply::Http(503, &[], PAGE.to_owned()),
        |_| Reply::Http(200, &[], PAGE.to_owned()),
        |_| Reply::Json(json!({"id": null, "error": error(-32603, "upstream error")})),
        |body| Reply::Json(each(body, &|_, _| Err(error(-32603, "upstream error 0x77")))),
    ];
    for fault in faults {
        let stub = Stub::raw(move |body| if body["method"] == "eth_chainId" { good(body) } else { fault(body) }).await;
        let chain = chain(&[&stub]);
        assert_eq!(classes(&chain.send_all(&raws(20)).await), [SendClass::Unknown; 20]);
        assert!(stub.requests() <= 1 + 3, "after the chain id: {}", stub.requests());
        assert!(stub.asked_for("eth_sendRawTransaction") <= 22);
    }
}

#[tokio::test]
async fn endpoint_that_goes_down_during_a_batch_is_soon_left() {
    let asked = Arc::new(AtomicU8::new(0));
    let counter = Arc::clone(&asked);
    // The chain id, and one single transaction.
    let stub = Stub::raw(move |body| match counter.fetch_add(1, Ordering::SeqCst) {
        0 | 2 => good(body),
        _ => Reply::Http(503, &[], PAGE.to_owned()),
    })
    .await;
    let answers = chain(&[&stub]).send_all(&raws(20)).await;
    assert_eq!(answers[0].class, SendClass::Accepted);
    assert_eq!(classes(&answers[1..]), [SendClass::Unknown; 19]);
    assert!(stub.requests() <= 1 + 2 + 6, "{} requests", stub.requests());
}

#[tokio::test]
async fn rate_limits_and_timeouts_do_not_split_the_batch() {
    let faults: [(Fault, SendClass); 5] = [
        (|_| Reply::Http(429, &[], String::new()), SendClass::Retry),
        (|_| Reply::Http(200, &[], "rate limit exceeded".to_owned()), SendClass::Retry),
        (|_| Reply::Json(json!({"id": null, "error": error(-32005, "limit exceeded")})), SendClass::Retry),
        (|_| Reply::Http(503, &[("retry-after", "3")], String::new()), SendClass::Unknown),
        (|_| Reply::Never, SendClass::Unknown),
    ];
    for (fault, class) in faults {
        let stub = node(1, fault).await;
        let mut config = config(&[&stub]);
        config.timeout_ms = 300;
        let answers = BscChain::new(&config).unwrap().send_all(&raws(5)).await;
        assert_eq!(classes(&answers), [class; 5], "{answers:?}");
        assert_eq!(stub.requests(), 1 + 1);
    }
}

#[tokio::test]
async fn error_of_all_calls_counts_if_a_single_call_gets_it_too() {
    // Known errors that often apply to all sends of a batch: no extra request is made.
    for words in ["already known", "nonce too low", "insufficient funds for gas * price + value"] {
        let stub = Stub::calls(move |_, _| Err(error(-32000, words))).await;
        chain(&[&stub]).send_all(&raws(20)).await;
        assert_eq!(stub.requests(), 1 + 1, "{words}");
    }
    // Unknown words: one more request, and the batch size stays.
    let stub = Stub::calls(|_, _| Err(error(-32000, "not on a day like 26"))).await;
    let chain = chain(&[&stub]);
    for round in 1..=3 {
        assert_eq!(classes(&chain.send_all(&raws(20)).await), [SendClass::Unknown; 20]);
        assert_eq!(stub.requests(), 1 + 2 * round);
    }
}

#[tokio::test]
async fn call_that_may_have_taken_effect_in_a_batch_stays_unknown() {
    for (status, class) in [(502, SendClass::Unknown), (500, SendClass::Unknown), (413, SendClass::Retry)] {
        let stub = Stub::raw(move |body| match body["params"][0].as_str() {
            _ if body.is_array() => Reply::Http(status, &[], String::new()),
            // As single calls: the first is accepted, the others surely are not.
            None | Some("0x01010101") => good(body),
            Some(_) => Reply::Http(403, &[], String::new()),
        })
        .await;
        let answers = chain(&[&stub]).send_all(&raws(6)).await;
        assert_eq!(answers[0].class, SendClass::Accepted, "{status}");
        assert_eq!(classes(&answers[1..]), [class; 5], "{status}: {answers:?}");
    }
}

#[tokio::test]
async fn rate_limit_after_a_failed_batch_is_respected() {
    let stub = Stub::raw(|body| match body["method"].as_str() {
        Some("eth_chainId") => good(body),
        None => Reply::Http(502, &[], String::new()),
        Some(_) => Reply::Http(429, &[("retry-after", "7")], String::new()),
    })
    .await;
    let chain = chain(&[&stub]);
    assert_eq!(classes(&chain.send_all(&raws(3)).await), [SendClass::Unknown; 3]);
    let requests = stub.requests();
    assert!(chain.balance(ADDRESS).await.unwrap_err().throttled);
    assert_eq!(stub.requests(), requests);
}

#[tokio::test]
async fn call_that_fails_alone_does_not_fail_the_others() {
    // A call that a gateway blocks fails every batch that contains it.
    let blocking = |word: &'static str| {
        Stub::raw(
            move |body| {
                if body.to_string().contains(word) { Reply::Http(403, &[], PAGE.to_owned()) } else { good(body) }
            },
        )
    };
    for (bad, word) in [(2, "0x0202"), (3, "0x0303"), (7, "0x0707")] {
        let stub = blocking(word).await;
        let answers = chain(&[&stub]).send_all(&raws(7)).await;
        let mut expected = [SendClass::Accepted; 7];
        expected[bad - 1] = SendClass::Retry;
        assert_eq!(classes(&answers), expected, "{answers:?}");
        assert!(answers[bad - 1].message.ends_with("HTTP status 403"), "{}", answers[bad - 1].message);
    }
    // A method outside the provider's plan: the view succeeds without it, at the first try.
    let stub = blocking("eth_feeHistory").await;
    let view = chain(&[&stub]).view(&query()).await.unwrap();
    assert_eq!(view.latest_nonce, Nonce(8));
    assert_eq!(stub.asked_for("eth_chainId"), 1);
}

#[tokio::test]
async fn malformed_answer_in_a_batch_affects_only_its_call() {
    let oddities: [fn(&mut Value); 6] = [
        |item| *item = json!({"jsonrpc": "2.0", "id": item["id"]}),
        |item| *item = json!({"jsonrpc": "2.0", "result": item["result"]}),
        |item| item["id"] = json!({"number": item["id"]}),
        |item| item["id"] = json!(true),
        |item| *item = json!("nonsense"),
        |item| *item = Value::Null,
    ];
    for oddity in oddities {
        let stub = node(1, move |body| {
            Reply::Json(changed(body, |at, item| {
                if at == 2 {
                    oddity(item);
                }
            }))
        })
        .await;
        let other = node(20, good).await;
        let chain = chain(&[&stub, &other]);
        let mut expected = [SendClass::Accepted; 5];
        expected[2] = SendClass::Unknown;
        let mut config = config(&[&stub]);
        config.probe_every_ms = 600_000;
        let alone = BscChain::new(&config).unwrap();
        let requests = stub.requests();
        assert_eq!(classes(&alone.send_all(&raws(5)).await), expected);
        assert_eq!(stub.requests(), requests + 2, "nothing is repeated");
        // The endpoint stays in use.
        chain.send_all(&raws(5)).await;
        let asked = other.asked_for("eth_getBalance");
        chain.balance(ADDRESS).await.unwrap();
        assert_eq!(other.asked_for("eth_getBalance"), asked);
    }
}

#[tokio::test]
async fn partial_answers_count_and_shrink_the_next_batch() {
    let stub = node(1, |body| {
        let mut answers = each(body, &answer);
        answers.as_array_mut().unwrap().truncate(3);
        Reply::Json(answers)
    })
    .await;
    let chain = chain(&[&stub]);
    let mut expected = [SendClass::Unknown; 7];
    expected[..3].fill(SendClass::Accepted);
    assert_eq!(classes(&chain.send_all(&raws(7)).await), expected);
    assert_eq!(classes(&chain.send_all(&raws(7)).await), [SendClass::Accepted; 7]);
    assert_eq!(stub.requests(), 1 + 1 + 3);
}

#[tokio::test]
async fn reply_to_a_single_call_counts_whatever_its_id() {
    let changes: [fn(&Value) -> Value; 7] = [
        |item| json!({"jsonrpc": "2.0", "id": null, "result": item["result"]}),
        |item| json!({"result": item["result"]}),
        |item| json!({"id": "seven", "result": item["result"]}),
        |item| json!({"id": 1_000_000, "result": item["result"], "error": null}),
        |item| json!({"id": {}, "result": item["result"]}),
        |item| json!([item]),
        |item| json!([{"id": -1, "result": item["result"]}]),
    ];
    for change in changes {
        let stub = Stub::raw(move |body| Reply::Json(change(&each(body, &answer)))).await;
        let chain = chain(&[&stub]);
        assert_eq!(chain.balance(ADDRESS).await.unwrap(), Wei::from(5));
        assert_eq!(chain.send(&tx(1)).await.class, SendClass::Accepted);
        assert_eq!(stub.requests(), 3);
    }
}

/// While this value lives, paused time advances only when a test advances it, however long a socket takes.
fn hold_time() -> std::sync::mpsc::Sender<()> {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || receiver.recv());
    sender
}

#[tokio::test(start_paused = true)]
async fn failing_larger_batches_are_retried_less_and_less_often() {
    let _time = hold_time();
    let stub = node(3, |_| Reply::Http(500, &[], CODE_31.to_owned())).await;
    let chain = chain(&[&stub]);
    chain.send_all(&raws(20)).await;
    let mut tried = Vec::new();
    for second in 0..200 {
        let before = stub.requests();
        assert_eq!(classes(&chain.send_all(&raws(4)).await), [SendClass::Accepted; 4]);
        if stub.requests() - before > 2 {
            tried.push(second);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(tried, [10, 30, 70, 150]);
}

#[tokio::test(start_paused = true)]
async fn batch_size_recovers_within_a_minute_after_a_fault() {
    let _time = hold_time();
    let bad = Arc::new(AtomicU8::new(0));
    let now = Arc::clone(&bad);
    let stub = Stub::raw(move |body| {
        let is_bad = body.is_array() && now.load(Ordering::SeqCst) == 1;
        if is_bad { Reply::Http(502, &[], String::new()) } else { good(body) }
    })
    .await;
    let chain = chain(&[&stub]);
    chain.send_all(&raws(20)).await;
    bad.store(1, Ordering::SeqCst);
    chain.send_all(&raws(20)).await;
    bad.store(0, Ordering::SeqCst);
    for _ in 0..60 {
        tokio::time::advance(Duration::from_secs(1)).await;
        chain.balance(ADDRESS).await.unwrap();
    }
    let before = stub.requests();
    assert_eq!(classes(&chain.send_all(&raws(20)).await), [SendClass::Accepted; 20]);
    assert_eq!(stub.requests() - before, 1);
}
