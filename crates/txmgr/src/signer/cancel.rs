//! `{"cancel": "ID"}` on the signing queue: the cancel is written to the record, and the broadcaster carries it out.
//!
//! A cancel is accepted from the sender of the request, and from the senders that policy lists in `cancel_senders`. An
//! operator needs no message: `signpost cancel` has the permission to write the cancel to the record.
//!
//! ## Guarantees
//! * A refused cancel stays refused: the answer is stored under `sqs:<message id>`, so a redelivery does not cancel a
//!   request that arrives later.
//! * While a requested cancel is in progress, no cancel of that request is refused, from any sender.
//!
//! Read next: [`super::attempt`].

use crate::error_chain;
use crate::machine::Event;
use crate::policy::{Policies, principal};
use crate::ports::{OutcomeTopic, Store};
use crate::record::{CancelCause, Phase, Record};
use crate::request::{Code, Refused};
use crate::units::{Millis, RequestId};

use super::MAX_TRIES;
use super::attempt::{AttemptError, Written, write};
use super::batch::Batch;
use super::rejection::{Place, Refusal, Rejections};
use crate::inbox::Incoming;

/// A message that asks for a cancel.
pub(super) struct Cancel {
    /// The index of its delivery.
    pub(super) at: usize,
    /// The request it names.
    pub(super) id: RequestId,
    /// The record of the request.
    pub(super) record: Option<Box<Record>>,
}

/// Writes cancels to records. Needs the store, and the topic for refused cancels.
pub(super) struct Cancels<'a, S, O> {
    pub(super) rejections: Rejections<'a, S, O>,
    pub(super) policies: &'a Policies,
}

impl<S: Store, O: OutcomeTopic> Cancels<'_, S, O> {
    /// Writes the cancels of a batch to their records.
    pub(super) async fn note_cancels(&self, batch: &mut Batch<'_>, cancels: Vec<Cancel>, now: Millis) {
        let mut refusals = Vec::new();
        for cancel in cancels {
            let Some(delivery) = batch.deliveries.get(cancel.at) else { continue };
            let (at, id) = (cancel.at, cancel.id.clone());
            let (account, record) = match self.allowed(cancel, delivery) {
                Ok(record) => (record.account, record),
                Err(refusal) => {
                    refusals.push(*refusal);
                    continue;
                }
            };
            match self.note_cancel(record, now).await {
                Ok(is_open) => {
                    if is_open {
                        batch.touch(account);
                    }
                    batch.done(at);
                }
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), request_id = %id, "cancel not noted; the message stays on the queue");
                    batch.retry(at);
                }
            }
        }
        self.rejections.answer_refusals(batch, refusals, now).await;
    }

    /// The record to cancel, or the refusal of the cancel.
    fn allowed(&self, cancel: Cancel, delivery: &Incoming) -> Result<Record, Box<Refusal>> {
        let Cancel { at, id, record } = cancel;
        let (account, refused) = match record {
            Some(record) if self.may_cancel(&record, delivery.sender.as_deref()) => return Ok(*record),
            Some(record) => (Some(record.account), not_allowed(&id)),
            None => (None, unknown(&id)),
        };
        // Not under the request's id, because it must not look like the rejection of the request (I7).
        let place = Place::Own(Some(id));
        Err(Box::new(Refusal { at, place, request: None, account, digest: None, refused }))
    }

    fn may_cancel(&self, record: &Record, sender: Option<&str>) -> bool {
        if record.cancel == Some(CancelCause::Asked) {
            return true;
        }
        let policy = self.policies.of(&record.name).ok();
        let is_listed = policy.is_some_and(|policy| policy.takes_cancels_of(sender));
        match &record.sender {
            Some(own) => is_listed || sender.is_some_and(|sender| principal(sender) == principal(own)),
            // The record has no sender: accept any sender that may send requests for the account.
            None => is_listed || policy.is_some_and(|policy| policy.check_sender(sender).is_ok()),
        }
    }

    /// Writes the cancel to the record. Returns whether the slot is still open.
    async fn note_cancel(&self, mut record: Record, now: Millis) -> Result<bool, AttemptError> {
        for _ in 0..MAX_TRIES {
            let settled = matches!(record.phase, Phase::Settled(_));
            if settled || record.cancel.is_some() {
                return Ok(!settled);
            }
            match write(self.rejections.store, &record, &Event::CancelAsked(CancelCause::Asked), now).await? {
                Written::Ours(record) => {
                    tracing::info!(request_id = %record.request_id, nonce = %record.nonce, "cancel noted");
                    return Ok(true);
                }
                Written::Theirs(theirs) => record = theirs,
            }
        }
        Err(AttemptError::Contended)
    }
}

fn unknown(id: &RequestId) -> Refused {
    let text = format!(
        "`cancel` names {id}, a request that has no slot; it takes the requestId of a request that was accepted"
    );
    Refused::field(Code::UnknownRequest, "cancel", text)
}

fn not_allowed(id: &RequestId) -> Refused {
    let text = format!(
        "the cancel of {id} is refused: it is taken from the sender of the request and from those in policy cancel_senders"
    );
    Refused::field(Code::CancelNotAllowed, "cancel", text)
}
