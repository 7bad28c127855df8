//! Reserving slots: per account, in message order, in groups of one transaction.

use std::collections::BTreeMap;

use tracing::Span;

use crate::account::{Head, Reservation};
use crate::policy::AccountPolicy;
use crate::ports::{BroadcastQueue, Keys, OutcomeTopic, PortError, ReserveVerdict, Store};
use crate::record::{Phase, Record, Stored};
use crate::request::{Accepted, Code, Refused};
use crate::units::{AccountKey, Millis, RequestId};
use crate::{meters, told};

use super::rejection::conflict;
use super::{Batch, Heads, Refusal, Resolved, Signer};

/// An accepted request that waits for its slot.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// Its delivery.
    pub(super) at: usize,
    pub(super) id: RequestId,
    pub(super) account: AccountKey,
    /// The account is one of a pool's, and another would do.
    pub(super) is_pooled: bool,
    pub(super) accepted: Accepted,
    pub(super) sender: Option<String>,
    pub(super) message_id: String,
    pub(super) trace: Option<String>,
    /// In which it is accepted; ends when it has its slot.
    pub(super) span: Span,
}

impl Candidate {
    /// Its refusal for this reason.
    fn refused(&self, refused: Refused) -> Refusal {
        let refused = Refused { metadata: self.accepted.metadata.clone().map(Box::new), ..refused };
        let digest = Some(self.accepted.digest);
        Refusal { id: self.id.clone(), account: Some(self.account), digest, refused }
    }
}

/// What the reservation of one account came to.
#[derive(Default)]
struct Lane {
    /// Records by request id: reserved now or known from before.
    records: BTreeMap<RequestId, Record>,
    /// Why deliveries get no slot now: the account has spent what it may.
    over: BTreeMap<usize, Refused>,
    /// The account is paused or gone.
    closed: bool,
    /// And was neither when the requests were assigned to it.
    closed_since: bool,
}

impl<S: Store, K: Keys, B: BroadcastQueue, O: OutcomeTopic> Signer<S, K, B, O> {
    /// Reserves slots for every candidate; the records found or made, with the deliveries they answer.
    /// An id that is asked for with two accounts is the first one's: the other comes after all lanes.
    pub(super) async fn reserve_all(
        &self,
        batch: &mut Batch<'_>,
        candidates: &[Candidate],
        heads: Heads,
        now: Millis,
    ) -> Vec<Resolved> {
        let mut owners: BTreeMap<&RequestId, AccountKey> = BTreeMap::new();
        let (mut owning, mut others) = (BTreeMap::new(), BTreeMap::new());
        for candidate in candidates {
            let owner = *owners.entry(&candidate.id).or_insert(candidate.account);
            let turn = if owner == candidate.account { &mut owning } else { &mut others };
            turn.entry(candidate.account).or_insert_with(Vec::new).push(candidate);
        }
        let mut resolved = Vec::new();
        for (account, candidates) in owning.into_iter().chain(others) {
            let Some(mut head) = heads.get(&account).cloned() else { continue };
            let lane = self.reserve_lane(&mut head, &candidates, now).await;
            self.answer(batch, &head, &candidates, lane, &mut resolved, now).await;
        }
        resolved
    }

