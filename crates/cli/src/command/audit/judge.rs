//! Checks the invariants between the items of one account. Pure: everything was read before.

use std::collections::BTreeMap;

use signpost_aws::store::operator::SlotFound;
use signpost_txmgr::account::Head;
use signpost_txmgr::fees;
use signpost_txmgr::record::{Attempt, AttemptKind, Record, Rejected, Verdict};
use signpost_txmgr::signature::recover;
use signpost_txmgr::tx::UnsignedTx;
use signpost_txmgr::units::{Millis, Nonce, RequestId, Wei};

/// Everything that is stored for an account, in the order of reading.
pub(super) struct Seen {
    /// The head, read before the slots.
    pub(super) before: Head,
    /// The head, read after them and before the records.
    pub(super) after: Head,
    /// Every slot.
    pub(super) slots: Vec<SlotFound>,
    /// The records that the index and the slots name.
    pub(super) records: BTreeMap<RequestId, Record>,
    pub(super) rejected: Vec<Rejected>,
    /// Unreadable items: key and reason.
    pub(super) unreadable: Vec<(String, String)>,
    /// The time of reading.
    pub(super) now: Millis,
}

/// A violation with its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The invariant, `I1` to `I11`.
    pub(super) invariant: &'static str,
    /// The subject: a request or a nonce.
    pub(super) about: String,
    /// What was found.
    pub(super) evidence: String,
}

pub(super) fn problem(invariant: &'static str, about: impl std::fmt::Display, evidence: impl Into<String>) -> Problem {
    Problem { invariant, about: about.to_string(), evidence: evidence.into() }
}

/// All violations within the tables.
pub(super) fn judge(seen: &Seen) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (id, error) in &seen.unreadable {
        problems.push(problem("I7", id, format!("the item contradicts itself or cannot be read: {error}")));
    }
    judge_slots(seen, &mut problems);
    judge_records(seen, &mut problems);
    for record in seen.records.values() {
        judge_attempts(record, &mut problems);
    }
    problems
}

fn judge_slots(seen: &Seen, problems: &mut Vec<Problem>) {
    let by_nonce: BTreeMap<Nonce, &SlotFound> = seen.slots.iter().map(|slot| (slot.nonce, slot)).collect();
    let unreadable = |id: &RequestId| seen.unreadable.iter().any(|(found, _)| found == id.as_str());
    let mut nonce = seen.after.lowest_open_nonce;
    while nonce < seen.before.next_nonce {
        if !by_nonce.contains_key(&nonce) {
            let (from, to) = (seen.after.lowest_open_nonce, seen.before.next_nonce);
            let text = format!("there is no slot, though the lane is open from {from} and continues at {to}: a gap");
            problems.push(problem("I4", format!("nonce {nonce}"), text));
        }
        nonce = nonce.plus(1);
    }
    for SlotFound { nonce, request_id, expires_at } in &seen.slots {
        let about = format!("nonce {nonce}");
        if *nonce >= seen.after.next_nonce {
            let next = seen.after.next_nonce;
            let text = format!("the slot belongs to {request_id}, and the head still assigns {next}");
            problems.push(problem("I4", &about, text));
        }
        match seen.records.get(request_id) {
            Some(record) if record.nonce != *nonce || record.account != seen.after.account => {
                let text = format!(
                    "the slot belongs to {request_id}, whose record has nonce {} of {}",
                    record.nonce, record.account
                );
                problems.push(problem("I1", &about, text));
            }
            None if unreadable(request_id) => {}
            None if expires_at.is_some_and(|at| at <= seen.now) => {}
            None => {
                problems.push(problem("I1", &about, format!("the slot belongs to {request_id}, which has no record")));
            }
            Some(_) => {}
        }
    }
}

