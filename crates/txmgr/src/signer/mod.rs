//! The signer's driver: from a batch of messages to stored signatures.
//!
//! The steps are parse → policy → reserve → sign → store → poke, through the ports. The signer has no key, opens no
//! connection and reads no clock (`now` is an argument). It never calls a node of the chain.
//!
//! ## Guarantees
//! * A message is [`Disposition::Done`] only when its effect is in the record, or in the published rejection (I13).
//! * Only the first stored signature of an attempt counts. A worker that loses the race discards its own.
//! * Nothing that policy refuses reaches the key service, not even when work is resumed (I9).
//! * The key service signs only what a signer accepted, for an account that the deployment lists (G8, I17): the record
//!   has a valid seal, and the head matches [`crate::pins`].
//! * A message is judged once (G2). The answer is stored with the message id, and a redelivered message gets it again.
//! * A message from a sender that no policy lists is refused with one write, before anything is read for it.
//! * Nothing is published under an id that the message does not own. The owner of an id is the first allowed sender
//!   whose request got a record.
//!
//! ## Does not guarantee
//! * That a poke arrives. The sweep replaces lost pokes.
//!
//! ## Files
//!
//! Each file has only the ports that it needs, and uses only files above it in this table.
//!
//! | file | contents | ports |
//! |---|---|---|
//! | `batch` | the order in which messages are judged, and the disposition of each | none |
//! | `registry` | the accounts by name, as of the last read | none |
//! | `heads` | the heads of the accounts that a batch names | none |
//! | `pool` | the choice of the account for a request | none |
//! | `directory` | reading accounts and heads | store |
//! | `answer` | the stored answers to redelivered messages | store |
//! | `standing` | the status of an account's key, and the mark of an unusable one | store, keys |
//! | `attempt` | policy again, the seal, one KMS signature and its conditional write | store, keys |
//! | `rejection` | rejections: stored, published, marked as published | store, topic |
//! | `stranger` | messages from senders that no policy lists | store, topic |
//! | `cancel` | cancels, written to records | store, topic |
//! | `reservation` | slots, in groups of one transaction | store, keys, topic |
//! | `judge` | the decision on one message | none |
//! | `mod` | the order of the steps, concurrent signing, pokes | all |
//!
//! Read next: [`crate::broadcaster`].

mod answer;
mod attempt;
mod batch;
mod cancel;
mod directory;
mod heads;
mod judge;
mod pool;
mod registry;
mod rejection;
mod reservation;
mod standing;
mod stranger;

use std::sync::Mutex;

use futures_util::future::join;
use futures_util::stream::{self, StreamExt};
use tracing::Span;

use crate::inbox::{Disposition, Incoming};
use crate::pins::Pins;
use crate::policy::{NetworkRules, Policies};
use crate::ports::{BroadcastQueue, Keys, OutcomeTopic, Store};
use crate::record::{Phase, Record, Rejected};
use crate::seal::Sealer;
use crate::start::{self, KeyTrouble, OfChain, StartRefused};
use crate::units::{Address, ChainId, KmsKeyId, Millis, Wei};
use crate::wire::{LanePoke, SignerPoke};
use crate::{error_chain, meters, poke, trace};

use self::answer::find_answers;
pub use self::attempt::AttemptError;
use self::attempt::Attempts;
use self::batch::{Batch, Inbound};
use self::cancel::{Cancel, Cancels};
use self::directory::{Directory, Unknown};
use self::heads::Heads;
use self::judge::{Judge, Judgement};
use self::pool::Pools;
use self::registry::Registry;
use self::rejection::{Refusal, Rejections};
use self::reservation::{Candidate, Reservations, Resolved};
use self::standing::{KeyMemory, KeyWatch, WARM_KEYS_MAX};
use self::stranger::refuse_strangers;

/// The maximum number of tries within one batch when another worker changes the lane or the record first.
const MAX_TRIES: usize = 8;

/// The configuration of a signer.
#[derive(Debug, Clone)]
pub struct SignerConfig {
    /// The chain of the signer. It signs for no account on another chain.
    pub chain_id: ChainId,
    /// What each account may do.
    pub policies: Policies,
    /// The accounts that the deployment lists.
    pub pins: Pins,
    /// Seals accepted records, and checks the seal before each signature.
    pub sealer: Sealer,
    /// The rules of the network.
    pub network: NetworkRules,
    /// How long a published rejection is kept, in milliseconds.
    pub retention_ms: u64,
    /// The maximum number of concurrent calls to the key service.
    pub sign_concurrency: usize,
}

/// The signer and its ports.
#[derive(Debug)]
pub struct Signer<S, K, B, O> {
    store: S,
    keys: K,
    lanes: B,
    topic: O,
    config: SignerConfig,
    registry: Registry,
    /// Accounts that the directory recently did not have.
    unknown: Mutex<Unknown>,
    memory: KeyMemory,
}

