//! Several endpoints with their health: which one to read from, which ones to send to, and whom to
//! leave in peace for a while.
//!
//! An endpoint that failed is left alone for twice as long each time; one that limits our rate for
//! as long as it says. One whose newest block is behind the others' is read from only when no
//! better one is left. Never decides what an answer means for a transaction.
//!
//! ## Guarantees
//! * No endpoint is used before it said that it is of our chain.
//! * A read tries at most three endpoints, a send each endpoint once.
//!
//! Read next: [`crate::chain`].

use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use signpost_txmgr::ports::{Happened, PortError};
use signpost_txmgr::units::ChainId;
use tokio::time::Instant;

use crate::quantity;
use crate::rpc::{Answer, Call, Failure, RpcClient};

/// Endpoints one read tries, the same one twice if it is the only one: a kept connection may
/// have died meanwhile.
const READ_TRIES: usize = 3;

/// First time of leaving a failed endpoint alone: about a block.
const COOL_DOWN_MIN: Duration = Duration::from_millis(500);

/// Longest time of leaving a failed endpoint alone: about the bump interval.
const COOL_DOWN_MAX: Duration = Duration::from_secs(10);

/// Time of leaving an endpoint alone that limits our rate and does not say for how long.
const RATE_LIMIT_PAUSE: Duration = Duration::from_secs(1);

/// An answer to the question for the height that comes later is not waited for.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// To whom a transaction is handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendTo {
    /// To every endpoint that is well: the way to get into blocks soonest.
    All,
    /// To the first that is well; to the next one only if it surely did not get there.
    First,
}

/// One endpoint and what we know of it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    rpc: RpcClient,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    /// It said that it is of our chain.
    verified: bool,
    /// Failures since the last success.
    failures: u32,
    /// Left alone until then, for failures.
    cooling_until: Option<Instant>,
    /// Left alone until then, for its rate limit.
    limited_until: Option<Instant>,
    /// Height of the newest block it was seen to have.
    height: u64,
}

impl Health {
    fn is_well(&self, now: Instant) -> bool {
        !self.is_limited(now) && self.cooling_until.is_none_or(|until| until <= now)
    }

    fn is_limited(&self, now: Instant) -> bool {
        self.limited_until.is_some_and(|until| until > now)
    }
}

