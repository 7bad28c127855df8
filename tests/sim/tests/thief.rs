//! An attacker who can write the tables and the resign queue gets nothing signed but accepted requests.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test prints which seed found what")]

use signpost_sim::mutants::Mutant;
use signpost_sim::thief::run;

const SEEDS: u64 = 800;

#[test]
fn nothing_is_signed_but_what_a_signer_accepted() {
    let mut signed = 0;
    for seed in 0..SEEDS {
        let ended = run(seed, None);
        assert_eq!(ended.stolen, [], "seed {seed}");
        signed += ended.signed;
    }
    println!("{signed} signatures in {SEEDS} seeds");
    assert!(signed > usize::try_from(SEEDS).unwrap() * 10, "only {signed} signatures: the trial shows nothing");
}

#[test]
fn the_thief_finds_each_planted_hole() {
    for mutant in [Mutant::TakesAnySeal, Mutant::SealsNoNonce, Mutant::TrustsRegistry] {
        let found = (0..SEEDS).find(|seed| !run(*seed, Some(mutant)).stolen.is_empty());
        println!("{mutant:?}: seed {found:?}");
        assert!(found.is_some(), "{mutant:?} is not found in {SEEDS} seeds");
    }
}
