//! The consumer's side of a queue: the port, the type of a received message, and the rule that keeps the order of a
//! FIFO group when a message has to be retried.
//!
//! The port guarantees the same as SQS: a message may be delivered twice, and is redelivered until it is deleted. The
//! SQS adapter is in `signpost-aws`, the queue in memory in [`crate::fake`]. One contract suite checks both.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use crate::ports::PortError;
use crate::units::RequestId;

/// A received message, ours until its visibility timeout.
///
/// `Debug` leaves the body out: it may hold calldata, or a secret sent by mistake.
#[derive(Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The receipt handle: acknowledges this delivery, or extends its visibility timeout.
    pub receipt: String,
    /// SQS's id of the message; the same on every delivery.
    pub message_id: String,
    /// The FIFO group; `None` on a standard queue.
    pub group: Option<String>,
    /// SQS's `SenderId`, which the sender cannot forge.
    pub sender: Option<String>,
    /// Trace context (`traceparent` or `AWSTraceHeader`).
    pub trace: Option<String>,
    /// Approximate number of deliveries, including this one (`ApproximateReceiveCount`).
    pub receives: u32,
    /// The body, JSON if the sender made no mistake.
    pub body: String,
}

impl Incoming {
    /// `sqs:<message id>`: the id for the answer if the message has no usable id, or does not own the id that it names.
    pub(crate) fn own_id(&self) -> RequestId {
        RequestId::of_message(&self.message_id)
            .expect("an SQS message id is short and made of letters, digits and dashes")
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("message_id", &self.message_id)
            .field("body_bytes", &self.body.len())
            .field("group", &self.group)
            .field("sender", &self.sender)
            .field("receives", &self.receives)
            .field("trace", &self.trace)
            .finish_non_exhaustive()
    }
}

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Its effect is stored: delete it.
    Done,
    /// It may be retried: leave it on the queue.
    Retry,
}

/// The consumer's side of a queue.
pub trait Inbox: Send + Sync + 'static {
    /// Waits a few seconds for messages. Dropping the future has the same effect as a lost reply: the messages are
    /// redelivered after their visibility timeout.
    fn receive(&self) -> impl Future<Output = Result<Vec<Incoming>, PortError>> + Send;

    /// Deletes messages whose effect is stored. After an error, at least one of them may not be deleted.
    fn delete(&self, receipts: &[&str]) -> impl Future<Output = Result<(), PortError>> + Send;

    /// Keeps messages invisible to other consumers for `time` from now. Zero makes them visible at once.
    fn hold(&self, receipts: &[&str], time: Duration) -> impl Future<Output = Result<(), PortError>> + Send;
}

/// The FIFO groups of a batch in which a message has to be retried. All later messages of its group are retried too:
/// otherwise they would be deleted, and would overtake the failed one.
#[derive(Debug, Default)]
pub struct HeldBack(HashSet<String>);

impl HeldBack {
    /// Whether an earlier message of the same group has to be retried.
    #[must_use]
    pub fn holds(&self, message: &Incoming) -> bool {
        message.group.as_ref().is_some_and(|group| self.0.contains(group))
    }

    /// Takes the next message of the batch with the handler's disposition. Returns the final disposition.
    pub fn next(&mut self, message: &Incoming, answer: Disposition) -> Disposition {
        match (answer, &message.group) {
            (Disposition::Done, _) if self.holds(message) => Disposition::Retry,
            (Disposition::Done, _) => Disposition::Done,
            (Disposition::Retry, group) => {
                self.0.extend(group.clone());
                Disposition::Retry
            }
        }
    }
}

/// Applies [`HeldBack`] to a whole batch, in order.
pub fn hold_back(messages: &[Incoming], dispositions: &mut [Disposition]) {
    let mut held = HeldBack::default();
    for (message, disposition) in messages.iter().zip(dispositions) {
        *disposition = held.next(message, *disposition);
    }
}

/// Whether a queue is FIFO, by its name, URL or ARN: SQS requires this suffix for FIFO queues and forbids it for
/// others.
#[must_use]
pub fn is_fifo(queue: &str) -> bool {
    queue.strip_suffix(".fifo").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(group: Option<&str>) -> Incoming {
        Incoming {
            receipt: String::new(),
            message_id: "m".to_owned(),
            group: group.map(str::to_owned),
            sender: None,
            trace: None,
            receives: 1,
            body: "calldata".to_owned(),
        }
    }

    #[test]
    fn messages_after_a_retried_one_in_its_group_are_retried() {
        use Disposition::{Done, Retry};
        let messages = [Some("a"), Some("b"), None, Some("a"), Some("b"), None].map(message);
        let mut dispositions = [Retry, Done, Retry, Done, Done, Done];
        hold_back(&messages, &mut dispositions);
        assert_eq!(dispositions, [Retry, Done, Retry, Retry, Done, Done]);
    }

    #[test]
    fn debug_output_omits_the_body() {
        assert!(!format!("{:?}", message(None)).contains("calldata"));
    }

    #[test]
    fn fifo_queue_is_recognized_by_its_suffix() {
        assert!(is_fifo("https://sqs.eu-central-1.amazonaws.com/1/signing.fifo") && is_fifo("arn:aws:sqs:r:1:q.fifo"));
        assert!(!is_fifo("signing") && !is_fifo("signing.fifo-old"));
    }
}
