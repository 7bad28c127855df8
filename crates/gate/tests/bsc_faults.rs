//! Each fault of the BSC gate has the effect in its table, and only for the calls of its rule.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "test code")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use signpost_gate::bsc::BscFault;
use signpost_gate::script::{Rule, Script};
use support::{Rpc, Stub, ask, refusal};

fn block(number: u64) -> Value {
    let (height, hash) = (format!("{number:#x}"), format!("{number:#066x}"));
    json!({ "number": height, "hash": hash, "timestamp": "0x6553f100", "transactions": [] })
}

fn height() -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber" })
}

#[tokio::test]
async fn http_errors_look_like_those_of_providers() {
    let (gate, rpc) = Stub::rich().gate(|_| {}).await;
    for (fault, status, content_type) in [
        (BscFault::Http429, 429, "text/plain"),
        (BscFault::Http503, 503, "text/plain"),
        (BscFault::Html, 502, "text/html"),
        (BscFault::PlainText, 400, "text/plain"),
    ] {
        gate.control().set(Rule::new(fault).times(1));
        let response = rpc.post(&height()).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], content_type);
        assert_eq!(response.headers().get("retry-after").is_some(), fault == BscFault::Http429);
        assert!(serde_json::from_str::<Value>(&response.text().await.unwrap()).is_err(), "not JSON");
        assert_eq!(rpc.call("eth_blockNumber", json!([])).await, "0x64", "once only");
    }
    let stats = gate.control().stats();
    assert_eq!((stats.calls["eth_blockNumber"], stats.succeeded["eth_blockNumber"]), (8, 4));
    assert_eq!(stats.faults["http429"], 1);
}

#[tokio::test]
async fn rate_limit_is_inside_a_batch_with_http_200() {
    let (gate, rpc) = Stub::rich().gate(|_| {}).await;
    gate.control().set(Rule::new(BscFault::Rpc429InBatch).methods(&["eth_getBalance"]));
    let batch =
        json!([height(), { "jsonrpc": "2.0", "id": 2, "method": "eth_getBalance", "params": ["0x", "latest"] }]);
    let response = rpc.post(&batch).await.unwrap();
    assert_eq!(response.status(), 200);
    let answers: Value = response.json().await.unwrap();
    assert_eq!(answers[0]["result"], "0x64");
    assert_eq!(answers[1]["error"]["code"], 429);
    gate.control().set(Rule::new(BscFault::Code32005));
    let answer = rpc.answer("eth_blockNumber", json!([])).await;
    assert_eq!(refusal(&answer), (-32005, "limit exceeded".to_owned()));
    gate.control().set(Rule::new(BscFault::Error).error(-32000, "transaction underpriced"));
    let answer = rpc.answer("eth_blockNumber", json!([])).await;
    assert_eq!(refusal(&answer), (-32000, "transaction underpriced".to_owned()));
}

#[tokio::test]
async fn transaction_is_pooled_although_the_reply_is_lost() {
    let stub = Stub::rich();
    let (gate, rpc) = stub.gate(|_| {}).await;
    gate.control().set(Rule::new(BscFault::ResetAfterForward).times(1));
    let send =
        |nonce| json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [ask(nonce).raw()] });
    assert!(rpc.post(&send(0)).await.is_err(), "no answer");
    assert_eq!(stub.count("eth_sendRawTransaction"), 1, "the node has it");
    assert_eq!(rpc.send(&ask(0).raw()).await, Err((-32000, "already known".to_owned())));

    gate.control().set(Rule::new(BscFault::ResetBeforeForward).times(1));
    assert!(rpc.post(&send(1)).await.is_err());
    assert_eq!(stub.count("eth_sendRawTransaction"), 1, "the node does not have this one");
    assert!(rpc.send(&ask(1).raw()).await.is_ok());
}

