//! What was noted first and stays.

use super::*;

#[test]
fn the_first_cause_of_a_cancel_stays() {
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

#[test]
fn the_first_time_it_was_sent_stays() {
    let event = Event::Sent { number: 0, answer: SendAnswer::new(SendClass::AlreadyKnown, "known") };
    let next = apply(&sent(SendClass::Accepted), &event, NOW).unwrap();
    let kept = next.attempts[0].sent.as_ref().unwrap();
    assert_eq!((kept.at, kept.answer.class), (START, SendClass::AlreadyKnown));
}
