//! Faults of AWS that no emulator shows: conflicts on a hot item, throttling, partial answers, lost
//! replies. The clients are the real ones; their network is a script.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::wildcard_enum_match_arm,
    clippy::needless_pass_by_value,
    clippy::format_collect,
    clippy::similar_names,
    reason = "a test may panic, and its helpers are few and small"
)]

mod accounts;
mod fixture;
mod keys;
mod lane;
mod queues;
mod registry;
mod requests;
mod reserving;
mod script;
mod sockets;
mod written;
