//! An account with an unusable key or head stops only itself.

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
    Fate, FaultSource, Interceptor, Journal, KeyState, MemoryChain, MemoryKeys, MemoryQueues, MemoryStore, MemoryTopic,
    QueueRules, SimClock, sealer,
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

/// The accounts `one` and `two`, whose keys have the accounts' names.
struct Fixture {
    store: MemoryStore,
    keys: MemoryKeys,
    topic: MemoryTopic,
    queues: MemoryQueues,
}

impl Fixture {
    fn new() -> Self {
        Self::behind(Interceptor::default())
    }

    /// The same, with the key service behind this interceptor.
    fn behind(keys: Interceptor) -> Self {
        let (interceptor, journal) = (Interceptor::default(), Journal::default());
        let fixture = Self {
            store: MemoryStore::new(interceptor.clone(), journal.clone()),
            keys: MemoryKeys::new(keys, journal.clone()),
            topic: MemoryTopic::new(interceptor.clone(), journal.clone()),
            queues: MemoryQueues::new(QueueRules::FIFO, &SimClock::at(NOW), &interceptor, &journal),
        };
        for (seed, name) in [(1, "one"), (2, "two")] {
            let address = fixture.keys.add(&key(name), [seed; 32]);
            let account = AccountKey { chain_id: CHAIN, address };
            let head = Head::new(account, name.parse().unwrap(), key(name), Nonce(0), NOW);
            fixture.store.register(&head).now_or_never().unwrap().unwrap();
        }
        fixture
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

    /// The id and code of every published outcome.
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

/// The broadcaster's ask for a slot without a signature.
fn ask(fixture: &Fixture, id: &str) -> SignerPoke {
    SignerPoke {
        account: fixture.record(id).unwrap().account.to_string(),
        request_id: id.to_owned(),
        attempt: 0,
        kind: WireKind::Execute,
        fee: None,
        to_self: 0,
        cause: "test".to_owned(),
    }
}

#[test]
fn key_of_a_retired_account_is_not_read_at_the_start() {
    let fixture = Fixture::new();
    fixture.change("two", |head| (head.paused, head.retired_at) = (true, Some(NOW)));
    fixture.keys.set_disabled(&key("two"), true);
    fixture.started();
    assert_eq!(fixture.keys.public_key_calls(), 1);
    assert_eq!(fixture.head("two").unusable, None);
}

#[test]
fn unusable_key_stops_only_its_account_and_not_the_start() {
    let faults = [
        (KeyState::Disabled, KeyFault::Disabled),
        (KeyState::Denied, KeyFault::Denied),
        (KeyState::PendingDeletion, KeyFault::PendingDeletion),
    ];
    for (state, fault) in faults {
        let fixture = Fixture::new();
        fixture.keys.set_state(&key("two"), state);
        let signer = fixture.started();
        assert_eq!(fixture.head("two").unusable, Some(Unusable { since: NOW, fault, call: KeyCall::Read }));
        let heals = if fault.may_heal() { RETRY } else { DONE };
        assert_eq!(go(&signer, &[transfer("a", "two"), transfer("b", "one")], NOW), [heals, DONE], "{fault}");
        assert!(fixture.is_signed("b") && fixture.record("a").is_none());
        assert_eq!(fixture.head("two").open_slots(), 0, "no slot is reserved without a usable key");
    }
}

#[test]
fn key_of_another_address_refuses_at_once() {
    let fixture = Fixture::new();
    fixture.change("two", |head| head.kms_key_id = key("one"));
    let signer = fixture.started();
    assert_eq!(go(&signer, &[transfer("a", "two"), transfer("b", "one")], NOW), [DONE, DONE]);
    assert_eq!(fixture.refused(), [unusable("a")]);
    assert!(fixture.is_signed("b"));
}

#[test]
fn deleted_key_refuses_at_once() {
    let fixture = Fixture::new();
    fixture.change("two", |head| head.kms_key_id = key("gone"));
    // Also without the check at the start, which reads a limited number of keys.
    assert_eq!(go(&fixture.signer(), &[transfer("a", "two"), transfer("b", "one")], NOW), [DONE, DONE]);
    assert_eq!(fixture.refused(), [unusable("a")]);
    assert!(fixture.is_signed("b"));
}

#[test]
fn requests_wait_for_a_healing_fault_and_are_then_refused() {
    let fixture = Fixture::new();
    fixture.keys.set_disabled(&key("two"), true);
    let last = NOW.plus(Unusable::HEAL_MAX_MS - 1);
    // Each delivery goes to another process, as in Lambda; the mark on the head has the time.
    for now in [NOW, NOW.plus(180_000), last] {
        assert_eq!(go(&fixture.signer(), &[transfer("a", "two")], now), [RETRY]);
    }
    assert_eq!(fixture.refused(), []);
    assert_eq!(go(&fixture.signer(), &[transfer("a", "two")], last.plus(1)), [DONE]);
    assert_eq!(fixture.refused(), [unusable("a")]);
}

#[test]
fn enabled_key_works_again_without_a_restart() {
    let fixture = Fixture::new();
    fixture.keys.set_disabled(&key("two"), true);
    let signer = fixture.started();
    fixture.keys.set_disabled(&key("two"), false);
    let asked = fixture.keys.public_key_calls();
    assert_eq!(go(&signer, &[transfer("a", "two")], NOW.plus(Unusable::RECHECK_MS - 1)), [RETRY]);
    assert_eq!(fixture.keys.public_key_calls(), asked, "the key is tried once a minute, not with each message");
    assert_eq!(go(&signer, &[transfer("a", "two")], NOW.plus(Unusable::RECHECK_MS)), [DONE]);
    assert!(fixture.is_signed("a"));
    assert_eq!(fixture.head("two").unusable, None);
}

#[test]
fn repeat_of_a_signed_request_needs_no_key() {
    let fixture = Fixture::new();
    assert_eq!(go(&fixture.signer(), &[transfer("a", "two")], NOW), [DONE]);
    for state in [KeyState::Disabled, KeyState::PendingDeletion] {
        fixture.keys.set_state(&key("two"), state);
        assert_eq!(go(&fixture.signer(), &[transfer("a", "two")], NOW.plus(1)), [DONE], "{state:?}");
        fixture.change("two", |head| head.unusable = None);
    }
    assert_eq!(fixture.refused(), [], "an accepted message is not refused later");
}

#[test]
fn key_denied_while_signing_delays_only_reserved_slots() {
    let fixture = Fixture::new();
    let signer = fixture.started();
    fixture.keys.set_state(&key("two"), KeyState::SignDenied);
    assert_eq!(go(&signer, &[transfer("a", "two"), transfer("b", "one")], NOW), [RETRY, DONE]);
    let mark = Unusable { since: NOW, fault: KeyFault::Denied, call: KeyCall::Sign };
    assert_eq!((fixture.head("two").unusable, fixture.head("two").open_slots()), (Some(mark), 1));
    // The first message has its record and is done. No other message gets a slot, in this process or in another.
    assert_eq!(go(&signer, &[transfer("a", "two"), transfer("c", "two")], NOW.plus(1)), [DONE, RETRY]);
    assert_eq!(go(&fixture.started(), &[transfer("c", "two")], NOW.plus(2)), [RETRY]);
    assert_eq!(fixture.head("two").open_slots(), 1);
    assert_eq!(fixture.head("two").unusable, Some(mark), "reading the public key does not clear it");
}

#[test]
fn ask_for_a_waiting_slot_tries_the_key_again() {
    let fixture = Fixture::new();
    let signer = fixture.started();
    fixture.keys.set_state(&key("two"), KeyState::SignDenied);
    go(&signer, &[transfer("a", "two")], NOW);
    let asks = [ask(&fixture, "a")];
    let answer = |after_ms: u64| signer.handle_asks(&asks, NOW.plus(after_ms)).now_or_never().unwrap();
    assert_eq!(answer(5_000), [DONE], "the ask is not redelivered at once");
    assert!(!fixture.is_signed("a"));
    fixture.keys.set_state(&key("two"), KeyState::Enabled);
    assert_eq!(answer(10_000), [DONE]);
    assert!(!fixture.is_signed("a"), "once a minute");
    assert_eq!(answer(Unusable::RECHECK_MS), [DONE]);
    assert!(fixture.is_signed("a"));
    assert_eq!(fixture.head("two").unusable, None);
    assert_eq!(go(&signer, &[transfer("b", "two")], NOW.plus(Unusable::RECHECK_MS + 1)), [DONE]);
    assert!(fixture.is_signed("b"));
}

#[test]
fn no_slot_is_reserved_while_one_waits_for_a_denied_key() {
    let fixture = Fixture::new();
    let signer = fixture.started();
    fixture.keys.set_state(&key("two"), KeyState::SignDenied);
    go(&signer, &[transfer("a", "two")], NOW);
    for minute in 1..10 {
        let now = NOW.plus(minute * Unusable::RECHECK_MS);
        assert_eq!(go(&signer, &[transfer("b", "two")], now), [RETRY]);
        assert_eq!(fixture.head("two").open_slots(), 1);
    }
    assert_eq!(go(&signer, &[transfer("b", "two")], NOW.plus(Unusable::HEAL_MAX_MS)), [DONE]);
    assert_eq!(fixture.refused(), [unusable("b")]);
}

#[test]
fn one_batch_tries_a_denied_key_if_no_slot_is_open() {
    let fixture = Fixture::new();
    let mark = Unusable { since: NOW, fault: KeyFault::Denied, call: KeyCall::Sign };
    fixture.change("two", |head| head.unusable = Some(mark));
    let signer = fixture.started();
    fixture.keys.set_state(&key("two"), KeyState::SignDenied);
    assert_eq!(go(&signer, &[transfer("a", "two")], NOW.plus(5)), [RETRY], "it has a slot, which waits");
    assert_eq!(go(&signer, &[transfer("b", "two")], NOW.plus(6)), [RETRY]);
    let head = fixture.head("two");
    assert_eq!((head.open_slots(), head.unusable), (1, Some(mark)), "it is one fault, not two");
    fixture.keys.set_state(&key("two"), KeyState::Enabled);
    let asks = [ask(&fixture, "a")];
    signer.handle_asks(&asks, NOW.plus(5 + Unusable::RECHECK_MS)).now_or_never().unwrap();
    assert!(fixture.is_signed("a"));
    assert_eq!(go(&signer, &[transfer("b", "two")], NOW.plus(6 + Unusable::RECHECK_MS)), [DONE]);
    assert_eq!(fixture.head("two").unusable, None);
}

#[test]
fn alias_moved_after_its_key_was_read_stops_the_account() {
    let fixture = Fixture::new();
    let signer = fixture.started();
    let account = fixture.head("two").account;
    fixture.keys.add(&key("two"), [7; 32]);
    assert_eq!(go(&signer, &[transfer("a", "two"), transfer("b", "one")], NOW), [RETRY, DONE]);
    let mark = Unusable { since: NOW, fault: KeyFault::WrongAddress, call: KeyCall::Read };
    assert_eq!(fixture.head("two").unusable, Some(mark));
    assert_eq!(go(&signer, &[transfer("c", "two")], NOW.plus(1)), [DONE]);
    assert_eq!(fixture.refused(), [unusable("c")]);
    fixture.keys.add(&key("two"), [2; 32]);
    assert_eq!(fixture.head("two").account, account);
    let asks = [ask(&fixture, "a")];
    signer.handle_asks(&asks, NOW.plus(Unusable::RECHECK_MS)).now_or_never().unwrap();
    assert!(fixture.is_signed("a"), "it was moved back");
}

#[test]
fn pool_skips_an_account_with_an_unusable_key() {
    let fixture = Fixture::new();
    fixture.keys.set_state(&key("two"), KeyState::PendingDeletion);
    let signer = fixture.signer();
    let ids: Vec<String> = (0..16).map(|at| format!("p-{at}")).collect();
    let batch: Vec<_> = ids.iter().map(|id| transfer(id, "pool:both")).collect();
    // Requests assigned before the fault was found are assigned again.
    let first = go(&signer, &batch, NOW);
    assert!(first.contains(&RETRY) && first.contains(&DONE), "{first:?}");
    assert_eq!(go(&signer, &batch, NOW.plus(1)), [DONE; 16]);
    assert!(ids.iter().all(|id| fixture.is_signed(id)) && fixture.refused().is_empty());
    // The account returns to the pool automatically.
    fixture.keys.set_state(&key("two"), KeyState::Enabled);
    let later: Vec<_> = (16..32).map(|at| transfer(&format!("p-{at}"), "pool:both")).collect();
    assert_eq!(go(&signer, &later, NOW.plus(Unusable::RECHECK_MS)), [DONE; 16]);
    assert!(fixture.head("two").open_slots() > 0 && fixture.head("two").unusable.is_none());
}

#[test]
fn pool_without_a_usable_key_refuses() {
    let fixture = Fixture::new();
    for name in ["one", "two"] {
        fixture.keys.set_state(&key(name), KeyState::PendingDeletion);
    }
    let signer = fixture.started();
    assert_eq!(go(&signer, &[transfer("a", "pool:both")], NOW), [DONE]);
    assert_eq!(fixture.refused(), [unusable("a")]);
}

/// Throttles `GetPublicKey`.
#[derive(Debug)]
struct Throttled;

impl FaultSource for Throttled {
    fn fate(&self, operation: &'static str) -> Fate {
        match operation {
            "GetPublicKey" => Fate::Fail { happened: Happened::No, throttled: true },
            _ => Fate::Pass,
        }
    }
}

#[test]
fn silent_key_service_marks_no_account() {
    let fixture = Fixture::behind(Interceptor::with(std::sync::Arc::new(Throttled)));
    let signer = fixture.signer();
    completed(signer.warm_up(NOW)).unwrap();
    let batch = [transfer("a", "one")];
    let dispositions = completed(signer.handle(&batch, NOW));
    assert_eq!(dispositions, [RETRY]);
    let head = fixture.head("one");
    assert_eq!((head.unusable, head.open_slots()), (None, 0));
}

/// Polls a future until it is ready. The interceptor yields once per call.
fn completed<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let waker = std::task::Waker::noop();
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
            return value;
        }
    }
}

