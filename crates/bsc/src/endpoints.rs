//! Several endpoints with their health: which one to read from, which ones to send to, and whom to
//! leave in peace for a while.
//!
//! An endpoint that failed is left alone for twice as long each time; one that limits our rate for
//! as long as it says, and longer if it does so again at once (`limit.rs`). When none is well, every
//! call first asks those that failed whether they are back, and goes on with the first that is: the
//! end of an outage is seen by the next call. One whose newest block is behind the others' is read
//! from only when no better one is left. Private endpoints are sent to and never read from. Never
//! decides what an answer means for a transaction.
//!
//! ## Guarantees
//! * No public endpoint is used before it said that it is of our chain. Private ones cannot be asked; a
//!   transaction names its chain itself (EIP-155).
//! * A read tries at most three endpoints, a send each endpoint once at most.
//! * An endpoint that limits our rate is left alone until it said, even if no other is left.
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
use crate::rpc::{Failure, RpcClient, need};

/// Endpoints one read tries, the same one twice if it is the only one: a kept connection may
/// have died meanwhile.
const READ_TRIES: usize = 3;

/// An answer to the question for the height, or whether one is back, that comes later is not waited for.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// A head that has not risen for so long makes the others be asked for theirs: six blocks, or a validator that is away.
const STILL: Duration = Duration::from_secs(3);

/// An endpoint that was contradicted about something final is read from last for so long.
const DOUBTED_FOR: Duration = Duration::from_secs(30);

/// To whom a transaction is handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendTo {
    /// To every endpoint that is well: the way to get into blocks soonest.
    All,
    /// To the first that is well, and what it did not take to the next one: as sure, and cheaper where the first is
    /// good.
    First,
}

/// Every endpoint is to be left alone for now.
#[derive(Debug, thiserror::Error)]
#[error("every endpoint limits our rate at the moment")]
pub struct AllLimited;

