//! `explore`: explores the small worlds of [`signpost_sim::explorer`], and prints the shortest trace to a violation.
//!
//! `cargo run -p signpost-sim --bin explore -- [--world NAME] [--mutant NAME] [--trace] [--deep]`

#![expect(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods, reason = "it is a command")]

use std::process::ExitCode;
use std::time::Instant;

use signpost_sim::explorer::search::per_minute;
use signpost_sim::explorer::{ModelMutant, Report, World, explore, worlds};

/// The most states of a world that are explored.
const LIMIT: usize = 5_000_000;
/// The same with `--deep`: about 250 bytes each.
const LIMIT_DEEP: usize = 30_000_000;

#[derive(Default)]
struct Options {
    world: Option<String>,
    mutant: Option<ModelMutant>,
    trace: bool,
    deep: bool,
}

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--help") {
        println!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n\n{}", usage());
            return ExitCode::from(2);
        }
    };
    let name = options.world.as_deref().or(options.mutant.map(ModelMutant::world));
    let chosen: Vec<World> =
        worlds::all().into_iter().filter(|world| name.is_none_or(|name| world.name == name)).collect();
    let mut wrong = false;
    for world in chosen {
        let world = if options.deep { worlds::deeper(world) } else { world };
        let start = Instant::now();
        let report = explore(&world, options.mutant, if options.deep { LIMIT_DEEP } else { LIMIT });
        wrong |= print_report(&world, &report, start, options.trace);
    }
    if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Prints a report; returns whether something is wrong.
fn print_report(world: &World, report: &Report, start: Instant, trace: bool) -> bool {
    let took = start.elapsed();
    println!("{}: {}", world.name, world.about);
    println!(
        "  {} states, {} moves, depth {}, {} records, {} finished, {:.1} s ({} states/min)",
        report.states,
        report.moves,
        report.depth,
        report.records,
        report.finished,
        took.as_secs_f64(),
        per_minute(report.states, took),
    );
    match &report.finding {
        None if report.complete => {
            println!("  no invariant is broken, and every state can finish");
            false
        }
        None => {
            println!("  not finished: the limit of states is reached");
            true
        }
        Some(finding) => {
            println!("  BROKEN after {} moves: {}", finding.trace.len(), finding.broken);
            if trace {
                for (at, step) in finding.trace.iter().enumerate() {
                    println!("  {:>3}. {step}", at.saturating_add(1));
                }
            }
            true
        }
    }
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--world" => {
                let name = args.next().ok_or("--world needs a name")?;
                worlds::named(&name).ok_or(format!("there is no world {name}"))?;
                options.world = Some(name);
            }
            "--mutant" => {
                let name = args.next().ok_or("--mutant needs a name")?;
                let known = ModelMutant::ALL.into_iter().find(|mutant| mutant.name() == name);
                options.mutant = Some(known.ok_or(format!("there is no mutant {name}"))?);
            }
            "--trace" => options.trace = true,
            "--deep" => options.deep = true,
            other => return Err(format!("{other} is not an option")),
        }
    }
    Ok(options)
}

fn usage() -> String {
    let mut text = String::from("explore [--world NAME] [--mutant NAME] [--trace] [--deep]\n\nWorlds:\n");
    for world in worlds::all() {
        text += &["  ", world.name, ": ", world.about, "\n"].concat();
    }
    text.push_str("\nMutants:\n");
    for mutant in ModelMutant::ALL {
        text += &["  ", mutant.name(), ": breaks ", mutant.breaks(), " in world ", mutant.world(), "\n"].concat();
    }
    text
}
