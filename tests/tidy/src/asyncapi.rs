//! `schemas/asyncapi.yaml` and its page: the queue that callers send to and the topic that they subscribe to, with the
//! payloads of [`signpost_txmgr::wire::schema`].

use std::fmt::Write as _;
use std::fs;

use serde_json::{Map, Value, json};
use signpost_txmgr::wire::schema::schemas;

use crate::fields::cell;
use crate::{MADE_BY, root, yaml};

/// A message: its name, the file of its schema without `.v1.json`, a title, a summary, its headers.
struct Message {
    name: &'static str,
    schema: &'static str,
    title: &'static str,
    summary: &'static str,
    headers: fn() -> Value,
}

const ABOUT: &str = "Signs BNB Smart Chain transactions with AWS KMS and sends them to the chain. Send a request to \
    the signing queue; receive its outcome from the outcome topic. The status of a request is read from the requests \
    table (request-status.v1.json), which is not a channel.";

const ABOUT_QUEUE: &str = "Callers send requests and cancels here. Requests with the same MessageGroupId keep their \
    order; where order does not matter, use the requestId. Use a random MessageDeduplicationId.";

const ABOUT_TOPIC: &str = "Every outcome is published here at least once. Filter by the message attributes status, \
    account and chainId; drop copies by eventId. With the parameter FifoTopic the name ends in .fifo, and the \
    message group is the account.";

const ABOUT_PAGE: &str = "This page shows [`asyncapi.yaml`](asyncapi.yaml), an AsyncAPI 3.0 document with SQS and \
    SNS bindings. The fields of each message and the refusal codes are in [`README.md`](README.md).";

const MESSAGES: [Message; 3] = [
    Message {
        name: "signingRequest",
        schema: "signing-request",
        title: "Signing request",
        summary: "Asks Signpost to sign one transaction and to send it to the chain.",
        headers: trace_headers,
    },
    Message {
        name: "cancelRequest",
        schema: "cancel-request",
        title: "Cancel request",
        summary: "Asks Signpost to cancel a request that the same sender sent before.",
        headers: trace_headers,
    },
    Message {
        name: "outcome",
        schema: "outcome",
        title: "Outcome",
        summary: "The one outcome of a message that was sent to the signing queue.",
        headers: outcome_headers,
    },
];

/// The message attributes of what callers send.
fn trace_headers() -> Value {
    json!({
        "type": "object",
        "properties": { "traceparent": trace() },
    })
}

/// The message attributes of an outcome, as `crates/aws/src/sns.rs` sets them.
fn outcome_headers() -> Value {
    json!({
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": { "type": "string", "enum": ["confirmed", "reverted", "cancelled", "displaced", "rejected"],
                "description": "As in the body. Data type String." },
            "account": { "type": "string",
                "description": "As in the body, where the account is known. Data type String." },
            "chainId": { "type": "string", "pattern": "^[0-9]+$",
                "description": "As in the body, where the account is known. Data type Number." },
            "traceparent": trace(),
        },
    })
}

fn trace() -> Value {
    json!({
        "type": "string",
        "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
        "description": "W3C Trace Context, where the request came with a trace. Data type String.",
    })
}

