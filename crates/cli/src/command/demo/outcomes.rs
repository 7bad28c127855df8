//! Receives the outcomes as a subscriber does.

use std::collections::BTreeMap;

use signpost_txmgr::wire::OutcomeMessage;

use crate::command::CommandError;
use crate::command::watch::Tail;

/// Receives outcomes from the topic until `expected` are there, or none arrives for some seconds. Copies of one event
/// count once.
pub(super) async fn gather(tail: &Tail, expected: usize) -> Result<Vec<OutcomeMessage>, CommandError> {
    let mut events: BTreeMap<String, OutcomeMessage> = BTreeMap::new();
    while events.len() < expected {
        let bodies = tail.receive().await?;
        if bodies.is_empty() {
            break;
        }
        for body in bodies {
            let outcome: OutcomeMessage = serde_json::from_str(&body)
                .map_err(|error| CommandError::Demo(format!("an outcome cannot be read: {error}")))?;
            events.insert(outcome.event_id.clone(), outcome);
        }
    }
    Ok(events.into_values().collect())
}
