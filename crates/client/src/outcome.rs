//! Reads the outcome topic's messages, and detects copies.
//!
//! An outcome is published at least once, so a copy may arrive at any time, from any publisher; all copies
//! have the same `eventId`. [`Seen`] remembers the ids in one process. If a backend must not process an outcome
//! twice, it stores the ids together with its own data, in the same transaction.
//!
//! `message_id` is the id that [`crate::Client::send`] returned for the message that the outcome answers. A `rejected`
//! outcome of another message says nothing about yours. If its reason has a `request_id`, the message used an id that
//! belongs to another request.

use std::collections::{HashSet, VecDeque};

use serde_json::Value;
use signpost_txmgr::wire::OutcomeMessage;

/// Why a body cannot be read as an outcome.
#[derive(Debug, thiserror::Error)]
pub enum OutcomeError {
    /// The body is neither an outcome nor an SNS envelope with one.
    #[error("the body is not an outcome")]
    NotAnOutcome(#[source] serde_json::Error),
    /// The outcome has a newer version.
    #[error("the body has the schema {0:?}, and this version reads outcome.v1")]
    Schema(String),
}

/// Reads the body of a message that the topic sent to a queue: raw (`RawMessageDelivery`), or in an SNS
/// envelope.
pub fn parse(body: &str) -> Result<OutcomeMessage, OutcomeError> {
    let value: Value = serde_json::from_str(body).map_err(OutcomeError::NotAnOutcome)?;
    let enveloped = value.get("Type").is_some_and(|kind| kind == "Notification");
    let value = match value.get("Message").and_then(Value::as_str) {
        Some(inner) if enveloped => serde_json::from_str(inner).map_err(OutcomeError::NotAnOutcome)?,
        Some(_) | None => value,
    };
    match value.get("schema").and_then(Value::as_str) {
        Some(schema) if schema != OutcomeMessage::SCHEMA => Err(OutcomeError::Schema(schema.to_owned())),
        Some(_) | None => serde_json::from_value(value).map_err(OutcomeError::NotAnOutcome),
    }
}

/// The `eventId`s of the last outcomes, up to a capacity; the oldest is evicted first.
#[derive(Debug, Clone)]
pub struct Seen {
    capacity: usize,
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    /// Remembers this number of ids. An id has 64 bytes: 10,000 take about 2 MB.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), ids: HashSet::new(), order: VecDeque::new() }
    }

    /// Whether this is the first copy of the outcome. Remembers it, so that later copies are not.
    pub fn is_first(&mut self, outcome: &OutcomeMessage) -> bool {
        if !self.ids.insert(outcome.event_id.clone()) {
            return false;
        }
        self.order.push_back(outcome.event_id.clone());
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }

    /// Forgets an outcome whose processing failed: its next copy counts as the first again.
    pub fn forget(&mut self, outcome: &OutcomeMessage) {
        if self.ids.remove(&outcome.event_id) {
            self.order.retain(|id| *id != outcome.event_id);
        }
    }
}
