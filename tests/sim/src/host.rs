//! What hosts the drivers in a trial: takes messages, calls a driver, acknowledges what is done.
//!
//! The same order as in the worker and the Lambda functions. Read next: [`crate::simulation`].

use futures_util::future::join_all;
use signpost_txmgr::broadcaster::{Lane, account_of};
use signpost_txmgr::fake::MemoryQueue;
use signpost_txmgr::ports::BroadcastQueue;
use signpost_txmgr::signer::{Delivery, Disposition};
use signpost_txmgr::units::AccountKey;
use signpost_txmgr::wire::{LanePoke, SignerPoke};

use crate::mutants::Mutant;
use crate::stage::{broken_off, within};
use crate::world::{TrialBroadcaster, TrialSigner, World};

/// Messages taken at once.
const BATCH: usize = 10;
/// Time between rounds while something moves: a block.
pub const ROUND_MS: u64 = 450;
/// Longest time between rounds.
pub const IDLE_MS: u64 = 5_000;
/// A pass ends after so long and pokes itself: inside the queue's visibility timeout.
const PASS_MS: u64 = 20_000;
/// A round that is not through by then is broken off, as at a function's time limit.
const BREAK_OFF_MS: u64 = 24_000;

/// What may be polled as often as it likes.
pub const UNBROKEN: u64 = u64::MAX;

/// One batch of the signing queue; whether there was any.
pub async fn serve_signing(world: &World, signer: &TrialSigner) -> bool {
    serve_signing_within(world, signer, UNBROKEN).await
}

/// The same, broken off after so many polls, as at a function's time limit: then all of it comes again.
pub async fn serve_signing_within(world: &World, signer: &TrialSigner, polls: u64) -> bool {
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
    let Some(dispositions) = broken_off(signer.handle(&deliveries, world.clock.now()), polls).await else {
        for message in &messages {
            give_back(world, queue, message.handle).await;
        }
        return true;
    };
    assert_eq!(dispositions.len(), messages.len(), "one disposition per delivery");
    for (message, disposition) in messages.iter().zip(dispositions) {
        acknowledge(world, queue, message.handle, disposition).await;
    }
    true
}

async fn acknowledge(world: &World, queue: &MemoryQueue, handle: u64, disposition: Disposition) {
    match disposition {
        // A lost acknowledgement is a redelivery.
        Disposition::Done => drop(queue.delete(handle).await),
        Disposition::Retry => give_back(world, queue, handle).await,
    }
}

/// At once, after a while, or when its time of visibility is over.
async fn give_back(world: &World, queue: &MemoryQueue, handle: u64) {
    let _ = match world.retry_after_ms {
        0 => queue.release(handle).await,
        after_ms => queue.extend(handle, after_ms).await,
    };
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
        acknowledge(world, queue, message.handle, disposition).await;
    }
    true
}

/// One batch of the broadcast queue: a pass over each of its lanes, all at once, each broken off after so many polls;
/// whether there was any. All are acknowledged when the last is through, as a Lambda function does.
pub async fn serve_broadcast(world: &World, broadcaster: &TrialBroadcaster, batch: usize, polls: u64) -> bool {
    let queue = &world.queues.broadcast;
    let Ok(messages) = queue.receive(batch).await else { return false };
    if messages.is_empty() {
        return false;
    }
    let mut accounts: Vec<AccountKey> = Vec::new();
    for message in &messages {
        let poke: LanePoke = serde_json::from_str(&message.body).expect("only our own pokes");
        let account = account_of(&poke).expect("only our own pokes");
        if !accounts.contains(&account) {
            accounts.push(account);
        }
    }
    let passes = accounts.into_iter().map(|account| async move {
        let pass = Box::pin(within(&world.prompter, BREAK_OFF_MS, pass(world, broadcaster, account)));
        if broken_off(pass, polls).await.flatten().is_none() {
            ask_again(world, account).await;
        }
    });
    join_all(passes).await;
    for message in messages {
        let _ = queue.delete(message.handle).await;
    }
    true
}

async fn ask_again(world: &World, account: AccountKey) {
    let cause = format!("goes on at {}", world.clock.now());
    let _ = world.queues.poke_lanes(&[LanePoke { account: account.to_string(), cause }]).await;
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
            return ask_again(world, account).await;
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
