//! Rejections of messages that get no slot: they are stored, published, and marked as published.
//!
//! ## Guarantees
//! * A rejection is stored before it is published. Every delivery of the message publishes it again, byte for byte.
//! * To reject a message under the id that it names, a [`Rejected`] item is stored under that id first. The item is a
//!   lock: if two workers judge one message differently, one wins. A copy is stored under `sqs:<message id>` at once,
//!   and before the record or rejection of another message replaces the item.
//! * Nothing is published under an id that the message does not own. Refused cancels, messages from senders that no
//!   policy accepts, and messages whose id has a record are answered under `sqs:<message id>`, with the id they named.
//!
//! ## Does not guarantee
//! * A lock for answers that are only under `sqs:<message id>`. If two workers with different policies judge the same
//!   delivery at the same time, one may refuse the sender and the other may reserve a slot.
//! * One answer for a message that is sent again, by hand or by `signpost redrive`: the copy has another message id, so
//!   it is another message. It has no second effect, because a request that has a record is answered by its record.
//!
//! Read next: [`super::reservation`].

use crate::ports::{OutcomeTopic, PortError, RejectVerdict, Store};
use crate::record::{Reason, Record, Rejected, Vacancy};
use crate::request::{Code, Refused, SigningRequest};
use crate::units::{AccountKey, ChainId, Digest, Millis, RequestId};
use crate::wire::OutcomeMessage;
use crate::{error_chain, meters, publish};

use super::MAX_TRIES;
use super::answer::{MessageStatus, find};
use super::attempt::AttemptError;
use super::batch::Batch;
use crate::inbox::Incoming;

/// How long the rejection of a stranger's message is kept, in milliseconds: one day. It is needed while the message may
/// be redelivered: about ten times within a few hours, until it is a dead letter. A message from the dead-letter queue
/// is a new message. The items are small, so a flood of a million per day needs less than 1 GB.
const STRANGER_KEPT_MS: u64 = 86_400_000;

/// A refused message.
pub(super) struct Refusal {
    /// The index of its delivery.
    pub(super) at: usize,
    pub(super) place: Place,
    /// The request, if it could be parsed. Needed because another worker may have stored a record for it.
    pub(super) request: Option<Box<SigningRequest>>,
    pub(super) account: Option<AccountKey>,
    pub(super) digest: Option<Digest>,
    pub(super) refused: Refused,
}

/// The id under which a rejection is stored and published.
pub(super) enum Place {
    /// The id that the message names. Replaces this rejection of another message, if any.
    Named(RequestId, Option<Box<Rejected>>),
    /// The message's own id. The value is the id that it named.
    Own(Option<RequestId>),
    /// The same for a message from a sender that no policy lists. Kept for a short time.
    Stranger(Option<RequestId>),
}

/// The stored answer to a refused message.
enum Kept {
    /// The stored rejection.
    Answer(Box<Rejected>),
    /// The record: another worker accepted the message meanwhile.
    Record(Box<Record>),
}

/// Rejects messages. Needs the store and the topic.
pub(super) struct Rejections<'a, S, O> {
    pub(super) store: &'a S,
    pub(super) topic: &'a O,
    pub(super) chain_id: ChainId,
    /// How long a rejection is kept, in milliseconds.
    pub(super) retention_ms: u64,
}

