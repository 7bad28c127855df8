//! Looks up the accounts that a batch names, each once.
//!
//! ## Guarantees
//! * An account that cannot be read delays only the messages that name it.
//! * Unknown names do not cause a read of the directory per batch: they are remembered for [`Unknown::KEPT_MS`].
//!
//! ## Does not guarantee
//! * That an account is known at once when it is registered, if a message named it within [`Unknown::KEPT_MS`] before.
//!   Other new accounts are known at once.
//!
//! Read next: [`super::answer`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use crate::error_chain;
use crate::ports::{PortError, Store};
use crate::request::{AccountRef, Message};
use crate::start::OfChain;
use crate::units::{AccountKey, Millis};

use super::batch::Inbound;
use super::heads::Heads;
use super::pool::Pools;

/// References to accounts that were not in the directory when it was last read for them.
#[derive(Debug, Default)]
pub(super) struct Unknown(BTreeMap<String, Millis>);

impl Unknown {
    /// How long an unknown reference is remembered, in milliseconds.
    pub(super) const KEPT_MS: u64 = 10_000;
    /// The maximum number of remembered references. When it is reached, the directory is not read for others either: it
    /// was read within [`Self::KEPT_MS`], and a flood of unknown names must not cause a read per batch.
    const KEPT_MAX: usize = 64;

    /// Whether to read the directory for this reference.
    fn wants_look(&mut self, reference: &str, now: Millis) -> bool {
        self.0.retain(|_, looked_at| now.since(*looked_at) < Self::KEPT_MS);
        self.0.len() < Self::KEPT_MAX && !self.0.contains_key(reference)
    }

    fn note(&mut self, reference: String, now: Millis) {
        if self.0.len() < Self::KEPT_MAX {
            self.0.insert(reference, now);
        }
    }
}

/// Reads accounts. Needs the store.
pub(super) struct Directory<'a, S> {
    pub(super) store: &'a S,
    pub(super) pools: Pools<'a>,
    pub(super) unknown: &'a Mutex<Unknown>,
}

impl<S: Store> Directory<'_, S> {
    /// Reads the heads of the accounts that these messages name.
    pub(super) async fn heads_for(&self, part: &[Inbound<'_>], now: Millis) -> Heads {
        let asked: Vec<Option<&AccountRef>> = part
            .iter()
            .filter_map(|inbound| match &inbound.message {
                Ok(Message::Sign(request)) => Some(request.account.as_ref()),
                Ok(Message::Cancel(_)) | Err(_) => None,
            })
            .collect();
        let mut heads = Heads::default();
        if self.wants_directory(&asked, now) {
            match self.refresh_registry().await {
                Ok(()) => self.note_unknown(&asked, now),
                Err(error) => {
                    tracing::warn!(
                        error = error_chain(&error),
                        "accounts cannot be read; messages that name new ones stay on the queue"
                    );
                    heads.directory_unread = true;
                }
            }
        }
        let named: BTreeSet<AccountKey> =
            asked.into_iter().flat_map(|account| self.pools.known_candidates(account)).collect();
        for account in named {
            match self.store.head(&account).await {
                Ok(Some(head)) => {
                    heads.by_key.insert(account, head);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), %account, "the account cannot be read; its messages stay on the queue");
                    heads.unread.insert(account);
                }
            }
        }
        heads
    }

    fn wants_directory(&self, asked: &[Option<&AccountRef>], now: Millis) -> bool {
        let missing = self.missing(asked);
        // Without any account the directory is almost empty, and the operator waits for the first account.
        let is_empty = self.pools.registry.is_empty();
        let mut unknown = self.unknown.lock().expect("no code panics while holding the unknown");
        missing.iter().any(|reference| is_empty || unknown.wants_look(reference, now))
    }

    fn note_unknown(&self, asked: &[Option<&AccountRef>], now: Millis) {
        let missing = self.missing(asked);
        let mut unknown = self.unknown.lock().expect("no code panics while holding the unknown");
        for reference in missing {
            unknown.note(reference, now);
        }
    }

    /// The references that the registry cannot resolve, as spelled in requests. Empty text for an omitted account.
    fn missing(&self, asked: &[Option<&AccountRef>]) -> BTreeSet<String> {
        let named = asked.iter().flat_map(|account| self.pools.named_by(*account));
        let missing = named.filter(|account| self.pools.resolve(account.as_ref()).is_err());
        missing.map(|account| account.map(|account| account.to_string()).unwrap_or_default()).collect()
    }

    async fn refresh_registry(&self) -> Result<(), PortError> {
        let accounts = OfChain::of(self.store.accounts().await?, self.pools.chain_id);
        self.pools.registry.note(&accounts);
        Ok(())
    }
}
