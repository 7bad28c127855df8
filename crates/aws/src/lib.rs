//! Signpost's ports on AWS: the store on DynamoDB, the keys on KMS, the queues on SQS, the outcome
//! topic on SNS. Each has a Cargo feature, so that a program links only the services that it may use.
//!
//! Only translates: `signpost_txmgr` decides what may be written and when. Never logs calldata
//! or a signature, and never decides an outcome.
//!
//! ## Guarantees
//! * Calls that surely had no effect (throttling, a conflict on a hot item, no connection) are repeated here,
//!   bounded and with jitter. An error is returned only after these repetitions.
//! * An error reports whether the call took effect in any of its tries: if the first reply was lost
//!   and the second try found no connection, the answer is *unknown*, not *no*.
//!
//! ## Does not guarantee
//! * That a message is delivered only once, or that a poke is delivered at all.
//!
//! Read in this order: [`clients`], [`fault`], [`repeat`], [`item`], [`store`], [`kms`], [`sqs`],
//! [`receiver`], [`inbox`], [`sns`], [`secrets`].

#![cfg_attr(
    not(all(feature = "dynamodb", feature = "kms", feature = "sns", feature = "sqs")),
    allow(dead_code, unused_imports, reason = "a single feature uses only a part of the shared code")
)]

#[cfg(any(feature = "sqs", feature = "sns"))]
mod batch;
pub mod clients;
pub mod fault;
#[cfg(feature = "sqs")]
pub mod inbox;
#[cfg(feature = "dynamodb")]
pub mod item;
#[cfg(feature = "kms")]
pub mod kms;
#[cfg(feature = "sqs")]
pub mod receiver;
pub mod repeat;
#[cfg(feature = "secrets")]
pub mod secrets;
#[cfg(feature = "sns")]
pub mod sns;
#[cfg(feature = "sqs")]
pub mod sqs;
#[cfg(feature = "dynamodb")]
pub mod store;
