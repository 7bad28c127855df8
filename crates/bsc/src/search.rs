//! Finds the transaction that used a nonce: first the block where the account's count passes the nonce,
//! then the transaction in that block.
//!
//! Searches only blocks up to the given finalized one. Nodes keep the state of the newest blocks
//! only (128 on a full BSC node); below that, the counts are missing and whole blocks are read. One
//! call reads at most [`SCAN_BLOCKS`] blocks and reports how far it got. The next call continues below, down to
//! [`DEPTH_BLOCKS`] in all. Counts are always tried first, because an archive node has them.
//!
//! ## Guarantees
//! * A returned transaction was read from the named block, with this sender and nonce, and the same node calls that
//!   block final.
//!
//! ## Does not guarantee
//! * That the transaction is found: `None` proves nothing.

use serde_json::{Value, json};
use signpost_txmgr::machine::Corroboration;
use signpost_txmgr::ports::{Finality, UseQuery};
use signpost_txmgr::record::{Foreign, Searched};
use signpost_txmgr::units::{Address, BlockNumber, Nonce};

use crate::corroborate::{is_use, of_use};
use crate::endpoints::{Endpoint, count_at};
use crate::quantity;
use crate::rpc::{Call, CallFailure, need};

/// Maximum number of whole blocks read in one call, if counts are missing: about half a minute of blocks, which takes
/// some seconds.
const SCAN_BLOCKS: u64 = 64;

/// Whole blocks per request, with some hundred transactions each.
const SCAN_BATCH: u64 = 8;

/// Maximum number of whole blocks read for one nonce, by all calls together: about five hours of blocks. Older uses
/// need an archive node.
const DEPTH_BLOCKS: u64 = 40_000;

const METHOD: &str = "eth_getBlockByNumber";

/// Where the search ended.
enum Step {
    /// The count passes the nonce in this block.
    At(u64),
    /// The count is past the nonce at this block; below it the node has no counts.
    Below(u64),
    /// There is no such step.
    Nowhere,
}

/// The result of a search.
pub(crate) enum Search {
    /// The transaction, in a block that the node calls final.
    Found(Foreign),
    /// Nothing in the blocks searched so far.
    NotFound(Option<Searched>),
}

pub(crate) async fn nonce_use(
    endpoint: &Endpoint,
    query: &UseQuery,
    finality: Finality,
) -> Result<Search, CallFailure> {
    let &UseQuery { address, nonce, finalized, searched, .. } = query;
    let step = match searched {
        None => step(endpoint, address, nonce, finalized.0).await?,
        // The count was past the nonce at the top of the searched blocks, and none of these blocks used it.
        Some(searched) => match searched.oldest.0.checked_sub(1) {
            Some(below) => descend(endpoint, address, nonce, below).await?,
            None => Step::Nowhere,
        },
    };
    let (found, searched) = match step {
        Step::At(height) => (in_blocks(endpoint, address, nonce, &[height]).await?, searched),
        Step::Below(height) => scan(endpoint, address, nonce, height, searched).await?,
        Step::Nowhere => (None, searched),
    };
    let Some(used) = found else { return Ok(Search::NotFound(searched)) };
    // The finalized height may come from another node, and the blocks from another node behind the same URL. So one
    // answer must show the block, that it is final, the count there and the transaction in it.
    Ok(match of_use(endpoint, address, nonce, (used.tx_hash, used.block), finality, query.now).await? {
        Corroboration::Agrees => Search::Found(used),
        Corroboration::Alone | Corroboration::Silent | Corroboration::NotYet | Corroboration::Contradicts => {
            Search::NotFound(None)
        }
    })
}

async fn is_past(endpoint: &Endpoint, address: Address, nonce: Nonce, height: u64) -> Result<bool, CallFailure> {
    count_at(endpoint, address, quantity::hex_number(height)).await.map(|count| count > nonce.0)
}

async fn step(endpoint: &Endpoint, address: Address, nonce: Nonce, finalized: u64) -> Result<Step, CallFailure> {
    if !is_past(endpoint, address, nonce, finalized).await? {
        return Ok(Step::Nowhere);
    }
    descend(endpoint, address, nonce, finalized).await
}

/// Starts at a block where the count is past the nonce, and goes down in doubling strides until it is not. Then
/// bisects.
async fn descend(endpoint: &Endpoint, address: Address, nonce: Nonce, top: u64) -> Result<Step, CallFailure> {
    let is_past = async |height: u64| is_past(endpoint, address, nonce, height).await;
    let mut past = top;
    let mut stride: u64 = 1;
    let mut before = loop {
        if past == 0 {
            return Ok(Step::Nowhere);
        }
        let height = top.saturating_sub(stride);
        match is_past(height).await {
            Ok(true) => past = height,
            Ok(false) => break height,
            Err(failure @ CallFailure::Node(_)) if !failure.is_rate_limit() => return Ok(Step::Below(past)),
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

/// Reads whole blocks, the newest first. Returns the transaction, or how far the search got.
async fn scan(
    endpoint: &Endpoint,
    address: Address,
    nonce: Nonce,
    top: u64,
    searched: Option<Searched>,
) -> Result<(Option<Foreign>, Option<Searched>), CallFailure> {
    let newest = searched.map_or(BlockNumber(top), |searched| searched.newest);
    let deepest = newest.0.saturating_sub(DEPTH_BLOCKS.saturating_sub(1));
    let oldest = top.saturating_sub(SCAN_BLOCKS.saturating_sub(1)).max(deepest);
    let before = searched;
    let mut searched = searched;
    let mut next = Some(top);
    while let Some(top) = next.filter(|top| *top >= oldest) {
        let bottom = top.saturating_sub(SCAN_BATCH.saturating_sub(1)).max(oldest);
        let heights: Vec<u64> = (bottom..=top).rev().collect();
        match in_blocks(endpoint, address, nonce, &heights).await {
            Ok(Some(foreign)) => return Ok((Some(foreign), searched)),
            Ok(None) => searched = Some(Searched { newest, oldest: BlockNumber(bottom) }),
            // Keep the progress, so that no block is read twice.
            Err(_) if searched != before => break,
            Err(failure) => return Err(failure),
        }
        next = bottom.checked_sub(1);
    }
    if searched.is_some_and(|searched| searched.oldest.0 <= deepest) {
        tracing::warn!(account = %address, %nonce, %newest, oldest = deepest, "the transaction that used a nonce is deeper than the search goes");
    }
    Ok((None, searched))
}

async fn in_blocks(
    endpoint: &Endpoint,
    address: Address,
    nonce: Nonce,
    heights: &[u64],
) -> Result<Option<Foreign>, CallFailure> {
    let call = |height: &u64| Call::new(METHOD, json!([quantity::hex_number(*height), true]));
    let answers = endpoint.batch(&heights.iter().map(call).collect::<Vec<_>>()).await;
    for (height, answer) in heights.iter().zip(answers) {
        let block = need(answer, METHOD, |block| Some(block.clone()))?;
        let at = quantity::block_ref(&block, "number", "hash").filter(|at| at.number.0 == *height);
        let at = at.ok_or(CallFailure::Malformed(METHOD))?;
        let txs = block.get("transactions").and_then(Value::as_array).ok_or(CallFailure::Malformed(METHOD))?;
        if let Some(tx) = txs.iter().find(|tx| is_use(tx, address, nonce)) {
            let tx_hash = tx.get("hash").and_then(quantity::tx_hash).ok_or(CallFailure::Malformed(METHOD))?;
            return Ok(Some(Foreign { tx_hash, block: at }));
        }
    }
    Ok(None)
}
