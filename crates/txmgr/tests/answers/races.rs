//! Two signers with different policies handle one message at once: one of them wins, and both publish its result.

use std::fmt;
use std::sync::{Arc, Mutex};

use signpost_txmgr::fake::{Fate, FaultSource, Interceptor};
use signpost_txmgr::inbox::Incoming;

use crate::fixture::{Fixture, MemorySigner, NOW, RULES, bad, fixture, handle_all, transfer};

/// Lets another signer handle a batch once, just before this call.
struct Meanwhile {
    call: &'static str,
    what: Mutex<Option<(MemorySigner, Vec<Incoming>)>>,
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call)
    }
}

impl FaultSource for Meanwhile {
    fn fate(&self, operation: &'static str) -> Fate {
        if operation == self.call {
            let what = self.what.lock().unwrap().take();
            if let Some((signer, batch)) = what {
                handle_all(&signer, &batch, NOW);
            }
        }
        Fate::Pass
    }
}

/// A signer that another one overtakes: before this call, the other one handles this batch.
fn overtaken(fixture: &Fixture, policy: &str, call: &'static str, by: &str, batch: Vec<Incoming>) -> MemorySigner {
    let what = Mutex::new(Some((fixture.signer(by), batch)));
    fixture.signer_behind(policy, Interceptor::with(Arc::new(Meanwhile { call, what })))
}

fn strict() -> String {
    format!("{RULES}max_gas = 20999\n")
}

#[test]
fn refusal_stored_before_the_slot_wins() {
    for is_refused_before in [false, true] {
        let fixture = fixture(&["one"]);
        if is_refused_before {
            handle_all(&fixture.signer(RULES), &[bad(9, "a", Some("one"))], NOW);
        }
        let batch = vec![transfer(0, "a", Some("one"))];
        let signer = overtaken(&fixture, RULES, "TransactWriteItems", &strict(), batch.clone());
        handle_all(&signer, &batch, NOW);
        let outcomes = fixture.outcomes();
        assert_eq!(outcomes.last().unwrap(), &("a".to_owned(), "gasTooHigh".to_owned(), "m-0".to_owned()));
        assert_eq!(fixture.status("a"), "rejected");
        assert_eq!(fixture.keys.sign_calls(), 0, "I7");
    }
}

#[test]
fn slot_reserved_before_the_refusal_wins() {
    for is_refused_before in [false, true] {
        let fixture = fixture(&["one"]);
        if is_refused_before {
            handle_all(&fixture.signer(RULES), &[bad(9, "a", Some("one"))], NOW);
        }
        let outcomes = fixture.outcomes();
        let batch = vec![transfer(0, "a", Some("one"))];
        let signer = overtaken(&fixture, &strict(), "PutItem", RULES, batch.clone());
        handle_all(&signer, &batch, NOW);
        assert_eq!(fixture.outcomes(), outcomes, "a request with a slot is not refused");
        assert_eq!(fixture.status("a"), "signed");
    }
}

#[test]
fn refusals_of_other_messages_do_not_prevent_a_slot() {
    let fixture = fixture(&["one"]);
    handle_all(&fixture.signer(RULES), &[bad(9, "a", Some("one"))], NOW);
    let others = vec![bad(8, "a", Some("one"))];
    let signer = overtaken(&fixture, RULES, "TransactWriteItems", RULES, others);
    handle_all(&signer, &[transfer(0, "a", Some("one"))], NOW);
    assert_eq!(fixture.record("a").message_id.as_deref(), Some("m-0"));
    fixture.assert_outcomes(&[("a", "gasTooLow", "m-9"), ("a", "gasTooLow", "m-8")]);
    for message in ["sqs:m-8", "sqs:m-9"] {
        assert_eq!(fixture.rejected(message).said_as.unwrap().as_str(), "a");
    }
}

#[test]
fn refusal_of_an_id_taken_meanwhile_is_a_conflict() {
    let fixture = fixture(&["one"]);
    let first = vec![transfer(1, "a", Some("one"))];
    let signer = overtaken(&fixture, RULES, "PutItem", RULES, first);
    handle_all(&signer, &[bad(0, "a", Some("one"))], NOW);
    fixture.assert_outcomes(&[("sqs:m-0", "requestIdReused", "m-0")]);
    assert_eq!(fixture.status("a"), "signed");
}

#[test]
fn slot_for_an_id_taken_meanwhile_is_a_conflict() {
    let fixture = fixture(&["one", "two"]);
    let first = vec![transfer(1, "a", Some("two"))];
    let signer = overtaken(&fixture, RULES, "TransactWriteItems", RULES, first);
    handle_all(&signer, &[transfer(0, "a", Some("one"))], NOW);
    fixture.assert_outcomes(&[("sqs:m-0", "requestIdReused", "m-0")]);
    assert_eq!(fixture.record("a").name.as_str(), "two");
}

#[test]
fn two_refusals_of_one_message_publish_the_first() {
    let fixture = fixture(&["one"]);
    let other = format!("{RULES}max_data_bytes = 0\nallow_to = []\n");
    let batch = vec![transfer(0, "a", Some("one"))];
    let signer = overtaken(&fixture, &strict(), "PutItem", &other, batch.clone());
    handle_all(&signer, &batch, NOW);
    fixture.assert_outcomes(&[("a", "toNotAllowed", "m-0")]);
    assert_eq!(fixture.topic.copies().len(), 2, "both publish it");
}

/// A batch read is not atomic. Here the message's own id is read before its refusal is copied there, and the named id
/// is read after another message's refusal has replaced it.
#[test]
fn copy_stored_between_the_reads_of_a_batch_is_found() {
    let fixture = fixture(&["one"]);
    let batch = vec![transfer(0, "a", Some("one"))];
    handle_all(&fixture.signer(&strict()), &batch, NOW);
    handle_all(&fixture.signer(RULES), &[bad(9, "a", Some("one"))], NOW);
    let outcomes = fixture.outcomes();
    fixture.store.miss_once(&"sqs:m-0".parse().unwrap());
    handle_all(&fixture.signer(RULES), &batch, NOW);
    assert_eq!(fixture.outcomes(), outcomes, "the stored outcome is published again");
    assert_eq!(fixture.topic.copies().len(), outcomes.len() + 1);
    assert_eq!(fixture.keys.sign_calls(), 0, "I15: it was refused");
}
