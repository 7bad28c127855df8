//! Every timer of a lane at its limit, a millisecond before and a millisecond after, with the documented numbers
//! written out: a timer that is longer, shorter or starts elsewhere breaks the promise.

use signpost_txmgr::inbox::Disposition;
use signpost_txmgr::meters;
use signpost_txmgr::record::{AttemptKind, CancelCause};
use signpost_txmgr::units::{Millis, Wei};
use signpost_txmgr::wire::WireKind;

use super::fixture::{Counters, Fixture, NOW, request};

/// Three times around a limit, and whether the action is due at each.
fn around(limit_ms: u64) -> [(u64, bool); 3] {
    [(limit_ms - 1, false), (limit_ms, true), (limit_ms + 1, true)]
}

/// A lane whose only slot was sent at `NOW`; the node has dropped it, and many blocks have passed.
fn sent_and_forgotten() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.forget_sends(true);
    fixture.take(request("r-1", "one", ""), NOW);
    fixture.round("one", NOW);
    assert_eq!(fixture.sent().len(), 1);
    fixture.mine_many();
    fixture
}

/// A lane whose only slot was reserved at `NOW` and could not be signed.
fn reserved() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.set_key_disabled("one", true);
    let message = fixture.message(request("r-1", "one", ""));
    assert_eq!(fixture.handle(&[message], NOW), [Disposition::Retry]);
    fixture
}

#[test]
fn head_is_sent_again_after_3_s() {
    for (after, due) in around(3_000) {
        let mut fixture = sent_and_forgotten();
        fixture.round("one", NOW.plus(after));
        assert_eq!(fixture.sent().len(), usize::from(due), "after {after} ms");
        // The next interval counts from the last send.
        if due {
            fixture.round("one", NOW.plus(after + 2_999));
            assert_eq!(fixture.sent().len(), 0, "{after} and 2,999 ms");
            fixture.round("one", NOW.plus(after + 3_000));
            assert_eq!(fixture.sent().len(), 1, "{after} and 3,000 ms");
        }
    }
}

#[test]
fn head_is_bumped_10_s_after_it_was_sent() {
    for (after, due) in around(10_000) {
        let mut fixture = sent_and_forgotten();
        fixture.round("one", NOW.plus(after));
        let asks = fixture.asks();
        assert_eq!(asks.len(), usize::from(due), "after {after} ms");
        assert!(asks.iter().all(|ask| (ask.attempt, ask.kind) == (1, WireKind::Execute)), "{asks:?}");
    }
}

#[test]
fn head_signed_late_is_bumped_10_s_after_it_was_sent() {
    for (after, due) in around(10_000) {
        let mut fixture = reserved();
        fixture.round("one", NOW.plus(6_000));
        let asks = fixture.asks();
        fixture.set_key_disabled("one", false);
        fixture.answer_asks(&asks, NOW.plus(7_000));
        fixture.forget_sends(true);
        fixture.round("one", NOW.plus(8_000));
        assert_eq!(fixture.sent().len(), 1, "it has been the head for 2 s and is sent now");
        fixture.mine_many();
        fixture.round("one", NOW.plus(8_000 + after));
        assert_eq!(fixture.asks().len(), usize::from(due), "{after} ms after it was sent");
    }
}

#[test]
fn head_is_bumped_10_s_after_it_became_the_head() {
    for (after, due) in around(10_000) {
        let mut fixture = Fixture::new();
        fixture.take(request("r-0", "one", ""), NOW);
        fixture.round("one", NOW);
        fixture.forget_sends(true);
        fixture.take(request("r-1", "one", ""), NOW);
        fixture.round("one", NOW);
        // At 8 s the slot below is mined, so the one above becomes the head.
        fixture.mine_many();
        fixture.round("one", NOW.plus(8_000));
        fixture.round("one", NOW.plus(8_000));
        fixture.asks();
        fixture.mine_many();
        fixture.round("one", NOW.plus(8_000 + after));
        let asked: Vec<_> = fixture.asks().into_iter().map(|ask| ask.request_id).collect();
        assert_eq!(asked, ["r-1"].repeat(usize::from(due)), "{after} ms after it became the head");
    }
}

#[test]
fn head_stuck_at_its_cap_warns_after_10_s_then_each_minute() {
    let warnings = |times: &[u64]| {
        let counters = Counters::default();
        metrics::with_local_recorder(&counters, || {
            let mut fixture = Fixture::new();
            fixture.forget_sends(true);
            fixture.take(request("r-1", "one", ",\"gasPrice\":\"5000000000\""), NOW);
            fixture.round("one", NOW);
            for after in times {
                fixture.round("one", NOW.plus(*after));
            }
            assert_eq!(fixture.asks(), [], "it is at the cap");
        });
        counters.of(meters::AT_CAP)
    };
    for (after, due) in around(10_000) {
        assert_eq!(warnings(&[after]), u64::from(due), "after {after} ms");
    }
    for (after, due) in around(60_000) {
        assert_eq!(warnings(&[10_000, 10_000 + after]), 1 + u64::from(due), "{after} ms after the first warning");
    }
}

