//! Which senders may cancel a request.

use signpost_txmgr::record::{CancelCause, Stored};
use signpost_txmgr::units::ChainId;

use crate::fixture::{Fixture, NOW, RULES, cancel, fixture, from, handle_all, transfer};

const OWNER: &str = "AROABACKEND:task-1";

fn accepted(policy: &str, sender: Option<&str>) -> Fixture {
    let fixture = fixture(&["one"]);
    let message = transfer(0, "x", Some("one"));
    let message = sender.map_or(message.clone(), |sender| from(sender, message));
    handle_all(&fixture.signer(policy), &[message], NOW);
    fixture
}

fn is_cancelled(fixture: &Fixture) -> bool {
    fixture.record("x").cancel == Some(CancelCause::Asked)
}

#[test]
fn sender_of_a_request_may_cancel_it() {
    for sender in [OWNER, "AROABACKEND:task-2"] {
        let fixture = accepted(RULES, Some(OWNER));
        handle_all(&fixture.signer(RULES), &[from(sender, cancel(1, "x"))], NOW);
        assert!(is_cancelled(&fixture), "{sender}");
        fixture.assert_outcomes(&[]);
    }
}

#[test]
fn cancel_by_another_sender_is_refused() {
    // Anyone may send requests for the account.
    let other = from("AROAOTHER:task-1", cancel(1, "x"));
    let nobody = cancel(1, "x");
    for message in [other, nobody] {
        let fixture = accepted(RULES, Some(OWNER));
        handle_all(&fixture.signer(RULES), &[message], NOW);
        assert!(!is_cancelled(&fixture));
        fixture.assert_outcomes(&[("sqs:m-1", "cancelNotAllowed", "m-1")]);
        assert_eq!(fixture.rejected("sqs:m-1").reason.request_id.unwrap().as_str(), "x");
    }
}

#[test]
fn senders_listed_by_policy_may_cancel() {
    let policy = format!("{RULES}cancel_senders = [\"AIDADESK\", \"AROARISK:*\"]\n");
    for (sender, allowed) in [("AIDADESK", true), ("AROARISK:anne", true), ("AIDAOTHER", false)] {
        let fixture = accepted(&policy, Some(OWNER));
        handle_all(&fixture.signer(&policy), &[from(sender, cancel(1, "x"))], NOW);
        assert_eq!(is_cancelled(&fixture), allowed, "{sender}");
    }
}

#[test]
fn listed_canceller_may_not_send_requests() {
    let policy = format!("{RULES}allow_senders = [\"AIDAOWN\"]\ncancel_senders = [\"AIDADESK\"]\n");
    let fixture = fixture(&["one"]);
    handle_all(&fixture.signer(&policy), &[from("AIDADESK", transfer(0, "x", Some("one")))], NOW);
    fixture.assert_outcomes(&[("sqs:m-0", "senderNotAllowed", "m-0")]);
}

#[test]
fn allowed_senders_may_cancel_a_request_without_sender() {
    let policy = format!("{RULES}allow_senders = [\"AIDAOWN\"]\n");
    for (sender, allowed) in [("AIDAOWN", true), ("AIDAOTHER", false)] {
        let fixture = accepted(RULES, None);
        handle_all(&fixture.signer(&policy), &[from(sender, cancel(1, "x"))], NOW);
        assert_eq!(is_cancelled(&fixture), allowed, "{sender}");
    }
}

#[test]
fn request_on_another_chain_is_not_cancelled() {
    // Two Signposts on the same tables.
    let fixture = accepted(RULES, Some(OWNER));
    fixture.store.with_tables(|tables| {
        let Some(Stored::Record(record)) = tables.requests.get_mut(&"x".parse().unwrap()) else {
            panic!("it has a slot")
        };
        record.account.chain_id = ChainId(56);
    });
    handle_all(&fixture.signer(RULES), &[from(OWNER, cancel(1, "x"))], NOW);
    assert!(!is_cancelled(&fixture));
    fixture.assert_outcomes(&[("sqs:m-1", "unknownRequest", "m-1")]);
}

#[test]
fn stored_cancel_is_not_refused_when_policy_changes() {
    let policy = format!("{RULES}cancel_senders = [\"AIDADESK\"]\n");
    let fixture = accepted(&policy, Some(OWNER));
    let batch = [from("AIDADESK", cancel(1, "x"))];
    handle_all(&fixture.signer(&policy), &batch, NOW);
    handle_all(&fixture.signer(RULES), &batch, NOW);
    assert!(is_cancelled(&fixture));
    fixture.assert_outcomes(&[]);
}

#[test]
fn refused_cancel_does_not_cancel_a_later_request() {
    let fixture = fixture(&["one"]);
    let signer = fixture.signer(RULES);
    let batch = [cancel(1, "x")];
    handle_all(&signer, &batch, NOW);
    handle_all(&signer, &[transfer(0, "x", Some("one"))], NOW);
    handle_all(&signer, &batch, NOW);
    assert!(!is_cancelled(&fixture));
    fixture.assert_outcomes(&[("sqs:m-1", "unknownRequest", "m-1")]);
    assert_eq!(fixture.topic.copies().len(), 2);
}

#[test]
fn cancel_of_a_refused_request_does_not_cancel_it_later() {
    let fixture = fixture(&["one"]);
    let signer = fixture.signer(RULES);
    let one = fixture.store.with_tables(|tables| tables.names[&"one".parse().unwrap()]);
    fixture.pause(&one, true);
    handle_all(&signer, &[transfer(0, "x", Some("one"))], NOW);
    assert!(matches!(fixture.stored("x"), Some(Stored::Rejected(_))));
    let batch = [cancel(1, "x")];
    handle_all(&signer, &batch, NOW);
    fixture.pause(&one, false);
    handle_all(&signer, &[transfer(2, "x", Some("one"))], NOW);
    handle_all(&signer, &batch, NOW);
    assert!(!is_cancelled(&fixture));
    fixture.assert_outcomes(&[("x", "accountPaused", "m-0"), ("sqs:m-1", "unknownRequest", "m-1")]);
}
