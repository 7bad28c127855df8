//! `signpost redrive`: shows the messages of a dead-letter queue and moves them back to their queue.
//!
//! A message is first sent to its queue, in its old group and in the order received, and then deleted from the
//! dead-letter queue. A crash between the two leaves a copy, which is harmless: every message of Signpost is safe to
//! repeat while the record of its request is kept. The `StartMessageMoveTask` of SQS does the same (in a FIFO
//! dead-letter queue the message id has replaced the deduplication id, so nothing is dropped). But it shows nothing,
//! and it repeats messages that were rejected before. For a rejected message, this command publishes the outcome again
//! and does not move the message. A body is never shown: it may have calldata or a secret that was sent by mistake.
//!
//! The copy is a new message to SQS: it has a new message id, the full retention period, and the `SenderId` of the
//! operator. A policy with `allow_senders` must therefore allow the operator, or the request is rejected; see
//! `--queue`. A request that has a record is answered from it, whoever sends the copy; a rejected request and a cancel
//! are judged again.

use std::collections::HashMap;
use std::process::ExitCode;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName,
    MessageSystemAttributeNameForSends, MessageSystemAttributeValue, QueueAttributeName,
};
use serde_json::{Value, json};
use signpost_aws::store::operator::Found;
use signpost_txmgr::inbox::is_fifo;
use signpost_txmgr::publish;
use signpost_txmgr::record::Stored;
use signpost_txmgr::request::AccountRef;
use signpost_txmgr::units::{AccountKey, AccountName, Address, RequestId, sha256};
use signpost_txmgr::wire::OutcomeMessage;

use super::confirm::Yes;
use super::{CommandError, ConfigOption, Session};
use crate::config::Config;
use crate::terminal::{remark, say, say_json};
use crate::{aws, clock, ports, when};

/// How long received messages stay invisible to others: time to read the list and to type yes.
const HELD_S: i32 = 300;
/// About how many messages one command moves; the next command takes further ones.
const MESSAGES_MAX: usize = 500;
/// A dead-letter queue counts as empty after this many empty receives in a row: one receive asks only some of the
/// servers of a queue.
const EMPTY_RECEIVES: usize = 2;

/// The name of the queue with requests.
const SIGNING: &str = "signing";

const EXAMPLES: &str = "\
Examples:
  signpost redrive --dry-run
  signpost redrive --queue signing
  signpost redrive --yes --json

First fix the cause: otherwise the messages return after ten more deliveries. One command moves up to 500 messages. A
FIFO queue shows only ten messages of a group; after a yes the others follow and are shown while they are moved.
SQS reports you as the sender of the moved messages. If the policy has `allow_senders` without you, requests that have
no record are rejected: let the backend send those again instead. A cancel is rejected unless `cancel_senders` lists
you: use `signpost cancel`. A message that was already rejected is not moved: its outcome is published again. A moved
message starts a new retention period in SQS; do not move messages that were first sent longer ago than requests are
kept (90 days by default).";

