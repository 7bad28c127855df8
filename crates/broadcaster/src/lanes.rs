//! The handler of the broadcast queue: passes over lanes.
//!
//! Decides nothing about a request, only how long a pass over a lane takes and how often it reads the lane.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use signpost_host::clock::{Stopwatch, now};
use signpost_host::consumer::{Handler, Stop, stopped};
use signpost_host::error_chain;
use signpost_txmgr::broadcaster::{Broadcaster, Finding, Lane, Question, Round};
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::poke;
use signpost_txmgr::ports::{BroadcastQueue, Chain, OutcomeTopic, PortError, ResignQueue, Store};
use signpost_txmgr::units::AccountKey;
use signpost_txmgr::wire::LanePoke;

/// Number of unchanged rounds before the pauses grow: between mined and final there are several.
const STILL_AFTER: u32 = 8;
/// The longest pause between two rounds of an unchanged lane.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// After this time a pass ends and requests the next one, so that other lanes do not wait.
const PASS_MAX: Duration = Duration::from_mins(2);

/// Timeout of a slow question to the nodes, which is asked again later. Longer than the timeouts of two endpoints,
/// and than the twenty calls of a proof at half a second each.
const QUESTION_MAX: Duration = Duration::from_secs(20);

/// The time limits of a pass.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// After this time the pass ends and requests the next one. At most [`PASS_MAX`].
    pub hand_on: Duration,
    /// After this time a running round is aborted, as by a crash, and the next pass is requested.
    pub abort: Option<Duration>,
}

impl Bounds {
    /// The limits in a worker, which has no deadline.
    pub const WORKER: Self = Self { hand_on: PASS_MAX, abort: None };
}

/// The pending slow questions of a lane.
type Asking<'a> = FuturesUnordered<BoxFuture<'a, Finding>>;

/// The handler of the broadcast queue: passes over lanes. The held messages of a lane are its lease.
#[derive(Debug)]
pub struct Lanes<S, C, R, O, B> {
    /// The driver.
    pub broadcaster: Broadcaster<S, C, R, O>,
    /// The queue on which a pass requests the next one.
    pub queue: B,
    /// The pause between two rounds of a changing lane.
    pub poll: Duration,
}

impl<S, C, R, O, B> Handler for Lanes<S, C, R, O, B>
where
    S: Store + 'static,
    C: Chain + 'static,
    R: ResignQueue + 'static,
    O: OutcomeTopic + 'static,
    B: BroadcastQueue + 'static,
{
    async fn handle(&self, messages: &[Incoming], stop: &Stop) -> Vec<Disposition> {
        self.passes(messages, Bounds::WORKER, stop).await
    }
}

impl<S: Store, C: Chain, R: ResignQueue, O: OutcomeTopic, B: BroadcastQueue> Lanes<S, C, R, O, B> {
    /// Makes a pass over each poked lane; one disposition per message, in order.
    pub async fn passes(&self, messages: &[Incoming], bounds: Bounds, stop: &Stop) -> Vec<Disposition> {
        let mut accounts: Vec<AccountKey> = Vec::new();
        let mut by_account = Vec::with_capacity(messages.len());
        for message in messages {
            let poke = serde_json::from_str::<LanePoke>(&message.body).ok();
            let account = poke.as_ref().and_then(LanePoke::account);
            if account.is_none() {
                tracing::error!(message_id = %message.message_id, "not a valid poke; dropped");
            }
            accounts.extend(account.filter(|account| !accounts.contains(account)));
            by_account.push(account);
        }
        let begun = Stopwatch::start();
        let mut left = Vec::new();
        for account in accounts {
            if self.pass(account, bounds, begun, stop).await == Disposition::Retry {
                left.push(account);
            }
        }
        let disposition = |account: Option<AccountKey>| {
            if account.is_some_and(|account| left.contains(&account)) { Disposition::Retry } else { Disposition::Done }
        };
        by_account.into_iter().map(disposition).collect()
    }