/// The messages of a part of a batch, by the decision on them.
#[derive(Default)]
struct Sorted<'d> {
    candidates: Vec<Candidate<'d>>,
    accepted: Vec<(usize, Record)>,
    answered: Vec<(usize, Rejected)>,
    refusals: Vec<Refusal>,
    cancels: Vec<Cancel>,
}

impl<'d> Sorted<'d> {
    fn put(&mut self, at: usize, judgement: Judgement<'d>, batch: &mut Batch<'_>) {
        match judgement {
            Judgement::Candidate(candidate) => self.candidates.push(*candidate),
            Judgement::Accepted(record) => self.accepted.push((at, *record)),
            Judgement::Answered(rejected) => self.answered.push((at, *rejected)),
            Judgement::Refused(refusal) => self.refusals.push(*refusal),
            Judgement::Cancel(cancel) => self.cancels.push(cancel),
            Judgement::Retry => batch.retry(at),
        }
    }
}

impl<S: Store, K: Keys, B: BroadcastQueue, O: OutcomeTopic> Signer<S, K, B, O> {
    /// The maximum number of keys that are read before the first message. 1,000 keys take a second, and a Lambda
    /// function has ten seconds to start. Accounts with open slots come first. The keys of the others are read with
    /// their first request.
    pub const WARM_KEYS_MAX: usize = WARM_KEYS_MAX;

    /// A signer with these ports.
    pub fn new(store: S, keys: K, lanes: B, topic: O, config: SignerConfig) -> Self {
        Self {
            store,
            keys,
            lanes,
            topic,
            config,
            registry: Registry::default(),
            unknown: Mutex::default(),
            memory: KeyMemory::default(),
        }
    }

    /// Reads the registered accounts and their public keys, so that an unusable key is reported before the first
    /// request. It stops only its own account. If the key service does not answer, nothing stops.
    pub async fn warm_up(&self, now: Millis) -> Result<(), StartRefused> {
        let accounts = self.load_accounts().await?;
        self.warm_keys(accounts, now).await;
        Ok(())
    }

    /// The first half of [`Self::warm_up`]: reads the accounts on the signer's chain. Fails if accounts are registered,
    /// but none on this chain.
    pub async fn load_accounts(&self) -> Result<OfChain, StartRefused> {
        let accounts = start::accounts_of_chain(&self.store, self.config.chain_id).await?;
        accounts.warn_of_unreadable();
        self.registry.note(&accounts);
        Ok(accounts)
    }

    /// The second half. May be cancelled: the remaining keys are read with their first requests.
    pub async fn warm_keys(&self, accounts: OfChain, now: Millis) {
        self.key_watch().warm_keys(accounts, now).await;
    }

    /// Checks that a key has this address.
    pub async fn check_key(&self, id: &KmsKeyId, expected: Address) -> Result<(), KeyTrouble> {
        self.key_watch().check_key(id, expected).await
    }

