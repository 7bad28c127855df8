//! The auditor: knows from the journal what must be, and judges I1–I14 of every write and send.
//!
//! It keeps a model of its own, written apart from the drivers and the machine, and asks only the
//! chain for the truth. It never changes anything. Read next: [`crate::simulation`].

mod at_end;
mod attempts;
mod messages;
mod spending;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use signpost_txmgr::fake::{Entry, MemoryChain};
use signpost_txmgr::record::{AttemptKind, Phase, Record, Rejected, Settlement, Verdict};
use signpost_txmgr::units::{AccountKey, Digest, Millis, Nonce, RequestId, SigningHash, TxHash};
use signpost_txmgr::wire::{OutcomeMessage, Status};

use self::spending::Spending;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// `I1` to `I14`, by the design's numbers.
    pub invariant: &'static str,
    /// What was seen.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.text)
    }
}

#[derive(Debug)]
struct LaneModel {
    start: Nonce,
    next: Nonce,
    lowest_open: Nonce,
    paused_at: Option<Millis>,
    spending: Option<Spending>,
    /// Moved on past nonces somebody else used.
    skipped: Vec<(Nonce, Nonce)>,
}

/// A message of the signing queue, as it was put there.
#[derive(Debug)]
struct Asked {
    message_id: String,
    what: Ask,
}

#[derive(Debug)]
enum Ask {
    /// With the account it names, none if any of a pool will do, and its digest.
    Sign(RequestId, Option<(Option<AccountKey>, Digest)>),
    /// The request it names, and its own id.
    Cancel(RequestId, RequestId),
    Bad(RequestId),
}

/// The model, and what did not fit it.
#[derive(Debug)]
pub struct Auditor {
    accounts: BTreeMap<AccountKey, &'static str>,
    spend_window_s: Option<u64>,
    lanes: BTreeMap<AccountKey, LaneModel>,
    records: BTreeMap<RequestId, Record>,
    rejected: BTreeMap<RequestId, Vec<Rejected>>,
    slots: BTreeMap<(AccountKey, Nonce), RequestId>,
    /// What may be signed: attempt 0 of every record, and what the signer was asked for.
    signable: HashMap<SigningHash, RequestId>,
    signed: HashSet<SigningHash>,
    attempts: HashMap<TxHash, RequestId>,
    sent: HashSet<TxHash>,
    published: BTreeMap<RequestId, Vec<OutcomeMessage>>,
    asked: Vec<Asked>,
    violations: Vec<Violation>,
}

impl Auditor {
    /// How long after a pause a signature may still come that was asked for before it.
    const PAUSE_GRACE_MS: u64 = 15_000;

