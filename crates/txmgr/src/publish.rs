//! Publishes outcomes. An outcome that the topic refuses for good is published in reduced form.
//!
//! ## Guarantees
//! * An outcome that the topic refuses for its size or contents still reaches the subscribers, with the same
//!   `eventId`. An ERROR log line and [`meters::OUTCOMES_REDUCED`] report it.
//! * A refused outcome does not hold back others.
//!
//! Read next: [`crate::wire::OutcomeMessage::reduced`].

use crate::ports::{OutcomeTopic, PortError};
use crate::wire::OutcomeMessage;
use crate::{error_chain, meters};

/// Publishes outcomes; returns one result each, in order.
pub async fn all<O: OutcomeTopic>(topic: &O, outcomes: &[OutcomeMessage]) -> Vec<Result<(), PortError>> {
    let mut answers = topic.publish(outcomes).await;
    let mut again: Vec<(usize, OutcomeMessage)> = Vec::new();
    for (at, (outcome, answer)) in outcomes.iter().zip(&answers).enumerate() {
        let Err(error) = answer else { continue };
        if error.is_refused_for_good() && !outcome.reduced {
            metrics::counter!(meters::OUTCOMES_REDUCED).increment(1);
            tracing::error!(error = error_chain(error), request_id = %outcome.request_id, event_id = %outcome.event_id,
                "the topic refuses this outcome for good; it is published without metadata and texts");
            again.push((at, outcome.reduced()));
        }
    }
    if again.is_empty() {
        return answers;
    }
    let (places, reduced): (Vec<usize>, Vec<OutcomeMessage>) = again.into_iter().unzip();
    for (at, answer) in places.into_iter().zip(topic.publish(&reduced).await) {
        if let Some(place) = answers.get_mut(at) {
            *place = answer;
        }
    }
    answers
}
