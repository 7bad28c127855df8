//! Both drivers over in-memory ports, at their limits: a price above today's cap, a node that limits our
//! rate, a lane that is poked constantly.

#![allow(missing_docs, reason = "a test binary has no reader of its documentation")]
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a test may end at the first surprise")]

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt as _;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use signpost_txmgr::account::Head;
use signpost_txmgr::broadcaster::{Broadcaster, BroadcasterConfig, Lane, Round};
use signpost_txmgr::fake::{
    Fate, FaultSource, Interceptor, Journal, KeyState, MemoryChain, MemoryKeys, MemoryQueues, MemoryStore, MemoryTopic,
    QueueRules, SimClock, sealer,
};
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::machine::{Corroboration, Tuning};
use signpost_txmgr::meters;
use signpost_txmgr::pins::Pins;
use signpost_txmgr::poke;
use signpost_txmgr::policy::{NetworkRules, Policies};
use signpost_txmgr::ports::{
    BroadcastQueue as _, Chain, ChainView, Counts, NonceUse, PortError, Store as _, UseQuery, ViewQuery, WitnessQuery,
};
use signpost_txmgr::record::{BlockRef, Record, SendAnswer, SendClass, Stored};
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::tx::{Intent, RawTx};
use signpost_txmgr::units::{AccountKey, Address, ChainId, KmsKeyId, Millis, Nonce, TxHash, Wei};
use signpost_txmgr::wire::{SignerPoke, WireFee, WireKind};

const NOW: Millis = Millis(1_795_348_800_000);
const BLOCK_MS: u64 = 450;
const GWEI: u64 = 1_000_000_000;
/// The default price is 0.1 gwei, and the cap is 1 gwei.
const RULES: &str = "[default]\nmax_gas_price_wei = 1000000000\ngas_price_wei = 100000000\n";
/// Rules for another account only.
const NO_RULES: &str = "[account.other]\nmax_gas_price_wei = 5\n";

type MemorySigner = Signer<MemoryStore, MemoryKeys, MemoryQueues, MemoryTopic>;
type MemoryBroadcaster<C> = Broadcaster<MemoryStore, C, MemoryQueues, MemoryTopic>;

/// One account, `one`, and all ports.
#[derive(Clone)]
struct Fixture {
    keys: MemoryKeys,
    store: MemoryStore,
    topic: MemoryTopic,
    queues: MemoryQueues,
    chain: MemoryChain,
    clock: SimClock,
    account: AccountKey,
}

impl Fixture {
    fn new() -> Self {
        let (interceptor, journal, clock) = (Interceptor::default(), Journal::default(), SimClock::at(NOW));
        let keys = MemoryKeys::new(interceptor.clone(), journal.clone());
        let store = MemoryStore::new(interceptor.clone(), journal.clone());
        let topic = MemoryTopic::new(interceptor.clone(), journal.clone());
        let queues = MemoryQueues::new(QueueRules::FIFO, &clock, &interceptor, &journal);
        let chain = MemoryChain::new(ChainId(97), interceptor, journal);
        let address = keys.add(&key(), [1; 32]);
        let account = AccountKey { chain_id: ChainId(97), address };
        let head = Head::new(account, "one".parse().unwrap(), key(), Nonce(0), NOW);
        store.register(&head).now_or_never().unwrap().unwrap();
        Self { keys, store, topic, queues, chain, clock, account }
    }

    fn signer(&self, policy: &str) -> MemorySigner {
        let config = SignerConfig {
            pins: Pins::Registry,
            sealer: sealer(),
            chain_id: ChainId(97),
            policies: Policies::from_toml(policy).unwrap(),
            network: NetworkRules { fee_floor: Wei::from(1) },
            retention_ms: 1_000_000_000,
            sign_concurrency: 4,
        };
        Signer::new(self.store.clone(), self.keys.clone(), self.queues.clone(), self.topic.clone(), config)
    }

