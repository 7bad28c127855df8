//! Calls that only an operator makes: lists, complete reads for an audit, retiring and unregistering an
//! account. The reads are not part of the port, which has only the calls that the in-memory store
//! supports too.
//!
//! Reads an index, which lags by a moment, or a whole table, at a cost of its size: only on demand. Writes
//! only the mark of a retired account, and deletes the two items of an unregistered one.

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, Delete, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use signpost_txmgr::ports::{PortError, RetireVerdict, UnregisterVerdict};
use signpost_txmgr::record::Stored;
use signpost_txmgr::units::{AccountKey, AccountName, Millis, Nonce, RequestId};

use super::accounts::HeadChange;
use super::reserve::judge;
use super::{DynamoStore, names, read};
use crate::item::{self, Item, ItemError, head, n, s};
use crate::repeat::{repeat, repeat_if};

/// The index over requests by account and time; keys only.
const BY_ACCOUNT: &str = "byAccount";
/// Ids per page of the index.
const PAGE: i32 = 500;

/// One item of the requests table for an audit, readable or not.
#[derive(Debug)]
pub struct Found {
    /// The key as text; it may not be a valid request id.
    pub id: String,
    /// Its content, or why it cannot be read.
    pub stored: Result<Stored, ItemError>,
    /// When it may be deleted, even if the rest cannot be read.
    pub expires_at: Option<Millis>,
}

/// A stored slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotFound {
    /// The slot's nonce.
    pub nonce: Nonce,
    /// The request that holds the slot.
    pub request_id: RequestId,
    /// When it may be deleted; set when the slot is left behind.
    pub expires_at: Option<Millis>,
}

/// One page of an account's requests, newest first.
#[derive(Debug)]
pub struct Page {
    /// The ids, each with its creation time.
    pub ids: Vec<(RequestId, Millis)>,
    /// The start of the next page; `None` at the end.
    pub next: Option<Item>,
}

/// See [`signpost_txmgr::ports::Store::retire`]. The write has the condition that no slot is open, so no
/// reservation can come in between.
pub(super) async fn retire(store: &DynamoStore, account: &AccountKey, now: Millis) -> Result<RetireVerdict, PortError> {
    let changed = store.change_head(account, |request| {
        let named = ["account", "paused", "pausedBy", "retiredAt", "nextNonce", "lowestOpenNonce"];
        request
            .update_expression("SET #paused = :paused, #retiredAt = if_not_exists(#retiredAt, :now) REMOVE #pausedBy")
            .condition_expression("attribute_exists(#account) AND #nextNonce = #lowestOpenNonce")
            .set_expression_attribute_names(Some(names(&named)))
            .expression_attribute_values(":paused", AttributeValue::Bool(true))
            .expression_attribute_values(":now", n(now.0))
    });
    Ok(match changed.await? {
        HeadChange::Made => RetireVerdict::Retired,
        HeadChange::Refused(stored) => RetireVerdict::Open(Box::new(read("UpdateItem", &stored, head::decode_head)?)),
        HeadChange::NoHead => RetireVerdict::NotRegistered,
    })
}

/// See [`signpost_txmgr::ports::Store::unregister`]. Head and name are deleted in one transaction: a name without a
/// head could not be registered again, and a head without a name would be in no list.
pub(super) async fn unregister(
    store: &DynamoStore,
    account: &AccountKey,
    name: &AccountName,
    retired_until: Millis,
) -> Result<UnregisterVerdict, PortError> {
    const OPERATION: &str = "TransactWriteItems";
    let head = Delete::builder()
        .table_name(&store.tables.accounts)
        .set_key(Some(head::key(account, head::HEAD)))
        .condition_expression(
            "#name = :name AND #retiredAt <= :until AND #nextNonce = #lowestOpenNonce \
             AND attribute_not_exists(#setAside)",
        )
        .set_expression_attribute_names(Some(names(&[
            "name",
            "retiredAt",
            "nextNonce",
            "lowestOpenNonce",
            head::SET_ASIDE,
        ])))
        .expression_attribute_values(":name", s(name))
        .expression_attribute_values(":until", n(retired_until.0))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .expect("table and key are set");
    let entry = Delete::builder()
        .table_name(&store.tables.accounts)
        .set_key(Some(item::item([("account", s(head::DIRECTORY)), ("item", s(name))])))
        .condition_expression("attribute_not_exists(#accountKey) OR #accountKey = :account")
        .set_expression_attribute_names(Some(names(&["accountKey"])))
        .expression_attribute_values(":account", s(account))
        .build()
        .expect("table and key are set");
    let request = store
        .client
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().delete(head).build())
        .transact_items(TransactWriteItem::builder().delete(entry).build());
    let Err(failure) = repeat_if(&store.backoff, OPERATION, judge, || request.clone().send()).await else {
        return Ok(UnregisterVerdict::Unregistered);
    };
    let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = failure.service() else {
        return Err(failure.into_port(OPERATION));
    };
    let of_head = cancelled.cancellation_reasons().first();
    if of_head.and_then(CancellationReason::code) != Some("ConditionalCheckFailed") {
        return Err(failure.into_port(OPERATION));
    }
    // An emulator may omit the item.
    let stored = match of_head.and_then(CancellationReason::item) {
        Some(stored) => Some(read(OPERATION, stored, head::decode_head)?),
        None => super::accounts::head(store, account).await?,
    };
    match stored.filter(|head| head.name == *name) {
        // An earlier try, whose reply was lost, deleted it.
        None if failure.uncertain => Ok(UnregisterVerdict::Unregistered),
        None => Ok(UnregisterVerdict::NotRegistered),
        Some(head) => match head.stays_registered(retired_until) {
            Some(why) => Ok(UnregisterVerdict::Stays(why)),
            None => Err(failure.into_port(OPERATION)),
        },
    }
}

impl DynamoStore {
    /// A page of ids of an account's requests created at `since` or later, newest first. The index lags, so very
    /// recent requests may be missing; invalid messages are missing because they have no account.
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

    /// The existing items with these ids, readable or not.
    pub async fn find(&self, ids: &[RequestId]) -> Result<Vec<Found>, PortError> {
        let keys = ids.iter().map(|id| item::item([("requestId", s(id))])).collect();
        let items = self.get_all(&self.tables.requests, keys).await?;
        Ok(items.iter().map(found).collect())
    }

    /// Every item of the requests table: a scan, which reads and costs the whole table.
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

    /// Every stored slot of a lane, including those left behind.
    pub async fn all_slots(&self, account: &AccountKey) -> Result<Vec<SlotFound>, PortError> {
        let slots = self.read_slot_items(account, Nonce(0), head::MAX_SLOT, usize::MAX).await?;
        let found = |slot: &Item| {
            let (nonce, request_id) = read("Query", slot, head::decode_slot)?;
            Ok(SlotFound { nonce, request_id, expires_at: item::expiry(slot) })
        };
        slots.iter().map(found).collect()
    }
}

fn found(stored: &Item) -> Found {
    let id = stored.get("requestId").and_then(|id| id.as_s().ok()).cloned().unwrap_or_default();
    Found { id, stored: item::decode(stored), expires_at: item::expiry(stored) }
}
