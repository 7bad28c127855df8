//! Who refused which transaction: a refusal is believed when it is confirmed.
//!
//! The bytes we send were signed and stored by us; they decode, hash and verify, and every limit was checked. So a
//! node that cannot decode them, or finds their signature wrong, is more likely wrong itself: a gateway that cut
//! them, a node of another version. **A refusal counts once a second node refuses the same hash, or the same one for
//! the third time, a minute or more after the first.** A node that takes the transaction ends it.
//!
//! A node is its host and port here, so two keys at one provider do not confirm each other. Kept by the process, not
//! stored: another process begins anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use signpost_txmgr::units::TxHash;
use tokio::time::Instant;

/// Refusals by one node that confirm each other.
const TIMES: u32 = 3;

/// The refusals of the last [`Refusals::GENERATION`] refused transactions at least.
#[derive(Debug)]
pub(crate) struct Refusals {
    confirm: Duration,
    seen: Mutex<[HashMap<TxHash, Vec<Refusal>>; 2]>,
}

/// What one node said of one transaction.
#[derive(Debug)]
struct Refusal {
    host: String,
    first_at: Instant,
    times: u32,
}

impl Refusals {
    /// More than all lanes of a process have open at once.
    const GENERATION: usize = 10_000;

    /// `confirm`: time over which one node alone has to say so.
    pub(crate) fn new(confirm: Duration) -> Self {
        Self { confirm, seen: Mutex::default() }
    }

    /// Notes that a node refuses a transaction.
    pub(crate) fn note(&self, hash: TxHash, host: &str, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *seen;
        let refusals = young.entry(hash).or_insert_with(|| old.remove(&hash).unwrap_or_default());
        match refusals.iter_mut().find(|refusal| refusal.host == host) {
            Some(refusal) => refusal.times = refusal.times.saturating_add(1),
            None => refusals.push(Refusal { host: host.to_owned(), first_at: now, times: 1 }),
        }
        if young.len() >= Self::GENERATION {
            *old = std::mem::take(young);
        }
    }

    /// Notes that a node has the transaction.
    pub(crate) fn forget(&self, hash: TxHash) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for generation in &mut *seen {
            generation.remove(&hash);
        }
    }

    /// Whether what nodes said of a transaction is to be believed.
    pub(crate) fn are_confirmed(&self, hash: TxHash, now: Instant) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let refusals = seen.iter().find_map(|generation| generation.get(&hash)).map_or(&[][..], Vec::as_slice);
        let insists = |refusal: &Refusal| {
            refusal.times >= TIMES && now.saturating_duration_since(refusal.first_at) >= self.confirm
        };
        refusals.len() > 1 || refusals.iter().any(insists)
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test's times are small")]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const HASH: TxHash = TxHash([1; 32]);

    /// Whether it is confirmed, after refusals by these nodes at these seconds.
    fn confirmed(said: &[(&str, u64)]) -> bool {
        let (refusals, start) = (Refusals::new(MINUTE), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        for (host, seconds) in said {
            refusals.note(HASH, host, at(*seconds));
        }
        assert!(!refusals.are_confirmed(TxHash([2; 32]), at(1_000)), "another transaction");
        refusals.are_confirmed(HASH, at(said.last().map_or(0, |(_, seconds)| *seconds)))
    }

    #[test]
    fn a_second_node_confirms_at_once_and_the_same_one_the_third_time_after_a_minute() {
        assert!(!confirmed(&[]));
        assert!(!confirmed(&[("a", 0)]));
        assert!(confirmed(&[("a", 0), ("b", 0)]));
        assert!(!confirmed(&[("a", 0), ("a", 61)]), "twice");
        assert!(!confirmed(&[("a", 0), ("a", 3), ("a", 6), ("a", 59)]), "in less than a minute");
        assert!(confirmed(&[("a", 0), ("a", 3), ("a", 60)]));
    }

    #[test]
    fn a_node_that_takes_it_ends_it() {
        let (refusals, now) = (Refusals::new(MINUTE), Instant::now());
        refusals.note(HASH, "a", now);
        refusals.forget(HASH);
        refusals.note(HASH, "b", now);
        assert!(!refusals.are_confirmed(HASH, now));
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_latest_are_kept() {
        let (refusals, now) = (Refusals::new(MINUTE), Instant::now());
        let hash = |at: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&at.to_be_bytes());
            TxHash(bytes)
        };
        for at in 0..Refusals::GENERATION * 3 {
            refusals.note(hash(at), "a", now);
            assert!(refusals.seen.lock().unwrap().iter().all(|generation| generation.len() <= Refusals::GENERATION));
        }
        let last = hash(Refusals::GENERATION * 3 - 10);
        refusals.note(last, "b", now);
        assert!(refusals.are_confirmed(last, now));
        assert!(!refusals.are_confirmed(hash(0), now));
    }
}
