//! The broadcaster's driver: takes requests from stored signatures to finalized transactions and published outcomes.
//!
//! It works on one [`Lane`] at a time, in rounds: it reads the records and the chain, asks
//! [`crate::machine::next_action`] for each slot, does that, and stores what happened. The host decides when
//! the next round is (about once per block while something moves); `now` is an argument.
//!
//! ## Guarantees
//! * Only stored bytes are sent, lowest nonce first, and never above a slot that was not sent.
//! * An outcome is stored before it is published, and published before the slot is left.
//! * A failing or silent node changes no record.
//!
//! ## Does not guarantee
//! * That only one pass works on a lane: the FIFO message group ensures that, and conditional writes
//!   keep two passes correct.
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
use crate::machine::{Action, Corroboration, Event, Tuning, next_action, waits_for};
use crate::meters::gauge;
use crate::ports::{Chain, ChainView, OutcomeTopic, PortError, ResignQueue, SlotQuery, Store, ViewQuery, WitnessQuery};
use crate::record::{Phase, Record, SendClass, WaitCause, Waiting};
use crate::start::{self, OfChain, StartRefused};
use crate::units::{AccountKey, ChainId, Millis, Nonce};
use crate::wire::LanePoke;
use crate::{error_chain, meters, poke};

use self::lane::is_mined_or_settled;

pub use self::inquire::Finding;
pub use self::lane::Lane;
use self::lane::Stuck;
pub use self::question::Question;

/// What a broadcaster is configured with.
#[derive(Debug, Clone)]
pub struct BroadcasterConfig {
    /// The broadcaster's chain. Lanes on other chains belong to another Signpost and are not touched (I16).
    pub chain_id: ChainId,
    /// When to send again, bump and ask again.
    pub tuning: Tuning,
    /// Slots in progress above the chain's count. BSC's pool keeps 200 per account; half of that is safe.
    pub window: u64,
    /// How long closed records are kept, in milliseconds.
    pub retention_ms: u64,
    /// Concurrent writes to the store.
    pub write_concurrency: usize,
}

impl BroadcasterConfig {
    /// The default of [`Self::window`].
    pub const WINDOW: u64 = 100;
    /// The most slots in one round, including those that wait for finality.
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
    /// Idle accounts whose on-chain count is above the lane's next nonce: the lowest count seen, and in how many
    /// consecutive rounds.
    ahead: Mutex<HashMap<AccountKey, (Nonce, u32)>>,
}

/// The next action of each slot of a lane, and what each slot waits for.
#[derive(Debug, Default)]
struct Decided {
    actions: Vec<(Nonce, Action)>,
    waits: Vec<(Nonce, WaitCause)>,
}

/// The result of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Open slots of the lane. 0 only if the head was read after the round's last write to it; then a pass may
    /// end.
    pub open: u64,
    /// How many records changed.
    pub changed: usize,
    /// Whether a node answered.
    pub chain_seen: bool,
    /// Whether nodes were asked and none answered.
    pub chain_silent: bool,
}

/// The work of one sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// Pokes for the lanes with slots open or set aside. They replace lost pokes and are sent first.
    pub pokes: Vec<LanePoke>,
    /// The idle lanes that this sweep looks at.
    pub idle: Vec<AccountKey>,
}

impl Sweep {
    /// Idle lanes checked in one sweep. Each takes five calls to a node, and public nodes allow 10,000 calls in five
    /// minutes. If there are more idle lanes, successive sweeps take turns.
    pub const IDLE_LOOKS: usize = 100;
}

