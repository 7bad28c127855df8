//! One round's view of an account and its open slots, from one endpoint.
//!
//! Two requests as a rule: heads and counts; then receipts and the blocks at the heights wanted. A third one
//! when finalized receipts were found, for the canonical blocks at their heights.
//!
//! A receipt counts only if it is of the hash that was asked for. `null` is "this node knows
//! none"; an error, or no answer, is "unknown".

use serde_json::{Value, json};
use signpost_txmgr::machine::ReceiptView;
use signpost_txmgr::ports::{ChainView, Counts, ViewQuery};
use signpost_txmgr::record::{BlockRef, Receipt};
use signpost_txmgr::units::{Address, BlockNumber, Gas, Nonce, TxHash};

use crate::chain::need;
use crate::endpoints::Endpoint;
use crate::price::PriceSeen;
use crate::quantity;
use crate::rpc::{Answer, Call, Failure};

const BLOCK: &str = "eth_getBlockByNumber";
const COUNT: &str = "eth_getTransactionCount";
const RECEIPT: &str = "eth_getTransactionReceipt";

/// The heads of the chain and the account's counts at them.
struct Heads {
    latest: BlockRef,
    finalized: BlockRef,
    latest_nonce: Nonce,
    finalized_nonce: Nonce,
}

/// What one node says now.
pub(crate) async fn view(endpoint: &Endpoint, query: &ViewQuery, price: &PriceSeen) -> Result<ChainView, Failure> {
    let heads = heads(endpoint, query.address, price).await?;
    endpoint.note_height(heads.latest.number.0);
    let (seen, mut canonical) = receipts_and_blocks(endpoint, query, &heads).await?;
    let finalized_heights = seen.iter().flat_map(|(_, answers)| answers).filter_map(|answer| match answer {
        ReceiptView::Found(receipt) => Some(receipt.block.number),
        ReceiptView::Absent | ReceiptView::Unknown => None,
    });
    let wanted = finalized_heights.filter(|height| *height <= heads.finalized.number).collect();
    let missing = missing_heights(wanted, &canonical, &heads);
    let blocks = missing.iter().map(|height| block_call(*height)).collect::<Vec<_>>();
    canonical.extend(read_blocks(&missing, whole_request(endpoint.batch(&blocks).await)?));
    let receipts = seen.into_iter().map(|(nonce, answers)| (nonce, slot_view(&answers, &canonical))).collect();
    Ok(ChainView {
        latest: heads.latest,
        finalized: heads.finalized,
        latest_nonce: heads.latest_nonce,
        finalized_nonce: heads.finalized_nonce,
        receipts,
        canonical,
        price: price.last(),
    })
}

/// The counts are asked for before the blocks, so that a node that answers in order never shows a
/// count that is ahead of its block.
async fn heads(endpoint: &Endpoint, address: Address, price: &PriceSeen) -> Result<Heads, Failure> {
    let mut calls = vec![
        Call::new(COUNT, json!([address.lower(), "finalized"])),
        Call::new(COUNT, json!([address.lower(), "latest"])),
        Call::new(BLOCK, json!(["finalized", false])),
        Call::new(BLOCK, json!(["latest", false])),
    ];
    let price_calls = price.calls_if_due();
    let asks_price = !price_calls.is_empty();
    calls.extend(price_calls);
    let mut answers = whole_request(endpoint.batch(&calls).await)?.into_iter();
    let mut next = || answers.next().unwrap_or(Err(Failure::Unanswered));
    let finalized_nonce = Nonce(need(next(), COUNT, quantity::number)?);
    let latest_nonce = Nonce(need(next(), COUNT, quantity::number)?);
    let finalized = need(next(), BLOCK, read_block)?;
    let latest = need(next(), BLOCK, read_block)?;
    if asks_price {
        price.learn(next().ok().as_ref(), next().ok().as_ref());
    }
    Ok(Heads { latest, finalized, latest_nonce, finalized_nonce })
}

/// The counts of an address, in one request. A node that does not know the finalized block gives the other two.
pub(crate) async fn counts(endpoint: &Endpoint, address: Address) -> Result<Counts, Failure> {
    let call = |tag| Call::new(COUNT, json!([address.lower(), tag]));
    let calls = [call("finalized"), call("latest"), call("pending")];
    let mut answers = whole_request(endpoint.batch(&calls).await)?.into_iter();
    let mut next = || need(answers.next().unwrap_or(Err(Failure::Unanswered)), COUNT, quantity::number).map(Nonce);
    let finalized = match next() {
        Ok(finalized) => Some(finalized),
        Err(Failure::Node(_)) => None,
        Err(failure) => return Err(failure),
    };
    Ok(Counts { finalized, latest: next()?, pending: next()? })
}

/// For each slot what was said of each of its attempts; and the blocks at the heights wanted.
type Seen = Vec<(Nonce, Vec<ReceiptView>)>;

