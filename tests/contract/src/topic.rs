//! Claims about the outcome topic.

use serde_json::json;
use signpost_txmgr::machine::Event;
use signpost_txmgr::ports::OutcomeTopic;
use signpost_txmgr::publish;
use signpost_txmgr::text::MAX_MESSAGE_BYTES;
use signpost_txmgr::units::Nonce;
use signpost_txmgr::wire::OutcomeMessage;

use crate::lane::{TestLane, after, receipt};

/// The receiving end of a topic.
pub trait Subscriber {
    /// Everything that was published and not yet taken.
    fn take_all(&self) -> impl Future<Output = Vec<OutcomeMessage>>;
}

/// A topic with a subscriber.
#[derive(Debug, Clone)]
pub struct Channel<T, S> {
    /// The topic that outcomes are published to.
    pub topic: T,
    /// The subscriber that receives them.
    pub subscriber: S,
}

/// Calls `$each!` with the suite and all its claims.
#[macro_export]
macro_rules! topic_claims {
    ($each:ident) => {
        $each! { topic:
            every_outcome_is_answered_and_arrives_as_it_was_published,
            a_copy_is_equal_to_the_first,
            metadata_arrives_unchanged_with_any_characters,
            only_the_outcome_that_is_too_long_is_refused_for_good,
            outcome_refused_for_good_is_accepted_when_reduced,
        }
    };
}

/// Outcomes of all kinds, half confirmed, a quarter reverted, a quarter rejected.
#[must_use]
pub fn outcomes(count: u64) -> Vec<OutcomeMessage> {
    let lane = TestLane::new("outcomes");
    let outcome = |at: u64| {
        if at % 4 == 3 {
            return OutcomeMessage::of_rejected(&lane.rejected(at));
        }
        let signed = lane.signed(&lane.record(at, Nonce(at)), 1);
        let receipt = receipt(&signed, 9, at % 4 != 2);
        OutcomeMessage::of_record(&after(&signed, &Event::Finalized { receipt, revert: None, witnesses: 1 }))
            .expect("it is settled")
    };
    (0..count).map(outcome).collect()
}

/// More than one batch, in any order.
pub async fn every_outcome_is_answered_and_arrives_as_it_was_published(
    channel: &Channel<impl OutcomeTopic, impl Subscriber>,
) {
    let mut published = outcomes(25);
    let answers = channel.topic.publish(&published).await;
    assert_eq!(answers.len(), 25);
    for answer in answers {
        answer.unwrap();
    }
    assert!(channel.topic.publish(&[]).await.is_empty());
    let mut arrived = channel.subscriber.take_all().await;
    arrived.sort_by(|left, right| left.event_id.cmp(&right.event_id));
    published.sort_by(|left, right| left.event_id.cmp(&right.event_id));
    assert_eq!(arrived, published);
}

/// I11.
pub async fn a_copy_is_equal_to_the_first(channel: &Channel<impl OutcomeTopic, impl Subscriber>) {
    let published = outcomes(1);
    for _ in 0..2 {
        channel.topic.publish(&published).await.remove(0).unwrap();
    }
    let arrived = channel.subscriber.take_all().await;
    assert_eq!(arrived, [published[0].clone(), published[0].clone()]);
}

/// Characters that SQS and SNS do not accept are written as JSON escapes.
pub async fn metadata_arrives_unchanged_with_any_characters(channel: &Channel<impl OutcomeTopic, impl Subscriber>) {
    let mut published = outcomes(1);
    published[0].metadata = Some(json!({
        "memo\u{ffff}": "\u{0}\u{1b}[2J\u{7f}\u{9b}\u{200d}\u{202e}\u{2028}\u{fdd0}\u{fffe}\u{ffff}\u{1f600}\u{1_ffff}",
    }));
    channel.topic.publish(&published).await.remove(0).unwrap();
    assert_eq!(channel.subscriber.take_all().await, published);
}

/// Three outcomes, the second longer than a topic accepts.
fn with_one_too_long() -> Vec<OutcomeMessage> {
    let mut outcomes = outcomes(3);
    outcomes[1].metadata = Some(json!({ "memo": "x".repeat(MAX_MESSAGE_BYTES) }));
    outcomes
}

/// Refused for its size. Other causes are tested with the adapter and with the gate.
pub async fn only_the_outcome_that_is_too_long_is_refused_for_good(
    channel: &Channel<impl OutcomeTopic, impl Subscriber>,
) {
    let published = with_one_too_long();
    let answers = channel.topic.publish(&published).await;
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    let error = answers[1].as_ref().unwrap_err();
    assert!(error.is_refused_for_good(), "{error:?}");
    assert_eq!(channel.subscriber.take_all().await.len(), 2);
}

/// I11 for an outcome that the topic refuses in full.
pub async fn outcome_refused_for_good_is_accepted_when_reduced(channel: &Channel<impl OutcomeTopic, impl Subscriber>) {
    let published = with_one_too_long();
    for answer in publish::all(&channel.topic, &published).await {
        answer.unwrap();
    }
    let arrived = channel.subscriber.take_all().await;
    let of = |event_id: &str| arrived.iter().find(|outcome| outcome.event_id == event_id).unwrap();
    for outcome in &published {
        let is_long = outcome.event_id == published[1].event_id;
        assert_eq!(*of(&outcome.event_id), if is_long { outcome.reduced() } else { outcome.clone() });
    }
    assert_eq!(arrived.len(), 3);
}
