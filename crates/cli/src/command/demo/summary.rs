//! The summary of the demonstration: counted from the chain, the table and the emulator's KMS, never from what was
//! sent, and compared with what was expected.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use signpost_txmgr::wire::{OutcomeMessage, RequestStatus, Status};

use super::blocks::OnChain;
use super::plan::{Asked, transfer_id};
use crate::command::blocks::Seen;
use crate::command::status::colour;
use crate::figures::percentile;
use crate::terminal::{Colour, paint};

/// Everything that is counted.
#[derive(Debug)]
pub(super) struct Facts {
    /// The table's items, by id.
    pub(super) table: BTreeMap<String, RequestStatus>,
    /// The account's transactions in finalized blocks, by hash.
    pub(super) chain: BTreeMap<String, OnChain>,
    /// When each block was seen.
    pub(super) seen: Seen,
    /// When each request was first sent, in Unix milliseconds.
    pub(super) sent_at: BTreeMap<String, u64>,
    /// The account's first nonce.
    pub(super) first_nonce: u64,
    /// The nonce the account's next reservation gets.
    pub(super) next_nonce: u64,
    /// The published outcomes, each event once.
    pub(super) outcomes: Vec<OutcomeMessage>,
    /// Signatures the emulator's KMS made.
    pub(super) kms_signs: u64,
}

/// The totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) submitted: usize,
    pub(super) confirmed: usize,
    pub(super) reverted: usize,
    pub(super) rejected: usize,
    pub(super) duplicates: usize,
    pub(super) kms_signs: u64,
    pub(super) nonce_gaps: u64,
    pub(super) mined_ms: Vec<u64>,
    pub(super) final_ms: Vec<u64>,
}

impl Facts {
    pub(super) fn totals(&self) -> Totals {
        // Counted only if the chain confirms the table.
        let settled = |status: Status, succeeded: bool| {
            let agrees = |item: &&RequestStatus| {
                item.status == status && self.on_chain(item).is_some_and(|found| found.succeeded == succeeded)
            };
            self.table.values().filter(agrees).count()
        };
        let executed = self.table.values().filter(|item| self.on_chain(item).is_some()).count();
        let used: std::collections::BTreeSet<u64> = self.chain.values().map(|found| found.nonce).collect();
        let handed_out = self.first_nonce..self.next_nonce;
        let gaps = handed_out.filter(|nonce| !used.contains(nonce)).count();
        let mut mined_ms: Vec<u64> = self.table.keys().filter_map(|id| self.mined_ms(id)).collect();
        let mut final_ms: Vec<u64> = self.table.keys().filter_map(|id| self.final_ms(id)).collect();
        mined_ms.sort_unstable();
        final_ms.sort_unstable();
        Totals {
            submitted: self.table.len(),
            confirmed: settled(Status::Confirmed, true),
            reverted: settled(Status::Reverted, false),
            rejected: self.table.values().filter(|item| item.status == Status::Rejected).count(),
            duplicates: self.chain.len().saturating_sub(executed),
            kms_signs: self.kms_signs,
            nonce_gaps: u64::try_from(gaps).unwrap_or(u64::MAX),
            mined_ms,
            final_ms,
        }
    }

    fn on_chain(&self, item: &RequestStatus) -> Option<&OnChain> {
        self.chain.get(item.tx_hash.as_ref()?)
    }

    /// Time from the message to the block with its transaction.
    fn mined_ms(&self, id: &str) -> Option<u64> {
        let block = self.on_chain(self.table.get(id)?)?.block;
        Some(self.seen.there_at(block)?.saturating_sub(*self.sent_at.get(id)?))
    }

    /// Time from the message to the outcome, which needs a finalized block.
    fn final_ms(&self, id: &str) -> Option<u64> {
        let item = self.table.get(id)?;
        self.on_chain(item)?;
        Some(item.settled_at?.saturating_sub(*self.sent_at.get(id)?))
    }

    /// One line per request.
    pub(super) fn lines(&self, asked: &[Asked]) -> Vec<String> {
        let title = format!(
            "{:<28}{:<11}{:>6}  {:<68}{:>6}{:>10}{:>10}",
            "request", "status", "nonce", "transaction", "block", "mined", "final"
        );
        let mut lines = vec![paint(Colour::Grey, &title)];
        for asked in asked {
            lines.push(self.line(&asked.id));
        }
        let [repeated, reused] = [1, 2].map(transfer_id);
        lines.push(format!("{:<28}the same record; executed once", format!("{repeated}, sent again")));
        for outcome in self.refusals(&reused) {
            let status = paint(colour(outcome.status), &format!("{:<11}", outcome.status.as_str()));
            let code = outcome.reason.as_ref().map_or("", |reason| reason.code.as_str());
            lines.push(format!("{:<28}{status}{:>6}  {code}", format!("{reused}, other contents"), ""));
        }
        lines
    }

