//! Known design bugs, switched on one at a time around the fakes: each must be found.
//!
//! Without a mutant the wrappers here pass everything through. Read next: [`crate::auditor`].

mod planted;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use signpost_txmgr::account::{Accounts, Head, Marks, Reservation, SeenFee};
use signpost_txmgr::fake::{MemoryChain, MemoryKeys, MemoryStore, MemoryTopic, sealer};
use signpost_txmgr::machine::{Corroboration, ReceiptView};
use signpost_txmgr::ports::{
    Chain, ChainView, Counts, Happened, KeyAnswer, KeyCallError, Keys, KmsSignature, NonceUse, OutcomeTopic, PortError,
    RegisterVerdict, RejectVerdict, ReserveVerdict, RetireVerdict, Store, UnregisterVerdict, UpdateVerdict, UseQuery,
    ViewQuery, WitnessQuery,
};
use signpost_txmgr::record::{BlockRef, Phase, Record, Rejected, SendAnswer, SendClass, Stored, Vacancy};
use signpost_txmgr::tx::{Intent, RawTx};
use signpost_txmgr::units::{
    AccountKey, AccountName, Address, ChainId, KmsKeyId, Millis, Nonce, RequestId, SigningHash, TxHash, Wei,
};
use signpost_txmgr::unusable::Unusable;
use signpost_txmgr::wire::{OutcomeMessage, Status};

use crate::executor::ExecutorHandle;

pub use self::planted::Mutant;

/// The store, with the mutant's bug if there is one.
#[derive(Debug, Clone)]
pub struct MutantStore {
    /// The fake behind it.
    pub inner: MemoryStore,
    /// The planted bug.
    pub mutant: Option<Mutant>,
    /// For the mutants that do things in the wrong order.
    pub chain: MemoryChain,
    /// For the mutants that do things in the wrong order.
    pub topic: MemoryTopic,
}

impl MutantStore {
    async fn reserve_apart(&self, group: &Reservation) -> Result<ReserveVerdict, PortError> {
        let count = u64::try_from(group.records.len()).unwrap();
        let ahead = group.head.next_nonce.plus(count);
        let known = |id: &RequestId| matches!(self.inner.stored(id), Some(Stored::Record(_)));
        if group.records.iter().any(|record| known(&record.request_id)) {
            return self.inner.reserve(group).await;
        }
        let moved = self.inner.with_tables(|tables| match tables.heads.get_mut(&group.head.account) {
            Some(head) if head.next_nonce == group.head.next_nonce && !head.paused => {
                head.next_nonce = ahead;
                true
            }
            Some(_) | None => false,
        });
        if !moved {
            return self.inner.reserve(group).await;
        }
        let head = Head { next_nonce: ahead, ..group.head.clone() };
        self.inner.reserve(&Reservation { head, ..group.clone() }).await
    }

    async fn count_apart(&self, group: &Reservation) -> Result<ReserveVerdict, PortError> {
        let uncounted = Reservation { spend: None, sender_counts: None, ..group.clone() };
        let verdict = self.inner.reserve(&uncounted).await?;
        if verdict == ReserveVerdict::Reserved {
            // A separate call: other workers may act before it, and this worker may crash before it.
            let _ = self.inner.head(&group.head.account).await;
            self.inner.with_tables(|tables| {
                if let Some(head) = tables.heads.get_mut(&group.head.account) {
                    head.spend = group.spend.or(head.spend);
                    head.sender_counts = group.sender_counts.clone().or_else(|| head.sender_counts.take());
                }
            });
        }
        Ok(verdict)
    }

    /// As if the condition on a request's id were one on its id and its account.
    async fn reassign(&self, group: &Reservation) -> Result<ReserveVerdict, PortError> {
        let account = group.head.account;
        let stands = |head: &Head| head.next_nonce == group.head.next_nonce && !head.paused;
        self.inner.with_tables(|tables| {
            if tables.heads.get(&account).is_some_and(stands) {
                let elsewhere = |id: &RequestId| match tables.requests.get(id) {
                    Some(Stored::Record(record)) => record.account != account,
                    Some(Stored::Rejected(_)) | None => false,
                };
                let ids = group.records.iter().map(|record| &record.request_id);
                let taken: Vec<_> = ids.filter(|id| elsewhere(id)).cloned().collect();
                tables.requests.retain(|id, _| !taken.contains(id));
            }
        });
        self.inner.reserve(group).await
    }

