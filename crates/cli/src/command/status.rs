//! `signpost status`: shows the status of a request with one read of the requests table.
//!
//! A backend does the same with `GetItem`; this command formats the item for people. It also asks the nodes for the
//! lane of an open request; without an answer the text says what the lane depends on.

use std::process::ExitCode;

use signpost_client::Client;
use signpost_txmgr::text;
use signpost_txmgr::units::{Millis, RequestId, Wei};
use signpost_txmgr::wire::{RequestStatus, Status, WireAttempt, WireFee, WireKind};

use super::{CommandError, ConfigOption, Session, asked_to_stop, error_chain, request_id};
use crate::terminal::{Colour, paint, remark, say, say_json};
use crate::{amount, clock, payment_lane, ports, when};

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
    /// Id of the request
    #[arg(value_name = "ID")]
    id: String,
    /// Follow the request until its outcome is published
    #[arg(long)]
    watch: bool,
    /// Print the item as JSON (request-status.v1); with --watch one line for each change
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let id = request_id(&arguments.id)?;
    let session = arguments.config.open().await?;
    let client = ports::client(&session);
    if arguments.watch {
        let asked = asked_to_stop()?;
        return tokio::select! {
            followed = follow(&client, &id, arguments.json) => followed,
            () = asked => Ok(ExitCode::FAILURE),
        };
    }
    let Some(status) = client.status(&id).await? else {
        let table = &session.config.tables.requests;
        let hint = "it may still be in the signing queue; --watch waits for it";
        return Err(CommandError::Unknown(format!("no request {id} in table {table}; {hint}")));
    };
    if arguments.json {
        say_json(&status);
    } else {
        let lane = lane_of(&session, &status).await;
        lines(&status, lane, clock::now_ms()).into_iter().for_each(say);
    }
    Ok(ExitCode::SUCCESS)
}

