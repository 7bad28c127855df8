//! What may be signed, stored and sent: I1, I2, I3, I9, I10, I14, G6, and the stored evidence of each signature.

use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};
use signpost_txmgr::record::{Attempt, AttemptKind, Phase, Record};
use signpost_txmgr::tx::{Fee, RawTx};
use signpost_txmgr::units::{Address, Millis, Nonce, RequestId, SigningHash, U256};
use signpost_txmgr::wire::{SignerPoke, WireFee, WireKind};

use super::Auditor;
use super::actors::Actor;
use super::asked::cancel;
use super::encoding::{Price, Unsigned, keccak};
use crate::deployment::{RuleSet, caches};

/// A transaction that may be signed.
#[derive(Debug, Clone)]
pub(super) struct Signable {
    pub(super) id: RequestId,
    pub(super) kind: AttemptKind,
    pub(super) price: Price,
    pub(super) to: Option<[u8; 20]>,
}

/// A stored transaction.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: RequestId,
    pub(super) kind: AttemptKind,
    pub(super) unsigned: Unsigned,
}

/// How long a signer may still sign by the rules it was started with after they changed, in milliseconds.
const RULES_GRACE_MS: u64 = 30_000;

pub(super) fn price_of(fee: Fee) -> Price {
    match fee {
        Fee::Legacy { gas_price } => Price::Legacy(gas_price.0),
        Fee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas } => {
            Price::Dynamic(max_fee_per_gas.0, max_priority_fee_per_gas.0)
        }
    }
}

impl Auditor {
    /// The transactions that may be signed for a record at a price. There are two cancels: of 0 wei and of 1 wei.
    fn unsigned(&self, record: &Record, kind: AttemptKind, price: Price) -> Vec<Unsigned> {
        let Some(wanted) = self.wanted.get(&record.request_id) else { return Vec::new() };
        match kind {
            AttemptKind::Execute => vec![wanted.execute(&record.account, record.nonce.0, price)],
            AttemptKind::Cancel => [0, 1].map(|wei| cancel(&record.account, record.nonce.0, price, wei)).to_vec(),
        }
    }

    /// Allows signatures of this attempt at this price, and at this price limited to the cap of each rule set.
    pub(super) fn allow(&mut self, record: &Record, kind: AttemptKind, price: Price) {
        let caps = RuleSet::ALL.map(|rule_set| U256::from(rule_set.cap_gwei()) * U256::from(1_000_000_000_u64));
        let prices = caps.into_iter().map(|cap| price.at_most(cap)).chain([price]);
        for price in prices {
            for unsigned in self.unsigned(record, kind, price) {
                let signable = Signable { id: record.request_id.clone(), kind, price, to: unsigned.to };
                self.signable.insert(SigningHash(unsigned.signing_hash()), signable);
            }
        }
    }

