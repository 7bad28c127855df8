//! A breadth-first search over every reachable state, and a backward search from the finished ones.
//!
//! [`explore`] answers two questions. *Is an invariant broken?* Breadth first means that the first break found has the
//! shortest trace. *Can every state still finish?* By walking the moves backwards from all finished states, without
//! faults: a state that is not reached could finish only through another fault, or not at all.
//!
//! This shows that a request can finish, not that it does: the simulation tests fairness. Read next:
//! [`super::mutants`].

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::time::Duration;

use super::check::{Broken, check, is_finished};
use super::hash::FastHash;
use super::moves::{Explorer, Next};
use super::mutants::ModelMutant;
use super::world::{State, World};

/// The result of an exploration.
#[derive(Debug)]
pub struct Report {
    /// The world's name.
    pub world: &'static str,
    /// The mutant, if one was on.
    pub mutant: Option<ModelMutant>,
    /// Different states reached.
    pub states: usize,
    /// Moves between them.
    pub moves: usize,
    /// Moves from the first state to the farthest.
    pub depth: usize,
    /// Different records the machine made.
    pub records: usize,
    /// The statuses they had.
    pub statuses: BTreeSet<&'static str>,
    /// Finished states.
    pub finished: usize,
    /// Every reachable state was seen.
    pub complete: bool,
    /// The first violation.
    pub finding: Option<Finding>,
}

/// A violation, and the shortest trace to it.
#[derive(Debug)]
pub struct Finding {
    /// What is broken.
    pub broken: Broken,
    /// The moves, in order.
    pub trace: Vec<String>,
}

/// Explores a world, at most `limit` states of it. Without a finding and [`Report::complete`], nothing
/// is wrong with it.
#[must_use]
pub fn explore(world: &World, mutant: Option<ModelMutant>, limit: usize) -> Report {
    Search::new(world, mutant, limit).run()
}

/// States per minute, for display.
#[must_use]
pub fn per_minute(states: usize, took: Duration) -> u64 {
    let millis = took.as_millis().max(1);
    u64::try_from(states as u128 * 60_000 / millis).unwrap_or(u64::MAX)
}

struct Search<'w> {
    world: &'w World,
    limit: usize,
    explorer: Explorer<'w>,
    seen: Seen,
    parents: Vec<u32>,
    /// The moves of state `at` are `targets[starts[at]..starts[at + 1]]`.
    starts: Vec<usize>,
    targets: Vec<u32>,
    depth: usize,
}

/// Marks a move in [`Search::targets`] as a fault.
const FAULT: u32 = 1 << 31;

impl<'w> Search<'w> {
    fn new(world: &'w World, mutant: Option<ModelMutant>, limit: usize) -> Self {
        let mut seen = Seen::new();
        let (_, fresh) = seen.insert(State::first(world).canonical(world));
        assert!(fresh, "the first state is new");
        Self {
            world,
            limit,
            explorer: Explorer::new(world, mutant),
            seen,
            parents: vec![0],
            starts: vec![0],
            targets: Vec::new(),
            depth: 0,
        }
    }

    fn run(mut self) -> Report {
        let mut next = Vec::new();
        let mut at = 0;
        let mut layer_ends = 1;
        let mut finding = None;
        while at < self.seen.states.len() && self.seen.states.len() <= self.limit {
            if at == layer_ends {
                layer_ends = self.seen.states.len();
                self.depth += 1;
            }
            next.clear();
            let state = self.seen.states[at];
            self.explorer.moves(&state, &mut next);
            finding = self.take(at, &mut next);
            if finding.is_some() {
                break;
            }
            self.starts.push(self.targets.len());
            at += 1;
        }
        let complete = finding.is_none() && at == self.seen.states.len();
        let finished: Vec<u32> = self.finished();
        if complete {
            finding = self.first_stuck(&finished);
        }
        Report {
            world: self.world.name,
            mutant: self.explorer.mutant(),
            states: self.seen.states.len(),
            moves: self.targets.len(),
            depth: self.depth,
            records: self.explorer.machine_cache().records().count(),
            statuses: self.explorer.machine_cache().records().map(|record| record.phase.name()).collect(),
            finished: finished.len(),
            complete,
            finding,
        }
    }

