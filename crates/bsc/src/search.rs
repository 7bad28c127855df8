//! Finding the transaction that used a nonce: the block where the account's count steps over it,
//! then that block's transactions.
//!
//! Looks only at blocks up to the finalized one it is given. Nodes keep the state of the newest blocks
//! only (128 on a full BSC node); where the count is no longer told, the blocks themselves are read,
//! [`SCAN_BLOCKS`] of them at most.
//!
//! ## Guarantees
//! * What it returns was read from the block it names, with this sender and nonce, and the node that told
//!   it calls that block final itself.
//!
//! ## Does not guarantee
//! * To find it: `None` proves nothing.

use serde_json::{Value, json};
use signpost_txmgr::record::Foreign;
use signpost_txmgr::units::{Address, BlockNumber, Nonce};

use crate::chain::{count_at, need};
use crate::endpoints::Endpoint;
use crate::quantity;
use crate::rpc::{Call, Failure};

/// Most blocks read whole where counts are gone: about four minutes of them.
const SCAN_BLOCKS: u64 = 512;

/// Blocks per request while reading: some hundred transactions each.
const SCAN_BATCH: u64 = 8;

const METHOD: &str = "eth_getBlockByNumber";

/// Where the search ended.
enum Step {
    /// The count steps over the nonce in this block.
    At(u64),
    /// The count is past the nonce at this block; below it the node tells none.
    Below(u64),
    /// There is no such step.
    Nowhere,
}

pub(crate) async fn nonce_use(
    endpoint: &Endpoint,
    address: Address,
    nonce: Nonce,
    finalized: BlockNumber,
) -> Result<Option<Foreign>, Failure> {
    let found = match step(endpoint, address, nonce, finalized.0).await? {
        Step::At(height) => in_blocks(endpoint, address, nonce, &[height]).await?,
        Step::Below(height) => scan(endpoint, address, nonce, height).await?,
        Step::Nowhere => None,
    };
    let Some(foreign) = found else { return Ok(None) };
    // The height may be another node's word. A node on a dead fork has blocks of that height too, but
    // does not call them final.
    let own = endpoint.call(METHOD, json!(["finalized", false])).await;
    let own = need(own, METHOD, |block| quantity::block_ref(block, "number", "hash"))?;
    Ok((foreign.block.number <= own.number).then_some(foreign))
}

/// Strides that double go down from the finalized block until the count is not past the nonce; then bisection.
async fn step(endpoint: &Endpoint, address: Address, nonce: Nonce, finalized: u64) -> Result<Step, Failure> {
    let is_past = async |height: u64| {
        count_at(endpoint, address, quantity::hex_number(height)).await.map(|count| count > nonce.0)
    };
    if !is_past(finalized).await? {
        return Ok(Step::Nowhere);
    }
    let mut past = finalized;
    let mut stride: u64 = 1;
    let mut before = loop {
        if past == 0 {
            return Ok(Step::Nowhere);
        }
        let height = finalized.saturating_sub(stride);
        match is_past(height).await {
            Ok(true) => past = height,
            Ok(false) => break height,
            Err(failure @ Failure::Node(_)) if !failure.is_rate_limit() => return Ok(Step::Below(past)),
            Err(failure) => return Err(failure),
        }
        stride = stride.saturating_mul(2);
    };
    while past.saturating_sub(before) > 1 {
        let middle = before.midpoint(past);
        if is_past(middle).await? {
            past = middle;
        } else {
            before = middle;
        }
    }
    Ok(Step::At(past))
}

/// Reads whole blocks, the newest first.
async fn scan(endpoint: &Endpoint, address: Address, nonce: Nonce, newest: u64) -> Result<Option<Foreign>, Failure> {
    let oldest = newest.saturating_sub(SCAN_BLOCKS.saturating_sub(1));
    let mut next = Some(newest);
    while let Some(top) = next.filter(|top| *top >= oldest) {
        let bottom = top.saturating_sub(SCAN_BATCH.saturating_sub(1)).max(oldest);
        let heights: Vec<u64> = (bottom..=top).rev().collect();
        if let Some(foreign) = in_blocks(endpoint, address, nonce, &heights).await? {
            return Ok(Some(foreign));
        }
        next = bottom.checked_sub(1);
    }
    tracing::warn!(account = %address, %nonce, newest, oldest, "the transaction that used a nonce is not in reach");
    Ok(None)
}

async fn in_blocks(
    endpoint: &Endpoint,
    address: Address,
    nonce: Nonce,
    heights: &[u64],
) -> Result<Option<Foreign>, Failure> {
    let call = |height: &u64| Call::new(METHOD, json!([quantity::hex_number(*height), true]));
    let answers = endpoint.batch(&heights.iter().map(call).collect::<Vec<_>>()).await;
    for (height, answer) in heights.iter().zip(answers) {
        let block = need(answer, METHOD, |block| Some(block.clone()))?;
        let at = quantity::block_ref(&block, "number", "hash").filter(|at| at.number.0 == *height);
        let at = at.ok_or(Failure::Nonsense(METHOD))?;
        let txs = block.get("transactions").and_then(Value::as_array).ok_or(Failure::Nonsense(METHOD))?;
        if let Some(tx) = txs.iter().find(|tx| is_use(tx, address, nonce)) {
            let tx_hash = tx.get("hash").and_then(quantity::tx_hash).ok_or(Failure::Nonsense(METHOD))?;
            return Ok(Some(Foreign { tx_hash, block: at }));
        }
    }
    Ok(None)
}

pub(crate) fn is_use(tx: &Value, address: Address, nonce: Nonce) -> bool {
    tx.get("from").and_then(quantity::address) == Some(address)
        && tx.get("nonce").and_then(quantity::number) == Some(nonce.0)
}
