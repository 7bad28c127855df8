//! The node behind the gate: one JSON-RPC call at a time, or a few at once.

use serde_json::{Value, json};
use signpost_txmgr::units::{Address, TxHash, U256};

use super::refusal::Refusal;

/// Why a call has no result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The node, or the gate instead of it, answered with an error.
    Refused(Refusal),
    /// The node behind does not answer.
    Down(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The node behind the gate.
#[derive(Debug)]
pub(crate) struct Upstream {
    http: reqwest::Client,
    url: String,
}

impl Upstream {
    pub(crate) fn new(http: reqwest::Client, url: String) -> Self {
        Self { http, url }
    }

    /// One call.
    pub(crate) async fn call(&self, method: &str, params: Value) -> Result<Value, Failure> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        result(self.post(&body).await?)
    }

    /// Calls one method for each of these parameters, and returns the results in order.
    pub(crate) async fn calls(&self, method: &str, params: Vec<Value>) -> Result<Vec<Value>, Failure> {
        if params.is_empty() {
            return Ok(Vec::new());
        }
        let call = |(id, params)| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let body: Value = params.into_iter().enumerate().map(call).collect();
        let answers = self.post(&body).await?;
        let Value::Array(mut answers) = answers else {
            return Err(Failure::Down(format!("not a batch: {answers}")));
        };
        answers.sort_by_key(|answer| answer["id"].as_u64());
        answers.into_iter().map(result).collect()
    }

    /// The transaction count of an account in the latest block.
    pub(crate) async fn count(&self, address: Address) -> Result<u64, Failure> {
        let count = self.call("eth_getTransactionCount", json!([address.lower(), "latest"])).await?;
        number(&count).ok_or_else(|| strange("eth_getTransactionCount", &count))
    }

    /// The balance of an account in wei.
    pub(crate) async fn balance(&self, address: Address) -> Result<U256, Failure> {
        let balance = self.call("eth_getBalance", json!([address.lower(), "latest"])).await?;
        wide(&balance).ok_or_else(|| strange("eth_getBalance", &balance))
    }

    /// Whether an address has code.
    pub(crate) async fn has_code(&self, address: Address) -> Result<bool, Failure> {
        let code = self.call("eth_getCode", json!([address.lower(), "latest"])).await?;
        Ok(code.as_str().is_some_and(|code| code.len() > 2))
    }

    /// For each of these transactions, whether the node has it in its pool or in a block.
    pub(crate) async fn knows(&self, hashes: &[TxHash]) -> Result<Vec<bool>, Failure> {
        let params = hashes.iter().map(|hash| json!([hash.to_string()])).collect();
        let answers = self.calls("eth_getTransactionByHash", params).await?;
        Ok(answers.iter().map(|answer| !answer.is_null()).collect())
    }

    async fn post(&self, body: &Value) -> Result<Value, Failure> {
        let response =
            self.http.post(&self.url).json(body).send().await.map_err(|error| Failure::Down(chain_of(&error)))?;
        response.json().await.map_err(|error| Failure::Down(chain_of(&error)))
    }
}

fn result(mut answer: Value) -> Result<Value, Failure> {
    if let Some(result) = answer.get_mut("result") {
        return Ok(result.take());
    }
    let error = &answer["error"];
    let (Some(code), Some(message)) = (error["code"].as_i64(), error["message"].as_str()) else {
        return Err(Failure::Down(format!("neither result nor error: {answer}")));
    };
    Err(Refusal::Upstream { code, message: message.to_owned(), data: error.get("data").cloned() }.into())
}

fn strange(method: &str, answer: &Value) -> Failure {
    Failure::Down(format!("{method} answered {answer}"))
}

/// Parses a JSON-RPC quantity of at most 64 bits.
pub(crate) fn number(quantity: &Value) -> Option<u64> {
    u64::from_str_radix(quantity.as_str()?.strip_prefix("0x")?, 16).ok()
}

/// Parses a JSON-RPC quantity.
pub(crate) fn wide(quantity: &Value) -> Option<U256> {
    U256::from_str_radix(quantity.as_str()?.strip_prefix("0x")?, 16).ok()
}

/// Formats a number as a JSON-RPC quantity.
pub(crate) fn quantity(number: u64) -> Value {
    Value::String(format!("{number:#x}"))
}

fn chain_of(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
