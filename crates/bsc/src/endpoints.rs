//! Several endpoints with their health: which one to read from, which ones to send to, and which ones to pause.
//!
//! The pause of an endpoint doubles with each failure. An endpoint that limits our rate is paused for the time it
//! names, and longer if it limits us again at once (`limit.rs`). When no endpoint is healthy, every call first checks
//! whether the failed ones are back, and continues with the first that is: so the next call notices the end of an
//! outage. An endpoint whose newest block is behind the others' is read from last. Private endpoints are sent to and
//! never read from. Never decides what an answer means for a transaction.
//!
//! ## Guarantees
//! * No public endpoint is used before its chain id was checked. Private ones cannot be asked; a
//!   transaction contains its chain id (EIP-155).
//! * A read tries at most three endpoints. A send tries each endpoint at most once.
//! * An endpoint that limits our rate is paused for the time it names, even if no other endpoint is left.
//!
//! Read next: [`crate::chain`].

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde_json::{Value, json};
use signpost_txmgr::ports::{Happened, PortError};
use signpost_txmgr::units::{Address, ChainId};
use tokio::time::Instant;

pub(crate) use crate::endpoint::Endpoint;
pub use crate::endpoint::EndpointFailure;
use crate::private::EndpointKind;
use crate::quantity;
use crate::rpc::{CallFailure, RpcClient, need};

/// Maximum number of endpoints that one read tries. A single endpoint is tried twice, because a kept connection may
/// have been closed.
const READ_TRIES: usize = 3;

/// Timeout of the checks for a height, and for an endpoint's return.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// If the preferred endpoint's head has not risen for this long, the others are asked for theirs: six blocks, or one
/// absent validator.
const STILL: Duration = Duration::from_secs(3);

/// How long an endpoint is read from last after another one contradicted it about something final.
const DOUBTED_FOR: Duration = Duration::from_secs(30);

/// Which endpoints get a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendTo {
    /// Every healthy endpoint: the fastest way into a block.
    All,
    /// The first healthy endpoint; the next one gets what it did not accept. As reliable, and cheaper if the first
    /// endpoint is good.
    First,
}

/// Every endpoint is paused for its rate limit.
#[derive(Debug, thiserror::Error)]
#[error("every endpoint limits our rate at the moment")]
pub struct AllLimited;

/// The endpoints, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct Endpoints {
    /// The public endpoints.
    list: Vec<Endpoint>,
    private: Vec<Endpoint>,
    chain_id: ChainId,
    send_to: SendTo,
    max_lag_blocks: u64,
    probe_every: Duration,
    probed_at: Mutex<Option<Instant>>,
    /// When the failed endpoints were last checked. One call checks, concurrent calls wait for it.
    revived_at: tokio::sync::Mutex<Option<Instant>>,
}

impl Endpoints {
    pub(crate) fn new(
        clients: Vec<RpcClient>,
        chain_id: ChainId,
        send_to: SendTo,
        max_lag_blocks: u64,
        probe_every: Duration,
    ) -> Self {
        let mut list: Vec<Endpoint> = clients.into_iter().map(|rpc| Endpoint::new(rpc, EndpointKind::Public)).collect();
        let hosts: Vec<String> = list.iter().map(|endpoint| endpoint.host().to_owned()).collect();
        for (endpoint, place) in list.iter_mut().zip(1..) {
            if hosts.iter().filter(|host| *host == endpoint.host()).count() > 1 {
                endpoint.name = format!("{} (endpoint {place})", endpoint.host());
            }
        }
        Self {
            list,
            private: Vec::new(),
            chain_id,
            send_to,
            max_lag_blocks,
            probe_every,
            probed_at: Mutex::default(),
            revived_at: tokio::sync::Mutex::default(),
        }
    }

    /// Adds private endpoints.
    pub(crate) fn with_private(self, private: Vec<Endpoint>) -> Self {
        Self { private, ..self }
    }

    /// Asks the preferred endpoint, then the next ones, until `ask` has an answer.
    pub(crate) async fn read<'a, T, F, A>(&'a self, operation: &'static str, ask: F) -> Result<T, PortError>
    where
        F: Fn(&'a Endpoint) -> A + Send + Sync,
        A: Future<Output = Result<T, CallFailure>> + Send,
        T: Send,
    {
        self.probe().await;
        let mut candidates = self.to_read(Instant::now());
        if candidates.is_empty() {
            self.revive().await.map_err(|failures| {
                let named = |(endpoint, failure): (&Endpoint, _)| endpoint.failure(failure);
                port_error(operation, failures.into_iter().map(named).collect())
            })?;
            candidates = self.to_read(Instant::now());
        }
        let ask = &ask;
        let verified = |endpoint: &'a Endpoint| async move {
            endpoint.verify(self.chain_id).await?;
            ask(endpoint).await
        };
        ask_in_turn(operation, candidates, verified).await
    }

