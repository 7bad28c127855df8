//! What a pass remembers of a lane between rounds. All of it can be lost: it is read again, or seen
//! again.

use std::collections::BTreeMap;

use crate::fees;
use crate::machine::{ChainSlot, ReceiptView, SlotView, Tuning};
use crate::ports::ChainView;
use crate::record::{AttemptKind, Phase, Receipt, Record, SendClass};
use crate::units::{AccountKey, BlockNumber, Millis, Nonce, RequestId, Wei};

use super::{BroadcasterConfig, Finality};

/// One account's lane as a pass knows it.
#[derive(Debug)]
pub struct Lane {
    pub(super) account: AccountKey,
    /// Slots read so far.
    pub(super) ids: BTreeMap<Nonce, RequestId>,
    /// Their records as last read or written.
    pub(super) records: BTreeMap<Nonce, Record>,
    /// The highest the chain was ever seen: a node that answers lower is behind, not right.
    pub(super) high: Option<HighWater>,
    /// The lane's head and since when it is.
    pub(super) head_since: Option<(Nonce, Millis)>,
    /// When bytes of a slot were last handed to a node.
    pub(super) sent_at: BTreeMap<Nonce, Millis>,
    /// When the signer was last asked for an attempt of a slot.
    pub(super) asked_at: BTreeMap<Nonce, Millis>,
    /// Since when the revert of a slot's final transaction is asked for.
    pub(super) replaying_since: BTreeMap<Nonce, Millis>,
    /// When the address was last looked at for code.
    pub(super) code_seen_at: Option<Millis>,
    warned_at: Option<Millis>,
    started_at: Millis,
}

/// Why the lane's head gets no higher price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stuck {
    /// The request's own cap leaves no legal bump.
    AtCap(Wei),
    /// The signer was asked and gives none; the price of the newest attempt.
    NotReplaced(Wei),
}

/// High-water marks of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HighWater {
    pub(super) latest_nonce: Nonce,
    pub(super) finalized_nonce: Nonce,
    pub(super) finalized: BlockNumber,
}

