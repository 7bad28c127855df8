//! Answers reads like a BSC node: with BSC's own methods and fields, and like a node that is behind or whose finality
//! goes back.
//!
//! Read next: [`super::node`].

use serde_json::{Value, json};

use super::chain::Chain;
use super::refusal::Refusal;
use super::upstream::{Failure, number, quantity};

/// The default distance of the final block from the head (BEP-126), if the node behind does not report one.
const FINAL_BEHIND: u64 = 2;
/// Fields of a block that are not in a header.
const BODY: [&str; 5] = ["transactions", "uncles", "withdrawals", "size", "totalDifficulty"];

/// How an answer differs from the true state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lag {
    /// Not at all.
    None,
    /// The node is this many blocks behind.
    Behind(u64),
    /// Only finality is this many blocks lower.
    Finality(u64),
}

/// Whether a call asks for a final block.
pub(crate) fn asks_finality(method: &str, params: &Value) -> bool {
    matches!(method, "eth_getFinalizedHeader" | "eth_getFinalizedBlock")
        || (matches!(method, "eth_getBlockByNumber" | "eth_getHeaderByNumber")
            && matches!(params[0].as_str(), Some("finalized" | "safe")))
        || (method == "eth_getTransactionCount" && matches!(params[1].as_str(), Some("finalized" | "safe")))
}

impl Chain {
    /// Answers a call that is not a send.
    pub(crate) async fn read(&self, method: &str, params: Value, lag: Lag) -> Result<Value, Failure> {
        let behind = if let Lag::Behind(blocks) = lag { blocks } else { 0 };
        let at = if behind == 0 { None } else { Some(self.head().await?.saturating_sub(behind)) };
        match method {
            "eth_blockNumber" => Ok(match at {
                Some(at) => quantity(at),
                None => quantity(self.head().await?),
            }),
            "eth_getFinalizedHeader" => {
                self.check_validators(&params)?;
                self.block(json!("finalized"), false, lag).await.map(header)
            }
            "eth_getFinalizedBlock" => {
                self.check_validators(&params)?;
                self.block(json!("finalized"), params[1] == true, lag).await
            }
            "eth_getHeaderByNumber" => self.block(params[0].clone(), false, lag).await.map(header),
            "eth_getBlockByNumber" => self.block(params[0].clone(), params[1] == true, lag).await,
            "eth_getBlockByHash" => {
                self.upstream.call(method, params).await.map(with_millis).map(|block| known(block, "number", at))
            }
            "eth_getTransactionReceipt" => {
                self.upstream.call(method, params).await.map(|receipt| known(receipt, "blockNumber", at))
            }
            "eth_getTransactionByHash" => self.transaction(params).await.map(|found| unmined(found, at)),
            "eth_feeHistory" => self.fee_history(pinned(params, 1, at)).await,
            "eth_getTransactionCount" | "eth_getBalance" | "eth_getCode" | "eth_call" | "eth_estimateGas" => {
                let params = self.pinned_to_final(params, lag).await?;
                self.upstream.call(method, pinned(params, 1, at)).await
            }
            "anvil_dropTransaction" => self.drop_transaction(params).await,
            _ => self.upstream.call(method, params).await,
        }
        .map_err(|failure| with_bsc_message(method, failure))
    }

    /// The height of the newest block.
    pub(crate) async fn head(&self) -> Result<u64, Failure> {
        let head = self.upstream.call("eth_blockNumber", json!([])).await?;
        number(&head).ok_or_else(|| Failure::Down(format!("eth_blockNumber answered {head}")))
    }

