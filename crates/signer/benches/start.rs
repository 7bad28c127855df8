//! The cost of the signer's start with very many accounts, if the key service takes 10 ms per call: it must end
//! well within the ten seconds that Lambda allows.

#![allow(missing_docs, reason = "the documentation of a benchmark is not published")]
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use signpost_txmgr::account::Head;
use signpost_txmgr::fake::{
    Interceptor, Journal, MemoryQueues, MemoryStore, MemoryTopic, QueueRules, SimClock, sealer,
};
use signpost_txmgr::pins::Pins;
use signpost_txmgr::policy::{NetworkRules, Policies};
use signpost_txmgr::ports::{KeyAnswer, KeyCallError, Keys, KmsSignature, Store as _};
use signpost_txmgr::signature::LocalKey;
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::units::{AccountKey, ChainId, KmsKeyId, Millis, Nonce, SigningHash, Wei};
use tokio::runtime::Builder;

const NOW: Millis = Millis(1_795_348_800_000);
const CALL: Duration = Duration::from_millis(10);

/// One key per account; every call takes 10 ms, like a call to KMS in the same region.
struct SlowKeys;

/// The key of an account. Its id is the account's number.
fn local(id: &KmsKeyId) -> LocalKey {
    let number: u32 = id.as_str().parse().unwrap();
    let mut secret = [1; 32];
    secret[..4].copy_from_slice(&number.saturating_add(1).to_be_bytes());
    LocalKey::new(secret)
}

impl Keys for SlowKeys {
    async fn public_key(&self, key: &KmsKeyId) -> Result<KeyAnswer, KeyCallError> {
        tokio::time::sleep(CALL).await;
        Ok(KeyAnswer { id: key.clone(), spki: local(key).spki() })
    }

    async fn sign(&self, key: &KmsKeyId, hash: &SigningHash) -> Result<KmsSignature, KeyCallError> {
        tokio::time::sleep(CALL).await;
        Ok(KmsSignature { der: local(key).sign_der(hash, false), request_id: None })
    }
}

/// A store with this number of accounts.
fn registered(accounts: u32) -> MemoryStore {
    let store = MemoryStore::new(Interceptor::default(), Journal::default());
    let runtime = Builder::new_current_thread().build().unwrap();
    for number in 0..accounts {
        let id: KmsKeyId = number.to_string().parse().unwrap();
        let account = AccountKey { chain_id: ChainId(97), address: local(&id).public_key().address() };
        let head = Head::new(account, format!("a{number}").parse().unwrap(), id, Nonce(0), NOW);
        runtime.block_on(store.register(&head)).unwrap();
    }
    store
}

/// A signer before its start.
fn signer(store: MemoryStore) -> Signer<MemoryStore, SlowKeys, MemoryQueues, MemoryTopic> {
    let (interceptor, journal) = (Interceptor::default(), Journal::default());
    let config = SignerConfig {
        pins: Pins::Registry,
        sealer: sealer(),
        chain_id: ChainId(97),
        policies: Policies::from_toml("[default]\nmax_gas_price_wei = 9\n").unwrap(),
        network: NetworkRules { fee_floor: Wei::from(1) },
        retention_ms: 1,
        sign_concurrency: 10,
    };
    let queues = MemoryQueues::new(QueueRules::FIFO, &SimClock::at(NOW), &interceptor, &journal);
    Signer::new(store, SlowKeys, queues, MemoryTopic::new(interceptor, journal), config)
}

fn start(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let mut group = criterion.benchmark_group("start");
    group.sample_size(10);
    for accounts in [100, 1_000, 10_000] {
        let store = registered(accounts);
        group.bench_function(BenchmarkId::new("accounts", accounts), |bencher| {
            bencher.iter_batched(
                || signer(store.clone()),
                |signer| runtime.block_on(signer.warm_up(NOW)).unwrap(),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, start);
criterion_main!(benches);
