//! A pass within the time of one invocation, over in-memory ports and nodes that leave slow questions unanswered.

#![allow(missing_docs, reason = "the documentation of a test is not published")]
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a test may panic")]

use std::future::pending;
use std::time::Duration;

use signpost_broadcaster::lanes::{Bounds, Lanes};
use signpost_host::clock::now;
use signpost_txmgr::account::Head;
use signpost_txmgr::broadcaster::{Broadcaster, BroadcasterConfig};
use signpost_txmgr::fake::chain::REVERT_SELECTOR;
use signpost_txmgr::fake::{
    Interceptor, Journal, MemoryChain, MemoryKeys, MemoryQueues, MemoryStore, MemoryTopic, QueueRules, SimClock, sealer,
};
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::machine::{Corroboration, Tuning};
use signpost_txmgr::pins::Pins;
use signpost_txmgr::policy::{NetworkRules, Policies};
use signpost_txmgr::ports::{
    Chain, ChainView, Counts, NonceUse, PortError, Store as _, UseQuery, ViewQuery, WitnessQuery,
};
use signpost_txmgr::record::{BlockRef, Record, SendAnswer, Stored, Subject};
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::tx::{Intent, RawTx};
use signpost_txmgr::units::{AccountKey, Address, ChainId, KmsKeyId, Nonce, Wei};
use signpost_txmgr::wire::LanePoke;
use tokio::sync::watch;

const RULES: &str = "[default]\nmax_gas_price_wei = 1000000000\ngas_price_wei = 100000000\n";

/// A node that mines a block for every view. If it is silent, it leaves slow questions unanswered.
#[derive(Debug, Clone)]
struct Node {
    inner: MemoryChain,
    is_silent: bool,
}

impl Chain for Node {
    async fn chain_id(&self) -> Result<ChainId, PortError> {
        self.inner.chain_id().await
    }

    async fn view(&self, query: &ViewQuery) -> Result<ChainView, PortError> {
        let view = self.inner.view(query).await;
        self.inner.mine();
        view
    }

    async fn send(&self, raw: &RawTx) -> SendAnswer {
        self.inner.send(raw).await
    }

    async fn revert_bytes(&self, from: Address, intent: &Intent, at: BlockRef) -> Result<Option<Vec<u8>>, PortError> {
        if self.is_silent {
            pending::<()>().await;
        }
        self.inner.revert_bytes(from, intent, at).await
    }

    async fn witness(&self, query: &WitnessQuery) -> Vec<Corroboration> {
        self.inner.witness(query).await
    }

    async fn final_count(&self, address: Address) -> Result<(Nonce, Corroboration), PortError> {
        self.inner.final_count(address).await
    }