    /// Makes rounds over a lane, at its [`Pace`], until no slot is open or the time is over. Slow questions run
    /// concurrently with the rounds. At a stop the rest is left to the next pass.
    async fn pass(&self, account: AccountKey, bounds: Bounds, begun: Stopwatch, stop: &Stop) -> Disposition {
        let mut lane = Lane::new(account, now());
        let mut pace = Pace::new(self.poll);
        let mut asking = Asking::new();
        let until = |bound: Duration| bound.saturating_sub(begun.elapsed());
        loop {
            let round = async {
                let mut found = Vec::new();
                let round = collecting(&mut asking, &mut found, self.broadcaster.step(&mut lane, now())).await;
                (round, self.conclude(&mut lane, found).await)
            };
            let Some((round, concluded)) = in_time(bounds.abort.map(until), round).await else {
                tracing::warn!(%account, "a round exceeded its time limit; the next pass repeats it");
                return self.hand_on(account).await;
            };
            asking.extend(self.questions(&mut lane));
            match round {
                Ok(round) if round.open == 0 && asking.is_empty() && concluded == 0 => return Disposition::Done,
                Ok(round) => pace.after(&Round { changed: round.changed.saturating_add(concluded), ..round }),
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), %account, "the store did not answer; the round is repeated");
                    pace.slower();
                }
            }
            let left = until(bounds.hand_on);
            if left.is_zero() {
                return self.hand_on(account).await;
            }
            let rest = self.rest(&mut lane, &mut asking, pace.pause.min(left));
            let rest = in_time(bounds.abort.map(until), rest);
            tokio::select! {
                () = stopped(stop) => return Disposition::Retry,
                rested = rest => if rested == Some(true) { pace = Pace::new(self.poll) },
            }
        }
    }

    /// Waits for the next round, and stores the findings that arrive in the meantime. Returns whether a record
    /// changed. After a change the wait is short, so that settled requests are published soon.
    async fn rest<'a>(&'a self, lane: &mut Lane, asking: &mut Asking<'a>, pause: Duration) -> bool {
        let mut over = pin!(tokio::time::sleep(pause));
        let mut changed = false;
        loop {
            let finding = tokio::select! {
                () = &mut over => return changed,
                Some(finding) = asking.next(), if !asking.is_empty() => finding,
            };
            let concluded = self.conclude(lane, vec![finding]).await;
            asking.extend(self.questions(lane));
            if concluded > 0 && !changed {
                changed = true;
                over.set(tokio::time::sleep(pause.min(self.poll)));
            }
        }
    }

    fn questions<'a>(&'a self, lane: &mut Lane) -> Vec<BoxFuture<'a, Finding>> {
        lane.take_questions().into_iter().map(|question| self.ask(question).boxed()).collect()
    }

    /// Asks the nodes, for at most [`QUESTION_MAX`].
    async fn ask(&self, question: Question) -> Finding {
        let asked = self.broadcaster.inquire(question.clone());
        tokio::time::timeout(QUESTION_MAX, asked).await.unwrap_or_else(|_elapsed| Finding::unanswered(question))
    }

    /// Stores each finding separately. Returns the number of changed records.
    async fn conclude(&self, lane: &mut Lane, found: Vec<Finding>) -> usize {
        let mut changed = 0_usize;
        for finding in found {
            match self.broadcaster.conclude(lane, finding, now()).await {
                Ok(count) => changed = changed.saturating_add(count),
                Err(error) => {
                    let (error, account) = (error_chain(&error), lane.account());
                    tracing::warn!(error, %account, "a node's answer was not stored; the node is asked again");
                }
            }
        }
        changed
    }

    /// Requests the next pass. The messages of this pass are done once the request is on the queue.
    async fn hand_on(&self, account: AccountKey) -> Disposition {
        let poke = poke::once(&account.to_string(), "next pass", now());
        match self.queue.poke_lanes(&[poke]).await {
            Ok(()) => Disposition::Done,
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, %account, "the next pass was not requested; the message will be redelivered");
                Disposition::Retry
            }
        }
    }

    /// Pokes every lane with open slots, to replace lost pokes, then checks some idle lanes.
    pub async fn sweep_once(&self) {
        match self.poke_open().await {
            Ok((_, idle)) => self.look_at_idle(&idle).await,
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "lanes were not poked; the next sweep pokes them");
            }
        }
    }

    /// The first half of a sweep, which lanes wait for. Returns the number of poked lanes, and the idle lanes
    /// to check.
    pub async fn poke_open(&self) -> Result<(usize, Vec<AccountKey>), PortError> {
        let sweep = self.broadcaster.sweep(now()).await?;
        if !sweep.pokes.is_empty() {
            self.queue.poke_lanes(&sweep.pokes).await?;
        }
        Ok((sweep.pokes.len(), sweep.idle))
    }

    /// The second half of a sweep: checks idle lanes. May be aborted.
    pub async fn look_at_idle(&self, idle: &[AccountKey]) {
        self.broadcaster.look_at_idle(idle, now()).await;
    }

    /// Sweeps at once and then at this interval, until the signal to stop.
    pub async fn sweep(&self, every: Duration, stop: &Stop) {
        loop {
            tokio::select! {
                () = stopped(stop) => return,
                () = self.sweep_once() => {}
            }
            tokio::select! {
                () = stopped(stop) => return,
                () = tokio::time::sleep(every) => {}
            }
        }
    }
}

