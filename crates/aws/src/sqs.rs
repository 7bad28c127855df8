//! The queues between the stages: pokes over SQS, FIFO by account. A standard queue works too.
//!
//! A poke's body is its JSON. On a FIFO queue the group is the account, so that one worker at a time handles a
//! lane, and the deduplication id is the hash of the body. So the same poke within five minutes is one message, even
//! if it was handled and deleted in the meantime; a poke with another cause is another message.
//! [`signpost_txmgr::poke`] explains which pokes are equal and why none is missed. Never carries a request.
//!
//! IAM action: `sqs:SendMessage`. Read next: [`crate::receiver`].

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::operation::send_message_batch::SendMessageBatchError;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use serde::Serialize;
use signpost_txmgr::inbox::is_fifo;
use signpost_txmgr::ports::{BroadcastQueue, PortError, ResignQueue};
use signpost_txmgr::text;
use signpost_txmgr::units::{Digest, sha256};
use signpost_txmgr::wire::{LanePoke, SignerPoke, hex_digest};

use crate::batch::{Refused, in_batches};
use crate::clients;
use crate::repeat::Backoff;

/// A queue to send to. Cheap to clone.
#[derive(Debug, Clone)]
struct Outbox {
    client: Client,
    url: String,
    backoff: Backoff,
}

/// The queue from the signer to the broadcaster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SqsBroadcastQueue(Outbox);

/// The queue from the broadcaster to the signer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SqsResignQueue(Outbox);

impl SqsBroadcastQueue {
    /// The queue at `url`; FIFO if it ends in `.fifo`. Retries and timeouts of `sdk` are not used.
    #[must_use]
    pub fn new(sdk: &SdkConfig, url: impl Into<String>) -> Self {
        Self::with_client(client(sdk), url, Backoff::STANDARD)
    }

    /// The queue on a client without retries of its own.
    #[must_use]
    pub fn with_client(client: Client, url: impl Into<String>, backoff: Backoff) -> Self {
        Self(Outbox { client, url: url.into(), backoff })
    }
}

impl SqsResignQueue {
    /// The queue at `url`; FIFO if it ends in `.fifo`. Retries and timeouts of `sdk` are not used.
    #[must_use]
    pub fn new(sdk: &SdkConfig, url: impl Into<String>) -> Self {
        Self::with_client(client(sdk), url, Backoff::STANDARD)
    }

    /// The queue on a client without retries of its own.
    #[must_use]
    pub fn with_client(client: Client, url: impl Into<String>, backoff: Backoff) -> Self {
        Self(Outbox { client, url: url.into(), backoff })
    }
}

impl BroadcastQueue for SqsBroadcastQueue {
    async fn poke_lanes(&self, pokes: &[LanePoke]) -> Result<(), PortError> {
        self.0.send(pokes.iter().map(|poke| Message::new(&poke.account, poke)).collect()).await
    }
}

impl ResignQueue for SqsResignQueue {
    async fn poke_signer(&self, pokes: &[SignerPoke]) -> Result<(), PortError> {
        self.0.send(pokes.iter().map(|poke| Message::new(&poke.account, poke)).collect()).await
    }
}

struct Message {
    group: String,
    body: String,
}

impl Message {
    fn new(group: &str, poke: &impl Serialize) -> Self {
        let body = text::json(poke).expect("a poke is strings and numbers");
        Self { group: group.to_owned(), body }
    }
}

impl Outbox {
    /// Sends all messages. The error is that of the first one that was not accepted; the others may have been.
    async fn send(&self, messages: Vec<Message>) -> Result<(), PortError> {
        let fifo = is_fifo(&self.url);
        let send = |messages: &[&Message]| {
            let entries = messages.iter().enumerate().map(|(id, message)| entry(id, message, fifo)).collect();
            let request = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries));
            async move { request.send().await.map(|answer| answer.failed.into_iter().map(refused).collect()) }
        };
        let bytes = |message: &Message| message.body.len();
        let answers =
            in_batches::<_, SendMessageBatchError, _>(&self.backoff, "SendMessageBatch", &messages, bytes, send);
        answers.await.into_iter().collect()
    }
}

fn entry(id: usize, message: &Message, fifo: bool) -> SendMessageBatchRequestEntry {
    let entry = SendMessageBatchRequestEntry::builder().id(id.to_string()).message_body(&message.body);
    let entry = if fifo {
        let hash = hex_digest(&Digest(sha256(message.body.as_bytes())));
        entry.message_group_id(&message.group).message_deduplication_id(hash)
    } else {
        entry
    };
    entry.build().expect("id and body are set")
}

pub(crate) fn refused(entry: aws_sdk_sqs::types::BatchResultErrorEntry) -> Refused {
    Refused {
        id: entry.id,
        sender_fault: entry.sender_fault,
        code: entry.code,
        message: entry.message.unwrap_or_default(),
    }
}

pub(crate) fn client(sdk: &SdkConfig) -> Client {
    let config = aws_sdk_sqs::config::Builder::from(sdk)
        .retry_config(clients::no_retries())
        .timeout_config(clients::timeouts(std::time::Duration::ZERO))
        .build();
    Client::from_conf(config)
}
