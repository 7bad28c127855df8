//! Answers of lying nodes: another branch, and invented receipts.
//!
//! Read next: [`super::answers`], which corrupts the format of answers.

use serde_json::{Value, json};

use super::chain::Chain;
use super::upstream::Failure;
use super::view::Lag;

/// Fields with the hash of a block.
const HASHES: [&str; 3] = ["blockHash", "parentHash", "hash"];

/// The same answer on another branch. Applied twice, it gives the true answer.
pub(crate) fn other_branch(mut answer: Value) -> Value {
    match &mut answer {
        Value::Array(items) => {
            for item in items.iter_mut() {
                *item = other_branch(item.take());
            }
        }
        Value::Object(fields) => {
            // In an object with `blockHash`, `hash` is the hash of a transaction.
            let of_a_tx = fields.contains_key("blockHash");
            for name in HASHES.iter().filter(|name| !of_a_tx || **name != "hash") {
                if let Some(hash) = fields.get_mut(*name) {
                    *hash = other_hash(hash);
                }
            }
            for name in ["logs", "transactions"] {
                if let Some(items) = fields.get_mut(name) {
                    let has_objects = items[0].is_object();
                    *items = if has_objects { other_branch(items.take()) } else { items.take() };
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    answer
}

/// The parameters for the true branch.
pub(crate) fn true_params(method: &str, mut params: Value) -> Value {
    if matches!(method, "eth_getBlockByHash" | "eth_getBlockReceipts") && params[0].is_string() {
        params[0] = other_hash(&params[0]);
    }
    params
}

/// A hash with its first byte inverted.
fn other_hash(hash: &Value) -> Value {
    let inverted = hash.as_str().filter(|text| text.len() == 66).and_then(|text| {
        let (first, rest) = (text.get(2..4)?, text.get(4..)?);
        Some(format!("0x{:02x}{rest}", !u8::from_str_radix(first, 16).ok()?))
    });
    inverted.map_or_else(|| hash.clone(), Value::String)
}

impl Chain {
    /// A receipt in the finalized block for any transaction.
    pub(crate) async fn invented_receipt(&self, params: &Value) -> Result<Value, Failure> {
        let block = self.read("eth_getBlockByNumber", json!(["finalized", false]), Lag::None).await?;
        Ok(json!({
            "transactionHash": params[0], "blockHash": block["hash"], "blockNumber": block["number"],
            "transactionIndex": "0x0", "status": "0x1", "type": "0x2", "gasUsed": "0x5208",
            "cumulativeGasUsed": "0x5208", "effectiveGasPrice": "0x5f5e100",
            "from": null, "to": null, "contractAddress": null, "logs": [],
            "logsBloom": format!("0x{}", "00".repeat(256)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_branch_has_other_blocks_and_the_same_transactions() {
        let (own, block) = (format!("0x{}", "11".repeat(32)), format!("0x{}", "0f".repeat(32)));
        let receipt = json!({ "transactionHash": own, "blockHash": block, "logs": [{ "blockHash": block }] });
        let other = other_branch(receipt.clone());
        assert_eq!(other["transactionHash"], own);
        assert!(other["blockHash"].as_str().unwrap().starts_with("0xf00f"), "{other}");
        assert_eq!(other["logs"][0]["blockHash"], other["blockHash"]);
        assert_eq!(other_branch(other), receipt);
        let whole = json!({ "hash": block, "parentHash": own, "transactions": [{ "hash": own, "blockHash": block }] });
        let other = other_branch(whole);
        assert_eq!(other["transactions"][0]["hash"], own);
        assert_eq!(other["transactions"][0]["blockHash"], other["hash"]);
        assert_eq!(true_params("eth_getBlockByHash", json!([other["hash"], false])), json!([block, false]));
    }
}
