//! Consumes outcomes as a backend that books money does: each is handled once, none is missed.
//!
//! Three things can go wrong between the topic and a backend, and each has its answer here:
//!
//! * **An outcome is delivered again** (by SQS, by the topic, or by `signpost republish`): every copy has the same
//!   `eventId`, which is written together with the work. A message is deleted only after that.
//! * **The backend was away**: while its queue keeps the messages (4 days unless you ask for up to 14), it simply
//!   reads on. For longer absences, for a queue that was subscribed too late, or a filter policy that was wrong, the
//!   requests table is read: [`signpost_client::Client::outcome`] gives the recorded outcome of a request, equal to the
//!   published one, with the same `eventId`. So it does not matter if the message comes after all.
//! * **A whole period is missing** and the ids are not known: an operator publishes the outcomes again, to every
//!   subscriber: `signpost republish --help` shows the command for all requests of a period.
//!
//! ```sh
//! signpost dev                      # in another terminal; it prints the variables to export
//! signpost submit --id order-1 --account hot --to 0x55d398326f99059fF775485246999027B3197955 --value 1 --gas 21000
//! cargo run -p signpost-client --example outcome_consumer -- outcomes.log order-1
//! ```
//!
//! The arguments: the file that stands for the backend's database, and the ids of the requests whose outcomes the
//! backend waits for (its own orders that are still open). It ends when all of them are booked; a real one continues.
#![allow(clippy::print_stdout, reason = "an example prints what it did")]

mod support;

use std::collections::HashSet;
use std::env::var;
use std::fs::{File, OpenOptions};
use std::io::Write as _;

use aws_config::SdkConfig;
use signpost_client::{OutcomeMessage, RequestId, outcome};
use support::Done;

const QUEUE: &str = "outcome-consumer";

/// The backend's database. One line is one transaction: what was booked, and the `eventId` that says so.
struct Ledger {
    file: File,
    seen: HashSet<String>,
    booked: HashSet<String>,
}

impl Ledger {
    fn open(path: &str) -> Done<Self> {
        let (mut seen, mut booked) = (HashSet::new(), HashSet::new());
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        for line in std::fs::read_to_string(path)?.lines() {
            if let [event_id, request_id, _status] = line.split(' ').collect::<Vec<_>>().as_slice() {
                seen.insert((*event_id).to_owned());
                booked.insert((*request_id).to_owned());
            }
        }
        Ok(Self { file, seen, booked })
    }

    /// Books an outcome unless it is booked; whether it did.
    fn book(&mut self, outcome: &OutcomeMessage) -> Done<bool> {
        if self.seen.contains(&outcome.event_id) {
            return Ok(false);
        }
        let OutcomeMessage { event_id, request_id, status, .. } = outcome;
        writeln!(self.file, "{event_id} {request_id} {}", status.as_str())?;
        self.file.sync_all()?;
        self.seen.insert(event_id.clone());
        self.booked.insert(request_id.clone());
        Ok(true)
    }
}

#[tokio::main]
async fn main() -> Done {
    let mut arguments = std::env::args().skip(1);
    let mut ledger = Ledger::open(&arguments.next().ok_or("usage: outcome_consumer LEDGER ID...")?)?;
    let orders = arguments.map(|id| id.parse()).collect::<Result<Vec<RequestId>, _>>()?;
    let aws = support::aws().await;
    let (signpost, sqs) = (support::client(&aws)?, aws_sdk_sqs::Client::new(&aws));

    // Subscribed first, read from the table afterwards: an outcome that is published in between is found by both.
    let queue_url = subscribed(&aws, &sqs).await?;
    for id in &orders {
        if ledger.booked.contains(id.as_str()) {
            continue;
        }
        if let Some(outcome) = signpost.outcome(id).await? {
            ledger.book(&outcome)?;
            println!("{id} {} found in the table", outcome.status.as_str());
        }
    }

    while orders.iter().any(|id| !ledger.booked.contains(id.as_str())) {
        let received = sqs.receive_message().queue_url(&queue_url).max_number_of_messages(10).wait_time_seconds(5);
        for message in received.send().await?.messages() {
            // What cannot be read stays in the queue, and goes to its dead-letter queue after some tries.
            let outcome = match outcome::parse(message.body().unwrap_or_default()) {
                Ok(outcome) => outcome,
                Err(error) => {
                    println!("not an outcome: {error}");
                    continue;
                }
            };
            let done = if ledger.book(&outcome)? { "received" } else { "received again, dropped" };
            println!("{} {} {done}", outcome.request_id, outcome.status.as_str());
            let receipt = message.receipt_handle().unwrap_or_default();
            sqs.delete_message().queue_url(&queue_url).receipt_handle(receipt).send().await?;
        }
    }
    Ok(())
}

/// The queue, subscribed to the outcome topic: repeating it changes nothing. In production a template makes both, with
/// a dead-letter queue, and the queue's policy lets the topic send to it.
async fn subscribed(aws: &SdkConfig, sqs: &aws_sdk_sqs::Client) -> Done<String> {
    let made = sqs.create_queue().queue_name(QUEUE).send().await?;
    let queue_url = made.queue_url().ok_or("a queue has a URL")?.to_owned();
    let asked = sqs.get_queue_attributes().queue_url(&queue_url).attribute_names("QueueArn".into()).send().await?;
    let arn = asked.attributes().and_then(|all| all.get(&"QueueArn".into())).ok_or("a queue has an ARN")?;
    let subscribe = aws_sdk_sns::Client::new(aws).subscribe().topic_arn(var("OUTCOME_TOPIC_ARN")?);
    subscribe.protocol("sqs").endpoint(arn).attributes("RawMessageDelivery", "true").send().await?;
    Ok(queue_url)
}
