//! What a node may say that is not so: each thing alone, or all of it together and fitting.
//!
//! Read next: [`super::chain`].

use crate::machine::ReceiptView;
use crate::ports::{ChainView, SlotQuery, ViewQuery};
use crate::record::{BlockRef, Receipt};
use crate::units::{BlockHash, BlockNumber, Gas, Nonce, TxHash, Wei, keccak256};

/// How far a count is from the truth.
pub(super) const FAR_AHEAD: u64 = 5_000_000_000_000;

/// What is not so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a lie of its own")]
pub struct Lies {
    /// The account's counts are those after its highest open slot, or far ahead of it.
    pub counts: bool,
    /// Every attempt has a receipt; the true ones have the other status.
    pub receipts: bool,
    /// The newest block is final.
    pub finality: bool,
    /// Blocks have other hashes.
    pub blocks: bool,
    /// Number of blocks by which the chain is longer.
    pub ahead: u64,
}

impl Lies {
    /// Whether there are any.
    #[must_use]
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// Changes an answer.
    pub(super) fn tell(self, query: &ViewQuery, view: &mut ChainView) {
        if !self.any() {
            return;
        }
        for block in [&mut view.latest, &mut view.finalized] {
            block.number.0 += self.ahead;
            if self.blocks || self.ahead > 0 {
                *block = made_up(block.number);
            }
        }
        if self.finality {
            view.finalized = view.latest;
            view.finalized_nonce = view.latest_nonce;
        }
        if self.counts {
            let open = query.slots.iter().map(|slot| slot.nonce.plus(1)).max();
            let far = Nonce(view.latest_nonce.0.saturating_add(FAR_AHEAD));
            view.latest_nonce = open.unwrap_or(far).max(view.latest_nonce);
            view.finalized_nonce = view.latest_nonce;
        }
        if self.receipts {
            view.receipts = query.slots.iter().filter_map(|slot| Some((slot.nonce, self.of(slot, view)?))).collect();
        }
        let shown = view.receipts.iter().filter_map(|(_, receipt)| match receipt {
            ReceiptView::Found(receipt) => Some(receipt.block),
            ReceiptView::Absent | ReceiptView::Unknown => None,
        });
        if self.blocks || self.ahead > 0 {
            view.canonical = shown.chain([view.latest, view.finalized]).collect();
        }
        view.canonical.extend([view.latest, view.finalized]);
        let is_final = |nonce: Nonce, receipt: &Receipt| {
            nonce < view.finalized_nonce
                && receipt.block.number <= view.finalized.number
                && view.canonical.contains(&receipt.block)
        };
        view.finals = view
            .receipts
            .iter()
            .filter_map(|(nonce, receipt)| match receipt {
                ReceiptView::Found(receipt) if is_final(*nonce, receipt) => Some((*nonce, *receipt)),
                ReceiptView::Found(_) | ReceiptView::Absent | ReceiptView::Unknown => None,
            })
            .collect();
    }

    fn of(self, slot: &SlotQuery, view: &ChainView) -> Option<ReceiptView> {
        let known = view.receipts.iter().find(|(nonce, _)| *nonce == slot.nonce).map(|(_, receipt)| *receipt);
        let made = match known {
            Some(ReceiptView::Found(receipt)) => Receipt { succeeded: !receipt.succeeded, ..receipt },
            Some(ReceiptView::Absent | ReceiptView::Unknown) | None => {
                // Always the same one, as somebody would tell it who wants to be believed.
                let block = if self.ahead > 0 { made_up(BlockNumber(self.ahead)) } else { view.finalized };
                receipt(*slot.hashes.first()?, block, slot.nonce.0.is_multiple_of(2))
            }
        };
        Some(ReceiptView::Found(made))
    }
}

/// A block that is nowhere.
pub(super) fn made_up(number: BlockNumber) -> BlockRef {
    BlockRef { number, hash: BlockHash(keccak256(&number.0.to_be_bytes())) }
}

/// A receipt of nothing that happened.
pub(super) fn receipt(tx_hash: TxHash, block: BlockRef, succeeded: bool) -> Receipt {
    Receipt {
        tx_hash,
        block,
        succeeded,
        gas_used: Some(Gas(21_000)),
        effective_gas_price: Some(Wei::from_gwei(1)),
        contract: None,
    }
}