    fn line(&self, id: &str) -> String {
        let Some(item) = self.table.get(id) else { return format!("{id:<28}not in the table") };
        let status = paint(colour(item.status), &format!("{:<11}", item.status.as_str()));
        let shown = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        let took = |ms: Option<u64>| ms.map(|ms| format!("{ms} ms")).unwrap_or_default();
        let nonce = shown(item.nonce);
        let reason = item.reason.as_ref().map(|reason| match &reason.revert {
            Some(revert) => format!("{}: {}", reason.code, revert.text),
            None => format!("{}: {}", reason.code, reason.message),
        });
        if item.tx_hash.is_none() {
            return format!("{id:<28}{status}{nonce:>6}  {}", reason.unwrap_or_default());
        }
        let hash = item.tx_hash.as_deref().unwrap_or_default();
        let block = shown(item.block_number);
        let (mined, finalized) = (took(self.mined_ms(id)), took(self.final_ms(id)));
        let reason = reason.map(|reason| format!("  {reason}")).unwrap_or_default();
        format!("{id:<28}{status}{nonce:>6}  {hash:<68}{block:>6}{mined:>10}{finalized:>10}{reason}")
    }

    /// The rejections of messages that reused this id, which belongs to another request.
    fn refusals(&self, id: &str) -> impl Iterator<Item = &OutcomeMessage> {
        self.outcomes.iter().filter(move |outcome| {
            let named = outcome.reason.as_ref().and_then(|reason| reason.request_id.as_deref());
            named == Some(id) && outcome.status == Status::Rejected
        })
    }

    /// Everything that differs from what was expected.
    pub(super) fn problems(&self, asked: &[Asked]) -> Vec<String> {
        let totals = self.totals();
        let mut problems = Vec::new();
        for asked in asked {
            let found = self.table.get(&asked.id).map_or("not in the table", |item| item.status.as_str());
            if found != asked.expected.as_str() {
                problems.push(format!("{} is {found}; {} was expected", asked.id, asked.expected.as_str()));
            }
        }
        for (id, item) in &self.table {
            let published =
                self.outcomes.iter().filter(|outcome| outcome.request_id == *id && outcome.status == item.status);
            if published.count() != 1 {
                problems.push(format!("{id} has not exactly one outcome"));
            }
        }
        if self.refusals(&transfer_id(2)).count() != 1 {
            problems.push("the reused id was not refused".to_owned());
        }
        let executed = totals.confirmed.saturating_add(totals.reverted);
        let accounted = executed.saturating_add(totals.rejected);
        if accounted != totals.submitted {
            problems.push(format!("{accounted} of {} outcomes are confirmed by the chain", totals.submitted));
        }
        if totals.duplicates > 0 {
            problems.push(format!("{} transaction(s) on the chain belong to no request", totals.duplicates));
        }
        if totals.nonce_gaps > 0 {
            problems.push(format!("{} nonce(s) were assigned and never used", totals.nonce_gaps));
        }
        if u64::try_from(executed).ok() != Some(totals.kms_signs) {
            problems.push(format!("{} signatures for {executed} transactions", totals.kms_signs));
        }
        problems
    }
}

impl Totals {
    pub(super) fn json(&self) -> Value {
        json!({
            "submitted": self.submitted,
            "confirmed": self.confirmed,
            "reverted": self.reverted,
            "rejected": self.rejected,
            "duplicates": self.duplicates,
            "kmsSigns": self.kms_signs,
            "nonceGaps": self.nonce_gaps,
            "p50MinedMs": percentile(&self.mined_ms, 50),
            "p99MinedMs": percentile(&self.mined_ms, 99),
            "p50FinalMs": percentile(&self.final_ms, 50),
            "p99FinalMs": percentile(&self.final_ms, 99),
        })
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let took = |sorted: &[u64]| match (percentile(sorted, 50), percentile(sorted, 99)) {
            (Some(half), Some(most)) => format!("{half} ms at p50, {most} ms at p99"),
            _ => "no request".to_owned(),
        };
        let executed = self.confirmed.saturating_add(self.reverted);
        vec![
            format!("requests      {}", self.submitted),
            format!("confirmed     {}", self.confirmed),
            format!("reverted      {}", self.reverted),
            format!("rejected      {}", self.rejected),
            format!("on chain      {executed}, {} duplicates, {} unused nonces", self.duplicates, self.nonce_gaps),
            format!("KMS           {} signatures", self.kms_signs),
            format!("mined after   {}", took(&self.mined_ms)),
            format!("final after   {}", took(&self.final_ms)),
        ]
    }
}
