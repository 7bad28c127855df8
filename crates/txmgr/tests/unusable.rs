//! One account whose key or head cannot be used: it stops itself, and nothing else.

#![allow(missing_docs, reason = "a test binary has no reader of its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test ends at the first thing that is not as it should be"
)]

use futures_util::FutureExt as _;
use signpost_txmgr::account::Head;
use signpost_txmgr::broadcaster::{Broadcaster, BroadcasterConfig};
use signpost_txmgr::fake::{
    Fate, Gate, Journal, KeyState, MemoryChain, MemoryKeys, MemoryQueues, MemoryStore, MemoryTopic, QueueRules,
    SimClock, Weather, sealer,
};
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::machine::Tuning;
use signpost_txmgr::pins::Pins;
use signpost_txmgr::policy::{NetworkRules, Policies};
use signpost_txmgr::ports::{Happened, Store as _};
use signpost_txmgr::record::{Record, Stored};
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::start::{KeyTrouble, accounts_of_chain, key_troubles};
use signpost_txmgr::units::{AccountKey, ChainId, KmsKeyId, Millis, Nonce, Wei};
use signpost_txmgr::unusable::{KeyCall, KeyFault, Unusable};
use signpost_txmgr::wire::{SignerPoke, WireKind};

const NOW: Millis = Millis(1_795_348_800_000);
const CHAIN: ChainId = ChainId(97);
const RULES: &str = "[default]\nmax_gas_price_wei = 9\ngas_price_wei = 9\n[pool.both]\naccounts = [\"one\", \"two\"]\n";
const DONE: Disposition = Disposition::Done;
const RETRY: Disposition = Disposition::Retry;

type MemorySigner = Signer<MemoryStore, MemoryKeys, MemoryQueues, MemoryTopic>;

/// The accounts `one` and `two`, with keys of their names.
struct World {
    store: MemoryStore,
    keys: MemoryKeys,
    topic: MemoryTopic,
    queues: MemoryQueues,
}

impl World {
    fn new() -> Self {
        Self::behind(Gate::default())
    }

    /// Its key service is behind this gate.
    fn behind(keys: Gate) -> Self {
        let (gate, journal) = (Gate::default(), Journal::default());
        let world = Self {
            store: MemoryStore::new(gate.clone(), journal.clone()),
            keys: MemoryKeys::new(keys, journal.clone()),
            topic: MemoryTopic::new(gate.clone(), journal.clone()),
            queues: MemoryQueues::new(QueueRules::FIFO, &SimClock::at(NOW), &gate, &journal),
        };
        for (seed, name) in [(1, "one"), (2, "two")] {
            let address = world.keys.add(&key(name), [seed; 32]);
            let account = AccountKey { chain_id: CHAIN, address };
            let head = Head::new(account, name.parse().unwrap(), key(name), Nonce(0), NOW);
            world.store.register(&head).now_or_never().unwrap().unwrap();
        }
        world
    }

    fn signer(&self) -> MemorySigner {
        let config = SignerConfig {
            pins: Pins::Registry,
            sealer: sealer(),
            chain_id: CHAIN,
            policies: Policies::from_toml(RULES).unwrap(),
            network: NetworkRules { fee_floor: Wei::from(1) },
            retention_ms: 1,
            sign_concurrency: 4,
        };
        Signer::new(self.store.clone(), self.keys.clone(), self.queues.clone(), self.topic.clone(), config)
    }

    fn started(&self) -> MemorySigner {
        let signer = self.signer();
        signer.warm_up(NOW).now_or_never().unwrap().unwrap();
        signer
    }

    fn head(&self, name: &str) -> Head {
        self.store.with_tables(|tables| tables.heads.values().find(|head| head.name.as_str() == name).cloned()).unwrap()
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Head)) {
        let account = self.head(name).account;
        self.store.with_tables(|tables| change(tables.heads.get_mut(&account).unwrap()));
    }

    fn record(&self, id: &str) -> Option<Record> {
        match self.store.stored(&id.parse().unwrap()) {
            Some(Stored::Record(record)) => Some(*record),
            Some(Stored::Rejected(_)) | None => None,
        }
    }

    fn is_signed(&self, id: &str) -> bool {
        self.record(id).is_some_and(|record| record.attempts.len() == 1)
    }

    /// Id and code of every outcome published.
    fn refused(&self) -> Vec<(String, String)> {
        let copies = self.topic.copies();
        copies.iter().map(|copy| (copy.request_id.clone(), copy.reason.as_ref().unwrap().code.clone())).collect()
    }
}

