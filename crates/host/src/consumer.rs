//! Receives messages from a queue and passes them to a handler: bounded in number, held while the
//! handler works, deleted only when it reports them as done, and returned to the queue when the program stops.
//!
//! Guarantees that a message is deleted only after its handler reported it as done (I13), and that at a
//! stop every received message is finished or returned before [`consume`] returns.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use signpost_txmgr::inbox::{Disposition, Inbox, Incoming};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::error_chain;

/// Pause after a failed receive.
const PAUSE_AFTER_FAULT: Duration = Duration::from_secs(1);
/// The signal to stop, for all running tasks.
pub type Stop = watch::Receiver<bool>;

/// Waits for the signal to stop.
pub async fn stopped(stop: &Stop) {
    let mut stop = stop.clone();
    // An error means that the sender is gone: the program ends.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The handler of a queue's messages.
pub trait Handler: Send + Sync + 'static {
    /// Handles messages that were received together; one disposition each, in order. A long-running
    /// handler must check `stop`.
    fn handle(&self, messages: &[Incoming], stop: &Stop) -> impl Future<Output = Vec<Disposition>> + Send;
}

/// How long a message that could not be handled stays invisible: one second after the first delivery, then `factor`
/// times as long after each further one, up to a maximum. It blocks its FIFO group for this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter {
    factor: u64,
    max_s: u64,
}

impl RetryAfter {
    /// For requests, which go to the dead-letter queue after ten deliveries and then need an operator: 1, 5, 25, 125
    /// and then 330 s. A fault of seconds blocks the group for seconds, and the ten deliveries cover an outage of KMS
    /// or DynamoDB of half an hour, as in Lambda, where the deliveries are 180 s apart.
    pub const REQUESTS: Self = Self { factor: 5, max_s: 330 };
    /// For pokes, which are retried until they are obsolete, and expire before they become dead letters: 1, 2, 4 …
    /// 60 s. A poke does not block its lane for longer than the sweep needs to poke it again.
    pub const POKES: Self = Self { factor: 2, max_s: 60 };

    /// The time after this number of deliveries.
    fn receives(self, receives: u32) -> Duration {
        let seconds = self.factor.checked_pow(receives.saturating_sub(1)).unwrap_or(self.max_s);
        Duration::from_secs(seconds.min(self.max_s))
    }
}

/// How a queue is consumed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Number of concurrent handlers.
    pub at_once: usize,
    /// How long messages are held; the hold is renewed after each third of this time.
    pub held: Duration,
    /// Whether messages of different groups are handled separately.
    pub by_group: bool,
    /// When a message that could not be handled is redelivered.
    pub retry_after: RetryAfter,
}

/// Consumes a queue until the signal to stop; then finishes or returns the received messages.
pub async fn consume<I: Inbox, H: Handler>(inbox: Arc<I>, handler: Arc<H>, limits: Limits, stop: Stop) {
    let permits = Arc::new(Semaphore::new(limits.at_once));
    let mut work = JoinSet::new();
    loop {
        while let Some(ended) = work.try_join_next() {
            report(ended);
        }
        // Messages are received only when a handler is free.
        let received = tokio::select! {
            biased;
            () = stopped(&stop) => break,
            received = async {
                drop(permits.acquire().await);
                inbox.receive().await
            } => received,
        };
        let messages = match received {
            Ok(messages) => messages,
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "the queue cannot be read; retrying");
                tokio::select! {
                    () = stopped(&stop) => break,
                    () = tokio::time::sleep(PAUSE_AFTER_FAULT) => continue,
                }
            }
        };
        for batch in split(messages, limits.by_group) {
            let (inbox, handler) = (Arc::clone(&inbox), Arc::clone(&handler));
            let (permits, stop) = (Arc::clone(&permits), stop.clone());
            work.spawn(async move { work_on(&*inbox, &*handler, &permits, &batch, limits, &stop).await });
        }
    }
    while let Some(ended) = work.join_next().await {
        report(ended);
    }
}

/// If a handler panicked, the queue redelivers its messages.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a handler panicked; its messages will be redelivered");
    }
}

fn split(messages: Vec<Incoming>, by_group: bool) -> Vec<Vec<Incoming>> {
    if !by_group {
        return if messages.is_empty() { Vec::new() } else { vec![messages] };
    }
    let mut groups: BTreeMap<Option<String>, Vec<Incoming>> = BTreeMap::new();
    for message in messages {
        groups.entry(message.group.clone()).or_default().push(message);
    }
    groups.into_values().collect()
}

