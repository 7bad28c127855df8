//! What a backend in Rust needs of Signpost: [`Request`] makes a message that the service will read as
//! it was meant, [`Client`] sends it and looks how it stands, [`outcome`] reads what the topic sends.
//!
//! Not needed for anything: a backend may as well send JSON to the queue, as in the README. What this
//! crate adds is the service's own parser before the message is sent, types instead of field names, and
//! the few habits that are easily forgotten (batches answered one by one, FIFO groups, waiting with a
//! back-off, copies of an outcome told by their `eventId`).
//!
//! Never signs, never knows a key or a node, never writes to a table.
//!
//! IAM actions: `sqs:SendMessage` on the signing queue, `dynamodb:GetItem` on the requests table.
//!
//! Read in this order: [`Request`], [`Body`], [`Client`], [`Follow`], [`outcome`]. An example that does
//! all of it is `examples/three_steps.rs`; `examples/README.md` lists the others. The crate's `README.md` has more; its
//! examples are compiled as tests.
//!
//! **Architecture invariant:** depends on the core, on the stored shapes in `signpost-aws` and on the
//! SDKs of SQS and DynamoDB; KMS and JSON-RPC are not among its dependencies.

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

/// A Signpost, as its clients see it: a queue to send to, a table to look at. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    sqs: aws_sdk_sqs::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    signing_queue_url: String,
    requests_table: String,
}

impl Client {
    /// A client of the Signpost with this signing queue (FIFO if its URL ends in `.fifo`) and this
    /// requests table. Connects to nothing yet; retries and time-outs are those of `sdk`.
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
