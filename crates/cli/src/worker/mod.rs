//! The worker: the two drivers, hosted in one process or in two, fed by SQS.
//!
//! Guarantees: bounded concurrency; messages are held while they are worked on; at a stop what is in
//! hand is finished or given back. A crash at any moment loses nothing: what was not deleted comes
//! again, and what was stored is resumed.
//!
//! Read next: [`inbox`], [`consumer`], [`handlers`].

pub mod consumer;
pub mod handlers;
pub mod inbox;

use std::sync::Arc;
use std::time::Duration;

use signpost_aws::kms::KmsKeys;
use signpost_aws::sns::SnsOutcomeTopic;
use signpost_aws::sqs::{SqsBroadcastQueue, SqsResignQueue};
use signpost_aws::store::DynamoStore;
use signpost_bsc::chain::BscChain;
use signpost_txmgr::broadcaster::{Broadcaster, BroadcasterConfig};
use signpost_txmgr::machine::Tuning;
use signpost_txmgr::policy::Policies;
use signpost_txmgr::ports::Chain as _;
use signpost_txmgr::request::NetworkRules;
use signpost_txmgr::signer::{Signer, SignerConfig};
use signpost_txmgr::units::{ChainId, Wei};

use self::consumer::{Limits, Stop, consume};
use self::handlers::{Lanes, Resigning, Signing};
use crate::command::{CommandError, Session, told};
use crate::config::Config;
use crate::world;

const DAY_MS: u64 = 86_400_000;
/// BSC's block time: nothing new can be seen sooner.
const POLL_MS: u64 = 450;
/// Once a minute, as the design has it.
const SWEEP_MS: u64 = 60_000;
/// Signatures asked for at once within one batch of ten; KMS takes 10 ms and allows hundreds a second.
const SIGN_CONCURRENCY: usize = 10;
/// Store writes at once within one round over a lane.
const WRITE_CONCURRENCY: usize = 16;

/// Which half of the way a process works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    /// Accepts and signs. Talks to no node.
    Signer,
    /// Sends, watches, settles, publishes. Talks to no KMS.
    Broadcaster,
    /// Both.
    All,
}

type RealSigner = Signer<DynamoStore, KmsKeys, SqsBroadcastQueue, SnsOutcomeTopic>;
type RealLanes = Lanes<DynamoStore, BscChain, SqsResignQueue, SnsOutcomeTopic, SqsBroadcastQueue>;

/// A worker that was checked and has not begun.
#[derive(Debug)]
pub struct Worker {
    session: Session,
    signer: Option<Arc<RealSigner>>,
    lanes: Option<Arc<RealLanes>>,
}

impl Worker {
    /// Checks what can be checked before the first message: the policy, the accounts' keys, the chain
    /// of the nodes.
    pub async fn new(session: Session, stage: Stage) -> Result<Self, CommandError> {
        let signer = match stage {
            Stage::Signer | Stage::All => Some(Arc::new(signer(&session).await?)),
            Stage::Broadcaster => None,
        };
        let lanes = match stage {
            Stage::Broadcaster | Stage::All => Some(Arc::new(lanes(&session).await?)),
            Stage::Signer => None,
        };
        Ok(Self { session, signer, lanes })
    }

    /// Works until the order to stop; returns when everything in hand is finished or given back.
    pub async fn run(self, stop: Stop) {
        let Config { queues, worker, timing, .. } = &self.session.config;
        let held = Duration::from_secs(worker.visibility_s);
        let limits = |at_once: u64, by_group| Limits { at_once: whole(at_once), held, by_group };
        let inbox = |url: &str| Arc::new(world::inbox(&self.session, url));
        let signing = async {
            let Some(signer) = &self.signer else { return };
            let at_once = worker.signer_concurrency;
            let (requests, asks) = (Signing(Arc::clone(signer)), Resigning(Arc::clone(signer)));
            let requests =
                consume(inbox(&queues.signing_url), Arc::new(requests), limits(at_once, false), stop.clone());
            let asks = consume(inbox(&queues.resign_url), Arc::new(asks), limits(at_once, false), stop.clone());
            tokio::join!(requests, asks);
        };
        let broadcasting = async {
            let Some(lanes) = &self.lanes else { return };
            let limits = limits(worker.broadcaster_concurrency, true);
            let passes = consume(inbox(&queues.broadcast_url), Arc::clone(lanes), limits, stop.clone());
            let every = Duration::from_millis(timing.sweep_ms.unwrap_or(SWEEP_MS));
            tokio::join!(passes, lanes.sweep(every, &stop));
        };
        tokio::join!(signing, broadcasting);
    }
}

async fn signer(session: &Session) -> Result<RealSigner, CommandError> {
    let config = &session.config;
    let path = &config.policy_file;
    let text = std::fs::read_to_string(path)
        .map_err(|source| CommandError::Policy { path: path.clone(), reason: source.to_string() })?;
    let policies = Policies::from_toml(&text)
        .map_err(|error| CommandError::Policy { path: path.clone(), reason: error.to_string() })?;
    let config = SignerConfig {
        chain_id: ChainId(config.chain.chain_id),
        policies,
        network: NetworkRules { fee_floor: Wei::from(config.chain.fee_floor_wei) },
        retention_ms: retention_ms(config),
        sign_concurrency: SIGN_CONCURRENCY,
    };
    let (store, keys) = (world::store(session), world::keys(session));
    let signer = Signer::new(store, keys, world::broadcast_queue(session), world::topic(session), config);
    signer.warm_up().await.map_err(|error| CommandError::Accounts(told(&error)))?;
    Ok(signer)
}

async fn lanes(session: &Session) -> Result<RealLanes, CommandError> {
    let chain = world::chain(session)?;
    let wanted = session.config.chain.chain_id;
    match chain.chain_id().await {
        Ok(found) if found.0 != wanted => {
            let text = format!("chain.chain_id is {wanted}, and the node is of chain {found}; correct one of them");
            return Err(CommandError::Input(text));
        }
        Ok(_) => {}
        // Nodes come and go; the chain is asked again before a node is used.
        Err(error) => tracing::warn!(error = told(&error), "no node says which chain it is of; they are asked again"),
    }
    let timing = session.config.timing;
    let tuning = Tuning {
        rebroadcast_after_ms: timing.rebroadcast_after_ms.unwrap_or(Tuning::BSC.rebroadcast_after_ms),
        bump_after_ms: timing.bump_after_ms.unwrap_or(Tuning::BSC.bump_after_ms),
        ..Tuning::BSC
    };
    let config = BroadcasterConfig {
        finality: session.config.chain.finality,
        tuning,
        window: BroadcasterConfig::WINDOW,
        retention_ms: retention_ms(&session.config),
        write_concurrency: WRITE_CONCURRENCY,
    };
    let (store, topic) = (world::store(session), world::topic(session));
    Ok(Lanes {
        broadcaster: Broadcaster::new(store, chain, world::resign_queue(session), topic, config),
        queue: world::broadcast_queue(session),
        poll: Duration::from_millis(timing.poll_ms.unwrap_or(POLL_MS)),
    })
}

fn retention_ms(config: &Config) -> u64 {
    config.retention_days.saturating_mul(DAY_MS)
}

fn whole(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
