//! Claims about the drivers that a seed of the simulation once showed to be false.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::sync::{Arc, Mutex};

use signpost_sim::crash::{FATES, Fault, Scenario};
use signpost_sim::deployment::{Deployment, NAMES, POOL, START, Setting};
use signpost_sim::executor::{ExecutorHandle, run_alone};
use signpost_sim::receive_loop;
use signpost_sim::source::{Variant, body};
use signpost_txmgr::broadcaster::Lane;
use signpost_txmgr::fake::{Fate, FaultSource, KeyState, QueueRules, SimClock};
use signpost_txmgr::ports::Happened;
use signpost_txmgr::record::{AttemptKind, Phase, Record, Stored, Verdict};
use signpost_txmgr::units::Wei;
use signpost_txmgr::wire::Status;

fn scenario() -> Scenario {
    Scenario::new(Fault::NONE, false, None)
}

fn record(scenario: &Scenario, id: &str) -> Record {
    match scenario.deployment.store.inner.stored(&id.parse().unwrap()) {
        Some(Stored::Record(record)) => *record,
        other => panic!("{id} is {other:?}"),
    }
}

fn assert_clean(mut scenario: Scenario) {
    scenario.auditor.finish(&scenario.deployment);
    assert_eq!(scenario.auditor.violations(), []);
}

#[test]
fn bad_message_does_not_reject_the_live_request_it_names() {
    let mut scenario = scenario();
    scenario.put(&body(0, NAMES[0], Variant::Good, None));
    scenario.signer_turn();
    scenario.put("{\"requestId\":\"r-0\",\"gas\":1}");
    scenario.to_quiet();
    let rejected =
        scenario.deployment.topic.inner.copies().into_iter().find(|copy| copy.status == Status::Rejected).unwrap();
    let reason = rejected.reason.unwrap();
    let named = reason.request_id.as_deref();
    assert_eq!((rejected.request_id, named), (format!("sqs:{}", rejected.message_id.unwrap()), Some("r-0")));
    assert_eq!(reason.code, "requestIdReused");
    assert!(reason.message.contains("untouched") && reason.message.contains("`to`"), "{}", reason.message);
    assert_eq!(record(&scenario, "r-0").phase.name(), "confirmed");
    assert_clean(scenario);
}

#[test]
fn early_cancel_does_not_reject_its_request() {
    let mut scenario = scenario();
    scenario.put("{\"cancel\":\"r-0\"}");
    scenario.signer_turn();
    scenario.put(&body(0, NAMES[0], Variant::Good, None));
    scenario.to_quiet();
    let rejected =
        scenario.deployment.topic.inner.copies().into_iter().find(|copy| copy.status == Status::Rejected).unwrap();
    assert_eq!(rejected.request_id, "sqs:signing-0");
    assert!(rejected.reason.unwrap().message.contains("r-0"));
    assert_eq!(record(&scenario, "r-0").phase.name(), "confirmed");
    assert_clean(scenario);
}

#[test]
fn cancel_of_a_request_priced_at_the_cap_ends_the_slot() {
    let mut scenario = scenario();
    scenario.put(&body(4, NAMES[0], Variant::Good, None));
    scenario.signer_turn();
    scenario.put("{\"cancel\":\"r-4\"}");
    scenario.to_quiet();
    let record = record(&scenario, "r-4");
    assert_eq!(record.phase.name(), "cancelled");
    let [execute, cancel] = record.attempts.as_slice() else { panic!("{:?}", record.attempts) };
    assert_eq!((execute.kind, cancel.kind), (AttemptKind::Execute, AttemptKind::Cancel));
    assert_eq!(
        cancel.fee.price(),
        Wei::from_gwei(signpost_sim::deployment::CAP_GWEI),
        "no cancel goes above the cap (I9)"
    );
    assert_clean(scenario);
}

#[test]
fn request_is_mined_when_nodes_refuse_its_cancel_at_the_cap() {
    let mut scenario = scenario();
    scenario.put(&body(4, NAMES[0], Variant::Good, None));
    scenario.signer_turn();
    scenario.broadcaster_turn();
    assert_eq!(scenario.deployment.chain.inner.pool().len(), 1);
    scenario.put("{\"cancel\":\"r-4\"}");
    scenario.signer_turn();
    scenario.to_quiet();
    assert_eq!(record(&scenario, "r-4").phase.name(), "confirmed");
    assert_clean(scenario);
}

/// Once seen with faulty nodes: a node that failed at the moment of finality cost the outcome its reason.
#[test]
fn revert_is_published_with_its_reason_despite_one_fault() {
    let mut at = 0;
    loop {
        let mut calls = 0;
        for fate in FATES {
            let mut scenario = Scenario::new(Fault { at, fate }, false, None);
            scenario.ask_the_usual();
            scenario.to_quiet();
            let record = record(&scenario, "r-3");
            let Phase::Settled(settled) = &record.phase else { panic!("{:?} at call {at}: {:?}", fate, record.phase) };
            let has_reason = matches!(&settled.verdict, Verdict::Reverted(_, Some(_)));
            assert!(has_reason, "{fate:?} at call {at}: {:?}", settled.verdict);
            calls = calls.max(scenario.calls());
        }
        at += 1;
        if at >= calls {
            break;
        }
    }
    assert!(at > 50, "only {at} calls were tried");
}

