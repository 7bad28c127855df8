//! The fixture: two accounts, a signer and a broadcaster over in-memory ports. The test drives them and sets the time.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use signpost_txmgr::account::Head;
use signpost_txmgr::broadcaster::{Broadcaster, BroadcasterConfig, Lane, Round};
use signpost_txmgr::fake::{
    Entry, Fate, FaultSource, Interceptor, Journal, KeyState, MemoryChain, MemoryKeys, MemoryQueues, MemoryStore,
    MemoryTopic, NodeFaults, QueueRules, SimClock, sealer,
};
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::machine::Tuning;
use signpost_txmgr::pins::Pins;
use signpost_txmgr::policy::{NetworkRules, Policies};
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::record::{Record, Rejected, Stored};
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::tx::RawTx;
use signpost_txmgr::units::{AccountKey, ChainId, KmsKeyId, Millis, Nonce, Wei};
use signpost_txmgr::wire::{LanePoke, OutcomeMessage, SignerPoke, Status};

pub(crate) const CHAIN: ChainId = ChainId(97);
pub(crate) const NOW: Millis = Millis(1_795_348_800_000);
pub(crate) const RETENTION_MS: u64 = 40 * 24 * 3_600 * 1_000;
pub(crate) const TO: &str = "0x55d398326f99059fF775485246999027B3197955";
/// A cap for every account, and a price for requests without one.
pub(crate) const RULES: &str = "max_gas_price_wei = \"5000000000\"\ngas_price_wei = \"1000000000\"\n";