    /// A block by number or tag, as a node with this lag returns it.
    async fn block(&self, at: Value, full: bool, lag: Lag) -> Result<Value, Failure> {
        let tag = at.as_str().unwrap_or("latest").to_owned();
        let wanted = match (tag.as_str(), lag) {
            ("finalized" | "safe", Lag::Behind(blocks) | Lag::Finality(blocks)) => {
                quantity(self.final_height(&tag).await?.saturating_sub(blocks))
            }
            ("latest" | "pending", Lag::Behind(blocks)) => quantity(self.head().await?.saturating_sub(blocks)),
            (_, Lag::Behind(blocks)) => {
                let head = self.head().await?.saturating_sub(blocks);
                if number(&at).is_some_and(|wanted| wanted > head) {
                    return Ok(Value::Null);
                }
                at
            }
            (_, Lag::None | Lag::Finality(_)) => at,
        };
        let found = self.upstream.call("eth_getBlockByNumber", json!([wanted, full])).await?;
        if found.is_null() && matches!(tag.as_str(), "finalized" | "safe") {
            let height = quantity(self.final_height(&tag).await?);
            return self.upstream.call("eth_getBlockByNumber", json!([height, full])).await.map(with_millis);
        }
        Ok(with_millis(found))
    }

    /// The parameters with the final block of a node with this lag in place of its tag.
    async fn pinned_to_final(&self, mut params: Value, lag: Lag) -> Result<Value, Failure> {
        let (Lag::Behind(blocks) | Lag::Finality(blocks)) = lag else { return Ok(params) };
        if let Some(tag) = params[1].as_str().filter(|tag| matches!(*tag, "finalized" | "safe")) {
            let height = self.final_height(tag).await?.saturating_sub(blocks);
            params[1] = quantity(height);
        }
        Ok(params)
    }

    /// The height of the finalized or the safe block.
    async fn final_height(&self, tag: &str) -> Result<u64, Failure> {
        let block = self.upstream.call("eth_getBlockByNumber", json!([tag, false])).await?;
        match number(&block["number"]) {
            Some(height) => Ok(height),
            None => Ok(self.head().await?.saturating_sub(FINAL_BEHIND)),
        }
    }

    /// Checks the first parameter: 1 to the number of validators, or -1, -2, -3 for half, two thirds, all.
    fn check_validators(&self, params: &Value) -> Result<(), Refusal> {
        let validators = self.limits.validators;
        let asked = params[0].as_i64().ok_or(Refusal::MissingArgument)?;
        let in_range = u64::try_from(asked).is_ok_and(|asked| (1..=validators).contains(&asked));
        if in_range || (-3..=-1).contains(&asked) {
            return Ok(());
        }
        Err(Refusal::Validators { number: asked, validators })
    }
}

/// Adds `milliTimestamp`, which BSC has in blocks and headers.
fn with_millis(mut block: Value) -> Value {
    if let Some(seconds) = number(&block["timestamp"]) {
        block["milliTimestamp"] = quantity(seconds.saturating_mul(1_000));
    }
    block
}

fn header(mut block: Value) -> Value {
    if let Some(fields) = block.as_object_mut() {
        fields.retain(|name, _| !BODY.contains(&name.as_str()));
    }
    block
}

/// `null` if the value is from a block above `at`.
fn known(found: Value, height: &str, at: Option<u64>) -> Value {
    match (number(&found[height]), at) {
        (Some(height), Some(at)) if height > at => Value::Null,
        _ => found,
    }
}

/// A transaction from a block above `at` as pending.
fn unmined(mut found: Value, at: Option<u64>) -> Value {
    if let (Some(height), Some(at)) = (number(&found["blockNumber"]), at)
        && height > at
    {
        for field in ["blockHash", "blockNumber", "transactionIndex"] {
            found[field] = Value::Null;
        }
    }
    found
}

/// The parameters with the block `at` in place of the newest.
fn pinned(mut params: Value, position: usize, at: Option<u64>) -> Value {
    let (Some(at), Some(list)) = (at, params.as_array_mut()) else {
        return params;
    };
    let newest = |block: &Value| matches!(block.as_str(), None | Some("latest" | "pending"));
    if list.len() == position {
        list.push(quantity(at));
    } else if let Some(block) = list.get_mut(position).filter(|block| newest(block)) {
        *block = quantity(at);
    }
    params
}

/// BSC's message for a method that the node behind does not have.
fn with_bsc_message(method: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Refused(Refusal::Upstream { code: -32601, .. }) => Refusal::NoMethod(method.to_owned()).into(),
        Failure::Refused(_) | Failure::Down(_) => failure,
    }
}
