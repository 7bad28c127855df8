//! `signpost redrive`: takes messages out of a dead-letter queue and puts them back where they came from, after
//! showing what they are.
//!
//! Each message is sent to its queue first and deleted from the dead-letter queue after, in its old group and in
//! the order received: a crash between the two leaves a copy behind, which is harmless, since every message of
//! Signpost is safe to repeat while the record of its request is kept. SQS's own `StartMessageMoveTask` does the same
//! (in a FIFO dead-letter queue the message id has replaced the deduplication id, so that nothing is dropped), but it
//! shows nothing, and it repeats what was refused before: here that is answered again as it was and goes back to no
//! queue. Either way the copy is a new message to SQS:
//! another message id, and the whole retention of the queue again. Never shows a body: it may hold calldata or a secret
//! sent by mistake.
//!
//! Two things change on the way: SQS's `SenderId` becomes that of whoever runs the command, and the message gets
//! another message id. A policy with `allow_senders` must allow the sender, or refuses the request: see `--queue`. And the
//! copy is another message: what has a record is answered by it whoever sends it again, but what was refused is judged
//! for itself, and so is a cancel.

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
use crate::{aws, clock, when, world};

/// Messages are ours for so long: time to read the list and to type yes.
const HELD_S: i32 = 300;
/// Moved by one command, about; the same command again takes the next.
const MESSAGES_MAX: usize = 500;
/// A dead-letter queue is looked at until it gives nothing so many times in a row: one receive asks only some
/// of the servers that hold a queue.
const EMPTY_LOOKS: usize = 2;

/// The queue with requests.
const SIGNING: &str = "signing";

const EXAMPLES: &str = "\
Examples:
  signpost redrive --dry-run
  signpost redrive --queue signing
  signpost redrive --yes --json

Mend what sent them there first: a message comes back after ten more deliveries. Up to 500 are moved at a time. A
FIFO queue shows ten of a group before the others; with a yes these follow, and are shown as they go.
SQS names you as their sender from then on: with `allow_senders` in the policy, requests that have no record are
refused unless you are allowed, so let the backend send those again instead. A cancel is refused unless
`cancel_senders` lists you: use `signpost cancel`. What was refused before it got there is not put back: its outcome
is published again. A message that goes back is a new one to SQS and may wait as long again; do not put back what was
first sent longer ago than requests are kept (90 days by default).";

/// `signpost redrive`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Only the dead-letter queue of this one: signing, resign or broadcast
    #[arg(long, value_name = "QUEUE", value_parser = ["signing", "resign", "broadcast"])]
    queue: Option<String>,
    /// Only show what is there
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    yes: Yes,
    /// One JSON line a message
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// A queue and where its failed messages are.
struct Way {
    name: &'static str,
    url: String,
    dead_url: String,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let session = arguments.config.open().await?;
    let sqs = Client::new(&session.sdk);
    let mut held = Vec::new();
    for way in ways(&sqs, &session.config, arguments.queue.as_deref()).await? {
        let messages = receive(&sqs, &way.dead_url).await?;
        held.push((way, messages));
    }
    let found: usize = held.iter().map(|(_, messages)| messages.len()).sum();
    for (way, messages) in &held {
        for message in messages {
            show(way, message, arguments.json);
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
            "These {found} message(s), and those a FIFO queue holds back behind them, go back and are worked on again."
        ))
    };
    if arguments.dry_run || agreed.is_err() {
        for (way, messages) in &held {
            give_back(&sqs, &way.dead_url, messages).await;
        }
        return agreed.map(|()| ExitCode::SUCCESS);
    }
    let (mut done, mut failed) = (Done::default(), None);
    for (way, messages) in held {
        if failed.is_some() {
            give_back(&sqs, &way.dead_url, &messages).await;
            continue;
        }
        failed = move_all(&session, &sqs, &way, messages, arguments.json, &mut done).await.err();
    }
    if done.answered > 0 {
        remark(format!("{} message(s) had been refused before; their outcomes are published again", done.answered));
    }
    remark(format!("{} message(s) are back in their queues", done.moved));
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// What became of the messages.
#[derive(Debug, Default)]
struct Done {
    /// Back in their queues.
    moved: usize,
    /// Answered again as they were answered before.
    answered: usize,
}

