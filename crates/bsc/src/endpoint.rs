//! One endpoint: its connection and its health.
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
use crate::rpc::{Answer, Call, CallFailure, RpcClient};

/// First pause of a failed endpoint: about a block.
const COOL_DOWN_MIN: Duration = Duration::from_millis(500);

/// Longest pause of a failed endpoint: about the bump interval.
const COOL_DOWN_MAX: Duration = Duration::from_secs(10);

/// A failure and the endpoint it came from.
#[derive(Debug, thiserror::Error)]
#[error("{host} gave no usable answer")]
pub struct EndpointFailure {
    /// Host and port of the endpoint.
    pub host: String,
    /// The failure itself.
    #[source]
    pub failure: CallFailure,
}

/// Number of blocks remembered: half an hour of blocks, about 100 bytes each.
const KNOWN_BLOCKS: usize = 4_096;

/// Blocks of an endpoint with their parents. The lowest are evicted first.
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

/// One endpoint and what is known about it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    rpc: RpcClient,
    kind: EndpointKind,
    /// The host, with the position in the list if several endpoints have the same host.
    pub(crate) name: String,
    health: Mutex<Health>,
    parents: Parents,
}

#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Its chain id was checked and is ours.
    verified: bool,
    /// Failures since the last success.
    failures: u32,
    /// End of the pause for failures.
    pub(crate) cooling_until: Option<Instant>,
    /// Its last failure was a timeout, or named a time to wait.
    pub(crate) is_silent: bool,
    /// The pause for its rate limit.
    limit: RateLimit,
    /// Height of its newest known block.
    pub(crate) height: u64,
    /// Number of blocks by which that height is behind the others; `None` if it was not compared yet.
    pub(crate) lag_blocks: Option<u64>,
    /// When the height last rose.
    pub(crate) risen_at: Option<Instant>,
    /// Until then it is read from last, because another endpoint contradicted it.
    pub(crate) doubted_until: Option<Instant>,
}