    /// As if the signer had accepted what it finds.
    fn reseal(&self, found: &mut [Stored]) {
        for stored in found {
            let Stored::Record(record) = stored else { continue };
            let with = |nonce| Record { nonce: Nonce(nonce), ..(**record).clone() };
            if matches!(self.mutant, Some(Mutant::TakesAnySeal | Mutant::ForgetsMaxHead))
                || self.mutant == Some(Mutant::SealsNoNonce)
                    && (0..64).any(|nonce| sealer().check(&with(nonce), &record.name).is_ok())
            {
                record.seal = Some(sealer().seal(record));
            }
        }
    }

    fn forget_answer(&self, id: &RequestId) {
        self.inner.with_tables(|tables| {
            if matches!(tables.requests.get(id), Some(Stored::Rejected(_))) {
                tables.requests.remove(id);
            }
        });
    }

    async fn before_update(&self, record: &Record) {
        let outcome = OutcomeMessage::of_record(record);
        match (self.mutant, &record.phase) {
            (Some(Mutant::PublishesBeforeSettled), Phase::Settled(settlement)) if settlement.published_at.is_none() => {
                let _ = self.topic.publish(outcome.as_slice()).await;
            }
            (Some(Mutant::SendBeforeStore), Phase::Signed) => {
                if let Some(raw) = record.attempts.last().and_then(|attempt| record.raw(attempt)) {
                    self.chain.send(&raw).await;
                }
            }
            (_, _) => {}
        }
    }
}

impl Store for MutantStore {
    async fn accounts(&self) -> Result<Accounts, PortError> {
        self.inner.accounts().await
    }

    async fn head(&self, account: &AccountKey) -> Result<Option<Head>, PortError> {
        self.inner.head(account).await
    }

    async fn register(&self, head: &Head) -> Result<RegisterVerdict, PortError> {
        self.inner.register(head).await
    }

    async fn set_paused(&self, account: &AccountKey, paused: bool) -> Result<(), PortError> {
        self.inner.set_paused(account, paused).await
    }

    async fn set_paused_by_node(&self, account: &AccountKey, paused: bool) -> Result<(), PortError> {
        if self.mutant == Some(Mutant::IgnoresMisconfigured) {
            return Ok(());
        }
        self.inner.set_paused_by_node(account, paused).await
    }

    async fn set_unfunded(&self, account: &AccountKey, since: Option<Millis>) -> Result<(), PortError> {
        self.inner.set_unfunded(account, since).await
    }

    async fn set_unusable(&self, account: &AccountKey, unusable: Option<Unusable>) -> Result<(), PortError> {
        self.inner.set_unusable(account, unusable).await
    }

    async fn observe_fee(&self, account: &AccountKey, fee: &SeenFee) -> Result<(), PortError> {
        self.inner.observe_fee(account, fee).await
    }

    async fn fast_forward(&self, account: &AccountKey, from: Nonce, to: Nonce) -> Result<bool, PortError> {
        self.inner.fast_forward(account, from, to).await
    }

    async fn set_nonce(&self, account: &AccountKey, from: Nonce, to: Nonce) -> Result<bool, PortError> {
        self.inner.set_nonce(account, from, to).await
    }

    async fn retire(&self, account: &AccountKey, now: Millis) -> Result<RetireVerdict, PortError> {
        self.inner.retire(account, now).await
    }

    async fn unregister(
        &self,
        account: &AccountKey,
        name: &AccountName,
        retired_until: Millis,
    ) -> Result<UnregisterVerdict, PortError> {
        self.inner.unregister(account, name, retired_until).await
    }

