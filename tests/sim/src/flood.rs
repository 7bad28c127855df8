//! How long an honest sender's requests take until they are sent, alone and while another sender floods the signing
//! queue.
//!
//! The real drivers run on the in-memory ports, with the stack's default number of signers. Every call takes the time
//! of the service behind it, in simulated time, so a run repeats exactly and no machine is measured. It is not
//! documented which of several FIFO groups SQS serves next, so both extremes are measured: a random group, and always
//! the group with the oldest message, where a new message waits until all earlier ones are answered. Read next:
//! `src/bin/flood.rs`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use signpost_txmgr::fake::{Entry, Fate, FaultSource, QueueRules, SimClock};
use signpost_txmgr::units::{Millis, TxHash};

use crate::deployment::{Deployment, NAMES, SENDERS, START, STRANGER, Setting};
use crate::executor::{Executor, ExecutorHandle};
use crate::random::Random;
use crate::receive_loop;
use crate::source::{Variant, body};

/// Signers at once: `SignerConcurrency` of the stack.
const SIGNERS: usize = 10;
/// Groups of the junk: one for every signer.
const GROUPS: usize = 10;
/// The honest sender's requests, and the time between two of them.
const REQUESTS: usize = 600;
const EVERY_MS: u64 = 200;
/// When the flood begins.
const FLOOD_AT_MS: u64 = 20_000;
/// Junk arrives ten messages at a time, as fast as a FIFO queue accepts it: 3,000 a second.
const JUNK_BATCH: usize = 10;
const JUNK_EVERY_MS: u64 = 3;
/// Pause between two reads of an empty queue.
const IDLE_MS: u64 = 10;
/// More than any run takes.
const END_MS: u64 = 600_000;

/// What the flood is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Junk {
    /// None.
    None,
    /// Valid requests of a sender that no policy lists.
    Stranger,
    /// Invalid requests of a sender that a policy lists.
    Listed,
}

/// Which group SQS serves next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// A random one, by this seed.
    Any(u64),
    /// The one with the oldest message.
    Oldest,
}

/// The result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Honest requests that were sent: all of them.
    pub sent: usize,
    /// Half of the honest requests were sent within this many milliseconds.
    pub p50_ms: u64,
    /// 99 of 100 honest requests were sent within this many milliseconds.
    pub p99_ms: u64,
    /// From the first junk message to the answer of the last.
    pub drained_ms: u64,
    /// Store calls of all drivers.
    pub store_calls: u64,
    /// Items in the requests table that belong to the junk.
    pub junk_items: usize,
}

/// Gives every call its latency, and counts the calls of the store.
struct CallLatency {
    handle: ExecutorHandle,
    store_calls: AtomicU64,
}

impl fmt::Debug for CallLatency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallLatency").finish_non_exhaustive()
    }
}

impl FaultSource for CallLatency {
    fn fate(&self, operation: &'static str) -> Fate {
        if takes_ms(operation).0 {
            self.store_calls.fetch_add(1, Ordering::Relaxed);
        }
        Fate::Pass
    }

