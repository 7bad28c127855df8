//! The seal: the signer's own word that it accepted a request as the record has it.
//!
//! A record lies in a table that others may write. When the signer reserves a slot it takes an HMAC-SHA-256 over all
//! that the request fixes and stores it with the record; before each signature it takes it again and compares. Who
//! has no key cannot make a record that is signed, nor change one: not its intent, not its nonce, not the account or
//! the name its policy goes by, not its sender (promise G8, invariant I17).
//!
//! What a seal covers, in this order: version of the encoding, request id, message id, digest, chain id, address,
//! account name, nonce, to, value, data, gas, fee, fee cap, deadline in seconds, metadata, sender, milliseconds it may
//! hold up its lane, and of its acceptance the digest of the policy, the version of the code, whether the request named its fee (one
//! byte), its own cap and its pool. The digest is computed again too. What happens to the request later (attempts, a
//! cancel, its phase) is not covered: it can cause a bump or a cancel, and both are held to rules of their own.
//!
//! ## Does not guarantee
//! * Anything about records that were reserved by a version without seals: they have none and are not signed.
//!
//! Read next: [`crate::signer`].

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::encoding::{Encoding, PRESENT, canonical, wei};
use crate::record::Record;
pub use crate::record::{NoSeal, Seal};
use crate::units::AccountName;

/// Names the encoding; another encoding needs another name.
const VERSION: &[u8] = b"signpost seal v1";

/// Why a text cannot be a key of seals. Never shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSealKey {
    /// Too short to be worth anything.
    #[error("has {0} characters; at least {min} are needed", min = Sealer::KEY_MIN_CHARS)]
    TooShort(usize),
    /// There is none at all.
    #[error("is missing")]
    Missing,
}

/// Why a record is not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsealed {
    /// It has no seal: it was not reserved by a signer, or by one of a version without seals.
    #[error("the record has no seal")]
    Missing,
    /// It is not what was sealed, or was sealed with another key.
    #[error("the record's seal does not fit: it is not as the signer accepted it, or its seal's key is gone")]
    Broken,
    /// Its digest is not that of the request it holds: the signer made it so, which is a defect, or the seal's key is in other
    /// hands.
    #[error("the record's digest is not that of what it holds")]
    Digest,
    /// It was accepted under another name of the account, and so under other rules.
    #[error("the record was accepted for the account {sealed}, which is {now} now")]
    OtherName {
        /// In the record.
        sealed: AccountName,
        /// On the head.
        now: AccountName,
    },
}

impl Unsealed {
    /// Its name in the metric.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Broken => "broken",
            Self::Digest => "digest",
            Self::OtherName { .. } => "otherName",
        }
    }
}

/// Makes and checks seals. `Debug` shows no key.
#[derive(Clone)]
pub struct Sealer {
    newest: Hmac<Sha256>,
    /// Keys used before a rotation: seals made with them still fit.
    older: Vec<Hmac<Sha256>>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("keys", &self.older.len().saturating_add(1)).finish_non_exhaustive()
    }
}

impl Sealer {
    /// Fewest characters of a key. A generated one of letters and digits has 190 bits then.
    pub const KEY_MIN_CHARS: usize = 32;

    /// A sealer that seals with the first key and takes seals of all of them.
    pub fn new<T: AsRef<str>>(keys: impl IntoIterator<Item = T>) -> Result<Self, BadSealKey> {
        let mut macs = Vec::new();
        for key in keys {
            macs.push(mac(key.as_ref().trim())?);
        }
        if macs.is_empty() {
            return Err(BadSealKey::Missing);
        }
        let newest = macs.remove(0);
        Ok(Self { newest, older: macs })
    }

    /// The seal of a record, of what it says now.
    #[must_use]
    pub fn seal(&self, record: &Record) -> Seal {
        Seal::from_bytes(sealed(&self.newest, record).finalize().into_bytes().into())
    }

    /// Whether a record is as it was sealed, for an account of this name.
    pub fn check(&self, record: &Record, name: &AccountName) -> Result<(), Unsealed> {
        let seal = record.seal.ok_or(Unsealed::Missing)?;
        let fits = |key| sealed(key, record).verify_slice(seal.as_bytes()).is_ok();
        if !std::iter::once(&self.newest).chain(&self.older).any(fits) {
            return Err(Unsealed::Broken);
        }
        if record.asked().is_some_and(|asked| asked.digest(&record.account) != record.digest) {
            return Err(Unsealed::Digest);
        }
        if record.name != *name {
            return Err(Unsealed::OtherName { sealed: record.name.clone(), now: name.clone() });
        }
        Ok(())
    }
}

fn mac(key: &str) -> Result<Hmac<Sha256>, BadSealKey> {
    let length = key.chars().count();
    if length < Sealer::KEY_MIN_CHARS {
        return Err(BadSealKey::TooShort(length));
    }
    Ok(Hmac::new_from_slice(key.as_bytes()).expect("HMAC takes keys of every length"))
}

fn sealed(key: &Hmac<Sha256>, record: &Record) -> Hmac<Sha256> {
    let mut encoding = Encoding::new(key.clone(), VERSION);
    encoding.put(PRESENT, record.request_id.as_str().as_bytes());
    encoding.maybe(record.message_id.as_deref());
    encoding.put(PRESENT, &record.digest.0);
    encoding.put(PRESENT, &record.account.chain_id.0.to_be_bytes());
    encoding.put(PRESENT, &record.account.address.0);
    encoding.put(PRESENT, record.name.as_str().as_bytes());
    encoding.put(PRESENT, &record.nonce.0.to_be_bytes());
    encoding.maybe(record.intent.to.map(|to| to.0));
    encoding.put(PRESENT, &wei(record.intent.value));
    encoding.put(PRESENT, &record.intent.data);
    encoding.put(PRESENT, &record.intent.gas.0.to_be_bytes());
    encoding.fee(record.fee);
    encoding.put(PRESENT, &wei(record.fee_cap));
    encoding.maybe(record.deadline.map(|deadline| (deadline.0 / 1_000).to_be_bytes()));
    encoding.maybe(record.metadata.as_ref().map(canonical));
    encoding.maybe(record.sender.as_deref());
    encoding.maybe(record.max_head_ms.map(u64::to_be_bytes));
    let acceptance = record.acceptance.as_ref();
    encoding.maybe(acceptance.map(|acceptance| acceptance.policy_digest.0));
    encoding.maybe(acceptance.map(|acceptance| acceptance.code_version.as_str()));
    encoding.maybe(acceptance.map(|acceptance| [u8::from(acceptance.names_fee)]));
    encoding.maybe(acceptance.and_then(|acceptance| acceptance.max_gas_price).map(wei));
    encoding.maybe(acceptance.and_then(|acceptance| acceptance.pool.as_ref()).map(AccountName::as_str));
    encoding.into_hash()
}