    /// Like [`Self::read`], without checking the chain id. If no endpoint is healthy, the one whose pause ends first is
    /// asked.
    pub(crate) async fn read_unverified<'a, T, F, A>(&'a self, operation: &'static str, ask: F) -> Result<T, PortError>
    where
        F: Fn(&'a Endpoint) -> A + Send + Sync,
        A: Future<Output = Result<T, CallFailure>> + Send,
        T: Send,
    {
        let mut candidates = self.to_read(Instant::now());
        if candidates.is_empty() {
            candidates.extend(self.soonest(Instant::now()));
        }
        ask_in_turn(operation, candidates, ask).await
    }

    /// The endpoints to send to now, in order. Each is verified, or has the reason why it is not.
    pub(crate) async fn to_send(&self) -> Vec<(&Endpoint, Result<(), CallFailure>)> {
        let mut candidates = self.healthy(Instant::now());
        if candidates.is_empty() {
            if let Err(failures) = self.revive().await {
                return failures.into_iter().map(|(endpoint, failure)| (endpoint, Err(failure))).collect();
            }
            candidates = self.healthy(Instant::now());
        }
        let verified = join_all(candidates.iter().map(|endpoint| endpoint.verify(self.chain_id))).await;
        candidates.into_iter().zip(verified).collect()
    }

    /// The private endpoints to send to now, in order. They accept only transactions, so a failed one cannot be
    /// checked: if none is healthy, the failed ones are used.
    pub(crate) fn to_send_privately(&self) -> Vec<(&Endpoint, Result<(), CallFailure>)> {
        let now = Instant::now();
        let not_limited = self.private.iter().filter(|endpoint| !endpoint.health().is_limited(now));
        let (healthy, failed): (Vec<_>, Vec<_>) = not_limited.partition(|endpoint| endpoint.health().is_healthy(now));
        let targets = if healthy.is_empty() { failed } else { healthy };
        targets.into_iter().map(|endpoint| (endpoint, Ok(()))).collect()
    }

    pub(crate) fn send_to(&self) -> SendTo {
        self.send_to
    }

    fn healthy(&self, now: Instant) -> Vec<&Endpoint> {
        self.list.iter().filter(|endpoint| endpoint.health().is_healthy(now)).collect()
    }

    /// The healthy endpoints: first those that are not behind, then the others.
    ///
    /// A height is compared once, when it is new. The endpoint in use reports its height more often than the
    /// others, and its later heights do not show that another endpoint is behind.
    fn to_read(&self, now: Instant) -> Vec<&Endpoint> {
        let healthy = self.healthy(now);
        let best = healthy.iter().map(|it| it.health().height).max().unwrap_or(0);
        let (fresh, behind): (Vec<_>, Vec<_>) = healthy.into_iter().partition(|endpoint| {
            let mut health = endpoint.health();
            let height = health.height;
            let lag = *health.lag_blocks.get_or_insert_with(|| best.saturating_sub(height));
            lag <= self.max_lag_blocks && health.doubted_until.is_none_or(|until| until <= now)
        });
        fresh.into_iter().chain(behind).collect()
    }

    /// Number of configured public endpoints.
    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }

    /// The endpoints to read from now, the preferred first.
    pub(crate) fn readable(&self) -> Vec<&Endpoint> {
        self.to_read(Instant::now())
    }

    /// All endpoints except the named one, to confirm or contradict it. Recently failed ones come last, except those
    /// that timed out: asking the others takes little time.
    pub(crate) fn others(&self, name: &str) -> Vec<&Endpoint> {
        let now = Instant::now();
        let may_be_back = self.list.iter().filter(|endpoint| {
            let health = endpoint.health();
            !health.is_healthy(now) && !health.is_limited(now) && !health.is_silent
        });
        self.to_read(now).into_iter().chain(may_be_back).filter(|endpoint| endpoint.name() != name).collect()
    }

    /// Prefers other endpoints for a while: this one was contradicted, and which of the two is right is not known.
    pub(crate) fn doubt(&self, name: &str) {
        let until = Instant::now().checked_add(DOUBTED_FOR);
        for endpoint in self.list.iter().filter(|endpoint| endpoint.name() == name) {
            endpoint.health().doubted_until = until;
        }
    }

