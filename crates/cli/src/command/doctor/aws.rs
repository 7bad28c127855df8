//! Checks credentials, queues, tables and the topic.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{KeySchemaElement, KeyType, TableDescription, TableStatus, TimeToLiveStatus};
use aws_sdk_sqs::types::QueueAttributeName;
use signpost_txmgr::inbox::is_fifo;

use super::Checks;
use crate::aws::reason;
use crate::command::Session;
use crate::command::redrive::dead_letter_name;

/// With fewer deliveries, a short outage of KMS or DynamoDB fills the dead-letter queue.
const RECEIVES_MIN: u64 = 3;
/// The longest time of a signer's or broadcaster's batch in a Lambda function, by default.
const VISIBILITY_MIN_S: u64 = 30;

/// Checks that AWS answers.
pub(super) async fn credentials(session: &Session, checks: &mut Checks) {
    let sqs = aws_sdk_sqs::Client::new(&session.sdk);
    let region = session.sdk.region().map_or_else(|| "no region".to_owned(), ToString::to_string);
    let asked = sqs.get_queue_attributes().queue_url(&session.config.queues.signing_url);
    match asked.attribute_names(QueueAttributeName::QueueArn).send().await {
        Ok(_) => checks.ok("credentials", format!("AWS answers in {region}")),
        Err(error) => checks.problem(
            "credentials",
            reason(&error),
            "check endpoint, region and credentials (AWS_ENDPOINT_URL, AWS_REGION, AWS_PROFILE), and the queue's URL",
        ),
    }
}

/// Checks the three queues and their dead-letter queues.
pub(super) async fn queues(session: &Session, checks: &mut Checks) {
    let sqs = aws_sdk_sqs::Client::new(&session.sdk);
    let queues = &session.config.queues;
    let all = [("signing", &queues.signing_url), ("resign", &queues.resign_url), ("broadcast", &queues.broadcast_url)];
    for (name, url) in all {
        let what = |part: &str| format!("{name} queue: {part}");
        let asked = sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All).send().await;
        let attributes = match asked {
            Ok(answer) => answer.attributes.unwrap_or_default(),
            Err(error) => {
                checks.problem(what("is there"), reason(&error), "correct its URL in the configuration, or create it");
                continue;
            }
        };
        if is_fifo(url) {
            fifo(&what("order"), &attributes, checks);
        } else if name == "signing" {
            checks.look(what("order"), "standard: requests have no order", "fine if no backend needs order");
        } else {
            checks.problem(
                what("order"),
                "standard: two workers may process one lane at the same time",
                "make it FIFO",
            );
        }
        let visibility_s = number(&attributes, &QueueAttributeName::VisibilityTimeout);
        checks.expect(
            visibility_s >= VISIBILITY_MIN_S,
            what("visibility"),
            format!("{visibility_s} s"),
            format!(
                "set {VISIBILITY_MIN_S} s or more: a message that becomes visible during its work is processed twice"
            ),
        );
        redrive(&sqs, name, &attributes, checks).await;
    }
}

fn fifo(what: &str, attributes: &HashMap<QueueAttributeName, String>, checks: &mut Checks) {
    let is = |name: &QueueAttributeName, wanted: &str| attributes.get(name).is_some_and(|found| found == wanted);
    let scoped = is(&QueueAttributeName::DeduplicationScope, "messageGroup");
    let fast = is(&QueueAttributeName::FifoThroughputLimit, "perMessageGroupId");
    let found = |scope, limit| format!("FIFO, deduplication per {scope}, throughput per {limit}");
    match (scoped, fast) {
        (true, true) => checks.ok(what, found("group", "group")),
        (scoped, fast) => checks.look(
            what,
            found(if scoped { "group" } else { "queue" }, if fast { "group" } else { "queue" }),
            "DeduplicationScope=messageGroup and FifoThroughputLimit=perMessageGroupId allow 300 calls/s per account",
        ),
    }
}

async fn redrive(
    sqs: &aws_sdk_sqs::Client,
    name: &str,
    attributes: &HashMap<QueueAttributeName, String>,
    checks: &mut Checks,
) {
    let what = |part: &str| format!("{name} queue: {part}");
    let policy = attributes.get(&QueueAttributeName::RedrivePolicy).map(String::as_str);
    let Some(dead) = policy.and_then(dead_letter_name) else {
        checks.problem(
            what("redrive"),
            "no dead-letter queue",
            "a message that always fails is redelivered forever: set a RedrivePolicy with a dead-letter queue",
        );
        return;
    };
    let receives = policy.and_then(receives).unwrap_or(0);
    checks.expect(
        receives >= RECEIVES_MIN,
        what("redrive"),
        format!("to {dead} after {receives} deliveries"),
        format!("set {RECEIVES_MIN} deliveries or more: with fewer, a short outage sets messages aside"),
    );
    let url = sqs.get_queue_url().queue_name(&dead).send().await.ok().and_then(|answer| answer.queue_url);
    let Some(url) = url else {
        checks.problem(what("set aside"), format!("{dead} does not exist"), "create it: messages would be lost");
        return;
    };
    match sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All).send().await {
        Ok(answer) => {
            let waiting =
                number(&answer.attributes.unwrap_or_default(), &QueueAttributeName::ApproximateNumberOfMessages);
            if waiting == 0 {
                checks.ok(what("set aside"), "no message");
            } else {
                let found = format!("{waiting} message(s) in {dead}");
                let todo =
                    format!("`signpost redrive --queue {name} --dry-run` shows them; without --dry-run it moves them");
                checks.problem(what("set aside"), found, todo);
            }
        }
        Err(error) => {
            checks.problem(what("set aside"), reason(&error), "check the permissions on the dead-letter queue");
        }
    }
}

