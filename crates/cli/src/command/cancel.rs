//! `signpost cancel`: asks for a cancel, by the same message any backend sends.
//!
//! Promises nothing: the outcome is whichever transaction of the slot is finalized.

use std::process::ExitCode;

use serde_json::json;
use signpost_client::Body;
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::record::Stored;

use super::confirm::Yes;
use super::{CommandError, ConfigOption, request_id};
use crate::terminal::say;
use crate::{clock, world};

const EXAMPLES: &str = "\
Examples:
  signpost cancel invoice-4711
  signpost cancel invoice-4711 --yes --json && signpost status invoice-4711 --watch

A cancel transaction (nothing, from the account to itself) takes the request's nonce; if the request is
mined first, it is executed. An id that nobody knows is answered with the code `unknownRequest`.";

/// `signpost cancel`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The request's id
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
    arguments.yes.or_ask(&format!("{id} is not to be executed any more; a cancel cannot be taken back."))?;
    // In the group of its request a cancel does not overtake it on a FIFO queue.
    let stored = world::store(&session).load(std::slice::from_ref(&id), clock::now()).await?;
    let group = stored.first().and_then(|stored| match stored {
        Stored::Record(record) => Some(record.name.to_string()),
        Stored::Rejected(_) => None,
    });
    let body = Body::cancel(&id);
    let body = match group {
        Some(account) => body.in_group(account),
        None => body,
    };
    let message_id = world::client(&session).send(&body).await?;
    if arguments.json {
        say(json!({ "requestId": id.as_str(), "messageId": message_id }).to_string());
    } else {
        say(format!("asked to cancel {id}; see: signpost status {id} --watch"));
    }
    Ok(ExitCode::SUCCESS)
}
