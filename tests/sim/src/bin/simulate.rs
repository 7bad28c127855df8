//! Runs seeds of the simulation: `simulate --seed N [--trace]` or `simulate --seeds A..B`, with a
//! planted bug if `--mutant NAME` is given.

use std::process::ExitCode;

use signpost_sim::breadth::Breadth;
use signpost_sim::deployment::print_line;
use signpost_sim::mutants::Mutant;
use signpost_sim::simulation::{Options, Tally, run};

const USAGE: &str =
    "usage: simulate --seed N [--trace] | --seeds A..B  [--requests N] [--mutant NAME] [--narrow | --liar]";

fn main() -> ExitCode {
    let Some((seeds, options)) = parsed(std::env::args().skip(1)) else {
        print_line(USAGE);
        return ExitCode::from(2);
    };
    let mut tally = Tally::default();
    for seed in seeds {
        let report = run(seed, options);
        if options.trace {
            print_line(&format!("{report:#?}"));
        }
        if !report.violations.is_empty() {
            let all: Vec<_> = report.violations.iter().map(ToString::to_string).collect();
            print_line(&format!("seed {seed}: {}", all.join("\n    ")));
        }
        tally.add(seed, report);
    }
    print_line(&format!("{tally:#?}"));
    if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parsed(mut args: impl Iterator<Item = String>) -> Option<(std::ops::Range<u64>, Options)> {
    let mut options = Options::USUAL;
    let mut seeds = None;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seed" => {
                let seed: u64 = args.next()?.parse().ok()?;
                seeds = Some(seed..seed.checked_add(1)?);
            }
            "--seeds" => {
                let range = args.next()?;
                let (from, to) = range.split_once("..")?;
                seeds = Some(from.parse().ok()?..to.parse().ok()?);
            }
            "--requests" => options.requests = args.next()?.parse().ok()?,
            "--mutant" => {
                let name = args.next()?;
                let known = Mutant::ALL.into_iter().find(|(mutant, _)| format!("{mutant:?}") == name);
                options.mutant = Some(known?.0);
            }
            "--narrow" => options.breadth = Some(Breadth::NARROW),
            "--liar" => options.breadth = Some(Breadth { liar: true, ..Breadth::NARROW }),
            "--trace" => options.trace = true,
            _ => return None,
        }
    }
    Some((seeds?, options))
}
