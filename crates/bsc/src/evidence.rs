//! What one endpoint's answers show about slots, and which receipts they show final.
//!
//! A receipt counts as final only if one HTTP answer shows all the evidence, or if the line of blocks in `parents.rs`
//! does.
//!
//! Read next: `view.rs`, `corroborate.rs`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use signpost_txmgr::machine::ReceiptView;
use signpost_txmgr::ports::SlotQuery;
use signpost_txmgr::record::{BlockRef, Receipt};
use signpost_txmgr::units::{Address, BlockHash, BlockNumber, Millis, Nonce, TxHash};

use crate::endpoints::Endpoint;
use crate::finality::{FinalAt, FinalPair};
use crate::methods::{BLOCK, COUNT};
use crate::parents;
use crate::quantity;
use crate::receipt::{block_call, made_at, read_block, receipt_view, tx_hashes, whole_request};
use crate::rpc::{Call, CallFailure, need};

const RECEIPT: &str = "eth_getTransactionReceipt";

/// Calls that one request must hold to show a receipt final: the count, the final block, the receipt and its block.
const EVIDENCE_CALLS: usize = 4;

/// An endpoint's answers about slots.
pub(crate) struct Seen {
    /// For each slot, the receipt view of each attempt.
    pub(crate) answers: BTreeMap<Nonce, Vec<ReceiptView>>,
    /// The blocks at the requested heights.
    pub(crate) canonical: BTreeMap<BlockNumber, BlockRef>,
    /// The transactions of those blocks.
    pub(crate) txs: BTreeMap<BlockHash, Vec<TxHash>>,
    /// The receipts that were shown final.
    pub(crate) finals: BTreeMap<Nonce, Receipt>,
    pub(crate) last_pair: Option<FinalPair>,
    /// When the newest final block was made, by its timestamp.
    pub(crate) final_made_at: Option<Millis>,
}

impl Seen {
    pub(crate) fn new(pair: Option<FinalPair>) -> Self {
        Self {
            answers: BTreeMap::new(),
            canonical: BTreeMap::new(),
            txs: BTreeMap::new(),
            finals: BTreeMap::new(),
            last_pair: pair,
            final_made_at: None,
        }
    }

    pub(crate) fn found(&self) -> impl Iterator<Item = (Nonce, Receipt)> {
        self.answers.iter().flat_map(|(nonce, answers)| {
            answers.iter().filter_map(|answer| match answer {
                ReceiptView::Found(receipt) => Some((*nonce, *receipt)),
                ReceiptView::Absent | ReceiptView::Unknown => None,
            })
        })
    }

    /// The receipts that look final but were not shown final yet.
    pub(crate) fn to_prove(&self) -> Vec<SlotQuery> {
        let Some(pair) = self.last_pair else { return Vec::new() };
        let is_open = |(nonce, receipt): &(Nonce, Receipt)| {
            !self.finals.contains_key(nonce)
                && receipt.block.number <= pair.block.number
                && self.canonical.get(&receipt.block.number).is_none_or(|block| *block == receipt.block)
        };
        let open = self.found().filter(is_open).map(|(nonce, receipt)| SlotQuery {
            nonce,
            hashes: vec![receipt.tx_hash],
            mined_at: Some(receipt.block.number),
        });
        open.collect()
    }

    /// A slot's receipt, from any of its attempts. Two receipts can only come from two branches: the canonical one
    /// counts.
    pub(crate) fn slot_view(&self, attempts: &[ReceiptView]) -> ReceiptView {
        let mut found = attempts.iter().filter_map(|attempt| match attempt {
            ReceiptView::Found(receipt) => Some(receipt),
            ReceiptView::Absent | ReceiptView::Unknown => None,
        });
        let is_canonical = |receipt: &&Receipt| self.canonical.get(&receipt.block.number) == Some(&receipt.block);
        if let Some(receipt) = found.clone().find(is_canonical).or_else(|| found.next()) {
            ReceiptView::Found(*receipt)
        } else if attempts.is_empty() || attempts.contains(&ReceiptView::Unknown) {
            ReceiptView::Unknown
        } else {
            ReceiptView::Absent
        }
    }
}

/// The receipts and blocks requested in one request.
#[derive(Default)]
struct Part {
    receipts: Vec<(Nonce, TxHash)>,
    heights: BTreeSet<BlockNumber>,
}

impl Part {
    fn calls(&self) -> usize {
        self.receipts.len().saturating_add(self.heights.len())
    }
}

/// Splits the queries into parts that fit one request together with the final pair. A slot's receipts stay in one part
/// with the block where they were seen.
fn parts(slots: &[SlotQuery], room: usize, needs_no_block: impl Fn(BlockNumber) -> bool) -> Vec<Part> {
    let room = room.max(2);
    let mut parts = vec![Part::default()];
    for slot in slots {
        let height = slot.mined_at.filter(|height| !needs_no_block(*height));
        for hashes in slot.hashes.chunks(room.saturating_sub(1)) {
            let of_slot = hashes.len().saturating_add(usize::from(height.is_some()));
            let is_full = parts.last().is_none_or(|part| part.calls().saturating_add(of_slot) > room);
            if is_full {
                parts.push(Part::default());
            }
            if let Some(part) = parts.last_mut() {
                part.receipts.extend(hashes.iter().map(|hash| (slot.nonce, *hash)));
                part.heights.extend(height);
            }
        }
    }
    parts.retain(|part| part.calls() > 0);
    parts
}