    async fn reserve(&self, group: &Reservation) -> Result<ReserveVerdict, PortError> {
        if self.mutant == Some(Mutant::JudgedAnew) {
            group.records.iter().for_each(|record| self.forget_answer(&record.request_id));
        }
        if self.mutant == Some(Mutant::CounterApart) {
            return self.reserve_apart(group).await;
        }
        if self.mutant == Some(Mutant::ReassignedOnRepeat) {
            return self.reassign(group).await;
        }
        if matches!(self.mutant, Some(Mutant::SpendApartFromSlot | Mutant::CountApartFromSlot)) {
            return self.count_apart(group).await;
        }
        self.inner.reserve(group).await
    }

    async fn load(&self, ids: &[RequestId], now: Millis) -> Result<Vec<Stored>, PortError> {
        let mut found = self.inner.load(ids, now).await?;
        if self.mutant == Some(Mutant::ConflictAsSame) {
            // A signer loads the id that a message names and then the message's own id. This pretends that each record
            // is that message's.
            for pair in ids.windows(2) {
                let Some(message_id) = pair[1].as_str().strip_prefix("sqs:") else { continue };
                for stored in &mut found {
                    if let Stored::Record(record) = stored
                        && record.request_id == pair[0]
                    {
                        record.message_id = Some(message_id.to_owned());
                    }
                }
            }
        }
        if self.mutant == Some(Mutant::ReassignedOnRepeat) {
            // As if a repeat were judged again while its account is paused.
            self.inner.with_tables(|tables| {
                found.retain(|stored| match stored {
                    Stored::Record(record) => !tables.heads.get(&record.account).is_some_and(|head| head.paused),
                    Stored::Rejected(_) => true,
                });
            });
        }
        if self.mutant == Some(Mutant::JudgedAnew) {
            found.retain(|stored| matches!(stored, Stored::Record(_)));
        }
        if self.mutant == Some(Mutant::ForgetsMaxHead) {
            for stored in &mut found {
                if let Stored::Record(record) = stored {
                    record.max_head_ms = None;
                }
            }
        }
        self.reseal(&mut found);
        if self.mutant == Some(Mutant::OverlooksUnsigned) {
            let unsigned = |stored: &Stored| matches!(stored, Stored::Record(record) if record.attempts.is_empty());
            found.retain(|stored| !unsigned(stored));
        }
        Ok(found)
    }

    async fn reject(&self, rejected: &Rejected, over: &Vacancy) -> Result<RejectVerdict, PortError> {
        if self.mutant == Some(Mutant::JudgedAnew) && rejected.published_at.is_none() {
            self.forget_answer(&rejected.request_id);
        }
        self.inner.reject(rejected, over).await
    }

    async fn update(&self, record: &Record) -> Result<UpdateVerdict, PortError> {
        self.before_update(record).await;
        let mut record = record.clone();
        if let (Some(Mutant::ForgetsRetention), Phase::Settled(settlement)) = (self.mutant, &mut record.phase) {
            settlement.expires_at = settlement.published_at;
        }
        if self.mutant == Some(Mutant::CancelsAtCapAtOnce) && record.capped_since.is_some() {
            record.capped_since = Some(Millis(0));
        }
        let record = &record;
        match self.inner.update(record).await? {
            UpdateVerdict::Stale(current)
                if self.mutant == Some(Mutant::SecondSignatureOverwrites)
                    && current.attempts.len() == record.attempts.len()
                    && newest(&current) != newest(record) =>
            {
                let over = Record { version: current.version + 1, ..record.clone() };
                self.inner.update(&over).await
            }
            verdict @ (UpdateVerdict::Stored | UpdateVerdict::Stale(_) | UpdateVerdict::Gone) => Ok(verdict),
        }
    }

    async fn slots(
        &self,
        account: &AccountKey,
        from: Nonce,
        limit: usize,
    ) -> Result<Vec<(Nonce, RequestId)>, PortError> {
        self.inner.slots(account, from, limit).await
    }

    async fn leave_slots(
        &self,
        account: &AccountKey,
        from: Nonce,
        to: Nonce,
        expires_at: Millis,
    ) -> Result<bool, PortError> {
        self.inner.leave_slots(account, from, to, expires_at).await
    }