impl Endpoint {
    pub(crate) fn host(&self) -> &str {
        self.rpc.host()
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call, its outcome noted.
    pub(crate) async fn call(&self, method: &'static str, params: serde_json::Value) -> Answer {
        let answer = self.rpc.call(method, params).await;
        self.note(std::slice::from_ref(&answer));
        answer
    }

    /// Several calls, their outcome noted.
    pub(crate) async fn batch(&self, calls: &[Call]) -> Vec<Answer> {
        let answers = self.rpc.batch(calls).await;
        self.note(&answers);
        answers
    }

    /// Notes the height of a block the endpoint has.
    pub(crate) fn note_height(&self, height: u64) {
        self.health().height = height;
    }

    /// Notes an answer that makes no sense: as bad as none.
    pub(crate) fn note_failure(&self, failure: &Failure) {
        if matches!(failure, Failure::Nonsense(_)) {
            self.fail(failure);
        }
    }

    fn note(&self, answers: &[Answer]) {
        let failures = || answers.iter().filter_map(|answer| answer.as_ref().err());
        let now = Instant::now();
        if let Some(limit) = failures().find(|failure| failure.is_rate_limit()) {
            let pause = asked_pause(limit).unwrap_or(RATE_LIMIT_PAUSE);
            self.health().limited_until = now.checked_add(pause);
            tracing::warn!(host = self.host(), pause_ms = pause.as_millis(), "the endpoint limits our rate");
        } else if let Some(failure) = failures().find(|failure| !matches!(failure, Failure::Node(_))) {
            self.fail(failure);
        } else if !answers.is_empty() {
            let mut health = self.health();
            health.failures = 0;
            health.cooling_until = None;
        }
    }

    fn fail(&self, failure: &Failure) {
        let mut health = self.health();
        health.failures = health.failures.saturating_add(1);
        // Another node may stand behind the name after this.
        health.verified = false;
        let doubled =
            COOL_DOWN_MIN.saturating_mul(1_u32.checked_shl(health.failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let pause = asked_pause(failure).unwrap_or(doubled.min(COOL_DOWN_MAX));
        health.cooling_until = Instant::now().checked_add(pause);
        let (failures, error): (u32, &dyn Error) = (health.failures, failure);
        tracing::warn!(host = self.host(), failures, pause_ms = pause.as_millis(), error, "the endpoint failed");
    }

    /// Asks once whether the endpoint is of our chain.
    async fn verify(&self, chain_id: ChainId) -> Result<(), Failure> {
        if self.health().verified {
            return Ok(());
        }
        let answer = self.call("eth_chainId", json!([])).await?;
        let found = quantity::number(&answer).ok_or(Failure::Nonsense("eth_chainId"))?;
        if found != chain_id.0 {
            let failure = Failure::WrongChain { expected: chain_id.0, found };
            self.fail(&failure);
            return Err(failure);
        }
        self.health().verified = true;
        Ok(())
    }
}

/// How long a failure says we shall wait.
fn asked_pause(failure: &Failure) -> Option<Duration> {
    match failure {
        Failure::RateLimited { retry_after } | Failure::Status { retry_after, .. } => *retry_after,
        Failure::Node(_)
        | Failure::Unreachable(_)
        | Failure::TimedOut
        | Failure::Broken(_)
        | Failure::NotJsonRpc
        | Failure::TooLong
        | Failure::BatchRefused(_)
        | Failure::Unanswered
        | Failure::NotAsked
        | Failure::Nonsense(_)
        | Failure::WrongChain { .. } => None,
    }
}

/// A failure and whose it is.
#[derive(Debug, thiserror::Error)]
#[error("{host} gave no usable answer")]
pub struct EndpointFailure {
    /// Host and port of the endpoint.
    pub host: String,
    /// What it was.
    #[source]
    pub failure: Failure,
}

/// Every endpoint is to be left alone for now.
#[derive(Debug, thiserror::Error)]
#[error("every endpoint limits our rate at the moment")]
pub struct AllLimited;

/// The endpoints, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct Endpoints {
    list: Vec<Endpoint>,
    chain_id: ChainId,
    send_to: SendTo,
    max_lag_blocks: u64,
    probe_every: Duration,
    probed_at: Mutex<Option<Instant>>,
}

impl Endpoints {
    pub(crate) fn new(
        clients: Vec<RpcClient>,
        chain_id: ChainId,
        send_to: SendTo,
        max_lag_blocks: u64,
        probe_every: Duration,
    ) -> Self {
        let list = clients.into_iter().map(|rpc| Endpoint { rpc, health: Mutex::default() }).collect();
        Self { list, chain_id, send_to, max_lag_blocks, probe_every, probed_at: Mutex::default() }
    }

    /// Asks the best endpoint, then the next ones, until `ask` has an answer.
    pub(crate) async fn read<'a, T, F, A>(&'a self, operation: &'static str, ask: F) -> Result<T, PortError>
    where
        F: Fn(&'a Endpoint) -> A + Send + Sync,
        A: Future<Output = Result<T, Failure>> + Send,
        T: Send,
    {
        self.read_unverified(operation, |endpoint| {
            let ask = &ask;
            async move {
                endpoint.verify(self.chain_id).await?;
                ask(endpoint).await
            }
        })
        .await
    }

    /// The same, of whatever chain the endpoint is.
    pub(crate) async fn read_unverified<'a, T, F, A>(&'a self, operation: &'static str, ask: F) -> Result<T, PortError>
    where
        F: Fn(&'a Endpoint) -> A + Send + Sync,
        A: Future<Output = Result<T, Failure>> + Send,
        T: Send,
    {
        self.probe().await;
        let candidates = self.to_read(Instant::now());
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
                    failures.push(EndpointFailure { host: endpoint.host().to_owned(), failure });
                }
            }
        }
        Err(port_error(operation, failures))
    }

    /// The endpoints to send to now, in order, each verified or with the reason why not.
    pub(crate) async fn to_send(&self) -> Vec<(&Endpoint, Result<(), Failure>)> {
        let now = Instant::now();
        let mut candidates: Vec<&Endpoint> = self.list.iter().filter(|it| it.health().is_well(now)).collect();
        if candidates.is_empty() {
            candidates.extend(self.soonest(now));
        }
        let verified = join_all(candidates.iter().map(|endpoint| endpoint.verify(self.chain_id))).await;
        candidates.into_iter().zip(verified).collect()
    }

    pub(crate) fn send_to(&self) -> SendTo {
        self.send_to
    }

    /// Those that are well and not behind; then those behind; if none is well, the one that will be
    /// asked again soonest, for asking it is the only way to learn that it is back.
    fn to_read(&self, now: Instant) -> Vec<&Endpoint> {
        let well: Vec<&Endpoint> = self.list.iter().filter(|it| it.health().is_well(now)).collect();
        if well.is_empty() {
            return self.soonest(now).into_iter().collect();
        }
        let best = well.iter().map(|it| it.health().height).max().unwrap_or(0);
        let (fresh, behind): (Vec<_>, Vec<_>) =
            well.into_iter().partition(|endpoint| best.saturating_sub(endpoint.health().height) <= self.max_lag_blocks);
        fresh.into_iter().chain(behind).collect()
    }

    fn soonest(&self, now: Instant) -> Option<&Endpoint> {
        let candidates = self.list.iter().filter(|endpoint| !endpoint.health().is_limited(now));
        candidates.min_by_key(|endpoint| endpoint.health().cooling_until)
    }

    /// Asks all for their height, once in a while: an endpoint that fell behind does not say so.
    async fn probe(&self) {
        let now = Instant::now();
        if self.list.len() < 2 {
            return;
        }
        {
            let mut probed_at = self.probed_at.lock().unwrap_or_else(PoisonError::into_inner);
            if probed_at.is_some_and(|at| now.saturating_duration_since(at) < self.probe_every) {
                return;
            }
            *probed_at = Some(now);
        }
        let well = self.list.iter().filter(|endpoint| endpoint.health().is_well(now));
        join_all(well.map(|endpoint| async move {
            let asked = tokio::time::timeout(PROBE_TIMEOUT, endpoint.call("eth_blockNumber", json!([])));
            match asked.await {
                Ok(answer) => {
                    if let Some(height) = answer.ok().as_ref().and_then(quantity::number) {
                        endpoint.note_height(height);
                    }
                }
                Err(_) => endpoint.fail(&Failure::TimedOut),
            }
        }))
        .await;
    }
}

fn port_error(operation: &'static str, failures: Vec<EndpointFailure>) -> PortError {
    let throttled = failures.iter().all(|it| it.failure.is_rate_limit());
    let unknown = failures.iter().any(|it| it.failure.happened() == Happened::Unknown);
    let happened = if unknown { Happened::Unknown } else { Happened::No };
    // The first endpoint is the best one; why the others failed is in the log.
    let source: Box<dyn Error + Send + Sync> = match failures.into_iter().next() {
        Some(failure) => Box::new(failure),
        None => Box::new(AllLimited),
    };
    PortError { operation, happened, throttled, source }
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
    async fn an_endpoint_that_fails_is_left_alone_twice_as_long_each_time() {
        let endpoints = endpoints(2);
        let endpoint = endpoints.list.first().unwrap();
        for pause_ms in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            endpoint.note(&[Err(Failure::TimedOut)]);
            tokio::time::advance(Duration::from_millis(pause_ms - 1)).await;
            assert_eq!(readable(&endpoints), ["node1.example"], "{pause_ms}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(readable(&endpoints).len(), 2, "{pause_ms}");
        }
        endpoint.note(&[Ok(json!("0x1"))]);
        endpoint.note(&[Err(Failure::TimedOut)]);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(readable(&endpoints).len(), 2, "a success forgives");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_limit_lasts_as_long_as_the_endpoint_says() {
        let endpoints = endpoints(1);
        let endpoint = endpoints.list.first().unwrap();
        endpoint.note(&[Err(Failure::RateLimited { retry_after: Some(Duration::from_secs(7)) })]);
        tokio::time::advance(Duration::from_millis(6_999)).await;
        assert!(readable(&endpoints).is_empty(), "not even when no other is left");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(readable(&endpoints).len(), 1);
        endpoint.note(&[Ok(json!(1)), Err(Failure::RateLimited { retry_after: None })]);
        tokio::time::advance(RATE_LIMIT_PAUSE).await;
        assert_eq!(readable(&endpoints).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn when_none_is_well_the_one_that_will_be_soonest_is_asked() {
        let endpoints = endpoints(3);
        for (endpoint, failures) in endpoints.list.iter().zip([3, 1, 2]) {
            for _ in 0..failures {
                endpoint.note(&[Err(Failure::TimedOut)]);
            }
        }
        assert_eq!(readable(&endpoints), ["node1.example"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_of_a_node_is_no_failure_of_the_endpoint() {
        let endpoints = endpoints(1);
        let endpoint = endpoints.list.first().unwrap();
        let error = crate::rpc::NodeError { code: -32000, message: "nonce too low".to_owned(), data: None };
        endpoint.note(&[Err(Failure::Node(error))]);
        assert!(endpoint.health().is_well(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_that_are_behind_come_last() {
        let endpoints = endpoints(3);
        for (endpoint, height) in endpoints.list.iter().zip([89, 90, 100]) {
            endpoint.note_height(height);
        }
        assert_eq!(readable(&endpoints), ["node1.example", "node2.example", "node0.example"]);
    }
}
