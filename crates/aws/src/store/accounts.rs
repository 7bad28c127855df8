//! Accounts: their heads, and the directory of their names.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use signpost_txmgr::account::{Accounts, Head, SeenFee, UnreadableHead};
use signpost_txmgr::ports::{PortError, RegisterVerdict};
use signpost_txmgr::text::plain;
use signpost_txmgr::units::{AccountKey, Millis};
use signpost_txmgr::unusable::Unusable;

use super::reserve::judge;
use super::{DynamoStore, names, read};
use crate::fault::AwsError;
use crate::item::{Item, head, n, s};
use crate::repeat::{repeat, repeat_if};

/// The operation of a head's change, as errors name it.
const UPDATE: &str = "UpdateItem";
const REGISTERED: &str = "attribute_exists(#account)";
const REGISTERED_AND_NOT_RETIRED: &str = "attribute_exists(#account) AND attribute_not_exists(retiredAt)";

/// The result of a conditional change of a head.
#[derive(Debug)]
pub(super) enum HeadChange {
    /// The change is stored.
    Made,
    /// The condition does not hold for the stored head, which is returned.
    Refused(Box<Item>),
    /// The account is not registered.
    NoHead,
}

/// See [`signpost_txmgr::ports::Store::accounts`]. Sorted by name.
pub(super) async fn accounts(store: &DynamoStore) -> Result<Accounts, PortError> {
    const OPERATION: &str = "Query";
    let mut accounts = Accounts::default();
    // The directory's name of each account.
    let mut named: BTreeMap<AccountKey, String> = BTreeMap::new();
    let mut start = None;
    loop {
        let request = store
            .client
            .query()
            .table_name(&store.tables.accounts)
            .key_condition_expression("#account = :directory")
            .set_expression_attribute_names(Some(names(&["account"])))
            .expression_attribute_values(":directory", s(head::DIRECTORY))
            .consistent_read(true)
            .set_exclusive_start_key(start.take());
        let answer = repeat(&store.backoff, OPERATION, || request.clone().send())
            .await
            .map_err(|failure| failure.into_port(OPERATION))?;
        for entry in answer.items.unwrap_or_default() {
            let name = text(&entry, "item");
            match head::decode_name(&entry) {
                Ok(account) => {
                    named.insert(account, name);
                }
                Err(error) => {
                    let name = plain(&name);
                    accounts.unreadable.push(UnreadableHead { name, account: None, problem: error.to_string() });
                }
            }
        }
        start = answer.last_evaluated_key.filter(|key| !key.is_empty());
        if start.is_none() {
            break;
        }
    }
    let keys = named.keys().map(|account| head::key(account, head::HEAD)).collect();
    for item in store.get_all(&store.tables.accounts, keys).await? {
        match head::decode_head(&item) {
            Ok(head) => accounts.heads.push(head),
            Err(error) => {
                let account: Option<AccountKey> = text(&item, "account").parse().ok();
                let name =
                    account.and_then(|account| named.remove(&account)).map(|name| plain(&name)).unwrap_or_default();
                accounts.unreadable.push(UnreadableHead { name, account, problem: error.to_string() });
            }
        }
    }
    accounts.heads.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(accounts)
}

/// See [`signpost_txmgr::ports::Store::head`].
pub(super) async fn head(store: &DynamoStore, account: &AccountKey) -> Result<Option<Head>, PortError> {
    const OPERATION: &str = "GetItem";
    let request = store
        .client
        .get_item()
        .table_name(&store.tables.accounts)
        .set_key(Some(head::key(account, head::HEAD)))
        .consistent_read(true);
    let answer = repeat(&store.backoff, OPERATION, || request.clone().send())
        .await
        .map_err(|failure| failure.into_port(OPERATION))?;
    answer.item.map(|entry| read(OPERATION, &entry, head::decode_head)).transpose()
}