fn judge_records(seen: &Seen, problems: &mut Vec<Problem>) {
    let mut owners: BTreeMap<Nonce, &RequestId> = BTreeMap::new();
    let mut decided = BTreeMap::new();
    for record in seen.records.values().filter(|record| record.account == seen.after.account) {
        let (id, nonce) = (&record.request_id, record.nonce);
        if let Some(other) = owners.insert(nonce, id) {
            problems.push(problem("I1", format!("nonce {nonce}"), format!("two records have it: {other} and {id}")));
        }
        let settlement = record.phase.settlement();
        let over = settlement.and_then(|settled| settled.expires_at).is_some_and(|at| at <= seen.now);
        let slot = seen.slots.iter().find(|slot| slot.nonce == nonce);
        if slot.is_none() && !over {
            let text = format!("its record has nonce {nonce}, and there is no slot {nonce}");
            problems.push(problem("I1", id, text));
        }
        if nonce >= seen.after.next_nonce {
            let text =
                format!("it has nonce {nonce}, which the head has not assigned (next is {})", seen.after.next_nonce);
            problems.push(problem("I4", id, text));
        }
        let is_left = nonce < seen.after.lowest_open_nonce && !seen.after.marks().is_set_aside(nonce);
        if is_left && !record.is_closed() {
            let text = format!(
                "the lane has moved past nonce {nonce} (open from {}), and its record is {} and not published",
                seen.after.lowest_open_nonce,
                record.phase.name()
            );
            problems.push(problem("I11", id, text));
        }
        let Some(verdict) = settlement.map(|settlement| &settlement.verdict) else { continue };
        if let Some(other) = decided.insert(verdict.tx_hash(), id) {
            let text = format!("{other} was decided by the same transaction {}", verdict.tx_hash());
            problems.push(problem("I5", id, text));
        }
        let own = record.attempt_of(verdict.tx_hash());
        judge_verdict(record, verdict, own, problems);
    }
}

/// Checks an outcome against the transaction that decided it.
fn judge_verdict(record: &Record, verdict: &Verdict, own: Option<&Attempt>, problems: &mut Vec<Problem>) {
    let (id, hash) = (&record.request_id, verdict.tx_hash());
    let wanted = match verdict {
        Verdict::Confirmed(_) | Verdict::Reverted(..) => Some(AttemptKind::Execute),
        Verdict::Cancelled(_) => Some(AttemptKind::Cancel),
        Verdict::Displaced(_) => None,
    };
    match (wanted, own) {
        (Some(_), None) => {
            let text = format!("it is {} by {hash}, which is none of its stored attempts", verdict.name());
            problems.push(problem("I3", id, text));
        }
        (Some(kind), Some(attempt)) if attempt.kind != kind => {
            let text = format!("it is {} by {hash}, which is an attempt to {}", verdict.name(), attempt.kind.name());
            problems.push(problem("I6", id, text));
        }
        (None, Some(_)) => {
            problems.push(problem("I6", id, format!("it is displaced by {hash}, which is an attempt of its own")));
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
}

fn judge_attempts(record: &Record, problems: &mut Vec<Problem>) {
    let id = &record.request_id;
    let mut earlier: Option<&Attempt> = None;
    for (number, attempt) in record.attempts.iter().enumerate() {
        let about = format!("{id}, attempt {number}");
        if record.raw(attempt).is_none() {
            let text = format!("the stored fields do not produce the transaction {}", attempt.tx_hash);
            problems.push(problem("I2", &about, text));
            earlier = Some(attempt);
            continue;
        }
        let intent = record.intent_of(attempt.kind, attempt.to_self);
        if attempt.to_self > Wei::from(u64::from(attempt.kind == AttemptKind::Cancel)) {
            let text =
                format!("it moves {} wei to the account itself, and only a cancel may move one wei", attempt.to_self);
            problems.push(problem("I2", &about, text));
        }
        let hash = UnsignedTx { intent: &intent, nonce: record.nonce, fee: attempt.fee }.signing_hash();
        match recover(&hash, &attempt.signature) {
            Some(address) if address == record.account.address => {}
            Some(address) => {
                let text = format!("its signature is from {address}, not from {}", record.account.address);
                problems.push(problem("I10", &about, text));
            }
            None => problems.push(problem("I10", &about, "its signature is invalid, or has a high s")),
        }
        if attempt.kind == AttemptKind::Execute && attempt.fee.price() > record.fee_cap {
            let text = format!("it offers {} wei per gas, and the cap is {}", attempt.fee.price(), record.fee_cap);
            problems.push(problem("I9", &about, text));
        }
        if attempt.kind == AttemptKind::Cancel && record.cancel.is_none() {
            problems.push(problem("I2", &about, "it is a cancel, but no cancel was requested"));
        }
        if let Some(earlier) = earlier {
            if earlier.kind == AttemptKind::Cancel && attempt.kind == AttemptKind::Execute {
                problems.push(problem("I2", &about, "it executes the request after a cancel"));
            }
            if earlier.kind == attempt.kind && !fees::is_legal_bump(earlier.fee, attempt.fee) {
                let (old, new) = (earlier.fee.price(), attempt.fee.price());
                problems.push(problem("I2", &about, format!("{new} wei per gas is not a valid bump over {old}")));
            }
        }
        earlier = Some(attempt);
    }
}
