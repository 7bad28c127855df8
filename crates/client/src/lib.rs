//! The Rust client of Signpost: [`Request`] builds a valid message, [`Client`] sends it and reads its status,
//! [`outcome`] reads the topic's messages.
//!
//! Optional: a backend can also send JSON to the queue itself, as in the README. This
//! crate adds the service's parser before the message is sent, types instead of field names, and
//! details that are easily forgotten (an answer for each message of a batch, FIFO groups, waiting with
//! backoff, detecting copies of an outcome by their `eventId`).
//!
//! Never signs, has no key and no node, never writes to a table.
//!
//! IAM actions: `sqs:SendMessage` on the signing queue, `dynamodb:GetItem` on the requests table.
//!
//! Read in this order: [`Request`], [`Body`], [`Client`], [`Follow`], [`outcome`]. `examples/three_steps.rs` is a
//! complete example; `examples/README.md` lists the others. The crate's `README.md` has more; its examples are
//! compiled as tests.
//!
//! **Architecture invariant:** depends on the core, on the stored shapes in `signpost-aws` and on the
//! SDKs of SQS and DynamoDB; does not depend on KMS or JSON-RPC.

mod body;
mod follow;
pub mod outcome;
mod request;
mod send;

use aws_config::SdkConfig;

pub use body::Body;
pub use follow::{Follow, NotSettled, ReadError};
pub use request::Request;
pub use send::NotSent;
pub use signpost_txmgr::request::{AccountRef, Refused};
pub use signpost_txmgr::tx::Fee;
pub use signpost_txmgr::units::{AccountKey, AccountName, Address, Gas, RequestId, U256, Wei};
pub use signpost_txmgr::wire::{OutcomeMessage, RequestStatus, Status, WireAttempt, WireFee, WireReason};

/// A client of one Signpost: sends to its queue and reads its requests table. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    sqs: aws_sdk_sqs::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    signing_queue_url: String,
    requests_table: String,
}

impl Client {
    /// A client of the Signpost with this signing queue (FIFO if its URL ends in `.fifo`) and this
    /// requests table. Opens no connection yet; retries and timeouts are those of `sdk`.
    #[must_use]
    pub fn new(sdk: &SdkConfig, signing_queue_url: impl Into<String>, requests_table: impl Into<String>) -> Self {
        Self {
            sqs: aws_sdk_sqs::Client::new(sdk),
            dynamodb: aws_sdk_dynamodb::Client::new(sdk),
            signing_queue_url: signing_queue_url.into(),
            requests_table: requests_table.into(),
        }
    }
}

/// The examples of the crate's front page are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct FrontPage;
