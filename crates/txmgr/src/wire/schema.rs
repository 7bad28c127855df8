//! The JSON Schemas (draft 2020-12) of what travels and is read: the files in `schemas/`.
//!
//! The status and the outcome are generated from the types they are written with. The signing
//! request has a hand-written parser with better errors than a derive gives; the type here names the
//! same fields, and a test holds both against the same examples.

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::Value;

use super::evidence::Evidence;
use super::{OutcomeMessage, RequestStatus};

/// A JSON integer, a decimal string or a 0x-hex string. Integers above 2^53 are exact here, but many
/// JSON writers round them: prefer strings for wei.
#[derive(Debug)]
pub struct Quantity;

impl JsonSchema for Quantity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A JSON integer, a decimal string or a 0x-hex string, at most 2^256 - 1. Prefer strings for wei: many JSON writers round integers above 2^53.",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^([0-9]{1,78}|0x[0-9a-fA-F]{1,64})$" }
            ]
        })
    }
}

/// `0x` + 40 hex digits; mixed case must carry an EIP-55 checksum. Explicit null creates a contract.
#[derive(Debug)]
pub struct Recipient;

impl JsonSchema for Recipient {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Recipient".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "0x + 40 hex digits; mixed case must carry an EIP-55 checksum. Explicit null creates a contract, if policy allows it.",
            "anyOf": [{ "type": "string", "pattern": "^0x[0-9a-fA-F]{40}$" }, { "type": "null" }]
        })
    }
}

/// A request to sign and send one transaction: the body of a message on the signing queue.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, title = "signing-request.v1")]
pub struct SigningRequestV1 {
    /// Your name for the request and its idempotency key: 1 to 128 of `A-Z a-z 0-9 - _ . :`, not starting with
    /// `sqs:`. The same id with the same contents is answered by the first request; with other contents it is
    /// refused.
    #[schemars(regex(pattern = "^[A-Za-z0-9_.:-]{1,128}$"))]
    pub request_id: String,
    /// The account that signs: its name, its key `97:0x…`, its address, or `pool:NAME` for one of a pool's
    /// accounts. May be left out when one account is registered.
    #[schemars(length(min = 1))]
    pub account: Option<String>,
    /// Recipient or contract. Explicit `null` creates a contract, if policy allows it.
    pub to: Recipient,
    /// Wei to transfer; 0 when left out.
    pub value: Option<Quantity>,
    /// Calldata, or init code of at most 49,152 bytes (EIP-3860), as 0x-hex; empty when left out. The whole
    /// transaction has at most 131,072 bytes, a limit of the nodes' pools.
    #[schemars(regex(pattern = "^0x([0-9a-fA-F]{2})*$"))]
    pub data: Option<String>,
    /// Gas limit: at least the intrinsic gas (EIP-2028, EIP-3860) and the calldata floor (EIP-7623), at most
    /// 16,777,216 (EIP-7825).
    pub gas: Quantity,
    /// Wei per gas, type 0 (EIP-155). When the request names no fee, it is the account's configured price, or else
    /// the network's.
    pub gas_price: Option<Quantity>,
    /// Wei per gas, type 2 (EIP-1559). Together with `maxPriorityFeePerGas`, never with `gasPrice`.
    pub max_fee_per_gas: Option<Quantity>,
    /// Wei per gas, type 2 (EIP-1559), at most `maxFeePerGas`. Together with `maxFeePerGas`.
    pub max_priority_fee_per_gas: Option<Quantity>,
    /// Wei per gas: no executing attempt is priced above it. Policy may set a lower cap.
    pub max_gas_price: Option<Quantity>,
    /// Unix seconds, from 1,000,000,000 to 100,000,000,000. The request is cancelled unless it is mined by then.
    pub deadline: Option<Quantity>,
    /// EIP-155 chain id; refused unless it is the account's chain.
    pub chain_id: Option<Quantity>,
    /// A JSON object of at most 2,048 bytes, written compactly. It is echoed in the outcome.
    pub metadata: Option<serde_json::Map<String, Value>>,
}

/// A request to cancel a signing request sent before: the body of a message on the signing queue, from the same
/// sender.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, title = "cancel-request.v1")]
pub struct CancelRequestV1 {
    /// The `requestId` of the request to cancel. The message has no other field.
    #[schemars(regex(pattern = "^[A-Za-z0-9_.:-]{1,128}$"))]
    pub cancel: String,
}

/// The published schemas by file name in `schemas/`.
#[must_use]
pub fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("signing-request.v1.json", schema_of::<SigningRequestV1>(true)),
        ("cancel-request.v1.json", schema_of::<CancelRequestV1>(true)),
        ("request-status.v1.json", schema_of::<RequestStatus>(false)),
        ("outcome.v1.json", schema_of::<OutcomeMessage>(false)),
        ("evidence.v1.json", schema_of::<Evidence>(false)),
    ]
}

fn schema_of<T: JsonSchema>(input: bool) -> Value {
    let settings = SchemaSettings::draft2020_12();
    let settings = if input { settings.for_deserialize() } else { settings.for_serialize() };
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    // An optional field is left out, never null: `to` alone takes null.
    drop_null_types(&mut schema);
    schema
}

fn drop_null_types(schema: &mut Value) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for property in properties.values_mut() {
        let Some(property) = property.as_object_mut() else { continue };
        if let Some(types) = property.get_mut("type").and_then(Value::as_array_mut) {
            types.retain(|kind| kind != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                property.insert("type".to_owned(), only);
            }
        }
        if let Some(any) = property.get_mut("anyOf").and_then(Value::as_array_mut) {
            any.retain(|kind| kind.get("type").is_none_or(|kind| kind != "null"));
            if let [only] = any.as_slice() {
                let only = only.as_object().cloned().unwrap_or_default();
                property.remove("anyOf");
                property.extend(only);
            }
        }
    }
}
