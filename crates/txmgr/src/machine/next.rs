//! What to do next for a record, given what this round saw. No IO and no clock.
//!
//! Read next: `waits.rs`; then [`crate::broadcaster`].

use crate::fees;
use crate::record::{Attempt, AttemptKind, BlockRef, CancelCause, Phase, Receipt, Record, SendClass, Sent, Subject};
use crate::tx::Fee;
use crate::units::{BlockNumber, Millis, Nonce, U256, Wei};

/// What the chain and the lane say about one slot, as one round saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotView {
    /// What the chain says; `None` while no node answers: unknown, still watching.
    pub chain: Option<ChainSlot>,
    /// It is the lowest slot of the lane that is not mined.
    pub is_lane_head: bool,
    /// Since when it is the lane's head, as far as this pass knows.
    pub head_since: Millis,
    /// Every lower slot was sent.
    pub predecessors_sent: bool,
    /// When this pass last handed the newest attempt to a node.
    pub last_sent_at: Option<Millis>,
    /// When this pass last asked the signer for an attempt of this slot.
    pub last_asked_at: Option<Millis>,
    /// The newest block when this pass first saw it as the lane's head with its newest attempt at a node.
    pub taken_at: Option<BlockNumber>,
    /// Since when this pass waits for a second node's word about the final receipt.
    pub silent_since: Option<Millis>,
    /// Rounds in a row in which its nonce was final and no receipt was shown.
    pub receiptless: u32,
    /// Rounds in a row in which the node had the slot not used, and no receipt, though it is noted as mined.
    pub denied: u32,
}

/// The chain's word about one slot.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainSlot {
    /// The newest block of this round's node.
    pub latest: BlockNumber,
    /// Transaction count at the newest block of this round's node. No high-water mark: a reorg lowers it,
    /// and a slot it counts past is only waited for.
    pub latest_nonce: Nonce,
    /// Transaction count at the finalized block; a high-water mark.
    pub finalized_nonce: Nonce,
    /// The receipt that one answer of one node shows final (I18), and what a second node says of it.
    pub settles: Option<(Receipt, Word)>,
    /// A receipt of one of the attempts.
    pub receipt: ReceiptView,
    /// The canonical block at the height of the receipt this round saw, or of the one the record holds.
    pub canonical: Option<BlockRef>,
    /// The network's price, in wei per gas.
    pub price: Option<Wei>,
}

/// What a node says when asked for the receipts of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptView {
    /// One of the attempts is in a block.
    Found(Receipt),
    /// The node knows none. Says nothing about other nodes.
    Absent,
    /// Not asked, or no usable answer.
    Unknown,
}

/// What a second endpoint says of what one endpoint showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// No second one is configured.
    Alone,
    /// It says the same.
    Agrees,
    /// It cannot say: it is far behind, does not answer, or lacks what is asked for.
    Silent,
    /// Its newest final block is fresh, and below what was shown. It will say so soon, if that is true; a node that
    /// makes up blocks of the future gains nothing by waiting.
    NotYet,
    /// It says something else.
    Contradicts,
}

/// The knobs of [`next_action`], in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// An unmined head of the lane is sent again after this.
    pub rebroadcast_after_ms: u64,
    /// The head is bumped no sooner than this after it was sent and became head: a floor.
    pub bump_after_ms: u64,
    /// And not before this number of blocks since a node took it. A turn of a validator is 8 blocks; while one is away,
    /// blocks take seconds, and time says nothing.
    pub bump_after_blocks: u64,
    /// A missing signature is asked for (again) after this; later, while the signer gives none, less and less
    /// often ([`ASK_AGAIN_MAX_MS`]).
    pub ask_again_after_ms: u64,
    /// How long a second node is waited for that does not say whether an outcome is true.
    pub second_patience_ms: u64,
    /// An outcome needs two nodes, however long the second one is silent.
    pub two_verdicts: bool,
}

/// A signature that does not come is asked for this often at the least. The signer cannot always give one: the
/// account is paused, its key is away, or no legal replacement fits below today's cap, and only an operator
/// changes that. So this is how late a raised cap is noticed at most.
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

