//! Tests of what geth's pool accepts, keeps, loses and answers. The gate, the error table and the documentation of this
//! project rely on it. Each test has a geth of its own, which makes a block only on request.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]

mod differential;
mod draft;
mod node;
mod pool;
mod restart;
mod rewind;
#[path = "../../../../crates/gate/tests/support/mod.rs"]
mod support;
