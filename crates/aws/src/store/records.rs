//! Requests: reading many, writing a rejection, and the conditional write every change of a record is.

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

/// Keys of one `BatchGetItem`.
const GET_KEYS_MAX: usize = 100;
/// Calls of `BatchGetItem` at once: 10,000 heads are 100 calls, which one after the other take seconds.
const GETS_AT_ONCE: usize = 8;
const GET: &str = "BatchGetItem";

/// When a request id is free: nothing is stored, or an item that is past its time and only waits for DynamoDB to
/// delete it.
const FREE: &str = "attribute_not_exists(#requestId) OR #expiresAt <= :now";

/// The condition that an id is as a write expects, with the attributes it names and the values it has.
pub(super) struct Expects {
    pub(super) condition: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
}

impl Expects {
    /// At this time.
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

/// See [`signpost_txmgr::ports::Store::update`]. Sends what can change, never the calldata. The condition names
/// nothing that was fixed at the acceptance: whoever may make this write needs no right to those attributes.
/// `createdAt` tells a request from a later one that took its id.
pub(super) async fn update(store: &DynamoStore, record: &Record) -> Result<UpdateVerdict, PortError> {
    const OPERATION: &str = "UpdateItem";
    let before = record.version.checked_sub(1).expect("apply counts the version up before every write");
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
        // The id was given to another request after this one's time was over.
        return Ok(UpdateVerdict::Gone);
    }
    // Our own write, whose reply was lost.
    let ours = MUTABLE.iter().all(|name| stored.get(*name) == changing.get(*name));
    Ok(if ours { UpdateVerdict::Stored } else { UpdateVerdict::Stale(found) })
}

impl DynamoStore {
    /// Reads the items under these keys, those that exist.
    ///
    /// An answer holds at most 16 MB, and a throttled table gives part of what was asked for: the rest
    /// is asked for again. Only rounds that bring nothing count as tries.
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

/// `SET` for the attributes a record has now, `REMOVE` for those it has not.
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