/// `maxReceiveCount`, which is a number in some policies and a string in others.
fn receives(policy: &str) -> Option<u64> {
    let policy: serde_json::Value = serde_json::from_str(policy).ok()?;
    let count = policy.get("maxReceiveCount")?;
    count.as_u64().or_else(|| count.as_str()?.parse().ok())
}

fn number(attributes: &HashMap<QueueAttributeName, String>, name: &QueueAttributeName) -> u64 {
    attributes.get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Checks keys, index and expiry of the two tables.
pub(super) async fn tables(session: &Session, checks: &mut Checks) {
    let dynamodb = aws_sdk_dynamodb::Client::new(&session.sdk);
    let tables = &session.config.tables;
    let shapes = [
        ("requests table", &tables.requests, vec![("requestId", KeyType::Hash)]),
        ("accounts table", &tables.accounts, vec![("account", KeyType::Hash), ("item", KeyType::Range)]),
    ];
    for (name, table, key) in shapes {
        let described = match dynamodb.describe_table().table_name(table).send().await {
            Ok(answer) => answer.table,
            Err(error) => {
                checks.problem(
                    format!("{name}: is there"),
                    reason(&error),
                    "correct its name in the configuration, or create it",
                );
                continue;
            }
        };
        let Some(described) = described else { continue };
        let keys = keys_of(described.key_schema());
        checks.expect(
            is_key(described.key_schema(), &key) && described.table_status() == Some(&TableStatus::Active),
            format!("{name}: key"),
            format!("{table}, key {keys}"),
            "create it again with the right key: nothing can be stored in this one",
        );
        if name == "requests table" {
            index(&described, checks);
        }
        expiry(&dynamodb, name, table, checks).await;
    }
}

fn index(described: &TableDescription, checks: &mut Checks) {
    let wanted = [("account", KeyType::Hash), ("createdAt", KeyType::Range)];
    let found = described.global_secondary_indexes().iter().find(|index| index.index_name() == Some("byAccount"));
    let keys = found.map(|index| keys_of(index.key_schema()));
    let right = found.is_some_and(|index| is_key(index.key_schema(), &wanted));
    let todo = "`requests list`, `audit` and `export` need the index byAccount (account, createdAt; keys only)";
    checks.expect(
        right,
        "requests table: index",
        keys.map_or_else(|| "no index byAccount".to_owned(), |keys| format!("byAccount, key {keys}")),
        todo,
    );
}

async fn expiry(dynamodb: &aws_sdk_dynamodb::Client, name: &str, table: &str, checks: &mut Checks) {
    let what = format!("{name}: expiry");
    match dynamodb.describe_time_to_live().table_name(table).send().await {
        Ok(answer) => {
            let ttl = answer.time_to_live_description;
            let attribute = ttl.as_ref().and_then(|ttl| ttl.attribute_name()).unwrap_or("none").to_owned();
            let status = ttl.and_then(|ttl| ttl.time_to_live_status);
            let on = matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling));
            if on && attribute == "expiresAt" {
                checks.ok(what, "items are deleted after their expiresAt");
            } else {
                checks.look(
                    what,
                    format!("TTL attribute: {attribute}"),
                    "turn on TTL by `expiresAt`, or the table grows forever",
                );
            }
        }
        Err(error) => checks.look(what, reason(&error), "unknown; check the permission dynamodb:DescribeTimeToLive"),
    }
}

fn is_key(found: &[KeySchemaElement], wanted: &[(&str, KeyType)]) -> bool {
    found.len() == wanted.len()
        && wanted
            .iter()
            .all(|(name, kind)| found.iter().any(|part| part.attribute_name() == *name && part.key_type() == kind))
}

fn keys_of(parts: &[KeySchemaElement]) -> String {
    parts.iter().map(KeySchemaElement::attribute_name).collect::<Vec<_>>().join(" + ")
}

/// Checks the outcome topic.
pub(super) async fn topic(session: &Session, checks: &mut Checks) {
    let sns = aws_sdk_sns::Client::new(&session.sdk);
    let arn = &session.config.outcomes_arn;
    match sns.get_topic_attributes().topic_arn(arn).send().await {
        Ok(answer) => {
            let attributes = answer.attributes.unwrap_or_default();
            let subscribers = attributes.get("SubscriptionsConfirmed").map_or("?", String::as_str);
            if subscribers == "0" {
                checks.look(
                    "outcome topic",
                    "no subscriber",
                    "fine if all backends read the table; otherwise subscribe a queue",
                );
            } else {
                checks.ok("outcome topic", format!("{subscribers} subscriber(s)"));
            }
        }
        Err(error) => checks.problem(
            "outcome topic",
            reason(&error),
            "correct outcomes_arn, or create the topic: no outcome can be published",
        ),
    }
}
