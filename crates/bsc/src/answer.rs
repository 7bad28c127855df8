//! A call and its result: an answer, or a failure that says whether the call took effect.
//!
//! Read next: [`crate::rpc`].

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use signpost_txmgr::ports::Happened;
use signpost_txmgr::text;

use crate::classify;

/// Maximum size of a response body in bytes: nodes stop at 25 MB.
pub(crate) const MAX_RESPONSE_BYTES: usize = 32 << 20;

/// A method with its parameters.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) params: Value,
}

impl Call {
    pub(crate) fn new(method: &'static str, params: Value) -> Self {
        Self { method, params }
    }
}

/// An error that the node answered with.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the node answered: {} (code {code})", text::plain(message))]
pub struct NodeError {
    /// JSON-RPC error code; 0 if there was none.
    pub code: i64,
    /// The node's message, unchanged: it is classified by its words, and printed only through `Display`.
    pub message: String,
    /// The error's `data` field.
    pub data: Option<Value>,
}

/// Why a call has no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallFailure {
    /// The node answered with an error.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The connection could not be opened.
    #[error("no connection")]
    Unreachable(#[source] Arc<reqwest::Error>),
    /// The answer did not arrive in time.
    #[error("no answer in time")]
    TimedOut,
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] Arc<reqwest::Error>),
    /// The endpoint limits our rate.
    #[error("the endpoint limits our rate")]
    RateLimited {
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    /// An HTTP status instead of an answer.
    #[error("HTTP status {status}")]
    Status {
        /// The status.
        status: u16,
        /// How long the endpoint asks us to wait.
        retry_after: Option<Duration>,
    },
    /// The body is not JSON-RPC.
    #[error("the answer is not JSON-RPC")]
    NotJsonRpc,
    /// The body is longer than [`MAX_RESPONSE_BYTES`].
    #[error("the answer is longer than {MAX_RESPONSE_BYTES} bytes")]
    TooLong,
    /// The batch was refused, not one of its calls.
    #[error("the batch was refused")]
    BatchRefused(#[source] NodeError),
    /// The request for this call alone failed, while other calls of the same batch were answered.
    #[error(transparent)]
    Alone(Box<CallFailure>),
    /// The call was in a batch that failed, and then failed again.
    #[error("{last}, after a batch that failed: {first}")]
    Again {
        /// How the batch failed: it may have taken effect.
        first: Box<CallFailure>,
        /// How the call failed then, surely without effect.
        last: Box<CallFailure>,
    },
    /// The batch's reply has no answer for this call.
    #[error("the call was not answered")]
    Unanswered,
    /// The call was not made, because an earlier call failed.
    #[error("not asked, because an earlier call failed")]
    NotAsked,
    /// The answer does not have the form that this method returns.
    #[error("the answer to {0} is malformed")]
    Malformed(&'static str),
    /// The endpoint serves another chain.
    #[error("the endpoint is on chain {found}, not {expected}")]
    WrongChain {
        /// The configured chain id.
        expected: u64,
        /// The endpoint's chain id.
        found: u64,
    },
}

impl CallFailure {
    /// Whether the call took effect. A node's error may come after the effect, unless it is a rate limit.
    #[must_use]
    pub fn happened(&self) -> Happened {
        match self {
            Self::Node(error) if classify::is_rate_limit(error.code, &error.message) => Happened::No,
            Self::Alone(failure) => failure.happened(),
            Self::Unreachable(_)
            | Self::RateLimited { .. }
            | Self::NotAsked
            | Self::WrongChain { .. }
            // A gateway's refusals. 408 and 499 are timeouts.
            | Self::Status { status: 400..=407 | 409..=498, .. } => Happened::No,
            Self::Node(_)
            | Self::Status { .. }
            | Self::TimedOut
            | Self::Broken(_)
            | Self::NotJsonRpc
            | Self::TooLong
            | Self::BatchRefused(_)
            | Self::Again { .. }
            | Self::Unanswered
            | Self::Malformed(_) => Happened::Unknown,
        }
    }

    /// Whether the request failed as a whole, not one of its calls.
    pub(crate) fn is_of_the_request(&self) -> bool {
        match self {
            Self::Node(_) | Self::Unanswered | Self::Malformed(_) | Self::Alone(_) => false,
            Self::Again { last, .. } => last.is_of_the_request(),
            Self::Unreachable(_)
            | Self::TimedOut
            | Self::Broken(_)
            | Self::RateLimited { .. }
            | Self::Status { .. }
            | Self::NotJsonRpc
            | Self::TooLong
            | Self::BatchRefused(_)
            | Self::NotAsked
            | Self::WrongChain { .. } => true,
        }
    }

    /// Whether a smaller request may succeed. Not if the endpoint asks us to wait, cannot be reached, or timed out.
    pub(crate) fn may_be_of_the_batch(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Status { retry_after: None, .. } | Self::NotJsonRpc | Self::TooLong => true,
            Self::BatchRefused(_) => !self.is_rate_limit(),
            Self::Node(_)
            | Self::Unreachable(_)
            | Self::TimedOut
            | Self::RateLimited { .. }
            | Self::Status { retry_after: Some(_), .. }
            | Self::Alone(_)
            | Self::Again { .. }
            | Self::Unanswered
            | Self::NotAsked
            | Self::Malformed(_)
            | Self::WrongChain { .. } => false,
        }
    }

    /// Whether the endpoint limits our rate, in any of the forms of that answer.
    #[must_use]
    pub fn is_rate_limit(&self) -> bool {
        match self {
            Self::RateLimited { .. } => true,
            Self::Node(error) | Self::BatchRefused(error) => classify::is_rate_limit(error.code, &error.message),
            Self::Alone(last) | Self::Again { last, .. } => last.is_rate_limit(),
            Self::Unreachable(_)
            | Self::TimedOut
            | Self::Broken(_)
            | Self::Status { .. }
            | Self::NotJsonRpc
            | Self::TooLong
            | Self::Unanswered
            | Self::NotAsked
            | Self::Malformed(_)
            | Self::WrongChain { .. } => false,
        }
    }
}

/// The result of one call.
pub(crate) type Answer = Result<Value, CallFailure>;

/// Reads an answer, or fails if it does not have the expected shape.
pub(crate) fn need<T>(
    answer: Answer,
    method: &'static str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Result<T, CallFailure> {
    answer.and_then(|value| read(&value).ok_or(CallFailure::Malformed(method)))
}
