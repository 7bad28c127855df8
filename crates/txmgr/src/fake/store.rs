//! The two tables in memory, with the same conditional writes as in DynamoDB.
//!
//! Each call holds one lock while it checks its conditions and writes, so it is atomic like a DynamoDB transaction or
//! conditional write. The work of a call does not grow with the open slots of a lane. An item has at most 400 KB. A
//! reservation may conflict with another one ([`Fate::Contend`]). Items expire only by [`MemoryStore::expire`], because
//! DynamoDB's TTL deletes late. Read next: [`super::keys`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use super::interceptor::{FakeFault, Fate, Interceptor, refused};
use super::journal::{Entry, Journal};
use crate::account::{Accounts, Head, Marks, Reservation, SeenFee, UnreadableHead};
use crate::ports::{
    PortError, RegisterVerdict, RejectVerdict, ReserveVerdict, RetireVerdict, Store, UnregisterVerdict, UpdateVerdict,
};
use crate::record::{Attempt, Reason, Record, Rejected, Stored, Vacancy};
use crate::units::{AccountKey, AccountName, Millis, Nonce, RequestId};
use crate::unusable::Unusable;

/// The items of the two tables.
#[derive(Debug, Default)]
pub struct Tables {
    /// The table `requests`.
    pub requests: BTreeMap<RequestId, Stored>,
    /// The heads in the table `accounts`.
    pub heads: BTreeMap<AccountKey, Head>,
    /// Accounts that were paused because of a node's answer.
    pub paused_by_node: BTreeSet<AccountKey>,
    /// Accounts whose heads cannot be read.
    pub unreadable: BTreeSet<AccountKey>,
    /// The directory of names in the table `accounts`.
    pub names: BTreeMap<AccountName, AccountKey>,
    /// The slots in the table `accounts`.
    pub slots: BTreeMap<(AccountKey, Nonce), Slot>,
    /// Items that the next batch read does not find.
    pub missed: BTreeSet<RequestId>,
}

/// A slot item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The request that has the slot.
    pub request_id: RequestId,
    /// When it may be deleted.
    pub expires_at: Option<Millis>,
}

/// A store in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    tables: Arc<Mutex<Tables>>,
    interceptor: Interceptor,
    journal: Journal,
}

impl MemoryStore {
    /// An empty store with this interceptor and journal.
    #[must_use]
    pub fn new(interceptor: Interceptor, journal: Journal) -> Self {
        Self { tables: Arc::default(), interceptor, journal }
    }

    /// The same tables behind another interceptor, for example to read them without faults.
    #[must_use]
    pub fn behind(&self, interceptor: Interceptor) -> Self {
        Self { tables: Arc::clone(&self.tables), interceptor, journal: self.journal.clone() }
    }

    /// Reads or changes the tables directly, without conditions.
    pub fn with_tables<T>(&self, look: impl FnOnce(&mut Tables) -> T) -> T {
        look(&mut self.tables.lock().unwrap())
    }

    /// Makes the next batch read miss an item, as if it was written during the read: a batch read is not atomic.
    pub fn miss_once(&self, id: &RequestId) {
        self.with_tables(|tables| tables.missed.insert(id.clone()));
    }

    /// One item of the requests table.
    #[must_use]
    pub fn stored(&self, id: &RequestId) -> Option<Stored> {
        self.with_tables(|tables| tables.requests.get(id).cloned())
    }

    /// Deletes the items that are expired at `now`, as DynamoDB's TTL does some time later.
    pub fn expire(&self, now: Millis) {
        self.with_tables(|tables| {
            tables.requests.retain(|_, stored| !expired(stored, now));
            tables.slots.retain(|_, slot| slot.expires_at.is_none_or(|at| at > now));
        });
    }
}

fn expired(stored: &Stored, now: Millis) -> bool {
    let expires_at = match stored {
        Stored::Record(record) => record.phase.settlement().and_then(|settlement| settlement.expires_at),
        Stored::Rejected(rejected) => rejected.expires_at,
    };
    expires_at.is_some_and(|at| at <= now)
}

