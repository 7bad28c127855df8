//! A queue as its consumer sees it: the port, one type for a message, and the rule that keeps the order of a FIFO
//! group when a message has to be retried.
//!
//! The port promises no more than SQS does: a message may be delivered twice, and one that is not deleted is delivered
//! again. The real queue is in `signpost-aws`, the one in memory in [`crate::fake`]; one contract suite checks both.

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
    /// The id under which a message is answered that has none, or is not to be answered under the one it names.
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
    /// Waits for messages, some seconds at most. Dropping it equals a lost reply: the messages are delivered again
    /// after their visibility timeout.
    fn receive(&self) -> impl Future<Output = Result<Vec<Incoming>, PortError>> + Send;

    /// Deletes messages: their effect is stored. An error says that at least one was not surely deleted.
    fn delete(&self, receipts: &[&str]) -> impl Future<Output = Result<(), PortError>> + Send;

    /// Keeps messages invisible to other consumers for `time` from now; zero gives them back at once.
    fn hold(&self, receipts: &[&str], time: Duration) -> impl Future<Output = Result<(), PortError>> + Send;
}

/// The FIFO groups of a batch in which a message has to be retried. All later messages of its group are retried too:
/// otherwise they would be deleted, and would overtake the failed one.
#[derive(Debug, Default)]
pub struct HeldBack(HashSet<String>);

impl HeldBack {
    /// Whether the message follows one of its group that has to be retried.
    #[must_use]
    pub fn holds(&self, message: &Incoming) -> bool {
        message.group.as_ref().is_some_and(|group| self.0.contains(group))
    }

    /// Takes the next message of the batch with the answer of its handler, and gives what counts.
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
    fn what_follows_a_retry_in_its_group_is_retried() {
        use Disposition::{Done, Retry};
        let messages = [Some("a"), Some("b"), None, Some("a"), Some("b"), None].map(message);
        let mut dispositions = [Retry, Done, Retry, Done, Done, Done];
        hold_back(&messages, &mut dispositions);
        assert_eq!(dispositions, [Retry, Done, Retry, Retry, Done, Done]);
    }

    #[test]
    fn a_message_shows_nothing_of_its_body() {
        assert!(!format!("{:?}", message(None)).contains("calldata"));
    }

    #[test]
    fn a_queue_is_fifo_by_its_suffix() {
        assert!(is_fifo("https://sqs.eu-central-1.amazonaws.com/1/signing.fifo") && is_fifo("arn:aws:sqs:r:1:q.fifo"));
        assert!(!is_fifo("signing") && !is_fifo("signing.fifo-old"));
    }
}
