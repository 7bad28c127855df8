//! `signpost requests`: lists requests, newest first.
//!
//! Queries the index by account and time, then reads the items found; reads the whole table only with `--scan`. The
//! index lags slightly, and does not have bad messages without a known account.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;
use signpost_aws::store::DynamoStore;
use signpost_txmgr::account::Head;
use signpost_txmgr::ports::PortError;
use signpost_txmgr::record::Stored;
use signpost_txmgr::text;
use signpost_txmgr::units::Millis;
use signpost_txmgr::wire::{RequestStatus, Status};

use super::registered::{named, ours};
use super::status::colour;
use super::{CommandError, ConfigOption, error_chain};
use crate::terminal::{paint, remark, say, say_json};
use crate::{clock, ports, when};

/// Ids per read.
const READ_AT_ONCE: usize = 100;

const EXAMPLES: &str = "\
Examples:
  signpost requests list
  signpost requests list --account hot --open
  signpost requests list --status rejected --since 24h
  signpost requests list --since 7d --limit 1000 --json | jq -r .requestId
  signpost requests list --scan --status rejected

Newest first. For a request without an outcome, a code says what it waits for; `signpost status ID` explains the code.
A message without a known account (not JSON, or an unknown account) is in no account's list: --scan finds it by reading
the whole table.";