impl Health {
    pub(crate) fn is_healthy(&self, now: Instant) -> bool {
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

    /// Its name in logs and views.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Maximum number of calls per request at the moment.
    pub(crate) fn batch_items(&self) -> usize {
        self.rpc.batch_items()
    }

    /// The blocks it returned, with their parents.
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

    /// Makes one call and notes its outcome.
    pub(crate) async fn call(&self, method: &'static str, params: serde_json::Value) -> Answer {
        let answer = self.rpc.call(method, params).await;
        self.note(std::slice::from_ref(&answer));
        answer
    }

    /// Makes several calls and notes their outcome.
    pub(crate) async fn batch(&self, calls: &[Call]) -> Vec<Answer> {
        let answers = self.rpc.batch(calls).await;
        self.note(&answers);
        answers
    }

    /// Notes the height of the endpoint's newest block.
    pub(crate) fn note_height(&self, height: u64) {
        let mut health = self.health();
        if height > health.height || health.risen_at.is_none() {
            health.risen_at = Some(Instant::now());
        }
        (health.height, health.lag_blocks) = (height, None);
    }

    /// Notes a malformed answer, which counts as a failure.
    pub(crate) fn note_failure(&self, failure: &CallFailure) {
        if matches!(failure, CallFailure::Malformed(_)) {
            self.fail(failure);
        }
    }

    pub(crate) fn note(&self, answers: &[Answer]) {
        let failures = || answers.iter().filter_map(|answer| answer.as_ref().err());
        let now = Instant::now();
        // If other calls of the batch were answered, a limited call does not mean that the window is used up.
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

    pub(crate) fn fail(&self, failure: &CallFailure) {
        let mut health = self.health();
        health.failures = health.failures.saturating_add(1);
        // Another node may be behind the name after this.
        health.verified = false;
        let doubled =
            COOL_DOWN_MIN.saturating_mul(1_u32.checked_shl(health.failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let pause = asked_pause(failure).unwrap_or(doubled.min(COOL_DOWN_MAX));
        let now = Instant::now();
        health.cooling_until = now.checked_add(pause);
        health.is_silent = matches!(failure, CallFailure::TimedOut) || asked_pause(failure).is_some();
        let (failures, error): (u32, &dyn Error) = (health.failures, failure);
        tracing::warn!(host = self.host(), failures, pause_ms = pause.as_millis(), error, "the endpoint failed");
    }

    pub(crate) fn failure(&self, failure: CallFailure) -> EndpointFailure {
        EndpointFailure { host: self.host().to_owned(), failure }
    }

    /// Checks the endpoint's chain id, unless it was checked already.
    pub(crate) async fn verify(&self, chain_id: ChainId) -> Result<(), CallFailure> {
        let verified = self.health().verified;
        if verified { Ok(()) } else { self.ask_chain(chain_id).await }
    }

    pub(crate) async fn ask_chain(&self, chain_id: ChainId) -> Result<(), CallFailure> {
        let answer = self.call("eth_chainId", json!([])).await?;
        let found = quantity::number(&answer).ok_or(CallFailure::Malformed("eth_chainId"))?;
        if found != chain_id.0 {
            let failure = CallFailure::WrongChain { expected: chain_id.0, found };
            self.fail(&failure);
            return Err(failure);
        }
        self.health().verified = true;
        Ok(())
    }
}

/// The failure to blame on the endpoint. A single unanswered call between answered ones is not its failure.
fn endpoint_failure(answers: &[Answer]) -> Option<&CallFailure> {
    let answered = answers.iter().any(|answer| matches!(answer, Ok(_) | Err(CallFailure::Node(_))));
    let failures = || answers.iter().filter_map(|answer| answer.as_ref().err());
    let of_a_request = failures().find(|failure| failure.is_of_the_request());
    of_a_request.or_else(|| failures().next().filter(|_| !answered))
}

/// The time that a failure asks us to wait.
fn asked_pause(failure: &CallFailure) -> Option<Duration> {
    match failure {
        CallFailure::RateLimited { retry_after } | CallFailure::Status { retry_after, .. } => *retry_after,
        CallFailure::Alone(last) | CallFailure::Again { last, .. } => asked_pause(last),
        CallFailure::Node(_)
        | CallFailure::Unreachable(_)
        | CallFailure::TimedOut
        | CallFailure::Broken(_)
        | CallFailure::NotJsonRpc
        | CallFailure::TooLong
        | CallFailure::BatchRefused(_)
        | CallFailure::Unanswered
        | CallFailure::NotAsked
        | CallFailure::Malformed(_)
        | CallFailure::WrongChain { .. } => None,
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
    async fn repeated_or_lower_height_is_not_progress() {
        let endpoint = endpoint();
        let start = Instant::now();
        let heights = [(100, 0), (100, 0), (101, 2), (99, 2), (101, 4)];
        for (at, (height, risen_at)) in heights.into_iter().enumerate() {
            endpoint.note_height(height);
            let (seen, since) = {
                let health = endpoint.health();
                (health.height, health.risen_at.map(|risen| (risen - start).as_secs()))
            };
            assert_eq!((seen, since), (height, Some(risen_at)), "height number {at}");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn timeouts_and_requested_pauses_mark_the_endpoint_silent() {
        let pause = Some(Duration::from_secs(3));
        let cases = [
            (CallFailure::TimedOut, true, 500),
            (CallFailure::Status { status: 503, retry_after: pause }, true, 3_000),
            (CallFailure::Status { status: 503, retry_after: None }, false, 500),
            (CallFailure::NotJsonRpc, false, 500),
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
    async fn malformed_answer_is_noted_as_failure() {
        let endpoint = endpoint();
        endpoint.note_failure(&CallFailure::TimedOut);
        assert!(endpoint.health().cooling_until.is_none(), "a timeout is noted by the call itself");
        endpoint.note_failure(&CallFailure::Malformed("eth_chainId"));
        assert!(!endpoint.health().is_healthy(Instant::now()));
    }
}
