//! Messages of senders that no policy knows. Anyone with the right to send to the queue can send any number of them, in
//! any number of groups, and each delays another message. So they are refused first, at little cost.
//!
//! Nothing is read for such a message: neither its id, nor an account. Its refusal is one item under
//! `sqs:<message id>`, which says who sent it and which id it named, and nothing else of it; it is published once it is
//! stored, and is not written again to note that: `publishedAt` is when it was stored. If publishing fails, the message
//! is delivered again and answered again. A batch costs one write per message, all at once, and its outcomes.
//!
//! ## Guarantees
//! * One answer for a message, whatever policy says later (G2). Only what SQS hands out for the first time is refused
//!   here: a redelivered message may have been accepted under an earlier policy, and is looked up like any other. Then,
//!   if nothing answers it, it is refused in the same words.
//!
//! ## Does not guarantee
//! * That on a standard queue, where SQS may hand out a message twice for the first time: between the two deliveries a
//!   new policy may forget its sender, and then refuse what the old one took.
//! * That its outcome is out already when the item says `publishedAt`.
//!
//! Read next: [`super::rejection`].

use futures_util::stream::{self, StreamExt as _};

use crate::policy::Policies;
use crate::ports::{OutcomeTopic, Store};
use crate::record::Rejected;
use crate::units::{Millis, RequestId};
use crate::wire::OutcomeMessage;
use crate::{error_chain, meters};

use super::attempt::AttemptError;
use super::batch::{Batch, Inbound};
use super::rejection::{Place, Refusal, Rejections, publish_each};
use crate::inbox::Incoming;

/// Writes of one batch at once; it has ten messages at most on a FIFO queue.
const AT_ONCE: usize = 10;

/// Answers what strangers sent and SQS hands out for the first time.
pub(super) async fn refuse_strangers<S: Store, O: OutcomeTopic>(
    rejections: &Rejections<'_, S, O>,
    policies: &Policies,
    batch: &mut Batch<'_>,
    now: Millis,
) {
    let mut keeping = Vec::new();
    for (at, delivery) in batch.deliveries.iter().enumerate().filter(|(_, delivery)| delivery.receives == 1) {
        let named = || Inbound::read(at, delivery).named().cloned();
        keeping.extend(
            stranger(policies, at, delivery, named).map(|refusal| keep_one(rejections, delivery, refusal, now)),
        );
    }
    if keeping.is_empty() {
        return;
    }
    let kept: Vec<_> = stream::iter(keeping).buffered(AT_ONCE).collect().await;
    let mut answers = Vec::with_capacity(kept.len());
    for (at, kept) in kept {
        match kept {
            Ok(rejected) => {
                metrics::counter!(meters::REJECTED, "code" => rejected.reason.code.clone()).increment(1);
                answers.push((at, batch.in_trace(at, OutcomeMessage::of_rejected(&rejected))));
            }
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "rejection not stored; the message stays");
                batch.retry(at);
            }
        }
    }
    let (places, outcomes): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    for (at, published) in places.into_iter().zip(publish_each(rejections.topic, &outcomes).await) {
        if published { batch.done(at) } else { batch.retry(at) }
    }
}

/// Stores one of them; its place in the batch.
async fn keep_one<S: Store, O: OutcomeTopic>(
    rejections: &Rejections<'_, S, O>,
    delivery: &Incoming,
    refusal: Refusal,
    now: Millis,
) -> (usize, Result<Box<Rejected>, AttemptError>) {
    (refusal.at, rejections.keep_own(delivery, &refusal, now).await)
}

/// The refusal of a message whose sender no policy knows; `None` if one does. Which id it names is looked at only
/// then.
pub(super) fn stranger(
    policies: &Policies,
    at: usize,
    delivery: &Incoming,
    named: impl FnOnce() -> Option<RequestId>,
) -> Option<Refusal> {
    let refused = policies.check_known(delivery.sender.as_deref()).err()?;
    let place = Place::Stranger(named());
    Some(Refusal { at, place, request: None, account: None, digest: None, refused })
}
