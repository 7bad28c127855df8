//! Whether an account can be signed for: its key is read before a slot is reserved, and a fault of the key stops
//! this account and no other.
//!
//! The mark on the head ([`crate::unusable`]) is the state all signers share: it says since when, and pools pass
//! the account over. What this process remembers is only when it looked last. A marked account is looked at
//! again once a minute while messages or asks for it arrive. A fault of `Sign` is gone when a signature was made: an
//! ask for a slot that waits tries it, and where no slot is open, one batch.
//!
//! ## Guarantees
//! * An account whose key is known to be unusable gets no slot; what has a slot keeps it and is signed later.
//! * A key service that does not answer marks nothing.
//!
//! Read next: [`super::reservation`].

use std::collections::HashMap;
use std::sync::Mutex;

use futures_util::stream::{self, StreamExt as _};

use crate::account::Head;
use crate::pins::Pins;
use crate::ports::{Keys, Store};
use crate::request::{Code, Refused};
use crate::signature::PublicKey;
use crate::start::{self, KEYS_AT_ONCE, KeyTrouble, OfChain};
use crate::units::{AccountKey, Address, KmsKeyId, Millis};
use crate::unusable::{KeyCall, KeyFault, Unusable};
use crate::{error_chain, meters};

use super::heads::Heads;

/// Keys read before the first message, at most: 1,000 take a second, and a Lambda function has ten to start.
/// Of more accounts, those with open slots come first; the others' keys are read with their first request.
pub(super) const WARM_KEYS_MAX: usize = 1_000;

/// A mark as this process saw it last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marked {
    mark: Unusable,
    checked_at: Millis,
    /// Named in the log and in the metric since then.
    is_said: bool,
}

/// What may follow a look at a marked account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Try {
    /// Nothing: it is only looked at.
    Nothing,
    /// A signature.
    Signature,
}

/// Whether an account can be signed for now.
pub(super) enum KeyStanding {
    /// Its key is the account's own and no fault of it is known.
    Usable,
    /// It may be soon: requests are retried.
    MayHeal,
    /// It is not, and that is not waited for.
    Unusable(KeyFault),
}

impl KeyStanding {
    fn of(mark: Unusable, now: Millis) -> Self {
        if mark.may_heal(now) { Self::MayHeal } else { Self::Unusable(mark.fault) }
    }
}

/// The refusal of a request whose account cannot be signed for.
pub(super) fn unusable(head: &Head, fault: KeyFault) -> Refused {
    let text = format!("`account` {} cannot be signed for: {}", head.name, fault.meaning());
    Refused::field(Code::AccountUnusable, "account", text)
}

/// What the process remembers of keys.
#[derive(Debug, Default)]
pub(super) struct KeyMemory {
    /// Public keys never change: read once per process (G6).
    public_keys: Mutex<HashMap<KmsKeyId, PublicKey>>,
    /// Accounts whose keys could not be used, as last looked at.
    marks: Mutex<HashMap<AccountKey, Marked>>,
}

/// What a signature, or its absence, shows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// It signs.
    Works,
    /// It cannot be used.
    Fault(KeyFault, KeyCall),
    /// Another key signed than the one whose public half was read.
    OtherKey,
    /// Nothing.
    Nothing,
}

/// Watches keys: needs the store and the key service.
pub(super) struct KeyWatch<'a, S, K> {
    pub(super) store: &'a S,
    pub(super) keys: &'a K,
    pub(super) pins: &'a Pins,
    pub(super) memory: &'a KeyMemory,
}

