//! One endpoint: its connection, and what is known of its health.
//!
//! Read next: `endpoints.rs`.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use signpost_txmgr::record::BlockRef;
use signpost_txmgr::units::{BlockHash, BlockNumber, ChainId};
use tokio::time::Instant;

use crate::limit::RateLimit;
use crate::private::EndpointKind;
use crate::quantity;
use crate::rpc::{Answer, Call, Failure, RpcClient};

/// First time of leaving a failed endpoint alone: about a block.
const COOL_DOWN_MIN: Duration = Duration::from_millis(500);

/// Longest time of leaving a failed endpoint alone: about the bump interval.
const COOL_DOWN_MAX: Duration = Duration::from_secs(10);

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

/// Blocks remembered: half an hour of them, some 100 bytes each.
const KNOWN_BLOCKS: usize = 4_096;

/// Blocks of an endpoint with their parents, the lowest forgotten first.
#[derive(Debug, Default)]
pub(crate) struct Parents(Mutex<BTreeMap<(BlockNumber, BlockHash), BlockHash>>);

impl Parents {
    pub(crate) fn of(&self, block: &BlockRef) -> Option<BlockHash> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(block.number, block.hash)).copied()
    }

    pub(crate) fn learn(&self, block: &BlockRef, parent: BlockHash) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((block.number, block.hash), parent);
        if known.len() > KNOWN_BLOCKS {
            known.pop_first();
        }
    }
}

/// One endpoint and what we know of it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    rpc: RpcClient,
    kind: EndpointKind,
    /// Its host, with its place in the list where several have the same.
    pub(crate) name: String,
    health: Mutex<Health>,
    parents: Parents,
}

#[derive(Debug, Default)]
pub(crate) struct Health {
    /// It said that it is of our chain.
    verified: bool,
    /// Failures since the last success.
    failures: u32,
    /// Left alone until then, for failures.
    pub(crate) cooling_until: Option<Instant>,
    /// It failed by silence, or said how long it wants to be left alone.
    pub(crate) is_silent: bool,
    /// Left alone for its rate limit.
    limit: RateLimit,
    /// Height of the newest block it was seen to have.
    pub(crate) height: u64,
    /// By how many blocks that was less than the others had; none if it was not compared yet.
    pub(crate) lag_blocks: Option<u64>,
    /// Since when that is its height.
    pub(crate) risen_at: Option<Instant>,
    /// Read from last until then: another endpoint contradicted it.
    pub(crate) doubted_until: Option<Instant>,
}

impl Health {
    pub(crate) fn is_well(&self, now: Instant) -> bool {
        !self.is_limited(now) && self.cooling_until.is_none_or(|until| until <= now)
    }

    pub(crate) fn is_limited(&self, now: Instant) -> bool {
        self.limit.holds(now)
    }
}

impl Endpoint {
    pub(crate) fn new(rpc: RpcClient, kind: EndpointKind) -> Self {
        let name = rpc.host().to_owned();
        Self { rpc, kind, name, health: Mutex::default(), parents: Parents::default() }
    }

    /// What it is called in logs and views.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Most calls that one request to it holds now.
    pub(crate) fn batch_items(&self) -> usize {
        self.rpc.batch_items()
    }

    /// The blocks it told, with their parents.
    pub(crate) fn parents(&self) -> &Parents {
        &self.parents
    }

    pub(crate) fn kind(&self) -> &EndpointKind {
        &self.kind
    }

