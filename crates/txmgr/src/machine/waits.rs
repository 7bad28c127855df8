//! Derives what a record waits for: its [`WaitCause`].

use super::next::{ChainSlot, Corroboration, SlotView, is_receiptless};
use crate::fees;
use crate::record::{Attempt, AttemptKind, Phase, Record, SendClass, WaitCause};
use crate::units::Millis;

/// What a record waits for; `None` if it is settled.
#[must_use]
pub fn waits_for(record: &Record, view: &SlotView, now: Millis) -> Option<WaitCause> {
    let unconfirmed = view.chain.as_ref().and_then(|chain| match chain.settles {
        Some((_, Corroboration::Contradicts)) => Some(WaitCause::Contradiction),
        Some((_, Corroboration::Silent | Corroboration::NotYet)) => Some(WaitCause::SecondNode),
        Some((_, Corroboration::Agrees | Corroboration::Alone)) | None => None,
    });
    let is_used = |chain: &ChainSlot| record.nonce < chain.latest_nonce || record.nonce < chain.finalized_nonce;
    match &record.phase {
        Phase::Settled(_) => None,
        Phase::Reserved | Phase::Signed | Phase::Sent | Phase::Mined(_) if unconfirmed.is_some() => unconfirmed,
        Phase::Mined(_) if view.chain.is_some() && is_receiptless(record, view, now) => Some(WaitCause::Receipt),
        Phase::Mined(_) => Some(if view.chain.is_some() { WaitCause::Finality } else { WaitCause::Node }),
        Phase::Reserved | Phase::Signed | Phase::Sent if view.chain.as_ref().is_some_and(is_used) => {
            Some(WaitCause::Receipt)
        }
        // Only the signer checks seals; its note stands until the record changes.
        Phase::Reserved | Phase::Signed | Phase::Sent if is_unsealed(record) => Some(WaitCause::Seal),
        Phase::Reserved => Some(WaitCause::Signature),
        Phase::Signed | Phase::Sent => record.attempts.last().map(|newest| waits_when_signed(record, newest, view)),
    }
}

fn is_unsealed(record: &Record) -> bool {
    record.waiting.is_some_and(|waiting| waiting.cause == WaitCause::Seal)
}

fn waits_when_signed(record: &Record, newest: &Attempt, view: &SlotView) -> WaitCause {
    if record.cancel.is_some() && newest.kind == AttemptKind::Execute {
        return WaitCause::Signature;
    }
    let class = newest.sent.as_ref().map(|sent| sent.answer.class);
    match class {
        None if !view.predecessors_sent => WaitCause::Predecessor,
        Some(SendClass::Funds) => WaitCause::Funds,
        None | Some(SendClass::Retry | SendClass::Unknown | SendClass::Refused | SendClass::Misconfigured) => {
            WaitCause::Node
        }
        Some(SendClass::Accepted | SendClass::AlreadyKnown | SendClass::NonceTooLow | SendClass::Underpriced(_)) => {
            let is_capped =
                || record.next_kind() == AttemptKind::Execute && fees::bump(newest.fee, None, record.fee_cap).is_none();
            match view.chain {
                None => WaitCause::Node,
                Some(_) if !view.is_lane_head => WaitCause::Predecessor,
                Some(_) if is_capped() => WaitCause::PriceCap,
                Some(_) => WaitCause::Block,
            }
        }
    }
}
