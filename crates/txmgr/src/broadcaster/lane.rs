//! The state of a lane that a pass keeps between rounds. All of it can be lost: it is read or observed
//! again.

use std::collections::{BTreeMap, BTreeSet};

use crate::account::Head;
use crate::fees;
use crate::machine::{ChainSlot, Corroboration, ReceiptView, SlotView, Tuning};
use crate::ports::ChainView;
use crate::record::{AttemptKind, Phase, Receipt, Record, SendClass, Subject};
use crate::tx::TRANSFER_GAS;
use crate::units::{AccountKey, BlockNumber, Millis, Nonce, RequestId, Wei};

use super::BroadcasterConfig;
use super::question::{AT_ONCE, Question};

/// A pass's state of one account's lane.
#[derive(Debug)]
pub struct Lane {
    pub(super) account: AccountKey,
    /// The low mark that this round read. Slots set aside are below it.
    pub(super) begin: Nonce,
    /// All slots below this have been read.
    pub(super) read_to: Nonce,
    /// The request ids of the slots read so far.
    pub(super) ids: BTreeMap<Nonce, RequestId>,
    /// Records that are not closed, as last read or written.
    pub(super) records: BTreeMap<Nonce, Record>,
    /// Closed slots that are not left behind yet. They are not read again.
    pub(super) closed: BTreeSet<Nonce>,
    /// Slots without a slot item or record, and for how many consecutive loads.
    pub(super) lost: BTreeMap<Nonce, u32>,
    /// When the slots set aside were last loaded.
    pub(super) aside_loaded_at: Option<Millis>,
    /// The chain's high-water marks. A node that answers lower is behind.
    pub(super) high: Option<HighWater>,
    /// The lane's head and since when it has been the head.
    pub(super) head_since: Option<(Nonce, Millis)>,
    /// When the bytes of a slot were last sent to a node.
    pub(super) sent_at: BTreeMap<Nonce, Millis>,
    /// When the signer was last asked for an attempt of a slot.
    pub(super) asked_at: BTreeMap<Nonce, Millis>,
    /// For the lane's head: how many attempts it had when a node accepted the newest, and the newest block then.
    pub(super) taken: BTreeMap<Nonce, (usize, BlockNumber)>,
    /// The second node's answer about a slot's final receipt.
    pub(super) corroborations: BTreeMap<Nonce, NotedCorroboration>,
    /// The newest block of the last view.
    latest: Option<BlockNumber>,
    /// Set while no second node answers.
    silence: Option<Silence>,
    /// Consecutive rounds in which a slot's nonce was final and no receipt was shown.
    pub(super) receiptless: BTreeMap<Nonce, u32>,
    /// Consecutive rounds in which the node counted a mined slot as unused.
    denied: BTreeMap<Nonce, u32>,
    /// When the topic last refused the outcome of a slot.
    pub(super) refused_at: BTreeMap<Nonce, Millis>,
    /// The slow questions that the last round collected and the host has not taken.
    pub(super) waiting: Vec<Question>,
    /// The slots with a question in progress.
    pub(super) inquiring: BTreeMap<Nonce, Subject>,
    /// When the address was last checked for code.
    pub(super) code_checked_at: Option<Millis>,
    /// Whether the address has code, if that is known.
    pub(super) has_code: Option<bool>,
    /// The account's balance when it was last checked.
    pub(super) balance: Option<Wei>,
    warned_at: Option<Millis>,
    alarmed_at: Option<Millis>,
    started_at: Millis,
}

/// Why the price of the lane's head is not raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stuck {
    /// The request's own cap leaves no legal bump.
    AtCap(Wei),
    /// The signer was asked for a replacement and gave none; holds the price of the newest attempt.
    NotReplaced(Wei),
}

/// A second node's answer about a final receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotedCorroboration {
    receipt: Receipt,
    corroboration: Corroboration,
    /// Since when the answer has been the same.
    since: Millis,
    /// How many times in a row it was the same.
    times: u32,
}

/// Consecutive silent answers that count as silence. Fewer may be chance, since nothing is known about the time between
/// them.
const SILENT_ANSWERS: u32 = 6;

/// A period in which no second node answered about any receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Silence {
    since: Millis,
    heard_at: Millis,
}

/// Consecutive blocks of one validator (BSC's turn length).
const TURN_BLOCKS: u64 = 8;