/// See [`signpost_txmgr::ports::Store::register`].
pub(super) async fn register(store: &DynamoStore, head: &Head) -> Result<RegisterVerdict, PortError> {
    const OPERATION: &str = "TransactWriteItems";
    let put = |entry: Item| {
        let put = Put::builder()
            .table_name(&store.tables.accounts)
            .set_item(Some(entry))
            .condition_expression("attribute_not_exists(#account)")
            .set_expression_attribute_names(Some(names(&["account"])))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .expect("table and item are set");
        TransactWriteItem::builder().put(put).build()
    };
    let request = store
        .client
        .transact_write_items()
        .transact_items(put(head::encode_head(head)))
        .transact_items(put(head::encode_name(&head.name, &head.account)));
    let Err(failure) = repeat_if(&store.backoff, OPERATION, judge, || request.clone().send()).await else {
        return Ok(RegisterVerdict::Registered);
    };
    let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = failure.service() else {
        return Err(failure.into_port(OPERATION));
    };
    let failed = |reason: &&CancellationReason| reason.code() == Some("ConditionalCheckFailed");
    let reasons = cancelled.cancellation_reasons();
    if reasons.first().as_ref().is_some_and(failed) {
        // An emulator may omit the item.
        return match reasons.first().and_then(CancellationReason::item) {
            Some(stored) => read(OPERATION, stored, head::decode_head).map(RegisterVerdict::Exists),
            None => match self::head(store, &head.account).await? {
                Some(stored) => Ok(RegisterVerdict::Exists(stored)),
                None => Err(failure.into_port(OPERATION)),
            },
        };
    }
    if reasons.get(1).as_ref().is_some_and(failed) {
        return Ok(RegisterVerdict::NameTaken);
    }
    Err(failure.into_port(OPERATION))
}

/// See [`signpost_txmgr::ports::Store::set_paused`].
pub(super) async fn set_paused(store: &DynamoStore, account: &AccountKey, paused: bool) -> Result<(), PortError> {
    // A retired account stays paused.
    let condition = if paused { REGISTERED } else { REGISTERED_AND_NOT_RETIRED };
    let paused = AttributeValue::Bool(paused);
    store.note_on_head(account, condition, "SET #noted = :noted REMOVE pausedBy", "paused", Some(paused)).await
}

/// See [`signpost_txmgr::ports::Store::set_paused_by_node`]. `pausedBy` distinguishes such a pause from an
/// operator's and from that of a retired account, since retiring removes it.
pub(super) async fn set_paused_by_node(
    store: &DynamoStore,
    account: &AccountKey,
    paused: bool,
) -> Result<(), PortError> {
    let (condition, change, named): (_, _, &[&str]) = if paused {
        (
            "attribute_exists(#account) AND #paused = :before",
            "SET #paused = :after, pausedBy = :node",
            &["account", "paused"],
        )
    } else {
        // A retired account has no open slot; an earlier version left `pausedBy` on it.
        (
            "attribute_exists(#account) AND pausedBy = :node AND #nextNonce > #lowestOpenNonce",
            "SET #paused = :after REMOVE pausedBy",
            &["account", "paused", "nextNonce", "lowestOpenNonce"],
        )
    };
    let changed = store.change_head(account, |request| {
        let request = request
            .update_expression(change)
            .condition_expression(condition)
            .set_expression_attribute_names(Some(names(named)))
            .expression_attribute_values(":after", AttributeValue::Bool(paused))
            .expression_attribute_values(":node", s("node"));
        if paused { request.expression_attribute_values(":before", AttributeValue::Bool(false)) } else { request }
    });
    match changed.await? {
        // Refused: an operator paused the account, or it is not paused.
        HeadChange::Made | HeadChange::Refused(_) => Ok(()),
        HeadChange::NoHead => Err(AwsError::NotRegistered(account.to_string()).did_not_happen(UPDATE)),
    }
}

