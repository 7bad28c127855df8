//! What may be signed, stored and sent: I1, I2, I3, I9, I10, I14.

use signpost_txmgr::record::{Attempt, AttemptKind, Record};
use signpost_txmgr::signature::recover;
use signpost_txmgr::tx::{Fee, RawTx, UnsignedTx};
use signpost_txmgr::units::{Millis, RequestId, SigningHash, U256, Wei, keccak256};
use signpost_txmgr::wire::SignerPoke;

use super::Auditor;
use crate::world::{ALLOWED, CAP_GWEI, caches};

impl Auditor {
    fn signing_hash(record: &Record, kind: AttemptKind, fee: Fee) -> SigningHash {
        let intent = record.intent_of(kind);
        UnsignedTx { intent: &intent, nonce: record.nonce, fee }.signing_hash()
    }

    /// From now on this may be signed.
    pub(super) fn allow(&mut self, record: &Record, kind: AttemptKind, fee: Fee) {
        let permitted = record.intent.to.is_none_or(|to| ALLOWED.contains(&to));
        let fee = if kind == AttemptKind::Cancel { at_most_cap(fee) } else { fee };
        if permitted && fee.price() <= Wei::from_gwei(CAP_GWEI) {
            self.signable.insert(Self::signing_hash(record, kind, fee), record.request_id.clone());
        }
    }

    pub(super) fn note_ask(&mut self, poke: &SignerPoke) {
        let id: Option<RequestId> = poke.request_id.parse().ok();
        let Some(record) = id.and_then(|id| self.records.get(&id)).cloned() else { return };
        let fee = poke.fee.as_ref().map_or(Some(record.fee), signpost_txmgr::wire::WireFee::fee);
        if let Some(fee) = fee {
            self.allow(&record, poke.kind.into(), fee);
        }
    }

    pub(super) fn kms_signed(&mut self, hash: SigningHash, now: Millis) {
        self.signed.insert(hash);
        let record = self.signable.get(&hash).and_then(|id| self.records.get(id)).cloned();
        let Some(record) = record else {
            return self.check(false, "I9", || format!("{hash} was signed, which nobody asked for or policy refuses"));
        };
        let paused_at = self.lanes.get(&record.account).and_then(|lane| lane.paused_at);
        let late = paused_at.is_some_and(|at| now.since(at) > Self::PAUSE_GRACE_MS);
        self.check(!late, "I14", || format!("{} was signed while its account is paused", record.request_id));
    }

    pub(super) fn judge_attempts(&mut self, old: &Record, new: &Record) {
        let id = &new.request_id;
        let kept = new.attempts.len() >= old.attempts.len()
            && old.attempts.iter().zip(&new.attempts).all(|(old, new)| is_same(old, new));
        self.check(kept, "I2", || format!("{id}: a stored attempt was changed or lost"));
        for (number, attempt) in new.attempts.iter().enumerate().skip(old.attempts.len()) {
            let before = number.checked_sub(1).and_then(|before| new.attempts.get(before));
            self.judge_attempt(new, attempt, before);
        }
        let owner = self.slots.get(&(new.account, new.nonce)).cloned();
        self.check(owner.as_ref() == Some(id), "I1", || {
            format!("{id} was signed for nonce {} of {owner:?}", new.nonce)
        });
    }

    fn judge_attempt(&mut self, record: &Record, attempt: &Attempt, before: Option<&Attempt>) {
        let id = &record.request_id;
        let hash = Self::signing_hash(record, attempt.kind, attempt.fee);
        let signed = self.signed.contains(&hash);
        self.check(signed, "I2", || format!("{id}: an attempt is stored that the key service did not sign"));
        self.check(record.raw(attempt).is_some(), "I3", || format!("{id}: an attempt's bytes do not hash to its hash"));
        let senders = caches().1;
        let sender =
            *senders.lock().unwrap().entry(attempt.tx_hash).or_insert_with(|| recover(&hash, &attempt.signature));
        self.check(sender == Some(record.account.address), "I10", || {
            format!("{id}: an attempt recovers to {sender:?}")
        });
        if let Some(before) = before {
            let back = before.kind == AttemptKind::Cancel && attempt.kind == AttemptKind::Execute;
            self.check(!back, "I2", || format!("{id} was to be cancelled and is executed again"));
            // A first cancel may go at the cap, where a bump would be above it.
            let raised = before.kind != attempt.kind || raised(before.fee, attempt.fee);
            self.check(raised, "I2", || format!("{id}: {:?} does not replace {:?}", attempt.fee, before.fee));
        }
        if attempt.kind == AttemptKind::Execute {
            self.check(attempt.fee.price() <= record.fee_cap, "I9", || format!("{id}: an attempt above its cap"));
        }
        self.attempts.insert(attempt.tx_hash, id.clone());
    }

    pub(super) fn note_sent(&mut self, raw: &RawTx) {
        let stored = self.attempts.contains_key(&raw.hash);
        self.check(stored, "I3", || format!("{} was sent and is not stored", raw.hash));
        self.check(keccak256(&raw.bytes) == raw.hash.0, "I3", || format!("other bytes than {} were sent", raw.hash));
        self.sent.insert(raw.hash);
    }
}

/// The same signed transaction; only the note of its sending may differ.
fn is_same(old: &Attempt, new: &Attempt) -> bool {
    let sent_kept =
        old.sent.is_none() || old.sent.as_ref().map(|sent| sent.at) == new.sent.as_ref().map(|sent| sent.at);
    let (mut old, mut new) = (old.clone(), new.clone());
    (old.sent, new.sent) = (None, None);
    old == new && sent_kept
}

/// What a cancel may be signed at where a bump is above the cap.
fn at_most_cap(fee: Fee) -> Fee {
    let cap = Wei::from_gwei(CAP_GWEI);
    match fee {
        Fee::Legacy { gas_price } => Fee::Legacy { gas_price: gas_price.min(cap) },
        Fee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas } => Fee::Dynamic {
            max_fee_per_gas: max_fee_per_gas.min(cap),
            max_priority_fee_per_gas: max_priority_fee_per_gas.min(cap),
        },
    }
}

/// A node takes `new` in place of `old`: 10 % more of everything.
fn raised(old: Fee, new: Fee) -> bool {
    let more = |old: Wei, new: Wei| new > old && new.0 * U256::from(100) >= old.0 * U256::from(110);
    match (old, new) {
        (Fee::Legacy { gas_price: old }, Fee::Legacy { gas_price: new }) => more(old, new),
        (
            Fee::Dynamic { max_fee_per_gas: old, max_priority_fee_per_gas: old_tip },
            Fee::Dynamic { max_fee_per_gas: new, max_priority_fee_per_gas: new_tip },
        ) => more(old, new) && more(old_tip, new_tip),
        (Fee::Legacy { .. }, Fee::Dynamic { .. }) | (Fee::Dynamic { .. }, Fee::Legacy { .. }) => false,
    }
}
