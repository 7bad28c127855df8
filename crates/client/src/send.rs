//! Sends messages with as few calls as SQS allows, and returns an answer for every request.
//!
//! On a FIFO queue the message group is the account's name in the body (`-` without one: then
//! only one is registered), so that requests of one account are accepted in the order in which they were sent.
//! For a pool the group is the request's id: there is no order to keep, and a single group would limit the pool to the
//! rate of one lane.
//!
//! The deduplication id is random, and new for every message. SQS drops a message if it saw the same id within
//! five minutes in the same group, from any sender and with any content. So another sender could block a predictable
//! id, such as the hash of a predictable body. A request that is sent twice is recognized by its
//! request id, while the record is stored. The SDK's retries of one call keep the id, and are one message.

use std::sync::Arc;

use aws_sdk_sqs::error::SdkError;
use aws_sdk_sqs::operation::send_message_batch::SendMessageBatchError;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use signpost_txmgr::inbox::is_fifo;

use crate::{Body, Client};

/// Maximum number of messages per `SendMessageBatch`, SQS's limit.
const BATCH_MAX: usize = 10;
/// Maximum size of a `SendMessageBatch` in bytes that every queue accepts. New queues accept 1 MiB (SQS guide, "Message
/// quotas", read 2026-11-27); older queues and emulators may not.
const BATCH_BYTES_MAX: usize = 262_144;
/// The group of requests without an account: they all use the only one.
const NO_ACCOUNT: &str = "-";

/// Why a request may not be in the queue. Sending it again is always safe.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotSent {
    /// SQS refused this message; it is not in the queue.
    #[error("{code}: {message}")]
    Refused {
        /// SQS's error code.
        code: String,
        /// SQS's error message.
        message: String,
    },
    /// SQS's answer does not contain this message: it may be in the queue.
    #[error("SQS's answer does not contain the message; send it again")]
    Unanswered,
    /// The call failed: the message may be in the queue, unless SQS refused the whole call.
    #[error("SendMessageBatch failed")]
    Call(#[source] Arc<SdkError<SendMessageBatchError>>),
    /// An earlier call failed, and later messages were not sent, to keep the order.
    #[error("not tried, because an earlier message could not be sent; send it again")]
    NotTried,
}

impl NotSent {
    /// Whether the message may be in the queue nevertheless.
    #[must_use]
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::NotTried => false,
            Self::Unanswered => true,
            Self::Call(error) => {
                !matches!(error.as_ref(), SdkError::ServiceError(_) | SdkError::ConstructionFailure(_))
            }
        }
    }
}

impl Client {
    /// Sends one request. Returns SQS's id of the message.
    pub async fn send(&self, body: &Body) -> Result<String, NotSent> {
        self.send_all(std::slice::from_ref(body)).await.pop().unwrap_or(Err(NotSent::Unanswered))
    }

    /// Sends many requests, in order. Returns for each SQS's id of its message, or why it may not have been sent.
    ///
    /// A message that SQS refuses does not hold back the others. A failed call does, because later messages
    /// could overtake it.
    pub async fn send_all(&self, bodies: &[Body]) -> Vec<Result<String, NotSent>> {
        let mut sent = Vec::with_capacity(bodies.len());
        for batch in batches(bodies) {
            match self.send_batch(batch).await {
                Ok(answers) => sent.extend(answers),
                Err(error) => {
                    let error = Arc::new(error);
                    sent.extend(batch.iter().map(|_| Err(NotSent::Call(Arc::clone(&error)))));
                    break;
                }
            }
        }
        sent.resize_with(bodies.len(), || Err(NotSent::NotTried));
        sent
    }

    async fn send_batch(
        &self,
        batch: &[Body],
    ) -> Result<Vec<Result<String, NotSent>>, SdkError<SendMessageBatchError>> {
        let is_fifo = is_fifo(&self.signing_queue_url);
        let entries = batch.iter().enumerate().map(|(at, body)| {
            let entry = SendMessageBatchRequestEntry::builder().id(at.to_string()).message_body(body.text());
            let entry = if is_fifo {
                entry.message_group_id(body.group().unwrap_or(NO_ACCOUNT)).message_deduplication_id(random_id())
            } else {
                entry
            };
            entry.build().expect("id and body are set")
        });
        let call = self.sqs.send_message_batch().queue_url(&self.signing_queue_url);
        let answer = call.set_entries(Some(entries.collect())).send().await?;
        let mut sent: Vec<_> = batch.iter().map(|_| Err(NotSent::Unanswered)).collect();
        let mut note = |id: &str, result: Result<String, NotSent>| {
            if let Some(place) = id.parse().ok().and_then(|at: usize| sent.get_mut(at)) {
                *place = result;
            }
        };
        for entry in answer.successful {
            note(&entry.id, Ok(entry.message_id));
        }
        for entry in answer.failed {
            note(&entry.id, Err(NotSent::Refused { code: entry.code, message: entry.message.unwrap_or_default() }));
        }
        Ok(sent)
    }
}

/// An id of 128 random bits, in hex.
fn random_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("an operating system that runs this has random numbers");
    hex::encode(bytes)
}

/// Splits messages into batches that one call accepts, keeping their order.
fn batches(bodies: &[Body]) -> Vec<&[Body]> {
    let mut batches = Vec::new();
    let mut rest = bodies;
    while !rest.is_empty() {
        let mut bytes = 0_usize;
        let fitting = rest.iter().take(BATCH_MAX).take_while(|body| {
            bytes = bytes.saturating_add(body.text().len());
            bytes <= BATCH_BYTES_MAX
        });
        // A message that is too large by itself is sent alone, and SQS refuses it.
        let (batch, after) = rest.split_at(fitting.count().max(1));
        batches.push(batch);
        rest = after;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_the_order_and_the_limits() {
        let small: Vec<Body> = (0..25).map(|at| Body::unchecked(at.to_string())).collect();
        let sizes: Vec<usize> = batches(&small).iter().map(|batch| batch.len()).collect();
        assert_eq!(sizes, [10, 10, 5]);
        assert_eq!(batches(&small).concat(), small);

        let large = [("x", 200_000), ("y", 100_000), ("z", 300_000), ("1", 1)];
        let large: Vec<Body> = large.iter().map(|(text, times)| Body::unchecked(text.repeat(*times))).collect();
        let sizes: Vec<usize> = batches(&large).iter().map(|batch| batch.len()).collect();
        assert_eq!(sizes, [1, 1, 1, 1]);
        assert_eq!(batches(&large).concat(), large);
    }
}
