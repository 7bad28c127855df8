//! What happened in the fakes, in order, for an auditor that knows what may happen.
//!
//! Judges nothing. Read next: [`super::gate`].

use std::sync::{Arc, Mutex};

use crate::account::{Head, Marks};
use crate::record::{Record, Rejected};
use crate::tx::RawTx;
use crate::units::{AccountKey, KmsKeyId, Nonce, SigningHash};
use crate::wire::{LanePoke, OutcomeMessage, SignerPoke};

/// One thing that took effect.
#[derive(Debug, Clone)]
pub enum Entry {
    /// An account was registered.
    Registered(Box<Head>),
    /// An account was paused or resumed.
    Paused(AccountKey, bool),
    /// A lane without open slots was moved on.
    FastForwarded(AccountKey, Nonce, Nonce),
    /// An operator set the marks of a lane without open slots.
    NonceSet(AccountKey, Nonce, Nonce),
    /// An account was retired.
    Retired(AccountKey),
    /// An account was removed.
    Unregistered(AccountKey),
    /// Slots were claimed for these records.
    Reserved(Vec<Record>),
    /// A rejection was written.
    Rejected(Box<Rejected>),
    /// A record was written.
    Updated(Box<Record>),
    /// Slots were left behind.
    LeftSlots(AccountKey, Nonce, Nonce),
    /// All marks of a head were moved: before, after.
    MovedMarks(AccountKey, Marks, Marks),
    /// The key service signed a hash; with the id of its call.
    KmsSigned(KmsKeyId, SigningHash, String),
    /// The key service refused a call for the state or kind of the key.
    KeyRefused(KmsKeyId),
    /// The key service gave a public key.
    PublicKeyRead(KmsKeyId),
    /// Raw bytes were handed to a node, whatever became of them.
    Sent(RawTx),
    /// An outcome went out.
    Published(Box<OutcomeMessage>),
    /// Lanes were poked.
    PokedLanes(Vec<LanePoke>),
    /// The signer was poked.
    PokedSigner(Vec<SignerPoke>),
    /// Messages of the queue with this name were handed over: their ids, in order.
    Received(&'static str, Vec<String>),
    /// A message of the queue with this name was acknowledged: its id and body.
    Deleted(&'static str, String, String),
}

/// A journal that is kept, or not.
#[derive(Debug, Clone, Default)]
pub struct Journal(Option<Arc<Mutex<Vec<Entry>>>>);

impl Journal {
    /// A journal that is kept.
    #[must_use]
    pub fn kept() -> Self {
        Self(Some(Arc::default()))
    }

    /// Takes out what was noted since the last time.
    #[must_use]
    pub fn drain(&self) -> Vec<Entry> {
        self.0.as_ref().map(|entries| std::mem::take(&mut *entries.lock().unwrap())).unwrap_or_default()
    }

    pub(super) fn note(&self, entry: impl FnOnce() -> Entry) {
        if let Some(entries) = &self.0 {
            entries.lock().unwrap().push(entry());
        }
    }
}