/// Whether the item under an id is as a write expects it. TTL deletes late, so expired items are ignored.
fn is_vacant(tables: &Tables, id: &RequestId, vacancy: &Vacancy, now: Millis) -> bool {
    match tables.requests.get(id).filter(|stored| !expired(stored, now)) {
        None => true,
        Some(Stored::Record(_)) => false,
        Some(Stored::Rejected(rejected)) => *vacancy == Vacancy::of(Some(rejected)),
    }
}

impl Store for MemoryStore {
    async fn accounts(&self) -> Result<Accounts, PortError> {
        let pass = self.interceptor.enter("Scan").await?;
        let accounts = self.with_tables(|tables| {
            let mut accounts = Accounts::default();
            for head in tables.heads.values() {
                if tables.unreadable.contains(&head.account) {
                    let problem = FakeFault::Unreadable.to_string();
                    let (name, account) = (head.name.to_string(), Some(head.account));
                    accounts.unreadable.push(UnreadableHead { name, account, problem });
                } else {
                    accounts.heads.push(head.clone());
                }
            }
            accounts
        });
        pass.reply(accounts).await
    }

    async fn head(&self, account: &AccountKey) -> Result<Option<Head>, PortError> {
        let pass = self.interceptor.enter("GetItem").await?;
        if self.with_tables(|tables| tables.unreadable.contains(account)) {
            return Err(refused("GetItem", FakeFault::Unreadable));
        }
        let head = self.with_tables(|tables| tables.heads.get(account).cloned());
        pass.reply(head).await
    }

    async fn register(&self, head: &Head) -> Result<RegisterVerdict, PortError> {
        let pass = self.interceptor.enter("TransactWriteItems").await?;
        let verdict = self.with_tables(|tables| {
            if let Some(existing) = tables.heads.get(&head.account) {
                return RegisterVerdict::Exists(existing.clone());
            }
            if tables.names.contains_key(&head.name) {
                return RegisterVerdict::NameTaken;
            }
            tables.names.insert(head.name.clone(), head.account);
            tables.heads.insert(head.account, head.clone());
            self.journal.note(|| Entry::Registered(Box::new(head.clone())));
            RegisterVerdict::Registered
        });
        pass.reply(verdict).await
    }

    async fn set_paused(&self, account: &AccountKey, paused: bool) -> Result<(), PortError> {
        let pass = self.interceptor.enter("UpdateItem").await?;
        let known = self.with_tables(|tables| {
            let head = tables.heads.get_mut(account).filter(|head| paused || head.retired_at.is_none())?;
            head.paused = paused;
            tables.paused_by_node.remove(account);
            self.journal.note(|| Entry::Paused(*account, paused));
            Some(())
        });
        if known.is_none() {
            return Err(refused("UpdateItem", FakeFault::Validation("the account is not registered, or retired")));
        }
        pass.reply(()).await
    }

    async fn set_paused_by_node(&self, account: &AccountKey, paused: bool) -> Result<(), PortError> {
        let pass = self.interceptor.enter("UpdateItem").await?;
        self.with_tables(|tables| {
            let by_node = tables.paused_by_node.contains(account);
            let Some(head) = tables.heads.get_mut(account).filter(|head| head.retired_at.is_none()) else { return };
            if paused && !head.paused {
                head.paused = true;
                tables.paused_by_node.insert(*account);
            } else if !paused && by_node {
                head.paused = false;
                tables.paused_by_node.remove(account);
            } else {
                return;
            }
            self.journal.note(|| Entry::Paused(*account, paused));
        });
        pass.reply(()).await
    }

    async fn set_unfunded(&self, account: &AccountKey, since: Option<Millis>) -> Result<(), PortError> {
        let pass = self.interceptor.enter("UpdateItem").await?;
        let known =
            self.with_tables(|tables| tables.heads.get_mut(account).map(|head| head.unfunded_since = since).is_some());
        if !known {
            return Err(refused("UpdateItem", FakeFault::Validation("the account is not registered")));
        }
        pass.reply(()).await
    }