async fn receipts_and_blocks(
    endpoint: &Endpoint,
    query: &ViewQuery,
    heads: &Heads,
) -> Result<(Seen, Vec<BlockRef>), Failure> {
    let passed = heads.latest_nonce.max(query.latest_seen);
    let slots: Vec<_> = query.slots.iter().filter(|(nonce, _)| *nonce < passed).collect();
    // Those that came with the heads need no call.
    let mut canonical: Vec<BlockRef> =
        [heads.latest, heads.finalized].into_iter().filter(|block| query.heights.contains(&block.number)).collect();
    canonical.dedup();
    let heights = missing_heights(query.heights.clone(), &canonical, heads);
    let hashes = slots.iter().flat_map(|(_, hashes)| hashes);
    let mut calls: Vec<Call> = hashes.map(|hash| Call::new(RECEIPT, json!([hash.to_string()]))).collect();
    calls.extend(heights.iter().map(|height| block_call(*height)));
    let mut answers = whole_request(endpoint.batch(&calls).await)?.into_iter();
    let seen = slots
        .iter()
        .map(|(nonce, hashes)| {
            // zip asks the hashes first, so no answer is taken and dropped at the end of a slot.
            let of_slot = hashes.iter().zip(answers.by_ref());
            (*nonce, of_slot.map(|(hash, answer)| receipt_view(answer, *hash, query.address)).collect())
        })
        .collect();
    canonical.extend(read_blocks(&heights, answers.collect()));
    Ok((seen, canonical))
}

/// The answers, unless a request failed as a whole: then another endpoint is better than half a view.
fn whole_request(answers: Vec<Answer>) -> Result<Vec<Answer>, Failure> {
    match answers.iter().find_map(|answer| answer.as_ref().err().filter(|failure| failure.is_of_the_request())) {
        Some(failure) => Err(failure.clone()),
        None => Ok(answers),
    }
}

fn block_call(height: BlockNumber) -> Call {
    Call::new(BLOCK, json!([quantity::hex_number(height.0), false]))
}

fn read_block(value: &Value) -> Option<BlockRef> {
    quantity::block_ref(value, "number", "hash")
}

/// The blocks that are of the height that was asked for; others are left out.
fn read_blocks(heights: &[BlockNumber], answers: Vec<Answer>) -> Vec<BlockRef> {
    let blocks = heights
        .iter()
        .zip(answers)
        .map(|(height, answer)| answer.ok().as_ref().and_then(read_block).filter(|block| block.number == *height));
    blocks.flatten().collect()
}

fn missing_heights(mut wanted: Vec<BlockNumber>, known: &[BlockRef], heads: &Heads) -> Vec<BlockNumber> {
    wanted.sort_unstable();
    wanted.dedup();
    wanted.retain(|height| *height <= heads.latest.number && !known.iter().any(|block| block.number == *height));
    wanted
}

pub(crate) fn receipt_view(answer: Answer, hash: TxHash, from: Address) -> ReceiptView {
    match answer {
        Ok(Value::Null) => ReceiptView::Absent,
        Ok(value) => read_receipt(&value, hash, from).map_or_else(
            || {
                tracing::warn!(tx_hash = %hash, "a receipt that cannot be read, or of something else");
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

fn read_receipt(value: &Value, hash: TxHash, from: Address) -> Option<Receipt> {
    let is_ours =
        quantity::tx_hash(value.get("transactionHash")?)? == hash && quantity::address(value.get("from")?)? == from;
    let succeeded = match quantity::number(value.get("status")?)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let contract = match value.get("contractAddress") {
        None | Some(Value::Null) => None,
        Some(address) => Some(quantity::address(address)?),
    };
    is_ours.then_some(Receipt {
        tx_hash: hash,
        block: quantity::block_ref(value, "blockNumber", "blockHash")?,
        succeeded,
        gas_used: Gas(quantity::number(value.get("gasUsed")?)?),
        effective_gas_price: quantity::wei(value.get("effectiveGasPrice")?)?,
        contract,
    })
}

/// A slot's receipt: that of any attempt. Two of them can only be on two branches: then the canonical one.
fn slot_view(attempts: &[ReceiptView], canonical: &[BlockRef]) -> ReceiptView {
    let mut found = attempts.iter().filter_map(|attempt| match attempt {
        ReceiptView::Found(receipt) => Some(receipt),
        ReceiptView::Absent | ReceiptView::Unknown => None,
    });
    let is_canonical = |receipt: &&Receipt| canonical.contains(&receipt.block);
    if let Some(receipt) = found.clone().find(is_canonical).or_else(|| found.next()) {
        ReceiptView::Found(*receipt)
    } else if attempts.is_empty() || attempts.contains(&ReceiptView::Unknown) {
        ReceiptView::Unknown
    } else {
        ReceiptView::Absent
    }
}
