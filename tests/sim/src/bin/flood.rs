//! How much longer an honest sender waits while another floods the signing queue.
//!
//! `cargo run -p signpost-sim --bin flood [-- COUNT]`: prints runs without junk and with it as a table, in simulated
//! time. Read next: [`signpost_sim::flood`].

use std::process::ExitCode;

use signpost_sim::deployment::print_line;
use signpost_sim::flood::{Junk, Order, row, run};

/// Junk messages if no COUNT is given.
const COUNT: usize = 10_000;

fn main() -> ExitCode {
    let asked = std::env::args().nth(1);
    let Ok(count) = asked.map_or(Ok(COUNT), |count| count.parse::<usize>()) else {
        print_line(
            "Usage: flood [COUNT]\n\nMeasures how long an honest sender waits while COUNT junk messages arrive in ten groups.",
        );
        return ExitCode::from(2);
    };
    print_line(&format!("{count} junk messages in ten groups, 3,000 a second, beside five honest requests a second\n"));
    print_line(
        "| SQS gives from | junk | honest requests | p50 to sent, ms | p99, ms | p99 to alone | flood answered in | store calls per junk message | its items |",
    );
    print_line("|---|---|---:|---:|---:|---:|---:|---:|---:|");
    for order in [Order::Any(1), Order::Oldest] {
        let alone = run(Junk::None, count, order);
        print_line(&row(order, Junk::None, count, alone, alone));
        for junk in [Junk::Stranger, Junk::Listed] {
            print_line(&row(order, junk, count, alone, run(junk, count, order)));
        }
    }
    ExitCode::SUCCESS
}
