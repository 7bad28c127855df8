//! Decides the next action for a record from what this round saw. No I/O and no clock.
//!
//! Read next: `waits.rs`; then [`crate::broadcaster`].

use crate::fees;
use crate::record::{Attempt, AttemptKind, BlockRef, CancelCause, Phase, Receipt, Record, SendClass, Sent, Subject};
use crate::tx::Fee;
use crate::units::{BlockNumber, Millis, Nonce, U256, Wei};

/// What one round knows about a slot, from the chain and from the lane.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotView {
    /// The chain's state of the slot; `None` while no node answers.
    pub chain: Option<ChainSlot>,
    /// Whether it is the lane's head: the lowest slot that is not mined.
    pub is_lane_head: bool,
    /// Since when this pass has seen it as the lane's head.
    pub head_since: Millis,
    /// Whether every lower slot was sent.
    pub predecessors_sent: bool,
    /// When this pass last sent the newest attempt to a node.
    pub last_sent_at: Option<Millis>,
    /// When this pass last asked the signer for an attempt.
    pub last_asked_at: Option<Millis>,
    /// The newest block when this pass first saw it as the lane's head with its newest attempt accepted by a node.
    pub taken_at: Option<BlockNumber>,
    /// Since when this pass has waited for a second node to confirm the final receipt.
    pub silent_since: Option<Millis>,
    /// Consecutive rounds in which its nonce was final and no node returned a receipt.
    pub receiptless: u32,
    /// Consecutive rounds in which the record was mined, but the node counted the nonce as unused and had no receipt.
    pub denied: u32,
}

/// What the chain says about one slot.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainSlot {
    /// The newest block of this round's node.
    pub latest: BlockNumber,
    /// Transaction count at the newest block of this round's node. Not a high-water mark: a reorg lowers it,
    /// and a slot below it is only waited for.
    pub latest_nonce: Nonce,
    /// Transaction count at the finalized block; a high-water mark.
    pub finalized_nonce: Nonce,
    /// The receipt that one node's reply shows final (I18), and the second node's answer about it.
    pub settles: Option<(Receipt, Corroboration)>,
    /// A receipt of one of the attempts.
    pub receipt: ReceiptView,
    /// The canonical block at the height of the receipt this round saw, or of the one the record holds.
    pub canonical: Option<BlockRef>,
    /// The network's price, in wei per gas.
    pub price: Option<Wei>,
}

/// A node's answer when asked for the receipts of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptView {
    /// One of the attempts is in a block.
    Found(Receipt),
    /// The node has none. Another node may.
    Absent,
    /// The node was not asked, or its answer was not usable.
    Unknown,
}

/// A second endpoint's answer about what the first one showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corroboration {
    /// No second endpoint is configured.
    Alone,
    /// It shows the same.
    Agrees,
    /// It cannot answer: it is far behind, does not reply, or lacks the data.
    Silent,
    /// Its newest final block is recent but below the one shown. If that one is real, the endpoint will show it soon. A
    /// node that invents future blocks gains nothing by the wait.
    NotYet,
    /// It shows something else.
    Contradicts,
}

/// The settings of [`next_action`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// The lane's unmined head is sent again after this time.
    pub rebroadcast_after_ms: u64,
    /// The head is bumped no sooner than this after it was sent and became the head.
    pub bump_after_ms: u64,
    /// The head is bumped no sooner than this number of blocks after a node accepted it. A validator's turn is 8
    /// blocks; while a validator is offline, blocks take seconds, so elapsed time alone is no measure.
    pub bump_after_blocks: u64,
    /// A missing signature is requested after this time. While the signer gives none, requests become rarer, up to
    /// [`ASK_AGAIN_MAX_MS`].
    pub ask_again_after_ms: u64,
    /// How long to wait for a silent second node before one node's answer is enough.
    pub second_patience_ms: u64,
    /// An outcome always needs two nodes, however long the second one is silent.
    pub two_verdicts: bool,
}

/// The longest pause between requests for a missing signature. The signer may be unable to give one: the account is
/// paused, its key is unusable, or no legal replacement fits below today's cap. Only an operator changes that, and a
/// raised cap is noticed within this time.
pub(super) const ASK_AGAIN_MAX_MS: u64 = 5 * 60 * 1_000;

impl Tuning {
    /// The defaults for BSC, with blocks every 0.45 s.
    pub const BSC: Self = Self {
        rebroadcast_after_ms: 3_000,
        bump_after_ms: 10_000,
        bump_after_blocks: 16,
        ask_again_after_ms: 5_000,
        second_patience_ms: 30_000,
        two_verdicts: false,
    };
}