/// Moves what was received, then what a FIFO queue held back meanwhile.
async fn move_all(
    session: &Session,
    sqs: &Client,
    way: &Way,
    mut messages: Vec<Message>,
    as_json: bool,
    done: &mut Done,
) -> Result<(), CommandError> {
    let mut seen = 0_usize;
    loop {
        let answers = match answers(session, way, &messages).await {
            Ok(answers) => answers,
            Err(error) => {
                give_back(sqs, &way.dead_url, &messages).await;
                return Err(error);
            }
        };
        for (at, message) in messages.iter().enumerate() {
            let answer = message.message_id.as_ref().and_then(|id| answers.get(id));
            let result = match answer {
                Some(outcome) => answer_again(session, sqs, way, message, outcome).await,
                None => move_back(sqs, way, message).await,
            };
            if let Err(error) = result {
                // In its group nothing may overtake it: what follows stays where it is.
                give_back(sqs, &way.dead_url, messages.get(at..).unwrap_or_default()).await;
                return Err(error);
            }
            let counted = if answer.is_some() { &mut done.answered } else { &mut done.moved };
            *counted = counted.saturating_add(1);
        }
        seen = seen.saturating_add(messages.len());
        if seen >= MESSAGES_MAX {
            return Ok(());
        }
        messages = receive(sqs, &way.dead_url).await?;
        if messages.is_empty() {
            return Ok(());
        }
        for message in &messages {
            show(way, message, as_json);
        }
    }
}

/// The outcomes of those messages that were refused before they got here, by message id. Back in its queue such a
/// message would be a new one to SQS, would be judged anew, and could end in a second outcome.
async fn answers(
    session: &Session,
    way: &Way,
    messages: &[Message],
) -> Result<HashMap<String, OutcomeMessage>, CommandError> {
    if way.name != SIGNING {
        return Ok(HashMap::new());
    }
    let ids = messages.iter().filter_map(|message| format!("sqs:{}", message.message_id.as_ref()?).parse().ok());
    let found = world::store(session).find(&ids.collect::<Vec<RequestId>>()).await?;
    let outcome = |found: Found| match found.stored {
        Ok(Stored::Rejected(rejected)) => {
            Some((found.id.strip_prefix("sqs:")?.to_owned(), OutcomeMessage::of_rejected(&rejected)))
        }
        Ok(Stored::Record(_)) | Err(_) => None,
    };
    Ok(found.into_iter().filter_map(outcome).collect())
}

/// Publishes it first, deletes it after.
async fn answer_again(
    session: &Session,
    sqs: &Client,
    way: &Way,
    message: &Message,
    outcome: &OutcomeMessage,
) -> Result<(), CommandError> {
    for published in publish::all(&world::topic(session), std::slice::from_ref(outcome)).await {
        published?;
    }
    delete(sqs, way, message).await
}

/// The queues that have a dead-letter queue, as their redrive policy names it.
async fn ways(sqs: &Client, config: &Config, only: Option<&str>) -> Result<Vec<Way>, CommandError> {
    let queues = &config.queues;
    let all = [(SIGNING, &queues.signing_url), ("resign", &queues.resign_url), ("broadcast", &queues.broadcast_url)];
    let mut ways = Vec::new();
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
        ways.push(Way { name, url: url.clone(), dead_url });
    }
    Ok(ways)
}