/// A provider that allows a number of calls and throttles the rest.
#[derive(Debug, Default)]
struct Allowance(Mutex<u32>);

impl FaultSource for Allowance {
    fn fate(&self, operation: &'static str) -> Fate {
        let is_chain = operation == "view" || operation.starts_with("eth_");
        if !is_chain {
            return Fate::Pass;
        }
        let mut left = self.0.lock().unwrap();
        let Some(rest) = left.checked_sub(1) else {
            return Fate::Fail { happened: Happened::No, throttled: true };
        };
        *left = rest;
        Fate::Pass
    }
}

/// Once seen with rate-limited nodes: reads used up what two nodes allowed, and a transaction that no node had received
/// was bumped four times.
#[test]
fn unsent_transaction_is_sent_before_the_chain_is_read() {
    let clock = SimClock::at(START);
    let (handle, allowance) = (ExecutorHandle::new(clock.clone()), Arc::new(Allowance::default()));
    let setting =
        Setting { accounts: 1, signing: QueueRules::FIFO, mutant: None, spend_window_s: None, request_window_s: None };
    let deployment = Deployment::new(setting, clock, handle, allowance.clone());
    deployment.queues.signing.put(&body(0, NAMES[0], Variant::Good, None), Some(NAMES[0]), None, Some("backend"));
    let signer = deployment.signer();
    run_alone(&deployment.handle, &deployment.clock, receive_loop::serve_signing(&deployment, &signer)).unwrap();
    let (broadcaster, account) = (deployment.broadcaster(), *deployment.accounts.keys().next().unwrap());
    let mut lane = Lane::new(account, deployment.clock.now());
    for calls in [0, 1] {
        assert_eq!(deployment.chain.inner.pool().len(), 0, "no node took it yet");
        *allowance.0.lock().unwrap() = calls;
        let now = deployment.clock.now();
        run_alone(&deployment.handle, &deployment.clock, broadcaster.round(&mut lane, now)).unwrap().unwrap();
        deployment.clock.advance(3_500);
    }
    assert_eq!(deployment.chain.inner.pool().len(), 1, "the one call that was allowed was its send");
}

#[test]
fn repeat_finds_its_slot_while_its_pool_account_is_paused() {
    for died in [false, true] {
        let mut scenario = Scenario::with_accounts(NAMES.len(), None);
        // The signer starts before anything fails.
        scenario.signer_turn();
        for number in 0..8 {
            scenario.put(&body(number, POOL, Variant::Good, None));
        }
        // Reserved; if the signer crashed, not signed yet.
        let signing = if died { KeyState::SignFails } else { KeyState::Enabled };
        scenario.deployment.keys.set_state(&"key-hot".parse().unwrap(), signing);
        scenario.deployment.keys.set_state(&"key-cold".parse().unwrap(), signing);
        scenario.signer_turn();
        scenario.deployment.keys.set_state(&"key-hot".parse().unwrap(), KeyState::Enabled);
        scenario.deployment.keys.set_state(&"key-cold".parse().unwrap(), KeyState::Enabled);
        let accounts: Vec<_> = (0..8).map(|number| record(&scenario, &format!("r-{number}")).account).collect();
        let paused = accounts[0];
        assert!(accounts.iter().any(|account| *account != paused), "the pool's accounts share the requests");

        scenario.deployment.set_account_paused(paused, true);
        for number in 0..8 {
            scenario.put(&body(number, POOL, Variant::Good, None));
            scenario.put(&body(number + 20, POOL, Variant::Good, None));
        }
        for _ in 0..3 {
            scenario.signer_turn();
        }
        for (number, account) in accounts.iter().enumerate() {
            assert_eq!(record(&scenario, &format!("r-{number}")).account, *account, "died: {died}");
            let later = record(&scenario, &format!("r-{}", number + 20));
            assert_ne!(later.account, paused, "what comes while it is paused goes to the other");
        }
        scenario.deployment.set_account_paused(paused, false);
        scenario.to_quiet();
        assert_clean(scenario);
    }
}

#[test]
fn unfunded_account_is_marked_and_skipped_until_funded() {
    let mut scenario = Scenario::with_accounts(NAMES.len(), None);
    let poor = *scenario.deployment.accounts.keys().next().unwrap();
    let marked = |scenario: &Scenario| {
        let heads = scenario.deployment.heads();
        heads.iter().filter(|head| head.unfunded_since.is_some()).map(|head| head.account).collect::<Vec<_>>()
    };
    scenario.deployment.chain.inner.set_balance(poor.address, Wei::ZERO);
    scenario.put(&body(0, scenario.deployment.accounts[&poor], Variant::Good, None));
    scenario.pass();
    assert_eq!(marked(&scenario), [poor], "its first answer says so");
    for number in 20..28 {
        scenario.put(&body(number, POOL, Variant::Good, None));
    }
    scenario.signer_turn();
    for number in 20..28 {
        assert_ne!(record(&scenario, &format!("r-{number}")).account, poor);
    }
    scenario.deployment.chain.inner.set_balance(poor.address, Wei::from_gwei(1_000_000_000));
    scenario.to_quiet();
    assert_eq!(marked(&scenario), [], "the lane has moved");
    assert_eq!(record(&scenario, "r-0").phase.name(), "confirmed");
    assert_clean(scenario);
}
