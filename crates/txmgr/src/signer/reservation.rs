//! Reserves slots: per account, in message order, in groups that fit into one transaction.

use std::collections::{BTreeMap, BTreeSet};

use tracing::Span;

use crate::account::{Head, Reservation};
use crate::policy::{Accepted, AccountPolicy, Policies};
use crate::ports::{Keys, OutcomeTopic, PortError, ReserveVerdict, Store};
use crate::record::{Acceptance, Phase, Record, Rejected};
use crate::request::{AccountRef, Code, Refused, SigningRequest};
use crate::seal::Sealer;
use crate::units::{AccountKey, ChainId, Digest, Millis, RequestId};
use crate::unusable::KeyFault;
use crate::{error_chain, meters};

use super::MAX_TRIES;
use super::answer::{MessageStatus, find};
use super::batch::Batch;
use super::heads::Heads;
use super::rejection::{Place, Refusal, Rejections, reused};
use super::standing::{KeyStatus, KeyWatch, unusable};
use crate::inbox::Incoming;

/// An accepted request that needs a slot. A part of a batch has no id twice.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'d> {
    /// The index in the batch.
    pub(super) at: usize,
    pub(super) delivery: &'d Incoming,
    pub(super) request: SigningRequest,
    pub(super) account: AccountKey,
    pub(super) accepted: Accepted,
    /// The digest of the policy that accepted it.
    pub(super) policy_digest: Digest,
    /// The rejection of another message that is stored under the request id.
    pub(super) replaces: Option<Box<Rejected>>,
    pub(super) trace: Option<String>,
    /// The span of the acceptance. It ends when the request has its slot.
    pub(super) span: Span,
}

impl Candidate<'_> {
    fn id(&self) -> &RequestId {
        &self.request.id
    }

    /// Whether the account is from a pool, so that another one could be used.
    fn is_pooled(&self) -> bool {
        matches!(self.request.account, Some(AccountRef::Pool(_)))
    }

    /// A refusal of the request for this reason, under its id.
    fn refused(&self, refused: Refused) -> Refusal {
        let place = Place::Named(self.id().clone(), self.replaces.clone());
        self.refused_at(place, refused)
    }

    /// A refusal because the id belongs to another request.
    fn conflict(&self) -> Refusal {
        let id = self.id().clone();
        self.refused_at(Place::Own(Some(id.clone())), reused(id.as_str(), None, None))
    }

    fn refused_at(&self, place: Place, refused: Refused) -> Refusal {
        let refused = Refused { metadata: self.accepted.metadata.clone().map(Box::new), ..refused };
        let request = Some(Box::new(self.request.clone()));
        let (account, digest) = (Some(self.account), Some(self.accepted.digest));
        Refusal { at: self.at, place, request, account, digest, refused }
    }
}

/// A record that answers a message of the batch.
pub(super) struct Resolved {
    pub(super) record: Record,
    pub(super) head: Head,
    /// The index of the delivery that it answers.
    pub(super) at: usize,
}

/// The results of the reservations for one account.
#[derive(Default)]
struct LaneResult {
    /// Records by request id, reserved now or by another worker.
    records: BTreeMap<RequestId, Record>,
    /// Rejections that other workers stored meanwhile for these messages, by request id.
    refused: BTreeMap<RequestId, Rejected>,
    /// Ids that belong to the record of another request.
    taken: BTreeSet<RequestId>,
    /// Rejections of other messages that are stored under the ids of candidates.
    replaced: BTreeMap<RequestId, Rejected>,
    /// Refusals because of the spend limit of the account or the request limit of the sender, by delivery.
    over_limit: BTreeMap<usize, Refused>,
    /// The account is paused or not registered.
    closed: bool,
    /// The account was paused or removed, or its key became unusable, after the requests were assigned to it.
    closed_meanwhile: bool,
    /// The key cannot be used, and requests do not wait for it.
    unusable: Option<KeyFault>,
}

