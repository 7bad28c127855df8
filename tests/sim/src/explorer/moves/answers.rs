//! The signer's answers to messages that get no slot: read first, judged once, stored, then published.
//!
//! A refusal is first stored under the request id, over nothing or over exactly the rejection that was read: the item
//! locks the id. A copy is stored under the message's own id at once, and again before another message's rejection or
//! record replaces the item. A message whose id belongs to another request has its refusal under the message's own id
//! only.

use super::signer::{acked, released, with};
use super::{Explorer, Moves};
use crate::explorer::check::Broken;
use crate::explorer::lane::Claim;
use crate::explorer::mutants::ModelMutant;
use crate::explorer::world::{Item, Job, MessageSpec, MessageState, Signer, SignerStep, State};

/// Stamp of a refusal under the request id for the first account; the second account has the next number.
const REFUSED: u8 = 1;
/// Stamp of a refusal because another request has the id.
pub(super) const BESIDE: u8 = 3;
/// Stamp of a refused cancel.
const NO_REQUEST: u8 = 4;

impl Explorer<'_> {
    /// Reads what is stored under the message's own id. The request id is read in the same call, possibly later.
    pub(super) fn read_own(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let message = message_of(me);
        let stamp = if self.is(ModelMutant::JudgedAnew) { 0 } else { state.answers[message] };
        let then = Signer { step: SignerStep::ReadAnswers, stamp, ..me };
        out.step(with(state, at, then), || format!("reads what is stored for message {message}: answer {stamp}"));
    }

    /// Reads what is stored under the request id. The message is judged only if it has no answer yet.
    pub(super) fn read_answers(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let message = message_of(me);
        let ask = self.ask(me);
        let item = state.table[usize::from(ask.request)];
        let reserved_for_it = state.reserved_by[usize::from(ask.request)] == message as u8 + 1;
        let me = Signer { read: item.read(), ..me };
        let publishes = |stamp| Signer { step: SignerStep::PublishRejection, stamp, ..me };
        let (then, what) = match item {
            Item::Record(_) if reserved_for_it && !ask.cancels => {
                (Signer { step: SignerStep::Load, stamp: 0, ..me }, "it has its record")
            }
            Item::Rejected { by, stamp, .. } if usize::from(by) == message && !self.is(ModelMutant::JudgedAnew) => {
                (publishes(stamp), "it is refused")
            }
            Item::Record(_) | Item::Rejected { .. } | Item::Vacant if me.stamp != 0 => {
                (publishes(me.stamp), "it has its answer")
            }
            Item::Record(_) | Item::Rejected { .. } | Item::Vacant if ask.cancels => {
                (Signer { step: SignerStep::LoadCancel, ..me }, "it has no answer")
            }
            Item::Record(_) => (Signer { step: SignerStep::Load, ..me }, "the request id has a record"),
            Item::Rejected { .. } if !self.is(ModelMutant::ReadOnce) => {
                (Signer { step: SignerStep::ReadAgain, ..me }, "another message's rejection has the request id")
            }
            Item::Rejected { .. } | Item::Vacant => self.judged(state, me),
        };
        out.step(with(state, at, then), || format!("reads request {}: {what}", ask.request));
    }

    /// Reads the message's own answer once more, after the rejection that another message left under the request id:
    /// a copy may have been kept since the first time, before that rejection took the place.
    pub(super) fn read_again(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let stamp = if self.is(ModelMutant::JudgedAnew) { 0 } else { state.answers[message_of(me)] };
        let (then, what) = if stamp == 0 {
            self.judged(state, me)
        } else {
            (Signer { step: SignerStep::PublishRejection, stamp, ..me }, "it has its answer")
        };
        out.step(with(state, at, then), || format!("reads its own answer once more: {what}"));
    }

    /// Judges by the current rule, which the signer knows.
    fn judged(&self, state: &State, me: Signer) -> (Signer, &'static str) {
        let ask = self.ask(me);
        let refused = ask.refused || ask.by_rule && state.tight;
        if !refused {
            return (Signer { step: self.first_read(), ..me }, "it is new, and accepted");
        }
        let stamp = REFUSED + me.claim.account;
        let step = if self.is(ModelMutant::AnsweredBeforeLocked) {
            SignerStep::StoreAnswer
        } else {
            self.before_rejecting(me)
        };
        (Signer { step, stamp, ..me }, "it is new, and refused")
    }

    /// A rejection that replaces another keeps a copy of it first.
    pub(super) fn before_rejecting(&self, me: Signer) -> SignerStep {
        if me.read == 0 || self.is(ModelMutant::CopyNotKept) { SignerStep::Reject } else { SignerStep::CopyThenReject }
    }

    /// Copies the rejection that was read to its message's own id, if it is still stored.
    pub(super) fn keep_copy(&self, state: &State, at: usize, then: SignerStep, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let mut after = with(state, at, Signer { step: then, ..me });
        if let Item::Rejected { by, stamp, .. } = state.table[usize::from(self.ask(me).request)]
            && by + 1 == me.read
            && after.answers[usize::from(by)] == 0
        {
            after.answers[usize::from(by)] = stamp;
        }
        out.step(after, || format!("keeps a copy of the rejection of message {}", me.read - 1));
    }

    /// Stores a rejection under the request id, over what was read there.
    pub(super) fn reject(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let MessageSpec { request, cancels, .. } = self.ask(me);
        let item = state.table[usize::from(request)];
        if matches!(item, Item::Record(_)) && cancels {
            let after = released(with(state, at, Signer::IDLE), me.job);
            out.step(after, || {
                format!("stores a rejection: request {request} came meanwhile; leaves the cancel on the queue")
            });
            return;
        }
        if let Item::Record(record) = item
            && me.claim.is_closed()
        {
            // The request got a record meanwhile, which is the answer; or the id belongs to another request.
            let same = self.machine_cache.record(record).digest
                == self.machine_cache.digest(self.ask(me).content, me.claim.account);
            let (step, stamp) = if same { (self.after_store(), 0) } else { (SignerStep::StoreAnswer, BESIDE) };
            let after = with(state, at, Signer { step, stamp, claim: Claim::NONE, ..me });
            out.step(after, || format!("stores a rejection: request {request} has a slot meanwhile"));
            return;
        }
        if matches!(item, Item::Record(_)) {
            let after = with(state, at, Signer { step: SignerStep::Load, ..me });
            out.step(after, || format!("stores a rejection: request {request} has a slot"));
            return;
        }
        if item.read() != me.read {
            let after = with(state, at, Signer { step: SignerStep::ReadOwn, stamp: 0, ..me });
            out.step(after, || format!("stores a rejection: another message has request {request} meanwhile"));
            return;
        }
        let by = message_of(me) as u8;
        let stamp = if me.stamp == 0 { REFUSED + me.claim.account } else { me.stamp };
        let mut after = *state;
        after.table[usize::from(request)] = Item::Rejected { published: false, by, stamp };
        let step = if self.is(ModelMutant::AnsweredBeforeLocked) {
            SignerStep::MarkRejection
        } else {
            SignerStep::StoreAnswer
        };
        let done = with(&after, at, Signer { step, stamp, ..me });
        out.step(done, || format!("stores that request {request} is rejected"));
        if state.faults.lost_replies > 0 {
            after.faults.lost_replies -= 1;
            out.fault(after, || format!("stores that request {request} is rejected, and the reply is lost"));
        }
    }

    /// Refuses a message whose id belongs to another request, or a cancel of an unknown request.
    pub(super) fn beside(&self, me: Signer) -> Signer {
        let stamp = if self.ask(me).cancels { NO_REQUEST } else { BESIDE };
        Signer { step: SignerStep::StoreAnswer, stamp, ..me }
    }

    /// Stores the answer under the message's own id unless one is stored: the first stays.
    pub(super) fn store_answer(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let message = message_of(me);
        let mut after = *state;
        if after.answers[message] == 0 {
            after.answers[message] = me.stamp;
        }
        let stamp = after.answers[message];
        let step = if self.is(ModelMutant::AckBeforePublish) {
            SignerStep::AckRejection
        } else {
            SignerStep::PublishRejection
        };
        out.step(with(&after, at, Signer { step, stamp, ..me }), || format!("stores the answer to message {message}"));
        if state.faults.lost_replies > 0 {
            after.faults.lost_replies -= 1;
            out.fault(after, || format!("stores the answer to message {message}, and the reply is lost"));
        }
    }

    /// Publishes the stored answer unchanged.
    pub(super) fn publish_rejection(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let message = message_of(me);
        let before = state.rejections[message];
        let mut broken = (before != 0 && before != me.stamp)
            .then(|| Broken::new("I15", format!("two copies of the rejection of message {message} differ")));
        broken = broken.or_else(|| self.false_conflict(state, me));
        broken = broken.or_else(|| self.shared_event(state, me));
        let mut after = *state;
        after.rejections[message] = me.stamp;
        let then = if me.step == SignerStep::PublishAcked {
            Signer::IDLE
        } else if self.is(ModelMutant::AnsweredBeforeLocked) && me.stamp < BESIDE {
            Signer { step: SignerStep::Reject, ..me }
        } else if me.stamp < BESIDE || self.is(ModelMutant::CancelRefusedAsRequest) {
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

    /// Mutant: the event id names the request and not the message, so two refusals under one id share it.
    fn shared_event(&self, state: &State, me: Signer) -> Option<Broken> {
        let request = self.ask(me).request;
        let message = message_of(me);
        let shares = |other: usize| {
            other != message
                && self.world.messages[other].request == request
                && (1..BESIDE).contains(&state.rejections[other])
        };
        let found = self.is(ModelMutant::RejectionsShareAnEvent)
            && me.stamp < BESIDE
            && (0..self.world.messages.len()).any(shares);
        found.then(|| Broken::new("I15", format!("two messages' rejections of request {request} share an event id")))
    }

    /// Notes on the rejection under the request id that it is published, if it is still this message's.
    pub(super) fn mark_rejection(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let mut after = with(state, at, Signer { step: SignerStep::AckRejection, ..me });
        let by = message_of(me) as u8;
        let item = &mut after.table[usize::from(self.ask(me).request)];
        if let Item::Rejected { by: owner, published, .. } = item
            && *owner == by
        {
            *published = true;
        }
        out.step(after, || "notes that the rejection is published".to_owned());
    }

    /// Deletes an answered message. The deletion may be lost, or its FIFO group may hold it back.
    pub(super) fn acknowledge_rejection(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let message = message_of(me);
        let then = if self.is(ModelMutant::AckBeforePublish) && state.rejections[message] == 0 {
            Signer { step: SignerStep::PublishAcked, ..me }
        } else {
            Signer::IDLE
        };
        let after = acked(with(state, at, then), me.job, MessageState::AckedAsRejected);
        out.step(after, || format!("deletes the rejected message {message}"));
        if state.faults.held_back > 0 {
            let mut after = released(with(state, at, Signer::IDLE), me.job);
            after.faults.held_back -= 1;
            out.fault(after, || format!("does not delete the rejected message {message}: its group holds it back"));
        }
    }
}

/// The message a signer answers.
fn message_of(me: Signer) -> usize {
    match me.job {
        Job::Message(message) => usize::from(message),
        Job::Resign(_) | Job::None => unreachable!("only messages are answered"),
    }
}
