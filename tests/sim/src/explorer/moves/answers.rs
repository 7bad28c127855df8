//! The signer's answers to messages that get no slot: read first, judged once, stored, then published.
//!
//! What is refused is stored twice, in one transaction: under the request id, over nothing or over another
//! rejection, and under the message's own id, where it stays when another message takes the request id. A
//! reservation is conditional on what was read under the request id, so two judgements of one message cannot both
//! hold. What is refused beside the request that has the id is stored under the message's own id alone.

use super::signer::{acked, released, with};
use super::{Explorer, Moves};
use crate::explorer::check::Broken;
use crate::explorer::lane::Claim;
use crate::explorer::mutants::Mutant;
use crate::explorer::world::{Ask, Delivery, Item, Job, RecordId, Signer, SignerStep, State};

/// A refusal under the request id, in the name of the first account; the second has the next number.
const REFUSED: u8 = 1;
/// A refusal beside the request that has the id.
pub(super) const BESIDE: u8 = 3;
/// A refusal of a cancel.
const NO_REQUEST: u8 = 4;
/// No refusal: the message's cancel is carried out.
const CANCELS: u8 = 5;

impl Explorer<'_> {
    /// Reads what is stored for a message. It is judged only if it has no answer yet.
    pub(super) fn read_answers(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let message = message_of(me);
        let ask = self.ask(me);
        let item = state.table[usize::from(ask.request)];
        let reserved_for_it = state.reserved_by[usize::from(ask.request)] == message as u8 + 1;
        let is_record = matches!(item, Item::Record(_));
        let me = Signer { read: item.read(), ..me };
        let (then, what) = if is_record && reserved_for_it && !ask.cancels {
            (Signer { step: SignerStep::Load, ..me }, "it has its record")
        } else if let Some(answered) = self.answered(state, me) {
            answered
        } else if ask.cancels {
            (Signer { step: SignerStep::LoadCancel, ..me }, "it has no answer")
        } else if is_record {
            (Signer { step: SignerStep::Load, ..me }, "the request id has a record")
        } else if me.read != 0 {
            // The answer may have been stored after it was read, and before the rejection was.
            (Signer { step: SignerStep::ReadAgain, ..me }, "another message's rejection has the request id")
        } else {
            self.judged(state, me)
        };
        out.step(with(state, at, then), || format!("reads what is stored for message {message}: {what}"));
    }

    /// Reads the message's own answer after the rejection that another message left under the request id.
    pub(super) fn read_again(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let (then, what) = self.answered(state, me).unwrap_or_else(|| self.judged(state, me));
        out.step(with(state, at, then), || format!("reads the answer once more: {what}"));
    }

    /// What follows from the stored answer, if there is one.
    fn answered(&self, state: &State, me: Signer) -> Option<(Signer, &'static str)> {
        let stamp = state.answers[message_of(me)];
        if stamp == 0 || self.is(Mutant::JudgedAnew) {
            return None;
        }
        Some(if stamp == CANCELS {
            (Signer { step: SignerStep::LoadCancel, ..me }, "its cancel is carried out")
        } else {
            (Signer { step: SignerStep::PublishRejection, stamp, ..me }, "it has its answer")
        })
    }

    /// By today's rule, which the signer knows.
    fn judged(&self, state: &State, me: Signer) -> (Signer, &'static str) {
        let ask = self.ask(me);
        let refused = ask.refused || ask.by_rule && state.tight;
        if !refused {
            return (Signer { step: self.first_read(), ..me }, "it is new, and accepted");
        }
        let stamp = REFUSED + me.claim.account;
        let step = if self.is(Mutant::AnsweredBeforeLocked) { SignerStep::StoreAnswer } else { SignerStep::Reject };
        (Signer { step, stamp, ..me }, "it is new, and refused")
    }

    /// One transaction: the rejection under the request id, where nothing or another rejection is stored, and the
    /// answer under the message's own id, where none is.
    pub(super) fn reject(&mut self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let Ask { request, cancels, .. } = self.ask(me);
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
            // It came meanwhile, and its record answers; or the id is another's.
            let same = self.book.record(record).digest == self.book.digest(self.ask(me).content, me.claim.account);
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
        let message = message_of(me);
        let stored = state.answers[message];
        let apart = self.is(Mutant::AnsweredBeforeLocked) || self.is(Mutant::AnswerApart);
        let overwrites = self.is(Mutant::RejectionStartsOver) || self.is(Mutant::JudgedAnew);
        if stored != 0 && !apart && !overwrites {
            let after = with(state, at, Signer { step: SignerStep::PublishRejection, stamp: stored, ..me });
            out.step(after, || format!("stores a rejection: message {message} has its answer"));
            return;
        }
        let stamp = if me.stamp == 0 { REFUSED + me.claim.account } else { me.stamp };
        let mut after = *state;
        after.table[usize::from(request)] = Item::Rejected { published: false, by: message as u8 };
        let step = if self.is(Mutant::AnsweredBeforeLocked) {
            SignerStep::MarkRejection
        } else if self.is(Mutant::AnswerApart) {
            SignerStep::StoreAnswer
        } else if self.is(Mutant::AckBeforePublish) {
            after.answers[message] = stamp;
            SignerStep::AckRejection
        } else {
            after.answers[message] = stamp;
            SignerStep::PublishRejection
        };
        let done = with(&after, at, Signer { step, stamp, ..me });
        out.step(done, || format!("stores that request {request} is rejected, as the answer to message {message}"));
        if state.faults.lost_replies > 0 {
            after.faults.lost_replies -= 1;
            out.fault(after, || format!("stores that request {request} is rejected, and the reply is lost"));
        }
    }

    /// What is said of a message whose id is another request's, or that cancels a request that is not there.
    pub(super) fn beside(&self, me: Signer) -> Signer {
        let stamp = if self.ask(me).cancels { NO_REQUEST } else { BESIDE };
        Signer { step: SignerStep::StoreAnswer, stamp, ..me }
    }

    /// Stores the answer under the message's own id, unless one is there: the first stands.
    pub(super) fn store_answer(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let message = message_of(me);
        let mut after = *state;
        if after.answers[message] == 0 {
            after.answers[message] = me.stamp;
        }
        let stamp = after.answers[message];
        let step = if stamp == CANCELS {
            SignerStep::LoadCancel
        } else if self.is(Mutant::AckBeforePublish) {
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

    /// Stores that a cancel is carried out, unless it is refused already: the first answer stands.
    pub(super) fn claim_cancel(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let message = message_of(me);
        let mut after = *state;
        let stored = after.answers[message];
        if stored != 0 && stored != CANCELS && !self.is(Mutant::JudgedAnew) {
            let then = Signer { step: SignerStep::PublishRejection, stamp: stored, record: RecordId::NONE, ..me };
            out.step(with(&after, at, then), || format!("claims message {message}: it is refused meanwhile"));
            return;
        }
        after.answers[message] = CANCELS;
        let done = with(&after, at, Signer { step: SignerStep::NoteCancel, ..me });
        out.step(done, || format!("stores that the cancel of message {message} is carried out"));
    }

    /// Publishes the stored answer, word by word.
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
        } else if self.is(Mutant::AnsweredBeforeLocked) && me.stamp < BESIDE {
            Signer { step: SignerStep::Reject, ..me }
        } else if me.stamp < BESIDE || self.is(Mutant::CancelRefusedAsRequest) {
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

    /// A mutant's: the event id names the request and not the message, so two refusals under one id share it.
    fn shared_event(&self, state: &State, me: Signer) -> Option<Broken> {
        let request = self.ask(me).request;
        let message = message_of(me);
        let shares = |other: usize| {
            other != message
                && self.world.messages[other].request == request
                && (1..BESIDE).contains(&state.rejections[other])
        };
        let found =
            self.is(Mutant::RejectionsShareAnEvent) && me.stamp < BESIDE && (0..self.world.messages.len()).any(shares);
        found.then(|| Broken::new("I15", format!("two messages' rejections of request {request} share an event id")))
    }

    /// Notes on the rejection under the request id that it is published, if it is still this message's.
    pub(super) fn mark_rejection(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let mut after = with(state, at, Signer { step: SignerStep::AckRejection, ..me });
        let by = message_of(me) as u8;
        let item = &mut after.table[usize::from(self.ask(me).request)];
        if matches!(item, Item::Rejected { by: owner, .. } if *owner == by) {
            *item = Item::Rejected { published: true, by };
        }
        out.step(after, || "notes that the rejection is published".to_owned());
    }

    /// Deletes a message that has its answer. Its group may hold it back, or the deletion may be lost.
    pub(super) fn acknowledge_rejection(&self, state: &State, at: usize, out: &mut Moves<'_>) {
        let me = state.signers[at];
        let message = message_of(me);
        let then = if self.is(Mutant::AckBeforePublish) && state.rejections[message] == 0 {
            Signer { step: SignerStep::PublishAcked, ..me }
        } else {
            Signer::IDLE
        };
        let after = acked(with(state, at, then), me.job, Delivery::AckedAsRejected);
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
