//! The signer's answers: one per message, whatever changed between its deliveries, and each under an id that is its own.

#![allow(missing_docs, reason = "a test binary has no reader of its documentation")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may end at the first surprise")]

mod batches;
mod cancels;
mod directory;
mod event_ids;
mod owners;
mod races;
mod redelivery;
mod strangers;
mod world;