/// The next action for a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Nothing now.
    Wait,
    /// Ask the signer for attempt `number`.
    AskSigner(SignerAsk),
    /// Send the bytes of attempt `number` to a node.
    Send {
        /// The attempt's index.
        number: usize,
    },
    /// Store that a cancel is wanted.
    NoteCancel(CancelCause),
    /// Store since when it has been the lane's head at its price cap.
    NoteAtCap(Millis),
    /// Store a receipt.
    NoteMined(Receipt),
    /// Store that the receipt's block is no longer canonical.
    NoteUnmined,
    /// Decide the outcome by this finalized receipt. If [`Record::lacks_reason`], ask for the revert's reason first,
    /// which is slow.
    Settle {
        /// The receipt.
        receipt: Receipt,
        /// How many nodes showed it.
        witnesses: u8,
    },
    /// The nonce was used and no node shows our receipt: search for the transaction that used it, which is slow.
    FindUse,
    /// Publish the outcome.
    Publish,
    /// The record is closed: the lane may leave its slot behind.
    Leave,
}

/// A request to the signer for an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerAsk {
    /// The attempt's index.
    pub number: usize,
    /// The attempt's kind.
    pub kind: AttemptKind,
    /// The attempt's price; `None` means the record's (attempt 0).
    pub fee: Option<Fee>,
}

/// Decides the next action for `record` from what this round saw.
#[must_use]
pub fn next_action(record: &Record, view: &SlotView, tuning: &Tuning, now: Millis) -> Action {
    match &record.phase {
        Phase::Settled(settlement) if settlement.published_at.is_some() => Action::Leave,
        Phase::Settled(_) => Action::Publish,
        Phase::Mined(mined) => next_when_mined(record, mined, view, tuning, now),
        Phase::Reserved | Phase::Signed | Phase::Sent => {
            if let Some(action) = next_by_chain(record, view, tuning, now) {
                return action;
            }
            if record.cancel.is_none() && record.deadline.is_some_and(|deadline| now >= deadline) {
                return Action::NoteCancel(CancelCause::Deadline);
            }
            match record.attempts.last() {
                None => ask(record, None, view, tuning, now),
                Some(newest) => next_when_signed(record, newest, view, tuning, now),
            }
        }
    }
}

/// A mined record is only compared with the chain.
fn next_when_mined(record: &Record, mined: &Receipt, view: &SlotView, tuning: &Tuning, now: Millis) -> Action {
    let Some(chain) = &view.chain else { return Action::Wait };
    if let Some((receipt, corroboration)) = chain.settles
        && let Some(witnesses) = witnesses(corroboration, view, tuning, now)
    {
        return settle(record, receipt, witnesses, now);
    }
    if let ReceiptView::Found(receipt) = chain.receipt
        && receipt.block != mined.block
        && !is_contradicted(chain, &receipt)
    {
        return Action::NoteMined(receipt);
    }
    // Only another block at the same height is evidence; a missing receipt is not.
    match chain.canonical {
        Some(canonical) if canonical.number == mined.block.number && canonical.hash != mined.block.hash => {
            Action::NoteUnmined
        }
        Some(_) | None if is_denied(record, mined, view, chain, now) => Action::NoteUnmined,
        Some(_) | None if record.nonce < chain.finalized_nonce && is_receiptless(record, view, now) => {
            find_use(record, now)
        }
        Some(_) | None => Action::Wait,
    }
}

fn next_by_chain(record: &Record, view: &SlotView, tuning: &Tuning, now: Millis) -> Option<Action> {
    let chain = view.chain.as_ref()?;
    if let Some((receipt, corroboration)) = chain.settles
        && let Some(witnesses) = witnesses(corroboration, view, tuning, now)
    {
        return Some(settle(record, receipt, witnesses, now));
    }
    match chain.receipt {
        ReceiptView::Found(receipt) if !is_contradicted(chain, &receipt) => Some(Action::NoteMined(receipt)),
        // A slot without attempts has no receipt to wait for.
        ReceiptView::Absent | ReceiptView::Unknown
            if record.nonce < chain.finalized_nonce
                && (record.attempts.is_empty() || is_receiptless(record, view, now)) =>
        {
            Some(find_use(record, now))
        }
        // The nonce is used. Our receipt will appear, or, at finality, the proof that the transaction is not ours.
        ReceiptView::Found(_) | ReceiptView::Absent | ReceiptView::Unknown => {
            (record.nonce < chain.latest_nonce).then_some(Action::Wait)
        }
    }
}

/// After this number of rounds with a final nonce and no receipt, the use of the nonce is searched for. By then a
/// node that was behind has caught up.
const RECEIPTLESS_ROUNDS: u32 = 3;
/// For a record unchanged for this time, in milliseconds, one such round is enough.
const RECEIPTLESS_MS: u64 = 5_000;

