//! The status of an account's key. The key is read before a slot is reserved, and an unusable key stops only its own
//! account.
//!
//! All signers share the mark on the head ([`crate::unusable`]): it has the time since when, and pools skip a marked
//! account. A process itself remembers only when it last checked. A marked account is checked once a minute while
//! messages or asks for it arrive. A fault of `Sign` is cleared only by a successful signature. An ask for an open slot
//! tries one; if no slot is open, one batch does.
//!
//! ## Guarantees
//! * An account with a known unusable key gives no slots. Requests that have a slot keep it and are signed later.
//! * If the key service does not answer, no account is marked.
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

/// The maximum number of keys that are read before the first message. 1,000 keys take a second, and a Lambda function
/// has ten seconds to start. Accounts with open slots come first. The keys of the others are read with their first
/// request.
pub(super) const WARM_KEYS_MAX: usize = 1_000;

/// A mark as this process last saw it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marked {
    mark: Unusable,
    checked_at: Millis,
    /// Whether it was reported in the log and the metric since then.
    is_reported: bool,
}

/// What follows a check of a marked account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterCheck {
    /// Nothing: it is only checked.
    Nothing,
    /// A call of `Sign`.
    Signature,
}

/// Whether an account's key can be used now.
pub(super) enum KeyStatus {
    /// The key belongs to the account and has no known fault.
    Usable,
    /// It may be usable soon: requests are retried.
    MayHeal,
    /// It cannot be used: requests are refused.
    Unusable(KeyFault),
}

impl KeyStatus {
    fn of(mark: Unusable, now: Millis) -> Self {
        if mark.may_heal(now) { Self::MayHeal } else { Self::Unusable(mark.fault) }
    }
}

/// The refusal of a request because the key of its account is unusable.
pub(super) fn unusable(head: &Head, fault: KeyFault) -> Refused {
    let text = format!("`account` {} cannot be signed for: {}", head.name, fault.meaning());
    Refused::field(Code::AccountUnusable, "account", text)
}

/// What the process remembers about keys.
#[derive(Debug, Default)]
pub(super) struct KeyMemory {
    /// Public keys never change: read once per process (G6).
    public_keys: Mutex<HashMap<KmsKeyId, PublicKey>>,
    /// Accounts with unusable keys, as of the last check.
    marks: Mutex<HashMap<AccountKey, Marked>>,
}

/// What the result of a signing call shows about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyEvidence {
    /// It works.
    Works,
    /// It cannot be used.
    Fault(KeyFault, KeyCall),
    /// The signature is from a different key than the public key that was read.
    OtherKey,
    /// Nothing.
    Nothing,
}

/// Watches keys. Needs the store and the key service.
pub(super) struct KeyWatch<'a, S, K> {
    pub(super) store: &'a S,
    pub(super) keys: &'a K,
    pub(super) pins: &'a Pins,
    pub(super) memory: &'a KeyMemory,
}