    /// Finds the record that answers each candidate; what has none is refused, or retried.
    async fn answer(
        &self,
        batch: &mut Batch<'_>,
        head: &Head,
        candidates: &[&Candidate],
        mut lane: Lane,
        resolved: &mut Vec<Resolved>,
        now: Millis,
    ) {
        let mut by: BTreeMap<RequestId, Vec<usize>> = BTreeMap::new();
        let mut conflicts = Vec::new();
        let mut refusals = Vec::new();
        for candidate in candidates {
            match lane.records.get(&candidate.id) {
                Some(record) if record.digest == candidate.accepted.digest => {
                    by.entry(candidate.id.clone()).or_default().push(candidate.at);
                }
                Some(_) => {
                    let metadata = candidate.accepted.metadata.clone();
                    let digest = candidate.accepted.digest;
                    conflicts.push((candidate.at, conflict(candidate.id.clone(), candidate.account, digest, metadata)));
                }
                None if lane.closed_since && candidate.is_pooled => batch.retry(&[candidate.at]),
                None if lane.closed => refusals.push((candidate.at, candidate.refused(paused()))),
                None => match lane.over.get(&candidate.at) {
                    Some(refused) => refusals.push((candidate.at, candidate.refused(refused.clone()))),
                    None => batch.retry(&[candidate.at]),
                },
            }
        }
        self.publish_conflicts(batch, conflicts, now).await;
        self.settle_refusals(batch, refusals, now).await;
        for (id, by) in by {
            let Some(record) = lane.records.remove(&id) else { continue };
            match self.head_for(&record, head).await {
                Ok(Some(head)) => resolved.push(Resolved { record, head, by }),
                Ok(None) => batch.retry(&by),
                Err(error) => {
                    tracing::warn!(error = told(&error), request_id = %id, "the account of its slot cannot be read; the message stays");
                    batch.retry(&by);
                }
            }
        }
    }

    /// Claims slots in message order until every candidate has a record, the account is closed, or
    /// the store cannot say. `head` is brought up to date.
    async fn reserve_lane(&self, head: &mut Head, candidates: &[&Candidate], now: Millis) -> Lane {
        let mut lane = Lane { closed: head.paused, ..Lane::default() };
        let policy = self.config.policies.of(&head.name).ok();
        let mut tries = 0_usize;
        if lane.closed {
            // What was reserved before the pause still answers its repeats.
            self.find_known(&mut lane, candidates, now).await;
            return lane;
        }
        while tries < Self::MAX_TRIES {
            let (group, over) = next_group(head, policy, candidates, &lane, now);
            if group.records.is_empty() {
                // What has a slot already counts no more, and its repeat must find it.
                if !over.is_empty() && self.find_known(&mut lane, candidates, now).await {
                    lane.over = over;
                }
                break;
            }
            group.assert_contiguous();
            match self.store.reserve(&group).await {
                Ok(ReserveVerdict::Reserved) => {
                    let count = u64::try_from(group.records.len()).unwrap_or(u64::MAX);
                    head.next_nonce = head.next_nonce.plus(count);
                    head.spend = group.spend.or(head.spend);
                    for record in group.records {
                        metrics::counter!(meters::ACCEPTED).increment(1);
                        note_reserved(&record, candidates);
                        lane.records.insert(record.request_id.clone(), record);
                    }
                    continue;
                }
                Ok(verdict) => {
                    if let Err(error) = self.after_lost_race(head, &mut lane, verdict, now).await {
                        tracing::warn!(error = told(&error), account = %head.account, "reservation cannot be read again");
                        break;
                    }
                }
                Err(error) => {
                    tracing::warn!(error = told(&error), account = %head.account, "reservation did not complete");
                    // It may hold: what is known then answers. Otherwise the messages stay.
                    self.find_known(&mut lane, candidates, now).await;
                    break;
                }
            }
            if lane.closed {
                lane.closed_since = true;
                self.find_known(&mut lane, candidates, now).await;
                break;
            }
            tries = tries.saturating_add(1);
        }
        lane
    }

    async fn after_lost_race(
        &self,
        head: &mut Head,
        lane: &mut Lane,
        verdict: ReserveVerdict,
        now: Millis,
    ) -> Result<(), PortError> {
        let ReserveVerdict::NotReserved { head_changed, known, slot_taken, contended } = verdict else {
            return Ok(());
        };
        tracing::debug!(account = %head.account, head_changed, slot_taken, contended, known = known.len(), "not reserved");
        if !known.is_empty() {
            for stored in self.store.load(&known, now).await? {
                keep_record(lane, stored);
            }
        }
        if head_changed || slot_taken {
            match self.store.head(&head.account).await? {
                Some(fresh) => {
                    lane.closed = fresh.paused;
                    *head = fresh;
                }
                None => lane.closed = true,
            }
        }
        Ok(())
    }

