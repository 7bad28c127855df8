//! The signer's driver: from a batch of messages to stored signatures.
//!
//! Parse → policy → reserve → sign → store → poke, in this order, over the ports. It holds no key,
//! opens no connection and reads no clock; `now` is an argument. It never talks to the chain.
//!
//! ## Guarantees
//! * A message is [`Disposition::Done`] only when the record (or the published rejection) carries its
//!   effect (I13).
//! * For one attempt only the first stored signature counts; the loser of a race forgets its own.
//! * Nothing policy refuses reaches the key service, now or when resumed (I9).
//! * Nothing reaches it but what a signer accepted, for an account that the deployment lists (G8, I17): the record has
//!   its seal, and the head says what [`crate::pins`] says.
//! * A message is judged once (G2): what answered it is stored with its message id, and answers it again.
//! * A sender whom no policy knows is refused before anything is read for its message, at the cost of one write.
//! * Nothing is said under an id that the message does not own. The owner of an id is the first allowed sender whose
//!   request got a record.
//!
//! ## Does not guarantee
//! * That a poke arrives: the sweep replaces lost ones.
//!
//! Read next: [`crate::broadcaster`].

mod answer;
mod attempt;
mod batch;
mod cancel;
mod directory;
mod pool;
mod rejection;
mod reservation;
mod standing;
mod stranger;

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use futures_util::future::join;
use futures_util::stream::{self, StreamExt};
use tracing::Span;

use crate::account::Head;
use crate::inbox::{Disposition, Incoming};
use crate::pins::Pins;
use crate::policy::{NetworkRules, Policies, accept};
use crate::ports::{BroadcastQueue, Keys, OutcomeTopic, Store};
use crate::record::{Phase, Record, Rejected};
use crate::request::{AccountRef, Code, Message, Refused, SigningRequest};
use crate::seal::Sealer;
use crate::signature::PublicKey;
use crate::start::OfChain;
use crate::units::{AccountKey, AccountName, ChainId, KmsKeyId, Millis, RequestId, Wei};
use crate::wire::{LanePoke, OutcomeMessage};
use crate::{meters, poke, publish, told, trace};

use self::answer::{Found, Standing};
pub use self::attempt::AttemptError;
use self::batch::{Batch, Inbound};
use self::cancel::Cancel;
use self::directory::{Heads, Unknown};
use self::pool::Unresolved;
use self::rejection::{Place, Refusal, reused};
use self::reservation::Candidate;
use self::standing::Marked;

/// What a signer is configured with.
#[derive(Debug, Clone)]
pub struct SignerConfig {
    /// Accounts of other chains are not signed for.
    pub chain_id: ChainId,
    /// What each account may do.
    pub policies: Policies,
    /// Which accounts may be signed for.
    pub pins: Pins,
    /// Seals what is accepted, and checks it before each signature.
    pub sealer: Sealer,
    /// What the network takes.
    pub network: NetworkRules,
    /// How long a rejection is kept after it was published, in milliseconds.
    pub retention_ms: u64,
    /// Signatures asked for at once.
    pub sign_concurrency: usize,
}

/// The signer over its ports.
#[derive(Debug)]
pub struct Signer<S, K, B, O> {
    store: S,
    keys: K,
    lanes: B,
    topic: O,
    config: SignerConfig,
    /// Accounts by name as last read; a name that is missing is looked up again.
    registry: Mutex<BTreeMap<String, AccountKey>>,
    /// What the directory did not have a moment ago.
    unknown: Mutex<Unknown>,
    /// Public keys never change: read once per process (G6).
    public_keys: Mutex<HashMap<KmsKeyId, PublicKey>>,
    /// Accounts whose keys could not be used, as last looked at.
    marks: Mutex<HashMap<AccountKey, Marked>>,
}

