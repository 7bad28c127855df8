//! The broadcaster's driver: from stored signatures to finalized transactions and published outcomes.
//!
//! One [`Lane`] at a time, in rounds: look at the records and the chain, ask
//! [`crate::machine::next_action`] for each slot, do it, store what happened. The host decides when
//! the next round is (about once per block while something moves); `now` is an argument.
//!
//! ## Guarantees
//! * Only stored bytes are sent, lowest nonce first, and never above a slot that was not sent.
//! * An outcome is stored before it is published, and published before the slot is left.
//! * A failing or silent node changes no record.
//!
//! ## Does not guarantee
//! * That one lane is worked by one pass only: the FIFO group sees to that, and conditional writes
//!   keep it correct without.
//!
//! Read next: `crates/cli` and the Lambda functions, which host it.

mod inquire;
mod lane;
mod leave;
mod load;
mod perform;
mod question;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use futures_util::stream::{self, FuturesUnordered, StreamExt as _};

use crate::account::{Head, SeenFee};
use crate::machine::{Action, Event, Tuning, Word, next_action, waits_for};
use crate::meters::gauge;
use crate::ports::{Chain, ChainView, OutcomeTopic, PortError, ResignQueue, SlotQuery, Store, ViewQuery, WitnessQuery};
use crate::record::{Phase, Record, SendClass, WaitCause, Waiting};
use crate::start::{self, OfChain, StartRefused};
use crate::units::{AccountKey, ChainId, Millis, Nonce};
use crate::wire::LanePoke;
use crate::{meters, poke, told};

use self::lane::is_past;

pub use self::inquire::Finding;
pub use self::lane::Lane;
use self::lane::Stuck;
pub use self::question::Question;

/// What a broadcaster is configured with.
#[derive(Debug, Clone)]
pub struct BroadcasterConfig {
    /// Lanes of other chains are another Signpost's and are not touched (I16).
    pub chain_id: ChainId,
    /// When to send again, bump and ask again.
    pub tuning: Tuning,
    /// Slots worked on above the chain's count: BSC's pool keeps 200 per account, half is safe.
    pub window: u64,
    /// How long a closed record is kept, in milliseconds.
    pub retention_ms: u64,
    /// Store writes at once.
    pub write_concurrency: usize,
}

impl BroadcasterConfig {
    /// Slots above the chain's count that are open at once, by default.
    pub const WINDOW: u64 = 100;
    /// Most slots looked at in one round, whatever waits for finality.
    pub const MAX_SLOTS: u64 = 1_000;
}

/// The broadcaster over its ports.
#[derive(Debug)]
pub struct Broadcaster<S, C, R, O> {
    store: S,
    chain: C,
    resign: R,
    topic: O,
    config: BroadcasterConfig,
    /// Idle accounts that the chain counts further, to which nonce at the least, and in how many rounds in a row.
    ahead: Mutex<HashMap<AccountKey, (Nonce, u32)>>,
}

/// What is to be done for a lane, and what its slots wait for.
#[derive(Debug, Default)]
struct Decided {
    actions: Vec<(Nonce, Action)>,
    waits: Vec<(Nonce, WaitCause)>,
}

/// What a round found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Slots of the lane that are not closed. 0 only if the head says so that was read after everything
    /// the round wrote to it: a pass may end then.
    pub open: u64,
    /// Records that changed.
    pub changed: usize,
    /// A node answered.
    pub chain_seen: bool,
    /// Nodes were asked, and none answered.
    pub chain_silent: bool,
}

/// What a sweep has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// The lanes with slots open or set aside: sent in place of pokes that were lost, before anything else.
    pub pokes: Vec<LanePoke>,
    /// Idle lanes whose turn it is.
    pub idle: Vec<AccountKey>,
}

impl Sweep {
    /// Idle lanes looked at in one sweep: a node is asked five things about each, and public ones allow
    /// 10,000 calls in five minutes. More idle lanes than these take turns.
    pub const IDLE_LOOKS: usize = 100;
}