/// See [`signpost_txmgr::ports::Store::set_unfunded`].
pub(super) async fn set_unfunded(
    store: &DynamoStore,
    account: &AccountKey,
    since: Option<Millis>,
) -> Result<(), PortError> {
    let change = if since.is_some() { "SET #noted = :noted" } else { "REMOVE #noted" };
    store.note_on_head(account, REGISTERED, change, "unfundedSince", since.map(|since| n(since.0))).await
}

/// See [`signpost_txmgr::ports::Store::set_unusable`].
pub(super) async fn set_unusable(
    store: &DynamoStore,
    account: &AccountKey,
    unusable: Option<Unusable>,
) -> Result<(), PortError> {
    let change = if unusable.is_some() { "SET #noted = :noted" } else { "REMOVE #noted" };
    let unusable = unusable.as_ref().map(head::encode_unusable);
    store.note_on_head(account, REGISTERED, change, "unusable", unusable).await
}

/// See [`signpost_txmgr::ports::Store::observe_fee`]. An older price does not replace a newer one.
pub(super) async fn observe_fee(store: &DynamoStore, account: &AccountKey, fee: &SeenFee) -> Result<(), PortError> {
    let changed = store.change_head(account, |request| {
        request
            .update_expression("SET #fee = :fee")
            .condition_expression(
                "attribute_exists(#account) AND (attribute_not_exists(#fee) OR #fee.#observedAt <= :at)",
            )
            .set_expression_attribute_names(Some(names(&["account", "fee", "observedAt"])))
            .expression_attribute_values(":fee", head::encode_seen_fee(fee))
            .expression_attribute_values(":at", n(fee.observed_at.0))
    });
    match changed.await? {
        // Refused: the head has a newer price.
        HeadChange::Made | HeadChange::Refused(_) => Ok(()),
        HeadChange::NoHead => Err(AwsError::NotRegistered(account.to_string()).did_not_happen(UPDATE)),
    }
}

impl DynamoStore {
    /// Changes one attribute of a head, whatever its value was.
    async fn note_on_head(
        &self,
        account: &AccountKey,
        condition: &str,
        change: &str,
        attribute: &str,
        value: Option<AttributeValue>,
    ) -> Result<(), PortError> {
        let changed = self.change_head(account, |request| {
            let request = request
                .update_expression(change)
                .condition_expression(condition)
                .set_expression_attribute_names(Some(names(&["account"])))
                .expression_attribute_names("#noted", attribute);
            match value {
                Some(value) => request.expression_attribute_values(":noted", value),
                None => request,
            }
        });
        Err(match changed.await? {
            HeadChange::Made => return Ok(()),
            HeadChange::Refused(_) => AwsError::Retired(account.to_string()),
            HeadChange::NoHead => AwsError::NotRegistered(account.to_string()),
        }
        .did_not_happen(UPDATE))
    }

    /// Makes a conditional change of an account's head.
    pub(super) async fn change_head(
        &self,
        account: &AccountKey,
        change: impl FnOnce(UpdateItemFluentBuilder) -> UpdateItemFluentBuilder,
    ) -> Result<HeadChange, PortError> {
        let request = self
            .client
            .update_item()
            .table_name(&self.tables.accounts)
            .set_key(Some(head::key(account, head::HEAD)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let request = change(request);
        let Err(failure) = repeat(&self.backoff, UPDATE, || request.clone().send()).await else {
            return Ok(HeadChange::Made);
        };
        match failure.service() {
            Some(UpdateItemError::ConditionalCheckFailedException(refused)) => match refused.item() {
                Some(stored) => Ok(HeadChange::Refused(Box::new(stored.clone()))),
                None => Ok(HeadChange::NoHead),
            },
            Some(_) | None => Err(failure.into_port(UPDATE)),
        }
    }
}

/// A text attribute of an item of unknown shape; empty if it is missing or not a text.
fn text(item: &Item, attribute: &str) -> String {
    item.get(attribute).and_then(|value| value.as_s().ok()).cloned().unwrap_or_default()
}
