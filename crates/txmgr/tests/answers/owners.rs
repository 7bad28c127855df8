//! Under which id the outcome of a message is published.

use signpost_txmgr::wire::{OutcomeMessage, RequestStatus};

use crate::fixture::{NOW, bad, cancel, fixture, from, handle_all, message, transfer};

const POLICY: &str = "[account.one]\nmax_gas_price_wei = 10\ngas_price_wei = 5\nallow_senders = [\"AIDAGOOD\"]\n\
    [account.two]\nmax_gas_price_wei = 10\ngas_price_wei = 5\nallow_senders = [\"AIDATWO\"]\n";

#[test]
fn outcome_of_a_stranger_is_never_under_the_named_id() {
    let texts = [
        r#"{"requestId":"invoice-1"}"#,
        r#"{"requestId":"invoice-1","account":"nobody","to":null,"gas":5}"#,
        r#"{"requestId":"invoice-1","account":"three","to":null,"gas":5}"#,
        r#"{"requestId":"invoice-1","account":"one","to":null,"gas":5}"#,
        r#"{"cancel":"invoice-1"}"#,
        r#"{"requestId":"invoice-1","privateKey":"x"}"#,
    ];
    for is_before in [true, false] {
        let fixture = fixture(&["one", "two", "three"]);
        let signer = fixture.signer(POLICY);
        let good = [from("AIDAGOOD", transfer(100, "invoice-1", Some("one")))];
        if !is_before {
            handle_all(&signer, &good, NOW);
        }
        for (at, text) in texts.iter().enumerate() {
            handle_all(&signer, &[from("STRANGER", message(at, text))], NOW);
        }
        let outcomes = fixture.outcomes();
        assert_eq!(outcomes.len(), texts.len(), "each is answered");
        for (id, _, by) in outcomes {
            assert_eq!(id, format!("sqs:{by}"), "before: {is_before}");
        }
        for copy in fixture.topic.copies() {
            let reason = copy.reason.unwrap();
            assert_eq!(reason.request_id.as_deref(), Some("invoice-1"), "{}", reason.message);
            assert_eq!(copy.sender.as_deref(), Some("STRANGER"));
        }
        if is_before {
            assert_eq!(fixture.status("invoice-1"), "unknown");
            handle_all(&signer, &good, NOW);
        }
        assert_eq!(fixture.record("invoice-1").sender.as_deref(), Some("AIDAGOOD"));
        assert_eq!(fixture.record("invoice-1").cancel, None);
    }
}

#[test]
fn sender_of_another_account_is_a_stranger_to_this_one() {
    let fixture = fixture(&["one", "two"]);
    let signer = fixture.signer(POLICY);
    handle_all(&signer, &[from("AIDATWO", bad(0, "x", Some("one")))], NOW);
    fixture.assert_outcomes(&[("sqs:m-0", "senderNotAllowed", "m-0")]);
    handle_all(&signer, &[from("AIDATWO", bad(1, "y", Some("two")))], NOW);
    assert_eq!(fixture.outcomes()[1].0, "y", "a refusal for its own account is published under its id");
}

#[test]
fn every_sender_is_known_if_no_policy_lists_senders() {
    let fixture = fixture(&["one"]);
    let policy = "[default]\nmax_gas_price_wei = 10\ngas_price_wei = 5\n";
    handle_all(&fixture.signer(policy), &[message(0, r#"{"requestId":"x"}"#)], NOW);
    assert_eq!(fixture.outcomes()[0].0, "x");
}

#[test]
fn sender_allowed_elsewhere_cannot_take_over_a_used_id() {
    let fixture = fixture(&["one", "two"]);
    let signer = fixture.signer(POLICY);
    handle_all(&signer, &[from("AIDAGOOD", transfer(0, "x", Some("one")))], NOW);
    handle_all(&signer, &[from("AIDATWO", transfer(1, "x", Some("two")))], NOW);
    handle_all(&signer, &[from("AIDATWO", message(2, r#"{"requestId":"x"}"#))], NOW);
    fixture.assert_outcomes(&[("sqs:m-1", "requestIdReused", "m-1"), ("sqs:m-2", "requestIdReused", "m-2")]);
    assert_eq!(fixture.record("x").name.as_str(), "one");
}

#[test]
fn outcome_and_status_name_sender_and_message() {
    let fixture = fixture(&["one"]);
    let signer = fixture.signer(POLICY);
    let batch = [
        from("AIDAGOOD", transfer(0, "x", Some("one"))),
        from("AIDAGOOD", bad(1, "y", Some("one"))),
        from("AIDAGOOD", cancel(2, "z")),
    ];
    handle_all(&signer, &batch, NOW);
    let whose = |sender: Option<String>, message: Option<String>| (sender.unwrap(), message.unwrap());
    for (at, id) in ["x", "y", "sqs:m-2"].into_iter().enumerate() {
        let status = RequestStatus::of(&fixture.stored(id).unwrap());
        assert_eq!(whose(status.sender, status.message_id), ("AIDAGOOD".to_owned(), format!("m-{at}")));
    }
    for id in ["y", "sqs:m-2"] {
        let outcome = OutcomeMessage::of_rejected(&fixture.rejected(id));
        assert!(fixture.topic.copies().contains(&outcome), "{id}");
        assert_eq!(outcome.sender.as_deref(), Some("AIDAGOOD"));
    }
    // A copy under the message id has the same outcome as the original.
    let (named, kept) = (fixture.rejected("y"), fixture.rejected("sqs:m-1"));
    assert_eq!(OutcomeMessage::of_rejected(&kept), OutcomeMessage::of_rejected(&named));
}