impl<S: Store, C: Chain, R: ResignQueue, O: OutcomeTopic> Broadcaster<S, C, R, O> {
    /// Most times the decisions of one round are taken again after what they changed.
    const MAX_TURNS: usize = 4;
    /// A request that has not moved for so long says why, in milliseconds.
    const WAITS_AFTER_MS: u64 = 30_000;
    /// Nonces that an idle lane goes forward by itself, at most.
    const FAST_FORWARD_MAX: u64 = 1_000;
    /// Rounds in which a count must be told where only one endpoint is configured.
    const ALONE_ROUNDS: u32 = 3;
    /// Idle lanes looked at at once.
    const IDLE_LOOKS_AT_ONCE: usize = 8;
    /// An address is looked at for code and funds this often.
    const ACCOUNT_EVERY_MS: u64 = 10 * 60 * 1_000;
    /// The network's price is stored at most this often: one write for some thirty blocks.
    const FEE_EVERY_MS: u64 = 15 * 1_000;
    /// A price that did not change is stored again after this, so that its age shows that somebody looks.
    const SAME_FEE_EVERY_MS: u64 = 10 * 60 * 1_000;

    /// A broadcaster over these ports.
    pub fn new(store: S, chain: C, resign: R, topic: O, config: BroadcasterConfig) -> Self {
        Self { store, chain, resign, topic, config, ahead: Mutex::default() }
    }

    /// Checks at the start that there are accounts of its chain, if there are any.
    pub async fn check_accounts(&self) -> Result<(), StartRefused> {
        start::accounts_of_chain(&self.store, self.config.chain_id).await?.warn_of_unreadable();
        Ok(())
    }

    /// One round over a lane with the slow questions it decides, for a host that does nothing meanwhile. An
    /// error means that the store did not answer; nothing is lost, the next round takes it up.
    pub async fn round(&self, lane: &mut Lane, now: Millis) -> Result<Round, PortError> {
        let mut round = self.step(lane, now).await?;
        let questions = lane.take_questions();
        let mut asking: FuturesUnordered<_> = questions.into_iter().map(|question| self.inquire(question)).collect();
        while let Some(finding) = asking.next().await {
            round.changed = round.changed.saturating_add(self.conclude(lane, finding, now).await?);
        }
        Ok(round)
    }

    /// One round over a lane without its slow questions, which are for [`Lane::take_questions`]: whatever
    /// they take, all else goes its way. A lane of another chain is left alone, and nothing of it is open here.
    pub async fn step(&self, lane: &mut Lane, now: Millis) -> Result<Round, PortError> {
        const NOTHING: Round = Round { open: 0, changed: 0, chain_seen: false, chain_silent: false };
        if lane.account.chain_id != self.config.chain_id {
            metrics::counter!(meters::OTHER_CHAIN, "message" => "poke").increment(1);
            tracing::warn!(account = %lane.account, chain_id = %self.config.chain_id,
                "a poke for an account of another chain is dropped; two Signposts share the broadcast queue");
            return Ok(NOTHING);
        }
        let Some(mut head) = self.store.head(&lane.account).await? else {
            tracing::warn!(account = %lane.account, "a lane was named that is not registered");
            return Ok(NOTHING);
        };
        self.load(lane, &head, now).await?;
        // What was never sent, or only waits to be published, needs no look at the chain first.
        let mut changed = self.send_unsent(lane, now).await?;
        self.load_set_aside(lane, &head, now).await?;
        let asked = asks_chain(lane);
        let seen = if asked { self.look(lane).await } else { None };
        if let Some(view) = &seen {
            lane.saw(view, now);
            self.note_fee(&mut head, view, now).await;
            self.ask_second(lane, view, now).await;
            self.look_at_account(lane, now).await;
        }
        for _ in 0..Self::MAX_TURNS {
            let turn = self.turn(lane, seen.as_ref(), now).await?;
            changed = changed.saturating_add(turn);
            if turn == 0 {
                break;
            }
        }
        changed = changed.saturating_add(self.note_waiting(lane, seen.as_ref(), now).await?);
        self.leave(lane, &mut head, now).await?;
        self.fast_forward(lane, &head).await?;
        self.note_funds(lane, &mut head, now).await;
        self.watch_head(lane, &head, now);
        let chain_seen = seen.is_some();
        Ok(Round { open: head.open_slots(), changed, chain_seen, chain_silent: asked && !chain_seen })
    }

