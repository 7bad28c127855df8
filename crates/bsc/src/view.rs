//! One round's view of an account and its open slots, from one endpoint.
//!
//! Usually two requests: heads and counts; then the receipts, with the blocks at the heights where they were seen. A
//! third request follows if a receipt is already final when it is first seen.
//!
//! **Evidence.** One URL may have several nodes behind it, on different branches. So a receipt counts as final only
//! if one HTTP answer shows all of this: the final block, an account's count there that is past the nonce, the
//! canonical block at the receipt's height, and the receipt in that block (`evidence.rs`). If an endpoint accepts too
//! few calls per request for that, the blocks are linked by their parent hashes instead (`parents.rs`).
//!
//! A receipt counts only if it has the requested hash. `null` means that the node has no receipt; an error or a
//! missing answer is "unknown".

use serde_json::{Value, json};
use signpost_txmgr::ports::{ChainView, Counts, Finality, SlotQuery, ViewQuery};
use signpost_txmgr::record::BlockRef;
use signpost_txmgr::units::{Address, BlockNumber, Nonce};

use crate::endpoints::Endpoint;
use crate::evidence::{Seen, ask, prove_by_parents};
use crate::finality::{FinalAt, FinalPair};
use crate::methods::{BLOCK, COUNT};
use crate::price::PriceSeen;
use crate::quantity;
use crate::receipt::{read_block, whole_request};
use crate::rpc::{Call, CallFailure, need};

/// The heads of the chain and the account's count at the newest block.
struct Heads {
    latest: BlockRef,
    latest_nonce: Nonce,
    /// The final block and the count there, if they were read together with the heads.
    finalized: Option<FinalPair>,
}

/// Reads a view from one node.
pub(crate) async fn view(
    endpoint: &Endpoint,
    query: &ViewQuery,
    finality: Finality,
    price: &PriceSeen,
) -> Result<ChainView, CallFailure> {
    let mut heads = heads(endpoint, query.address, finality, price).await;
    // One error is not a reason to leave the endpoint.
    if heads.as_ref().is_err_and(|failure| matches!(failure, CallFailure::Node(_)) && !failure.is_rate_limit()) {
        heads = self::heads(endpoint, query.address, finality, price).await;
    }
    let heads = heads?;
    endpoint.note_height(heads.latest.number.0);
    let at = FinalAt::of(finality, heads.latest.number);
    let passed = heads.latest_nonce.max(query.latest_seen);
    let slots: Vec<SlotQuery> = query.slots.iter().filter(|slot| slot.nonce < passed).cloned().collect();
    let mut seen = Seen::new(heads.finalized);
    if let Some(pair) = heads.finalized {
        seen.canonical.insert(pair.block.number, pair.block);
    }
    seen.canonical.insert(heads.latest.number, heads.latest);
    ask(endpoint, query.address, at, heads.latest.number, &slots, &mut seen).await?;
    let fresh = seen.to_prove();
    if !fresh.is_empty() {
        ask(endpoint, query.address, at, heads.latest.number, &fresh, &mut seen).await?;
    }
    prove_by_parents(endpoint, query.address, at, &mut seen).await;
    let pair = seen.last_pair.ok_or(CallFailure::Malformed(BLOCK))?;
    Ok(ChainView {
        source: endpoint.name().to_owned(),
        latest: heads.latest,
        finalized: pair.block,
        latest_nonce: heads.latest_nonce,
        finalized_nonce: pair.nonce,
        receipts: seen.answers.iter().map(|(nonce, answers)| (*nonce, seen.slot_view(answers))).collect(),
        finals: seen.finals.into_iter().collect(),
        canonical: seen.canonical.into_values().collect(),
        price: price.last(),
    })
}

async fn heads(
    endpoint: &Endpoint,
    address: Address,
    finality: Finality,
    price: &PriceSeen,
) -> Result<Heads, CallFailure> {
    let mut calls = match finality {
        Finality::Finalized => FinalAt::Tag.pair_calls(address).to_vec(),
        Finality::Confirmations(_) => Vec::new(),
    };
    calls.push(Call::new(COUNT, json!([address.lower(), "latest"])));
    calls.push(Call::new(BLOCK, json!(["latest", false])));
    let price_calls = price.calls_if_due();
    let asks_price = !price_calls.is_empty();
    calls.extend(price_calls);
    let mut answers = whole_request(endpoint.batch(&calls).await)?.into_iter();
    let mut next = || answers.next().unwrap_or(Err(CallFailure::Unanswered));
    let finalized = match finality {
        Finality::Finalized => {
            let nonce = Nonce(need(next(), COUNT, quantity::number)?);
            Some(FinalPair { nonce, block: need(next(), BLOCK, read_block)? })
        }
        Finality::Confirmations(_) => None,
    };
    let latest_nonce = Nonce(need(next(), COUNT, quantity::number)?);
    let latest = need(next(), BLOCK, read_block)?;
    if asks_price {
        price.learn(next().ok().as_ref(), next().ok().as_ref());
    }
    if finalized.is_some_and(|pair| pair.block.number > latest.number) {
        return Err(CallFailure::Malformed("eth_getBlockByNumber: the finalized block is above the latest"));
    }
    Ok(Heads { latest, latest_nonce, finalized })
}

/// The counts of an address. A node that does not know the final block, or no longer has its state, gives the other
/// two.
pub(crate) async fn counts(endpoint: &Endpoint, address: Address, finality: Finality) -> Result<Counts, CallFailure> {
    let call = |at: Value| Call::new(COUNT, json!([address.lower(), at]));
    let calls = [call(json!("latest")), call(json!("pending")), call(final_at(endpoint, finality).await?.param())];
    let mut answers = whole_request(endpoint.batch(&calls).await)?.into_iter();
    let mut next = || need(answers.next().unwrap_or(Err(CallFailure::Unanswered)), COUNT, quantity::number).map(Nonce);
    let (latest, pending) = (next()?, next()?);
    let finalized = match next() {
        Ok(finalized) => Some(finalized),
        Err(CallFailure::Node(_) | CallFailure::Unanswered) => None,
        Err(failure) => return Err(failure),
    };
    Ok(Counts { finalized, latest, pending })
}

/// The final block and the account's count there.
pub(crate) async fn final_pair(
    endpoint: &Endpoint,
    address: Address,
    finality: Finality,
) -> Result<FinalPair, CallFailure> {
    let at = final_at(endpoint, finality).await?;
    let mut answers = whole_request(endpoint.batch(&at.pair_calls(address)).await)?.into_iter();
    let mut next = || answers.next().unwrap_or(Err(CallFailure::Unanswered));
    let nonce = Nonce(need(next(), COUNT, quantity::number)?);
    Ok(FinalPair { nonce, block: need(next(), BLOCK, read_block)? })
}

pub(crate) async fn final_at(endpoint: &Endpoint, finality: Finality) -> Result<FinalAt, CallFailure> {
    match finality {
        Finality::Finalized => Ok(FinalAt::Tag),
        Finality::Confirmations(_) => {
            let latest = need(endpoint.call("eth_blockNumber", json!([])).await, "eth_blockNumber", quantity::number)?;
            Ok(FinalAt::of(finality, BlockNumber(latest)))
        }
    }
}
