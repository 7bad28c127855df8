//! The explorer's verdict on the record machine: its worlds break no invariant and can always finish, and every known
//! design bug is found.
//!
//! `cargo run -p signpost-sim --bin explore -- --mutant NAME --trace` prints a bug's shortest trace.

#![allow(
    clippy::unwrap_used,
    clippy::explicit_write,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise, shows its figures past the runner's capture, and times itself"
)]

use std::io::Write as _;
use std::time::Instant;

use signpost_sim::explorer::search::per_minute;
use signpost_sim::explorer::{ModelMutant, Report, explore, worlds};

/// Far more states than any world of this suite has.
const LIMIT: usize = 3_000_000;

/// Written past the test runner's capture, so that the figures are seen in every run.
fn print_line(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap();
}

fn run(world: &str, mutant: Option<ModelMutant>) -> Report {
    let world = worlds::named(world).unwrap();
    let start = Instant::now();
    let report = explore(&world, mutant, LIMIT);
    let took = start.elapsed();
    let name = mutant.map_or_else(|| format!("world {}", world.name), |mutant| format!("mutant {mutant}"));
    let end = match &report.finding {
        None => format!("nothing wrong, {} finished states", report.finished),
        Some(finding) => format!("{} after {} moves", finding.broken.invariant, finding.trace.len()),
    };
    print_line(&format!(
        "explorer: {name:<34} {:>9} states {:>9} moves {:>5} ms {:>4} M states/min: {end}",
        report.states,
        report.moves,
        took.as_millis(),
        per_minute(report.states, took) / 1_000_000,
    ));
    report
}

/// Asserts that no invariant is broken, every state can finish, and each of these statuses occurs.
fn holds(world: &str, statuses: &[&str]) {
    let report = run(world, None);
    if let Some(finding) = &report.finding {
        panic!("{world}: {}\n{}", finding.broken, finding.trace.join("\n"));
    }
    assert!(report.complete, "{world}: the search met its limit");
    assert!(report.finished > 0, "{world}: nothing ever finishes");
    for status in statuses {
        assert!(report.statuses.contains(status), "{world}: no record is ever {status}");
    }
}

#[test]
fn two_requests_survive_a_crash_and_a_lost_reply() {
    holds("calm", &["confirmed"]);
    holds("base", &["reserved", "signed", "sent", "mined", "confirmed"]);
}

#[test]
fn duplicates_and_conflicts_get_one_slot_and_true_answers() {
    holds("duplicates", &["confirmed"]);
    holds("conflict", &["confirmed"]);
    holds("conflicts", &["confirmed"]);
}

#[test]
fn rejection_and_revert_are_published_once_and_correctly() {
    holds("refused", &["reverted"]);
}

#[test]
fn reorgs_evictions_and_stale_nodes_change_no_outcome() {
    holds("reorg", &["mined", "confirmed"]);
    holds("nodes", &["mined", "confirmed"]);
}

#[test]
fn lane_continues_by_pokes_alone_and_by_signature_requests() {
    holds("pokes", &["confirmed"]);
    holds("asks", &["confirmed"]);
}

#[test]
fn two_passes_at_one_lane_do_no_harm() {
    holds("passes", &["confirmed"]);
}

#[test]
fn bumps_and_cancels_keep_slot_and_outcome_correct() {
    holds("bumps", &["confirmed"]);
    holds("deadlines", &["confirmed", "cancelled"]);
}

#[test]
fn cancel_at_any_moment_ends_in_one_true_outcome() {
    holds("cancels", &["confirmed", "cancelled"]);
    holds("cancel-lane", &["confirmed", "cancelled"]);
    holds("stray-cancel", &[]);
}

#[test]
fn older_attempt_may_be_mined_and_is_reported() {
    holds("cap", &["confirmed", "cancelled"]);
    holds("second-node", &["confirmed", "cancelled"]);
}

