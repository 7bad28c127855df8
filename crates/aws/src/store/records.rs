//! Requests: batch reads, the write of a rejection, and the conditional write that makes every change of a record.

use std::collections::{HashMap, HashSet};

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, ReturnValuesOnConditionCheckFailure};
use futures_util::stream::{self, StreamExt as _};
use signpost_txmgr::ports::{Happened, PortError, RejectVerdict, UpdateVerdict};
use signpost_txmgr::record::{Record, Rejected, Stored, Vacancy};
use signpost_txmgr::units::{Millis, RequestId};

use super::{DynamoStore, names, read};
use crate::fault::AwsError;
use crate::item::{self, Item, MUTABLE, encode_rejected, n, s, seconds};
use crate::repeat::repeat;

/// Maximum number of keys per `BatchGetItem`.
const GET_KEYS_MAX: usize = 100;
/// Concurrent calls of `BatchGetItem`: 10,000 heads are 100 calls, which would take seconds one after the other.
const GETS_AT_ONCE: usize = 8;
const GET: &str = "BatchGetItem";

/// The condition that a request id is free: no item is stored, or an expired one that DynamoDB has not deleted yet.
const FREE: &str = "attribute_not_exists(#requestId) OR #expiresAt <= :now";

/// The condition that an id has the vacancy that a write expects, with its attribute names and values.
pub(super) struct Expects {
    pub(super) condition: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
}

impl Expects {
    /// The condition at this time.
    pub(super) fn new(vacancy: &Vacancy, now: Millis) -> Self {
        let mut values = HashMap::from([(":now".to_owned(), seconds(now))]);
        let (condition, named): (_, &[&str]) = match vacancy {
            Vacancy::Free => (FREE.to_owned(), &["requestId", "expiresAt"]),
            Vacancy::Rejected(message_id) => {
                values.insert(":rejected".to_owned(), s("rejected"));
                let of_it = match message_id {
                    Some(message_id) => {
                        values.insert(":messageId".to_owned(), s(message_id));
                        "#messageId = :messageId"
                    }
                    None => "attribute_not_exists(#messageId)",
                };
                let condition = format!("{FREE} OR (#status = :rejected AND {of_it})");
                (condition, &["requestId", "expiresAt", "status", "messageId"])
            }
        };
        Self { condition, names: names(named), values }
    }
}

/// See [`signpost_txmgr::ports::Store::load`].
pub(super) async fn load(store: &DynamoStore, ids: &[RequestId], now: Millis) -> Result<Vec<Stored>, PortError> {
    let mut seen = HashSet::new();
    let keys = ids.iter().filter(|id| seen.insert(*id)).map(|id| item::item([("requestId", s(id))])).collect();
    let items = store.get_all(&store.tables.requests, keys).await?;
    let current = items.iter().filter(|found| item::expiry(found).is_none_or(|at| at > now));
    current.map(|found| read(GET, found, item::decode)).collect()
}

/// See [`signpost_txmgr::ports::Store::reject`].
pub(super) async fn reject(
    store: &DynamoStore,
    rejected: &Rejected,
    over: &Vacancy,
) -> Result<RejectVerdict, PortError> {
    const OPERATION: &str = "PutItem";
    let Expects { condition, names, values } = Expects::new(over, rejected.created_at);
    let request = store
        .client
        .put_item()
        .table_name(&store.tables.requests)
        .set_item(Some(encode_rejected(rejected)))
        .condition_expression(condition)
        .set_expression_attribute_names(Some(names))
        .set_expression_attribute_values(Some(values));
    match repeat(&store.backoff, OPERATION, || request.clone().send()).await {
        Ok(_) => Ok(RejectVerdict::Stored),
        Err(failure) => match failure.service() {
            Some(PutItemError::ConditionalCheckFailedException(_)) => Ok(RejectVerdict::Occupied),
            Some(_) | None => Err(failure.into_port(OPERATION)),
        },
    }
}