    /// Reads the records that candidates have from before; whether that could be told.
    async fn find_known(&self, lane: &mut Lane, candidates: &[&Candidate], now: Millis) -> bool {
        let ids: Vec<_> = candidates
            .iter()
            .filter(|candidate| !lane.records.contains_key(&candidate.id))
            .map(|candidate| candidate.id.clone())
            .collect();
        if ids.is_empty() {
            return true;
        }
        match self.store.load(&ids, now).await {
            Ok(stored) => {
                for stored in stored {
                    keep_record(lane, stored);
                }
                true
            }
            Err(error) => {
                tracing::warn!(error = told(&error), "records cannot be read; their messages stay on the queue");
                // Without them a paused account's repeats would be told apart wrongly.
                lane.closed = false;
                false
            }
        }
    }
}

fn note_reserved(record: &Record, candidates: &[&Candidate]) {
    let span = candidates.iter().find(|candidate| candidate.id == record.request_id).map(|candidate| &candidate.span);
    let span = span.cloned().unwrap_or_else(Span::none);
    span.record("account", tracing::field::display(record.account));
    span.record("nonce", record.nonce.0);
    span.in_scope(|| {
        tracing::info!(request_id = %record.request_id, account = %record.account, nonce = %record.nonce, "reserved");
    });
}

fn keep_record(lane: &mut Lane, stored: Stored) {
    if let Stored::Record(record) = stored {
        lane.records.insert(record.request_id.clone(), *record);
    }
}

/// The next candidates without a record, each id once, as many as one transaction takes; and those
/// that the spend limit leaves out. A later, cheaper one may still fit.
fn next_group(
    head: &Head,
    policy: Option<&AccountPolicy>,
    candidates: &[&Candidate],
    lane: &Lane,
    now: Millis,
) -> (Reservation, BTreeMap<usize, Refused>) {
    let mut group = Reservation { head: head.clone(), records: Vec::new(), spend: None };
    let mut over: BTreeMap<usize, Refused> = BTreeMap::new();
    let mut bytes = 0_usize;
    for candidate in candidates {
        let again = group.records.iter().any(|record| record.request_id == candidate.id);
        // An id that is left out is not taken by other contents of the same batch: they come again.
        let after_other = candidates.iter().any(|other| {
            over.contains_key(&other.at)
                && other.id == candidate.id
                && other.accepted.digest != candidate.accepted.digest
        });
        if again || after_other || lane.records.contains_key(&candidate.id) {
            continue;
        }
        let Accepted { intent, fee_cap, .. } = &candidate.accepted;
        let before = group.spend.or(head.spend);
        let spend = match policy.map_or(Ok(None), |policy| policy.spend(before, intent, *fee_cap, now)) {
            Ok(spend) => spend,
            Err(refused) => {
                over.insert(candidate.at, refused);
                continue;
            }
        };
        bytes = bytes.saturating_add(intent.data.len());
        let is_full = group.records.len() == Reservation::MAX_RECORDS;
        if is_full || (bytes > Reservation::MAX_BYTES && !group.records.is_empty()) {
            break;
        }
        let place = u64::try_from(group.records.len()).unwrap_or(u64::MAX);
        group.records.push(reserved(candidate, head, place, now));
        group.spend = spend;
    }
    (group, over)
}

fn paused() -> Refused {
    let text = "`account` is paused; send the request again, under the same id, when it is resumed";
    Refused::field(Code::AccountPaused, "account", text)
}

fn reserved(candidate: &Candidate, head: &Head, place: u64, now: Millis) -> Record {
    let accepted = &candidate.accepted;
    Record {
        request_id: candidate.id.clone(),
        digest: accepted.digest,
        version: 0,
        account: head.account,
        name: head.name.clone(),
        nonce: head.next_nonce.plus(place),
        intent: accepted.intent.clone(),
        fee: accepted.fee,
        fee_cap: accepted.fee_cap,
        deadline: accepted.deadline,
        metadata: accepted.metadata.clone(),
        sender: candidate.sender.clone(),
        message_id: Some(candidate.message_id.clone()),
        trace: candidate.trace.clone(),
        attempts: Vec::new(),
        cancel: None,
        phase: Phase::Reserved,
        created_at: now,
        updated_at: now,
    }
}
