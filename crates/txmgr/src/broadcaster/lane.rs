//! What a pass remembers of a lane between rounds. All of it can be lost: it is read again, or seen
//! again.

use std::collections::{BTreeMap, BTreeSet};

use crate::account::Head;
use crate::fees;
use crate::machine::{ChainSlot, ReceiptView, SlotView, Tuning, Word};
use crate::ports::ChainView;
use crate::record::{AttemptKind, Phase, Receipt, Record, SendClass, Subject};
use crate::tx::TRANSFER_GAS;
use crate::units::{AccountKey, BlockNumber, Millis, Nonce, RequestId, Wei};

use super::BroadcasterConfig;
use super::question::{AT_ONCE, Question};

/// One account's lane as a pass knows it.
#[derive(Debug)]
pub struct Lane {
    pub(super) account: AccountKey,
    /// The low mark as this round found it. Slots set aside are below.
    pub(super) begin: Nonce,
    /// The slots below this were read.
    pub(super) read_to: Nonce,
    /// Slots read so far.
    pub(super) ids: BTreeMap<Nonce, RequestId>,
    /// Records that are not closed, as last read or written.
    pub(super) records: BTreeMap<Nonce, Record>,
    /// Slots known to be closed and not left behind yet. They are not read again.
    pub(super) closed: BTreeSet<Nonce>,
    /// Slots without a slot item or record, and in how many looks in a row.
    pub(super) lost: BTreeMap<Nonce, u32>,
    /// When the slots set aside were last looked at.
    pub(super) aside_looked_at: Option<Millis>,
    /// The highest the chain was ever seen: a node that answers lower is behind, not right.
    pub(super) high: Option<HighWater>,
    /// The lane's head and since when it is.
    pub(super) head_since: Option<(Nonce, Millis)>,
    /// When bytes of a slot were last handed to a node.
    pub(super) sent_at: BTreeMap<Nonce, Millis>,
    /// When the signer was last asked for an attempt of a slot.
    pub(super) asked_at: BTreeMap<Nonce, Millis>,
    /// For the lane's head: the attempt that a node was seen to have, and the newest block then.
    pub(super) taken: BTreeMap<Nonce, (usize, BlockNumber)>,
    /// What a second node said of a slot's final receipt, and since when none confirms it.
    pub(super) words: BTreeMap<Nonce, Heard>,
    /// The newest block of the last view.
    latest: Option<BlockNumber>,
    /// While no second node says anything.
    silence: Option<Silence>,
    /// Rounds in a row in which a slot's nonce was final and no receipt was shown.
    pub(super) receiptless: BTreeMap<Nonce, u32>,
    /// Rounds in a row in which a mined slot was not used.
    denied: BTreeMap<Nonce, u32>,
    /// When the topic last refused the outcome of a slot.
    pub(super) refused_at: BTreeMap<Nonce, Millis>,
    /// The slow questions the last round decided and nobody took.
    pub(super) waiting: Vec<Question>,
    /// The slots about which one is being asked.
    pub(super) inquiring: BTreeMap<Nonce, Subject>,
    /// When the address was last looked at for code.
    pub(super) code_seen_at: Option<Millis>,
    /// Whether the address has code, if that is known.
    pub(super) has_code: Option<bool>,
    /// What the account had when it was last looked at.
    pub(super) balance: Option<Wei>,
    warned_at: Option<Millis>,
    alarmed_at: Option<Millis>,
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

/// A second node's word about a final receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    receipt: Receipt,
    word: Word,
    /// Since when it has been the same.
    since: Millis,
    /// How often in a row it was.
    times: u32,
}

/// Words that make a silence: fewer may be chance, and nothing is known of the time between them.
const SILENT_WORDS: u32 = 6;

/// How long no second node has said anything, about whatever receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Silence {
    since: Millis,
    heard_at: Millis,
}

/// Blocks in a row that one validator makes (BSC's turn length).
const TURN_BLOCKS: u64 = 8;

/// After this long without a question a silence is over, in milliseconds: the next one is a new one.
const SILENCE_MS: u64 = 60_000;
/// A warning about a lane is repeated after this, in milliseconds: the rounds of a pass are half a second apart.
const SAID_AGAIN_AFTER_MS: u64 = 60_000;

/// High-water marks of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HighWater {
    pub(super) latest_nonce: Nonce,
    pub(super) finalized_nonce: Nonce,
    pub(super) finalized: BlockNumber,
    /// When a view last reached them.
    reached_at: Millis,
}

/// Marks that no view has reached for so long, in milliseconds, are given up: a node that goes back and forth between
/// backends reaches them again within seconds, one that made them up does not.
const MARK_MS: u64 = 10_000;

impl Lane {
    /// A lane nothing is known of yet.
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
            aside_looked_at: None,
            high: None,
            head_since: None,
            sent_at: BTreeMap::new(),
            asked_at: BTreeMap::new(),
            taken: BTreeMap::new(),
            words: BTreeMap::new(),
            latest: None,
            silence: None,
            receiptless: BTreeMap::new(),
            denied: BTreeMap::new(),
            refused_at: BTreeMap::new(),
            waiting: Vec::new(),
            inquiring: BTreeMap::new(),
            code_seen_at: None,
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