/// See [`signpost_txmgr::ports::Store::update`]. Sends the mutable attributes, never the calldata. The condition
/// uses no attribute that was fixed at acceptance, except `createdAt`: the write needs no permission for them.
/// `createdAt` distinguishes a request from a later one with the same id.
pub(super) async fn update(store: &DynamoStore, record: &Record) -> Result<UpdateVerdict, PortError> {
    const OPERATION: &str = "UpdateItem";
    let before = record.version.checked_sub(1).expect("apply increments the version before every write");
    let changing = item::encode_mutable(record);
    let (expression, values) = assignments(&changing);
    let mut placeholders = names(&MUTABLE);
    placeholders.extend(names(&["createdAt"]));
    let request = store
        .client
        .update_item()
        .table_name(&store.tables.requests)
        .key("requestId", s(&record.request_id))
        .update_expression(expression)
        .condition_expression("#version = :before AND #createdAt = :createdAt")
        .set_expression_attribute_names(Some(placeholders))
        .set_expression_attribute_values(Some(values))
        .expression_attribute_values(":before", n(before))
        .expression_attribute_values(":createdAt", n(record.created_at.0))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let Err(failure) = repeat(&store.backoff, OPERATION, || request.clone().send()).await else {
        return Ok(UpdateVerdict::Stored);
    };
    let Some(UpdateItemError::ConditionalCheckFailedException(refused)) = failure.service() else {
        return Err(failure.into_port(OPERATION));
    };
    let Some(stored) = refused.item() else {
        return Ok(UpdateVerdict::Gone);
    };
    let Some(found) = read(OPERATION, stored, item::decode_record)? else {
        return Ok(UpdateVerdict::Gone);
    };
    if found.digest != record.digest || found.nonce != record.nonce {
        // The id was given to another request after this one expired.
        return Ok(UpdateVerdict::Gone);
    }
    // If the stored item equals ours, it is our own write, whose reply was lost.
    let ours = MUTABLE.iter().all(|name| stored.get(*name) == changing.get(*name));
    Ok(if ours { UpdateVerdict::Stored } else { UpdateVerdict::Stale(found) })
}

impl DynamoStore {
    /// Reads the existing items with these keys.
    ///
    /// An answer holds at most 16 MB, and a throttled table returns only a part: the rest
    /// is requested again. Only rounds without any result count as tries.
    pub(super) async fn get_all(&self, table: &str, keys: Vec<Item>) -> Result<Vec<Item>, PortError> {
        let chunks: Vec<Vec<Item>> = keys.chunks(GET_KEYS_MAX).map(<[Item]>::to_vec).collect();
        let reads = chunks.into_iter().map(|chunk| self.get_chunk(table, chunk));
        let mut reads = stream::iter(reads).buffered(GETS_AT_ONCE);
        let mut found = Vec::with_capacity(keys.len());
        while let Some(chunk) = reads.next().await {
            found.extend(chunk?);
        }
        Ok(found)
    }

    async fn get_chunk(&self, table: &str, mut left: Vec<Item>) -> Result<Vec<Item>, PortError> {
        let mut found = Vec::with_capacity(left.len());
        let mut fruitless = 0;
        while !left.is_empty() {
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(left.clone()))
                .consistent_read(true)
                .build()
                .expect("keys are set");
            let request = self.client.batch_get_item().request_items(table, wanted);
            let answer = repeat(&self.backoff, GET, || request.clone().send())
                .await
                .map_err(|failure| failure.into_port(GET))?;
            let before = found.len();
            found.extend(answer.responses.and_then(|mut tables| tables.remove(table)).unwrap_or_default());
            left = answer
                .unprocessed_keys
                .and_then(|mut tables| tables.remove(table))
                .map_or_else(Vec::new, |rest| rest.keys);
            if found.len() > before {
                fruitless = 0;
            } else if !left.is_empty() {
                fruitless = u32::saturating_add(fruitless, 1);
                if !self.backoff.pause(fruitless).await {
                    return Err(PortError {
                        operation: GET,
                        happened: Happened::No,
                        throttled: true,
                        source: Box::new(AwsError::Unprocessed(left.len())),
                    });
                }
            }
        }
        Ok(found)
    }
}

/// `SET` for the attributes that a record has, `REMOVE` for the others.
fn assignments(changing: &Item) -> (String, HashMap<String, AttributeValue>) {
    let (set, remove): (Vec<&str>, Vec<&str>) = MUTABLE.iter().partition(|name| changing.contains_key(**name));
    let set: Vec<String> = set.iter().map(|name| format!("#{name} = :{name}")).collect();
    let remove: Vec<String> = remove.iter().map(|name| format!("#{name}")).collect();
    let values = changing.iter().map(|(name, value)| (format!(":{name}"), value.clone())).collect();
    let mut expression = format!("SET {}", set.join(", "));
    if !remove.is_empty() {
        expression.push_str(" REMOVE ");
        expression.push_str(&remove.join(", "));
    }
    (expression, values)
}
