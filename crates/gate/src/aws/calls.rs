//! Records calls as IAM sees them: caller, action, resource, and values for policy conditions.
//!
//! A test passes these records to a policy evaluator. They are read from requests only: the emulator does not check
//! permissions, so success proves nothing. The caller is the access key id, which the emulator does not check: each
//! part of a test has its own.
//!
//! Does not know names that only AWS resolves, such as a key behind an alias, and conditions on anything but the
//! request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use axum::http::HeaderMap;
use serde::Serialize;
use serde_json::Value;

use super::operation::text;

/// The limit of recorded kinds of calls; a test makes a few hundred.
const KINDS_MAX: usize = 10_000;
/// Words in DynamoDB expressions that are not attributes.
const WORDS: [&str; 18] = [
    "set",
    "remove",
    "add",
    "delete",
    "and",
    "or",
    "not",
    "between",
    "in",
    "attribute_exists",
    "attribute_not_exists",
    "attribute_type",
    "begins_with",
    "contains",
    "size",
    "if_not_exists",
    "list_append",
    "true",
];
/// Condition keys with the place of their values in the body. DynamoDB attributes are collected separately.
const CONDITIONS: [(&str, &str, &str); 4] = [
    ("kms", "SigningAlgorithm", "kms:SigningAlgorithm"),
    ("kms", "MessageType", "kms:MessageType"),
    ("sns", "Protocol", "sns:Protocol"),
    ("sns", "Endpoint", "sns:Endpoint"),
];
const ATTRIBUTES: &str = "dynamodb:Attributes";

/// A kind of call. Calls that differ only in their attributes are of the same kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Right {
    /// The id of the access key.
    who: String,
    /// The name of the IAM action.
    action: String,
    /// The resource that the request names.
    on: String,
    /// Condition keys with their values.
    conditions: BTreeMap<String, String>,
}

/// The calls that were made.
#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<BTreeMap<Right, BTreeSet<String>>>);

impl Calls {
    pub(super) fn note(&self, headers: &HeaderMap, body: &[u8]) {
        let mut kept = self.0.lock().expect("no holder of the calls panics");
        for (right, attributes) in rights(headers, body) {
            if kept.len() < KINDS_MAX || kept.contains_key(&right) {
                kept.entry(right).or_default().extend(attributes);
            }
        }
    }

    /// JSON with one object for each kind, with all attributes that its calls named.
    pub(super) fn show(&self) -> Value {
        let kept = self.0.lock().expect("no holder of the calls panics");
        let rows = kept.iter().map(|(right, attributes)| {
            let mut row = serde_json::to_value(right).unwrap_or_default();
            if !attributes.is_empty() {
                row["conditions"][ATTRIBUTES] = attributes.iter().cloned().collect();
            }
            row
        });
        rows.collect()
    }
}

/// The permissions that a request needs, each with the attributes it names.
fn rights(headers: &HeaderMap, body: &[u8]) -> Vec<(Right, BTreeSet<String>)> {
    let credential = text(headers, "authorization").and_then(|line| line.split("Credential=").nth(1));
    let who = credential.and_then(|scope| scope.split('/').next()).unwrap_or_default();
    let (service, action, body): (String, String, Value) = if let Some(target) = text(headers, "x-amz-target") {
        let (prefix, action) = target.rsplit_once('.').unwrap_or(("", target));
        (service_of(prefix), action.to_owned(), serde_json::from_slice(body).unwrap_or_default())
    } else {
        let form: BTreeMap<String, String> = url::form_urlencoded::parse(body).into_owned().collect();
        let service = credential.and_then(|scope| scope.split('/').nth(3)).unwrap_or_default();
        let action = form.get("Action").cloned().unwrap_or_default();
        (service.to_owned(), action, form.into_iter().map(|(name, value)| (name, Value::from(value))).collect())
    };
    if action.is_empty() {
        return Vec::new();
    }
    let keys = CONDITIONS.iter().filter(|(of, _, _)| *of == service);
    let conditions: BTreeMap<String, String> =
        keys.filter_map(|(_, member, key)| Some(((*key).to_owned(), body[member].as_str()?.to_owned()))).collect();
    parts(&service, &action, &body)
        .into_iter()
        .map(|part| {
            let action = format!("{service}:{}", part.action);
            (Right { who: who.to_owned(), action, on: part.on, conditions: conditions.clone() }, part.attributes)
        })
        .collect()
}

