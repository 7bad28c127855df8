//! `signpost republish`: publishes the outcome of a request again, rebuilt from its record.
//!
//! The copy has the same contents and the same `eventId`. Changes no record. A request without an outcome is refused.

use std::process::ExitCode;

use serde_json::json;
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::publish;
use signpost_txmgr::record::Stored;
use signpost_txmgr::wire::{OutcomeMessage, RequestStatus};

use super::registered::of_our_chain;
use super::{CommandError, ConfigOption, request_id};
use crate::terminal::{remark, say, say_json};
use crate::{clock, ports};

const EXAMPLES: &str = "\
Examples:
  signpost republish invoice-4711
  signpost requests list --since 2h --status confirmed --limit 1000 --json | jq -r .requestId | xargs signpost republish

Every subscriber whose filter matches gets the copy; a subscriber that has seen its `eventId` ignores it. A FIFO topic
drops the copy within five minutes of the first. Only requests that have an outcome are published.";

/// `signpost republish`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Ids of the requests
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// One JSON line per request
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let ids = arguments.ids.iter().map(|id| request_id(id)).collect::<Result<Vec<_>, _>>()?;
    let session = arguments.config.open().await?;
    let stored = ports::store(&session).load(&ids, clock::now()).await?;
    for stored in &stored {
        if let Stored::Record(record) = stored {
            // Outcomes of another Signpost go to its own topic.
            of_our_chain(&session, &record.account)?;
        }
    }
    let mut outcomes = Vec::new();
    let mut complete = true;
    for id in &ids {
        let found = stored.iter().find(|stored| stored.request_id() == id);
        if let Some(outcome) = found.and_then(outcome_of) {
            outcomes.push(outcome);
            continue;
        }
        complete = false;
        match found.map(|found| RequestStatus::of(found).status.as_str()) {
            Some(status) => {
                remark(format!("{id}: it is {status} and has no outcome yet; see `signpost status {id} --watch`"));
            }
            None => remark(format!("{id}: no such request")),
        }
    }
    let answers = publish::all(&ports::topic(&session), &outcomes).await;
    for (outcome, answer) in outcomes.iter().zip(answers) {
        let OutcomeMessage { request_id, status, event_id, .. } = outcome;
        match answer {
            Ok(()) if arguments.json => {
                say_json(&json!({ "requestId": request_id, "status": status, "eventId": event_id }));
            }
            Ok(()) => say(format!("{request_id}: published again as {}, eventId {event_id}", status.as_str())),
            Err(error) => {
                complete = false;
                remark(format!("{request_id}: not published: {}", super::error_chain(&error)));
            }
        }
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn outcome_of(stored: &Stored) -> Option<OutcomeMessage> {
    match stored {
        Stored::Record(record) => OutcomeMessage::of_record(record),
        Stored::Rejected(rejected) => Some(OutcomeMessage::of_rejected(rejected)),
    }
}
