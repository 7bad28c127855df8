//! The worker: the two drivers in one process or in two, fed by SQS.
//!
//! Guarantees: concurrency is bounded; a message stays invisible to others while it is worked on; on stop, messages in
//! progress are finished or returned to the queue. A crash loses nothing: a message that was not deleted is
//! redelivered, and a stored record is resumed.
//!
//! Read next: `signpost_host::consumer`, `signpost_signer::handlers`, `signpost_broadcaster::lanes`.

use std::sync::Arc;
use std::time::Duration;

use signpost_broadcaster::RealLanes;
use signpost_host::consumer::{Limits, RetryAfter, Stop, consume};
use signpost_host::session::Session;
use signpost_host::start::{StartError, policies};
use signpost_signer::RealSigner;
use signpost_signer::guard::Guard;
use signpost_signer::handlers::{Resigning, Signing};

use crate::config::Config;
use crate::ports;

/// How often all lanes are visited even if no message arrives: once a minute. A lost poke delays a request by no more.
const SWEEP_MS: u64 = 60_000;

/// The stage that a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    /// Accepts and signs. Contacts no node.
    Signer,
    /// Sends, watches, settles and publishes. Does not call KMS.
    Broadcaster,
    /// Both stages.
    All,
}

/// A worker that passed its start checks and is not running yet.
#[derive(Debug)]
pub struct Worker {
    session: Session,
    signer: Option<Arc<RealSigner>>,
    lanes: Option<Arc<RealLanes>>,
}

impl Worker {
    /// Checks what can be checked before the first message: the policy, the accounts' keys, the nodes' chain.
    pub async fn new(session: Session, stage: Stage) -> Result<Self, StartError> {
        let signer = match stage {
            Stage::Signer | Stage::All => {
                let policies = policies(&session.config.policy_file)?;
                let Config { seal, accounts, chain, .. } = &session.config;
                let guard = Guard::read(&session.sdk, chain.chain_id, seal.as_ref(), accounts.as_ref()).await?;
                Some(Arc::new(signpost_signer::signer(&session, policies, guard).await?))
            }
            Stage::Broadcaster => None,
        };
        let lanes = match stage {
            Stage::Broadcaster | Stage::All => Some(Arc::new(signpost_broadcaster::lanes(&session).await?)),
            Stage::Signer => None,
        };
        Ok(Self { session, signer, lanes })
    }

    /// Works until the stop signal; returns when every message in progress is finished or returned to its queue.
    pub async fn run(self, stop: Stop) {
        let Config { queues, worker, timing, .. } = &self.session.config;
        let held = Duration::from_secs(worker.visibility_s);
        let limits = |at_once: u64, retry_after| Limits { at_once: whole(at_once), held, by_group: false, retry_after };
        let inbox = |url: &str| Arc::new(ports::inbox(&self.session, url));
        let signing = async {
            let Some(signer) = &self.signer else { return };
            let at_once = worker.signer_concurrency;
            let (requests, asks) = (Signing(Arc::clone(signer)), Resigning(Arc::clone(signer)));
            let [as_requests, as_pokes] = [RetryAfter::REQUESTS, RetryAfter::POKES].map(|it| limits(at_once, it));
            let requests = consume(inbox(&queues.signing_url), Arc::new(requests), as_requests, stop.clone());
            let asks = consume(inbox(&queues.resign_url), Arc::new(asks), as_pokes, stop.clone());
            tokio::join!(requests, asks);
        };
        let broadcasting = async {
            let Some(lanes) = &self.lanes else { return };
            let limits = Limits { by_group: true, ..limits(worker.broadcaster_concurrency, RetryAfter::POKES) };
            let passes = consume(inbox(&queues.broadcast_url), Arc::clone(lanes), limits, stop.clone());
            let every = Duration::from_millis(timing.sweep_ms.unwrap_or(SWEEP_MS));
            tokio::join!(passes, lanes.sweep(every, &stop));
        };
        tokio::join!(signing, broadcasting);
    }
}

fn whole(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
