//! The real drivers under seeded faults keep every invariant, and finish when the faults end.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::explicit_write,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise, shows its figures past the runner's capture, and times itself"
)]

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use signpost_sim::breadth::Breadth;
use signpost_sim::simulation::{Options, Tally, run};

/// Seeds of each test: at most 60 s on two cores.
const SEEDS: u64 = 10_000;
/// The environment variable with a smaller number of seeds, for tests that run very often, as in `tests/mutants/run`.
/// The line of figures contains the number.
const FEWER: &str = "SIGNPOST_SEEDS";
/// Seeds that a thread takes at a time, so that no thread waits for the slow seeds of another.
const TURN: u64 = 50;

#[test]
fn ten_thousand_seeds_keep_every_invariant_and_finish() {
    run_all("in wide deployments", Options::USUAL);
}

fn run_all(what: &str, options: Options) {
    let seeds = std::env::var(FEWER).map_or(SEEDS, |fewer| fewer.parse().unwrap());
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let working: Vec<_> = (0..threads).map(|_| scope.spawn(|| tally(&next, seeds, options))).collect();
        working.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let took = started.elapsed().as_secs_f64();
    let count: u64 = tallies.iter().map(|tally| tally.seeds).sum();
    let (faults, bumps) = tallies.iter().fold((0, 0), |(faults, bumps), tally| {
        (faults + tally.faults.values().sum::<u64>(), bumps + tally.outcomes.get("bumps").copied().unwrap_or(0))
    });
    let rate = f64::from(u32::try_from(count).unwrap()) / took;
    let line = format!("{count} seeds, {faults} faults, {bumps} bumps in {took:.1} s with {threads} threads");
    // Past the test runner's capture, so that the figures are seen in every run.
    writeln!(std::io::stderr(), "simulation {what}: {line}: {rate:.0} seeds per second").unwrap();
    let failed: Vec<_> = tallies.iter().flat_map(|tally| &tally.failed).collect();
    assert!(
        failed.is_empty(),
        "replay with `cargo run -p signpost-sim --bin simulate -- --seed N --trace`: {failed:#?}"
    );
    assert_eq!(count, seeds, "every seed was run");
}

/// One of two nodes lies about counts, receipts, finality, blocks and heights, each alone and all together. There is no
/// false verdict (I18), and everything finishes once the node stops lying.
#[test]
fn ten_thousand_seeds_survive_a_lying_node() {
    let lying = Options { breadth: Some(Breadth { liar: true, ..Breadth::NARROW }), ..Options::USUAL };
    run_all("with a node that lies", lying);
}

#[test]
fn a_seed_repeats_exactly() {
    let (first, again) = (run(7, Options::USUAL), run(7, Options::USUAL));
    assert_eq!((first.polls, first.took_ms, first.faults), (again.polls, again.took_ms, again.faults));
}

fn tally(next: &AtomicU64, seeds: u64, options: Options) -> Tally {
    let mut tally = Tally::default();
    loop {
        let from = next.fetch_add(TURN, Ordering::Relaxed);
        if from >= seeds {
            return tally;
        }
        for seed in from..seeds.min(from.saturating_add(TURN)) {
            tally.add(seed, run(seed, options));
        }
    }
}
