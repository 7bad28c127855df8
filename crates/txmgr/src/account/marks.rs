//! The marks of a lane below its next nonce: the low mark, the slots set aside, the gaps.
//!
//! The low mark moves over closed slots in order. One slot that cannot be closed would hold back every closed slot
//! above it: each pass would read them again, and the lane would stop when they fill its window. Such a slot is set
//! aside: the head keeps its nonce, the mark moves past it, and the slot is checked now and then until it is closed.
//! Only a slot whose nonce is used in a final block is set aside, so it needs no further signature or send, and the
//! transactions above it can be mined.
//!
//! Nonces without a slot item or without a record (tables restored from a backup) cannot be checked again. Once the
//! chain has used them, they are left behind as a gap.
//!
//! The decisions are in [`crate::broadcaster`].

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::units::{Millis, Nonce};

/// A slot below the lane's low mark that could not be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetAside {
    /// The slot's nonce.
    pub nonce: Nonce,
    /// Why it could not be closed.
    pub cause: AsideCause,
    /// When it was set aside.
    pub since: Millis,
}

impl SetAside {
    /// The most slots of one lane that are set aside: about 3 KB of the head, which every reservation writes. At the
    /// limit the low mark no longer moves past such slots.
    pub const MAX: usize = 64;
}

/// Why a slot was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AsideCause {
    /// Its nonce is used, but no node shows by which transaction.
    Unproven,
    /// The topic refuses its outcome.
    Unpublished,
    /// Many slots above it are closed.
    Late,
}

impl AsideCause {
    /// Every cause.
    pub const ALL: [Self; 3] = [Self::Unproven, Self::Unpublished, Self::Late];

    /// The cause's stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unproven => "unproven",
            Self::Unpublished => "unpublished",
            Self::Late => "late",
        }
    }

    /// What it means, for people.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Unproven => "its nonce is used, but no node shows by which transaction",
            Self::Unpublished => "the topic refuses its outcome",
            Self::Late => "it was still open when many slots above it were closed",
        }
    }
}

impl fmt::Display for AsideCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text does not name a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a known cause for setting a slot aside")]
pub struct UnknownAsideCause;

impl FromStr for AsideCause {
    type Err = UnknownAsideCause;

    fn from_str(text: &str) -> Result<Self, UnknownAsideCause> {
        Self::ALL.into_iter().find(|cause| cause.name() == text).ok_or(UnknownAsideCause)
    }
}

/// Nonces that are used on chain but for which no request is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first nonce.
    pub from: Nonce,
    /// The first nonce after the gap.
    pub to: Nonce,
    /// When they were left behind.
    pub since: Millis,
}

impl Gap {
    /// The most gaps in a head, the newest ones; the log has all of them.
    pub const MAX: usize = 16;
}

/// The marks of a lane that change, in one write, when slots are left behind or set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// See [`super::Head::lowest_open_nonce`].
    pub lowest_open_nonce: Nonce,
    /// See [`super::Head::set_aside`].
    pub set_aside: Vec<SetAside>,
    /// See [`super::Head::gaps`].
    pub gaps: Vec<Gap>,
}

impl Marks {
    /// Whether the slot is set aside.
    #[must_use]
    pub fn is_set_aside(&self, nonce: Nonce) -> bool {
        self.set_aside.iter().any(|slot| slot.nonce == nonce)
    }

    /// Adds a nonce to the gaps: extends the gap that ends at it, or begins a new one.
    pub fn add_gap(&mut self, nonce: Nonce, now: Millis) {
        match self.gaps.last_mut() {
            Some(gap) if gap.to == nonce => gap.to = nonce.plus(1),
            Some(_) | None => self.gaps.push(Gap { from: nonce, to: nonce.plus(1), since: now }),
        }
        let surplus = self.gaps.len().saturating_sub(Gap::MAX);
        self.gaps.drain(..surplus);
    }

    /// The nonces that a move from `before` to these marks closes, as ordered ranges.
    #[must_use]
    pub fn left_since(&self, before: &Self) -> Vec<Range<Nonce>> {
        let returned = before.set_aside.iter().map(|slot| slot.nonce).filter(|nonce| !self.is_set_aside(*nonce));
        let mut left: Vec<Range<Nonce>> = returned.map(|nonce| nonce..nonce.plus(1)).collect();
        let mut from = before.lowest_open_nonce;
        for slot in self.set_aside.iter().filter(|slot| slot.nonce >= before.lowest_open_nonce) {
            left.push(from..slot.nonce);
            from = slot.nonce.plus(1);
        }
        left.push(from..self.lowest_open_nonce);
        left.retain(|range| range.start < range.end);
        left
    }

    /// Asserts the invariants of a move from `before`, ahead of its write.
    pub fn assert_follows(&self, before: &Self) {
        assert!(before.lowest_open_nonce <= self.lowest_open_nonce, "I4: a lane only goes forward");
        assert!(self.set_aside.len() <= SetAside::MAX, "few slots are set aside");
        let in_order = self.set_aside.windows(2).all(|pair| matches!(pair, [low, high] if low.nonce < high.nonce));
        assert!(in_order, "slots are set aside in order of nonce, each once");
        let below = self.set_aside.last().is_none_or(|slot| slot.nonce < self.lowest_open_nonce);
        assert!(below, "what is set aside is below the low mark");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINCE: Millis = Millis(7);

    fn marks(lowest: u64, set_aside: &[u64]) -> Marks {
        let slot = |nonce: &u64| SetAside { nonce: Nonce(*nonce), cause: AsideCause::Late, since: SINCE };
        let set_aside = set_aside.iter().map(slot).collect();
        Marks { lowest_open_nonce: Nonce(lowest), set_aside, gaps: Vec::new() }
    }

    #[test]
    fn left_slots_are_those_between_the_marks_not_set_aside() {
        let left = |before: &Marks, after: &Marks| -> Vec<(u64, u64)> {
            after.left_since(before).into_iter().map(|range| (range.start.0, range.end.0)).collect()
        };
        assert_eq!(left(&marks(5, &[]), &marks(9, &[])), [(5, 9)]);
        assert_eq!(left(&marks(5, &[]), &marks(9, &[5, 7])), [(6, 7), (8, 9)]);
        assert_eq!(left(&marks(5, &[2, 3]), &marks(9, &[3, 8])), [(2, 3), (5, 8)]);
        assert_eq!(left(&marks(5, &[2]), &marks(5, &[])), [(2, 3)]);
        assert_eq!(left(&marks(5, &[2]), &marks(6, &[2, 5])), []);
    }

    #[test]
    fn adjacent_gaps_merge_and_only_the_newest_are_kept() {
        let mut marks = marks(0, &[]);
        for nonce in [1, 2, 3, 7] {
            marks.add_gap(Nonce(nonce), SINCE);
        }
        let gap = |from, to| Gap { from: Nonce(from), to: Nonce(to), since: SINCE };
        assert_eq!(marks.gaps, [gap(1, 4), gap(7, 8)]);
        for nonce in 10..200 {
            marks.add_gap(Nonce(nonce * 2), SINCE);
        }
        assert_eq!((marks.gaps.len(), marks.gaps.last()), (Gap::MAX, Some(&gap(398, 399))));
    }
}
