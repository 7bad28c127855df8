//! The data of the page, made from what was read. Pure: the time is an argument.

use std::collections::BTreeMap;

use serde::Serialize;
use signpost_txmgr::account::Head;
use signpost_txmgr::units::Nonce;
use signpost_txmgr::wire::{RequestStatus, Status};

use crate::figures::percentile;

/// The head of a lane is usually mined within two seconds and bumped after ten; it counts as stuck after this time.
pub(super) const STUCK_AFTER_MS: u64 = 30_000;
/// The number of outcomes in the list.
const OUTCOMES_SHOWN: usize = 40;
/// The number of columns of a chart.
const COLUMNS: u64 = 60;
/// The time windows of the charts: name, and width of a column in milliseconds.
const WINDOWS: [(&str, u64); 3] = [("5 min", 5_000), ("1 h", 60_000), ("24 h", 1_440_000)];

/// The data of the whole page at one time.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Snapshot {
    /// Unix milliseconds.
    pub at: u64,
    /// The chain.
    pub chain_id: u64,
    /// Those that need attention first, then by name.
    pub accounts: Vec<AccountView>,
    /// The number of accounts that are not shown.
    pub accounts_left_out: usize,
    /// Newest first.
    pub outcomes: Vec<RequestView>,
    /// One for each time window.
    pub series: Vec<Series>,
    /// What could not be read.
    pub problems: Vec<String>,
}

/// An account and its lane.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AccountView {
    name: String,
    account: String,
    address: String,
    paused: bool,
    /// Why its key cannot be used, as the signer found.
    unusable: Option<&'static str>,
    /// Decimal wei; `None` if no node answered.
    balance: Option<String>,
    next_nonce: u64,
    open: u64,
    slots: Vec<SlotView>,
    head_age_ms: Option<u64>,
    stuck: bool,
}

/// An open slot.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SlotView {
    nonce: u64,
    request_id: String,
    status: &'static str,
    age_ms: u64,
    attempts: usize,
    stuck: bool,
    /// What it waits for, in words, if it has made no progress for a while.
    waits_for: Option<String>,
}

/// A request as one row.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RequestView {
    request_id: String,
    account: String,
    status: &'static str,
    at: u64,
    took_ms: Option<u64>,
    tx_hash: Option<String>,
    reason: Option<String>,
}

/// Requests over time.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Series {
    name: &'static str,
    column_ms: u64,
    /// Oldest first.
    points: Vec<Point>,
}

/// A column of the charts.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Point {
    at: u64,
    accepted: u64,
    confirmed: u64,
    otherwise: u64,
    /// Median and 95th percentile of the time from accepted to final, of requests that settled in this column.
    p50_ms: Option<u64>,
    p95_ms: Option<u64>,
}

/// The data that was read for one account.
#[derive(Debug)]
pub(super) struct AccountData<'a> {
    /// The head of its lane.
    pub head: &'a Head,
    /// Decimal wei.
    pub balance: Option<String>,
    /// The open slots to show, in order, with their requests if they could be read.
    pub slots: Vec<(Nonce, String, Option<&'a RequestStatus>)>,
}

impl AccountView {
    /// An account as the page shows it.
    pub(super) fn new(data: &AccountData<'_>, now: u64) -> Self {
        let head = data.head;
        let mut slots: Vec<SlotView> =
            data.slots.iter().map(|(nonce, id, status)| slot(*nonce, id, *status, now)).collect();
        // Later slots wait for the head, so only the first slot that is not settled can be stuck.
        if let Some(first) = slots.iter_mut().find(|slot| ["reserved", "signed", "sent"].contains(&slot.status)) {
            first.stuck = first.age_ms > STUCK_AFTER_MS;
        }
        Self {
            name: head.name.to_string(),
            account: head.account.to_string(),
            address: head.account.address.to_string(),
            paused: head.paused,
            unusable: head.unusable.map(|mark| mark.fault.meaning()),
            balance: data.balance.clone(),
            next_nonce: head.next_nonce.0,
            open: head.open_slots(),
            head_age_ms: slots.first().map(|slot| slot.age_ms),
            stuck: slots.iter().any(|slot| slot.stuck),
            slots,
        }
    }
}

