//! Trials of the record machine and its drivers on the in-memory ports.
//!
//! * [`simulation`]: the real drivers under seeded faults, then without; [`auditor`] checks I1–I16 at
//!   every write and send, and that everything finished.
//! * [`crash`]: one scenario, and one fault at each of its port calls in turn.
//! * [`explorer`]: every interleaving of small worlds around the record machine.
//! * [`mutants`]: known design bugs, to prove that the auditor can fail.
//! * [`thief`]: an attacker who can write the tables, and what gets signed for that attacker.
//! * [`flood`]: how long an honest sender waits while another floods the queue.
//! * [`scale`]: how the time per request grows with everything that can grow.
//!
//! Words:
//!
//! * A *deployment* is the connected fakes with the drivers on top of them ([`deployment`]). A *world* is a small model
//!   of the explorer.
//! * An *interceptor* is where every call of a fake passes. Its `FaultSource` decides the *fate* of each call: pass,
//!   fail, lose the reply, or crash the caller. [`faults`] has the injectors of faults.
//! * [`executor`] has the deterministic executor of the tasks; `simulation/tasks.rs` lists the tasks of a trial.
//! * A *trial* is one run; a *seed* decides all that is random in it. [`breadth`] draws its conditions.
//! * A *pass* is a broadcaster's work on one lane, a *round* one look at all its open slots.
//! * A *mutant* is a planted bug.
//!
//! Nothing here is part of a program. No wall clock decides anything: a seed repeats exactly.
//! Read next: [`simulation`].
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "trials: a broken assumption stops the trial")]

pub mod auditor;
pub mod breadth;
pub mod crash;
pub mod deployment;
pub mod executor;
pub mod explorer;
pub mod faults;
pub mod flood;
pub mod mutants;
pub mod random;
pub mod receive_loop;
pub mod scale;
pub mod simulation;
pub mod source;
pub mod thief;