/// The endpoints, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct Endpoints {
    /// The public ones.
    list: Vec<Endpoint>,
    private: Vec<Endpoint>,
    chain_id: ChainId,
    send_to: SendTo,
    max_lag_blocks: u64,
    probe_every: Duration,
    probed_at: Mutex<Option<Instant>>,
    /// When it was last asked who is back. One asks, those that come meanwhile wait.
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

    /// The same, with private endpoints beside them.
    pub(crate) fn with_private(self, private: Vec<Endpoint>) -> Self {
        Self { private, ..self }
    }

    /// Asks the best endpoint, then the next ones, until `ask` has an answer.
    pub(crate) async fn read<'a, T, F, A>(&'a self, operation: &'static str, ask: F) -> Result<T, PortError>
    where
        F: Fn(&'a Endpoint) -> A + Send + Sync,
        A: Future<Output = Result<T, Failure>> + Send,
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

    /// The same, of whatever chain the endpoint is; if none is well, of the one that will be soonest.
    pub(crate) async fn read_unverified<'a, T, F, A>(&'a self, operation: &'static str, ask: F) -> Result<T, PortError>
    where
        F: Fn(&'a Endpoint) -> A + Send + Sync,
        A: Future<Output = Result<T, Failure>> + Send,
        T: Send,
    {
        let mut candidates = self.to_read(Instant::now());
        if candidates.is_empty() {
            candidates.extend(self.soonest(Instant::now()));
        }
        ask_in_turn(operation, candidates, ask).await
    }

    /// The endpoints to send to now, in order, each verified or with the reason why not.
    pub(crate) async fn to_send(&self) -> Vec<(&Endpoint, Result<(), Failure>)> {
        let mut candidates = self.well(Instant::now());
        if candidates.is_empty() {
            if let Err(failures) = self.revive().await {
                return failures.into_iter().map(|(endpoint, failure)| (endpoint, Err(failure))).collect();
            }
            candidates = self.well(Instant::now());
        }
        let verified = join_all(candidates.iter().map(|endpoint| endpoint.verify(self.chain_id))).await;
        candidates.into_iter().zip(verified).collect()
    }

    /// The private endpoints to send to now, in order. Nothing can be asked of them but to take a transaction,
    /// so when none is well those that failed are asked that.
    pub(crate) fn to_send_privately(&self) -> Vec<(&Endpoint, Result<(), Failure>)> {
        let now = Instant::now();
        let not_limited = self.private.iter().filter(|endpoint| !endpoint.health().is_limited(now));
        let (well, failed): (Vec<_>, Vec<_>) = not_limited.partition(|endpoint| endpoint.health().is_well(now));
        let targets = if well.is_empty() { failed } else { well };
        targets.into_iter().map(|endpoint| (endpoint, Ok(()))).collect()
    }

    pub(crate) fn send_to(&self) -> SendTo {
        self.send_to
    }

    fn well(&self, now: Instant) -> Vec<&Endpoint> {
        self.list.iter().filter(|endpoint| endpoint.health().is_well(now)).collect()
    }

    /// Those that are well: the ones that are not behind, then the others.
    ///
    /// A height is compared once, when it is new. The endpoint that is read from tells its height more often than the
    /// others, and what it has later does not show that another is behind.
    fn to_read(&self, now: Instant) -> Vec<&Endpoint> {
        let well = self.well(now);
        let best = well.iter().map(|it| it.health().height).max().unwrap_or(0);
        let (fresh, behind): (Vec<_>, Vec<_>) = well.into_iter().partition(|endpoint| {
            let mut health = endpoint.health();
            let height = health.height;
            let lag = *health.lag_blocks.get_or_insert_with(|| best.saturating_sub(height));
            lag <= self.max_lag_blocks && health.doubted_until.is_none_or(|until| until <= now)
        });
        fresh.into_iter().chain(behind).collect()
    }

    /// How many public endpoints are configured.
    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }

    /// The endpoints to read from now, the best first.
    pub(crate) fn readable(&self) -> Vec<&Endpoint> {
        self.to_read(Instant::now())
    }

    /// Those but the one of this name, for a word of their own: at last such as failed a moment ago, unless by
    /// silence: the question costs them little and us no time.
    pub(crate) fn others(&self, name: &str) -> Vec<&Endpoint> {
        let now = Instant::now();
        let may_be_back = self.list.iter().filter(|endpoint| {
            let health = endpoint.health();
            !health.is_well(now) && !health.is_limited(now) && !health.is_silent
        });
        self.to_read(now).into_iter().chain(may_be_back).filter(|endpoint| endpoint.name() != name).collect()
    }

    /// Lets another endpoint lead for a while: one was contradicted, and which of the two is right is not known.
    pub(crate) fn doubt(&self, name: &str) {
        let until = Instant::now().checked_add(DOUBTED_FOR);
        for endpoint in self.list.iter().filter(|endpoint| endpoint.name() == name) {
            endpoint.health().doubted_until = until;
        }
    }

    /// One question to one endpoint, that it is of our chain first; what went wrong is noted.
    pub(crate) async fn ask_one<'a, T, F, A>(&'a self, endpoint: &'a Endpoint, ask: F) -> Result<T, Failure>
    where
        F: FnOnce(&'a Endpoint) -> A + Send,
        A: Future<Output = Result<T, Failure>> + Send,
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

    /// Asks all that failed, at once, whether they are back; the first that says so is well again. The error
    /// holds why not; nothing if every endpoint limits our rate.
    ///
    /// Silence is no new failure: one that is slow is asked with its whole time when its pause is over.
    async fn revive(&self) -> Result<(), Vec<(&Endpoint, Failure)>> {
        let came = Instant::now();
        let mut revived_at = self.revived_at.lock().await;
        let now = Instant::now();
        if !self.well(now).is_empty() {
            return Ok(());
        }
        let failed = self.list.iter().filter(|endpoint| !endpoint.health().is_limited(now));
        if revived_at.is_some_and(|at| at > came) {
            // While we waited for our turn: this is the answer to us too.
            return Err(failed.map(|endpoint| (endpoint, Failure::NotAsked)).collect());
        }
        let mut asked: FuturesUnordered<_> = failed
            .map(|endpoint| async move {
                let said = tokio::time::timeout(PROBE_TIMEOUT, endpoint.ask_chain(self.chain_id)).await;
                (endpoint, said.unwrap_or(Err(Failure::TimedOut)))
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

    /// Asks all for their height, once in a while: an endpoint that fell behind does not say so.
    async fn probe(&self) {
        let now = Instant::now();
        if self.list.len() < 2 {
            return;
        }
        // The head of the one that is read from stands still: does another's move?
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

/// Asks the endpoints in turn; an only one twice.
async fn ask_in_turn<'a, T, F, A>(
    operation: &'static str,
    candidates: Vec<&'a Endpoint>,
    ask: F,
) -> Result<T, PortError>
where
    F: Fn(&'a Endpoint) -> A + Send + Sync,
    A: Future<Output = Result<T, Failure>> + Send,
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
    // The first endpoint is the best one; why the others failed is in the log.
    let source: Box<dyn Error + Send + Sync> = match failures.into_iter().next() {
        Some(failure) => Box::new(failure),
        None => Box::new(AllLimited),
    };
    PortError { operation, happened, throttled, source }
}

/// The transaction count of an address at a block or tag.
pub(crate) async fn count_at(endpoint: &Endpoint, address: Address, block: Value) -> Result<u64, Failure> {
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
        // Again at once; and then for a part of a batch, of which another part was answered.
        let limited = || Err(Failure::RateLimited { retry_after: None });
        for (answers, pause_ms) in [(vec![limited()], 2_000), (vec![Ok(json!(1)), limited()], 1_000)] {
            endpoint.note(&answers);
            tokio::time::advance(Duration::from_millis(pause_ms - 1)).await;
            assert!(readable(&endpoints).is_empty(), "{pause_ms} ms");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(readable(&endpoints).len(), 1);
        }
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

    #[tokio::test(start_paused = true)]
    async fn a_height_told_earlier_does_not_make_an_endpoint_behind() {
        let endpoints = endpoints(3);
        let [first, second, third] = endpoints.list.as_slice() else { panic!("three endpoints") };
        for (endpoint, height) in [(first, 100), (second, 89), (third, 100)] {
            endpoint.note_height(height);
        }
        assert_eq!(readable(&endpoints), ["node0.example", "node2.example", "node1.example"]);
        // The first is read from. It is contradicted: the third leads, and the second stays behind.
        first.note_height(120);
        assert_eq!(readable(&endpoints), ["node0.example", "node2.example", "node1.example"]);
        endpoints.doubt(first.name());
        assert_eq!(readable(&endpoints), ["node2.example", "node0.example", "node1.example"]);
        // Asked again, the third has got no further.
        third.note_height(100);
        assert_eq!(readable(&endpoints), ["node0.example", "node1.example", "node2.example"]);
    }
}