/// `signpost redrive`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Only the dead-letter queue of this queue: signing, resign or broadcast
    #[arg(long, value_name = "QUEUE", value_parser = ["signing", "resign", "broadcast"])]
    queue: Option<String>,
    /// Only show the messages
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    yes: Yes,
    /// One JSON line per message
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// A queue and its dead-letter queue.
struct QueuePair {
    name: &'static str,
    url: String,
    dead_url: String,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let session = arguments.config.open().await?;
    let sqs = Client::new(&session.sdk);
    let mut held = Vec::new();
    for pair in queue_pairs(&sqs, &session.config, arguments.queue.as_deref()).await? {
        let messages = receive(&sqs, &pair.dead_url).await?;
        held.push((pair, messages));
    }
    let found: usize = held.iter().map(|(_, messages)| messages.len()).sum();
    for (pair, messages) in &held {
        for message in messages {
            show(pair, message, arguments.json);
        }
    }
    if found == 0 {
        remark("no message is in a dead-letter queue");
        return Ok(ExitCode::SUCCESS);
    }
    let agreed = if arguments.dry_run {
        Ok(())
    } else {
        arguments.yes.or_ask(&format!(
            "These {found} message(s), and those behind them in a FIFO queue, are moved back and processed again."
        ))
    };
    if arguments.dry_run || agreed.is_err() {
        for (pair, messages) in &held {
            give_back(&sqs, &pair.dead_url, messages).await;
        }
        return agreed.map(|()| ExitCode::SUCCESS);
    }
    let (mut done, mut failed) = (Done::default(), None);
    for (pair, messages) in held {
        if failed.is_some() {
            give_back(&sqs, &pair.dead_url, &messages).await;
            continue;
        }
        failed = move_all(&session, &sqs, &pair, messages, arguments.json, &mut done).await.err();
    }
    if done.answered > 0 {
        remark(format!("{} message(s) had been rejected before; their outcomes are published again", done.answered));
    }
    remark(format!("{} message(s) moved back to their queues", done.moved));
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// How many messages were handled, and how.
#[derive(Debug, Default)]
struct Done {
    /// Moved back to their queues.
    moved: usize,
    /// Rejected before; their outcomes are published again.
    answered: usize,
}

/// Moves the received messages, then those that a FIFO queue held back.
async fn move_all(
    session: &Session,
    sqs: &Client,
    pair: &QueuePair,
    mut messages: Vec<Message>,
    as_json: bool,
    done: &mut Done,
) -> Result<(), CommandError> {
    let mut seen = 0_usize;
    loop {
        let answers = match answers(session, pair, &messages).await {
            Ok(answers) => answers,
            Err(error) => {
                give_back(sqs, &pair.dead_url, &messages).await;
                return Err(error);
            }
        };
        for (at, message) in messages.iter().enumerate() {
            let answer = message.message_id.as_ref().and_then(|id| answers.get(id));
            let result = match answer {
                Some(outcome) => answer_again(session, sqs, pair, message, outcome).await,
                None => move_back(sqs, pair, message).await,
            };
            if let Err(error) = result {
                // Nothing may overtake it within its group, so later messages stay in the dead-letter queue.
                give_back(sqs, &pair.dead_url, messages.get(at..).unwrap_or_default()).await;
                return Err(error);
            }
            let counted = if answer.is_some() { &mut done.answered } else { &mut done.moved };
            *counted = counted.saturating_add(1);
        }
        seen = seen.saturating_add(messages.len());
        if seen >= MESSAGES_MAX {
            return Ok(());
        }
        messages = receive(sqs, &pair.dead_url).await?;
        if messages.is_empty() {
            return Ok(());
        }
        for message in &messages {
            show(pair, message, as_json);
        }
    }
}

/// The outcomes of messages that were rejected before they got here, by message id. Moved back, such a message would be
/// new to SQS, would be judged again, and could get a second outcome.
async fn answers(
    session: &Session,
    pair: &QueuePair,
    messages: &[Message],
) -> Result<HashMap<String, OutcomeMessage>, CommandError> {
    if pair.name != SIGNING {
        return Ok(HashMap::new());
    }
    let ids = messages.iter().filter_map(|message| format!("sqs:{}", message.message_id.as_ref()?).parse().ok());
    let found = ports::store(session).find(&ids.collect::<Vec<RequestId>>()).await?;
    let outcome = |found: Found| match found.stored {
        Ok(Stored::Rejected(rejected)) => {
            Some((found.id.strip_prefix("sqs:")?.to_owned(), OutcomeMessage::of_rejected(&rejected)))
        }
        Ok(Stored::Record(_)) | Err(_) => None,
    };
    Ok(found.into_iter().filter_map(outcome).collect())
}

/// Publishes the outcome, then deletes the message.
async fn answer_again(
    session: &Session,
    sqs: &Client,
    pair: &QueuePair,
    message: &Message,
    outcome: &OutcomeMessage,
) -> Result<(), CommandError> {
    for published in publish::all(&ports::topic(session), std::slice::from_ref(outcome)).await {
        published?;
    }
    delete(sqs, pair, message).await
}

/// The queues that have a dead-letter queue, which their redrive policy names.
async fn queue_pairs(sqs: &Client, config: &Config, only: Option<&str>) -> Result<Vec<QueuePair>, CommandError> {
    let queues = &config.queues;
    let all = [(SIGNING, &queues.signing_url), ("resign", &queues.resign_url), ("broadcast", &queues.broadcast_url)];
    let mut pairs = Vec::new();
    for (name, url) in all.into_iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        let asked = sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::RedrivePolicy);
        let answer = asked.send().await.map_err(|error| failed("GetQueueAttributes", aws::reason(&error)))?;
        let policy = answer.attributes.and_then(|mut all| all.remove(&QueueAttributeName::RedrivePolicy));
        let Some(dead) = policy.as_deref().and_then(dead_letter_name) else {
            remark(format!("the {name} queue has no dead-letter queue; see `signpost doctor`"));
            continue;
        };
        let found = sqs.get_queue_url().queue_name(&dead).send().await;
        let found = found.map_err(|error| failed("GetQueueUrl", format!("{dead}: {}", aws::reason(&error))))?;
        let dead_url = found.queue_url.ok_or_else(|| failed("GetQueueUrl", format!("{dead}: no URL in the answer")))?;
        pairs.push(QueuePair { name, url: url.clone(), dead_url });
    }
    Ok(pairs)
}

