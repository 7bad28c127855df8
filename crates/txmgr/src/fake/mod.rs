//! Implementations of the ports in memory (fakes), with the guarantees of [`crate::ports`].
//!
//! A store with conditional writes, a key service that never makes the same signature twice, queues with group locks
//! and timeouts, and a chain that mines blocks. They pass the same contract suite as the real adapters. The simulation,
//! the benchmarks and the tests of the drivers use them. All of them are handles: clones share their state.
//!
//! Terms:
//! * A [`FaultSource`] decides which calls fail. The fakes themselves decide nothing.
//! * A [`Fate`] is its decision on one call: the call passes or fails, its reply is lost, or the caller dies.
//! * An [`Interceptor`] applies the fate to a call. Without a fault source, every call completes at once.
//! * A [`Journal`] records all effects, for an auditor.
//! * A [`SimClock`] is the time, which the test moves.
//!
//! Never built into a program: only for tests and with the feature `fake`. Read next: [`store`].
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "only for tests: a broken assumption should stop the test"
)]

pub mod chain;
pub mod interceptor;
pub mod journal;
pub mod keys;
pub mod queue;
pub mod store;
pub mod topic;

mod chain_state;
mod decode;
mod lies;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use chain::MemoryChain;
pub use chain_state::{NodeFaults, Second};
pub use interceptor::{FakeFault, Fate, FaultSource, Interceptor};
pub use journal::{Entry, Journal};
pub use keys::{KeyState, MemoryKeys};
pub use lies::Lies;
pub use queue::{MemoryQueue, MemoryQueues, QueueRules};
pub use store::MemoryStore;
pub use topic::MemoryTopic;

use crate::seal::Sealer;
use crate::units::Millis;

/// A sealer for tests, with a key that is not secret.
#[must_use]
pub fn sealer() -> Sealer {
    Sealer::new(["not a secret: the seals of simulated worlds"]).expect("the key is long enough")
}

/// Simulated time, which changes only by [`Self::advance`].
#[derive(Debug, Clone, Default)]
pub struct SimClock(Arc<AtomicU64>);

impl SimClock {
    /// A clock that shows `start`.
    #[must_use]
    pub fn at(start: Millis) -> Self {
        Self(Arc::new(AtomicU64::new(start.0)))
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Millis {
        Millis(self.0.load(Ordering::SeqCst))
    }

    /// Advances the time by `by_ms` milliseconds.
    pub fn advance(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}