/// Counts the calls by name, and lets the calls of some names fail.
#[derive(Default)]
pub(crate) struct Calls {
    made: Mutex<BTreeMap<&'static str, usize>>,
    fails: Mutex<Vec<(&'static str, Fate)>>,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

impl FaultSource for Calls {
    fn fate(&self, operation: &'static str) -> Fate {
        *self.made.lock().unwrap().entry(operation).or_default() += 1;
        let fails = self.fails.lock().unwrap();
        fails.iter().find(|(name, _)| *name == operation).map_or(Fate::Pass, |(_, fate)| *fate)
    }
}

/// Journal entries that the test has not read yet.
#[derive(Debug, Default)]
struct Unread {
    sent: Vec<RawTx>,
    asks: Vec<SignerPoke>,
    lane_pokes: Vec<LanePoke>,
}

/// Both stages over the same ports.
pub(crate) struct Fixture {
    pub(crate) signer: Signer<MemoryStore, MemoryKeys, MemoryQueues, MemoryTopic>,
    pub(crate) broadcaster: Broadcaster<MemoryStore, MemoryChain, MemoryQueues, MemoryTopic>,
    pub(crate) store: MemoryStore,
    pub(crate) keys: MemoryKeys,
    pub(crate) chain: MemoryChain,
    pub(crate) topic: MemoryTopic,
    pub(crate) calls: Arc<Calls>,
    journal: Journal,
    unread: Mutex<Unread>,
    lanes: BTreeMap<AccountKey, Lane>,
    messages: usize,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(RULES, BroadcasterConfig::WINDOW)
    }

    /// A fixture with these rules for every account.
    pub(crate) fn with_rules(rules: &str) -> Self {
        Self::with(rules, BroadcasterConfig::WINDOW)
    }

    pub(crate) fn with(rules: &str, window: u64) -> Self {
        let calls = Arc::new(Calls::default());
        let (interceptor, journal) = (Interceptor::with(calls.clone()), Journal::kept());
        let keys = MemoryKeys::new(interceptor.clone(), journal.clone());
        let store = MemoryStore::new(interceptor.clone(), journal.clone());
        let topic = MemoryTopic::new(interceptor.clone(), journal.clone());
        let chain = MemoryChain::new(CHAIN, interceptor.clone(), journal.clone());
        let queues = MemoryQueues::new(QueueRules::FIFO, &SimClock::at(NOW), &interceptor, &journal);
        for (seed, name) in [(1, "one"), (2, "two")] {
            register(&store, &keys, name, seed);
        }
        let signing = SignerConfig {
            pins: Pins::Registry,
            sealer: sealer(),
            chain_id: CHAIN,
            policies: Policies::from_toml(&format!("[default]\n{rules}")).unwrap(),
            network: NetworkRules { fee_floor: Wei::from(1) },
            retention_ms: RETENTION_MS,
            sign_concurrency: 4,
        };
        let sending = BroadcasterConfig {
            chain_id: CHAIN,
            tuning: Tuning::BSC,
            window,
            retention_ms: RETENTION_MS,
            write_concurrency: 4,
        };
        Self {
            signer: Signer::new(store.clone(), keys.clone(), queues.clone(), topic.clone(), signing),
            broadcaster: Broadcaster::new(store.clone(), chain.clone(), queues, topic.clone(), sending),
            store,
            keys,
            chain,
            topic,
            calls,
            journal,
            unread: Mutex::default(),
            lanes: BTreeMap::new(),
            messages: 0,
        }
    }

    /// A message from `backend` with a unique id, in the same group as all others.
    pub(crate) fn message(&mut self, body: String) -> Incoming {
        self.messages += 1;
        Incoming {
            receipt: String::new(),
            message_id: format!("m-{}", self.messages),
            group: Some("all".to_owned()),
            sender: Some("backend".to_owned()),
            trace: None,
            receives: 1,
            body,
        }
    }

    /// Hands a batch to the signer.
    pub(crate) fn handle(&self, batch: &[Incoming], now: Millis) -> Vec<Disposition> {
        done(self.signer.handle(batch, now))
    }

    /// Hands one body to the signer and asserts that it is not retried.
    pub(crate) fn take(&mut self, body: String, now: Millis) -> Incoming {
        let message = self.message(body);
        assert_eq!(self.handle(std::slice::from_ref(&message), now), [Disposition::Done], "{}", message.body);
        message
    }

    /// One round over the lane of an account. The lane's state is kept between rounds.
    pub(crate) fn round(&mut self, name: &str, now: Millis) -> Round {
        let account = self.account(name);
        let lane = self.lanes.entry(account).or_insert_with(|| Lane::new(account, now));
        done(self.broadcaster.round(lane, now)).unwrap()
    }

    /// Lets the signer answer these asks.
    pub(crate) fn answer_asks(&self, asks: &[SignerPoke], now: Millis) {
        assert!(done(self.signer.handle_asks(asks, now)).iter().all(|disposition| *disposition == Disposition::Done));
    }

    /// Runs rounds, blocks and answers of the signer until the lane has no open slot; returns the time.
    pub(crate) fn finish(&mut self, name: &str, mut now: Millis) -> Millis {
        for _ in 0..40 {
            if self.round(name, now).open == 0 {
                return now;
            }
            let asks = self.asks();
            self.answer_asks(&asks, now);
            self.chain.mine();
            now = now.plus(1_500);
        }
        panic!("the lane of {name} does not end")
    }

    pub(crate) fn account(&self, name: &str) -> AccountKey {
        self.head(name).account
    }

    pub(crate) fn head(&self, name: &str) -> Head {
        let heads = self.store.with_tables(|tables| tables.heads.values().cloned().collect::<Vec<_>>());
        heads.into_iter().find(|head| head.name.as_str() == name).unwrap()
    }

    pub(crate) fn record(&self, id: &str) -> Record {
        match self.store.stored(&id.parse().unwrap()) {
            Some(Stored::Record(record)) => *record,
            other => panic!("{id} is {other:?}"),
        }
    }

    pub(crate) fn rejected(&self, id: &str) -> Rejected {
        match self.store.stored(&id.parse().unwrap()) {
            Some(Stored::Rejected(rejected)) => rejected,
            other => panic!("{id} is {other:?}"),
        }
    }

    /// The published rejections, in order.
    pub(crate) fn refusals(&self) -> Vec<OutcomeMessage> {
        self.topic.copies().into_iter().filter(|copy| copy.status == Status::Rejected).collect()
    }

    /// The only outcome that was published under an id.
    pub(crate) fn outcome(&self, id: &str) -> OutcomeMessage {
        let mut copies: Vec<_> = self.topic.copies().into_iter().filter(|copy| copy.request_id == id).collect();
        assert_eq!(copies.len(), 1, "{id}: {copies:?}");
        copies.remove(0)
    }

    /// What was sent to a node since the last call, in order.
    pub(crate) fn sent(&self) -> Vec<RawTx> {
        std::mem::take(&mut self.read_journal().sent)
    }

    /// What the signer was asked for since the last call.
    pub(crate) fn asks(&self) -> Vec<SignerPoke> {
        std::mem::take(&mut self.read_journal().asks)
    }

    /// The lanes that were poked since the last call.
    pub(crate) fn lane_pokes(&self) -> Vec<LanePoke> {
        std::mem::take(&mut self.read_journal().lane_pokes)
    }

    fn read_journal(&self) -> MutexGuard<'_, Unread> {
        let mut unread = self.unread.lock().unwrap();
        for entry in self.journal.drain() {
            if let Entry::Sent(raw) = entry {
                unread.sent.push(raw);
            } else if let Entry::PokedSigner(asks) = entry {
                unread.asks.extend(asks);
            } else if let Entry::PokedLanes(pokes) = entry {
                unread.lane_pokes.extend(pokes);
            }
        }
        unread
    }

