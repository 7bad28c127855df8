//! The record machine: what may happen to a record ([`apply`]) and what to do next ([`next_action`]).
//!
//! Two total functions without I/O, clock or randomness. Effects are derived from the record, not stored beside it:
//! "settled but not published" is a state whose next action is Publish, so recovery needs no path of its own.
//!
//! **Architecture invariant:** this module imports nothing from `crate::ports`.
//!
//! ## Guarantees
//! * An attempt is added only with the next number and at a legal bump; once a cancel is wanted, only cancels are (I2).
//! * An outcome is set once, only from a finalized receipt of one of our attempts, or from a foreign
//!   transaction (I6, G3).
//!
//! ## Does not guarantee
//! * That a receipt is true or final: the caller asserts that with [`ChainSlot::settles`].
//!
//! Read next: `machine/next.rs`, then [`crate::ports`].

mod next;
mod waits;

pub use next::{Action, ChainSlot, Corroboration, ReceiptView, SignerAsk, SlotView, Tuning, next_action, witnesses_of};
pub use waits::waits_for;

use crate::fees;
use crate::record::{
    Attempt, AttemptKind, CancelCause, Foreign, Inquiry, Phase, Receipt, Record, Revert, SendAnswer, Sent, Settlement,
    Verdict, Waiting,
};
use crate::units::{Millis, TxHash, Wei};

/// Something that happened to a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An attempt was signed.
    Signed {
        /// Its index among the record's attempts, from 0.
        number: usize,
        /// The signed transaction.
        attempt: Attempt,
    },
    /// The bytes of a stored attempt were sent to a node.
    Sent {
        /// The attempt's index.
        number: usize,
        /// The node's answer.
        answer: SendAnswer,
    },
    /// A cancel of the slot is wanted. The first cause stays.
    CancelAsked(CancelCause),
    /// A receipt of one of the attempts was seen.
    Mined(Receipt),
    /// The receipt's block is no longer canonical.
    Unmined,
    /// The receipt's block is finalized and canonical.
    Finalized {
        /// The receipt, read again after finality.
        receipt: Receipt,
        /// Why it reverted, if it did and the reason is known.
        revert: Option<Revert>,
        /// How many nodes showed it.
        witnesses: u8,
    },
    /// A foreign transaction with this nonce is in a finalized block.
    Displaced {
        /// The foreign transaction.
        foreign: Foreign,
        /// How many nodes showed it.
        witnesses: u8,
    },
    /// A slow question to the nodes was asked and has no answer yet.
    Inquired(Inquiry),
    /// Since this time it is the head of its lane and its price cannot rise.
    AtCap(Millis),
    /// It has made no progress for a while, for this reason.
    Waits(Waiting),
    /// The outcome was published.
    Published {
        /// When DynamoDB may delete the item.
        expires_at: Millis,
    },
}

/// Why an event cannot be applied to a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalTransition {
    /// The event is not possible in this phase.
    #[error("{event} is not possible in phase {phase}")]
    Phase {
        /// The phase's name.
        phase: &'static str,
        /// The event's name.
        event: &'static str,
    },
    /// An attempt's number is not the next one.
    #[error("the attempt has number {found}; the next one is {expected}")]
    Number {
        /// The next number.
        expected: usize,
        /// The event's number.
        found: usize,
    },
    /// An attempt's kind is not the one that the record wants.
    #[error("the attempt's kind is {found:?}; the slot needs {expected:?}")]
    Kind {
        /// The kind that the record wants.
        expected: AttemptKind,
        /// The attempt's kind.
        found: AttemptKind,
    },
    /// A replacement is not priced 10 % above the attempt before it.
    #[error("the price is not a legal bump of the previous attempt's")]
    Price,
    /// The price of an executing attempt exceeds the record's cap.
    #[error("the price is above the request's cap")]
    Cap,
    /// An attempt's transfer to the account itself exceeds the limit: 1 wei for a cancel, else 0.
    #[error("a cancel moves at most 1 wei to the account itself, other attempts none")]
    ToSelf,
    /// The slot has as many attempts as allowed.
    #[error("the slot already has the maximum number of attempts")]
    TooMany,
    /// The hash is not one of the attempts', or a transaction reported as foreign is one of them.
    #[error("transaction {0} contradicts the attempts of this slot")]
    Hash(TxHash),
}

