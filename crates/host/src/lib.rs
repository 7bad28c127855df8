//! The parts that all programs around the drivers share: the configuration, the clock, the connection to AWS,
//! and the consumer of a queue. The worker, the Lambda functions and the command line use it.
//!
//! Never signs and never talks to a node: it links neither KMS nor JSON-RPC, so the signer's
//! program cannot reach a node and the broadcaster's cannot reach a key.
//!
//! Read in this order: [`config`], [`aws`] and [`session`], [`ports`] (the real ports), [`consumer`]
//! (a queue and its consumer), [`start`], [`clock`]; `observe` has logs, metrics and traces, and
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
pub mod ports;
pub mod session;
pub mod start;

pub use signpost_txmgr::error_chain;
