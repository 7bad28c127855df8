//! Requests from outside: what is parsed, what is refused with which message, and what the digest
//! distinguishes. The tables are in `tests/vectors/requests`.
//!
//! `digests.json` was computed independently of this code, from the encoding that `src/request/digest.rs` describes. A
//! changed digest breaks every stored request.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test may fail by a panic"
)]

mod accept;
mod policy;
mod properties;

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use signpost_txmgr::request::{
    AccountRef, Code, FeeAsk, MAX_BODY_BYTES, MAX_METADATA_BYTES, Message, Refused, SigningRequest,
};
use signpost_txmgr::tx::Fee;
use signpost_txmgr::units::{AccountKey, Address, ChainId, Gas, Millis, U256, Wei};

const TO: &str = "0x55d398326f99059ff775485246999027b3197955";
const ACCOUNT: &str = "97:0x9858effd232b4033e47d90003d41ec34ecaeda94";

fn account() -> AccountKey {
    ACCOUNT.parse().unwrap()
}

/// A minimal request with these changes.
fn body(changes: Value) -> String {
    let mut body = json!({"requestId": "r-1", "to": TO, "gas": 21_000});
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    body.as_object_mut().unwrap().extend(changes);
    body.to_string()
}

fn signing(body: &str) -> SigningRequest {
    match Message::parse(body).unwrap() {
        Message::Sign(request) => request,
        Message::Cancel(id) => panic!("a cancel of {id}"),
    }
}

fn refused(body: &str) -> Refused {
    Message::parse(body).expect_err(body)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bad {
    claim: String,
    raw: Option<String>,
    #[serde(default)]
    with: Map<String, Value>,
    #[serde(default)]
    without: Vec<String>,
    code: String,
    field: Option<String>,
    says: Option<String>,
    never: Option<String>,
    /// The request id of the refusal. By default that of [`body`], or none for a raw body.
    #[serde(default)]
    request_id: ExpectedId,
}

#[derive(Default)]
enum ExpectedId {
    #[default]
    Default,
    This(Option<String>),
}

impl<'de> Deserialize<'de> for ExpectedId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(Self::This)
    }
}

#[test]
fn bad_requests_are_refused_with_their_code() {
    let table: Vec<Bad> = serde_json::from_str(include_str!("../vectors/requests/bad.json")).unwrap();
    for bad in table {
        let claim = &bad.claim;
        let whole = bad.raw.is_some();
        let body = bad.raw.unwrap_or_else(|| {
            let mut body: Value = serde_json::from_str(&body(json!({}))).unwrap();
            let fields = body.as_object_mut().unwrap();
            fields.extend(bad.with);
            bad.without.iter().for_each(|name| drop(fields.remove(name)));
            body.to_string()
        });
        let refused = Message::parse(&body).expect_err(claim);
        let shown = format!("{refused} {refused:?}");
        assert_eq!(refused.code.as_str(), bad.code, "{claim}: {shown}");
        if let Some(field) = bad.field {
            assert_eq!(refused.field.as_ref(), Some(&field), "{claim}: {shown}");
        }
        let expected = match bad.request_id {
            ExpectedId::Default if whole => None,
            ExpectedId::Default => Some("r-1".to_owned()),
            ExpectedId::This(id) => id,
        };
        assert_eq!(refused.request_id.as_ref().map(ToString::to_string), expected, "{claim}: {shown}");
        if let Some(says) = bad.says {
            assert!(refused.message.contains(&says), "{claim}: {shown}");
        }
        for never in bad.never.iter().map(String::as_str).chain(["hunter2"]) {
            assert!(!shown.contains(never), "{claim}: {shown}");
        }
        assert!(refused.message.len() < 320, "{claim}: {shown}");
    }
}

#[test]
fn every_field_is_parsed() {
    let request = signing(
        r#"{"requestId": "order:7/1", "account": "treasury", "to": null, "value": "0x10", "data": "0x6000",
            "gas": "100000", "maxFeePerGas": 2, "maxPriorityFeePerGas": "1", "maxGasPrice": "0x3",
            "deadline": "1790000000", "chainId": 97, "metadata": {"note": "ä"}}"#
            .replace('/', ".")
            .as_str(),
    );
    assert_eq!(request.id.as_str(), "order:7.1");
    assert_eq!(request.account, Some(AccountRef::Name("treasury".parse().unwrap())));
    assert_eq!(request.to, None);
    assert_eq!(request.value, Wei::from(16));
    assert_eq!(&*request.data, &[0x60, 0]);
    assert_eq!(request.gas, Gas(100_000));
    assert_eq!(
        request.fee,
        FeeAsk::Fixed(Fee::Dynamic { max_fee_per_gas: Wei::from(2), max_priority_fee_per_gas: Wei::from(1) })
    );
    assert_eq!(request.max_gas_price, Some(Wei::from(3)));
    assert_eq!(request.deadline, Some(Millis(1_790_000_000_000)));
    assert_eq!(request.chain_id, Some(ChainId(97)));
    assert_eq!(request.metadata, Some(json!({"note": "ä"})));
}

#[test]
fn omitted_fields_have_their_defaults() {
    let request = signing(&body(json!({})));
    assert_eq!(request.account, None);
    assert_eq!(request.value, Wei::ZERO);
    assert!(request.data.is_empty());
    assert_eq!(request.fee, FeeAsk::Configured);
    assert_eq!(request.max_gas_price, None);
    assert_eq!(request.deadline, None);
    assert_eq!(request.chain_id, None);
    assert_eq!(request.metadata, None);
}