impl<S: Store, K: Keys> KeyWatch<'_, S, K> {
    /// Reads the keys of these accounts, and marks those that cannot be used.
    pub(super) async fn warm_keys(&self, accounts: OfChain, now: Millis) {
        let mut heads = accounts.heads;
        heads.retain(|head| head.retired_at.is_none());
        heads.sort_by_key(|head| head.open_slots() == 0);
        let left = heads.len().saturating_sub(WARM_KEYS_MAX);
        if left > 0 {
            tracing::info!(
                left,
                "more accounts than keys are read at the start; theirs are read with their first request"
            );
        }
        heads.truncate(WARM_KEYS_MAX);
        let checks = heads.into_iter().map(|mut head| async move {
            self.refresh(&mut head, Try::Nothing, now).await;
            if head.unusable.is_some() { Ok(()) } else { self.read_or_mark(&head, now).await }
        });
        let mut checks = stream::iter(checks).buffer_unordered(KEYS_AT_ONCE);
        while let Some(checked) = checks.next().await {
            if let Err(error) = checked {
                tracing::warn!(
                    error = error_chain(&error),
                    "the key service does not answer; keys are read with the first requests"
                );
                return;
            }
        }
    }

    /// Looks again at the marked accounts of a batch whose turn it is, several at once.
    pub(super) async fn refresh_all(&self, heads: &mut Heads, now: Millis) {
        let mut looks = Vec::new();
        for head in heads.values_mut() {
            // Else the lane asks for what waits in it: no more slots are reserved to try a key.
            let tries = if head.open_slots() == 0 { Try::Signature } else { Try::Nothing };
            looks.push(self.refresh(head, tries, now));
        }
        stream::iter(looks).buffer_unordered(KEYS_AT_ONCE).collect::<()>().await;
    }

    /// Looks again at a marked account, at most once a minute. Without a mark afterwards, it may be tried.
    pub(super) async fn refresh(&self, head: &mut Head, tries: Try, now: Millis) {
        let Some(mark) = head.unusable else {
            // Another signer found it usable.
            self.memory.marks.lock().expect("no code panics while holding the marks").remove(&head.account);
            return;
        };
        // Only a signature shows that a key signs again.
        let in_vain = mark.call == KeyCall::Sign && tries == Try::Nothing;
        if in_vain || head.retired_at.is_some() || !self.takes_turn(head, mark, now) {
            return;
        }
        match (self.account_key(head).await, mark.call) {
            (Ok(_), KeyCall::Read) => self.clear(head).await,
            // This one may be tried; the mark is taken off when it is signed.
            (Ok(_), KeyCall::Sign) => head.unusable = None,
            (Err(trouble), _) => match trouble.fault() {
                Some(fault) => head.unusable = Some(self.mark(head, fault, mark.call, now).await),
                None => {
                    tracing::warn!(error = error_chain(&trouble), account = %head.account, "the key service does not answer");
                }
            },
        }
    }

    /// Whether a marked account is to be looked at now; if so, nobody else of this process does.
    fn takes_turn(&self, head: &Head, mark: Unusable, now: Millis) -> bool {
        let mut marks = self.memory.marks.lock().expect("no code panics while holding the marks");
        let lately = marks.get(&head.account).is_some_and(|seen| now.since(seen.checked_at) < Unusable::RECHECK_MS);
        if !lately {
            marks.insert(head.account, Marked { mark, checked_at: now, is_said: false });
        }
        !lately
    }

    /// Whether slots may be reserved for an account that is not paused. Its mark is brought up to date.
    pub(super) async fn standing(&self, head: &mut Head, now: Millis) -> KeyStanding {
        if let Some(mark) = head.unusable {
            return KeyStanding::of(mark, now);
        }
        let Err(trouble) = self.account_key(head).await else { return KeyStanding::Usable };
        if let Some(fault) = trouble.fault() {
            let mark = self.mark(head, fault, KeyCall::Read, now).await;
            head.unusable = Some(mark);
            return KeyStanding::of(mark, now);
        }
        tracing::warn!(error = error_chain(&trouble), account = %head.account, "the account's public key cannot be read now; its messages stay on the queue");
        KeyStanding::MayHeal
    }

    /// Reads a key, and marks its account if the key cannot be used. An error: the key service does not answer.
    async fn read_or_mark(&self, head: &Head, now: Millis) -> Result<(), KeyTrouble> {
        let Err(trouble) = self.account_key(head).await else { return Ok(()) };
        let Some(fault) = trouble.fault() else { return Err(trouble) };
        self.mark(head, fault, KeyCall::Read, now).await;
        Ok(())
    }

    /// The public key of an account, read once per process (G6). One that is another address's is read again,
    /// since its alias may be moved back.
    pub(super) async fn account_key(&self, head: &Head) -> Result<PublicKey, KeyTrouble> {
        self.pins.check(head).map_err(KeyTrouble::NotPinned)?;
        self.key_of(&head.kms_key_id, head.account.address).await
    }

    /// Whether a key is the one of this address.
    pub(super) async fn check_key(&self, id: &KmsKeyId, expected: Address) -> Result<(), KeyTrouble> {
        self.key_of(id, expected).await.map(drop)
    }

    async fn key_of(&self, id: &KmsKeyId, expected: Address) -> Result<PublicKey, KeyTrouble> {
        let cached = self.memory.public_keys.lock().expect("no code panics while holding the keys").get(id).cloned();
        if let Some(key) = cached.filter(|key| key.address() == expected) {
            return Ok(key);
        }
        let key = start::account_key(self.keys, id, expected).await?;
        self.memory.public_keys.lock().expect("no code panics while holding the keys").insert(id.clone(), key.clone());
        Ok(key)
    }

    /// Marks an account as one that cannot be signed for, and names it where an operator looks.
    async fn mark(&self, head: &Head, fault: KeyFault, call: KeyCall, now: Millis) -> Unusable {
        let (before, mark) = {
            let mut marks = self.memory.marks.lock().expect("no code panics while holding the marks");
            let before = marks.get(&head.account).copied();
            let known = head.unusable.or(before.map(|seen| seen.mark));
            // What a refused signature marked, a public key that can be read does not clear.
            let call = if known.is_some_and(|mark| mark.call == KeyCall::Sign) { KeyCall::Sign } else { call };
            let mark = Unusable { since: known.map_or(now, |mark| mark.since), fault, call };
            marks.insert(head.account, Marked { mark, checked_at: now, is_said: true });
            (before, mark)
        };
        let stored = [head.unusable, before.map(|seen| seen.mark)].contains(&Some(mark));
        // The requests of one batch that cannot be signed say it once.
        let said = before.is_some_and(|seen| seen.is_said && seen.mark == mark && seen.checked_at == now);
        if !said {
            metrics::counter!(meters::ACCOUNT_UNUSABLE, "account" => head.account.to_string(), "fault" => fault.as_str())
                .increment(1);
            tracing::warn!(account = %head.account, name = %head.name, kms_key_id = %head.kms_key_id, %fault, since = %mark.since,
                "the account's key cannot be used; it gets no slot and no signature, all others do");
        }
        if !stored && let Err(error) = self.store.set_unusable(&head.account, Some(mark)).await {
            tracing::warn!(error = error_chain(&error), account = %head.account, "that its key cannot be used is not noted");
        }
        mark
    }

    /// Takes the mark off: the key works again.
    async fn clear(&self, head: &mut Head) {
        head.unusable = None;
        self.memory.marks.lock().expect("no code panics while holding the marks").remove(&head.account);
        match self.store.set_unusable(&head.account, None).await {
            Ok(()) => tracing::info!(account = %head.account, name = %head.name, "the account's key works again"),
            Err(error) => {
                tracing::warn!(error = error_chain(&error), account = %head.account, "that its key works again is not noted; the next look does");
            }
        }
    }

    /// Keeps what a signature, or its absence, shows of the account's key.
    pub(super) async fn note_signing(&self, head: &Head, shown: Shown, now: Millis) {
        match shown {
            Shown::Works => {
                let was_marked = self
                    .memory
                    .marks
                    .lock()
                    .expect("no code panics while holding the marks")
                    .contains_key(&head.account);
                if was_marked {
                    self.clear(&mut head.clone()).await;
                }
            }
            Shown::Fault(fault, call) => {
                self.mark(head, fault, call, now).await;
            }
            // Its alias was moved.
            Shown::OtherKey => {
                self.memory.public_keys.lock().expect("no code panics while holding the keys").remove(&head.kms_key_id);
                if let Err(error) = self.read_or_mark(head, now).await {
                    tracing::warn!(error = error_chain(&error), account = %head.account, "the public key cannot be read again");
                }
            }
            Shown::Nothing => {}
        }
    }
}
