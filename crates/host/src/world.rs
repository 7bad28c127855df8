//! The real ports both stages have, as the configuration names them. Keys are the signer's alone, the
//! chain is the broadcaster's.

use std::time::Duration;

use signpost_aws::inbox::SqsInbox;
use signpost_aws::receiver::Receiver;
use signpost_aws::sns::SnsOutcomeTopic;
use signpost_aws::sqs::{SqsBroadcastQueue, SqsResignQueue};
use signpost_aws::store::{DynamoStore, Tables};

use crate::config::Shared;
use crate::session::Session;

/// Requests, accounts and slots.
pub fn store(session: &Session<impl Shared>) -> DynamoStore {
    let tables = session.config.tables();
    let tables = Tables { requests: tables.requests.clone(), accounts: tables.accounts.clone() };
    DynamoStore::new(&session.sdk, tables)
}

/// From the signer to the broadcaster.
pub fn broadcast_queue(session: &Session<impl Shared>) -> SqsBroadcastQueue {
    SqsBroadcastQueue::new(&session.sdk, &session.config.queues().broadcast_url)
}

/// From the broadcaster to the signer.
pub fn resign_queue(session: &Session<impl Shared>) -> SqsResignQueue {
    SqsResignQueue::new(&session.sdk, &session.config.queues().resign_url)
}

/// Where outcomes go.
pub fn topic(session: &Session<impl Shared>) -> SnsOutcomeTopic {
    SnsOutcomeTopic::new(&session.sdk, session.config.outcomes_arn())
}

/// A queue to consume.
pub fn inbox(session: &Session, queue_url: &str) -> SqsInbox {
    let held = Duration::from_secs(session.config.worker.visibility_s);
    SqsInbox::new(Receiver::new(&session.sdk, queue_url), held)
}
