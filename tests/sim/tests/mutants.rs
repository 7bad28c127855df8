//! The auditor can fail: each planted bug is found, and without one the same seeds are clean.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test prints which seed found what")]

use signpost_sim::mutants::Mutant;
use signpost_sim::simulation::{Options, run};

/// Seeds tried for each planted bug.
const SEEDS: u64 = 600;

#[test]
fn every_planted_bug_is_found_in_an_otherwise_clean_seed() {
    let mut wrong = Vec::new();
    for (mutant, breaks) in Mutant::ALL {
        let options = Options { mutant: Some(mutant), ..Options::USUAL };
        let found = (0..SEEDS).find_map(|seed| Some((seed, run(seed, options).violations.into_iter().next()?)));
        let Some((seed, violation)) = found else {
            wrong.push(format!("{mutant:?} is not found in {SEEDS} seeds"));
            continue;
        };
        println!("{mutant:?}: seed {seed}: {violation}");
        if !breaks.contains(&violation.invariant) {
            wrong.push(format!("{mutant:?} breaks {breaks:?}, not {violation}"));
        }
        if !run(seed, Options::USUAL).violations.is_empty() {
            wrong.push(format!("seed {seed} is not clean without {mutant:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
