//! What both stages check before their first message, and `signpost doctor` with them: that there is work for
//! their chain, and whose key cannot be used.
//!
//! One bad account keeps nothing from starting: it is named. Read next: [`crate::signer`].

use futures_util::stream::{self, StreamExt as _};

use crate::account::{Accounts, Head, UnreadableHead};
use crate::pins::NotPinned;
use crate::ports::{Keys, PortError, Store};
use crate::signature::{KeyError, PublicKey};
use crate::units::{AccountKey, Address, ChainId, KmsKeyId};
use crate::unusable::KeyFault;
use crate::{meters, ports};

/// Keys read at once: with 10 ms a call 1,600 a second, below the 2,000 that KMS allows an account and region.
pub const KEYS_AT_ONCE: usize = 16;

/// Why a stage does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartRefused {
    /// The store did not answer.
    #[error("the registered accounts cannot be read")]
    Accounts(#[source] PortError),
    /// Accounts are registered, and none is of the stage's chain: its tables are another Signpost's.
    #[error("the registered accounts are of chain {found}, and this stage is for chain {wanted}")]
    WrongChain {
        /// As configured.
        wanted: ChainId,
        /// As registered.
        found: ChainId,
    },
}

/// Reads the accounts of a chain. Refused when accounts are registered and none is of it: each request would be
/// rejected, and that is an outcome; better none at all.
pub async fn accounts_of_chain(store: &impl Store, chain_id: ChainId) -> Result<OfChain, StartRefused> {
    let accounts = OfChain::of(store.accounts().await.map_err(StartRefused::Accounts)?, chain_id);
    match accounts.others.first() {
        Some(other) if accounts.heads.is_empty() && accounts.unreadable.is_empty() => {
            Err(StartRefused::WrongChain { wanted: chain_id, found: other.account.chain_id })
        }
        Some(_) | None => Ok(accounts),
    }
}

/// The registered accounts as a stage of one chain sees them.
#[derive(Debug, Clone, Default)]
pub struct OfChain {
    /// Its own.
    pub heads: Vec<Head>,
    /// Its own, or of an unknown chain, that cannot be read.
    pub unreadable: Vec<UnreadableHead>,
    /// Those of other chains: another Signpost's, left alone.
    pub others: Vec<Head>,
}

impl OfChain {
    /// Divides the registered accounts.
    #[must_use]
    pub fn of(accounts: Accounts, chain_id: ChainId) -> Self {
        let Accounts { heads, mut unreadable } = accounts;
        let (heads, others) = heads.into_iter().partition(|head| head.account.chain_id == chain_id);
        unreadable.retain(|entry| entry.account.is_none_or(|account| account.chain_id == chain_id));
        Self { heads, unreadable, others }
    }

    /// Names the accounts that cannot be read where an operator looks.
    pub fn warn_of_unreadable(&self) {
        for UnreadableHead { name, account, problem } in &self.unreadable {
            let account = account.map_or_else(|| name.clone(), |account| account.to_string());
            tracing::warn!(%name, %account, problem, "this account's head cannot be read; the others are worked for");
            metrics::counter!(meters::ACCOUNT_UNUSABLE, "account" => account, "fault" => "unreadable").increment(1);
        }
    }
}

/// Why an account's public key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyTrouble {
    /// The key service gave no key. Whether the key is at fault, the error says.
    #[error("the public key cannot be read")]
    Call(#[source] ports::KeyCallError),
    /// What it gave is not a key that can sign for a BSC account.
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
    /// The deployment says something else of the account than the registry.
    #[error("the account is not one that may be signed for")]
    NotPinned(#[source] NotPinned),
}

impl KeyTrouble {
    /// The fault of the key; `None` when the key service did not answer, which says nothing about the key.
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

/// What is wrong with the keys of these accounts: the check of the signer's start, for an operator's eyes. Each
/// key is read once; notes nothing. Retired accounts need no key.
pub async fn key_troubles(keys: &impl Keys, heads: &[Head]) -> Vec<(AccountKey, KeyTrouble)> {
    let needed = heads.iter().filter(|head| head.retired_at.is_none());
    let checks = needed.map(|head| async move {
        let read = account_key(keys, &head.kms_key_id, head.account.address).await;
        read.err().map(|trouble| (head.account, trouble))
    });
    let checks: Vec<_> = checks.collect();
    stream::iter(checks).buffered(KEYS_AT_ONCE).filter_map(std::future::ready).collect().await
}
