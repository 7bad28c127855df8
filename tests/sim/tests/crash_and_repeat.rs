//! No request is lost, doubled or left open when one port call fails, loses its reply, or is the worker's last one
//! before a crash.
#![allow(clippy::print_stdout, reason = "a test prints how much it tried")]

use signpost_sim::crash::{Ended, FATES, Fault, run, run_capped};
use signpost_sim::mutants::Mutant;
use signpost_txmgr::fake::Fate;

type Run = fn(Fault, bool, Option<Mutant>) -> Ended;

fn try_every_call(run: Run, slots: usize, twice: bool) {
    let clean = run(Fault::NONE, twice, None);
    assert_eq!(clean.violations, [], "without a fault");
    assert_eq!(clean.slots, slots, "every request that policy allows, and no other");
    assert!(clean.calls > 40, "the scenario makes {} calls only", clean.calls);
    let mut longest = clean.passes;
    for fate in FATES {
        for at in 0..clean.calls {
            let ended = run(Fault { at, fate }, twice, None);
            assert_eq!(ended.violations, [], "{fate:?} at call {at}, twice: {twice}");
            assert_eq!(ended.slots, slots, "{fate:?} at call {at}, twice: {twice}: no request counts twice");
            longest = longest.max(ended.passes);
        }
    }
    println!(
        "{} calls × {} faults, twice: {twice}; {} passes, at most {longest}",
        clean.calls,
        FATES.len(),
        clean.passes
    );
}

#[test]
fn one_fault_at_any_call_loses_and_doubles_nothing() {
    try_every_call(run, 3, false);
}

#[test]
fn redelivery_and_one_fault_lose_and_double_nothing() {
    try_every_call(run, 3, true);
}

#[test]
fn capped_head_frees_its_lane_despite_one_fault() {
    try_every_call(run_capped, 2, false);
    try_every_call(run_capped, 2, true);
}

#[test]
fn capped_head_that_is_never_cancelled_is_found() {
    let ended = run_capped(Fault::NONE, false, Some(Mutant::ForgetsMaxHead));
    let first = ended.violations.first().map(|violation| violation.invariant);
    assert_eq!(first, Some("I12"), "{:?}", ended.violations);
}

#[test]
fn acknowledging_before_the_effect_is_found_by_a_crash() {
    let mutant = Some(Mutant::AcknowledgesBeforeEffect);
    let calls = run(Fault::NONE, false, mutant).calls;
    let fatal = (0..calls).find(|at| {
        let ended = run(Fault { at: *at, fate: Fate::DieBefore }, false, mutant);
        ended.violations.iter().any(|violation| violation.invariant == "I12")
    });
    println!("killed before call {fatal:?}, a message is lost for good");
    assert!(fatal.is_some());
}
