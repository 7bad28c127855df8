//! The line of blocks from a final one down, followed by the parents' hashes.
//!
//! A block's hash holds its parent's, so a line of them is of one branch, however many nodes stand behind the URL
//! that told it. It serves where an endpoint does not take enough calls in one request to show a receipt final by
//! one answer. What was followed once is remembered, so a line that broke off is longer the next time.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use signpost_txmgr::record::BlockRef;
use signpost_txmgr::units::{Address, BlockHash, BlockNumber, Nonce};

use crate::endpoints::Endpoint;
use crate::finality::FinalAt;

use crate::methods::{BLOCK, COUNT};
use crate::quantity;
use crate::receipt::read_block;
use crate::rpc::{Call, Failure, need};

const BLOCK_BY_HASH: &str = "eth_getBlockByHash";

/// Blocks asked for in one round: about two minutes of them.
const WALK_BLOCKS: usize = 256;

/// Times a call is made before the line breaks off.
const TRIES: usize = 3;

/// A final block, the account's count there, and the blocks below it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) nonce: Nonce,
    blocks: BTreeMap<BlockNumber, BlockHash>,
}

impl Line {
    /// Whether the block is on it.
    pub(crate) fn holds(&self, block: &BlockRef) -> bool {
        self.blocks.get(&block.number) == Some(&block.hash)
    }
}

/// The line from the final block down to this height.
pub(crate) async fn line(
    endpoint: &Endpoint,
    address: Address,
    at: FinalAt,
    lowest: BlockNumber,
) -> Result<Line, Failure> {
    let mut block = block(endpoint, Call::new(BLOCK, json!([at.param(), false]))).await?;
    let count = Call::new(COUNT, json!([address.lower(), quantity::hex_number(block.number.0)]));
    let nonce = Nonce(need(ask(endpoint, &count).await, COUNT, quantity::number)?);
    let mut blocks = BTreeMap::from([(block.number, block.hash)]);
    let mut asked: usize = 0;
    while block.number > lowest {
        let parent = endpoint.parents().of(&block).ok_or(Failure::Nonsense(BLOCK))?;
        let number = BlockNumber(block.number.0.saturating_sub(1));
        let below = BlockRef { number, hash: parent };
        if endpoint.parents().of(&below).is_none() && number > lowest {
            if asked == WALK_BLOCKS {
                return Err(Failure::NotAsked);
            }
            asked = asked.saturating_add(1);
            let told = self::block(endpoint, Call::new(BLOCK_BY_HASH, json!([parent.to_string(), false]))).await?;
            if told != below {
                return Err(Failure::Nonsense(BLOCK_BY_HASH));
            }
        }
        block = below;
        blocks.insert(number, parent);
    }
    Ok(Line { nonce, blocks })
}

/// A block; its parent is remembered.
async fn block(endpoint: &Endpoint, call: Call) -> Result<BlockRef, Failure> {
    let method = call.method;
    let read = |value: &Value| Some((read_block(value)?, value.get("parentHash").and_then(quantity::block_hash)?));
    let (block, parent) = need(ask(endpoint, &call).await, method, read)?;
    endpoint.parents().learn(&block, parent);
    Ok(block)
}

/// One call, and again after an odd answer or none: a line is many of them.
async fn ask(endpoint: &Endpoint, call: &Call) -> Result<Value, Failure> {
    let mut answer = endpoint.call(call.method, call.params.clone()).await;
    for _ in 1..TRIES {
        let is_odd = |failure: &Failure| matches!(failure, Failure::Node(_)) || failure.may_be_of_the_batch();
        if !answer.as_ref().is_err_and(|failure| is_odd(failure) && !failure.is_rate_limit()) {
            break;
        }
        answer = endpoint.call(call.method, call.params.clone()).await;
    }
    answer
}