    pub(crate) fn host(&self) -> &str {
        self.rpc.host()
    }

    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
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
        let mut health = self.health();
        if height > health.height || health.risen_at.is_none() {
            health.risen_at = Some(Instant::now());
        }
        (health.height, health.lag_blocks) = (height, None);
    }

    /// Notes an answer that makes no sense: as bad as none.
    pub(crate) fn note_failure(&self, failure: &Failure) {
        if matches!(failure, Failure::Nonsense(_)) {
            self.fail(failure);
        }
    }

    pub(crate) fn note(&self, answers: &[Answer]) {
        let failures = || answers.iter().filter_map(|answer| answer.as_ref().err());
        let now = Instant::now();
        // One call of a batch that is limited beside others that are answered is no sign of a used-up window.
        if answers.iter().any(Result::is_ok) {
            self.health().limit.note_answer();
        }
        if let Some(limit) = failures().find(|failure| failure.is_rate_limit()) {
            let pause = self.health().limit.note(asked_pause(limit), now);
            tracing::warn!(host = self.host(), pause_ms = pause.as_millis(), "the endpoint limits our rate");
        } else if let Some(failure) = endpoint_failure(answers) {
            self.fail(failure);
        } else if !answers.is_empty() {
            let mut health = self.health();
            health.failures = 0;
            health.cooling_until = None;
        }
    }

    pub(crate) fn fail(&self, failure: &Failure) {
        let mut health = self.health();
        health.failures = health.failures.saturating_add(1);
        // Another node may stand behind the name after this.
        health.verified = false;
        let doubled =
            COOL_DOWN_MIN.saturating_mul(1_u32.checked_shl(health.failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let pause = asked_pause(failure).unwrap_or(doubled.min(COOL_DOWN_MAX));
        let now = Instant::now();
        health.cooling_until = now.checked_add(pause);
        health.is_silent = matches!(failure, Failure::TimedOut) || asked_pause(failure).is_some();
        let (failures, error): (u32, &dyn Error) = (health.failures, failure);
        tracing::warn!(host = self.host(), failures, pause_ms = pause.as_millis(), error, "the endpoint failed");
    }

    pub(crate) fn failure(&self, failure: Failure) -> EndpointFailure {
        EndpointFailure { host: self.host().to_owned(), failure }
    }

    /// Asks once whether the endpoint is of our chain.
    pub(crate) async fn verify(&self, chain_id: ChainId) -> Result<(), Failure> {
        let verified = self.health().verified;
        if verified { Ok(()) } else { self.ask_chain(chain_id).await }
    }

    pub(crate) async fn ask_chain(&self, chain_id: ChainId) -> Result<(), Failure> {
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

/// The failure that is the endpoint's. One call without an answer, beside others with one, is none.
fn endpoint_failure(answers: &[Answer]) -> Option<&Failure> {
    let answered = answers.iter().any(|answer| matches!(answer, Ok(_) | Err(Failure::Node(_))));
    let failures = || answers.iter().filter_map(|answer| answer.as_ref().err());
    let of_a_request = failures().find(|failure| failure.is_of_the_request());
    of_a_request.or_else(|| failures().next().filter(|_| !answered))
}

/// How long a failure says we shall wait.
fn asked_pause(failure: &Failure) -> Option<Duration> {
    match failure {
        Failure::RateLimited { retry_after } | Failure::Status { retry_after, .. } => *retry_after,
        Failure::Alone(last) | Failure::Again { last, .. } => asked_pause(last),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        let rpc = RpcClient::new("http://node.example", Duration::from_secs(1), 20).unwrap();
        Endpoint::new(rpc, EndpointKind::Public)
    }

    #[tokio::test(start_paused = true)]
    async fn a_height_told_again_is_no_progress() {
        let endpoint = endpoint();
        let start = Instant::now();
        let told = [(100, 0), (100, 0), (101, 2), (99, 2), (101, 4)];
        for (at, (height, risen_at)) in told.into_iter().enumerate() {
            endpoint.note_height(height);
            let (seen, since) = {
                let health = endpoint.health();
                (health.height, health.risen_at.map(|risen| (risen - start).as_secs()))
            };
            assert_eq!((seen, since), (height, Some(risen_at)), "told as number {at}");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_a_wished_pause_are_told_from_other_failures() {
        let pause = Some(Duration::from_secs(3));
        let cases = [
            (Failure::TimedOut, true, 500),
            (Failure::Status { status: 503, retry_after: pause }, true, 3_000),
            (Failure::Status { status: 503, retry_after: None }, false, 500),
            (Failure::NotJsonRpc, false, 500),
        ];
        for (failure, is_silent, pause_ms) in cases {
            let endpoint = endpoint();
            endpoint.fail(&failure);
            let health = endpoint.health();
            assert_eq!(health.is_silent, is_silent, "{failure}");
            let until = health.cooling_until.unwrap();
            assert_eq!((until - Instant::now()).as_millis(), pause_ms, "{failure}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nonsense_counts_as_a_failure_and_an_error_of_the_node_does_not() {
        let endpoint = endpoint();
        endpoint.note_failure(&Failure::TimedOut);
        assert!(endpoint.health().cooling_until.is_none(), "noted where the call was made");
        endpoint.note_failure(&Failure::Nonsense("eth_chainId"));
        assert!(!endpoint.health().is_well(Instant::now()));
    }
}