    /// What a sweep of this chain's accounts has to do: every lane with slots open or set aside is to be poked, and
    /// some of the idle ones are to be looked at by [`Self::look_at_idle`], in turn.
    pub async fn sweep(&self, now: Millis) -> Result<Sweep, PortError> {
        let ours = OfChain::of(self.store.accounts().await?, self.config.chain_id);
        ours.warn_of_unreadable();
        let (open, mut idle): (Vec<_>, Vec<_>) = ours.heads.into_iter().partition(Head::needs_passes);
        let poke = |head: &Head| poke::once(&head.account.to_string(), "sweep", now);
        idle.sort_unstable_by_key(|head| head.account);
        let begin = turn_of(now, idle.len());
        idle.rotate_left(begin);
        idle.truncate(Sweep::IDLE_LOOKS);
        let idle = idle.into_iter().map(|head| head.account).collect();
        Ok(Sweep { pokes: open.iter().map(poke).collect(), idle })
    }

    /// Gives idle lanes their one round each, which takes up nonces another program used.
    pub async fn look_at_idle(&self, idle: &[AccountKey], now: Millis) {
        let looks = idle.iter().copied().map(|account| async move {
            if let Err(error) = self.round(&mut Lane::new(account, now), now).await {
                tracing::warn!(error = told(&error), %account, "an idle lane could not be looked at");
            }
        });
        stream::iter(looks).buffer_unordered(Self::IDLE_LOOKS_AT_ONCE).collect::<()>().await;
    }

    /// Asks the chain about every signed slot that is not settled; `None` while no node answers.
    async fn look(&self, lane: &Lane) -> Option<ChainView> {
        let open = || lane.records.values().filter(|record| record.phase.settlement().is_none());
        let query = ViewQuery {
            address: lane.account.address,
            slots: open()
                .filter(|record| !record.attempts.is_empty())
                .map(|record| SlotQuery {
                    nonce: record.nonce,
                    hashes: record.own_hashes(),
                    mined_at: record.phase.receipt().map(|receipt| receipt.block.number),
                })
                .collect(),
            latest_seen: lane.latest_seen(),
            head_waits: lane.head_waits(),
        };
        match self.chain.view(&query).await {
            Ok(view) => Some(view),
            Err(error) => {
                metrics::counter!(meters::NO_CHAIN).increment(1);
                tracing::warn!(error = told(&error), account = %lane.account, "no node answers: unknown, still watching");
                None
            }
        }
    }

    /// Asks a second endpoint about the receipts that the view shows final and nobody has confirmed yet: one small
    /// batch for all of them.
    async fn ask_second(&self, lane: &mut Lane, view: &ChainView, now: Millis) {
        let finals = lane.to_witness(view);
        if finals.is_empty() {
            return;
        }
        let query =
            WitnessQuery { address: lane.account.address, source: view.source.clone(), finals: finals.clone(), now };
        let words = self.chain.witness(&query).await;
        for ((nonce, receipt), word) in finals.into_iter().zip(words) {
            if word == Word::Contradicts {
                metrics::counter!(meters::CONTRADICTED, "account" => lane.account.to_string()).increment(1);
                let request_id = lane.records.get(&nonce).map(|record| record.request_id.to_string());
                tracing::warn!(account = %lane.account, %nonce, request_id, tx_hash = %receipt.tx_hash,
                    block = %receipt.block.number, source = view.source,
                    "two nodes contradict each other about a final receipt; no verdict until they agree");
            }
            lane.note_word(nonce, receipt, word, now);
        }
    }

