//! An account's lane: its slots in order, and the two marks of its head.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use futures_util::stream::{self, StreamExt as _};
use signpost_txmgr::account::{Head, Marks};
use signpost_txmgr::error_chain;
use signpost_txmgr::ports::PortError;
use signpost_txmgr::units::{AccountKey, Millis, Nonce, RequestId};

use super::{DynamoStore, names, read};
use crate::item::{Item, head, n, s, seconds};
use crate::repeat::repeat;

/// Number of concurrent calls that set a slot's expiry: a lane closes ten slots per second, and a call takes a few
/// milliseconds.
const EXPIRE_AT_ONCE: usize = 16;
/// Page size for setting the expiry of slots.
const EXPIRE_PAGE: usize = 500;
/// Items per page of a query: a slot has about 200 bytes, so a page is far below 1 MB.
const PAGE_MAX: usize = 1_000;

/// See [`signpost_txmgr::ports::Store::slots`].
pub(super) async fn slots(
    store: &DynamoStore,
    account: &AccountKey,
    from: Nonce,
    limit: usize,
) -> Result<Vec<(Nonce, RequestId)>, PortError> {
    let slots = store.read_slot_items(account, from, head::MAX_SLOT, limit).await?;
    slots.iter().map(|slot| read("Query", slot, head::decode_slot)).collect()
}

/// See [`signpost_txmgr::ports::Store::fast_forward`].
pub(super) async fn fast_forward(
    store: &DynamoStore,
    account: &AccountKey,
    from: Nonce,
    to: Nonce,
) -> Result<bool, PortError> {
    assert!(from <= to, "I4: a lane only goes forward");
    set_nonce(store, account, from, to).await
}

/// See [`signpost_txmgr::ports::Store::set_nonce`].
pub(super) async fn set_nonce(
    store: &DynamoStore,
    account: &AccountKey,
    from: Nonce,
    to: Nonce,
) -> Result<bool, PortError> {
    let request = store
        .update_head(account)
        .update_expression("SET #nextNonce = :to, #lowestOpenNonce = :to")
        .condition_expression("#nextNonce = :from AND #lowestOpenNonce = :from")
        .set_expression_attribute_names(Some(names(&["nextNonce", "lowestOpenNonce"])))
        .expression_attribute_values(":from", n(from.0))
        .expression_attribute_values(":to", n(to.0));
    store.move_head(request, |head| head.next_nonce == to && head.lowest_open_nonce == to).await
}

/// See [`signpost_txmgr::ports::Store::leave_slots`]. The head is written first: if slots expired before
/// the mark moved past them, readers of the lane would miss them.
pub(super) async fn leave_slots(
    store: &DynamoStore,
    account: &AccountKey,
    from: Nonce,
    to: Nonce,
    expires_at: Millis,
) -> Result<bool, PortError> {
    assert!(from <= to, "I4: a lane only goes forward");
    let request = store
        .update_head(account)
        .update_expression("SET #lowestOpenNonce = :to")
        .condition_expression("#lowestOpenNonce = :from AND #nextNonce >= :to")
        .set_expression_attribute_names(Some(names(&["nextNonce", "lowestOpenNonce"])))
        .expression_attribute_values(":from", n(from.0))
        .expression_attribute_values(":to", n(to.0));
    if !store.move_head(request, |head| head.lowest_open_nonce == to).await? {
        return Ok(false);
    }
    if let Err(error) = store.expire_slots(account, from, to, expires_at).await {
        let error = error_chain(&error);
        tracing::warn!(%account, %from, %to, error, "slots left behind got no expiry and stay stored");
    }
    Ok(true)
}

/// See [`signpost_txmgr::ports::Store::move_marks`]. The head is written first, as when slots are left.
pub(super) async fn move_marks(
    store: &DynamoStore,
    account: &AccountKey,
    before: &Marks,
    after: &Marks,
    expires_at: Millis,
) -> Result<bool, PortError> {
    after.assert_follows(before);
    let lists = [
        (head::SET_ASIDE, head::encode_set_aside(&before.set_aside), head::encode_set_aside(&after.set_aside)),
        (head::GAPS, head::encode_gaps(&before.gaps), head::encode_gaps(&after.gaps)),
    ];
    let mut conditions = vec!["#lowestOpenNonce = :from AND #nextNonce >= :to".to_owned()];
    let (mut sets, mut removes) = (vec!["#lowestOpenNonce = :to".to_owned()], Vec::new());
    let mut request = store.update_head(account);
    for (name, before, after) in lists {
        if let Some(stored) = before {
            conditions.push(format!("#{name} = :{name}Before"));
            request = request.expression_attribute_values(format!(":{name}Before"), stored);
        } else {
            conditions.push(format!("attribute_not_exists(#{name})"));
        }
        if let Some(wanted) = after {
            sets.push(format!("#{name} = :{name}"));
            request = request.expression_attribute_values(format!(":{name}"), wanted);
        } else {
            removes.push(format!("#{name}"));
        }
    }
    let remove = if removes.is_empty() { String::new() } else { format!(" REMOVE {}", removes.join(", ")) };
    for (name, value) in names(&["nextNonce", "lowestOpenNonce", head::SET_ASIDE, head::GAPS]) {
        request = request.expression_attribute_names(name, value);
    }
    let request = request
        .update_expression(format!("SET {}{remove}", sets.join(", ")))
        .condition_expression(conditions.join(" AND "))
        .expression_attribute_values(":from", n(before.lowest_open_nonce.0))
        .expression_attribute_values(":to", n(after.lowest_open_nonce.0));
    if !store.move_head(request, |head| head.marks() == *after).await? {
        return Ok(false);
    }
    for left in after.left_since(before) {
        if let Err(error) = store.expire_slots(account, left.start, left.end, expires_at).await {
            tracing::warn!(%account, from = %left.start, to = %left.end, error = error_chain(&error),
                "slots left behind got no expiry and stay stored");
        }
    }
    Ok(true)
}

