//! The counts of a gate: calls that passed, and faults that were injected.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::Serialize;

/// Counts by name.
pub type Counts = BTreeMap<String, u64>;

/// The counts of a gate since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Received calls, by method or `service:Operation`.
    pub calls: Counts,
    /// Calls that took effect: the server behind answered without an error, whatever the caller received.
    pub succeeded: Counts,
    /// AWS gate: bytes of request and answer bodies, by call.
    pub bytes: Counts,
    /// Injected faults, by name.
    pub faults: Counts,
    /// BSC gate: accepted transactions.
    pub accepted: u64,
    /// BSC gate: refused transactions, by the first words of the message.
    pub refused: Counts,
}

impl Stats {
    /// The count for a name; 0 if there is none.
    #[must_use]
    pub fn count(counts: &Counts, name: &str) -> u64 {
        counts.get(name).copied().unwrap_or(0)
    }
}

/// The counts of a running gate.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Stats>);

impl Tally {
    pub(crate) fn call(&self, method: &str) {
        self.change(|stats| add(&mut stats.calls, method));
    }

    pub(crate) fn succeeded(&self, method: &str) {
        self.change(|stats| add(&mut stats.succeeded, method));
    }

    pub(crate) fn bytes(&self, method: &str, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.change(|stats| {
            let sum = stats.bytes.entry(method.to_owned()).or_default();
            *sum = sum.saturating_add(bytes);
        });
    }

    pub(crate) fn fault(&self, name: &str) {
        self.change(|stats| add(&mut stats.faults, name));
    }

    pub(crate) fn accepted(&self) {
        self.change(|stats| stats.accepted = stats.accepted.saturating_add(1));
    }

    /// Counts by the words before the first detail, so that the number of keys stays small.
    pub(crate) fn refused(&self, message: &str) {
        let words = message.split([':', '(']).next().unwrap_or(message).trim();
        self.change(|stats| add(&mut stats.refused, words));
    }

    pub(crate) fn read(&self) -> Stats {
        self.0.lock().expect("no holder of the counts panics").clone()
    }

    fn change(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.0.lock().expect("no holder of the counts panics"));
    }
}

fn add(counts: &mut Counts, name: &str) {
    let count = counts.entry(name.to_owned()).or_default();
    *count = count.saturating_add(1);
}