/// The name of the queue in a redrive policy: the last part of its ARN.
pub fn dead_letter_name(policy: &str) -> Option<String> {
    let policy: Value = serde_json::from_str(policy).ok()?;
    let arn = policy.get("deadLetterTargetArn")?.as_str()?;
    arn.rsplit(':').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Receives the messages of a queue, oldest first within a group, and makes them invisible to others.
async fn receive(sqs: &Client, url: &str) -> Result<Vec<Message>, CommandError> {
    let mut messages: Vec<Message> = Vec::new();
    let mut empty = 0_usize;
    while empty < EMPTY_RECEIVES && messages.len() < MESSAGES_MAX {
        let asked = sqs
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(10)
            .wait_time_seconds(1)
            .visibility_timeout(HELD_S)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::All);
        let answer = asked.send().await.map_err(|error| failed("ReceiveMessage", aws::reason(&error)))?;
        let received = answer.messages.unwrap_or_default();
        empty = if received.is_empty() { empty.saturating_add(1) } else { 0 };
        messages.extend(received);
    }
    Ok(messages)
}

/// Shows a message without its contents.
fn show(pair: &QueuePair, message: &Message, as_json: bool) {
    let Named { id, account } = Named::of(message.body.as_deref().unwrap_or_default());
    let (id, account) = (id.map(|id| id.to_string()), account.as_deref());
    let attribute = |name| message.attributes.as_ref().and_then(|all| all.get(&name)).cloned();
    let sent_at = attribute(MessageSystemAttributeName::SentTimestamp).and_then(|ms| ms.parse::<u64>().ok());
    let sender = attribute(MessageSystemAttributeName::SenderId);
    let bytes = message.body.as_deref().map_or(0, str::len);
    if as_json {
        let line = json!({ "queue": pair.name, "messageId": message.message_id, "requestId": id, "account": account,
            "sender": sender, "sentAt": sent_at, "bodyBytes": bytes });
        say_json(&line);
        return;
    }
    let age = sent_at.map_or_else(|| "?".to_owned(), |at| when::span(clock::now_ms().saturating_sub(at)));
    let about = id.unwrap_or_else(|| "(no request id)".to_owned());
    let account = account.unwrap_or("-");
    say(format!("{:<10}{about:<40}  {account:<24}  {age:>14} old  {bytes} bytes", pair.name));
}

/// The request and the account that a body names. The body was never parsed and may come from anybody, so only valid
/// ids and accounts are shown: other text could imitate a line of this command.
#[derive(Debug, Default, PartialEq, Eq)]
struct Named {
    id: Option<RequestId>,
    account: Option<String>,
}

impl Named {
    fn of(body: &str) -> Self {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let id = ["requestId", "cancel"].into_iter().find_map(|name| text(name)?.parse().ok());
        Self { id, account: text("account").and_then(account_named) }
    }
}

/// An account as a request or a poke names it: a name, a pool, a key or an address.
fn account_named(text: &str) -> Option<String> {
    let pool = |name: &str| Some(format!("{}{}", AccountRef::POOL, name.parse::<AccountName>().ok()?));
    if let Some(name) = text.strip_prefix(AccountRef::POOL) {
        return pool(name);
    }
    let name = text.parse().map(|name: AccountName| name.to_string()).ok();
    let key = || text.parse().map(|key: AccountKey| key.to_string()).ok();
    let address = || text.parse().map(|address: Address| address.to_string()).ok();
    name.or_else(key).or_else(address)
}