/// `signpost requests`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List requests, newest first
    #[command(after_help = EXAMPLES)]
    List(List),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only requests of this account
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Only requests with this status (reserved, signed, sent, mined, confirmed, reverted, cancelled, displaced,
    /// rejected); may be repeated
    #[arg(long, value_name = "STATUS")]
    status: Vec<String>,
    /// Only requests without an outcome: reserved, signed, sent, mined
    #[arg(long, conflicts_with = "status")]
    open: bool,
    /// Only requests accepted since: 30m, 24h, 7d, 2026-11-24T08:00:00Z, or Unix seconds
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// At most N requests
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Read the whole table instead of the index: slow, with a cost by table size
    #[arg(long, conflicts_with = "account")]
    scan: bool,
    /// Print the items as JSON (request-status.v1), one per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let Action::List(list) = arguments.action;
    let wanted = wanted(&list)?;
    let now = clock::now();
    let since = list.since.as_deref().map_or(Ok(Millis(0)), |text| when::since(text, now))?;
    let session = list.config.open().await?;
    let store = ports::store(&session);
    let heads = match &list.account {
        Some(name) => vec![named(&session, name).await?],
        None => ours(&session).await?,
    };
    let (mut found, more) = if list.scan {
        scan(&store, since, &wanted, list.limit).await?
    } else {
        by_index(&store, &heads, since, &wanted, list.limit).await?
    };
    found.sort_by_key(|status| std::cmp::Reverse(status.created_at));
    if list.json {
        for status in &found {
            say_json(status);
        }
    } else if !found.is_empty() {
        table(&found, &heads, now).into_iter().for_each(say);
    }
    match (found.len(), more) {
        (0, _) => remark("no request matches; try other values of --since and --status"),
        (count, true) => remark(format!("the newest {count}; there are more, see --limit and --since")),
        (_, false) => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn wanted(list: &List) -> Result<BTreeSet<&'static str>, CommandError> {
    if list.open {
        return Ok([Status::Reserved, Status::Signed, Status::Sent, Status::Mined].map(Status::as_str).into());
    }
    let parsed = list.status.iter().map(|text| {
        let status: Status = serde_json::from_value(Value::String(text.clone()))
            .map_err(|_| CommandError::Input(format!("no request has the status {text}; see --help")))?;
        Ok(status.as_str())
    });
    parsed.collect()
}

fn is_wanted(status: &RequestStatus, wanted: &BTreeSet<&str>) -> bool {
    wanted.is_empty() || wanted.contains(status.status.as_str())
}

/// The newest requests of all accounts, and whether there are more.
async fn by_index(
    store: &DynamoStore,
    heads: &[Head],
    since: Millis,
    wanted: &BTreeSet<&str>,
    limit: usize,
) -> Result<(Vec<RequestStatus>, bool), CommandError> {
    let (mut all, mut more) = (Vec::new(), false);
    for head in heads {
        let mut of_account = Vec::new();
        each_of(store, head, since, |stored| {
            let status = RequestStatus::of(&stored);
            if is_wanted(&status, wanted) {
                of_account.push(status);
            }
            of_account.len() <= limit
        })
        .await?;
        all.append(&mut of_account);
    }
    all.sort_by_key(|status| std::cmp::Reverse(status.created_at));
    more |= all.len() > limit;
    all.truncate(limit);
    Ok((all, more))
}

/// Passes an account's requests since `since` to `each`, newest first, until it returns false.
pub async fn each_of(
    store: &DynamoStore,
    head: &Head,
    since: Millis,
    mut each: impl FnMut(Stored) -> bool,
) -> Result<(), PortError> {
    let mut next = None;
    loop {
        let page = store.page_of(&head.account, since, next).await?;
        for ids in page.ids.chunks(READ_AT_ONCE) {
            let ids: Vec<_> = ids.iter().map(|(id, _)| id.clone()).collect();
            let mut found = store.find(&ids).await?;
            // A batch is returned in no particular order.
            found.sort_by_key(|found| ids.iter().position(|id| id.as_str() == found.id));
            for found in found {
                match found.stored {
                    Ok(stored) => {
                        if !each(stored) {
                            return Ok(());
                        }
                    }
                    Err(error) => {
                        remark_unreadable(&found.id, &error);
                    }
                }
            }
        }
        next = page.next;
        if next.is_none() {
            return Ok(());
        }
    }
}

/// Reports an unreadable item. Its key may be any text.
pub(super) fn remark_unreadable(id: &str, error: &dyn std::error::Error) {
    remark(format!("{} cannot be read ({}); see `signpost audit`", text::plain(id), error_chain(error)));
}

/// Reads the whole table, and keeps the newest matching items.
async fn scan(
    store: &DynamoStore,
    since: Millis,
    wanted: &BTreeSet<&str>,
    limit: usize,
) -> Result<(Vec<RequestStatus>, bool), CommandError> {
    let mut kept: Vec<RequestStatus> = Vec::new();
    let mut count = 0_usize;
    store
        .find_all(|found| match found.stored {
            // The rejection is also stored under the id that it names.
            Ok(Stored::Rejected(rejected)) if rejected.said_as.is_some() => {}
            Ok(stored) => {
                let status = RequestStatus::of(&stored);
                if status.created_at >= since.0 && is_wanted(&status, wanted) {
                    count = count.saturating_add(1);
                    kept.push(status);
                    if kept.len() >= limit.saturating_mul(2).max(READ_AT_ONCE) {
                        keep_newest(&mut kept, limit);
                    }
                }
            }
            Err(error) => remark_unreadable(&found.id, &error),
        })
        .await?;
    keep_newest(&mut kept, limit);
    Ok((kept, count > limit))
}

fn keep_newest(kept: &mut Vec<RequestStatus>, limit: usize) {
    kept.sort_by_key(|status| std::cmp::Reverse(status.created_at));
    kept.truncate(limit);
}

/// One line per request, under a heading.
fn table(found: &[RequestStatus], heads: &[Head], now: Millis) -> Vec<String> {
    let name_of = |account: Option<&String>| {
        let head = heads.iter().find(|head| Some(&head.account.to_string()) == account);
        head.map_or_else(|| account.cloned().unwrap_or_else(|| "-".to_owned()), |head| head.name.to_string())
    };
    let names: Vec<String> = found.iter().map(|status| name_of(status.account.as_ref())).collect();
    let id_width = found.iter().map(|status| status.request_id.len()).max().unwrap_or(0).max(7);
    let name_width = names.iter().map(String::len).max().unwrap_or(0).max(7);
    let heading = format!(
        "{:<11}{:<id_width$}  {:<name_width$}  {:>7}  {:>14}  ",
        "STATUS", "REQUEST", "ACCOUNT", "NONCE", "AGE"
    );
    let last = "TRANSACTION OR REASON, AND WHAT IT WAITS FOR";
    let mut lines = vec![paint(crate::terminal::Colour::Grey, &format!("{heading}{last}"))];
    for (status, name) in found.iter().zip(names) {
        let nonce = status.nonce.map_or_else(|| "-".to_owned(), |nonce| nonce.to_string());
        let age = when::span(now.0.saturating_sub(status.created_at));
        let shown = paint(colour(status.status), &format!("{:<11}", status.status.as_str()));
        let end = match (&status.reason, &status.tx_hash) {
            (Some(reason), _) => match &reason.request_id {
                Some(asked) => format!("{} (of {asked})", reason.code),
                None => reason.code.clone(),
            },
            (None, Some(hash)) => hash.clone(),
            (None, None) => String::new(),
        };
        let waits = status.waiting_for.as_ref().map(|waiting| {
            let since = when::span(now.0.saturating_sub(waiting.since));
            format!("waits {since} for {}", waiting.code)
        });
        let end: Vec<String> = Some(end).filter(|end| !end.is_empty()).into_iter().chain(waits).collect();
        let end = end.join("  ");
        let line = format!("{:<id_width$}  {name:<name_width$}  {nonce:>7}  {age:>14}  {end}", status.request_id);
        lines.push(format!("{shown}{}", line.trim_end()));
    }
    lines
}