impl LaneResult {
    fn new(head: &Head, candidates: &[&Candidate<'_>]) -> Self {
        let replaced = candidates.iter().filter_map(|candidate| {
            let rejected = candidate.replaces.as_deref()?;
            Some((candidate.id().clone(), rejected.clone()))
        });
        Self { closed: head.paused, replaced: replaced.collect(), ..Self::default() }
    }

    /// Notes the current status of a candidate.
    fn note(&mut self, id: &RequestId, status: MessageStatus) {
        match status {
            MessageStatus::Record(record) => {
                self.records.insert(id.clone(), *record);
            }
            MessageStatus::Refused(rejected) => {
                self.refused.insert(id.clone(), *rejected);
            }
            MessageStatus::Taken => {
                self.taken.insert(id.clone());
            }
            MessageStatus::New(Some(rejected)) => {
                self.replaced.insert(id.clone(), *rejected);
            }
            MessageStatus::New(None) => {
                self.replaced.remove(id);
            }
        }
    }

    /// Whether a candidate no longer needs a slot.
    fn is_answered(&self, id: &RequestId) -> bool {
        self.records.contains_key(id) || self.refused.contains_key(id) || self.taken.contains(id)
    }
}

/// Reserves slots. Needs the store, the key service, and the topic for rejections.
pub(super) struct Reservations<'a, S, K, O> {
    pub(super) watch: KeyWatch<'a, S, K>,
    pub(super) rejections: Rejections<'a, S, O>,
    pub(super) sealer: &'a Sealer,
    pub(super) policies: &'a Policies,
    pub(super) chain_id: ChainId,
}

