//! `signpost account pause` and `resume`: one account, or all accounts of this chain.

use std::process::ExitCode;

use clap::ArgGroup;
use futures_util::{StreamExt as _, stream};
use signpost_txmgr::account::Head;
use signpost_txmgr::ports::{PortError, Store};
use signpost_txmgr::units::ChainId;

use super::{of_our_chain, show};
use crate::command::confirm::Yes;
use crate::command::registered::any_named;
use crate::command::{CommandError, ConfigOption, error_chain};
use crate::ports;
use crate::terminal::remark;

/// Accounts switched concurrently: a thousand take seconds, and the table is not throttled.
const AT_ONCE: usize = 16;
/// Names listed before `--all` acts; further ones are only counted.
const NAMES_SHOWN: usize = 20;

pub(super) const HELP: &str = "\
Examples:
  signpost account pause hot
  signpost account resume hot
  signpost account pause --all --yes
  signpost account resume --all

A paused account reserves and signs nothing from the next batch on: no request, no bump, no cancel. Requests that arrive
meanwhile are rejected with `accountPaused` and may be sent again under the same id once the account is resumed.
Transactions signed before are still sent and watched until they are final.

--all is the kill switch: it pauses every account of this chain that is not retired. If an account fails, it continues
with the others and ends with exit code 1; repeating it is harmless. Accounts registered later are not paused.
`resume --all` also resumes accounts that were already paused, by an operator or by Signpost; it lists them and asks.";

/// The options.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("which").required(true).args(["name", "all"]))]
pub(super) struct Arguments {
    /// The name of the account
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Every account of this chain that is not retired; asks first
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    yes: Yes,
    /// One JSON line per account
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

pub(super) async fn run(arguments: Arguments, paused: bool) -> Result<ExitCode, CommandError> {
    let Arguments { name, all: _, yes, json, config } = arguments;
    let session = config.open().await?;
    let store = ports::store(&session);
    match name {
        Some(name) => {
            of_our_chain(&session, &any_named(&store, &name).await?.account)?;
            one(&store, &name, paused, json).await.map(|()| ExitCode::SUCCESS)
        }
        None => all(&store, ChainId(session.config.chain.chain_id), paused, yes, json).await,
    }
}

async fn one(store: &impl Store, name: &str, paused: bool, json: bool) -> Result<(), CommandError> {
    let head = any_named(store, name).await?;
    if !paused && head.retired_at.is_some() {
        return Err(CommandError::Input(format!("{} is retired and cannot be resumed", head.name)));
    }
    store.set_paused(&head.account, paused).await?;
    // Read again: what is shown is what is stored.
    let head = any_named(store, name).await?;
    show(&head, json);
    if paused && head.open_slots() > 0 {
        let open = head.open_slots();
        remark(format!("{open} slot(s) are open: signed ones are still sent and watched, the others wait"));
    } else if !paused && head.open_slots() > 0 {
        remark("requests that wait for a signature are signed within a minute");
    }
    Ok(())
}

async fn all(
    store: &impl Store,
    chain_id: ChainId,
    paused: bool,
    yes: Yes,
    json: bool,
) -> Result<ExitCode, CommandError> {
    let heads = to_switch(store.accounts().await?.heads, chain_id, paused);
    if heads.is_empty() {
        let none = if paused { "no account that is not retired is registered" } else { "no account is paused" };
        remark(format!("{none} for chain {chain_id}"));
        return Ok(ExitCode::SUCCESS);
    }
    let (count, names) = (heads.len(), name_list(&heads));
    yes.or_ask(&if paused {
        format!("Nothing is signed for these {count} account(s) on chain {chain_id} until they are resumed: {names}.")
    } else {
        format!(
            "These {count} account(s) on chain {chain_id} sign again, including those that were paused for another \
             reason: {names}."
        )
    })?;
    let switched = switch(store, &heads, paused).await;
    for (head, result) in &switched {
        match result {
            Ok(head) => show(head, json),
            Err(error) => {
                let wanted = if paused { "paused" } else { "resumed" };
                remark(format!("error: {} is not {wanted}: {}", head.name, error_chain(error)));
            }
        }
    }
    let failed = switched.iter().filter(|(_, result)| result.is_err()).count();
    let done = if paused { "paused" } else { "resumed" };
    if failed == 0 {
        remark(format!("{count} account(s) {done}"));
        return Ok(ExitCode::SUCCESS);
    }
    remark(format!("{} account(s) {done}, {failed} not; repeat the command for those", count.saturating_sub(failed)));
    Ok(ExitCode::FAILURE)
}

/// The accounts that `--all` selects: for `pause` all that are not retired, for `resume` all that are paused.
fn to_switch(heads: Vec<Head>, chain_id: ChainId, paused: bool) -> Vec<Head> {
    let is_selected =
        |head: &Head| head.account.chain_id == chain_id && head.retired_at.is_none() && (paused || head.paused);
    heads.into_iter().filter(is_selected).collect()
}

fn name_list(heads: &[Head]) -> String {
    let mut names: Vec<&str> = heads.iter().take(NAMES_SHOWN).map(|head| head.name.as_str()).collect();
    let more = heads.len().saturating_sub(NAMES_SHOWN);
    let more = format!("and {more} more");
    if heads.len() > NAMES_SHOWN {
        names.push(&more);
    }
    names.join(", ")
}

/// Switches each account even if others fail, and returns each head as it is stored afterwards.
async fn switch<'a>(store: &impl Store, heads: &'a [Head], paused: bool) -> Vec<(&'a Head, Result<Head, PortError>)> {
    let each = heads.iter().map(|head| async move {
        let switched = match store.set_paused(&head.account, paused).await {
            Ok(()) => store.head(&head.account).await.map(|stored| stored.unwrap_or_else(|| head.clone())),
            Err(error) => Err(error),
        };
        (head, switched)
    });
    stream::iter(each).buffered(AT_ONCE).collect().await
}

