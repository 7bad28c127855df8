//! False answers of a node: each alone, or several that are consistent.
//!
//! Read next: [`super::chain`].

use crate::machine::ReceiptView;
use crate::ports::{ChainView, SlotQuery, ViewQuery};
use crate::record::{BlockRef, Receipt};
use crate::units::{BlockHash, BlockNumber, Gas, Nonce, TxHash, Wei, keccak256};

/// The error of a false count.
pub(super) const FAR_AHEAD: u64 = 5_000_000_000_000;

/// The false answers of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the lies are independent of each other")]
pub struct Lies {
    /// The account's counts are those after its highest open slot, or far too high.
    pub counts: bool,
    /// Every slot has a receipt. Real receipts have the opposite status.
    pub receipts: bool,
    /// The newest block is shown as final.
    pub finality: bool,
    /// Blocks have wrong hashes.
    pub blocks: bool,
    /// The number of blocks by which the chain is shown longer.
    pub ahead: u64,
}

impl Lies {
    /// Whether any lie is set.
    #[must_use]
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// Falsifies an answer.
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
                // Always the same receipt, as an attacker would show to be believed.
                let block = if self.ahead > 0 { made_up(BlockNumber(self.ahead)) } else { view.finalized };
                receipt(*slot.hashes.first()?, block, slot.nonce.0.is_multiple_of(2))
            }
        };
        Some(ReceiptView::Found(made))
    }
}

/// A block that does not exist.
pub(super) fn made_up(number: BlockNumber) -> BlockRef {
    BlockRef { number, hash: BlockHash(keccak256(&number.0.to_be_bytes())) }
}

/// A receipt of a transaction that was not mined.
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
