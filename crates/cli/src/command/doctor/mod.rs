//! `signpost doctor`: checks everything that a Signpost depends on, and says what is wrong and what to do. Read-only:
//! changes nothing and sends nothing.
//!
//! Read next: `aws`, `accounts`, `nodes`, `rules`, `start`.

mod accounts;
mod aws;
mod nodes;
mod rules;
mod start;

use std::process::ExitCode;

use serde_json::json;
use signpost_txmgr::text;

use super::{CommandError, ConfigOption};
use crate::terminal::{Colour, paint, remark, say, say_json};

const EXAMPLES: &str = "\
Examples:
  signpost doctor
  signpost doctor --json | jq 'select(.state != \"ok\")'
  signpost doctor --config /etc/signpost.toml && systemctl start signpost

The state of a check is ok, look (it works, but deserves attention) or problem, with what to do. The last line counts
them; with --json it goes to stderr. Exit code 0: no problem; 1: a problem. Needs read permissions:
sqs:GetQueueAttributes and sqs:GetQueueUrl, dynamodb:DescribeTable, dynamodb:DescribeTimeToLive and those to read
items, sns:GetTopicAttributes, kms:DescribeKey and kms:GetPublicKey.";

/// `signpost doctor`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// One JSON line per check
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Look,
    Problem,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Look => "look",
            Self::Problem => "problem",
        }
    }
}

/// One check.
#[derive(Debug)]
struct Check {
    /// The subject: `signing queue: redrive`.
    what: String,
    state: State,
    /// What was found.
    found: String,
    /// What to do; empty if nothing.
    todo: String,
    /// What a person reads instead of `found`: the same with amounts in BNB too.
    shown: Option<String>,
}

/// The checks made so far.
#[derive(Debug, Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn ok(&mut self, what: impl Into<String>, found: impl Into<String>) {
        self.note(State::Ok, what, found, "");
    }

    fn look(&mut self, what: impl Into<String>, found: impl Into<String>, todo: impl Into<String>) {
        self.note(State::Look, what, found, todo);
    }

    fn problem(&mut self, what: impl Into<String>, found: impl Into<String>, todo: impl Into<String>) {
        self.note(State::Problem, what, found, todo);
    }

    fn note(&mut self, state: State, what: impl Into<String>, found: impl Into<String>, todo: impl Into<String>) {
        // They may include names and text from nodes and services.
        let (what, found) = (text::plain(&what.into()), text::plain_lines(&found.into()));
        self.0.push(Check { what, state, found, todo: todo.into(), shown: None });
    }

    /// Replaces the finding of the last check in the output for people; JSON keeps it.
    fn show_last_as(&mut self, text: String) {
        if let Some(last) = self.0.last_mut() {
            last.shown = Some(text);
        }
    }

    /// The last line: the number of checks by state.
    fn summary(&self) -> String {
        let count = |state| self.0.iter().filter(|check| check.state == state).count();
        let (all, looks) = (self.0.len(), count(State::Look));
        match (count(State::Problem), looks) {
            (0, 0) => format!("{all} checks: all ok, no problem found"),
            (0, _) => format!("{all} checks: {} ok, {looks} to look at, no problem found", count(State::Ok)),
            (problems, _) => format!("{problems} of {all} checks failed"),
        }
    }

    /// Ok if `holds`, else a problem.
    fn expect(&mut self, holds: bool, what: impl Into<String>, found: impl Into<String>, todo: impl Into<String>) {
        if holds { self.ok(what, found) } else { self.problem(what, found, todo) }
    }
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let session = arguments.config.open().await?;
    let mut checks = Checks::default();
    aws::credentials(&session, &mut checks).await;
    aws::queues(&session, &mut checks).await;
    aws::tables(&session, &mut checks).await;
    aws::topic(&session, &mut checks).await;
    nodes::check(&session, &mut checks).await;
    accounts::check(&session, &mut checks).await;
    start::check(&session, &mut checks).await;
    let problems = checks.0.iter().filter(|check| check.state == State::Problem).count();
    let width = checks.0.iter().map(|check| check.what.chars().count()).max().unwrap_or(0);
    for Check { what, state, found, todo, shown } in &checks.0 {
        if arguments.json {
            let line = json!({ "check": what, "state": state.name(), "found": found,
                "todo": Some(todo).filter(|todo| !todo.is_empty()) });
            say_json(&line);
            continue;
        }
        let colour = match state {
            State::Ok => Colour::Green,
            State::Look => Colour::Yellow,
            State::Problem => Colour::Red,
        };
        let found = shown.as_ref().unwrap_or(found);
        say(format!("{}  {what:<width$}  {found}", paint(colour, &format!("{:<7}", state.name()))));
        if !todo.is_empty() {
            say(format!("{:<7}  {:<width$}  → {todo}", "", ""));
        }
    }
    let summary = checks.summary();
    if arguments.json {
        remark(summary);
    } else {
        let colour = if problems == 0 { Colour::Green } else { Colour::Red };
        say(format!("\n{}", paint(colour, &summary)));
    }
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_counts_checks_by_state() {
        let mut checks = Checks::default();
        checks.ok("credentials", "AWS answers");
        assert_eq!(checks.summary(), "1 checks: all ok, no problem found");
        checks.look("outcome topic", "no subscriber", "fine");
        assert_eq!(checks.summary(), "2 checks: 1 ok, 1 to look at, no problem found");
        checks.problem("hot: key", "disabled", "enable it");
        assert_eq!(checks.summary(), "1 of 3 checks failed");
    }

    #[test]
    fn json_finding_stays_when_people_read_another_text() {
        let mut checks = Checks::default();
        checks.ok("hot: balance", "1 wei");
        checks.show_last_as("1 wei (0.000000000000000001 BNB)".to_owned());
        let Check { found, shown, .. } = &checks.0[0];
        assert_eq!((found.as_str(), shown.as_deref()), ("1 wei", Some("1 wei (0.000000000000000001 BNB)")));
    }
}