#[tokio::test]
async fn send_takes_effect_although_its_caller_gives_up() {
    let stub = Stub::rich();
    let (gate, rpc) = stub.gate(|_| {}).await;
    let hasty = reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(400)).build().unwrap();
    let hasty = Rpc { http: hasty, url: gate.url() };
    let send = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [ask(0).raw()] });
    gate.control().set(Rule::new(BscFault::TimeoutBeforeForward).times(1));
    assert!(hasty.post(&send).await.unwrap_err().is_timeout());
    assert_eq!(stub.count("eth_sendRawTransaction"), 0);
    gate.control().set(Rule::new(BscFault::TimeoutAfterForward).times(1));
    assert!(hasty.post(&send).await.unwrap_err().is_timeout());
    assert_eq!(stub.count("eth_sendRawTransaction"), 1);
    gate.control().set(Rule::new(BscFault::TimeoutAfterForward).times(1).delay_ms(1));
    assert!(!rpc.post(&height()).await.unwrap_err().is_timeout(), "the gate closes the connection");
    gate.control().set(Rule::new(BscFault::Slow).delay_ms(1));
    assert_eq!(rpc.call("eth_blockNumber", json!([])).await, "0x64");
}

#[tokio::test]
async fn silent_drop_returns_the_hash_and_forwards_nothing() {
    let stub = Stub::rich();
    let (gate, rpc) = stub.gate(|_| {}).await;
    gate.control().set(Rule::new(BscFault::SilentDrop).times(1));
    assert_eq!(rpc.send(&ask(0).raw()).await, Ok(ask(0).signed().hash.to_string()));
    assert_eq!(stub.count("eth_sendRawTransaction"), 0);
    assert_eq!(gate.control().stats().accepted, 0);
    assert!(rpc.send(&ask(0).raw()).await.is_ok(), "not already known");
    assert_eq!(stub.count("eth_sendRawTransaction"), 1);
}

#[tokio::test]
async fn receipts_are_null_or_being_indexed() {
    let stub = Stub::rich();
    stub.say("eth_getTransactionReceipt", json!({ "blockNumber": "0x60" }));
    let (gate, rpc) = stub.gate(|_| {}).await;
    gate.control().set(Rule::new(BscFault::NullReceipts).times(1));
    assert_eq!(rpc.call("eth_getTransactionReceipt", json!(["0x01"])).await, Value::Null);
    gate.control().set(Rule::new(BscFault::Indexing).times(1));
    let answer = rpc.answer("eth_getTransactionReceipt", json!(["0x01"])).await;
    assert_eq!(refusal(&answer), (-32000, "transaction indexing is in progress".to_owned()));
    assert_eq!(rpc.call("eth_getTransactionReceipt", json!(["0x01"])).await["blockNumber"], "0x60");
}

#[tokio::test]
async fn stale_node_does_not_know_the_last_blocks() {
    let stub = Stub::rich();
    let (gate, rpc) = stub.gate(|_| {}).await;
    gate.control().set(Rule::new(BscFault::Stale).blocks(5));
    assert_eq!(rpc.call("eth_blockNumber", json!([])).await, "0x5f");
    for (height, known) in [(95_u64, true), (96, false)] {
        let mined = json!({ "blockNumber": format!("{height:#x}"), "blockHash": "0x01", "transactionIndex": "0x0" });
        stub.say("eth_getTransactionReceipt", mined.clone());
        stub.say("eth_getTransactionByHash", mined);
        let receipt = rpc.call("eth_getTransactionReceipt", json!(["0x01"])).await;
        assert_eq!(!receipt.is_null(), known);
        let found = rpc.call("eth_getTransactionByHash", json!(["0x01"])).await;
        assert_eq!(!found["blockHash"].is_null(), known, "pending on this node");
    }
    rpc.call("eth_getTransactionCount", json!(["0xaa", "latest"])).await;
    assert_eq!(stub.last("eth_getTransactionCount"), json!(["0xaa", "0x5f"]));
    rpc.call("eth_getBalance", json!(["0xaa"])).await;
    assert_eq!(stub.last("eth_getBalance"), json!(["0xaa", "0x5f"]));
    stub.say("eth_getBlockByNumber", block(98));
    rpc.call("eth_getBlockByNumber", json!(["latest", false])).await;
    assert_eq!(stub.last("eth_getBlockByNumber"), json!(["0x5f", false]));
    assert_eq!(rpc.call("eth_getBlockByNumber", json!(["0x60", false])).await, Value::Null);
    rpc.call("eth_getFinalizedHeader", json!([-2])).await;
    assert_eq!(stub.last("eth_getBlockByNumber"), json!(["0x5d", false]), "98 - 5");
}

