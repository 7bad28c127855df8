//! An HTTP endpoint on loopback that answers JSON-RPC as a test specifies, and records the requests.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use signpost_bsc::{BscChain, BscConfig};
use signpost_txmgr::tx::RawTx;
use signpost_txmgr::units::{Address, ChainId, TxHash};

pub const CHAIN: ChainId = ChainId(97);
pub const ADDRESS: Address = Address([0xaa; 20]);
/// A part of every stub's URL that must never be printed.
pub const SECRET: &str = "topsecret";

/// What the stub does with a request.
pub enum Reply {
    Json(Value),
    Http(u16, &'static [(&'static str, &'static str)], String),
    Never,
}

#[derive(Clone)]
pub struct Stub {
    pub url: String,
    bodies: Arc<Mutex<Vec<Value>>>,
    authorizations: Arc<Mutex<Vec<Option<String>>>>,
}

impl Stub {
    /// Answers every HTTP request with `answer` applied to its body.
    pub async fn raw(answer: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Self {
        let bodies: Arc<Mutex<Vec<Value>>> = Arc::default();
        let authorizations: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
        let (seen, shown, answer) = (Arc::clone(&bodies), Arc::clone(&authorizations), Arc::new(answer));
        let handler = axum::routing::post(move |headers: HeaderMap, body: Bytes| {
            shown.lock().unwrap().push(headers.get(AUTHORIZATION).map(|it| it.to_str().unwrap().to_owned()));
            let body: Value = serde_json::from_slice(&body).unwrap();
            seen.lock().unwrap().push(body.clone());
            let answer = Arc::clone(&answer);
            async move {
                match answer(&body) {
                    Reply::Json(value) => response(200, &[], value.to_string()),
                    Reply::Http(status, headers, body) => response(status, headers, body),
                    Reply::Never => std::future::pending().await,
                }
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/{SECRET}", listener.local_addr().unwrap());
        let app = axum::Router::new().route("/{key}", handler).layer(axum::extract::DefaultBodyLimit::disable());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, bodies, authorizations }
    }

    /// Answers every call with `answer` applied to its method and parameters, except `eth_chainId`, which is 97.
    pub async fn calls(answer: impl Fn(&str, &Value) -> Result<Value, Value> + Send + Sync + 'static) -> Self {
        Self::raw(move |body| Reply::Json(each(body, &answer))).await
    }

    /// The calls received: method and parameters, in order.
    pub fn asked(&self) -> Vec<(String, Value)> {
        let bodies = self.bodies.lock().unwrap();
        let items = bodies.iter().flat_map(|body| body.as_array().cloned().unwrap_or_else(|| vec![body.clone()]));
        items.map(|item| (item["method"].as_str().unwrap().to_owned(), item["params"].clone())).collect()
    }

    pub fn asked_for(&self, method: &str) -> usize {
        self.asked().iter().filter(|(asked, _)| asked == method).count()
    }

    /// The `Authorization` header of each HTTP request received.
    pub fn authorizations(&self) -> Vec<Option<String>> {
        self.authorizations.lock().unwrap().clone()
    }

    /// HTTP requests received.
    pub fn requests(&self) -> usize {
        self.bodies.lock().unwrap().len()
    }
}

fn response(status: u16, headers: &[(&'static str, &'static str)], body: String) -> Response {
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// The answers to a single call or a batch.
pub fn each(body: &Value, answer: &dyn Fn(&str, &Value) -> Result<Value, Value>) -> Value {
    let one = |item: &Value| {
        let method = item["method"].as_str().unwrap();
        match if method == "eth_chainId" { Ok(json!("0x61")) } else { answer(method, &item["params"]) } {
            Ok(result) => json!({"jsonrpc": "2.0", "id": item["id"], "result": result}),
            Err(error) => json!({"jsonrpc": "2.0", "id": item["id"], "error": error}),
        }
    };
    match body.as_array() {
        Some(items) => items.iter().map(one).collect(),
        None => one(body),
    }
}

pub fn error(code: i64, message: &str) -> Value {
    json!({"code": code, "message": message})
}

/// A configuration for tests with a short timeout: answers arrive at once or never.
pub fn config(stubs: &[&Stub]) -> BscConfig {
    let mut config = BscConfig::new(CHAIN, stubs.iter().map(|stub| stub.url.clone()).collect());
    config.timeout_ms = 2_000;
    config
}

pub fn chain(stubs: &[&Stub]) -> BscChain {
    BscChain::new(&config(stubs)).unwrap()
}

/// The hash of block `height` on the canonical branch.
pub fn block_hash(height: u64) -> String {
    format!("0x{height:064x}")
}

pub fn block(height: u64) -> Value {
    json!({"number": format!("0x{height:x}"), "hash": block_hash(height), "transactions": []})
}

pub fn tx(byte: u8) -> RawTx {
    RawTx { bytes: vec![byte; 4], hash: TxHash([byte; 32]) }
}

/// Height from a `0x` parameter.
pub fn height(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

/// An error with all its sources.
pub fn whole(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
