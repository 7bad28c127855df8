//! The reservation of slots: one transaction for a group of requests of one account.
//!
//! The head moves from n to n + k only if it is still at n and not paused. A request is written only if its id is
//! free, expired, or holds exactly the rejection that was read. A slot is written only if it does not exist. The
//! account's spending and its senders' counts are written with the nonce, because they were computed from the head
//! at n. The transaction is atomic. DynamoDB reports for each item why its condition failed.

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, Put, TransactWriteItem, Update};
use signpost_txmgr::account::Reservation;
use signpost_txmgr::ports::{Happened, PortError, ReserveVerdict};
use signpost_txmgr::record::{Record, Vacancy};
use signpost_txmgr::units::{Digest, sha256};

use super::records::Expects;
use super::{DynamoStore, names};
use crate::fault::{self, AwsError, FaultKind};
use crate::item::{encode_record, head, n};
use crate::repeat::{FailedCall, repeat_if};

const OPERATION: &str = "TransactWriteItems";
/// Part of every token. Change it with the shape of the transaction: DynamoDB refuses the same token with another
/// request for ten minutes.
const TOKEN_VERSION: &str = "reserve.v4";
/// `Code` of a cancellation reason for an item that is not the cause.
const NOT_TO_BLAME: &str = "None";
/// `Code` of a cancellation reason that is a verdict.
const CONDITION: &str = "ConditionalCheckFailed";
/// `Code` of a cancellation reason: another write to the item was in progress.
const CONFLICT: &str = "TransactionConflict";

/// See [`signpost_txmgr::ports::Store::reserve`]. Repeating the same group within ten minutes reports
/// it as reserved, later its ids as known.
pub(super) async fn reserve(store: &DynamoStore, group: &Reservation) -> Result<ReserveVerdict, PortError> {
    group.assert_contiguous();
    if group.records.is_empty() {
        return Ok(ReserveVerdict::Reserved);
    }
    let mut writes = vec![store.head_write(group)];
    for record in &group.records {
        writes.push(store.request_write(record, &group.vacancy(&record.request_id)));
        writes.push(store.slot_write(record));
    }
    let request =
        store.client.transact_write_items().client_request_token(token(group)).set_transact_items(Some(writes));
    match repeat_if(&store.backoff, OPERATION, judge, || request.clone().send()).await {
        Ok(_) => Ok(ReserveVerdict::Reserved),
        Err(failure) => verdict(group, failure),
    }
}

impl DynamoStore {
    fn head_write(&self, group: &Reservation) -> TransactWriteItem {
        let from = group.head.next_nonce;
        let count = u64::try_from(group.records.len()).expect("a group has at most 40 records");
        let (mut change, mut named) = ("SET #nextNonce = :to".to_owned(), vec!["account", "nextNonce", "paused"]);
        let counted = [
            ("spend", group.spend.as_ref().map(head::encode_spend)),
            (head::SENDER_COUNTS, group.sender_counts.as_ref().map(head::encode_sender_counts)),
        ];
        for (name, _) in counted.iter().filter(|(_, value)| value.is_some()) {
            change = format!("{change}, #{name} = :{name}");
            named.push(name);
        }
        let mut update = Update::builder()
            .table_name(&self.tables.accounts)
            .set_key(Some(head::key(&group.head.account, head::HEAD)))
            .update_expression(change)
            .condition_expression("attribute_exists(#account) AND #nextNonce = :from AND #paused = :false")
            .set_expression_attribute_names(Some(names(&named)))
            .expression_attribute_values(":from", n(from.0))
            .expression_attribute_values(":to", n(from.plus(count).0))
            .expression_attribute_values(":false", AttributeValue::Bool(false));
        for (name, value) in counted {
            if let Some(value) = value {
                update = update.expression_attribute_values(format!(":{name}"), value);
            }
        }
        let update = update.build().expect("table, key and expression are set");
        TransactWriteItem::builder().update(update).build()
    }

    fn request_write(&self, record: &Record, vacancy: &Vacancy) -> TransactWriteItem {
        let Expects { condition, names, values } = Expects::new(vacancy, record.created_at);
        let put = Put::builder()
            .table_name(&self.tables.requests)
            .set_item(Some(encode_record(record)))
            .condition_expression(condition)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .build()
            .expect("table and item are set");
        TransactWriteItem::builder().put(put).build()
    }

    fn slot_write(&self, record: &Record) -> TransactWriteItem {
        let put = Put::builder()
            .table_name(&self.tables.accounts)
            .set_item(Some(head::encode_slot(&record.account, record.nonce, &record.request_id)))
            .condition_expression("attribute_not_exists(#account)")
            .set_expression_attribute_names(Some(names(&["account"])))
            .build()
            .expect("table and item are set");
        TransactWriteItem::builder().put(put).build()
    }
}

