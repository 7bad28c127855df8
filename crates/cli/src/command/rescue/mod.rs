//! `signpost rescue`: prints commands, ready to paste, that help a stuck request by hand.
//!
//! Uses no key, asks no node and sends nothing: it reads the record and prints. URLs of nodes may contain keys, so only
//! their host is shown.
//!
//! Read next: `plan.rs`.

mod plan;

use std::process::ExitCode;

use signpost_aws::store::DynamoStore;
use signpost_txmgr::account::Head;
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::record::{Record, WaitCause};

use super::registered::of_our_chain;
use super::stored::stored_record;
use super::{CommandError, ConfigOption, request_id};
use crate::ports;
use crate::terminal::{say, say_json};
use plan::{Ahead, Place, Plan};

const EXAMPLES: &str = "\
Examples:
  signpost rescue invoice-4711
  signpost rescue invoice-4711 --json | jq -r '.attempts[-1].raw'

Prints every signed transaction of the request with a `curl` command for each configured node, its page in an explorer,
and the commands that raise its price or cancel it. It sends nothing. Sending the same signed bytes to a node again, or
to another node, is harmless: Signpost finds whichever transaction is mined. URLs of nodes are not printed because they
may contain keys: set $BSC_RPC_1 and so on first.";

/// `signpost rescue`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Id of the request
    #[arg(value_name = "ID")]
    id: String,
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
    let store = ports::store(&session);
    let record = stored_record(&store, &id).await?;
    of_our_chain(&session, &record.account)?;
    if record.attempts.is_empty() {
        return Err(CommandError::Input(unsigned(&record)));
    }
    let head = store.head(&record.account).await?;
    let ahead = match &head {
        Some(head) => ahead(&store, head, &record).await?,
        None => None,
    };
    let place = Place {
        chain: &session.config.chain,
        config: arguments.config.config.as_deref(),
        is_paused: head.is_none_or(|head| head.paused),
        ahead,
    };
    let plan = Plan::of(&record, &place);
    if arguments.json {
        say_json(&plan.json());
    } else {
        plan.lines().into_iter().for_each(say);
    }
    Ok(ExitCode::SUCCESS)
}

fn unsigned(record: &Record) -> String {
    let id = &record.request_id;
    let cause = record.waiting.map_or(WaitCause::Signature, |waiting| waiting.cause);
    format!("{id} is not signed yet, so there is nothing to send; it waits for {cause}: {}", cause.meaning())
}

/// The request at the head of the lane, if it is another one: it must be mined first.
async fn ahead(store: &DynamoStore, head: &Head, record: &Record) -> Result<Option<Ahead>, CommandError> {
    if head.lowest_open_nonce >= record.nonce {
        return Ok(None);
    }
    let slots = store.slots(&record.account, head.lowest_open_nonce, 1).await?;
    Ok(slots.into_iter().next().filter(|(nonce, _)| *nonce < record.nonce).map(|(nonce, id)| Ahead { nonce, id }))
}
