//! The stage as a Lambda function: passes over lanes, and the sweep as a scheduled task.
//!
//! A pass ends before the function's deadline and requests the next pass on the queue; then its message is
//! done. Read next: [`signpost_host::lambda`].

use std::sync::Arc;

use signpost_aws::secrets;
use signpost_host::config::environment::{BroadcasterEnvironment, DeployedBroadcaster, Variables};
use signpost_host::config::{BroadcasterSettings as _, StageSettings as _};
use signpost_host::consumer::{Handler, Stop};
use signpost_host::error_chain;
use signpost_host::lambda::event::is_queue;
use signpost_host::lambda::time::TimeLeft;
use signpost_host::lambda::{Failed, Function, Swept, batch, sdk};
use signpost_host::session::Session;
use signpost_host::start::StartError;
use signpost_txmgr::inbox::{Disposition, Incoming};

use crate::RealLanes;
use crate::lanes::Bounds;

/// The task of the schedule, `{"signpost": "sweep"}`.
const SWEEP: &str = "sweep";

/// The started function.
#[derive(Debug)]
pub struct BroadcastingFunction {
    config: DeployedBroadcaster,
    lanes: Arc<RealLanes>,
}

/// Reads the environment and the nodes' secret, and checks the nodes' chain id.
pub async fn start() -> Result<BroadcastingFunction, StartError> {
    let environment = BroadcasterEnvironment::read(&Variables::of_process()).map_err(StartError::Configuration)?;
    let sdk = sdk::from_environment().map_err(StartError::Configuration)?;
    let secret = match environment.secret_arn() {
        Some(arn) => Some(secrets::text(&sdk, arn).await.map_err(|error| StartError::Secret(error_chain(&error)))?),
        None => None,
    };
    let config = environment.with_nodes(secret.as_deref()).map_err(StartError::Configuration)?;
    let session = Session { config, sdk };
    let lanes = crate::lanes(&session).await?;
    let Session { config, .. } = session;
    tracing::info!(chain_id = config.chain_id(), chain = ?config.chain(), "the broadcaster is ready");
    Ok(BroadcastingFunction { config, lanes: Arc::new(lanes) })
}

/// The handler of one invocation: passes within its time.
#[derive(Debug)]
struct Passes {
    lanes: Arc<RealLanes>,
    bounds: Bounds,
}

impl Handler for Passes {
    async fn handle(&self, messages: &[Incoming], stop: &Stop) -> Vec<Disposition> {
        Box::pin(self.lanes.passes(messages, self.bounds, stop)).await
    }
}

impl Function for BroadcastingFunction {
    async fn batch(&self, queue_arn: &str, messages: Vec<Incoming>, time: TimeLeft, stop: &Stop) -> Vec<Disposition> {
        if !is_queue(queue_arn, &self.config.queues().broadcast_url) {
            tracing::error!(
                queue_arn,
                "records from a queue other than SIGNPOST_BROADCAST_QUEUE_URL; they are returned"
            );
            return vec![Disposition::Retry; messages.len()];
        }
        let handler = Arc::new(Passes { lanes: Arc::clone(&self.lanes), bounds: bounds(time) });
        batch::handle(&handler, &messages, true, time, stop).await
    }

    async fn scheduled(&self, task: &str, time: TimeLeft) -> Option<Result<Swept, Failed>> {
        (task == SWEEP).then_some(())?;
        Some(self.sweep(time).await)
    }
}

/// The bounds of a pass. A round is aborted early enough to request the next pass, which is one message.
fn bounds(time: TimeLeft) -> Bounds {
    let (finish, abort) = (time.to_finish(), time.to_abort());
    Bounds {
        hand_on: finish.min(Bounds::WORKER.hand_on),
        abort: Some(finish.saturating_add(abort.saturating_sub(finish).checked_div(2).unwrap_or_default())),
    }
}

impl BroadcastingFunction {
    /// First sends the pokes, which lanes wait for; then checks idle lanes until the time is over.
    async fn sweep(&self, time: TimeLeft) -> Result<Swept, Failed> {
        let poking = tokio::time::timeout(time.to_abort(), self.lanes.poke_open());
        let (poked, idle) = match poking.await {
            Ok(Ok(swept)) => swept,
            Ok(Err(error)) => return Err(Failed::Task(error_chain(&error))),
            Err(_elapsed) => return Err(Failed::Task("the accounts were not read in time".to_owned())),
        };
        if tokio::time::timeout(time.to_finish(), self.lanes.look_at_idle(&idle)).await.is_err() {
            tracing::warn!("some idle lanes were not checked; the next sweep checks them");
        }
        Ok(Swept { poked })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn pass_requests_the_next_one_before_its_deadline() {
        for total_s in [1, 10, 60, 900] {
            let time = TimeLeft::of(Duration::from_secs(total_s));
            let Bounds { hand_on, abort } = bounds(time);
            let abort = abort.unwrap();
            assert!(hand_on < abort, "{hand_on:?} {abort:?}");
            assert!(abort < time.to_abort(), "{abort:?} of {total_s} s");
        }
    }
}
