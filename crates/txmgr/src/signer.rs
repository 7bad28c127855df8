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
//!
//! ## Does not guarantee
//! * That a poke arrives: the sweep replaces lost ones.
//!
//! Read next: [`crate::broadcaster`].

mod attempt;
mod cancel;
mod pool;
mod rejection;
mod reservation;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use futures_util::stream::{self, StreamExt};
use serde_json::Value;
use tracing::Span;

use crate::account::Head;
use crate::policy::Policies;
use crate::ports::{BroadcastQueue, Keys, OutcomeTopic, PortError, Store};
use crate::record::Record;
use crate::request::{AccountRef, Code, Message, NetworkRules, Refused, SigningRequest, accept};
use crate::signature::PublicKey;
use crate::units::{AccountKey, ChainId, Digest, KmsKeyId, Millis, Nonce, RequestId};
use crate::wire::{LanePoke, OutcomeMessage};
use crate::{meters, poke, told, trace};

pub use self::attempt::AttemptError;
use self::reservation::Candidate;

/// One message of the signing queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// SQS's id of the message; the same on every redelivery.
    pub message_id: String,
    /// The FIFO group; `None` on a standard queue.
    pub group: Option<String>,
    /// SQS's `SenderId`, which the sender cannot forge.
    pub sender: Option<String>,
    /// Trace context (`AWSTraceHeader` or `traceparent`).
    pub trace: Option<String>,
    /// The request as JSON.
    pub body: String,
}

impl Delivery {
    /// The id under which a message is answered that has none, or is not to be answered under the one it names.
    fn id_of_its_own(&self) -> RequestId {
        format!("sqs:{}", self.message_id)
            .parse()
            .expect("an SQS message id is short and made of letters, digits and dashes")
    }
}

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Its effect is stored: delete it.
    Done,
    /// It may be retried: leave it on the queue.
    Retry,
}

/// What a signer is configured with.
#[derive(Debug, Clone)]
pub struct SignerConfig {
    /// Accounts of other chains are not signed for.
    pub chain_id: ChainId,
    /// What each account may do.
    pub policies: Policies,
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
    /// Public keys never change: read once per process (G6).
    public_keys: Mutex<HashMap<KmsKeyId, PublicKey>>,
}

/// One message on its way through the batch.
enum Work {
    /// Waits for its slot.
    Candidate(Box<Candidate>),
    /// Has an outcome without a slot.
    Refused(Box<Refusal>),
    /// Asks to cancel a request.
    Cancel(RequestId),
}