/// One message on its way through the batch.
enum Work<'d> {
    /// Waits for its slot.
    Candidate(Box<Candidate<'d>>),
    /// Was answered before by this record.
    Accepted(Box<Record>),
    /// Was answered before by this refusal.
    Answered(Box<Rejected>),
    /// Has an outcome without a slot.
    Refused(Box<Refusal>),
    /// Asks to cancel a request.
    Cancel(Cancel),
    /// Cannot be judged now.
    Retry,
}

/// The messages of a part of a batch, by what is to be done with them.
#[derive(Default)]
struct Sorted<'d> {
    candidates: Vec<Candidate<'d>>,
    accepted: Vec<(usize, Record)>,
    answered: Vec<(usize, Rejected)>,
    refusals: Vec<Refusal>,
    cancels: Vec<Cancel>,
}

impl<'d> Sorted<'d> {
    fn put(&mut self, at: usize, work: Work<'d>, batch: &mut Batch<'_>) {
        match work {
            Work::Candidate(candidate) => self.candidates.push(*candidate),
            Work::Accepted(record) => self.accepted.push((at, *record)),
            Work::Answered(rejected) => self.answered.push((at, *rejected)),
            Work::Refused(refusal) => self.refusals.push(*refusal),
            Work::Cancel(cancel) => self.cancels.push(cancel),
            Work::Retry => batch.retry(at),
        }
    }
}

impl<S: Store, K: Keys, B: BroadcastQueue, O: OutcomeTopic> Signer<S, K, B, O> {
    /// Most times a lost race for the lane or for a record is run again within one batch.
    pub(crate) const MAX_TRIES: usize = 8;

    /// A signer over these ports.
    pub fn new(store: S, keys: K, lanes: B, topic: O, config: SignerConfig) -> Self {
        Self {
            store,
            keys,
            lanes,
            topic,
            config,
            registry: Mutex::new(BTreeMap::new()),
            unknown: Mutex::new(Unknown::default()),
            public_keys: Mutex::new(HashMap::new()),
            marks: Mutex::new(HashMap::new()),
        }
    }

    /// Handles a batch of the signing queue; one disposition per delivery, in order.
    pub async fn handle(&self, deliveries: &[Incoming], now: Millis) -> Vec<Disposition> {
        let mut batch = Batch::new(deliveries);
        self.refuse_strangers(&mut batch, now).await;
        for part in batch.parts() {
            let (held, part): (Vec<_>, Vec<_>) = part.into_iter().partition(|inbound| batch.is_held(inbound));
            for inbound in held {
                batch.retry(inbound.at);
            }
            self.handle_part(&mut batch, part, now).await;
        }
        self.poke(&batch, now).await;
        batch.dispositions()
    }