fn key(name: &str) -> KmsKeyId {
    name.parse().unwrap()
}

fn transfer(id: &str, account: &str) -> Incoming {
    let to = "0x55d398326f99059fF775485246999027B3197955";
    Incoming {
        receipt: String::new(),
        message_id: format!("m-{id}"),
        group: None,
        sender: None,
        trace: None,
        receives: 1,
        body: format!(r#"{{"requestId":"{id}","account":"{account}","to":"{to}","gas":21000}}"#),
    }
}

fn go(signer: &MemorySigner, batch: &[Incoming], now: Millis) -> Vec<Disposition> {
    signer.handle(batch, now).now_or_never().unwrap()
}

fn unusable(id: &str) -> (String, String) {
    (id.to_owned(), "accountUnusable".to_owned())
}

/// What the broadcaster asks of the signer for a slot without a signature.
fn ask(world: &World, id: &str) -> SignerPoke {
    SignerPoke {
        account: world.record(id).unwrap().account.to_string(),
        request_id: id.to_owned(),
        attempt: 0,
        kind: WireKind::Execute,
        fee: None,
        to_self: 0,
        cause: "test".to_owned(),
    }
}

#[test]
fn a_retired_account_s_key_is_not_read_at_the_start() {
    let world = World::new();
    world.change("two", |head| (head.paused, head.retired_at) = (true, Some(NOW)));
    world.keys.set_disabled(&key("two"), true);
    world.started();
    assert_eq!(world.keys.public_key_calls(), 1);
    assert_eq!(world.head("two").unusable, None);
}

#[test]
fn a_bad_key_stops_its_own_account_and_no_start() {
    let faults = [
        (KeyState::Disabled, KeyFault::Disabled),
        (KeyState::Denied, KeyFault::Denied),
        (KeyState::PendingDeletion, KeyFault::PendingDeletion),
    ];
    for (state, fault) in faults {
        let world = World::new();
        world.keys.set_state(&key("two"), state);
        let signer = world.started();
        assert_eq!(world.head("two").unusable, Some(Unusable { since: NOW, fault, call: KeyCall::Read }));
        let heals = if fault.may_heal() { RETRY } else { DONE };
        assert_eq!(go(&signer, &[transfer("a", "two"), transfer("b", "one")], NOW), [heals, DONE], "{fault}");
        assert!(world.is_signed("b") && world.record("a").is_none());
        assert_eq!(world.head("two").open_slots(), 0, "no slot is reserved that cannot be signed");
    }
}

#[test]
fn a_key_of_another_address_refuses_at_once() {
    let world = World::new();
    world.change("two", |head| head.kms_key_id = key("one"));
    let signer = world.started();
    assert_eq!(go(&signer, &[transfer("a", "two"), transfer("b", "one")], NOW), [DONE, DONE]);
    assert_eq!(world.refused(), [unusable("a")]);
    assert!(world.is_signed("b"));
}

#[test]
fn a_key_that_is_gone_refuses_at_once() {
    let world = World::new();
    world.change("two", |head| head.kms_key_id = key("gone"));
    // Also without the check of the start, which reads only so many keys.
    assert_eq!(go(&world.signer(), &[transfer("a", "two"), transfer("b", "one")], NOW), [DONE, DONE]);
    assert_eq!(world.refused(), [unusable("a")]);
    assert!(world.is_signed("b"));
}

#[test]
fn a_fault_that_may_heal_is_waited_for_and_then_answered() {
    let world = World::new();
    world.keys.set_disabled(&key("two"), true);
    let last = NOW.plus(Unusable::HEAL_MAX_MS - 1);
    // Each delivery meets another process, as in Lambda: the mark on the head says since when.
    for now in [NOW, NOW.plus(180_000), last] {
        assert_eq!(go(&world.signer(), &[transfer("a", "two")], now), [RETRY]);
    }
    assert_eq!(world.refused(), []);
    assert_eq!(go(&world.signer(), &[transfer("a", "two")], last.plus(1)), [DONE]);
    assert_eq!(world.refused(), [unusable("a")]);
}

#[test]
fn a_key_that_comes_back_works_again_without_a_restart() {
    let world = World::new();
    world.keys.set_disabled(&key("two"), true);
    let signer = world.started();
    world.keys.set_disabled(&key("two"), false);
    let asked = world.keys.public_key_calls();
    assert_eq!(go(&signer, &[transfer("a", "two")], NOW.plus(Unusable::RECHECK_MS - 1)), [RETRY]);
    assert_eq!(world.keys.public_key_calls(), asked, "the key is tried once a minute, not with each message");
    assert_eq!(go(&signer, &[transfer("a", "two")], NOW.plus(Unusable::RECHECK_MS)), [DONE]);
    assert!(world.is_signed("a"));
    assert_eq!(world.head("two").unusable, None);
}

#[test]
fn a_repeat_of_a_signed_request_is_done_whatever_the_key() {
    let world = World::new();
    assert_eq!(go(&world.signer(), &[transfer("a", "two")], NOW), [DONE]);
    for state in [KeyState::Disabled, KeyState::PendingDeletion] {
        world.keys.set_state(&key("two"), state);
        assert_eq!(go(&world.signer(), &[transfer("a", "two")], NOW.plus(1)), [DONE], "{state:?}");
        world.change("two", |head| head.unusable = None);
    }
    assert_eq!(world.refused(), [], "an accepted message is not refused later");
}

#[test]
fn a_key_disabled_while_signing_holds_only_what_has_a_slot() {
    let world = World::new();
    let signer = world.started();
    world.keys.set_state(&key("two"), KeyState::SignDenied);
    assert_eq!(go(&signer, &[transfer("a", "two"), transfer("b", "one")], NOW), [RETRY, DONE]);
    let mark = Unusable { since: NOW, fault: KeyFault::Denied, call: KeyCall::Sign };
    assert_eq!((world.head("two").unusable, world.head("two").open_slots()), (Some(mark), 1));
    // Its record carries the first one's effect; another gets no slot, in this process or in another.
    assert_eq!(go(&signer, &[transfer("a", "two"), transfer("c", "two")], NOW.plus(1)), [DONE, RETRY]);
    assert_eq!(go(&world.started(), &[transfer("c", "two")], NOW.plus(2)), [RETRY]);
    assert_eq!(world.head("two").open_slots(), 1);
    assert_eq!(world.head("two").unusable, Some(mark), "that its public key can be read does not clear it");
}

#[test]
fn an_ask_for_a_slot_that_waits_tries_the_key_again() {
    let world = World::new();
    let signer = world.started();
    world.keys.set_state(&key("two"), KeyState::SignDenied);
    go(&signer, &[transfer("a", "two")], NOW);
    let asks = [ask(&world, "a")];
    let answer = |after_ms: u64| signer.handle_asks(&asks, NOW.plus(after_ms)).now_or_never().unwrap();
    assert_eq!(answer(5_000), [DONE], "it is not asked again at once");
    assert!(!world.is_signed("a"));
    world.keys.set_state(&key("two"), KeyState::Enabled);
    assert_eq!(answer(10_000), [DONE]);
    assert!(!world.is_signed("a"), "once a minute");
    assert_eq!(answer(Unusable::RECHECK_MS), [DONE]);
    assert!(world.is_signed("a"));
    assert_eq!(world.head("two").unusable, None);
    assert_eq!(go(&signer, &[transfer("b", "two")], NOW.plus(Unusable::RECHECK_MS + 1)), [DONE]);
    assert!(world.is_signed("b"));
}

#[test]
fn a_refused_signature_is_tried_by_no_further_slot_while_one_waits() {
    let world = World::new();
    let signer = world.started();
    world.keys.set_state(&key("two"), KeyState::SignDenied);
    go(&signer, &[transfer("a", "two")], NOW);
    for minute in 1..10 {
        let now = NOW.plus(minute * Unusable::RECHECK_MS);
        assert_eq!(go(&signer, &[transfer("b", "two")], now), [RETRY]);
        assert_eq!(world.head("two").open_slots(), 1);
    }
    assert_eq!(go(&signer, &[transfer("b", "two")], NOW.plus(Unusable::HEAL_MAX_MS)), [DONE]);
    assert_eq!(world.refused(), [unusable("b")]);
}

#[test]
fn a_refused_signature_is_tried_by_one_batch_where_no_slot_is_open() {
    let world = World::new();
    let mark = Unusable { since: NOW, fault: KeyFault::Denied, call: KeyCall::Sign };
    world.change("two", |head| head.unusable = Some(mark));
    let signer = world.started();
    world.keys.set_state(&key("two"), KeyState::SignDenied);
    assert_eq!(go(&signer, &[transfer("a", "two")], NOW.plus(5)), [RETRY], "it has a slot, which waits");
    assert_eq!(go(&signer, &[transfer("b", "two")], NOW.plus(6)), [RETRY]);
    let head = world.head("two");
    assert_eq!((head.open_slots(), head.unusable), (1, Some(mark)), "it is one fault, not two");
    world.keys.set_state(&key("two"), KeyState::Enabled);
    let asks = [ask(&world, "a")];
    signer.handle_asks(&asks, NOW.plus(5 + Unusable::RECHECK_MS)).now_or_never().unwrap();
    assert!(world.is_signed("a"));
    assert_eq!(go(&signer, &[transfer("b", "two")], NOW.plus(6 + Unusable::RECHECK_MS)), [DONE]);
    assert_eq!(world.head("two").unusable, None);
}

#[test]
fn an_alias_moved_after_its_key_was_read_stops_the_account() {
    let world = World::new();
    let signer = world.started();
    let account = world.head("two").account;
    world.keys.add(&key("two"), [7; 32]);
    assert_eq!(go(&signer, &[transfer("a", "two"), transfer("b", "one")], NOW), [RETRY, DONE]);
    let mark = Unusable { since: NOW, fault: KeyFault::WrongAddress, call: KeyCall::Read };
    assert_eq!(world.head("two").unusable, Some(mark));
    assert_eq!(go(&signer, &[transfer("c", "two")], NOW.plus(1)), [DONE]);
    assert_eq!(world.refused(), [unusable("c")]);
    world.keys.add(&key("two"), [2; 32]);
    assert_eq!(world.head("two").account, account);
    let asks = [ask(&world, "a")];
    signer.handle_asks(&asks, NOW.plus(Unusable::RECHECK_MS)).now_or_never().unwrap();
    assert!(world.is_signed("a"), "it was moved back");
}

#[test]
fn a_pool_passes_over_an_account_whose_key_is_bad() {
    let world = World::new();
    world.keys.set_state(&key("two"), KeyState::PendingDeletion);
    let signer = world.signer();
    let ids: Vec<String> = (0..16).map(|at| format!("p-{at}")).collect();
    let batch: Vec<_> = ids.iter().map(|id| transfer(id, "pool:both")).collect();
    // What was assigned before the fault was found is assigned anew.
    let first = go(&signer, &batch, NOW);
    assert!(first.contains(&RETRY) && first.contains(&DONE), "{first:?}");
    assert_eq!(go(&signer, &batch, NOW.plus(1)), [DONE; 16]);
    assert!(ids.iter().all(|id| world.is_signed(id)) && world.refused().is_empty());
    // It comes back to the pool by itself.
    world.keys.set_state(&key("two"), KeyState::Enabled);
    let later: Vec<_> = (16..32).map(|at| transfer(&format!("p-{at}"), "pool:both")).collect();
    assert_eq!(go(&signer, &later, NOW.plus(Unusable::RECHECK_MS)), [DONE; 16]);
    assert!(world.head("two").open_slots() > 0 && world.head("two").unusable.is_none());
}

#[test]
fn a_pool_whose_keys_are_all_bad_refuses() {
    let world = World::new();
    for name in ["one", "two"] {
        world.keys.set_state(&key(name), KeyState::PendingDeletion);
    }
    let signer = world.started();
    assert_eq!(go(&signer, &[transfer("a", "pool:both")], NOW), [DONE]);
    assert_eq!(world.refused(), [unusable("a")]);
}

/// `GetPublicKey` is throttled.
#[derive(Debug)]
struct Throttled;

impl Weather for Throttled {
    fn fate(&self, operation: &'static str) -> Fate {
        match operation {
            "GetPublicKey" => Fate::Fail { happened: Happened::No, throttled: true },
            _ => Fate::Pass,
        }
    }
}

#[test]
fn a_key_service_that_does_not_answer_marks_nothing() {
    let world = World::behind(Gate::with(std::sync::Arc::new(Throttled)));
    let signer = world.signer();
    to_its_end(signer.warm_up(NOW)).unwrap();
    let batch = [transfer("a", "one")];
    let dispositions = to_its_end(signer.handle(&batch, NOW));
    assert_eq!(dispositions, [RETRY]);
    let head = world.head("one");
    assert_eq!((head.unusable, head.open_slots()), (None, 0));
}

/// Polls a future to its end: the gate yields once a call.
fn to_its_end<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let waker = std::task::Waker::noop();
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
            return value;
        }
    }
}

