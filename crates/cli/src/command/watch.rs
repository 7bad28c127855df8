//! `signpost watch`: shows outcomes from the topic, through a temporary queue.
//!
//! Shows outcomes published from now on. Not meant for consuming outcomes: a backend subscribes its own queue, which
//! keeps messages while nobody reads.

use std::collections::HashMap;
use std::process::ExitCode;

use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, QueueAttributeName};
use serde_json::{Value, json};
use signpost_client::outcome;
use signpost_txmgr::text;
use signpost_txmgr::wire::{OutcomeMessage, Status};

use super::{CommandError, ConfigOption, asked_to_stop};
use crate::stack::provision::queue_arn;
use crate::terminal::{Colour, paint, remark, say};
use crate::{aws, clock};

const EXAMPLES: &str = "\
Examples:
  signpost watch
  signpost watch --status reverted --status rejected
  signpost watch --json | jq .txHash";

/// `signpost watch`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Only outcomes of this status (confirmed, reverted, cancelled, displaced, rejected); may be repeated
    #[arg(long, value_name = "STATUS")]
    status: Vec<String>,
    /// Stop after N outcomes
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// The unchanged messages, one JSON line each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// A queue that is subscribed to the topic until it is removed.
#[derive(Debug)]
pub struct Tail {
    sqs: aws_sdk_sqs::Client,
    sns: aws_sdk_sns::Client,
    queue_url: String,
    subscription_arn: String,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    for status in &arguments.status {
        let known = serde_json::from_value::<Status>(Value::String(status.clone())).is_ok();
        if !known {
            let text = format!("no outcome has the status {status}; --help lists the statuses");
            return Err(CommandError::Input(text));
        }
    }
    let session = arguments.config.open().await?;
    let topic = &session.config.outcomes_arn;
    let asked = asked_to_stop()?;
    let tail = Tail::open(&session.sdk, topic, &arguments.status).await?;
    remark(format!("Watching {topic}; Ctrl-C stops it"));
    let watched = tokio::select! {
        watched = follow(&tail, &arguments) => watched,
        () = asked => Ok(()),
    };
    tail.remove().await;
    watched.map(|()| ExitCode::SUCCESS)
}