    /// Handles messages of which each names another id.
    async fn handle_part(&self, batch: &mut Batch<'_>, part: Vec<Inbound<'_>>, now: Millis) {
        if part.is_empty() {
            return;
        }
        let (found, mut heads) = join(self.find_answers(&part, now), self.heads_for(&part, now)).await;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(
                    error = told(&error),
                    "what answers these messages cannot be read; they stay on the queue"
                );
                for inbound in part {
                    batch.retry(inbound.at);
                }
                return;
            }
        };
        self.refresh_all(&mut heads, now).await;
        let mut sorted = Sorted::default();
        for inbound in part {
            let (at, span) = (inbound.at, accepting(&inbound));
            let _in_span = span.enter();
            sorted.put(at, self.judge(inbound, &found, &heads, now), batch);
        }
        let Sorted { candidates, accepted, answered, refusals, cancels } = sorted;
        self.publish_answers(batch, answered, now).await;
        self.settle_refusals(batch, refusals, now).await;
        let mut resolved = self.resume(batch, accepted, &heads).await;
        resolved.extend(self.reserve_all(batch, &candidates, &heads, now).await);
        self.carry_cancels(batch, cancels, now).await;
        self.sign_all(batch, resolved, now).await;
    }

    /// Messages that have their records: what is not signed yet is to be.
    async fn resume(&self, batch: &mut Batch<'_>, accepted: Vec<(usize, Record)>, heads: &Heads) -> Vec<Resolved> {
        let mut resolved = Vec::new();
        for (at, record) in accepted {
            if record.phase == Phase::Reserved {
                let head = heads.get(&record.account);
                resolved.extend(self.resolved(batch, record, head, at).await);
                continue;
            }
            if !record.is_closed() {
                batch.touch(record.account);
            }
            batch.done(at);
        }
        resolved
    }

    /// Takes up the accounts of our chain; also those that cannot be read, which are not unknown.
    fn note_accounts(&self, ours: &OfChain) {
        let readable = ours.heads.iter().map(|head| (head.name.to_string(), head.account));
        let unreadable = ours.unreadable.iter().filter_map(|entry| Some((entry.name.clone(), entry.account?)));
        let names = readable.chain(unreadable).collect();
        *self.registry.lock().expect("no code panics while holding the registry") = names;
    }

    /// Which account a request means, as far as the registry knows.
    fn resolve(&self, asked: Option<&AccountRef>) -> Result<AccountKey, Refused> {
        let registry = self.registry.lock().expect("no code panics while holding the registry");
        let unknown = || Refused::field(Code::UnknownAccount, "account", "`account` is not registered here");
        let by_key = |key: &AccountKey| registry.values().find(|known| *known == key).copied().ok_or_else(unknown);
        match asked {
            None if registry.len() == 1 => registry.values().next().copied().ok_or_else(unknown),
            None if registry.is_empty() => Err(unknown()),
            None => Err(Refused::field(
                Code::AccountRequired,
                "account",
                "`account` must be given: several accounts are registered",
            )),
            Some(AccountRef::Name(name)) => registry.get(name.as_str()).copied().ok_or_else(unknown),
            // Which of its accounts is decided where their heads are known.
            Some(AccountRef::Pool(_)) => Err(unknown()),
            Some(AccountRef::Key(key)) => by_key(key),
            Some(AccountRef::Address(address)) => {
                by_key(&AccountKey { chain_id: self.config.chain_id, address: *address })
            }
        }
    }

    /// What is to be done with one message: what answered it before, or static checks and policy.
    fn judge<'d>(&self, inbound: Inbound<'d>, found: &Found, heads: &Heads, now: Millis) -> Work<'d> {
        let (at, delivery, named) = (inbound.at, inbound.delivery, inbound.named().cloned());
        let request = match inbound.message {
            Ok(Message::Sign(request)) => Ok(request),
            Ok(Message::Cancel(id)) => return self.judge_cancel(at, delivery, id, found),
            Err(refused) => Err(refused),
        };
        let stranger = self.stranger(at, delivery, || named.clone());
        // A record that another's message got does nothing for a stranger's, even if it asks for the same.
        let asked = if stranger.is_some() { None } else { request.as_ref().ok() };
        let standing = found.standing(delivery, named.as_ref(), asked, self.config.chain_id);
        if let (Standing::Taken | Standing::New(_), Some(refusal)) = (&standing, stranger) {
            return Work::Refused(Box::new(refusal));
        }
        let replaces = match standing {
            Standing::Record(record) => return Work::Accepted(record),
            Standing::Refused(rejected) => return Work::Answered(rejected),
            Standing::Taken => return Work::Refused(Box::new(self.conflict(at, request, named, heads))),
            Standing::New(replaces) => replaces,
        };
        let request = match request {
            Ok(request) => request,
            Err(refused) => {
                let place = self.place(named, replaces, None, delivery);
                let refusal = Refusal { at, place, request: None, account: None, digest: None, refused };
                return Work::Refused(Box::new(refusal));
            }
        };
        match self.head_of(&request, heads) {
            Ok(head) => self.judge_request(at, delivery, request, replaces, head, now),
            Err(Unresolved::Unread) => Work::Retry,
            Err(Unresolved::Refused(refused)) => {
                let refused = Refused { metadata: request.metadata.clone().map(Box::new), ..*refused };
                let place = self.place(named, replaces, None, delivery);
                let request = Some(Box::new(request));
                Work::Refused(Box::new(Refusal { at, place, request, account: None, digest: None, refused }))
            }
        }
    }

    fn judge_cancel<'d>(&self, at: usize, delivery: &'d Incoming, id: RequestId, found: &Found) -> Work<'d> {
        if let Some(rejected) = found.refusal_of(delivery) {
            return Work::Answered(Box::new(rejected.clone()));
        }
        // A request of another Signpost on the same tables is none of this one's.
        let ours = |record: &&Record| record.account.chain_id == self.config.chain_id;
        let record = found.record(&id).filter(ours).cloned().map(Box::new);
        let is_noted = record.as_ref().is_some_and(|record| record.cancel.is_some());
        match self.stranger(at, delivery, || Some(id.clone())) {
            // What was noted may have been by this very message, when policy still knew its sender.
            Some(refusal) if !is_noted => Work::Refused(Box::new(refusal)),
            Some(_) | None => Work::Cancel(Cancel { at, id, record }),
        }
    }

    fn judge_request<'d>(
        &self,
        at: usize,
        delivery: &'d Incoming,
        request: SigningRequest,
        replaces: Option<Box<Rejected>>,
        head: &Head,
        now: Millis,
    ) -> Work<'d> {
        let sender = delivery.sender.as_deref();
        let verdict = self.config.policies.of(&head.name).and_then(|policy| {
            // First, so that a sender whom policy does not take learns nothing else.
            policy.check_sender(sender)?;
            let price = head.fee.map(|fee| fee.gas_price);
            accept(&request, &head.account, policy, &self.config.network, price, sender, now)
        });
        match verdict {
            Ok(accepted) => {
                let span = Span::current();
                Work::Candidate(Box::new(Candidate {
                    at,
                    delivery,
                    request,
                    account: head.account,
                    accepted,
                    policy_digest: self.config.policies.digest(),
                    replaces,
                    trace: trace::kept(&span, delivery.trace.as_deref()),
                    span,
                }))
            }
            Err(refused) => {
                let (account, digest) = (Some(head.account), Some(request.digest(&head.account)));
                let refused = Refused { metadata: request.metadata.clone().map(Box::new), ..refused };
                let place = self.place(Some(request.id.clone()), replaces, Some(&head.name), delivery);
                let request = Some(Box::new(request));
                Work::Refused(Box::new(Refusal { at, place, request, account, digest, refused }))
            }
        }
    }

    /// The refusal of a message whose id has the record of another request.
    fn conflict(
        &self,
        at: usize,
        request: Result<SigningRequest, Refused>,
        named: Option<RequestId>,
        heads: &Heads,
    ) -> Refusal {
        let (request, problem, metadata) = match request {
            Ok(request) => {
                let metadata = request.metadata.clone().map(Box::new);
                (Some(Box::new(request)), None, metadata)
            }
            Err(refused) => (None, Some(refused.message), refused.metadata),
        };
        let head = request.as_ref().and_then(|request| self.head_of(request, heads).ok());
        let account = head.map(|head| head.account);
        let digest = request.as_ref().and_then(|request| Some(request.digest(&account?)));
        let id = named.as_ref().map_or("", RequestId::as_str);
        let refused = reused(id, problem.as_deref(), metadata);
        Refusal { at, place: Place::Own(named), request, account, digest, refused }
    }

    /// Where the refusal of a message is said: under the id it names only if policy takes its sender at all.
    /// `account` is the one the request is for, if that is known.
    fn place(
        &self,
        named: Option<RequestId>,
        replaces: Option<Box<Rejected>>,
        account: Option<&AccountName>,
        delivery: &Incoming,
    ) -> Place {
        let sender = delivery.sender.as_deref();
        let policies = &self.config.policies;
        let is_taken = match account.map(|account| policies.of(account)) {
            Some(Ok(policy)) => policy.check_sender(sender).is_ok(),
            Some(Err(_)) | None => policies.take(sender),
        };
        match named {
            Some(id) if is_taken => Place::Named(id, replaces),
            Some(_) | None => Place::Own(named),
        }
    }

    /// Signs what has no signature yet, several at once.
    async fn sign_all(&self, batch: &mut Batch<'_>, resolved: Vec<Resolved>, now: Millis) {
        for Resolved { record, .. } in &resolved {
            batch.note_nonce(record);
        }
        let unsigned = resolved.into_iter().map(|Resolved { record, head, at }| async move {
            let request_id = record.request_id.clone();
            let signed = self.first_attempt(record, &head, Wei::ZERO, now).await;
            (at, request_id, signed)
        });
        let mut signing = stream::iter(unsigned).buffer_unordered(self.config.sign_concurrency.max(1));
        while let Some((at, request_id, signed)) = signing.next().await {
            match signed {
                Ok(record) => {
                    if !record.is_closed() {
                        batch.touch(record.account);
                    }
                    batch.done(at);
                }
                // Stored as it is, it waits for people; the message can do no more for it.
                Err(AttemptError::Unsealed(_)) => batch.done(at),
                Err(error) => {
                    metrics::counter!(meters::NOT_SIGNED).increment(1);
                    tracing::warn!(error = told(&error), %request_id, "not signed; the message stays on the queue, the slot stays reserved");
                    batch.retry(at);
                }
            }
        }
    }

    /// One poke per lane touched, by its head as it is after everything was stored ([`poke`]). A poke that cannot be
    /// sent is the sweep's business.
    async fn poke(&self, batch: &Batch<'_>, now: Millis) {
        let id = batch.deliveries.first().map_or("", |delivery| delivery.message_id.as_str());
        let cause = format!("signed {id}");
        let mut pokes = Vec::with_capacity(batch.touched.len());
        for account in &batch.touched {
            let head = self.store.head(account).await.unwrap_or_else(|error| {
                tracing::debug!(error = told(&error), %account, "whether the lane was open is not known");
                None
            });
            let lowest = batch.lowest.get(account).copied();
            pokes.push(poke::after_storing(account, lowest, head.as_ref(), &cause, now));
        }
        self.send_pokes(&pokes).await;
    }

    async fn send_pokes(&self, pokes: &[LanePoke]) {
        if pokes.is_empty() {
            return;
        }
        if let Err(error) = self.lanes.poke_lanes(pokes).await {
            tracing::warn!(error = told(&error), "the broadcaster was not poked; the sweep will");
        }
    }
}