    fn pools(&self) -> Pools<'_> {
        Pools { registry: &self.registry, policies: &self.config.policies, chain_id: self.config.chain_id }
    }

    fn directory(&self) -> Directory<'_, S> {
        Directory { store: &self.store, pools: self.pools(), unknown: &self.unknown }
    }

    fn judge(&self) -> Judge<'_> {
        Judge { pools: self.pools(), policies: &self.config.policies, network: &self.config.network }
    }

    fn key_watch(&self) -> KeyWatch<'_, S, K> {
        KeyWatch { store: &self.store, keys: &self.keys, pins: &self.config.pins, memory: &self.memory }
    }

    fn rejections(&self) -> Rejections<'_, S, O> {
        let SignerConfig { chain_id, retention_ms, .. } = self.config;
        Rejections { store: &self.store, topic: &self.topic, chain_id, retention_ms }
    }

    fn cancels(&self) -> Cancels<'_, S, O> {
        Cancels { rejections: self.rejections(), policies: &self.config.policies }
    }

    fn reservations(&self) -> Reservations<'_, S, K, O> {
        let SignerConfig { sealer, policies, chain_id, .. } = &self.config;
        let (watch, rejections) = (self.key_watch(), self.rejections());
        Reservations { watch, rejections, sealer, policies, chain_id: *chain_id }
    }

    fn attempts(&self) -> Attempts<'_, S, K> {
        let SignerConfig { sealer, policies, chain_id, .. } = &self.config;
        Attempts { watch: self.key_watch(), sealer, policies, chain_id: *chain_id }
    }

    /// Handles a batch of the signing queue. Returns one disposition per delivery, in order.
    pub async fn handle(&self, deliveries: &[Incoming], now: Millis) -> Vec<Disposition> {
        let mut batch = Batch::new(deliveries);
        refuse_strangers(&self.rejections(), &self.config.policies, &mut batch, now).await;
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

    /// Handles messages with distinct ids.
    async fn handle_part(&self, batch: &mut Batch<'_>, part: Vec<Inbound<'_>>, now: Millis) {
        if part.is_empty() {
            return;
        }
        let (found, mut heads) =
            join(find_answers(&self.store, &part, now), self.directory().heads_for(&part, now)).await;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(
                    error = error_chain(&error),
                    "the stored answers to these messages cannot be read; they stay on the queue"
                );
                for inbound in part {
                    batch.retry(inbound.at);
                }
                return;
            }
        };
        self.key_watch().refresh_all(&mut heads, now).await;
        let (judge, mut sorted) = (self.judge(), Sorted::default());
        for inbound in part {
            let (at, span) = (inbound.at, accepting(&inbound));
            let _in_span = span.enter();
            sorted.put(at, judge.judge(inbound, &found, &heads, now), batch);
        }
        let Sorted { candidates, accepted, answered, refusals, cancels } = sorted;
        self.rejections().publish_answers(batch, answered, now).await;
        self.rejections().answer_refusals(batch, refusals, now).await;
        let mut resolved = self.resume(batch, accepted, &heads).await;
        resolved.extend(self.reservations().reserve_all(batch, &candidates, &heads, now).await);
        self.cancels().note_cancels(batch, cancels, now).await;
        self.sign_all(batch, resolved, now).await;
    }

    /// Handles messages that already have records. Returns the records that are not signed yet.
    async fn resume(&self, batch: &mut Batch<'_>, accepted: Vec<(usize, Record)>, heads: &Heads) -> Vec<Resolved> {
        let mut resolved = Vec::new();
        for (at, record) in accepted {
            if record.phase == Phase::Reserved {
                let head = heads.get(&record.account);
                resolved.extend(self.reservations().resolved(batch, record, head, at).await);
                continue;
            }
            if !record.is_closed() {
                batch.touch(record.account);
            }
            batch.done(at);
        }
        resolved
    }

    /// Signs the records that have no signature yet, concurrently.
    async fn sign_all(&self, batch: &mut Batch<'_>, resolved: Vec<Resolved>, now: Millis) {
        for Resolved { record, .. } in &resolved {
            batch.note_nonce(record);
        }
        let unsigned = resolved.into_iter().map(|Resolved { record, head, at }| async move {
            let request_id = record.request_id.clone();
            let signed = self.attempts().first_attempt(record, &head, Wei::ZERO, now).await;
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
                // The record waits for an operator. Another delivery of the message would not help.
                Err(AttemptError::Unsealed(_)) => batch.done(at),
                Err(error) => {
                    metrics::counter!(meters::NOT_SIGNED).increment(1);
                    tracing::warn!(error = error_chain(&error), %request_id, "not signed; the message stays on the queue, the slot stays reserved");
                    batch.retry(at);
                }
            }
        }
    }

    /// Handles a batch of the resign queue. Each message asks to sign the next attempt of a request.
    pub async fn handle_asks(&self, asks: &[SignerPoke], now: Millis) -> Vec<Disposition> {
        let mut out = Vec::with_capacity(asks.len());
        let (attempts, mut pokes) = (self.attempts(), Vec::new());
        for ask in asks {
            match attempts.answer_ask(ask, now).await {
                Ok(touched) => {
                    let poke = touched.then(|| poke::again(&ask.account, now));
                    // The slot is open, so the broadcaster has to look at the lane.
                    pokes.extend(poke.filter(|poke| !pokes.contains(poke)));
                    out.push(Disposition::Done);
                }
                // Another delivery would not help. The broadcaster asks again while the slot is open.
                Err(AttemptError::Unsealed(_)) => out.push(Disposition::Done),
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), request_id = %ask.request_id, "ask not answered; it stays on the queue");
                    out.push(Disposition::Retry);
                }
            }
        }
        self.send_pokes(&pokes).await;
        out
    }

    /// Sends one poke per touched lane. Its content depends on the head after everything was stored ([`poke`]). If a
    /// poke cannot be sent, the sweep replaces it.
    async fn poke(&self, batch: &Batch<'_>, now: Millis) {
        let id = batch.deliveries.first().map_or("", |delivery| delivery.message_id.as_str());
        let cause = format!("signed {id}");
        let mut pokes = Vec::with_capacity(batch.touched.len());
        for account in &batch.touched {
            let head = self.store.head(account).await.unwrap_or_else(|error| {
                tracing::debug!(error = error_chain(&error), %account, "it is not known whether the lane was open");
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
            tracing::warn!(error = error_chain(&error), "the broadcaster was not poked; the sweep will");
        }
    }
}

/// The span for parsing and judging a message and reserving its slot, in the trace of its sender.
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
