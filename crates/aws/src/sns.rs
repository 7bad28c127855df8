//! The outcome topic: SNS, standard or FIFO.
//!
//! An outcome is published as its JSON, with the attributes `status`, `account` and `chainId` for subscribers'
//! filter policies, and `traceparent` if the request had a trace. On a FIFO topic the group is the account and the
//! deduplication id is the `eventId`. Never decides an outcome.
//!
//! IAM action: `sns:Publish`.

use aws_config::SdkConfig;
use aws_sdk_sns::Client;
use aws_sdk_sns::operation::publish_batch::PublishBatchError;
use aws_sdk_sns::types::{BatchResultErrorEntry, MessageAttributeValue, PublishBatchRequestEntry};
use signpost_txmgr::ports::{OutcomeTopic, PortError};
use signpost_txmgr::text;
use signpost_txmgr::wire::OutcomeMessage;

use crate::batch::{Refused, in_batches};
use crate::clients;
use crate::repeat::Backoff;

/// Upper bound for the names, types and values of the attributes, in bytes: they count towards the size limit.
const ATTRIBUTES_BYTES: usize = 512;

/// The outcome topic. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SnsOutcomeTopic {
    client: Client,
    arn: String,
    backoff: Backoff,
}

impl SnsOutcomeTopic {
    /// The topic `arn`; FIFO if it ends in `.fifo`. Retries and timeouts of `sdk` are not used.
    #[must_use]
    pub fn new(sdk: &SdkConfig, arn: impl Into<String>) -> Self {
        let config = aws_sdk_sns::config::Builder::from(sdk)
            .retry_config(clients::no_retries())
            .timeout_config(clients::timeouts(std::time::Duration::ZERO))
            .build();
        Self::with_client(Client::from_conf(config), arn, Backoff::STANDARD)
    }

    /// The topic on a client without retries of its own.
    #[must_use]
    pub fn with_client(client: Client, arn: impl Into<String>, backoff: Backoff) -> Self {
        Self { client, arn: arn.into(), backoff }
    }
}

struct Message<'a> {
    outcome: &'a OutcomeMessage,
    body: String,
}

impl OutcomeTopic for SnsOutcomeTopic {
    async fn publish(&self, outcomes: &[OutcomeMessage]) -> Vec<Result<(), PortError>> {
        let fifo = self.arn.rsplit('.').next() == Some("fifo");
        let json = |outcome| {
            let body = text::json(outcome).expect("an outcome is strings, numbers and JSON");
            Message { outcome, body }
        };
        let messages: Vec<Message<'_>> = outcomes.iter().map(json).collect();
        let send = |messages: &[&Message<'_>]| {
            let entries = messages.iter().enumerate().map(|(id, message)| entry(id, message, fifo)).collect();
            let request =
                self.client.publish_batch().topic_arn(&self.arn).set_publish_batch_request_entries(Some(entries));
            async move {
                let answer = request.send().await?;
                Ok(answer.failed.unwrap_or_default().into_iter().map(refused).collect())
            }
        };
        let bytes = |message: &Message<'_>| message.body.len().saturating_add(ATTRIBUTES_BYTES);
        in_batches::<_, PublishBatchError, _>(&self.backoff, "PublishBatch", &messages, bytes, send).await
    }
}

fn entry(id: usize, message: &Message<'_>, fifo: bool) -> PublishBatchRequestEntry {
    let Message { outcome, body } = message;
    let mut entry = PublishBatchRequestEntry::builder()
        .id(id.to_string())
        .message(body)
        .message_attributes("status", attribute("String", outcome.status.as_str()));
    if let Some(account) = &outcome.account {
        entry = entry.message_attributes("account", attribute("String", account));
    }
    if let Some(chain_id) = outcome.chain_id {
        entry = entry.message_attributes("chainId", attribute("Number", &chain_id.to_string()));
    }
    if let Some(trace) = &outcome.trace {
        entry = entry.message_attributes("traceparent", attribute("String", trace));
    }
    if fifo {
        // A request with an unknown account has no order relative to others, so it gets a group of its own.
        let group = outcome.account.as_ref().unwrap_or(&outcome.request_id);
        entry = entry.message_group_id(group).message_deduplication_id(&outcome.event_id);
    }
    entry.build().expect("id and message are set")
}

fn attribute(data_type: &str, value: &str) -> MessageAttributeValue {
    let value = text::plain(value);
    MessageAttributeValue::builder().data_type(data_type).string_value(value).build().expect("the type is set")
}

fn refused(entry: BatchResultErrorEntry) -> Refused {
    Refused {
        id: entry.id,
        sender_fault: entry.sender_fault,
        code: entry.code,
        message: entry.message.unwrap_or_default(),
    }
}
