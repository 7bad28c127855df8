//! A lane belongs to one chain, and the drivers of another chain ignore it (I16).

#![allow(missing_docs, reason = "a test binary has no reader of its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test ends at the first thing that is not as it should be"
)]

use futures_util::FutureExt as _;
use signpost_txmgr::account::Head;
use signpost_txmgr::broadcaster::{Broadcaster, BroadcasterConfig, Lane, Round};
use signpost_txmgr::fake::{
    Interceptor, Journal, MemoryChain, MemoryKeys, MemoryQueues, MemoryStore, MemoryTopic, QueueRules, SimClock, sealer,
};
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::machine::Tuning;
use signpost_txmgr::pins::Pins;
use signpost_txmgr::policy::{NetworkRules, Policies};
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::record::{Record, Stored};
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::start::StartRefused;
use signpost_txmgr::units::{AccountKey, Address, ChainId, KmsKeyId, Millis, Nonce, Wei};
use signpost_txmgr::wire::{SignerPoke, WireKind};

const NOW: Millis = Millis(1_795_348_800_000);
const MAIN: ChainId = ChainId(56);
const TEST: ChainId = ChainId(97);
const RULES: &str = "[default]\nmax_gas_price_wei = 1000000000\ngas_price_wei = 100000000\n";

type MemorySigner = Signer<MemoryStore, MemoryKeys, MemoryQueues, MemoryTopic>;
type MemoryBroadcaster = Broadcaster<MemoryStore, MemoryChain, MemoryQueues, MemoryTopic>;

/// One pair of tables, one key registered on two chains, and a node on chain 97.
struct Fixture {
    keys: MemoryKeys,
    store: MemoryStore,
    topic: MemoryTopic,
    queues: MemoryQueues,
    chain: MemoryChain,
    address: Address,
}

impl Fixture {
    fn new() -> Self {
        let (interceptor, journal) = (Interceptor::default(), Journal::default());
        let keys = MemoryKeys::new(interceptor.clone(), journal.clone());
        let address = keys.add(&key(), [1; 32]);
        Self {
            keys,
            store: MemoryStore::new(interceptor.clone(), journal.clone()),
            topic: MemoryTopic::new(interceptor.clone(), journal.clone()),
            queues: MemoryQueues::new(QueueRules::FIFO, &SimClock::at(NOW), &interceptor, &journal),
            chain: MemoryChain::new(TEST, interceptor, journal),
            address,
        }
    }

    fn register(&self, chain_id: ChainId, name: &str) -> AccountKey {
        let account = AccountKey { chain_id, address: self.address };
        let head = Head::new(account, name.parse().unwrap(), key(), Nonce(0), NOW);
        self.store.register(&head).now_or_never().unwrap().unwrap();
        account
    }

    fn signer(&self, chain_id: ChainId) -> MemorySigner {
        let config = SignerConfig {
            pins: Pins::Registry,
            sealer: sealer(),
            chain_id,
            policies: Policies::from_toml(RULES).unwrap(),
            network: NetworkRules { fee_floor: Wei::from(1) },
            retention_ms: 1_000_000_000,
            sign_concurrency: 4,
        };
        Signer::new(self.store.clone(), self.keys.clone(), self.queues.clone(), self.topic.clone(), config)
    }

    /// A broadcaster for chain 97.
    fn broadcaster(&self) -> MemoryBroadcaster {
        let config = BroadcasterConfig {
            chain_id: TEST,
            tuning: Tuning::BSC,
            window: BroadcasterConfig::WINDOW,
            retention_ms: 1_000_000_000,
            write_concurrency: 8,
        };
        Broadcaster::new(self.store.clone(), self.chain.clone(), self.queues.clone(), self.topic.clone(), config)
    }

    fn head(&self, account: &AccountKey) -> Head {
        self.store.head(account).now_or_never().unwrap().unwrap().unwrap()
    }

    fn record(&self, id: &str) -> Record {
        match self.store.stored(&id.parse().unwrap()) {
            Some(Stored::Record(record)) => *record,
            other => panic!("{id}: {other:?}"),
        }
    }

    /// Uses the address's first nonce on chain 97 with a transaction that was not signed here.
    fn use_elsewhere(&self) {
        self.chain.foreign(self.address, Nonce(0));
        for _ in 0..6 {
            self.chain.mine();
        }
    }

    fn codes(&self) -> Vec<String> {
        self.topic
            .copies()
            .iter()
            .filter_map(|outcome| outcome.reason.as_ref().map(|reason| reason.code.clone()))
            .collect()
    }
}

fn key() -> KmsKeyId {
    "both".parse().unwrap()
}

fn delivery(at: usize, body: String) -> Incoming {
    Incoming {
        receipt: String::new(),
        message_id: format!("m-{at}"),
        group: None,
        sender: None,
        trace: None,
        receives: 1,
        body,
    }
}

