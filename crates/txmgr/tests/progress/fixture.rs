//! A lane with a signer and a broadcaster over ports in memory, some of which are slow, silent or refuse.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use signpost_txmgr::account::{Accounts, Head, Marks, Reservation, SeenFee};
use signpost_txmgr::broadcaster::{Broadcaster, BroadcasterConfig, Lane};
use signpost_txmgr::fake::{
    Interceptor, Journal, KeyState, MemoryChain, MemoryKeys, MemoryQueues, MemoryStore, MemoryTopic, QueueRules,
    SimClock, sealer,
};
use signpost_txmgr::inbox::Incoming;
use signpost_txmgr::machine::{Corroboration, Tuning};
use signpost_txmgr::pins::Pins;
use signpost_txmgr::policy::{NetworkRules, Policies};
use signpost_txmgr::ports::{
    Chain, ChainView, Counts, Happened, NonceUse, OutcomeTopic, PortError, RegisterVerdict, RejectVerdict,
    ReserveVerdict, RetireVerdict, Store, UnregisterVerdict, UpdateVerdict, UseQuery, ViewQuery, WitnessQuery,
};
use signpost_txmgr::record::{BlockRef, Record, Rejected, Searched, SendAnswer, Stored, Vacancy};
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::tx::{Intent, RawTx};
use signpost_txmgr::units::{
    AccountKey, AccountName, Address, BlockNumber, ChainId, KmsKeyId, Millis, Nonce, RequestId, Wei,
};
use signpost_txmgr::unusable::Unusable;
use signpost_txmgr::wire::{OutcomeMessage, SignerPoke};

pub(crate) const NOW: Millis = Millis(1_795_348_800_000);
/// The time between two rounds: one block.
pub(crate) const ROUND_MS: u64 = 450;
const RULES: &str = "[default]\nmax_gas_price_wei = 1000000000\ngas_price_wei = 100000000\n";

pub(crate) type Driver = Broadcaster<CountingStore, OddChain, MemoryQueues, PickyTopic>;

pub(crate) struct Fixture {
    pub(crate) account: AccountKey,
    pub(crate) keys: MemoryKeys,
    pub(crate) store: CountingStore,
    pub(crate) topic: PickyTopic,
    pub(crate) chain: OddChain,
    pub(crate) now: Millis,
    queues: MemoryQueues,
    signer: Signer<MemoryStore, MemoryKeys, MemoryQueues, MemoryTopic>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let (interceptor, journal) = (Interceptor::default(), Journal::default());
        let keys = MemoryKeys::new(interceptor.clone(), journal.clone());
        let store = MemoryStore::new(interceptor.clone(), journal.clone());
        let topic = MemoryTopic::new(interceptor.clone(), journal.clone());
        let queues = MemoryQueues::new(QueueRules::FIFO, &SimClock::at(NOW), &interceptor, &journal);
        let key: KmsKeyId = "one".parse().unwrap();
        let address = keys.add(&key, [1; 32]);
        let account = AccountKey { chain_id: ChainId(97), address };
        let head = Head::new(account, "one".parse().unwrap(), key, Nonce(0), NOW);
        store.register(&head).now_or_never().unwrap().unwrap();
        let config = SignerConfig {
            pins: Pins::Registry,
            sealer: sealer(),
            chain_id: ChainId(97),
            policies: Policies::from_toml(RULES).unwrap(),
            network: NetworkRules { fee_floor: Wei::from(1) },
            retention_ms: 1_000_000_000,
            sign_concurrency: 4,
        };
        let signer = Signer::new(store.clone(), keys.clone(), queues.clone(), topic.clone(), config);
        signer.warm_up(NOW).now_or_never().unwrap().unwrap();
        let chain = MemoryChain::new(ChainId(97), interceptor, journal).trusting(address);
        let chain = OddChain { inner: chain, ..OddChain::default() };
        let topic = PickyTopic { inner: topic, refused: Arc::default() };
        let store = CountingStore { inner: store, read: Arc::default() };
        Self { account, keys, store, topic, chain, now: NOW, queues, signer }
    }

    pub(crate) fn broadcaster(&self) -> Driver {
        let config = BroadcasterConfig {
            chain_id: ChainId(97),
            tuning: Tuning::BSC,
            window: BroadcasterConfig::WINDOW,
            retention_ms: 1_000_000_000,
            write_concurrency: 8,
        };
        Broadcaster::new(self.store.clone(), self.chain.clone(), self.queues.clone(), self.topic.clone(), config)
    }

    /// The lane of a new pass.
    pub(crate) fn lane(&self) -> Lane {
        Lane::new(self.account, self.now)
    }

    /// Sends the requests `r-{at}` of a range with `data` as calldata. The signer signs them unless signing fails.
    pub(crate) fn request(&self, range: std::ops::Range<usize>, data: &str) {
        let body = |at: usize| {
            format!(
                r#"{{"requestId":"r-{at}","account":"one","to":"0x55d398326f99059fF775485246999027B3197955","gas":50000,"data":"{data}"}}"#
            )
        };
        let message = |at: usize| Incoming {
            receipt: String::new(),
            message_id: format!("m-{at}"),
            group: Some("all".to_owned()),
            sender: None,
            trace: None,
            receives: 1,
            body: body(at),
        };
        let messages: Vec<Incoming> = range.map(message).collect();
        for batch in messages.chunks(10) {
            self.signer.handle(batch, self.now).now_or_never().unwrap();
        }
    }

    /// Lets `Sign` fail, or work again.
    pub(crate) fn fail_signing(&self, fails: bool) {
        let state = if fails { KeyState::SignFails } else { KeyState::Enabled };
        self.keys.set_state(&"one".parse().unwrap(), state);
    }

    /// Lets the signer answer all waiting asks.
    pub(crate) fn answer_asks(&self) {
        loop {
            let messages = self.queues.resign.receive_up_to(10).now_or_never().unwrap().unwrap();
            if messages.is_empty() {
                return;
            }
            let asks: Vec<SignerPoke> =
                messages.iter().map(|message| serde_json::from_str(&message.body).unwrap()).collect();
            self.signer.handle_asks(&asks, self.now).now_or_never().unwrap();
            for message in messages {
                self.queues.resign.delete_one(&message.receipt).now_or_never().unwrap().unwrap();
            }
        }
    }

    /// One round including its slow questions, then a block.
    pub(crate) fn round(&mut self, driver: &Driver, lane: &mut Lane) {
        self.now = self.now.plus(ROUND_MS);
        driver.round(lane, self.now).now_or_never().unwrap().unwrap();
        self.chain.inner.mine();
    }

    /// One round without its slow questions, then a block.
    pub(crate) fn step(&mut self, driver: &Driver, lane: &mut Lane) {
        self.now = self.now.plus(ROUND_MS);
        driver.step(lane, self.now).now_or_never().unwrap().unwrap();
        self.chain.inner.mine();
    }

    pub(crate) fn record(&self, at: usize) -> Record {
        match self.store.inner.stored(&format!("r-{at}").parse().unwrap()) {
            Some(Stored::Record(record)) => *record,
            other => panic!("r-{at}: {other:?}"),
        }
    }

    /// The requests of a range that are not closed, with their phases.
    pub(crate) fn open(&self, range: std::ops::Range<usize>) -> Vec<(usize, &'static str)> {
        let records = range.map(|at| (at, self.record(at)));
        records.filter(|(_, record)| !record.is_closed()).map(|(at, record)| (at, record.phase.name())).collect()
    }

    pub(crate) fn head(&self) -> Head {
        self.store.inner.head(&self.account).now_or_never().unwrap().unwrap().unwrap()
    }
}

