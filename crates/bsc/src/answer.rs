//! A call, and what comes of it: an answer, or a failure that says whether the call took effect.
//!
//! Read next: [`crate::rpc`].

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use signpost_txmgr::ports::Happened;
use signpost_txmgr::text;

use crate::classify;

/// Most bytes of an answer's body: nodes stop at 25 MB themselves.
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
#[error("the node says: {} (code {code})", text::plain(message))]
pub struct NodeError {
    /// JSON-RPC error code; 0 if there was none.
    pub code: i64,
    /// The node's words as they came: they are classified by them, and shown only through `Display`.
    pub message: String,
    /// What came with them.
    pub data: Option<Value>,
}

/// Why there is no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The node answered with an error.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// No connection came about.
    #[error("no connection")]
    Unreachable(#[source] Arc<reqwest::Error>),
    /// The answer did not come in time.
    #[error("no answer in time")]
    TimedOut,
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] Arc<reqwest::Error>),
    /// The endpoint wants fewer calls.
    #[error("the endpoint limits our rate")]
    RateLimited {
        /// How long it wants us to wait.
        retry_after: Option<Duration>,
    },
    /// An HTTP status in place of an answer.
    #[error("HTTP status {status}")]
    Status {
        /// The status.
        status: u16,
        /// How long the endpoint wants us to wait.
        retry_after: Option<Duration>,
    },
    /// The body is not JSON-RPC.
    #[error("the answer is not JSON-RPC")]
    NotJsonRpc,
    /// The body is too long to be read.
    #[error("the answer is longer than {MAX_RESPONSE_BYTES} bytes")]
    TooLong,
    /// The batch was refused, not a call of it.
    #[error("the batch was refused")]
    BatchRefused(#[source] NodeError),
    /// The request for this call alone failed, while others beside it were answered.
    #[error(transparent)]
    Alone(Box<Failure>),
    /// The call was in a batch that failed, and then failed again.
    #[error("{last}, after a batch that failed: {first}")]
    Again {
        /// How the batch failed: it may have taken effect.
        first: Box<Failure>,
        /// How the call failed then, surely without effect.
        last: Box<Failure>,
    },
    /// The batch's answer has none for this call.
    #[error("the call was not answered")]
    Unanswered,
    /// The call was not made, because one before it failed.
    #[error("not asked, for an earlier call failed")]
    NotAsked,
    /// The answer is not what this method gives.
    #[error("the answer to {0} makes no sense")]
    Nonsense(&'static str),
    /// The endpoint is of another chain.
    #[error("the endpoint is of chain {found}, not {expected}")]
    WrongChain {
        /// Ours.
        expected: u64,
        /// The endpoint's.
        found: u64,
    },
}

impl Failure {
    /// Whether the call took effect. Other errors of a node than these may come after the effect.
    #[must_use]
    pub fn happened(&self) -> Happened {
        match self {
            Self::Node(error) if classify::is_rate_limit(error.code, &error.message) => Happened::No,
            Self::Alone(failure) => failure.happened(),
            Self::Unreachable(_)
            | Self::RateLimited { .. }
            | Self::NotAsked
            | Self::WrongChain { .. }
            // A gateway's refusal; 408 and 499 are its timeouts.
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
            | Self::Nonsense(_) => Happened::Unknown,
        }
    }

    /// The request as a whole failed, not one call of it.
    pub(crate) fn is_of_the_request(&self) -> bool {
        match self {
            Self::Node(_) | Self::Unanswered | Self::Nonsense(_) | Self::Alone(_) => false,
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

    /// A smaller request may fare better. Not where the endpoint wants to be left alone, or is not there; and
    /// never is a wait repeated that was in vain.
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
            | Self::Nonsense(_)
            | Self::WrongChain { .. } => false,
        }
    }

    /// The endpoint wants fewer calls, in whatever way it said so.
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
            | Self::Nonsense(_)
            | Self::WrongChain { .. } => false,
        }
    }
}

/// What became of one call.
pub(crate) type Answer = Result<Value, Failure>;

/// The answer as what it must be.
pub(crate) fn need<T>(
    answer: Answer,
    method: &'static str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Result<T, Failure> {
    answer.and_then(|value| read(&value).ok_or(Failure::Nonsense(method)))
}
