//! What an outcome contains, and how long its items are kept.

use signpost_txmgr::inbox::Disposition;
use signpost_txmgr::record::Phase;
use signpost_txmgr::units::{Millis, Nonce};
use signpost_txmgr::wire::Status;

use super::fixture::{Fixture, NOW, RETENTION_MS, RULES, done, request};

const METADATA: &str = ",\"metadata\":{\"order\":17,\"tags\":[\"a\"]}";

fn assert_metadata(fixture: &Fixture, id: &str, code: &str) {
    let outcome = fixture.outcome(id);
    assert_eq!(outcome.status, Status::Rejected);
    assert_eq!(outcome.reason.unwrap().code, code);
    assert_eq!(outcome.metadata, Some(serde_json::json!({"order": 17, "tags": ["a"]})), "{code}");
}

#[test]
fn rejection_has_the_callers_metadata() {
    let mut fixture = Fixture::with_rules(&format!("{RULES}max_value_wei = 9\n"));
    fixture.take(request("policy", "one", &format!(",\"value\":10{METADATA}")), NOW);
    assert_metadata(&fixture, "policy", "valueTooHigh");

    fixture.take(request("account", "three", METADATA), NOW);
    assert_metadata(&fixture, "account", "unknownAccount");

    let account = fixture.account("two");
    done(signpost_txmgr::ports::Store::set_paused(&fixture.store, &account, true)).unwrap();
    fixture.take(request("paused", "two", METADATA), NOW);
    assert_metadata(&fixture, "paused", "accountPaused");

    fixture.take(request("field", "one", &format!(",\"colour\":1{METADATA}")), NOW);
    assert_metadata(&fixture, "field", "unknownField");
}

#[test]
fn refusal_by_the_spend_limit_has_the_callers_metadata() {
    // One request of 60,000 gas at the cap of 5 gwei.
    let rules = format!("{RULES}spend_limit_wei = \"300000000000000\"\nspend_window_s = 60\n");
    let mut fixture = Fixture::with_rules(&rules);
    fixture.take(request("first", "one", ""), NOW);
    fixture.take(request("second", "one", METADATA), NOW);
    assert_metadata(&fixture, "second", "spendLimitReached");
}

#[test]
fn confirmed_outcome_has_the_callers_metadata() {
    let mut fixture = Fixture::new();
    fixture.take(request("r-1", "one", METADATA), NOW);
    fixture.finish("one", NOW);
    let outcome = fixture.outcome("r-1");
    assert_eq!((outcome.status, outcome.reason), (Status::Confirmed, None));
    assert_eq!(outcome.metadata, Some(serde_json::json!({"order": 17, "tags": ["a"]})));
}

#[test]
fn reverted_outcome_has_the_reason() {
    let mut fixture = Fixture::new();
    // Error("no funds"): the in-memory chain reverts with this data.
    let data = concat!(
        "0x08c379a0",
        "0000000000000000000000000000000000000000000000000000000000000020",
        "0000000000000000000000000000000000000000000000000000000000000008",
        "6e6f2066756e6473000000000000000000000000000000000000000000000000"
    );
    fixture.take(request("r-1", "one", &format!(",\"data\":\"{data}\"")), NOW);
    fixture.finish("one", NOW);
    let outcome = fixture.outcome("r-1");
    assert_eq!(outcome.status, Status::Reverted);
    let reason = outcome.reason.unwrap();
    assert_eq!(reason.code, "reverted");
    assert!(reason.message.contains("no funds"), "{reason:?}");
    assert_eq!(reason.revert.unwrap().raw, data);
}

#[test]
fn displaced_outcome_names_the_foreign_transaction() {
    let mut fixture = Fixture::new();
    fixture.take(request("r-1", "one", ""), NOW);
    let foreign = fixture.chain.foreign(fixture.account("one").address, Nonce(0));
    fixture.chain.mine();
    fixture.mine_many();
    fixture.finish("one", NOW.plus(60_000));
    let outcome = fixture.outcome("r-1");
    assert_eq!((outcome.status, outcome.tx_hash), (Status::Displaced, Some(foreign.to_string())));
    let reason = outcome.reason.unwrap();
    assert_eq!(reason.code, "displaced");
    assert!(reason.message.contains(&foreign.to_string()), "{reason:?}");
}

#[test]
fn outcome_after_a_passed_deadline_has_that_reason() {
    let mut fixture = Fixture::new();
    let deadline_s = NOW.0 / 1_000 + 10;
    fixture.take(request("r-1", "one", &format!(",\"deadline\":{deadline_s}")), NOW);
    fixture.finish("one", NOW.plus(10_000));
    let outcome = fixture.outcome("r-1");
    assert_eq!((outcome.status, outcome.reason.unwrap().code.as_str()), (Status::Cancelled, "deadlinePassed"));
}

#[test]
fn rejection_is_kept_for_the_whole_retention() {
    let mut fixture = Fixture::new();
    fixture.take(request("r-1", "three", ""), NOW);
    assert_eq!(fixture.rejected("r-1").expires_at, Some(NOW.plus(RETENTION_MS)));

    fixture.store.expire(NOW.plus(RETENTION_MS - 1));
    assert_eq!(fixture.rejected("r-1").reason.code, "unknownAccount");
    fixture.store.expire(NOW.plus(RETENTION_MS));
    assert_eq!(fixture.store.stored(&"r-1".parse().unwrap()), None);
}

#[test]
fn request_and_its_slot_are_kept_for_the_whole_retention() {
    let mut fixture = Fixture::new();
    fixture.take(request("r-1", "one", ""), NOW);
    assert_eq!(slot_expiry(&fixture), [None], "an open slot never expires");
    let closed_at = fixture.finish("one", NOW.plus(100));
    let Phase::Settled(settlement) = fixture.record("r-1").phase else { panic!("settled") };
    let published_at = settlement.published_at.unwrap();
    assert!(published_at > NOW.plus(100) && published_at <= closed_at, "{published_at:?}");
    assert_eq!(settlement.expires_at, Some(published_at.plus(RETENTION_MS)));
    let expiries = slot_expiry(&fixture);
    let [Some(slot)] = expiries.as_slice() else { panic!("{expiries:?}") };
    assert!(*slot >= published_at.plus(RETENTION_MS) && *slot <= closed_at.plus(RETENTION_MS), "{slot:?}");
}

fn slot_expiry(fixture: &Fixture) -> Vec<Option<Millis>> {
    fixture.store.with_tables(|tables| tables.slots.values().map(|slot| slot.expires_at).collect())
}

#[test]
fn id_is_protected_until_its_record_expires() {
    let mut fixture = Fixture::new();
    fixture.take(request("r-1", "one", ""), NOW);
    fixture.finish("one", NOW.plus(100));
    let Phase::Settled(settlement) = fixture.record("r-1").phase else { panic!("settled") };
    let expires_at = settlement.expires_at.unwrap();

    let other = fixture.message(request("r-1", "one", ",\"value\":7"));
    assert_eq!(fixture.handle(&[other], Millis(expires_at.0 - 1)), [Disposition::Done]);
    assert_eq!(fixture.refusals().len(), 1, "the id was used with other contents");
    assert_eq!(fixture.head("one").next_nonce, Nonce(1));

    let later = fixture.message(request("r-1", "one", ",\"value\":7"));
    assert_eq!(fixture.handle(&[later], expires_at), [Disposition::Done]);
    assert_eq!(fixture.record("r-1").nonce, Nonce(1), "past its expiry the id is free, deleted or not");
}