#[test]
fn unreadable_head_affects_only_its_own_messages() {
    let fixture = Fixture::new();
    let signer = fixture.started();
    let two = fixture.head("two").account;
    fixture.store.with_tables(|tables| tables.unreadable.insert(two));
    // With a signer that read the head before, and with a new one.
    for (at, signer) in [signer, fixture.started()].iter().enumerate() {
        let batch = [transfer(&format!("a-{at}"), "two"), transfer(&format!("b-{at}"), "one")];
        assert_eq!(go(signer, &batch, NOW), [RETRY, DONE], "{at}");
        assert!(fixture.is_signed(&format!("b-{at}")));
        let pooled = [transfer(&format!("c-{at}"), "pool:both")];
        assert_eq!(go(signer, &pooled, NOW), [DONE], "the pool's other account gets it");
    }
    assert_eq!(fixture.refused(), [], "it is not refused as unknown");
}

#[test]
fn sweep_skips_an_unreadable_head() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.head("one").account, fixture.head("two").account);
    fixture.store.with_tables(|tables| tables.unreadable.insert(two));
    let chain = MemoryChain::new(CHAIN, Interceptor::default(), Journal::default());
    let config = BroadcasterConfig {
        chain_id: CHAIN,
        tuning: Tuning::BSC,
        window: BroadcasterConfig::WINDOW,
        retention_ms: 1,
        write_concurrency: 1,
    };
    let broadcaster =
        Broadcaster::new(fixture.store.clone(), chain, fixture.queues.clone(), fixture.topic.clone(), config);
    broadcaster.check_accounts().now_or_never().unwrap().unwrap();
    assert_eq!(broadcaster.sweep(NOW).now_or_never().unwrap().unwrap().idle, [one]);
}

