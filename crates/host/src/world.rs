//! The real ports of both stages, according to the configuration. Only the signer has keys, only the
//! broadcaster has the chain.

use std::time::Duration;

use signpost_aws::receiver::{LONG_POLL, RECEIVE_MAX, Received, Receiver};
use signpost_aws::sns::SnsOutcomeTopic;
use signpost_aws::sqs::{SqsBroadcastQueue, SqsResignQueue};
use signpost_aws::store::{DynamoStore, TableNames};
use signpost_txmgr::ports::PortError;

use crate::config::StageSettings;
use crate::inbox::{Inbox, Incoming};
use crate::session::Session;

/// The store of requests, accounts and slots.
pub fn store(session: &Session<impl StageSettings>) -> DynamoStore {
    let tables = session.config.tables();
    let tables = TableNames { requests: tables.requests.clone(), accounts: tables.accounts.clone() };
    DynamoStore::new(&session.sdk, tables)
}

/// The queue from the signer to the broadcaster.
pub fn broadcast_queue(session: &Session<impl StageSettings>) -> SqsBroadcastQueue {
    SqsBroadcastQueue::new(&session.sdk, &session.config.queues().broadcast_url)
}

/// The queue from the broadcaster to the signer.
pub fn resign_queue(session: &Session<impl StageSettings>) -> SqsResignQueue {
    SqsResignQueue::new(&session.sdk, &session.config.queues().resign_url)
}

/// The topic for outcomes.
pub fn topic(session: &Session<impl StageSettings>) -> SnsOutcomeTopic {
    SnsOutcomeTopic::new(&session.sdk, session.config.outcomes_arn())
}

/// The consumer's side of an SQS queue. Received messages are held for `held`.
#[derive(Debug, Clone)]
pub struct SqsInbox {
    receiver: Receiver,
    held: Duration,
}

/// The consumer's side of a queue.
pub fn inbox(session: &Session, queue_url: &str) -> SqsInbox {
    let held = Duration::from_secs(session.config.worker.visibility_s);
    SqsInbox { receiver: Receiver::new(&session.sdk, queue_url), held }
}

impl Inbox for SqsInbox {
    async fn receive(&self) -> Result<Vec<Incoming>, PortError> {
        let received = self.receiver.receive(RECEIVE_MAX, LONG_POLL, Some(self.held)).await?;
        Ok(received.into_iter().map(incoming).collect())
    }

    async fn delete(&self, receipts: &[&str]) -> Result<(), PortError> {
        self.receiver.delete(receipts).await.into_iter().collect()
    }

    async fn hold(&self, receipts: &[&str], time: Duration) -> Result<(), PortError> {
        self.receiver.set_visibility(receipts, time).await.into_iter().collect()
    }
}

fn incoming(received: Received) -> Incoming {
    Incoming {
        receipt: received.receipt_handle,
        message_id: received.message_id,
        group: received.group,
        sender: received.sender,
        trace: received.trace,
        receives: received.receive_count,
        body: received.body,
    }
}
