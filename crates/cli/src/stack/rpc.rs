//! A JSON-RPC client for a node of the local stack.

use std::time::Duration;

use serde_json::{Value, json};

use super::StackError;

/// A node of the local stack. Production code uses `crates/bsc`.
#[derive(Debug, Clone)]
pub struct Rpc {
    pub(super) http: reqwest::Client,
    pub(super) url: String,
}

impl Rpc {
    /// A node at a URL. Connects to nothing yet.
    pub fn at(url: &str) -> Result<Self, StackError> {
        Ok(Self { http: http_client()?, url: url.to_owned() })
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its chain id.
    pub async fn chain_id(&self) -> Result<u64, StackError> {
        let answer = self.call("eth_chainId", json!([])).await?;
        self.number("eth_chainId", &answer)
    }

    /// Reads a quantity, 0x-hex, from the answer to a method.
    pub fn number(&self, method: &'static str, value: &Value) -> Result<u64, StackError> {
        let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
        digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(|| StackError::Node {
            url: self.url.clone(),
            method,
            reason: format!("{value} is not a number"),
        })
    }

    /// One JSON-RPC call.
    pub async fn call(&self, method: &'static str, params: Value) -> Result<Value, StackError> {
        let refused = |reason: String| StackError::Node { url: self.url.clone(), method, reason };
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let response =
            self.http.post(&self.url).json(&body).send().await.map_err(|error| refused(error.to_string()))?;
        let mut answer: Value = response.json().await.map_err(|error| refused(error.to_string()))?;
        match answer.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => Err(refused(answer.get("error").unwrap_or(&answer).to_string())),
        }
    }
}

/// An HTTP client with a short timeout, for servers on this machine.
pub(super) fn http_client() -> Result<reqwest::Client, StackError> {
    // Only the first call in a process has an effect; every caller installs the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().map_err(StackError::Http)
}
