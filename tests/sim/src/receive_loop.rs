//! Hosts the drivers in a trial: receives messages, calls a driver, acknowledges finished messages.
//!
//! The same order as in the worker and the Lambda functions. Read next: [`crate::simulation`].

use std::pin::pin;

use futures_util::future::{Either, LocalBoxFuture, join_all, select};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use signpost_txmgr::broadcaster::{Finding, Lane, Question};
use signpost_txmgr::fake::MemoryQueue;
use signpost_txmgr::inbox::Disposition;
use signpost_txmgr::ports::BroadcastQueue;
use signpost_txmgr::units::AccountKey;
use signpost_txmgr::wire::{LanePoke, SignerPoke};

use crate::deployment::{Deployment, TrialBroadcaster, TrialSigner};
use crate::executor::{limit_polls, within};
use crate::mutants::Mutant;

/// Messages received at once.
const BATCH: usize = 10;
/// Time between rounds while something moves: a block.
pub const ROUND_MS: u64 = 450;
/// Longest time between rounds.
pub const IDLE_MS: u64 = 5_000;
/// A pass ends after this time and pokes its lane again: within the queue's visibility timeout.
const PASS_MS: u64 = 20_000;
/// A pass that has not ended by then is interrupted, as at a function's time limit.
const INTERRUPT_MS: u64 = 24_000;

/// A slow question to the nodes is abandoned after this time, as in the hosts of the real pass.
const QUESTION_MS: u64 = 20_000;

/// The slow questions of a lane that are being asked.
type Asking<'a> = FuturesUnordered<LocalBoxFuture<'a, Finding>>;

/// No limit of polls.
pub const UNLIMITED: u64 = u64::MAX;

/// Serves one batch of the signing queue; returns whether there was one.
pub async fn serve_signing(deployment: &Deployment, signer: &TrialSigner) -> bool {
    serve_signing_within(deployment, signer, UNLIMITED).await
}

/// The same, interrupted after `polls` polls, as at a function's time limit. Then the whole batch is redelivered.
pub async fn serve_signing_within(deployment: &Deployment, signer: &TrialSigner, polls: u64) -> bool {
    let queue = &deployment.queues.signing;
    let Ok(messages) = queue.receive_up_to(BATCH).await else { return false };
    if messages.is_empty() {
        return false;
    }
    if deployment.mutant == Some(Mutant::AcknowledgesBeforeEffect) {
        for message in &messages {
            let _ = queue.delete_one(&message.receipt).await;
        }
    }
    let Some(dispositions) = limit_polls(signer.handle(&messages, deployment.clock.now()), polls).await else {
        for message in &messages {
            give_back(deployment, queue, &message.receipt).await;
        }
        return true;
    };
    assert_eq!(dispositions.len(), messages.len(), "one disposition per delivery");
    for (message, disposition) in messages.iter().zip(dispositions) {
        acknowledge(deployment, queue, &message.receipt, disposition).await;
    }
    true
}

async fn acknowledge(deployment: &Deployment, queue: &MemoryQueue, receipt: &str, disposition: Disposition) {
    match disposition {
        // A lost acknowledgement is a redelivery.
        Disposition::Done => drop(queue.delete_one(receipt).await),
        Disposition::Retry => give_back(deployment, queue, receipt).await,
    }
}

/// Makes a message visible again, at once or after a while.
async fn give_back(deployment: &Deployment, queue: &MemoryQueue, receipt: &str) {
    let _ = match deployment.retry_after_ms {
        0 => queue.release(receipt).await,
        after_ms => queue.extend(receipt, after_ms).await,
    };
}

/// Serves one batch of the resign queue; returns whether there was one.
pub async fn serve_resign(deployment: &Deployment, signer: &TrialSigner) -> bool {
    let queue = &deployment.queues.resign;
    let Ok(messages) = queue.receive_up_to(BATCH).await else { return false };
    if messages.is_empty() {
        return false;
    }
    let asks: Vec<SignerPoke> =
        messages.iter().map(|message| serde_json::from_str(&message.body).expect("only our own pokes")).collect();
    let dispositions = signer.handle_asks(&asks, deployment.clock.now()).await;
    for (message, disposition) in messages.iter().zip(dispositions) {
        acknowledge(deployment, queue, &message.receipt, disposition).await;
    }
    true
}

/// Serves one batch of the broadcast queue: concurrent passes over its lanes, each interrupted after `polls` polls.
/// Returns whether there was a batch. All messages are acknowledged after the last pass, as in a Lambda function.
pub async fn serve_broadcast(
    deployment: &Deployment,
    broadcaster: &TrialBroadcaster,
    batch: usize,
    polls: u64,
) -> bool {
    let queue = &deployment.queues.broadcast;
    let Ok(messages) = queue.receive_up_to(batch).await else { return false };
    if messages.is_empty() {
        return false;
    }
    let mut accounts: Vec<AccountKey> = Vec::new();
    for message in &messages {
        let poke: LanePoke = serde_json::from_str(&message.body).expect("only our own pokes");
        let account = poke.account().expect("only our own pokes");
        if !accounts.contains(&account) {
            accounts.push(account);
        }
    }
    let passes = accounts.into_iter().map(|account| async move {
        let pass = Box::pin(within(&deployment.handle, INTERRUPT_MS, pass(deployment, broadcaster, account)));
        if limit_polls(pass, polls).await.flatten().is_none() {
            ask_again(deployment, account).await;
        }
    });
    join_all(passes).await;
    for message in messages {
        let _ = queue.delete_one(&message.receipt).await;
    }
    true
}

