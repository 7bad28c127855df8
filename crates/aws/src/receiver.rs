//! The worker's side of a queue: long polling, acknowledging, keeping messages invisible while they are
//! processed, and returning them.
//!
//! Decides nothing: the caller acknowledges a message once the record contains its effect (I13).
//! In Lambda the event source does all of this. IAM actions: `sqs:ReceiveMessage`,
//! `sqs:DeleteMessage`, `sqs:ChangeMessageVisibility`. Read next: [`crate::inbox`].

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::operation::change_message_visibility_batch::ChangeMessageVisibilityBatchError;
use aws_sdk_sqs::operation::delete_message_batch::DeleteMessageBatchError;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName,
};
use signpost_txmgr::inbox::{Incoming, is_fifo};
use signpost_txmgr::ports::PortError;

use crate::batch::in_batches;
use crate::clients;
use crate::repeat::{Backoff, repeat};
use crate::sqs::{client, refused};

/// Maximum number of messages per receive, SQS's limit.
pub const RECEIVE_MAX: usize = 10;
/// Longest wait of one receive, SQS's limit.
pub const LONG_POLL: Duration = Duration::from_secs(20);
/// The message attribute with a W3C trace context, as OpenTelemetry sends it.
const TRACE_PARENT: &str = "traceparent";

/// A queue to receive from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Receiver {
    client: Client,
    url: String,
    backoff: Backoff,
}

impl Receiver {
    /// The queue at `url`; FIFO if it ends in `.fifo`. Retries and timeouts of `sdk` are not used.
    #[must_use]
    pub fn new(sdk: &SdkConfig, url: impl Into<String>) -> Self {
        Self::with_client(client(sdk), url, Backoff::STANDARD)
    }

    /// The queue on a client without retries of its own.
    #[must_use]
    pub fn with_client(client: Client, url: impl Into<String>, backoff: Backoff) -> Self {
        Self { client, url: url.into(), backoff }
    }

    /// Whether messages are ordered within their group. If so, all messages after a failed one in its
    /// group must fail too.
    #[must_use]
    pub fn is_fifo(&self) -> bool {
        is_fifo(&self.url)
    }

    /// Waits up to `wait` (at most [`LONG_POLL`]) for up to `max` messages (at most [`RECEIVE_MAX`]),
    /// which are then invisible to others for `visibility`, or for the queue's default time.
    ///
    /// After a lost reply, messages stay invisible for that time; on a FIFO queue a repeated call within it
    /// returns the same messages. Dropping the future has the effect of a lost reply.
    pub async fn receive(
        &self,
        max: usize,
        wait: Duration,
        visibility: Option<Duration>,
    ) -> Result<Vec<Incoming>, PortError> {
        const OPERATION: &str = "ReceiveMessage";
        let wait = wait.min(LONG_POLL);
        let timeouts = aws_sdk_sqs::config::Config::builder().timeout_config(clients::timeouts(wait));
        let mut request = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(max.clamp(1, RECEIVE_MAX)).unwrap_or(1))
            .wait_time_seconds(whole_seconds(wait))
            .set_visibility_timeout(visibility.map(whole_seconds))
            .message_attribute_names(TRACE_PARENT);
        for name in [
            MessageSystemAttributeName::SenderId,
            MessageSystemAttributeName::MessageGroupId,
            MessageSystemAttributeName::ApproximateReceiveCount,
            MessageSystemAttributeName::AwsTraceHeader,
        ] {
            request = request.message_system_attribute_names(name);
        }
        if self.is_fifo() {
            request = request.receive_request_attempt_id(attempt_id());
        }
        let call = || request.clone().customize().config_override(timeouts.clone()).send();
        let answer = repeat(&self.backoff, OPERATION, call).await.map_err(|failure| failure.into_port(OPERATION))?;
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(received).collect())
    }

    /// Acknowledges messages by their receipt handles; one answer each, in order. If the acknowledgement
    /// fails, the message is redelivered.
    pub async fn delete(&self, receipt_handles: &[&str]) -> Vec<Result<(), PortError>> {
        let send = |handles: &[&&str]| {
            let entry = |(id, handle): (usize, &&&str)| {
                let entry = DeleteMessageBatchRequestEntry::builder().id(id.to_string()).receipt_handle(**handle);
                entry.build().expect("id and handle are set")
            };
            let entries = handles.iter().enumerate().map(entry).collect();
            let request = self.client.delete_message_batch().queue_url(&self.url).set_entries(Some(entries));
            async move { request.send().await.map(|answer| answer.failed.into_iter().map(refused).collect()) }
        };
        let operation = "DeleteMessageBatch";
        in_batches::<_, DeleteMessageBatchError, _>(&self.backoff, operation, receipt_handles, |_| 0, send).await
    }

    /// Keeps messages invisible for `visibility` from now on (a heartbeat). Zero returns them at
    /// once. One answer each, in order.
    pub async fn set_visibility(&self, receipt_handles: &[&str], visibility: Duration) -> Vec<Result<(), PortError>> {
        let visibility_s = whole_seconds(visibility);
        let send = |handles: &[&&str]| {
            let entry = |(id, handle): (usize, &&&str)| {
                let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(id.to_string());
                entry.receipt_handle(**handle).visibility_timeout(visibility_s).build().expect("id and handle are set")
            };
            let entries = handles.iter().enumerate().map(entry).collect();
            let request = self.client.change_message_visibility_batch().queue_url(&self.url).set_entries(Some(entries));
            async move { request.send().await.map(|answer| answer.failed.into_iter().map(refused).collect()) }
        };
        let operation = "ChangeMessageVisibilityBatch";
        in_batches::<_, ChangeMessageVisibilityBatchError, _>(&self.backoff, operation, receipt_handles, |_| 0, send)
            .await
    }
}

/// `None` for a message without an id or a receipt handle, which SQS never sends.
fn received(message: Message) -> Option<Incoming> {
    let mut attributes = message.attributes.unwrap_or_default();
    let mut attribute = |name: MessageSystemAttributeName| attributes.remove(&name);
    let trace_parent = message
        .message_attributes
        .and_then(|mut attributes| attributes.remove(TRACE_PARENT))
        .and_then(|attribute| attribute.string_value);
    let count = attribute(MessageSystemAttributeName::ApproximateReceiveCount);
    Some(Incoming {
        message_id: message.message_id?,
        receipt: message.receipt_handle?,
        body: message.body.unwrap_or_default(),
        group: attribute(MessageSystemAttributeName::MessageGroupId),
        sender: attribute(MessageSystemAttributeName::SenderId),
        receives: count.and_then(|count| count.parse().ok()).unwrap_or(1),
        // The sender's own trace has priority over the one that AWS added.
        trace: trace_parent.or_else(|| attribute(MessageSystemAttributeName::AwsTraceHeader)),
    })
}

/// Whole seconds, rounded up, so that a wait of half a second does not become zero.
fn whole_seconds(duration: Duration) -> i32 {
    let up = u64::from(duration.subsec_nanos() > 0);
    i32::try_from(duration.as_secs().saturating_add(up)).unwrap_or(i32::MAX)
}

/// A random id, from the random seed of the standard library's hash maps: the same for all tries of one
/// receive, a new one for the next receive.
fn attempt_id() -> String {
    format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1))
}
