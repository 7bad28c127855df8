//! The stored shape: records, rejections, heads and slots as DynamoDB items.
//!
//! Other programs read the requests table, so its attributes have the names of
//! [`signpost_txmgr::wire::RequestStatus`]. Internal attributes (`cancel`, `trace`, `succeeded`, the
//! attempts' `signature`) are stored beside them. Amounts of wei are decimal strings; times are Unix milliseconds,
//! except `deadline` and `expiresAt`, which are whole Unix seconds.
//!
//! Defines shapes and decides nothing. Every item has an `itemVersion`; every version ever stored stays readable
//! (goldens in `tests/vectors/items`). Reading makes the cheap checks: the newest attempt's
//! bytes are rebuilt and must have the stored hash.
//!
//! Read in this order: [`encode`](encode_record), [`decode`], [`head`]. Then [`crate::store`].

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

mod attempt;
pub mod head;
mod inquiry;
mod reader;
mod record;
mod rejected;

pub use reader::{ItemError, Problem};
pub(crate) use record::encode_mutable;
pub use record::{MUTABLE, encode_record};
pub use rejected::encode_rejected;

use reader::Reader;
use signpost_txmgr::record::{Record, Stored};
use signpost_txmgr::units::{Millis, RequestId};

/// The version of the stored shape that is written.
pub const VERSION: u64 = 1;

/// An item in the SDK's form.
pub type Item = HashMap<String, AttributeValue>;

/// Encodes an entry of the requests table.
#[must_use]
pub fn encode(stored: &Stored) -> Item {
    match stored {
        Stored::Record(record) => encode_record(record),
        Stored::Rejected(rejected) => encode_rejected(rejected),
    }
}

/// Reads an item of the requests table.
pub fn decode(item: &Item) -> Result<Stored, ItemError> {
    let reader = Reader::new(item);
    reader.version()?;
    match reader.text("status")? {
        "rejected" => rejected::decode(&reader).map(Stored::Rejected),
        _ => record::decode(&reader).map(|record| Stored::Record(Box::new(record))),
    }
}

/// Reads an item that must be a record: `None` if it is a rejection.
pub fn decode_record(item: &Item) -> Result<Option<Box<Record>>, ItemError> {
    decode(item).map(|stored| match stored {
        Stored::Record(record) => Some(record),
        Stored::Rejected(_) => None,
    })
}

/// The id and the time of a key of the index `byAccount`.
pub(crate) fn decode_index_key(key: &Item) -> Result<(RequestId, Millis), ItemError> {
    let reader = Reader::new(key);
    Ok((reader.parsed("requestId")?, reader.millis("createdAt")?))
}

/// The expiry of an item, read without decoding the rest.
pub(crate) fn expiry(item: &Item) -> Option<Millis> {
    Reader::new(item).seconds_if("expiresAt").ok().flatten()
}

/// A text attribute.
#[expect(clippy::needless_pass_by_value, reason = "takes values and references, and is passed to `Option::map`")]
pub(crate) fn s(text: impl ToString) -> AttributeValue {
    AttributeValue::S(text.to_string())
}

/// JSON as a text attribute.
pub(crate) fn json(value: &serde_json::Value) -> AttributeValue {
    s(signpost_txmgr::text::json(value).expect("a JSON value can be written"))
}

/// A number attribute.
pub(crate) fn n(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Whole Unix seconds, as DynamoDB's TTL requires.
pub(crate) fn seconds(at: Millis) -> AttributeValue {
    n(at.0 / 1_000)
}

/// A map attribute.
pub(crate) fn map<const N: usize>(entries: [(&str, AttributeValue); N]) -> AttributeValue {
    AttributeValue::M(item(entries))
}

/// An item with these attributes.
pub(crate) fn item<const N: usize>(entries: [(&str, AttributeValue); N]) -> Item {
    entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Sets an attribute if there is a value.
pub(crate) fn set(item: &mut Item, name: &str, value: Option<AttributeValue>) {
    if let Some(value) = value {
        item.insert(name.to_owned(), value);
    }
}
