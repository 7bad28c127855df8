//! The explorer: every interleaving of a small world around the real record machine, breadth first.
//!
//! What is real: [`signpost_txmgr::machine::apply`], [`signpost_txmgr::machine::next_action`], the
//! records, the outcome messages. What is modelled: the two drivers as step machines whose steps are
//! single port calls, the tables with their conditions, the queues, and a chain that mines, finalizes,
//! reorganizes and forgets. Two questions are asked of every reachable state: does it break an
//! invariant ([`check`]), and can it still finish without another fault ([`search`])?
//!
//! There is no cryptography: signatures and hashes are made up, and the machine only compares them. The drivers' code
//! is not explored; the simulation runs it. There is no clock: whether a wait is over is a choice, and both branches
//! are explored.
//!
//! Read in this order: [`ledger`], [`lane`], [`world`], [`worlds`], [`machine_cache`], [`moves`], [`check`], [`search`],
//! [`mutants`].

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::struct_excessive_bools,
    reason = "a model for tests: its numbers are tiny, it stops at a surprise, and its switches are independent"
)]

pub mod check;
pub mod hash;
pub mod lane;
pub mod ledger;
pub mod machine_cache;
pub mod moves;
pub mod mutants;
pub mod search;
pub mod world;
pub mod worlds;

pub use mutants::ModelMutant;
pub use search::{Finding, Report, explore};
pub use world::World;