    /// Sends what was signed and never sent, or surely not taken, before asking the chain anything: where
    /// a node limits our rate, what it allows goes to sends first. Else reads would use it up, and a
    /// transaction no node ever had would be bumped. Publishes what only waits for that, too.
    async fn send_unsent(&self, lane: &mut Lane, now: Millis) -> Result<usize, PortError> {
        let is_settled = |record: &Record| record.phase.settlement().is_some();
        if !lane.records.values().any(|record| is_nowhere(record) || is_settled(record)) {
            return Ok(0);
        }
        let mut actions = self.decide(lane, None, now).actions;
        actions.retain(|(nonce, action)| match action {
            Action::Send { .. } => lane.records.get(nonce).is_some_and(is_nowhere),
            Action::Publish => true,
            Action::Wait
            | Action::AskSigner(_)
            | Action::NoteCancel(_)
            | Action::NoteAtCap(_)
            | Action::NoteMined(_)
            | Action::NoteUnmined
            | Action::Settle { .. }
            | Action::FindUse
            | Action::Leave => false,
        });
        self.perform(lane, actions, now).await
    }

    /// Decides for every slot and does it; how many records changed.
    async fn turn(&self, lane: &mut Lane, seen: Option<&ChainView>, now: Millis) -> Result<usize, PortError> {
        let decided = self.decide(lane, seen, now);
        self.perform(lane, decided.actions, now).await
    }

    /// Notes with each record that has not moved for a while what it waits for, and says so.
    async fn note_waiting(&self, lane: &mut Lane, seen: Option<&ChainView>, now: Millis) -> Result<usize, PortError> {
        let waits = self.decide(lane, seen, now).waits;
        let mut events = Vec::new();
        for (nonce, cause) in waits {
            let Some(record) = lane.records.get(&nonce) else { continue };
            let is_known = record.waiting.is_some_and(|waiting| waiting.cause == cause);
            // One that goes back and forth is noted once in a while.
            let is_fresh = record.waiting.is_some() && now.since(record.updated_at) < Self::WAITS_AFTER_MS;
            let since = record.stuck_since();
            if is_known || is_fresh || now.since(since) < Self::WAITS_AFTER_MS {
                continue;
            }
            metrics::counter!(meters::WAITS, "cause" => cause.code()).increment(1);
            // The first of a lane says it for those behind it.
            if cause != WaitCause::Predecessor {
                tracing::warn!(account = %record.account, request_id = %record.request_id, %nonce, waiting_for = cause.code(),
                    since = %since, "the request does not move: {}", cause.meaning());
            }
            events.push((nonce, Event::Waits(Waiting { cause, since })));
        }
        self.store_all(lane, events, now).await
    }

    /// The next action of every slot, in order of nonce, and what each waits for.
    fn decide(&self, lane: &Lane, seen: Option<&ChainView>, now: Millis) -> Decided {
        let receipts: BTreeMap<_, _> = seen.map(|view| view.receipts.iter().copied().collect()).unwrap_or_default();
        let mut decided = Decided::default();
        let mut predecessors_sent = true;
        let mut head_taken = false;
        // Below this node's count nothing is missing, whatever became of our own transactions.
        let used_to = seen.map_or(Nonce(0), |view| view.latest_nonce);
        let missing = lane.lost.range(used_to..).next().map(|(nonce, _)| *nonce);
        for (nonce, record) in &lane.records {
            let past = is_past(record) || *nonce < used_to;
            let is_lane_head = !past && !head_taken;
            predecessors_sent = predecessors_sent && missing.is_none_or(|missing| *nonce < missing);
            let chain = lane.chain_slot(record, seen, &receipts);
            let view = lane.slot_view(record, chain, is_lane_head, predecessors_sent);
            let action = next_action(record, &view, &self.config.tuning, now);
            decided.waits.extend(waits_for(record, &view, now).map(|cause| (*nonce, cause)));
            head_taken = head_taken || !past;
            let sends = matches!(action, Action::Send { .. });
            predecessors_sent = predecessors_sent && (past || sends || was_sent(record));
            match action {
                Action::Wait | Action::Leave => {}
                action @ (Action::AskSigner(_)
                | Action::Send { .. }
                | Action::NoteCancel(_)
                | Action::NoteAtCap(_)
                | Action::NoteMined(_)
                | Action::NoteUnmined
                | Action::Settle { .. }
                | Action::FindUse
                | Action::Publish) => decided.actions.push((*nonce, action)),
            }
        }
        decided
    }