async fn follow(client: &Client, id: &RequestId, json: bool) -> Result<ExitCode, CommandError> {
    let mut changes = client.follow(id);
    loop {
        match changes.next().await {
            Ok(Some(status)) => {
                if json {
                    say_json(&status);
                } else {
                    say(step_line(&status));
                }
                if status.published_at.is_some() {
                    let confirmed = status.status == Status::Confirmed;
                    return Ok(if confirmed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
                }
            }
            Ok(None) => remark(format!("{id} is not in the table yet")),
            // A failed read says nothing about the request, and the next one may succeed.
            Err(error) => remark(error_chain(&CommandError::from(error))),
        }
    }
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

/// One line for a change of status.
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

/// The lane of the next transaction to be mined: the request's, or its cancel's.
async fn lane_of(session: &Session, status: &RequestStatus) -> Option<String> {
    if status.nonce.is_none() || status.settled_at.is_some() || status.block_number.is_some() {
        return None;
    }
    let cancel = status.attempts.last().filter(|attempt| attempt.kind == WireKind::Cancel);
    let (to, value) = match cancel {
        Some(cancel) => (status.from.as_ref(), cancel.to_self.as_deref().unwrap_or("0")),
        None => (status.to.as_ref(), status.value.as_deref().unwrap_or("0")),
    };
    let to = match to.map(|to| to.parse()) {
        None => None,
        Some(Ok(to)) => Some(to),
        // The item is malformed; leave the lane out.
        Some(Err(_)) => return None,
    };
    let value: Wei = value.parse().ok()?;
    let tx_type = if status.max_fee_per_gas.is_some() { 2 } else { 0 };
    Some(payment_lane::of(ports::chain(session).ok().as_ref(), tx_type, to, value).await.text)
}

/// The request, then its events in order.
fn lines(status: &RequestStatus, lane: Option<String>, now: u64) -> Vec<String> {
    let mut lines = facts(status, lane);
    lines.push(format!(
        "{:<14}{} ({} ago)",
        "accepted",
        when::date(Millis(status.created_at)),
        when::span(now.saturating_sub(status.created_at))
    ));
    if status.status != Status::Rejected {
        lines.push(String::new());
        lines.extend(timeline(status));
    }
    lines
}

fn facts(status: &RequestStatus, lane: Option<String>) -> Vec<String> {
    let rows: Vec<(&str, Option<String>)> = vec![
        ("request", Some(status.request_id.clone())),
        ("status", Some(paint(colour(status.status), status.status.as_str()))),
        ("reason", status.reason.as_ref().map(|reason| format!("{}: {}", reason.code, reason.message))),
        (
            "waits for",
            status.waiting_for.as_ref().map(|waiting| text::plain(&format!("{}: {}", waiting.code, waiting.message))),
        ),
        ("names", status.reason.as_ref().and_then(|reason| reason.request_id.as_deref().map(text::plain))),
        ("account", status.account.clone()),
        ("from", status.from.clone()),
        ("nonce", status.nonce.map(|nonce| nonce.to_string())),
        ("to", status.to.clone()),
        ("value", status.value.as_ref().map(amount::wei)),
        ("data", status.data.as_ref().filter(|data| data.len() > 2).map(|data| shortened(data))),
        ("gas", status.gas.map(|gas| gas.to_string())),
        ("lane", lane),
        ("gas price", status.gas_price.as_ref().map(amount::price)),
        ("max fee", status.max_fee_per_gas.as_ref().map(amount::price)),
        ("priority fee", status.max_priority_fee_per_gas.as_ref().map(amount::price)),
        ("deadline", status.deadline.map(|deadline| format!("{deadline} (Unix seconds)"))),
        ("metadata", status.metadata.as_ref().and_then(|metadata| text::json(metadata).ok())),
        ("sender", status.sender.as_deref().map(text::plain)),
        ("message", status.message_id.as_deref().map(text::plain)),
        ("transaction", status.tx_hash.clone()),
        ("block", status.block_number.map(|block| block.to_string())),
        ("witnesses", status.witnesses.map(|count| format!("{count} node(s)"))),
        ("gas used", status.gas_used.map(|gas| gas.to_string())),
        ("contract", status.contract_address.clone()),
    ];
    rows.into_iter().filter_map(|(name, value)| Some(format!("{name:<14}{}", value?))).collect()
}

/// The events of a request, with the time since it was accepted. An attempt's answer is the last one that changed.
fn timeline(status: &RequestStatus) -> Vec<String> {
    let mut steps =
        vec![(status.created_at, "reserved".to_owned(), status.nonce.map(|nonce| format!("nonce {nonce}")))];
    for (number, attempt) in status.attempts.iter().enumerate() {
        let kind = match attempt.kind {
            WireKind::Execute if number == 0 => "signed",
            WireKind::Execute => "bumped",
            WireKind::Cancel => "cancel signed",
        };
        steps.push((
            attempt.signed_at,
            kind.to_owned(),
            Some(format!("attempt {number}: {}, {}", attempt.tx_hash, price(attempt))),
        ));
        if let Some(at) = attempt.sent_at {
            steps.push((at, "sent".to_owned(), Some(format!("attempt {number}: {}", answer(attempt)))));
        }
    }
    steps.extend(status.settled_at.map(|at| {
        (
            at,
            status.status.as_str().to_owned(),
            status.block_number.map(|block| format!("in block {block}, which is final")),
        )
    }));
    steps.extend(status.published_at.map(|at| (at, "published".to_owned(), None)));
    steps.sort_by_key(|(at, ..)| *at);
    if status.status == Status::Mined {
        steps.push((
            status.updated_at,
            "mined".to_owned(),
            status.block_number.map(|block| format!("in block {block}, not final yet")),
        ));
    }
    let line = |(at, name, more): (u64, String, Option<String>)| {
        let since = seconds(at.saturating_sub(status.created_at));
        format!("{:>12}  {name:<14}{}", format!("+{since}"), more.unwrap_or_default()).trim_end().to_owned()
    };
    let mut lines: Vec<String> = steps.into_iter().map(line).collect();
    lines.extend(
        status
            .attempts
            .iter()
            .enumerate()
            .filter(|(_, attempt)| attempt.sent_at.is_none())
            .map(|(number, _)| format!("{:>12}  {:<14}attempt {number}", "", "not sent yet")),
    );
    lines
}

fn price(attempt: &WireAttempt) -> String {
    match &attempt.fee {
        WireFee::Legacy { gas_price } => amount::price(gas_price),
        WireFee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas } => {
            format!("{}, priority {}", amount::price(max_fee_per_gas), amount::price(max_priority_fee_per_gas))
        }
    }
}

/// The meaning of the node's answer, and its text.
fn answer(attempt: &WireAttempt) -> String {
    let meaning = match attempt.answer.as_deref().unwrap_or_default() {
        "accepted" => "a node accepted it",
        "alreadyKnown" => "a node already had it",
        "nonceTooLow" => "a node says that the nonce is used",
        "retry" => "a node asks to send it later",
        "underpriced" => "a node requires a higher price",
        "funds" => "the account cannot pay; the request waits",
        "refused" => "a node rejects it permanently; the request is cancelled",
        "misconfigured" => "a node says that Signpost is misconfigured; the account is paused",
        _ => "no usable answer: a node may have it",
    };
    match attempt.answer_message.as_deref().filter(|words| !words.is_empty() && !words.starts_with("0x")) {
        Some(words) => format!("{meaning} (\"{words}\")"),
        None => meaning.to_owned(),
    }
}

/// The beginning of long calldata, which may have 128 KiB.
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
    fn long_calldata_is_cut_and_its_length_shown() {
        assert_eq!(shortened("0x00"), "0x00");
        let long = format!("0x{}", "ab".repeat(1_000));
        assert!(shortened(&long).ends_with("… (1000 bytes)"));
    }
}
