//! What becomes of a message that gets no slot: recorded, published, marked published.

use crate::ports::{BroadcastQueue, Keys, OutcomeTopic, PortError, RejectVerdict, Store};
use crate::record::{Reason, Rejected, Stored};
use crate::request::{Code, Refused};
use crate::units::{Digest, Millis, RequestId};
use crate::wire::OutcomeMessage;
use crate::{meters, told};

use super::{Batch, Refusal, Signer, metadata_of, publish_each};

/// How the recording of a refusal went.
enum Recorded {
    /// It is stored as the request's record.
    Stored(Box<Rejected>),
    /// The id belongs to a request with a slot: published, not stored.
    Beside(Box<Rejected>),
    /// The request is the stored one after all: it was accepted before, and its record goes on.
    Known,
}

impl<S: Store, K: Keys, B: BroadcastQueue, O: OutcomeTopic> Signer<S, K, B, O> {
    /// Records and publishes every refusal of the batch.
    pub(super) async fn settle_refusals(&self, batch: &mut Batch<'_>, refusals: Vec<(usize, Refusal)>, now: Millis) {
        let mut out: Vec<(usize, Recorded)> = Vec::new();
        for (at, refusal) in refusals {
            let sender = batch.deliveries.get(at).and_then(|delivery| delivery.sender.clone());
            match self.record_refusal(&refusal, sender, now).await {
                Ok(recorded) => out.push((at, recorded)),
                Err(error) => {
                    tracing::warn!(error = told(&error), request_id = %refusal.id, "rejection not stored; the message stays");
                    batch.retry(&[at]);
                }
            }
        }
        let outcomes: Vec<_> =
            out.iter().filter_map(|(at, recorded)| Some(batch.in_trace(*at, recorded.outcome()?))).collect();
        let mut published = publish_each(&self.topic, &outcomes).await.into_iter();
        for (at, recorded) in out {
            let done = match recorded {
                Recorded::Known => true,
                Recorded::Beside(_) => published.next().unwrap_or(false),
                Recorded::Stored(rejected) => {
                    published.next().unwrap_or(false) && self.mark_rejection_published(*rejected, now).await
                }
            };
            if done { batch.done(&[at]) } else { batch.retry(&[at]) }
        }
    }

    async fn record_refusal(
        &self,
        refusal: &Refusal,
        sender: Option<String>,
        now: Millis,
    ) -> Result<Recorded, PortError> {
        metrics::counter!(meters::REJECTED, "code" => refusal.refused.code.as_str()).increment(1);
        tracing::info!(request_id = %refusal.id, code = %refusal.refused.code, "rejected");
        let rejected = rejection(refusal, sender, now);
        let mut stored = self.store.load(std::slice::from_ref(&refusal.id), now).await?;
        match stored.first() {
            // The message came again. What is stored stays as it is: writing it anew would undo the
            // mark that it was published, and a crash then would leave an item that says it was not.
            Some(Stored::Rejected(earlier)) if says_the_same(earlier, &rejected) => {
                return Ok(Recorded::Stored(Box::new(earlier.clone())));
            }
            Some(Stored::Rejected(_)) | None => {
                if self.store.reject(&rejected).await? == RejectVerdict::Stored {
                    return Ok(Recorded::Stored(Box::new(rejected)));
                }
                stored = self.store.load(std::slice::from_ref(&refusal.id), now).await?;
            }
            Some(Stored::Record(_)) => {}
        }
        // The id has a slot. A repeat of that very request is answered by its record, whatever
        // policy says today; anything else is refused beside it.
        let known = stored.into_iter().find_map(|stored| match stored {
            Stored::Record(record) => Some(record.digest),
            Stored::Rejected(_) => None,
        });
        Ok(match (known, refusal.digest) {
            (Some(known), Some(digest)) if known == digest => Recorded::Known,
            (Some(_), Some(_)) => Recorded::Beside(Box::new(Rejected { reason: reused(&refusal.id), ..rejected })),
            // Whatever is wrong with this message, the outcome must not be taken for the first request's (I7).
            (Some(_), None) => {
                let reason = beside(&refusal.id, &refusal.refused.message);
                Recorded::Beside(Box::new(Rejected { reason, ..rejected }))
            }
            (None, _) => Recorded::Beside(Box::new(rejected)),
        })
    }