/// Asks for receipts and for the blocks where they were seen. Adds the final pair if one of them may be final.
pub(crate) async fn ask(
    endpoint: &Endpoint,
    address: Address,
    at: FinalAt,
    latest: BlockNumber,
    slots: &[SlotQuery],
    seen: &mut Seen,
) -> Result<(), CallFailure> {
    let limit = endpoint.batch_items();
    // One URL may show two branches: the newest block may stand in only for a block that cannot be final yet.
    let parts = parts(slots, limit.saturating_sub(2), |height| height >= latest);
    let pair = at.pair_calls(address);
    let asks_pair = |part: &Part| {
        let is_final = |height: &BlockNumber| seen.last_pair.is_none_or(|pair| *height <= pair.block.number);
        limit >= EVIDENCE_CALLS && part.heights.iter().any(is_final)
    };
    let with_pair: Vec<bool> = parts.iter().map(asks_pair).collect();
    if seen.last_pair.is_none() && !with_pair.contains(&true) {
        let mut answers = whole_request(endpoint.batch(&pair).await)?.into_iter();
        let nonce = Nonce(need(answers.next().unwrap_or(Err(CallFailure::Unanswered)), COUNT, quantity::number)?);
        let block = need(answers.next().unwrap_or(Err(CallFailure::Unanswered)), BLOCK, |block| Some(block.clone()))?;
        seen.final_made_at = made_at(&block);
        let block = read_block(&block).ok_or(CallFailure::Malformed(BLOCK))?;
        seen.last_pair = Some(FinalPair { block, nonce });
    }
    for (part, with_pair) in parts.into_iter().zip(with_pair) {
        let mut calls: Vec<Call> = if with_pair { pair.to_vec() } else { Vec::new() };
        calls.extend(part.receipts.iter().map(|(_, hash)| Call::new(RECEIPT, json!([hash.to_string()]))));
        calls.extend(part.heights.iter().map(|height| block_call(*height)));
        let is_one_request = endpoint.batch_items() >= calls.len();
        let mut answers = whole_request(endpoint.batch(&calls).await)?.into_iter();
        let is_one_request = is_one_request && endpoint.batch_items() >= calls.len();
        let mut next = || answers.next().unwrap_or(Err(CallFailure::Unanswered));
        let pair = if with_pair {
            let (nonce, block) = (next(), next());
            let nonce = need(nonce, COUNT, quantity::number).ok().map(Nonce);
            seen.final_made_at = block.as_ref().ok().and_then(made_at);
            let block = need(block, BLOCK, read_block).ok();
            nonce.zip(block).map(|(nonce, block)| FinalPair { block, nonce })
        } else {
            None
        };
        let receipts: Vec<(Nonce, ReceiptView)> =
            part.receipts.iter().map(|(nonce, hash)| (*nonce, receipt_view(next(), *hash))).collect();
        let mut blocks: BTreeMap<BlockNumber, BlockRef> = BTreeMap::new();
        for height in &part.heights {
            let Ok(value) = next() else { continue };
            if let Some(block) = read_block(&value).filter(|block| block.number == *height) {
                blocks.insert(*height, block);
                seen.txs.insert(block.hash, tx_hashes(&value));
            }
        }
        if let Some(pair) = pair.filter(|_| is_one_request) {
            blocks.entry(pair.block.number).or_insert(pair.block);
            let is_final = |nonce: Nonce, receipt: &Receipt| {
                nonce < pair.nonce
                    && receipt.block.number <= pair.block.number
                    && blocks.get(&receipt.block.number) == Some(&receipt.block)
            };
            seen.finals.extend(receipts.iter().filter_map(|(nonce, receipt)| match receipt {
                ReceiptView::Found(receipt) if is_final(*nonce, receipt) => Some((*nonce, *receipt)),
                ReceiptView::Found(_) | ReceiptView::Absent | ReceiptView::Unknown => None,
            }));
        }
        seen.last_pair = pair.or(seen.last_pair);
        seen.canonical.extend(blocks);
        for (nonce, receipt) in receipts {
            seen.answers.entry(nonce).or_default().push(receipt);
        }
    }
    Ok(())
}

/// Proves receipts by the line of parent hashes, if one answer cannot hold the evidence. After a failure the receipt
/// stays unproven for this round; the blocks read so far are kept.
pub(crate) async fn prove_by_parents(endpoint: &Endpoint, address: Address, at: FinalAt, seen: &mut Seen) {
    if endpoint.batch_items() >= EVIDENCE_CALLS {
        return;
    }
    let Some(lowest) = seen.to_prove().iter().filter_map(|slot| slot.mined_at).min() else { return };
    match parents::line(endpoint, address, at, lowest).await {
        Ok(line) => {
            let shown: Vec<(Nonce, Receipt)> =
                seen.found().filter(|(nonce, receipt)| *nonce < line.nonce && line.holds(&receipt.block)).collect();
            seen.finals.extend(shown);
        }
        Err(failure) => tracing::debug!(host = endpoint.host(), %failure, "the line of blocks is not complete yet"),
    }
}