    /// Asks one endpoint, after checking its chain id, and notes a failure.
    pub(crate) async fn ask_one<'a, T, F, A>(&'a self, endpoint: &'a Endpoint, ask: F) -> Result<T, CallFailure>
    where
        F: FnOnce(&'a Endpoint) -> A + Send,
        A: Future<Output = Result<T, CallFailure>> + Send,
        T: Send,
    {
        endpoint.verify(self.chain_id).await?;
        let answer = ask(endpoint).await;
        if let Err(failure) = &answer {
            endpoint.note_failure(failure);
        }
        answer
    }

    fn soonest(&self, now: Instant) -> Option<&Endpoint> {
        let candidates = self.list.iter().filter(|endpoint| !endpoint.health().is_limited(now));
        candidates.min_by_key(|endpoint| endpoint.health().cooling_until)
    }

    /// Checks all failed endpoints concurrently; the first that answers is healthy again. The error holds the reason
    /// of each endpoint; it is empty if every endpoint limits our rate.
    ///
    /// A timeout here is not a new failure: a slow endpoint gets the full timeout once its pause is over.
    async fn revive(&self) -> Result<(), Vec<(&Endpoint, CallFailure)>> {
        let came = Instant::now();
        let mut revived_at = self.revived_at.lock().await;
        let now = Instant::now();
        if !self.healthy(now).is_empty() {
            return Ok(());
        }
        let failed = self.list.iter().filter(|endpoint| !endpoint.health().is_limited(now));
        if revived_at.is_some_and(|at| at > came) {
            // Another call checked them while we waited for the lock: its result is ours too.
            return Err(failed.map(|endpoint| (endpoint, CallFailure::NotAsked)).collect());
        }
        let mut asked: FuturesUnordered<_> = failed
            .map(|endpoint| async move {
                let said = tokio::time::timeout(PROBE_TIMEOUT, endpoint.ask_chain(self.chain_id)).await;
                (endpoint, said.unwrap_or(Err(CallFailure::TimedOut)))
            })
            .collect();
        let mut failures = Vec::new();
        while let Some((endpoint, said)) = asked.next().await {
            match said {
                Ok(()) => return Ok(()),
                Err(failure) => failures.push((endpoint, failure)),
            }
        }
        *revived_at = Some(Instant::now());
        Err(failures)
    }

    /// Asks all endpoints for their height at an interval: an endpoint that falls behind does not report it.
    async fn probe(&self) {
        let now = Instant::now();
        if self.list.len() < 2 {
            return;
        }
        // The head of the preferred endpoint stands still: check whether another's moves.
        let is_still = |endpoint: &&Endpoint| {
            endpoint.health().risen_at.is_some_and(|at| now.saturating_duration_since(at) >= STILL)
        };
        let every = if self.to_read(now).first().is_some_and(is_still) { STILL } else { self.probe_every };
        {
            let mut probed_at = self.probed_at.lock().unwrap_or_else(PoisonError::into_inner);
            if probed_at.is_some_and(|at| now.saturating_duration_since(at) < every.min(self.probe_every)) {
                return;
            }
            *probed_at = Some(now);
        }
        let healthy = self.list.iter().filter(|endpoint| endpoint.health().is_healthy(now));
        join_all(healthy.map(|endpoint| async move {
            let asked = tokio::time::timeout(PROBE_TIMEOUT, endpoint.call("eth_blockNumber", json!([])));
            match asked.await {
                Ok(answer) => {
                    if let Some(height) = answer.ok().as_ref().and_then(quantity::number) {
                        endpoint.note_height(height);
                    }
                }
                Err(_) => endpoint.fail(&CallFailure::TimedOut),
            }
        }))
        .await;
    }
}

/// Asks the endpoints in turn; a single endpoint is asked twice.
async fn ask_in_turn<'a, T, F, A>(
    operation: &'static str,
    candidates: Vec<&'a Endpoint>,
    ask: F,
) -> Result<T, PortError>
where
    F: Fn(&'a Endpoint) -> A + Send + Sync,
    A: Future<Output = Result<T, CallFailure>> + Send,
    T: Send,
{
    let alone = if candidates.len() == 1 { candidates.first().copied() } else { None };
    let mut failures = Vec::new();
    for endpoint in candidates.into_iter().chain(alone).take(READ_TRIES) {
        if endpoint.health().is_limited(Instant::now()) {
            continue;
        }
        match ask(endpoint).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => {
                endpoint.note_failure(&failure);
                failures.push(endpoint.failure(failure));
            }
        }
    }
    Err(port_error(operation, failures))
}