#[test]
fn head_capped_for_too_long_is_cancelled_and_frees_its_lane() {
    holds("capped-head", &["confirmed", "cancelled"]);
}

#[test]
fn request_refused_for_good_ends_as_the_chain_shows() {
    holds("refusals", &["confirmed", "cancelled"]);
}

#[test]
fn only_the_head_of_the_lane_is_bumped() {
    holds("bump-lane", &["confirmed"]);
}

#[test]
fn silent_nodes_and_missing_receipts_decide_nothing() {
    holds("outage", &["mined", "confirmed"]);
}

#[test]
fn foreign_use_of_a_key_displaces_its_request() {
    holds("foreign", &["confirmed", "displaced"]);
    holds("forks", &["confirmed", "displaced"]);
}

#[test]
fn pool_request_keeps_its_reserved_account() {
    holds("pool", &["reserved", "confirmed"]);
    holds("pool-lanes", &["reserved", "confirmed"]);
}

#[test]
fn pool_refuses_for_one_account_and_uses_resumed_accounts() {
    holds("pool-paused", &["reserved", "confirmed"]);
    holds("pool-short", &["reserved", "confirmed"]);
}

#[test]
fn message_keeps_its_answer_when_rules_change() {
    holds("rules", &["reserved", "confirmed"]);
    holds("resubmitted", &["reserved", "confirmed"]);
    holds("corrected", &["reserved", "confirmed"]);
    holds("late-request", &["confirmed", "cancelled"]);
}

#[test]
fn two_chains_on_the_same_tables_do_not_touch_each_other() {
    holds("chains", &["confirmed", "displaced"]);
}

#[test]
fn every_world_is_explored_by_a_test() {
    let claimed = [
        "calm",
        "conflicts",
        "base",
        "duplicates",
        "conflict",
        "refused",
        "reorg",
        "nodes",
        "pokes",
        "asks",
        "passes",
        "bumps",
        "deadlines",
        "foreign",
        "cancels",
        "cancel-lane",
        "stray-cancel",
        "cap",
        "second-node",
        "capped-head",
        "refusals",
        "bump-lane",
        "outage",
        "forks",
        "pool",
        "pool-paused",
        "pool-short",
        "pool-lanes",
        "rules",
        "resubmitted",
        "corrected",
        "late-request",
        "chains",
    ];
    for world in worlds::all() {
        assert!(claimed.contains(&world.name), "{} is explored by no test", world.name);
    }
}

#[test]
fn every_mutant_is_found_by_the_invariant_it_breaks() {
    for mutant in ModelMutant::ALL {
        let report = run(mutant.world(), Some(mutant));
        let finding = report.finding.unwrap_or_else(|| panic!("{mutant} is not found"));
        assert_eq!(finding.broken.invariant, mutant.breaks(), "{mutant}: {}", finding.broken);
        assert_eq!(finding.trace.len(), mutant.moves(), "{mutant}: {}", finding.trace.join("\n"));
    }
}

/// Why the reorg world is needed: without it, an early outcome looks right.
#[test]
fn early_outcome_looks_right_until_a_block_is_replaced() {
    assert!(run("calm", Some(ModelMutant::OutcomeAtMined)).finding.is_none());
}

/// Why it is checked that every state can finish: no invariant of a single state is broken.
#[test]
fn ack_before_publish_is_found_only_by_the_finish_check() {
    for mutant in [ModelMutant::AckBeforePublish, ModelMutant::MarkBeforePublish] {
        let world = worlds::named(mutant.world()).unwrap();
        let one_worker_dies = explore(&world, Some(mutant), LIMIT);
        assert_eq!(one_worker_dies.finding.unwrap().broken.invariant, "I12");
        let mut nobody_dies = world;
        nobody_dies.faults.crashes = 0;
        assert!(explore(&nobody_dies, Some(mutant), LIMIT).finding.is_none(), "{mutant}");
    }
}