#[test]
fn a_head_that_cannot_be_read_concerns_its_own_messages_only() {
    let world = World::new();
    let signer = world.started();
    let two = world.head("two").account;
    world.store.with_tables(|tables| tables.unreadable.insert(two));
    // Known from before, and by a signer that starts now.
    for (at, signer) in [signer, world.started()].iter().enumerate() {
        let batch = [transfer(&format!("a-{at}"), "two"), transfer(&format!("b-{at}"), "one")];
        assert_eq!(go(signer, &batch, NOW), [RETRY, DONE], "{at}");
        assert!(world.is_signed(&format!("b-{at}")));
        let pooled = [transfer(&format!("c-{at}"), "pool:both")];
        assert_eq!(go(signer, &pooled, NOW), [DONE], "the other of the pool takes it");
    }
    assert_eq!(world.refused(), [], "it is not unknown");
}

#[test]
fn a_sweep_passes_over_a_head_that_cannot_be_read() {
    let world = World::new();
    let (one, two) = (world.head("one").account, world.head("two").account);
    world.store.with_tables(|tables| tables.unreadable.insert(two));
    let chain = MemoryChain::new(CHAIN, Gate::default(), Journal::default());
    let config = BroadcasterConfig {
        chain_id: CHAIN,
        tuning: Tuning::BSC,
        window: BroadcasterConfig::WINDOW,
        retention_ms: 1,
        write_concurrency: 1,
    };
    let broadcaster = Broadcaster::new(world.store.clone(), chain, world.queues.clone(), world.topic.clone(), config);
    broadcaster.check_accounts().now_or_never().unwrap().unwrap();
    assert_eq!(broadcaster.sweep(NOW).now_or_never().unwrap().unwrap().idle, [one]);
}

