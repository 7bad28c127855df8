//! The signer's driver over in-memory ports: the results of whole batches.

#![allow(missing_docs, reason = "a test binary has no reader of its documentation")]
#![expect(clippy::unwrap_used, reason = "a test may end at the first surprise")]

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt as _;
use signpost_txmgr::account::Head;
use signpost_txmgr::fake::{
    Fate, FaultSource, Interceptor, Journal, KeyState, MemoryKeys, MemoryQueues, MemoryStore, MemoryTopic, QueueRules,
    SimClock, sealer,
};
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::pins::Pins;
use signpost_txmgr::policy::{NetworkRules, Policies};
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::record::Stored;
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::units::{AccountKey, ChainId, KmsKeyId, Millis, Nonce, Wei};

const NOW: Millis = Millis(1_795_348_800_000);

struct Fixture {
    signer: Signer<MemoryStore, MemoryKeys, MemoryQueues, MemoryTopic>,
    store: MemoryStore,
    keys: MemoryKeys,
    topic: MemoryTopic,
}

const RULES: &str = "[default]\nmax_gas_price_wei = 9\ngas_price_wei = 9\n";

/// A signer with the accounts `one` and `two`.
fn fixture() -> Fixture {
    fixture_with(RULES)
}

/// A signer with this policy.
fn fixture_with(policy: &str) -> Fixture {
    fixture_behind(policy, |_| Interceptor::default())
}

/// The same, with its store calls behind this interceptor.
fn fixture_behind(policy: &str, interceptor_of: impl FnOnce(&MemoryStore) -> Interceptor) -> Fixture {
    let (interceptor, journal) = (Interceptor::default(), Journal::default());
    let keys = MemoryKeys::new(interceptor.clone(), journal.clone());
    let store = MemoryStore::new(interceptor.clone(), journal.clone());
    let topic = MemoryTopic::new(interceptor.clone(), journal.clone());
    for (seed, name) in [(1, "one"), (2, "two")] {
        let kms_key_id: KmsKeyId = name.parse().unwrap();
        let address = keys.add(&kms_key_id, [seed; 32]);
        let account = AccountKey { chain_id: ChainId(97), address };
        let head = Head::new(account, name.parse().unwrap(), kms_key_id, Nonce(0), NOW);
        store.register(&head).now_or_never().unwrap().unwrap();
    }
    let queues = MemoryQueues::new(QueueRules::FIFO, &SimClock::at(NOW), &interceptor, &journal);
    let config = SignerConfig {
        pins: Pins::Registry,
        sealer: sealer(),
        chain_id: ChainId(97),
        policies: Policies::from_toml(policy).unwrap(),
        network: NetworkRules { fee_floor: Wei::from(1) },
        retention_ms: 86_400_000,
        sign_concurrency: 4,
    };
    let signer = Signer::new(store.behind(interceptor_of(&store)), keys.clone(), queues, topic.clone(), config);
    Fixture { signer, store, keys, topic }
}