    /// Stores the moves of a state; returns a finding if one of them breaks an invariant.
    fn take(&mut self, at: usize, next: &mut Vec<Next>) -> Option<Finding> {
        for Next { state, fault, broken, .. } in next.drain(..) {
            if let Some(broken) = broken {
                return Some(self.broken_move(at, broken));
            }
            let (to, fresh) = self.seen.insert(state.canonical(self.world));
            self.targets.push(to | if fault { FAULT } else { 0 });
            if fresh {
                self.parents.push(at as u32);
                if let Some(broken) = check(self.world, self.explorer.machine_cache(), &state) {
                    return Some(Finding { broken, trace: self.trace(to as usize).0 });
                }
            }
        }
        None
    }

    fn finished(&self) -> Vec<u32> {
        let states = self.seen.states.iter().enumerate();
        states
            .filter(|(_, state)| is_finished(self.world, self.explorer.machine_cache(), state))
            .map(|(at, _)| at as u32)
            .collect()
    }

    /// The nearest state from which no finished one can be reached without another fault.
    fn first_stuck(&mut self, finished: &[u32]) -> Option<Finding> {
        let total = self.seen.states.len();
        let mut counts = vec![0_usize; total + 1];
        for target in self.targets.iter().filter(|target| **target & FAULT == 0) {
            counts[*target as usize + 1] += 1;
        }
        for at in 0..total {
            counts[at + 1] += counts[at];
        }
        let mut sources = vec![0_u32; counts[total]];
        let mut fill = counts.clone();
        for from in 0..total {
            for target in &self.targets[self.starts[from]..self.starts[from + 1]] {
                if target & FAULT == 0 {
                    sources[fill[*target as usize]] = from as u32;
                    fill[*target as usize] += 1;
                }
            }
        }
        let mut can_finish = vec![false; total];
        let mut open: Vec<u32> = finished.to_vec();
        for at in finished {
            can_finish[*at as usize] = true;
        }
        while let Some(at) = open.pop() {
            for from in &sources[counts[at as usize]..counts[at as usize + 1]] {
                if !can_finish[*from as usize] {
                    can_finish[*from as usize] = true;
                    open.push(*from);
                }
            }
        }
        let stuck = can_finish.iter().position(|can| !can)?;
        let how_many = can_finish.iter().filter(|can| !**can).count();
        let broken = Broken::new("I12", format!("cannot finish any more ({how_many} such states)"));
        Some(Finding { broken, trace: self.trace(stuck).0 })
    }

    fn broken_move(&mut self, from: usize, broken: Broken) -> Finding {
        let (mut trace, state) = self.trace(from);
        let mut next = Vec::new();
        self.explorer.labelled_moves(&state, &mut next);
        trace.extend(next.iter().find(|next| next.broken.is_some()).map(|next| next.label.to_string()));
        Finding { broken, trace }
    }

    /// The moves to a state, labelled with workers that keep their numbers, and that state.
    fn trace(&mut self, to: usize) -> (Vec<String>, State) {
        let mut path = vec![to];
        while let Some(at) = path.last().copied().filter(|at| *at != 0) {
            path.push(self.parents[at] as usize);
        }
        let mut state = State::first(self.world);
        let mut trace = Vec::new();
        let mut next = Vec::new();
        for at in path.into_iter().rev().skip(1) {
            next.clear();
            self.explorer.labelled_moves(&state, &mut next);
            let wanted = self.seen.states[at];
            let taken = next.iter().find(|next| next.state.canonical(self.world) == wanted).unwrap();
            trace.push(taken.label.to_string());
            state = taken.state;
        }
        (trace, state)
    }
}

/// The states found so far, each once, in order.
struct Seen {
    states: Vec<State>,
    /// Open addressing: a state's number plus 1, or 0 for free.
    slots: Vec<u32>,
    hasher: FastHash,
}

impl Seen {
    fn new() -> Self {
        Self { states: Vec::new(), slots: vec![0; 1 << 16], hasher: FastHash::default() }
    }

    /// The state's number, and whether it is new.
    fn insert(&mut self, state: State) -> (u32, bool) {
        if self.states.len() * 2 > self.slots.len() {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = self.hasher.hash_one(state) as usize & mask;
        loop {
            match self.slots[at] {
                0 => {
                    self.states.push(state);
                    let number = self.states.len() as u32;
                    assert!(number < FAULT, "a search stays below two thousand million states");
                    self.slots[at] = number;
                    return (number - 1, true);
                }
                number if self.states[number as usize - 1] == state => return (number - 1, false),
                _ => at = (at + 1) & mask,
            }
        }
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![0_u32; mask + 1];
        for (number, state) in self.states.iter().enumerate() {
            let mut at = self.hasher.hash_one(state) as usize & mask;
            while slots[at] != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = number as u32 + 1;
        }
        self.slots = slots;
    }
}