    async fn nonce_use(&self, query: &UseQuery) -> Result<NonceUse, PortError> {
        if self.is_silent {
            pending::<()>().await;
        }
        // The time of fourteen calls, one after the other.
        tokio::time::sleep(Duration::from_millis(14 * 50)).await;
        self.inner.nonce_use(query).await
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

struct Stage {
    account: AccountKey,
    store: MemoryStore,
    chain: MemoryChain,
    lanes: Lanes<MemoryStore, Node, MemoryQueues, MemoryTopic, MemoryQueues>,
    signer: Signer<MemoryStore, MemoryKeys, MemoryQueues, MemoryTopic>,
}

async fn stage(is_silent: bool) -> Stage {
    let (interceptor, journal) = (Interceptor::default(), Journal::default());
    let keys = MemoryKeys::new(interceptor.clone(), journal.clone());
    let store = MemoryStore::new(interceptor.clone(), journal.clone());
    let topic = MemoryTopic::new(interceptor.clone(), journal.clone());
    let queues = MemoryQueues::new(QueueRules::FIFO, &SimClock::at(now()), &interceptor, &journal);
    let key: KmsKeyId = "one".parse().unwrap();
    let address = keys.add(&key, [1; 32]);
    let account = AccountKey { chain_id: ChainId(97), address };
    let head = Head::new(account, "one".parse().unwrap(), key, Nonce(0), now());
    store.register(&head).await.unwrap();
    let config = SignerConfig {
        pins: Pins::Registry,
        sealer: sealer(),
        chain_id: ChainId(97),
        policies: Policies::from_toml(RULES).unwrap(),
        network: NetworkRules { fee_floor: Wei::from(1) },
        retention_ms: 1_000_000_000,
        sign_concurrency: 4,
    };
    let signer = Signer::new(store.clone(), keys, queues.clone(), topic.clone(), config);
    signer.warm_up(now()).await.unwrap();
    let config = BroadcasterConfig {
        chain_id: ChainId(97),
        tuning: Tuning::BSC,
        window: BroadcasterConfig::WINDOW,
        retention_ms: 1_000_000_000,
        write_concurrency: 8,
    };
    let chain = MemoryChain::new(ChainId(97), interceptor, journal).trusting(address);
    let node = Node { inner: chain.clone(), is_silent };
    let broadcaster = Broadcaster::new(store.clone(), node, queues.clone(), topic, config);
    let lanes = Lanes { broadcaster, queue: queues, poll: Duration::from_millis(450) };
    Stage { account, store, chain, lanes, signer }
}

impl Stage {
    async fn request(&self, range: std::ops::Range<usize>, data: &str) {
        for at in range {
            let body = format!(
                r#"{{"requestId":"r-{at}","account":"one","to":"0x55d398326f99059fF775485246999027B3197955","gas":50000,"data":"{data}"}}"#
            );
            let message_id = format!("m-{at}");
            let message = Incoming {
                receipt: String::new(),
                message_id,
                group: Some("all".to_owned()),
                sender: None,
                trace: None,
                receives: 1,
                body,
            };
            assert_eq!(self.signer.handle(&[message], now()).await, [Disposition::Done]);
        }
    }

    /// A pass of a function with a time limit of a minute, in virtual time.
    async fn pass(&self) {
        let poke = LanePoke { account: self.account.to_string(), cause: "a test".to_owned() };
        let message = Incoming {
            receipt: String::new(),
            message_id: String::new(),
            group: Some(self.account.to_string()),
            sender: None,
            trace: None,
            receives: 1,
            body: serde_json::to_string(&poke).unwrap(),
        };
        let (_order, stop) = watch::channel(false);
        let bounds = Bounds { hand_on: Duration::from_secs(57), abort: Some(Duration::from_secs(58)) };
        assert_eq!(self.lanes.passes(&[message], bounds, &stop).await, [Disposition::Done]);
    }

    fn record(&self, at: usize) -> Record {
        match self.store.stored(&format!("r-{at}").parse().unwrap()) {
            Some(Stored::Record(record)) => *record,
            other => panic!("r-{at}: {other:?}"),
        }
    }

    fn closed(&self, range: std::ops::Range<usize>) -> usize {
        range.filter(|at| self.record(*at).is_closed()).count()
    }
}

#[tokio::test(start_paused = true)]
async fn hundred_foreign_uses_are_proven_within_one_pass() {
    let stage = stage(false).await;
    stage.request(0..100, "0x").await;
    for nonce in 0..100 {
        stage.chain.foreign(stage.account.address, Nonce(nonce));
    }
    stage.chain.mine();
    stage.pass().await;
    assert_eq!(stage.closed(0..100), 100);
    assert!((0..100).all(|at| stage.record(at).phase.name() == "displaced"));
}

#[tokio::test(start_paused = true)]
async fn silent_nodes_delay_only_the_requests_that_need_them() {
    let stage = stage(true).await;
    let reverts = format!("0x{:08x}", u32::from_be_bytes(REVERT_SELECTOR));
    stage.request(0..10, "0x").await;
    stage.request(10..16, &reverts).await;
    stage.request(16..60, "0x").await;
    for nonce in 0..10 {
        stage.chain.foreign(stage.account.address, Nonce(nonce));
    }
    let begun = tokio::time::Instant::now();
    stage.pass().await;
    assert!(begun.elapsed() <= Duration::from_secs(58), "{:?}", begun.elapsed());
    assert_eq!(stage.closed(16..60), 44, "requests without a slow question are settled");
    for (range, subject) in [(0..10, Subject::Use), (10..16, Subject::Revert)] {
        let noted = range.filter(|at| stage.record(*at).inquiry_about(subject).is_some()).count();
        assert!(noted >= 4, "{noted} questions about {} are noted as unanswered", subject.name());
    }
    let pokes = stage.lanes.queue.broadcast.receive_up_to(100).await.unwrap();
    assert!(pokes.iter().any(|poke| poke.body.contains("next pass")), "and the next pass is requested");
}
