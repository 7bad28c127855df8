//! The in-memory ports: small worlds that keep the promises of [`crate::ports`].
//!
//! A store with conditions, a key service that never signs the same way twice, queues with group
//! locks and timeouts, a chain that mines. They pass the same contract suite as the real
//! adapters, and the simulation, the benchmarks and the drivers' own tests run on them. All of them
//! are handles: a clone is the same world.
//!
//! What goes wrong is not decided here. Each call passes a [`Gate`], behind which a [`Weather`] may
//! yield, fail, lose the reply or let the caller die; without one every call completes at once.
//! What happened is noted in a [`Journal`], for an auditor. Time is a [`SimClock`] that is moved by hand.
//!
//! Never built into a program: only for tests and under the feature `fake`. Read next: [`store`].
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "a world for tests: a broken assumption is to stop the test"
)]

pub mod chain;
pub mod gate;
pub mod journal;
pub mod keys;
pub mod queue;
pub mod store;
pub mod topic;

mod decode;
mod lies;
mod world;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use chain::MemoryChain;
pub use gate::{FakeFault, Fate, Gate, Weather};
pub use journal::{Entry, Journal};
pub use keys::{KeyState, MemoryKeys};
pub use lies::Lies;
pub use queue::{MemoryQueue, MemoryQueues, QueueRules};
pub use store::MemoryStore;
pub use topic::MemoryTopic;
pub use world::{NodeMood, Second};

use crate::seal::Sealer;
use crate::units::Millis;

/// The sealer of a world without secrets.
#[must_use]
pub fn sealer() -> Sealer {
    Sealer::new(["not a secret: the seals of simulated worlds"]).expect("the key is long enough")
}

/// Simulated time: stands still until it is moved.
#[derive(Debug, Clone, Default)]
pub struct SimClock(Arc<AtomicU64>);

impl SimClock {
    /// A clock that shows `start`.
    #[must_use]
    pub fn at(start: Millis) -> Self {
        Self(Arc::new(AtomicU64::new(start.0)))
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Millis {
        Millis(self.0.load(Ordering::SeqCst))
    }

    /// Moves it on by `by_ms`.
    pub fn advance(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}
