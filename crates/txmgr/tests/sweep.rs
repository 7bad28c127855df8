//! The work of a sweep over very many lanes.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::collections::BTreeSet;

use futures_util::FutureExt as _;
use signpost_txmgr::account::Head;
use signpost_txmgr::broadcaster::{Broadcaster, BroadcasterConfig, Sweep};
use signpost_txmgr::fake::{
    Interceptor, Journal, MemoryChain, MemoryQueues, MemoryStore, MemoryTopic, QueueRules, SimClock,
};
use signpost_txmgr::machine::Tuning;
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::units::{AccountKey, Address, ChainId, Millis, Nonce};

const CHAIN: ChainId = ChainId(97);
const NOW: Millis = Millis(1_795_348_800_000);
const MINUTE_MS: u64 = 60_000;

type MemoryBroadcaster = Broadcaster<MemoryStore, MemoryChain, MemoryQueues, MemoryTopic>;

fn broadcaster() -> (MemoryStore, MemoryChain, MemoryBroadcaster) {
    let (interceptor, journal) = (Interceptor::default(), Journal::default());
    let store = MemoryStore::new(interceptor.clone(), journal.clone());
    let chain = MemoryChain::new(CHAIN, interceptor.clone(), journal.clone());
    let queues = MemoryQueues::new(QueueRules::FIFO, &SimClock::at(NOW), &interceptor, &journal);
    let config = BroadcasterConfig {
        chain_id: CHAIN,
        tuning: Tuning::BSC,
        window: BroadcasterConfig::WINDOW,
        retention_ms: 1,
        write_concurrency: 1,
    };
    let topic = MemoryTopic::new(interceptor, journal);
    let broadcaster = Broadcaster::new(store.clone(), chain.clone(), queues, topic, config);
    (store, chain, broadcaster)
}

fn register(store: &MemoryStore, number: u16, open: u64) -> AccountKey {
    let mut address = [0; 20];
    address[18..].copy_from_slice(&number.to_be_bytes());
    let account = AccountKey { chain_id: CHAIN, address: Address(address) };
    let name = format!("a{number}").parse().unwrap();
    let head = Head::new(account, name, format!("key-{number}").parse().unwrap(), Nonce(open), NOW);
    let head = Head { lowest_open_nonce: Nonce(0), ..head };
    store.register(&head).now_or_never().unwrap().unwrap();
    account
}

fn sweep(broadcaster: &MemoryBroadcaster, minute: u64) -> Sweep {
    broadcaster.sweep(NOW.plus(minute * MINUTE_MS)).now_or_never().unwrap().unwrap()
}

#[test]
fn every_open_lane_is_poked_by_every_sweep() {
    let (store, _, broadcaster) = broadcaster();
    let open: BTreeSet<_> = (0..300).map(|number| register(&store, number, 1).to_string()).collect();
    for minute in 0..3 {
        let poked: BTreeSet<_> = sweep(&broadcaster, minute).pokes.into_iter().map(|poke| poke.account).collect();
        assert_eq!(poked, open);
    }
}

#[test]
fn sweeps_look_at_a_limited_number_of_idle_lanes_in_turn() {
    let (store, _, broadcaster) = broadcaster();
    let few: BTreeSet<_> = (0..7).map(|number| register(&store, number, 0)).collect();
    assert_eq!(sweep(&broadcaster, 0).idle.into_iter().collect::<BTreeSet<_>>(), few);
    let all: BTreeSet<_> = few.into_iter().chain((7..250).map(|number| register(&store, number, 0))).collect();
    let mut seen = BTreeSet::new();
    for minute in 0..3 {
        let idle = sweep(&broadcaster, minute).idle;
        assert_eq!(idle.len(), Sweep::IDLE_LOOKS, "one sweep does not look at all");
        seen.extend(idle);
    }
    assert_eq!(seen, all, "250 lanes in three sweeps");
}

#[test]
fn idle_lane_adopts_nonces_that_another_program_used() {
    let (store, chain, broadcaster) = broadcaster();
    let account = register(&store, 1, 0);
    chain.foreign(account.address, Nonce(0));
    for _ in 0..4 {
        chain.mine();
    }
    // One node alone must agree in three rounds.
    for next in [0, 0, 1] {
        broadcaster.look_at_idle(&sweep(&broadcaster, 0).idle, NOW).now_or_never().unwrap();
        let head = store.head(&account).now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(head.next_nonce, Nonce(next));
    }
}
