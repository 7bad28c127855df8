//! `{"cancel": "ID"}` on the signing queue: the wish is noted on the record; the lane does the rest.

use crate::machine::Event;
use crate::ports::{BroadcastQueue, Keys, OutcomeTopic, Store};
use crate::record::{CancelCause, Phase, Stored};
use crate::request::{Code, Refused};
use crate::told;
use crate::units::{Millis, RequestId};

use super::attempt::{AttemptError, Written};
use super::{Batch, Delivery, Refusal, Signer};

/// What a cancel came to.
enum Noted {
    /// The record carries the wish, or needs none any more.
    Done(Option<crate::units::AccountKey>),
    /// It is refused, with an outcome of its own.
    Refused(Box<Refusal>),
}

impl<S: Store, K: Keys, B: BroadcastQueue, O: OutcomeTopic> Signer<S, K, B, O> {
    /// Notes the cancels of a batch on their records.
    pub(super) async fn carry_cancels(&self, batch: &mut Batch<'_>, cancels: Vec<(usize, RequestId)>, now: Millis) {
        let mut refusals = Vec::new();
        for (at, id) in cancels {
            let Some(delivery) = batch.deliveries.get(at) else { continue };
            match self.note_cancel(&id, delivery, now).await {
                Ok(Noted::Done(account)) => {
                    if let Some(account) = account {
                        batch.touch(account);
                    }
                    batch.done(&[at]);
                }
                Ok(Noted::Refused(refusal)) => refusals.push((at, *refusal)),
                Err(error) => {
                    tracing::warn!(error = told(&error), request_id = %id, "cancel not noted; the message stays on the queue");
                    batch.retry(&[at]);
                }
            }
        }
        self.settle_refusals(batch, refusals, now).await;
    }

    async fn note_cancel(&self, id: &RequestId, delivery: &Delivery, now: Millis) -> Result<Noted, AttemptError> {
        let stored = self.store.load(std::slice::from_ref(id), now).await.map_err(AttemptError::Store)?;
        // Under the message's own id: a refused cancel must not be taken for the rejection of the
        // request it names, which may be on its way (I7).
        let refuse = |account, refused| {
            let id = delivery.id_of_its_own();
            Ok(Noted::Refused(Box::new(Refusal { id, account, digest: None, refused })))
        };
        let mut record = match stored.into_iter().next() {
            Some(Stored::Record(record)) => *record,
            // A rejected request has its outcome already, and nothing of it was ever signed.
            Some(Stored::Rejected(_)) => return Ok(Noted::Done(None)),
            None => {
                let text = format!(
                    "`cancel` names {id}, a request that is not known; it takes the requestId of a request sent before"
                );
                return refuse(None, Refused::field(Code::UnknownRequest, "cancel", text));
            }
        };
        let sender = delivery.sender.as_deref();
        if let Err(refused) = self.config.policies.of(&record.name).and_then(|policy| policy.check_sender(sender)) {
            let message = format!("the cancel of {id} is refused: {}", refused.message);
            return refuse(Some(record.account), Refused { message, ..refused });
        }
        for _ in 0..Self::MAX_TRIES {
            let settled = matches!(record.phase, Phase::Settled(_));
            if settled || record.cancel.is_some() {
                return Ok(Noted::Done((!settled).then_some(record.account)));
            }
            match self.write(&record, &Event::CancelAsked(CancelCause::Asked), now).await? {
                Written::Ours(record) => {
                    tracing::info!(request_id = %record.request_id, nonce = %record.nonce, "cancel noted");
                    return Ok(Noted::Done(Some(record.account)));
                }
                Written::Theirs(theirs) => record = theirs,
            }
        }
        Err(AttemptError::Contended)
    }
}
