//! What hosts the drivers in a trial: takes messages, calls a driver, acknowledges what is done.
//!
//! The same order as in the worker and the Lambda functions. Read next: [`crate::simulation`].

use signpost_txmgr::broadcaster::{Lane, account_of};
use signpost_txmgr::ports::BroadcastQueue;
use signpost_txmgr::signer::{Delivery, Disposition};
use signpost_txmgr::units::AccountKey;
use signpost_txmgr::wire::{LanePoke, SignerPoke};

use crate::mutants::Mutant;
use crate::world::{TrialBroadcaster, TrialSigner, World};

/// Messages taken at once.
const BATCH: usize = 10;
/// Time between rounds while something moves: a block.
pub const ROUND_MS: u64 = 450;
/// Longest time between rounds.
pub const IDLE_MS: u64 = 5_000;
/// A pass ends after so long and pokes itself: inside the queue's visibility timeout.
const PASS_MS: u64 = 20_000;

/// One batch of the signing queue; whether there was any.
pub async fn serve_signing(world: &World, signer: &TrialSigner) -> bool {
    let queue = &world.queues.signing;
    let Ok(messages) = queue.receive(BATCH).await else { return false };
    if messages.is_empty() {
        return false;
    }
    if world.mutant == Some(Mutant::AcknowledgesBeforeEffect) {
        for message in &messages {
            let _ = queue.delete(message.handle).await;
        }
    }
    let deliveries: Vec<_> = messages
        .iter()
        .map(|message| Delivery {
            message_id: message.message_id.clone(),
            group: message.group.clone(),
            sender: message.sender.clone(),
            trace: None,
            body: message.body.clone(),
        })
        .collect();
    let dispositions = signer.handle(&deliveries, world.clock.now()).await;
    assert_eq!(dispositions.len(), messages.len(), "one disposition per delivery");
    for (message, disposition) in messages.iter().zip(dispositions) {
        // A lost acknowledgement is a redelivery.
        let _ = match disposition {
            Disposition::Done => queue.delete(message.handle).await,
            Disposition::Retry => queue.release(message.handle).await,
        };
    }
    true
}

/// One batch of the resign queue; whether there was any.
pub async fn serve_resign(world: &World, signer: &TrialSigner) -> bool {
    let queue = &world.queues.resign;
    let Ok(messages) = queue.receive(BATCH).await else { return false };
    if messages.is_empty() {
        return false;
    }
    let asks: Vec<SignerPoke> =
        messages.iter().map(|message| serde_json::from_str(&message.body).expect("only our own pokes")).collect();
    let dispositions = signer.handle_asks(&asks, world.clock.now()).await;
    for (message, disposition) in messages.iter().zip(dispositions) {
        let _ = match disposition {
            Disposition::Done => queue.delete(message.handle).await,
            Disposition::Retry => queue.release(message.handle).await,
        };
    }
    true
}

/// One message of the broadcast queue: a pass over its lane; whether there was any.
pub async fn serve_broadcast(world: &World, broadcaster: &TrialBroadcaster) -> bool {
    let queue = &world.queues.broadcast;
    let Ok(messages) = queue.receive(1).await else { return false };
    let Some(message) = messages.first() else { return false };
    let poke: LanePoke = serde_json::from_str(&message.body).expect("only our own pokes");
    pass(world, broadcaster, account_of(&poke).expect("only our own pokes")).await;
    let _ = queue.delete(message.handle).await;
    true
}

/// Rounds over one lane until nothing is open, or time is up.
async fn pass(world: &World, broadcaster: &TrialBroadcaster, account: AccountKey) {
    let started = world.clock.now();
    let mut lane = Lane::new(account, started);
    let mut wait_ms = ROUND_MS;
    loop {
        let now = world.clock.now();
        match broadcaster.round(&mut lane, now).await {
            Ok(round) if round.open == 0 => return,
            Ok(round) if round.changed > 0 => wait_ms = ROUND_MS,
            // What waits for finality is looked at once per block, a silent node ever more rarely.
            Ok(round) if round.chain_seen => wait_ms = (wait_ms * 3 / 2).min(IDLE_MS / 4),
            Ok(_) | Err(_) => wait_ms = (wait_ms * 2).min(IDLE_MS),
        }
        let now = world.clock.now();
        if now.since(started) >= PASS_MS {
            let again = LanePoke { account: account.to_string(), cause: format!("goes on at {now}") };
            let _ = world.queues.poke_lanes(&[again]).await;
            return;
        }
        world.prompter.sleep(wait_ms).await;
    }
}

/// One sweep: pokes for every lane with open slots, then a look at the idle ones.
pub async fn sweep(world: &World, broadcaster: &TrialBroadcaster) {
    let Ok(sweep) = broadcaster.sweep(world.clock.now()).await else { return };
    if !sweep.pokes.is_empty() {
        let _ = world.queues.poke_lanes(&sweep.pokes).await;
    }
    broadcaster.look_at_idle(&sweep.idle, world.clock.now()).await;
}
