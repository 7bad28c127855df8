//! Signs one attempt: checks policy again, calls KMS, and stores the signature with a conditional write.

use tracing::Instrument as _;

use crate::account::Head;
use crate::machine::{Event, IllegalTransition, apply};
use crate::policy::{Policies, PolicyFacts};
use crate::ports::{KeyCallError, Keys, PortError, Store, UpdateVerdict};
use crate::record::{Attempt, AttemptKind, CancelCause, Phase, Reason, Record, Stored, WaitCause, Waiting};
use crate::request::Refused;
use crate::seal::{Sealer, Unsealed};
use crate::signature::SignatureError;
use crate::start::KeyTrouble;
use crate::tx::{Fee, UnsignedTx};
use crate::units::{AccountKey, ChainId, Millis, Wei};
use crate::unusable::KeyCall;
use crate::wire::SignerPoke;
use crate::{error_chain, fees, meters, text, trace};

use super::MAX_TRIES;
use super::standing::{AfterCheck, KeyEvidence, KeyWatch};

/// Why an attempt was not signed. The record is unchanged, and signing is tried again later.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// The store did not answer.
    #[error("the attempt could not be stored or read")]
    Store(#[source] PortError),
    /// The key service did not sign.
    #[error("the key service did not sign")]
    Keys(#[source] KeyCallError),
    /// The account's public key cannot be used.
    #[error("the account cannot be signed for")]
    Key(#[source] KeyTrouble),
    /// The key service returned something that is not a signature by the account's key.
    #[error("the key service returned a signature that does not verify")]
    Signature(#[source] SignatureError),
    /// The state machine refused the step: a defect.
    #[error("the attempt is not allowed in the state of the record")]
    Machine(#[source] IllegalTransition),
    /// Another worker changed the record first, in all tries.
    #[error("other workers changed the record in all tries")]
    Contended,
    /// The record is gone.
    #[error("the record is gone")]
    Gone,
    /// The record does not have a valid seal.
    #[error("the record is not signed")]
    Unsealed(#[source] Unsealed),
}

/// Signs attempts. Needs the store and the key service.
pub(super) struct Attempts<'a, S, K> {
    pub(super) watch: KeyWatch<'a, S, K>,
    pub(super) sealer: &'a Sealer,
    pub(super) policies: &'a Policies,
    pub(super) chain_id: ChainId,
}

impl<S: Store, K: Keys> Attempts<'_, S, K> {
    /// Signs attempt 0 of a reserved record. A record that has one is returned unchanged.
    pub(super) async fn first_attempt(
        &self,
        mut record: Record,
        head: &Head,
        to_self: Wei,
        now: Millis,
    ) -> Result<Record, AttemptError> {
        for _ in 0..MAX_TRIES {
            // Nothing is signed for a paused account (I14) or with an unusable key. The broadcaster asks again.
            if record.phase != Phase::Reserved || head.paused || head.unusable.is_some() {
                return Ok(record);
            }
            let checked = self.check_seal(&record, head, now).await?;
            if let Some(cause) = self.refusal_before_signing(&record, now) {
                record = write(self.watch.store, &record, &Event::CancelAsked(cause), now).await?.into_record();
                continue;
            }
            let fee = self.first_fee(&record);
            record = match self.sign_and_store(checked, head, fee, to_self, now).await? {
                Written::Ours(record) => return Ok(record),
                // Another worker was first, or a cancel was written: continue with the stored record.
                Written::Theirs(record) => record,
            };
        }
        Err(AttemptError::Contended)
    }

    /// Checks that a signer accepted this record for this account (I17). If not, logs it and notes it on the record.
    async fn check_seal<'r>(
        &self,
        record: &'r Record,
        head: &Head,
        now: Millis,
    ) -> Result<SealChecked<'r>, AttemptError> {
        let Err(fault) = self.sealer.check(record, &head.name) else { return Ok(SealChecked(record)) };
        metrics::counter!(meters::UNSEALED, "account" => record.account.to_string(), "fault" => fault.as_str())
            .increment(1);
        tracing::error!(error = error_chain(&fault), request_id = %record.request_id, account = %record.account, nonce = %record.nonce,
            "the record is not signed: it is not as a signer accepted it; someone else wrote it, or the seal's key is another");
        let is_noted = record.waiting.is_some_and(|waiting| waiting.cause == WaitCause::Seal);
        if !is_noted && record.phase.settlement().is_none() {
            let waits = Event::Waits(Waiting { cause: WaitCause::Seal, since: record.moved_at() });
            if let Err(error) = write(self.watch.store, record, &waits, now).await {
                tracing::warn!(error = error_chain(&error), request_id = %record.request_id,
                    "the record could not be marked as waiting for its seal");
            }
        }
        Err(AttemptError::Unsealed(fault))
    }

    /// Checks policy and deadline again, because they may have changed since the reservation (I9).
    fn refusal_before_signing(&self, record: &Record, now: Millis) -> Option<CancelCause> {
        if record.cancel.is_some() {
            return None;
        }
        if record.deadline.is_some_and(|deadline| now >= deadline) {
            return Some(CancelCause::Deadline);
        }
        self.policy_refuses(record, record.fee, now).map(|refused| {
            tracing::warn!(request_id = %record.request_id, code = %refused.code, "policy refuses what it allowed at the reservation; the slot is cancelled");
            CancelCause::Policy(Reason {
                code: refused.code.as_str().to_owned(),
                message: refused.message,
                revert: None,
                request_id: None,
            })
        })
    }

    /// The price of attempt 0. A cancel replaces no transaction here, so it respects a cap that was lowered since.
    fn first_fee(&self, record: &Record) -> Fee {
        match record.next_kind() {
            AttemptKind::Cancel => fees::at_most(record.fee, self.cancel_cap(record)),
            AttemptKind::Execute => record.fee,
        }
    }

    fn policy_refuses(&self, record: &Record, fee: Fee, now: Millis) -> Option<Refused> {
        let facts = PolicyFacts {
            intent: &record.intent,
            fee,
            fee_cap: record.fee_cap,
            sender: record.sender.as_deref(),
            deadline: record.deadline,
            now,
        };
        self.policies.of(&record.name).and_then(|policy| policy.check(&facts)).err()
    }

    /// Makes one KMS signature, verifies it, and stores it if no other was stored first (G6).
    async fn sign_and_store(
        &self,
        SealChecked(record): SealChecked<'_>,
        head: &Head,
        fee: Fee,
        to_self: Wei,
        now: Millis,
    ) -> Result<Written, AttemptError> {
        let span = trace::step!("sign", record);
        span.record("attempt", record.attempts.len());
        let result = self.sign_and_store_in_its_span(record, head, fee, to_self, now).instrument(span).await;
        self.watch.note_signing(head, key_evidence(&result), now).await;
        result
    }

    async fn sign_and_store_in_its_span(
        &self,
        record: &Record,
        head: &Head,
        fee: Fee,
        to_self: Wei,
        now: Millis,
    ) -> Result<Written, AttemptError> {
        assert_eq!(head.account, record.account, "the key of a record's own account signs for it");
        let key = self.watch.account_key(head).await.map_err(AttemptError::Key)?;
        let kind = record.next_kind();
        let to_self = match kind {
            AttemptKind::Execute => Wei::ZERO,
            AttemptKind::Cancel => to_self,
        };
        let intent = record.intent_of(kind, to_self);
        let unsigned = UnsignedTx { intent: &intent, nonce: record.nonce, fee };
        let hash = unsigned.signing_hash();
        let signed = self.watch.keys.sign(&head.kms_key_id, &hash).await.map_err(AttemptError::Keys)?;
        let kms_request_id = signed.request_id.map(|id| text::plain_within(&id, Attempt::KMS_REQUEST_ID_CHARS));
        let signature = key.signature(&hash, &signed.der).map_err(|error| {
            tracing::warn!(kms_request_id, "KMS returned something that is not a valid signature by its key");
            AttemptError::Signature(error)
        })?;
        let attempt = Attempt {
            kind,
            to_self,
            fee,
            signature,
            tx_hash: unsigned.sign(&signature).hash,
            signed_at: now,
            kms_request_id,
            sent: None,
        };
        tracing::Span::current().record("tx_hash", tracing::field::display(attempt.tx_hash));
        let written = self.store_attempt(record, &attempt, now).await;
        note_signature(&attempt, &written);
        written
    }

    /// Stores a signature if no other was stored first.
    async fn store_attempt(&self, record: &Record, attempt: &Attempt, now: Millis) -> Result<Written, AttemptError> {
        let kind = attempt.kind;
        let number = record.attempts.len();
        let signed = Event::Signed { number, attempt: attempt.clone() };
        let mut written = write(self.watch.store, record, &signed, now).await?;
        // If only a note was written meanwhile, the signature is still valid, so no second one is made (G6).
        for _ in 0..MAX_TRIES {
            let Written::Theirs(theirs) = &written else { break };
            if theirs.attempts.len() != number || theirs.next_kind() != kind || apply(theirs, &signed, now).is_err() {
                break;
            }
            written = write(self.watch.store, &theirs.clone(), &signed, now).await?;
        }
        Ok(written)
    }

    /// Signs the requested attempt if the record still needs exactly this one. Returns whether to poke the lane.
    pub(super) async fn answer_ask(&self, ask: &SignerPoke, now: Millis) -> Result<bool, AttemptError> {
        let Ok(id) = ask.request_id.parse() else { return Ok(false) };
        let stored = self.watch.store.load(&[id], now).await.map_err(AttemptError::Store)?;
        let Some(Stored::Record(record)) = stored.into_iter().next() else { return Ok(false) };
        if self.is_of_other_chain(&record.account) {
            return Ok(false);
        }
        let Some(mut head) = self.watch.store.head(&record.account).await.map_err(AttemptError::Store)? else {
            return Ok(false);
        };
        if head.paused || record.attempts.len() != ask.attempt || record.next_kind() != AttemptKind::from(ask.kind) {
            // Signed before, or no longer needed.
            return Ok(!record.is_closed());
        }
        self.watch.refresh(&mut head, AfterCheck::Signature, now).await;
        if head.unusable.is_some() {
            // The broadcaster asks again while the slot is open.
            return Ok(false);
        }
        // The broadcaster knows from the chain whether the account has code, and whether it can pay 1 wei.
        let to_self = if ask.to_self == 1 { Wei::from(1) } else { Wei::ZERO };
        match record.phase {
            Phase::Reserved => self.first_attempt(*record, &head, to_self, now).await.map(|_| true),
            Phase::Signed | Phase::Sent => {
                let Some(fee) = ask.fee.as_ref().and_then(crate::wire::WireFee::fee) else { return Ok(false) };
                let Some(fee) = self.replacement(&record, fee, now) else { return Ok(false) };
                let checked = self.check_seal(&record, &head, now).await?;
                self.sign_and_store(checked, &head, fee, to_self, now).await.map(|_| true)
            }
            Phase::Mined(_) | Phase::Settled(_) => Ok(true),
        }
    }

    /// The price of the requested replacement, within the current caps and by the nodes' replacement rule (I9). `None`
    /// if nothing can replace the newest attempt now: then the broadcaster continues to send that one.
    fn replacement(&self, record: &Record, wanted: Fee, now: Millis) -> Option<Fee> {
        let newest = record.attempts.last()?;
        let (cap, fee) = match record.next_kind() {
            AttemptKind::Execute => {
                let allowed = self.policies.of(&record.name).map_or(Wei::ZERO, |policy| policy.max_gas_price);
                let cap = allowed.min(record.fee_cap);
                (cap, fees::replacement(newest.fee, wanted, cap))
            }
            AttemptKind::Cancel => {
                let cap = self.cancel_cap(record);
                let fee = match newest.kind {
                    AttemptKind::Execute => {
                        let fee = fees::first_cancel(wanted, cap);
                        if fee.is_some_and(|fee| !fees::is_legal_bump(newest.fee, fee)) {
                            tracing::warn!(request_id = %record.request_id, newest = %newest.fee.price(), %cap,
                                "no cancel within policy max_gas_price_wei replaces the newest attempt in a node that has it; raise it by a tenth above that");
                        }
                        fee
                    }
                    AttemptKind::Cancel => fees::replacement(newest.fee, wanted, cap),
                };
                (cap, fee)
            }
        };
        let Some(fee) = fee else {
            tracing::warn!(request_id = %record.request_id, newest = %newest.fee.price(), wanted = %wanted.price(), %cap,
                "no legal replacement within today's cap; the newest attempt stays");
            return None;
        };
        if record.next_kind() == AttemptKind::Execute
            && let Some(refused) = self.policy_refuses(record, fee, now)
        {
            tracing::warn!(request_id = %record.request_id, code = %refused.code, "policy refuses to replace what it allowed; the newest attempt stays");
            return None;
        }
        Some(fee)
    }

    /// The maximum price of a cancel: the current cap. If policy no longer allows anything (no rules, or a cap of 0),
    /// it is the price of the newest attempt or of the request, which policy allowed earlier: the slot must be closed,
    /// and nothing is signed for it at a higher price.
    fn cancel_cap(&self, record: &Record) -> Wei {
        let signed = record.attempts.last().map_or(record.fee, |newest| newest.fee).price();
        let today = self.policies.of(&record.name).map_or(Wei::ZERO, |policy| policy.max_gas_price);
        if today == Wei::ZERO { signed } else { today }
    }

    /// Whether a lane belongs to another Signpost (I16). Reports it to the operator, because the queues are mixed up.
    fn is_of_other_chain(&self, account: &AccountKey) -> bool {
        let other = account.chain_id != self.chain_id;
        if other {
            metrics::counter!(meters::OTHER_CHAIN, "message" => "ask").increment(1);
            tracing::warn!(%account, chain_id = %self.chain_id,
                "an ask for an account of another chain is dropped; two Signposts share the resign queue");
        }
        other
    }
}

/// A record with a valid seal. Only such a record is signed.
struct SealChecked<'r>(&'r Record);