impl AccountView {
    /// The sort key: accounts that need attention first, then by name.
    pub(super) fn order(&self) -> (bool, String) {
        (!self.stuck && self.unusable.is_none(), self.name.clone())
    }
}

fn slot(nonce: Nonce, id: &str, status: Option<&RequestStatus>, now: u64) -> SlotView {
    SlotView {
        nonce: nonce.0,
        request_id: id.to_owned(),
        status: status.map_or("unknown", |status| status.status.as_str()),
        age_ms: status.map_or(0, |status| now.saturating_sub(status.created_at)),
        attempts: status.map_or(0, |status| status.attempts.len()),
        stuck: false,
        waits_for: status
            .and_then(|status| status.waiting_for.as_ref())
            .map(|waiting| format!("{}: {}", waiting.code, waiting.message)),
    }
}

/// The newest outcomes, newest first.
pub(super) fn outcomes<'a>(
    requests: impl Iterator<Item = &'a RequestStatus>,
    names: &BTreeMap<String, String>,
) -> Vec<RequestView> {
    let mut settled: Vec<(u64, &RequestStatus)> =
        requests.filter_map(|request| Some((request.settled_at?, request))).collect();
    settled.sort_by(|left, right| right.0.cmp(&left.0).then_with(|| left.1.request_id.cmp(&right.1.request_id)));
    settled.truncate(OUTCOMES_SHOWN);
    let row = |(at, request): (u64, &RequestStatus)| {
        let account = request.account.clone().unwrap_or_default();
        RequestView {
            request_id: request.request_id.clone(),
            account: names.get(&account).cloned().unwrap_or(account),
            status: request.status.as_str(),
            at,
            took_ms: (request.status != Status::Rejected).then(|| at.saturating_sub(request.created_at)),
            tx_hash: request.tx_hash.clone(),
            reason: request.reason.as_ref().map(|reason| format!("{}: {}", reason.code, reason.message)),
        }
    };
    settled.into_iter().map(row).collect()
}

/// Requests over time up to now, one series for each time window.
pub(super) fn series<'a>(requests: &(impl Iterator<Item = &'a RequestStatus> + Clone), now: u64) -> Vec<Series> {
    WINDOWS.iter().map(|(name, column_ms)| one_series(name, *column_ms, requests.clone(), now)).collect()
}

