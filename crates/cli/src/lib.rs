//! The parts of the `signpost` command: the local stack, the configuration, and a module for each command.
//! The binary only reads its arguments and calls this library; `tests/verify` uses the same set-up.
//!
//! Read in this order: [`stack`] (ministack and anvil on this machine), [`aws`] (how a client finds its endpoint),
//! [`config`] (the configuration file) and [`find`](mod@find), [`command`] (what each command does), [`console`] (the
//! web page for operators), [`worker`] (the two drivers in a process), [`ports`] (the real ports), [`amount`] (wei in
//! BNB), [`terminal`] and [`clock`] (input and output besides the network).
//!
//! **Architecture invariant:** `crates/txmgr`, `crates/aws` and `crates/bsc` do not depend on this crate.

pub mod amount;
pub mod command;
pub mod console;
pub mod error;
pub mod figures;
pub mod find;
mod payment_lane;
pub mod ports;
mod random;
mod set_aside;
pub mod stack;
pub mod terminal;
pub mod when;
pub mod worker;

pub use signpost_host::{aws, clock, config};