impl DynamoStore {
    pub(super) async fn read_slot_items(
        &self,
        account: &AccountKey,
        from: Nonce,
        to: Nonce,
        limit: usize,
    ) -> Result<Vec<Item>, PortError> {
        const OPERATION: &str = "Query";
        let mut slots = Vec::new();
        let mut start = None;
        // BETWEEN fails if its bounds are reversed.
        while slots.len() < limit && from <= to {
            let page = limit.saturating_sub(slots.len()).min(PAGE_MAX);
            let request = self
                .client
                .query()
                .table_name(&self.tables.accounts)
                .key_condition_expression("#account = :account AND #item BETWEEN :from AND :to")
                .set_expression_attribute_names(Some(names(&["account", "item"])))
                .expression_attribute_values(":account", s(account))
                .expression_attribute_values(":from", s(head::slot_name(from)))
                .expression_attribute_values(":to", s(head::slot_name(to)))
                .consistent_read(true)
                .limit(i32::try_from(page).unwrap_or(i32::MAX))
                .set_exclusive_start_key(start.take());
            let answer = repeat(&self.backoff, OPERATION, || request.clone().send())
                .await
                .map_err(|failure| failure.into_port(OPERATION))?;
            slots.extend(answer.items.unwrap_or_default());
            start = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                break;
            }
        }
        Ok(slots)
    }

    fn update_head(&self, account: &AccountKey) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.tables.accounts)
            .set_key(Some(head::key(account, head::HEAD)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    /// Writes to a head under a condition. If the write is refused, an earlier try of ours whose reply was lost
    /// may have made the change: `done` checks the stored head for that.
    async fn move_head(
        &self,
        request: UpdateItemFluentBuilder,
        done: impl Fn(&Head) -> bool,
    ) -> Result<bool, PortError> {
        const OPERATION: &str = "UpdateItem";
        let Err(failure) = repeat(&self.backoff, OPERATION, || request.clone().send()).await else {
            return Ok(true);
        };
        match failure.service() {
            Some(UpdateItemError::ConditionalCheckFailedException(refused)) => match refused.item() {
                Some(stored) if failure.uncertain => Ok(done(&read(OPERATION, stored, head::decode_head)?)),
                Some(_) | None => Ok(false),
            },
            Some(_) | None => Err(failure.into_port(OPERATION)),
        }
    }

    /// Sets the expiry of the existing slots in `from..to`, and no other attribute: with only the permission for this,
    /// nobody can create a slot or a head.
    async fn expire_slots(
        &self,
        account: &AccountKey,
        from: Nonce,
        to: Nonce,
        expires_at: Millis,
    ) -> Result<(), PortError> {
        let mut next = from;
        while next < to {
            let last = next.plus(u64::try_from(EXPIRE_PAGE).unwrap_or(u64::MAX)).min(to);
            let top = Nonce(last.0.saturating_sub(1));
            let slots = self.read_slot_items(account, next, top, EXPIRE_PAGE).await?;
            let found: Vec<(Nonce, RequestId)> =
                slots.iter().map(|slot| read("Query", slot, head::decode_slot)).collect::<Result<_, _>>()?;
            let writes = found.into_iter().map(|(nonce, _)| self.expire_slot(account, nonce, expires_at));
            let mut writing = stream::iter(writes).buffer_unordered(EXPIRE_AT_ONCE);
            while let Some(written) = writing.next().await {
                written?;
            }
            next = last;
        }
        Ok(())
    }

    async fn expire_slot(&self, account: &AccountKey, nonce: Nonce, expires_at: Millis) -> Result<(), PortError> {
        const OPERATION: &str = "UpdateItem";
        let request = self
            .client
            .update_item()
            .table_name(&self.tables.accounts)
            .set_key(Some(head::key(account, &head::slot_name(nonce))))
            .update_expression("SET #expiresAt = :at")
            .condition_expression("attribute_exists(#account)")
            .set_expression_attribute_names(Some(names(&["account", "expiresAt"])))
            .expression_attribute_values(":at", seconds(expires_at));
        let Err(failure) = repeat(&self.backoff, OPERATION, || request.clone().send()).await else {
            return Ok(());
        };
        match failure.service() {
            // The slot is already deleted.
            Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(()),
            Some(_) | None => Err(failure.into_port(OPERATION)),
        }
    }
}