pub(crate) fn port_error(operation: &'static str, failures: Vec<EndpointFailure>) -> PortError {
    let throttled = failures.iter().all(|it| it.failure.is_rate_limit());
    let unknown = failures.iter().any(|it| it.failure.happened() == Happened::Unknown);
    let happened = if unknown { Happened::Unknown } else { Happened::No };
    // The first endpoint is the preferred one; the failures of the others are in the log.
    let source: Box<dyn Error + Send + Sync> = match failures.into_iter().next() {
        Some(failure) => Box::new(failure),
        None => Box::new(AllLimited),
    };
    PortError { operation, happened, throttled, source }
}

/// The transaction count of an address at a block or tag.
pub(crate) async fn count_at(endpoint: &Endpoint, address: Address, block: Value) -> Result<u64, CallFailure> {
    const METHOD: &str = "eth_getTransactionCount";
    need(endpoint.call(METHOD, json!([address.lower(), block])).await, METHOD, quantity::number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: u16) -> Endpoints {
        let client = |at: u16| RpcClient::new(&format!("http://node{at}.example"), Duration::from_secs(1), 20).unwrap();
        let clients = (0..count).map(client).collect();
        Endpoints::new(clients, ChainId(97), SendTo::All, 10, Duration::from_secs(10))
    }

    fn readable(endpoints: &Endpoints) -> Vec<&str> {
        endpoints.to_read(Instant::now()).into_iter().map(Endpoint::host).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn pause_of_failing_endpoint_doubles() {
        let endpoints = endpoints(2);
        let endpoint = endpoints.list.first().unwrap();
        for pause_ms in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            endpoint.note(&[Err(CallFailure::TimedOut)]);
            tokio::time::advance(Duration::from_millis(pause_ms - 1)).await;
            assert_eq!(readable(&endpoints), ["node1.example"], "{pause_ms}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(readable(&endpoints).len(), 2, "{pause_ms}");
        }
        endpoint.note(&[Ok(json!("0x1"))]);
        endpoint.note(&[Err(CallFailure::TimedOut)]);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(readable(&endpoints).len(), 2, "a success resets the pause");
    }

    #[tokio::test(start_paused = true)]
    async fn rate_limit_lasts_for_the_time_the_endpoint_names() {
        let endpoints = endpoints(1);
        let endpoint = endpoints.list.first().unwrap();
        endpoint.note(&[Err(CallFailure::RateLimited { retry_after: Some(Duration::from_secs(7)) })]);
        tokio::time::advance(Duration::from_millis(6_999)).await;
        assert!(readable(&endpoints).is_empty(), "not even when no other is left");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(readable(&endpoints).len(), 1);
        // Limited again at once; then limited for a part of a batch while another part was answered.
        let limited = || Err(CallFailure::RateLimited { retry_after: None });
        for (answers, pause_ms) in [(vec![limited()], 2_000), (vec![Ok(json!(1)), limited()], 1_000)] {
            endpoint.note(&answers);
            tokio::time::advance(Duration::from_millis(pause_ms - 1)).await;
            assert!(readable(&endpoints).is_empty(), "{pause_ms} ms");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(readable(&endpoints).len(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn node_error_is_not_an_endpoint_failure() {
        let endpoints = endpoints(1);
        let endpoint = endpoints.list.first().unwrap();
        let error = crate::rpc::NodeError { code: -32000, message: "nonce too low".to_owned(), data: None };
        endpoint.note(&[Err(CallFailure::Node(error))]);
        assert!(endpoint.health().is_healthy(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_behind_come_last() {
        let endpoints = endpoints(3);
        for (endpoint, height) in endpoints.list.iter().zip([89, 90, 100]) {
            endpoint.note_height(height);
        }
        assert_eq!(readable(&endpoints), ["node1.example", "node2.example", "node0.example"]);
    }

    #[tokio::test(start_paused = true)]
    async fn height_is_compared_once_when_it_is_new() {
        let endpoints = endpoints(3);
        let [first, second, third] = endpoints.list.as_slice() else { panic!("three endpoints") };
        for (endpoint, height) in [(first, 100), (second, 89), (third, 100)] {
            endpoint.note_height(height);
        }
        assert_eq!(readable(&endpoints), ["node0.example", "node2.example", "node1.example"]);
        // The first is in use. After it is contradicted, the third is preferred, and the second stays behind.
        first.note_height(120);
        assert_eq!(readable(&endpoints), ["node0.example", "node2.example", "node1.example"]);
        endpoints.doubt(first.name());
        assert_eq!(readable(&endpoints), ["node2.example", "node0.example", "node1.example"]);
        // Asked again, the third has got no further.
        third.note_height(100);
        assert_eq!(readable(&endpoints), ["node0.example", "node1.example", "node2.example"]);
    }
}