/// A token that is the same for the same group only: repeating a try whose reply was lost returns the
/// original result. 32 of at most 36 characters. It covers the calldata by its fingerprint and by
/// the request's digest.
fn token(group: &Reservation) -> String {
    let Reservation { head, records, spend, sender_counts, replaces } = group;
    let counted = (spend, sender_counts);
    let text = format!("{TOKEN_VERSION}|{}|{}|{counted:?}|{replaces:?}|{records:?}", head.account, head.next_nonce);
    let hash = Digest(sha256(text.as_bytes())).to_string();
    hash.chars().skip(2).take(32).collect()
}

/// Whether a cancelled transaction is tried again. A failed condition is a verdict, whatever other
/// reasons there are; then come the reasons that another try cannot fix.
pub(super) fn judge(error: &TransactWriteItemsError) -> Option<FaultKind> {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error else {
        return None;
    };
    let kinds: Vec<FaultKind> = blamed(cancelled.cancellation_reasons()).map(kind_of_reason).collect();
    [FaultKind::Final, FaultKind::Throttled, FaultKind::Conflict]
        .into_iter()
        .find(|kind| kinds.contains(kind))
        .or(Some(FaultKind::Final))
}

fn kind_of_reason(reason: &CancellationReason) -> FaultKind {
    reason.code().and_then(fault::kind_of_code).unwrap_or(FaultKind::Final)
}

/// The reasons of the items that caused the cancellation.
fn blamed(reasons: &[CancellationReason]) -> impl Iterator<Item = &CancellationReason> {
    reasons.iter().filter(|reason| reason.code().is_some_and(|code| code != NOT_TO_BLAME))
}

/// The verdict from the reasons of a cancelled transaction, in the order of its items: the
/// head, then request and slot of each record.
fn verdict(group: &Reservation, failure: FailedCall<TransactWriteItemsError>) -> Result<ReserveVerdict, PortError> {
    let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = failure.service() else {
        return Err(failure.into_port(OPERATION));
    };
    let reasons = cancelled.cancellation_reasons();
    let failed = |reason: &CancellationReason| reason.code() == Some(CONDITION);
    let contended = reasons.iter().any(|reason| reason.code() == Some(CONFLICT));
    let (head, pairs) = reasons.split_first().map_or((false, [].as_slice()), |(head, rest)| (failed(head), rest));
    let mut known = Vec::new();
    let mut slot_taken = false;
    for (record, pair) in group.records.iter().zip(pairs.chunks(2)) {
        if pair.first().is_some_and(failed) {
            known.push(record.request_id.clone());
        }
        slot_taken |= pair.get(1).is_some_and(failed);
    }
    let decided = head || slot_taken || !known.is_empty();
    let other = blamed(reasons).find(|reason| ![Some(CONDITION), Some(CONFLICT)].contains(&reason.code()));
    match other {
        // Neither a condition nor a conflict: throttling, or a reason that another try cannot fix.
        Some(reason) if !decided => {
            let source = AwsError::Cancelled {
                code: reason.code().unwrap_or_default().to_owned(),
                message: reason.message().unwrap_or_default().to_owned(),
            };
            Err(PortError {
                operation: OPERATION,
                happened: if failure.uncertain { Happened::Unknown } else { Happened::No },
                throttled: failure.kind == FaultKind::Throttled,
                source: Box::new(source),
            })
        }
        Some(_) | None if decided || contended => {
            Ok(ReserveVerdict::NotReserved { head_changed: head, known, slot_taken, contended })
        }
        // Cancelled without a reason: not a verdict.
        Some(_) | None => Err(failure.into_port(OPERATION)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(code: &str) -> CancellationReason {
        CancellationReason::builder().code(code).build()
    }

    fn cancelled(codes: &[&str]) -> TransactWriteItemsError {
        let reasons = codes.iter().map(|code| reason(code)).collect();
        let error = aws_sdk_dynamodb::types::error::TransactionCanceledException::builder();
        TransactWriteItemsError::TransactionCanceledException(error.set_cancellation_reasons(Some(reasons)).build())
    }

    #[test]
    fn failed_condition_outweighs_conflict_and_throttle() {
        assert_eq!(
            judge(&cancelled(&["ConditionalCheckFailed", "TransactionConflict", "None"])),
            Some(FaultKind::Final)
        );
        assert_eq!(judge(&cancelled(&["None", "TransactionConflict", "ThrottlingError"])), Some(FaultKind::Throttled));
        assert_eq!(judge(&cancelled(&["None", "TransactionConflict"])), Some(FaultKind::Conflict));
        assert_eq!(judge(&cancelled(&["None", "ItemCollectionSizeLimitExceeded"])), Some(FaultKind::Final));
        assert_eq!(judge(&cancelled(&[])), Some(FaultKind::Final));
    }
}