pub(super) fn is_receiptless(record: &Record, view: &SlotView, now: Millis) -> bool {
    let is_old = now.since(record.updated_at) >= RECEIPTLESS_MS || record.inquiry_about(Subject::Use).is_some();
    view.receiptless >= if is_old { 1 } else { RECEIPTLESS_ROUNDS }
}

/// After this number of rounds in which a node counts the nonce as unused, a stored receipt is given up. A URL with one
/// lagging backend shows the receipt again sooner.
const DENIED_ROUNDS: u32 = 10;
/// The time, in milliseconds, that must pass too if the node has not reached the block's height.
const DENIED_MS: u64 = 30_000;

/// Whether the node has counted the nonce as unused for long, in spite of the stored receipt. Then the receipt was
/// probably false and the bytes are sent again, which is harmless if it was true.
fn is_denied(record: &Record, mined: &Receipt, view: &SlotView, chain: &ChainSlot, now: Millis) -> bool {
    let is_behind = chain.latest < mined.block.number;
    let is_old = now.since(record.updated_at) >= DENIED_MS;
    chain.latest_nonce <= record.nonce && view.denied >= DENIED_ROUNDS && (is_old || !is_behind)
}

/// How many nodes support a conclusion; `None` while a second one is waited for (I18).
#[must_use]
pub fn witnesses_of(corroboration: Corroboration, waited_ms: u64, tuning: &Tuning) -> Option<u8> {
    match corroboration {
        Corroboration::Agrees => Some(2),
        Corroboration::Alone => Some(1),
        Corroboration::Silent => (waited_ms >= tuning.second_patience_ms && !tuning.two_verdicts).then_some(1),
        Corroboration::NotYet | Corroboration::Contradicts => None,
    }
}

fn witnesses(corroboration: Corroboration, view: &SlotView, tuning: &Tuning, now: Millis) -> Option<u8> {
    witnesses_of(corroboration, view.silent_since.map_or(0, |since| now.since(since)), tuning)
}

/// Searches for the use of the nonce, with pauses between fruitless searches.
fn find_use(record: &Record, now: Millis) -> Action {
    if record.may_inquire(Subject::Use, now) { Action::FindUse } else { Action::Wait }
}

/// Settles by a final receipt, at once unless the reason of a revert is still being asked for.
fn settle(record: &Record, receipt: Receipt, witnesses: u8, now: Millis) -> Action {
    let waits = record.lacks_reason(&receipt) && !record.may_inquire(Subject::Revert, now);
    if waits { Action::Wait } else { Action::Settle { receipt, witnesses } }
}

/// Whether the same view has another canonical block at the receipt's height: the node is between two forks.
fn is_contradicted(chain: &ChainSlot, receipt: &Receipt) -> bool {
    chain
        .canonical
        .is_some_and(|canonical| canonical.number == receipt.block.number && canonical.hash != receipt.block.hash)
}

/// A cancel may exceed the request's own cap. The policy's cap is not known here: the signer lowers every price it is
/// asked for to today's cap.
const CANCEL_FEE_CAP: Wei = Wei(U256::MAX);

fn next_when_signed(record: &Record, newest: &Attempt, view: &SlotView, tuning: &Tuning, now: Millis) -> Action {
    let number = record.attempts.len().saturating_sub(1);
    let wants_cancel = record.cancel.is_some() && newest.kind == AttemptKind::Execute;
    let Some(sent) = &newest.sent else {
        // Nothing above an unsent slot is sent: behind a gap it would only sit in the node's queue.
        return if wants_cancel {
            ask(record, next_fee(newest, view), view, tuning, now)
        } else if view.predecessors_sent {
            Action::Send { number }
        } else {
            Action::Wait
        };
    };
    if wants_cancel {
        return ask(record, next_fee(newest, view), view, tuning, now);
    }
    match sent.answer.class {
        SendClass::Refused if record.cancel.is_none() => {
            return Action::NoteCancel(CancelCause::Refused(sent.answer.message.clone()));
        }
        // The account was paused for this answer; sending again shows when the problem is fixed.
        SendClass::Misconfigured => return resend(number, sent, view, tuning, now),
        SendClass::Refused
        | SendClass::Accepted
        | SendClass::AlreadyKnown
        | SendClass::NonceTooLow
        | SendClass::Retry
        | SendClass::Underpriced(_)
        | SendClass::Funds
        | SendClass::Unknown => {}
    }
    if let Some(action) = bump(record, newest, sent, view, tuning, now) {
        return action;
    }
    resend(number, sent, view, tuning, now)
}

