//! The line of ancestors of a final block, linked by parent hashes.
//!
//! A block's hash covers its parent's hash, so a line of blocks belongs to one branch, however many nodes are behind
//! the URL. It is used if an endpoint accepts too few calls per request to show in one answer that a receipt is final.
//! Known blocks are remembered, so a line that broke off gets further the next time.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use signpost_txmgr::record::BlockRef;
use signpost_txmgr::units::{Address, BlockHash, BlockNumber, Nonce};

use crate::endpoints::Endpoint;
use crate::finality::FinalAt;

use crate::methods::{BLOCK, COUNT};
use crate::quantity;
use crate::receipt::read_block;
use crate::rpc::{Call, CallFailure, need};

const BLOCK_BY_HASH: &str = "eth_getBlockByHash";

/// Maximum number of blocks read in one round: about two minutes of blocks.
const WALK_BLOCKS: usize = 256;

/// Attempts per call before the line breaks off.
const CALL_TRIES: usize = 3;

/// A final block, the account's count there, and the blocks below it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) nonce: Nonce,
    blocks: BTreeMap<BlockNumber, BlockHash>,
}

impl Line {
    /// Whether the block is on this line.
    pub(crate) fn holds(&self, block: &BlockRef) -> bool {
        self.blocks.get(&block.number) == Some(&block.hash)
    }
}

/// Reads the line from the final block down to this height.
pub(crate) async fn line(
    endpoint: &Endpoint,
    address: Address,
    at: FinalAt,
    lowest: BlockNumber,
) -> Result<Line, CallFailure> {
    let mut block = block(endpoint, Call::new(BLOCK, json!([at.param(), false]))).await?;
    let count = Call::new(COUNT, json!([address.lower(), quantity::hex_number(block.number.0)]));
    let nonce = Nonce(need(ask(endpoint, &count).await, COUNT, quantity::number)?);
    let mut blocks = BTreeMap::from([(block.number, block.hash)]);
    let mut asked: usize = 0;
    while block.number > lowest {
        let parent = endpoint.parents().of(&block).ok_or(CallFailure::Malformed(BLOCK))?;
        let number = BlockNumber(block.number.0.saturating_sub(1));
        let below = BlockRef { number, hash: parent };
        if endpoint.parents().of(&below).is_none() && number > lowest {
            if asked == WALK_BLOCKS {
                return Err(CallFailure::NotAsked);
            }
            asked = asked.saturating_add(1);
            let found = self::block(endpoint, Call::new(BLOCK_BY_HASH, json!([parent.to_string(), false]))).await?;
            if found != below {
                return Err(CallFailure::Malformed(BLOCK_BY_HASH));
            }
        }
        block = below;
        blocks.insert(number, parent);
    }
    Ok(Line { nonce, blocks })
}

/// Reads a block and remembers its parent.
async fn block(endpoint: &Endpoint, call: Call) -> Result<BlockRef, CallFailure> {
    let method = call.method;
    let read = |value: &Value| Some((read_block(value)?, value.get("parentHash").and_then(quantity::block_hash)?));
    let (block, parent) = need(ask(endpoint, &call).await, method, read)?;
    endpoint.parents().learn(&block, parent);
    Ok(block)
}

/// Makes one call, and repeats it after an error: a line needs many calls.
async fn ask(endpoint: &Endpoint, call: &Call) -> Result<Value, CallFailure> {
    let mut answer = endpoint.call(call.method, call.params.clone()).await;
    for _ in 1..CALL_TRIES {
        let may_repeat =
            |failure: &CallFailure| matches!(failure, CallFailure::Node(_)) || failure.may_be_of_the_batch();
        if !answer.as_ref().is_err_and(|failure| may_repeat(failure) && !failure.is_rate_limit()) {
            break;
        }
        answer = endpoint.call(call.method, call.params.clone()).await;
    }
    answer
}