    /// A lane without open slots whose account was used by somebody else takes up the chain's count: on two nodes'
    /// word, or on one's in three rounds where only one is configured. It cannot be taken back, so further than
    /// [`Self::FAST_FORWARD_MAX`] nonces is the operator's to decide.
    async fn fast_forward(&self, lane: &Lane, head: &Head) -> Result<(), PortError> {
        let Some(high) = &lane.high else { return Ok(()) };
        let next = head.next_nonce;
        if head.open_slots() > 0 || high.finalized_nonce <= next {
            self.ahead.lock().unwrap_or_else(PoisonError::into_inner).remove(&lane.account);
            return Ok(());
        }
        let (count, word) = match self.chain.final_count(lane.account.address).await {
            Ok(told) => told,
            Err(error) => {
                tracing::warn!(error = told(&error), account = %lane.account, "whether another program used the account is not known");
                return Ok(());
            }
        };
        if count <= next {
            return Ok(());
        }
        let rounds = self.count_ahead(lane.account, count);
        let is_sure = match word {
            // The lower one is true of both.
            Word::Agrees | Word::NotYet => true,
            Word::Alone => rounds >= Self::ALONE_ROUNDS,
            Word::Silent | Word::Contradicts => false,
        };
        if count.since(next) > Self::FAST_FORWARD_MAX {
            metrics::counter!(meters::TOO_FAR_AHEAD, "account" => lane.account.to_string()).increment(1);
            tracing::error!(account = %lane.account, from = %next, to = %count,
                "the nodes count more than 1,000 transactions that were not signed here; if that is true, use `account set-nonce`");
        } else if is_sure && self.store.fast_forward(&lane.account, next, count).await? {
            metrics::counter!(meters::FAST_FORWARDS).increment(1);
            tracing::warn!(account = %lane.account, from = %next, to = %count,
                "another program used this account's nonces; the lane goes on after them");
        }
        Ok(())
    }

    /// In how many rounds in a row the chain was seen ahead of the lane, at this count or a lower one.
    fn count_ahead(&self, account: AccountKey, count: Nonce) -> u32 {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = ahead.entry(account).or_insert((count, 0));
        *seen = if count < seen.0 { (count, 1) } else { (seen.0, seen.1.saturating_add(1)) };
        seen.1
    }

    /// Keeps the mark that the account cannot pay as the newest answers say: set while an open slot's newest
    /// attempt was refused for it, cleared when none is any more.
    async fn note_funds(&self, lane: &Lane, head: &mut Head, now: Millis) {
        let since = match (lane.is_short_of_funds(), head.unfunded_since) {
            (true, None) => Some(now),
            (false, Some(_)) => None,
            (true, Some(_)) | (false, None) => return,
        };
        match self.store.set_unfunded(&lane.account, since).await {
            Ok(()) => head.unfunded_since = since,
            Err(error) => {
                tracing::warn!(error = told(&error), account = %lane.account, "whether the account can pay is not noted; the next round does");
            }
        }
    }

    /// Says so when the lane's head is stuck and is not priced higher.
    fn watch_head(&self, lane: &mut Lane, head: &Head, now: Millis) {
        let account = head.account.to_string();
        let age_ms = lane.head_since.map_or(0, |(_, since)| now.since(since));
        metrics::gauge!(meters::LANE_OPEN_SLOTS, "account" => account.clone()).set(gauge(head.open_slots()));
        metrics::gauge!(meters::LANE_HEAD_AGE, "account" => account.clone()).set(gauge(age_ms));
        let Some((nonce, _)) = lane.head_since.filter(|_| age_ms >= self.config.tuning.bump_after_ms) else { return };
        let Some((request_id, stuck)) = lane.stuck_head(nonce, &self.config.tuning, now) else { return };
        if !lane.may_warn(now) {
            return;
        }
        metrics::counter!(meters::AT_CAP, "account" => account).increment(1);
        match stuck {
            Stuck::AtCap(fee_cap) => {
                tracing::warn!(account = %head.account, %request_id, %nonce, age_ms, %fee_cap,
                    "the lane's head is not mined and its price is at the cap; it continues to be sent, and is cancelled when policy max_head_s is over");
            }
            Stuck::NotReplaced(price) => {
                tracing::warn!(account = %head.account, %request_id, %nonce, age_ms, %price,
                    "the lane's head is not mined and the signer gives no replacement: its price is at the policy's cap, or the account is paused; it continues to be sent");
            }
        }
    }

