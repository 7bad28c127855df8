//! The signer's steps: receive, reserve, sign, store, poke, acknowledge. Read next: [`super::answers`].

use super::{Explorer, Moves, Written, chain};
use crate::explorer::check::Broken;
use crate::explorer::lane::{Claim, NONCES, Standing};
use crate::explorer::ledger::Tx;
use crate::explorer::machine_cache::ModelEvent;
use crate::explorer::mutants::ModelMutant;
use crate::explorer::world::{
    Facts, Item, Job, MessageSpec, MessageState, RecordId, Resign, Signer, SignerStep, State,
};

impl Explorer<'_> {
    pub(super) fn signer_moves(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        match me.step {
            SignerStep::Idle => self.receive(state, at, out),
            SignerStep::ReadOwn => self.read_own(state, at, out),
            SignerStep::ReadAnswers => self.read_answers(state, at, out),
            SignerStep::ReadAgain => self.read_again(state, at, out),
            SignerStep::Choose => self.choose(state, at, out),
            SignerStep::ReadHead => self.read_head(state, at, out),
            SignerStep::ReadItsHead => self.read_its_head(state, at, out),
            SignerStep::Reserve => self.reserve(state, at, out),
            SignerStep::MoveCounter => {
                let mut after = with(state, at, Signer { step: SignerStep::Sign, ..me });
                let Claim { account, nonce, .. } = me.claim;
                let lane = after.lane_mut(account);
                lane.next_nonce = lane.next_nonce.max(nonce + 1);
                out.step(after, || format!("moves next nonce to {}", nonce + 1));
            }
            SignerStep::Load => self.load(state, at, out),
            SignerStep::Sign => self.sign(state, at, out),
            SignerStep::SendUnstored => {
                let (after, class) = chain::send(self.world, state, me.tx);
                let after = with(&after, at, Signer { step: SignerStep::Store, ..me });
                out.step(after, || format!("sends {:?} to a node before it is stored: {class:?}", me.tx));
            }
            SignerStep::Store => self.store(state, at, out),
            SignerStep::Poke => {
                let mut after = with(state, at, Signer { step: SignerStep::Ack, ..me });
                after.poke = true;
                out.step(after, || "pokes the broadcaster".to_owned());
            }
            SignerStep::Ack => acknowledge(state, at, out),
            SignerStep::CopyThenReject => self.keep_copy(state, at, SignerStep::Reject, out),
            SignerStep::CopyThenReserve => self.keep_copy(state, at, SignerStep::Reserve, out),
            SignerStep::Reject => self.reject(state, at, out),
            SignerStep::StoreAnswer => self.store_answer(state, at, out),
            SignerStep::PublishRejection | SignerStep::PublishAcked => self.publish_rejection(state, at, out),
            SignerStep::MarkRejection => self.mark_rejection(state, at, out),
            SignerStep::LoadCancel => self.load_cancel(state, at, out),
            SignerStep::NoteCancel => self.note_cancel(state, at, out),
            SignerStep::AckRejection => self.acknowledge_rejection(state, at, out),
        }
        if me.step != SignerStep::Idle && state.faults.crashes > 0 {
            let mut after = released(with(state, at, Signer::IDLE), me.job);
            after.faults.crashes -= 1;
            out.fault(after, || format!("crashes at {:?} of {}", me.step, job(me.job)));
        }
    }

    /// The queue redelivers a message while its worker still processes it.
    pub(super) fn redeliveries(&self, state: &State, out: &mut Moves<'_>) {
        if state.faults.redeliveries == 0 {
            return;
        }
        for at in 0..self.world.messages.len() {
            if state.messages[at].state == MessageState::Taken {
                let mut after = *state;
                after.messages[at].state = MessageState::Ready;
                after.faults.redeliveries -= 1;
                out.fault(after, || format!("redelivers message {at}, though a worker holds it"));
            }
        }
    }

    pub(super) fn ask(&self, me: Signer) -> MessageSpec {
        match me.job {
            Job::Message(message) => self.world.messages[usize::from(message)],
            Job::Resign(_) | Job::None => unreachable!("only messages are reserved and rejected"),
        }
    }

    fn request(&self, me: Signer) -> u8 {
        match me.job {
            Job::Message(_) => self.ask(me).request,
            Job::Resign(request) => request,
            Job::None => unreachable!("an idle signer has no request"),
        }
    }

    fn receive(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        for (message, ask) in self.world.messages.iter().enumerate() {
            if state.messages[message].state != MessageState::Ready {
                continue;
            }
            if !self.world.works_for(at, ask.account) {
                continue;
            }
            let claim = if self.world.chains { Claim::on(ask.account) } else { Claim::NONE };
            let job = Job::Message(message as u8);
            let mut after = with(state, at, Signer { step: SignerStep::ReadOwn, job, claim, ..Signer::IDLE });
            after.messages[message].state = MessageState::Taken;
            let what = if ask.cancels {
                "a cancel".to_owned()
            } else {
                format!("contents {}", char::from(b'A' + ask.content))
            };
            out.step(after, || format!("receives message {message} (request {}, {what})", ask.request));
        }
        for (request, resign) in state.resign.iter().enumerate() {
            if resign.state == MessageState::Ready && self.is_asked(state, at, request) {
                let job = Job::Resign(request as u8);
                let mut after = with(state, at, Signer { step: SignerStep::Load, job, ..Signer::IDLE });
                after.resign[request].state = MessageState::Taken;
                out.step(after, || format!("receives the resign message of request {request}"));
            }
        }
    }

    /// Each chain has a resign queue of its own.
    fn is_asked(&self, state: &State, at: usize, request: usize) -> bool {
        let Item::Record(record) = state.table[request] else { return true };
        self.world.works_for(at, self.machine_cache.facts(record).account)
    }

    /// One transaction. Its conditions: the head and the item under the id are as they were read, and the nonce has no
    /// slot.
    fn reserve(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let MessageSpec { request, content, .. } = self.ask(me);
        let Claim { account, nonce, .. } = me.claim;
        let claim = Claim::on(account);
        let known = match state.table[usize::from(request)] {
            Item::Record(record) => Some(self.machine_cache.facts(record).account),
            Item::Vacant | Item::Rejected { .. } => None,
        };
        let assigned_anew = self.is(ModelMutant::ReassignedOnRepeat) && known != Some(account);
        if known.is_some() && !assigned_anew {
            let after = with(state, at, Signer { step: SignerStep::Load, claim, ..me });
            out.step(after, || format!("reserves: request {request} is known"));
            return;
        }
        let item = state.table[usize::from(request)];
        if known.is_none() && item.read() != me.read && !self.is(ModelMutant::ReservedOverAnswer) {
            let after = with(state, at, Signer { step: SignerStep::ReadOwn, claim, ..me });
            out.step(after, || format!("reserves: request {request} is rejected meanwhile"));
            return;
        }
        let lane = state.lane(account);
        let slot = usize::from(nonce);
        let apart = self.is(ModelMutant::CounterApart);
        let paused = lane.paused && !self.is(ModelMutant::ReservedWhilePaused);
        let head_moved = (lane.next_nonce != nonce || paused) && !apart;
        if head_moved || slot >= NONCES || lane.slots[slot] != 0 {
            let after = with(state, at, Signer { step: SignerStep::ReadHead, claim, ..me });
            out.step(after, || "reserves: the head has moved".to_owned());
            return;
        }
        let broken =
            lane.paused.then(|| Broken::new("I14", format!("request {request} gets a slot with a paused account")));
        let record = self.machine_cache.reserved(request, content, account, nonce);
        let mut after = *state;
        after.table[usize::from(request)] = Item::Record(record);
        if let Job::Message(message) = me.job {
            after.reserved_by[usize::from(request)] = message + 1;
        }
        if after.assigned[usize::from(request)] == 0 {
            after.assigned[usize::from(request)] = account + 1;
        }
        let lane = after.lane_mut(account);
        lane.slots[slot] = request + 1;
        if !apart {
            lane.next_nonce += 1;
        }
        let step = if apart { SignerStep::MoveCounter } else { SignerStep::Sign };
        let claim = if apart { me.claim } else { claim };
        let mut done = with(&after, at, Signer { step, record, claim, ..me });
        if self.is(ModelMutant::AckBeforeStore) {
            done = acked(done, me.job, MessageState::AckedAsRequest);
        }
        let deletes = if self.is(ModelMutant::AckBeforeStore) { ", and deletes its message" } else { "" };
        let of = if self.world.accounts > 1 { format!(" of account {account}") } else { String::new() };
        out.judged(done, broken, || format!("reserves nonce {slot}{of} for request {request}{deletes}"));
        if state.faults.lost_replies > 0 {
            after.faults.lost_replies -= 1;
            out.fault(after, || format!("reserves nonce {slot} for request {request}, and the reply is lost"));
        }
    }

    /// Continues from the stored record, or finds that the id belongs to another request.
    fn load(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let request = self.request(me);
        let Item::Record(record) = state.table[usize::from(request)] else {
            let (then, what) = match me.claim.standing {
                Standing::Unfunded | Standing::Open => (SignerStep::ReadHead, ""),
                Standing::Paused => (self.before_rejecting(me), ", and its account is paused"),
                Standing::PausedSince => (SignerStep::Idle, "; leaves the message on the queue"),
            };
            let after = if then == SignerStep::Idle {
                released(with(state, at, Signer::IDLE), me.job)
            } else {
                with(state, at, Signer { step: then, record: RecordId::NONE, ..me })
            };
            out.step(after, || format!("loads request {request}: there is none{what}"));
            return;
        };
        let facts = self.machine_cache.facts(record);
        let differs = |ask: MessageSpec| {
            self.machine_cache.digest(ask.content, me.claim.account) != self.machine_cache.record(record).digest
        };
        let (step, why) = match me.job {
            Job::Message(_) if differs(self.ask(me)) && !self.is(ModelMutant::ConflictAsSame) => {
                (SignerStep::StoreAnswer, "another request has this id")
            }
            Job::Message(_) if facts.attempts.is_empty() && facts.takes_attempt => self.before_signing(me, facts),
            Job::Resign(_) if facts.takes_attempt && state.resign[usize::from(request)].asks_for(facts) => {
                self.before_signing(me, facts)
            }
            Job::Message(_) | Job::Resign(_) | Job::None => (self.after_store(), "it is signed already"),
        };
        let signs = step == SignerStep::Sign;
        let record = if signs || step == SignerStep::ReadItsHead { record } else { RecordId::NONE };
        let account = if self.is(ModelMutant::SignedByAssigned) { me.claim.account } else { facts.account };
        let claim = if signs { Claim::on(account) } else { Claim::NONE };
        let me = if step == SignerStep::StoreAnswer { self.beside(me) } else { me };
        let after = with(state, at, Signer { step, record, claim, tx: Tx::NONE, ..me });
        out.step(after, || format!("loads request {request}: {why}"));
    }

    /// Signs with KMS, which makes a new signature every time.
    fn sign(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let facts = self.machine_cache.facts(me.record);
        let Facts { content, nonce, .. } = *facts;
        let number = facts.attempts.len() as u8;
        let tx = self.fresh(state, me.claim.account, facts);
        let unstored =
            self.is(ModelMutant::SendBeforeStore) || number > 0 && self.is(ModelMutant::BumpSentBeforeStored);
        let step = if unstored { SignerStep::SendUnstored } else { SignerStep::Store };
        let mut after = with(state, at, Signer { step, tx, ..me });
        after.lane_mut(tx.account()).signed[usize::from(nonce)] |= 1 << content;
        out.step(after, || format!("has {tx:?} signed"));
    }

    /// A signature that occurs nowhere in the state.
    fn fresh(&self, state: &State, account: u8, facts: &Facts) -> Tx {
        let (number, kind) = (facts.attempts.len() as u8, facts.next_kind);
        let is_known = |tx: Tx| {
            let in_record = |id: RecordId| id != RecordId::NONE && self.machine_cache.facts(id).attempts.contains(&tx);
            state.lanes.iter().any(|lane| lane.pool.contains(&tx) || lane.other.contains(&tx))
                || [state.chain, state.stale].iter().any(|chain| chain.find(|mined| mined == tx).is_some())
                || state.records().any(in_record)
                || state.signers.iter().any(|signer| signer.tx == tx || in_record(signer.record))
                || state.broadcasters.iter().any(|broadcaster| in_record(broadcaster.record))
        };
        let mut salts = (0..Tx::SALTS).map(|salt| Tx::ours(facts.content, account, facts.nonce, number, kind, salt));
        salts.find(|tx| !is_known(*tx)).expect("fewer signatures are in the world than salts")
    }

    fn store(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let done = Signer { step: self.after_store(), record: RecordId::NONE, claim: Claim::NONE, tx: Tx::NONE, ..me };
        match self.write(state, me.record, ModelEvent::Signed(me.tx)) {
            Err(broken) => out.broken(*state, broken, || format!("stores {:?}", me.tx)),
            Ok(Written::Stored(mut after, _)) => {
                out.step(with(&after, at, done), || format!("stores {:?}", me.tx));
                if state.faults.lost_replies > 0 {
                    after.faults.lost_replies -= 1;
                    out.fault(after, || format!("stores {:?}, and the reply is lost", me.tx));
                }
            }
            Ok(Written::Stale) if self.is(ModelMutant::SecondSignatureOverwrites) => {
                let mut after = with(state, at, done);
                match self.machine_cache.apply(me.record, ModelEvent::Signed(me.tx)) {
                    Err(illegal) => {
                        out.broken(after, Broken::new("apply", illegal), || format!("stores {:?}", me.tx));
                    }
                    Ok(record) => {
                        after.table[usize::from(self.request(me))] = Item::Record(record);
                        out.step(after, || format!("stores {:?} over what is there", me.tx));
                    }
                }
            }
            Ok(Written::Stale) => {
                let after =
                    with(state, at, Signer { step: SignerStep::Load, record: RecordId::NONE, tx: Tx::NONE, ..me });
                out.step(after, || format!("stores {:?}: another write came first", me.tx));
            }
        }
    }

    /// Loads the request that is to be cancelled.
    fn load_cancel(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let request = self.ask(me).request;
        match state.table[usize::from(request)] {
            Item::Vacant => {
                let as_request = self.is(ModelMutant::CancelRefusedAsRequest);
                let refused = self.beside(me);
                let step = if as_request { SignerStep::Reject } else { refused.step };
                let after = with(state, at, Signer { step, ..refused });
                out.step(after, || format!("loads request {request} to cancel it: there is none"));
            }
            Item::Rejected { .. } => {
                let after = acked(with(state, at, Signer::IDLE), me.job, MessageState::AckedAsRejected);
                out.step(after, || format!("loads request {request} to cancel it: it is rejected; deletes the cancel"));
            }
            Item::Record(record) => {
                let facts = self.machine_cache.facts(record);
                let needless = facts.cancel || facts.outcome != 0;
                let then = if needless {
                    Signer { step: self.after_store(), ..me }
                } else {
                    Signer { step: SignerStep::NoteCancel, record, ..me }
                };
                out.step(with(state, at, then), || {
                    format!(
                        "loads request {request} to cancel it: it is {}",
                        self.machine_cache.record(record).phase.name()
                    )
                });
            }
        }
    }

    /// One conditional write: notes that a cancel is requested.
    fn note_cancel(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        match self.write(state, me.record, ModelEvent::CancelAsked) {
            Err(broken) => out.broken(*state, broken, || "notes that a cancel is asked for".to_owned()),
            Ok(Written::Stored(mut after, record)) => {
                if self.is(ModelMutant::CancelHandsNonceOn) {
                    after = Self::hand_on(&after, self.machine_cache.facts(record));
                }
                if let Job::Message(message) = me.job {
                    after.cancelled_by[usize::from(self.ask(me).request)] = message + 1;
                }
                let done = Signer { step: self.after_store(), record: RecordId::NONE, ..me };
                out.step(with(&after, at, done), || "notes that a cancel is asked for".to_owned());
                if state.faults.lost_replies > 0 {
                    after.faults.lost_replies -= 1;
                    out.fault(after, || "notes that a cancel is asked for, and the reply is lost".to_owned());
                }
            }
            Ok(Written::Stale) => {
                let after = with(state, at, Signer { step: SignerStep::LoadCancel, record: RecordId::NONE, ..me });
                out.step(after, || "notes that a cancel is asked for: another write came first".to_owned());
            }
        }
    }

    /// With the sweep a poke adds nothing, so it is left out.
    pub(super) fn after_store(&self) -> SignerStep {
        if self.world.sweep { SignerStep::Ack } else { SignerStep::Poke }
    }
}

