//! The worker: the two drivers, hosted in one process or in two, fed by SQS.
//!
//! Guarantees: bounded concurrency; messages are held while they are worked on; at SIGTERM what is in
//! hand is finished or given back. A crash at any moment loses nothing: what was not deleted comes
//! again, and what was stored is resumed.
//!
//! Read next: [`inbox`], [`consumer`], [`handlers`].

pub mod consumer;
pub mod handlers;
pub mod inbox;
