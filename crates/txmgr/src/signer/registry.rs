//! The accounts on the signer's chain by name, as of the last read by [`super::directory`].
//!
//! Calls no port. Read next: [`super::heads`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use crate::request::{AccountRef, Code, Refused};
use crate::start::OfChain;
use crate::units::{AccountKey, ChainId};

/// Accounts by name as of the last read. A missing name is looked up again.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<BTreeMap<String, AccountKey>>);

impl Registry {
    /// Replaces the accounts. Includes those that cannot be read, because they are registered.
    pub(super) fn note(&self, ours: &OfChain) {
        let readable = ours.heads.iter().map(|head| (head.name.to_string(), head.account));
        let unreadable = ours.unreadable.iter().filter_map(|entry| Some((entry.name.clone(), entry.account?)));
        let names = readable.chain(unreadable).collect();
        *self.lock() = names;
    }

    /// Whether no account is known.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The account that a request names, if it is in the registry.
    pub(super) fn resolve(&self, asked: Option<&AccountRef>, chain_id: ChainId) -> Result<AccountKey, Refused> {
        let registry = self.lock();
        let unknown = || Refused::field(Code::UnknownAccount, "account", "`account` is not registered here");
        let by_key = |key: &AccountKey| registry.values().find(|known| *known == key).copied().ok_or_else(unknown);
        match asked {
            None if registry.len() == 1 => registry.values().next().copied().ok_or_else(unknown),
            None if registry.is_empty() => Err(unknown()),
            None => Err(Refused::field(
                Code::AccountRequired,
                "account",
                "`account` must be given: several accounts are registered",
            )),
            Some(AccountRef::Name(name)) => registry.get(name.as_str()).copied().ok_or_else(unknown),
            // The account of a pool is chosen where the heads are known.
            Some(AccountRef::Pool(_)) => Err(unknown()),
            Some(AccountRef::Key(key)) => by_key(key),
            Some(AccountRef::Address(address)) => by_key(&AccountKey { chain_id, address: *address }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, AccountKey>> {
        self.0.lock().expect("no code panics while holding the registry")
    }
}
