//! The deployment's list of the accounts that it signs for.
//!
//! The registry is a table that others may be able to write. So a deployment lists the name, address and key of each
//! account, and an account whose head differs from the list is not signed for. Where the registry itself is trusted, as
//! on a laptop, there is no list. Read next: [`crate::signer`].

use std::collections::BTreeMap;

use crate::account::Head;
use crate::units::{AccountKey, AccountName, ChainId, KmsKeyId, ParseUnitError};

/// An account as the deployment lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The account's name, which selects its policy.
    pub name: AccountName,
    /// Chain and address.
    pub account: AccountKey,
    /// The KMS key, written exactly as in the registry.
    pub kms_key_id: KmsKeyId,
}

impl Pin {
    /// The pin that a deployment must list so that the account of this head is signed for.
    #[must_use]
    pub fn of(head: &Head) -> Self {
        Self { name: head.name.clone(), account: head.account, kms_key_id: head.kms_key_id.clone() }
    }
}

/// Why a line is not a valid pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPin {
    /// A part is missing.
    #[error("is not NAME=0xADDRESS=KMS_KEY")]
    Parts,
    /// A part is malformed.
    #[error("{part} {error}")]
    Part {
        /// Which part, as the message names it.
        part: &'static str,
        /// Why it was not parsed.
        error: ParseUnitError,
    },
}

impl Pin {
    /// Parses `NAME=0xADDRESS=KEY` as an account on this chain.
    pub fn read(line: &str, chain_id: ChainId) -> Result<Self, BadPin> {
        let mut parts = line.splitn(3, '=').map(str::trim).filter(|part| !part.is_empty());
        let (Some(name), Some(address), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(BadPin::Parts);
        };
        let wrong = |part| move |error| BadPin::Part { part, error };
        Ok(Self {
            name: name.parse().map_err(wrong("the name"))?,
            account: AccountKey { chain_id, address: address.parse().map_err(wrong("the address"))? },
            kms_key_id: key.parse().map_err(wrong("the key"))?,
        })
    }
}

/// Writes `NAME=0xADDRESS=KEY`, the form of the deployment's list.
impl std::fmt::Display for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}={}", self.name, self.account.address, self.kms_key_id)
    }
}

/// The accounts that may be signed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pins {
    /// Every account in the registry.
    Registry,
    /// Only these accounts.
    Listed(BTreeMap<AccountKey, Pin>),
}

/// Two entries of the list conflict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinClash {
    /// Two entries have the same address.
    #[error("lists {0} twice")]
    Account(AccountKey),
    /// Two entries have the same name.
    #[error("lists the name {0} twice")]
    Name(AccountName),
}

/// Why the deployment's list excludes an account of the registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPinned {
    /// The list does not contain the account.
    #[error("the account is not in the deployment's list")]
    Missing,
    /// The list has another name for the account.
    #[error("the account is listed as {0}, but the registry has another name")]
    Name(AccountName),
    /// The list has another key for the account.
    #[error("the account is listed with another key than in the registry")]
    Key,
}

impl Pins {
    /// These accounts and no others.
    pub fn listed(pins: impl IntoIterator<Item = Pin>) -> Result<Self, PinClash> {
        let mut listed: BTreeMap<AccountKey, Pin> = BTreeMap::new();
        for pin in pins {
            if listed.values().any(|other| other.name == pin.name && other.account != pin.account) {
                return Err(PinClash::Name(pin.name));
            }
            let account = pin.account;
            if listed.insert(account, pin).is_some() {
                return Err(PinClash::Account(account));
            }
        }
        Ok(Self::Listed(listed))
    }

    /// Checks that name and key of a head match the list.
    pub fn check(&self, head: &Head) -> Result<(), NotPinned> {
        let Self::Listed(listed) = self else { return Ok(()) };
        let pin = listed.get(&head.account).ok_or(NotPinned::Missing)?;
        if pin.name != head.name {
            return Err(NotPinned::Name(pin.name.clone()));
        }
        if pin.kms_key_id != head.kms_key_id {
            return Err(NotPinned::Key);
        }
        Ok(())
    }

    /// The number of listed accounts; `None` if the registry is trusted.
    #[must_use]
    pub fn count(&self) -> Option<usize> {
        match self {
            Self::Registry => None,
            Self::Listed(listed) => Some(listed.len()),
        }
    }
}