async fn follow(tail: &Tail, arguments: &Arguments) -> Result<(), CommandError> {
    let mut left = arguments.count.unwrap_or(usize::MAX);
    while left > 0 {
        for body in tail.receive().await? {
            show(&body, arguments.json);
            left = left.saturating_sub(1);
            if left == 0 {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn show(body: &str, as_json: bool) {
    match outcome::parse(body) {
        Ok(outcome) if !as_json => say(line(&outcome)),
        Ok(_) => say(text::json_written(body)),
        // Not an outcome of Signpost: shown as text.
        Err(_) => say(text::plain(body)),
    }
}

fn line(outcome: &OutcomeMessage) -> String {
    let status = outcome.status.as_str();
    let colour = match outcome.status {
        Status::Confirmed => Colour::Green,
        Status::Reverted | Status::Displaced | Status::Rejected => Colour::Red,
        Status::Cancelled | Status::Reserved | Status::Signed | Status::Sent | Status::Mined => Colour::Yellow,
    };
    let mut parts = vec![paint(colour, &format!("{status:<10}")), text::plain(&outcome.request_id)];
    parts.extend(outcome.tx_hash.clone());
    parts.extend(outcome.block_number.map(|block| format!("block {block}")));
    parts.extend(outcome.reason.as_ref().map(|reason| text::plain(&format!("{}: {}", reason.code, reason.message))));
    parts.extend(outcome.message_id.as_ref().map(|id| text::plain(&format!("message {id}"))));
    parts.join("  ")
}

impl Tail {
    /// Creates the queue and subscribes it. An empty list of statuses means all.
    pub async fn open(sdk: &aws_config::SdkConfig, topic: &str, statuses: &[String]) -> Result<Self, CommandError> {
        let (sqs, sns) = (aws_sdk_sqs::Client::new(sdk), aws_sdk_sns::Client::new(sdk));
        let name = format!("signpost-watch-{}-{}", std::process::id(), clock::now_ms());
        let made = sqs
            .create_queue()
            .queue_name(&name)
            // The queue is used for minutes; if it is left behind, its messages expire.
            .attributes(QueueAttributeName::MessageRetentionPeriod, "3600")
            .send()
            .await
            .map_err(|error| failed("CreateQueue", aws::reason(&error)))?;
        let queue_url = made.queue_url.ok_or_else(|| failed("CreateQueue", "the answer has no URL".to_owned()))?;
        let mut tail = Self { sqs, sns, queue_url, subscription_arn: String::new() };
        match tail.subscribe(&name, topic, statuses).await {
            Ok(arn) => {
                tail.subscription_arn = arn;
                Ok(tail)
            }
            Err(error) => {
                tail.remove().await;
                Err(error)
            }
        }
    }

    async fn subscribe(&self, name: &str, topic: &str, statuses: &[String]) -> Result<String, CommandError> {
        let queue = queue_arn(&self.sqs, name, &self.queue_url).await?;
        let policy = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "Service": "sns.amazonaws.com" },
            "Action": "sqs:SendMessage",
            "Resource": queue,
            "Condition": { "ArnEquals": { "aws:SourceArn": topic } },
        }]});
        self.sqs
            .set_queue_attributes()
            .queue_url(&self.queue_url)
            .attributes(QueueAttributeName::Policy, policy.to_string())
            .send()
            .await
            .map_err(|error| failed("SetQueueAttributes", aws::reason(&error)))?;
        let mut attributes = HashMap::from([("RawMessageDelivery".to_owned(), "true".to_owned())]);
        if !statuses.is_empty() {
            attributes.insert("FilterPolicy".to_owned(), json!({ "status": statuses }).to_string());
        }
        let subscribed = self
            .sns
            .subscribe()
            .topic_arn(topic)
            .protocol("sqs")
            .endpoint(&queue)
            .set_attributes(Some(attributes))
            .return_subscription_arn(true)
            .send()
            .await
            .map_err(|error| failed("Subscribe", aws::reason(&error)))?;
        subscribed.subscription_arn.ok_or_else(|| failed("Subscribe", "the answer has no ARN".to_owned()))
    }

    /// Receives message bodies for some seconds and deletes the messages.
    pub async fn receive(&self) -> Result<Vec<String>, CommandError> {
        let received = self
            .sqs
            .receive_message()
            .queue_url(&self.queue_url)
            .max_number_of_messages(10)
            .wait_time_seconds(10)
            .send()
            .await
            .map_err(|error| failed("ReceiveMessage", aws::reason(&error)))?;
        let messages = received.messages.unwrap_or_default();
        if !messages.is_empty() {
            let entries = messages.iter().enumerate().filter_map(|(at, message)| {
                let entry = DeleteMessageBatchRequestEntry::builder().id(at.to_string());
                entry.set_receipt_handle(message.receipt_handle.clone()).build().ok()
            });
            let delete = self.sqs.delete_message_batch().queue_url(&self.queue_url);
            let deleted = delete.set_entries(Some(entries.collect())).send().await;
            deleted.map_err(|error| failed("DeleteMessageBatch", aws::reason(&error)))?;
        }
        Ok(messages.into_iter().filter_map(|Message { body, .. }| body).collect())
    }

    /// Ends the subscription and deletes the queue. Reports what could not be removed.
    pub async fn remove(self) {
        if !self.subscription_arn.is_empty() {
            let removed = self.sns.unsubscribe().subscription_arn(&self.subscription_arn).send().await;
            if let Err(error) = removed {
                remark(format!("subscription {} is left behind: {}", self.subscription_arn, aws::reason(&error)));
            }
        }
        if let Err(error) = self.sqs.delete_queue().queue_url(&self.queue_url).send().await {
            remark(format!("queue {} is left behind: {}", self.queue_url, aws::reason(&error)));
        }
    }
}

fn failed(operation: &'static str, reason: String) -> CommandError {
    CommandError::Aws { operation, reason }
}
