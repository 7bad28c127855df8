//! The builder's output is read back as the same request.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use signpost_client::{AccountKey, AccountName, AccountRef, Address, Body, Fee, Request, Wei};
use signpost_txmgr::request::{Code, FeeAsk, Message, SigningRequest};
use signpost_txmgr::units::{ChainId, Gas, Millis, U256};

/// Unix seconds that the service accepts as a deadline: not a duration and not milliseconds.
const DEADLINES: std::ops::RangeInclusive<u64> = 1_000_000_000..=100_000_000_000;

fn read(body: &Body) -> SigningRequest {
    match Message::parse(body.text()).unwrap() {
        Message::Sign(request) => request,
        Message::Cancel(id) => panic!("unexpected cancel of {id}"),
    }
}

fn wei() -> impl Strategy<Value = Wei> {
    any::<[u64; 4]>().prop_map(|limbs| Wei(U256(limbs)))
}

fn account() -> impl Strategy<Value = AccountRef> {
    let address = any::<[u8; 20]>().prop_map(Address);
    prop_oneof![
        "[a-z][a-z0-9_-]{0,30}".prop_map(|name| AccountRef::from(name.parse::<AccountName>().unwrap())),
        address.clone().prop_map(AccountRef::from),
        (1_u64..1_000_000, address)
            .prop_map(|(chain, address)| AccountRef::from(AccountKey { chain_id: ChainId(chain), address })),
    ]
}

fn fee() -> impl Strategy<Value = Fee> {
    prop_oneof![
        wei().prop_map(|gas_price| Fee::Legacy { gas_price }),
        (wei(), wei()).prop_map(|(left, right)| Fee::Dynamic {
            max_fee_per_gas: left.max(right),
            max_priority_fee_per_gas: left.min(right),
        }),
    ]
}

fn metadata() -> impl Strategy<Value = Map<String, Value>> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from)
    ];
    prop::collection::btree_map("[a-z]{1,6} \\PC{0,3}", leaf, 0..4).prop_map(|fields| fields.into_iter().collect())
}

prop_compose! {
    fn asked()(
        id in "[A-Za-z0-9_.-]{1,128}",
        to in prop::option::of(any::<[u8; 20]>().prop_map(Address)),
        account in prop::option::of(account()),
        value in wei(),
        data in prop::collection::vec(any::<u8>(), 1..200),
        gas in any::<u64>(),
        fee in prop::option::of(fee()),
        cap in prop::option::of(wei()),
        deadline in prop::option::of(DEADLINES),
        chain in prop::option::of(1_u64..4_000_000_000),
        metadata in prop::option::of(metadata()),
    ) -> SigningRequest {
        SigningRequest {
            id: id.parse().unwrap(),
            account,
            to,
            value,
            data: data.into(),
            gas: Gas(gas),
            fee: fee.map_or(FeeAsk::Configured, FeeAsk::Fixed),
            max_gas_price: cap,
            deadline: deadline.map(|seconds| Millis(seconds * 1_000)),
            chain_id: chain.map(ChainId),
            metadata: metadata.map(Value::Object),
        }
    }
}

fn built(asked: &SigningRequest) -> Request {
    let id = asked.id.clone();
    let mut request = match asked.to {
        Some(to) => Request::call(id, to, asked.gas.0).data(&asked.data),
        None => Request::creation(id, &asked.data, asked.gas.0),
    };
    request = request.value(asked.value);
    if let Some(account) = &asked.account {
        request = request.account(account.clone());
    }
    if let FeeAsk::Fixed(fee) = asked.fee {
        request = request.fee(fee);
    }
    if let Some(cap) = asked.max_gas_price {
        request = request.max_gas_price(cap);
    }
    if let Some(deadline) = asked.deadline {
        request = request.deadline(deadline.0 / 1_000);
    }
    if let Some(chain) = asked.chain_id {
        request = request.chain_id(chain.0);
    }
    if let Some(Value::Object(metadata)) = &asked.metadata {
        request = request.metadata(metadata.clone());
    }
    request
}

proptest! {
    #[test]
    fn built_request_reads_back_with_the_same_digest(asked in asked(), address in any::<[u8; 20]>()) {
        let body = built(&asked).build().unwrap();
        let account = AccountKey { chain_id: ChainId(97), address: Address(address) };
        prop_assert_eq!(&read(&body), &asked);
        prop_assert_eq!(read(&body).digest(&account), asked.digest(&account));
        prop_assert_eq!(body.id(), Some(asked.id.as_str()));
    }
}

#[test]
fn examples_in_schemas_are_valid_bodies() {
    for name in ["transfer", "token-call", "creation"] {
        let path = format!("{}/../../schemas/examples/signing-request.v1/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let body = Body::parse(text.clone()).unwrap();
        assert_eq!(body.text(), text);
        assert!(body.id().is_some());
    }
}

#[test]
fn invalid_requests_are_refused_before_they_are_sent() {
    let to: Address = format!("0x{:040}", 1).parse().unwrap();
    let request = Request::call("a-1".parse().unwrap(), to, 21_000);
    let with = |field: Value| request.clone().metadata(field.as_object().unwrap().clone()).build();
    assert_eq!(with(json!({ "privateKey": "0xabc" })).unwrap_err().code, Code::SecretField);
    assert_eq!(with(json!({ "note": "x".repeat(3_000) })).unwrap_err().code, Code::MetadataTooLarge);
    let backwards = Fee::Dynamic { max_fee_per_gas: Wei::from(1), max_priority_fee_per_gas: Wei::from(2) };
    assert_eq!(request.fee(backwards).build().unwrap_err().code, Code::FeeConflict);
    let refused = Body::parse(r#"{"requestId":"a-1","nonce":1}"#).unwrap_err();
    assert_eq!(refused.code, Code::NonceNotAllowed);
}

#[test]
fn cancel_is_read_as_a_cancel() {
    let id = "a-1".parse().unwrap();
    assert_eq!(Message::parse(Body::cancel(&id).text()).unwrap(), Message::Cancel(id));
}

#[test]
fn debug_of_a_body_hides_its_text() {
    let body = Body::unchecked(r#"{"requestId":"a-1","data":"0xfeedfeed"}"#);
    assert!(!format!("{body:?}").contains("feed"));
}