#[cfg(test)]
mod tests {
    use signpost_txmgr::fake::MemoryStore;
    use signpost_txmgr::units::{AccountKey, Address, Millis, Nonce};

    use super::*;

    const OURS: ChainId = ChainId(97);

    fn head(chain_id: ChainId, name: &str) -> Head {
        let account = AccountKey { chain_id, address: Address([name.as_bytes()[0]; 20]) };
        Head::new(account, name.parse().unwrap(), "key-1".parse().unwrap(), Nonce(0), Millis(1))
    }

    /// `a` and `b` on our chain, `c` on our chain and retired, `d` on another chain.
    async fn registered() -> MemoryStore {
        let store = MemoryStore::default();
        for head in [head(OURS, "a"), head(OURS, "b"), head(OURS, "c"), head(ChainId(56), "d")] {
            store.register(&head).await.unwrap();
        }
        store.retire(&head(OURS, "c").account, Millis(2)).await.unwrap();
        store
    }

    async fn selected(store: &MemoryStore, paused: bool) -> Vec<String> {
        let heads = to_switch(store.accounts().await.unwrap().heads, OURS, paused);
        heads.iter().map(|head| head.name.to_string()).collect()
    }

    #[tokio::test]
    async fn all_selects_accounts_of_this_chain_except_retired_ones() {
        let store = registered().await;
        assert_eq!(selected(&store, true).await, ["a", "b"]);
        assert!(selected(&store, false).await.is_empty(), "none is paused");
        let heads = to_switch(store.accounts().await.unwrap().heads, OURS, true);
        let switched = switch(&store, &heads, true).await;
        assert!(switched.iter().all(|(_, stored)| stored.as_ref().is_ok_and(|head| head.paused)));
        assert_eq!(selected(&store, false).await, ["a", "b"], "the retired one stays as it is");
        assert!(!store.head(&head(ChainId(56), "d").account).await.unwrap().unwrap().paused, "another's");
    }

    #[tokio::test]
    async fn failed_account_does_not_prevent_pausing_the_others() {
        let store = registered().await;
        // Not registered: its write is refused.
        let heads = [head(OURS, "x"), head(OURS, "a"), head(OURS, "b")];
        let switched = switch(&store, &heads, true).await;
        let paused: Vec<bool> = switched.iter().map(|(_, stored)| stored.is_ok()).collect();
        assert_eq!(paused, [false, true, true]);
        for name in ["a", "b"] {
            assert!(store.head(&head(OURS, name).account).await.unwrap().unwrap().paused, "{name}");
        }
    }

    #[test]
    fn long_name_list_is_cut_and_counted() {
        let heads: Vec<Head> = (0..23).map(|at| head(OURS, &format!("n{at}"))).collect();
        assert!(name_list(&heads).ends_with("n19, and 3 more"), "{}", name_list(&heads));
        assert_eq!(name_list(&heads[..2]), "n0, n1");
    }
}