    async fn mark_rejection_published(&self, rejected: Rejected, now: Millis) -> bool {
        if rejected.published_at.is_some() {
            return true;
        }
        let id = rejected.request_id.clone();
        let published =
            Rejected { published_at: Some(now), expires_at: Some(now.plus(self.config.retention_ms)), ..rejected };
        match self.store.reject(&published).await {
            Ok(RejectVerdict::Stored | RejectVerdict::Occupied) => true,
            Err(error) => {
                tracing::warn!(error = told(&error), request_id = %id, "rejection published but not marked; it will be again");
                false
            }
        }
    }

    /// Publishes that an id is taken by another request. Nothing is stored: the first request stays
    /// untouched.
    pub(super) async fn publish_conflicts(&self, batch: &mut Batch<'_>, conflicts: Vec<(usize, Refusal)>, now: Millis) {
        let outcomes: Vec<_> = conflicts
            .iter()
            .map(|(at, refusal)| {
                let sender = batch.deliveries.get(*at).and_then(|delivery| delivery.sender.clone());
                batch.in_trace(*at, OutcomeMessage::of_rejected(&rejection(refusal, sender, now)))
            })
            .collect();
        let published = publish_each(&self.topic, &outcomes).await;
        for ((at, refusal), published) in conflicts.iter().zip(published) {
            metrics::counter!(meters::REJECTED, "code" => refusal.refused.code.as_str()).increment(1);
            tracing::info!(request_id = %refusal.id, "rejected: the id was used with other contents");
            if published { batch.done(&[*at]) } else { batch.retry(&[*at]) }
        }
    }
}

impl Recorded {
    fn outcome(&self) -> Option<OutcomeMessage> {
        match self {
            Self::Stored(rejected) | Self::Beside(rejected) => Some(OutcomeMessage::of_rejected(rejected)),
            Self::Known => None,
        }
    }
}

/// Their outcomes are equal, so they are copies of one.
fn says_the_same(one: &Rejected, other: &Rejected) -> bool {
    OutcomeMessage::of_rejected(one) == OutcomeMessage::of_rejected(other)
}

/// The refusal of a request whose id is taken.
pub(super) fn conflict(
    id: RequestId,
    account: crate::units::AccountKey,
    digest: Digest,
    metadata: Option<serde_json::Value>,
) -> Refusal {
    let reason = reused(&id);
    let refused = Refused {
        metadata: metadata.map(Box::new),
        ..Refused::field(Code::RequestIdReused, "requestId", reason.message)
    };
    Refusal { id, account: Some(account), digest: Some(digest), refused }
}

fn reused(id: &RequestId) -> Reason {
    Reason {
        code: Code::RequestIdReused.as_str().to_owned(),
        message: format!("`requestId` {id} was used before with other contents; the first request is untouched"),
        revert: None,
        request_id: None,
    }
}

/// The reason of a bad message under an id that another request has.
fn beside(id: &RequestId, problem: &str) -> Reason {
    Reason {
        code: Code::RequestIdReused.as_str().to_owned(),
        message: format!(
            "`requestId` {id} belongs to a request sent before, which is untouched; this message is refused: {problem}"
        ),
        revert: None,
        request_id: None,
    }
}

fn rejection(refusal: &Refusal, sender: Option<String>, now: Millis) -> Rejected {
    Rejected {
        request_id: refusal.id.clone(),
        digest: refusal.digest,
        account: refusal.account,
        reason: Reason {
            code: refusal.refused.code.as_str().to_owned(),
            message: refusal.refused.message.clone(),
            revert: None,
            request_id: None,
        },
        metadata: metadata_of(&refusal.refused),
        sender,
        message_id: None,
        said_as: None,
        created_at: now,
        published_at: None,
        expires_at: None,
    }
}