fn transfer(at: usize, id: &str, account: &str) -> Incoming {
    let to = "0x55d398326f99059fF775485246999027B3197955";
    delivery(at, format!(r#"{{"requestId":"{id}","account":"{account}","to":"{to}","gas":21000}}"#))
}

fn accept(signer: &MemorySigner, message: Incoming) {
    assert_eq!(signer.handle(&[message], NOW).now_or_never().unwrap(), [Disposition::Done]);
}

#[test]
fn round_ignores_a_lane_on_another_chain() {
    let fixture = Fixture::new();
    let main = fixture.register(MAIN, "main");
    accept(&fixture.signer(MAIN), transfer(0, "a", "main"));
    fixture.use_elsewhere();
    let (before, broadcaster) = (fixture.record("a"), fixture.broadcaster());
    let mut lane = Lane::new(main, NOW);
    for at in 0..5 {
        let round = broadcaster.round(&mut lane, NOW.plus(1_000 + 450 * at)).now_or_never().unwrap().unwrap();
        // The host then deletes the poke, so it is not redelivered.
        assert_eq!(round, Round { open: 0, changed: 0, chain_seen: false, chain_silent: false });
        fixture.chain.mine();
    }
    assert_eq!(fixture.record("a"), before, "nothing is sent or reported as displaced");
    assert!(fixture.topic.copies().is_empty() && !fixture.head(&main).paused);
}

#[test]
fn sweep_finds_only_lanes_on_its_own_chain() {
    let fixture = Fixture::new();
    let main = fixture.register(MAIN, "main");
    let test = fixture.register(TEST, "test");
    let (broadcaster, signer) = (fixture.broadcaster(), fixture.signer(MAIN));
    let sweep = broadcaster.sweep(NOW).now_or_never().unwrap().unwrap();
    assert_eq!((sweep.pokes.len(), sweep.idle), (0, vec![test]));
    accept(&signer, transfer(0, "a", "main"));
    assert_eq!(fixture.head(&main).open_slots(), 1);
    let sweep = broadcaster.sweep(NOW).now_or_never().unwrap().unwrap();
    assert_eq!((sweep.pokes.len(), sweep.idle), (0, vec![test]));
}

#[test]
fn idle_lane_on_another_chain_is_not_fast_forwarded() {
    let fixture = Fixture::new();
    let (main, test) = (fixture.register(MAIN, "main"), fixture.register(TEST, "test"));
    fixture.use_elsewhere();
    let broadcaster = fixture.broadcaster();
    for _ in 0..3 {
        assert_eq!(fixture.head(&test).next_nonce, Nonce(0), "one node alone must agree in three rounds");
        broadcaster.look_at_idle(&[main, test], NOW).now_or_never().unwrap();
    }
    assert_eq!(fixture.head(&main).next_nonce, Nonce(0));
    assert_eq!(fixture.head(&test).next_nonce, Nonce(1), "the lane on its own chain is");
}

#[test]
fn ask_for_a_request_on_another_chain_is_dropped() {
    let fixture = Fixture::new();
    let (main, _) = (fixture.register(MAIN, "main"), fixture.register(TEST, "test"));
    accept(&fixture.signer(MAIN), transfer(0, "a", "main"));
    let signed = fixture.record("a");
    // As if it had not been signed, so that attempt 0 is asked for.
    fixture.store.with_tables(|tables| {
        if let Some(Stored::Record(record)) = tables.requests.get_mut(&"a".parse().unwrap()) {
            record.attempts.clear();
            record.phase = signpost_txmgr::record::Phase::Reserved;
        }
    });
    let ask = SignerPoke {
        request_id: "a".to_owned(),
        account: main.to_string(),
        attempt: 0,
        kind: WireKind::Execute,
        fee: None,
        to_self: 0,
        cause: "test".to_owned(),
    };
    let signatures = fixture.keys.sign_calls();
    let answered = fixture.signer(TEST).handle_asks(std::slice::from_ref(&ask), NOW).now_or_never().unwrap();
    assert_eq!(answered, [Disposition::Done], "it is not redelivered forever");
    assert_eq!(fixture.keys.sign_calls(), signatures);
    fixture.signer(MAIN).handle_asks(&[ask], NOW).now_or_never().unwrap();
    assert_eq!(fixture.record("a").attempts.len(), signed.attempts.len(), "its own signer answers it");
}

#[test]
fn cancel_of_a_request_on_another_chain_is_refused() {
    let fixture = Fixture::new();
    fixture.register(MAIN, "main");
    fixture.register(TEST, "test");
    accept(&fixture.signer(MAIN), transfer(0, "a", "main"));
    accept(&fixture.signer(TEST), delivery(1, r#"{"cancel":"a"}"#.to_owned()));
    assert_eq!(fixture.record("a").cancel, None);
    assert_eq!(fixture.codes(), ["unknownRequest"]);
}

#[test]
fn stages_refuse_tables_with_only_accounts_on_another_chain() {
    let fixture = Fixture::new();
    assert!(fixture.broadcaster().check_accounts().now_or_never().unwrap().is_ok(), "none is registered yet");
    fixture.register(MAIN, "main");
    let refusals =
        [fixture.broadcaster().check_accounts().now_or_never(), fixture.signer(TEST).warm_up(NOW).now_or_never()];
    for refused in refusals {
        let refused = refused.unwrap().unwrap_err();
        assert!(matches!(refused, StartRefused::WrongChain { wanted: TEST, found: MAIN }), "{refused}");
    }
    fixture.register(TEST, "test");
    assert!(fixture.broadcaster().check_accounts().now_or_never().unwrap().is_ok());
    assert!(fixture.signer(TEST).warm_up(NOW).now_or_never().unwrap().is_ok());
}
