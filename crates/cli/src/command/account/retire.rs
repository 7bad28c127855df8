//! `signpost account retire` and `unregister`: remove an account in two steps, a month apart.

use serde_json::json;
use signpost_txmgr::account::{StaysRegistered, UNREGISTER_AFTER_MS};
use signpost_txmgr::ports::{RetireVerdict, Store as _, UnregisterVerdict};
use signpost_txmgr::units::{AccountName, Millis, Nonce};

use super::{of_our_chain, show};
use crate::command::CommandError;
use crate::command::confirm::Yes;
use crate::command::registered::any_named;
use crate::terminal::{say, say_json};
use crate::when;
use crate::{clock, ports};

pub(super) const RETIRE_HELP: &str = "\
Examples:
  signpost account pause old-hot
  signpost account retire old-hot

A retired account is paused permanently: `resume` refuses it, and its name and address cannot be registered again
until it is unregistered. The command is refused while a slot is open; pause the account and wait for its requests, or
cancel them. Records, slots and KMS key stay, for `audit` and `export`. Move the account's balance with a last request
before: nothing is signed for it afterwards.";

pub(super) const UNREGISTER_HELP: &str = "\
Examples:
  signpost account retire old-hot
  signpost account unregister old-hot

Removes a retired account from the table; its name and its key can be registered again. The command is refused until the
account has been retired for 30 days: a message for it may wait 14 days in a queue and 14 more in a dead-letter queue,
and would then go to a new account of that name. Its requests stay until they expire, but `export` and `audit` no
longer find them by the account: export them before. Needs the permission dynamodb:DeleteItem on the accounts table.";

/// The options.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    one: super::One,
    #[command(flatten)]
    yes: Yes,
}

pub(super) async fn retire(Arguments { one, yes }: Arguments) -> Result<(), CommandError> {
    let session = one.config.open().await?;
    let store = ports::store(&session);
    let head = any_named(&store, &one.name).await?;
    of_our_chain(&session, &head.account)?;
    let (name, address) = (&head.name, head.account.address);
    yes.or_ask(&format!("{name} ({address}) will never sign again; this cannot be undone."))?;
    match store.retire(&head.account, clock::now()).await? {
        RetireVerdict::Retired => {
            show(&any_named(&store, &one.name).await?, one.json);
            Ok(())
        }
        RetireVerdict::Open(head) => Err(open(&head.name, head.open_slots(), head.lowest_open_nonce)),
        RetireVerdict::NotRegistered => Err(CommandError::Unknown(format!("{name} is no longer registered"))),
    }
}

pub(super) async fn unregister(Arguments { one, yes }: Arguments) -> Result<(), CommandError> {
    let session = one.config.open().await?;
    let store = ports::store(&session);
    let head = any_named(&store, &one.name).await?;
    of_our_chain(&session, &head.account)?;
    let (name, account) = (&head.name, head.account);
    let until = Millis(clock::now_ms().saturating_sub(UNREGISTER_AFTER_MS));
    if let Some(why) = head.stays_registered(until) {
        return Err(stays(name, why, head.lowest_open_nonce));
    }
    yes.or_ask(&format!(
        "{name} ({}) is removed from the accounts table: `export` and `audit` no longer find its requests.",
        account.address
    ))?;
    match store.unregister(&account, name, until).await? {
        UnregisterVerdict::Unregistered => {
            if one.json {
                let line = json!({ "name": name.as_str(), "account": account.to_string(), "unregistered": true });
                say_json(&line);
            } else {
                say(format!("{name:<16}{}  chain {}  unregistered", account.address, account.chain_id));
            }
            Ok(())
        }
        UnregisterVerdict::Stays(why) => Err(stays(name, why, head.lowest_open_nonce)),
        UnregisterVerdict::NotRegistered => Err(CommandError::Unknown(format!("{name} is no longer registered"))),
    }
}

fn stays(name: &AccountName, why: StaysRegistered, lowest: Nonce) -> CommandError {
    match why {
        StaysRegistered::Open(count) => open(name, count, lowest),
        StaysRegistered::NotRetired => CommandError::Input(format!(
            "{name} is not retired; run `signpost account retire {name}`, and unregister it 30 days later"
        )),
        StaysRegistered::RetiredAt(at) => {
            let (since, from) = (when::date(at), when::date(Millis(at.0.saturating_add(UNREGISTER_AFTER_MS))));
            CommandError::Input(format!(
                "{name} was retired {since}; unregister it after {from}: until then a queue may still deliver a \
                 message for it"
            ))
        }
    }
}

fn open(name: &AccountName, count: u64, from: Nonce) -> CommandError {
    let hint = format!("see `signpost requests list --account {name} --open`, and wait for them or cancel them");
    CommandError::Input(format!("{name} has {count} open slot(s) from nonce {from} on; {hint}"))
}