impl Lane {
    /// A lane nothing is known of yet.
    #[must_use]
    pub fn new(account: AccountKey, now: Millis) -> Self {
        Self {
            account,
            ids: BTreeMap::new(),
            records: BTreeMap::new(),
            high: None,
            head_since: None,
            sent_at: BTreeMap::new(),
            asked_at: BTreeMap::new(),
            replaying_since: BTreeMap::new(),
            code_seen_at: None,
            warned_at: None,
            started_at: now,
        }
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> &AccountKey {
        &self.account
    }

    /// Raises the high-water marks.
    pub(super) fn saw(&mut self, view: &ChainView, now: Millis) {
        let seen = HighWater {
            latest_nonce: view.latest_nonce,
            finalized_nonce: view.finalized_nonce,
            finalized: view.finalized.number,
        };
        let high = self.high.get_or_insert(seen);
        high.latest_nonce = high.latest_nonce.max(seen.latest_nonce);
        high.finalized_nonce = high.finalized_nonce.max(seen.finalized_nonce);
        high.finalized = high.finalized.max(seen.finalized);
        let head = self
            .records
            .iter()
            .find(|(_, record)| !matches!(record.phase, Phase::Mined(_) | Phase::Settled(_)))
            .map(|(nonce, _)| *nonce);
        match (head, self.head_since) {
            (Some(head), Some((known, _))) if head == known => {}
            (Some(head), _) => self.head_since = Some((head, now)),
            (None, _) => self.head_since = None,
        }
    }

    /// How many slots from `from` on are worked on: the window above the chain's count, and what
    /// waits below it for finality.
    pub(super) fn limit(&self, from: Nonce, window: u64) -> u64 {
        let below = self.high.map_or(0, |high| high.latest_nonce.since(from));
        window.saturating_add(below).min(BroadcasterConfig::MAX_SLOTS)
    }

    /// The first nonce from `from` on whose slot was not read yet.
    pub(super) fn contiguous_from(&self, from: Nonce) -> Nonce {
        let mut next = from;
        for nonce in self.ids.range(from..).map(|(nonce, _)| *nonce) {
            if nonce != next {
                break;
            }
            next = next.plus(1);
        }
        next
    }

    /// Keeps a record as read or written, unless a later version is known.
    pub(super) fn keep(&mut self, record: Record) {
        let newer = self.records.get(&record.nonce).is_none_or(|known| known.version <= record.version);
        if newer {
            if self.records.get(&record.nonce).is_some_and(|known| known.attempts.len() < record.attempts.len()) {
                self.asked_at.remove(&record.nonce);
            }
            self.records.insert(record.nonce, record);
        }
    }

    /// The first nonce from `from` on that is not closed.
    pub(super) fn closed_to(&self, from: Nonce) -> Nonce {
        let mut next = from;
        for (nonce, record) in self.records.range(from..) {
            if *nonce != next || !record.is_closed() {
                break;
            }
            next = next.plus(1);
        }
        next
    }

    /// Whether a slot waits because a node said that the account cannot pay for it.
    pub(super) fn is_short_of_funds(&self) -> bool {
        self.records.values().any(|record| {
            let answer = record.attempts.last().and_then(|attempt| attempt.sent.as_ref()).map(|sent| sent.answer.class);
            record.phase == Phase::Sent && answer == Some(SendClass::Funds)
        })
    }

    /// Why the head at `nonce` gets no higher price, if it gets none. What the policy allows is known to the
    /// signer alone: here it shows as an ask that stays without an answer.
    pub(super) fn stuck_head(&self, nonce: Nonce, tuning: &Tuning, now: Millis) -> Option<(RequestId, Stuck)> {
        let record = self.records.get(&nonce)?;
        let newest = record.attempts.last()?;
        let kind = record.next_kind();
        let stuck = if kind == AttemptKind::Execute && fees::bump(newest.fee, None, record.fee_cap).is_none() {
            Stuck::AtCap(record.fee_cap)
        } else {
            let is_late = |asked: &Millis| now.since(*asked) >= tuning.ask_again_after_ms;
            // A first cancel is no matter of price.
            let in_vain = kind == newest.kind && self.asked_at.get(&nonce).is_some_and(is_late);
            in_vain.then(|| Stuck::NotReplaced(newest.fee.price()))?
        };
        Some((record.request_id.clone(), stuck))
    }

    /// Forgets everything below `to`.
    pub(super) fn leave(&mut self, to: Nonce) {
        self.ids.retain(|nonce, _| *nonce >= to);
        self.records.retain(|nonce, _| *nonce >= to);
        self.sent_at.retain(|nonce, _| *nonce >= to);
        self.asked_at.retain(|nonce, _| *nonce >= to);
        self.replaying_since.retain(|nonce, _| *nonce >= to);
    }

    /// Whether a standing problem may be said again: once a minute.
    pub(super) fn may_warn(&mut self, now: Millis) -> bool {
        let may = self.warned_at.is_none_or(|at| now.since(at) >= 60_000);
        if may {
            self.warned_at = Some(now);
        }
        may
    }

    /// The chain's word about one slot, of one node and one round.
    pub(super) fn chain_slot(
        &self,
        record: &Record,
        seen: Option<&ChainView>,
        receipts: &BTreeMap<Nonce, ReceiptView>,
        finality: Finality,
    ) -> Option<ChainSlot> {
        seen.zip(self.high).map(|(view, high)| {
            let finalized = match finality {
                Finality::Finalized => view.finalized.number,
                Finality::Confirmations(count) => {
                    view.finalized.number.max(BlockNumber(view.latest.number.0.saturating_sub(count)))
                }
            };
            let receipt = match receipts.get(&record.nonce) {
                Some(receipt) => *receipt,
                // Nothing of ours can be mined where nothing was signed.
                None if record.attempts.is_empty() => ReceiptView::Absent,
                None => ReceiptView::Unknown,
            };
            let height = match receipt {
                ReceiptView::Found(Receipt { block, .. }) => Some(block.number),
                ReceiptView::Absent | ReceiptView::Unknown => record.phase.receipt().map(|mined| mined.block.number),
            };
            ChainSlot {
                latest_nonce: view.latest_nonce,
                finalized_nonce: high.finalized_nonce,
                finalized,
                receipt,
                canonical: height
                    .and_then(|height| view.canonical.iter().find(|block| block.number == height).copied()),
                price: view.price,
            }
        })
    }

    /// What the machine is told about one slot.
    pub(super) fn slot_view(
        &self,
        record: &Record,
        chain: Option<ChainSlot>,
        is_lane_head: bool,
        predecessors_sent: bool,
    ) -> SlotView {
        SlotView {
            chain,
            is_lane_head,
            head_since: match self.head_since {
                Some((nonce, since)) if nonce == record.nonce => since,
                Some(_) | None => self.started_at,
            },
            predecessors_sent,
            last_sent_at: self.sent_at.get(&record.nonce).copied(),
            last_asked_at: self.asked_at.get(&record.nonce).copied(),
        }
    }
}
