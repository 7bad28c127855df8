//! The broadcaster's rounds: load a slot, ask the chain, do what the machine says, write it down.

use signpost_txmgr::record::SendClass;

use super::{Explorer, Moves, Written, chain};
use crate::explorer::book::{Happening, View};
use crate::explorer::check::Broken;
use crate::explorer::ledger::{Chain, Seen};
use crate::explorer::mutants::Mutant;
use crate::explorer::world::{Act, Broadcaster, BroadcasterStep, Class, Delivery, RecordId, Resign, State};

/// The highest attempt that is asked for, so that bumps come to an end.
const ATTEMPTS_MAX: u8 = 2;

impl Explorer<'_> {
    pub(super) fn broadcaster_moves(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.broadcasters[at];
        match me.step {
            BroadcasterStep::Idle => self.look(state, at, out),
            BroadcasterStep::View => self.view(state, at, out),
            BroadcasterStep::Do => self.perform(state, at, out),
        }
        if (me.step != BroadcasterStep::Idle || me.holds_poke) && state.faults.crashes > 0 {
            let mut after = with(state, at, Broadcaster::IDLE);
            after.poke |= me.holds_poke;
            after.faults.crashes -= 1;
            out.fault(after, || "crashes".to_owned());
        }
    }

    /// Between rounds: takes a poke, begins a round at an open slot, or ends the pass.
    fn look(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.broadcasters[at];
        if !self.world.sweep && !me.holds_poke {
            if state.poke {
                let mut after = with(state, at, Broadcaster { holds_poke: true, ..me });
                after.poke = false;
                out.step(after, || "takes a poke".to_owned());
            }
            return;
        }
        let (mut is_lane_head, mut predecessors_sent) = (true, true);
        for nonce in state.lowest_open..state.next_nonce {
            let Some(record) = state.record_at(nonce) else { continue };
            let facts = self.book.facts(record);
            let step = BroadcasterStep::View;
            let head = is_lane_head && !facts.mined;
            let after = with(state, at, Broadcaster { step, record, is_lane_head: head, predecessors_sent, ..me });
            out.step(after, || format!("loads slot {nonce}: {}", self.book.record(record).phase.name()));
            is_lane_head &= facts.mined;
            predecessors_sent &= facts.sent;
        }
        if me.holds_poke {
            let open = state.lowest_open < state.next_nonce;
            let mut after = with(state, at, Broadcaster::IDLE);
            after.poke |= open;
            out.step(after, || if open { "pokes itself and ends".to_owned() } else { "ends its pass".to_owned() });
        }
    }

    fn view(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.broadcasters[at];
        let view = self.see(me, &state.chain);
        for after in self.decide(state, at, view) {
            let act = after.broadcasters[at].act;
            out.step(after, || format!("asks the chain, and decides: {act:?}"));
        }
        if state.faults.stale_views > 0 && state.stale != Chain::EMPTY {
            let mut view = self.see(me, &state.stale);
            if self.is(Mutant::FinalityByHighWaterMark) {
                view.finalized = state.chain.finalized;
            }
            for mut after in self.decide(state, at, view) {
                let act = after.broadcasters[at].act;
                after.faults.stale_views -= 1;
                if after.faults.stale_views == 0 {
                    after.stale = Chain::EMPTY;
                }
                out.fault(after, || format!("asks a node of the dead fork, and decides: {act:?}"));
            }
        }
    }

    /// What a node that follows `chain` says about the slot in hand.
    fn see(&self, me: Broadcaster, chain: &Chain) -> View {
        let facts = self.book.facts(me.record);
        let receipt = chain.find(|tx| facts.attempts.contains(&tx));
        let held = receipt.or(facts.receipt).map(|seen| seen.height);
        View {
            latest_nonce: chain.latest_nonce(),
            finalized_nonce: chain.finalized_nonce(),
            finalized: chain.finalized,
            receipt,
            canonical: held.and_then(|height| chain.fork_at(height).map(|fork| (height, fork))),
            is_lane_head: me.is_lane_head,
            predecessors_sent: me.predecessors_sent,
        }
    }

    /// What the machine decides, for every way the clock may stand.
    fn decide(&mut self, state: &State, at: usize, view: View) -> Vec<State> {
        let me = state.broadcasters[at];
        let acts = self.book.decide(me.record, view);
        if acts.is_empty() {
            return vec![with(state, at, me.rested())];
        }
        let doing = |act: &Act| {
            let act = if let Act::Mined(seen) = *act
                && self.is(Mutant::OutcomeAtMined)
            {
                Act::Settle(seen)
            } else {
                *act
            };
            Broadcaster { step: BroadcasterStep::Do, act, ..me }
        };
        acts.iter().map(|act| with(state, at, doing(act))).collect()
    }

    fn perform(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.broadcasters[at];
        match me.act {
            Act::Send(number) => self.send(state, at, number, out),
            Act::Sent(number, Class::Unknown) if self.is(Mutant::NonceHandedOn) => {
                let after = self.hand_on(state, me.record);
                out.step(with(&after, at, me.rested()), || format!("gives the nonce of attempt {number} away"));
            }
            Act::Sent(number, class) => self.note(state, at, Happening::Sent(number, class), out),
            Act::Mined(seen) => self.note(state, at, Happening::Mined(seen), out),
            Act::Unmined => self.note(state, at, Happening::Unmined, out),
            Act::Settle(seen) => self.note(state, at, Happening::Finalized(seen), out),
            Act::Displaced(seen) => self.note(state, at, Happening::Displaced(seen), out),
            Act::CancelByDeadline => self.note(state, at, Happening::CancelByDeadline, out),
            Act::Published => self.note(state, at, Happening::Published, out),
            Act::ProveDisplaced => self.prove(state, at, out),
            Act::Publish => self.publish(state, at, out),
            Act::Leave => {
                let nonce = self.book.facts(me.record).nonce;
                let mut after = with(state, at, me.rested());
                if after.lowest_open == nonce {
                    after.lowest_open += 1;
                }
                out.step(after, || format!("leaves slot {nonce} behind"));
            }
            Act::Ask { number, .. } if number > ATTEMPTS_MAX => {
                out.step(with(state, at, me.rested()), || format!("leaves attempt {number} out: the world is small"));
            }
            Act::Ask { number, cancel } => {
                let mut after = with(state, at, me.rested());
                let request = usize::from(self.book.facts(me.record).request);
                if after.resign[request].state == Delivery::None {
                    after.resign[request] = Resign { state: Delivery::Ready, number, cancel };
                }
                out.step(after, || format!("asks the signer for attempt {number} of request {request}"));
            }
            Act::None => unreachable!("waiting is left out"),
        }
    }

    /// Hands a stored attempt to a node. The answer may be lost, and so may the call.
    fn send(&mut self, state: &State, at: usize, number: u8, out: &mut Moves<'_>) {
        let me = state.broadcasters[at];
        let facts = self.book.facts(me.record);
        let tx = facts.attempts[usize::from(number)];
        let said = facts.answers[usize::from(number)];
        let noted = |class: Class| {
            let old_news =
                said == Some(class.real()) || said == Some(SendClass::Accepted) && class == Class::AlreadyKnown;
            if old_news { me.rested() } else { Broadcaster { act: Act::Sent(number, class), ..me } }
        };
        let (after, class) = chain::send(state, tx);
        out.step(with(&after, at, noted(class)), || format!("sends {tx:?}: {class:?}"));
        if state.faults.lost_replies > 0 {
            for (reached, text) in [(after, "and the reply is lost"), (*state, "which never arrives, and is not told")]
            {
                let mut after = with(&reached, at, noted(Class::Unknown));
                after.faults.lost_replies -= 1;
                out.fault(after, || format!("sends {tx:?}, {text}"));
            }
        }
    }

    /// One conditional write; the round is over whether it holds or another came first.
    fn note(&mut self, state: &State, at: usize, happening: Happening, out: &mut Moves<'_>) {
        let me = state.broadcasters[at];
        match self.write(state, me.record, happening) {
            Err(broken) => out.broken(*state, broken, || format!("notes {happening:?}")),
            Ok(Written::Stale) => {
                let after = with(state, at, me.rested());
                out.step(after, || format!("notes {happening:?}: another write came first"));
            }
            Ok(Written::Stored(after, record)) => {
                let marked_first = self.is(Mutant::MarkBeforePublish) && happening == Happening::Published;
                let then = if marked_first { Broadcaster { record, act: Act::Publish, ..me } } else { me.rested() };
                out.step(with(&after, at, then), || format!("notes {happening:?}"));
            }
        }
    }

    /// Looks for the transaction that used the nonce, up to the finalized block.
    fn prove(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.broadcasters[at];
        let facts = self.book.facts(me.record);
        let user: Option<Seen> = state.chain.find(|tx| tx.nonce() == facts.nonce);
        let proof = user.filter(|seen| seen.height <= state.chain.finalized && !facts.attempts.contains(&seen.tx));
        let then = proof.map_or(me.rested(), |seen| Broadcaster { act: Act::Displaced(seen), ..me });
        out.step(with(state, at, then), || match proof {
            Some(seen) => format!("finds {seen:?} in the slot's place"),
            None => "finds no foreign transaction".to_owned(),
        });
    }

    fn publish(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.broadcasters[at];
        let facts = self.book.facts(me.record);
        if self.is(Mutant::MarkBeforePublish) && !facts.closed {
            let after = with(state, at, Broadcaster { act: Act::Published, ..me });
            out.step(after, || "is about to note the publication first".to_owned());
            return;
        }
        let (request, outcome) = (usize::from(facts.request), facts.outcome);
        let before = state.outcomes[request];
        let broken = (before != 0 && before != outcome)
            .then(|| Broken::new("I11", format!("two copies of the outcome of request {request} differ")));
        let mut after = *state;
        after.outcomes[request] = outcome;
        let then = if facts.closed { me.rested() } else { Broadcaster { act: Act::Published, ..me } };
        let name = self.book.record(me.record).phase.name();
        out.judged(with(&after, at, then), broken, || format!("publishes that request {request} is {name}"));
        if state.faults.lost_replies > 0 {
            after.faults.lost_replies -= 1;
            out.fault(after, || format!("publishes that request {request} is {name}, and the reply is lost"));
        }
    }

    /// The mutant: an unknown send is taken for a failed one, and the slot goes to the next request.
    fn hand_on(&self, state: &State, record: RecordId) -> State {
        let nonce = self.book.facts(record).nonce;
        let mut after = *state;
        if after.next_nonce == nonce + 1 {
            after.next_nonce = nonce;
            after.slots[usize::from(nonce)] = 0;
        }
        after
    }
}

fn with(state: &State, at: usize, broadcaster: Broadcaster) -> State {
    let mut after = *state;
    after.broadcasters[at] = broadcaster;
    after
}
