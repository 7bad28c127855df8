//! Why an account's key cannot be used, and how long requests wait for it.
//!
//! A fault of one key stops its account and no other. The mark on the head has the time it began. Requests are
//! retried while the fault may heal, and refused with `accountUnusable` when it cannot heal or has not healed in
//! time. No decision depends on text. Read next: [`crate::account`].

use std::fmt;
use std::str::FromStr;

use crate::units::Millis;

/// What is wrong with an account's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyFault {
    /// The key is disabled. An operator may enable it.
    Disabled,
    /// The key is in another state in which it cannot be used, such as pending import.
    Unavailable,
    /// The signer is not permitted to use the key. Permissions take time to propagate, and a deployment may restore
    /// them.
    Denied,
    /// The key does not exist.
    NotFound,
    /// The key is scheduled for deletion.
    PendingDeletion,
    /// The key cannot sign for BSC: it has another curve or usage.
    Unfit,
    /// The key's address is not the account's: its alias was moved.
    WrongAddress,
    /// The deployment does not list the account with the registry's name and key. A new deployment may.
    NotPinned,
}

impl KeyFault {
    /// Every fault.
    pub const ALL: &'static [Self] = &[
        Self::Disabled,
        Self::Unavailable,
        Self::Denied,
        Self::NotFound,
        Self::PendingDeletion,
        Self::Unfit,
        Self::WrongAddress,
        Self::NotPinned,
    ];

    /// Its name in items and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::NotFound => "notFound",
            Self::PendingDeletion => "pendingDeletion",
            Self::Unfit => "unfit",
            Self::WrongAddress => "wrongAddress",
            Self::NotPinned => "notPinned",
        }
    }

    /// Whether the fault may go away without a change of the account.
    #[must_use]
    pub fn may_heal(self) -> bool {
        match self {
            Self::Disabled | Self::Unavailable | Self::Denied | Self::NotPinned => true,
            Self::NotFound | Self::PendingDeletion | Self::Unfit | Self::WrongAddress => false,
        }
    }

    /// The fault in words. Names no key, because the caller reads it in an outcome.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Disabled => "its KMS key is disabled",
            Self::Unavailable => "its KMS key is in a state in which it cannot be used",
            Self::Denied => "the signer may not use its KMS key",
            Self::NotFound => "its KMS key does not exist",
            Self::PendingDeletion => "its KMS key is pending deletion",
            Self::Unfit => "its KMS key is not a secp256k1 signing key",
            Self::WrongAddress => "its KMS key belongs to another address",
            Self::NotPinned => "the signer's deployment does not list it with this name and key",
        }
    }
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text does not name a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a known fault of a key")]
pub struct UnknownFault;

impl FromStr for KeyFault {
    type Err = UnknownFault;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|fault| fault.as_str() == text).ok_or(UnknownFault)
    }
}

/// Which call found the fault. Only the same call can show that the fault is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyCall {
    /// The public key could not be read, or is not the account's.
    Read,
    /// The key service refused to sign.
    Sign,
}

/// The mark on a head whose key cannot be used. The signer sets and clears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unusable {
    /// Since when the key has been unusable, without interruption.
    pub since: Millis,
    /// The fault that was found last.
    pub fault: KeyFault,
    /// The call that found it.
    pub call: KeyCall,
}

impl Unusable {
    /// How long requests wait for a fault that may heal: long enough for permissions to propagate or to re-enable a
    /// key; a third of the half hour after which SQS moves a message to the dead-letter queue.
    pub const HEAL_MAX_MS: u64 = 10 * 60 * 1_000;
    /// How often the key is tried again while requests, or slots without a signature, wait for it.
    pub const RECHECK_MS: u64 = 60 * 1_000;

    /// Whether requests are retried and not refused yet.
    #[must_use]
    pub fn may_heal(&self, now: Millis) -> bool {
        self.fault.may_heal() && now.since(self.since) < Self::HEAL_MAX_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_parses_from_its_name() {
        for fault in KeyFault::ALL {
            assert_eq!(fault.as_str().parse(), Ok(*fault));
        }
        assert_eq!("".parse::<KeyFault>(), Err(UnknownFault));
    }

    #[test]
    fn requests_wait_ten_minutes_for_a_healing_fault_only() {
        for fault in KeyFault::ALL {
            let mark = Unusable { since: Millis(1_000), fault: *fault, call: KeyCall::Read };
            let heals =
                matches!(fault, KeyFault::Disabled | KeyFault::Unavailable | KeyFault::Denied | KeyFault::NotPinned);
            assert_eq!(mark.may_heal(Millis(1_000)), heals, "{fault}");
            assert_eq!(mark.may_heal(Millis(600_999)), heals, "{fault}");
            assert!(!mark.may_heal(Millis(601_000)), "{fault}");
        }
    }
}