async fn ask_again(deployment: &Deployment, account: AccountKey) {
    let cause = format!("continues at {}", deployment.clock.now());
    let _ = deployment.queues.poke_lanes(&[LanePoke { account: account.to_string(), cause }]).await;
}

/// Runs rounds over one lane until nothing is open, or time is up. The order of the real pass, which is the broadcaster
/// crate's `Lanes::pass`: slow questions are asked beside the rounds, and each answer is stored by itself.
async fn pass(deployment: &Deployment, broadcaster: &TrialBroadcaster, account: AccountKey) {
    let started = deployment.clock.now();
    let mut lane = Lane::new(account, started);
    let mut wait_ms = ROUND_MS;
    let mut asking = Asking::new();
    loop {
        let mut found = Vec::new();
        let round = beside(&mut asking, &mut found, broadcaster.step(&mut lane, deployment.clock.now())).await;
        if deployment.mutant == Some(Mutant::LosesTurn) {
            for question in lane.take_questions() {
                found.push(ask(deployment, broadcaster, question).await);
            }
        }
        let concluded = conclude(deployment, broadcaster, &mut lane, found).await;
        asking.extend(questions(deployment, broadcaster, &mut lane));
        match round {
            Ok(round) if round.open == 0 && asking.is_empty() && concluded == 0 => return,
            Ok(round) if round.changed > 0 || concluded > 0 => wait_ms = ROUND_MS,
            // A slot that waits for finality is checked once per block, a silent node less and less often.
            Ok(round) if round.chain_seen => wait_ms = (wait_ms * 3 / 2).min(IDLE_MS / 4),
            Ok(_) | Err(_) => wait_ms = (wait_ms * 2).min(IDLE_MS),
        }
        if deployment.clock.now().since(started) >= PASS_MS {
            return ask_again(deployment, account).await;
        }
        if rest(deployment, broadcaster, &mut lane, &mut asking, wait_ms).await {
            wait_ms = ROUND_MS;
        }
    }
}

/// Waits for the next round, and stores findings meanwhile; returns whether a record changed.
async fn rest<'a>(
    deployment: &'a Deployment,
    broadcaster: &'a TrialBroadcaster,
    lane: &mut Lane,
    asking: &mut Asking<'a>,
    wait_ms: u64,
) -> bool {
    let mut over = Box::pin(deployment.handle.sleep(wait_ms));
    let mut changed = false;
    loop {
        if asking.is_empty() {
            over.await;
            return changed;
        }
        let finding = match select(over.as_mut(), asking.next()).await {
            Either::Left(_) => return changed,
            Either::Right((finding, _)) => finding,
        };
        let concluded = conclude(deployment, broadcaster, lane, finding.into_iter().collect()).await;
        asking.extend(questions(deployment, broadcaster, lane));
        if concluded > 0 && !changed {
            changed = true;
            over = Box::pin(deployment.handle.sleep(wait_ms.min(ROUND_MS)));
        }
    }
}

/// Awaits `work`, and collects findings meanwhile.
async fn beside<T>(asking: &mut Asking<'_>, found: &mut Vec<Finding>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        if asking.is_empty() {
            return work.await;
        }
        match select(work.as_mut(), asking.next()).await {
            Either::Left((done, _)) => return done,
            Either::Right((finding, _)) => found.extend(finding),
        }
    }
}

fn questions<'a>(
    deployment: &'a Deployment,
    broadcaster: &'a TrialBroadcaster,
    lane: &mut Lane,
) -> Vec<LocalBoxFuture<'a, Finding>> {
    let ask = |question| -> LocalBoxFuture<'a, Finding> { Box::pin(ask(deployment, broadcaster, question)) };
    lane.take_questions().into_iter().map(ask).collect()
}

async fn ask(deployment: &Deployment, broadcaster: &TrialBroadcaster, question: Question) -> Finding {
    let asked = broadcaster.inquire(question.clone());
    within(&deployment.handle, QUESTION_MS, asked).await.unwrap_or_else(|| Finding::unanswered(question))
}

/// Stores each finding by itself; returns how many records changed. The question of a finding that is not stored is
/// asked again.
async fn conclude(
    deployment: &Deployment,
    broadcaster: &TrialBroadcaster,
    lane: &mut Lane,
    found: Vec<Finding>,
) -> usize {
    let mut changed = 0;
    for finding in found {
        changed += broadcaster.conclude(lane, finding, deployment.clock.now()).await.unwrap_or(0);
    }
    changed
}

/// One sweep: pokes for every lane with open slots, then a look at the idle ones.
pub async fn sweep(deployment: &Deployment, broadcaster: &TrialBroadcaster) {
    let Ok(sweep) = broadcaster.sweep(deployment.clock.now()).await else { return };
    if !sweep.pokes.is_empty() {
        let _ = deployment.queues.poke_lanes(&sweep.pokes).await;
    }
    broadcaster.look_at_idle(&sweep.idle, deployment.clock.now()).await;
}
