//! Which senders may cancel a request.

use signpost_txmgr::record::{CancelCause, Stored};
use signpost_txmgr::units::ChainId;

use crate::world::{NOW, RULES, World, cancel, from, handle_all, transfer, world};

const OWNER: &str = "AROABACKEND:task-1";

fn accepted(policy: &str, sender: Option<&str>) -> World {
    let world = world(&["one"]);
    let message = transfer(0, "x", Some("one"));
    let message = sender.map_or(message.clone(), |sender| from(sender, message));
    handle_all(&world.signer(policy), &[message], NOW);
    world
}

fn is_cancelled(world: &World) -> bool {
    world.record("x").cancel == Some(CancelCause::Asked)
}

#[test]
fn sender_of_a_request_may_cancel_it() {
    for sender in [OWNER, "AROABACKEND:task-2"] {
        let world = accepted(RULES, Some(OWNER));
        handle_all(&world.signer(RULES), &[from(sender, cancel(1, "x"))], NOW);
        assert!(is_cancelled(&world), "{sender}");
        world.assert_outcomes(&[]);
    }
}

#[test]
fn cancel_by_another_sender_is_refused() {
    // Anyone may send requests for the account.
    let other = from("AROAOTHER:task-1", cancel(1, "x"));
    let nobody = cancel(1, "x");
    for message in [other, nobody] {
        let world = accepted(RULES, Some(OWNER));
        handle_all(&world.signer(RULES), &[message], NOW);
        assert!(!is_cancelled(&world));
        world.assert_outcomes(&[("sqs:m-1", "cancelNotAllowed", "m-1")]);
        assert_eq!(world.rejected("sqs:m-1").reason.request_id.unwrap().as_str(), "x");
    }
}

#[test]
fn senders_listed_by_policy_may_cancel() {
    let policy = format!("{RULES}cancel_senders = [\"AIDADESK\", \"AROARISK:*\"]\n");
    for (sender, allowed) in [("AIDADESK", true), ("AROARISK:anne", true), ("AIDAOTHER", false)] {
        let world = accepted(&policy, Some(OWNER));
        handle_all(&world.signer(&policy), &[from(sender, cancel(1, "x"))], NOW);
        assert_eq!(is_cancelled(&world), allowed, "{sender}");
    }
}

#[test]
fn listed_canceller_may_not_send_requests() {
    let policy = format!("{RULES}allow_senders = [\"AIDAOWN\"]\ncancel_senders = [\"AIDADESK\"]\n");
    let world = world(&["one"]);
    handle_all(&world.signer(&policy), &[from("AIDADESK", transfer(0, "x", Some("one")))], NOW);
    world.assert_outcomes(&[("sqs:m-0", "senderNotAllowed", "m-0")]);
}

#[test]
fn allowed_senders_may_cancel_a_request_without_sender() {
    let policy = format!("{RULES}allow_senders = [\"AIDAOWN\"]\n");
    for (sender, allowed) in [("AIDAOWN", true), ("AIDAOTHER", false)] {
        let world = accepted(RULES, None);
        handle_all(&world.signer(&policy), &[from(sender, cancel(1, "x"))], NOW);
        assert_eq!(is_cancelled(&world), allowed, "{sender}");
    }
}

#[test]
fn request_on_another_chain_is_not_cancelled() {
    // Two Signposts on the same tables.
    let world = accepted(RULES, Some(OWNER));
    world.store.with_tables(|tables| {
        let Some(Stored::Record(record)) = tables.requests.get_mut(&"x".parse().unwrap()) else {
            panic!("it has a slot")
        };
        record.account.chain_id = ChainId(56);
    });
    handle_all(&world.signer(RULES), &[from(OWNER, cancel(1, "x"))], NOW);
    assert!(!is_cancelled(&world));
    world.assert_outcomes(&[("sqs:m-1", "unknownRequest", "m-1")]);
}

#[test]
fn stored_cancel_is_not_refused_when_policy_changes() {
    let policy = format!("{RULES}cancel_senders = [\"AIDADESK\"]\n");
    let world = accepted(&policy, Some(OWNER));
    let batch = [from("AIDADESK", cancel(1, "x"))];
    handle_all(&world.signer(&policy), &batch, NOW);
    handle_all(&world.signer(RULES), &batch, NOW);
    assert!(is_cancelled(&world));
    world.assert_outcomes(&[]);
}

#[test]
fn refused_cancel_does_not_cancel_a_later_request() {
    let world = world(&["one"]);
    let signer = world.signer(RULES);
    let batch = [cancel(1, "x")];
    handle_all(&signer, &batch, NOW);
    handle_all(&signer, &[transfer(0, "x", Some("one"))], NOW);
    handle_all(&signer, &batch, NOW);
    assert!(!is_cancelled(&world));
    world.assert_outcomes(&[("sqs:m-1", "unknownRequest", "m-1")]);
    assert_eq!(world.topic.copies().len(), 2);
}

#[test]
fn cancel_of_a_refused_request_does_not_cancel_it_later() {
    let world = world(&["one"]);
    let signer = world.signer(RULES);
    let one = world.store.with_tables(|tables| tables.names[&"one".parse().unwrap()]);
    world.pause(&one, true);
    handle_all(&signer, &[transfer(0, "x", Some("one"))], NOW);
    assert!(matches!(world.stored("x"), Some(Stored::Rejected(_))));
    let batch = [cancel(1, "x")];
    handle_all(&signer, &batch, NOW);
    world.pause(&one, false);
    handle_all(&signer, &[transfer(2, "x", Some("one"))], NOW);
    handle_all(&signer, &batch, NOW);
    assert!(!is_cancelled(&world));
    world.assert_outcomes(&[("x", "accountPaused", "m-0"), ("sqs:m-1", "unknownRequest", "m-1")]);
}