impl<S: Store, O: OutcomeTopic> Rejections<'_, S, O> {
    /// Stores rejections and publishes them.
    pub(super) async fn answer_refusals(&self, batch: &mut Batch<'_>, refusals: Vec<Refusal>, now: Millis) {
        let mut answers = Vec::new();
        for refusal in refusals {
            let (at, deliveries) = (refusal.at, batch.deliveries);
            let Some(delivery) = deliveries.get(at) else { continue };
            metrics::counter!(meters::REJECTED, "code" => refusal.refused.code.as_str()).increment(1);
            tracing::info!(request_id = %refusal.place.id(delivery), code = %refusal.refused.code, "rejected");
            match self.keep(delivery, refusal, now).await {
                Ok(Kept::Answer(rejected)) => answers.push((at, *rejected)),
                Ok(Kept::Record(record)) => {
                    if !record.is_closed() {
                        batch.touch(record.account);
                    }
                    batch.done(at);
                }
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), message_id = %delivery.message_id,
                        "rejection not stored; the message stays on the queue");
                    batch.retry(at);
                }
            }
        }
        self.publish_answers(batch, answers, now).await;
    }

    /// Publishes stored rejections.
    pub(super) async fn publish_answers(&self, batch: &mut Batch<'_>, answers: Vec<(usize, Rejected)>, now: Millis) {
        let outcomes: Vec<_> =
            answers.iter().map(|(at, rejected)| batch.in_trace(*at, OutcomeMessage::of_rejected(rejected))).collect();
        let published = publish_each(self.topic, &outcomes).await;
        for ((at, rejected), published) in answers.into_iter().zip(published) {
            if published && self.mark_published(rejected, now).await { batch.done(at) } else { batch.retry(at) }
        }
    }

    async fn keep(&self, delivery: &Incoming, refusal: Refusal, now: Millis) -> Result<Kept, AttemptError> {
        let (id, mut replaced) = match &refusal.place {
            Place::Named(id, replaced) => (id.clone(), replaced.clone()),
            Place::Own(_) | Place::Stranger(_) => {
                return self.keep_own(delivery, &refusal, now).await.map(Kept::Answer);
            }
        };
        let rejected = self.rejection(delivery, &refusal, now);
        for _ in 0..MAX_TRIES {
            if let Some(replaced) = &replaced {
                self.keep_copy(replaced).await.map_err(AttemptError::Store)?;
            }
            let over = Vacancy::of(replaced.as_deref());
            if self.store.reject(&rejected, &over).await.map_err(AttemptError::Store)? == RejectVerdict::Stored {
                self.keep_copy(&rejected).await.map_err(AttemptError::Store)?;
                return Ok(Kept::Answer(Box::new(rejected)));
            }
            let ids = [id.clone(), delivery.own_id()];
            let found = find(self.store, &ids, now).await.map_err(AttemptError::Store)?;
            match found.status_of(delivery, Some(&id), refusal.request.as_deref(), self.chain_id) {
                MessageStatus::Record(record) => return Ok(Kept::Record(record)),
                MessageStatus::Refused(rejected) => return Ok(Kept::Answer(rejected)),
                MessageStatus::Taken => {
                    return self.keep_own(delivery, &refusal.into_conflict(id), now).await.map(Kept::Answer);
                }
                MessageStatus::New(other) => replaced = other,
            }
        }
        Err(AttemptError::Contended)
    }

    /// Stores a rejection under the message's own id, unless there is one.
    pub(super) async fn keep_own(
        &self,
        delivery: &Incoming,
        refusal: &Refusal,
        now: Millis,
    ) -> Result<Box<Rejected>, AttemptError> {
        let rejected = self.rejection(delivery, refusal, now);
        if self.store.reject(&rejected, &Vacancy::Free).await.map_err(AttemptError::Store)? == RejectVerdict::Stored {
            return Ok(Box::new(rejected));
        }
        let found = find(self.store, &[delivery.own_id()], now).await.map_err(AttemptError::Store)?;
        let first = found.refusal_of(delivery).ok_or(AttemptError::Contended)?;
        Ok(Box::new(first.clone()))
    }

    /// Stores a copy of a rejection under its message's own id, because the item under the named id may be replaced.
    pub(super) async fn keep_copy(&self, rejected: &Rejected) -> Result<(), PortError> {
        // Rejections from earlier versions may have no message id.
        let kept_as = rejected.message_id.as_deref().and_then(|message_id| RequestId::of_message(message_id).ok());
        let Some(request_id) = kept_as else { return Ok(()) };
        let copy = Rejected { request_id, said_as: Some(rejected.request_id.clone()), ..rejected.clone() };
        // Occupied: the copy exists.
        self.store.reject(&copy, &Vacancy::Free).await.map(|_| ())
    }

    fn rejection(&self, delivery: &Incoming, refusal: &Refusal, now: Millis) -> Rejected {
        let kept_ms = self.retention_ms;
        let (request_id, named, kept_ms) = match &refusal.place {
            Place::Named(id, _) => (id.clone(), None, kept_ms),
            Place::Own(named) => (delivery.own_id(), named.clone(), kept_ms),
            Place::Stranger(named) => (delivery.own_id(), named.clone(), kept_ms.min(STRANGER_KEPT_MS)),
        };
        let is_stranger = matches!(refusal.place, Place::Stranger(_));
        Rejected {
            request_id,
            digest: refusal.digest,
            account: refusal.account,
            reason: Reason {
                code: refusal.refused.code.as_str().to_owned(),
                message: refusal.refused.message.clone(),
                revert: None,
                request_id: named,
            },
            metadata: refusal.refused.metadata.as_deref().cloned(),
            sender: delivery.sender.clone(),
            message_id: Some(delivery.message_id.clone()),
            said_as: None,
            created_at: now,
            // The rejection of a stranger's message is written only once: see `super::stranger`.
            published_at: is_stranger.then_some(now),
            expires_at: Some(now.plus(kept_ms)),
        }
    }

    async fn mark_published(&self, rejected: Rejected, now: Millis) -> bool {
        if rejected.published_at.is_some() {
            return true;
        }
        let (id, over) = (rejected.request_id.clone(), Vacancy::of(Some(&rejected)));
        let published = Rejected { published_at: Some(now), ..rejected };
        match self.store.reject(&published, &over).await {
            // Occupied: the item of another message replaced it, and its copy exists.
            Ok(RejectVerdict::Stored | RejectVerdict::Occupied) => true,
            Err(error) => {
                tracing::warn!(error = error_chain(&error), request_id = %id,
                    "rejection published but not marked as published; it will be published again");
                false
            }
        }
    }
}

