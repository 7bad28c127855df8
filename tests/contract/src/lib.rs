//! What the core may rely on, as claims: one suite per port, written against the port's trait, so that the fakes in
//! memory and the real services pass the same tests.
//!
//! A claim is a function that takes the port and panics when it does not hold. Each has a lane, ids and queues of its
//! own, so that all claims can run concurrently on one stack. The macros `*_claims!` list all claims of a suite;
//! `tests/memory.rs` and `tests/local_stack` run them.
//!
//! No claim is about throttling or lost replies: no emulator shows them (see the tests of `signpost-aws`). Read in this
//! order: [`lane`], [`store`], [`lanes`], [`registry`], [`spend`], [`requests`], [`pool`], [`keys`], [`queue`],
//! [`topic`].
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::missing_panics_doc,
    reason = "a claim that does not hold panics"
)]

pub mod keys;
pub mod lane;
pub mod lanes;
pub mod pool;
pub mod queue;
pub mod registry;
pub mod requests;
pub mod signer;
pub mod spend;
pub mod store;
pub mod topic;
