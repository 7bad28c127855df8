//! The explorer's verdict on the record machine: the worlds as they are break nothing and can always
//! finish, and every known design bug is found.
//!
//! `cargo run -p signpost-sim --bin explore -- --mutant NAME --trace` tells a bug's shortest trace.

#![allow(
    clippy::unwrap_used,
    clippy::explicit_write,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise, shows its figures past the runner's capture, and times itself"
)]

use std::io::Write as _;
use std::time::Instant;

use signpost_sim::explorer::search::per_minute;
use signpost_sim::explorer::{Mutant, Report, explore, worlds};

/// Far above every world of this suite: a search that meets it has run away.
const LIMIT: usize = 3_000_000;

/// Written past the test runner's capture, so that the figures are seen in every run.
fn tell(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap();
}

fn run(world: &str, mutant: Option<Mutant>) -> Report {
    let world = worlds::named(world).unwrap();
    let start = Instant::now();
    let report = explore(&world, mutant, LIMIT);
    let took = start.elapsed();
    let name = mutant.map_or_else(|| format!("world {}", world.name), |mutant| format!("mutant {mutant}"));
    let end = match &report.finding {
        None => format!("nothing wrong, {} finished states", report.finished),
        Some(finding) => format!("{} after {} moves", finding.broken.invariant, finding.trace.len()),
    };
    tell(&format!(
        "explorer: {name:<34} {:>9} states {:>9} moves {:>5} ms {:>4} M states/min: {end}",
        report.states,
        report.moves,
        took.as_millis(),
        per_minute(report.states, took) / 1_000_000,
    ));
    report
}

/// Nothing is broken, every state can finish, and the world is not empty: each of these statuses occurs.
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
fn a_rejection_and_a_revert_are_told_once_and_truly() {
    holds("refused", &["reverted"]);
}

#[test]
fn reorgs_evictions_and_stale_nodes_change_no_outcome() {
    holds("reorg", &["mined", "confirmed"]);
    holds("nodes", &["mined", "confirmed"]);
}

#[test]
fn a_lane_goes_on_by_pokes_alone_and_by_asks() {
    holds("pokes", &["confirmed"]);
    holds("asks", &["confirmed"]);
}

#[test]
fn two_passes_at_one_lane_do_no_harm() {
    holds("passes", &["confirmed"]);
}

#[test]
fn bumps_and_cancels_keep_the_slot_and_the_truth() {
    holds("bumps", &["confirmed"]);
    holds("deadlines", &["confirmed", "cancelled"]);
}

#[test]
fn a_cancel_at_any_moment_ends_in_one_true_outcome() {
    holds("cancels", &["confirmed", "cancelled"]);
    holds("cancel-lane", &["confirmed", "cancelled"]);
    holds("stray-cancel", &[]);
}

#[test]
fn an_older_attempt_may_be_mined_and_is_told_so() {
    holds("cap", &["confirmed", "cancelled"]);
    holds("second-node", &["confirmed", "cancelled"]);
}

#[test]
fn a_head_at_its_cap_for_too_long_ends_and_frees_its_lane() {
    holds("capped-head", &["confirmed", "cancelled"]);
}

#[test]
fn what_a_node_refuses_for_good_ends_as_the_chain_has_it() {
    holds("refusals", &["confirmed", "cancelled"]);
}

#[test]
fn only_the_head_of_the_lane_is_bumped() {
    holds("bump-lane", &["confirmed"]);
}

#[test]
fn silent_nodes_and_missing_receipts_are_no_verdict() {
    holds("outage", &["mined", "confirmed"]);
}

#[test]
fn a_key_used_elsewhere_displaces_truly() {
    holds("foreign", &["confirmed", "displaced"]);
    holds("forks", &["confirmed", "displaced"]);
}

#[test]
fn a_request_for_a_pool_keeps_the_account_it_was_reserved_with() {
    holds("pool", &["reserved", "confirmed"]);
    holds("pool-lanes", &["reserved", "confirmed"]);
}

#[test]
fn a_pool_refuses_only_in_one_name_and_takes_up_what_is_resumed() {
    holds("pool-paused", &["reserved", "confirmed"]);
    holds("pool-short", &["reserved", "confirmed"]);
}

#[test]
fn a_message_keeps_its_answer_whatever_the_rule_says_later() {
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
fn every_world_is_among_the_claims() {
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
    for mutant in Mutant::ALL {
        let report = run(mutant.world(), Some(mutant));
        let finding = report.finding.unwrap_or_else(|| panic!("{mutant} is not found"));
        assert_eq!(finding.broken.invariant, mutant.breaks(), "{mutant}: {}", finding.broken);
        assert_eq!(finding.trace.len(), mutant.moves(), "{mutant}: {}", finding.trace.join("\n"));
    }
}

/// The reason for the reorg world: without it, an early outcome looks right.
#[test]
fn an_outcome_at_mined_looks_right_until_a_block_is_replaced() {
    assert!(run("calm", Some(Mutant::OutcomeAtMined)).finding.is_none());
}

/// The reason for the second question: no invariant of a single state is broken.
#[test]
fn acknowledging_before_publishing_is_seen_only_by_asking_whether_it_can_finish() {
    for mutant in [Mutant::AckBeforePublish, Mutant::MarkBeforePublish] {
        let world = worlds::named(mutant.world()).unwrap();
        let one_worker_dies = explore(&world, Some(mutant), LIMIT);
        assert_eq!(one_worker_dies.finding.unwrap().broken.invariant, "I12");
        let mut nobody_dies = world;
        nobody_dies.faults.crashes = 0;
        assert!(explore(&nobody_dies, Some(mutant), LIMIT).finding.is_none(), "{mutant}");
    }
}