    async fn set_unusable(&self, account: &AccountKey, unusable: Option<Unusable>) -> Result<(), PortError> {
        let pass = self.interceptor.enter("UpdateItem").await?;
        let known =
            self.with_tables(|tables| tables.heads.get_mut(account).map(|head| head.unusable = unusable).is_some());
        if !known {
            return Err(refused("UpdateItem", FakeFault::Validation("the account is not registered")));
        }
        pass.reply(()).await
    }

    async fn observe_fee(&self, account: &AccountKey, fee: &SeenFee) -> Result<(), PortError> {
        let pass = self.interceptor.enter("UpdateItem").await?;
        let known =
            self.with_tables(|tables| tables.heads.get_mut(account).map(|head| head.fee = Some(*fee)).is_some());
        if !known {
            return Err(refused("UpdateItem", FakeFault::Validation("the account is not registered")));
        }
        pass.reply(()).await
    }

    async fn fast_forward(&self, account: &AccountKey, from: Nonce, to: Nonce) -> Result<bool, PortError> {
        let pass = self.interceptor.enter("UpdateItem").await?;
        let moved = self.with_tables(|tables| match tables.heads.get_mut(account) {
            Some(head) if head.next_nonce == from && head.lowest_open_nonce == from && to >= from => {
                head.next_nonce = to;
                head.lowest_open_nonce = to;
                self.journal.note(|| Entry::FastForwarded(*account, from, to));
                true
            }
            Some(_) | None => false,
        });
        pass.reply(moved).await
    }

    async fn set_nonce(&self, account: &AccountKey, from: Nonce, to: Nonce) -> Result<bool, PortError> {
        let pass = self.interceptor.enter("UpdateItem").await?;
        let is_set = self.with_tables(|tables| match tables.heads.get_mut(account) {
            Some(head) if head.next_nonce == from && head.lowest_open_nonce == from => {
                head.next_nonce = to;
                head.lowest_open_nonce = to;
                self.journal.note(|| Entry::NonceSet(*account, from, to));
                true
            }
            Some(_) | None => false,
        });
        pass.reply(is_set).await
    }

    async fn retire(&self, account: &AccountKey, now: Millis) -> Result<RetireVerdict, PortError> {
        let pass = self.interceptor.enter("UpdateItem").await?;
        let verdict = self.with_tables(|tables| match tables.heads.get_mut(account) {
            None => RetireVerdict::NotRegistered,
            Some(head) if head.open_slots() > 0 => RetireVerdict::Open(Box::new(head.clone())),
            Some(head) => {
                head.paused = true;
                head.retired_at = head.retired_at.or(Some(now));
                self.journal.note(|| Entry::Retired(*account));
                RetireVerdict::Retired
            }
        });
        pass.reply(verdict).await
    }

    async fn unregister(
        &self,
        account: &AccountKey,
        name: &AccountName,
        retired_until: Millis,
    ) -> Result<UnregisterVerdict, PortError> {
        let pass = self.interceptor.enter("TransactWriteItems").await?;
        let verdict = self.with_tables(|tables| {
            let Some(head) = tables.heads.get(account).filter(|head| head.name == *name) else {
                return UnregisterVerdict::NotRegistered;
            };
            if let Some(why) = head.stays_registered(retired_until) {
                return UnregisterVerdict::Stays(why);
            }
            tables.heads.remove(account);
            tables.names.remove(name);
            self.journal.note(|| Entry::Unregistered(*account));
            UnregisterVerdict::Unregistered
        });
        pass.reply(verdict).await
    }

    async fn reserve(&self, group: &Reservation) -> Result<ReserveVerdict, PortError> {
        let pass = self.interceptor.enter("TransactWriteItems").await?;
        within_limits(group).map_err(|what| refused("TransactWriteItems", FakeFault::Validation(what)))?;
        let contended = pass.fate() == Fate::Contend;
        let verdict = self.with_tables(|tables| {
            if contended {
                let known = Vec::new();
                return ReserveVerdict::NotReserved { head_changed: false, known, slot_taken: false, contended };
            }
            let verdict = reserve_verdict(tables, group);
            if verdict == ReserveVerdict::Reserved {
                put_reservation(tables, group);
                self.journal.note(|| Entry::Reserved(group.records.clone()));
            }
            verdict
        });
        pass.reply(verdict).await
    }

