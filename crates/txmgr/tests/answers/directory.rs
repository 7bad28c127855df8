//! What a lookup of an account costs, and how failed lookups affect other accounts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use signpost_txmgr::fake::{Fate, FaultSource, Interceptor};
use signpost_txmgr::inbox::Disposition;
use signpost_txmgr::ports::Happened;

use crate::fixture::{NOW, RULES, fixture, handle, handle_all, transfer, ungrouped};

/// Counts the store's calls by name and lets the calls of one name fail.
#[derive(Debug, Default)]
struct Counting {
    calls: Mutex<BTreeMap<&'static str, usize>>,
    failing: Mutex<Option<&'static str>>,
}

impl Counting {
    fn calls(&self, operation: &str) -> usize {
        self.calls.lock().unwrap().get(operation).copied().unwrap_or_default()
    }

    fn fail(&self, operation: Option<&'static str>) {
        *self.failing.lock().unwrap() = operation;
    }
}

impl FaultSource for Counting {
    fn fate(&self, operation: &'static str) -> Fate {
        let mut calls = self.calls.lock().unwrap();
        let count = calls.entry(operation).or_default();
        *count = count.saturating_add(1);
        drop(calls);
        match *self.failing.lock().unwrap() {
            Some(failing) if failing == operation => Fate::Fail { happened: Happened::No, throttled: true },
            Some(_) | None => Fate::Pass,
        }
    }
}

#[test]
fn unknown_accounts_do_not_read_the_directory_per_batch() {
    let (fixture, count) = (fixture(&["one", "two"]), Arc::new(Counting::default()));
    let signer = fixture.signer_behind(RULES, Interceptor::with(count.clone()));
    for at in 0..20 {
        let account = (at % 2 == 0).then_some("nobody");
        handle_all(&signer, &[transfer(at, &format!("u-{at}"), account)], NOW.plus(u64::try_from(at).unwrap()));
    }
    assert_eq!(count.calls("Scan"), 2, "once for the name, once for none");
    for at in 20..420 {
        handle_all(&signer, &[transfer(at, &format!("u-{at}"), Some(&format!("nobody-{at}")))], NOW);
    }
    assert!(count.calls("Scan") < 70, "a flood of names is bounded: {}", count.calls("Scan"));
}

#[test]
fn account_registered_after_a_failed_lookup_is_found() {
    let fixture = fixture(&["one"]);
    let signer = fixture.signer(RULES);
    handle_all(&signer, &[transfer(0, "a", Some("two"))], NOW);
    fixture.register("two");
    handle_all(&signer, &[transfer(1, "b", Some("two"))], NOW.plus(10_000));
    assert_eq!((fixture.status("a"), fixture.status("b")), ("rejected", "signed"));
}

#[test]
fn account_registered_since_the_last_read_is_found_at_once() {
    let fixture = fixture(&["one"]);
    let signer = fixture.signer(RULES);
    handle_all(&signer, &[transfer(0, "a", Some("one"))], NOW);
    fixture.register("two");
    handle_all(&signer, &[transfer(1, "b", Some("two"))], NOW);
    assert_eq!(fixture.status("b"), "signed");
}

#[test]
fn unreadable_directory_does_not_delay_known_accounts() {
    let (fixture, count) = (fixture(&["one"]), Arc::new(Counting::default()));
    let signer = fixture.signer_behind(RULES, Interceptor::with(count.clone()));
    handle_all(&signer, &[transfer(0, "a", Some("one"))], NOW);
    fixture.register("two");
    count.fail(Some("Scan"));
    let batch = [transfer(1, "b", Some("two")), transfer(2, "c", Some("one"))].map(ungrouped);
    assert_eq!(handle(&signer, &batch, NOW), [Disposition::Retry, Disposition::Done]);
    assert_eq!((fixture.status("b"), fixture.status("c")), ("unknown", "signed"));
    fixture.assert_outcomes(&[]);
    count.fail(None);
    handle_all(&signer, &batch, NOW);
    assert_eq!(fixture.status("b"), "signed");
}

#[test]
fn unreadable_records_leave_a_batch_on_the_queue() {
    let (fixture, count) = (fixture(&["one"]), Arc::new(Counting::default()));
    let signer = fixture.signer_behind(RULES, Interceptor::with(count.clone()));
    count.fail(Some("BatchGetItem"));
    assert_eq!(handle(&signer, &[transfer(0, "a", Some("one"))], NOW), [Disposition::Retry]);
    assert_eq!(fixture.status("a"), "unknown", "nothing is decided before the record's status is known");
}

#[test]
fn good_batch_costs_one_read_and_one_write_per_step() {
    let (fixture, count) = (fixture(&["one"]), Arc::new(Counting::default()));
    let signer = fixture.signer_behind(RULES, Interceptor::with(count.clone()));
    let batch: Vec<_> = (0..10).map(|at| transfer(at, &format!("r-{at}"), Some("one"))).collect();
    handle_all(&signer, &batch, NOW);
    let calls = ["BatchGetItem", "TransactWriteItems", "PutItem", "UpdateItem"].map(|call| count.calls(call));
    assert_eq!((calls, fixture.keys.sign_calls()), ([1, 1, 0, 10], 10));
    handle_all(&signer, &batch, NOW);
    let calls = ["BatchGetItem", "TransactWriteItems", "PutItem", "UpdateItem"].map(|call| count.calls(call));
    assert_eq!((calls, fixture.keys.sign_calls()), ([2, 1, 0, 10], 10), "a repeat only reads");
}
