//! DynamoDB's JSON for items, `{"name": {"S": "text"}}`: the format of the goldens.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_types::base64;
use serde_json::{Map, Value, json};
use signpost_aws::item::Item;

pub(crate) fn print(item: &Item) -> String {
    format!("{:#}\n", Value::Object(map(item)))
}

pub(crate) fn parse(text: &str) -> Item {
    item(&serde_json::from_str(text).unwrap())
}

/// Sorted by name, even if JSON objects keep their insertion order.
fn map(item: &Item) -> Map<String, Value> {
    item.iter().collect::<BTreeMap<_, _>>().into_iter().map(|(name, value)| (name.clone(), shown(value))).collect()
}

fn shown(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(digits) => json!({ "N": digits }),
        AttributeValue::Bool(flag) => json!({ "BOOL": flag }),
        AttributeValue::B(bytes) => json!({ "B": base64::encode(bytes) }),
        AttributeValue::L(list) => json!({ "L": list.iter().map(shown).collect::<Vec<_>>() }),
        AttributeValue::M(item) => json!({ "M": map(item) }),
        other => panic!("we never store {other:?}"),
    }
}

fn item(value: &Value) -> Item {
    value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), read(value))).collect()
}

fn read(value: &Value) -> AttributeValue {
    let (kind, inner) = value.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "S" => AttributeValue::S(inner.as_str().unwrap().to_owned()),
        "N" => AttributeValue::N(inner.as_str().unwrap().to_owned()),
        "BOOL" => AttributeValue::Bool(inner.as_bool().unwrap()),
        "B" => AttributeValue::B(Blob::new(base64::decode(inner.as_str().unwrap()).unwrap())),
        "L" => AttributeValue::L(inner.as_array().unwrap().iter().map(read).collect()),
        "M" => AttributeValue::M(item(inner)),
        other => panic!("we never store {other}"),
    }
}
