//! Items of the two tables, in DynamoDB's JSON. Everyone with write access to the tables controls them.
#![no_main]

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_types::base64;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use signpost_aws::item::{self, Item, head};
use signpost_txmgr::record::Stored;
use signpost_txmgr::text;
use signpost_txmgr::wire::{OutcomeMessage, RequestStatus};

fn item(value: &Value) -> Option<Item> {
    value.as_object()?.iter().map(|(name, value)| Some((name.clone(), attribute(value)?))).collect()
}

fn attribute(value: &Value) -> Option<AttributeValue> {
    let (kind, inner) = value.as_object()?.iter().next()?;
    Some(match kind.as_str() {
        "S" => AttributeValue::S(inner.as_str()?.to_owned()),
        "N" => AttributeValue::N(inner.as_str()?.to_owned()),
        "BOOL" => AttributeValue::Bool(inner.as_bool()?),
        "B" => AttributeValue::B(Blob::new(base64::decode(inner.as_str()?).ok()?)),
        "L" => AttributeValue::L(inner.as_array()?.iter().map(attribute).collect::<Option<_>>()?),
        "M" => AttributeValue::M(item(inner)?),
        _ => return None,
    })
}

fuzz_target!(|json: &[u8]| {
    let Some(item) = serde_json::from_slice(json).ok().as_ref().and_then(item) else { return };
    let _ = (head::decode_head(&item), head::decode_slot(&item), head::decode_name(&item));
    let Ok(stored) = item::decode(&item) else { return };
    // A decoded item survives encoding and decoding.
    assert_eq!(item::decode(&item::encode(&stored)).as_ref(), Ok(&stored));
    let status = text::json(&RequestStatus::of(&stored)).expect("a status is JSON");
    assert!(status.chars().all(text::is_plain));
    let outcome = match &stored {
        Stored::Record(record) => OutcomeMessage::of_record(record),
        Stored::Rejected(rejected) => Some(OutcomeMessage::of_rejected(rejected)),
    };
    if let Some(outcome) = outcome {
        assert_eq!(text::unsendable(&text::json(&outcome).expect("an outcome is JSON")), None);
    }
});
