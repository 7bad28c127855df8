//! What may be spent in a window: I9.

use signpost_txmgr::record::Record;
use signpost_txmgr::units::{Millis, U256};

use super::Auditor;
use crate::deployment::{Deployment, REQUEST_LIMIT, SENDERS, SPEND_LIMIT_WEI};

/// The newest spend window of one lane, computed from its slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spending {
    since: Millis,
    wei: U256,
}

/// The newest request window of the only sender, computed from the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counting {
    since: Millis,
    requests: u64,
}

impl Auditor {
    /// Every slot counts once for its sender.
    pub(super) fn count_request(&mut self, record: &Record) {
        let Some(window_s) = self.request_window_s else { return };
        let Some(lane) = self.lanes.get_mut(&record.account) else { return };
        let window = match lane.counting {
            Some(window) if record.created_at.since(window.since) < window_s * 1_000 => {
                Counting { requests: window.requests + 1, ..window }
            }
            Some(_) | None => Counting { since: record.created_at, requests: 1 },
        };
        lane.counting = Some(window);
        let id = &record.request_id;
        self.check(window.requests <= REQUEST_LIMIT, "I9", || {
            format!("{id} is number {} in one window of {window_s} s, {REQUEST_LIMIT} is the limit", window.requests)
        });
    }
    /// Every slot counts once, in the order in which slots were written, whichever signer wrote them.
    pub(super) fn count_spending(&mut self, record: &Record) {
        let Some(window_s) = self.spend_window_s else { return };
        let Some(lane) = self.lanes.get_mut(&record.account) else { return };
        let cost = record.intent.value.0 + record.fee_cap.0 * U256::from(record.intent.gas.0);
        let window = match lane.spending {
            Some(window) if record.created_at.since(window.since) < window_s * 1_000 => {
                Spending { wei: window.wei + cost, ..window }
            }
            Some(_) | None => Spending { since: record.created_at, wei: cost },
        };
        lane.spending = Some(window);
        let id = &record.request_id;
        self.check(window.wei <= U256::from(SPEND_LIMIT_WEI), "I9", || {
            format!("{id} makes {} wei in one window of {window_s} s, {SPEND_LIMIT_WEI} is the limit", window.wei)
        });
    }

    /// The heads hold the totals that the slots give.
    pub(super) fn judge_spending(&mut self, deployment: &Deployment) {
        for head in deployment.heads() {
            let reported = head.spend.map(|spend| Spending { since: spend.window_start, wei: spend.spent.0 });
            let counted = self.lanes.get(&head.account).and_then(|lane| lane.spending);
            self.check(reported == counted, "I9", || {
                format!("{}: the head says {reported:?} is spent, the slots say {counted:?}", head.account)
            });
            let counts = head.sender_counts.as_ref();
            let reported =
                counts.map(|window| (window.window_start, window.counts.clone().into_iter().collect::<Vec<_>>()));
            let lane = self.lanes.get(&head.account).and_then(|lane| lane.counting);
            let counted = lane.map(|window| (window.since, vec![(SENDERS[0].to_owned(), window.requests)]));
            self.check(reported == counted, "I9", || {
                format!("{}: the head says {reported:?} had slots, the slots say {counted:?}", head.account)
            });
        }
    }
}
