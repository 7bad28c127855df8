//! The parts of the `signpost` command: the local stack, the configuration, and what each command
//! does. The binary only reads its arguments and calls in here; `tests/verify` uses the same set-up.
//!
//! Read in this order: [`stack`] (ministack and anvil on this machine), [`aws`] (how a client finds
//! its endpoint), [`config`] (the one file) and [`find`](mod@find), [`command`] (what each command does), [`console`] (the page for operators), [`worker`] (the drivers, hosted), [`world`] (the real ports), [`terminal`] and [`clock`] (the two ways out of the program besides the network).
//!
//! **Architecture invariant:** nothing in `crates/txmgr`, `crates/aws` or `crates/bsc` knows this
//! crate.

pub mod command;
pub mod console;
pub mod error;
pub mod figures;
pub mod find;
mod lane;
mod random;
mod set_aside;
pub mod stack;
pub mod terminal;
pub mod when;
pub mod worker;
pub mod world;

pub use signpost_host::{aws, clock, config};
