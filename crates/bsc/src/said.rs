//! Receipts and block headers exactly as a node gives them. They are exported as evidence, which can be verified on its
//! own, and decide nothing. Read next: `signpost_txmgr::evidence`.

use serde_json::{Map, Value, json};
use signpost_txmgr::header;
use signpost_txmgr::ports::PortError;
use signpost_txmgr::units::{BlockHash, TxHash};

use crate::chain::BscChain;
use crate::quantity;

impl BscChain {
    /// A transaction's receipt as a node gives it; `None` if the node has none.
    pub async fn raw_receipt(&self, hash: TxHash) -> Result<Option<Map<String, Value>>, PortError> {
        self.ask("eth_getTransactionReceipt", json!([hash.to_string()]), |answer| {
            if answer.is_null() {
                return Some(None);
            }
            let receipt = answer.as_object()?;
            let is_it = receipt.get("transactionHash").and_then(quantity::tx_hash) == Some(hash);
            is_it.then(|| Some(receipt.clone()))
        })
        .await
    }

    /// The hash of a block and the header fields that it covers, as a node gives them; `None` if the node does not
    /// know the block.
    pub async fn raw_header(&self, block: BlockHash) -> Result<Option<Map<String, Value>>, PortError> {
        self.ask("eth_getBlockByHash", json!([block.to_string(), false]), |answer| {
            if answer.is_null() {
                return Some(None);
            }
            let header = header::of_block(answer)?;
            (header.get(header::HASH).and_then(quantity::block_hash) == Some(block)).then_some(Some(header))
        })
        .await
    }
}