#[test]
fn account_is_named_by_name_key_address_or_pool() {
    let named = |text: &str| signing(&body(json!({ "account": text }))).account.unwrap();
    let address: Address = account().address;
    assert_eq!(named(ACCOUNT), AccountRef::Key(account()));
    assert_eq!(named(&address.to_string()), AccountRef::Address(address));
    assert_eq!(named(&address.lower()), AccountRef::Address(address));
    assert_eq!(named("0.x"), AccountRef::Name("0.x".parse().unwrap()));
    assert_eq!(named("pool:0.x"), AccountRef::Pool("0.x".parse().unwrap()));
    let refused = Message::parse(&body(json!({ "account": "pool:" }))).unwrap_err();
    assert_eq!((refused.code, refused.field.as_deref()), (Code::BadAccount, Some("account")));
}

#[test]
fn integer_has_three_spellings_up_to_256_bits() {
    let greatest = U256::MAX.to_string();
    let spellings = [greatest.clone(), format!("\"{greatest}\""), format!("\"0x{}\"", "f".repeat(64))];
    for spelling in spellings {
        let text = body(json!({"value": "VALUE"})).replace("\"VALUE\"", &spelling);
        assert_eq!(signing(&text).value, Wei(U256::MAX), "{spelling}");
    }
    let just_above_64_bits = body(json!({"value": "VALUE"})).replace("\"VALUE\"", "18446744073709551617");
    let expected = U256::from(u64::MAX) + U256::from(2_u64);
    assert_eq!(signing(&just_above_64_bits).value, Wei(expected));
}

#[test]
fn cancel_names_a_request() {
    assert_eq!(Message::parse(r#"{"cancel": "r-1"}"#).unwrap(), Message::Cancel("r-1".parse().unwrap()));
}

#[test]
fn refused_cancel_does_not_use_the_named_id() {
    assert_eq!(refused(r#"{"cancel": "r-1", "why": "late"}"#).request_id, None);
}

#[test]
fn metadata_is_measured_compactly_and_echoed_by_a_refusal() {
    let fits = MAX_METADATA_BYTES - r#"{"a":""}"#.len();
    let metadata = json!({"a": "x".repeat(fits)});
    let text = body(json!({ "metadata": metadata })).replace(':', " :\n\t");
    assert_eq!(signing(&text).metadata, Some(metadata.clone()));
    let other_fault = refused(&body(json!({"metadata": metadata, "gas": "x"})));
    assert_eq!(other_fault.metadata.as_deref(), Some(&metadata));
    let too_large = refused(&body(json!({"metadata": {"a": "x".repeat(fits + 1)}})));
    assert_eq!(too_large.code, Code::MetadataTooLarge);
    assert_eq!(too_large.metadata, None);
}

#[test]
fn metadata_with_a_secret_is_not_echoed() {
    let text = body(json!({"metadata": {"note": "x", "deep": [{"Seed": "hunter2"}]}}));
    assert_eq!(refused(&text).metadata, None);
}

#[test]
fn all_secret_fields_of_a_body_are_named_in_order() {
    let several =
        refused(&body(json!({"seed": 1, "metadata": [{"private_key": 2, "PrivateKey": 3, "walletMnemonic": 4}]})));
    assert_eq!(several.field.as_deref(), Some("mnemonic"));
    let expected = "the message has fields named like `mnemonic`, `privatekey`, `seed`; never send keys or phrases, \
                    treat these as disclosed";
    assert_eq!(several.message, expected);
    let one = refused(&body(json!({"private_key": 1, "metadata": {"privateKey": 2}})));
    let expected =
        "the message has a field named like `privatekey`; never send keys or phrases, treat this one as disclosed";
    assert_eq!(one.message, expected);
}

#[test]
fn body_beyond_the_queue_limit_is_not_parsed() {
    let text = body(json!({"data": format!("0x{}", "0".repeat(MAX_BODY_BYTES))}));
    assert_eq!(refused(&text).code, Code::TooLarge);
}

#[test]
fn deep_nesting_is_refused_at_every_depth() {
    for depth in [20, 127, 128, 129, 100_000] {
        let metadata = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let text = body(json!({"metadata": "META"})).replace("\"META\"", &metadata);
        let refused = refused(&text);
        assert!(matches!(refused.code, Code::TooDeep | Code::NotJson), "{refused:?}");
    }
}

#[test]
fn debug_output_has_no_calldata() {
    let request = signing(&body(json!({"data": "0xdeadbeefcafe", "gas": 60_000})));
    let shown = format!("{request:?}");
    assert!(shown.contains("6 bytes") && !shown.contains("222, 173"), "{shown}");
}

#[test]
fn codes_are_camel_case_and_distinct() {
    let texts: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(texts.len(), Code::ALL.len());
    for code in Code::ALL {
        let debug = format!("{code:?}");
        let (first, rest) = debug.split_at(1);
        assert_eq!(code.as_str(), format!("{}{rest}", first.to_lowercase()));
        assert_eq!(code.as_str().parse(), Ok(*code));
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownDigest {
    claim: String,
    account: String,
    bodies: Vec<String>,
    digest: String,
}

#[test]
fn digests_match_the_golden_values() {
    let table: Vec<KnownDigest> = serde_json::from_str(include_str!("../vectors/requests/digests.json")).unwrap();
    for known in table {
        let account: AccountKey = known.account.parse().unwrap();
        for body in known.bodies {
            let digest = signing(&body).digest(&account).to_string();
            assert_eq!(digest, known.digest, "{}: {body}", known.claim);
        }
    }
}