    pub(super) fn note_ask(&mut self, poke: &SignerPoke) {
        let id: Option<RequestId> = poke.request_id.parse().ok();
        let Some(record) = id.and_then(|id| self.records.get(&id)).cloned() else { return };
        let wei = |digits: &String| U256::from_dec_str(digits).unwrap_or_default();
        let price = match &poke.fee {
            None => price_of(record.fee),
            Some(WireFee::Legacy { gas_price }) => Price::Legacy(wei(gas_price)),
            Some(WireFee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas }) => {
                Price::Dynamic(wei(max_fee_per_gas), wei(max_priority_fee_per_gas))
            }
        };
        let kind = match poke.kind {
            WireKind::Execute => AttemptKind::Execute,
            WireKind::Cancel => AttemptKind::Cancel,
        };
        self.allow(&record, kind, price);
    }

    pub(super) fn kms_signed(&mut self, actor: Actor, hash: SigningHash, now: Millis) {
        self.signed.insert(hash);
        self.count_signature(actor, hash);
        let Some(signable) = self.signable.get(&hash).cloned() else {
            return self.check(false, "I9", || format!("{hash} was signed and was not requested"));
        };
        let Some(record) = self.records.get(&signable.id).cloned() else { return };
        let id = &record.request_id;
        let own = actor.chain.is_none_or(|chain| chain == record.account.chain_id.0);
        self.check(own, "I16", || format!("{} signed for {id} of {}", actor.name, record.account));
        let paused_at = self.lanes.get(&record.account).and_then(|lane| lane.paused_at);
        let late = paused_at.is_some_and(|at| now.since(at) > Self::PAUSE_GRACE_MS);
        self.check(!late, "I14", || format!("{id} was signed while its account is paused"));
        let since = Millis(now.0.saturating_sub(RULES_GRACE_MS));
        let most = signable.price.most();
        let allowed = match signable.kind {
            AttemptKind::Execute => self.any_rule_set(Some(since), |rule_set| {
                let cap = U256::from(rule_set.cap_gwei()) * U256::from(1_000_000_000_u64);
                rule_set.allows(signable.to) && most <= cap
            }),
            // A slot must be closable, so a cancel is allowed within the highest cap, whatever the rules are now.
            AttemptKind::Cancel => !most.is_zero() && most <= Self::cap(),
        };
        self.check(allowed, "I9", || {
            format!("{id} was signed as {:?} at {most} wei, which policy refuses", signable.kind)
        });
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
        let price = price_of(attempt.fee);
        // Of the two cancels, the one whose bytes have the stored hash.
        let possible = self.unsigned(record, attempt.kind, price);
        let (r, s, y_odd) = (&attempt.signature.r, &attempt.signature.s, attempt.signature.y_odd);
        let is_it = |unsigned: &&Unsigned| keccak(&unsigned.signed(r, s, y_odd)) == attempt.tx_hash.0;
        let Some(unsigned) = possible.iter().find(is_it).or(possible.first()).cloned() else { return };
        let hash = unsigned.signing_hash();
        let signed = self.signed.contains(&SigningHash(hash));
        self.check(signed, "I2", || format!("{id}: an attempt is stored that the key service did not sign"));
        let call = attempt.kms_request_id.clone();
        let is_traced = call.is_some_and(|call| self.calls.contains(&(SigningHash(hash), call)));
        self.check(is_traced, "evidence", || format!("{id}: an attempt does not name the call that signed it"));
        let is_hash = keccak(&unsigned.signed(r, s, y_odd)) == attempt.tx_hash.0;
        self.check(is_hash, "I3", || format!("{id}: an attempt's bytes do not hash to its hash"));
        let senders = caches().1;
        let sender = *senders.lock().unwrap().entry(attempt.tx_hash).or_insert_with(|| signer_of(&hash, r, s, y_odd));
        self.check(sender == Some(record.account.address), "I10", || {
            format!("{id}: an attempt recovers to {sender:?}")
        });
        if let Some(before) = before {
            let back = before.kind == AttemptKind::Cancel && attempt.kind == AttemptKind::Execute;
            self.check(!back, "I2", || format!("{id} was to be cancelled and is executed again"));
            // A first cancel may be priced at the cap where a full bump would exceed it.
            let raised = before.kind != attempt.kind || price.replaces(price_of(before.fee));
            self.check(raised, "I2", || format!("{id}: {:?} does not replace {:?}", attempt.fee, before.fee));
        }
        if attempt.kind == AttemptKind::Execute {
            self.check(price.most() <= record.fee_cap.0, "I9", || format!("{id}: an attempt above its cap"));
        }
        let known = Known { id: id.clone(), kind: attempt.kind, unsigned };
        self.attempts.insert(attempt.tx_hash, known);
    }

    pub(super) fn note_sent(&mut self, actor: Actor, raw: &RawTx) {
        let Some(known) = self.attempts.get(&raw.hash).cloned() else {
            return self.check(false, "I3", || format!("{} was sent and is not stored", raw.hash));
        };
        let id = &known.id;
        self.check(keccak(&raw.bytes) == raw.hash.0, "I3", || format!("other bytes than {} were sent", raw.hash));
        let decoded = Unsigned::of_signed(&raw.bytes);
        self.check(decoded.as_ref() == Some(&known.unsigned), "I2", || {
            format!("{id}: {decoded:?} was sent as {:?}, not {:?}", known.kind, known.unsigned)
        });
        let own = actor.chain.is_none_or(|chain| chain == known.unsigned.chain_id);
        self.check(own, "I16", || {
            format!("{id}: bytes of chain {} went to {:?}", known.unsigned.chain_id, actor.chain)
        });
        self.judge_order(id);
        self.sent.insert(raw.hash);
    }

    /// No transaction is sent above an unsent slot, unless that slot's nonce was used by a foreign transaction, or a
    /// node lies about that. In that case the transaction waits in the pools.
    fn judge_order(&mut self, id: &RequestId) {
        let Some(record) = self.records.get(id) else { return };
        let (account, nonce) = (record.account, record.nonce);
        let Some(lane) = self.lanes.get(&account) else { return };
        let chain = self.chains.get(&account.chain_id.0);
        let was_sent = |below: &Record| {
            matches!(below.phase, Phase::Settled(_)) || below.attempts.iter().any(|at| self.sent.contains(&at.tx_hash))
        };
        let is_open = |below: &u64| {
            let slot = self.slots.get(&(account, Nonce(*below))).and_then(|id| self.records.get(id));
            let used = || chain.is_some_and(|chain| chain.was_used(account.address, Nonce(*below)));
            slot.is_some_and(|slot| !was_sent(slot)) && !used()
        };
        let unsent = (lane.lowest_open.0..nonce.0).find(is_open);
        self.check(unsent.is_none() || self.node_lies, "order", || {
            format!("{id} at {nonce} was sent above nonce {unsent:?}, which was not")
        });
    }
}

/// The address that a signature with a low `s` recovers to.
fn signer_of(hash: &[u8; 32], r: &[u8; 32], s: &[u8; 32], y_odd: bool) -> Option<Address> {
    let signature = Signature::from_scalars(*r, *s).ok()?;
    if signature.normalize_s() != signature {
        return None;
    }
    let key = VerifyingKey::recover_from_prehash(hash, &signature, RecoveryId::new(y_odd, false)).ok()?;
    let hash = keccak(&key.to_sec1_point(false).as_bytes()[1..]);
    let mut address = [0; 20];
    address.copy_from_slice(&hash[12..]);
    Some(Address(address))
}

/// Whether both are the same signed transaction; only the record of its sending may differ.
fn is_same(old: &Attempt, new: &Attempt) -> bool {
    let sent_kept =
        old.sent.is_none() || old.sent.as_ref().map(|sent| sent.at) == new.sent.as_ref().map(|sent| sent.at);
    let (mut old, mut new) = (old.clone(), new.clone());
    (old.sent, new.sent) = (None, None);
    old == new && sent_kept
}
