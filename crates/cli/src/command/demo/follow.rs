//! Follows requests through their states by reading the table, and shows each change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use signpost_aws::store::DynamoStore;
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::units::RequestId;
use signpost_txmgr::wire::{RequestStatus, Status};

use crate::clock::{self, Stopwatch};
use crate::command::CommandError;
use crate::command::status::colour;
use crate::terminal::{paint, remark, say};

/// The pause between two reads.
const READ_EVERY: Duration = Duration::from_millis(100);
/// If nothing changes for this long, something is wrong: a block takes 450 ms.
const STALL_TIMEOUT: Duration = Duration::from_secs(45);
/// Above this number, requests are shown as counts instead of one by one.
const SHOWN_ONE_BY_ONE: usize = 60;

/// The counted states, in their order.
const ORDER: [Status; 7] = [
    Status::Reserved,
    Status::Signed,
    Status::Sent,
    Status::Mined,
    Status::Confirmed,
    Status::Reverted,
    Status::Rejected,
];

/// The followed requests with their last known status.
#[derive(Debug)]
pub(super) struct Following {
    store: DynamoStore,
    sent_at: BTreeMap<String, u64>,
    last: BTreeMap<String, RequestStatus>,
    open: BTreeSet<String>,
    began: u64,
    /// Whether stdout is reserved for the totals.
    quiet_stdout: bool,
}

impl Following {
    pub(super) fn new(store: DynamoStore, quiet_stdout: bool) -> Self {
        let began = clock::now_ms();
        Self { store, sent_at: BTreeMap::new(), last: BTreeMap::new(), open: BTreeSet::new(), began, quiet_stdout }
    }

    /// Follows another request, sent at `sent_at`.
    pub(super) fn add(&mut self, id: &str, sent_at: u64) {
        self.sent_at.insert(id.to_owned(), sent_at);
        self.open.insert(id.to_owned());
    }

    /// When each request was sent, in Unix milliseconds.
    pub(super) fn sent_at(&self) -> BTreeMap<String, u64> {
        self.sent_at.clone()
    }

    /// The current status of all followed requests.
    pub(super) async fn table(&self) -> Result<BTreeMap<String, RequestStatus>, CommandError> {
        let ids: BTreeSet<String> = self.sent_at.keys().cloned().collect();
        Ok(self.read(&ids).await?.into_iter().map(|status| (status.request_id.clone(), status)).collect())
    }

    /// Follows until this request is settled, and returns the address of the contract it created.
    pub(super) async fn contract(&mut self, id: &str) -> Result<String, CommandError> {
        let settled = |following: &Self| following.last.get(id).is_some_and(|status| status.settled_at.is_some());
        self.until(settled).await?;
        let created = self.last.get(id).and_then(|status| status.contract_address.clone());
        created.ok_or_else(|| CommandError::Demo(format!("{id} created no contract")))
    }

    /// Follows until every outcome is published.
    pub(super) async fn until_published(&mut self) -> Result<(), CommandError> {
        self.until(|following| following.open.is_empty()).await
    }

    async fn until(&mut self, reached: impl Fn(&Self) -> bool) -> Result<(), CommandError> {
        let mut unchanged = Stopwatch::start();
        while !reached(self) {
            let mut changed = false;
            for status in self.read(&self.open).await? {
                changed |= self.note(status);
            }
            if changed {
                unchanged = Stopwatch::start();
                self.show_counts();
            } else if unchanged.elapsed() > STALL_TIMEOUT {
                let open: Vec<_> = self.open.iter().take(5).map(String::as_str).collect();
                let text = format!("{} request(s) make no progress, among them {}", self.open.len(), open.join(", "));
                return Err(CommandError::Demo(text));
            }
            tokio::time::sleep(READ_EVERY).await;
        }
        Ok(())
    }

    async fn read(&self, ids: &BTreeSet<String>) -> Result<Vec<RequestStatus>, CommandError> {
        let ids: Vec<RequestId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
        let mut found: Vec<_> = self.store.load(&ids, clock::now()).await?.iter().map(RequestStatus::of).collect();
        found.sort_by(|a, b| (a.nonce, &a.request_id).cmp(&(b.nonce, &b.request_id)));
        Ok(found)
    }

    /// Stores the status of a request. Returns whether it has changed.
    fn note(&mut self, status: RequestStatus) -> bool {
        if status.published_at.is_some() {
            self.open.remove(&status.request_id);
        }
        let before = self.last.get(&status.request_id).map(|last| last.status);
        let changed = before != Some(status.status);
        if changed && self.sent_at.len() <= SHOWN_ONE_BY_ONE {
            self.show(&status);
        }
        self.last.insert(status.request_id.clone(), status);
        changed
    }

    fn show(&self, status: &RequestStatus) {
        let name = paint(colour(status.status), &format!("{:<10}", status.status.as_str()));
        let mut parts = vec![format!("{:>8}", self.since()), format!("{:<28}", status.request_id), name];
        parts.extend(status.nonce.map(|nonce| format!("nonce {nonce}")));
        parts.extend(status.block_number.map(|block| format!("block {block}")));
        parts.extend(status.reason.as_ref().map(|reason| reason.code.clone()));
        self.line(&parts.join("  "));
    }

    fn show_counts(&self) {
        if self.sent_at.len() <= SHOWN_ONE_BY_ONE {
            return;
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for status in self.last.values() {
            let count = counts.entry(status.status.as_str()).or_default();
            *count = count.saturating_add(1);
        }
        let shown = ORDER.map(|status| format!("{} {:<5}", status.as_str(), counts.get(status.as_str()).unwrap_or(&0)));
        self.line(&format!("{:>8}  {}", self.since(), shown.join(" ")));
    }

    fn since(&self) -> String {
        let ms = clock::now_ms().saturating_sub(self.began);
        format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
    }

    fn line(&self, line: &str) {
        if self.quiet_stdout {
            remark(line);
        } else {
            say(line);
        }
    }
}
