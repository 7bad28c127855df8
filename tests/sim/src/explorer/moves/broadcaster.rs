//! The broadcaster's rounds: load a slot, ask the chain, do what the machine says, write it down.

use signpost_txmgr::record::{AttemptKind, SendClass};

use super::{Explorer, Moves, Written, chain};
use crate::explorer::check::Broken;
use crate::explorer::lane::NONCES;
use crate::explorer::ledger::{Chain, Seen, Tx};
use crate::explorer::machine_cache::{ModelEvent, View};
use crate::explorer::mutants::ModelMutant;
use crate::explorer::world::{Act, Broadcaster, BroadcasterStep, Class, Facts, MessageState, Resign, State};

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
        for account in 0..self.world.accounts as u8 {
            if self.world.works_for(at, account) || self.is(ModelMutant::LaneOfAnotherChain) {
                self.look_at_lane(state, at, account, out);
            }
        }
        if me.holds_poke {
            let open = state.lanes.iter().any(|lane| lane.lowest_open < lane.next_nonce);
            let mut after = with(state, at, Broadcaster::IDLE);
            after.poke |= open;
            out.step(after, || if open { "pokes itself and ends".to_owned() } else { "ends its pass".to_owned() });
        }
    }

    /// Begins a round at one of the account's open slots, or at its idle lane.
    fn look_at_lane(&self, state: &State, at: usize, account: u8, out: &mut Moves<'_>) {
        let me = state.broadcasters[at];
        let lane = state.lane(account);
        let (mut is_lane_head, mut predecessors_sent) = (true, true);
        for nonce in lane.lowest_open..lane.next_nonce {
            let Some(record) = state.record_at(account, nonce) else { continue };
            let facts = self.machine_cache.facts(record);
            let step = BroadcasterStep::View;
            let head = (is_lane_head || self.is(ModelMutant::BumpOfNonHead)) && !facts.mined;
            let after = with(state, at, Broadcaster { step, record, is_lane_head: head, predecessors_sent, ..me });
            out.step(after, || format!("loads slot {nonce}: {}", self.machine_cache.record(record).phase.name()));
            is_lane_head &= facts.mined;
            predecessors_sent &= facts.sent;
        }
        let (from, to) = (lane.next_nonce, state.chain.finalized_nonce(self.seen_as(at, account)));
        let is_idle = lane.lowest_open == from || self.is(ModelMutant::FastForwardOverOpenSlot);
        if is_idle && to > from {
            let act = Act::FastForward { account, from, to };
            let after = with(state, at, Broadcaster { step: BroadcasterStep::Do, act, ..me });
            out.step(after, || format!("finds that the chain counts {to} where the lane's next nonce is {from}"));
        }
    }

    /// The account whose history a broadcaster's nodes show for an address. Where each account has a chain of its own,
    /// the nodes show the address on their own chain.
    fn seen_as(&self, at: usize, account: u8) -> u8 {
        if self.world.chains { at as u8 } else { account }
    }

    fn view(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let view = self.see(state, at, &state.chain);
        for after in self.decide(state, at, view) {
            let act = after.broadcasters[at].act;
            out.step(after, || format!("asks the chain, and decides: {act:?}"));
        }
        if state.faults.outages > 0 {
            for mut after in self.decide(state, at, View { answers: false, ..view }) {
                let act = after.broadcasters[at].act;
                after.faults.outages -= 1;
                out.fault(after, || format!("asks the chain, and no node answers; decides: {act:?}"));
            }
        }
        if state.faults.null_receipts > 0 && view.receipt.is_some() {
            let blind = self.see_without_receipt(state, at);
            for mut after in self.decide(state, at, blind) {
                let act = after.broadcasters[at].act;
                after.faults.null_receipts -= 1;
                out.fault(after, || format!("asks a node that returns no receipt, and decides: {act:?}"));
            }
        }
        if state.faults.stale_views > 0 && state.stale != Chain::EMPTY {
            let mut view = self.see(state, at, &state.stale);
            if self.is(ModelMutant::FinalityByHighWaterMark) {
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
            // One URL with a node on each fork behind it: the answers of one call come from one of the nodes.
            let is_one_answer = self.is(ModelMutant::EvidenceOfSeveralAnswers);
            let mixed = View { finalized: state.chain.finalized, is_one_answer, ..self.see(state, at, &state.stale) };
            for mut after in self.decide(state, at, mixed) {
                let act = after.broadcasters[at].act;
                after.faults.stale_views -= 1;
                if after.faults.stale_views == 0 {
                    after.stale = Chain::EMPTY;
                }
                out.fault(after, || format!("asks a URL with a node of each fork, and decides: {act:?}"));
            }
        }
    }

    /// What a node that follows `chain` reports for the current slot. The count at the finalized block is the highest
    /// that any node has reported in this pass.
    fn see(&self, state: &State, at: usize, chain: &Chain) -> View {
        let facts = self.machine_cache.facts(state.broadcasters[at].record);
        let receipt = chain.find(|tx| facts.attempts.contains(&tx) && tx.account() == self.seen_as(at, tx.account()));
        self.view_of(state, at, chain, receipt, receipt.or(facts.receipt))
    }

    /// The same from a node that returns no receipt ("transaction indexing is in progress").
    fn see_without_receipt(&self, state: &State, at: usize) -> View {
        let receipt = self.machine_cache.facts(state.broadcasters[at].record).receipt;
        self.view_of(state, at, &state.chain, None, receipt)
    }

    fn view_of(&self, state: &State, at: usize, chain: &Chain, receipt: Option<Seen>, held: Option<Seen>) -> View {
        let me = state.broadcasters[at];
        let held = held.map(|seen| seen.height);
        let account = self.seen_as(at, self.machine_cache.facts(me.record).account);
        View {
            answers: true,
            latest_nonce: chain.latest_nonce(account),
            finalized_nonce: chain.finalized_nonce(account).max(state.chain.finalized_nonce(account)),
            finalized: chain.finalized,
            receipt,
            canonical: held.and_then(|height| chain.fork_at(height).map(|fork| (height, fork))),
            is_one_answer: true,
            is_lane_head: me.is_lane_head,
            predecessors_sent: me.predecessors_sent,
        }
    }

    /// What the machine decides, for every state of the timers.
    fn decide(&mut self, state: &State, at: usize, view: View) -> Vec<State> {
        let me = state.broadcasters[at];
        let acts = self.machine_cache.decide(me.record, view);
        if acts.is_empty() {
            return vec![with(state, at, me.rested())];
        }
        let doing = |act: &Act| {
            let act = if let Act::Mined(seen) = *act
                && self.is(ModelMutant::OutcomeAtMined)
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
            Act::Sent(number, Class::Unknown) if self.is(ModelMutant::NonceHandedOn) => {
                let after = Self::hand_on(state, self.machine_cache.facts(me.record));
                out.step(with(&after, at, me.rested()), || format!("gives the nonce of attempt {number} away"));
            }
            Act::Sent(number, Class::Accepted)
                if self.is(ModelMutant::CancelledWhenSent) && self.is_cancel(me, number) =>
            {
                let tx = self.machine_cache.facts(me.record).attempts[usize::from(number)];
                let made_up = Seen { tx, height: state.chain.height.max(1), fork: state.fork };
                self.note(state, at, ModelEvent::Finalized(made_up), out);
            }
            Act::Sent(number, class) => self.note(state, at, ModelEvent::Sent(number, class), out),
            Act::Mined(seen) => self.note(state, at, ModelEvent::Mined(seen), out),
            Act::Unmined => self.note(state, at, ModelEvent::Unmined, out),
            Act::Settle(seen) => self.note(state, at, ModelEvent::Finalized(seen), out),
            Act::Displaced(seen) => self.note(state, at, ModelEvent::Displaced(seen), out),
            Act::CancelByDeadline => self.note(state, at, ModelEvent::CancelByDeadline, out),
            Act::CancelByRefusal => self.note(state, at, ModelEvent::CancelByRefusal, out),
            Act::AtCap => self.note(state, at, ModelEvent::AtCap, out),
            Act::CancelAtCap => self.note(state, at, ModelEvent::CancelAtCap, out),
            Act::FastForward { account, from, to } => self.fast_forward(state, at, account, (from, to), out),
            Act::Published => self.note(state, at, ModelEvent::Published, out),
            Act::FindUse => self.prove(state, at, out),
            Act::Publish => self.publish(state, at, out),
            Act::Leave => {
                let Facts { account, nonce, .. } = *self.machine_cache.facts(me.record);
                let mut after = with(state, at, me.rested());
                let lane = after.lane_mut(account);
                if lane.lowest_open == nonce {
                    lane.lowest_open += 1;
                }
                out.step(after, || format!("leaves slot {nonce} behind"));
            }
            Act::Ask { number, cancel } if number > self.world.attempts_max + u8::from(cancel) => {
                out.step(with(state, at, me.rested()), || {
                    format!("skips attempt {number}: it exceeds the world's limit")
                });
            }
            Act::Ask { number, cancel } => {
                let mut after = with(state, at, me.rested());
                let facts = self.machine_cache.facts(me.record);
                let request = usize::from(facts.request);
                let account = facts.account;
                let below = state.lane(account).lowest_open..facts.nonce;
                let below = below.filter_map(|nonce| state.record_at(account, nonce));
                let is_bump = number > 0 && !cancel;
                let broken =
                    (is_bump && below.into_iter().any(|record| !self.machine_cache.facts(record).mined)).then(|| {
                        Broken::new(
                            "head-only",
                            format!("a bump of slot {} is asked for, which is not the lane's head", facts.nonce),
                        )
                    });
                if after.resign[request].state == MessageState::None {
                    after.resign[request] = Resign { state: MessageState::Ready, number, cancel };
                }
                out.judged(after, broken, || format!("asks the signer for attempt {number} of request {request}"));
            }
            Act::None => unreachable!("waiting is left out"),
        }
    }

    /// Sends a stored attempt to a node. The answer may be lost, and so may the call.
    fn send(&mut self, state: &State, at: usize, number: u8, out: &mut Moves<'_>) {
        let me = state.broadcasters[at];
        let facts = self.machine_cache.facts(me.record);
        let tx = facts.attempts[usize::from(number)];
        let said = facts.answers[usize::from(number)];
        let noted = |class: Class| {
            let old_news =
                said == Some(class.real()) || said == Some(SendClass::Accepted) && class == Class::AlreadyKnown;
            if old_news { me.rested() } else { Broadcaster { act: Act::Sent(number, class), ..me } }
        };
        let (after, class) = if self.world.works_for(at, tx.account()) {
            chain::send(self.world, state, tx)
        } else {
            (*state, Class::Refused)
        };
        out.step(with(&after, at, noted(class)), || format!("sends {tx:?}: {class:?}"));
        if state.faults.refusals > 0 && tx.kind() == AttemptKind::Execute && class == Class::Accepted {
            let mut after = with(state, at, noted(Class::Refused));
            after.faults.refusals -= 1;
            out.fault(after, || format!("sends {tx:?}: refused for good"));
        }
        if state.faults.lost_replies > 0 {
            for (reached, text) in
                [(after, "and the reply is lost"), (*state, "which never arrives, and no reply comes")]
            {
                let mut after = with(&reached, at, noted(Class::Unknown));
                after.faults.lost_replies -= 1;
                out.fault(after, || format!("sends {tx:?}, {text}"));
            }
        }
    }

    /// One conditional write. The round is over whether it succeeds or another write came first.
    fn note(&mut self, state: &State, at: usize, model_event: ModelEvent, out: &mut Moves<'_>) {
        let me = state.broadcasters[at];
        match self.write(state, me.record, model_event) {
            Err(broken) => out.broken(*state, broken, || format!("notes {model_event:?}")),
            Ok(Written::Stale) => {
                let after = with(state, at, me.rested());
                out.step(after, || format!("notes {model_event:?}: another write came first"));
            }
            Ok(Written::Stored(after, record)) => {
                let marked_first = self.is(ModelMutant::MarkBeforePublish) && model_event == ModelEvent::Published;
                let then = if marked_first { Broadcaster { record, act: Act::Publish, ..me } } else { me.rested() };
                out.step(with(&after, at, then), || format!("notes {model_event:?}"));
            }
        }
    }

    /// Looks for the transaction that used the nonce, up to the finalized block.
    fn prove(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.broadcasters[at];
        let facts = self.machine_cache.facts(me.record);
        if self.is(ModelMutant::DisplacedWithoutProof) {
            let height = state.chain.finalized;
            let fork = state.chain.fork_at(height).unwrap_or_default();
            let act = Act::Displaced(Seen { tx: Tx::foreign(facts.account, facts.nonce), height, fork });
            out.step(with(state, at, Broadcaster { act, ..me }), || "takes the slot for displaced".to_owned());
            return;
        }
        // A node searches up to the block that it reports as finalized.
        let found = |chain: &Chain, finalized: u8| {
            let user: Option<Seen> = chain.find(|tx| tx.is_at(self.seen_as(at, facts.account), facts.nonce));
            let proof = user.filter(|seen| seen.height <= finalized && !facts.attempts.contains(&seen.tx));
            let then = proof.map_or(me.rested(), |seen| Broadcaster { act: Act::Displaced(seen), ..me });
            (with(state, at, then), proof)
        };
        let label = |proof: Option<Seen>| match proof {
            Some(seen) => format!("finds {seen:?} in the slot's place"),
            None => "finds no foreign transaction".to_owned(),
        };
        let (after, proof) = found(&state.chain, state.chain.finalized);
        out.step(after, || label(proof));
        if state.faults.stale_views > 0 && state.stale != Chain::EMPTY {
            let by_mark = self.is(ModelMutant::DisplacedByHighWaterMark);
            let finalized = if by_mark { state.chain.finalized } else { state.stale.finalized };
            let (mut after, proof) = found(&state.stale, finalized);
            after.faults.stale_views -= 1;
            if after.faults.stale_views == 0 {
                after.stale = Chain::EMPTY;
            }
            out.fault(after, || format!("asks a node of the dead fork, and {}", label(proof)));
        }
    }

    fn is_cancel(&self, me: Broadcaster, number: u8) -> bool {
        self.machine_cache.facts(me.record).attempts[usize::from(number)].kind() == AttemptKind::Cancel
    }

    /// One conditional write: both marks move to the chain's count, if the lane is unchanged since it was read.
    fn fast_forward(&self, state: &State, at: usize, account: u8, (from, to): (u8, u8), out: &mut Moves<'_>) {
        let me = state.broadcasters[at];
        let mut after = with(state, at, me.rested());
        let lane = after.lane_mut(account);
        let is_idle = lane.lowest_open == from || self.is(ModelMutant::FastForwardOverOpenSlot);
        if lane.next_nonce == from && is_idle {
            assert!(usize::from(to) <= NONCES, "the chain counts no further than the world");
            (lane.next_nonce, lane.lowest_open) = (to, to);
            lane.skipped |= (from..to).fold(0, |bits, nonce| bits | 1 << nonce);
            out.step(after, || format!("moves the lane from nonce {from} to {to}"));
        } else {
            out.step(after, || "moves the lane: it has changed meanwhile".to_owned());
        }
    }

    fn publish(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.broadcasters[at];
        let facts = self.machine_cache.facts(me.record);
        if self.is(ModelMutant::MarkBeforePublish) && !facts.closed {
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
        let name = self.machine_cache.record(me.record).phase.name();
        out.judged(with(&after, at, then), broken, || format!("publishes that request {request} is {name}"));
        if state.faults.lost_replies > 0 {
            after.faults.lost_replies -= 1;
            out.fault(after, || format!("publishes that request {request} is {name}, and the reply is lost"));
        }
    }
}

fn with(state: &State, at: usize, broadcaster: Broadcaster) -> State {
    let mut after = *state;
    after.broadcasters[at] = broadcaster;
    after
}
