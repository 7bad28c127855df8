//! The auditor reads the journal of the fakes and checks I1–I16 and the promises G1, G2, G3, G6 at every write,
//! signature, send and outcome.
//!
//! Its model is independent of the drivers and the machine: a parser of messages, an encoder of transactions, a table
//! of outcomes. It takes the truth from the simulated chains only, and never changes anything. Read next:
//! [`crate::simulation`].

mod actors;
mod asked;
mod at_end;
mod attempts;
mod capped;
pub mod encoding;
mod outcomes;
mod spending;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use signpost_txmgr::account::Marks;
use signpost_txmgr::fake::{Entry, MemoryChain};
use signpost_txmgr::record::{AttemptKind, CancelCause, Phase, Record, Rejected, Settlement, Verdict};
use signpost_txmgr::units::{AccountKey, Millis, Nonce, RequestId, SigningHash, TxHash};

pub use self::actors::Actor;
use self::actors::Workers;
use self::asked::{Contents, Named, ParsedMessage, TrackedMessage};
use self::attempts::{Known, Signable, price_of};
use self::spending::{Counting, Spending};
use crate::deployment::{Deployment, RuleSet, START, Setting};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// `I1` to `I16` and `G1` to `G7` as in `crates/README.md`, or `order`: nothing is sent above an unsent slot.
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
    /// Slots below `lowest_open` that are not closed.
    set_aside: BTreeSet<Nonce>,
    paused_at: Option<Millis>,
    was_paused: bool,
    spending: Option<Spending>,
    counting: Option<Counting>,
    /// Ranges of nonces that a fast-forward skipped.
    skipped: Vec<(Nonce, Nonce)>,
}

/// The model, and the violations found so far.
#[derive(Debug, Default)]
pub struct Auditor {
    chains: BTreeMap<u64, MemoryChain>,
    spend_window_s: Option<u64>,
    request_window_s: Option<u64>,
    /// The rules signers were started with, and since when.
    rule_sets: Vec<(Millis, RuleSet)>,
    /// A key could not be used for a while.
    keys_failed: bool,
    /// The topic refuses some outcomes for good; they are published reduced.
    outcomes_refused: bool,
    /// A node lies.
    node_lies: bool,
    lanes: BTreeMap<AccountKey, LaneModel>,
    /// Names and keys that were registered from the start.
    first_names: BTreeSet<String>,
    records: BTreeMap<RequestId, Record>,
    /// The contents of the message that created the slot.
    wanted: BTreeMap<RequestId, Contents>,
    creators: BTreeMap<RequestId, String>,
    reserved_at: BTreeMap<RequestId, Millis>,
    rejected: BTreeMap<RequestId, Vec<Rejected>>,
    slots: BTreeMap<(AccountKey, Nonce), RequestId>,
    /// What may be signed: attempt 0 of every record, and the attempts that were requested from the signer.
    signable: HashMap<SigningHash, Signable>,
    signed: HashSet<SigningHash>,
    /// What the key service signed, with the id of its call.
    calls: HashSet<(SigningHash, String)>,
    attempts: HashMap<TxHash, Known>,
    sent: HashSet<TxHash>,
    /// Event ids by record, without rejections.
    published: BTreeMap<RequestId, BTreeSet<String>>,
    /// Every outcome by its event's id.
    events: HashMap<String, String>,
    rejections: u64,
    /// By message id.
    messages: BTreeMap<String, TrackedMessage>,
    workers: Workers,
    violations: Vec<Violation>,
}

impl Auditor {
    /// How long after a pause a signature may still be made that was requested before it.
    const PAUSE_GRACE_MS: u64 = 15_000;

    /// An auditor of these deployments, which share one store.
    #[must_use]
    pub fn new(deployments: &[&Deployment], setting: &Setting) -> Self {
        let Setting { spend_window_s, request_window_s, .. } = *setting;
        let chains =
            deployments.iter().map(|deployment| (deployment.chain_id.0, deployment.chain.inner.clone())).collect();
        let rule_sets = deployments.first().map(|deployment| (START, deployment.rule_set())).into_iter().collect();
        Self { chains, spend_window_s, request_window_s, rule_sets, ..Self::default() }
    }