fn service_of(prefix: &str) -> String {
    match prefix {
        "DynamoDB_20120810" => "dynamodb".to_owned(),
        "TrentService" => "kms".to_owned(),
        "AmazonSQS" => "sqs".to_owned(),
        other => other.to_lowercase(),
    }
}

struct Part {
    action: String,
    on: String,
    attributes: BTreeSet<String>,
}

impl Part {
    fn new(action: &str, on: &str) -> Self {
        Self { action: action.to_owned(), on: on.to_owned(), attributes: BTreeSet::new() }
    }
}

/// IAM has no action for batches and transactions: they need the permissions of their parts.
fn parts(service: &str, action: &str, body: &Value) -> Vec<Part> {
    let text = |member: &str| body[member].as_str().unwrap_or_default();
    match (service, action) {
        ("dynamodb", "TransactWriteItems") => {
            let items = body["TransactItems"].as_array().into_iter().flatten().filter_map(Value::as_object).flatten();
            items
                .map(|(kind, item)| write(if kind == "ConditionCheck" { "ConditionCheckItem" } else { "" }, kind, item))
                .collect()
        }
        ("dynamodb", "BatchGetItem" | "BatchWriteItem") => {
            let tables = body["RequestItems"].as_object().into_iter().flatten();
            tables.map(|(table, _)| Part::new(action, table)).collect()
        }
        ("dynamodb", "PutItem" | "UpdateItem" | "DeleteItem") => vec![write(action, "", body)],
        ("dynamodb", "Query" | "Scan") if !text("IndexName").is_empty() => {
            vec![Part::new(action, &format!("{}/index/{}", text("TableName"), text("IndexName")))]
        }
        ("dynamodb", _) => vec![Part::new(action, text("TableName"))],
        ("kms", _) => vec![Part::new(action, text("KeyId"))],
        ("secretsmanager", _) => vec![Part::new(action, text("SecretId"))],
        ("sqs", _) => {
            let name = if text("QueueUrl").is_empty() { text("QueueName") } else { text("QueueUrl") };
            let name = name.rsplit('/').next().unwrap_or_default();
            vec![Part::new(action.strip_suffix("Batch").unwrap_or(action), name)]
        }
        ("sns", "Unsubscribe") => {
            let subscription = text("SubscriptionArn");
            vec![Part::new(action, subscription.rsplit_once(':').map_or(subscription, |(topic, _)| topic))]
        }
        ("sns", _) => vec![Part::new(action.strip_suffix("Batch").unwrap_or(action), text("TopicArn"))],
        _ => vec![Part::new(action, "")],
    }
}

/// A write of one item, with all attributes it names.
fn write(action: &str, kind: &str, request: &Value) -> Part {
    let action = if action.is_empty() { format!("{kind}Item") } else { action.to_owned() };
    let mut part = Part::new(&action, request["TableName"].as_str().unwrap_or_default());
    for whole in ["Key", "Item"] {
        part.attributes.extend(request[whole].as_object().into_iter().flatten().map(|(name, _)| name.clone()));
    }
    for expression in ["UpdateExpression", "ConditionExpression"] {
        let written = request[expression].as_str().unwrap_or_default();
        part.attributes.extend(attributes(written, &request["ExpressionAttributeNames"]));
    }
    part
}