/// Without a question for this long, in milliseconds, a silence ends and the next one is new.
const SILENCE_MS: u64 = 60_000;
/// A warning about a lane is repeated after this, in milliseconds: the rounds of a pass are half a second apart.
const SAID_AGAIN_AFTER_MS: u64 = 60_000;

/// High-water marks of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HighWater {
    pub(super) latest_nonce: Nonce,
    pub(super) finalized_nonce: Nonce,
    pub(super) finalized: BlockNumber,
    /// When a view last reached all of them.
    reached_at: Millis,
}

/// Marks that no view has reached for this long, in milliseconds, are given up. A URL that alternates between backends
/// reaches them again within seconds; marks from a lying node are never reached.
const MARK_MS: u64 = 10_000;

impl Lane {
    /// A lane about which nothing is known yet.
    #[must_use]
    pub fn new(account: AccountKey, now: Millis) -> Self {
        Self {
            account,
            begin: Nonce(0),
            read_to: Nonce(0),
            ids: BTreeMap::new(),
            records: BTreeMap::new(),
            closed: BTreeSet::new(),
            lost: BTreeMap::new(),
            aside_loaded_at: None,
            high: None,
            head_since: None,
            sent_at: BTreeMap::new(),
            asked_at: BTreeMap::new(),
            taken: BTreeMap::new(),
            corroborations: BTreeMap::new(),
            latest: None,
            silence: None,
            receiptless: BTreeMap::new(),
            denied: BTreeMap::new(),
            refused_at: BTreeMap::new(),
            waiting: Vec::new(),
            inquiring: BTreeMap::new(),
            code_checked_at: None,
            has_code: None,
            balance: None,
            warned_at: None,
            alarmed_at: None,
            started_at: now,
        }
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> &AccountKey {
        &self.account
    }

    /// Takes the questions to ask now, within the limits on questions in progress. The host must return the result of
    /// each through [`super::Broadcaster::conclude`].
    pub fn take_questions(&mut self) -> Vec<Question> {
        let mut taken = Vec::new();
        let mut left = Vec::new();
        // New questions come first, so that a few without an answer do not delay the others.
        self.waiting.sort_by_key(Question::sort_key);
        for question in std::mem::take(&mut self.waiting) {
            let (nonce, subject) = (question.record.nonce, question.subject());
            if self.inquiring.contains_key(&nonce) {
                continue;
            }
            if self.inquiring.values().filter(|asked| **asked == subject).count() < AT_ONCE {
                self.inquiring.insert(nonce, subject);
                taken.push(question);
            } else {
                left.push(question);
            }
        }
        self.waiting = left;
        taken
    }

    /// Starts a round with the head that it read: forgets the slots left behind.
    pub(super) fn begin_at(&mut self, head: &Head) {
        self.begin = head.lowest_open_nonce;
        let kept = |nonce: &Nonce| *nonce >= head.lowest_open_nonce;
        let set_aside: BTreeSet<Nonce> = head.set_aside.iter().map(|slot| slot.nonce).collect();
        self.ids.retain(|nonce, _| kept(nonce));
        self.closed.retain(|nonce| kept(nonce) || set_aside.contains(nonce));
        self.lost.retain(|nonce, _| kept(nonce) || set_aside.contains(nonce));
    }

    /// Counts one more load in which exactly these slots, from `from` on, were missing.
    pub(super) fn count_lost(&mut self, from: Nonce, missing: Vec<Nonce>) {
        let before = self.lost.split_off(&from);
        self.lost.extend(count_round(&before, missing.into_iter()));
    }

    /// Counts one more load in which a slot set aside was missing.
    pub(super) fn count_missing(&mut self, nonce: Nonce) {
        let loads = self.lost.entry(nonce).or_insert(0);
        *loads = loads.saturating_add(1);
    }

    /// Takes a node's view: raises the high-water marks and updates the head and the counters.
    pub(super) fn note_view(&mut self, view: &ChainView, now: Millis) {
        let seen = HighWater {
            latest_nonce: view.latest_nonce,
            finalized_nonce: view.finalized_nonce,
            finalized: view.finalized.number,
            reached_at: now,
        };
        let high = self.high.get_or_insert(seen);
        let is_reached = seen.latest_nonce >= high.latest_nonce
            && seen.finalized_nonce >= high.finalized_nonce
            && seen.finalized >= high.finalized;
        if is_reached || now.since(high.reached_at) >= MARK_MS {
            *high = seen;
        } else {
            high.latest_nonce = high.latest_nonce.max(seen.latest_nonce);
            high.finalized_nonce = high.finalized_nonce.max(seen.finalized_nonce);
            high.finalized = high.finalized.max(seen.finalized);
        }
        let head = self
            .records
            .iter()
            .find(|(nonce, record)| !is_mined_or_settled(record) && **nonce >= view.latest_nonce)
            .map(|(nonce, _)| *nonce);
        match (head, self.head_since) {
            (Some(head), Some((known, _))) if head == known => {}
            (Some(head), _) => self.head_since = Some((head, now)),
            (None, _) => self.head_since = None,
        }
        self.note_taken(head, view.latest.number);
        self.latest = Some(view.latest.number);
        self.count_receiptless(view);
        self.count_denied(view);
    }

    /// Counts the rounds in which the node counted a mined slot as unused.
    fn count_denied(&mut self, view: &ChainView) {
        let shown = |nonce: Nonce| {
            view.receipts.iter().any(|(at, receipt)| *at == nonce && matches!(receipt, ReceiptView::Found(_)))
        };
        let mined = self.records.iter().filter(|(_, record)| matches!(record.phase, Phase::Mined(_)));
        let denied =
            mined.filter(|(nonce, _)| **nonce >= view.latest_nonce && !shown(**nonce)).map(|(nonce, _)| *nonce);
        self.denied = count_round(&self.denied, denied);
    }

    /// The account's highest count that any node reported, in a view or by refusing a nonce as used. The node that is
    /// asked next may be behind it.
    pub(super) fn latest_seen(&self) -> Nonce {
        let is_refused_as_used = |record: &&Record| {
            let newest = record.attempts.last().and_then(|attempt| attempt.sent.as_ref());
            newest.is_some_and(|sent| sent.answer.class == SendClass::NonceTooLow)
        };
        let refused = self.records.values().filter(is_refused_as_used).map(|record| record.nonce.plus(1)).max();
        let seen = self.high.map_or(Nonce(0), |high| high.latest_nonce);
        seen.max(refused.unwrap_or(seen))
    }

    /// Whether a validator's whole turn has passed since a node accepted the head, and no block contains it.
    pub(super) fn head_waits(&self) -> bool {
        self.taken
            .values()
            .any(|(_, at)| self.latest.is_some_and(|latest| latest.0.saturating_sub(at.0) >= TURN_BLOCKS))
    }

    /// Notes the block at which the lane's head was first seen with its newest attempt accepted by a node.
    fn note_taken(&mut self, head: Option<Nonce>, latest: BlockNumber) {
        let newest = head.and_then(|nonce| {
            let attempts = &self.records.get(&nonce)?.attempts;
            let is_taken = attempts.last()?.sent.as_ref()?.answer.class.is_taken();
            is_taken.then_some((nonce, attempts.len()))
        });
        let known = newest.and_then(|(nonce, count)| self.taken.get(&nonce).filter(|(at, _)| *at == count).copied());
        self.taken.clear();
        self.taken.extend(newest.map(|(nonce, count)| (nonce, known.unwrap_or((count, latest)))));
    }

    /// Counts the rounds in which a nonce was final and no receipt for it was shown final.
    fn count_receiptless(&mut self, view: &ChainView) {
        let final_nonce = self.high.map_or(Nonce(0), |high| high.finalized_nonce);
        let shown = |nonce: Nonce| view.finals.iter().any(|(at, _)| *at == nonce);
        let open = self.records.iter().filter(|(_, record)| record.phase.settlement().is_none());
        let missing = open.filter(|(nonce, _)| **nonce < final_nonce && !shown(**nonce)).map(|(nonce, _)| *nonce);
        self.receiptless = count_round(&self.receiptless, missing);
    }

    /// The final receipts of a view that a second node has not confirmed yet.
    pub(super) fn to_witness(&self, view: &ChainView) -> Vec<(Nonce, Receipt)> {
        let is_open = |nonce: &Nonce| self.records.get(nonce).is_some_and(|record| record.phase.settlement().is_none());
        let is_confirmed = |(nonce, receipt): &(Nonce, Receipt)| {
            self.corroborations.get(nonce).is_some_and(|heard| {
                heard.receipt == *receipt && matches!(heard.corroboration, Corroboration::Agrees | Corroboration::Alone)
            })
        };
        let finals = view.finals.iter().filter(|it| is_open(&it.0) && !is_confirmed(it));
        finals.copied().collect()
    }

    /// Stores a second node's answer.
    pub(super) fn note_corroboration(
        &mut self,
        nonce: Nonce,
        receipt: Receipt,
        corroboration: Corroboration,
        now: Millis,
    ) {
        self.silence = match (corroboration, self.silence) {
            (Corroboration::Silent, Some(silence)) if now.since(silence.heard_at) < SILENCE_MS => {
                Some(Silence { heard_at: now, ..silence })
            }
            (Corroboration::Silent, _) => Some(Silence { since: now, heard_at: now }),
            (Corroboration::Alone | Corroboration::Agrees | Corroboration::NotYet | Corroboration::Contradicts, _) => {
                None
            }
        };
        let before = self.corroborations.get(&nonce).filter(|heard| heard.receipt == receipt);
        // A contradiction stands while the node is silent.
        let is_contradicted = before.is_some_and(|heard| heard.corroboration == Corroboration::Contradicts);
        let corroboration = if is_contradicted && matches!(corroboration, Corroboration::Silent | Corroboration::NotYet)
        {
            Corroboration::Contradicts
        } else {
            corroboration
        };
        let (since, times) = match before {
            Some(heard) if heard.corroboration == corroboration => (heard.since, heard.times),
            Some(_) | None => (now, 0),
        };
        self.corroborations
            .insert(nonce, NotedCorroboration { receipt, corroboration, since, times: times.saturating_add(1) });
    }

    /// Since when the second nodes have been silent about a nonce. A silence about all receipts counts for each, so
    /// that a node that is down is waited for once and not for every request.
    fn silent_since(&self, nonce: Nonce) -> Option<Millis> {
        let heard = self
            .corroborations
            .get(&nonce)
            .filter(|heard| heard.corroboration == Corroboration::Silent && heard.times >= SILENT_ANSWERS)?;
        Some(self.silence.map_or(heard.since, |silence| silence.since.min(heard.since)))
    }

    /// How many slots from `from` on a round works on: the window above the chain's count, and below it the slots that
    /// wait for finality or are held back by an open slot.
    pub(super) fn limit(&self, from: Nonce, window: u64) -> u64 {
        let seen = self.high.map_or(from, |high| high.latest_nonce);
        let closed = self.closed.last().map_or(from, |nonce| nonce.plus(1));
        window.saturating_add(seen.max(closed).since(from)).min(BroadcasterConfig::MAX_SLOTS)
    }

    /// Keeps a record that was read or written, unless a later version is known.
    pub(super) fn keep(&mut self, record: Record) {
        if record.is_closed() {
            self.records.remove(&record.nonce);
            self.closed.insert(record.nonce);
            return;
        }
        let newer = self.records.get(&record.nonce).is_none_or(|known| known.version <= record.version);
        if newer {
            if self.records.get(&record.nonce).is_some_and(|known| known.attempts.len() < record.attempts.len()) {
                self.asked_at.remove(&record.nonce);
            }
            self.records.insert(record.nonce, record);
        }
    }

    /// Wei that a cancel of this record moves to the account itself. 1 wei makes it a payment for BEP-703's payment
    /// lane; it is used only if the account has no code and can spare it.
    pub(super) fn to_self(&self, record: &Record) -> u64 {
        let is_wanted = record.next_kind() == AttemptKind::Cancel && self.has_code == Some(false);
        let price = record.attempts.last().map_or(record.fee, |newest| newest.fee).price();
        // Twice today's price exceeds a legal bump, unless the network's price itself rises.
        let worst = price.0.saturating_mul((2 * TRANSFER_GAS.0).into());
        u64::from(is_wanted && self.balance.is_some_and(|balance| balance.0 > worst))
    }

    /// Whether a slot waits because a node said that the account cannot pay.
    pub(super) fn is_short_of_funds(&self) -> bool {
        self.records.values().any(|record| {
            let answer = record.attempts.last().and_then(|attempt| attempt.sent.as_ref()).map(|sent| sent.answer.class);
            record.phase == Phase::Sent && answer == Some(SendClass::Funds)
        })
    }

    /// Why the price of the head at `nonce` is not raised, if it is not. Only the signer knows the policy's limits;
    /// here they show as a request to the signer without a result.
    pub(super) fn stuck_head(&self, nonce: Nonce, tuning: &Tuning, now: Millis) -> Option<(RequestId, Stuck)> {
        let record = self.records.get(&nonce)?;
        let newest = record.attempts.last()?;
        let kind = record.next_kind();
        let stuck = if kind == AttemptKind::Execute && fees::bump(newest.fee, None, record.fee_cap).is_none() {
            Stuck::AtCap(record.fee_cap)
        } else {
            let is_late = |asked: &Millis| now.since(*asked) >= tuning.ask_again_after_ms;
            // The first cancel does not depend on the price.
            let is_unanswered = kind == newest.kind && self.asked_at.get(&nonce).is_some_and(is_late);
            is_unanswered.then(|| Stuck::NotReplaced(newest.fee.price()))?
        };
        Some((record.request_id.clone(), stuck))
    }

    /// Forgets everything below `to`.
    pub(super) fn leave(&mut self, to: Nonce) {
        self.ids.retain(|nonce, _| *nonce >= to);
        self.records.retain(|nonce, _| *nonce >= to);
        self.closed.retain(|nonce| *nonce >= to);
        self.lost.retain(|nonce, _| *nonce >= to);
        self.sent_at.retain(|nonce, _| *nonce >= to);
        self.asked_at.retain(|nonce, _| *nonce >= to);
        self.refused_at.retain(|nonce, _| *nonce >= to);
        self.corroborations.retain(|nonce, _| *nonce >= to);
    }

    /// Whether a standing problem may be logged again: once a minute.
    pub(super) fn may_warn(&mut self, now: Millis) -> bool {
        once_a_minute(&mut self.warned_at, now)
    }

    /// The same for a problem that holds back the lane's low mark.
    pub(super) fn may_alarm(&mut self, now: Millis) -> bool {
        once_a_minute(&mut self.alarmed_at, now)
    }

    /// What one node says about a slot in one round.
    pub(super) fn chain_slot(
        &self,
        record: &Record,
        seen: Option<&ChainView>,
        receipts: &BTreeMap<Nonce, ReceiptView>,
    ) -> Option<ChainSlot> {
        seen.zip(self.high).map(|(view, high)| {
            let shown = view.finals.iter().find(|(nonce, _)| *nonce == record.nonce).map(|(_, receipt)| *receipt);
            let settles = shown.and_then(|receipt| {
                let heard = self.corroborations.get(&record.nonce).filter(|heard| heard.receipt == receipt)?;
                Some((receipt, heard.corroboration))
            });
            let receipt = match receipts.get(&record.nonce) {
                Some(receipt) => *receipt,
                // A slot without a signature cannot have been mined by us.
                None if record.attempts.is_empty() => ReceiptView::Absent,
                None => ReceiptView::Unknown,
            };
            let height = match receipt {
                ReceiptView::Found(Receipt { block, .. }) => Some(block.number),
                ReceiptView::Absent | ReceiptView::Unknown => record.phase.receipt().map(|mined| mined.block.number),
            };
            ChainSlot {
                latest: view.latest.number,
                latest_nonce: view.latest_nonce,
                finalized_nonce: high.finalized_nonce,
                settles,
                receipt,
                canonical: height
                    .and_then(|height| view.canonical.iter().find(|block| block.number == height).copied()),
                price: view.price,
            }
        })
    }

    /// The machine's input for one slot.
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
            taken_at: self.taken.get(&record.nonce).map(|(_, at)| *at),
            silent_since: self.silent_since(record.nonce),
            receiptless: self.receiptless.get(&record.nonce).copied().unwrap_or(0),
            denied: self.denied.get(&record.nonce).copied().unwrap_or(0),
        }
    }
}

/// Counts one more round in which exactly these nonces were seen; all others start again at 0.
fn count_round(before: &BTreeMap<Nonce, u32>, seen: impl Iterator<Item = Nonce>) -> BTreeMap<Nonce, u32> {
    seen.map(|nonce| (nonce, before.get(&nonce).copied().unwrap_or(0).saturating_add(1))).collect()
}

/// Whether no transaction of the slot is waiting to be mined.
pub(super) fn is_mined_or_settled(record: &Record) -> bool {
    matches!(record.phase, Phase::Mined(_) | Phase::Settled(_))
}

fn once_a_minute(said_at: &mut Option<Millis>, now: Millis) -> bool {
    let may = said_at.is_none_or(|at| now.since(at) >= SAID_AGAIN_AFTER_MS);
    if may {
        *said_at = Some(now);
    }
    may
}
