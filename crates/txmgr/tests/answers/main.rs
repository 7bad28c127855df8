//! The signer's outcomes: one per message, whatever changes between its deliveries, each under an id that it owns.

#![allow(missing_docs, reason = "a test binary has no reader of its documentation")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may end at the first surprise")]

mod batches;
mod cancels;
mod directory;
mod event_ids;
mod fixture;
mod owners;
mod races;
mod redelivery;
mod strangers;
