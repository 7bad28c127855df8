//! The seal: proof that the signer accepted a request as its record has it.
//!
//! Records are in a table that others may be able to write. When the signer reserves a slot, it computes an
//! HMAC-SHA-256 over the request's fixed fields and stores it with the record. Before each signature it computes the
//! HMAC again and compares. Without the key nobody can create a record that is signed, or change one: its intent, its
//! nonce, its account, the name that selects its policy, or its sender (promise G8, invariant I17).
//!
//! What a seal covers, in this order: version of the encoding, request id, message id, digest, chain id, address,
//! account name, nonce, to, value, data, gas, fee, fee cap, deadline in seconds, metadata, sender, milliseconds that it
//! may block its lane; then, from its acceptance: the digest of the policy, the version of the code, whether the
//! request named its fee (one byte), its own cap and its pool. The check computes the digest again too. Later changes
//! of the record (attempts, a cancel, its phase) are not covered: they can cause a bump or a cancel, and rules of their
//! own limit both.
//!
//! ## Does not guarantee
//! * Anything about records from versions without seals: they have none and are not signed.
//!
//! Read next: [`crate::signer`].

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::encoding::{Encoding, PRESENT, canonical, wei};
use crate::record::Record;
pub use crate::record::{InvalidSeal, Seal};
use crate::units::AccountName;

/// The name of the encoding; a different encoding needs a different name.
const VERSION: &[u8] = b"signpost seal v1";

/// Why a text cannot be a sealing key. Never shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSealKey {
    /// The key is too short to be safe.
    #[error("has {0} characters; at least {min} are needed", min = Sealer::KEY_MIN_CHARS)]
    TooShort(usize),
    /// No key is configured.
    #[error("is missing")]
    Missing,
}

/// Why the check of a record's seal failed, so that the record is not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsealed {
    /// The record has no seal: it was not reserved by a signer, or by a version without seals.
    #[error("the record has no seal")]
    Missing,
    /// The record was changed after it was sealed, or sealed with another key.
    #[error(
        "the record's seal does not match: the record differs from the accepted request, or the sealing key was removed"
    )]
    Broken,
    /// The seal matches but the digest does not match the request: either a defect of the signer, or somebody else has
    /// the sealing key.
    #[error("the record's digest does not match its request")]
    Digest,
    /// The request was accepted under another name of the account, and so under another policy.
    #[error("the record was accepted for the account named {sealed}, which is now named {now}")]
    OtherName {
        /// The name in the record.
        sealed: AccountName,
        /// The name in the head.
        now: AccountName,
    },
}

impl Unsealed {
    /// The value of the metric's label.
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

/// Creates and checks seals. `Debug` shows no key.
#[derive(Clone)]
pub struct Sealer {
    newest: Hmac<Sha256>,
    /// Keys from before a rotation. Seals made with them are still valid.
    older: Vec<Hmac<Sha256>>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("keys", &self.older.len().saturating_add(1)).finish_non_exhaustive()
    }
}

impl Sealer {
    /// The least length of a key in characters. A random key of letters and digits then has 190 bits.
    pub const KEY_MIN_CHARS: usize = 32;

    /// A sealer that seals with the first key and accepts seals made with any of the keys.
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

    /// The seal of a record with its current contents.
    #[must_use]
    pub fn seal(&self, record: &Record) -> Seal {
        Seal::from_bytes(sealed(&self.newest, record).finalize().into_bytes().into())
    }

    /// Checks that a record is as it was sealed, for an account with this name.
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
