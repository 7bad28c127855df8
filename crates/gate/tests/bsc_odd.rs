//! Each fault of odd nodes has the effect in its table.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "test code")]

mod support;

use serde_json::{Value, json};
use signpost_gate::bsc::BscFault;
use signpost_gate::change::Change;
use signpost_gate::script::{Rule, Script};
use support::{Rpc, Stub, ask, refusal};

fn call(id: u64, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// A batch of `count` calls, with ids from 1.
fn heights(count: u64) -> Value {
    (1..=count).map(|id| call(id, "eth_blockNumber", &json!([]))).collect()
}

async fn posted(rpc: &Rpc, body: &Value) -> (u16, String) {
    let response = rpc.post(body).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn answers(rpc: &Rpc, body: &Value) -> Value {
    let (status, text) = posted(rpc, body).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn script(json: &Value) -> Script<BscFault> {
    Script::parse(json).unwrap()
}

#[tokio::test]
async fn batches_are_refused_in_several_ways_but_single_calls_work() {
    let (gate, rpc) = Stub::rich().gate(|_| {}).await;
    let code_31 = r#"{"error":{"code":31,"message":"Batch of more than 3 requests are not allowed"},"id":1}"#;
    for (fault, most, status, text) in [
        (BscFault::BatchLimit, 3, 500, code_31),
        (BscFault::TooLarge, 0, 413, "<html>"),
        (BscFault::NoArrays, 0, 400, "invalid request"),
        (BscFault::OneErrorForAll, 0, 200, r#"[{"error":{"code":31,"#),
    ] {
        gate.control().set(Rule::new(fault));
        let (found, body) = posted(&rpc, &heights(most + 1)).await;
        assert_eq!((found, body.starts_with(text)), (status, true), "{body}");
        if most > 0 {
            assert_eq!(answers(&rpc, &heights(most)).await[0]["result"], "0x64");
        }
        assert_eq!(rpc.call("eth_blockNumber", json!([])).await, "0x64");
    }
    gate.control().set(Rule::new(BscFault::OneErrorForAll).above(5).error(-32603, "no"));
    assert_eq!(answers(&rpc, &heights(5)).await[4]["result"], "0x64");
    let all = answers(&rpc, &heights(6)).await;
    assert_eq!((&all[5]["id"], &all[5]["error"]), (&json!(6), &json!({ "code": -32603, "message": "no" })));
}

#[tokio::test]
async fn gateway_answers_instead_of_the_node() {
    let (gate, rpc) = Stub::rich().gate(|_| {}).await;
    gate.control().set(Rule::new(BscFault::Denied));
    let (status, body) = posted(&rpc, &heights(1)).await;
    assert!(status == 403 && body.contains("not allowed"), "{body}");
    gate.control()
        .set(script(&json!([{ "fault": "denied", "status": 307, "body": "", "headers": { "location": "/x" } }])));
    let quiet = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let response = quiet.post(gate.url()).json(&heights(1)).send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["location"]), (307, &"/x".parse().unwrap()));
    gate.control().set(Rule::new(BscFault::EmptyBody));
    assert_eq!(posted(&rpc, &heights(1)).await, (200, String::new()));
}

#[tokio::test]
async fn single_answers_and_batches_are_corrupted() {
    let (gate, rpc) = Stub::rich().gate(|_| {}).await;
    let ids = async |fault| {
        gate.control().set(Rule::new(fault));
        let all = answers(&rpc, &heights(2)).await;
        let alone = answers(&rpc, &call(1, "eth_blockNumber", &json!([]))).await;
        [all[0]["id"].clone(), all[1]["id"].clone(), alone["id"].clone()]
    };
    assert_eq!(ids(BscFault::ForeignIds).await, [json!("call-1"), json!("call-2"), json!("call-1")]);
    assert_eq!(ids(BscFault::ShiftedIds).await, [2, 3, 2]);
    assert_eq!(ids(BscFault::NoIds).await, [Value::Null, Value::Null, Value::Null]);
    gate.control().set(Rule::new(BscFault::Nested));
    assert_eq!(answers(&rpc, &heights(2)).await["result"][1]["result"], "0x64");
    gate.control().set(Rule::new(BscFault::MissingAnswers));
    assert_eq!(answers(&rpc, &heights(5)).await.as_array().unwrap().len(), 3);
    gate.control().set(Rule::new(BscFault::OddItem));
    assert_eq!(answers(&rpc, &heights(2)).await[1], "nonsense");
    gate.control().set(Rule::new(BscFault::OddItem).change(Change::Remove(vec!["result".to_owned()])));
    assert_eq!(answers(&rpc, &heights(2)).await[1], json!({ "jsonrpc": "2.0", "id": 2 }));
    gate.control().set(Rule::new(BscFault::Truncated));
    assert!(serde_json::from_str::<Value>(&posted(&rpc, &heights(2)).await.1).is_err());
    gate.control().set(Rule::new(BscFault::Wrapped));
    assert!(posted(&rpc, &heights(2)).await.1.starts_with("\u{feff}["));
}

#[tokio::test]
async fn one_url_has_two_backends() {
    let (gate, rpc) = Stub::rich().gate(|_| {}).await;
    let other = json!([{ "fault": "otherBackend", "every": 2, "rules": [{ "fault": "stale", "blocks": 36 }] }]);
    gate.control().set(script(&other));
    for expected in ["0x40", "0x64", "0x40"] {
        let all = answers(&rpc, &heights(3)).await;
        assert!(all.as_array().unwrap().iter().all(|answer| answer["result"] == expected), "{all}");
    }
    assert_eq!(gate.control().stats().faults["otherBackend"], 2);
}

#[tokio::test]
async fn methods_are_missing_and_results_are_odd() {
    let stub = Stub::rich();
    stub.say("eth_getTransactionReceipt", json!({ "blockNumber": "0x5", "logs": [] }));
    let (gate, rpc) = stub.gate(|_| {}).await;
    gate.control().set(Rule::new(BscFault::NoMethod));
    let words = "the method eth_getBlockReceipts does not exist/is not available";
    assert_eq!(refusal(&rpc.answer("eth_getBlockReceipts", json!([])).await), (-32601, words.to_owned()));
    gate.control().set(script(&json!([
        { "fault": "error", "contains": "finalized", "code": -39001, "message": "Unknown block" },
        { "fault": "oddResult", "methods": ["eth_getTransactionReceipt"], "changes": [{ "remove": ["logs"] }] },
        { "fault": "oddResult", "methods": ["eth_getTransactionCount"], "changes": [{ "add": 7 }] },
        { "fault": "noMethod", "methods": ["eth_getBalance"], "every": 2 },
    ])));
    let answer = rpc.answer("eth_getTransactionCount", json!(["0xaa", "finalized"])).await;
    assert_eq!(refusal(&answer).0, -39001);
    assert_eq!(rpc.call("eth_getTransactionCount", json!(["0xaa", "latest"])).await, "0x7");
    assert_eq!(rpc.call("eth_getTransactionReceipt", json!(["0x01"])).await, json!({ "blockNumber": "0x5" }));
    assert_eq!(refusal(&rpc.answer("eth_getBalance", json!(["0xaa"])).await).0, -32601);
    assert_eq!(rpc.call("eth_getBalance", json!(["0xaa"])).await, "0x8ac7230489e80000");
}

#[tokio::test]
async fn accepted_send_is_answered_with_an_error() {
    let stub = Stub::rich();
    let (gate, rpc) = stub.gate(|_| {}).await;
    gate.control().set(Rule::new(BscFault::ErrorAfterForward));
    assert_eq!(rpc.send(&ask(0).raw()).await, Err((-32603, "internal error".to_owned())));
    assert_eq!(stub.count("eth_sendRawTransaction"), 1);
    gate.control().clear();
    assert_eq!(rpc.send(&ask(0).raw()).await, Err((-32000, "already known".to_owned())));
}

#[tokio::test]
async fn frozen_node_does_not_know_later_blocks() {
    let stub = Stub::rich();
    stub.say("eth_getBlockByNumber", json!({ "number": "0x62", "hash": format!("0x{}", "0f".repeat(32)) }));
    stub.say("eth_getTransactionReceipt", json!({ "blockNumber": "0x5a" }));
    let (gate, rpc) = stub.gate(|_| {}).await;
    gate.control().set(script(&json!([{ "fault": "frozen", "height": 80 }])));
    for head in ["0x64", "0x70"] {
        stub.say("eth_blockNumber", json!(head));
        assert_eq!(rpc.call("eth_blockNumber", json!([])).await, "0x50");
    }
    assert_eq!(rpc.call("eth_getTransactionReceipt", json!(["0x01"])).await, Value::Null);
    rpc.call("eth_getTransactionCount", json!(["0xaa", "finalized"])).await;
    assert_eq!(stub.last("eth_getTransactionCount"), json!(["0xaa", "0x42"]), "98, with the lag of the head");
}

#[tokio::test]
async fn lying_node_has_another_branch_and_invented_receipts() {
    let stub = Stub::rich();
    let hash = format!("0x{}", "0f".repeat(32));
    stub.say("eth_getBlockByNumber", json!({ "number": "0x62", "hash": hash }));
    stub.say("eth_getBlockByHash", json!({ "number": "0x62", "hash": hash }));
    let (gate, rpc) = stub.gate(|_| {}).await;
    gate.control().set(Rule::new(BscFault::OtherBranch));
    let block = rpc.call("eth_getBlockByNumber", json!(["latest", false])).await;
    assert!(block["hash"].as_str().unwrap().starts_with("0xf00f"), "{block}");
    assert_eq!(rpc.call("eth_getBlockByHash", json!([block["hash"], false])).await["hash"], block["hash"]);
    assert_eq!(stub.last("eth_getBlockByHash"), json!([hash, false]));
    gate.control().set(Rule::new(BscFault::InventedReceipts));
    let receipt = rpc.call("eth_getTransactionReceipt", json!(["0xabc"])).await;
    assert_eq!((&receipt["transactionHash"], &receipt["blockHash"]), (&json!("0xabc"), &json!(hash)));
}