    /// The violations found so far.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// The records as last written.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Published rejections, including copies.
    #[must_use]
    pub fn rejections(&self) -> u64 {
        self.rejections
    }

    /// A key was disabled for a while.
    pub fn key_failed(&mut self) {
        self.keys_failed = true;
    }

    /// A node lies: it may report a nonce as used before anything was sent with it.
    pub fn node_lies(&mut self) {
        self.node_lies = true;
    }

    /// The topic refuses some outcomes for good.
    pub fn outcomes_refused(&mut self) {
        self.outcomes_refused = true;
    }

    fn check(&mut self, holds: bool, invariant: &'static str, text: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(Violation { invariant, text: text() });
        }
    }

    /// Judges one entry of the journal.
    pub fn note(&mut self, entry: &Entry, actor: Actor, now: Millis) {
        self.judge_chain_of(actor, entry);
        match entry {
            Entry::Registered(head) => {
                let lane = LaneModel {
                    start: head.next_nonce,
                    next: head.next_nonce,
                    lowest_open: head.lowest_open_nonce,
                    set_aside: BTreeSet::new(),
                    paused_at: None,
                    was_paused: false,
                    spending: None,
                    counting: None,
                    skipped: Vec::new(),
                };
                if head.registered_at <= START {
                    self.first_names.insert(head.name.to_string());
                }
                self.lanes.insert(head.account, lane);
            }
            Entry::Paused(account, paused) => {
                if *paused {
                    self.note_pause(actor, *account);
                }
                if let Some(lane) = self.lanes.get_mut(account) {
                    lane.paused_at = paused.then_some(lane.paused_at.unwrap_or(now));
                    lane.was_paused |= paused;
                }
            }
            Entry::Retired(account) => {
                self.judge_idle(*account, "retired");
                if let Some(lane) = self.lanes.get_mut(account) {
                    lane.paused_at = Some(lane.paused_at.unwrap_or(now));
                    lane.was_paused = true;
                }
            }
            Entry::Unregistered(account) => {
                self.judge_idle(*account, "unregistered");
                self.lanes.remove(account);
            }
            Entry::NonceSet(account, from, to) => {
                self.judge_idle(*account, "given another nonce");
                if let Some(lane) = self.lanes.get_mut(account) {
                    (lane.next, lane.lowest_open) = (*to, *to);
                    lane.skipped.push((*from, *to));
                }
            }
            Entry::FastForwarded(account, from, to) => self.fast_forwarded(*account, *from, *to),
            Entry::Reserved(records) => records.iter().for_each(|record| self.reserved(actor, record, now)),
            Entry::Rejected(rejected) => self.note_rejected(rejected),
            Entry::Updated(record) => self.updated(actor, record),
            Entry::LeftSlots(account, from, to) => self.left_slots(*account, *from, *to),
            Entry::MovedMarks(account, before, after) => self.moved_marks(*account, before, after),
            Entry::KmsSigned(_, hash, call) => {
                self.calls.insert((*hash, call.clone()));
                self.kms_signed(actor, *hash, now);
            }
            Entry::PublicKeyRead(key) => self.count_read(actor, key),
            Entry::KeyRefused(key) => self.note_refused_key(actor, key),
            Entry::Sent(raw) => self.note_sent(actor, raw),
            Entry::Published(outcome) => {
                let outcome = serde_json::to_value(outcome).expect("an outcome has nothing JSON lacks");
                self.note_published(&outcome, now);
            }
            Entry::PokedSigner(pokes) => pokes.iter().for_each(|poke| self.note_ask(poke)),
            Entry::PokedLanes(_) => {}
            Entry::Received(queue, ids) => self.received(actor, queue, ids),
            Entry::Deleted(queue, message_id, body) => {
                if queue.starts_with("signing") {
                    self.acknowledged(message_id, body);
                }
            }
        }
    }

    fn fast_forwarded(&mut self, account: AccountKey, from: Nonce, to: Nonce) {
        let chain = self.chains.get(&account.chain_id.0);
        let used = |nonce| chain.is_some_and(|chain| chain.used_by(account.address, Nonce(nonce)).is_some());
        let used = (from.0..to.0).all(used);
        self.check(used, "I4", || {
            format!("{account} was fast-forwarded from {from} to {to}, which the chain does not show")
        });
        let Some(lane) = self.lanes.get_mut(&account) else { return };
        let fits = lane.next == from && lane.lowest_open == from;
        (lane.next, lane.lowest_open) = (to, to);
        lane.skipped.push((from, to));
        self.check(fits, "I4", || format!("{account} was fast-forwarded from {from}, which is not its lane's nonce"));
    }

    fn reserved(&mut self, actor: Actor, record: &Record, now: Millis) {
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
        // `created_at` is the start of the batch, which may be long before.
        self.reserved_at.insert(id.clone(), now);
        let fresh = record.phase == Phase::Reserved && record.attempts.is_empty();
        self.check(fresh, "I7", || format!("{id} does not begin as reserved"));
        let digest = record.asked().map(|asked| asked.digest(&record.account));
        self.check(digest == Some(record.digest), "evidence", || {
            format!("{id}: what is kept of how it was asked gives another digest")
        });
        self.note_creator(actor, record);
        self.count_spending(record);
        self.count_request(record);
        for kind in [AttemptKind::Execute, AttemptKind::Cancel] {
            self.allow(record, kind, price_of(record.fee));
        }
    }

    /// Notes which message created the slot. Its worker must be processing it, it must ask for exactly this, and it
    /// must not have been refused.
    fn note_creator(&mut self, actor: Actor, record: &Record) {
        let id = &record.request_id;
        let message_id = record.message_id.clone().unwrap_or_default();
        let in_hand = self.workers.get(actor.name).is_some_and(|worker| worker.batch.contains(&message_id));
        let fits = self.messages.get(&message_id).is_some_and(|asked| {
            let same =
                matches!(&asked.what, ParsedMessage::Sign(named, contents) if named == id && says(contents, record));
            let own = asked.chain_id == record.account.chain_id.0;
            same && own && record.sender.as_ref() == Some(&asked.sender)
        });
        self.check(in_hand && fits, "I8", || {
            format!("message {message_id:?} does not ask for {id} as it was reserved")
        });
        let Some(asked) = self.messages.get_mut(&message_id) else { return };
        asked.created = true;
        let refused = asked.refusals.first().cloned();
        if let ParsedMessage::Sign(_, contents) = &asked.what {
            self.wanted.insert(id.clone(), (**contents).clone());
        }
        self.check(refused.is_none(), "I15", || {
            format!("message {message_id} was refused and gets a slot: {refused:?}")
        });
        self.creators.insert(id.clone(), message_id);
    }

    fn updated(&mut self, actor: Actor, record: &Record) {
        let id = &record.request_id;
        let Some(old) = self.records.insert(id.clone(), record.clone()) else {
            return self.check(false, "I4", || format!("{id} was written without a reservation"));
        };
        let same = old.digest == record.digest && old.account == record.account && old.nonce == record.nonce;
        let same = same && old.intent == record.intent && old.fee == record.fee && old.fee_cap == record.fee_cap;
        let same = same && old.metadata == record.metadata && old.sender == record.sender;
        self.check(same, "I8", || format!("{id} is no longer what was reserved"));
        self.check(record.version == old.version + 1, "I2", || {
            format!("{id}: version {} over {}", record.version, old.version)
        });
        self.judge_attempts(&old, record);
        self.judge_misconfigured(actor, &old, record);
        self.judge_expiry(record);
        let kept = old.cancel.is_none() || old.cancel == record.cancel;
        self.check(kept, "I6", || format!("{id} forgot why it is to be cancelled"));
        if old.cancel.is_none() && record.cancel == Some(CancelCause::Asked) {
            self.judge_cancel(actor, id);
        }
        if old.cancel.is_none() && record.cancel == Some(CancelCause::AtCap) {
            self.judge_at_cap(record);
        }
        match (&old.phase, &record.phase) {
            (Phase::Settled(old), Phase::Settled(new)) => self.judge_publication(id, old, new),
            (Phase::Settled(_), _) => {
                self.check(false, "I6", || format!("{id} was settled and is {}", record.phase.name()));
            }
            (_, Phase::Settled(new)) => {
                self.check(new.published_at.is_none(), "I6", || format!("{id} was published before it was settled"));
                self.judge_verdict(record, &new.verdict);
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
        let out = self.published.contains_key(id);
        self.check(new.published_at.is_none() || out, "I11", || format!("{id} is noted as published and is not"));
    }

    /// A cancel is noted only for a message that is being processed and was not refused.
    fn judge_cancel(&mut self, actor: Actor, id: &RequestId) {
        let Some(worker) = self.workers.get(actor.name) else { return };
        let mut all = worker.batch.iter().filter_map(|message_id| self.messages.get(message_id));
        let wanted = all.any(|asked| {
            matches!(&asked.what, ParsedMessage::Cancel(named) if named == id) && asked.refusals.is_empty()
        });
        self.check(wanted, "I15", || {
            format!("{id} is to be cancelled, and no message that is being processed and not refused asks for it")
        });
    }

    /// An outcome is decided only by a finalized block, with the transaction that really used the nonce.
    fn judge_verdict(&mut self, record: &Record, verdict: &Verdict) {
        let id = &record.request_id;
        let Some(chain) = self.chains.get(&record.account.chain_id.0).cloned() else { return };
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

    /// No slot of the lane may be open.
    fn judge_idle(&mut self, account: AccountKey, what: &str) {
        let open = self.lanes.get(&account).map(|lane| (lane.next.0 - lane.lowest_open.0, lane.set_aside.len()));
        self.check(open.is_none_or(|open| open == (0, 0)), "I4", || {
            format!("{account} is {what} with {open:?} slots open and set aside")
        });
    }

    /// A slot left behind is closed, or has no record and its nonce is used. A slot set aside is not closed, and its
    /// nonce is used.
    fn moved_marks(&mut self, account: AccountKey, before: &Marks, after: &Marks) {
        let nonces = |marks: &Marks| marks.set_aside.iter().map(|slot| slot.nonce).collect::<BTreeSet<_>>();
        let chain = self.chains.get(&account.chain_id.0).cloned();
        let is_used = |nonce| chain.as_ref().is_some_and(|chain| chain.used_by(account.address, nonce).is_some());
        let Some(lane) = self.lanes.get_mut(&account) else { return };
        let fits = lane.lowest_open == before.lowest_open_nonce && lane.set_aside == nonces(before);
        lane.lowest_open = after.lowest_open_nonce;
        let known = std::mem::replace(&mut lane.set_aside, nonces(after));
        for nonce in nonces(after).difference(&known) {
            let slot = self.slots.get(&(account, *nonce)).and_then(|id| self.records.get(id));
            let is_open = slot.is_some_and(|record| !record.is_closed());
            let below = (before.lowest_open_nonce..after.lowest_open_nonce).contains(nonce);
            self.check(is_open && below && is_used(*nonce), "I11", || {
                format!("slot {nonce} of {account} was set aside; open {is_open}, in order {below}")
            });
        }
        self.check(fits, "I4", || format!("{account}: marks moved from {before:?}, where the lane does not begin"));
        for nonce in after.left_since(before).into_iter().flat_map(|left| (left.start.0..left.end.0).map(Nonce)) {
            let id = self.slots.get(&(account, nonce));
            let closed = match id {
                None => is_used(nonce),
                Some(id) => self.records.get(id).is_some_and(Record::is_closed),
            };
            self.check(closed, "I11", || format!("slot {nonce} of {account} was left and is not closed"));
        }
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

/// Whether the record contains exactly what the message asks for.
fn says(contents: &Contents, record: &Record) -> bool {
    let intent = &record.intent;
    let priced = contents.price.is_none_or(|price| price == price_of(record.fee));
    priced
        && contents.to == intent.to.map(|to| to.0)
        && contents.value == intent.value.0
        && contents.data == *intent.data
        && contents.gas == intent.gas.0
        && contents.deadline_s == record.deadline.map(|deadline| deadline.0 / 1_000)
        && contents.metadata == record.metadata
        && intent.chain_id == record.account.chain_id
        && match &contents.account {
            Named::Account(name) => *name == record.name.as_str(),
            Named::Only | Named::Pool(_) => true,
        }
}
