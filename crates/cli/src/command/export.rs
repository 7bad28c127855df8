//! `signpost export`: prints the audit trail as JSON lines: the sender, the policy's verdict, every attempt with its
//! key, and the outcome.
//!
//! Read from the current records. Calldata and signatures are left out: the trail has their hashes.

use std::process::ExitCode;

use serde_json::{Value, json};
use signpost_txmgr::account::Head;
use signpost_txmgr::record::{CancelCause, Record, Rejected, Stored};
use signpost_txmgr::units::{Millis, keccak256};
use signpost_txmgr::wire::{OutcomeMessage, RequestStatus};

use super::registered::{named, ours};
use super::requests::{each_of, remark_unreadable};
use super::{CommandError, ConfigOption};
use crate::terminal::{remark, say_json};
use crate::{clock, ports, when};

const EXAMPLES: &str = "\
Examples:
  signpost export --since 24h > trail.jsonl
  signpost export --since 2026-11-01T00:00:00Z --account hot | jq 'select(.policy.verdict == \"refused\")'
  signpost export --since 30d --scan > everything.jsonl

One JSON line per request, newest first within an account. Messages without a known account (not JSON, or an unknown
account) are only in a --scan, which reads the whole table. Calldata is given as its Keccak-256 hash.
Expired requests are gone: export more often than the retention period.";

/// `signpost export`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Only requests accepted since: 30m, 24h, 7d, 2026-11-24T08:00:00Z, or Unix seconds
    #[arg(long, value_name = "WHEN")]
    since: String,
    /// Only requests of this account
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Read the whole table instead of the index: slow, with a cost by table size
    #[arg(long, conflicts_with = "account")]
    scan: bool,
    /// No effect: the output is always JSON lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let since = when::since(&arguments.since, clock::now())?;
    let session = arguments.config.open().await?;
    let store = ports::store(&session);
    let heads = match &arguments.account {
        Some(name) => vec![named(&session, name).await?],
        None => ours(&session).await?,
    };
    let mut count = 0_usize;
    let mut unreadable = 0_usize;
    if arguments.scan {
        store
            .find_all(|found| match found.stored {
                Ok(stored) if created_at(&stored) >= since => {
                    count = count.saturating_add(1);
                    say_json(&line(&stored, &heads));
                }
                Ok(_) => {}
                Err(error) => {
                    unreadable = unreadable.saturating_add(1);
                    remark_unreadable(&found.id, &error);
                }
            })
            .await?;
    } else {
        for head in &heads {
            each_of(&store, head, since, |stored| {
                count = count.saturating_add(1);
                say_json(&line(&stored, &heads));
                true
            })
            .await?;
        }
    }
    remark(format!("{count} request(s) since {}", when::date(since)));
    Ok(if unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn created_at(stored: &Stored) -> Millis {
    match stored {
        Stored::Record(record) => record.created_at,
        Stored::Rejected(rejected) => rejected.created_at,
    }
}

fn line(stored: &Stored, heads: &[Head]) -> Value {
    let status = RequestStatus::of(stored);
    let (policy, outcome) = match stored {
        Stored::Record(record) => (policy_of(record), OutcomeMessage::of_record(record)),
        Stored::Rejected(rejected) => (refusal(rejected), Some(OutcomeMessage::of_rejected(rejected))),
    };
    let head = heads.iter().find(|head| Some(head.account.to_string()) == status.account);
    let data_hash = match stored {
        Stored::Record(record) => Some(format!("0x{}", hex::encode(keccak256(&record.intent.data)))),
        Stored::Rejected(_) => None,
    };
    json!({
        "requestId": status.request_id,
        "asked": {
            "at": status.created_at, "sender": status.sender, "messageId": status.message_id, "digest": status.digest,
            "account": status.account,
            "name": head.map(|head| head.name.as_str()), "to": status.to, "value": status.value, "gas": status.gas,
            "gasPrice": status.gas_price, "maxFeePerGas": status.max_fee_per_gas,
            "maxPriorityFeePerGas": status.max_priority_fee_per_gas, "feeCap": status.fee_cap,
            "deadline": status.deadline, "dataHash": data_hash, "metadata": status.metadata,
        },
        "policy": policy, "policyDigest": status.policy_digest, "codeVersion": status.code_version,
        "nonce": status.nonce,
        "kmsKeyId": head.filter(|_| !status.attempts.is_empty()).map(|head| head.kms_key_id.as_str()),
        "attempts": status.attempts,
        "status": status.status,
        "outcome": outcome,
        "publishedAt": status.published_at,
    })
}

/// A request with a slot was allowed when it was accepted; a later policy may have refused it before it was signed.
fn policy_of(record: &Record) -> Value {
    match &record.cancel {
        Some(CancelCause::Policy(reason)) => json!({
            "verdict": "allowedThenRefused", "code": reason.code, "message": reason.message,
        }),
        Some(CancelCause::Asked | CancelCause::Deadline | CancelCause::Refused(_) | CancelCause::AtCap) | None => {
            json!({ "verdict": "allowed" })
        }
    }
}

/// A rejection is from the policy or from the parser: its code says which.
fn refusal(rejected: &Rejected) -> Value {
    json!({ "verdict": "refused", "code": rejected.reason.code, "message": rejected.reason.message })
}
