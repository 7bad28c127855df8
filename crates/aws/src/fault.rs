//! Errors of calls to AWS. They say whether the call **took effect**, and whether another try helps. This depends only
//! on the service's error code and the kind of failure, never on the text.
//!
//! Read next: [`crate::repeat`].

use std::error::Error;

use aws_smithy_runtime_api::client::dns::ResolveDnsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::{ConnectorError, SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use signpost_txmgr::ports::{Happened, PortError};
use signpost_txmgr::text::plain;

/// An adapter's error: the source of a [`PortError`].
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// The service answered with an error.
    #[error("HTTP {status} {}: {} (AWS request {request_id})", plain(code), plain(message))]
    Answer {
        /// HTTP status.
        status: u16,
        /// The service's error code.
        code: String,
        /// The service's error message.
        message: String,
        /// AWS's request id, for AWS Support.
        request_id: String,
    },
    /// No connection was made, so nothing was sent.
    #[error("no connection to the service")]
    NotConnected(#[source] Box<dyn Error + Send + Sync>),
    /// The request was sent, or may have been, and no usable answer came.
    #[error("the reply was lost")]
    Lost(#[source] Box<dyn Error + Send + Sync>),
    /// The request could not be built.
    #[error("the request could not be built")]
    NotBuilt(#[source] Box<dyn Error + Send + Sync>),
    /// One entry of a batch was not accepted; the others may have been.
    #[error("an entry of the batch was not accepted, {}: {}", plain(code), plain(message))]
    Entry {
        /// The service's error code.
        code: String,
        /// The service's error message.
        message: String,
    },
    /// An answer lacks a field that the service always sends.
    #[error("the answer has no {0}")]
    Incomplete(&'static str),
    /// The service left this number of keys unprocessed in all tries.
    #[error("{0} keys were left unprocessed")]
    Unprocessed(usize),
    /// A transaction was cancelled for a reason that is not a verdict.
    #[error("the transaction was cancelled, {}: {}", plain(code), plain(message))]
    Cancelled {
        /// The code of the cancellation reason.
        code: String,
        /// The service's error message.
        message: String,
    },
    /// The account is not registered.
    #[error("account {0} is not registered; register it with `signpost account register`")]
    NotRegistered(String),
    /// The account is retired, which is permanent.
    #[error("account {0} is permanently retired; register another key under another name")]
    Retired(String),
    /// A stored item is malformed.
    #[cfg(feature = "dynamodb")]
    #[error("a stored item cannot be read")]
    Item(#[source] crate::item::ItemError),
    /// An error that applies to all entries of a batch.
    #[cfg(any(feature = "sqs", feature = "sns"))]
    #[error(transparent)]
    Shared(std::sync::Arc<AwsError>),
    /// A key cannot be used.
    #[cfg(feature = "kms")]
    #[error(transparent)]
    Key(KeyProblem),
}

/// Why a key cannot be used, and what to do.
#[cfg(feature = "kms")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// `DisabledException`.
    #[error("KMS key {key} is disabled; enable it (aws kms enable-key --key-id {key})")]
    Disabled {
        /// The key.
        key: String,
    },
    /// `KMSInvalidStateException` with this state in its message.
    #[error("KMS key {key} is pending deletion; cancel it (aws kms cancel-key-deletion --key-id {key}) and enable it")]
    PendingDeletion {
        /// The key.
        key: String,
    },
    /// `KMSInvalidStateException` otherwise: pending import, unavailable.
    #[error("KMS key {key} is in a state in which it cannot be used: {message}")]
    State {
        /// The key.
        key: String,
        /// The service's error message, which names the state.
        message: String,
    },
    /// `NotFoundException`.
    #[error("KMS key {key} does not exist in this AWS account and region; see the account's kmsKeyId")]
    NotFound {
        /// The key.
        key: String,
    },
    /// `AccessDeniedException`.
    #[error("KMS key {key} may not be used with these credentials; allow {action} on it")]
    Denied {
        /// The key.
        key: String,
        /// The IAM action.
        action: &'static str,
    },
    /// `InvalidKeyUsageException`, or the usage in the answer to `GetPublicKey`.
    #[error("KMS key {key} is for {found}; make one with key usage SIGN_VERIFY")]
    Usage {
        /// The key.
        key: String,
        /// Its usage.
        found: String,
    },
    /// Another curve, or RSA.
    #[error("KMS key {key} has key spec {found}; make one with key spec ECC_SECG_P256K1")]
    Spec {
        /// The key.
        key: String,
        /// Its spec.
        found: String,
    },
}

/// The kind of an error: whether another try helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The service throttled the call: nothing happened, try later.
    Throttled,
    /// Another write to the same item conflicted: nothing happened, try at once.
    Conflict,
    /// No connection: nothing happened, try again.
    NotConnected,
    /// The reply was lost, or the service failed: the call may have happened. All of our calls may be
    /// repeated.
    Lost,
    /// A final answer of the service: the same call would get the same answer.
    Final,
}

impl FaultKind {
    /// Whether a call that ended with this kind of error took effect.
    #[must_use]
    pub fn happened(self) -> Happened {
        match self {
            Self::Throttled | Self::Conflict | Self::NotConnected | Self::Final => Happened::No,
            Self::Lost => Happened::Unknown,
        }
    }

    /// The name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Conflict => "conflict",
            Self::NotConnected => "notConnected",
            Self::Lost => "lost",
            Self::Final => "final",
        }
    }
}

/// The codes for throttling of DynamoDB, KMS, SQS and SNS. The ones with `...Error` and without a suffix appear in
/// cancellation reasons and batch entries.
const THROTTLES: [&str; 14] = [
    "ThrottlingException",
    "ThrottlingError",
    "Throttling",
    "ThrottledException",
    "ProvisionedThroughputExceededException",
    "ProvisionedThroughputExceeded",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "SlowDown",
    // SQS: too many messages in flight. SQS and SNS: the KMS key of an encrypted queue or topic.
    "OverLimit",
    "KmsThrottled",
    "KMSThrottlingException",
];

/// DynamoDB's codes for a conflict with another call on the same item.
const CONFLICTS: [&str; 2] = ["TransactionConflictException", "TransactionConflict"];

/// The codes of SQS and SNS for refused contents: the size, the characters or a parameter. The cause is not a
/// permission, a key, a queue or a topic.
#[cfg(any(feature = "sqs", feature = "sns"))]
const CONTENTS: [&str; 13] = [
    "BatchRequestTooLong",
    "InvalidBatchEntryId",
    "InvalidMessageContents",
    "InvalidParameter",
    "InvalidParameterValue",
    "InvalidParameterValueException",
    // SNS's model gives `InvalidParameterValue` this name.
    "ParameterValueInvalid",
    "MalformedInput",
    "RequestEntityTooLarge",
    "RequestTooLarge",
    "SerializationException",
    "ValidationError",
    "ValidationException",
];

/// The codes of SQS and SNS for other causes: the caller's permissions, the KMS key of the queue or topic, or a
/// missing queue or topic.
#[cfg(any(feature = "sqs", feature = "sns"))]
const NOT_CONTENTS: [&str; 12] = [
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "InvalidSecurity",
    "KMSAccessDenied",
    "KMSDisabled",
    "KMSInvalidState",
    "KMSNotFound",
    "KMSOptInRequired",
    "NotFound",
    "QueueDoesNotExist",
    "NonExistentQueue",
];

fn bare(code: &str) -> &str {
    // SQS's JSON protocol prefixes its query codes.
    code.strip_prefix("AWS.SimpleQueueService.").unwrap_or(code)
}

/// Whether the whole call was permanently refused because of its contents.
#[cfg(any(feature = "sqs", feature = "sns"))]
pub(crate) fn blames_contents(code: &str) -> bool {
    CONTENTS.contains(&bare(code))
}

/// Whether one entry of an accepted call was permanently refused because of its contents. Unknown codes count as
/// contents, because a problem with a permission or a queue would affect all entries.
#[cfg(any(feature = "sqs", feature = "sns"))]
pub(crate) fn entry_blames_contents(code: &str) -> bool {
    !NOT_CONTENTS.iter().any(|known| known.eq_ignore_ascii_case(&bare(code).replace('.', "")))
}

/// The kind of an error code; `None` if the HTTP status decides.
pub(crate) fn kind_of_code(code: &str) -> Option<FaultKind> {
    let code = bare(code);
    if THROTTLES.contains(&code) {
        Some(FaultKind::Throttled)
    } else if CONFLICTS.contains(&code) {
        Some(FaultKind::Conflict)
    } else if code == "TransactionInProgressException" {
        // An earlier try with the same token is still in progress.
        Some(FaultKind::Lost)
    } else {
        None
    }
}

/// The kind of an SDK error.
#[expect(clippy::match_same_arms, reason = "the SDK's enum is open: an unknown error may mean that the call happened")]
pub(crate) fn kind<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> FaultKind {
    match error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status();
            match answer.err().code().and_then(kind_of_code) {
                Some(kind) => kind,
                None if status.as_u16() == 429 => FaultKind::Throttled,
                // The service failed, or its answer could not be read to the end.
                None if !status.is_client_error() => FaultKind::Lost,
                None => FaultKind::Final,
            }
        }
        SdkError::ConstructionFailure(_) => FaultKind::Final,
        SdkError::DispatchFailure(failure) if failure.is_user() => FaultKind::Final,
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(error) if never_connected(error) => FaultKind::NotConnected,
            Some(_) | None => FaultKind::Lost,
        },
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => FaultKind::Lost,
        _ => FaultKind::Lost,
    }
}