#[tokio::test]
async fn finality_goes_back_only_in_calls_about_finality() {
    let stub = Stub::rich();
    stub.say("eth_getBlockByNumber", block(98));
    let (gate, rpc) = stub.gate(|_| {}).await;
    gate.control().set(Rule::new(BscFault::FinalizedBack).blocks(10));
    for (method, params) in [
        ("eth_getFinalizedHeader", json!([21])),
        ("eth_getFinalizedBlock", json!([-3, false])),
        ("eth_getBlockByNumber", json!(["finalized", false])),
        ("eth_getBlockByNumber", json!(["safe", false])),
    ] {
        rpc.call(method, params).await;
        assert_eq!(stub.last("eth_getBlockByNumber"), json!(["0x58", false]), "{method}");
    }
    rpc.call("eth_getBlockByNumber", json!(["latest", false])).await;
    assert_eq!(stub.last("eth_getBlockByNumber"), json!(["latest", false]));
    assert_eq!(gate.control().stats().faults["finalizedBack"], 4);
}

#[tokio::test]
async fn bsc_methods_work_and_unknown_ones_are_refused() {
    let stub = Stub::rich();
    stub.say("eth_getBlockByNumber", block(98));
    let (_gate, rpc) = stub.gate(|_| {}).await;
    let header = rpc.call("eth_getFinalizedHeader", json!([-1])).await;
    assert_eq!((&header["number"], &header["milliTimestamp"]), (&json!("0x62"), &json!("0x18bcfe56800")));
    assert!(header.get("transactions").is_none());
    assert!(rpc.call("eth_getFinalizedBlock", json!([1, true])).await.get("transactions").is_some());
    assert_eq!(stub.last("eth_getBlockByNumber"), json!(["finalized", true]));
    for wrong in [0, 22, -4] {
        let answer = rpc.answer("eth_getFinalizedHeader", json!([wrong])).await;
        let message = format!("{wrong} neither within the range [1,21] nor the range [-3,-1]");
        assert_eq!(refusal(&answer), (-32000, message));
    }
    let answer = rpc.answer("eth_sendRawTransactionSync", json!([])).await;
    let message = "the method eth_sendRawTransactionSync does not exist/is not available";
    assert_eq!(refusal(&answer), (-32601, message.to_owned()));
    // If the node reports no finalized block, it is two below the head.
    stub.say("eth_getBlockByNumber", Value::Null);
    rpc.call("eth_getFinalizedHeader", json!([-1])).await;
    assert_eq!(stub.last("eth_getBlockByNumber"), json!(["0x62", false]));
}