    fn broadcaster<C: Chain>(&self, chain: C) -> MemoryBroadcaster<C> {
        let config = BroadcasterConfig {
            chain_id: ChainId(97),
            tuning: Tuning::BSC,
            window: BroadcasterConfig::WINDOW,
            retention_ms: 1_000_000_000,
            write_concurrency: 8,
        };
        Broadcaster::new(self.store.clone(), chain, self.queues.clone(), self.topic.clone(), config)
    }

    fn record(&self, id: &str) -> Record {
        match self.store.stored(&id.parse().unwrap()) {
            Some(Stored::Record(record)) => *record,
            other => panic!("{id}: {other:?}"),
        }
    }

    /// The prices of a request's attempts, in wei per gas.
    fn prices(&self, id: &str) -> Vec<Wei> {
        self.record(id).attempts.iter().map(|attempt| attempt.fee.price()).collect()
    }

    /// Gives the signer all waiting asks and returns how many there were.
    fn answer_asks(&self, signer: &MemorySigner, now: Millis) -> usize {
        let mut answered = 0;
        loop {
            let messages = self.queues.resign.receive_up_to(10).now_or_never().unwrap().unwrap();
            if messages.is_empty() {
                return answered;
            }
            let asks: Vec<SignerPoke> = messages.iter().map(|it| serde_json::from_str(&it.body).unwrap()).collect();
            answered += asks.len();
            assert!(signer.handle_asks(&asks, now).now_or_never().unwrap().iter().all(|it| *it == Disposition::Done));
            for message in messages {
                self.queues.resign.delete_one(&message.receipt).now_or_never().unwrap().unwrap();
            }
        }
    }

    /// Runs one round per block for `seconds`, with a signer that answers at once. Returns how often it was asked.
    fn run<C: Chain>(&self, chain: C, signer: &MemorySigner, from: Millis, seconds: u64) -> usize {
        let broadcaster = self.broadcaster(chain);
        let mut lane = Lane::new(self.account, from);
        let mut asked = 0;
        for block in 1..=seconds * 1_000 / BLOCK_MS {
            let now = from.plus(block * BLOCK_MS);
            self.clock.advance(BLOCK_MS);
            round(&broadcaster, &mut lane, now);
            asked += self.answer_asks(signer, now);
            self.chain.mine();
        }
        asked
    }
}

fn key() -> KmsKeyId {
    "one".parse().unwrap()
}

fn round<C: Chain>(broadcaster: &MemoryBroadcaster<C>, lane: &mut Lane, now: Millis) -> Round {
    broadcaster.round(lane, now).now_or_never().unwrap().unwrap()
}

fn message(at: usize, body: String) -> Incoming {
    Incoming {
        receipt: String::new(),
        message_id: format!("m-{at}"),
        group: Some("all".to_owned()),
        sender: None,
        trace: None,
        receives: 1,
        body,
    }
}