    /// The questions to ask now, as far as there is room beside those being asked: each is to be brought
    /// back by [`super::Broadcaster::conclude`].
    pub fn take_questions(&mut self) -> Vec<Question> {
        let mut taken = Vec::new();
        let mut left = Vec::new();
        // Those that were never asked first, so that a few that have no answer keep no others waiting.
        self.waiting.sort_by_key(Question::turn);
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

    /// Takes the head as a round read it: forgets what was left behind.
    pub(super) fn begin_at(&mut self, head: &Head) {
        self.begin = head.lowest_open_nonce;
        let kept = |nonce: &Nonce| *nonce >= head.lowest_open_nonce;
        let set_aside: BTreeSet<Nonce> = head.set_aside.iter().map(|slot| slot.nonce).collect();
        self.ids.retain(|nonce, _| kept(nonce));
        self.closed.retain(|nonce| kept(nonce) || set_aside.contains(nonce));
        self.lost.retain(|nonce, _| kept(nonce) || set_aside.contains(nonce));
    }

    /// Counts one more look in which these slots from `from` on were missing, and no others.
    pub(super) fn count_lost(&mut self, from: Nonce, missing: Vec<Nonce>) {
        let before = self.lost.split_off(&from);
        self.lost.extend(one_more(&before, missing.into_iter()));
    }

    /// Counts one more look in which a slot that is set aside was missing.
    pub(super) fn count_missing(&mut self, nonce: Nonce) {
        let looks = self.lost.entry(nonce).or_insert(0);
        *looks = looks.saturating_add(1);
    }

    /// Raises the high-water marks.
    pub(super) fn saw(&mut self, view: &ChainView, now: Millis) {
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
            .find(|(nonce, record)| !is_past(record) && **nonce >= view.latest_nonce)
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

    /// Counts the rounds in which a slot that is noted as mined was not used, as this node has it.
    fn count_denied(&mut self, view: &ChainView) {
        let shown = |nonce: Nonce| {
            view.receipts.iter().any(|(at, receipt)| *at == nonce && matches!(receipt, ReceiptView::Found(_)))
        };
        let mined = self.records.iter().filter(|(_, record)| matches!(record.phase, Phase::Mined(_)));
        let denied =
            mined.filter(|(nonce, _)| **nonce >= view.latest_nonce && !shown(**nonce)).map(|(nonce, _)| *nonce);
        self.denied = one_more(&self.denied, denied);
    }

    /// The account's count as far as any node told it: in a view, or by refusing a nonce as used. The one that is
    /// read from may not know of it.
    pub(super) fn latest_seen(&self) -> Nonce {
        let told_used = |record: &&Record| {
            let newest = record.attempts.last().and_then(|attempt| attempt.sent.as_ref());
            newest.is_some_and(|sent| sent.answer.class == SendClass::NonceTooLow)
        };
        let refused = self.records.values().filter(told_used).map(|record| record.nonce.plus(1)).max();
        let seen = self.high.map_or(Nonce(0), |high| high.latest_nonce);
        seen.max(refused.unwrap_or(seen))
    }

    /// Whether a validator's whole turn passed since a node took the head, and no block has it.
    pub(super) fn head_waits(&self) -> bool {
        self.taken
            .values()
            .any(|(_, at)| self.latest.is_some_and(|latest| latest.0.saturating_sub(at.0) >= TURN_BLOCKS))
    }

    /// Notes at which block the lane's head was first seen with its newest attempt at a node.
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

    /// Counts the rounds in which a nonce was final and nothing that used it was shown final.
    fn count_receiptless(&mut self, view: &ChainView) {
        let final_nonce = self.high.map_or(Nonce(0), |high| high.finalized_nonce);
        let shown = |nonce: Nonce| view.finals.iter().any(|(at, _)| *at == nonce);
        let open = self.records.iter().filter(|(_, record)| record.phase.settlement().is_none());
        let missing = open.filter(|(nonce, _)| **nonce < final_nonce && !shown(**nonce)).map(|(nonce, _)| *nonce);
        self.receiptless = one_more(&self.receiptless, missing);
    }

    /// The receipts of a view that a second node has not confirmed yet.
    pub(super) fn to_witness(&self, view: &ChainView) -> Vec<(Nonce, Receipt)> {
        let is_open = |nonce: &Nonce| self.records.get(nonce).is_some_and(|record| record.phase.settlement().is_none());
        let is_confirmed = |(nonce, receipt): &(Nonce, Receipt)| {
            self.words
                .get(nonce)
                .is_some_and(|heard| heard.receipt == *receipt && matches!(heard.word, Word::Agrees | Word::Alone))
        };
        let finals = view.finals.iter().filter(|it| is_open(&it.0) && !is_confirmed(it));
        finals.copied().collect()
    }

    /// Keeps what a second node said.
    pub(super) fn note_word(&mut self, nonce: Nonce, receipt: Receipt, word: Word, now: Millis) {
        self.silence = match (word, self.silence) {
            (Word::Silent, Some(silence)) if now.since(silence.heard_at) < SILENCE_MS => {
                Some(Silence { heard_at: now, ..silence })
            }
            (Word::Silent, _) => Some(Silence { since: now, heard_at: now }),
            (Word::Alone | Word::Agrees | Word::NotYet | Word::Contradicts, _) => None,
        };
        let before = self.words.get(&nonce).filter(|heard| heard.receipt == receipt);
        // A node that contradicts and then falls silent has not changed its mind.
        let is_doubted = before.is_some_and(|heard| heard.word == Word::Contradicts);
        let word = if is_doubted && matches!(word, Word::Silent | Word::NotYet) { Word::Contradicts } else { word };
        let (since, times) = match before {
            Some(heard) if heard.word == word => (heard.since, heard.times),
            Some(_) | None => (now, 0),
        };
        self.words.insert(nonce, Heard { receipt, word, since, times: times.saturating_add(1) });
    }

    /// Since when the second nodes say nothing of a nonce, or of any: a node that is down is waited for once, not
    /// again for each request.
    fn silent_since(&self, nonce: Nonce) -> Option<Millis> {
        let heard = self.words.get(&nonce).filter(|heard| heard.word == Word::Silent && heard.times >= SILENT_WORDS)?;
        Some(self.silence.map_or(heard.since, |silence| silence.since.min(heard.since)))
    }

    /// How many slots from `from` on are worked on: the window above the chain's count, and below it what
    /// waits for finality or is held back by an open slot.
    pub(super) fn limit(&self, from: Nonce, window: u64) -> u64 {
        let seen = self.high.map_or(from, |high| high.latest_nonce);
        let closed = self.closed.last().map_or(from, |nonce| nonce.plus(1));
        window.saturating_add(seen.max(closed).since(from)).min(BroadcasterConfig::MAX_SLOTS)
    }

    /// Keeps a record as read or written, unless a later version is known.
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

    /// Wei that a cancel of this record moves to the account itself. One makes it traffic of BEP-703's payment
    /// lane, where the account has no code and can spare it.
    pub(super) fn to_self(&self, record: &Record) -> u64 {
        let is_wanted = record.next_kind() == AttemptKind::Cancel && self.has_code == Some(false);
        let price = record.attempts.last().map_or(record.fee, |newest| newest.fee).price();
        // Twice the price of today is above any legal bump of it that is not the network's own rise.
        let worst = price.0.saturating_mul((2 * TRANSFER_GAS.0).into());
        u64::from(is_wanted && self.balance.is_some_and(|balance| balance.0 > worst))
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
        self.closed.retain(|nonce| *nonce >= to);
        self.lost.retain(|nonce, _| *nonce >= to);
        self.sent_at.retain(|nonce, _| *nonce >= to);
        self.asked_at.retain(|nonce, _| *nonce >= to);
        self.refused_at.retain(|nonce, _| *nonce >= to);
        self.words.retain(|nonce, _| *nonce >= to);
    }

    /// Whether a standing problem may be said again: once a minute.
    pub(super) fn may_warn(&mut self, now: Millis) -> bool {
        once_a_minute(&mut self.warned_at, now)
    }

    /// The same for what keeps the lane's low mark where it is.
    pub(super) fn may_alarm(&mut self, now: Millis) -> bool {
        once_a_minute(&mut self.alarmed_at, now)
    }

    /// The chain's word about one slot, of one node and one round.
    pub(super) fn chain_slot(
        &self,
        record: &Record,
        seen: Option<&ChainView>,
        receipts: &BTreeMap<Nonce, ReceiptView>,
    ) -> Option<ChainSlot> {
        seen.zip(self.high).map(|(view, high)| {
            let shown = view.finals.iter().find(|(nonce, _)| *nonce == record.nonce).map(|(_, receipt)| *receipt);
            let settles = shown.and_then(|receipt| {
                let heard = self.words.get(&record.nonce).filter(|heard| heard.receipt == receipt)?;
                Some((receipt, heard.word))
            });
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
            taken_at: self.taken.get(&record.nonce).map(|(_, at)| *at),
            silent_since: self.silent_since(record.nonce),
            receiptless: self.receiptless.get(&record.nonce).copied().unwrap_or(0),
            denied: self.denied.get(&record.nonce).copied().unwrap_or(0),
        }
    }
}

/// The rounds in a row after one more, in which these nonces were met, and no others.
fn one_more(before: &BTreeMap<Nonce, u32>, met: impl Iterator<Item = Nonce>) -> BTreeMap<Nonce, u32> {
    met.map(|nonce| (nonce, before.get(&nonce).copied().unwrap_or(0).saturating_add(1))).collect()
}

/// Nothing of a slot's is to be mined any more, as far as was seen.
pub(super) fn is_past(record: &Record) -> bool {
    matches!(record.phase, Phase::Mined(_) | Phase::Settled(_))
}

fn once_a_minute(said_at: &mut Option<Millis>, now: Millis) -> bool {
    let may = said_at.is_none_or(|at| now.since(at) >= SAID_AGAIN_AFTER_MS);
    if may {
        *said_at = Some(now);
    }
    may
}