/// The AsyncAPI document. Queue and topic are those of `infra/template.yaml` with its default names; a test compares.
#[must_use]
pub fn document() -> Value {
    let messages: Map<String, Value> =
        MESSAGES.iter().map(|message| (message.name.to_owned(), described(message))).collect();
    let refer = |names: &[&str]| -> Map<String, Value> {
        names
            .iter()
            .map(|name| ((*name).to_owned(), json!({ "$ref": format!("#/components/messages/{name}") })))
            .collect()
    };
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Signpost",
            "version": "1.0.0",
            "description": ABOUT,
            "license": { "name": "MIT-0" },
        },
        "defaultContentType": "application/json",
        "channels": {
            "signingQueue": {
                "address": "signpost-signing.fifo",
                "title": "Signing queue",
                "description": ABOUT_QUEUE,
                "messages": refer(&["signingRequest", "cancelRequest"]),
                "bindings": { "sqs": signing_queue() },
            },
            "outcomeTopic": {
                "address": "signpost-outcomes",
                "title": "Outcome topic",
                "description": ABOUT_TOPIC,
                "messages": refer(&["outcome"]),
                "bindings": { "sns": { "name": "signpost-outcomes", "ordering": { "type": "standard" },
                    "bindingVersion": "0.1.0" } },
            },
        },
        "operations": {
            "receiveRequest": {
                "action": "receive",
                "title": "Receive a request",
                "channel": { "$ref": "#/channels/signingQueue" },
                "messages": [
                    { "$ref": "#/channels/signingQueue/messages/signingRequest" },
                    { "$ref": "#/channels/signingQueue/messages/cancelRequest" },
                ],
                "summary": "Signpost takes a request or a cancel from the queue. Each message ends in one outcome.",
                "bindings": { "sqs": { "queues": [queue()], "bindingVersion": "0.2.0" } },
            },
            "sendOutcome": {
                "action": "send",
                "title": "Send an outcome",
                "channel": { "$ref": "#/channels/outcomeTopic" },
                "messages": [{ "$ref": "#/channels/outcomeTopic/messages/outcome" }],
                "summary": "Signpost publishes the outcome of a message, with its message attributes.",
                "bindings": { "sns": {
                    "topic": { "name": "signpost-outcomes" },
                    "consumers": [{
                        "protocol": "sqs",
                        "endpoint": { "name": "your-outcomes" },
                        "filterPolicy": { "status": ["confirmed", "reverted", "cancelled", "displaced", "rejected"] },
                        "filterPolicyScope": "MessageAttributes",
                        "rawMessageDelivery": true,
                    }],
                    "bindingVersion": "0.1.0",
                } },
            },
        },
        "components": { "messages": messages, "schemas": payloads() },
    })
}

fn queue() -> Value {
    json!({
        "name": "signpost-signing.fifo",
        "fifoQueue": true,
        "deduplicationScope": "messageGroup",
        "fifoThroughputLimit": "perMessageGroupId",
        "visibilityTimeout": 180,
        "messageRetentionPeriod": 1_209_600,
        "redrivePolicy": { "deadLetterQueue": { "name": "signpost-signing-dlq.fifo" }, "maxReceiveCount": 10 },
    })
}

fn signing_queue() -> Value {
    json!({
        "queue": queue(),
        "deadLetterQueue":
            { "name": "signpost-signing-dlq.fifo", "fifoQueue": true, "messageRetentionPeriod": 1_209_600 },
        "bindingVersion": "0.2.0",
    })
}

fn described(message: &Message) -> Value {
    let examples: Vec<Value> = examples(message.schema)
        .into_iter()
        .map(|(name, payload)| json!({ "name": name, "payload": payload }))
        .collect();
    json!({
        "name": format!("{}.v1", message.schema),
        "title": message.title,
        "summary": message.summary,
        "contentType": "application/json",
        "headers": (message.headers)(),
        "payload": { "$ref": format!("#/components/schemas/{}", message.name) },
        "examples": examples,
    })
}

/// The good examples of a schema, by name.
fn examples(schema: &str) -> Vec<(String, Value)> {
    let directory = root().join(format!("schemas/examples/{schema}.v1"));
    let mut found: Vec<(String, Value)> = fs::read_dir(directory)
        .expect("a schema has examples")
        .map(|entry| entry.expect("an entry can be read").path())
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            let text = fs::read_to_string(&path).ok()?;
            (!name.starts_with("bad-")).then(|| (name, serde_json::from_str(&text).expect("an example is JSON")))
        })
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// The payloads and what they refer to, with references within this document.
fn payloads() -> Map<String, Value> {
    let mut all = Map::new();
    for (file, mut schema) in schemas() {
        let Some(message) = MESSAGES.iter().find(|message| file == format!("{}.v1.json", message.schema)) else {
            continue;
        };
        let object = schema.as_object_mut().expect("a schema is an object");
        object.remove("$schema");
        let inner = object.remove("$defs");
        for (name, inner) in inner.as_ref().and_then(Value::as_object).into_iter().flatten() {
            let before = all.insert(name.clone(), moved(inner.clone()));
            assert!(before.is_none_or(|before| before == all[name]), "one name has one schema: {name}");
        }
        all.insert(message.name.to_owned(), moved(schema));
    }
    all
}

