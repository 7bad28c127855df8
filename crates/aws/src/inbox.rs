//! The consumer's side of an SQS queue: long polling, and the same visibility timeout for every message.
//!
//! The port and its promises: [`signpost_txmgr::inbox`]. The calls: [`crate::receiver`].

use std::time::Duration;

use signpost_txmgr::inbox::{Inbox, Incoming};
use signpost_txmgr::ports::PortError;

use crate::receiver::{LONG_POLL, RECEIVE_MAX, Receiver};

/// The consumer's side of an SQS queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SqsInbox {
    receiver: Receiver,
    wait: Duration,
    held: Duration,
}

impl SqsInbox {
    /// A queue whose received messages are held for `held`. A receive waits for at most [`LONG_POLL`].
    #[must_use]
    pub fn new(receiver: Receiver, held: Duration) -> Self {
        Self { receiver, wait: LONG_POLL, held }
    }

    /// Replaces the maximum wait of one receive.
    #[must_use]
    pub fn waiting(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }
}

impl Inbox for SqsInbox {
    async fn receive(&self) -> Result<Vec<Incoming>, PortError> {
        self.receiver.receive(RECEIVE_MAX, self.wait, Some(self.held)).await
    }

    async fn delete(&self, receipts: &[&str]) -> Result<(), PortError> {
        self.receiver.delete(receipts).await.into_iter().collect()
    }

    async fn hold(&self, receipts: &[&str], time: Duration) -> Result<(), PortError> {
        self.receiver.set_visibility(receipts, time).await.into_iter().collect()
    }
}