/// A refused message: what is recorded and published.
struct Refusal {
    id: RequestId,
    account: Option<AccountKey>,
    digest: Option<Digest>,
    refused: Refused,
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
            public_keys: Mutex::new(HashMap::new()),
        }
    }

    /// Handles a batch of the signing queue; one disposition per delivery, in order.
    pub async fn handle(&self, deliveries: &[Delivery], now: Millis) -> Vec<Disposition> {
        let mut batch = Batch::new(deliveries);
        let parsed: Vec<_> = deliveries.iter().map(|delivery| Message::parse(&delivery.body)).collect();
        let heads = match self.heads_for(&parsed).await {
            Ok(heads) => heads,
            Err(error) => {
                tracing::warn!(error = told(&error), "accounts cannot be read; the batch stays on the queue");
                return vec![Disposition::Retry; deliveries.len()];
            }
        };
        let (mut candidates, mut refusals, mut cancels) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (delivery, message)) in deliveries.iter().zip(parsed).enumerate() {
            let span = accepting(delivery, message.as_ref());
            let _in_span = span.enter();
            match self.judge(at, delivery, message, &heads, now) {
                Work::Candidate(candidate) => candidates.push(*candidate),
                Work::Refused(refusal) => refusals.push((at, *refusal)),
                Work::Cancel(id) => cancels.push((at, id)),
            }
        }
        self.settle_refusals(&mut batch, refusals, now).await;
        let records = self.reserve_all(&mut batch, &candidates, heads, now).await;
        // A cancel meets the requests of its own batch before they are signed.
        self.carry_cancels(&mut batch, cancels, now).await;
        self.sign_all(&mut batch, records, now).await;
        self.poke(&batch, now).await;
        batch.dispositions()
    }

    /// Reads the heads of the accounts a batch names, each once.
    async fn heads_for(&self, parsed: &[Result<Message, Refused>]) -> Result<Heads, PortError> {
        let asked = || {
            parsed.iter().filter_map(|message| match message {
                Ok(Message::Sign(request)) => Some(request.account.as_ref()),
                Ok(Message::Cancel(_)) | Err(_) => None,
            })
        };
        if asked().any(|account| self.candidates(account).is_none()) {
            self.refresh_registry().await?;
        }
        let mut heads = Heads::new();
        for key in asked().flat_map(|account| self.known_candidates(account)) {
            if let std::collections::btree_map::Entry::Vacant(vacant) = heads.entry(key)
                && let Some(head) = self.store.head(&key).await?
            {
                vacant.insert(head);
            }
        }
        Ok(heads)
    }

    async fn refresh_registry(&self) -> Result<(), PortError> {
        self.note_accounts(&self.store.accounts().await?);
        Ok(())
    }

    /// Takes up the accounts of our chain.
    fn note_accounts(&self, registered: &[Head]) -> Vec<Head> {
        let ours: Vec<_> =
            registered.iter().filter(|head| head.account.chain_id == self.config.chain_id).cloned().collect();
        let names = ours.iter().map(|head| (head.name.to_string(), head.account)).collect();
        *self.registry.lock().expect("no code panics while holding the registry") = names;
        ours
    }

    /// Which account a request means, as far as the registry knows.
    fn resolve(&self, asked: Option<&AccountRef>) -> Result<AccountKey, Refused> {
        let registry = self.registry.lock().expect("no code panics while holding the registry");
        let unknown = || {
            let known = registry.keys().map(String::as_str).take(8).collect::<Vec<_>>().join(", ");
            Refused::field(
                Code::UnknownAccount,
                "account",
                format!("`account` is not registered here; registered: {known}"),
            )
        };
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

    /// Static checks and policy for one message.
    fn judge(
        &self,
        at: usize,
        delivery: &Delivery,
        message: Result<Message, Refused>,
        heads: &Heads,
        now: Millis,
    ) -> Work {
        let request = match message {
            Ok(Message::Sign(request)) => request,
            Ok(Message::Cancel(id)) => return Work::Cancel(id),
            Err(refused) => {
                let id = refused.request_id.clone().unwrap_or_else(|| delivery.id_of_its_own());
                return Work::Refused(Box::new(Refusal { id, account: None, digest: None, refused }));
            }
        };
        let resolved = self.head_of(&request, heads);
        match resolved {
            Ok(head) => self.judge_request(at, delivery, request, head, now),
            Err(refused) => {
                let refused = Refused { metadata: request.metadata.clone().map(Box::new), ..refused };
                Work::Refused(Box::new(Refusal { id: request.id, account: None, digest: None, refused }))
            }
        }
    }

    fn judge_request(&self, at: usize, delivery: &Delivery, request: SigningRequest, head: &Head, now: Millis) -> Work {
        let sender = delivery.sender.as_deref();
        let verdict = self.config.policies.of(&head.name).and_then(|policy| {
            let price = head.fee.map(|fee| fee.gas_price);
            accept(&request, &head.account, policy, &self.config.network, price, sender, now)
        });
        match verdict {
            Ok(accepted) => {
                let span = Span::current();
                Work::Candidate(Box::new(Candidate {
                    at,
                    id: request.id,
                    account: head.account,
                    is_pooled: matches!(request.account, Some(AccountRef::Pool(_))),
                    accepted,
                    sender: delivery.sender.clone(),
                    message_id: delivery.message_id.clone(),
                    trace: trace::kept(&span, delivery.trace.as_deref()),
                    span,
                }))
            }
            Err(refused) => {
                let digest = Some(request.digest(&head.account));
                let refused = Refused { metadata: request.metadata.map(Box::new), ..refused };
                Work::Refused(Box::new(Refusal { id: request.id, account: Some(head.account), digest, refused }))
            }
        }
    }

    /// Signs what has no signature yet, several at once.
    async fn sign_all(&self, batch: &mut Batch<'_>, resolved: Vec<Resolved>, now: Millis) {
        for Resolved { record, .. } in &resolved {
            batch.note_nonce(record);
        }
        let unsigned = resolved.into_iter().map(|Resolved { record, head, by }| async move {
            let request_id = record.request_id.clone();
            let signed = self.first_attempt(record, &head, now).await;
            (by, request_id, signed)
        });
        let mut signing = stream::iter(unsigned).buffer_unordered(self.config.sign_concurrency.max(1));
        while let Some((by, request_id, signed)) = signing.next().await {
            match signed {
                Ok(record) => {
                    if !record.is_closed() {
                        batch.touch(record.account);
                    }
                    batch.done(&by);
                }
                Err(error) => {
                    metrics::counter!(meters::NOT_SIGNED).increment(1);
                    tracing::warn!(error = told(&error), %request_id, "not signed; the message stays on the queue, the slot stays reserved");
                    batch.retry(&by);
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

pub(crate) type Heads = BTreeMap<AccountKey, Head>;

/// A record that answers one or more messages of the batch.
struct Resolved {
    record: Record,
    head: Head,
    /// The deliveries it answers.
    by: Vec<usize>,
}

/// The state of one batch: what becomes of each message, and which lanes were touched.
struct Batch<'a> {
    deliveries: &'a [Delivery],
    outcome: Vec<Option<Disposition>>,
    touched: BTreeSet<AccountKey>,
    /// The lowest nonce of each lane among the records of the batch.
    lowest: BTreeMap<AccountKey, Nonce>,
}

impl<'a> Batch<'a> {
    fn new(deliveries: &'a [Delivery]) -> Self {
        let outcome = vec![None; deliveries.len()];
        Self { deliveries, outcome, touched: BTreeSet::new(), lowest: BTreeMap::new() }
    }

    /// The outcome of a message that got no slot, in the trace its sender named.
    fn in_trace(&self, at: usize, outcome: OutcomeMessage) -> OutcomeMessage {
        let trace = self.deliveries.get(at).and_then(|delivery| trace::told(delivery.trace.as_deref()));
        OutcomeMessage { trace, ..outcome }
    }

    fn touch(&mut self, account: AccountKey) {
        self.touched.insert(account);
    }

    fn note_nonce(&mut self, record: &Record) {
        let lowest = self.lowest.entry(record.account).or_insert(record.nonce);
        *lowest = record.nonce.min(*lowest);
    }

    fn done(&mut self, by: &[usize]) {
        self.set(by, Disposition::Done);
    }

    fn retry(&mut self, by: &[usize]) {
        self.set(by, Disposition::Retry);
    }

    fn set(&mut self, by: &[usize], disposition: Disposition) {
        for at in by {
            if let Some(slot) = self.outcome.get_mut(*at) {
                *slot = Some(disposition);
            }
        }
    }

    /// On FIFO, what follows a retried message in its group is retried too, so that order is kept.
    fn dispositions(self) -> Vec<Disposition> {
        let mut held: Vec<&str> = Vec::new();
        let mut out = Vec::with_capacity(self.deliveries.len());
        for (delivery, outcome) in self.deliveries.iter().zip(self.outcome) {
            // A message nobody answered for is not done.
            let mut disposition = outcome.unwrap_or(Disposition::Retry);
            if let Some(group) = delivery.group.as_deref() {
                if held.contains(&group) {
                    disposition = Disposition::Retry;
                } else if disposition == Disposition::Retry {
                    held.push(group);
                }
            }
            out.push(disposition);
        }
        out
    }
}

/// Publishes and says which went out; every failure is logged.
async fn publish_each<O: OutcomeTopic>(topic: &O, outcomes: &[OutcomeMessage]) -> Vec<bool> {
    if outcomes.is_empty() {
        return Vec::new();
    }
    let answers = topic.publish(outcomes).await;
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
fn accepting(delivery: &Delivery, message: Result<&Message, &Refused>) -> Span {
    let span = tracing::info_span!(
        "accept",
        message_id = %delivery.message_id,
        request_id = tracing::field::Empty,
        account = tracing::field::Empty,
        nonce = tracing::field::Empty,
    );
    let id = match message {
        Ok(Message::Sign(request)) => Some(&request.id),
        Ok(Message::Cancel(id)) => Some(id),
        Err(refused) => refused.request_id.as_ref(),
    };
    if let Some(id) = id {
        span.record("request_id", tracing::field::display(id));
    }
    trace::join(&span, delivery.trace.as_deref());
    span
}

fn metadata_of(refused: &Refused) -> Option<Value> {
    refused.metadata.as_deref().cloned()
}
