//! The promises of the README, each over the real drivers and the in-memory ports: what is signed, what is sent
//! and when, what is published, how long it is kept.
//!
//! Every test checks only the effects of the drivers: stored items, bytes sent, signatures made, outcomes
//! published. So each test fails if the rule behind it is removed, wherever that rule is written.

#![allow(missing_docs, reason = "a test binary has no reader of its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test may end at the first surprise"
)]

mod cancels;
mod fixture;
mod lanes;
mod outcomes;
mod prices;
mod signing;
mod timers;
