//! The checks of both stages before their first message, and of `signpost doctor`: that accounts of their chain are
//! registered, and which accounts' keys cannot be used.
//!
//! A faulty account does not prevent the start: it is reported by name. Read next: [`crate::signer`].

use futures_util::stream::{self, StreamExt as _};

use crate::account::{Accounts, Head, UnreadableHead};
use crate::pins::NotPinned;
use crate::ports::{Keys, PortError, Store};
use crate::signature::{KeyError, PublicKey};
use crate::units::{AccountKey, Address, ChainId, KmsKeyId};
use crate::unusable::KeyFault;
use crate::{meters, ports};

/// Keys read concurrently. At 10 ms a call that is 1,600 calls a second, below KMS's quota of 2,000 per account and
/// region.
pub const KEYS_AT_ONCE: usize = 16;

/// Why a stage does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartRefused {
    /// The store did not answer.
    #[error("the registered accounts cannot be read")]
    Accounts(#[source] PortError),
    /// Accounts are registered, but none on the stage's chain: the tables belong to another Signpost.
    #[error("the registered accounts are on chain {found}, but this stage is configured for chain {wanted}")]
    WrongChain {
        /// The chain of the stage's configuration.
        wanted: ChainId,
        /// The chain of a registered account.
        found: ChainId,
    },
}

/// Reads the accounts of a chain. An error if accounts are registered but none on this chain: the stage would reject
/// every request, and a rejection is a published outcome, so it is better not to start.
pub async fn accounts_of_chain(store: &impl Store, chain_id: ChainId) -> Result<OfChain, StartRefused> {
    let accounts = OfChain::of(store.accounts().await.map_err(StartRefused::Accounts)?, chain_id);
    match accounts.others.first() {
        Some(other) if accounts.heads.is_empty() && accounts.unreadable.is_empty() => {
            Err(StartRefused::WrongChain { wanted: chain_id, found: other.account.chain_id })
        }
        Some(_) | None => Ok(accounts),
    }
}

/// The registered accounts, divided by chain.
#[derive(Debug, Clone, Default)]
pub struct OfChain {
    /// Those on the stage's chain.
    pub heads: Vec<Head>,
    /// Those that cannot be read, on the stage's chain or an unknown one.
    pub unreadable: Vec<UnreadableHead>,
    /// Those on other chains. They belong to another Signpost and are ignored.
    pub others: Vec<Head>,
}

impl OfChain {
    /// Divides the registered accounts by chain.
    #[must_use]
    pub fn of(accounts: Accounts, chain_id: ChainId) -> Self {
        let Accounts { heads, mut unreadable } = accounts;
        let (heads, others) = heads.into_iter().partition(|head| head.account.chain_id == chain_id);
        unreadable.retain(|entry| entry.account.is_none_or(|account| account.chain_id == chain_id));
        Self { heads, unreadable, others }
    }

    /// Reports unreadable accounts in a log line and a metric each.
    pub fn warn_of_unreadable(&self) {
        for UnreadableHead { name, account, problem } in &self.unreadable {
            let account = account.map_or_else(|| name.clone(), |account| account.to_string());
            tracing::warn!(%name, %account, problem, "this account's head cannot be read; the other accounts are not affected");
            metrics::counter!(meters::ACCOUNT_UNUSABLE, "account" => account, "fault" => "unreadable").increment(1);
        }
    }
}

/// Why an account's public key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyTrouble {
    /// The key service returned no key. The error tells whether the key is at fault.
    #[error("the public key cannot be read")]
    Call(#[source] ports::KeyCallError),
    /// The returned key cannot sign for a BSC account.
    #[error("the account's KMS key cannot be used")]
    Key(#[source] KeyError),
    /// The key belongs to another address.
    #[error("the KMS key belongs to {found}, not to the account {expected}")]
    WrongAddress {
        /// The account's address.
        expected: Address,
        /// The key's address.
        found: Address,
    },
    /// The deployment's list does not match the registry's entry.
    #[error("the deployment does not allow signing for this account")]
    NotPinned(#[source] NotPinned),
}

impl KeyTrouble {
    /// The key's fault; `None` when the key service did not answer, so that the key may be healthy.
    #[must_use]
    pub fn fault(&self) -> Option<KeyFault> {
        match self {
            Self::Call(error) => error.fault,
            Self::Key(_) => Some(KeyFault::Unfit),
            Self::WrongAddress { .. } => Some(KeyFault::WrongAddress),
            Self::NotPinned(_) => Some(KeyFault::NotPinned),
        }
    }
}

/// Reads a public key and compares its address with the account's.
pub async fn account_key(keys: &impl Keys, id: &KmsKeyId, expected: Address) -> Result<PublicKey, KeyTrouble> {
    let answer = keys.public_key(id).await.map_err(KeyTrouble::Call)?;
    let key = PublicKey::from_spki(&answer.spki).map_err(KeyTrouble::Key)?;
    let found = key.address();
    if found == expected { Ok(key) } else { Err(KeyTrouble::WrongAddress { expected, found }) }
}

/// Checks the keys of these accounts, as the signer does at its start, and returns the faulty ones for an operator. It
/// reads each key once and writes nothing. Retired accounts need no key.
pub async fn key_troubles(keys: &impl Keys, heads: &[Head]) -> Vec<(AccountKey, KeyTrouble)> {
    let needed = heads.iter().filter(|head| head.retired_at.is_none());
    let checks = needed.map(|head| async move {
        let read = account_key(keys, &head.kms_key_id, head.account.address).await;
        read.err().map(|trouble| (head.account, trouble))
    });
    let checks: Vec<_> = checks.collect();
    stream::iter(checks).buffered(KEYS_AT_ONCE).filter_map(std::future::ready).collect().await
}