/// Sends the message to its queue, then deletes it; a crash in between leaves a copy.
async fn move_back(sqs: &Client, pair: &QueuePair, message: &Message) -> Result<(), CommandError> {
    let body = message.body.clone().unwrap_or_default();
    let attribute = |name| message.attributes.as_ref().and_then(|all| all.get(&name)).cloned();
    let carried: HashMap<String, MessageAttributeValue> = message.message_attributes.clone().unwrap_or_default();
    let mut send = sqs.send_message().queue_url(&pair.url).message_body(&body).set_message_attributes(Some(carried));
    if let Some(trace) = attribute(MessageSystemAttributeName::AwsTraceHeader) {
        let value = MessageSystemAttributeValue::builder().data_type("String").string_value(trace).build();
        let value = value.map_err(|error| failed("SendMessage", error.to_string()))?;
        send = send.message_system_attributes(MessageSystemAttributeNameForSends::AwsTraceHeader, value);
    }
    if is_fifo(&pair.url) {
        let group = attribute(MessageSystemAttributeName::MessageGroupId).unwrap_or_else(|| "-".to_owned());
        // Not the id of the first sending, or SQS would drop the message as a duplicate; but the same id on every try
        // of this command, so that a repeat after a crash is one message.
        let once = format!("redrive {}", message.message_id.as_deref().unwrap_or(&body));
        send = send.message_group_id(group).message_deduplication_id(hex::encode(sha256(once.as_bytes())));
    }
    send.send().await.map_err(|error| failed("SendMessage", aws::reason(&error)))?;
    delete(sqs, pair, message).await
}

async fn delete(sqs: &Client, pair: &QueuePair, message: &Message) -> Result<(), CommandError> {
    let handle = message.receipt_handle.clone().unwrap_or_default();
    let deleted = sqs.delete_message().queue_url(&pair.dead_url).receipt_handle(handle).send().await;
    deleted.map(|_| ()).map_err(|error| failed("DeleteMessage", aws::reason(&error)))
}

/// Makes the messages visible again at once; if that fails, SQS does it in five minutes.
async fn give_back(sqs: &Client, url: &str, messages: &[Message]) {
    for part in messages.chunks(10) {
        let entries = part.iter().enumerate().filter_map(|(at, message)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(at.to_string());
            entry.receipt_handle(message.receipt_handle.as_deref()?).visibility_timeout(0).build().ok()
        });
        let call = sqs.change_message_visibility_batch().queue_url(url).set_entries(Some(entries.collect()));
        if call.send().await.is_err() {
            remark(format!("some messages of {url} stay invisible for {HELD_S} s"));
        }
    }
}

fn failed(operation: &'static str, reason: String) -> CommandError {
    CommandError::Aws { operation, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_an_id_is_not_shown() {
        for foul in ["\\u001b[2J\\u009b1A\\u202e", "r-1  hot   0 s old  12 bytes", "hot\\r\\nresign r-2", "", "\\u0000"]
        {
            let body = format!(r#"{{"requestId":"{foul}","account":"{foul}"}}"#);
            assert_eq!(Named::of(&body), Named::default(), "{foul}");
        }
        for body in ["no JSON", "[]", r#"{"requestId":1,"account":{}}"#] {
            assert_eq!(Named::of(body), Named::default(), "{body}");
        }
    }

    #[test]
    fn valid_ids_and_accounts_of_a_body_are_shown() {
        let key = "97:0x9858effd232b4033e47d90003d41ec34ecaeda94";
        for (account, shown) in [("hot", "hot"), ("pool:payers", "pool:payers"), (key, key)] {
            let named = Named::of(&format!(r#"{{"requestId":"r-1","account":"{account}"}}"#));
            assert_eq!((named.id.unwrap().as_str(), named.account.as_deref()), ("r-1", Some(shown)));
        }
        assert_eq!(Named::of(r#"{"cancel":"r-1"}"#), Named { id: "r-1".parse().ok(), account: None });
        assert!(account_named("0x9858effd232b4033e47d90003d41ec34ecaeda94").is_some());
    }

    #[test]
    fn dead_letter_queue_is_read_from_the_redrive_policy() {
        let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:000000000000:x-dlq.fifo","maxReceiveCount":10}"#;
        assert_eq!(dead_letter_name(policy).as_deref(), Some("x-dlq.fifo"));
        assert_eq!(dead_letter_name("{}"), None);
        assert_eq!(dead_letter_name("no JSON"), None);
    }
}
