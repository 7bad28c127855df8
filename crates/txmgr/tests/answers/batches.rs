//! Messages with the same request id have the same outcomes in one batch as in separate batches.

use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::record::CancelCause;

use crate::fixture::{Fixture, NOW, RULES, bad, cancel, fixture, handle, handle_all, transfer, ungrouped};

/// Handles the same messages in one batch and one by one, on both kinds of queue, and checks each result.
fn together_and_apart(messages: &[Incoming], judge: impl Fn(&Fixture)) {
    let standard: Vec<_> = messages.iter().cloned().map(ungrouped).collect();
    for messages in [messages, standard.as_slice()] {
        for size in [1, messages.len()] {
            let fixture = fixture(&["one", "two"]);
            let signer = fixture.signer(RULES);
            for batch in messages.chunks(size) {
                handle_all(&signer, batch, NOW);
            }
            judge(&fixture);
        }
    }
}

#[test]
fn bad_message_after_a_good_one_is_refused_separately() {
    let one = Some("one");
    together_and_apart(&[transfer(0, "x", one), bad(1, "x", one), bad(2, "x", Some("two"))], |fixture| {
        fixture.assert_outcomes(&[("sqs:m-1", "requestIdReused", "m-1"), ("sqs:m-2", "requestIdReused", "m-2")]);
        assert_eq!(fixture.status("x"), "signed");
        let named = fixture.rejected("sqs:m-1").reason.request_id.unwrap();
        assert_eq!(named.as_str(), "x");
    });
}

#[test]
fn good_message_after_a_bad_one_is_accepted() {
    let one = Some("one");
    together_and_apart(&[bad(0, "x", one), transfer(1, "x", one), transfer(2, "x", one)], |fixture| {
        fixture.assert_outcomes(&[("x", "gasTooLow", "m-0")]);
        assert_eq!(fixture.record("x").message_id.as_deref(), Some("m-1"));
    });
}

#[test]
fn cancel_before_its_request_does_not_cancel_it() {
    together_and_apart(&[cancel(0, "x"), transfer(1, "x", Some("one"))], |fixture| {
        fixture.assert_outcomes(&[("sqs:m-0", "unknownRequest", "m-0")]);
        assert_eq!((fixture.status("x"), fixture.record("x").cancel), ("signed", None));
    });
}

#[test]
fn cancel_after_its_request_cancels_it() {
    together_and_apart(&[transfer(0, "x", Some("one")), cancel(1, "x")], |fixture| {
        fixture.assert_outcomes(&[]);
        assert_eq!(fixture.record("x").cancel, Some(CancelCause::Asked));
    });
}

#[test]
fn id_used_with_two_accounts_belongs_to_the_first() {
    for [first, second] in [["one", "two"], ["two", "one"]] {
        together_and_apart(&[transfer(0, "x", Some(first)), transfer(1, "x", Some(second))], |fixture| {
            fixture.assert_outcomes(&[("sqs:m-1", "requestIdReused", "m-1")]);
            assert_eq!(fixture.record("x").name.as_str(), first);
        });
    }
}

#[test]
fn slots_follow_message_order_when_an_id_repeats() {
    let one = Some("one");
    together_and_apart(&[bad(0, "x", one), transfer(1, "x", one), transfer(2, "y", one)], |fixture| {
        assert_eq!([fixture.record("x").nonce.0, fixture.record("y").nonce.0], [0, 1]);
    });
}

#[test]
fn message_delivered_twice_in_a_batch_is_answered_once() {
    let one = Some("one");
    for message in [transfer(0, "x", one), bad(0, "x", one), cancel(0, "x")] {
        together_and_apart(&[message.clone(), message], |fixture| assert!(fixture.outcomes().len() <= 1));
    }
}

#[test]
fn messages_after_a_retried_one_of_their_group_wait() {
    let fixture = fixture(&["one"]);
    let signer = fixture.signer(RULES);
    fixture.disable("one", true);
    let batch = [transfer(0, "x", Some("one")), bad(1, "x", Some("one"))];
    assert_eq!(handle(&signer, &batch, NOW), [Disposition::Retry; 2]);
    fixture.assert_outcomes(&[]);
    let apart = batch.clone().map(ungrouped);
    assert_eq!(handle(&signer, &apart, NOW), [Disposition::Retry, Disposition::Done], "a standard queue has no order");
    fixture.disable("one", false);
    handle_all(&signer, &batch, NOW);
    fixture.assert_outcomes(&[("sqs:m-1", "requestIdReused", "m-1")]);
}
