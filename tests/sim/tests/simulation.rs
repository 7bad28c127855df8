//! The real drivers under seeded faults keep every invariant, and finish when the faults end.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test tells how fast it was")]
#![expect(clippy::disallowed_methods, reason = "the clock measures the trial; it decides nothing in it")]

use std::time::Instant;

use signpost_sim::simulation::{Options, Tally, run};

/// Seeds of each of the two threads; another two thousand at every change of the drivers.
const SEEDS: u64 = 1_000;

#[test]
fn two_thousand_seeds_keep_every_invariant_and_finish() {
    let started = Instant::now();
    let halves: Vec<_> =
        (0..2).map(|half| std::thread::spawn(move || tally(half * SEEDS..(half + 1) * SEEDS))).collect();
    let tallies: Vec<Tally> = halves.into_iter().map(|half| half.join().unwrap()).collect();
    let took = started.elapsed().as_secs_f64();
    for tally in &tallies {
        println!("{tally:#?}");
    }
    println!("{:.0} seeds per second with two threads", 2_000.0 / took);
    assert!(tallies.iter().all(|tally| tally.failed.is_empty()), "run `simulate --seed N --trace` on a failed seed");
}

#[test]
fn a_seed_repeats_exactly() {
    let (first, again) = (run(7, Options::USUAL), run(7, Options::USUAL));
    assert_eq!((first.polls, first.took_ms, first.faults), (again.polls, again.took_ms, again.faults));
}

fn tally(seeds: std::ops::Range<u64>) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        tally.add(seed, run(seed, Options::USUAL));
    }
    tally
}
