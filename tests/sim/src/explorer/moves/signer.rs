//! The signer's steps: receive, reserve, sign, store, poke, acknowledge; and the rejections.

use signpost_txmgr::record::AttemptKind;

use super::{Explorer, Moves, Written, chain};
use crate::explorer::book::Happening;
use crate::explorer::check::Broken;
use crate::explorer::ledger::Tx;
use crate::explorer::mutants::Mutant;
use crate::explorer::world::{Ask, Delivery, Item, Job, NONCES, RecordId, Resign, Signer, SignerStep, State};

impl Explorer<'_> {
    pub(super) fn signer_moves(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        match me.step {
            SignerStep::Idle => self.receive(state, at, out),
            SignerStep::ReadHead => {
                let nonce = state.next_nonce;
                let after = with(state, at, Signer { step: SignerStep::Reserve, nonce, ..me });
                out.step(after, || format!("reads the head: next nonce is {nonce}"));
            }
            SignerStep::Reserve => self.reserve(state, at, out),
            SignerStep::MoveCounter => {
                let mut after = with(state, at, Signer { step: SignerStep::Sign, ..me });
                after.next_nonce = after.next_nonce.max(me.nonce + 1);
                out.step(after, || format!("moves next nonce to {}", me.nonce + 1));
            }
            SignerStep::Load => self.load(state, at, out),
            SignerStep::Sign => self.sign(state, at, out),
            SignerStep::SendUnstored => {
                let (after, class) = chain::send(self.world, state, me.tx);
                let after = with(&after, at, Signer { step: SignerStep::Store, ..me });
                out.step(after, || format!("hands {:?} to a node before it is stored: {class:?}", me.tx));
            }
            SignerStep::Store => self.store(state, at, out),
            SignerStep::Poke => {
                let mut after = with(state, at, Signer { step: SignerStep::Ack, ..me });
                after.poke = true;
                out.step(after, || "pokes the broadcaster".to_owned());
            }
            SignerStep::Ack => acknowledge(state, at, out),
            SignerStep::Reject => self.reject(state, at, out),
            SignerStep::PublishRejection | SignerStep::PublishAcked => self.publish_rejection(state, at, out),
            SignerStep::MarkRejection => {
                let mut after = with(state, at, Signer { step: SignerStep::AckRejection, ..me });
                let item = &mut after.table[usize::from(self.ask(me).request)];
                if matches!(item, Item::Rejected { .. }) {
                    *item = Item::Rejected { published: true };
                }
                out.step(after, || "notes that the rejection is published".to_owned());
            }
            SignerStep::LoadCancel => self.load_cancel(state, at, out),
            SignerStep::NoteCancel => self.note_cancel(state, at, out),
            SignerStep::AckRejection => {
                let then = if self.is(Mutant::AckBeforePublish) {
                    Signer { step: SignerStep::PublishAcked, ..me }
                } else {
                    Signer::IDLE
                };
                let after = acked(with(state, at, then), me.job, Delivery::AckedAsRejected);
                out.step(after, || format!("deletes the rejected {}", job(me.job)));
            }
        }
        if me.step != SignerStep::Idle && state.faults.crashes > 0 {
            let mut after = released(with(state, at, Signer::IDLE), me.job);
            after.faults.crashes -= 1;
            out.fault(after, || format!("crashes at {:?} of {}", me.step, job(me.job)));
        }
    }

    /// The queue delivers a message again while its worker is still at it.
    pub(super) fn redeliveries(&self, state: &State, out: &mut Moves<'_>) {
        if state.faults.redeliveries == 0 {
            return;
        }
        for at in 0..self.world.messages.len() {
            if state.messages[at].state == Delivery::Taken {
                let mut after = *state;
                after.messages[at].state = Delivery::Ready;
                after.faults.redeliveries -= 1;
                out.fault(after, || format!("shows message {at} again, though a worker has it"));
            }
        }
    }

    fn ask(&self, me: Signer) -> Ask {
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
            if state.messages[message].state != Delivery::Ready {
                continue;
            }
            let step = match ask {
                Ask { cancels: true, .. } => SignerStep::LoadCancel,
                Ask { refused: true, .. } => SignerStep::Reject,
                Ask { .. } => SignerStep::ReadHead,
            };
            let mut after = with(state, at, Signer { step, job: Job::Message(message as u8), ..Signer::IDLE });
            after.messages[message].state = Delivery::Taken;
            if self.is(Mutant::RejectionDatedByDelivery) {
                after.messages[message].deliveries += 1;
            }
            let what = if ask.cancels {
                "a cancel".to_owned()
            } else {
                format!("contents {}", char::from(b'A' + ask.content))
            };
            out.step(after, || format!("receives message {message} (request {}, {what})", ask.request));
        }
        for (request, resign) in state.resign.iter().enumerate() {
            if resign.state == Delivery::Ready {
                let job = Job::Resign(request as u8);
                let mut after = with(state, at, Signer { step: SignerStep::Load, job, ..Signer::IDLE });
                after.resign[request].state = Delivery::Taken;
                out.step(after, || format!("receives the ask to sign for request {request}"));
            }
        }
    }

    /// One transaction: the head as it was read, no record under the id, no slot under the nonce.
    fn reserve(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let Ask { request, content, .. } = self.ask(me);
        if matches!(state.table[usize::from(request)], Item::Record(_)) {
            let after = with(state, at, Signer { step: SignerStep::Load, nonce: 0, ..me });
            out.step(after, || format!("reserves: request {request} is known"));
            return;
        }
        let slot = usize::from(me.nonce);
        let apart = self.is(Mutant::CounterApart);
        let head_moved = state.next_nonce != me.nonce && !apart;
        if head_moved || slot >= NONCES || state.slots[slot] != 0 {
            let after = with(state, at, Signer { step: SignerStep::ReadHead, nonce: 0, ..me });
            out.step(after, || "reserves: the head has moved".to_owned());
            return;
        }
        let record = self.book.reserved(request, content, me.nonce);
        let mut after = *state;
        after.table[usize::from(request)] = Item::Record(record);
        after.slots[slot] = request + 1;
        if !apart {
            after.next_nonce += 1;
        }
        let step = if apart { SignerStep::MoveCounter } else { SignerStep::Sign };
        let nonce = if apart { me.nonce } else { 0 };
        let mut done = with(&after, at, Signer { step, record, nonce, ..me });
        if self.is(Mutant::AckBeforeStore) {
            done = acked(done, me.job, Delivery::AckedAsRequest);
        }
        let deletes = if self.is(Mutant::AckBeforeStore) { ", and deletes its message" } else { "" };
        out.step(done, || format!("reserves nonce {slot} for request {request}{deletes}"));
        if state.faults.lost_replies > 0 {
            after.faults.lost_replies -= 1;
            out.fault(after, || format!("reserves nonce {slot} for request {request}, and the reply is lost"));
        }
    }

    /// Carries on from what is stored, or finds that it is another request's id.
    fn load(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let request = self.request(me);
        let Item::Record(record) = state.table[usize::from(request)] else {
            let after = with(state, at, Signer { step: SignerStep::ReadHead, record: RecordId::NONE, ..me });
            out.step(after, || format!("loads request {request}: there is none"));
            return;
        };
        let facts = self.book.facts(record);
        let (step, why) = match me.job {
            Job::Message(_) if facts.content != self.ask(me).content && !self.is(Mutant::ConflictAsSame) => {
                let first = if self.is(Mutant::AckBeforePublish) {
                    SignerStep::AckRejection
                } else {
                    SignerStep::PublishRejection
                };
                (first, "another request has this id")
            }
            Job::Message(_) if facts.attempts.is_empty() && facts.takes_attempt => {
                (SignerStep::Sign, "it is reserved and not signed")
            }
            Job::Resign(_) if facts.takes_attempt && state.resign[usize::from(request)].asks_for(facts) => {
                (SignerStep::Sign, "the attempt is missing")
            }
            Job::Message(_) | Job::Resign(_) | Job::None => (self.after_store(), "it is signed already"),
        };
        let record = if step == SignerStep::Sign { record } else { RecordId::NONE };
        let after = with(state, at, Signer { step, record, tx: Tx::NONE, ..me });
        out.step(after, || format!("loads request {request}: {why}"));
    }

    /// KMS: a new signature every time.
    fn sign(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let facts = self.book.facts(me.record);
        let (content, nonce, number) = (facts.content, facts.nonce, facts.attempts.len() as u8);
        let tx = self.fresh(state, content, nonce, number, facts.next_kind);
        let unstored = self.is(Mutant::SendBeforeStore) || number > 0 && self.is(Mutant::BumpSentBeforeStored);
        let step = if unstored { SignerStep::SendUnstored } else { SignerStep::Store };
        let mut after = with(state, at, Signer { step, tx, ..me });
        after.signed[usize::from(nonce)] |= 1 << content;
        out.step(after, || format!("has {tx:?} signed"));
    }

    /// A signature that nobody holds or has stored.
    fn fresh(&self, state: &State, content: u8, nonce: u8, number: u8, kind: AttemptKind) -> Tx {
        let is_known = |tx: Tx| {
            let in_record = |id: RecordId| id != RecordId::NONE && self.book.facts(id).attempts.contains(&tx);
            state.pool.contains(&tx)
                || state.other.contains(&tx)
                || [state.chain, state.stale].iter().any(|chain| chain.find(|mined| mined == tx).is_some())
                || state.records().any(in_record)
                || state.signers.iter().any(|signer| signer.tx == tx || in_record(signer.record))
                || state.broadcasters.iter().any(|broadcaster| in_record(broadcaster.record))
        };
        let mut salts = (0..Tx::SALTS).map(|salt| Tx::ours(content, nonce, number, kind, salt));
        salts.find(|tx| !is_known(*tx)).expect("fewer signatures are in the world than salts")
    }

    fn store(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let done = Signer { step: self.after_store(), record: RecordId::NONE, tx: Tx::NONE, ..me };
        match self.write(state, me.record, Happening::Signed(me.tx)) {
            Err(broken) => out.broken(*state, broken, || format!("stores {:?}", me.tx)),
            Ok(Written::Stored(mut after, _)) => {
                out.step(with(&after, at, done), || format!("stores {:?}", me.tx));
                if state.faults.lost_replies > 0 {
                    after.faults.lost_replies -= 1;
                    out.fault(after, || format!("stores {:?}, and the reply is lost", me.tx));
                }
            }
            Ok(Written::Stale) if self.is(Mutant::SecondSignatureOverwrites) => {
                let mut after = with(state, at, done);
                match self.book.apply(me.record, Happening::Signed(me.tx)) {
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

    /// Looks at the request that is to be cancelled.
    fn load_cancel(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let request = self.ask(me).request;
        match state.table[usize::from(request)] {
            // Its refusal is stored under an id of its own, where nobody else looks: that write is left out.
            Item::Vacant => {
                let as_request = self.is(Mutant::CancelRefusedAsRequest);
                let step = if as_request { SignerStep::Reject } else { SignerStep::PublishRejection };
                let after = with(state, at, Signer { step, ..me });
                out.step(after, || format!("loads request {request} to cancel it: there is none"));
            }
            Item::Rejected { .. } => {
                let after = acked(with(state, at, Signer::IDLE), me.job, Delivery::AckedAsRejected);
                out.step(after, || format!("loads request {request} to cancel it: it is rejected; deletes the cancel"));
            }
            Item::Record(record) => {
                let facts = self.book.facts(record);
                let needless = facts.cancel || facts.outcome != 0;
                let then = if needless {
                    Signer { step: self.after_store(), ..me }
                } else {
                    Signer { step: SignerStep::NoteCancel, record, ..me }
                };
                out.step(with(state, at, then), || {
                    format!("loads request {request} to cancel it: it is {}", self.book.record(record).phase.name())
                });
            }
        }
    }

    /// One conditional write: a cancel is wanted.
    fn note_cancel(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        match self.write(state, me.record, Happening::CancelAsked) {
            Err(broken) => out.broken(*state, broken, || "notes that a cancel is asked for".to_owned()),
            Ok(Written::Stored(mut after, record)) => {
                if self.is(Mutant::CancelHandsNonceOn) {
                    after = Self::hand_on(&after, self.book.facts(record).nonce);
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

    /// Where the sweep runs, a poke adds nothing, and is left out.
    fn after_store(&self) -> SignerStep {
        if self.world.sweep { SignerStep::Ack } else { SignerStep::Poke }
    }

    /// Stores a rejection where nothing, or another rejection, is stored.
    fn reject(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let Ask { request, .. } = self.ask(me);
        let item = state.table[usize::from(request)];
        if matches!(item, Item::Record(_)) && self.ask(me).cancels {
            let after = released(with(state, at, Signer::IDLE), me.job);
            out.step(after, || {
                format!("stores a rejection: request {request} came meanwhile; leaves the cancel on the queue")
            });
            return;
        }
        if matches!(item, Item::Record(_)) {
            let after = with(state, at, Signer { step: SignerStep::Load, ..me });
            out.step(after, || format!("stores a rejection: request {request} has a slot"));
            return;
        }
        let mut after = *state;
        if item == Item::Vacant || self.is(Mutant::RejectionStartsOver) {
            after.table[usize::from(request)] = Item::Rejected { published: false };
        }
        let done = with(&after, at, Signer { step: SignerStep::PublishRejection, ..me });
        out.step(done, || format!("stores that request {request} is rejected"));
        if state.faults.lost_replies > 0 {
            after.faults.lost_replies -= 1;
            out.fault(after, || format!("stores that request {request} is rejected, and the reply is lost"));
        }
    }

    fn publish_rejection(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let Job::Message(message) = me.job else { unreachable!("only messages are rejected") };
        let message = usize::from(message);
        let stamp = 1 + state.messages[message].deliveries;
        let before = state.rejections[message];
        let mut broken = (before != 0 && before != stamp)
            .then(|| Broken::new("I11", format!("two copies of the rejection of message {message} differ")));
        let mut after = *state;
        after.rejections[message] = stamp;
        if self.is(Mutant::RejectionsShareAnEvent) {
            let Ask { request, content, .. } = self.ask(me);
            let event = &mut after.nameless_events[usize::from(request)];
            if *event != 0 && *event != content + 1 {
                let what = format!("two rejections of request {request} share an event id, and differ");
                broken = Some(Broken::new("I11", what));
            }
            *event = content + 1;
        }
        let then = if me.step == SignerStep::PublishAcked {
            Signer::IDLE
        } else if self.ask(me).refused || self.is(Mutant::CancelRefusedAsRequest) {
            Signer { step: SignerStep::MarkRejection, ..me }
        } else {
            Signer { step: SignerStep::AckRejection, ..me }
        };
        out.judged(with(&after, at, then), broken, || format!("publishes the rejection of message {message}"));
        if state.faults.lost_replies > 0 {
            after.faults.lost_replies -= 1;
            out.fault(after, || format!("publishes the rejection of message {message}, and the reply is lost"));
        }
    }
}

fn acknowledge(state: &State, at: usize, out: &mut Moves<'_>) {
    let me = state.signers[at];
    let after = acked(with(state, at, Signer::IDLE), me.job, Delivery::AckedAsRequest);
    out.step(after, || format!("deletes {}", job(me.job)));
}

fn with(state: &State, at: usize, signer: Signer) -> State {
    let mut after = *state;
    after.signers[at] = signer;
    after
}

fn acked(mut state: State, job: Job, how: Delivery) -> State {
    match job {
        Job::Message(message) => state.messages[usize::from(message)].state = how,
        Job::Resign(request) => state.resign[usize::from(request)] = Resign::NONE,
        Job::None => {}
    }
    state
}

fn released(mut state: State, job: Job) -> State {
    let held = match job {
        Job::Message(message) => &mut state.messages[usize::from(message)].state,
        Job::Resign(request) => &mut state.resign[usize::from(request)].state,
        Job::None => return state,
    };
    if *held == Delivery::Taken {
        *held = Delivery::Ready;
    }
    state
}

fn job(job: Job) -> String {
    match job {
        Job::None => "nothing".to_owned(),
        Job::Message(message) => format!("message {message}"),
        Job::Resign(request) => format!("the ask to sign for request {request}"),
    }
}
