//! Outcomes that the topic refuses for good, and pokes that the queue refuses for good.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use serde_json::json;
use signpost_txmgr::fake::{Fate, FaultSource, Interceptor, Journal, MemoryQueues, MemoryTopic, QueueRules, SimClock};
use signpost_txmgr::ports::{BroadcastQueue as _, OutcomeTopic as _};
use signpost_txmgr::publish;
use signpost_txmgr::text::MAX_MESSAGE_BYTES;
use signpost_txmgr::units::Millis;
use signpost_txmgr::wire::{LanePoke, OutcomeMessage};

/// Refuses every body that contains this text.
#[derive(Debug)]
struct Refuses(&'static str);

impl FaultSource for Refuses {
    fn fate(&self, _: &'static str) -> Fate {
        Fate::Pass
    }

    fn refuses(&self, _: &'static str, body: &str) -> bool {
        body.contains(self.0)
    }
}

fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

fn topic(interceptor: Interceptor) -> MemoryTopic {
    MemoryTopic::new(interceptor, Journal::default())
}

fn outcome(id: &str, memo: &str) -> OutcomeMessage {
    serde_json::from_value(json!({
        "schema": "outcome.v1", "eventId": format!("event-{id}"), "requestId": id, "status": "reverted",
        "reason": {
            "code": "reverted", "message": "the transaction reverted: no",
            "revert": { "text": "no", "raw": "0x00" },
        },
        "metadata": { "memo": memo },
    }))
    .unwrap()
}

#[test]
fn only_a_refused_outcome_is_published_reduced() {
    let topic = topic(Interceptor::with(Arc::new(Refuses("foul"))));
    let outcomes = [outcome("a", "fine"), outcome("b", "foul"), outcome("c", "fine")];
    let answers = run(publish::all(&topic, &outcomes));
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let copies = topic.copies();
    assert_eq!(copies, [outcomes[0].clone(), outcomes[2].clone(), outcomes[1].reduced()]);
    let reduced = serde_json::to_value(&copies[2]).unwrap();
    let expected = json!({
        "schema": "outcome.v1", "eventId": "event-b", "requestId": "b", "status": "reverted",
        "reason": { "code": "reverted", "message": "reverted" }, "reduced": true,
    });
    assert_eq!(reduced, expected);
}

#[test]
fn outcome_refused_twice_is_an_error() {
    let topic = topic(Interceptor::with(Arc::new(Refuses("event-b"))));
    let answers = run(publish::all(&topic, &[outcome("a", "x"), outcome("b", "x")]));
    assert!(answers[0].is_ok());
    assert!(answers[1].as_ref().unwrap_err().is_refused_for_good());
    assert_eq!(topic.copies().len(), 1);
}

#[test]
fn memory_topic_refuses_what_sns_refuses() {
    let topic = topic(Interceptor::default());
    let long = outcome("a", &"x".repeat(MAX_MESSAGE_BYTES));
    let error = run(topic.publish(&[long])).remove(0).unwrap_err();
    assert!(error.is_refused_for_good());
    // Characters that are not plain are escaped before they reach the topic.
    run(topic.publish(&[outcome("b", "a\u{ffff}\u{1b}")])).remove(0).unwrap();
    assert_eq!(topic.copies()[0].metadata, Some(json!({ "memo": "a\u{ffff}\u{1b}" })));
}

fn queues(interceptor: &Interceptor) -> MemoryQueues {
    MemoryQueues::new(QueueRules::FIFO, &SimClock::at(Millis(1)), interceptor, &Journal::default())
}

#[test]
fn refused_poke_is_an_error_after_the_others_are_sent() {
    let queues = queues(&Interceptor::with(Arc::new(Refuses("foul"))));
    let poke = |at: u32, cause: &str| LanePoke { account: format!("97:0x{at:040x}"), cause: cause.to_owned() };
    let error = run(queues.poke_lanes(&[poke(1, "fine"), poke(2, "foul"), poke(3, "fine")])).unwrap_err();
    assert!(error.is_refused_for_good());
    assert_eq!(queues.broadcast.len(), 2);
}

#[test]
#[should_panic(expected = "SQS takes no such body")]
fn body_that_sqs_refuses_is_not_a_message() {
    queues(&Interceptor::default()).signing.put("{\"memo\":\"\u{ffff}\"}", None, None, None);
}