impl<S: Store, C: Chain, R: ResignQueue, O: OutcomeTopic> Broadcaster<S, C, R, O> {
    /// How often one round decides at most; it decides again after each change.
    const MAX_STEPS: usize = 4;
    /// A request without progress for this time, in milliseconds, stores what it waits for.
    const WAITS_AFTER_MS: u64 = 30_000;
    /// The most nonces that an idle lane fast-forwards without an operator.
    const FAST_FORWARD_MAX: u64 = 1_000;
    /// Rounds that must agree on a count if only one endpoint is configured.
    const ALONE_ROUNDS: u32 = 3;
    /// Idle lanes checked concurrently.
    const IDLE_LOOKS_AT_ONCE: usize = 8;
    /// How often an address is checked for code and funds, in milliseconds.
    const ACCOUNT_EVERY_MS: u64 = 10 * 60 * 1_000;
    /// The network's price is stored at most once per this time: one write for some thirty blocks.
    const FEE_EVERY_MS: u64 = 15 * 1_000;
    /// An unchanged price is stored again after this time, so that its age shows that it is still observed.
    const SAME_FEE_EVERY_MS: u64 = 10 * 60 * 1_000;

    /// A broadcaster over these ports.
    pub fn new(store: S, chain: C, resign: R, topic: O, config: BroadcasterConfig) -> Self {
        Self { store, chain, resign, topic, config, ahead: Mutex::default() }
    }

    /// Checks at the start that, if accounts are registered, one of them is on this chain.
    pub async fn check_accounts(&self) -> Result<(), StartRefused> {
        start::accounts_of_chain(&self.store, self.config.chain_id).await?.warn_of_unreadable();
        Ok(())
    }

    /// One round over a lane including its slow questions, for a host that can wait for them. An error means that the
    /// store did not answer; nothing is lost, and the next round continues.
    pub async fn round(&self, lane: &mut Lane, now: Millis) -> Result<Round, PortError> {
        let mut round = self.step(lane, now).await?;
        let questions = lane.take_questions();
        let mut asking: FuturesUnordered<_> = questions.into_iter().map(|question| self.inquire(question)).collect();
        while let Some(finding) = asking.next().await {
            round.changed = round.changed.saturating_add(self.conclude(lane, finding, now).await?);
        }
        Ok(round)
    }

    /// One round over a lane without its slow questions: the host takes them with [`Lane::take_questions`], so that
    /// they delay nothing else. A lane on another chain is ignored and reported without open slots.
    pub async fn step(&self, lane: &mut Lane, now: Millis) -> Result<Round, PortError> {
        const NOTHING: Round = Round { open: 0, changed: 0, chain_seen: false, chain_silent: false };
        if lane.account.chain_id != self.config.chain_id {
            metrics::counter!(meters::OTHER_CHAIN, "message" => "poke").increment(1);
            tracing::warn!(account = %lane.account, chain_id = %self.config.chain_id,
                "a poke for an account on another chain is dropped; two Signposts share the broadcast queue");
            return Ok(NOTHING);
        }
        let Some(mut head) = self.store.head(&lane.account).await? else {
            tracing::warn!(account = %lane.account, "a poke names an account that is not registered; it is dropped");
            return Ok(NOTHING);
        };
        self.load(lane, &head, now).await?;
        // Unsent transactions and unpublished outcomes do not need the chain's view.
        let mut changed = self.send_unsent(lane, now).await?;
        self.load_set_aside(lane, &head, now).await?;
        let asked = asks_chain(lane);
        let seen = if asked { self.read_chain(lane).await } else { None };
        if let Some(view) = &seen {
            lane.note_view(view, now);
            self.note_fee(&mut head, view, now).await;
            self.ask_second_endpoint(lane, view, now).await;
            self.check_account(lane, now).await;
        }
        for _ in 0..Self::MAX_STEPS {
            let count = self.decide_and_perform(lane, seen.as_ref(), now).await?;
            changed = changed.saturating_add(count);
            if count == 0 {
                break;
            }
        }
        changed = changed.saturating_add(self.note_waiting(lane, seen.as_ref(), now).await?);
        self.leave(lane, &mut head, now).await?;
        self.fast_forward(lane, &head).await?;
        self.note_funds(lane, &mut head, now).await;
        self.warn_of_stuck_head(lane, &head, now);
        let chain_seen = seen.is_some();
        Ok(Round { open: head.open_slots(), changed, chain_seen, chain_silent: asked && !chain_seen })
    }