    fn wait(&self, operation: &'static str) -> Option<BoxFuture<'static, ()>> {
        Some(Box::pin(self.handle.sleep(takes_ms(operation).1)))
    }
}

/// Whether a call is one of the store, and its latency in milliseconds: typical values within a region, rounded.
fn takes_ms(operation: &str) -> (bool, u64) {
    match operation {
        "GetItem" | "BatchGetItem" | "Query" | "Scan" => (true, 5),
        "PutItem" | "UpdateItem" => (true, 7),
        "TransactWriteItems" => (true, 18),
        "Sign" | "GetPublicKey" => (false, 25),
        "ReceiveMessage" | "SendMessageBatch" => (false, 10),
        // The real hosts make one call per batch; these make one per message.
        "DeleteMessage" => (false, 1),
        "Publish" | "PublishBatch" => (false, 20),
        // A node.
        _ => (false, 40),
    }
}

/// Runs one flood.
#[must_use]
pub fn run(junk: Junk, count: usize, order: Order) -> Figures {
    let clock = SimClock::at(START);
    let handle = ExecutorHandle::new(clock.clone());
    let latency = Arc::new(CallLatency { handle: handle.clone(), store_calls: AtomicU64::new(0) });
    let disorder_seed = match order {
        Order::Any(seed) => seed | 1,
        Order::Oldest => 0,
    };
    let signing = QueueRules { max_receives: 10, visibility_ms: 180_000, disorder_seed, ..QueueRules::FIFO };
    let setting = Setting { accounts: 1, signing, mutant: None, spend_window_s: None, request_window_s: None };
    let injector: Arc<dyn FaultSource> = Arc::<CallLatency>::clone(&latency);
    let deployment = Deployment::new(setting, clock.clone(), handle.clone(), injector);
    let mut executor = Executor::new(handle, clock.clone(), Random::new(1)).with_instant_polls();
    let put_at: Arc<Mutex<BTreeMap<String, Millis>>> = Arc::default();
    spawn_tasks(&mut executor, &deployment, &put_at, junk, count);
    let mut ids: HashMap<TxHash, String> = HashMap::new();
    let mut waited: BTreeMap<String, u64> = BTreeMap::new();
    let (mut answered, mut drained_at) = (0, START.plus(FLOOD_AT_MS));
    while (waited.len() < REQUESTS || answered < count_of(junk, count)) && clock.now().since(START) < END_MS {
        executor.step();
        let now = clock.now();
        for entry in deployment.journal.drain() {
            if let Entry::Updated(record) = &entry {
                let newest = record.attempts.last().map(|attempt| attempt.tx_hash);
                ids.extend(newest.map(|hash| (hash, record.request_id.to_string())));
            } else if let Entry::Sent(raw) = &entry {
                let id = ids.get(&raw.hash).cloned().unwrap_or_default();
                if let Some(put) = put_at.lock().unwrap().get(&id) {
                    waited.entry(id).or_insert(now.since(*put));
                }
            } else if let Entry::Published(outcome) = &entry
                && is_junk(&outcome.request_id)
            {
                (answered, drained_at) = (answered + 1, now);
            }
        }
    }
    let mut sorted: Vec<u64> = waited.values().copied().collect();
    sorted.sort_unstable();
    let at = |per_cent: usize| sorted.get((sorted.len() * per_cent / 100).min(sorted.len().saturating_sub(1)));
    let junk_items =
        deployment.store.inner.with_tables(|tables| tables.requests.keys().filter(|id| is_junk(id.as_str())).count());
    Figures {
        sent: sorted.len(),
        p50_ms: at(50).copied().unwrap_or(0),
        p99_ms: at(99).copied().unwrap_or(0),
        drained_ms: drained_at.since(START.plus(FLOOD_AT_MS)),
        store_calls: latency.store_calls.load(Ordering::Relaxed),
        junk_items,
    }
}

/// Whether an answer or an item belongs to the junk: no other message is refused.
fn is_junk(id: &str) -> bool {
    id.starts_with("sqs:") || id.starts_with("junk")
}

fn count_of(junk: Junk, count: usize) -> usize {
    if junk == Junk::None { 0 } else { count }
}

fn spawn_tasks(
    executor: &mut Executor,
    deployment: &Deployment,
    put_at: &Arc<Mutex<BTreeMap<String, Millis>>>,
    junk: Junk,
    count: usize,
) {
    for _ in 0..SIGNERS {
        let deployment = deployment.clone();
        executor.add("signer", Box::new(move || Box::pin(signer(deployment.clone()))));
    }
    for _ in 0..2 {
        let deployment = deployment.clone();
        executor.add("broadcaster", Box::new(move || Box::pin(broadcaster(deployment.clone()))));
    }
    let (mining, asking, put_at) = (deployment.clone(), deployment.clone(), Arc::clone(put_at));
    executor.add("miner", Box::new(move || Box::pin(miner(mining.clone()))));
    executor.add("honest", Box::new(move || Box::pin(honest(asking.clone(), Arc::clone(&put_at)))));
    let flooded = deployment.clone();
    executor.add("flood", Box::new(move || Box::pin(flood(flooded.clone(), junk, count_of(junk, count)))));
}

async fn signer(deployment: Deployment) {
    let signer = deployment.signer();
    let _ = signer.warm_up(deployment.clock.now()).await;
    loop {
        if !receive_loop::serve_signing(&deployment, &signer).await {
            deployment.handle.sleep(IDLE_MS).await;
        }
    }
}

async fn broadcaster(deployment: Deployment) {
    let broadcaster = deployment.broadcaster();
    loop {
        if !receive_loop::serve_broadcast(&deployment, &broadcaster, 1, receive_loop::UNLIMITED).await {
            deployment.handle.sleep(IDLE_MS).await;
        }
    }
}

async fn miner(deployment: Deployment) {
    loop {
        deployment.handle.sleep(receive_loop::ROUND_MS).await;
        deployment.chain.inner.mine();
    }
}

async fn honest(deployment: Deployment, put_at: Arc<Mutex<BTreeMap<String, Millis>>>) {
    for number in 0..REQUESTS {
        // Plain transfers, each of its own value.
        let asked = body(number * 10, NAMES[0], Variant::Good, None);
        put_at.lock().unwrap().insert(format!("r-{}", number * 10), deployment.clock.now());
        let dedup = format!("honest {number}");
        deployment.queues.signing.put(&asked, Some(NAMES[0]), Some(&dedup), Some(SENDERS[0]));
        deployment.handle.sleep(EVERY_MS).await;
    }
}

async fn flood(deployment: Deployment, junk: Junk, count: usize) {
    deployment.handle.sleep(FLOOD_AT_MS).await;
    for first in (0..count).step_by(JUNK_BATCH) {
        for number in first..count.min(first + JUNK_BATCH) {
            let (body, sender) = match junk {
                Junk::None | Junk::Stranger => (body(number, NAMES[0], Variant::Good, None), STRANGER),
                Junk::Listed => (format!("{{\"requestId\":\"junk-{number}\",\"gas\":1}}"), SENDERS[0]),
            };
            let (group, dedup) = (format!("junk {}", number % GROUPS), format!("junk {number}"));
            deployment.queues.signing.put(&body, Some(&group), Some(&dedup), Some(sender));
        }
        deployment.handle.sleep(JUNK_EVERY_MS).await;
    }
}

/// One row of the table, compared with the run without junk.
#[must_use]
pub fn row(order: Order, junk: Junk, count: usize, alone: Figures, beside: Figures) -> String {
    let order = match order {
        Order::Any(_) => "any group",
        Order::Oldest => "the oldest message's",
    };
    let tenths = beside.p99_ms * 10 / alone.p99_ms.max(1);
    let calls = beside.store_calls.saturating_sub(alone.store_calls) * 10 / u64::try_from(count.max(1)).unwrap();
    format!(
        "| {order} | {junk:?} | {} | {} | {} | {}.{} × | {}.{} s | {}.{} | {} |",
        beside.sent,
        beside.p50_ms,
        beside.p99_ms,
        tenths / 10,
        tenths % 10,
        beside.drained_ms / 1_000,
        beside.drained_ms % 1_000 / 100,
        calls / 10,
        calls % 10,
        beside.junk_items,
    )
}
