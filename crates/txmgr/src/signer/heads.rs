//! The heads of the accounts that a batch names, each read once. Read next: [`super::pool`].

use std::collections::{BTreeMap, BTreeSet};

use crate::account::Head;
use crate::units::AccountKey;

/// The heads of the accounts that a batch names.
#[derive(Default)]
pub(super) struct Heads {
    pub(super) by_key: BTreeMap<AccountKey, Head>,
    /// The accounts that could not be read.
    pub(super) unread: BTreeSet<AccountKey>,
    /// The directory could not be read, so an account that is not in the registry may still be registered.
    pub(super) directory_unread: bool,
}

impl Heads {
    pub(super) fn get(&self, account: &AccountKey) -> Option<&Head> {
        self.by_key.get(account)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Head> {
        self.by_key.values()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Head> {
        self.by_key.values_mut()
    }

    pub(super) fn is_unread(&self, account: &AccountKey) -> bool {
        self.unread.contains(account)
    }
}
