//! The real ports of both stages, according to the configuration. Only the signer has keys, only the
//! broadcaster has the chain.

use std::time::Duration;

use signpost_aws::inbox::SqsInbox;
use signpost_aws::receiver::Receiver;
use signpost_aws::sns::SnsOutcomeTopic;
use signpost_aws::sqs::{SqsBroadcastQueue, SqsResignQueue};
use signpost_aws::store::{DynamoStore, TableNames};

use crate::config::StageSettings;
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

/// The consumer's side of a queue.
pub fn inbox(session: &Session, queue_url: &str) -> SqsInbox {
    let held = Duration::from_secs(session.config.worker.visibility_s);
    SqsInbox::new(Receiver::new(&session.sdk, queue_url), held)
}
