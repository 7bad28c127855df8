//! Finding the transaction that used a nonce: the block where the account's count steps over it,
//! then that block's transactions.
//!
//! Looks only at blocks up to the finalized one it is given. Nodes keep the state of the newest blocks
//! only (128 on a full BSC node); where the count is no longer told, the blocks themselves are read. One
//! call reads [`SCAN_BLOCKS`] of them at most and says how far it got; the next one goes on below, down to
//! [`DEPTH_BLOCKS`] in all. A node that keeps old states is always asked for counts first.
//!
//! ## Guarantees
//! * What it returns was read from the block it names, with this sender and nonce, and the node that told
//!   it calls that block final itself.
//!
//! ## Does not guarantee
//! * To find it: `None` proves nothing.

use serde_json::{Value, json};
use signpost_txmgr::machine::Word;
use signpost_txmgr::ports::{Finality, UseQuery};
use signpost_txmgr::record::{Foreign, Searched};
use signpost_txmgr::units::{Address, BlockNumber, Nonce};

use crate::endpoints::{Endpoint, count_at};
use crate::quantity;
use crate::rpc::{Call, Failure, need};
use crate::word::{is_use, use_word};

/// Blocks read whole in one call, where counts are gone: about half a minute of them, some seconds of work.
const SCAN_BLOCKS: u64 = 64;

/// Blocks per request while reading: some hundred transactions each.
const SCAN_BATCH: u64 = 8;

/// Most blocks read whole for one nonce, by all calls together: about five hours of them. What is older is
/// for a node that keeps old states.
const DEPTH_BLOCKS: u64 = 40_000;

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

/// What a search found.
pub(crate) enum Search {
    /// This transaction, in a block that the node calls final.
    Found(Foreign),
    /// Nothing, in these blocks so far.
    NotFound(Option<Searched>),
}

pub(crate) async fn nonce_use(endpoint: &Endpoint, query: &UseQuery, finality: Finality) -> Result<Search, Failure> {
    let &UseQuery { address, nonce, finalized, searched, .. } = query;
    let step = match searched {
        None => step(endpoint, address, nonce, finalized.0).await?,
        // The count was past the nonce above what was searched, and nothing there used it.
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
    // The height may be another node's word, and the blocks another's behind the same URL. One answer shows the
    // block, that it is final, the count there and the transaction in it.
    Ok(match use_word(endpoint, address, nonce, (used.tx_hash, used.block), finality, query.now).await? {
        Word::Agrees => Search::Found(used),
        Word::Alone | Word::Silent | Word::NotYet | Word::Contradicts => Search::NotFound(None),
    })
}

async fn is_past(endpoint: &Endpoint, address: Address, nonce: Nonce, height: u64) -> Result<bool, Failure> {
    count_at(endpoint, address, quantity::hex_number(height)).await.map(|count| count > nonce.0)
}

async fn step(endpoint: &Endpoint, address: Address, nonce: Nonce, finalized: u64) -> Result<Step, Failure> {
    if !is_past(endpoint, address, nonce, finalized).await? {
        return Ok(Step::Nowhere);
    }
    descend(endpoint, address, nonce, finalized).await
}

/// From a block where the count is past the nonce, strides that double go down until it is not; then
/// bisection.
async fn descend(endpoint: &Endpoint, address: Address, nonce: Nonce, top: u64) -> Result<Step, Failure> {
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

/// Reads whole blocks, the newest first; what was found, or how far it got.
async fn scan(
    endpoint: &Endpoint,
    address: Address,
    nonce: Nonce,
    top: u64,
    searched: Option<Searched>,
) -> Result<(Option<Foreign>, Option<Searched>), Failure> {
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
            // What was read so far is not read again.
            Err(_) if searched != before => break,
            Err(failure) => return Err(failure),
        }
        next = bottom.checked_sub(1);
    }
    if searched.is_some_and(|searched| searched.oldest.0 <= deepest) {
        tracing::warn!(account = %address, %nonce, %newest, oldest = deepest, "the transaction that used a nonce is not in reach");
    }
    Ok((None, searched))
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