/// The next thing to do for a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Nothing now.
    Wait,
    /// Ask the signer for attempt `number`.
    AskSigner(SignerAsk),
    /// Hand the bytes of attempt `number` to a node.
    Send {
        /// Which attempt.
        number: usize,
    },
    /// Note that a cancel is wanted.
    NoteCancel(CancelCause),
    /// Note that it is at its price cap and the lane's head, since then.
    NoteAtCap(Millis),
    /// Note a receipt.
    NoteMined(Receipt),
    /// Note that the receipt's block is gone.
    NoteUnmined,
    /// Decide the outcome by this finalized receipt. Where [`Record::lacks_reason`] says so, ask for it first,
    /// which is slow.
    Settle {
        /// The receipt.
        receipt: Receipt,
        /// How many nodes showed it.
        witnesses: u8,
    },
    /// The slot was passed and no receipt of ours is shown: search the transaction that used it, which is slow.
    FindUse,
    /// Publish the outcome.
    Publish,
    /// Closed: the lane may leave the slot behind.
    Leave,
}

/// What the signer is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerAsk {
    /// The attempt's number.
    pub number: usize,
    /// Its kind.
    pub kind: AttemptKind,
    /// Its price; `None` leaves it to the record (attempt 0).
    pub fee: Option<Fee>,
}

/// What to do next for `record`, given what this round saw.
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
    if let Some((receipt, word)) = chain.settles
        && let Some(witnesses) = witnesses(word, view, tuning, now)
    {
        return settle(record, receipt, witnesses, now);
    }
    if let ReceiptView::Found(receipt) = chain.receipt
        && receipt.block != mined.block
        && !is_contradicted(chain, &receipt)
    {
        return Action::NoteMined(receipt);
    }
    // Only another block at the same height is evidence; a missing receipt says nothing.
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
    if let Some((receipt, word)) = chain.settles
        && let Some(witnesses) = witnesses(word, view, tuning, now)
    {
        return Some(settle(record, receipt, witnesses, now));
    }
    match chain.receipt {
        ReceiptView::Found(receipt) if !is_contradicted(chain, &receipt) => Some(Action::NoteMined(receipt)),
        // Without an attempt there is no receipt to ask for.
        ReceiptView::Absent | ReceiptView::Unknown
            if record.nonce < chain.finalized_nonce
                && (record.attempts.is_empty() || is_receiptless(record, view, now)) =>
        {
            Some(find_use(record, now))
        }
        // The slot is used: the receipt will come, or at finality the proof that it is not ours.
        ReceiptView::Found(_) | ReceiptView::Absent | ReceiptView::Unknown => {
            (record.nonce < chain.latest_nonce).then_some(Action::Wait)
        }
    }
}

/// Rounds in which a nonce is final and no receipt is shown, before anything else is tried: a node that was
/// behind has caught up.
const RECEIPTLESS_ROUNDS: u32 = 3;
/// Of a record that did not move for so long one such round is enough, in milliseconds.
const RECEIPTLESS_MS: u64 = 5_000;

pub(super) fn is_receiptless(record: &Record, view: &SlotView, now: Millis) -> bool {
    let is_old = now.since(record.updated_at) >= RECEIPTLESS_MS || record.inquiry_about(Subject::Use).is_some();
    view.receiptless >= if is_old { 1 } else { RECEIPTLESS_ROUNDS }
}

/// Rounds in which a node has the nonce unused, before a receipt that was shown is given up: a URL with a backend
/// that is behind shows the receipt again sooner.
const DENIED_ROUNDS: u32 = 10;
/// The same, in milliseconds, where the node does not have the block's height yet.
const DENIED_MS: u64 = 30_000;

/// Whether a node had the nonce unused for long, in spite of a receipt. One showed that which was not so, and the
/// bytes are to be sent again: that does no harm if it was.
fn is_denied(record: &Record, mined: &Receipt, view: &SlotView, chain: &ChainSlot, now: Millis) -> bool {
    let is_behind = chain.latest < mined.block.number;
    let is_old = now.since(record.updated_at) >= DENIED_MS;
    chain.latest_nonce <= record.nonce && view.denied >= DENIED_ROUNDS && (is_old || !is_behind)
}

/// How many nodes a conclusion rests on; `None` while a second one is waited for (I18).
#[must_use]
pub fn witnesses_of(word: Word, waited_ms: u64, tuning: &Tuning) -> Option<u8> {
    match word {
        Word::Agrees => Some(2),
        Word::Alone => Some(1),
        Word::Silent => (waited_ms >= tuning.second_patience_ms && !tuning.two_verdicts).then_some(1),
        Word::NotYet | Word::Contradicts => None,
    }
}