    /// How often a call has been made.
    pub(crate) fn calls_of(&self, operation: &str) -> usize {
        self.calls.made.lock().unwrap().get(operation).copied().unwrap_or_default()
    }

    /// Sets the fate of every call of this name; `None` lets it pass again.
    pub(crate) fn set_fate(&self, operation: &'static str, fate: Option<Fate>) {
        let mut fails = self.calls.fails.lock().unwrap();
        fails.retain(|(name, _)| *name != operation);
        fails.extend(fate.map(|fate| (operation, fate)));
    }

    /// Lets `Sign` fail with this key without a fault of the key, or work again.
    pub(crate) fn set_key_disabled(&self, name: &str, disabled: bool) {
        let state = if disabled { KeyState::SignFails } else { KeyState::Enabled };
        self.keys.set_state(&key_id(name), state);
    }

    /// Lets the node accept every send and drop it, so that nothing is mined.
    pub(crate) fn forget_sends(&self, forgets: bool) {
        self.chain.set_faults(NodeFaults { drops_sends: forgets, ..NodeFaults::default() });
    }

    /// Mines more blocks than any rule waits for.
    pub(crate) fn mine_many(&self) {
        for _ in 0..40 {
            self.chain.mine();
        }
    }
}

/// Records counters while a test runs, by the meter's name without labels.
#[derive(Default)]
pub(crate) struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counters {
    pub(crate) fn of(&self, name: &str) -> u64 {
        self.0.lock().unwrap().get(name).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(key.name().to_owned()).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

pub(crate) fn key_id(name: &str) -> KmsKeyId {
    format!("key-{name}").parse().unwrap()
}

pub(crate) fn register(store: &MemoryStore, keys: &MemoryKeys, name: &str, seed: u8) -> AccountKey {
    let address = keys.add(&key_id(name), [seed; 32]);
    let account = AccountKey { chain_id: CHAIN, address };
    let head = Head::new(account, name.parse().unwrap(), key_id(name), Nonce(0), NOW);
    done(store.register(&head)).unwrap();
    account
}

/// A request as JSON; `more` are further fields, each with a comma before it.
pub(crate) fn request(id: &str, account: &str, more: &str) -> String {
    format!(r#"{{"requestId":"{id}","account":"{account}","to":"{TO}","gas":60000{more}}}"#)
}

/// Polls a future of the fakes until it is ready. Their calls yield but never wait.
pub(crate) fn done<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..100_000 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
    panic!("it waits for something that does not come")
}
