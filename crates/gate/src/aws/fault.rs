//! The faults between a caller and AWS.
//!
//! | fault | what the caller receives | usual calls |
//! |---|---|---|
//! | `transactionConflict` | `TransactionCanceledException`, see below | `TransactWriteItems` |
//! | `throttle` | the service's throttling error | every data call |
//! | `noCapacity` | `ProvisionedThroughputExceededException` | DynamoDB's data calls |
//! | `http500`, `http503` | the service's error; the call has no effect | every data call |
//! | `error` | the rule's `status`, `code` and `message` | every data call |
//! | `slow` | the right answer, `delayMs` late | every data call |
//! | `timeoutBeforeForward`, `resetBeforeForward` | nothing; the call has no effect | every data call |
//! | `timeoutAfterForward`, `replyLost` | nothing; the call took effect | calls with an effect |
//! | `http500AfterForward` | an internal error; the call took effect | calls with an effect |
//! | `refusedForGood` | an error for some entries, see below | `SendMessageBatch`, `PublishBatch` |
//! | `duplicateDelivery` | its messages, which are visible again at once | `ReceiveMessage` of standard queues |
//!
//! `transactionConflict` has the reasons `[TransactionConflict, None...]`, where the rule's `item` is the index of the
//! conflict. For a single write the error is `TransactionConflictException`.
//!
//! `refusedForGood` refuses entries permanently (`InvalidMessageContents`, on a topic `InvalidParameter`) and accepts
//! the others; with a `status` it refuses the whole call. The rule's `contains` selects entries by their body; without
//! it all are refused, except outcomes with `"reduced":true`. It is not in the mix of all faults.
//!
//! Methods in rules are `kms:Sign`, `Sign` or `kms:*`.

use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::operation::Operation;
use super::wire::WireError;
use crate::script::{Fault, Rule};

/// Calls that change something: after a lost reply the caller does not know the effect.
const EFFECTS: [&str; 11] = [
    "dynamodb:TransactWriteItems",
    "dynamodb:PutItem",
    "dynamodb:UpdateItem",
    "dynamodb:DeleteItem",
    "kms:Sign",
    "sqs:SendMessage",
    "sqs:SendMessageBatch",
    "sqs:DeleteMessage",
    "sqs:DeleteMessageBatch",
    "sns:Publish",
    "sns:PublishBatch",
];
/// The other calls of a running worker. Calls that create tables and queues have faults only if a rule names them.
const READS: [&str; 10] = [
    "dynamodb:GetItem",
    "dynamodb:BatchGetItem",
    "dynamodb:BatchWriteItem",
    "dynamodb:TransactGetItems",
    "dynamodb:Query",
    "dynamodb:Scan",
    "kms:GetPublicKey",
    "sqs:ReceiveMessage",
    "sqs:ChangeMessageVisibility",
    "sqs:ChangeMessageVisibilityBatch",
];

/// A fault of the AWS gate. Its name in scripts is in the table of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AwsFault {
    /// A conflict with another transaction on an item.
    TransactionConflict,
    /// Throttling.
    Throttle,
    /// The table has no capacity.
    NoCapacity,
    /// Internal error.
    Http500,
    /// Unavailable.
    Http503,
    /// The error of the rule.
    Error,
    /// A late answer.
    Slow,
    /// No answer, and no effect.
    TimeoutBeforeForward,
    /// A closed connection, and no effect.
    ResetBeforeForward,
    /// No answer, but the call took effect.
    TimeoutAfterForward,
    /// A closed connection, but the call took effect.
    ReplyLost,
    /// An internal error, but the call took effect.
    Http500AfterForward,
    /// Entries that are refused permanently.
    RefusedForGood,
    /// Messages that are delivered twice.
    DuplicateDelivery,
}

impl Fault for AwsFault {
    fn concerns(self, method: &str) -> bool {
        let is_effect = EFFECTS.contains(&method);
        match self {
            Self::TransactionConflict => method == "dynamodb:TransactWriteItems",
            Self::DuplicateDelivery => method == "sqs:ReceiveMessage",
            Self::RefusedForGood => matches!(method, "sqs:SendMessageBatch" | "sns:PublishBatch"),
            Self::TimeoutAfterForward | Self::ReplyLost | Self::Http500AfterForward => is_effect,
            Self::NoCapacity => method.starts_with("dynamodb:") && (is_effect || READS.contains(&method)),
            Self::Throttle
            | Self::Http500
            | Self::Http503
            | Self::Error
            | Self::Slow
            | Self::TimeoutBeforeForward
            | Self::ResetBeforeForward => is_effect || READS.contains(&method),
        }
    }

    fn names(wanted: &str, method: &str) -> bool {
        let (service, action) = method.split_once(':').unwrap_or(("", method));
        wanted == method || wanted == action || wanted.strip_suffix(":*") == Some(service)
    }

    fn all() -> Vec<Rule<Self>> {
        let rule = |fault: Self, probability: f64| Rule::new(fault).probability(probability);
        vec![
            rule(Self::TransactionConflict, 0.05),
            rule(Self::ReplyLost, 0.03),
            rule(Self::Http500AfterForward, 0.02),
            rule(Self::TimeoutAfterForward, 0.001).delay_ms(8_000),
            rule(Self::Throttle, 0.03),
            rule(Self::NoCapacity, 0.02),
            rule(Self::Http500, 0.01),
            rule(Self::Http503, 0.01),
            rule(Self::ResetBeforeForward, 0.01),
            rule(Self::TimeoutBeforeForward, 0.001).delay_ms(8_000),
            rule(Self::Slow, 0.02).delay_ms(200),
            rule(Self::DuplicateDelivery, 0.15),
        ]
    }
}

/// The error that replaces a call, which then has no effect; `None` for other kinds of faults.
pub(crate) fn answer(rule: &Rule<AwsFault>, operation: &Operation, request: &Value) -> Option<Response> {
    let error = match rule.fault {
        AwsFault::TransactionConflict => {
            let items = request["TransactItems"].as_array().map(Vec::len);
            WireError::conflict(items, rule.item.unwrap_or(0))
        }
        AwsFault::Throttle => WireError::throttle(operation.service),
        AwsFault::NoCapacity => WireError::no_capacity(operation.service),
        AwsFault::Http500 => WireError::internal(operation.service),
        AwsFault::Http503 => WireError::unavailable(operation.service),
        AwsFault::Error => {
            let code = rule.code.as_ref().and_then(Value::as_str).unwrap_or("ValidationException");
            let message = rule.message.as_deref().unwrap_or("injected by the gate's script");
            WireError::new(rule.status.unwrap_or(400), code, message)
        }
        AwsFault::Slow
        | AwsFault::TimeoutBeforeForward
        | AwsFault::ResetBeforeForward
        | AwsFault::TimeoutAfterForward
        | AwsFault::ReplyLost
        | AwsFault::Http500AfterForward
        | AwsFault::RefusedForGood
        | AwsFault::DuplicateDelivery => return None,
    };
    Some(error.respond(operation))
}
