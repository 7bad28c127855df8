//! What geth's pool takes, keeps, loses and says, against what the gate, the error table and the documentation
//! of this project rest on. Each test has a geth of its own; its blocks are made when the test says so.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]

mod differential;
mod draft;
mod node;
mod pool;
mod restart;
mod rewind;
#[path = "../../../../crates/gate/tests/support/mod.rs"]
mod support;
