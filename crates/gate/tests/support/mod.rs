//! Shared code of the gate's tests: transactions signed by keys in memory, also forged ones, a JSON-RPC client, and a
//! small stub of the node behind the gate.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(unreachable_pub, reason = "a module of several test crates")]
#![allow(clippy::as_conversions, clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::Router;
use axum::extract::State;
use rlp::RlpStream;
use serde_json::{Value, json};
use signpost_gate::bsc::{BscGate, BscGateConfig};
use signpost_txmgr::signature::LocalKey;
use signpost_txmgr::tx::{Fee, Intent, RawTx, Signature, UnsignedTx};
use signpost_txmgr::units::{Address, ChainId, Gas, Nonce, SigningHash, U256, Wei, keccak256};

/// Chapel.
pub const CHAIN: u64 = 97;
/// 0.1 gwei, the lowest price on Chapel.
pub const FLOOR: u64 = 100_000_000;

/// A key in memory.
pub fn key(seed: u8) -> LocalKey {
    LocalKey::new([seed; 32])
}

pub fn address(seed: u8) -> Address {
    key(seed).public_key().address()
}

/// A transaction to sign; every field can be changed.
#[derive(Clone)]
pub struct Ask {
    pub key: u8,
    pub chain: u64,
    pub nonce: u64,
    pub fee: Fee,
    pub gas: u64,
    pub to: Option<Address>,
    pub value: Wei,
    pub data: Vec<u8>,
}

pub fn ask(nonce: u64) -> Ask {
    Ask {
        key: 0x11,
        chain: CHAIN,
        nonce,
        fee: dynamic(FLOOR, FLOOR),
        gas: 21_000,
        to: Some(Address([0x77; 20])),
        value: Wei::from(1),
        data: Vec::new(),
    }
}

pub fn dynamic(cap: u64, tip: u64) -> Fee {
    Fee::Dynamic { max_fee_per_gas: Wei::from(cap), max_priority_fee_per_gas: Wei::from(tip) }
}

pub fn legacy(price: u64) -> Fee {
    Fee::Legacy { gas_price: Wei::from(price) }
}

impl Ask {
    pub fn signed(&self) -> RawTx {
        let intent = self.intent();
        let unsigned = UnsignedTx { intent: &intent, nonce: Nonce(self.nonce), fee: self.fee };
        unsigned.sign(&sign(self.key, &unsigned.signing_hash()))
    }

    pub fn raw(&self) -> String {
        hexed(&self.signed().bytes)
    }

    pub fn intent(&self) -> Intent {
        Intent {
            chain_id: ChainId(self.chain),
            to: self.to,
            value: self.value,
            data: Arc::from(&self.data[..]),
            gas: Gas(self.gas),
        }
    }

    /// Signed, with `s` in the upper half, as half of the signatures by KMS are.
    pub fn high_s(&self) -> String {
        let order =
            U256::from_str_radix("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16).unwrap();
        let intent = self.intent();
        let unsigned = UnsignedTx { intent: &intent, nonce: Nonce(self.nonce), fee: self.fee };
        let low = sign(self.key, &unsigned.signing_hash());
        let s = (order - U256::from_big_endian(&low.s)).to_big_endian();
        hexed(&unsigned.sign(&Signature { s, y_odd: !low.y_odd, ..low }).bytes)
    }
}

pub fn sign(seed: u8, hash: &SigningHash) -> Signature {
    let key = key(seed);
    key.public_key().signature(hash, &key.sign_der(hash, false)).unwrap()
}

pub fn hexed(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// A field of a forged transaction, as RLP.
pub fn number(number: u64) -> Vec<u8> {
    bytes(&number.to_be_bytes()[number.leading_zeros() as usize / 8..])
}

pub fn bytes(bytes: &[u8]) -> Vec<u8> {
    rlp::encode(&bytes).to_vec()
}

pub fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = RlpStream::new_list(items.len());
    for item in items {
        stream.append_raw(item, 1);
    }
    stream.out().to_vec()
}

/// The fields of a type 2 transaction before the signature.
pub fn fields_of_dynamic() -> Vec<Vec<u8>> {
    let numbers = [CHAIN, 0, FLOOR, FLOOR, 21_000].map(number);
    [&numbers[..], &[bytes(&[0x77; 20]), number(1), bytes(&[]), list(&[])]].concat()
}

/// Signs any fields and encodes the transaction: a legacy one without replay protection for type 0, else a typed one.
pub fn forged(kind: u8, fields: &[Vec<u8>]) -> String {
    let prefix: &[u8] = if kind == 0 { &[] } else { std::slice::from_ref(&kind) };
    let hash = SigningHash(keccak256(&[prefix, &list(fields)].concat()));
    let signature = sign(0x11, &hash);
    let v = if kind == 0 { 27 + u64::from(signature.y_odd) } else { u64::from(signature.y_odd) };
    assembled(kind, fields, number(v), &signature.r, &signature.s)
}

/// Encodes a transaction from fields and any signature.
pub fn assembled(kind: u8, fields: &[Vec<u8>], v: Vec<u8>, r: &[u8], s: &[u8]) -> String {
    let trimmed = |word: &[u8]| bytes(&word[word.iter().position(|byte| *byte != 0).unwrap_or(word.len())..]);
    let all = list(&[fields, &[v, trimmed(r), trimmed(s)]].concat());
    let prefix: &[u8] = if kind == 0 { &[] } else { std::slice::from_ref(&kind) };
    hexed(&[prefix, &all].concat())
}

/// A client of a node.
pub struct Rpc {
    pub http: reqwest::Client,
    pub url: String,
}

impl Rpc {
    pub fn new(url: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { http, url: url.to_owned() }
    }

