//! A head of the lane whose price is at its cap.

use super::*;

const LIMIT_MS: u64 = 600_000;

/// A record at 200 wei, which is its cap.
fn capped(class: SendClass) -> Record {
    let attempts = vec![answered(&execute(1, 200), class)];
    Record { max_head_ms: Some(LIMIT_MS), ..in_phase(Phase::Sent, attempts) }
}

fn capped_since(class: SendClass, since: Millis) -> Record {
    Record { capped_since: Some(since), ..capped(class) }
}

fn long_head() -> SlotView {
    SlotView { head_since: START.plus(7), last_sent_at: Some(NOW), ..seen(chain()) }
}

fn next(record: &Record, view: &SlotView, now: Millis) -> Action {
    next_action(record, view, &Tuning::BSC, now)
}

#[test]
fn time_at_the_cap_is_stored_once() {
    let note = next(&capped(SendClass::Accepted), &long_head(), NOW);
    assert_eq!(note, Action::NoteAtCap(START.plus(7)), "since it became the head, not since it was sent");
    let once = apply(&capped(SendClass::Accepted), &Event::AtCap(START.plus(7)), NOW).unwrap();
    let twice = apply(&once, &Event::AtCap(NOW), NOW).unwrap();
    assert_eq!((once.capped_since, twice.capped_since), (Some(START.plus(7)), Some(START.plus(7))));
    assert_eq!(next(&once, &long_head(), START.plus(LIMIT_MS)), Action::Wait, "the time is not over");
}

#[test]
fn head_at_its_cap_is_cancelled_after_the_limit() {
    let at_cap = Action::NoteCancel(CancelCause::AtCap);
    for class in [SendClass::Accepted, SendClass::AlreadyKnown, SendClass::Underpriced(None)] {
        let record = capped_since(class, START);
        let again = SlotView { last_sent_at: Some(START), ..long_head() };
        assert_eq!(next(&record, &again, START.plus(LIMIT_MS - 1)), Action::Send { number: 0 }, "{class:?}");
        assert_eq!(next(&record, &long_head(), START.plus(LIMIT_MS)), at_cap, "{class:?}");
    }
    let cancelled =
        apply(&capped_since(SendClass::Accepted, START), &Event::CancelAsked(CancelCause::AtCap), NOW).unwrap();
    let reason = cancelled.reason().unwrap();
    assert_eq!(reason.code, "atCapTooLong");
    for word in ["max_head_s of 600", "cap of 200 wei", "`maxGasPrice`"] {
        assert!(reason.message.contains(word), "{word}: {}", reason.message);
    }
    // The price of the cancel is a legal bump, above the request's own cap.
    let Action::AskSigner(ask) = next(&cancelled, &long_head(), NOW) else { panic!("a cancel is due") };
    assert_eq!((ask.kind, ask.fee), (AttemptKind::Cancel, Some(price(220))));
}

#[test]
fn only_a_head_at_its_cap_is_cancelled_for_that() {
    let over = START.plus(2 * LIMIT_MS);
    let is_stored = |record: &Record, view: &SlotView| {
        let action = next(record, view, over);
        matches!(action, Action::NoteCancel(_) | Action::NoteAtCap(_))
    };
    let record = capped_since(SendClass::Accepted, START);
    assert!(is_stored(&record, &long_head()));
    let behind = SlotView { is_lane_head: false, ..long_head() };
    let blind = SlotView { chain: None, ..long_head() };
    // In this pass fewer blocks have passed than a bump needs.
    let halted = SlotView { taken_at: Some(BlockNumber(99)), ..long_head() };
    let fresh = SlotView { head_since: over, ..long_head() };
    for (name, view) in [("not the head", behind), ("no node", blind), ("no blocks", halted), ("just begun", fresh)] {
        assert!(!is_stored(&record, &view), "{name}");
    }
    for class in [SendClass::Funds, SendClass::Retry, SendClass::Unknown, SendClass::Misconfigured] {
        assert!(!is_stored(&capped_since(class, START), &long_head()), "{class:?} does not depend on the price");
    }
    let old = Record { max_head_ms: None, ..capped_since(SendClass::Accepted, START) };
    assert!(!is_stored(&old, &long_head()), "from a version that did not store a limit");
    let raised = Record { fee_cap: Wei::from(220), ..capped_since(SendClass::Accepted, START) };
    assert!(matches!(next(&raised, &long_head(), over), Action::AskSigner(_)), "its price may rise");
    assert!(!is_stored(&wanting_cancel(record), &long_head()), "it is cancelled already");
}

#[test]
fn mined_block_resets_the_time_at_the_cap() {
    let mined = apply(&capped_since(SendClass::Accepted, START), &Event::Mined(receipt(1, block(40, 1))), NOW).unwrap();
    let back = apply(&mined, &Event::Unmined, NOW).unwrap();
    assert_eq!(back.capped_since, None);
    assert_eq!(next(&back, &SlotView { head_since: NOW, ..long_head() }, NOW.plus(20_000)), Action::NoteAtCap(NOW));
}

#[test]
fn slot_without_attempts_left_is_at_its_cap_too() {
    let attempts: Vec<_> = (0..Record::max_attempts(AttemptKind::Execute)).map(|_| execute(1, 100)).collect();
    let attempts = attempts.iter().map(|attempt| answered(attempt, SendClass::Accepted)).collect();
    let full = Record { max_head_ms: Some(LIMIT_MS), ..in_phase(Phase::Sent, attempts) };
    assert_eq!(next(&full, &long_head(), NOW), Action::NoteAtCap(START.plus(7)));
}

#[test]
fn first_cause_of_a_cancel_stays() {
    let policy = CancelCause::Policy(Reason {
        code: "denied".to_owned(),
        message: String::new(),
        revert: None,
        request_id: None,
    });
    let once = apply(&signed(), &Event::CancelAsked(policy.clone()), NOW).unwrap();
    let twice = apply(&once, &Event::CancelAsked(CancelCause::Asked), NOW).unwrap();
    assert_eq!(twice.cancel, Some(policy));
}
