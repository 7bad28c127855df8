//! What a node says of a transaction and of a block, in its own words: for evidence, which others hold against itself.
//!
//! Nothing is decided by it. Read next: `signpost_txmgr::evidence`.

use serde_json::{Map, Value, json};
use signpost_txmgr::header;
use signpost_txmgr::ports::PortError;
use signpost_txmgr::units::{BlockHash, TxHash};

use crate::chain::BscChain;
use crate::quantity;

impl BscChain {
    /// A transaction's receipt as a node gives it; `None` if it knows none.
    pub async fn receipt_said(&self, hash: TxHash) -> Result<Option<Map<String, Value>>, PortError> {
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

    /// The fields of a block's header that its hash covers, and the hash, as a node gives them; `None` if it knows no
    /// such block.
    pub async fn header_said(&self, block: BlockHash) -> Result<Option<Map<String, Value>>, PortError> {
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
