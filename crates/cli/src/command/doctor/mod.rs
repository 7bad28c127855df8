//! `signpost doctor`: looks at everything a Signpost stands on and says what is not as it should be, and what to
//! do about it. Asks only; changes nothing and sends nothing.
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

Each line is ok, look (it works, and somebody may want to know) or problem, with what to do. Exit code 0: no problem;
1: a problem. Needs the rights to read: sqs:GetQueueAttributes and sqs:GetQueueUrl, dynamodb:DescribeTable and
dynamodb:DescribeTimeToLive beside those to read items, sns:GetTopicAttributes, kms:DescribeKey and
kms:GetPublicKey.";

/// `signpost doctor`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// One JSON line a check
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// How a thing stands.
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

/// One thing that was looked at.
#[derive(Debug)]
struct Check {
    /// `signing queue: redrive`
    what: String,
    state: State,
    /// What was found.
    found: String,
    /// What to do; empty where nothing is.
    todo: String,
}

/// The checks as they are made.
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
        // Names and words of nodes and services are among them.
        let (what, found) = (text::plain(&what.into()), text::plain_lines(&found.into()));
        self.0.push(Check { what, state, found, todo: todo.into() });
    }

    /// Ok if it holds, else a problem.
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
    for Check { what, state, found, todo } in &checks.0 {
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
        say(format!("{}  {what:<width$}  {found}", paint(colour, &format!("{:<7}", state.name()))));
        if !todo.is_empty() {
            say(format!("{:<7}  {:<width$}  → {todo}", "", ""));
        }
    }
    remark(match problems {
        0 => "no problem found".to_owned(),
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    });
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
