//! Moves a lane's low mark past closed slots, gaps, and slots that cannot be closed.
//!
//! ## Guarantees
//! * A slot is set aside or left behind only if its nonce is used in a final block.
//! * A slot or record counts as lost only after it was missing in [`LOST_LOADS`] consecutive loads.

use crate::account::{AsideCause, Head, Marks, SetAside};
use crate::meters;
use crate::ports::{Chain, OutcomeTopic, PortError, ResignQueue, Store};
use crate::record::{Phase, Record, Subject};
use crate::units::{Millis, Nonce};

use super::{Broadcaster, Lane};
use crate::meters::gauge;

/// A slot whose nonce is used by an unknown transaction is set aside after this time, in milliseconds. Nodes keep the
/// state of about a minute; meanwhile the blocks of the hours before are searched.
const UNPROVEN_AFTER_MS: u64 = 10 * 60 * 1_000;
/// A settled slot whose outcome the topic refuses is set aside after this time, in milliseconds, if outcomes above it
/// were published.
const UNPUBLISHED_AFTER_MS: u64 = 10 * 60 * 1_000;
/// The most closed slots that one open slot may hold back. Every new pass reads them again.
const HELD_BACK_MAX: usize = 200;
/// Consecutive loads in which a slot or record must be missing before it counts as lost. With fewer, one incomplete
/// read could cost a request its outcome.
const LOST_LOADS: u32 = 3;

impl<S: Store, C: Chain, R: ResignQueue, O: OutcomeTopic> Broadcaster<S, C, R, O> {
    /// Leaves behind the slots at the lane's low end that are done: at most one write per round.
    pub(super) async fn leave(&self, lane: &mut Lane, head: &mut Head, now: Millis) -> Result<(), PortError> {
        let (before, after) = (head.marks(), marks_after(lane, head, now));
        warn_of_obstacle(lane, head, &after, now);
        let set_aside = u64::try_from(after.set_aside.len()).unwrap_or(u64::MAX);
        metrics::gauge!(meters::LANE_SET_ASIDE, "account" => head.account.to_string()).set(gauge(set_aside));
        if after == before {
            return Ok(());
        }
        let expires_at = now.plus(self.config.retention_ms);
        let (from, to) = (before.lowest_open_nonce, after.lowest_open_nonce);
        let moved = if (&after.set_aside, &after.gaps) == (&before.set_aside, &before.gaps) {
            self.store.leave_slots(&lane.account, from, to, expires_at).await?
        } else {
            after.assert_follows(&before);
            self.store.move_marks(&lane.account, &before, &after, expires_at).await?
        };
        if moved {
            alarm(lane, &before, &after);
            lane.leave(to);
            head.set_marks(after);
        }
        // Pokes for slots reserved since the head was read may have been dropped: see `poke`.
        if head.open_slots() == 0
            && let Some(fresh) = self.store.head(&lane.account).await?
        {
            *head = fresh;
        }
        Ok(())
    }
}

/// The marks that the head may have now.
fn marks_after(lane: &Lane, head: &Head, now: Millis) -> Marks {
    let mut marks = head.marks();
    for slot in &head.set_aside {
        if is_lost(lane, slot.nonce) {
            marks.add_gap(slot.nonce, now);
        }
    }
    marks.set_aside.retain(|slot| !lane.closed.contains(&slot.nonce) && !is_lost(lane, slot.nonce));
    let mut next = marks.lowest_open_nonce;
    while next < head.next_nonce && next < lane.read_to {
        if let Some(record) = lane.records.get(&next) {
            let Some(cause) = stuck(lane, record, now) else { break };
            if marks.set_aside.len() >= SetAside::MAX {
                break;
            }
            marks.set_aside.push(SetAside { nonce: next, cause, since: now });
        } else if !lane.closed.contains(&next) {
            if !is_lost(lane, next) || !is_used(lane, next) {
                break;
            }
            marks.add_gap(next, now);
        }
        next = next.plus(1);
    }
    marks.lowest_open_nonce = next;
    marks
}

/// Why a slot should no longer hold back those above it; `None` if it still may.
fn stuck(lane: &Lane, record: &Record, now: Millis) -> Option<AsideCause> {
    let settlement = record.phase.settlement();
    if settlement.is_none() && !is_used(lane, record.nonce) {
        return None;
    }
    let held_back = || lane.closed.range(record.nonce..).count();
    if let Some(settlement) = settlement {
        let is_old = now.since(settlement.settled_at) >= UNPUBLISHED_AFTER_MS;
        if is_old && lane.refused_at.contains_key(&record.nonce) && held_back() > 0 {
            return Some(AsideCause::Unpublished);
        }
    } else if record.unanswered_ms(Subject::Use, now) >= UNPROVEN_AFTER_MS {
        return Some(AsideCause::Unproven);
    }
    (held_back() >= HELD_BACK_MAX).then(|| match (&record.phase, record.inquiry_about(Subject::Use)) {
        (Phase::Settled(_), _) if lane.refused_at.contains_key(&record.nonce) => AsideCause::Unpublished,
        (Phase::Reserved | Phase::Signed | Phase::Sent | Phase::Mined(_), Some(_)) => AsideCause::Unproven,
        (Phase::Reserved | Phase::Signed | Phase::Sent | Phase::Mined(_) | Phase::Settled(_), _) => AsideCause::Late,
    })
}

/// Whether the nonce is used in a final block.
fn is_used(lane: &Lane, nonce: Nonce) -> bool {
    lane.high.is_some_and(|high| nonce < high.finalized_nonce)
}

fn is_lost(lane: &Lane, nonce: Nonce) -> bool {
    lane.lost.get(&nonce).is_some_and(|loads| *loads >= LOST_LOADS)
}

/// Logs, once a minute, what holds back the low mark if this pass cannot move it.
fn warn_of_obstacle(lane: &mut Lane, head: &Head, after: &Marks, now: Millis) {
    let nonce = after.lowest_open_nonce;
    let is_full = after.set_aside.len() >= SetAside::MAX;
    let is_stuck = lane.records.get(&nonce).is_some_and(|record| stuck(lane, record, now).is_some());
    let unused = nonce < head.next_nonce && is_lost(lane, nonce) && lane.high.is_some() && !is_used(lane, nonce);
    if (is_full && is_stuck || unused) && lane.may_alarm(now) {
        if unused {
            tracing::error!(account = %head.account, %nonce,
                "no request is stored for an unused nonce; nothing above it can be mined");
        } else {
            tracing::error!(account = %head.account, %nonce, set_aside = after.set_aside.len(),
                "too many slots are set aside; the lane stops when its window is full");
        }
    }
}

/// Reports to operators which slots were set aside and which were lost.
fn alarm(lane: &Lane, before: &Marks, after: &Marks) {
    for slot in after.set_aside.iter().filter(|slot| !before.is_set_aside(slot.nonce)) {
        metrics::counter!(meters::SET_ASIDE, "cause" => slot.cause.name()).increment(1);
        let request_id = lane.records.get(&slot.nonce).map(|record| record.request_id.to_string());
        tracing::error!(account = %lane.account, nonce = %slot.nonce, cause = slot.cause.name(), request_id,
            "a slot cannot be closed and is set aside: {}", slot.cause.meaning());
    }
    for gap in after.gaps.iter().filter(|gap| !before.gaps.contains(gap)) {
        metrics::counter!(meters::SET_ASIDE, "cause" => "lost").increment(1);
        tracing::error!(account = %lane.account, from = %gap.from, to = %gap.to,
            "no request is stored for nonces that are used on chain; the lane continues after them");
    }
}