    /// The work of a sweep over this chain's accounts: a poke for every lane with slots open or set aside, and some of
    /// the idle lanes, in turn, for [`Self::look_at_idle`].
    pub async fn sweep(&self, now: Millis) -> Result<Sweep, PortError> {
        let ours = OfChain::of(self.store.accounts().await?, self.config.chain_id);
        ours.warn_of_unreadable();
        let (open, mut idle): (Vec<_>, Vec<_>) = ours.heads.into_iter().partition(Head::needs_passes);
        let poke = |head: &Head| poke::once(&head.account.to_string(), "sweep", now);
        idle.sort_unstable_by_key(|head| head.account);
        let begin = first_idle(now, idle.len());
        idle.rotate_left(begin);
        idle.truncate(Sweep::IDLE_LOOKS);
        let idle = idle.into_iter().map(|head| head.account).collect();
        Ok(Sweep { pokes: open.iter().map(poke).collect(), idle })
    }

    /// Runs one round over each of these idle lanes, which adopts nonces that another program used.
    pub async fn look_at_idle(&self, idle: &[AccountKey], now: Millis) {
        let looks = idle.iter().copied().map(|account| async move {
            if let Err(error) = self.round(&mut Lane::new(account, now), now).await {
                tracing::warn!(error = error_chain(&error), %account, "an idle lane could not be checked");
            }
        });
        stream::iter(looks).buffer_unordered(Self::IDLE_LOOKS_AT_ONCE).collect::<()>().await;
    }

