//! Messages from senders that no policy lists (strangers). Anyone who may send to the queue can send any number of them
//! in any number of groups, and each delays another message. So they are refused first, at low cost.
//!
//! Nothing is read for such a message: not its id, and no account. Its rejection is one item under `sqs:<message id>`,
//! which contains only the sender and the id that it named. It is published after it is stored, and not written again:
//! `publishedAt` is the time when it was stored. If publishing fails, the message is redelivered and answered again. A
//! batch costs one write per message, all concurrently, and one outcome per message.
//!
//! ## Guarantees
//! * One answer for a message, even if policy changes later (G2). Only the first delivery of a message is refused here.
//!   A redelivered message may have been accepted under an earlier policy, so its answer is looked up first. Without
//!   an answer, it is refused with the same text.
//!
//! ## Does not guarantee
//! * One answer on a standard queue, where SQS may deliver a message twice with a receive count of 1: if a new policy
//!   drops the sender between the two deliveries, it refuses what the old policy accepted.
//! * That the outcome was published when the item has `publishedAt`.
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

/// The maximum number of concurrent writes of one batch. A batch from a FIFO queue has at most ten messages.
const AT_ONCE: usize = 10;

/// Answers messages from strangers that SQS delivers for the first time.
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
                tracing::warn!(error = error_chain(&error), "rejection not stored; the message stays on the queue");
                batch.retry(at);
            }
        }
    }
    let (places, outcomes): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    for (at, published) in places.into_iter().zip(publish_each(rejections.topic, &outcomes).await) {
        if published { batch.done(at) } else { batch.retry(at) }
    }
}

/// Stores one rejection. Returns it with the index of the message in the batch.
async fn keep_one<S: Store, O: OutcomeTopic>(
    rejections: &Rejections<'_, S, O>,
    delivery: &Incoming,
    refusal: Refusal,
    now: Millis,
) -> (usize, Result<Box<Rejected>, AttemptError>) {
    (refusal.at, rejections.keep_own(delivery, &refusal, now).await)
}

/// The refusal of a message whose sender no policy lists; `None` if a policy lists it. `named` is called only for a
/// refusal.
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
