//! The time from a message to a stored signature over in-memory ports, by the lane's number of open slots.
//!
//! `cargo bench -p signpost-txmgr --bench lane`; one account, batches of 10, one thread. The in-memory key service
//! really signs: about one `k256` signature per request more than with KMS. The goals: 3,000 requests a second, and a
//! time that does not grow with the open slots.

#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]

use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use signpost_txmgr::account::Head;
use signpost_txmgr::fake::{
    Interceptor, Journal, MemoryKeys, MemoryQueues, MemoryStore, MemoryTopic, QueueRules, SimClock, sealer,
};
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::pins::Pins;
use signpost_txmgr::policy::{NetworkRules, Policies};
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::units::{AccountKey, ChainId, KmsKeyId, Millis, Nonce, Wei};

/// The largest batch of SQS.
const BATCH: u64 = 10;
const NOW: Millis = Millis(1_795_348_800_000);

type MemorySigner = Signer<MemoryStore, MemoryKeys, MemoryQueues, MemoryTopic>;

/// A signer with one registered account.
fn signer() -> MemorySigner {
    let (interceptor, journal) = (Interceptor::default(), Journal::default());
    let keys = MemoryKeys::new(interceptor.clone(), journal.clone());
    let key_id: KmsKeyId = "bench".parse().expect("a key id");
    let address = keys.add(&key_id, [0x46; 32]);
    let store = MemoryStore::new(interceptor.clone(), journal.clone());
    let account = AccountKey { chain_id: ChainId(97), address };
    let head = Head::new(account, "payouts".parse().expect("a name"), key_id, Nonce(0), NOW);
    store.register(&head).now_or_never().expect("without weather every call completes").expect("registered");
    let queues = MemoryQueues::new(QueueRules::FIFO, &SimClock::at(NOW), &interceptor, &journal);
    let policies = "[account.payouts]\nmax_gas_price_wei = \"5000000000\"\ngas_price_wei = \"100000000\"\n";
    let config = SignerConfig {
        pins: Pins::Registry,
        sealer: sealer(),
        chain_id: ChainId(97),
        policies: Policies::from_toml(policies).expect("a policy"),
        network: NetworkRules { fee_floor: Wei::from(50_000_000) },
        retention_ms: 1,
        sign_concurrency: 16,
    };
    Signer::new(store, keys, queues, MemoryTopic::new(interceptor, journal), config)
}

/// The next `BATCH` requests, with new ids.
fn batch(next: &AtomicU64) -> Vec<Incoming> {
    (0..BATCH)
        .map(|_| {
            let id = next.fetch_add(1, Ordering::Relaxed);
            Incoming {
                receipt: String::new(),
                message_id: format!("m-{id}"),
                group: Some("payouts".to_owned()),
                sender: Some("AIDAEXAMPLE".to_owned()),
                trace: None,
                receives: 1,
                body: format!(
                    r#"{{"requestId":"r-{id}","account":"payouts","to":"0x55d398326f99059fF775485246999027B3197955","value":"1000000000000000","gas":21000}}"#
                ),
            }
        })
        .collect()
}

fn run(signer: &MemorySigner, deliveries: &[Incoming]) {
    let dispositions = signer.handle(deliveries, NOW).now_or_never().expect("without weather every call completes");
    assert!(dispositions.iter().all(|disposition| *disposition == Disposition::Done));
}

fn lane(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("message_to_stored_signature");
    group.throughput(Throughput::Elements(BATCH)).sample_size(50);
    for open in [10_u64, 1_000, 10_000] {
        let (signer, next) = (signer(), AtomicU64::new(0));
        for _ in 0..open / BATCH {
            run(&signer, &batch(&next));
        }
        group.bench_function(BenchmarkId::new("open_slots", open), |bencher| {
            bencher.iter_batched(|| batch(&next), |deliveries| run(&signer, &deliveries), BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, lane);
criterion_main!(benches);