fn acknowledge(state: &State, at: usize, out: &mut Moves<'_>) {
    let me = state.signers[at];
    let after = acked(with(state, at, Signer::IDLE), me.job, MessageState::AckedAsRequest);
    out.step(after, || format!("deletes {}", job(me.job)));
}

pub(super) fn with(state: &State, at: usize, signer: Signer) -> State {
    let mut after = *state;
    after.signers[at] = signer;
    after
}

pub(super) fn acked(mut state: State, job: Job, how: MessageState) -> State {
    match job {
        Job::Message(message) => state.messages[usize::from(message)].state = how,
        Job::Resign(request) => state.resign[usize::from(request)] = Resign::NONE,
        Job::None => {}
    }
    state
}

pub(super) fn released(mut state: State, job: Job) -> State {
    let held = match job {
        Job::Message(message) => &mut state.messages[usize::from(message)].state,
        Job::Resign(request) => &mut state.resign[usize::from(request)].state,
        Job::None => return state,
    };
    if *held == MessageState::Taken {
        *held = MessageState::Ready;
    }
    state
}

fn job(job: Job) -> String {
    match job {
        Job::None => "nothing".to_owned(),
        Job::Message(message) => format!("message {message}"),
        Job::Resign(request) => format!("the resign message of request {request}"),
    }
}