/// Returns the record after `event` at time `now`.
pub fn apply(record: &Record, event: &Event, now: Millis) -> Result<Record, IllegalTransition> {
    let mut next = record.clone();
    next.updated_at = now;
    next.version = record.version.saturating_add(1);
    if !matches!(event, Event::Waits(_) | Event::Inquired(_) | Event::CancelAsked(_) | Event::AtCap(_)) {
        next.waiting = None;
    }
    match (&record.phase, event) {
        (Phase::Reserved, Event::Signed { number, attempt }) => {
            add_attempt(&mut next, *number, attempt)?;
            next.phase = Phase::Signed;
        }
        // A replacement. Older bytes may be at a node, so the phase stays; the new attempt is unsent.
        (Phase::Signed | Phase::Sent, Event::Signed { number, attempt }) => add_attempt(&mut next, *number, attempt)?,
        (Phase::Signed | Phase::Sent, Event::Sent { number, answer }) => {
            let found = next.attempts.get_mut(*number);
            let attempt = found.ok_or(IllegalTransition::Number { expected: record.attempts.len(), found: *number })?;
            let at = attempt.sent.as_ref().map_or(now, |sent| sent.at);
            attempt.sent = Some(Sent { at, answer: answer.clone() });
            next.phase = Phase::Sent;
        }
        (Phase::Reserved | Phase::Signed | Phase::Sent | Phase::Mined(_), Event::CancelAsked(cause)) => {
            next.cancel.get_or_insert_with(|| cause.clone());
        }
        // A crash may have lost the Sent event, so a Signed record can be mined too.
        (Phase::Signed | Phase::Sent | Phase::Mined(_), Event::Mined(receipt)) => {
            own_hash(record, receipt.tx_hash)?;
            next.phase = Phase::Mined(*receipt);
            // After a reorg the time at the cap starts again.
            next.capped_since = None;
        }
        (Phase::Signed | Phase::Sent, Event::AtCap(since)) => {
            next.capped_since.get_or_insert(*since);
        }
        (Phase::Mined(_), Event::Unmined) => next.phase = Phase::Sent,
        (Phase::Reserved | Phase::Signed | Phase::Sent | Phase::Mined(_), Event::Inquired(inquiry)) => {
            next.inquiry = Some(*inquiry);
        }
        (Phase::Reserved | Phase::Signed | Phase::Sent | Phase::Mined(_), Event::Waits(waiting)) => {
            next.waiting = Some(*waiting);
        }
        (Phase::Signed | Phase::Sent | Phase::Mined(_), Event::Finalized { receipt, revert, witnesses }) => {
            let attempt = own_hash(record, receipt.tx_hash)?;
            next.phase = settled(verdict(attempt.kind, *receipt, revert.clone()), *witnesses, now);
            next.inquiry = None;
        }
        (Phase::Reserved | Phase::Signed | Phase::Sent | Phase::Mined(_), Event::Displaced { foreign, witnesses }) => {
            if record.attempt_of(foreign.tx_hash).is_some() {
                return Err(IllegalTransition::Hash(foreign.tx_hash));
            }
            next.phase = settled(Verdict::Displaced(*foreign), *witnesses, now);
            next.inquiry = None;
        }
        (Phase::Settled(settlement), Event::Published { expires_at }) if settlement.published_at.is_none() => {
            next.phase = Phase::Settled(Settlement {
                published_at: Some(now),
                expires_at: Some(*expires_at),
                ..settlement.clone()
            });
        }
        (Phase::Reserved, Event::Sent { .. } | Event::Mined(_) | Event::Finalized { .. } | Event::AtCap(_))
        | (Phase::Reserved | Phase::Signed | Phase::Sent, Event::Unmined)
        | (Phase::Reserved | Phase::Signed | Phase::Sent | Phase::Mined(_), Event::Published { .. })
        | (Phase::Mined(_), Event::Signed { .. } | Event::Sent { .. } | Event::AtCap(_))
        | (
            Phase::Settled(_),
            Event::Signed { .. }
            | Event::Sent { .. }
            | Event::CancelAsked(_)
            | Event::Mined(_)
            | Event::Unmined
            | Event::Finalized { .. }
            | Event::Displaced { .. }
            | Event::Inquired(_)
            | Event::AtCap(_)
            | Event::Waits(_)
            | Event::Published { .. },
        ) => return Err(IllegalTransition::Phase { phase: record.phase.name(), event: event.name() }),
    }
    Ok(next)
}

fn add_attempt(next: &mut Record, number: usize, attempt: &Attempt) -> Result<(), IllegalTransition> {
    let expected = next.attempts.len();
    if number != expected {
        return Err(IllegalTransition::Number { expected, found: number });
    }
    if attempt.kind != next.next_kind() {
        return Err(IllegalTransition::Kind { expected: next.next_kind(), found: attempt.kind });
    }
    let most = match attempt.kind {
        AttemptKind::Execute => Wei::ZERO,
        AttemptKind::Cancel => Wei::from(1),
    };
    if attempt.to_self > most {
        return Err(IllegalTransition::ToSelf);
    }
    if expected >= Record::max_attempts(attempt.kind) {
        return Err(IllegalTransition::TooMany);
    }
    // The first cancel needs no legal bump: see `fees::first_cancel`.
    if let Some(last) = next.attempts.last()
        && last.kind == attempt.kind
        && !fees::is_legal_bump(last.fee, attempt.fee)
    {
        return Err(IllegalTransition::Price);
    }
    if attempt.kind == AttemptKind::Execute && attempt.fee.price() > next.fee_cap {
        return Err(IllegalTransition::Cap);
    }
    next.attempts.push(attempt.clone());
    Ok(())
}

fn own_hash(record: &Record, tx_hash: TxHash) -> Result<&Attempt, IllegalTransition> {
    record.attempt_of(tx_hash).ok_or(IllegalTransition::Hash(tx_hash))
}

fn verdict(kind: AttemptKind, receipt: Receipt, revert: Option<Revert>) -> Verdict {
    match (kind, receipt.succeeded) {
        (AttemptKind::Cancel, _) => Verdict::Cancelled(receipt),
        (AttemptKind::Execute, true) => Verdict::Confirmed(receipt),
        (AttemptKind::Execute, false) => Verdict::Reverted(receipt, revert),
    }
}

fn settled(verdict: Verdict, witnesses: u8, now: Millis) -> Phase {
    Phase::Settled(Settlement {
        verdict,
        witnesses: Some(witnesses),
        settled_at: now,
        published_at: None,
        expires_at: None,
    })
}

impl Event {
    /// The event's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Signed { .. } => "Signed",
            Self::Sent { .. } => "Sent",
            Self::CancelAsked(_) => "CancelAsked",
            Self::Mined(_) => "Mined",
            Self::Unmined => "Unmined",
            Self::Finalized { .. } => "Finalized",
            Self::Displaced { .. } => "Displaced",
            Self::Inquired(_) => "Inquired",
            Self::AtCap(_) => "AtCap",
            Self::Waits(_) => "Waits",
            Self::Published { .. } => "Published",
        }
    }
}
