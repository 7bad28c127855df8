//! The signer's driver over in-memory ports: what becomes of a batch as a whole.

#![allow(missing_docs, reason = "a test binary has no reader of its documentation")]
#![expect(clippy::unwrap_used, reason = "a test may end at the first surprise")]

use futures_util::FutureExt as _;
use signpost_txmgr::account::Head;
use signpost_txmgr::fake::{Gate, Journal, MemoryKeys, MemoryQueues, MemoryStore, MemoryTopic, QueueRules, SimClock};
use signpost_txmgr::policy::Policies;
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::record::Stored;
use signpost_txmgr::request::NetworkRules;
use signpost_txmgr::signer::{Delivery, Disposition, Signer, SignerConfig};
use signpost_txmgr::units::{AccountKey, ChainId, KmsKeyId, Millis, Nonce, Wei};

const NOW: Millis = Millis(1_795_348_800_000);

struct World {
    signer: Signer<MemoryStore, MemoryKeys, MemoryQueues, MemoryTopic>,
    store: MemoryStore,
    topic: MemoryTopic,
}

/// A signer with the accounts `one` and `two`.
fn world() -> World {
    let (gate, journal) = (Gate::default(), Journal::default());
    let keys = MemoryKeys::new(gate.clone(), journal.clone());
    let store = MemoryStore::new(gate.clone(), journal.clone());
    let topic = MemoryTopic::new(gate.clone(), journal.clone());
    for (seed, name) in [(1, "one"), (2, "two")] {
        let kms_key_id: KmsKeyId = name.parse().unwrap();
        let address = keys.add(&kms_key_id, [seed; 32]);
        let head = Head {
            account: AccountKey { chain_id: ChainId(97), address },
            name: name.parse().unwrap(),
            kms_key_id,
            next_nonce: Nonce(0),
            lowest_open_nonce: Nonce(0),
            paused: false,
            registered_at: NOW,
            retired_at: None,
            fee: None,
        };
        store.register(&head).now_or_never().unwrap().unwrap();
    }
    let queues = MemoryQueues::new(QueueRules::FIFO, &SimClock::at(NOW), &gate, &journal);
    let config = SignerConfig {
        chain_id: ChainId(97),
        policies: Policies::from_toml("[default]\nmax_gas_price_wei = 9\ngas_price_wei = 9\n").unwrap(),
        network: NetworkRules { fee_floor: Wei::from(1) },
        retention_ms: 1,
        sign_concurrency: 4,
    };
    let signer = Signer::new(store.clone(), keys, queues, topic.clone(), config);
    World { signer, store, topic }
}

fn transfer(at: usize, id: &str, account: &str) -> Delivery {
    let to = "0x55d398326f99059fF775485246999027B3197955";
    Delivery {
        message_id: format!("m-{at}"),
        group: Some("all".to_owned()),
        sender: None,
        trace: None,
        body: format!(r#"{{"requestId":"{id}","account":"{account}","to":"{to}","gas":21000}}"#),
    }
}

#[test]
fn an_id_asked_for_with_two_accounts_in_one_batch_is_the_first_one_s() {
    // In both orders, since lanes are worked on in an order of their own.
    for [first, second] in [["one", "two"], ["two", "one"]] {
        let world = world();
        let batch = [transfer(0, "r-1", first), transfer(1, "r-1", second), transfer(2, "r-2", second)];
        let dispositions = world.signer.handle(&batch, NOW).now_or_never().unwrap();
        assert_eq!(dispositions, [Disposition::Done; 3]);

        let heads = world.store.accounts().now_or_never().unwrap().unwrap();
        let account = |name: &str| heads.iter().find(|head| head.name.as_str() == name).unwrap().account;
        for (id, owner) in [("r-1", first), ("r-2", second)] {
            let Some(Stored::Record(record)) = world.store.stored(&id.parse().unwrap()) else { panic!("{id}") };
            assert_eq!((record.account, record.nonce), (account(owner), Nonce(0)), "{id} sent first with {first}");
        }
        let copies = world.topic.copies();
        let told: Vec<_> = copies.iter().map(|outcome| outcome.reason.as_ref().unwrap().code.as_str()).collect();
        assert_eq!(told, ["requestIdReused"]);
    }
}