/// The attributes in an expression, named directly or by a placeholder. For a path, its first part.
fn attributes(expression: &str, names: &Value) -> Vec<String> {
    let is_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '#' | ':' | '.');
    expression
        .split(|c| !is_of_name(c))
        .filter_map(|token| token.split('.').next())
        .filter(|name| !name.is_empty() && !name.starts_with(':') && !name.starts_with(|c: char| c.is_ascii_digit()))
        .filter(|name| !WORDS.contains(&name.to_lowercase().as_str()))
        .map(|name| names[name].as_str().unwrap_or(name).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use serde_json::json;

    use super::*;

    fn seen(headers: &[(&'static str, &'static str)], body: &str) -> Value {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let calls = Calls::default();
        calls.note(&headers.collect(), body.as_bytes());
        calls.show()
    }

    const SIGNER: (&str, &str) =
        ("authorization", "AWS4-HMAC-SHA256 Credential=signer/20260101/us-east-1/sns/aws4_request, SignedHeaders=host");

    #[test]
    fn transaction_needs_the_permissions_of_its_parts() {
        let body = json!({ "TransactItems": [
            { "Update": { "TableName": "accounts", "Key": { "account": { "S": "a" }, "item": { "S": "head" } },
                "UpdateExpression": "SET #n = :to, spend = if_not_exists(#s.#inner, :s) REMOVE plain",
                "ConditionExpression": "attribute_exists(#a) AND NOT #p = :false AND size(#l) BETWEEN :a AND 12",
                "ExpressionAttributeNames": { "#n": "nextNonce", "#s": "seen", "#inner": "inner", "#a": "account",
                    "#p": "paused", "#l": "list" } } },
            { "Put": { "TableName": "requests", "Item": { "requestId": { "S": "r" }, "digest": { "S": "d" } } } },
        ] });
        let target = ("x-amz-target", "DynamoDB_20120810.TransactWriteItems");
        let expected = json!([
            { "who": "signer", "action": "dynamodb:PutItem", "on": "requests",
                "conditions": { "dynamodb:Attributes": ["digest", "requestId"] } },
            { "who": "signer", "action": "dynamodb:UpdateItem", "on": "accounts", "conditions": { "dynamodb:Attributes":
                ["account", "item", "list", "nextNonce", "paused", "plain", "seen", "spend"] } },
        ]);
        assert_eq!(seen(&[target, SIGNER], &body.to_string()), expected);
    }

    #[test]
    fn resource_is_read_as_each_service_names_it() {
        let cases = [
            (
                "TrentService.Sign",
                json!({ "KeyId": "k", "SigningAlgorithm": "ECDSA_SHA_256", "MessageType": "DIGEST" }),
                json!({ "action": "kms:Sign", "on": "k",
                    "conditions": { "kms:MessageType": "DIGEST", "kms:SigningAlgorithm": "ECDSA_SHA_256" } }),
            ),
            (
                "AmazonSQS.SendMessageBatch",
                json!({ "QueueUrl": "http://x/000000000000/q.fifo" }),
                json!({ "action": "sqs:SendMessage", "on": "q.fifo", "conditions": {} }),
            ),
            (
                "AmazonSQS.GetQueueUrl",
                json!({ "QueueName": "q" }),
                json!({ "action": "sqs:GetQueueUrl", "on": "q", "conditions": {} }),
            ),
            (
                "secretsmanager.GetSecretValue",
                json!({ "SecretId": "s" }),
                json!({ "action": "secretsmanager:GetSecretValue", "on": "s", "conditions": {} }),
            ),
            (
                "DynamoDB_20120810.Query",
                json!({ "TableName": "t", "IndexName": "i" }),
                json!({ "action": "dynamodb:Query", "on": "t/index/i", "conditions": {} }),
            ),
            (
                "DynamoDB_20120810.BatchGetItem",
                json!({ "RequestItems": { "t": {} } }),
                json!({ "action": "dynamodb:BatchGetItem", "on": "t", "conditions": {} }),
            ),
        ];
        for (target, body, mut expected) in cases {
            expected["who"] = json!("signer");
            assert_eq!(seen(&[("x-amz-target", target), SIGNER], &body.to_string()), json!([expected]), "{target}");
        }
        let form = "Action=Subscribe&TopicArn=arn%3Aaws%3Asns%3Ax%3A1%3At&Protocol=sqs&Endpoint=arn%3Aaws%3Asqs";
        let conditions = json!({ "sns:Endpoint": "arn:aws:sqs", "sns:Protocol": "sqs" });
        let on = "arn:aws:sns:x:1:t";
        let expected = json!([{ "who": "signer", "action": "sns:Subscribe", "on": on, "conditions": conditions }]);
        assert_eq!(seen(&[SIGNER], form), expected);
        let form = "Action=Unsubscribe&SubscriptionArn=arn%3Aaws%3Asns%3Ax%3A1%3At%3A77";
        assert_eq!(seen(&[SIGNER], form)[0]["on"], json!("arn:aws:sns:x:1:t"));
    }
}
