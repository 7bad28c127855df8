//! The registered accounts of the configured chain. The tables may also have accounts of other chains, which belong to
//! another Signpost: commands name them where an operator could miss them, and otherwise ignore them.

use std::collections::BTreeSet;

use signpost_txmgr::account::Head;
use signpost_txmgr::ports::Store;
use signpost_txmgr::start::OfChain;
use signpost_txmgr::units::{AccountKey, ChainId};

use super::{CommandError, Session};
use crate::ports;
use crate::terminal::remark;

/// The accounts of the configured chain, and separately those of other chains.
pub async fn registered(session: &Session) -> Result<OfChain, CommandError> {
    Ok(OfChain::of(ports::store(session).accounts().await?, chain_id(session)))
}

/// The accounts of the configured chain. Reports on stderr what is left out: accounts of other chains, and unreadable
/// accounts.
pub async fn ours(session: &Session) -> Result<Vec<Head>, CommandError> {
    let accounts = registered(session).await?;
    if let Some(others) = others(&accounts) {
        remark(format!("{others} left out: they belong to another Signpost"));
    }
    for entry in &accounts.unreadable {
        remark(format!("{} cannot be read ({}), left out; see `signpost doctor`", entry.name, entry.problem));
    }
    Ok(accounts.heads)
}

/// The number of registered accounts on other chains, with their chain ids.
pub fn others(accounts: &OfChain) -> Option<String> {
    let chains: BTreeSet<u64> = accounts.others.iter().map(|head| head.account.chain_id.0).collect();
    let names: Vec<String> = chains.iter().map(ToString::to_string).collect();
    let count = accounts.others.len();
    (count > 0).then(|| format!("{count} account(s) on chain {}", names.join(", ")))
}

/// The account with a name, if it is on the configured chain; see [`any_named`].
pub async fn named(session: &Session, name: &str) -> Result<Head, CommandError> {
    let head = any_named(&ports::store(session), name).await?;
    of_our_chain(session, &head.account)?;
    Ok(head)
}

/// Finds an account by its name, by its key `CHAIN:ADDRESS`, or by its address if only one chain has it.
pub async fn any_named(store: &impl Store, name: &str) -> Result<Head, CommandError> {
    let is = |head: &Head| {
        let account = head.account;
        head.name.as_str() == name
            || account.to_string() == name
            || account.address.to_string().eq_ignore_ascii_case(name)
    };
    let mut found: Vec<Head> = store.accounts().await?.heads.into_iter().filter(is).collect();
    match (found.pop(), found.as_slice()) {
        (Some(head), []) => Ok(head),
        (Some(head), others) => {
            let names: Vec<&str> = others.iter().chain([&head]).map(|head| head.name.as_str()).collect();
            let text = format!("{name} is the address of {}; give the name instead", names.join(" and "));
            Err(CommandError::Input(text))
        }
        (None, _) => {
            let hint = "`signpost account list` shows the registered ones";
            Err(CommandError::Unknown(format!("no account is registered as {name}; {hint}")))
        }
    }
}

/// Refuses an account that belongs to another Signpost.
pub fn of_our_chain(session: &Session, account: &AccountKey) -> Result<(), CommandError> {
    let ours = chain_id(session);
    if account.chain_id == ours {
        return Ok(());
    }
    let text = format!("{account} is on chain {}, but this configuration serves chain {ours}", account.chain_id);
    Err(CommandError::Input(format!("{text}; use the configuration of that Signpost")))
}

fn chain_id(session: &Session) -> ChainId {
    ChainId(session.config.chain.chain_id)
}
