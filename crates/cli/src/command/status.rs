//! `signpost status`: how a request stands, by one read of the requests table.
//!
//! Any backend does the same with `GetItem`; this only prints it for people.

use std::process::ExitCode;

use signpost_client::Client;
use signpost_txmgr::units::RequestId;
use signpost_txmgr::wire::{RequestStatus, Status, WireAttempt, WireFee};

use super::{CommandError, ConfigOption, asked_to_stop, request_id, told};
use crate::terminal::{Colour, paint, remark, say};
use crate::{clock, world};

const EXAMPLES: &str = "\
Examples:
  signpost status invoice-4711
  signpost status invoice-4711 --watch
  signpost status invoice-4711 --json | jq -r .txHash

With --watch the exit code is 0 only if the request is confirmed.";

/// `signpost status`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The request's id
    #[arg(value_name = "ID")]
    id: String,
    /// Follow it until its outcome is published
    #[arg(long)]
    watch: bool,
    /// The item as JSON (request-status.v1), one line each time it changes
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let id = request_id(&arguments.id)?;
    let session = arguments.config.open().await?;
    let client = world::client(&session);
    if arguments.watch {
        let asked = asked_to_stop()?;
        return tokio::select! {
            followed = follow(&client, &id, arguments.json) => followed,
            () = asked => Ok(ExitCode::FAILURE),
        };
    }
    let Some(status) = client.status(&id).await? else {
        let table = &session.config.tables.requests;
        let way_out = "it may still be in the signing queue; --watch waits for it";
        return Err(CommandError::Unknown(format!("no request {id} in table {table}; {way_out}")));
    };
    if arguments.json {
        say(as_json(&status)?);
    } else {
        lines(&status, clock::now_ms()).into_iter().for_each(say);
    }
    Ok(ExitCode::SUCCESS)
}

async fn follow(client: &Client, id: &RequestId, json: bool) -> Result<ExitCode, CommandError> {
    let mut changes = client.follow(id);
    loop {
        match changes.next().await {
            Ok(Some(status)) => {
                say(if json { as_json(&status)? } else { step_line(&status) });
                if status.published_at.is_some() {
                    let confirmed = status.status == Status::Confirmed;
                    return Ok(if confirmed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
                }
            }
            Ok(None) => remark(format!("{id} is not in the table yet")),
            // A read that failed says nothing about the request; the next may succeed.
            Err(error) => remark(told(&CommandError::from(error))),
        }
    }
}

fn as_json(status: &RequestStatus) -> Result<String, CommandError> {
    serde_json::to_string(status).map_err(|error| CommandError::Input(format!("the record is no JSON: {error}")))
}

/// The colour of a status.
pub fn colour(status: Status) -> Colour {
    match status {
        Status::Confirmed => Colour::Green,
        Status::Reverted | Status::Displaced | Status::Rejected => Colour::Red,
        Status::Cancelled | Status::Mined => Colour::Yellow,
        Status::Reserved | Status::Signed | Status::Sent => Colour::Grey,
    }
}

/// One change as one line.
pub fn step_line(status: &RequestStatus) -> String {
    let since = seconds(status.updated_at.saturating_sub(status.created_at));
    let name = paint(colour(status.status), &format!("{:<10}", status.status.as_str()));
    let mut parts = vec![format!("{since:>9}"), name];
    parts.extend(status.nonce.map(|nonce| format!("nonce {nonce}")));
    parts.extend(status.tx_hash.clone());
    parts.extend(status.block_number.map(|block| format!("block {block}")));
    parts.extend(status.reason.as_ref().map(|reason| format!("{}: {}", reason.code, reason.message)));
    parts.extend(status.published_at.map(|_| "published".to_owned()));
    parts.join("  ")
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1_000, ms % 1_000)
}

fn lines(status: &RequestStatus, now: u64) -> Vec<String> {
    let after = |at: u64| format!("{} after it was accepted", seconds(at.saturating_sub(status.created_at)));
    let mut rows: Vec<(&str, Option<String>)> = vec![
        ("request", Some(status.request_id.clone())),
        ("status", Some(paint(colour(status.status), status.status.as_str()))),
        ("reason", status.reason.as_ref().map(|reason| format!("{}: {}", reason.code, reason.message))),
        ("account", status.account.clone()),
        ("from", status.from.clone()),
        ("nonce", status.nonce.map(|nonce| nonce.to_string())),
        ("to", status.to.clone()),
        ("value", status.value.as_ref().map(|value| format!("{value} wei"))),
        ("data", status.data.as_ref().filter(|data| data.len() > 2).map(|data| shortened(data))),
        ("gas", status.gas.map(|gas| gas.to_string())),
        ("gas price", status.gas_price.as_ref().map(|price| format!("{price} wei"))),
        ("max fee", status.max_fee_per_gas.as_ref().map(|price| format!("{price} wei"))),
        ("priority fee", status.max_priority_fee_per_gas.as_ref().map(|price| format!("{price} wei"))),
        ("deadline", status.deadline.map(|deadline| format!("{deadline} (Unix seconds)"))),
        ("metadata", status.metadata.as_ref().map(ToString::to_string)),
        ("transaction", status.tx_hash.clone()),
        ("block", status.block_number.map(|block| block.to_string())),
        ("gas used", status.gas_used.map(|gas| gas.to_string())),
        ("contract", status.contract_address.clone()),
    ];
    for attempt in &status.attempts {
        rows.push(("attempt", Some(attempt_line(attempt))));
    }
    rows.push(("accepted", Some(format!("{} ago", seconds(now.saturating_sub(status.created_at))))));
    rows.push(("settled", status.settled_at.map(after)));
    rows.push(("published", status.published_at.map(after)));
    rows.into_iter().filter_map(|(name, value)| Some(format!("{name:<14}{}", value?))).collect()
}

fn attempt_line(attempt: &WireAttempt) -> String {
    let kind = serde_json::to_value(attempt.kind).ok();
    let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
    let price = match &attempt.fee {
        WireFee::Legacy { gas_price } => gas_price,
        WireFee::Dynamic { max_fee_per_gas, .. } => max_fee_per_gas,
    };
    let answer = attempt.answer.as_deref().unwrap_or("not sent");
    format!("{kind} {} at {price} wei, {answer}", attempt.tx_hash)
}

/// Calldata may be 128 KiB; a screen is not.
fn shortened(data: &str) -> String {
    const SHOWN: usize = 74;
    match data.get(..SHOWN) {
        Some(start) => format!("{start}… ({} bytes)", data.len().saturating_sub(2) / 2),
        None => data.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_calldata_is_cut_with_its_length() {
        assert_eq!(shortened("0x00"), "0x00");
        let long = format!("0x{}", "ab".repeat(1_000));
        assert!(shortened(&long).ends_with("… (1000 bytes)"));
    }
}
