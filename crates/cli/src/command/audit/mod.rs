//! `signpost audit`: holds the tables against each other and against the chain, by the invariants in
//! `crates/README.md`.
//!
//! Reads in an order that a working Signpost cannot upset (ids, then slots between two reads of the head, then
//! records), and believes a problem only when it is there at a second look. Changes nothing.
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
use super::{CommandError, ConfigOption, told};
use crate::terminal::{Colour, paint, remark, say, say_json};
use crate::{clock, world};

const EXAMPLES: &str = "\
Examples:
  signpost audit
  signpost audit --account hot
  signpost audit --json | jq 'select(.invariant)'

Exit code 0: nothing found; 1: a violation, each with its evidence; 2: asked for wrongly.

Checked, for all that is stored: I1 one request per slot; I2 an attempt is the request or a cancel, and a legal
bump; I3 what is mined was stored (bytes that were sent and never mined cannot be seen); I4 slots without a gap;
I5 one mined transaction per slot and per request; I6 outcomes are of finalized blocks and as the chain has them;
I7 what is rejected has no slot and no signature; I9 no executing attempt above the request's cap; I10 low-s
signatures of the account's own key; I11 what is left behind was published.
Not checked, because nothing outside shows it: I8 (the messages are gone), I9 for policies of the past, I11 at the
subscribers, I12 to I14. `cargo verify` checks those. Reads every record of the account, and the chain about each.";

/// `signpost audit`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Only this account
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// One JSON line a finding, and one for each account
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// What an audit of one account came to.
struct Audited {
    seen: Seen,
    /// Violations.
    problems: Vec<Problem>,
    /// What somebody may want to know, and what could not be looked at.
    notes: BTreeSet<String>,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let session = arguments.config.open().await?;
    let store = world::store(&session);
    let nodes = world::chain(&session)?;
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
            // What is really wrong is still wrong at a second look.
            let again = audit(&store, &nodes, &head).await?;
            audited.problems.retain(|problem| again.problems.contains(problem));
        }
        violations = violations.saturating_add(audited.problems.len());
        tell(&head, &audited, arguments.json);
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

/// Reads all that is stored of an account.
async fn look(store: &DynamoStore, head: &Head) -> Result<Seen, CommandError> {
    let gone = || CommandError::Unknown(format!("{} is not registered any more", head.name));
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
            Err(error) => unreadable.push((found.id, told(&error))),
        }
    }
    Ok(Seen { before, after, slots, records, rejected, unreadable, now: clock::now() })
}

fn tell(head: &Head, audited: &Audited, as_json: bool) {
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