    async fn load(&self, ids: &[RequestId], now: Millis) -> Result<Vec<Stored>, PortError> {
        let pass = self.interceptor.enter("BatchGetItem").await?;
        let found = self.with_tables(|tables| {
            let missed = std::mem::take(&mut tables.missed);
            let stored = ids.iter().filter(|id| !missed.contains(id)).filter_map(|id| tables.requests.get(id));
            stored.filter(|stored| !expired(stored, now)).cloned().collect()
        });
        pass.reply(found).await
    }

    async fn reject(&self, rejected: &Rejected, over: &Vacancy) -> Result<RejectVerdict, PortError> {
        let pass = self.interceptor.enter("PutItem").await?;
        item_fits(size_of_rejected(rejected)).map_err(|what| refused("PutItem", FakeFault::Validation(what)))?;
        let verdict = self.with_tables(|tables| {
            if !is_vacant(tables, &rejected.request_id, over, rejected.created_at) {
                return RejectVerdict::Occupied;
            }
            tables.requests.insert(rejected.request_id.clone(), Stored::Rejected(rejected.clone()));
            self.journal.note(|| Entry::Rejected(Box::new(rejected.clone())));
            RejectVerdict::Stored
        });
        pass.reply(verdict).await
    }

    async fn update(&self, record: &Record) -> Result<UpdateVerdict, PortError> {
        let pass = self.interceptor.enter("UpdateItem").await?;
        item_fits(size_of_record(record)).map_err(|what| refused("UpdateItem", FakeFault::Validation(what)))?;
        let verdict = self.with_tables(|tables| match tables.requests.get_mut(&record.request_id) {
            Some(Stored::Record(current)) if current.version.checked_add(1) == Some(record.version) => {
                **current = record.clone();
                self.journal.note(|| Entry::Updated(Box::new(record.clone())));
                UpdateVerdict::Stored
            }
            Some(Stored::Record(current)) => UpdateVerdict::Stale(current.clone()),
            Some(Stored::Rejected(_)) | None => UpdateVerdict::Gone,
        });
        pass.reply(verdict).await
    }

    async fn slots(
        &self,
        account: &AccountKey,
        from: Nonce,
        limit: usize,
    ) -> Result<Vec<(Nonce, RequestId)>, PortError> {
        let pass = self.interceptor.enter("Query").await?;
        let range = (Bound::Included((*account, from)), Bound::Included((*account, Nonce(u64::MAX))));
        let found = self.with_tables(|tables| {
            let lane = tables.slots.range(range).take(limit);
            lane.map(|((_, nonce), slot)| (*nonce, slot.request_id.clone())).collect()
        });
        pass.reply(found).await
    }

    async fn leave_slots(
        &self,
        account: &AccountKey,
        from: Nonce,
        to: Nonce,
        expires_at: Millis,
    ) -> Result<bool, PortError> {
        let pass = self.interceptor.enter("UpdateItem").await?;
        let moved = self.with_tables(|tables| {
            match tables.heads.get_mut(account) {
                Some(head) if head.lowest_open_nonce == from && from <= to && to <= head.next_nonce => {
                    head.lowest_open_nonce = to;
                }
                Some(_) | None => return false,
            }
            for (_, slot) in tables.slots.range_mut((*account, from)..(*account, to)) {
                slot.expires_at = Some(expires_at);
            }
            self.journal.note(|| Entry::LeftSlots(*account, from, to));
            true
        });
        pass.reply(moved).await
    }

    async fn move_marks(
        &self,
        account: &AccountKey,
        before: &Marks,
        after: &Marks,
        expires_at: Millis,
    ) -> Result<bool, PortError> {
        after.assert_follows(before);
        let pass = self.interceptor.enter("UpdateItem").await?;
        let moved = self.with_tables(|tables| {
            match tables.heads.get_mut(account) {
                Some(head) if head.marks() == *before && after.lowest_open_nonce <= head.next_nonce => {
                    head.set_marks(after.clone());
                }
                Some(_) | None => return false,
            }
            for left in after.left_since(before) {
                for (_, slot) in tables.slots.range_mut((*account, left.start)..(*account, left.end)) {
                    slot.expires_at = Some(expires_at);
                }
            }
            self.journal.note(|| Entry::MovedMarks(*account, before.clone(), after.clone()));
            true
        });
        pass.reply(moved).await
    }
}

