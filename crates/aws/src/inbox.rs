//! A queue on SQS as a worker consumes it: long polling, and every message held for the same time.
//!
//! The port and its promises: [`signpost_txmgr::inbox`]. The calls: [`crate::receiver`].

use std::time::Duration;

use signpost_txmgr::inbox::{Inbox, Incoming};
use signpost_txmgr::ports::PortError;

use crate::receiver::{LONG_POLL, RECEIVE_MAX, Receiver};

/// The consumer's side of a queue on SQS. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SqsInbox {
    receiver: Receiver,
    wait: Duration,
    held: Duration,
}

impl SqsInbox {
    /// A queue whose received messages are ours for `held`; a receive waits for [`LONG_POLL`].
    #[must_use]
    pub fn new(receiver: Receiver, held: Duration) -> Self {
        Self { receiver, wait: LONG_POLL, held }
    }

    /// The same with another longest wait of one receive.
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