async fn work_on<I: Inbox, H: Handler>(
    inbox: &I,
    handler: &H,
    permits: &Semaphore,
    batch: &[Incoming],
    limits: Limits,
    stop: &Stop,
) {
    let work = async {
        let _permit = permits.acquire().await;
        if *stop.borrow() {
            return vec![Disposition::Retry; batch.len()];
        }
        handler.handle(batch, stop).await
    };
    let dispositions = holding(inbox, batch, limits.held, work).await;
    assert_eq!(dispositions.len(), batch.len(), "a handler returns a disposition for every message");
    let mut done = Vec::new();
    let mut again: BTreeMap<Duration, Vec<&str>> = BTreeMap::new();
    for (message, disposition) in batch.iter().zip(dispositions) {
        let receipt = message.receipt.as_str();
        match disposition {
            Disposition::Done => done.push(receipt),
            Disposition::Retry if *stop.borrow() => again.entry(Duration::ZERO).or_default().push(receipt),
            Disposition::Retry => {
                again.entry(limits.retry_after.receives(message.receives)).or_default().push(receipt);
            }
        }
    }
    if !done.is_empty()
        && let Err(error) = inbox.delete(&done).await
    {
        tracing::warn!(
            error = error_chain(&error),
            "handled messages were not deleted; they will be redelivered, which is harmless"
        );
    }
    for (after, receipts) in again {
        if let Err(error) = inbox.hold(&receipts, after).await {
            tracing::warn!(
                error = error_chain(&error),
                "messages were not returned; they will be redelivered when their visibility timeout ends"
            );
        }
    }
}