fn request(at: usize, id: &str) -> Incoming {
    let to = "0x55d398326f99059fF775485246999027B3197955";
    message(at, format!(r#"{{"requestId":"{id}","account":"one","to":"{to}","gas":21000}}"#))
}

fn cancel(at: usize, id: &str) -> Incoming {
    message(at, format!(r#"{{"cancel":"{id}"}}"#))
}

fn handle(signer: &MemorySigner, batch: &[Incoming], now: Millis) -> Vec<Disposition> {
    signer.handle(batch, now).now_or_never().unwrap()
}

fn ask(fixture: &Fixture, id: &str, attempt: usize, kind: WireKind, price: Option<u64>) -> SignerPoke {
    SignerPoke {
        account: fixture.account.to_string(),
        request_id: id.to_owned(),
        attempt,
        kind,
        fee: price.map(|price| WireFee::Legacy { gas_price: price.to_string() }),
        to_self: 0,
        cause: "a test".to_owned(),
    }
}

fn wei(prices: &[u64]) -> Vec<Wei> {
    prices.iter().copied().map(Wei::from).collect()
}

#[test]
fn cancel_without_rules_keeps_the_last_signed_price() {
    let fixture = Fixture::new();
    let signer = fixture.signer(RULES);
    handle(&signer, &[request(0, "a"), cancel(1, "a")], NOW);
    handle(&signer, &[request(2, "b")], NOW);
    handle(&signer, &[cancel(3, "b")], NOW);
    // The first cancel came before a signature, the second after.
    assert_eq!(fixture.prices("b"), wei(&[GWEI / 10]));
    let bare = fixture.signer(NO_RULES);
    let asks = [ask(&fixture, "b", 1, WireKind::Cancel, Some(GWEI / 10 + GWEI / 100))];
    bare.handle_asks(&asks, NOW).now_or_never().unwrap();
    assert_eq!(fixture.prices("b"), wei(&[GWEI / 10, GWEI / 10]), "neither 0 wei nor more than the rules once allowed");
    // Without rules no higher price is signed.
    let again = [ask(&fixture, "b", 2, WireKind::Cancel, Some(GWEI))];
    bare.handle_asks(&again, NOW).now_or_never().unwrap();
    assert_eq!(fixture.prices("b").len(), 2);
}

/// Makes a cancel that is attempt 0, at 0.1 gwei: signing failed when the request was accepted.
fn cancel_at_a_tenth(fixture: &Fixture, signer: &MemorySigner) {
    fixture.keys.set_state(&key(), KeyState::SignFails);
    assert_eq!(handle(signer, &[request(0, "a")], NOW), [Disposition::Retry]);
    fixture.keys.set_state(&key(), KeyState::Enabled);
    handle(signer, &[cancel(1, "a")], NOW);
    signer.handle_asks(&[ask(fixture, "a", 0, WireKind::Cancel, None)], NOW).now_or_never().unwrap();
    assert_eq!(fixture.prices("a"), wei(&[GWEI / 10]));
}

#[test]
fn cancel_is_bumped_to_the_cap_if_the_network_is_higher() {
    let fixture = Fixture::new();
    let signer = fixture.signer(RULES);
    cancel_at_a_tenth(&fixture, &signer);
    fixture.chain.set_price(Some(Wei::from(3 * GWEI)));
    // The least price for a block is within the cap.
    fixture.chain.set_least_price(Wei::from(GWEI / 2));
    fixture.run(fixture.chain.clone(), &signer, NOW, 60);
    assert_eq!((fixture.record("a").phase.name(), fixture.prices("a")), ("cancelled", wei(&[GWEI / 10, GWEI])));
}

#[test]
fn replacement_respects_a_lowered_cap() {
    let fixture = Fixture::new();
    handle(&fixture.signer(RULES), &[request(0, "a")], NOW);
    assert_eq!(fixture.record("a").fee_cap, Wei::from(GWEI));
    let lowered = fixture.signer("[default]\nmax_gas_price_wei = 300000000\n");
    fixture.chain.set_price(Some(Wei::from(3 * GWEI)));
    fixture.chain.set_least_price(Wei::from(GWEI / 4));
    fixture.run(fixture.chain.clone(), &lowered, NOW, 60);
    assert_eq!(
        (fixture.record("a").phase.name(), fixture.prices("a")),
        ("confirmed", wei(&[GWEI / 10, 3 * GWEI / 10]))
    );
}

/// A chain that counts the sends of each transaction.
#[derive(Clone)]
struct Node {
    chain: MemoryChain,
    sends: Arc<Mutex<BTreeMap<TxHash, usize>>>,
    /// The first sends of each transaction, up to this number, are refused by a rate limit.
    limits: usize,
}

impl Node {
    fn new(chain: &MemoryChain, limits: usize) -> Self {
        Self { chain: chain.clone(), sends: Arc::default(), limits }
    }

    fn sends(&self) -> usize {
        self.sends.lock().unwrap().values().sum()
    }
}

impl Chain for Node {
    async fn chain_id(&self) -> Result<ChainId, PortError> {
        self.chain.chain_id().await
    }

    async fn view(&self, query: &ViewQuery) -> Result<ChainView, PortError> {
        self.chain.view(query).await
    }

    async fn send(&self, raw: &RawTx) -> SendAnswer {
        let sent = {
            let mut sends = self.sends.lock().unwrap();
            let sent = sends.entry(raw.hash).or_default();
            *sent += 1;
            *sent
        };
        if sent <= self.limits {
            return SendAnswer::new(SendClass::Retry, "limit exceeded");
        }
        self.chain.send(raw).await
    }

    async fn revert_bytes(&self, from: Address, it: &Intent, at: BlockRef) -> Result<Option<Vec<u8>>, PortError> {
        self.chain.revert_bytes(from, it, at).await
    }

    async fn witness(&self, query: &WitnessQuery) -> Vec<Corroboration> {
        self.chain.witness(query).await
    }

    async fn final_count(&self, address: Address) -> Result<(Nonce, Corroboration), PortError> {
        self.chain.final_count(address).await
    }

    async fn nonce_use(&self, query: &UseQuery) -> Result<NonceUse, PortError> {
        self.chain.nonce_use(query).await
    }

    async fn has_code(&self, address: Address) -> Result<bool, PortError> {
        self.chain.has_code(address).await
    }

    async fn balance(&self, address: Address) -> Result<Wei, PortError> {
        self.chain.balance(address).await
    }

    async fn counts(&self, address: Address) -> Result<Counts, PortError> {
        self.chain.counts(address).await
    }
}

/// Counts the warnings that a lane's head is stuck at its cap.
#[derive(Default)]
struct CapWarnings(Arc<AtomicU64>);

impl Recorder for CapWarnings {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() == meters::AT_CAP { Counter::from_arc(Arc::clone(&self.0)) } else { Counter::noop() }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn slot_without_legal_bump_is_resent_and_rarely_asked_for() {
    // First a cap less than a tenth above the signed price, then a cancel whose price is at the cap.
    for cancelled in [false, true] {
        let fixture = Fixture::new();
        handle(&fixture.signer(RULES), &[request(0, "a")], NOW);
        let lowered = fixture.signer("[default]\nmax_gas_price_wei = 105000000\n");
        if cancelled {
            handle(&lowered, &[cancel(1, "a")], NOW);
            lowered.handle_asks(&[ask(&fixture, "a", 1, WireKind::Cancel, Some(GWEI))], NOW).now_or_never().unwrap();
        }
        let before = fixture.prices("a");
        fixture.chain.set_price(Some(Wei::from(3 * GWEI)));
        // The pool has it, but no block includes it.
        fixture.chain.set_least_price(Wei::from(GWEI));
        let node = Node::new(&fixture.chain, 0);
        let warnings = CapWarnings::default();
        let asked = metrics::with_local_recorder(&warnings, || fixture.run(node.clone(), &lowered, NOW, 600));
        assert_eq!(fixture.prices("a"), before, "cancelled: {cancelled}");
        let warnings = warnings.0.load(Ordering::SeqCst);
        assert!((8..=10).contains(&warnings), "{warnings} warnings in ten minutes; cancelled: {cancelled}");
        assert!((1..=10).contains(&asked), "asked {asked} times in ten minutes, not every five seconds");
        assert!(node.sends() >= 150, "sent {} times in ten minutes", node.sends());
    }
}

#[test]
fn slots_accepted_after_a_rate_limit_are_not_sent_again() {
    let fixture = Fixture::new();
    let signer = fixture.signer(RULES);
    for tens in 0..10 {
        let batch: Vec<_> = (tens * 10..tens * 10 + 10).map(|at| request(at, &format!("r-{at}"))).collect();
        handle(&signer, &batch, NOW);
    }
    let node = Node::new(&fixture.chain, 1);
    let broadcaster = fixture.broadcaster(node.clone());
    let mut lane = Lane::new(fixture.account, NOW);
    for at in 1..=60_000 / BLOCK_MS {
        // A new pass knows only what is stored.
        if at == 60 {
            lane = Lane::new(fixture.account, NOW.plus(at * BLOCK_MS));
        }
        round(&broadcaster, &mut lane, NOW.plus(at * BLOCK_MS));
    }
    assert!((200..300).contains(&node.sends()), "{} sends of 100 slots in a minute", node.sends());
}

#[test]
fn busy_lane_has_few_pokes_on_the_queue() {
    let fixture = Fixture::new();
    let signer = fixture.signer(RULES);
    for at in 0..300 {
        fixture.clock.advance(100);
        let now = fixture.clock.now();
        assert_eq!(handle(&signer, &[request(at, &format!("r-{at}"))], now), [Disposition::Done]);
        // A repeated ask for a signature adds no poke.
        signer
            .handle_asks(&[ask(&fixture, &format!("r-{at}"), 0, WireKind::Execute, None)], now)
            .now_or_never()
            .unwrap();
    }
    let pokes = fixture.queues.broadcast.len();
    assert!((2..=3).contains(&pokes), "{pokes} pokes of 300 batches in 30 s: the first, and one a minute");
}

#[test]
fn every_request_for_an_idle_lane_pokes_it() {
    let fixture = Fixture::new();
    let signer = fixture.signer(RULES);
    let broadcaster = fixture.broadcaster(fixture.chain.clone());
    for at in 0..5 {
        fixture.clock.advance(1);
        handle(&signer, &[request(at, &format!("r-{at}"))], fixture.clock.now());
        let pokes = fixture.queues.broadcast.receive_up_to(10).now_or_never().unwrap().unwrap();
        assert_eq!(pokes.len(), 1, "request {at}, in the same minute");
        let mut lane = Lane::new(fixture.account, fixture.clock.now());
        while round(&broadcaster, &mut lane, fixture.clock.now()).open > 0 {
            fixture.chain.mine();
            fixture.clock.advance(BLOCK_MS);
        }
        fixture.queues.broadcast.delete_one(&pokes[0].receipt).now_or_never().unwrap().unwrap();
    }
    assert_eq!(fixture.topic.copies().len(), 5);
}

/// Accepts request `b` just before the lane's low mark moves past `a`.
struct RequestWhileLeaving {
    fixture: Fixture,
    signer: MemorySigner,
    came: AtomicBool,
}

impl fmt::Debug for RequestWhileLeaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestWhileLeaving")
    }
}

impl FaultSource for RequestWhileLeaving {
    fn fate(&self, operation: &'static str) -> Fate {
        if operation == "UpdateItem" && self.fixture.record("a").is_closed() && !self.came.swap(true, Ordering::SeqCst)
        {
            assert_eq!(handle(&self.signer, &[request(1, "b")], self.fixture.clock.now()), [Disposition::Done]);
        }
        Fate::Pass
    }
}

#[test]
fn request_with_a_dropped_poke_is_seen_by_the_ending_pass() {
    let fixture = Fixture::new();
    let signer = fixture.signer(RULES);
    handle(&signer, &[request(0, "a")], NOW);
    // An equal poke of this minute is already on the queue.
    fixture.queues.poke_lanes(&[poke::again(&fixture.account.to_string(), NOW)]).now_or_never().unwrap().unwrap();
    let waiting = fixture.queues.broadcast.len();
    let meanwhile = RequestWhileLeaving { signer, fixture: fixture.clone(), came: AtomicBool::new(false) };
    let store = fixture.store.behind(Interceptor::with(Arc::new(meanwhile)));
    let broadcaster = Fixture { store, ..fixture.clone() }.broadcaster(fixture.chain.clone());
    let mut lane = Lane::new(fixture.account, NOW);
    for block in 1..40 {
        let mut rounding = pin!(broadcaster.round(&mut lane, NOW.plus(block * BLOCK_MS)));
        let mut context = Context::from_waker(Waker::noop());
        let round = loop {
            if let Poll::Ready(round) = rounding.as_mut().poll(&mut context) {
                break round.unwrap();
            }
        };
        fixture.chain.mine();
        // A pass ends here.
        if round.open == 0 {
            break;
        }
    }
    assert_eq!(fixture.queues.broadcast.len(), waiting, "its poke was dropped");
    assert!(fixture.record("b").is_closed(), "{}", fixture.record("b").phase.name());
}