fn witnesses(word: Word, view: &SlotView, tuning: &Tuning, now: Millis) -> Option<u8> {
    witnesses_of(word, view.silent_since.map_or(0, |since| now.since(since)), tuning)
}

/// The search for a nonce's use that found nothing is made again after a pause.
fn find_use(record: &Record, now: Millis) -> Action {
    if record.may_inquire(Subject::Use, now) { Action::FindUse } else { Action::Wait }
}

/// A final receipt settles at once, but for a revert's reason that is asked for again after a pause.
fn settle(record: &Record, receipt: Receipt, witnesses: u8, now: Millis) -> Action {
    let waits = record.lacks_reason(&receipt) && !record.may_inquire(Subject::Revert, now);
    if waits { Action::Wait } else { Action::Settle { receipt, witnesses } }
}

/// The same view names another block at the receipt's height: a node between two forks.
fn is_contradicted(chain: &ChainSlot, receipt: &Receipt) -> bool {
    chain
        .canonical
        .is_some_and(|canonical| canonical.number == receipt.block.number && canonical.hash != receipt.block.hash)
}

/// A cancel may go above the request's own cap. The policy's is not known here: the signer lowers what is asked
/// for to today's, for a bump too.
const CANCEL_FEE_CAP: Wei = Wei(U256::MAX);

fn next_when_signed(record: &Record, newest: &Attempt, view: &SlotView, tuning: &Tuning, now: Millis) -> Action {
    let number = record.attempts.len().saturating_sub(1);
    let wants_cancel = record.cancel.is_some() && newest.kind == AttemptKind::Execute;
    let Some(sent) = &newest.sent else {
        // Nothing above an unsent slot goes out: a gap would only sit in the node's queue.
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
        // The account was paused when a node said so; sending again shows when it is fixed.
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

/// The head of the lane is sent again from stored bytes, others when a node may not have taken them yet.
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

/// A bump of the lane's head, if it is due, possible and the chain can be seen.
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
        // What no node has is no matter of price, and waiting for money is none either.
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
    // Asked a moment ago: meanwhile the old attempt goes on being sent.
    asked_due(record, view, tuning, now).then(|| Action::AskSigner(next_ask(record, Some(fee))))
}

/// A head whose bump is due and not possible: it is noted since when, once, and cancelled when it has held up its
/// lane for as long as policy lets it. What counts is time as the head, over all passes; and a bump must be due in
/// this pass too, so a chain that stood still, or that no node showed, has gone on for some blocks.
fn at_cap(record: &Record, since: Millis, now: Millis) -> Option<Action> {
    let limit = record.max_head_ms.filter(|_| record.cancel.is_none())?;
    match record.capped_since {
        None => Some(Action::NoteAtCap(since)),
        Some(since) if now.since(since) >= limit => Some(Action::NoteCancel(CancelCause::AtCap)),
        Some(_) => None,
    }
}

/// The price of a cancel that replaces an executing attempt: a legal bump that follows the network.
fn next_fee(newest: &Attempt, view: &SlotView) -> Option<Fee> {
    let price = view.chain.as_ref().and_then(|chain| chain.price);
    fees::bump(newest.fee, price, CANCEL_FEE_CAP)
}

fn ask(record: &Record, fee: Option<Fee>, view: &SlotView, tuning: &Tuning, now: Millis) -> Action {
    if asked_due(record, view, tuning, now) { Action::AskSigner(next_ask(record, fee)) } else { Action::Wait }
}

/// A fresh reservation is being signed by the worker that made it, and an ask takes a moment. Each ask that
/// changes nothing doubles the time to the next.
fn asked_due(record: &Record, view: &SlotView, tuning: &Tuning, now: Millis) -> bool {
    let (since, after_ms) = match view.last_asked_at {
        Some(asked) => {
            let in_vain_ms = asked.since(record.moved_at()).min(ASK_AGAIN_MAX_MS);
            (asked, in_vain_ms.max(tuning.ask_again_after_ms))
        }
        None if record.attempts.is_empty() => (record.moved_at(), tuning.ask_again_after_ms),
        None => return true,
    };
    now.since(since) >= after_ms
}

fn next_ask(record: &Record, fee: Option<Fee>) -> SignerAsk {
    SignerAsk { number: record.attempts.len(), kind: record.next_kind(), fee }
}
