//! Trials of the record machine and its drivers on the in-memory ports.
//!
//! * [`simulation`]: the real drivers under seeded faults, then without; [`auditor`] judges I1–I16 of
//!   every write and send, and whether everything finished.
//! * [`crash`]: one scenario, and one fault at each of its port calls in turn.
//! * [`explorer`]: every interleaving of small worlds around the record machine.
//! * [`mutants`]: known design bugs, to prove that the auditor can fail.
//! * [`thief`]: somebody who can write the tables, and what that gets signed.
//! * [`flood`]: how long an honest sender waits beside one who floods the queue.
//! * [`scale`]: how the time per request grows with everything that can grow.
//!
//! Nothing here is part of a program. No wall clock decides anything: a seed repeats exactly.
//! Read next: [`simulation`].
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "trials: a broken assumption is to stop the trial"
)]

pub mod auditor;
pub mod breadth;
pub mod crash;
pub mod explorer;
pub mod flood;
pub mod host;
pub mod mutants;
pub mod random;
pub mod scale;
pub mod simulation;
pub mod source;
pub mod stage;
pub mod thief;
pub mod weather;
pub mod world;
