//! Signpost's ports on AWS: the store on DynamoDB, the keys on KMS, the queues on SQS, the outcome
//! topic on SNS. One Cargo feature each, so that what may not use a service does not link it.
//!
//! Only translates: what may be written and when is decided in `signpost_txmgr`. Never logs calldata
//! or a signature, and never decides an outcome.
//!
//! ## Guarantees
//! * What surely did not happen (throttling, a conflict on a hot item, no connection) is repeated here,
//!   bounded and with jitter. What comes back as an error is past that.
//! * An error says whether the call took effect, over all its repetitions: if the first reply was lost
//!   and the second try found no connection, that is *unknown*, not *no*.
//!
//! ## Does not guarantee
//! * That a message is delivered once, or a poke at all.
//!
//! Read in this order: [`clients`], [`fault`], [`repeat`], [`item`], [`store`], [`kms`], [`sqs`],
//! [`receiver`], [`inbox`], [`sns`], [`secrets`].

#![cfg_attr(
    not(all(feature = "dynamodb", feature = "kms", feature = "sns", feature = "sqs")),
    allow(dead_code, unused_imports, reason = "one feature alone uses only a part of what they share")
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
