//! Reading what the outcome topic sends, and dropping copies.
//!
//! An outcome is published at least once, so a copy may come at any time, from any publisher; all copies
//! have the same `eventId`. [`Seen`] remembers those of one process. A backend whose work must not be
//! done twice keeps them where its work is kept, in the same transaction.
//!
//! `message_id` is the id that [`crate::Client::send`] returned for the message an outcome answers. A `rejected`
//! outcome of another message says nothing about yours, and one whose reason has a `request_id` is about a message
//! that named an id which is not its own.

use std::collections::{HashSet, VecDeque};

use serde_json::Value;
use signpost_txmgr::wire::OutcomeMessage;

/// Why a body is no outcome this version can read.
#[derive(Debug, thiserror::Error)]
pub enum OutcomeError {
    /// Neither an outcome nor SNS's envelope around one.
    #[error("the body is no outcome")]
    NotAnOutcome(#[source] serde_json::Error),
    /// An outcome of a newer version.
    #[error("the body has the schema {0:?}, and this version reads outcome.v1")]
    Schema(String),
}

/// Reads the body of a message that the topic sent to a queue: raw (`RawMessageDelivery`), or in SNS's
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

/// The `eventId`s of the outcomes seen last: as many as it was made for, then the oldest is forgotten.
#[derive(Debug, Clone)]
pub struct Seen {
    capacity: usize,
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    /// Remembers so many. An id has 64 bytes: 10,000 take about 2 MB.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), ids: HashSet::new(), order: VecDeque::new() }
    }

    /// Whether this is the first copy. From now on it is remembered, and every other copy is none.
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

    /// The work for an outcome failed: its next copy is the first again.
    pub fn forget(&mut self, outcome: &OutcomeMessage) {
        if self.ids.remove(&outcome.event_id) {
            self.order.retain(|id| *id != outcome.event_id);
        }
    }
}