/// A record that answers a message of the batch.
struct Resolved {
    record: Record,
    head: Head,
    /// The delivery it answers.
    at: usize,
}

/// Publishes and says which went out; every failure is logged.
async fn publish_each<O: OutcomeTopic>(topic: &O, outcomes: &[OutcomeMessage]) -> Vec<bool> {
    if outcomes.is_empty() {
        return Vec::new();
    }
    let answers = publish::all(topic, outcomes).await;
    answers
        .into_iter()
        .zip(outcomes)
        .map(|(answer, outcome)| match answer {
            Ok(()) => {
                metrics::counter!(meters::PUBLISHED).increment(1);
                true
            }
            Err(error) => {
                metrics::counter!(meters::NOT_PUBLISHED).increment(1);
                tracing::warn!(error = told(&error), request_id = %outcome.request_id, "outcome not published; it will be");
                false
            }
        })
        .collect()
}

/// The span in which a message is read, judged and given its slot, in the trace its sender named.
fn accepting(inbound: &Inbound<'_>) -> Span {
    let span = tracing::info_span!(
        "accept",
        message_id = %inbound.delivery.message_id,
        request_id = tracing::field::Empty,
        account = tracing::field::Empty,
        nonce = tracing::field::Empty,
    );
    if let Some(id) = inbound.named() {
        span.record("request_id", tracing::field::display(id));
    }
    trace::join(&span, inbound.delivery.trace.as_deref());
    span
}
