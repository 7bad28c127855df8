//! The gate every call of the fakes passes, and the weather behind it.
//!
//! Decides nothing by itself: a [`Weather`] says what becomes of each call. Read next:
//! [`super::store`].

use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::BoxFuture;

use crate::ports::{Happened, PortError};
use crate::text;

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It takes effect and its reply arrives.
    Pass,
    /// It does not take effect; the caller learns as much as `happened` says, which is never `Yes`.
    Fail {
        /// What is reported to the caller: `No` or `Unknown`.
        happened: Happened,
        /// The service asked to slow down.
        throttled: bool,
    },
    /// It takes effect and the reply is lost: the caller learns "unknown".
    LoseReply,
    /// The caller never gets to make it: the future stays pending for good.
    DieBefore,
    /// It takes effect and the caller never sees it: the future stays pending for good.
    DieAfter,
    /// For a send: the node reports success and forgets the transaction. Else as `Pass`.
    Swallow,
    /// For a reservation: another transaction is on one of its items (`TransactionConflict`), and it did not
    /// happen. Else as `Pass`.
    Contend,
}

/// Who says what becomes of the calls.
pub trait Weather: Send + Sync + fmt::Debug {
    /// The fate of a call that is about to be made, by its name in the service's API.
    fn fate(&self, operation: &'static str) -> Fate;

    /// How long a call takes before it has its effect; `None`: no time.
    fn wait(&self, operation: &'static str) -> Option<BoxFuture<'static, ()>> {
        let _ = operation;
        None
    }

    /// The fate of one entry of a batch whose call passes: `Pass`, `Fail` or `LoseReply`.
    fn entry_fate(&self, operation: &'static str) -> Fate {
        let _ = operation;
        Fate::Pass
    }

    /// Whether the topic or queue refuses this body for good, whatever it holds. To be decided by the body alone:
    /// what is refused once is refused again.
    fn refuses(&self, operation: &'static str, body: &str) -> bool {
        let _ = (operation, body);
        false
    }
}

/// Where the calls of one fake pass. Without a weather they complete at once.
#[derive(Debug, Clone, Default)]
pub struct Gate(Option<Arc<dyn Weather>>);

/// Why a call did not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FakeFault {
    /// The weather made it fail.
    #[error("the weather made the call fail")]
    Weather,
    /// The key does not exist.
    #[error("NotFoundException: no such key")]
    NoKey,
    /// The key is disabled.
    #[error("DisabledException: the key is disabled")]
    KeyDisabled,
    /// The key is scheduled for deletion.
    #[error("KMSInvalidStateException: the key is pending deletion")]
    KeyPendingDeletion,
    /// The caller has no right to the key.
    #[error("AccessDeniedException: the caller may not use the key")]
    KeyDenied,
    /// A stored item does not have the shape it should have.
    #[error("the stored item cannot be read")]
    Unreadable,
    /// The request is one the service refuses.
    #[error("ValidationException: {0}")]
    Validation(&'static str),
}

/// A call that passed the gate and still owes its reply.
#[derive(Debug)]
#[must_use]
pub(super) struct Pass {
    operation: &'static str,
    fate: Fate,
}

impl Gate {
    /// A gate with a weather: every call yields once and then meets its fate.
    #[must_use]
    pub fn with(weather: Arc<dyn Weather>) -> Self {
        Self(Some(weather))
    }

    /// Comes back when the call may take effect.
    pub(super) async fn enter(&self, operation: &'static str) -> Result<Pass, PortError> {
        let Some(weather) = &self.0 else { return Ok(Pass { operation, fate: Fate::Pass }) };
        yield_once().await;
        if let Some(wait) = weather.wait(operation) {
            wait.await;
        }
        let fate = weather.fate(operation);
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
        self.0.as_ref().map_or(Fate::Pass, |weather| weather.entry_fate(operation))
    }

    /// Whether SQS or SNS takes such a body with this many bytes of attributes, and whether the weather lets it
    /// through.
    pub(super) fn takes(&self, operation: &'static str, body: &str, attributes_bytes: usize) -> Result<(), PortError> {
        let refused = |code, words: &str| Err(PortError::refused_for_good(operation, code, words));
        if body.len().saturating_add(attributes_bytes) > text::MAX_MESSAGE_BYTES {
            return refused("InvalidParameter", "Message too long");
        }
        if let Some(character) = text::unsendable(body) {
            return refused("InvalidMessageContents", &format!("U+{:04X} is not allowed", u32::from(character)));
        }
        if self.0.as_ref().is_some_and(|weather| weather.refuses(operation, body)) {
            return refused("InvalidParameter", "by the weather");
        }
        Ok(())
    }
}

impl Pass {
    /// Hands the reply over, unless it is lost.
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
    PortError { operation, happened, throttled, source: Box::new(FakeFault::Weather) }
}

pub(super) fn refused(operation: &'static str, fault: FakeFault) -> PortError {
    PortError { operation, happened: Happened::No, throttled: false, source: Box::new(fault) }
}

/// Gives every other future a turn.
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
