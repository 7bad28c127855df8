//! What becomes of a message that gets no slot: its refusal is stored, published, and marked published.
//!
//! ## Guarantees
//! * What is published of a message is stored before, and what is stored once is what is said on every delivery,
//!   equal in every byte.
//! * A refusal said under the id that the message names is a [`Rejected`] item under that id first: the item is the
//!   lock, so that of two workers that judge one message differently one wins. A copy is kept under
//!   `sqs:<message id>` at once, and before another message's record or rejection takes the item's place.
//! * Under an id that is not the message's own nothing is said: not under one that has a record, not by a sender
//!   that no policy accepts, not of a cancel. That is answered under `sqs:<message id>`, and names the id.
//!
//! ## Does not guarantee
//! * The lock where the answer is under `sqs:<message id>` alone: of two workers with different policies that judge
//!   the same delivery of a message at the same moment, one may refuse its sender and the other give it a slot.
//! * One answer for a message that is sent again, by hand or by `signpost redrive`: the copy has another message id
//!   and is another message. It can do nothing a second time, since a request that has a record is answered by it.
//!
//! Read next: [`super::reservation`].

use crate::ports::{OutcomeTopic, PortError, RejectVerdict, Store};
use crate::record::{Reason, Record, Rejected, Vacancy};
use crate::request::{Code, Refused, SigningRequest};
use crate::units::{AccountKey, ChainId, Digest, Millis, RequestId};
use crate::wire::OutcomeMessage;
use crate::{error_chain, meters, publish};

use super::MAX_TRIES;
use super::answer::{Standing, find};
use super::attempt::AttemptError;
use super::batch::Batch;
use crate::inbox::Incoming;

/// How long the refusal of a stranger's message is kept, in milliseconds: a day. It is needed as long as the message
/// may be delivered again, which is some ten times in at most a few hours before it is a dead letter; what comes from
/// there is another message. And it is small: so a flood of a million a day holds less than 1 GB.
const STRANGER_KEPT_MS: u64 = 86_400_000;

/// A refused message: what is stored and published.
pub(super) struct Refusal {
    /// Its delivery.
    pub(super) at: usize,
    pub(super) place: Place,
    /// What it asks for, if it could be read: it may turn out to have a record after all.
    pub(super) request: Option<Box<SigningRequest>>,
    pub(super) account: Option<AccountKey>,
    pub(super) digest: Option<Digest>,
    pub(super) refused: Refused,
}

/// Under which id a refusal is said.
pub(super) enum Place {
    /// Under the one that the message names, in place of this rejection of another message.
    Named(RequestId, Option<Box<Rejected>>),
    /// Under the message's own, with the id it named.
    Own(Option<RequestId>),
    /// The same for a message of a sender that no policy knows; kept for a short time.
    Stranger(Option<RequestId>),
}

/// What answers a refused message.
enum Kept {
    /// This, which is stored.
    Answer(Box<Rejected>),
    /// It was accepted meanwhile: its record.
    Record(Box<Record>),
}

/// Refuses messages: needs the store and the topic.
pub(super) struct Rejections<'a, S, O> {
    pub(super) store: &'a S,
    pub(super) topic: &'a O,
    pub(super) chain_id: ChainId,
    /// How long a rejection is kept, in milliseconds.
    pub(super) retention_ms: u64,
}

impl<S: Store, O: OutcomeTopic> Rejections<'_, S, O> {
    /// Stores refusals and publishes them.
    pub(super) async fn settle_refusals(&self, batch: &mut Batch<'_>, refusals: Vec<Refusal>, now: Millis) {
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
                    tracing::warn!(error = error_chain(&error), message_id = %delivery.message_id, "rejection not stored; the message stays");
                    batch.retry(at);
                }
            }
        }
        self.publish_answers(batch, answers, now).await;
    }

    /// Publishes stored refusals, each as it was stored.
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
            let ids = [id.clone(), delivery.id_of_its_own()];
            let found = find(self.store, &ids, now).await.map_err(AttemptError::Store)?;
            match found.standing(delivery, Some(&id), refusal.request.as_deref(), self.chain_id) {
                Standing::Record(record) => return Ok(Kept::Record(record)),
                Standing::Refused(rejected) => return Ok(Kept::Answer(rejected)),
                Standing::Taken => {
                    return self.keep_own(delivery, &refusal.beside(id), now).await.map(Kept::Answer);
                }
                Standing::New(other) => replaced = other,
            }
        }
        Err(AttemptError::Contended)
    }

    /// Stores a refusal under the message's own id, unless one is there.
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
        let found = find(self.store, &[delivery.id_of_its_own()], now).await.map_err(AttemptError::Store)?;
        let first = found.refusal_of(delivery).ok_or(AttemptError::Contended)?;
        Ok(Box::new(first.clone()))
    }

    /// Keeps a rejection under its message's id, so that it outlives its place under the id it names.
    pub(super) async fn keep_copy(&self, rejected: &Rejected) -> Result<(), PortError> {
        // One of before message ids were kept has no place of its own.
        let kept_as = rejected.message_id.as_deref().and_then(|message_id| RequestId::of_message(message_id).ok());
        let Some(request_id) = kept_as else { return Ok(()) };
        let copy = Rejected { request_id, said_as: Some(rejected.request_id.clone()), ..rejected.clone() };
        // Occupied: it is kept already.
        self.store.reject(&copy, &Vacancy::Free).await.map(|_| ())
    }

    fn rejection(&self, delivery: &Incoming, refusal: &Refusal, now: Millis) -> Rejected {
        let kept_ms = self.retention_ms;
        let (request_id, named, kept_ms) = match &refusal.place {
            Place::Named(id, _) => (id.clone(), None, kept_ms),
            Place::Own(named) => (delivery.id_of_its_own(), named.clone(), kept_ms),
            Place::Stranger(named) => (delivery.id_of_its_own(), named.clone(), kept_ms.min(STRANGER_KEPT_MS)),
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
            // A stranger's is not written again: see `super::stranger`.
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
            // Occupied: another message has taken its place, and the copy of it stands.
            Ok(RejectVerdict::Stored | RejectVerdict::Occupied) => true,
            Err(error) => {
                tracing::warn!(error = error_chain(&error), request_id = %id, "rejection published but not marked; it will be again");
                false
            }
        }
    }
}

impl Place {
    fn id(&self, delivery: &Incoming) -> RequestId {
        match self {
            Self::Named(id, _) => id.clone(),
            Self::Own(_) | Self::Stranger(_) => delivery.id_of_its_own(),
        }
    }
}

impl Refusal {
    /// The same of a message whose id has the record of another request. Whatever is wrong with it, the outcome
    /// must not be taken for that request's (I7).
    fn beside(self, id: RequestId) -> Self {
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

/// The refusal of a message whose id belongs to another request; `problem` is what is wrong with it besides.
pub(super) fn reused(id: &str, problem: Option<&str>, metadata: Option<Box<serde_json::Value>>) -> Refused {
    let message = match problem {
        None => format!("`requestId` {id} was used before with other contents; the first request is untouched"),
        Some(problem) => format!(
            "`requestId` {id} belongs to a request sent before, which is untouched; this message is refused: {problem}"
        ),
    };
    Refused { metadata, ..Refused::field(Code::RequestIdReused, "requestId", message) }
}

/// Publishes and says which went out; every failure is logged.
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
                tracing::warn!(error = error_chain(&error), request_id = %outcome.request_id, "outcome not published; it will be");
                false
            }
        })
        .collect()
}