impl<S: Store, K: Keys, O: OutcomeTopic> Reservations<'_, S, K, O> {
    /// Reserves slots for all candidates. Returns the found and created records with the deliveries they answer.
    pub(super) async fn reserve_all(
        &self,
        batch: &mut Batch<'_>,
        candidates: &[Candidate<'_>],
        heads: &Heads,
        now: Millis,
    ) -> Vec<Resolved> {
        let mut lanes: BTreeMap<AccountKey, Vec<&Candidate<'_>>> = BTreeMap::new();
        for candidate in candidates {
            lanes.entry(candidate.account).or_default().push(candidate);
        }
        let mut resolved = Vec::new();
        for (account, candidates) in lanes {
            let Some(mut head) = heads.get(&account).cloned() else { continue };
            let lane = self.reserve_lane(&mut head, &candidates, now).await;
            self.answer(batch, &head, &candidates, lane, &mut resolved, now).await;
        }
        resolved
    }

    /// Answers each candidate with its record or rejection. Candidates without one are refused or retried.
    async fn answer(
        &self,
        batch: &mut Batch<'_>,
        head: &Head,
        candidates: &[&Candidate<'_>],
        mut lane: LaneResult,
        resolved: &mut Vec<Resolved>,
        now: Millis,
    ) {
        let (mut answers, mut refusals) = (Vec::new(), Vec::new());
        for candidate in candidates {
            let (at, id) = (candidate.at, candidate.id());
            let goes_elsewhere = lane.closed_meanwhile && candidate.is_pooled();
            if let Some(record) = lane.records.remove(id) {
                resolved.extend(self.resolved(batch, record, Some(head), at).await);
            } else if let Some(rejected) = lane.refused.remove(id) {
                answers.push((at, rejected));
            } else if lane.taken.contains(id) {
                refusals.push(candidate.conflict());
            } else if lane.closed && !goes_elsewhere {
                refusals.push(candidate.refused(paused()));
            } else if let Some(fault) = lane.unusable.filter(|_| !goes_elsewhere) {
                refusals.push(candidate.refused(unusable(head, fault)));
            } else if let Some(refused) = lane.over_limit.remove(&at) {
                refusals.push(candidate.refused(refused));
            } else {
                batch.retry(at);
            }
        }
        self.rejections.publish_answers(batch, answers, now).await;
        self.rejections.answer_refusals(batch, refusals, now).await;
    }

    /// The record with the head of its account. If the head cannot be read, the message is retried.
    pub(super) async fn resolved(
        &self,
        batch: &mut Batch<'_>,
        record: Record,
        head: Option<&Head>,
        at: usize,
    ) -> Option<Resolved> {
        match self.head_for(&record, head).await {
            Ok(Some(head)) => return Some(Resolved { record, head, at }),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(error = error_chain(&error), request_id = %record.request_id,
                    "the account of its slot cannot be read; the message stays on the queue");
            }
        }
        batch.retry(at);
        None
    }

    /// The head of the account of a record. In a pool, the message might be assigned to a different account now.
    async fn head_for(&self, record: &Record, head: Option<&Head>) -> Result<Option<Head>, PortError> {
        match head {
            Some(head) if record.account == head.account => Ok(Some(head.clone())),
            Some(_) | None => self.watch.store.head(&record.account).await,
        }
    }

    /// Reserves slots in message order until all candidates are answered, the account is closed, or the store fails.
    /// Updates `head`.
    async fn reserve_lane(&self, head: &mut Head, candidates: &[&Candidate<'_>], now: Millis) -> LaneResult {
        let mut lane = LaneResult::new(head, candidates);
        let policy = self.policies.of(&head.name).ok();
        let mut tries = 0_usize;
        if !lane.closed {
            let was_marked = head.unusable.is_some();
            match self.watch.key_status(head, now).await {
                KeyStatus::Usable => {}
                KeyStatus::MayHeal => return lane,
                KeyStatus::Unusable(fault) => {
                    (lane.unusable, lane.closed_meanwhile) = (Some(fault), !was_marked);
                    return lane;
                }
            }
        }
        while tries < MAX_TRIES && !lane.closed {
            let (mut group, over) = next_group(head, policy, candidates, &lane, now);
            if group.records.is_empty() {
                lane.over_limit = over;
                break;
            }
            group.assert_contiguous();
            for record in &mut group.records {
                record.seal = Some(self.sealer.seal(record));
            }
            match self.claim(&group, &lane).await {
                Ok(ReserveVerdict::Reserved) => {
                    let count = u64::try_from(group.records.len()).unwrap_or(u64::MAX);
                    head.next_nonce = head.next_nonce.plus(count);
                    head.spend = group.spend.or(head.spend);
                    head.sender_counts = group.sender_counts.or_else(|| head.sender_counts.take());
                    for record in group.records {
                        metrics::counter!(meters::ACCEPTED).increment(1);
                        note_reserved(&record, candidates);
                        lane.records.insert(record.request_id.clone(), record);
                    }
                    continue;
                }
                Ok(verdict) => {
                    if let Err(error) = self.after_lost_race(head, &mut lane, candidates, verdict, now).await {
                        tracing::warn!(error = error_chain(&error), account = %head.account, "reservation cannot be read again");
                        break;
                    }
                }
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), account = %head.account, "reservation did not complete");
                    // It may have succeeded. If records are found, they are the answer. Otherwise the messages stay.
                    let ids: Vec<_> = group.records.into_iter().map(|record| record.request_id).collect();
                    if let Err(error) = self.find_known(&mut lane, candidates, &ids, now).await {
                        tracing::warn!(
                            error = error_chain(&error),
                            "records cannot be read; their messages stay on the queue"
                        );
                    }
                    break;
                }
            }
            tries = tries.saturating_add(1);
        }
        lane
    }

    /// Reserves a group. Copies of the rejections that it replaces are stored before.
    async fn claim(&self, group: &Reservation, lane: &LaneResult) -> Result<ReserveVerdict, PortError> {
        for id in group.replaces.keys() {
            if let Some(rejected) = lane.replaced.get(id) {
                self.rejections.keep_copy(rejected).await?;
            }
        }
        self.watch.store.reserve(group).await
    }

    async fn after_lost_race(
        &self,
        head: &mut Head,
        lane: &mut LaneResult,
        candidates: &[&Candidate<'_>],
        verdict: ReserveVerdict,
        now: Millis,
    ) -> Result<(), PortError> {
        let ReserveVerdict::NotReserved { head_changed, known, slot_taken, contended } = verdict else {
            return Ok(());
        };
        tracing::debug!(account = %head.account, head_changed, slot_taken, contended, known = known.len(), "not reserved");
        self.find_known(lane, candidates, &known, now).await?;
        if head_changed || slot_taken {
            match self.watch.store.head(&head.account).await? {
                Some(fresh) => {
                    lane.closed = fresh.paused;
                    *head = fresh;
                }
                None => lane.closed = true,
            }
            lane.closed_meanwhile = lane.closed;
        }
        Ok(())
    }

    /// Reads what other workers have stored under these ids meanwhile.
    async fn find_known(
        &self,
        lane: &mut LaneResult,
        candidates: &[&Candidate<'_>],
        ids: &[RequestId],
        now: Millis,
    ) -> Result<(), PortError> {
        let candidates: Vec<_> = candidates.iter().filter(|candidate| ids.contains(candidate.id())).collect();
        if candidates.is_empty() {
            return Ok(());
        }
        let pairs = candidates.iter().map(|candidate| [candidate.id().clone(), candidate.delivery.own_id()]);
        let ids: Vec<_> = pairs.flatten().collect();
        let found = find(self.watch.store, &ids, now).await?;
        for candidate in candidates {
            let id = candidate.id();
            let request = Some(&candidate.request);
            let status = found.status_of(candidate.delivery, Some(id), request, self.chain_id);
            lane.note(id, status);
        }
        Ok(())
    }
}

fn note_reserved(record: &Record, candidates: &[&Candidate<'_>]) {
    let span =
        candidates.iter().find(|candidate| *candidate.id() == record.request_id).map(|candidate| &candidate.span);
    let span = span.cloned().unwrap_or_else(Span::none);
    span.record("account", tracing::field::display(record.account));
    span.record("nonce", record.nonce.0);
    span.in_scope(|| {
        tracing::info!(request_id = %record.request_id, account = %record.account, nonce = %record.nonce, "reserved");
    });
}

/// The next candidates without an answer, as many as fit into one transaction, and the candidates that exceed a limit.
/// Later candidates may still fit if they cost less or are from another sender.
fn next_group(
    head: &Head,
    policy: Option<&AccountPolicy>,
    candidates: &[&Candidate<'_>],
    lane: &LaneResult,
    now: Millis,
) -> (Reservation, BTreeMap<usize, Refused>) {
    let mut group = Reservation {
        head: head.clone(),
        records: Vec::new(),
        spend: None,
        sender_counts: None,
        replaces: BTreeMap::new(),
    };
    let mut over: BTreeMap<usize, Refused> = BTreeMap::new();
    let mut bytes = 0_usize;
    for candidate in candidates {
        if lane.is_answered(candidate.id()) {
            continue;
        }
        let Accepted { intent, fee_cap, .. } = &candidate.accepted;
        let (before, counted) = (group.spend.or(head.spend), group.sender_counts.as_ref());
        let counted = counted.or(head.sender_counts.as_ref());
        let sender = candidate.delivery.sender.as_deref();
        let within = policy.map_or(Ok((None, None)), |policy| {
            let counts = policy.count_request(counted, sender, now)?;
            Ok((policy.spend(before, intent, *fee_cap, now)?, counts))
        });
        let (spend, sender_counts) = match within {
            Ok(within) => within,
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
        group.records.push(reserved(candidate, head, place, policy, now));
        if let Some(rejected) = lane.replaced.get(candidate.id()) {
            group.replaces.insert(candidate.id().clone(), rejected.message_id.clone());
        }
        (group.spend, group.sender_counts) = (spend, sender_counts);
    }
    (group, over)
}

fn paused() -> Refused {
    let text = "`account` is paused; send the request again, under the same id, when it is resumed";
    Refused::field(Code::AccountPaused, "account", text)
}

fn reserved(candidate: &Candidate<'_>, head: &Head, place: u64, policy: Option<&AccountPolicy>, now: Millis) -> Record {
    let accepted = &candidate.accepted;
    Record {
        request_id: candidate.id().clone(),
        digest: accepted.digest,
        version: 0,
        account: head.account,
        name: head.name.clone(),
        nonce: head.next_nonce.plus(place),
        intent: accepted.intent.clone(),
        fee: accepted.fee,
        fee_cap: accepted.fee_cap,
        deadline: accepted.deadline,
        acceptance: Some(Acceptance::of(&candidate.request, candidate.policy_digest)),
        max_head_ms: policy.map(|policy| policy.max_head_ms),
        metadata: accepted.metadata.clone(),
        sender: candidate.delivery.sender.clone(),
        message_id: Some(candidate.delivery.message_id.clone()),
        trace: candidate.trace.clone(),
        seal: None,
        attempts: Vec::new(),
        cancel: None,
        capped_since: None,
        inquiry: None,
        waiting: None,
        phase: Phase::Reserved,
        created_at: now,
        updated_at: now,
    }
}