/// Logs one line for each signature from KMS, also if it is not stored, so that each event in the audit trail of KMS
/// has a line here.
fn note_signature(attempt: &Attempt, written: &Result<Written, AttemptError>) {
    let kind = attempt.kind.name();
    let kms_request_id = attempt.kms_request_id.as_deref();
    match written {
        Ok(Written::Ours(_)) => {
            metrics::counter!(meters::SIGNED, "kind" => kind).increment(1);
            tracing::info!(kind, kms_request_id, "signed");
        }
        Ok(Written::Theirs(_)) => {
            tracing::info!(kind, kms_request_id, "signed and discarded: the record changed meanwhile");
        }
        Err(_) => tracing::info!(kind, kms_request_id, "signed; it is not known whether it is stored"),
    }
}

/// Applies an event and stores the result if the record has not changed since it was read.
pub(super) async fn write(
    store: &impl Store,
    record: &Record,
    event: &Event,
    now: Millis,
) -> Result<Written, AttemptError> {
    let next = apply(record, event, now).map_err(AttemptError::Machine)?;
    match store.update(&next).await.map_err(AttemptError::Store)? {
        UpdateVerdict::Stored => Ok(Written::Ours(next)),
        UpdateVerdict::Stale(theirs) => Ok(Written::Theirs(*theirs)),
        UpdateVerdict::Gone => Err(AttemptError::Gone),
    }
}

/// What the result of an attempt shows about the account's key.
fn key_evidence(result: &Result<Written, AttemptError>) -> KeyEvidence {
    match result {
        Ok(_) => KeyEvidence::Works,
        Err(AttemptError::Keys(error)) => {
            error.fault.map_or(KeyEvidence::Nothing, |fault| KeyEvidence::Fault(fault, KeyCall::Sign))
        }
        Err(AttemptError::Key(trouble)) => {
            trouble.fault().map_or(KeyEvidence::Nothing, |fault| KeyEvidence::Fault(fault, KeyCall::Read))
        }
        Err(AttemptError::Signature(_)) => KeyEvidence::OtherKey,
        Err(
            AttemptError::Store(_)
            | AttemptError::Machine(_)
            | AttemptError::Contended
            | AttemptError::Gone
            | AttemptError::Unsealed(_),
        ) => KeyEvidence::Nothing,
    }
}

/// The result of a conditional write.
pub(super) enum Written {
    /// Our write succeeded: the record as stored.
    Ours(Record),
    /// Another write came first: the record as it is stored now.
    Theirs(Record),
}

impl Written {
    pub(super) fn into_record(self) -> Record {
        match self {
            Self::Ours(record) | Self::Theirs(record) => record,
        }
    }
}
