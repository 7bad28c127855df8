//! The auditor can fail: each planted bug is found, and without one the same seeds are clean.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test tells which seed found what")]

use signpost_sim::mutants::Mutant;
use signpost_sim::simulation::{Options, run};

/// Seeds tried for each planted bug.
const SEEDS: u64 = 600;

#[test]
fn every_planted_bug_is_found_and_the_seed_that_finds_it_is_clean_without_it() {
    for (mutant, breaks) in Mutant::ALL {
        let options = Options { mutant: Some(mutant), ..Options::USUAL };
        let found = (0..SEEDS).find_map(|seed| Some((seed, run(seed, options).violations.into_iter().next()?)));
        let (seed, violation) = found.unwrap_or_else(|| panic!("{mutant:?} is not found in {SEEDS} seeds"));
        println!("{mutant:?}: seed {seed}: {violation}");
        assert!(breaks.contains(&violation.invariant), "{mutant:?} breaks {breaks:?}, not {violation}");
        assert_eq!(run(seed, Options::USUAL).violations, [], "seed {seed} is clean without {mutant:?}");
    }
}
