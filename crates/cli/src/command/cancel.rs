//! `signpost cancel`: cancels a request as an operator, who need not be its sender.
//!
//! Writes the cancel to the record, as the signer does for a backend's message, and pokes the lane. Needs write access
//! to the requests table. Does not guarantee that the request is not executed: the finalized transaction of the slot
//! decides.

use std::process::ExitCode;

use serde_json::json;
use signpost_aws::store::DynamoStore;
use signpost_txmgr::machine::{Event, apply};
use signpost_txmgr::ports::{BroadcastQueue as _, Store as _, UpdateVerdict};
use signpost_txmgr::record::{CancelCause, Phase, Record};
use signpost_txmgr::wire::LanePoke;

use super::confirm::Yes;
use super::registered::of_our_chain;
use super::stored::stored_record;
use super::{CommandError, ConfigOption, error_chain, request_id};
use crate::terminal::{remark, say, say_json};
use crate::{clock, ports};

/// The broadcaster may change the record at the same time; between two of its rounds a write succeeds.
const TRIES: usize = 10;

const EXAMPLES: &str = "\
Examples:
  signpost cancel invoice-4711
  signpost cancel invoice-4711 --yes --json && signpost status invoice-4711 --watch

A cancel transaction (1 wei or nothing from the account to itself) uses the request's nonce. If the request is mined
first, it is executed. The command needs write access to the requests table. A backend cancels its own requests with a
message `{\"cancel\": \"ID\"}` on the signing queue.";

/// `signpost cancel`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Id of the request
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    yes: Yes,
    /// One JSON line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let id = request_id(&arguments.id)?;
    let session = arguments.config.open().await?;
    arguments.yes.or_ask(&format!("{id} will be cancelled unless it is mined first; a cancel cannot be undone."))?;
    let store = ports::store(&session);
    let record = stored_record(&store, &id).await?;
    of_our_chain(&session, &record.account)?;
    let record = note(&store, record).await?;
    let poke = LanePoke {
        account: record.account.to_string(),
        cause: format!("an operator cancelled {id} at {}", clock::now()),
    };
    if let Err(error) = ports::broadcast_queue(&session).poke_lanes(&[poke]).await {
        remark(format!(
            "the cancel is stored, but the lane was not poked ({}); the next sweep does it",
            error_chain(&error)
        ));
    }
    if arguments.json {
        let line = json!({ "requestId": id.as_str(), "status": record.phase.name(), "nonce": record.nonce.0 });
        say_json(&line);
    } else {
        say(format!("{id} will be cancelled; see: signpost status {id} --watch"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Stores the cancel on the record, and returns it.
async fn note(store: &DynamoStore, mut record: Record) -> Result<Record, CommandError> {
    let id = record.request_id.clone();
    for _ in 0..TRIES {
        if let Phase::Settled(_) = record.phase {
            return Err(CommandError::Input(format!("{id} has its outcome: {}", record.phase.name())));
        }
        if record.cancel.is_some() {
            return Ok(record);
        }
        let next = apply(&record, &Event::CancelAsked(CancelCause::Asked), clock::now())
            .map_err(|error| CommandError::Input(format!("{id} cannot be cancelled: {error}")))?;
        match store.update(&next).await? {
            UpdateVerdict::Stored => return Ok(next),
            UpdateVerdict::Stale(theirs) => record = *theirs,
            UpdateVerdict::Gone => return Err(CommandError::Unknown(format!("the record of {id} is gone"))),
        }
    }
    Err(CommandError::Unknown(format!("{id} was changed by others {TRIES} times in a row; try again")))
}
