//! The invariants in `crates/README.md`, as questions to one state. Nothing here looks at how a driver works,
//! only at what is in the tables, on the queues, at the nodes and on the topic.
//!
//! I6, I8, I11 and I14 are also checked at each write and publication (see [`super::moves`]). The simulation checks
//! I10, which needs real signatures, and that a paused account signs nothing. `head-only` is not an invariant but the
//! rule that only the lane's head is bumped, checked when the signer is asked: a bump above an unmined slot costs more,
//! mines nothing sooner, and breaks nothing else.
//!
//! Read next: [`super::search`].

use std::fmt;

use signpost_txmgr::record::AttemptKind;

use super::lane::NONCES;
use super::ledger::Tx;
use super::machine_cache::MachineCache;
use super::world::{Broadcaster, BroadcasterStep, Facts, Item, MessageSpec, MessageState, SignerStep, State, World};

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its number in `crates/README.md`.
    pub invariant: &'static str,
    /// What is wrong.
    pub what: String,
}

impl Broken {
    /// A violation of an invariant.
    #[must_use]
    pub fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// The first broken invariant of a state.
#[must_use]
pub fn check(world: &World, machine_cache: &MachineCache, state: &State) -> Option<Broken> {
    assignments(machine_cache, state)
        .or_else(|| (0..world.accounts as u8).find_map(|account| slots(machine_cache, state, account)))
        .or_else(|| transactions(machine_cache, state))
        .or_else(|| outcomes(machine_cache, state))
        .or_else(|| messages(world, machine_cache, state))
        .or_else(|| answers(world, state))
}

/// Whether everything is done: each message has its one outcome, and every worker is idle.
#[must_use]
pub fn is_finished(world: &World, machine_cache: &MachineCache, state: &State) -> bool {
    state.lanes.iter().all(|lane| lane.next_nonce == lane.lowest_open)
        && state.signers.iter().all(|signer| signer.step == SignerStep::Idle)
        && state.broadcasters.iter().all(is_idle)
        && state.records().all(|record| {
            let facts = machine_cache.facts(record);
            facts.closed && state.outcomes[usize::from(facts.request)] == facts.outcome
        })
        && world.messages.iter().enumerate().all(|(at, ask)| is_answered(machine_cache, state, at, *ask))
}

fn is_idle(broadcaster: &Broadcaster) -> bool {
    broadcaster.step == BroadcasterStep::Idle && !broadcaster.holds_poke
}

/// Whether a message has its outcome: its request's, or its own rejection.
fn is_answered(machine_cache: &MachineCache, state: &State, at: usize, ask: MessageSpec) -> bool {
    let item = state.table[usize::from(ask.request)];
    match state.messages[at].state {
        MessageState::AckedAsRequest if ask.cancels => matches!(item, Item::Record(_)),
        MessageState::AckedAsRequest => {
            matches!(item, Item::Record(id) if machine_cache.facts(id).content == ask.content)
        }
        // The request it names is rejected itself, or it has a refusal of its own.
        MessageState::AckedAsRejected if ask.cancels => match item {
            Item::Rejected { published, .. } => published,
            Item::Vacant | Item::Record(_) => state.rejections[at] != 0,
        },
        MessageState::AckedAsRejected => {
            let unmarked = matches!(item, Item::Rejected { published: false, by, .. } if usize::from(by) == at);
            state.rejections[at] != 0 && !unmarked
        }
        MessageState::None | MessageState::Ready | MessageState::Taken => false,
    }
}

/// I8 for a pool: a request stays with the account it was first reserved with.
fn assignments(machine_cache: &MachineCache, state: &State) -> Option<Broken> {
    for facts in state.records().map(|record| machine_cache.facts(record)) {
        let Facts { request, content, account, .. } = *facts;
        if state.assigned[usize::from(request)] != account + 1 {
            return Some(Broken::new("I8", format!("the account of request {request} has changed")));
        }
        let elsewhere = state.lanes.iter().enumerate().filter(|(at, _)| *at != usize::from(account));
        for (at, lane) in elsewhere {
            if lane.slots.contains(&(request + 1)) {
                return Some(Broken::new("I8", format!("request {request} has a slot with account {at} too")));
            }
            if lane.signed.iter().any(|contents| contents >> content & 1 == 1) {
                let what =
                    format!("request {request} is signed with the key of account {at}, and is account {account}'s");
                return Some(Broken::new("I8", what));
            }
        }
    }
    None
}

/// I1 and I4: an account's lane.
fn slots(machine_cache: &MachineCache, state: &State, account: u8) -> Option<Broken> {
    let lane = state.lane(account);
    for nonce in 0..NONCES as u8 {
        let slot = lane.slots[usize::from(nonce)];
        let skipped = lane.skipped >> nonce & 1 == 1;
        let record = state.record_at(account, nonce).map(|id| machine_cache.facts(id));
        if skipped && !state.chain.find(|tx| tx.is_at(account, nonce)).is_some_and(|seen| seen.tx.is_foreign()) {
            return Some(Broken::new("I4", format!("nonce {nonce} is skipped, and no foreign transaction used it")));
        }
        if (nonce < lane.next_nonce) != (slot != 0 || skipped) {
            return Some(Broken::new("I4", format!("next nonce is {}, slot {nonce} is {slot}", lane.next_nonce)));
        }
        if lane.signed[usize::from(nonce)].count_ones() > 1 {
            return Some(Broken::new("I1", format!("two requests are signed for nonce {nonce}")));
        }
        if slot != 0 && record.is_none_or(|facts| facts.nonce != nonce || facts.account != account) {
            return Some(Broken::new("I1", format!("slot {nonce} and its request do not name each other")));
        }
        if nonce < lane.lowest_open && !skipped && record.is_none_or(|facts| !facts.closed) {
            return Some(Broken::new("I12", format!("slot {nonce} is left behind and not closed")));
        }
    }
    None
}

/// I2, I3 and I5: what nodes hold, and what is mined.
fn transactions(machine_cache: &MachineCache, state: &State) -> Option<Broken> {
    let mined = || state.chain.blocks().iter().map(|block| block.tx).filter(|tx| tx.is_some());
    let held = || state.lanes.iter().flat_map(|lane| lane.pool.iter().chain(&lane.other)).copied();
    for tx in held().filter(|tx| tx.is_some()).chain(mined()).filter(|tx| !tx.is_foreign()) {
        let stored = state.records().find(|record| machine_cache.facts(*record).attempts.contains(&tx));
        let Some(record) = stored else {
            return Some(Broken::new("I3", format!("a node has {tx:?}, which is not stored")));
        };
        let Facts { content, account, nonce, .. } = *machine_cache.facts(record);
        if tx.content() != content || !tx.is_at(account, nonce) {
            return Some(Broken::new("I2", format!("{tx:?} is not what its request asks for at nonce {nonce}")));
        }
    }
    let executes = |tx: Tx| !tx.is_foreign() && tx.kind() == AttemptKind::Execute;
    for (at, tx) in mined().enumerate() {
        let twice = |other: Tx| {
            other.is_at(tx.account(), tx.nonce()) || executes(tx) && executes(other) && other.content() == tx.content()
        };
        if mined().skip(at + 1).any(twice) {
            return Some(Broken::new("I5", format!("{tx:?} is mined, and its nonce or its request is mined again")));
        }
    }
    None
}

/// I6 and G3: a decided outcome matches the chain, and keeps matching it.
fn outcomes(machine_cache: &MachineCache, state: &State) -> Option<Broken> {
    for facts in state.records().map(|record| machine_cache.facts(record)).filter(|facts| facts.outcome != 0) {
        let on_chain = state.chain.find(|tx| tx.is_at(facts.account, facts.nonce));
        let matches_chain = match facts.receipt {
            Some(receipt) => on_chain == Some(receipt),
            None => on_chain.is_some_and(|seen| seen.tx.is_foreign()),
        };
        if !matches_chain {
            let truth = on_chain.map_or("nothing".to_owned(), |seen| format!("{:?}", seen.tx));
            return Some(Broken::new(
                "I6",
                format!(
                    "the outcome of request {} is decided by what is not on chain: there is {truth}",
                    facts.request
                ),
            ));
        }
    }
    None
}

/// I15: a message that is refused is refused in all its deliveries.
fn answers(world: &World, state: &State) -> Option<Broken> {
    for (at, ask) in world.messages.iter().enumerate().filter(|(at, _)| state.rejections[*at] != 0) {
        let request = usize::from(ask.request);
        let adopted = if ask.cancels { state.cancelled_by[request] } else { state.reserved_by[request] };
        if usize::from(adopted) == at + 1 {
            let what = if ask.cancels { "carried out" } else { "executed" };
            return Some(Broken::new("I15", format!("message {at} is rejected, and {what}")));
        }
    }
    None
}

/// I7, I8, I9 and I13: what becomes of messages.
fn messages(world: &World, machine_cache: &MachineCache, state: &State) -> Option<Broken> {
    for (at, ask) in world.messages.iter().enumerate() {
        let item = state.table[usize::from(ask.request)];
        let facts = match item {
            Item::Record(record) => Some(machine_cache.facts(record)),
            Item::Vacant | Item::Rejected { .. } => None,
        };
        if ask.cancels {
            let carried = facts.is_some_and(|facts| facts.cancel || facts.outcome != 0);
            if state.messages[at].state == MessageState::AckedAsRequest && !carried {
                return Some(Broken::new("I13", format!("cancel {at} is acknowledged, and its request has no cancel")));
            }
            continue;
        }
        let signed = state.lanes.iter().flat_map(|lane| lane.signed);
        let is_signed = signed.into_iter().any(|contents| contents >> ask.content & 1 == 1);
        let wanted =
            world.messages.iter().any(|other| !other.cancels && other.content == ask.content && !other.refused);
        if is_signed && !wanted {
            return Some(Broken::new("I9", format!("message {at} is refused by policy, and signed")));
        }
        if is_signed && matches!(item, Item::Rejected { .. }) {
            return Some(Broken::new("I7", format!("request {} is rejected, and signed", ask.request)));
        }
        if is_signed && facts.is_some_and(|facts| facts.content != ask.content) {
            return Some(Broken::new(
                "I8",
                format!("message {at} conflicts with request {}, and is signed", ask.request),
            ));
        }
        if state.messages[at].state == MessageState::AckedAsRequest {
            let Some(facts) = facts else {
                return Some(Broken::new("I13", format!("message {at} is acknowledged, and nothing is stored")));
            };
            // A request reserved with a paused account is signed after the account is resumed.
            if facts.attempts.is_empty() && facts.outcome == 0 && world.faults.pauses == 0 {
                return Some(Broken::new("I13", format!("message {at} is acknowledged, and no signature is stored")));
            }
            if facts.content != ask.content {
                let what = format!("message {at} is taken for request {}, which asks for something else", ask.request);
                return Some(Broken::new("I8", what));
            }
        }
    }
    None
}
