//! Reads blocks and receipts from a node's JSON.

use serde_json::{Value, json};
use signpost_txmgr::machine::ReceiptView;
use signpost_txmgr::record::{BlockRef, Receipt};
use signpost_txmgr::units::{BlockNumber, Gas, Millis, TxHash};

use crate::methods::BLOCK;
use crate::quantity;
use crate::rpc::{Answer, Call, CallFailure};

/// The answers, unless a request failed as a whole: then another endpoint is asked, because a partial view is useless.
pub(crate) fn whole_request(answers: Vec<Answer>) -> Result<Vec<Answer>, CallFailure> {
    match answers.iter().find_map(|answer| answer.as_ref().err().filter(|failure| failure.is_of_the_request())) {
        Some(failure) => Err(failure.clone()),
        None => Ok(answers),
    }
}

pub(crate) fn block_call(height: BlockNumber) -> Call {
    Call::new(BLOCK, json!([quantity::hex_number(height.0), false]))
}

pub(crate) fn read_block(value: &Value) -> Option<BlockRef> {
    quantity::block_ref(value, "number", "hash")
}

/// A final block older than this, in milliseconds, means that the node or the chain's finality has stopped.
const FRESH_MS: u64 = 30_000;

/// When a block was made, by its timestamp.
pub(crate) fn made_at(block: &Value) -> Option<Millis> {
    let seconds = block.get("timestamp").and_then(quantity::number)?;
    Some(Millis(seconds.saturating_mul(1_000)))
}

/// Whether a block made at this time is recent by our clock.
pub(crate) fn is_fresh(made_at: Option<Millis>, now: Millis) -> bool {
    made_at.is_some_and(|made_at| now.since(made_at) <= FRESH_MS)
}

/// The hashes of a block's transactions, if the block lists them.
pub(crate) fn tx_hashes(block: &Value) -> Vec<TxHash> {
    let txs = block.get("transactions").and_then(Value::as_array);
    txs.into_iter().flatten().filter_map(quantity::tx_hash).collect()
}

pub(crate) fn receipt_view(answer: Answer, hash: TxHash) -> ReceiptView {
    match answer {
        Ok(Value::Null) => ReceiptView::Absent,
        Ok(value) => read_receipt(&value, hash).map_or_else(
            || {
                tracing::warn!(tx_hash = %hash, "a receipt that cannot be read, or of another transaction");
                ReceiptView::Unknown
            },
            ReceiptView::Found,
        ),
        Err(failure) => {
            tracing::debug!(tx_hash = %hash, %failure, "no answer about a receipt");
            ReceiptView::Unknown
        }
    }
}

/// A verdict needs the transaction's hash, its block and its status, so these are required. The rest is for display
/// and may be missing or malformed. The hash determines the sender, so `from` is not read.
pub(crate) fn read_receipt(value: &Value, hash: TxHash) -> Option<Receipt> {
    if quantity::tx_hash(value.get("transactionHash")?)? != hash {
        return None;
    }
    let succeeded = match quantity::number(value.get("status")?)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some(Receipt {
        tx_hash: hash,
        block: quantity::block_ref(value, "blockNumber", "blockHash")?,
        succeeded,
        gas_used: value.get("gasUsed").and_then(quantity::number).map(Gas),
        effective_gas_price: value.get("effectiveGasPrice").and_then(quantity::wei),
        contract: value.get("contractAddress").and_then(quantity::address),
    })
}
