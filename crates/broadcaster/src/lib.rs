//! The broadcasting stage on AWS and BSC nodes: send, watch, settle, publish, sweep.
//!
//! Takes pokes and changes records through the driver in `signpost_txmgr::broadcaster`. Never signs.
//!
//! Read in this order: [`chain`](mod@chain), [`mod@lanes`], the driver itself, and [`function`], which
//! hosts it in Lambda.
//!
//! **Architecture invariant:** does not depend on KMS.

pub mod chain;
pub mod function;
pub mod lanes;

use std::time::Duration;

use signpost_aws::sns::SnsOutcomeTopic;
use signpost_aws::sqs::{SqsBroadcastQueue, SqsResignQueue};
use signpost_aws::store::DynamoStore;
use signpost_bsc::chain::BscChain;
use signpost_host::config::BroadcasterSettings;
use signpost_host::session::Session;
use signpost_host::start::{ChainSubject, StartError, retention_ms};
use signpost_host::{error_chain, ports};
use signpost_txmgr::broadcaster::{Broadcaster, BroadcasterConfig};
use signpost_txmgr::machine::Tuning;
use signpost_txmgr::ports::Chain as _;
use signpost_txmgr::units::ChainId;

pub use self::chain::chain;
use self::lanes::Lanes;

/// BSC's block interval: there is nothing new to read sooner.
const POLL_MS: u64 = 450;
/// Concurrent store writes within one round of a lane.
const WRITE_CONCURRENCY: usize = 16;

/// The stage over the real ports.
pub type RealLanes = Lanes<DynamoStore, BscChain, SqsResignQueue, SnsOutcomeTopic, SqsBroadcastQueue>;

/// Creates the stage and makes the checks that are possible before the first message: the chain of the nodes, and that
/// of the registered accounts.
pub async fn lanes(session: &Session<impl BroadcasterSettings>) -> Result<RealLanes, StartError> {
    session.config.chain().warn_of_clear();
    let chain = chain(session)?;
    let wanted = session.config.chain_id();
    match chain.chain_id().await {
        Ok(found) if found.0 != wanted => {
            return Err(StartError::WrongChain { wanted, subject: ChainSubject::Node, found });
        }
        Ok(_) => {}
        // Nodes may be down for a while; each one's chain id is checked again before it is used.
        Err(error) => {
            tracing::warn!(error = error_chain(&error), "no node answered with its chain id; it is checked again");
        }
    }
    let timing = session.config.timing();
    let tuning = Tuning {
        rebroadcast_after_ms: timing.rebroadcast_after_ms.unwrap_or(Tuning::BSC.rebroadcast_after_ms),
        bump_after_ms: timing.bump_after_ms.unwrap_or(Tuning::BSC.bump_after_ms),
        two_verdicts: session.config.chain().two_verdicts,
        ..Tuning::BSC
    };
    let config = BroadcasterConfig {
        chain_id: ChainId(wanted),
        tuning,
        window: BroadcasterConfig::WINDOW,
        retention_ms: retention_ms(&session.config),
        write_concurrency: WRITE_CONCURRENCY,
    };
    let (store, topic) = (ports::store(session), ports::topic(session));
    let broadcaster = Broadcaster::new(store, chain, ports::resign_queue(session), topic, config);
    broadcaster.check_accounts().await?;
    Ok(Lanes {
        broadcaster,
        queue: ports::broadcast_queue(session),
        poll: Duration::from_millis(timing.poll_ms.unwrap_or(POLL_MS)),
    })
}