/// A chain whose slow answers the test controls.
#[derive(Debug, Clone)]
pub(crate) struct OddChain {
    pub(crate) inner: MemoryChain,
    /// How many polls a search takes.
    pub(crate) search_turns: usize,
    /// Whether every search fails to find the use of a nonce. Each then covers ten more blocks while there are any.
    pub(crate) pruned: Arc<Mutex<bool>>,
    /// The blocks that each search skipped, since earlier ones covered them.
    pub(crate) searches: Arc<Mutex<Vec<Option<Searched>>>>,
    /// How many replays of reverts were requested.
    pub(crate) replays: Arc<Mutex<usize>>,
}

impl Default for OddChain {
    fn default() -> Self {
        Self {
            inner: MemoryChain::new(ChainId(97), Interceptor::default(), Journal::default()),
            search_turns: 0,
            pruned: Arc::default(),
            searches: Arc::default(),
            replays: Arc::default(),
        }
    }
}

/// Yields to the executor `count` times.
async fn yield_times(count: usize) {
    for _ in 0..count {
        let mut yielded = false;
        std::future::poll_fn(|context| {
            if yielded {
                return std::task::Poll::Ready(());
            }
            yielded = true;
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }
}

impl Chain for OddChain {
    async fn chain_id(&self) -> Result<ChainId, PortError> {
        self.inner.chain_id().await
    }

    async fn view(&self, query: &ViewQuery) -> Result<ChainView, PortError> {
        self.inner.view(query).await
    }

    async fn send(&self, raw: &RawTx) -> SendAnswer {
        self.inner.send(raw).await
    }

    async fn revert_bytes(&self, from: Address, intent: &Intent, at: BlockRef) -> Result<Option<Vec<u8>>, PortError> {
        *self.replays.lock().unwrap() += 1;
        self.inner.revert_bytes(from, intent, at).await
    }

    async fn witness(&self, query: &WitnessQuery) -> Vec<Corroboration> {
        self.inner.witness(query).await
    }

    async fn final_count(&self, address: Address) -> Result<(Nonce, Corroboration), PortError> {
        self.inner.final_count(address).await
    }

    async fn nonce_use(&self, query: &UseQuery) -> Result<NonceUse, PortError> {
        yield_times(self.search_turns).await;
        self.searches.lock().unwrap().push(query.searched);
        if !*self.pruned.lock().unwrap() {
            return self.inner.nonce_use(query).await;
        }
        let newest = query.searched.map_or(query.finalized, |searched| searched.newest);
        let oldest = query.searched.map_or(query.finalized, |searched| searched.oldest).0.saturating_sub(10);
        Ok(NonceUse::NotFound(Some(Searched { newest, oldest: BlockNumber(oldest) })))
    }

    async fn has_code(&self, address: Address) -> Result<bool, PortError> {
        self.inner.has_code(address).await
    }

    async fn balance(&self, address: Address) -> Result<Wei, PortError> {
        self.inner.balance(address).await
    }

    async fn counts(&self, address: Address) -> Result<Counts, PortError> {
        self.inner.counts(address).await
    }
}

/// A topic that refuses the outcome of one request for good.
#[derive(Debug, Clone)]
pub(crate) struct PickyTopic {
    pub(crate) inner: MemoryTopic,
    pub(crate) refused: Arc<Mutex<Option<String>>>,
}

impl OutcomeTopic for PickyTopic {
    async fn publish(&self, outcomes: &[OutcomeMessage]) -> Vec<Result<(), PortError>> {
        let mut answers = Vec::new();
        for outcome in outcomes {
            if self.refused.lock().unwrap().as_ref() == Some(&outcome.request_id) {
                let source = "InvalidParameter".into();
                answers.push(Err(PortError {
                    operation: "PublishBatch",
                    happened: Happened::No,
                    throttled: false,
                    source,
                }));
            } else {
                answers.extend(self.inner.publish(std::slice::from_ref(outcome)).await);
            }
        }
        answers
    }
}

/// A store that counts the items read for a round: slots and records.
#[derive(Debug, Clone)]
pub(crate) struct CountingStore {
    pub(crate) inner: MemoryStore,
    pub(crate) read: Arc<Mutex<usize>>,
}

impl Store for CountingStore {
    async fn accounts(&self) -> Result<Accounts, PortError> {
        self.inner.accounts().await
    }

    async fn head(&self, account: &AccountKey) -> Result<Option<Head>, PortError> {
        self.inner.head(account).await
    }

    async fn register(&self, head: &Head) -> Result<RegisterVerdict, PortError> {
        self.inner.register(head).await
    }

    async fn set_paused(&self, account: &AccountKey, paused: bool) -> Result<(), PortError> {
        self.inner.set_paused(account, paused).await
    }

    async fn set_paused_by_node(&self, account: &AccountKey, paused: bool) -> Result<(), PortError> {
        self.inner.set_paused_by_node(account, paused).await
    }

    async fn set_unusable(&self, account: &AccountKey, unusable: Option<Unusable>) -> Result<(), PortError> {
        self.inner.set_unusable(account, unusable).await
    }

    async fn set_unfunded(&self, account: &AccountKey, since: Option<Millis>) -> Result<(), PortError> {
        self.inner.set_unfunded(account, since).await
    }

    async fn observe_fee(&self, account: &AccountKey, fee: &SeenFee) -> Result<(), PortError> {
        self.inner.observe_fee(account, fee).await
    }

    async fn fast_forward(&self, account: &AccountKey, from: Nonce, to: Nonce) -> Result<bool, PortError> {
        self.inner.fast_forward(account, from, to).await
    }

    async fn reserve(&self, group: &Reservation) -> Result<ReserveVerdict, PortError> {
        self.inner.reserve(group).await
    }

    async fn load(&self, ids: &[RequestId], now: Millis) -> Result<Vec<Stored>, PortError> {
        *self.read.lock().unwrap() += ids.len();
        self.inner.load(ids, now).await
    }

    async fn reject(&self, rejected: &Rejected, over: &Vacancy) -> Result<RejectVerdict, PortError> {
        self.inner.reject(rejected, over).await
    }

    async fn set_nonce(&self, account: &AccountKey, from: Nonce, to: Nonce) -> Result<bool, PortError> {
        self.inner.set_nonce(account, from, to).await
    }

    async fn retire(&self, account: &AccountKey, now: Millis) -> Result<RetireVerdict, PortError> {
        self.inner.retire(account, now).await
    }

    async fn unregister(
        &self,
        account: &AccountKey,
        name: &AccountName,
        retired_until: Millis,
    ) -> Result<UnregisterVerdict, PortError> {
        self.inner.unregister(account, name, retired_until).await
    }

    async fn update(&self, record: &Record) -> Result<UpdateVerdict, PortError> {
        self.inner.update(record).await
    }

    async fn slots(
        &self,
        account: &AccountKey,
        from: Nonce,
        limit: usize,
    ) -> Result<Vec<(Nonce, RequestId)>, PortError> {
        let slots = self.inner.slots(account, from, limit).await?;
        *self.read.lock().unwrap() += slots.len();
        Ok(slots)
    }

    async fn leave_slots(
        &self,
        account: &AccountKey,
        from: Nonce,
        to: Nonce,
        expires_at: Millis,
    ) -> Result<bool, PortError> {
        self.inner.leave_slots(account, from, to, expires_at).await
    }

    async fn move_marks(
        &self,
        account: &AccountKey,
        before: &Marks,
        after: &Marks,
        expires_at: Millis,
    ) -> Result<bool, PortError> {
        self.inner.move_marks(account, before, after, expires_at).await
    }
}
