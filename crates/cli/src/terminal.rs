//! Output to the terminal. Results go to stdout, progress and remarks to stderr, so that `--json` output can be piped.
//! Colour is used only on a terminal. A closed pipe (`signpost watch | head`) ends the output, not the program.
//!
//! ## Guarantees
//! * Foreign text cannot control the terminal: all lines pass [`text::screen`], JSON is written by [`text::json`], and
//!   only colour codes get through.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;
use signpost_txmgr::text;

use crate::clock::Stopwatch;

/// Writes one line to stdout.
pub fn say(line: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    // A closed pipe is the reader's decision; nobody is left to read an error.
    let _ = writeln!(out, "{}", text::screen(line.as_ref()));
    let _ = out.flush();
}

/// Writes one line of JSON to stdout.
pub fn say_json<T: Serialize + ?Sized>(value: &T) {
    match text::json(value) {
        Ok(line) => say(line),
        Err(error) => remark(format!("the line cannot be written as JSON: {error}")),
    }
}

/// Writes one line to stderr.
pub fn remark(line: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", text::screen(line.as_ref()));
}

/// Runs a step with one line on stderr: its label, and when it ends, how long it took.
pub fn step<T, E>(label: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let running = Step::begin(label);
    let result = work();
    running.end(result.is_ok());
    result
}

/// A running step; see [`step`].
#[derive(Debug)]
pub struct Step {
    since: Stopwatch,
}

impl Step {
    /// Prints the label of the step.
    #[must_use]
    pub fn begin(label: &str) -> Self {
        let mut err = io::stderr().lock();
        let _ = write!(err, "  {label:.<52} ");
        let _ = err.flush();
        Self { since: Stopwatch::start() }
    }

    /// Prints how the step ended.
    pub fn end(self, succeeded: bool) {
        let seconds = self.since.elapsed().as_secs_f64();
        let _ = writeln!(io::stderr().lock(), "{} {seconds:.1} s", if succeeded { "done" } else { "FAILED" });
    }
}

/// One of the sixteen colours that every terminal supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Success.
    Green,
    /// Failure.
    Red,
    /// Needs attention.
    Yellow,
    /// Less important.
    Grey,
}

/// `text` without control characters, in `colour` if stdout is a terminal and `NO_COLOR` is not set.
#[must_use]
pub fn paint(colour: Colour, text: &str) -> String {
    let text = text::plain(text);
    if !io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return text;
    }
    let code = match colour {
        Colour::Green => 32,
        Colour::Red => 31,
        Colour::Yellow => 33,
        Colour::Grey => 90,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn painted_text_cannot_control_the_terminal() {
        // Tests have no terminal, so only the text is left.
        assert_eq!(paint(Colour::Red, "no\u{1b}[2J\n"), "no\\u{1b}[2J\\n");
    }
}
