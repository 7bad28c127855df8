//! Judges which worker does what: whether it keeps to its own Signpost's lanes (I16), and what one batch signs and one
//! process reads (G6).
//!
//! Read next: [`super::attempts`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use signpost_txmgr::fake::Entry;
use signpost_txmgr::record::{Record, SendClass};
use signpost_txmgr::units::{AccountKey, KmsKeyId, SigningHash};

use super::Auditor;
use crate::deployment::SIGN_CONCURRENCY;

/// The task that was polled when a journal entry was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    /// The task's name.
    pub name: &'static str,
    /// The number of its process; every restart adds one.
    pub life: u64,
    /// The chain of its Signpost; `None` for tasks outside of every Signpost, such as the operator and the miner.
    pub chain: Option<u64>,
    /// Faults injected into its calls so far. After a fault, repeated calls are allowed.
    pub faults: u64,
    /// The same number before this poll.
    pub faults_before: u64,
}

impl Actor {
    /// A task outside of every Signpost.
    pub const OUTSIDE: Self = Self { name: "-", life: 0, chain: None, faults: 0, faults_before: 0 };
}

/// What one worker is processing.
#[derive(Debug, Default)]
pub(super) struct WorkerState {
    life: u64,
    faults_before_life: u64,
    faults_before_batch: u64,
    /// The messages of the signing queue it received last.
    pub(super) batch: Vec<String>,
    signed: HashSet<SigningHash>,
    /// The accounts it paused.
    paused: BTreeSet<AccountKey>,
    reads: BTreeMap<KmsKeyId, u64>,
}

/// States by the worker's name.
pub(super) type Workers = HashMap<&'static str, WorkerState>;

impl Auditor {
    pub(super) fn worker(&mut self, actor: Actor) -> &mut WorkerState {
        let worker = self.workers.entry(actor.name).or_default();
        if worker.life != actor.life {
            let faults = actor.faults_before;
            *worker = WorkerState {
                life: actor.life,
                faults_before_life: faults,
                faults_before_batch: faults,
                ..WorkerState::default()
            };
        }
        worker
    }

    /// A worker received messages.
    pub(super) fn received(&mut self, actor: Actor, queue: &str, ids: &[String]) {
        let worker = self.worker(actor);
        worker.batch = if queue.starts_with("signing") { ids.to_vec() } else { Vec::new() };
        worker.signed.clear();
        worker.faults_before_batch = actor.faults;
    }

    /// Within one batch a hash is signed once, unless one of this worker's calls failed meanwhile.
    pub(super) fn count_signature(&mut self, actor: Actor, hash: SigningHash) {
        let worker = self.worker(actor);
        let excused = actor.faults > worker.faults_before_batch;
        let first = worker.signed.insert(hash);
        self.check(first || excused, "G6", || format!("{} had {hash} signed twice in one batch", actor.name));
    }

    /// A process reads a public key once, unless one of its calls failed.
    pub(super) fn count_read(&mut self, actor: Actor, key: &KmsKeyId) {
        let worker = self.worker(actor);
        let excused = actor.faults > worker.faults_before_life;
        let reads = worker.reads.entry(key.clone()).or_default();
        *reads += 1;
        let reads = *reads;
        // Keys that were not read at the start (of accounts registered later, or after a failed start) are read by the
        // first signatures, which run concurrently.
        self.check(reads <= SIGN_CONCURRENCY || excused, "G6", || {
            format!("{} read the public key of {key} {reads} times", actor.name)
        });
    }

    /// A key that was refused is read again, to see what is wrong with it.
    pub(super) fn note_refused_key(&mut self, actor: Actor, key: &KmsKeyId) {
        self.worker(actor).reads.remove(key);
    }

    /// When a node answers `misconfigured`, the account is paused before the answer is stored.
    pub(super) fn judge_misconfigured(&mut self, actor: Actor, old: &Record, new: &Record) {
        let says = |record: &Record| {
            let sent = record.attempts.last().and_then(|attempt| attempt.sent.as_ref());
            sent.is_some_and(|sent| sent.answer.class == SendClass::Misconfigured)
        };
        if !says(new) || says(old) {
            return;
        }
        // An account that an operator paused stays paused.
        let is_paused = self.lanes.get(&new.account).is_some_and(|lane| lane.paused_at.is_some());
        let worker = self.worker(actor);
        let fits = is_paused || worker.paused.contains(&new.account) || actor.faults > worker.faults_before_batch;
        self.check(fits, "I14", || {
            format!("{}: a node answers misconfigured, and the account is not paused", new.account)
        });
    }

    /// A worker paused an account by itself.
    pub(super) fn note_pause(&mut self, actor: Actor, account: AccountKey) {
        self.worker(actor).paused.insert(account);
    }

    /// A driver touches lanes of its own chain only.
    pub(super) fn judge_chain_of(&mut self, actor: Actor, entry: &Entry) {
        let Some(own) = actor.chain else { return };
        let foreign = |account: &AccountKey| (account.chain_id.0 != own).then(|| account.to_string());
        let elsewhere = |account: &String| (!account.starts_with(&format!("{own}:"))).then(|| account.clone());
        let touched = match entry {
            Entry::Paused(account, _)
            | Entry::FastForwarded(account, ..)
            | Entry::MovedMarks(account, ..)
            | Entry::LeftSlots(account, ..) => foreign(account),
            Entry::Reserved(records) => records.iter().find_map(|record| foreign(&record.account)),
            Entry::Updated(record) => foreign(&record.account),
            // A signer copies another message's rejection of an id before it replaces it.
            Entry::Rejected(rejected) if self.is_kept_copy(rejected) => None,
            Entry::Rejected(rejected) => rejected.account.as_ref().and_then(foreign),
            Entry::PokedLanes(pokes) => pokes.iter().find_map(|poke| elsewhere(&poke.account)),
            Entry::PokedSigner(pokes) => pokes.iter().find_map(|poke| elsewhere(&poke.account)),
            Entry::Published(outcome) => outcome.account.as_ref().and_then(elsewhere),
            // Only operators do these, or they belong to no lane.
            Entry::Registered(_)
            | Entry::Retired(_)
            | Entry::Unregistered(_)
            | Entry::NonceSet(..)
            | Entry::KmsSigned(..)
            | Entry::PublicKeyRead(_)
            | Entry::KeyRefused(_)
            | Entry::Sent(_)
            | Entry::Received(..)
            | Entry::Deleted(..) => None,
        };
        let name = actor.name;
        self.check(touched.is_none(), "I16", || format!("{name} on chain {own} touched the lane of {touched:?}"));
    }
}