    /// Asks the chain about every signed slot that is not settled; `None` while no node answers.
    async fn read_chain(&self, lane: &Lane) -> Option<ChainView> {
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
                tracing::warn!(error = error_chain(&error), account = %lane.account, "no node answers; the chain's state is unknown and the lane keeps watching");
                None
            }
        }
    }

    /// Asks a second endpoint, in one small batch, about the view's final receipts that are not confirmed yet.
    async fn ask_second_endpoint(&self, lane: &mut Lane, view: &ChainView, now: Millis) {
        let finals = lane.to_witness(view);
        if finals.is_empty() {
            return;
        }
        let query =
            WitnessQuery { address: lane.account.address, source: view.source.clone(), finals: finals.clone(), now };
        let corroborations = self.chain.witness(&query).await;
        for ((nonce, receipt), corroboration) in finals.into_iter().zip(corroborations) {
            if corroboration == Corroboration::Contradicts {
                metrics::counter!(meters::CONTRADICTED, "account" => lane.account.to_string()).increment(1);
                let request_id = lane.records.get(&nonce).map(|record| record.request_id.to_string());
                tracing::warn!(account = %lane.account, %nonce, request_id, tx_hash = %receipt.tx_hash,
                    block = %receipt.block.number, source = view.source,
                    "two nodes contradict each other about a final receipt; no verdict until they agree");
            }
            lane.note_corroboration(nonce, receipt, corroboration, now);
        }
    }

    /// Sends the attempts that were never sent or surely not accepted, before any read of the chain. Where a node
    /// limits our rate, sends come first: otherwise reads would use up the limit, and a transaction that no node ever
    /// had would be bumped. Also publishes the outcomes that are ready.
    async fn send_unsent(&self, lane: &mut Lane, now: Millis) -> Result<usize, PortError> {
        let is_settled = |record: &Record| record.phase.settlement().is_some();
        if !lane.records.values().any(|record| is_at_no_node(record) || is_settled(record)) {
            return Ok(0);
        }
        let mut actions = self.decide(lane, None, now).actions;
        actions.retain(|(nonce, action)| match action {
            Action::Send { .. } => lane.records.get(nonce).is_some_and(is_at_no_node),
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

    /// Decides the next action of every slot and performs it; returns how many records changed.
    async fn decide_and_perform(
        &self,
        lane: &mut Lane,
        seen: Option<&ChainView>,
        now: Millis,
    ) -> Result<usize, PortError> {
        let decided = self.decide(lane, seen, now);
        self.perform(lane, decided.actions, now).await
    }

    /// Stores in each record without recent progress what it waits for, and logs it.
    async fn note_waiting(&self, lane: &mut Lane, seen: Option<&ChainView>, now: Millis) -> Result<usize, PortError> {
        let waits = self.decide(lane, seen, now).waits;
        let mut events = Vec::new();
        for (nonce, cause) in waits {
            let Some(record) = lane.records.get(&nonce) else { continue };
            let is_known = record.waiting.is_some_and(|waiting| waiting.cause == cause);
            // A cause that alternates is stored at most once per interval.
            let is_fresh = record.waiting.is_some() && now.since(record.updated_at) < Self::WAITS_AFTER_MS;
            let since = record.stuck_since();
            if is_known || is_fresh || now.since(since) < Self::WAITS_AFTER_MS {
                continue;
            }
            metrics::counter!(meters::WAITS, "cause" => cause.code()).increment(1);
            // The log line of the lane's first request is enough for those behind it.
            if cause != WaitCause::Predecessor {
                tracing::warn!(account = %record.account, request_id = %record.request_id, %nonce, waiting_for = cause.code(),
                    since = %since, "the request makes no progress: {}", cause.meaning());
            }
            events.push((nonce, Event::Waits(Waiting { cause, since })));
        }
        self.store_all(lane, events, now).await
    }

    /// Decides the next action of every slot, in order of nonce, and what each waits for.
    fn decide(&self, lane: &Lane, seen: Option<&ChainView>, now: Millis) -> Decided {
        let receipts: BTreeMap<_, _> = seen.map(|view| view.receipts.iter().copied().collect()).unwrap_or_default();
        let mut decided = Decided::default();
        let mut predecessors_sent = true;
        let mut head_taken = false;
        // Below this node's count every nonce is used, so a missing record leaves no gap there.
        let used_to = seen.map_or(Nonce(0), |view| view.latest_nonce);
        let missing = lane.lost.range(used_to..).next().map(|(nonce, _)| *nonce);
        for (nonce, record) in &lane.records {
            let past = is_mined_or_settled(record) || *nonce < used_to;
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

    /// A lane without open slots whose account was used elsewhere adopts the chain's count. Two nodes must agree, or,
    /// if only one is configured, that one in three rounds. It cannot be undone, so an operator must decide about more
    /// than [`Self::FAST_FORWARD_MAX`] nonces.
    async fn fast_forward(&self, lane: &Lane, head: &Head) -> Result<(), PortError> {
        let Some(high) = &lane.high else { return Ok(()) };
        let next = head.next_nonce;
        if head.open_slots() > 0 || high.finalized_nonce <= next {
            self.ahead.lock().unwrap_or_else(PoisonError::into_inner).remove(&lane.account);
            return Ok(());
        }
        let (count, corroboration) = match self.chain.final_count(lane.account.address).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(error = error_chain(&error), account = %lane.account, "it is not known whether another program used the account");
                return Ok(());
            }
        };
        if count <= next {
            return Ok(());
        }
        let rounds = self.count_ahead(lane.account, count);
        let is_sure = match corroboration {
            // Both endpoints have reached the lower count.
            Corroboration::Agrees | Corroboration::NotYet => true,
            Corroboration::Alone => rounds >= Self::ALONE_ROUNDS,
            Corroboration::Silent | Corroboration::Contradicts => false,
        };
        if count.since(next) > Self::FAST_FORWARD_MAX {
            metrics::counter!(meters::TOO_FAR_AHEAD, "account" => lane.account.to_string()).increment(1);
            tracing::error!(account = %lane.account, from = %next, to = %count,
                "the nodes count more than 1,000 transactions that were not signed here; if that is true, use `account set-nonce`");
        } else if is_sure && self.store.fast_forward(&lane.account, next, count).await? {
            metrics::counter!(meters::FAST_FORWARDS).increment(1);
            tracing::warn!(account = %lane.account, from = %next, to = %count,
                "another program used this account's nonces; the lane continues after them");
        }
        Ok(())
    }

    /// In how many consecutive rounds the chain was ahead of the lane, since its count last fell.
    fn count_ahead(&self, account: AccountKey, count: Nonce) -> u32 {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = ahead.entry(account).or_insert((count, 0));
        *seen = if count < seen.0 { (count, 1) } else { (seen.0, seen.1.saturating_add(1)) };
        seen.1
    }

    /// Updates the mark that the account cannot pay: it is set while an open slot's newest attempt was refused for lack
    /// of funds, and cleared otherwise.
    async fn note_funds(&self, lane: &Lane, head: &mut Head, now: Millis) {
        let since = match (lane.is_short_of_funds(), head.unfunded_since) {
            (true, None) => Some(now),
            (false, Some(_)) => None,
            (true, Some(_)) | (false, None) => return,
        };
        match self.store.set_unfunded(&lane.account, since).await {
            Ok(()) => head.unfunded_since = since,
            Err(error) => {
                tracing::warn!(error = error_chain(&error), account = %lane.account, "whether the account can pay was not stored; the next round tries again");
            }
        }
    }

    /// Warns when the lane's head is stuck and its price is not raised.
    fn warn_of_stuck_head(&self, lane: &mut Lane, head: &Head, now: Millis) {
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
                    "the lane's head is not mined and its price is at the cap; it continues to be sent, and is cancelled after policy max_head_s");
            }
            Stuck::NotReplaced(price) => {
                tracing::warn!(account = %head.account, %request_id, %nonce, age_ms, %price,
                    "the lane's head is not mined and the signer gives no replacement: its price is at the policy's cap, or the account is paused; it continues to be sent");
            }
        }
    }

    /// Checks the account's code and balance. BSC allows an address with code (EIP-7702) only one transaction in
    /// flight, and low funds should show before they run out.
    async fn check_account(&self, lane: &mut Lane, now: Millis) {
        if lane.code_checked_at.is_some_and(|at| now.since(at) < Self::ACCOUNT_EVERY_MS) {
            return;
        }
        match self.chain.has_code(lane.account.address).await {
            Ok(has_code) => {
                lane.code_checked_at = Some(now);
                lane.has_code = Some(has_code);
                if has_code {
                    metrics::counter!(meters::DELEGATED, "account" => lane.account.to_string()).increment(1);
                    tracing::warn!(account = %lane.account,
                        "the account's address has code (EIP-7702): BSC takes one transaction of it at a time; remove the delegation");
                }
            }
            Err(error) => {
                tracing::debug!(error = error_chain(&error), account = %lane.account, "the account's code cannot be read");
            }
        }
        match self.chain.balance(lane.account.address).await {
            Ok(balance) => {
                lane.balance = Some(balance);
                metrics::gauge!(meters::BALANCE, "account" => lane.account.to_string())
                    .set(gauge(balance.whole_gwei()));
            }
            Err(error) => {
                tracing::debug!(error = error_chain(&error), account = %lane.account, "the account's funds cannot be read");
            }
        }
    }

    /// Stores the network's price for the signer, which uses it for requests without a price.
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
                tracing::warn!(error = error_chain(&error), account = %head.account, "the network's price was not stored");
            }
        }
    }
}

/// Whether the round needs the chain's view: a record is not settled, a slot is lost, or the lane is idle.
fn asks_chain(lane: &Lane) -> bool {
    lane.records.is_empty()
        || !lane.lost.is_empty()
        || lane.records.values().any(|record| record.phase.settlement().is_none())
}

/// The interval of sweeps, in milliseconds; each interval begins at another idle lane.
const MINUTE_MS: u64 = 60_000;

/// The index of the first idle lane for the sweep of this minute.
fn first_idle(now: Millis, idle: usize) -> usize {
    let (Ok(looks), Ok(idle)) = (u64::try_from(Sweep::IDLE_LOOKS), u64::try_from(idle)) else { return 0 };
    let minute = now.0.checked_div(MINUTE_MS).unwrap_or(0);
    let begin = minute.wrapping_mul(looks).checked_rem(idle).unwrap_or(0);
    usize::try_from(begin).unwrap_or(0)
}

/// Whether no node is known to have the record's newest attempt.
fn is_at_no_node(record: &Record) -> bool {
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