/// Awaits `work` and renews the hold on its messages in the meantime.
async fn holding<I: Inbox, T>(inbox: &I, batch: &[Incoming], held: Duration, work: impl Future<Output = T>) -> T {
    let receipts: Vec<_> = batch.iter().map(|message| message.receipt.as_str()).collect();
    let every = held.checked_div(3).unwrap_or(PAUSE_AFTER_FAULT);
    let mut work = pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            () = tokio::time::sleep(every) => {
                // Without the renewal another worker may get them too, which is correct but wasteful.
                if let Err(error) = inbox.hold(&receipts, held).await {
                    tracing::warn!(error = error_chain(&error), "the hold on messages was not renewed");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use signpost_txmgr::ports::{Happened, PortError};

    use super::*;

    /// A queue that returns its prepared batches, then waits forever, and records the calls.
    #[derive(Default)]
    struct Filled {
        batches: Mutex<VecDeque<Result<Vec<Incoming>, PortError>>>,
        deleted: Mutex<Vec<String>>,
        held: Mutex<Vec<(String, Duration)>>,
        changed: tokio::sync::Notify,
    }

    impl Inbox for Filled {
        async fn receive(&self) -> Result<Vec<Incoming>, PortError> {
            let next = self.batches.lock().unwrap().pop_front();
            if let Some(batch) = next { batch } else { std::future::pending().await }
        }

        async fn delete(&self, receipts: &[&str]) -> Result<(), PortError> {
            self.deleted.lock().unwrap().extend(receipts.iter().map(ToString::to_string));
            self.changed.notify_one();
            Ok(())
        }

        async fn hold(&self, receipts: &[&str], time: Duration) -> Result<(), PortError> {
            self.held.lock().unwrap().extend(receipts.iter().map(|receipt| (receipt.to_string(), time)));
            Ok(())
        }
    }

    /// Handles a message as its body says: by default it is done.
    struct ByBody;

    impl Handler for ByBody {
        async fn handle(&self, messages: &[Incoming], stop: &Stop) -> Vec<Disposition> {
            let mut dispositions = Vec::new();
            for message in messages {
                match message.body.as_str() {
                    "break" => panic!("asked to"),
                    "until stopped" => {
                        stopped(stop).await;
                        dispositions.push(Disposition::Retry);
                    }
                    "retry" => dispositions.push(Disposition::Retry),
                    _ => dispositions.push(Disposition::Done),
                }
            }
            dispositions
        }
    }

    fn message(group: &str, body: &str, receives: u32) -> Incoming {
        Incoming {
            receipt: format!("{group}/{body}"),
            message_id: String::new(),
            group: Some(group.to_owned()),
            sender: None,
            trace: None,
            receives,
            body: body.to_owned(),
        }
    }

    /// Consumes until this number of messages is deleted, then stops.
    async fn consumed(batches: Vec<Result<Vec<Incoming>, PortError>>, deletions: usize) -> Arc<Filled> {
        let inbox = Arc::new(Filled { batches: Mutex::new(batches.into()), ..Filled::default() });
        let (stop_sender, stop) = watch::channel(false);
        let limits =
            Limits { at_once: 2, held: Duration::from_secs(30), by_group: true, retry_after: RetryAfter::REQUESTS };
        let consuming = consume(Arc::clone(&inbox), Arc::new(ByBody), limits, stop);
        let stopping = async {
            while inbox.deleted.lock().unwrap().len() < deletions {
                inbox.changed.notified().await;
            }
            stop_sender.send(true).unwrap();
        };
        tokio::join!(consuming, stopping);
        inbox
    }

    #[tokio::test]
    async fn done_messages_are_deleted_and_others_returned_at_stop() {
        let batch = vec![message("a", "one", 1), message("b", "two", 1), message("c", "until stopped", 3)];
        let inbox = consumed(vec![Ok(batch)], 2).await;
        let mut deleted = inbox.deleted.lock().unwrap().clone();
        deleted.sort();
        assert_eq!(deleted, ["a/one", "b/two"]);
        assert_eq!(
            *inbox.held.lock().unwrap(),
            [("c/until stopped".to_owned(), Duration::ZERO)],
            "returned at the stop"
        );
    }

    #[tokio::test]
    async fn failed_message_is_held_according_to_its_deliveries() {
        let batch = vec![message("a", "retry", 3), message("b", "retry", 1), message("c", "one", 1)];
        let inbox = consumed(vec![Ok(batch)], 1).await;
        let held = [("a/retry", 25), ("b/retry", 1)].map(|(it, s)| (it.to_owned(), Duration::from_secs(s)));
        assert_eq!(*inbox.held.lock().unwrap(), held);
    }

    /// Seconds from the first delivery to each of `count` deliveries.
    fn deliveries(retry_after: RetryAfter, count: u32) -> Vec<u64> {
        let mut at = 0;
        let delivery = |receives| {
            let waited = if receives == 0 { 0 } else { retry_after.receives(receives).as_secs() };
            at = u64::saturating_add(at, waited);
            at
        };
        (0..count).map(delivery).collect()
    }

    #[test]
    fn deliveries_of_a_request_span_half_an_hour() {
        let template = include_str!("../../../infra/template.yaml");
        let queue =
            template.split_once("  SigningQueue:\n").unwrap().1.split_once("  SigningDeadLetters:\n").unwrap().0;
        let receives = queue.split_once("maxReceiveCount: ").unwrap().1.lines().next().unwrap().parse().unwrap();
        let requests = deliveries(RetryAfter::REQUESTS, receives);
        assert_eq!(requests[..5], [0, 1, 6, 31, 156], "short at first, because a held message blocks its group");
        assert!(*requests.last().unwrap() >= 30 * 60, "the last of {receives} deliveries is at {requests:?} s");
        let gaps = requests.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.max().unwrap() <= 6 * 60, "how long a group waits after the outage: {requests:?}");
    }

    #[test]
    fn pokes_are_redelivered_within_a_minute() {
        assert_eq!(deliveries(RetryAfter::POKES, 9), [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        assert_eq!(RetryAfter::POKES.receives(u32::MAX), Duration::from_mins(1));
        assert_eq!(RetryAfter::REQUESTS.receives(u32::MAX), Duration::from_secs(330));
    }

    #[tokio::test]
    async fn panicking_handler_does_not_affect_other_messages() {
        let batches = vec![Ok(vec![message("a", "break", 1)]), Ok(vec![message("b", "one", 1)])];
        let inbox = consumed(batches, 1).await;
        assert_eq!(*inbox.deleted.lock().unwrap(), ["b/one"]);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_are_held_while_they_are_handled() {
        let inbox = Filled::default();
        let batch = [message("a", "one", 1)];
        let work = tokio::time::sleep(Duration::from_secs(35));
        holding(&inbox, &batch, Duration::from_secs(30), work).await;
        let renewed = ("a/one".to_owned(), Duration::from_secs(30));
        assert_eq!(*inbox.held.lock().unwrap(), vec![renewed; 3], "at 10, 20 and 30 seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn failed_receive_is_retried() {
        let fault =
            PortError { operation: "ReceiveMessage", happened: Happened::No, throttled: false, source: "gone".into() };
        let inbox = consumed(vec![Err(fault), Ok(vec![message("a", "one", 1)])], 1).await;
        assert_eq!(*inbox.deleted.lock().unwrap(), ["a/one"]);
    }
}