impl Place {
    fn id(&self, delivery: &Incoming) -> RequestId {
        match self {
            Self::Named(id, _) => id.clone(),
            Self::Own(_) | Self::Stranger(_) => delivery.own_id(),
        }
    }
}

impl Refusal {
    /// The refusal if the id has the record of another request. Its outcome must not look like that request's (I7).
    fn into_conflict(self, id: RequestId) -> Self {
        let problem = match &self.request {
            Some(_) => None,
            None => Some(self.refused.message.as_str()),
        };
        Self {
            refused: reused(id.as_str(), problem, self.refused.metadata.clone()),
            place: Place::Own(Some(id)),
            ..self
        }
    }
}

/// The refusal of a message whose id belongs to another request. `problem` is another error in the message, if any.
pub(super) fn reused(id: &str, problem: Option<&str>, metadata: Option<Box<serde_json::Value>>) -> Refused {
    let message = match problem {
        None => format!("`requestId` {id} was used before with other contents; the first request is untouched"),
        Some(problem) => format!(
            "`requestId` {id} belongs to a request sent before, which is untouched; this message is refused: {problem}"
        ),
    };
    Refused { metadata, ..Refused::field(Code::RequestIdReused, "requestId", message) }
}

/// Publishes outcomes. Returns for each whether it was published. Failures are logged.
pub(super) async fn publish_each<O: OutcomeTopic>(topic: &O, outcomes: &[OutcomeMessage]) -> Vec<bool> {
    if outcomes.is_empty() {
        return Vec::new();
    }
    let answers = publish::all(topic, outcomes).await;
    answers
        .into_iter()
        .zip(outcomes)
        .map(|(answer, outcome)| match answer {
            Ok(()) => {
                metrics::counter!(meters::PUBLISHED).increment(1);
                true
            }
            Err(error) => {
                metrics::counter!(meters::NOT_PUBLISHED).increment(1);
                tracing::warn!(error = error_chain(&error), request_id = %outcome.request_id,
                    "outcome not published; it will be tried again");
                false
            }
        })
        .collect()
}