#[tokio::test]
async fn batch_is_answered_in_order_unless_scripted() {
    let (gate, rpc) = Stub::rich().gate(|_| {}).await;
    let batch: Value =
        (1..=3).map(|id| json!({ "jsonrpc": "2.0", "id": id, "method": "eth_blockNumber", "params": [] })).collect();
    let ids = async |rpc: &Rpc| {
        let answers: Value = rpc.post(&batch).await.unwrap().json().await.unwrap();
        answers.as_array().unwrap().iter().map(|answer| answer["id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&rpc).await, [1, 2, 3]);
    gate.control().set(Rule::new(BscFault::ReorderBatch));
    assert_eq!(ids(&rpc).await, [3, 2, 1]);
    gate.control().set(Rule::new(BscFault::DuplicateAnswers));
    assert_eq!(ids(&rpc).await, [1, 2, 3, 1, 2, 3]);
    gate.control().clear();
    for (body, code) in [(json!([]), -32600), (Value::Array(vec![height(); 1_001]), -32600)] {
        let answer: Value = rpc.post(&body).await.unwrap().json().await.unwrap();
        let answer = if answer.is_array() { &answer[0] } else { &answer };
        assert_eq!(answer["error"]["code"], code);
    }
    let large = rpc.http.post(gate.url()).body(vec![b' '; 5_242_881]).send().await.unwrap();
    assert_eq!(large.status(), 413);
}

#[tokio::test]
async fn script_is_set_and_counts_are_read_over_http() {
    let (gate, rpc) = Stub::rich().gate(|_| {}).await;
    let post =
        async |body: Value| rpc.http.post(format!("{}/_gate/script", gate.url())).json(&body).send().await.unwrap();
    let get = async |name: &str| -> Value {
        rpc.http.get(format!("{}/_gate/{name}", gate.url())).send().await.unwrap().json().await.unwrap()
    };
    let rule = json!([{ "fault": "code32005", "methods": ["eth_blockNumber"], "times": 1 }]);
    assert_eq!(post(rule).await.status(), 200);
    rpc.answer("eth_blockNumber", json!([])).await;
    assert_eq!(get("script").await[0]["fired"], 1);
    let stats = get("stats").await;
    assert_eq!((&stats["faults"]["code32005"], &stats["calls"]["eth_blockNumber"]), (&json!(1), &json!(1)));
    let refused = post(json!([{ "fault": "nonsense" }])).await;
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("unknown variant `nonsense`"));
    assert_eq!(post(json!({ "seed": 1, "faults": "all" })).await.status(), 200);
    assert!(get("script").await.as_array().unwrap().len() > 15);
    assert_eq!(post(json!([])).await.status(), 200);
    assert_eq!(get("script").await, json!([]));
}

#[tokio::test]
async fn two_nodes_with_different_scripts_disagree() {
    let stub = Stub::rich();
    let (gate, fresh) = stub
        .gate(|config| {
            let address = config.listen[0];
            config.listen.push(address);
        })
        .await;
    gate.control_of(1).set(Rule::new(BscFault::Stale).blocks(7));
    let behind = Rpc::new(&gate.urls()[1]);
    assert_eq!(fresh.call("eth_blockNumber", json!([])).await, "0x64");
    assert_eq!(behind.call("eth_blockNumber", json!([])).await, "0x5d");
}

#[tokio::test]
async fn most_calls_succeed_with_all_faults_and_runs_repeat() {
    let run = async || {
        let (gate, rpc) = Stub::rich().gate(|_| {}).await;
        let mut script = Script::all(42);
        script.rules.retain(|rule: &Rule<BscFault>| !format!("{:?}", rule.fault).starts_with("Timeout"));
        gate.control().set(script);
        for _ in 0..200 {
            let _ = rpc.post(&json!([height(), height()])).await;
        }
        gate.control().stats()
    };
    let stats = run().await;
    assert!(stats.succeeded["eth_blockNumber"] > 250, "{stats:?}");
    assert!(stats.faults.len() > 5, "{stats:?}");
    assert_eq!(stats, run().await);
}

#[tokio::test]
async fn stopped_gate_answers_nothing() {
    let (gate, rpc) = Stub::rich().gate(|_| {}).await;
    assert_eq!(rpc.call("eth_blockNumber", json!([])).await, "0x64");
    gate.stop();
    assert!(rpc.post(&height()).await.is_err(), "not even on the open connection");
}

#[tokio::test]
async fn unreachable_node_leads_to_a_bad_gateway() {
    let gate = signpost_gate::bsc::BscGate::start(signpost_gate::bsc::BscGateConfig::new("http://127.0.0.1:1", 97))
        .await
        .unwrap();
    let response = Rpc::new(&gate.url()).post(&height()).await.unwrap();
    assert_eq!(response.status(), 502);
}
