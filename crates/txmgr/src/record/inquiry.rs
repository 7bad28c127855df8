//! The state of a slow question to the nodes about one slot: which transaction used its nonce, or why its transaction
//! reverted.
//!
//! It is stored with the record while there is no answer. So the next pass continues the search, respects the pause,
//! and waiting times count over all passes.

use std::str::FromStr;

use super::{Attempt, AttemptKind, Receipt, Record};
use crate::units::{BlockNumber, Millis};

/// The state of a slow question without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inquiry {
    /// What the question is about.
    pub subject: Subject,
    /// When it was first asked.
    pub since: Millis,
    /// Consecutive answers without new information.
    pub fruitless: u32,
    /// When it may be asked again.
    pub next_at: Millis,
    /// The blocks that were searched so far, without result, for the use of the nonce.
    pub searched: Option<Searched>,
}

/// The subject of a slow question.
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
    /// The highest block.
    pub newest: BlockNumber,
    /// The lowest block.
    pub oldest: BlockNumber,
}

impl Subject {
    /// The subject's stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Use => "use",
            Self::Revert => "revert",
        }
    }
}

/// The text does not name a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a known subject of an inquiry")]
pub struct UnknownSubject;

impl FromStr for Subject {
    type Err = UnknownSubject;

    fn from_str(text: &str) -> Result<Self, UnknownSubject> {
        [Self::Use, Self::Revert].into_iter().find(|subject| subject.name() == text).ok_or(UnknownSubject)
    }
}

impl Inquiry {
    /// The pause before a question is asked again, in milliseconds, while answers have new information and after the
    /// first without. About seven blocks, in which a node that was behind has caught up.
    pub const PAUSE_MS: u64 = 3_000;
    /// The longest pause, in milliseconds. A question that no node answers for minutes needs an archive node or an
    /// operator.
    pub const PAUSE_MAX_MS: u64 = 10 * 60 * 1_000;
    /// How long an outcome waits for the reason of its revert, in milliseconds.
    pub const PATIENCE_MS: u64 = 30_000;

    /// The question's state after one more answer that did not settle it: asked at `asked_at`, answered at `now`. The
    /// next pause is short if the search made progress, and always for a reason, which has a short time limit.
    /// Otherwise pauses double.
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
    /// Whether an outcome by this receipt needs the reason of a revert.
    #[must_use]
    pub fn lacks_reason(&self, receipt: &Receipt) -> bool {
        let executes = |attempt: &Attempt| attempt.kind == AttemptKind::Execute;
        !receipt.succeeded && self.attempt_of(receipt.tx_hash).is_some_and(executes)
    }

    /// The open question about `subject`.
    #[must_use]
    pub fn inquiry_about(&self, subject: Subject) -> Option<Inquiry> {
        self.inquiry.filter(|inquiry| inquiry.subject == subject)
    }

    /// Whether the nodes may be asked about `subject` at `now`.
    #[must_use]
    pub fn may_inquire(&self, subject: Subject, now: Millis) -> bool {
        self.inquiry_about(subject).is_none_or(|inquiry| now >= inquiry.next_at)
    }

    /// How long the question about `subject` has been open, in milliseconds.
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
    fn pauses_double_only_while_answers_have_no_news() {
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
    fn revert_reason_is_asked_for_every_three_seconds() {
        let mut inquiry = Inquiry::after(None, Subject::Revert, None, Millis(0), Millis(0));
        for _ in 0..5 {
            let now = inquiry.next_at;
            inquiry = Inquiry::after(Some(inquiry), Subject::Revert, None, now, now);
            assert_eq!(inquiry.next_at.since(now), Inquiry::PAUSE_MS);
        }
    }

    #[test]
    fn question_about_another_subject_starts_over() {
        let before = Inquiry::after(None, Subject::Use, Some(range(800)), Millis(1_000), Millis(1_000));
        let after = Inquiry::after(Some(before), Subject::Revert, None, Millis(9_000), Millis(9_500));
        assert_eq!((after.since, after.fruitless, after.searched), (Millis(9_000), 1, None));
    }
}