/// The limits that DynamoDB checks before the conditions.
fn within_limits(group: &Reservation) -> Result<(), &'static str> {
    let mut ids: Vec<_> = group.records.iter().map(|record| &record.request_id).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("a transaction cannot write one item twice");
    }
    if group.records.len() * 2 + 1 > 100 {
        return Err("a transaction has at most 100 items");
    }
    if group.records.iter().map(|record| record.intent.data.len()).sum::<usize>() > 4 << 20 {
        return Err("a transaction has at most 4 MB");
    }
    group.records.iter().try_for_each(|record| item_fits(size_of_record(record)))
}

/// DynamoDB's limit for one item.
const ITEM_MAX_BYTES: usize = 400 * 1_024;
/// An upper bound for the attributes of fixed size, including their names, and for those of one attempt, in bytes.
const ITEM_BYTES: usize = 2_000;
const ATTEMPT_BYTES: usize = 300;

fn item_fits(bytes: usize) -> Result<(), &'static str> {
    if bytes > ITEM_MAX_BYTES { Err("Item size has exceeded the maximum allowed size") } else { Ok(()) }
}

fn size_of_record(record: &Record) -> usize {
    let words = |attempt: &Attempt| attempt.sent.as_ref().map_or(0, |sent| sent.answer.message.len());
    let attempts = record.attempts.iter().map(|attempt| ATTEMPT_BYTES + words(attempt)).sum::<usize>();
    let reason = record.reason().map_or(0, |reason| size_of_reason(&reason));
    ITEM_BYTES + record.intent.data.len() + size_of_json(record.metadata.as_ref()) + attempts + reason
}

fn size_of_rejected(rejected: &Rejected) -> usize {
    ITEM_BYTES + size_of_json(rejected.metadata.as_ref()) + size_of_reason(&rejected.reason)
}

fn size_of_reason(reason: &Reason) -> usize {
    let revert = reason.revert.as_ref();
    reason.code.len() + reason.message.len() + revert.map_or(0, |revert| revert.text.len() + revert.raw.len())
}

fn size_of_json(json: Option<&serde_json::Value>) -> usize {
    json.map_or(0, |json| json.to_string().len())
}

fn reserve_verdict(tables: &Tables, group: &Reservation) -> ReserveVerdict {
    let account = group.head.account;
    let head = tables.heads.get(&account);
    let head_changed = head.is_none_or(|head| head.paused || head.next_nonce != group.head.next_nonce);
    let is_known = |record: &&Record| {
        let vacancy = group.vacancy(&record.request_id);
        !is_vacant(tables, &record.request_id, &vacancy, record.created_at)
    };
    let known: Vec<_> = group.records.iter().filter(is_known).map(|record| record.request_id.clone()).collect();
    let slot_taken = group.records.iter().any(|record| tables.slots.contains_key(&(account, record.nonce)));
    if head_changed || slot_taken || !known.is_empty() {
        return ReserveVerdict::NotReserved { head_changed, known, slot_taken, contended: false };
    }
    ReserveVerdict::Reserved
}

fn put_reservation(tables: &mut Tables, group: &Reservation) {
    let account = group.head.account;
    for record in &group.records {
        let slot = Slot { request_id: record.request_id.clone(), expires_at: None };
        tables.slots.insert((account, record.nonce), slot);
        tables.requests.insert(record.request_id.clone(), Stored::Record(Box::new(record.clone())));
    }
    if let (Some(head), Some(last)) = (tables.heads.get_mut(&account), group.records.last()) {
        head.next_nonce = last.nonce.plus(1);
        head.spend = group.spend.or(head.spend);
        head.sender_counts = group.sender_counts.clone().or_else(|| head.sender_counts.take());
    }
}