/// Whether the failure came before the first byte of the request: no address, refused, no handshake, or a timeout.
fn never_connected(error: &ConnectorError) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        let connecting = error.downcast_ref().is_some_and(hyper_util::client::legacy::Error::is_connect);
        let refused =
            error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused);
        if connecting || refused || error.is::<ResolveDnsError>() {
            return true;
        }
        next = error.source();
    }
    false
}

impl AwsError {
    /// The SDK's error without its layers.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the SDK's enum is open: an unknown error may have had an effect"
    )]
    pub(crate) fn of<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match error {
            SdkError::ServiceError(answer) => {
                let raw = answer.raw();
                let id = ["x-amzn-requestid", "x-amz-request-id"].iter().find_map(|name| raw.headers().get(*name));
                Self::Answer {
                    status: raw.status().as_u16(),
                    code: answer.err().code().unwrap_or("(no code)").to_owned(),
                    message: answer.err().message().unwrap_or("(no message)").to_owned(),
                    request_id: id.unwrap_or("unknown").to_owned(),
                }
            }
            SdkError::ConstructionFailure(_) => Self::NotBuilt(error.into_source().unwrap_or_else(Box::from)),
            SdkError::DispatchFailure(ref failure) => {
                let not_built = failure.is_user();
                let not_connected = failure.as_connector_error().is_some_and(never_connected);
                let source = error.into_source().unwrap_or_else(Box::from);
                if not_built {
                    Self::NotBuilt(source)
                } else if not_connected {
                    Self::NotConnected(source)
                } else {
                    Self::Lost(source)
                }
            }
            error => Self::Lost(error.into_source().unwrap_or_else(Box::from)),
        }
    }

    #[cfg(any(feature = "sqs", feature = "sns"))]
    /// Code and message of an answer that refuses the call's contents.
    pub(crate) fn refused_contents(&self) -> Option<(&str, &str)> {
        let Self::Answer { code, message, .. } = self else { return None };
        blames_contents(code).then_some((code, message))
    }

    #[cfg(feature = "dynamodb")]
    /// The error of a call that had no effect, for this reason.
    pub(crate) fn did_not_happen(self, operation: &'static str) -> PortError {
        PortError { operation, happened: Happened::No, throttled: false, source: Box::new(self) }
    }

    #[cfg(any(feature = "kms", feature = "secrets"))]
    /// The error of a call that took effect but whose answer cannot be used, for this reason.
    pub(crate) fn unusable(self, operation: &'static str) -> PortError {
        PortError { operation, happened: Happened::Yes, throttled: false, source: Box::new(self) }
    }
}
