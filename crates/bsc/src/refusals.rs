//! Refusals of transactions by nodes: a refusal counts only when it is confirmed.
//!
//! We signed and stored the bytes that we send; they decode, hash and verify, and every limit was checked. So if a
//! node cannot decode them, or rejects their signature, the node is more likely at fault: a gateway that truncated
//! them, or a node of another version. **A refusal counts once a second node refuses the same hash, or the same node
//! refuses it for the third time, a minute or more after the first.** If a node accepts the transaction, its refusals
//! are forgotten.
//!
//! A node is identified by host and port, so two keys at one provider do not confirm each other. Kept in memory, not
//! stored: another process starts without them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use signpost_txmgr::units::TxHash;
use tokio::time::Instant;

/// Number of refusals by a single node that confirm each other.
const REFUSALS_MIN: u32 = 3;

/// The refusals of at least the last [`Refusals::GENERATION`] refused transactions.
#[derive(Debug)]
pub(crate) struct Refusals {
    confirm: Duration,
    seen: Mutex<[HashMap<TxHash, Vec<Refusal>>; 2]>,
}

/// The refusals of one transaction by one node.
#[derive(Debug)]
struct Refusal {
    host: String,
    first_at: Instant,
    times: u32,
}

impl Refusals {
    /// More transactions than all lanes of a process have open at once.
    const GENERATION: usize = 10_000;

    /// `confirm`: the time over which a single node must repeat its refusal.
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

    /// Forgets a transaction's refusals, because a node has it.
    pub(crate) fn forget(&self, hash: TxHash) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for generation in &mut *seen {
            generation.remove(&hash);
        }
    }

    /// Whether the refusals of a transaction are confirmed.
    pub(crate) fn are_confirmed(&self, hash: TxHash, now: Instant) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let refusals = seen.iter().find_map(|generation| generation.get(&hash)).map_or(&[][..], Vec::as_slice);
        let insists = |refusal: &Refusal| {
            refusal.times >= REFUSALS_MIN && now.saturating_duration_since(refusal.first_at) >= self.confirm
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

    /// Whether a refusal is confirmed after refusals by these nodes at these seconds.
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
    fn second_node_or_third_refusal_after_a_minute_confirms() {
        assert!(!confirmed(&[]));
        assert!(!confirmed(&[("a", 0)]));
        assert!(confirmed(&[("a", 0), ("b", 0)]));
        assert!(!confirmed(&[("a", 0), ("a", 61)]), "twice");
        assert!(!confirmed(&[("a", 0), ("a", 3), ("a", 6), ("a", 59)]), "in less than a minute");
        assert!(confirmed(&[("a", 0), ("a", 3), ("a", 60)]));
    }

    #[test]
    fn accepted_transaction_forgets_its_refusals() {
        let (refusals, now) = (Refusals::new(MINUTE), Instant::now());
        refusals.note(HASH, "a", now);
        refusals.forget(HASH);
        refusals.note(HASH, "b", now);
        assert!(!refusals.are_confirmed(HASH, now));
    }

    #[test]
    fn kept_refusals_are_bounded_and_the_latest_are_kept() {
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