fn transfer(at: usize, id: &str, account: &str) -> Incoming {
    let to = "0x55d398326f99059fF775485246999027B3197955";
    Incoming {
        receipt: String::new(),
        message_id: format!("m-{at}"),
        group: Some("all".to_owned()),
        sender: None,
        trace: None,
        receives: 1,
        body: format!(r#"{{"requestId":"{id}","account":"{account}","to":"{to}","gas":21000}}"#),
    }
}

#[test]
fn id_used_with_two_accounts_in_a_batch_belongs_to_the_first() {
    // In both orders, since the signer chooses the order of lanes.
    for [first, second] in [["one", "two"], ["two", "one"]] {
        let fixture = fixture();
        let batch = [transfer(0, "r-1", first), transfer(1, "r-1", second), transfer(2, "r-2", second)];
        let dispositions = fixture.signer.handle(&batch, NOW).now_or_never().unwrap();
        assert_eq!(dispositions, [Disposition::Done; 3]);

        let heads = fixture.store.accounts().now_or_never().unwrap().unwrap().heads;
        let account = |name: &str| heads.iter().find(|head| head.name.as_str() == name).unwrap().account;
        for (id, owner) in [("r-1", first), ("r-2", second)] {
            let Some(Stored::Record(record)) = fixture.store.stored(&id.parse().unwrap()) else { panic!("{id}") };
            assert_eq!((record.account, record.nonce), (account(owner), Nonce(0)), "{id} sent first with {first}");
        }
        let copies = fixture.topic.copies();
        let codes: Vec<_> = copies.iter().map(|outcome| outcome.reason.as_ref().unwrap().code.as_str()).collect();
        assert_eq!(codes, ["requestIdReused"]);
    }
}

fn paying(at: usize, id: &str, value: u64) -> Incoming {
    let message = transfer(at, id, "one");
    Incoming { body: message.body.replace("\"gas\"", &format!("\"value\":{value},\"gas\"")), ..message }
}

/// The nonce of a signed request, or the code of its refusal.
fn result_of(fixture: &Fixture, id: &str) -> Result<u64, String> {
    match fixture.store.stored(&id.parse().unwrap()).unwrap() {
        Stored::Record(record) => {
            assert_eq!(record.attempts.len(), 1, "{id} is signed");
            Ok(record.nonce.0)
        }
        Stored::Rejected(rejected) => Err(rejected.reason.code),
    }
}

#[test]
fn batch_above_the_spend_limit_fills_the_window_in_order() {
    // Two requests of 21,000 gas at the cap of 9, and 100 wei.
    let fixture = fixture_with(&format!("{RULES}spend_limit_wei = 378100\nspend_window_s = 60\n"));
    let over = || Err("spendLimitReached".to_owned());
    let batch = [paying(0, "a", 60), paying(1, "b", 50), paying(2, "c", 40), paying(3, "d", 0), paying(4, "a", 60)];
    let dispositions = fixture.signer.handle(&batch, NOW).now_or_never().unwrap();
    assert_eq!(dispositions, [Disposition::Done; 5]);
    let all = ["a", "b", "c", "d"].map(|id| result_of(&fixture, id));
    assert_eq!(all, [Ok(0), over(), Ok(1), over()], "a later, cheaper one fits");

    // Redelivered messages cost nothing, even in a full window. Refused ones stay refused, also in the next window.
    for later in [59_999, 60_000] {
        let dispositions = fixture.signer.handle(&batch, NOW.plus(later)).now_or_never().unwrap();
        assert_eq!(dispositions, [Disposition::Done; 5]);
        assert_eq!(["a", "b", "c", "d"].map(|id| result_of(&fixture, id)), all);
    }

    // The next window accepts a new message with the same id.
    let again = [paying(5, "b", 50), paying(6, "d", 0)];
    fixture.signer.handle(&again, NOW.plus(60_000)).now_or_never().unwrap();
    assert_eq!(["a", "b", "c", "d"].map(|id| result_of(&fixture, id)), [Ok(0), Ok(2), Ok(1), Ok(3)]);
}

#[test]
fn redelivered_reservation_is_signed_when_window_is_full() {
    let fixture = fixture_with(&format!("{RULES}spend_limit_wei = 189000\nspend_window_s = 60\n"));
    fixture.keys.set_state(&"one".parse().unwrap(), KeyState::SignFails);
    let batch = [paying(0, "a", 0)];
    assert_eq!(fixture.signer.handle(&batch, NOW).now_or_never().unwrap(), [Disposition::Retry]);
    fixture.keys.set_state(&"one".parse().unwrap(), KeyState::Enabled);
    assert_eq!(fixture.signer.handle(&batch, NOW).now_or_never().unwrap(), [Disposition::Done]);
    assert_eq!(result_of(&fixture, "a"), Ok(0));
    let heads = fixture.store.accounts().now_or_never().unwrap().unwrap().heads;
    let spent = heads.iter().find_map(|head| head.spend).unwrap().spent;
    assert_eq!(spent, Wei::from(189_000), "counted once");
}

#[test]
fn id_of_a_refused_message_is_free_for_a_later_one() {
    let fixture = fixture_with(&format!("{RULES}spend_limit_wei = 378000\nspend_window_s = 60\n"));
    let batch = [paying(0, "first", 0), paying(1, "a", 1), paying(2, "a", 0)];
    let dispositions = fixture.signer.handle(&batch, NOW).now_or_never().unwrap();
    assert_eq!(dispositions, [Disposition::Done; 3]);
    assert_eq!(result_of(&fixture, "a"), Ok(1), "it is a separate request");
    let copies = fixture.topic.copies();
    let answers: Vec<_> = copies.iter().map(|copy| (copy.message_id.as_deref(), copy.request_id.as_str())).collect();
    assert_eq!(answers, [(Some("m-1"), "a")], "the first message has its outcome");
}

const POOLED: &str =
    "[default]\nmax_gas_price_wei = 9\ngas_price_wei = 9\n[pool.both]\naccounts = [\"one\", \"two\"]\n";

/// Pauses an account while its slot is being reserved.
#[derive(Debug)]
struct PausedMeanwhile(MemoryStore, AccountKey);

impl FaultSource for PausedMeanwhile {
    fn fate(&self, operation: &'static str) -> Fate {
        if operation == "TransactWriteItems" {
            self.0.set_paused(&self.1, true).now_or_never().unwrap().unwrap();
        }
        Fate::Pass
    }
}

/// Handles a batch with calls that yield.
fn handle(fixture: &Fixture, batch: &[Incoming]) -> Vec<Disposition> {
    let mut handling = pin!(fixture.signer.handle(batch, NOW));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1_000 {
        if let Poll::Ready(dispositions) = handling.as_mut().poll(&mut context) {
            return dispositions;
        }
    }
    panic!("a batch takes a few calls")
}

fn account_of(fixture: &Fixture, id: &str) -> AccountKey {
    let Some(Stored::Record(record)) = fixture.store.stored(&id.parse().unwrap()) else { panic!("{id} has no slot") };
    record.account
}

#[test]
fn pooled_request_moves_on_when_its_account_is_paused() {
    let batch = [transfer(0, "r-1", "pool:both")];
    let calm = fixture_with(POOLED);
    assert_eq!(handle(&calm, &batch), [Disposition::Done]);
    let first = account_of(&calm, "r-1");

    let fixture = fixture_behind(POOLED, |store| {
        let meanwhile = PausedMeanwhile(store.clone(), first);
        Interceptor::with(std::sync::Arc::new(meanwhile))
    });
    assert_eq!(handle(&fixture, &batch), [Disposition::Retry], "the other account is not paused");
    assert_eq!(fixture.topic.copies(), [], "so no refusal is published");
    assert_eq!(handle(&fixture, &batch), [Disposition::Done]);
    assert_ne!(account_of(&fixture, "r-1"), first);
    assert_eq!(result_of(&fixture, "r-1"), Ok(0));
}

#[test]
fn request_for_a_paused_pool_always_names_the_same_account() {
    let fixture = fixture_with(POOLED);
    let heads = fixture.store.accounts().now_or_never().unwrap().unwrap().heads;
    let set = |unfunded: bool, head: &Head| {
        fixture.store.set_paused(&head.account, true).now_or_never().unwrap().unwrap();
        fixture.store.set_unfunded(&head.account, unfunded.then_some(NOW)).now_or_never().unwrap().unwrap();
    };
    for (at, unfunded) in [[false, false], [true, false], [false, true], [true, true]].into_iter().enumerate() {
        heads.iter().zip(unfunded).for_each(|(head, unfunded)| set(unfunded, head));
        assert_eq!(handle(&fixture, &[transfer(at, "r-1", "pool:both")]), [Disposition::Done]);
    }
    let copies = fixture.topic.copies();
    assert_eq!(copies.len(), 4);
    assert_eq!(copies[0].reason.as_ref().unwrap().code, "accountPaused");
    assert!(copies.iter().all(|copy| copy.account == copies[0].account), "{copies:?}");
}
