//! What an operator asks of the tables and no driver does: lists, whole reads for an audit, and retiring
//! an account. Beside the port, so that the port keeps only the calls the drivers make.
//!
//! Reads an index, which lags by a moment, or a whole table, which costs its size: only on demand. Writes
//! nothing but the one mark of a retired account.

use aws_sdk_dynamodb::types::AttributeValue;
use signpost_txmgr::account::Head;
use signpost_txmgr::ports::PortError;
use signpost_txmgr::record::Stored;
use signpost_txmgr::units::{AccountKey, Millis, Nonce, RequestId};

use super::accounts::HeadChange;
use super::{DynamoStore, names, read};
use crate::item::{self, Item, ItemError, head, n, s};
use crate::repeat::repeat;

/// The index over requests by account and time; keys only.
const BY_ACCOUNT: &str = "byAccount";
/// Ids of one page of the index.
const PAGE: i32 = 500;

/// One item of the requests table as an audit needs it: also when it cannot be read.
#[derive(Debug)]
pub struct Found {
    /// Its key as text; what is stored may not be a request id.
    pub id: String,
    /// What it holds, or what is wrong with it.
    pub stored: Result<Stored, ItemError>,
    /// When it may be deleted, whatever else is wrong with it.
    pub expires_at: Option<Millis>,
}

/// A slot as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotFound {
    /// Its nonce.
    pub nonce: Nonce,
    /// Whose it is.
    pub request_id: RequestId,
    /// When it may be deleted; set when it is left behind.
    pub expires_at: Option<Millis>,
}

/// One page of an account's requests, newest first.
#[derive(Debug)]
pub struct Page {
    /// The ids with the time of each.
    pub ids: Vec<(RequestId, Millis)>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Item>,
}

/// What came of retiring an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetireVerdict {
    /// It is retired, now or since before.
    Retired,
    /// Slots are open; this is the head as stored.
    Open(Box<Head>),
    /// It is not registered.
    NotRegistered,
}

impl DynamoStore {
    /// A page of the ids of an account's requests made at `since` or later, newest first. By the index: a
    /// request of the last moment may be missing, and so are bad messages, which have no account.
    pub async fn page_of(&self, account: &AccountKey, since: Millis, next: Option<Item>) -> Result<Page, PortError> {
        const OPERATION: &str = "Query";
        let request = self
            .client
            .query()
            .table_name(&self.tables.requests)
            .index_name(BY_ACCOUNT)
            .key_condition_expression("#account = :account AND #createdAt >= :since")
            .set_expression_attribute_names(Some(names(&["account", "createdAt"])))
            .expression_attribute_values(":account", s(account))
            .expression_attribute_values(":since", n(since.0))
            .scan_index_forward(false)
            .limit(PAGE)
            .set_exclusive_start_key(next);
        let answer = repeat(&self.backoff, OPERATION, || request.clone().send())
            .await
            .map_err(|failure| failure.into_port(OPERATION))?;
        let keys = answer.items.unwrap_or_default();
        let ids = keys.iter().map(|key| read(OPERATION, key, item::decode_index_key)).collect::<Result<_, _>>()?;
        Ok(Page { ids, next: answer.last_evaluated_key.filter(|key| !key.is_empty()) })
    }

    /// The items under these ids, those that exist, each with what is wrong with it.
    pub async fn find(&self, ids: &[RequestId]) -> Result<Vec<Found>, PortError> {
        let keys = ids.iter().map(|id| item::item([("requestId", s(id))])).collect();
        let items = self.get_all(&self.tables.requests, keys).await?;
        Ok(items.iter().map(found).collect())
    }

    /// Every item of the requests table: a scan, which reads and costs all of it.
    pub async fn find_all(&self, mut each: impl FnMut(Found)) -> Result<(), PortError> {
        const OPERATION: &str = "Scan";
        let mut start = None;
        loop {
            let request = self
                .client
                .scan()
                .table_name(&self.tables.requests)
                .consistent_read(true)
                .set_exclusive_start_key(start.take());
            let answer = repeat(&self.backoff, OPERATION, || request.clone().send())
                .await
                .map_err(|failure| failure.into_port(OPERATION))?;
            answer.items.unwrap_or_default().iter().map(found).for_each(&mut each);
            start = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                return Ok(());
            }
        }
    }

    /// Every slot of a lane that is stored, also those left behind.
    pub async fn all_slots(&self, account: &AccountKey) -> Result<Vec<SlotFound>, PortError> {
        let slots = self.read_slot_items(account, Nonce(0), head::MAX_SLOT, usize::MAX).await?;
        let found = |slot: &Item| {
            let (nonce, request_id) = read("Query", slot, head::decode_slot)?;
            Ok(SlotFound { nonce, request_id, expires_at: item::expiry(slot) })
        };
        slots.iter().map(found).collect()
    }

    /// Retires an account: paused for good. Only when no slot is open, in the same write, so that no
    /// reservation comes between.
    pub async fn retire(&self, account: &AccountKey, now: Millis) -> Result<RetireVerdict, PortError> {
        let changed = self.change_head(account, |request| {
            let named = ["account", "paused", "retiredAt", "nextNonce", "lowestOpenNonce"];
            request
                .update_expression("SET #paused = :paused, #retiredAt = if_not_exists(#retiredAt, :now)")
                .condition_expression("attribute_exists(#account) AND #nextNonce = #lowestOpenNonce")
                .set_expression_attribute_names(Some(names(&named)))
                .expression_attribute_values(":paused", AttributeValue::Bool(true))
                .expression_attribute_values(":now", n(now.0))
        });
        Ok(match changed.await? {
            HeadChange::Made => RetireVerdict::Retired,
            HeadChange::Refused(stored) => {
                RetireVerdict::Open(Box::new(read("UpdateItem", &stored, head::decode_head)?))
            }
            HeadChange::NoHead => RetireVerdict::NotRegistered,
        })
    }
}

fn found(stored: &Item) -> Found {
    let id = stored.get("requestId").and_then(|id| id.as_s().ok()).cloned().unwrap_or_default();
    Found { id, stored: item::decode(stored), expires_at: item::expiry(stored) }
}