    async fn move_marks(
        &self,
        account: &AccountKey,
        before: &Marks,
        after: &Marks,
        expires_at: Millis,
    ) -> Result<bool, PortError> {
        if self.mutant == Some(Mutant::SetsNothingAside) && after.set_aside.len() > before.set_aside.len() {
            return Ok(false);
        }
        self.inner.move_marks(account, before, after, expires_at).await
    }
}

fn newest(record: &Record) -> Option<TxHash> {
    record.attempts.last().map(|attempt| attempt.tx_hash)
}

/// The key service, with the mutant's bug if there is one.
#[derive(Debug, Clone)]
pub struct MutantKeys {
    /// The fake behind it.
    pub inner: MemoryKeys,
    /// The planted bug.
    pub mutant: Option<Mutant>,
    /// How long a signature takes, in milliseconds.
    pub slow_ms: Arc<AtomicU64>,
    /// Used to delay slow calls.
    pub handle: ExecutorHandle,
}

impl Keys for MutantKeys {
    async fn public_key(&self, key: &KmsKeyId) -> Result<KeyAnswer, KeyCallError> {
        self.inner.public_key(key).await
    }

    async fn sign(&self, key: &KmsKeyId, hash: &SigningHash) -> Result<KmsSignature, KeyCallError> {
        match self.mutant {
            Some(Mutant::SignsTwice) => drop(self.inner.sign(key, hash).await?),
            Some(Mutant::ReadsKeyEachTime) => drop(self.inner.public_key(key).await?),
            Some(_) | None => {}
        }
        let slow_ms = self.slow_ms.load(Ordering::Relaxed);
        if slow_ms > 0 {
            self.handle.sleep(slow_ms).await;
        }
        let signed = self.inner.sign(key, hash).await?;
        let is_lost = self.mutant == Some(Mutant::LosesKmsRequestId);
        Ok(KmsSignature { request_id: signed.request_id.filter(|_| !is_lost), ..signed })
    }
}

/// The topic, with the mutant's bug if there is one.
#[derive(Debug, Clone)]
pub struct MutantTopic {
    /// The fake behind it.
    pub inner: MemoryTopic,
    /// The planted bug.
    pub mutant: Option<Mutant>,
}

impl OutcomeTopic for MutantTopic {
    async fn publish(&self, outcomes: &[OutcomeMessage]) -> Vec<Result<(), PortError>> {
        let mut outcomes = outcomes.to_vec();
        for outcome in &mut outcomes {
            match self.mutant {
                Some(Mutant::LosesMetadata) => outcome.metadata = None,
                Some(Mutant::LosesReason) => outcome.reason = None,
                Some(Mutant::SpeaksForOthers) => {
                    let named = outcome.reason.as_ref().and_then(|reason| reason.request_id.clone());
                    outcome.request_id = named.unwrap_or_else(|| outcome.request_id.clone());
                }
                Some(Mutant::TellsTheTime) if outcome.status == Status::Rejected => {
                    if let Some(reason) = &mut outcome.reason {
                        let copies = self.inner.copies().len();
                        reason.message = format!("{}; {copies} outcomes went out before", reason.message);
                    }
                }
                Some(_) | None => {}
            }
        }
        let answers = self.inner.publish(&outcomes).await;
        if self.mutant == Some(Mutant::NotesUnpublished) {
            return answers.iter().map(|_| Ok(())).collect();
        }
        let refused = |answer: &Result<(), PortError>| answer.as_ref().is_err_and(PortError::is_refused_for_good);
        if self.mutant == Some(Mutant::RefusedHoldsUpBatch) && answers.iter().any(refused) {
            let held_up = || PortError {
                operation: "PublishBatch",
                happened: Happened::Unknown,
                throttled: false,
                source: "blocked by another outcome".into(),
            };
            return answers.iter().map(|_| Err(held_up())).collect();
        }
        answers
    }
}

/// The chain, with the mutant's bug if there is one.
#[derive(Debug, Clone)]
pub struct MutantChain {
    /// The fake behind it.
    pub inner: MemoryChain,
    /// The planted bug.
    pub mutant: Option<Mutant>,
    /// For the mutant that gives nonces to the next request.
    pub store: MemoryStore,
    /// How long a node takes to replay a call or to find who used a nonce, in milliseconds.
    pub slow_ms: Arc<AtomicU64>,
    /// Used to delay slow calls.
    pub handle: ExecutorHandle,
}

