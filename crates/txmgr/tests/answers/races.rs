//! Two signers with different policies judge one message at once: one of them wins, and both say the same.

use std::fmt;
use std::sync::{Arc, Mutex};

use signpost_txmgr::fake::{Fate, Gate, Weather};
use signpost_txmgr::inbox::Incoming;

use crate::world::{MemorySigner, NOW, RULES, World, bad, handle_all, transfer, world};

/// What another signer does once, just before this call.
struct Meanwhile {
    call: &'static str,
    what: Mutex<Option<(MemorySigner, Vec<Incoming>)>>,
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call)
    }
}

impl Weather for Meanwhile {
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

/// A signer that is overtaken before this call by another one, which handles this batch.
fn overtaken(world: &World, policy: &str, call: &'static str, by: &str, batch: Vec<Incoming>) -> MemorySigner {
    let what = Mutex::new(Some((world.signer(by), batch)));
    world.signer_behind(policy, Gate::with(Arc::new(Meanwhile { call, what })))
}

fn strict() -> String {
    format!("{RULES}max_gas = 20999\n")
}

#[test]
fn a_refusal_stored_before_the_slot_wins() {
    for is_refused_before in [false, true] {
        let world = world(&["one"]);
        if is_refused_before {
            handle_all(&world.signer(RULES), &[bad(9, "a", Some("one"))], NOW);
        }
        let batch = vec![transfer(0, "a", Some("one"))];
        let signer = overtaken(&world, RULES, "TransactWriteItems", &strict(), batch.clone());
        handle_all(&signer, &batch, NOW);
        let told = world.told();
        assert_eq!(told.last().unwrap(), &("a".to_owned(), "gasTooHigh".to_owned(), "m-0".to_owned()));
        assert_eq!(world.status("a"), "rejected");
        assert_eq!(world.keys.sign_calls(), 0, "I7");
    }
}

#[test]
fn a_slot_reserved_before_the_refusal_wins() {
    for is_refused_before in [false, true] {
        let world = world(&["one"]);
        if is_refused_before {
            handle_all(&world.signer(RULES), &[bad(9, "a", Some("one"))], NOW);
        }
        let told = world.told();
        let batch = vec![transfer(0, "a", Some("one"))];
        let signer = overtaken(&world, &strict(), "PutItem", RULES, batch.clone());
        handle_all(&signer, &batch, NOW);
        assert_eq!(world.told(), told, "what has a slot is not refused");
        assert_eq!(world.status("a"), "signed");
    }
}

#[test]
fn a_slot_follows_the_refusals_of_other_messages() {
    let world = world(&["one"]);
    handle_all(&world.signer(RULES), &[bad(9, "a", Some("one"))], NOW);
    let others = vec![bad(8, "a", Some("one"))];
    let signer = overtaken(&world, RULES, "TransactWriteItems", RULES, others);
    handle_all(&signer, &[transfer(0, "a", Some("one"))], NOW);
    assert_eq!(world.record("a").message_id.as_deref(), Some("m-0"));
    world.assert_told(&[("a", "gasTooLow", "m-9"), ("a", "gasTooLow", "m-8")]);
    for message in ["sqs:m-8", "sqs:m-9"] {
        assert_eq!(world.rejected(message).said_as.unwrap().as_str(), "a");
    }
}

#[test]
fn a_refusal_finds_its_id_taken_meanwhile() {
    let world = world(&["one"]);
    let first = vec![transfer(1, "a", Some("one"))];
    let signer = overtaken(&world, RULES, "PutItem", RULES, first);
    handle_all(&signer, &[bad(0, "a", Some("one"))], NOW);
    world.assert_told(&[("sqs:m-0", "requestIdReused", "m-0")]);
    assert_eq!(world.status("a"), "signed");
}

#[test]
fn a_slot_finds_its_id_taken_meanwhile() {
    let world = world(&["one", "two"]);
    let first = vec![transfer(1, "a", Some("two"))];
    let signer = overtaken(&world, RULES, "TransactWriteItems", RULES, first);
    handle_all(&signer, &[transfer(0, "a", Some("one"))], NOW);
    world.assert_told(&[("sqs:m-0", "requestIdReused", "m-0")]);
    assert_eq!(world.record("a").name.as_str(), "two");
}

#[test]
fn of_two_refusals_of_one_message_one_is_said() {
    let world = world(&["one"]);
    let other = format!("{RULES}max_data_bytes = 0\nallow_to = []\n");
    let batch = vec![transfer(0, "a", Some("one"))];
    let signer = overtaken(&world, &strict(), "PutItem", &other, batch.clone());
    handle_all(&signer, &batch, NOW);
    world.assert_told(&[("a", "toNotAllowed", "m-0")]);
    assert_eq!(world.topic.copies().len(), 2, "both say it");
}

/// A batch read is not one moment: the message's own id is read before its refusal is copied there, and the id it names
/// after another message's refusal took the place.
#[test]
fn a_copy_stored_between_the_reads_of_a_batch_is_found() {
    let world = world(&["one"]);
    let batch = vec![transfer(0, "a", Some("one"))];
    handle_all(&world.signer(&strict()), &batch, NOW);
    handle_all(&world.signer(RULES), &[bad(9, "a", Some("one"))], NOW);
    let told = world.told();
    world.store.miss_once(&"sqs:m-0".parse().unwrap());
    handle_all(&world.signer(RULES), &batch, NOW);
    assert_eq!(world.told(), told, "the stored answer is said again");
    assert_eq!(world.topic.copies().len(), told.len() + 1);
    assert_eq!(world.keys.sign_calls(), 0, "I15: it was refused");
}
