//! Measures how the time per request grows with open slots, accounts, batch size and calldata.
//!
//! `cargo run --release -p signpost-sim --bin scale [-- --svg FILE]`. The real drivers on in-memory
//! ports, on one thread, so that neither an emulator nor a network is measured. Prints a table and
//! draws it. Fails when something grows faster than its data. Read next: [`signpost_sim::scale`].

use std::path::PathBuf;
use std::process::ExitCode;

use signpost_sim::deployment::print_line;
use signpost_sim::scale::{Run, SERIES, plot, table};

const HELP: &str = "\
Measures the time per request against open slots, accounts, batch size and calldata.

Usage: scale [--svg FILE] [--quick]

  --svg FILE  also draw the results
  --quick     leave out the largest sizes";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut svg, mut quick): (Option<PathBuf>, bool) = (None, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--svg" => svg = arguments.next().map(PathBuf::from),
            "--quick" => quick = true,
            "--help" | "-h" => {
                print_line(HELP);
                return ExitCode::SUCCESS;
            }
            other => {
                print_line(&format!("unknown option {other}\n\n{HELP}"));
                return ExitCode::from(2);
            }
        }
    }
    let mut measured = Vec::new();
    for series in SERIES {
        let run = series.run(quick);
        for line in table(&run) {
            print_line(&line);
        }
        measured.push(run);
    }
    if let Some(path) = svg
        && let Err(error) = std::fs::write(&path, plot(&measured))
    {
        print_line(&format!("cannot write {}: {error}", path.display()));
        return ExitCode::FAILURE;
    }
    let steep: Vec<_> = measured.iter().filter_map(Run::too_steep).collect();
    for problem in &steep {
        print_line(problem);
    }
    if steep.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