impl MutantChain {
    async fn delay(&self) {
        match self.slow_ms.load(Ordering::Relaxed) {
            0 => {}
            slow_ms => self.handle.sleep(slow_ms).await,
        }
    }

    /// Frees the newest slot if these are its bytes.
    fn hand_on(&self, raw: &RawTx) {
        self.store.with_tables(|tables| {
            for head in tables.heads.values_mut() {
                let Some(last) = head.next_nonce.0.checked_sub(1).map(Nonce) else { continue };
                let Some(slot) = tables.slots.get(&(head.account, last)) else { continue };
                let ours = match tables.requests.get(&slot.request_id) {
                    Some(Stored::Record(record)) => record.attempt_of(raw.hash).is_some(),
                    Some(Stored::Rejected(_)) | None => false,
                };
                if ours && head.lowest_open_nonce <= last {
                    tables.slots.remove(&(head.account, last));
                    head.next_nonce = last;
                }
            }
        });
    }
}

impl MutantChain {
    fn mutated_word(&self, word: Corroboration) -> Corroboration {
        match (self.mutant, word) {
            (
                Some(Mutant::BelievesOneNode),
                Corroboration::Silent | Corroboration::NotYet | Corroboration::Contradicts,
            ) => Corroboration::Agrees,
            (Some(Mutant::BelievesTheFuture), Corroboration::NotYet) => Corroboration::Silent,
            (_, word) => word,
        }
    }
}

impl Chain for MutantChain {
    async fn chain_id(&self) -> Result<ChainId, PortError> {
        self.inner.chain_id().await
    }

    async fn view(&self, query: &ViewQuery) -> Result<ChainView, PortError> {
        let view = self.inner.view(query).await?;
        if self.mutant == Some(Mutant::OutcomeAtMined) {
            let found = view.receipts.iter().filter_map(|(nonce, receipt)| match receipt {
                ReceiptView::Found(receipt) => Some((*nonce, *receipt)),
                ReceiptView::Absent | ReceiptView::Unknown => None,
            });
            let finals = found.collect();
            return Ok(ChainView { finalized: view.latest, finalized_nonce: view.latest_nonce, finals, ..view });
        }
        Ok(view)
    }

    async fn send(&self, raw: &RawTx) -> SendAnswer {
        let answer = self.inner.send(raw).await;
        if self.mutant == Some(Mutant::NonceHandedOn) && answer.class == SendClass::Unknown {
            self.hand_on(raw);
        }
        answer
    }

    async fn revert_bytes(
        &self,
        from: Address,
        intent: &Intent,
        block: BlockRef,
    ) -> Result<Option<Vec<u8>>, PortError> {
        self.delay().await;
        self.inner.revert_bytes(from, intent, block).await
    }

    async fn witness(&self, query: &WitnessQuery) -> Vec<Corroboration> {
        let words = self.inner.witness(query).await;
        words.into_iter().map(|word| self.mutated_word(word)).collect()
    }

    async fn final_count(&self, address: Address) -> Result<(Nonce, Corroboration), PortError> {
        self.inner.final_count(address).await
    }

    async fn nonce_use(&self, query: &UseQuery) -> Result<NonceUse, PortError> {
        self.delay().await;
        Ok(match self.inner.nonce_use(query).await? {
            NonceUse::Found(used, word) => NonceUse::Found(used, self.mutated_word(word)),
            NonceUse::Ours(receipt, word) => NonceUse::Ours(receipt, self.mutated_word(word)),
            other @ (NonceUse::Unshown(_) | NonceUse::NotFound(_)) => other,
        })
    }

    async fn has_code(&self, address: Address) -> Result<bool, PortError> {
        self.inner.has_code(address).await
    }

    async fn balance(&self, address: Address) -> Result<Wei, PortError> {
        self.inner.balance(address).await
    }

    async fn counts(&self, address: Address) -> Result<Counts, PortError> {
        self.inner.counts(address).await
    }
}