/// Awaits `work`, and collects the findings that arrive in the meantime.
async fn collecting<T>(asking: &mut Asking<'_>, found: &mut Vec<Finding>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(finding) = asking.next(), if !asking.is_empty() => found.push(finding),
        }
    }
}

/// Awaits `work` for the time left; `None` if it is over.
async fn in_time<T>(left: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match left {
        None => Some(work.await),
        Some(left) => tokio::time::timeout(left, work).await.ok(),
    }
}

/// The pause before the next round of a lane: about a block while the lane changes, or while no node
/// answers, so that the end of an outage is noticed within a block; longer while the lane is unchanged.
#[derive(Debug)]
struct Pace {
    poll: Duration,
    pause: Duration,
    unchanged: u32,
}

impl Pace {
    fn new(poll: Duration) -> Self {
        Self { poll, pause: poll, unchanged: 0 }
    }

    fn after(&mut self, round: &Round) {
        if round.changed > 0 || round.chain_silent {
            *self = Self::new(self.poll);
        } else {
            self.slower();
        }
    }

    fn slower(&mut self) {
        self.unchanged = self.unchanged.saturating_add(1);
        if self.unchanged > STILL_AFTER {
            self.pause = self.pause.saturating_mul(3).checked_div(2).unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_millis(450);
    const STILL: Round = Round { open: 1, changed: 0, chain_seen: true, chain_silent: false };

    fn after(pace: &mut Pace, rounds: usize, round: Round) -> Duration {
        (0..rounds).for_each(|_| pace.after(&round));
        pace.pause
    }

    #[test]
    fn pause_grows_for_an_unchanged_lane_and_resets_on_a_change() {
        let mut pace = Pace::new(POLL);
        assert_eq!(after(&mut pace, 8, STILL), POLL);
        assert!(after(&mut pace, 1, STILL) > POLL);
        assert_eq!(after(&mut pace, 100, STILL), PAUSE_MAX);
        assert_eq!(after(&mut pace, 1, Round { changed: 1, ..STILL }), POLL);
    }

    #[test]
    fn pause_is_one_block_while_no_node_answers() {
        let mut pace = Pace::new(POLL);
        after(&mut pace, 100, STILL);
        let silent = Round { chain_seen: false, chain_silent: true, ..STILL };
        for _ in 0..100 {
            assert_eq!(after(&mut pace, 1, silent), POLL);
        }
    }

    #[test]
    fn publishing_only_does_not_count_as_silent_nodes() {
        let mut pace = Pace::new(POLL);
        let settled = Round { chain_seen: false, ..STILL };
        assert_eq!(after(&mut pace, 100, settled), PAUSE_MAX);
    }
}