/// A schema whose references lead to this document's place for them, and whose texts have one line.
fn moved(schema: Value) -> Value {
    match schema {
        Value::Object(map) => map
            .into_iter()
            .map(|(name, value)| {
                let value = match (name.as_str(), value) {
                    ("$ref", Value::String(path)) => json!(path.replace("#/$defs/", "#/components/schemas/")),
                    ("description", Value::String(text)) => json!(text.replace('\n', " ")),
                    (_, value) => moved(value),
                };
                (name, value)
            })
            .collect(),
        Value::Array(list) => list.into_iter().map(moved).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => schema,
    }
}

/// The document as YAML.
#[must_use]
pub fn file() -> String {
    format!("# {MADE_BY}\n{}", yaml::document(&document()))
}

/// The document as a page.
#[must_use]
pub fn page() -> String {
    let document = document();
    let text = |value: &Value| cell(value.as_str().unwrap_or_default());
    let mut out = format!("# Channels and messages\n\n<!-- {MADE_BY} -->\n\n");
    wrap(ABOUT_PAGE, &mut out);
    for (name, channel) in document["channels"].as_object().into_iter().flatten() {
        let _ = write!(out, "\n## {}\n\n", text(&channel["title"]));
        wrap(channel["description"].as_str().unwrap_or_default(), &mut out);
        let _ = write!(out, "\n| | |\n|---|---|\n| address | `{}` |\n", text(&channel["address"]));
        for (_, operation) in document["operations"].as_object().into_iter().flatten() {
            if operation["channel"]["$ref"] == format!("#/channels/{name}") {
                let _ = writeln!(out, "| {} | {} |", text(&operation["action"]), text(&operation["summary"]));
            }
        }
        for (protocol, binding) in channel["bindings"].as_object().into_iter().flatten() {
            settings(&protocol.to_uppercase(), binding, "", &mut out);
        }
        for (message, _) in channel["messages"].as_object().into_iter().flatten() {
            shown(message, &document["components"]["messages"][message], &mut out);
        }
    }
    out
}

/// The settings of a binding, one row each.
fn settings(protocol: &str, value: &Value, path: &str, out: &mut String) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}{name}");
        if value.is_object() {
            settings(protocol, value, &format!("{path}."), out);
        } else {
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            let _ = writeln!(out, "| {protocol} `{path}` | `{value}` |");
        }
    }
}

fn shown(name: &str, message: &Value, out: &mut String) {
    let schema = MESSAGES.iter().find(|one| one.name == name).map_or(name, |one| one.schema);
    let title = message["title"].as_str().unwrap_or(name);
    let _ = write!(out, "\n### {title}\n\n");
    let fields = format!("[fields](README.md#{schema})");
    let file = format!("[`{schema}.v1.json`]({schema}.v1.json)");
    wrap(message["summary"].as_str().unwrap_or_default(), out);
    let _ = write!(out, "Payload: {file}; {fields}. Message attributes:\n\n");
    out.push_str(&crate::fields::table(&message["headers"]));
    out.push('\n');
    for example in message["examples"].as_array().into_iter().flatten() {
        let name = example["name"].as_str().unwrap_or_default();
        let path = format!("examples/{schema}.v1/{name}.json");
        let _ = writeln!(out, "* example [`{name}`]({path})");
    }
}

/// A text in lines of 120 columns at most.
fn wrap(text: &str, out: &mut String) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count().saturating_add(word.chars().count()) >= 120 {
            let _ = writeln!(out, "{line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}