/// The name of the queue a redrive policy points to: the last part of its ARN.
pub fn dead_letter_name(policy: &str) -> Option<String> {
    let policy: Value = serde_json::from_str(policy).ok()?;
    let arn = policy.get("deadLetterTargetArn")?.as_str()?;
    arn.rsplit(':').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Takes what is there, oldest first within its group, and hides it from others meanwhile.
async fn receive(sqs: &Client, url: &str) -> Result<Vec<Message>, CommandError> {
    let mut messages: Vec<Message> = Vec::new();
    let mut empty = 0_usize;
    while empty < EMPTY_LOOKS && messages.len() < MESSAGES_MAX {
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

/// What a message is about, without its contents.
fn show(way: &Way, message: &Message, as_json: bool) {
    let Named { id, account } = Named::of(message.body.as_deref().unwrap_or_default());
    let (id, account) = (id.map(|id| id.to_string()), account.as_deref());
    let attribute = |name| message.attributes.as_ref().and_then(|all| all.get(&name)).cloned();
    let sent_at = attribute(MessageSystemAttributeName::SentTimestamp).and_then(|ms| ms.parse::<u64>().ok());
    let sender = attribute(MessageSystemAttributeName::SenderId);
    let bytes = message.body.as_deref().map_or(0, str::len);
    if as_json {
        let line = json!({ "queue": way.name, "messageId": message.message_id, "requestId": id, "account": account,
            "sender": sender, "sentAt": sent_at, "bodyBytes": bytes });
        say_json(&line);
        return;
    }
    let age = sent_at.map_or_else(|| "?".to_owned(), |at| when::span(clock::now_ms().saturating_sub(at)));
    let about = id.unwrap_or_else(|| "(no request id)".to_owned());
    let account = account.unwrap_or("-");
    say(format!("{:<10}{about:<40}  {account:<24}  {age:>14} old  {bytes} bytes", way.name));
}

/// What a body calls its request and its account. It was never parsed as a request and anybody may have sent it, so
/// only what parses as an id or as an account is shown: other text could pass for a line of ours.
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

/// Sends it first, deletes it after: what is lost between the two is only the second.
async fn move_back(sqs: &Client, way: &Way, message: &Message) -> Result<(), CommandError> {
    let body = message.body.clone().unwrap_or_default();
    let attribute = |name| message.attributes.as_ref().and_then(|all| all.get(&name)).cloned();
    let carried: HashMap<String, MessageAttributeValue> = message.message_attributes.clone().unwrap_or_default();
    let mut send = sqs.send_message().queue_url(&way.url).message_body(&body).set_message_attributes(Some(carried));
    if let Some(trace) = attribute(MessageSystemAttributeName::AwsTraceHeader) {
        let value = MessageSystemAttributeValue::builder().data_type("String").string_value(trace).build();
        let value = value.map_err(|error| failed("SendMessage", error.to_string()))?;
        send = send.message_system_attributes(MessageSystemAttributeNameForSends::AwsTraceHeader, value);
    }
    if is_fifo(&way.url) {
        let group = attribute(MessageSystemAttributeName::MessageGroupId).unwrap_or_else(|| "-".to_owned());
        // Another id than the first sending had, or SQS would take it for the same message and drop it; but the
        // same on every try of this command, so that a try repeated after a crash is one message.
        let once = format!("redrive {}", message.message_id.as_deref().unwrap_or(&body));
        send = send.message_group_id(group).message_deduplication_id(hex::encode(sha256(once.as_bytes())));
    }
    send.send().await.map_err(|error| failed("SendMessage", aws::reason(&error)))?;
    delete(sqs, way, message).await
}

async fn delete(sqs: &Client, way: &Way, message: &Message) -> Result<(), CommandError> {
    let handle = message.receipt_handle.clone().unwrap_or_default();
    let deleted = sqs.delete_message().queue_url(&way.dead_url).receipt_handle(handle).send().await;
    deleted.map(|_| ()).map_err(|error| failed("DeleteMessage", aws::reason(&error)))
}

/// Makes them visible again at once; if that fails, SQS does in five minutes.
async fn give_back(sqs: &Client, url: &str, messages: &[Message]) {
    for part in messages.chunks(10) {
        let entries = part.iter().enumerate().filter_map(|(at, message)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(at.to_string());
            entry.receipt_handle(message.receipt_handle.as_deref()?).visibility_timeout(0).build().ok()
        });
        let call = sqs.change_message_visibility_batch().queue_url(url).set_entries(Some(entries.collect()));
        if call.send().await.is_err() {
            remark(format!("some messages of {url} show up again in {HELD_S} s only"));
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
    fn text_that_is_no_id_is_not_shown() {
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
    fn what_a_body_names_is_shown_as_it_parses() {
        let key = "97:0x9858effd232b4033e47d90003d41ec34ecaeda94";
        for (account, shown) in [("hot", "hot"), ("pool:payers", "pool:payers"), (key, key)] {
            let named = Named::of(&format!(r#"{{"requestId":"r-1","account":"{account}"}}"#));
            assert_eq!((named.id.unwrap().as_str(), named.account.as_deref()), ("r-1", Some(shown)));
        }
        assert_eq!(Named::of(r#"{"cancel":"r-1"}"#), Named { id: "r-1".parse().ok(), account: None });
        assert!(account_named("0x9858effd232b4033e47d90003d41ec34ecaeda94").is_some());
    }

    #[test]
    fn the_dead_letter_queue_is_named_by_the_policy() {
        let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:000000000000:x-dlq.fifo","maxReceiveCount":10}"#;
        assert_eq!(dead_letter_name(policy).as_deref(), Some("x-dlq.fifo"));
        assert_eq!(dead_letter_name("{}"), None);
        assert_eq!(dead_letter_name("no JSON"), None);
    }
}
