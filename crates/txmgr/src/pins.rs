//! Which accounts may be signed for, by the deployment's own word.
//!
//! The registry is a table, and others may write it. A deployment lists name, address and key of each account, and
//! a head that says something else is not signed for. Where the registry itself is trusted, as on a laptop, there is no list.
//! Read next: [`crate::signer`].

use std::collections::BTreeMap;

use crate::account::Head;
use crate::units::{AccountKey, AccountName, ChainId, KmsKeyId, ParseUnitError};

/// An account as the deployment lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Its name, by which its policy goes.
    pub name: AccountName,
    /// Its chain and address.
    pub account: AccountKey,
    /// Its key, spelt as it is registered.
    pub kms_key_id: KmsKeyId,
}

impl Pin {
    /// What a head says, as a pin: what has to be listed so that it is signed for.
    #[must_use]
    pub fn of(head: &Head) -> Self {
        Self { name: head.name.clone(), account: head.account, kms_key_id: head.kms_key_id.clone() }
    }
}

/// Why a line is no account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPin {
    /// A part is missing.
    #[error("is not NAME=0xADDRESS=KMS_KEY")]
    Parts,
    /// A part cannot be read.
    #[error("{part} {error}")]
    Part {
        /// Which.
        part: &'static str,
        /// What is wrong with it.
        error: ParseUnitError,
    },
}

impl Pin {
    /// Reads `NAME=0xADDRESS=KEY`, an account of this chain.
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

/// `NAME=0xADDRESS=KEY`, as a deployment writes it.
impl std::fmt::Display for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}={}", self.name, self.account.address, self.kms_key_id)
    }
}

/// The accounts that may be signed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pins {
    /// Those of the registry, whatever it says.
    Registry,
    /// These.
    Listed(BTreeMap<AccountKey, Pin>),
}

/// Two entries of the list contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinClash {
    /// Two have the same address.
    #[error("lists {0} twice")]
    Account(AccountKey),
    /// Two have the same name.
    #[error("lists the name {0} twice")]
    Name(AccountName),
}

/// Why an account is not signed for, whatever the registry says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPinned {
    /// It is not listed.
    #[error("the account is not in the deployment's list")]
    Missing,
    /// It is listed under another name.
    #[error("the account is listed as {0}, and the registry says another name")]
    Name(AccountName),
    /// It is listed with another key.
    #[error("the account is listed with another key than the registry says")]
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

    /// Whether a head says of its account what the list says.
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

    /// How many are listed; `None` if the registry is trusted.
    #[must_use]
    pub fn count(&self) -> Option<usize> {
        match self {
            Self::Registry => None,
            Self::Listed(listed) => Some(listed.len()),
        }
    }
}