    /// An auditor that knows these accounts and their names, and how long a spend window is.
    #[must_use]
    pub fn new(accounts: BTreeMap<AccountKey, &'static str>, spend_window_s: Option<u64>) -> Self {
        Self {
            accounts,
            spend_window_s,
            lanes: BTreeMap::new(),
            records: BTreeMap::new(),
            rejected: BTreeMap::new(),
            slots: BTreeMap::new(),
            signable: HashMap::new(),
            signed: HashSet::new(),
            attempts: HashMap::new(),
            sent: HashSet::new(),
            published: BTreeMap::new(),
            asked: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// What did not hold so far.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// The records as last written.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Rejected outcomes, copies included.
    #[must_use]
    pub fn rejections(&self) -> u64 {
        let copies = self.published.values().flatten().filter(|copy| copy.status == Status::Rejected);
        u64::try_from(copies.count()).unwrap()
    }

    fn check(&mut self, holds: bool, invariant: &'static str, text: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(Violation { invariant, text: text() });
        }
    }

    /// Judges one thing that happened.
    pub fn note(&mut self, entry: &Entry, chain: &MemoryChain, now: Millis) {
        match entry {
            Entry::Registered(head) => {
                let lane = LaneModel {
                    start: head.next_nonce,
                    next: head.next_nonce,
                    lowest_open: head.lowest_open_nonce,
                    paused_at: None,
                    spending: None,
                    skipped: Vec::new(),
                };
                self.lanes.insert(head.account, lane);
            }
            Entry::Paused(account, paused) => {
                if let Some(lane) = self.lanes.get_mut(account) {
                    lane.paused_at = paused.then_some(lane.paused_at.unwrap_or(now));
                }
            }
            Entry::Retired(account) => {
                if let Some(lane) = self.lanes.get_mut(account) {
                    lane.paused_at = Some(lane.paused_at.unwrap_or(now));
                }
            }
            Entry::Unregistered(account) => {
                self.lanes.remove(account);
            }
            Entry::NonceSet(account, from, to) => {
                if let Some(lane) = self.lanes.get_mut(account) {
                    (lane.next, lane.lowest_open) = (*to, *to);
                    lane.skipped.push((*from, *to));
                }
            }
            Entry::FastForwarded(account, from, to) => self.fast_forwarded(*account, *from, *to, chain),
            Entry::Reserved(records) => records.iter().for_each(|record| self.reserved(record)),
            Entry::Rejected(rejected) => self.note_rejected(rejected),
            Entry::Updated(record) => self.updated(record, chain),
            Entry::LeftSlots(account, from, to) => self.left_slots(*account, *from, *to),
            Entry::KmsSigned(_, hash) => self.kms_signed(*hash, now),
            Entry::Sent(raw) => self.note_sent(raw),
            Entry::Published(outcome) => self.note_published(outcome),
            Entry::PokedSigner(pokes) => pokes.iter().for_each(|poke| self.note_ask(poke)),
            Entry::PokedLanes(_) | Entry::PublicKeyRead(_) | Entry::Received(..) => {}
            Entry::Deleted(queue, message_id, body) => {
                if *queue == "signing" {
                    self.acknowledged(message_id, body);
                }
            }
        }
    }

    fn fast_forwarded(&mut self, account: AccountKey, from: Nonce, to: Nonce, chain: &MemoryChain) {
        let used = (from.0..to.0).all(|nonce| chain.used_by(account.address, Nonce(nonce)).is_some());
        self.check(used, "I4", || format!("{account} was moved on from {from} to {to} without the chain's word"));
        let Some(lane) = self.lanes.get_mut(&account) else { return };
        let fits = lane.next == from && lane.lowest_open == from;
        (lane.next, lane.lowest_open) = (to, to);
        lane.skipped.push((from, to));
        self.check(fits, "I4", || format!("{account} was moved on from {from}, where its lane is not"));
    }

    fn reserved(&mut self, record: &Record) {
        let (id, account, nonce) = (&record.request_id, record.account, record.nonce);
        let Some(lane) = self.lanes.get_mut(&account) else {
            return self.check(false, "I14", || format!("{id} has a slot of {account}, which is not registered"));
        };
        let (expected, paused) = (lane.next, lane.paused_at.is_some());
        lane.next = lane.next.max(nonce.plus(1));
        self.check(nonce == expected, "I4", || format!("{id} got nonce {nonce} where {expected} is next"));
        self.check(!paused, "I14", || format!("{id} got a slot of {account}, which is paused"));
        let other = self.slots.insert((account, nonce), id.clone());
        self.check(other.is_none(), "I1", || format!("nonce {nonce} belongs to {other:?} and to {id}"));
        let known = self.records.insert(id.clone(), record.clone());
        self.check(known.is_none(), "I8", || format!("{id} was reserved twice"));
        let fresh = record.phase == Phase::Reserved && record.attempts.is_empty();
        self.check(fresh, "I7", || format!("{id} does not begin as reserved"));
        let asked = self.asked.iter().any(|asked| {
            matches!(&asked.what, Ask::Sign(asked, Some((of, digest))) if asked == id && of.is_none_or(|of| of == account) && *digest == record.digest)
        });
        self.check(asked, "I8", || format!("nobody asked for {id} with this digest"));
        self.count_spending(record);
        for kind in [AttemptKind::Execute, AttemptKind::Cancel] {
            self.allow(record, kind, record.fee);
        }
    }

    fn note_rejected(&mut self, rejected: &Rejected) {
        let id = &rejected.request_id;
        let over = self.records.contains_key(id);
        self.check(!over, "I7", || format!("{id} has a slot and was written over as rejected"));
        self.rejected.entry(id.clone()).or_default().push(rejected.clone());
    }

    fn updated(&mut self, record: &Record, chain: &MemoryChain) {
        let id = &record.request_id;
        let Some(old) = self.records.insert(id.clone(), record.clone()) else {
            return self.check(false, "I4", || format!("{id} was written without a reservation"));
        };
        let same = old.digest == record.digest && old.account == record.account && old.nonce == record.nonce;
        let same = same && old.intent == record.intent && old.fee == record.fee && old.fee_cap == record.fee_cap;
        self.check(same, "I8", || format!("{id} is no longer what was reserved"));
        self.check(record.version == old.version + 1, "I2", || {
            format!("{id}: version {} over {}", record.version, old.version)
        });
        self.judge_attempts(&old, record);
        let kept = old.cancel.is_none() || old.cancel == record.cancel;
        self.check(kept, "I6", || format!("{id} forgot why it is to be cancelled"));
        match (&old.phase, &record.phase) {
            (Phase::Settled(old), Phase::Settled(new)) => self.judge_publication(id, old, new),
            (Phase::Settled(_), _) => {
                self.check(false, "I6", || format!("{id} was settled and is {}", record.phase.name()));
            }
            (_, Phase::Settled(new)) => {
                self.check(new.published_at.is_none(), "I6", || format!("{id} was published before it was settled"));
                self.judge_verdict(record, &new.verdict, chain);
            }
            (Phase::Reserved | Phase::Signed, Phase::Sent) => {
                let sent = record.attempts.iter().any(|attempt| self.sent.contains(&attempt.tx_hash));
                self.check(sent, "I3", || format!("{id} is noted as sent and was not"));
            }
            (_, Phase::Reserved) => {
                let still = old.phase == Phase::Reserved;
                self.check(still, "I2", || format!("{id} lost its signature"));
            }
            (_, Phase::Signed | Phase::Sent | Phase::Mined(_)) => {}
        }
    }

    fn judge_publication(&mut self, id: &RequestId, old: &Settlement, new: &Settlement) {
        let same = old.verdict == new.verdict && old.settled_at == new.settled_at;
        self.check(same, "I6", || format!("{id}: a settled outcome changed"));
        if old.published_at.is_some() {
            return self.check(false, "I6", || format!("{id} was written after it was closed"));
        }
        let out = self.published.get(id).is_some_and(|copies| copies.iter().any(|copy| copy.tx_hash.is_some()));
        self.check(new.published_at.is_none() || out, "I11", || format!("{id} is noted as published and is not"));
    }

    /// An outcome is set only of a finalized block, by the transaction that truly has the nonce.
    fn judge_verdict(&mut self, record: &Record, verdict: &Verdict, chain: &MemoryChain) {
        let id = &record.request_id;
        let (tx_hash, block) = (verdict.tx_hash(), verdict.block());
        self.check(block.number <= chain.finalized(), "I6", || {
            format!("{id} is {} by block {}, which is not finalized", verdict.name(), block.number)
        });
        let used_by = chain.used_by(record.account.address, record.nonce);
        self.check(used_by == Some(tx_hash), "I6", || {
            format!("{id} is {} by {tx_hash}, nonce used by {used_by:?}", verdict.name())
        });
        let truth = chain.receipt(tx_hash);
        let attempt = record.attempt_of(tx_hash);
        let fits = match (verdict, attempt.map(|attempt| attempt.kind)) {
            (Verdict::Confirmed(receipt), Some(AttemptKind::Execute)) => receipt.succeeded && truth == Some(*receipt),
            (Verdict::Reverted(receipt, _), Some(AttemptKind::Execute)) => {
                !receipt.succeeded && truth == Some(*receipt)
            }
            (Verdict::Cancelled(receipt), Some(AttemptKind::Cancel)) => truth == Some(*receipt),
            (Verdict::Displaced(foreign), None) => truth.is_some_and(|truth| truth.block == foreign.block),
            (Verdict::Confirmed(_) | Verdict::Reverted(..) | Verdict::Cancelled(_) | Verdict::Displaced(_), _) => false,
        };
        self.check(fits, "I6", || format!("{id} is {} against the chain's {truth:?}", verdict.name()));
    }

    fn left_slots(&mut self, account: AccountKey, from: Nonce, to: Nonce) {
        let Some(lane) = self.lanes.get_mut(&account) else { return };
        let fits = lane.lowest_open == from;
        lane.lowest_open = to;
        self.check(fits, "I4", || format!("{account}: slots left from {from}, where the lane does not begin"));
        for nonce in from.0..to.0 {
            let id = self.slots.get(&(account, Nonce(nonce)));
            let closed = id.and_then(|id| self.records.get(id)).is_some_and(Record::is_closed);
            self.check(closed, "I11", || format!("slot {nonce} of {account} was left and is not closed"));
        }
    }
}
