//! What every program around the drivers shares: the configuration, the clock, the connection to AWS,
//! and how a queue is consumed. The worker, the Lambda functions and the command line are made of it.
//!
//! Never signs and never talks to a node: it links neither KMS nor JSON-RPC, so that the signer's
//! program has no way to a node and the broadcaster's none to a key.
//!
//! Read in this order: [`config`], [`aws`] and [`session`], [`world`] (the real ports), [`consumer`]
//! (a queue, consumed), [`start`], [`clock`]; `observe` is what a program shows of itself, and
//! `lambda` (feature `lambda`) hosts a stage as a function.
//!
//! **Architecture invariant:** depends on neither `signpost-bsc` nor the `kms` feature of
//! `signpost-aws`.

pub mod aws;
pub mod clock;
pub mod config;
pub mod consumer;
#[cfg(feature = "lambda")]
pub mod lambda;
#[cfg(any(feature = "exporters", feature = "lambda"))]
pub mod observe;
pub mod session;
pub mod start;
pub mod world;

pub use signpost_txmgr::told;