fn one_series<'a>(
    name: &'static str,
    column_ms: u64,
    requests: impl Iterator<Item = &'a RequestStatus>,
    now: u64,
) -> Series {
    let number = |at: u64| at.checked_div(column_ms).unwrap_or(0);
    let first = number(now).saturating_sub(COLUMNS.saturating_sub(1));
    let mut columns: BTreeMap<u64, (Point, Vec<u64>)> = (first..=number(now))
        .map(|column| (column, (Point { at: column.saturating_mul(column_ms), ..Point::default() }, Vec::new())))
        .collect();
    for request in requests {
        if let Some((point, _)) = columns.get_mut(&number(request.created_at)) {
            point.accepted = point.accepted.saturating_add(1);
        }
        let Some(settled_at) = request.settled_at else { continue };
        let Some((point, took)) = columns.get_mut(&number(settled_at)) else { continue };
        if request.status == Status::Confirmed {
            point.confirmed = point.confirmed.saturating_add(1);
        } else {
            point.otherwise = point.otherwise.saturating_add(1);
        }
        if request.status != Status::Rejected {
            took.push(settled_at.saturating_sub(request.created_at));
        }
    }
    let points = columns.into_values().map(|(point, mut took)| {
        took.sort_unstable();
        Point { p50_ms: percentile(&took, 50), p95_ms: percentile(&took, 95), ..point }
    });
    Series { name, column_ms, points: points.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: &str, status: &str, created_at: u64, settled_at: Option<u64>) -> RequestStatus {
        let json = serde_json::json!({
            "requestId": id, "status": status, "version": 1, "account": "97:0x1", "attempts": [],
            "createdAt": created_at, "updatedAt": created_at, "settledAt": settled_at,
        });
        serde_json::from_value(json).unwrap()
    }

    fn head(lowest: u64, next: u64) -> Head {
        Head {
            lowest_open_nonce: Nonce(lowest),
            ..Head::new(
                format!("97:0x{:040}", 1).parse().unwrap(),
                "hot".parse().unwrap(),
                "key".parse().unwrap(),
                Nonce(next),
                signpost_txmgr::units::Millis(0),
            )
        }
    }

    #[test]
    fn only_the_head_of_a_lane_is_stuck() {
        let now = 100_000;
        let (settled, old, new) = (
            request("a", "confirmed", 0, Some(9)),
            request("b", "sent", 60_000, None),
            request("c", "sent", 60_000, None),
        );
        let slots = vec![
            (Nonce(1), "a".to_owned(), Some(&settled)),
            (Nonce(2), "b".to_owned(), Some(&old)),
            (Nonce(3), "c".to_owned(), Some(&new)),
        ];
        let head = head(1, 4);
        let view = AccountView::new(&AccountData { head: &head, balance: None, slots }, now);
        assert_eq!(view.slots.iter().map(|slot| slot.stuck).collect::<Vec<_>>(), [false, true, false]);
        assert!(view.stuck && view.head_age_ms == Some(100_000));
    }

    #[test]
    fn waiting_slot_says_what_it_waits_for() {
        let mut waiting = request("a", "sent", 0, None);
        let (code, message) = ("funds".to_owned(), "send it BNB".to_owned());
        waiting.waiting_for = Some(signpost_txmgr::wire::WireWaiting { code, message, since: 1 });
        assert_eq!(slot(Nonce(1), "a", Some(&waiting), 2).waits_for.as_deref(), Some("funds: send it BNB"));
        assert_eq!(slot(Nonce(1), "a", Some(&request("a", "sent", 0, None)), 2).waits_for, None);
    }

    #[test]
    fn account_with_unusable_key_says_why_and_is_listed_first() {
        use signpost_txmgr::unusable::{KeyCall, KeyFault, Unusable};
        let since = signpost_txmgr::units::Millis(0);
        let mark = Unusable { since, fault: KeyFault::Disabled, call: KeyCall::Read };
        let (healthy, faulty) = (head(1, 1), Head { unusable: Some(mark), ..head(1, 1) });
        let view = |head| AccountView::new(&AccountData { head, balance: None, slots: Vec::new() }, 0);
        assert_eq!(view(&faulty).unusable, Some("its KMS key is disabled"));
        assert!(view(&faulty).order() < view(&healthy).order());
    }

    #[test]
    fn lane_that_makes_progress_is_not_stuck() {
        let mined = request("a", "mined", 0, None);
        let head = head(1, 2);
        let slots = vec![(Nonce(1), "a".to_owned(), Some(&mined))];
        assert!(!AccountView::new(&AccountData { head: &head, balance: None, slots }, 100_000).stuck);
    }

    #[test]
    fn charts_count_requests_when_accepted_and_when_settled() {
        let now = 10_000_000;
        let all = [
            request("a", "confirmed", now - 20_000, Some(now - 18_000)),
            request("b", "reverted", now - 20_000, Some(now - 10_000)),
            request("c", "sent", now, None),
            request("old", "confirmed", 0, Some(1)),
        ];
        let series = series(&all.iter(), now);
        let five = &series[0];
        assert_eq!(five.points.len(), 60);
        let sum = |of: fn(&Point) -> u64| five.points.iter().map(of).sum::<u64>();
        assert_eq!(
            (sum(|point| point.accepted), sum(|point| point.confirmed), sum(|point| point.otherwise)),
            (3, 1, 1)
        );
        assert_eq!(five.points.iter().filter_map(|point| point.p50_ms).collect::<Vec<_>>(), [2_000, 10_000]);
        assert_eq!(five.points.last().unwrap().at, now);
    }

    #[test]
    fn rejection_has_no_duration() {
        let rejected = request("r", "rejected", 5, Some(5));
        let rows = outcomes([&rejected].into_iter(), &BTreeMap::from([("97:0x1".to_owned(), "hot".to_owned())]));
        assert_eq!((rows[0].took_ms, rows[0].account.as_str()), (None, "hot"));
    }

    #[test]
    fn chart_percentiles_are_measured_values() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[7], 95), Some(7));
        let many: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&many, 50), percentile(&many, 95)), (Some(50), Some(95)));
    }
}