    pub async fn post(&self, body: &Value) -> reqwest::Result<reqwest::Response> {
        self.http.post(&self.url).json(body).send().await
    }

    /// The whole answer.
    pub async fn answer(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        let answer: Value = self.post(&body).await.unwrap().json().await.unwrap();
        assert_eq!(answer["id"], 7, "{answer}");
        answer
    }

    /// The result; an error fails the test.
    pub async fn call(&self, method: &str, params: Value) -> Value {
        let mut answer = self.answer(method, params).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    /// Sends a transaction. Returns its hash, or code and message.
    pub async fn send(&self, raw: &str) -> Result<String, (i64, String)> {
        let answer = self.answer("eth_sendRawTransaction", json!([raw])).await;
        match answer["result"].as_str() {
            Some(hash) => Ok(hash.to_owned()),
            None => Err(refusal(&answer)),
        }
    }
}

pub fn refusal(answer: &Value) -> (i64, String) {
    let error = &answer["error"];
    (error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned())
}

/// A node with fixed answers by method.
#[derive(Clone, Default)]
pub struct Stub {
    pub state: Arc<Mutex<StubState>>,
}

#[derive(Default)]
pub struct StubState {
    /// The answers: a result, or an object with `error`.
    pub answers: BTreeMap<String, Value>,
    /// The received calls.
    pub asked: Vec<(String, Value)>,
}

impl Stub {
    /// A node with an unused account of 10 BNB on a chain of 100 blocks, which keeps the transactions it gets.
    pub fn rich() -> Self {
        let stub = Self::default();
        stub.say("eth_getTransactionCount", json!("0x0"));
        stub.say("eth_getBalance", json!("0x8ac7230489e80000"));
        stub.say("eth_getCode", json!("0x"));
        stub.say("eth_getTransactionByHash", json!({ "blockNumber": null }));
        stub.say("eth_sendRawTransaction", json!("0x01"));
        stub.say("eth_blockNumber", json!("0x64"));
        stub.say("anvil_dropTransaction", json!("0x01"));
        stub
    }

    pub fn say(&self, method: &str, answer: Value) {
        self.state.lock().unwrap().answers.insert(method.to_owned(), answer);
    }

    /// How often a method was called.
    pub fn count(&self, method: &str) -> usize {
        self.state.lock().unwrap().asked.iter().filter(|(asked, _)| asked == method).count()
    }

    /// The parameters of the last call of a method.
    pub fn last(&self, method: &str) -> Value {
        let state = self.state.lock().unwrap();
        state.asked.iter().rev().find(|(asked, _)| asked == method).unwrap().1.clone()
    }

    /// Starts to listen, and starts a gate in front of itself.
    pub async fn gate(&self, change: impl FnOnce(&mut BscGateConfig)) -> (BscGate, Rpc) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer_of_stub).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let mut config = BscGateConfig::new(&url, CHAIN);
        change(&mut config);
        let gate = BscGate::start(config).await.unwrap();
        let rpc = Rpc::new(&gate.url());
        (gate, rpc)
    }
}

async fn answer_of_stub(State(stub): State<Stub>, Json(body): Json<Value>) -> Json<Value> {
    let mut state = stub.state.lock().unwrap();
    let mut answer = |call: &Value| {
        let method = call["method"].as_str().unwrap().to_owned();
        let found = state.answers.get(&method).cloned();
        state.asked.push((method, call["params"].clone()));
        let id = &call["id"];
        match found {
            Some(answer) if answer.get("error").is_some() => {
                json!({ "jsonrpc": "2.0", "id": id, "error": answer["error"] })
            }
            Some(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            None => json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32601, "message": "Method not found" } }),
        }
    };
    Json(match body.as_array() {
        Some(calls) => calls.iter().map(&mut answer).collect(),
        None => answer(&body),
    })
}
