//! Scenarios that are too large or too long to occur in a seed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, reason = "a test")]

use signpost_sim::crash::{Fault, Scenario};
use signpost_sim::deployment::{NAMES, RETENTION_MS};
use signpost_sim::flood::{self, Junk, Order};
use signpost_sim::mutants::Mutant;
use signpost_sim::source::{Variant, body};
use signpost_txmgr::fake::NodeFaults;
use signpost_txmgr::record::{Record, Stored};

/// Requests behind the slot that cannot be closed: twice what a window by distance would let through.
const BEHIND: usize = 2_000;
/// Junk messages of a flood.
const JUNK: usize = 10_000;
/// Passes in which they are all closed: a signer's turn takes ten messages.
const PASSES: usize = 450;

fn record(scenario: &Scenario, id: &str) -> Record {
    match scenario.deployment.store.inner.stored(&id.parse().unwrap()) {
        Some(Stored::Record(record)) => *record,
        other => panic!("{id} is {other:?}"),
    }
}

/// A scenario whose first nonce a foreign transaction used that no node can show, and [`BEHIND`] requests behind it.
/// Returns how many are closed at the end.
fn behind_one_that_cannot_be_closed(mutant: Option<Mutant>) -> (Scenario, usize) {
    let mut scenario = Scenario::with_accounts(1, mutant);
    let account = *scenario.deployment.accounts.keys().next().unwrap();
    let chain = scenario.deployment.chain.inner.clone();
    let first = scenario.deployment.heads()[0].next_nonce;
    // A foreign transaction uses the first nonce, and no node can show it.
    chain.set_faults(NodeFaults { pruned: true, ..NodeFaults::default() });
    chain.foreign(account.address, first);
    for number in 0..=BEHIND {
        scenario.put(&body(number * 10, NAMES[0], Variant::Good, None));
    }
    let closed = |scenario: &Scenario| {
        let records = scenario.auditor.records();
        records.filter(|record| record.is_closed()).count()
    };
    for _ in 0..PASSES {
        scenario.pass();
        if closed(&scenario) == BEHIND {
            break;
        }
    }
    let closed = closed(&scenario);
    (scenario, closed)
}

#[test]
fn two_thousand_slots_pass_one_that_cannot_be_closed() {
    let (mut scenario, closed) = behind_one_that_cannot_be_closed(None);
    assert_eq!(closed, BEHIND, "all that is behind it");
    assert!(!record(&scenario, "r-0").is_closed(), "what cannot be proven has no verdict");
    scenario.deployment.chain.inner.set_faults(NodeFaults::default());
    // The search pauses for minutes, and is repeated within ten.
    scenario.to_quiet();
    scenario.to_quiet();
    assert_eq!(record(&scenario, "r-0").phase.name(), "displaced", "and when a node can say it, it has one");
    scenario.auditor.finish(&scenario.deployment);
    assert_eq!(scenario.auditor.violations(), []);
}

#[test]
fn a_lane_that_sets_nothing_aside_is_found() {
    let (scenario, closed) = behind_one_that_cannot_be_closed(Some(Mutant::SetsNothingAside));
    assert!(closed < BEHIND, "{closed} closed: the lane stands still");
    assert_eq!(scenario.auditor.violations(), [], "and nothing worse happens");
}

/// In simulated time, so no machine is measured. The last two lines show that the model can fail: invalid requests of a
/// listed sender cost three calls each instead of one, and they delay others where SQS serves the oldest message first.
#[test]
fn a_strangers_flood_does_not_double_the_wait_of_others() {
    for order in [Order::Any(1), Order::Oldest] {
        let (alone, beside) = (flood::run(Junk::None, JUNK, order), flood::run(Junk::Stranger, JUNK, order));
        assert_eq!(beside.sent, alone.sent, "{order:?}: every request is sent");
        assert_eq!(beside.junk_items, JUNK, "{order:?}: one item for each, and each is answered");
        assert!(beside.p99_ms < 2 * alone.p99_ms, "{order:?}: {alone:?} {beside:?}");
        // A redelivery or two aside.
        assert!(beside.store_calls < alone.store_calls + 11_000, "{order:?}: {alone:?} {beside:?}");
    }
    let (alone, listed) = (flood::run(Junk::None, JUNK, Order::Oldest), flood::run(Junk::Listed, JUNK, Order::Oldest));
    assert!(listed.p99_ms > 2 * alone.p99_ms, "{alone:?} {listed:?}");
}

#[test]
fn an_id_is_free_after_its_retention_deleted_or_not() {
    for deleted in [false, true] {
        let mut scenario = Scenario::new(Fault::NONE, false, None);
        let (asked, refused) = (body(0, NAMES[0], Variant::Good, None), body(1, NAMES[0], Variant::Forbidden, None));
        scenario.put(&asked);
        scenario.put(&refused);
        scenario.to_quiet();
        assert_eq!(record(&scenario, "r-0").phase.name(), "confirmed");
        assert_eq!(scenario.deployment.chain.inner.mined().len(), 1);
        scenario.deployment.clock.advance(RETENTION_MS - 24 * 3_600 * 1_000);
        scenario.put(&asked);
        scenario.to_quiet();
        assert_eq!(scenario.deployment.chain.inner.mined().len(), 1, "within its retention a repeat is a repeat");
        assert_eq!(scenario.auditor.violations(), []);
        scenario.deployment.clock.advance(25 * 3_600 * 1_000);
        if deleted {
            scenario.deployment.store.inner.expire(scenario.deployment.clock.now());
        }
        // The auditor never forgets an id, so what follows is asserted here.
        for body in [&asked, &body(1, NAMES[0], Variant::Good, None)] {
            scenario.deployment.queues.signing.put(body, Some(NAMES[0]), None, Some("backend"));
        }
        scenario.to_quiet();
        assert_eq!(scenario.deployment.chain.inner.mined().len(), 3, "deleted: {deleted}: both ids are new again");
        assert_eq!(record(&scenario, "r-0").phase.name(), "confirmed");
        assert_eq!(record(&scenario, "r-1").phase.name(), "confirmed");
    }
}
