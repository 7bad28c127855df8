//! Reads the chain itself: an account's transactions, with block and result.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::stack::StackError;
use crate::stack::rpc::Rpc;

/// One transaction of the account on the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OnChain {
    pub(super) nonce: u64,
    pub(super) block: u64,
    /// Whether it did not revert.
    pub(super) succeeded: bool,
}

/// The number of the newest block.
pub(super) async fn height(rpc: &Rpc) -> Result<u64, StackError> {
    let answer = rpc.call("eth_blockNumber", json!([])).await?;
    rpc.number("eth_blockNumber", &answer)
}

/// All transactions of an account, by hash, in the blocks up to `to`.
pub(super) async fn transactions(
    rpc: &Rpc,
    address: &str,
    from: u64,
    to: u64,
) -> Result<BTreeMap<String, OnChain>, StackError> {
    let mut found = BTreeMap::new();
    for block in from..=to {
        let height = format!("{block:#x}");
        let body = rpc.call("eth_getBlockByNumber", json!([height, true])).await?;
        let sent = body.get("transactions").and_then(Value::as_array).cloned().unwrap_or_default();
        let ours = |transaction: &&Value| text(transaction, "from").eq_ignore_ascii_case(address);
        if !sent.iter().any(|transaction| ours(&transaction)) {
            continue;
        }
        let receipts = rpc.call("eth_getBlockReceipts", json!([height])).await?;
        let successes: BTreeMap<String, bool> = receipts
            .as_array()
            .into_iter()
            .flatten()
            .map(|receipt| (text(receipt, "transactionHash"), text(receipt, "status") == "0x1"))
            .collect();
        for transaction in sent.iter().filter(ours) {
            let hash = text(transaction, "hash");
            let nonce = transaction.get("nonce").unwrap_or(&Value::Null);
            let nonce = rpc.number("eth_getBlockByNumber", nonce)?;
            let succeeded = successes.get(&hash).copied().unwrap_or(false);
            found.insert(hash, OnChain { nonce, block, succeeded });
        }
    }
    Ok(found)
}

/// The number in slot 0 of a contract.
pub(super) async fn counter(rpc: &Rpc, contract: &str) -> Result<u64, StackError> {
    let answer = rpc.call("eth_getStorageAt", json!([contract, "0x0", "latest"])).await?;
    rpc.number("eth_getStorageAt", &answer)
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
