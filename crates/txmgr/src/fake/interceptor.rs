//! Fault injection: every call of the fakes passes an [`Interceptor`], and a [`FaultSource`] decides the [`Fate`] of
//! each call.
//!
//! Read next: [`super::store`].

use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::BoxFuture;

use crate::ports::{Happened, PortError};
use crate::text;

/// The result of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It takes effect and its reply arrives.
    Pass,
    /// It does not take effect and fails with this error.
    Fail {
        /// What is reported to the caller: `No` or `Unknown`, never `Yes`.
        happened: Happened,
        /// Whether the service throttled the call.
        throttled: bool,
    },
    /// It takes effect and the reply is lost: `Unknown` is reported to the caller.
    LoseReply,
    /// The caller dies before the call takes effect: the future stays pending forever.
    DieBefore,
    /// The caller dies after the call took effect: the future stays pending forever.
    DieAfter,
    /// For a send: the node reports success and drops the transaction. Otherwise like `Pass`.
    Swallow,
    /// For a reservation: it fails because of another transaction on one of its items (`TransactionConflict`).
    /// Otherwise like `Pass`.
    Contend,
}

/// Decides the results of calls.
pub trait FaultSource: Send + Sync + fmt::Debug {
    /// The fate of the next call, by the name of the operation in the service's API.
    fn fate(&self, operation: &'static str) -> Fate;

    /// A future to wait for before the call takes effect. `None`: no delay.
    fn wait(&self, operation: &'static str) -> Option<BoxFuture<'static, ()>> {
        let _ = operation;
        None
    }

    /// The fate of one entry of a batch whose call passes: `Pass`, `Fail` or `LoseReply`.
    fn entry_fate(&self, operation: &'static str) -> Fate {
        let _ = operation;
        Fate::Pass
    }

    /// Whether the topic or queue permanently refuses this body. The result must depend only on the body, so that a
    /// refused body is refused again.
    fn refuses(&self, operation: &'static str, body: &str) -> bool {
        let _ = (operation, body);
        false
    }
}

/// The interceptor for the calls of one fake. Without a fault source, they complete at once.
#[derive(Debug, Clone, Default)]
pub struct Interceptor(Option<Arc<dyn FaultSource>>);

/// Why a call did not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FakeFault {
    /// The fault source made it fail.
    #[error("the fault source made the call fail")]
    Injected,
    /// The key does not exist.
    #[error("NotFoundException: no such key")]
    NoKey,
    /// The key is disabled.
    #[error("DisabledException: the key is disabled")]
    KeyDisabled,
    /// The key is scheduled for deletion.
    #[error("KMSInvalidStateException: the key is pending deletion")]
    KeyPendingDeletion,
    /// The caller has no permission for the key.
    #[error("AccessDeniedException: the caller may not use the key")]
    KeyDenied,
    /// A stored item is malformed.
    #[error("the stored item cannot be read")]
    Unreadable,
    /// The service refuses the request.
    #[error("ValidationException: {0}")]
    Validation(&'static str),
}

/// A call that passed the interceptor and has not replied yet.
#[derive(Debug)]
#[must_use]
pub(super) struct Pass {
    operation: &'static str,
    fate: Fate,
}

impl Interceptor {
    /// An interceptor with a fault source: every call yields once, then its fate is applied.
    #[must_use]
    pub fn with(faults: Arc<dyn FaultSource>) -> Self {
        Self(Some(faults))
    }

    /// Returns when the call may take effect.
    pub(super) async fn enter(&self, operation: &'static str) -> Result<Pass, PortError> {
        let Some(faults) = &self.0 else { return Ok(Pass { operation, fate: Fate::Pass }) };
        yield_once().await;
        if let Some(wait) = faults.wait(operation) {
            wait.await;
        }
        let fate = faults.fate(operation);
        match fate {
            Fate::Fail { happened, throttled } => Err(failed(operation, happened, throttled)),
            Fate::DieBefore => pending().await,
            Fate::Pass | Fate::LoseReply | Fate::DieAfter | Fate::Swallow | Fate::Contend => {
                Ok(Pass { operation, fate })
            }
        }
    }

    /// The fate of one entry of a batch.
    pub(super) fn entry(&self, operation: &'static str) -> Fate {
        self.0.as_ref().map_or(Fate::Pass, |faults| faults.entry_fate(operation))
    }

    /// Checks that SQS or SNS accepts this body with attributes of this size, and that the fault source does not
    /// refuse it.
    pub(super) fn takes(&self, operation: &'static str, body: &str, attributes_bytes: usize) -> Result<(), PortError> {
        let refused = |code, words: &str| Err(PortError::refused_for_good(operation, code, words));
        if body.len().saturating_add(attributes_bytes) > text::MAX_MESSAGE_BYTES {
            return refused("InvalidParameter", "Message too long");
        }
        if let Some(character) = text::unsendable(body) {
            return refused("InvalidMessageContents", &format!("U+{:04X} is not allowed", u32::from(character)));
        }
        if self.0.as_ref().is_some_and(|faults| faults.refuses(operation, body)) {
            return refused("InvalidParameter", "by the fault source");
        }
        Ok(())
    }
}

impl Pass {
    /// Returns the reply, unless it is lost or the caller dies.
    pub(super) async fn reply<T>(self, value: T) -> Result<T, PortError> {
        match self.fate {
            Fate::LoseReply => Err(failed(self.operation, Happened::Unknown, false)),
            Fate::DieAfter => pending().await,
            Fate::Pass | Fate::Swallow | Fate::Contend | Fate::DieBefore | Fate::Fail { .. } => Ok(value),
        }
    }

    pub(super) fn fate(&self) -> Fate {
        self.fate
    }
}

pub(super) fn failed(operation: &'static str, happened: Happened, throttled: bool) -> PortError {
    PortError { operation, happened, throttled, source: Box::new(FakeFault::Injected) }
}

pub(super) fn refused(operation: &'static str, fault: FakeFault) -> PortError {
    PortError { operation, happened: Happened::No, throttled: false, source: Box::new(fault) }
}

/// Yields once, so that other futures can run.
fn yield_once() -> impl Future<Output = ()> {
    let mut yielded = false;
    poll_fn(move |context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
}
