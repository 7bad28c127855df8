//! A slow question to the nodes about one slot, and how far it is: by whom its nonce was used, or why its
//! transaction reverted.
//!
//! It is stored with the record when an answer failed to come, so that the next pass neither begins anew nor
//! asks at once, and so that patience is measured over passes.

use std::str::FromStr;

use super::{Attempt, AttemptKind, Receipt, Record};
use crate::units::{BlockNumber, Millis};

/// How far a slow question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inquiry {
    /// What is asked.
    pub subject: Subject,
    /// When it was first asked without an answer.
    pub since: Millis,
    /// Answers in a row that brought nothing.
    pub fruitless: u32,
    /// It is not asked again before this.
    pub next_at: Millis,
    /// The blocks looked at so far without finding the use of the nonce.
    pub searched: Option<Searched>,
}

/// What a slow question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Which transaction used the slot's nonce.
    Use,
    /// Why the slot's final transaction reverted.
    Revert,
}

/// A range of blocks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Searched {
    /// The highest.
    pub newest: BlockNumber,
    /// The lowest.
    pub oldest: BlockNumber,
}

impl Subject {
    /// Its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Use => "use",
            Self::Revert => "revert",
        }
    }
}

/// A text that names no subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no subject of an inquiry")]
pub struct NoSubject;

impl FromStr for Subject {
    type Err = NoSubject;

    fn from_str(text: &str) -> Result<Self, NoSubject> {
        [Self::Use, Self::Revert].into_iter().find(|subject| subject.name() == text).ok_or(NoSubject)
    }
}

impl Inquiry {
    /// The pause before a question is asked again, in milliseconds, while its answers bring it forward and
    /// after the first that did not. About seven blocks: a node that was behind has caught up.
    pub const PAUSE_MS: u64 = 3_000;
    /// The longest pause, in milliseconds: what no node tells for minutes needs an archive node, or a person.
    pub const PAUSE_MAX_MS: u64 = 10 * 60 * 1_000;
    /// How long an outcome waits for the reason of its revert, in milliseconds.
    pub const PATIENCE_MS: u64 = 30_000;

    /// The question asked at `asked_at` after one more answer that did not settle it, at `now`. An answer that
    /// widened the search is asked further soon, a reason too, which is waited for only shortly; any other after
    /// pauses that double.
    #[must_use]
    pub fn after(
        before: Option<Self>,
        subject: Subject,
        searched: Option<Searched>,
        asked_at: Millis,
        now: Millis,
    ) -> Self {
        let before = before.filter(|inquiry| inquiry.subject == subject);
        let known = before.and_then(|inquiry| inquiry.searched);
        let is_further = searched.is_some() && searched != known;
        let fruitless = match before {
            Some(inquiry) if !is_further => inquiry.fruitless.saturating_add(1),
            Some(_) | None => u32::from(!is_further),
        };
        let doubled = match subject {
            Subject::Use => 1_u64.checked_shl(fruitless.saturating_sub(1)).unwrap_or(u64::MAX),
            Subject::Revert => 1,
        };
        let pause_ms = Self::PAUSE_MS.saturating_mul(doubled).min(Self::PAUSE_MAX_MS);
        Self {
            subject,
            since: before.map_or(asked_at, |inquiry| inquiry.since),
            fruitless,
            next_at: now.plus(pause_ms),
            searched: searched.or(known),
        }
    }
}

impl Record {
    /// Whether an outcome by this receipt should say why the request reverted.
    #[must_use]
    pub fn lacks_reason(&self, receipt: &Receipt) -> bool {
        let executes = |attempt: &Attempt| attempt.kind == AttemptKind::Execute;
        !receipt.succeeded && self.attempt_of(receipt.tx_hash).is_some_and(executes)
    }

    /// The question about `subject` that had no answer yet.
    #[must_use]
    pub fn inquiry_about(&self, subject: Subject) -> Option<Inquiry> {
        self.inquiry.filter(|inquiry| inquiry.subject == subject)
    }

    /// Whether the nodes may be asked about `subject` at `now`.
    #[must_use]
    pub fn may_inquire(&self, subject: Subject, now: Millis) -> bool {
        self.inquiry_about(subject).is_none_or(|inquiry| now >= inquiry.next_at)
    }

    /// How long `subject` has had no answer, in milliseconds.
    #[must_use]
    pub fn unanswered_ms(&self, subject: Subject, now: Millis) -> u64 {
        self.inquiry_about(subject).map_or(0, |inquiry| now.since(inquiry.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(oldest: u64) -> Searched {
        Searched { newest: BlockNumber(900), oldest: BlockNumber(oldest) }
    }

    #[test]
    fn pauses_double_while_answers_bring_nothing_and_are_short_while_they_do() {
        let start = Millis(1_000);
        let mut inquiry = Inquiry::after(None, Subject::Use, None, start, start);
        let mut now = start;
        let mut pauses = Vec::new();
        for _ in 0..10 {
            pauses.push(inquiry.next_at.since(now) / 1_000);
            now = inquiry.next_at;
            inquiry = Inquiry::after(Some(inquiry), Subject::Use, None, now, now);
        }
        assert_eq!(pauses, [3, 6, 12, 24, 48, 96, 192, 384, 600, 600]);
        assert_eq!(inquiry.since, start);
        for oldest in [800, 700] {
            inquiry = Inquiry::after(Some(inquiry), Subject::Use, Some(range(oldest)), now, now);
            assert_eq!((inquiry.next_at.since(now), inquiry.fruitless), (Inquiry::PAUSE_MS, 0));
        }
        let ended = Inquiry::after(Some(inquiry), Subject::Use, Some(range(700)), now, now);
        assert_eq!((ended.fruitless, ended.searched), (1, Some(range(700))), "no further than before");
        let failed = Inquiry::after(Some(ended), Subject::Use, None, now, now);
        assert_eq!((failed.fruitless, failed.searched), (2, Some(range(700))), "what was searched stays");
    }

    #[test]
    fn a_reason_is_asked_for_every_three_seconds() {
        let mut inquiry = Inquiry::after(None, Subject::Revert, None, Millis(0), Millis(0));
        for _ in 0..5 {
            let now = inquiry.next_at;
            inquiry = Inquiry::after(Some(inquiry), Subject::Revert, None, now, now);
            assert_eq!(inquiry.next_at.since(now), Inquiry::PAUSE_MS);
        }
    }

    #[test]
    fn a_question_about_something_else_begins_anew() {
        let before = Inquiry::after(None, Subject::Use, Some(range(800)), Millis(1_000), Millis(1_000));
        let after = Inquiry::after(Some(before), Subject::Revert, None, Millis(9_000), Millis(9_500));
        assert_eq!((after.since, after.fruitless, after.searched), (Millis(9_000), 1, None));
    }
}