#[test]
fn missing_signature_is_asked_for_after_5_s_then_less_often() {
    for (after, due) in around(5_000) {
        let mut fixture = reserved();
        fixture.round("one", NOW.plus(after));
        let asks = fixture.asks();
        assert_eq!(asks.len(), usize::from(due), "after {after} ms");
        assert!(asks.iter().all(|ask| (ask.attempt, ask.kind) == (0, WireKind::Execute)), "{asks:?}");
    }
    // Each ask without a result doubles the time since the record changed, up to five minutes.
    for (asked_at, pause) in [(5_000, 5_000), (20_000, 20_000), (400_000, 300_000)] {
        for (after, due) in around(pause) {
            let mut fixture = reserved();
            fixture.round("one", NOW.plus(asked_at));
            assert_eq!(fixture.asks().len(), 1);
            fixture.round("one", NOW.plus(asked_at + after));
            assert_eq!(fixture.asks().len(), usize::from(due), "{after} ms after it was asked for");
        }
    }
}

#[test]
fn unanswered_bump_is_asked_for_again_after_10_s() {
    for (after, due) in around(10_000) {
        let mut fixture = sent_and_forgotten();
        fixture.round("one", NOW.plus(10_000));
        assert_eq!(fixture.asks().len(), 1);
        fixture.mine_many();
        fixture.round("one", NOW.plus(10_000 + after));
        assert_eq!(fixture.asks().len(), usize::from(due), "{after} ms after it was asked for");
    }
}

#[test]
fn cancel_is_wanted_from_the_deadline_on() {
    let deadline_s = NOW.0 / 1_000 + 60;
    for (at, due) in [(Millis(deadline_s * 1_000 - 1), false), (Millis(deadline_s * 1_000), true)] {
        let mut fixture = Fixture::new();
        fixture.forget_sends(true);
        fixture.take(request("r-1", "one", &format!(",\"deadline\":{deadline_s}")), NOW);
        fixture.round("one", NOW);
        fixture.round("one", at);
        assert_eq!(fixture.record("r-1").cancel, due.then_some(CancelCause::Deadline), "at {at}");
    }
}

#[test]
fn request_past_its_deadline_is_never_signed() {
    let deadline_s = NOW.0 / 1_000 + 60;
    for (at, kind) in
        [(Millis(deadline_s * 1_000 - 1), AttemptKind::Execute), (Millis(deadline_s * 1_000), AttemptKind::Cancel)]
    {
        let mut fixture = Fixture::new();
        fixture.set_key_disabled("one", true);
        let message = fixture.message(request("r-1", "one", &format!(",\"deadline\":{deadline_s}")));
        assert_eq!(fixture.handle(&[message], NOW), [Disposition::Retry]);
        fixture.round("one", NOW.plus(6_000));
        let asks = fixture.asks();
        assert_eq!(asks.len(), 1);
        // The ask is delivered at this time.
        fixture.set_key_disabled("one", false);
        fixture.answer_asks(&asks, at);
        let kinds: Vec<_> = fixture.record("r-1").attempts.iter().map(|attempt| attempt.kind).collect();
        assert_eq!(kinds, [kind], "at {at}");
    }
}

#[test]
fn network_price_is_stored_every_15_s_or_10_min_if_unchanged() {
    let gwei = Wei::from_gwei;
    let is_stored = |changed: bool, after: u64| {
        let mut fixture = Fixture::new();
        fixture.forget_sends(true);
        fixture.chain.set_price(Some(gwei(1)));
        fixture.take(request("r-1", "one", ""), NOW);
        fixture.round("one", NOW);
        assert_eq!(fixture.head("one").fee.map(|fee| (fee.gas_price, fee.observed_at)), Some((gwei(1), NOW)));
        fixture.chain.set_price(Some(gwei(if changed { 2 } else { 1 })));
        fixture.round("one", NOW.plus(after));
        fixture.head("one").fee.unwrap().observed_at != NOW
    };
    for (after, due) in around(15_000) {
        assert_eq!(is_stored(true, after), due, "another price after {after} ms");
    }
    for (after, due) in around(600_000) {
        assert_eq!(is_stored(false, after), due, "the same price after {after} ms");
    }
}

#[test]
fn code_and_balance_are_checked_every_10_minutes() {
    for (after, due) in around(600_000) {
        let mut fixture = sent_and_forgotten();
        assert_eq!((fixture.calls_of("eth_getCode"), fixture.calls_of("eth_getBalance")), (1, 1));
        fixture.round("one", NOW.plus(after));
        let checks = 1 + usize::from(due);
        assert_eq!(
            (fixture.calls_of("eth_getCode"), fixture.calls_of("eth_getBalance")),
            (checks, checks),
            "after {after} ms"
        );
    }
}