#[test]
fn the_check_of_the_start_says_what_is_wrong_and_notes_nothing() {
    let world = World::new();
    let two = world.head("two").account;
    world.keys.set_disabled(&key("two"), true);
    let accounts = accounts_of_chain(&world.store, CHAIN).now_or_never().unwrap().unwrap();
    let found = key_troubles(&world.keys, &accounts.heads).now_or_never().unwrap();
    let [(account, trouble @ KeyTrouble::Call(_))] = &found[..] else { panic!("{found:?}") };
    assert_eq!((*account, trouble.fault()), (two, Some(KeyFault::Disabled)));
    assert_eq!(world.head("two").unusable, None);
}

#[test]
fn a_start_with_very_many_accounts_reads_some_keys_and_the_rest_later() {
    let world = World::new();
    let template = world.head("one");
    for number in 0..2_000_u32 {
        let mut address = template.account.address;
        address.0[..4].copy_from_slice(&number.to_be_bytes());
        let account = AccountKey { chain_id: CHAIN, address };
        let head = Head::new(account, format!("a{number}").parse().unwrap(), key("one"), Nonce(0), NOW);
        world.store.register(&head).now_or_never().unwrap().unwrap();
    }
    // Those with something open come first.
    world.change("two", |head| head.next_nonce = Nonce(1));
    world.keys.set_disabled(&key("two"), true);
    let signer = world.started();
    let read = world.keys.public_key_calls();
    assert_eq!(read, u64::try_from(MemorySigner::WARM_KEYS_MAX).unwrap());
    assert!(world.head("two").unusable.is_some());
    assert_eq!(go(&signer, &[transfer("a", "one")], NOW), [DONE]);
}