#[test]
fn start_check_reports_faults_and_writes_nothing() {
    let fixture = Fixture::new();
    let two = fixture.head("two").account;
    fixture.keys.set_disabled(&key("two"), true);
    let accounts = accounts_of_chain(&fixture.store, CHAIN).now_or_never().unwrap().unwrap();
    let found = key_troubles(&fixture.keys, &accounts.heads).now_or_never().unwrap();
    let [(account, trouble @ KeyTrouble::Call(_))] = &found[..] else { panic!("{found:?}") };
    assert_eq!((*account, trouble.fault()), (two, Some(KeyFault::Disabled)));
    assert_eq!(fixture.head("two").unusable, None);
}

#[test]
fn start_reads_a_limited_number_of_keys() {
    let fixture = Fixture::new();
    let template = fixture.head("one");
    for number in 0..2_000_u32 {
        let mut address = template.account.address;
        address.0[..4].copy_from_slice(&number.to_be_bytes());
        let account = AccountKey { chain_id: CHAIN, address };
        let head = Head::new(account, format!("a{number}").parse().unwrap(), key("one"), Nonce(0), NOW);
        fixture.store.register(&head).now_or_never().unwrap().unwrap();
    }
    // Accounts with open slots come first.
    fixture.change("two", |head| head.next_nonce = Nonce(1));
    fixture.keys.set_disabled(&key("two"), true);
    let signer = fixture.started();
    let read = fixture.keys.public_key_calls();
    assert_eq!(read, u64::try_from(MemorySigner::WARM_KEYS_MAX).unwrap());
    assert!(fixture.head("two").unusable.is_some());
    assert_eq!(go(&signer, &[transfer("a", "one")], NOW), [DONE]);
}
