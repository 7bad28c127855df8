//! What can happen next: every move of every worker, of the queues and of the chain.
//!
//! A worker's move is one port call. A crash drops a worker's memory, and the messages it held are redelivered. A lost
//! reply means that the call took effect and the worker repeats it. Faults are moves with a budget
//! ([`super::world::Faults`]).
//!
//! The workers here are a model of the drivers, not the drivers: they call the real
//! `apply` and `next_action` through [`MachineCache`] and nothing else of them. A broadcaster's pass is cut
//! into rounds of one slot, which gives more interleavings than the real pass, not fewer.
//!
//! Read next: [`super::check`].

mod answers;
mod broadcaster;
mod chain;
mod pool;
mod signer;

use std::fmt;

use super::check::Broken;
use super::machine_cache::{MachineCache, ModelEvent};
use super::mutants::ModelMutant;
use super::world::{Facts, Item, RecordId, State, World};

/// Generates the moves of a world.
#[derive(Debug)]
pub struct Explorer<'w> {
    world: &'w World,
    mutant: Option<ModelMutant>,
    machine_cache: MachineCache,
}

/// A move and where it leads.
#[derive(Debug)]
pub struct Next {
    /// Where it leads. Workers keep their places: see [`State::canonical`].
    pub state: State,
    /// What it is called.
    pub label: Label,
    /// It is a fault: no request may depend on it to finish.
    pub fault: bool,
    /// The move itself breaks an invariant.
    pub broken: Option<Broken>,
}

/// A move as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    who: Who,
    what: String,
}

/// Who moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Signer(usize),
    Broadcaster(usize),
    Queue,
    Chain,
    Operator,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.who {
            Who::Signer(at) => write!(f, "signer {at} ", at = at + 1)?,
            Who::Broadcaster(at) => write!(f, "broadcaster {at} ", at = at + 1)?,
            Who::Queue => f.write_str("signing queue ")?,
            Who::Chain => f.write_str("chain ")?,
            Who::Operator => f.write_str("operator ")?,
        }
        f.write_str(&self.what)
    }
}

/// The result of a conditional write.
#[expect(clippy::large_enum_variant, reason = "it is matched at once, and a box would cost an allocation a move")]
enum Written {
    /// It is stored, which gives this state and record.
    Stored(State, RecordId),
    /// Another write came first.
    Stale,
}

/// Collects the moves of one state. Texts are made only for a trace.
pub(super) struct Moves<'o> {
    out: &'o mut Vec<Next>,
    who: Who,
    with_labels: bool,
}

impl Moves<'_> {
    fn push(&mut self, state: State, fault: bool, broken: Option<Broken>, what: impl FnOnce() -> String) {
        let what = if self.with_labels || broken.is_some() { what() } else { String::new() };
        self.out.push(Next { state, label: Label { who: self.who, what }, fault, broken });
    }

    /// A step.
    fn step(&mut self, state: State, what: impl FnOnce() -> String) {
        self.push(state, false, None, what);
    }

    /// A fault.
    fn fault(&mut self, state: State, what: impl FnOnce() -> String) {
        self.push(state, true, None, what);
    }

    /// A step that breaks an invariant by itself.
    fn broken(&mut self, state: State, broken: Broken, what: impl FnOnce() -> String) {
        self.push(state, false, Some(broken), what);
    }

    /// A step that may break an invariant by itself.
    fn judged(&mut self, state: State, broken: Option<Broken>, what: impl FnOnce() -> String) {
        self.push(state, false, broken, what);
    }
}

impl<'w> Explorer<'w> {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(world: &'w World, mutant: Option<ModelMutant>) -> Self {
        Self { world, mutant, machine_cache: MachineCache::new(world, mutant) }
    }

    /// The records that occurred so far.
    #[must_use]
    pub fn machine_cache(&self) -> &MachineCache {
        &self.machine_cache
    }

    /// The bug that is switched on.
    #[must_use]
    pub fn mutant(&self) -> Option<ModelMutant> {
        self.mutant
    }

    /// Every move from `state`, without labels.
    pub fn moves(&mut self, state: &State, out: &mut Vec<Next>) {
        self.all_moves(state, out, false);
    }

    /// Every move from `state`, in the same order, with labels.
    pub fn labelled_moves(&mut self, state: &State, out: &mut Vec<Next>) {
        self.all_moves(state, out, true);
    }

    fn all_moves(&mut self, state: &State, out: &mut Vec<Next>, with_labels: bool) {
        for at in 0..self.world.signers {
            // Two workers in the same position are interchangeable.
            if !state.signers[..at].contains(&state.signers[at]) {
                self.signer_moves(state, at, &mut Moves { out, who: Who::Signer(at), with_labels });
            }
        }
        for at in 0..self.world.broadcasters {
            if !state.broadcasters[..at].contains(&state.broadcasters[at]) {
                self.broadcaster_moves(state, at, &mut Moves { out, who: Who::Broadcaster(at), with_labels });
            }
        }
        self.redeliveries(state, &mut Moves { out, who: Who::Queue, with_labels });
        chain::moves(self.world, state, &mut Moves { out, who: Who::Chain, with_labels });
        pool::operator_moves(self.world, state, &mut Moves { out, who: Who::Operator, with_labels });
    }

    fn is(&self, mutant: ModelMutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Mutant: frees the slot's nonce for the next request.
    fn hand_on(state: &State, &Facts { account, nonce, .. }: &Facts) -> State {
        let mut after = *state;
        let lane = after.lane_mut(account);
        if lane.next_nonce == nonce + 1 {
            lane.next_nonce = nonce;
            lane.slots[usize::from(nonce)] = 0;
        }
        after
    }

    /// The conditional write of the requests table: the event is applied to the record as the worker last read it, and
    /// stored only over the previous version.
    fn write(&mut self, state: &State, known: RecordId, model_event: ModelEvent) -> Result<Written, Broken> {
        let next = self
            .machine_cache
            .apply(known, model_event)
            .map_err(|illegal| Broken::new("apply", format!("the machine refuses {model_event:?}: {illegal}")))?;
        let facts = self.machine_cache.facts(next);
        let request = usize::from(facts.request);
        let Item::Record(stored) = state.table[request] else { return Ok(Written::Stale) };
        let before = self.machine_cache.facts(stored);
        if before.version + 1 != facts.version {
            return Ok(Written::Stale);
        }
        if before.outcome != 0 && before.outcome != facts.outcome {
            return Err(Broken::new("I6", format!("the outcome of request {request} changes")));
        }
        let mut after = *state;
        after.table[request] = Item::Record(next);
        Ok(Written::Stored(after, next))
    }
}