impl<S: Store, K: Keys> KeyWatch<'_, S, K> {
    /// Reads the keys of these accounts, and marks accounts with unusable keys.
    pub(super) async fn warm_keys(&self, accounts: OfChain, now: Millis) {
        let mut heads = accounts.heads;
        heads.retain(|head| head.retired_at.is_none());
        heads.sort_by_key(|head| head.open_slots() == 0);
        let left = heads.len().saturating_sub(WARM_KEYS_MAX);
        if left > 0 {
            tracing::info!(left, "the keys of these accounts are not read at the start, but with their first request");
        }
        heads.truncate(WARM_KEYS_MAX);
        let checks = heads.into_iter().map(|mut head| async move {
            self.refresh(&mut head, AfterCheck::Nothing, now).await;
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

    /// Checks the marked accounts of a batch that are due, concurrently.
    pub(super) async fn refresh_all(&self, heads: &mut Heads, now: Millis) {
        let mut looks = Vec::new();
        for head in heads.values_mut() {
            // With open slots, the broadcaster asks for a signature: no further slot is reserved to try a key.
            let after = if head.open_slots() == 0 { AfterCheck::Signature } else { AfterCheck::Nothing };
            looks.push(self.refresh(head, after, now));
        }
        stream::iter(looks).buffer_unordered(KEYS_AT_ONCE).collect::<()>().await;
    }

    /// Checks a marked account, at most once a minute. If it has no mark afterwards, its key may be tried.
    pub(super) async fn refresh(&self, head: &mut Head, after: AfterCheck, now: Millis) {
        let Some(mark) = head.unusable else {
            // Another signer found it usable.
            self.memory.marks.lock().expect("no code panics while holding the marks").remove(&head.account);
            return;
        };
        // Only a signature shows that a key signs again.
        let cannot_clear = mark.call == KeyCall::Sign && after == AfterCheck::Nothing;
        if cannot_clear || head.retired_at.is_some() || !self.claim_check(head, mark, now) {
            return;
        }
        match (self.account_key(head).await, mark.call) {
            (Ok(_), KeyCall::Read) => self.clear(head).await,
            // It may be tried once. The mark is cleared when `Sign` succeeds.
            (Ok(_), KeyCall::Sign) => head.unusable = None,
            (Err(trouble), _) => match trouble.fault() {
                Some(fault) => head.unusable = Some(self.mark(head, fault, mark.call, now).await),
                None => {
                    tracing::warn!(error = error_chain(&trouble), account = %head.account, "the key service does not answer");
                }
            },
        }
    }

    /// Whether a marked account is due for a check. If so, no other task of this process checks it.
    fn claim_check(&self, head: &Head, mark: Unusable, now: Millis) -> bool {
        let mut marks = self.memory.marks.lock().expect("no code panics while holding the marks");
        let lately = marks.get(&head.account).is_some_and(|seen| now.since(seen.checked_at) < Unusable::RECHECK_MS);
        if !lately {
            marks.insert(head.account, Marked { mark, checked_at: now, is_reported: false });
        }
        !lately
    }

    /// Whether slots may be reserved for an account that is not paused. Updates its mark.
    pub(super) async fn key_status(&self, head: &mut Head, now: Millis) -> KeyStatus {
        if let Some(mark) = head.unusable {
            return KeyStatus::of(mark, now);
        }
        let Err(trouble) = self.account_key(head).await else { return KeyStatus::Usable };
        if let Some(fault) = trouble.fault() {
            let mark = self.mark(head, fault, KeyCall::Read, now).await;
            head.unusable = Some(mark);
            return KeyStatus::of(mark, now);
        }
        tracing::warn!(error = error_chain(&trouble), account = %head.account, "the account's public key cannot be read now; its messages stay on the queue");
        KeyStatus::MayHeal
    }

    /// Reads a key, and marks its account if the key is unusable. Fails if the key service does not answer.
    async fn read_or_mark(&self, head: &Head, now: Millis) -> Result<(), KeyTrouble> {
        let Err(trouble) = self.account_key(head).await else { return Ok(()) };
        let Some(fault) = trouble.fault() else { return Err(trouble) };
        self.mark(head, fault, KeyCall::Read, now).await;
        Ok(())
    }

    /// The public key of an account, read once per process (G6). A key with another address is read again, because its
    /// alias may be moved back.
    pub(super) async fn account_key(&self, head: &Head) -> Result<PublicKey, KeyTrouble> {
        self.pins.check(head).map_err(KeyTrouble::NotPinned)?;
        self.key_of(&head.kms_key_id, head.account.address).await
    }

    /// Checks that a key has this address.
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

    /// Marks an account with an unusable key, and reports it to the operator.
    async fn mark(&self, head: &Head, fault: KeyFault, call: KeyCall, now: Millis) -> Unusable {
        let (before, mark) = {
            let mut marks = self.memory.marks.lock().expect("no code panics while holding the marks");
            let before = marks.get(&head.account).copied();
            let known = head.unusable.or(before.map(|seen| seen.mark));
            // A readable public key does not clear the mark of a refused signature.
            let call = if known.is_some_and(|mark| mark.call == KeyCall::Sign) { KeyCall::Sign } else { call };
            let mark = Unusable { since: known.map_or(now, |mark| mark.since), fault, call };
            marks.insert(head.account, Marked { mark, checked_at: now, is_reported: true });
            (before, mark)
        };
        let stored = [head.unusable, before.map(|seen| seen.mark)].contains(&Some(mark));
        // It is reported once per batch.
        let reported = before.is_some_and(|seen| seen.is_reported && seen.mark == mark && seen.checked_at == now);
        if !reported {
            metrics::counter!(meters::ACCOUNT_UNUSABLE, "account" => head.account.to_string(), "fault" => fault.as_str())
                .increment(1);
            tracing::warn!(account = %head.account, name = %head.name, kms_key_id = %head.kms_key_id, %fault, since = %mark.since,
                "the account's key cannot be used; it gets no slots and no signatures, other accounts do");
        }
        if !stored && let Err(error) = self.store.set_unusable(&head.account, Some(mark)).await {
            tracing::warn!(error = error_chain(&error), account = %head.account,
                "the account could not be marked as unusable");
        }
        mark
    }

    /// Clears the mark: the key works again.
    async fn clear(&self, head: &mut Head) {
        head.unusable = None;
        self.memory.marks.lock().expect("no code panics while holding the marks").remove(&head.account);
        match self.store.set_unusable(&head.account, None).await {
            Ok(()) => tracing::info!(account = %head.account, name = %head.name, "the account's key works again"),
            Err(error) => {
                tracing::warn!(error = error_chain(&error), account = %head.account,
                    "the mark of an unusable key could not be cleared; the next check clears it");
            }
        }
    }

    /// Updates the mark after a signing call.
    pub(super) async fn note_signing(&self, head: &Head, evidence: KeyEvidence, now: Millis) {
        match evidence {
            KeyEvidence::Works => {
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
            KeyEvidence::Fault(fault, call) => {
                self.mark(head, fault, call, now).await;
            }
            // The alias was moved.
            KeyEvidence::OtherKey => {
                self.memory.public_keys.lock().expect("no code panics while holding the keys").remove(&head.kms_key_id);
                if let Err(error) = self.read_or_mark(head, now).await {
                    tracing::warn!(error = error_chain(&error), account = %head.account, "the public key cannot be read again");
                }
            }
            KeyEvidence::Nothing => {}
        }
    }
}
