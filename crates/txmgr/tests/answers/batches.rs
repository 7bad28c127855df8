//! Messages of one id in one batch end as they would in two.

use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::record::CancelCause;

use crate::world::{NOW, RULES, World, bad, cancel, handle, handle_all, transfer, ungrouped, world};

/// Handles the same messages in one batch and in two, on both kinds of queue, and judges each.
fn together_and_apart(messages: &[Incoming], judge: impl Fn(&World)) {
    let standard: Vec<_> = messages.iter().cloned().map(ungrouped).collect();
    for messages in [messages, standard.as_slice()] {
        for size in [1, messages.len()] {
            let world = world(&["one", "two"]);
            let signer = world.signer(RULES);
            for batch in messages.chunks(size) {
                handle_all(&signer, batch, NOW);
            }
            judge(&world);
        }
    }
}

#[test]
fn bad_message_behind_a_good_one_is_refused_beside_it() {
    let one = Some("one");
    together_and_apart(&[transfer(0, "x", one), bad(1, "x", one), bad(2, "x", Some("two"))], |world| {
        world.assert_told(&[("sqs:m-1", "requestIdReused", "m-1"), ("sqs:m-2", "requestIdReused", "m-2")]);
        assert_eq!(world.status("x"), "signed");
        let named = world.rejected("sqs:m-1").reason.request_id.unwrap();
        assert_eq!(named.as_str(), "x");
    });
}

#[test]
fn good_message_behind_a_bad_one_is_accepted() {
    let one = Some("one");
    together_and_apart(&[bad(0, "x", one), transfer(1, "x", one), transfer(2, "x", one)], |world| {
        world.assert_told(&[("x", "gasTooLow", "m-0")]);
        assert_eq!(world.record("x").message_id.as_deref(), Some("m-1"));
    });
}

#[test]
fn cancel_ahead_of_its_request_does_not_cancel_it() {
    together_and_apart(&[cancel(0, "x"), transfer(1, "x", Some("one"))], |world| {
        world.assert_told(&[("sqs:m-0", "unknownRequest", "m-0")]);
        assert_eq!((world.status("x"), world.record("x").cancel), ("signed", None));
    });
}

#[test]
fn cancel_behind_its_request_cancels_it() {
    together_and_apart(&[transfer(0, "x", Some("one")), cancel(1, "x")], |world| {
        world.assert_told(&[]);
        assert_eq!(world.record("x").cancel, Some(CancelCause::Asked));
    });
}

#[test]
fn an_id_asked_for_with_two_accounts_is_the_first_one_s() {
    for [first, second] in [["one", "two"], ["two", "one"]] {
        together_and_apart(&[transfer(0, "x", Some(first)), transfer(1, "x", Some(second))], |world| {
            world.assert_told(&[("sqs:m-1", "requestIdReused", "m-1")]);
            assert_eq!(world.record("x").name.as_str(), first);
        });
    }
}

#[test]
fn slots_follow_message_order_where_an_id_comes_twice() {
    let one = Some("one");
    together_and_apart(&[bad(0, "x", one), transfer(1, "x", one), transfer(2, "y", one)], |world| {
        assert_eq!([world.record("x").nonce.0, world.record("y").nonce.0], [0, 1]);
    });
}

#[test]
fn one_message_delivered_twice_in_a_batch_is_answered_once() {
    let one = Some("one");
    for message in [transfer(0, "x", one), bad(0, "x", one), cancel(0, "x")] {
        together_and_apart(&[message.clone(), message], |world| assert!(world.told().len() <= 1));
    }
}

#[test]
fn nothing_is_judged_behind_a_retried_message_of_its_group() {
    let world = world(&["one"]);
    let signer = world.signer(RULES);
    world.disable("one", true);
    let batch = [transfer(0, "x", Some("one")), bad(1, "x", Some("one"))];
    assert_eq!(handle(&signer, &batch, NOW), [Disposition::Retry; 2]);
    world.assert_told(&[]);
    let apart = batch.clone().map(ungrouped);
    assert_eq!(handle(&signer, &apart, NOW), [Disposition::Retry, Disposition::Done], "a standard queue has no order");
    world.disable("one", false);
    handle_all(&signer, &batch, NOW);
    world.assert_told(&[("sqs:m-1", "requestIdReused", "m-1")]);
}
