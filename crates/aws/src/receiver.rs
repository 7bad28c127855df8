//! The worker's side of a queue: long polling, acknowledging, keeping messages invisible while they are
//! worked on, and giving them back.
//!
//! Decides nothing: a message is acknowledged by whoever knows that the record carries its effect (I13).
//! In Lambda the event source does all this instead. IAM actions: `sqs:ReceiveMessage`,
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

/// Messages of one receive, SQS's limit.
pub const RECEIVE_MAX: usize = 10;
/// Longest wait of one receive, SQS's limit.
pub const LONG_POLL: Duration = Duration::from_secs(20);
/// A message attribute with a W3C trace context, as OpenTelemetry sends it.
const TRACE_PARENT: &str = "traceparent";

/// A queue that is read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Receiver {
    client: Client,
    url: String,
    backoff: Backoff,
}

impl Receiver {
    /// The queue at `url`; FIFO if it ends in `.fifo`. Retries and time-outs of `sdk` are not used.
    #[must_use]
    pub fn new(sdk: &SdkConfig, url: impl Into<String>) -> Self {
        Self::with_client(client(sdk), url, Backoff::STANDARD)
    }

    /// The queue on a client that does not retry by itself.
    #[must_use]
    pub fn with_client(client: Client, url: impl Into<String>, backoff: Backoff) -> Self {
        Self { client, url: url.into(), backoff }
    }

    /// Whether messages come in order within their group: then what follows a failed message in its
    /// group must fail too.
    #[must_use]
    pub fn is_fifo(&self) -> bool {
        is_fifo(&self.url)
    }

    /// Waits up to `wait` (at most [`LONG_POLL`]) for up to `max` messages (at most [`RECEIVE_MAX`]),
    /// which are then invisible to others for `visibility`, or as long as the queue says.
    ///
    /// A lost reply leaves messages invisible for that time; on a FIFO queue asking again within it
    /// brings the same messages. Dropping the future is as a lost reply.
    pub async fn receive(
        &self,
        max: usize,
        wait: Duration,
        visibility: Option<Duration>,
    ) -> Result<Vec<Incoming>, PortError> {
        const OPERATION: &str = "ReceiveMessage";
        let wait = wait.min(LONG_POLL);
        let patience = aws_sdk_sqs::config::Config::builder().timeout_config(clients::timeouts(wait));
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
        let call = || request.clone().customize().config_override(patience.clone()).send();
        let answer = repeat(&self.backoff, OPERATION, call).await.map_err(|failure| failure.into_port(OPERATION))?;
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(received).collect())
    }

    /// Acknowledges messages by their receipt handles; one answer each, in order. A message whose
    /// acknowledgement fails is delivered again.
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

    /// Keeps messages invisible for `visibility` from now on (a heartbeat), or with zero gives them back at
    /// once; one answer each, in order.
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

/// `None` for a message without what makes it one; SQS never sends such.
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
        // What the sender said itself comes before what AWS put there for it.
        trace: trace_parent.or_else(|| attribute(MessageSystemAttributeName::AwsTraceHeader)),
    })
}

/// Whole seconds, rounded up: one that waits half a second must not wait none.
fn whole_seconds(duration: Duration) -> i32 {
    let up = u64::from(duration.subsec_nanos() > 0);
    i32::try_from(duration.as_secs().saturating_add(up)).unwrap_or(i32::MAX)
}

/// The same for all tries of one receive, another for the next: by the chance the standard library
/// seeds its hash maps with.
fn attempt_id() -> String {
    format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1))
}
