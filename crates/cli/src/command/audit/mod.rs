//! `signpost audit`: checks the invariants in `crates/README.md` on the tables and on the chain.
//!
//! Reads in an order that a running Signpost cannot disturb (ids, then slots between two reads of the head, then
//! records), and reports a problem only if a second read confirms it. Changes nothing.
//!
//! Read next: [`judge`], which is pure, and [`chain`].

mod chain;
mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use serde_json::json;
use signpost_aws::store::DynamoStore;
use signpost_txmgr::account::Head;
use signpost_txmgr::ports::{Chain, Store as _};
use signpost_txmgr::record::Stored;
use signpost_txmgr::units::{Millis, RequestId};

use self::judge::{Problem, Seen};
use super::registered::{named, ours};
use super::{CommandError, ConfigOption, error_chain};
use crate::terminal::{Colour, paint, remark, say, say_json};
use crate::{clock, ports};

const EXAMPLES: &str = "\
Examples:
  signpost audit
  signpost audit --account hot
  signpost audit --json | jq 'select(.invariant)'

Exit code 0: no violation; 1: violations, each with its evidence; 2: wrong options or configuration.

Checked on everything that is stored: I1 one request per slot; I2 an attempt executes or cancels the request, and each
bump is valid; I3 mined transactions were stored (bytes that were sent and never mined cannot be seen); I4 slots have no
gap; I5 one mined transaction per slot and per request; I6 outcomes are from finalized blocks and match the chain;
I7 a rejected request has no slot and no signature; I9 no executing attempt is above the request's cap; I10 signatures
are low-s and by the account's key; I11 requests that the lane has moved past were published.
Not checked, because stored data does not show it: I8 (the messages are gone), I9 for past policies, I11 at the
subscribers, I12 to I14. `cargo verify` checks those. Reads every record of an account, and the chain for each.";

/// `signpost audit`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Only this account
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// One JSON line per finding, and one per account
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// The result of the audit of one account.
struct Audited {
    seen: Seen,
    /// Violations.
    problems: Vec<Problem>,
    /// Remarks, and what could not be checked.
    notes: BTreeSet<String>,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let session = arguments.config.open().await?;
    let store = ports::store(&session);
    let nodes = ports::chain(&session)?;
    let heads = match &arguments.account {
        Some(name) => vec![named(&session, name).await?],
        None => ours(&session).await?,
    };
    if heads.is_empty() {
        remark("no account is registered; there is nothing to audit");
    }
    let mut violations = 0_usize;
    for head in heads {
        let mut audited = audit(&store, &nodes, &head).await?;
        if !audited.problems.is_empty() {
            // A real violation is still there on a second read.
            let again = audit(&store, &nodes, &head).await?;
            audited.problems.retain(|problem| again.problems.contains(problem));
        }
        violations = violations.saturating_add(audited.problems.len());
        show(&head, &audited, arguments.json);
    }
    Ok(if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn audit(store: &DynamoStore, nodes: &impl Chain, head: &Head) -> Result<Audited, CommandError> {
    let seen = look(store, head).await?;
    let mut problems = judge::judge(&seen);
    let chain = chain::compare(nodes, &seen).await;
    problems.extend(chain.problems);
    Ok(Audited { seen, problems, notes: chain.notes })
}

/// Reads everything that is stored for an account.
async fn look(store: &DynamoStore, head: &Head) -> Result<Seen, CommandError> {
    let gone = || CommandError::Unknown(format!("{} is no longer registered", head.name));
    let mut ids: BTreeSet<RequestId> = BTreeSet::new();
    let mut next = None;
    loop {
        let page = store.page_of(&head.account, Millis(0), next).await?;
        ids.extend(page.ids.into_iter().map(|(id, _)| id));
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    let before = store.head(&head.account).await?.ok_or_else(gone)?;
    let slots = store.all_slots(&head.account).await?;
    let after = store.head(&head.account).await?.ok_or_else(gone)?;
    ids.extend(slots.iter().map(|slot| slot.request_id.clone()));
    let ids: Vec<RequestId> = ids.into_iter().collect();
    let (mut records, mut rejected, mut unreadable) = (BTreeMap::new(), Vec::new(), Vec::new());
    for found in store.find(&ids).await? {
        match found.stored {
            Ok(Stored::Record(record)) => {
                records.insert(record.request_id.clone(), *record);
            }
            Ok(Stored::Rejected(refused)) => rejected.push(refused),
            Err(error) => unreadable.push((found.id, error_chain(&error))),
        }
    }
    Ok(Seen { before, after, slots, records, rejected, unreadable, now: clock::now() })
}

fn show(head: &Head, audited: &Audited, as_json: bool) {
    let Audited { seen, problems, notes } = audited;
    let name = head.name.as_str();
    if as_json {
        for Problem { invariant, about, evidence } in problems {
            say_json(&json!({ "account": name, "invariant": invariant, "about": about, "evidence": evidence }));
        }
        for note in notes {
            say_json(&json!({ "account": name, "note": note }));
        }
        let line = json!({ "account": name, "records": seen.records.len(), "rejected": seen.rejected.len(),
            "slots": seen.slots.len(), "violations": problems.len(), "notes": notes.len() });
        say_json(&line);
        return;
    }
    let (records, slots, rejected) = (seen.records.len(), seen.slots.len(), seen.rejected.len());
    let verdict = if problems.is_empty() {
        paint(Colour::Green, "ok")
    } else {
        paint(Colour::Red, &format!("{} violation(s)", problems.len()))
    };
    say(format!("{name:<16}{records} record(s), {slots} slot(s), {rejected} rejected: {verdict}"));
    for Problem { invariant, about, evidence } in problems {
        say(format!("  {}  {about}", paint(Colour::Red, &format!("{invariant:<3}"))));
        say(format!("       {evidence}"));
    }
    for note in notes {
        say(format!("  {}  {note}", paint(Colour::Yellow, "note")));
    }
}