    /// An account whose address has code (EIP-7702) may have one transaction in flight on BSC; and one
    /// that runs out of funds is better seen before it has.
    async fn look_at_account(&self, lane: &mut Lane, now: Millis) {
        if lane.code_seen_at.is_some_and(|at| now.since(at) < Self::ACCOUNT_EVERY_MS) {
            return;
        }
        match self.chain.has_code(lane.account.address).await {
            Ok(has_code) => {
                lane.code_seen_at = Some(now);
                lane.has_code = Some(has_code);
                if has_code {
                    metrics::counter!(meters::DELEGATED, "account" => lane.account.to_string()).increment(1);
                    tracing::warn!(account = %lane.account,
                        "the account's address has code (EIP-7702): BSC takes one transaction of it at a time; remove the delegation");
                }
            }
            Err(error) => {
                tracing::debug!(error = told(&error), account = %lane.account, "the account's code cannot be read");
            }
        }
        match self.chain.balance(lane.account.address).await {
            Ok(balance) => {
                lane.balance = Some(balance);
                metrics::gauge!(meters::BALANCE, "account" => lane.account.to_string())
                    .set(gauge(balance.whole_gwei()));
            }
            Err(error) => {
                tracing::debug!(error = told(&error), account = %lane.account, "the account's funds cannot be read");
            }
        }
    }

    /// Tells the signer the network's price, for requests that name none.
    async fn note_fee(&self, head: &mut Head, view: &ChainView, now: Millis) {
        let Some(gas_price) = view.price else { return };
        let fresh = head.fee.is_some_and(|seen| {
            let age_ms = now.since(seen.observed_at);
            age_ms < Self::FEE_EVERY_MS || seen.gas_price == gas_price && age_ms < Self::SAME_FEE_EVERY_MS
        });
        if fresh {
            return;
        }
        let fee = SeenFee { gas_price, observed_at: now };
        match self.store.observe_fee(&head.account, &fee).await {
            Ok(()) => head.fee = Some(fee),
            Err(error) => {
                tracing::warn!(error = told(&error), account = %head.account, "the network's price was not noted");
            }
        }
    }
}

/// The chain is asked about what is not settled, about what is lost, and about an idle lane's account.
fn asks_chain(lane: &Lane) -> bool {
    lane.records.is_empty()
        || !lane.lost.is_empty()
        || lane.records.values().any(|record| record.phase.settlement().is_none())
}

/// How often the sweep runs: by it the turn of idle lanes moves on.
const MINUTE_MS: u64 = 60_000;

/// Where among so many idle lanes the sweep of this minute begins.
fn turn_of(now: Millis, idle: usize) -> usize {
    let (Ok(looks), Ok(idle)) = (u64::try_from(Sweep::IDLE_LOOKS), u64::try_from(idle)) else { return 0 };
    let minute = now.0.checked_div(MINUTE_MS).unwrap_or(0);
    let begin = minute.wrapping_mul(looks).checked_rem(idle).unwrap_or(0);
    usize::try_from(begin).unwrap_or(0)
}

/// Whether no node has its newest attempt, as far as is known.
fn is_nowhere(record: &Record) -> bool {
    match record.phase {
        Phase::Signed => true,
        Phase::Sent => {
            let sent = record.attempts.last().and_then(|attempt| attempt.sent.as_ref());
            sent.is_some_and(|sent| sent.answer.class == SendClass::Retry)
        }
        Phase::Reserved | Phase::Mined(_) | Phase::Settled(_) => false,
    }
}

fn was_sent(record: &Record) -> bool {
    record.attempts.iter().any(|attempt| attempt.sent.is_some())
}
