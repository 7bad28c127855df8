//! A queue as a worker sees it: messages that are ours for a while, to be deleted, held longer, or
//! given back.
//!
//! Guarantees nothing beyond SQS: a message may come twice, and one that is not deleted comes again.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName,
};

use crate::aws::reason;

/// Messages of one call, the most SQS has.
pub const BATCH_MAX: usize = 10;
/// The longest SQS lets a receive wait: fewer empty answers to pay for.
const WAIT_S: i32 = 20;
/// Patience with any other call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A message that is ours for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// What deletes or holds it.
    pub receipt: String,
    /// The same on every delivery.
    pub message_id: String,
    /// The FIFO group.
    pub group: Option<String>,
    /// `SenderId`, SQS's own word on who sent it.
    pub sender: Option<String>,
    /// `AWSTraceHeader`, or the attribute `traceparent`.
    pub trace: Option<String>,
    /// Which delivery this is, from 1.
    pub receives: u32,
    /// The text.
    pub body: String,
}

/// A queue did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed: {reason}")]
pub struct InboxError {
    /// The call.
    pub operation: &'static str,
    /// What SQS said, or why it did not.
    pub reason: String,
}

/// The consumer's side of a queue.
pub trait Inbox: Send + Sync + 'static {
    /// Waits for messages, some seconds at most.
    fn receive(&self) -> impl Future<Output = Result<Vec<Incoming>, InboxError>> + Send;

    /// Deletes messages: their effect is stored.
    fn delete(&self, receipts: &[String]) -> impl Future<Output = Result<(), InboxError>> + Send;

    /// Keeps messages from others for so many seconds from now; 0 gives them back.
    fn hold(&self, receipts: &[(String, u32)]) -> impl Future<Output = Result<(), InboxError>> + Send;
}

/// A queue on SQS.
#[derive(Debug, Clone)]
pub struct SqsInbox {
    sqs: aws_sdk_sqs::Client,
    queue_url: String,
    held_s: u32,
}

impl SqsInbox {
    /// A queue whose messages are ours for `held_s` seconds, whatever its own setting is.
    pub fn new(sdk: &SdkConfig, queue_url: &str, held_s: u32) -> Self {
        let waiting = Duration::from_secs(u64::from(WAIT_S.unsigned_abs())).saturating_add(CALL_TIMEOUT);
        let config = aws_sdk_sqs::config::Builder::from(sdk)
            .retry_config(RetryConfig::standard())
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(waiting).build())
            .build();
        Self { sqs: aws_sdk_sqs::Client::from_conf(config), queue_url: queue_url.to_owned(), held_s }
    }

    fn failed(operation: &'static str, reason: String) -> InboxError {
        InboxError { operation, reason }
    }
}

impl Inbox for SqsInbox {
    async fn receive(&self) -> Result<Vec<Incoming>, InboxError> {
        let wanted = [
            MessageSystemAttributeName::MessageGroupId,
            MessageSystemAttributeName::SenderId,
            MessageSystemAttributeName::ApproximateReceiveCount,
            MessageSystemAttributeName::AwsTraceHeader,
        ];
        let received = self
            .sqs
            .receive_message()
            .queue_url(&self.queue_url)
            .max_number_of_messages(i32::try_from(BATCH_MAX).unwrap_or(10))
            .wait_time_seconds(WAIT_S)
            .visibility_timeout(i32::try_from(self.held_s).unwrap_or(i32::MAX))
            .set_message_system_attribute_names(Some(wanted.to_vec()))
            .message_attribute_names("traceparent")
            .send()
            .await
            .map_err(|error| Self::failed("ReceiveMessage", reason(&error)))?;
        Ok(received.messages.unwrap_or_default().into_iter().filter_map(incoming).collect())
    }

    async fn delete(&self, receipts: &[String]) -> Result<(), InboxError> {
        for batch in receipts.chunks(BATCH_MAX) {
            let mut call = self.sqs.delete_message_batch().queue_url(&self.queue_url);
            for (at, receipt) in batch.iter().enumerate() {
                let entry = DeleteMessageBatchRequestEntry::builder().id(at.to_string()).receipt_handle(receipt);
                call = call.entries(entry.build().expect("id and receipt are set"));
            }
            let answer = call.send().await.map_err(|error| Self::failed("DeleteMessageBatch", reason(&error)))?;
            if let Some(entry) = answer.failed.first() {
                let text = entry.message.clone().unwrap_or_default();
                return Err(Self::failed("DeleteMessageBatch", format!("{}: {text}", entry.code)));
            }
        }
        Ok(())
    }

    async fn hold(&self, receipts: &[(String, u32)]) -> Result<(), InboxError> {
        for batch in receipts.chunks(BATCH_MAX) {
            let mut call = self.sqs.change_message_visibility_batch().queue_url(&self.queue_url);
            for (at, (receipt, seconds)) in batch.iter().enumerate() {
                let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(at.to_string())
                    .receipt_handle(receipt)
                    .visibility_timeout(i32::try_from(*seconds).unwrap_or(i32::MAX));
                call = call.entries(entry.build().expect("id and receipt are set"));
            }
            let sent = call.send().await;
            let answer = sent.map_err(|error| Self::failed("ChangeMessageVisibilityBatch", reason(&error)))?;
            if let Some(entry) = answer.failed.first() {
                let text = entry.message.clone().unwrap_or_default();
                return Err(Self::failed("ChangeMessageVisibilityBatch", format!("{}: {text}", entry.code)));
            }
        }
        Ok(())
    }
}

/// A message without a receipt cannot be dealt with, one without a body is an empty request.
fn incoming(message: Message) -> Option<Incoming> {
    let attribute = |name: MessageSystemAttributeName| {
        message.attributes.as_ref().and_then(|attributes| attributes.get(&name)).cloned()
    };
    let traceparent = || {
        let attributes = message.message_attributes.as_ref()?;
        attributes.get("traceparent")?.string_value.clone()
    };
    Some(Incoming {
        group: attribute(MessageSystemAttributeName::MessageGroupId),
        sender: attribute(MessageSystemAttributeName::SenderId),
        trace: attribute(MessageSystemAttributeName::AwsTraceHeader).or_else(traceparent),
        receives: attribute(MessageSystemAttributeName::ApproximateReceiveCount)
            .and_then(|count| count.parse().ok())
            .unwrap_or(1),
        message_id: message.message_id.clone().unwrap_or_default(),
        body: message.body.clone().unwrap_or_default(),
        receipt: message.receipt_handle?,
    })
}
