//! What a request without progress waits for, with texts for people.

use std::fmt;
use std::str::FromStr;

use super::{Phase, Record};
use crate::units::Millis;

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The cause.
    pub cause: WaitCause,
    /// Since when the request has made no progress.
    pub since: Millis,
}

/// The causes of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitCause {
    /// It is not signed.
    Signature,
    /// No node accepted it, or none answers.
    Node,
    /// A lower nonce of the account is not mined, or not sent.
    Predecessor,
    /// A node has it, but no block contains it.
    Block,
    /// As `Block`, and its price is at the cap.
    PriceCap,
    /// It is in a block that is not final.
    Finality,
    /// One node shows it final, but a second one has not confirmed it.
    SecondNode,
    /// Two nodes contradict each other about it.
    Contradiction,
    /// Its nonce is used, but no node shows by which transaction.
    Receipt,
    /// The account cannot pay for it.
    Funds,
    /// The signer does not sign it, because the record differs from the accepted request.
    Seal,
}

impl WaitCause {
    /// Every cause.
    pub const ALL: [Self; 11] = [
        Self::Signature,
        Self::Node,
        Self::Predecessor,
        Self::Block,
        Self::PriceCap,
        Self::Finality,
        Self::SecondNode,
        Self::Contradiction,
        Self::Receipt,
        Self::Funds,
        Self::Seal,
    ];

    /// The cause's stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Node => "node",
            Self::Predecessor => "predecessor",
            Self::Block => "block",
            Self::PriceCap => "priceCap",
            Self::Finality => "finality",
            Self::SecondNode => "secondNode",
            Self::Contradiction => "contradiction",
            Self::Receipt => "receipt",
            Self::Funds => "funds",
            Self::Seal => "seal",
        }
    }

    /// What it means and the remedy.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Signature => "the signer has not signed it: is the account paused, or its key unusable?",
            Self::Node => "no node has accepted it: they do not answer, limit our rate, or refuse it",
            Self::Predecessor => "a request with a lower nonce of the same account is not mined",
            Self::Block => "a node has it, and no block does; its price is raised when it is due",
            Self::PriceCap => "no block contains it and its price is at the cap: raise the cap, or cancel it",
            Self::Finality => "it is in a block that is not final",
            Self::SecondNode => "one node shows it final, but a second one has not confirmed it",
            Self::Contradiction => "two nodes contradict each other about it: one lies or is on a dead branch",
            Self::Receipt => "its nonce is used in a final block, but no node shows by which transaction",
            Self::Funds => "the account cannot pay for it: send it BNB",
            Self::Seal => {
                "the signer does not sign it: its seal is missing or wrong, so the record differs from the accepted request"
            }
        }
    }
}

impl fmt::Display for WaitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The text does not name a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a known cause of waiting")]
pub struct UnknownWaitCause;

impl FromStr for WaitCause {
    type Err = UnknownWaitCause;

    fn from_str(text: &str) -> Result<Self, UnknownWaitCause> {
        Self::ALL.into_iter().find(|cause| cause.code() == text).ok_or(UnknownWaitCause)
    }
}

impl Record {
    /// When it last changed. Stored questions and causes of waiting do not count as changes.
    #[must_use]
    pub fn moved_at(&self) -> Millis {
        let noted = self.waiting.map(|waiting| waiting.since);
        let asked = self.inquiry.map(|inquiry| inquiry.since);
        noted.or(asked).map_or(self.updated_at, |at| at.min(self.updated_at))
    }

    /// Since when it has made no progress. Further attempts at a higher price are not progress: the time counts from
    /// when a node first accepted an attempt of this kind, or, before that, from when the first one was signed.
    #[must_use]
    pub fn stuck_since(&self) -> Millis {
        let kind = match (&self.phase, self.attempts.last()) {
            (Phase::Signed | Phase::Sent, Some(newest)) => newest.kind,
            _ => return self.moved_at(),
        };
        let of_kind = || self.attempts.iter().filter(|attempt| attempt.kind == kind);
        let taken = of_kind().filter_map(|attempt| attempt.sent.as_ref()).find(|sent| sent.answer.class.is_taken());
        let begun = taken.map(|sent| sent.at).or(of_kind().next().map(|first| first.signed_at));
        begun.map_or(self.moved_at(), |at| at.min(self.moved_at()))
    }
}
