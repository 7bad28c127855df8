//! A record of all effects in the fakes, in order, for an auditor.
//!
//! It checks nothing itself. Read next: [`super::interceptor`].

use std::sync::{Arc, Mutex};

use crate::account::{Head, Marks};
use crate::record::{Record, Rejected};
use crate::tx::RawTx;
use crate::units::{AccountKey, KmsKeyId, Nonce, SigningHash};
use crate::wire::{LanePoke, OutcomeMessage, SignerPoke};

/// One effect.
#[derive(Debug, Clone)]
pub enum Entry {
    /// An account was registered.
    Registered(Box<Head>),
    /// An account was paused or resumed.
    Paused(AccountKey, bool),
    /// A lane without open slots was moved forward: from, to.
    FastForwarded(AccountKey, Nonce, Nonce),
    /// An operator set the marks of a lane without open slots: from, to.
    NonceSet(AccountKey, Nonce, Nonce),
    /// An account was retired.
    Retired(AccountKey),
    /// An account was removed.
    Unregistered(AccountKey),
    /// Slots were reserved for these records.
    Reserved(Vec<Record>),
    /// A rejection was written.
    Rejected(Box<Rejected>),
    /// A record was written.
    Updated(Box<Record>),
    /// The lowest open nonce was moved past closed slots: from, to.
    LeftSlots(AccountKey, Nonce, Nonce),
    /// All marks of a head were moved: before, after.
    MovedMarks(AccountKey, Marks, Marks),
    /// The key service signed a hash. The text is the request id of the call.
    KmsSigned(KmsKeyId, SigningHash, String),
    /// The key service refused a call because of the state or kind of the key.
    KeyRefused(KmsKeyId),
    /// The key service returned a public key.
    PublicKeyRead(KmsKeyId),
    /// Raw bytes were sent to a node, with any result.
    Sent(RawTx),
    /// An outcome was published.
    Published(Box<OutcomeMessage>),
    /// Lanes were poked.
    PokedLanes(Vec<LanePoke>),
    /// The signer was poked.
    PokedSigner(Vec<SignerPoke>),
    /// Messages of the queue with this name were received: their ids, in order.
    Received(&'static str, Vec<String>),
    /// A message of the queue with this name was acknowledged: its id and body.
    Deleted(&'static str, String, String),
}

/// A list of effects. The default journal keeps nothing.
#[derive(Debug, Clone, Default)]
pub struct Journal(Option<Arc<Mutex<Vec<Entry>>>>);

impl Journal {
    /// A journal that keeps its entries.
    #[must_use]
    pub fn kept() -> Self {
        Self(Some(Arc::default()))
    }

    /// Removes and returns all entries.
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
