//! The BSC gate: a JSON-RPC proxy that makes anvil behave like BSC v1.7.3, with the same rules, error messages and
//! codes, and that injects the faults of providers and nodes by script.
//!
//! Guarantees: a transaction that the gate accepts is forwarded unchanged to the node behind once it can be mined next
//! (a transaction behind a gap waits in the gate, because anvil cannot drop queued ones). A refused transaction is not
//! forwarded. The nodes of one gate share one pool and one chain, and differ only by their scripts. Does not guarantee:
//! blob transactions (type 3 is refused), the limits of a full pool (`txpool is full` is a fault), `txpool_*` answers
//! that include transactions waiting in the gate.
//!
//! Read in this order: `words` (error messages), `decode`, `rules` and `pool` (the checks), `chain` (sends), `view`
//! (reads), `market` and `reorg` (behaviour that anvil lacks), `fault` (all faults), `answers` and `odd` (their
//! effects), `node` (the listener).

mod answers;
mod chain;
mod decode;
mod fault;
mod market;
mod node;
mod odd;
mod pool;
mod refusal;
mod reorg;
mod rules;
mod upstream;
mod view;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use serde_json::Value;
use signpost_txmgr::units::Wei;
use tokio::task::JoinHandle;

use chain::Chain;
pub use fault::BscFault;
use node::Node;
pub use refusal::Refusal;
use reorg::Watch;
pub use rules::Limits;
use upstream::{Failure, Upstream};

use crate::control::Control;
use crate::http::{GateError, Served, client};
use crate::script::Script;

/// The configuration of a gate.
#[derive(Debug, Clone)]
pub struct BscGateConfig {
    /// The JSON-RPC URL of the node behind.
    pub upstream: String,
    /// The addresses to listen on, one for each node of the gate. Port 0 selects a free one.
    pub listen: Vec<SocketAddr>,
    /// The limits of the chain and its nodes.
    pub limits: Limits,
    /// Send orphaned transactions again after a reorg, as BSC's nodes do up to 64 blocks.
    pub reinject: bool,
    /// The random seed of the scripts; each further node has the next one.
    pub seed: u64,
}

impl BscGateConfig {
    /// A gate with one node on a free loopback port, with the limits of BSC.
    #[must_use]
    pub fn new(upstream: &str, chain_id: u64) -> Self {
        Self {
            upstream: upstream.to_owned(),
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            limits: Limits::of_chain(chain_id),
            reinject: false,
            seed: 0,
        }
    }

    /// The same with this number of nodes, on free loopback ports.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); nodes];
        self
    }
}

/// The gate did not reach the node behind, or could not read its answer.
#[derive(Debug, thiserror::Error)]
#[error("the node behind the gate failed: {0}")]
pub struct UpstreamError(String);

/// A running gate. Stops when dropped.
#[derive(Debug)]
pub struct BscGate {
    chain: Arc<Chain>,
    watch: Arc<Watch>,
    nodes: Vec<(Served, Control<BscFault>)>,
    watching: JoinHandle<()>,
}

impl BscGate {
    /// Starts to listen.
    pub async fn start(config: BscGateConfig) -> Result<Self, GateError> {
        let BscGateConfig { upstream, listen, limits, reinject, seed } = config;
        let chain = Arc::new(Chain::new(limits, Upstream::new(client()?, upstream)));
        let mut nodes = Vec::with_capacity(listen.len());
        for (address, seed) in listen.into_iter().zip(seed..) {
            let control = Control::new(seed);
            let node = Arc::new(Node { chain: chain.clone(), control: control.clone() });
            let router = Router::new().fallback(node::handle).with_state(node);
            nodes.push((Served::start(address, router).await?, control));
        }
        let watch = Arc::new(Watch::default());
        let watching = {
            let (watch, chain) = (watch.clone(), chain.clone());
            tokio::spawn(async move { watch.run(&chain, reinject).await })
        };
        Ok(Self { chain, watch, nodes, watching })
    }

    /// The JSON-RPC URL of the first node.
    #[must_use]
    pub fn url(&self) -> String {
        self.urls().swap_remove(0)
    }

    /// The JSON-RPC URL of every node.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|(served, _)| served.url()).collect()
    }

    /// Script and counts of the first node.
    #[must_use]
    pub fn control(&self) -> Control<BscFault> {
        self.control_of(0)
    }

    /// Script and counts of a node by its index, from 0.
    #[must_use]
    pub fn control_of(&self, node: usize) -> Control<BscFault> {
        self.nodes.get(node).expect("the gate has this node").1.clone()
    }

    /// Sets the same script for every node, each with its own seed.
    pub fn set_all(&self, script: &Script<BscFault>) {
        for ((_, control), step) in self.nodes.iter().zip(0_u64..) {
            let seed = script.seed.map(|seed| seed.wrapping_add(step));
            control.set(Script { seed, rules: script.rules.clone() });
        }
    }

    /// Sets the price below which validators mine nothing. Cheaper transactions stay known and pending.
    pub async fn set_mining_floor(&self, floor: Wei) -> Result<(), UpstreamError> {
        self.chain.set_mining_floor(floor.0).await.map_err(UpstreamError::from)
    }

    /// The price, and the number of pooled and of held transactions.
    pub async fn pool(&self) -> Result<Value, UpstreamError> {
        self.chain.show().await.map_err(UpstreamError::from)
    }

    /// Checks the chain now and sends orphaned transactions again. Returns their number. With `reinject` the gate does
    /// this by itself.
    pub async fn look_for_reorg(&self) -> Result<usize, UpstreamError> {
        self.watch.look(&self.chain).await.map_err(UpstreamError::from)
    }

    /// Stops listening and closes open connections.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for BscGate {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl From<Failure> for UpstreamError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self(refusal.to_string()),
            Failure::Down(reason) => Self(reason),
        }
    }
}
