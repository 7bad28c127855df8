//! The real ports, as the configuration names them. The only place that knows which adapter stands
//! behind a port.

use std::time::Duration;

use signpost_aws::kms::KmsKeys;
use signpost_aws::receiver::{LONG_POLL, RECEIVE_MAX, Received, Receiver};
use signpost_aws::sns::SnsOutcomeTopic;
use signpost_aws::sqs::{SqsBroadcastQueue, SqsResignQueue};
use signpost_aws::store::{DynamoStore, Tables};
use signpost_bsc::chain::{BscChain, BscConfig};
use signpost_bsc::endpoints::SendTo as SendToEndpoints;
use signpost_bsc::private::{Authorization, PrivateEndpoint, PrivateShape};
use signpost_txmgr::ports::PortError;
use signpost_txmgr::units::{ChainId, U256, Wei};

use crate::command::{CommandError, Session, told};
use crate::config::{self, SendTo};
use crate::worker::inbox::{Inbox, Incoming};

/// Requests, accounts and slots.
pub fn store(session: &Session) -> DynamoStore {
    let tables = &session.config.tables;
    let tables = Tables { requests: tables.requests.clone(), accounts: tables.accounts.clone() };
    DynamoStore::new(&session.sdk, tables)
}

/// The accounts' keys.
pub fn keys(session: &Session) -> KmsKeys {
    KmsKeys::new(&session.sdk)
}

/// From the signer to the broadcaster.
pub fn broadcast_queue(session: &Session) -> SqsBroadcastQueue {
    SqsBroadcastQueue::new(&session.sdk, &session.config.queues.broadcast_url)
}

/// From the broadcaster to the signer.
pub fn resign_queue(session: &Session) -> SqsResignQueue {
    SqsResignQueue::new(&session.sdk, &session.config.queues.resign_url)
}

/// Where outcomes go.
pub fn topic(session: &Session) -> SnsOutcomeTopic {
    SnsOutcomeTopic::new(&session.sdk, &session.config.outcomes_arn)
}

/// The chain. Connects to nothing yet.
pub fn chain(session: &Session) -> Result<BscChain, CommandError> {
    // Only the first call in a process counts; every caller installs the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let chain = &session.config.chain;
    let send_to = match chain.send_to {
        SendTo::All => SendToEndpoints::All,
        SendTo::First => SendToEndpoints::First,
    };
    let endpoints = chain.private.iter().flat_map(|private| &private.endpoints).zip(1..);
    let config = BscConfig {
        private: endpoints.map(|(endpoint, number)| private_endpoint(endpoint, number)).collect::<Result<_, _>>()?,
        private_only: chain.private.as_ref().is_none_or(|private| private.only),
        send_to,
        fee_floor: Wei::from(chain.fee_floor_wei),
        fee_ceiling: chain.fee_ceiling_wei.map_or(Wei(U256::MAX), Wei::from),
        ..BscConfig::new(ChainId(chain.chain_id), chain.rpc_urls.clone())
    };
    BscChain::new(&config).map_err(|error| CommandError::Input(format!("[chain]: {}", told(&error))))
}

/// A private endpoint with its secret, which is in the environment and nowhere else.
fn private_endpoint(endpoint: &config::PrivateEndpoint, number: usize) -> Result<PrivateEndpoint, CommandError> {
    let wrong = |problem: &str| {
        let place = format!("chain.private[{number}]: the environment variable of authorization_env");
        CommandError::Input(format!("{place} {problem}"))
    };
    let value = std::env::var(&endpoint.authorization_env).map_err(|_| wrong("is not set"))?;
    let authorization = Authorization::new(&value).map_err(|error| wrong(&error.to_string()))?;
    let shape = match endpoint.shape {
        config::PrivateShape::Bloxroute => PrivateShape::Bloxroute { mev_builders: endpoint.mev_builders.clone() },
    };
    Ok(PrivateEndpoint { url: endpoint.url.clone(), shape, authorization: Some(authorization) })
}

/// The consumer's side of a queue on SQS; received messages are ours for so long.
#[derive(Debug, Clone)]
pub struct SqsInbox {
    receiver: Receiver,
    held: Duration,
}

/// A queue to consume.
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