/// Sends stored bytes again: the lane's head always, others only if no node may have accepted them yet.
fn resend(number: usize, sent: &Sent, view: &SlotView, tuning: &Tuning, now: Millis) -> Action {
    let due = view.last_sent_at.is_none_or(|at| now.since(at) >= tuning.rebroadcast_after_ms);
    let wanted = view.is_lane_head
        || match sent.answer.class {
            SendClass::Retry | SendClass::Unknown => true,
            SendClass::Accepted
            | SendClass::AlreadyKnown
            | SendClass::NonceTooLow
            | SendClass::Underpriced(_)
            | SendClass::Funds
            | SendClass::Refused
            | SendClass::Misconfigured => false,
        };
    if due && view.predecessors_sent && wanted { Action::Send { number } } else { Action::Wait }
}

/// Bumps the lane's head if a bump is due and possible and a node answers.
fn bump(
    record: &Record,
    newest: &Attempt,
    sent: &Sent,
    view: &SlotView,
    tuning: &Tuning,
    now: Millis,
) -> Option<Action> {
    let chain = view.chain.as_ref()?;
    if !view.is_lane_head {
        return None;
    }
    let since = sent.at.max(view.head_since);
    let (due, least) = match sent.answer.class {
        SendClass::Underpriced(least) => (true, least),
        SendClass::Accepted | SendClass::AlreadyKnown | SendClass::NonceTooLow => {
            let blocks = view.taken_at.map_or(0, |at| chain.latest.0.saturating_sub(at.0));
            (now.since(since) >= tuning.bump_after_ms && blocks >= tuning.bump_after_blocks, None)
        }
        // A higher price does not help a transaction that no node has, or an account without funds.
        SendClass::Funds | SendClass::Retry | SendClass::Refused | SendClass::Misconfigured | SendClass::Unknown => {
            (false, None)
        }
    };
    if !due {
        return None;
    }
    let cap = match record.next_kind() {
        AttemptKind::Execute => record.fee_cap,
        AttemptKind::Cancel => CANCEL_FEE_CAP,
    };
    let has_room = record.attempts.len() < Record::max_attempts(record.next_kind());
    let Some(fee) = fees::bump(newest.fee, chain.price.max(least), cap).filter(|_| has_room) else {
        return at_cap(record, since, now);
    };
    // While the signer was asked a moment ago, the old attempt continues to be sent.
    may_ask(record, view, tuning, now).then(|| Action::AskSigner(next_ask(record, Some(fee))))
}

/// Handles a head whose bump is due but not possible: stores since when, once, and cancels the slot when it has blocked
/// the lane for as long as policy allows. The time as the head counts, over all passes. A bump must be due in this pass
/// too, so after a halt of the chain, or of all nodes, some blocks pass first.
fn at_cap(record: &Record, since: Millis, now: Millis) -> Option<Action> {
    let limit = record.max_head_ms.filter(|_| record.cancel.is_none())?;
    match record.capped_since {
        None => Some(Action::NoteAtCap(since)),
        Some(since) if now.since(since) >= limit => Some(Action::NoteCancel(CancelCause::AtCap)),
        Some(_) => None,
    }
}

/// The price of a cancel that replaces an executing attempt: a legal bump, or the network's price if higher.
fn next_fee(newest: &Attempt, view: &SlotView) -> Option<Fee> {
    let price = view.chain.as_ref().and_then(|chain| chain.price);
    fees::bump(newest.fee, price, CANCEL_FEE_CAP)
}

fn ask(record: &Record, fee: Option<Fee>, view: &SlotView, tuning: &Tuning, now: Millis) -> Action {
    if may_ask(record, view, tuning, now) { Action::AskSigner(next_ask(record, fee)) } else { Action::Wait }
}

/// Whether the signer may be asked now. The worker that reserved a slot also signs it, and an answer takes a moment.
/// Each request that changes nothing doubles the time to the next.
fn may_ask(record: &Record, view: &SlotView, tuning: &Tuning, now: Millis) -> bool {
    let (since, after_ms) = match view.last_asked_at {
        Some(asked) => {
            let unanswered_ms = asked.since(record.moved_at()).min(ASK_AGAIN_MAX_MS);
            (asked, unanswered_ms.max(tuning.ask_again_after_ms))
        }
        None if record.attempts.is_empty() => (record.moved_at(), tuning.ask_again_after_ms),
        None => return true,
    };
    now.since(since) >= after_ms
}

fn next_ask(record: &Record, fee: Option<Fee>) -> SignerAsk {
    SignerAsk { number: record.attempts.len(), kind: record.next_kind(), fee }
}
