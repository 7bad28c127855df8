//! One round's view of an account and its open slots, from one endpoint.
//!
//! Two requests as a rule: heads and counts; then receipts and the blocks at the heights they were seen at. A third
//! one when a receipt is final the first time it is seen.
//!
//! **Evidence.** One URL may have several nodes behind it, on different branches. So a receipt is called final only
//! if one HTTP answer shows all of it: the final block, the account's count there, which is past the nonce, the
//! canonical block at the receipt's height, and the receipt in that block (`evidence.rs`). An endpoint that takes
//! too few calls a request cannot show that; there the blocks are followed by their parents' hashes (`parents.rs`).
//!
//! A receipt counts only if it is of the hash that was asked for. `null` is "this node knows
//! none"; an error, or no answer, is "unknown".

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
use crate::rpc::{Call, Failure, need};

/// The heads of the chain and the account's count at the newest block.
struct Heads {
    latest: BlockRef,
    latest_nonce: Nonce,
    /// Final block and count there, where the node tells them together with the heads.
    finalized: Option<FinalPair>,
}

/// What one node says now.
pub(crate) async fn view(
    endpoint: &Endpoint,
    query: &ViewQuery,
    finality: Finality,
    price: &PriceSeen,
) -> Result<ChainView, Failure> {
    let mut heads = heads(endpoint, query.address, finality, price).await;
    // One odd answer is no reason to leave the endpoint.
    if heads.as_ref().is_err_and(|failure| matches!(failure, Failure::Node(_)) && !failure.is_rate_limit()) {
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
    let pair = seen.last_pair.ok_or(Failure::Nonsense(BLOCK))?;
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

async fn heads(endpoint: &Endpoint, address: Address, finality: Finality, price: &PriceSeen) -> Result<Heads, Failure> {
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
    let mut next = || answers.next().unwrap_or(Err(Failure::Unanswered));
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
        return Err(Failure::Nonsense("eth_getBlockByNumber: the finalized block is above the latest"));
    }
    Ok(Heads { latest, latest_nonce, finalized })
}

/// The counts of an address. A node that does not know the final block, or not the state there any more, gives the
/// other two.
pub(crate) async fn counts(endpoint: &Endpoint, address: Address, finality: Finality) -> Result<Counts, Failure> {
    let call = |at: Value| Call::new(COUNT, json!([address.lower(), at]));
    let calls = [call(json!("latest")), call(json!("pending")), call(final_at(endpoint, finality).await?.param())];
    let mut answers = whole_request(endpoint.batch(&calls).await)?.into_iter();
    let mut next = || need(answers.next().unwrap_or(Err(Failure::Unanswered)), COUNT, quantity::number).map(Nonce);
    let (latest, pending) = (next()?, next()?);
    let finalized = match next() {
        Ok(finalized) => Some(finalized),
        Err(Failure::Node(_) | Failure::Unanswered) => None,
        Err(failure) => return Err(failure),
    };
    Ok(Counts { finalized, latest, pending })
}

/// The final block and the account's count there.
pub(crate) async fn final_pair(
    endpoint: &Endpoint,
    address: Address,
    finality: Finality,
) -> Result<FinalPair, Failure> {
    let at = final_at(endpoint, finality).await?;
    let mut answers = whole_request(endpoint.batch(&at.pair_calls(address)).await)?.into_iter();
    let mut next = || answers.next().unwrap_or(Err(Failure::Unanswered));
    let nonce = Nonce(need(next(), COUNT, quantity::number)?);
    Ok(FinalPair { nonce, block: need(next(), BLOCK, read_block)? })
}

pub(crate) async fn final_at(endpoint: &Endpoint, finality: Finality) -> Result<FinalAt, Failure> {
    match finality {
        Finality::Finalized => Ok(FinalAt::Tag),
        Finality::Confirmations(_) => {
            let latest = need(endpoint.call("eth_blockNumber", json!([])).await, "eth_blockNumber", quantity::number)?;
            Ok(FinalAt::of(finality, BlockNumber(latest)))
        }
    }
}
