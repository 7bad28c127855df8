//! Claims about the outcome topic.

use signpost_txmgr::machine::Event;
use signpost_txmgr::ports::OutcomeTopic;
use signpost_txmgr::units::Nonce;
use signpost_txmgr::wire::OutcomeMessage;

use crate::lane::{Lane, after, receipt};

/// A topic's other end.
pub trait Subscriber {
    /// Everything that was published and not yet taken.
    fn take_all(&self) -> impl Future<Output = Vec<OutcomeMessage>>;
}

/// A topic with a subscriber.
#[derive(Debug, Clone)]
pub struct Channel<T, S> {
    /// Where outcomes go out.
    pub topic: T,
    /// Where they arrive.
    pub subscriber: S,
}

/// Calls `$each!` with the suite and all its claims.
#[macro_export]
macro_rules! topic_claims {
    ($each:ident) => {
        $each! { topic:
            every_outcome_is_answered_and_arrives_as_it_was_published,
            a_copy_is_equal_to_the_first,
        }
    };
}

/// Outcomes of all kinds, half confirmed, a quarter reverted, a quarter rejected.
#[must_use]
pub fn outcomes(count: u64) -> Vec<OutcomeMessage> {
    let lane = Lane::new("outcomes");
    let outcome = |at: u64| {
        if at % 4 == 3 {
            return OutcomeMessage::of_rejected(&lane.rejected(at));
        }
        let signed = lane.signed(&lane.record(at, Nonce(at)), 1);
        let receipt = receipt(&signed, 9, at % 4 != 2);
        OutcomeMessage::of_record(&after(&signed, &Event::Finalized { receipt, revert: None })).expect("it is settled")
    };
    (0..count).map(outcome).collect()
}

/// More than one batch; the order is not promised.
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
