//! Properties of every request.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use signpost_txmgr::policy::{AccountPolicy, PolicyFacts, SenderPattern, accept};
use signpost_txmgr::request::{Code, FeeAsk, Message, SigningRequest};
use signpost_txmgr::tx::{Fee, Intent};
use signpost_txmgr::units::{Address, ChainId, Gas, Millis, U256, Wei};

use crate::accept::{NETWORK, NOW, gwei};
use crate::{TO, account, body, signing};

fn number() -> impl Strategy<Value = U256> {
    prop_oneof![
        any::<u64>().prop_map(U256::from),
        any::<[u64; 4]>().prop_map(U256),
        (0..=256_u32).prop_map(|bits| U256::MAX >> bits),
    ]
}

/// One number in one of its spellings.
fn spelled(number: U256, spelling: usize) -> String {
    match spelling {
        0 => number.to_string(),
        1 => format!("\"{number}\""),
        2 => format!("\"{number:#x}\""),
        3 => format!("\"0x00{}\"", format!("{number:x}").to_uppercase()),
        _ => format!(" {number}\n"),
    }
}

/// The meaning of a request, independent of its spelling.
#[derive(Debug, Clone)]
struct Meaning {
    numbers: Vec<(&'static str, U256)>,
    to: Option<[u8; 20]>,
    data: Vec<u8>,
    metadata: Option<Map<String, Value>>,
}

fn meaning() -> impl Strategy<Value = Meaning> {
    let fees = prop_oneof![
        Just(vec![]),
        number().prop_map(|price| vec![("gasPrice", price)]),
        (number(), number()).prop_map(|(a, b)| vec![("maxFeePerGas", a.max(b)), ("maxPriorityFeePerGas", a.min(b))]),
    ];
    let optional = (
        proptest::option::of(number().prop_map(|wei| ("value", wei))),
        proptest::option::of(number().prop_map(|wei| ("maxGasPrice", wei))),
        proptest::option::of((1_000_000_000..100_000_000_000_u64).prop_map(|s| ("deadline", s.into()))),
    );
    let metadata = proptest::option::of(btree_map("[a-c\"ä\\\\]{0,3}", json_value(), 0..4));
    let to = proptest::option::of(any::<[u8; 20]>());
    (any::<u64>(), fees, optional, to, vec(any::<u8>(), 0..40), metadata).prop_map(
        |(gas, fees, (value, cap, deadline), to, data, metadata)| Meaning {
            numbers: [("gas", U256::from(gas))]
                .into_iter()
                .chain(fees)
                .chain(value)
                .chain(cap)
                .chain(deadline)
                .collect(),
            to,
            data,
            metadata: metadata.map(|fields| fields.into_iter().collect()),
        },
    )
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("[a-z]{1,3}", inner, 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Writes a meaning as JSON: `order` shuffles the fields, `spellings` select the formats of numbers.
fn written(meaning: &Meaning, order: &[u8], spellings: &[usize], account: usize) -> String {
    let key = crate::account();
    let mut fields = vec![format!("\"requestId\": \"r-{}\"", order.len())];
    match account {
        0 => {}
        1 => fields.push("\"account\": \"treasury\"".to_owned()),
        2 => fields.push(format!("\"account\":\"{}\"", key.address)),
        _ => fields.push(format!("\"account\":\"{key}\", \"chainId\": \"0x61\"")),
    }
    fields.push(match meaning.to {
        None => "\"to\":null".to_owned(),
        Some(to) if account == 1 => format!("\"to\": \"{}\"", Address(to).lower()),
        Some(to) => format!("\"\\u0074o\": \"{}\"", Address(to)),
    });
    if !meaning.data.is_empty() || account == 2 {
        fields.push(format!("\"data\": \"0x{}\"", hex::encode(&meaning.data)));
    }
    if let Some(metadata) = &meaning.metadata {
        let mut members: Vec<_> =
            metadata.iter().map(|(name, value)| format!("{}: {value}", Value::from(name.as_str()))).collect();
        if account == 3 {
            members.reverse();
        }
        fields.push(format!("\"metadata\": {{ {} }}", members.join(" , ")));
    }
    for ((name, number), spelling) in meaning.numbers.iter().zip(spellings.iter().cycle()) {
        fields.push(format!("\"{name}\":{}", spelled(*number, *spelling)));
    }
    for (at, from) in order.iter().enumerate() {
        let len = fields.len();
        fields.swap(at % len, usize::from(*from) % len);
    }
    format!("{{{}}}", fields.join(","))
}

fn order() -> impl Strategy<Value = (Vec<u8>, Vec<usize>, usize)> {
    (vec(any::<u8>(), 0..20), vec(0..5_usize, 1..6), 0..4_usize)
}

/// Changes one field of a request.
fn change(request: &mut SigningRequest, which: usize, by: u64) {
    let more = |wei: Wei| Wei(wei.0.overflowing_add(U256::from(by)).0);
    match which {
        0 => request.to = request.to.map_or(Some(Address([7; 20])), |_| None),
        1 => request.value = more(request.value),
        2 => request.data = [&*request.data, &[0]].concat().into(),
        3 => request.gas = Gas(request.gas.0.wrapping_add(by)),
        4 => {
            request.fee = match request.fee {
                FeeAsk::Configured => FeeAsk::Fixed(Fee::Legacy { gas_price: Wei::ZERO }),
                FeeAsk::Fixed(Fee::Legacy { gas_price }) => FeeAsk::Fixed(Fee::Legacy { gas_price: more(gas_price) }),
                FeeAsk::Fixed(Fee::Dynamic { max_fee_per_gas, .. }) if by.is_multiple_of(2) => {
                    FeeAsk::Fixed(Fee::Legacy { gas_price: max_fee_per_gas })
                }
                FeeAsk::Fixed(Fee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas }) => {
                    FeeAsk::Fixed(Fee::Dynamic {
                        max_fee_per_gas,
                        max_priority_fee_per_gas: more(max_priority_fee_per_gas),
                    })
                }
            }
        }
        5 => request.max_gas_price = request.max_gas_price.map_or(Some(Wei::ZERO), |cap| Some(more(cap))),
        6 => request.deadline = request.deadline.map_or(Some(Millis(0)), |at| Some(at.plus(by))),
        _ => {
            let mut metadata = request.metadata.take().unwrap_or(json!({}));
            metadata.as_object_mut().unwrap().insert("changed".to_owned(), by.into());
            request.metadata = Some(metadata);
        }
    }
}

fn policy() -> impl Strategy<Value = AccountPolicy> {
    let limits = (
        proptest::option::of(0..4_u64),
        proptest::option::of(20_000..60_000_u64),
        proptest::option::of(0..6_u64),
        proptest::option::of(0..4_000_u64),
    );
    let lists = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (0..12_u64, proptest::option::of(0..12_u64), limits, lists).prop_map(
        |(
            cap,
            floor,
            (value, max_gas, max_data_bytes, deadline),
            (allow, deny, allow_creation, selectors, senders),
        )| {
            let to: Address = TO.parse().unwrap();
            AccountPolicy {
                min_gas_price: floor.map(gwei),
                allow_to: allow.then(|| [to].into()),
                deny_to: if deny { [to].into() } else { [].into() },
                allow_creation,
                max_gas,
                max_value: value.map(Wei::from),
                max_data_bytes,
                max_deadline_ms: deadline,
                allow_selectors: if selectors { [(to, [[0; 4]].into())].into() } else { [].into() },
                allow_senders: senders.then(|| vec![SenderPattern::Prefix("A".to_owned())]),
                ..AccountPolicy::capped(gwei(cap))
            }
        },
    )
}

proptest! {
    #[test]
    fn arbitrary_text_is_refused_without_a_panic(text in ".{0,200}") {
        let _ = Message::parse(&text);
    }

    #[test]
    fn invalid_json_is_not_a_request(at in 0..200_usize, insert in "[\\[\\]{}\",:0-9eE.+\\-\\\\utrnfals ]{0,4}", cut in 0..6_usize) {
        let good = body(json!({"data": "0x00", "value": 7, "metadata": {"a": [1, null, {"b": "\u{e4}"}]}}));
        let at = (0..=at % good.len()).rev().find(|at| good.is_char_boundary(*at)).unwrap();
        let end = (at + cut..=good.len()).find(|end| good.is_char_boundary(*end)).unwrap_or(good.len());
        let changed = format!("{}{insert}{}", &good[..at], &good[end..]);
        let is_json = serde_json::from_str::<Value>(&changed).is_ok();
        match Message::parse(&changed) {
            Ok(_) => prop_assert!(is_json),
            Err(refused) => prop_assert_eq!(refused.code == Code::NotJson, !is_json, "{}: {}", changed, refused),
        }
    }

    #[test]
    fn arbitrary_json_in_a_field_is_parsed_or_refused_by_name(
        field in prop::sample::select(vec!["requestId", "account", "to", "value", "data", "gas", "gasPrice", "maxGasPrice", "deadline", "chainId", "metadata"]),
        value in json_value(),
    ) {
        if let Err(refused) = Message::parse(&body(json!({ field: value }))) {
            prop_assert!(refused.field.as_deref() == Some(field) || refused.code == Code::SecretField, "{:?}", refused);
        }
    }

    #[test]
    fn equal_meaning_has_one_digest(meaning in meaning(), first in order(), second in order()) {
        let read = |(order, spellings, account): &(Vec<u8>, Vec<usize>, usize)| signing(&written(&meaning, order, spellings, *account));
        prop_assert_eq!(read(&first).digest(&account()), read(&second).digest(&account()));
    }

    #[test]
    fn any_change_has_another_digest(meaning in meaning(), which in 0..8_usize, by in 1..u64::MAX) {
        let request = signing(&written(&meaning, &[], &[0], 0));
        let mut other = request.clone();
        change(&mut other, which, by);
        prop_assert_ne!(request.digest(&account()), other.digest(&account()));
    }

    #[test]
    fn another_account_or_chain_has_another_digest(meaning in meaning(), address in any::<[u8; 20]>(), chain in any::<u64>()) {
        let request = signing(&written(&meaning, &[], &[0], 0));
        let mut other = account();
        other.address = Address(address);
        prop_assert_ne!(request.digest(&account()), request.digest(&other));
        let mut other = account();
        prop_assume!(chain != other.chain_id.0);
        other.chain_id = ChainId(chain);
        prop_assert_ne!(request.digest(&account()), request.digest(&other));
    }

    #[test]
    fn secret_is_never_shown(
        secret in "[A-Za-z0-9]{16,70}",
        name in prop::sample::select(vec!["privateKey", "private_key", "PRIVATEKEY", "mnemonic", "Seed", "secret", "skeys", "my-private-key"]),
        around in prop::sample::select(vec!["metadata", "value", "account", "other", "to"]),
        depth in 0..6_usize,
        broken in any::<bool>(),
    ) {
        let mut value = json!({ name: secret });
        for level in 0..depth {
            value = if level % 2 == 0 { json!([1, value]) } else { json!({ "a": value }) };
        }
        let mut text = body(json!({ around: value }));
        if broken {
            text.push('}');
        }
        let refused = Message::parse(&text).unwrap_err();
        prop_assert_eq!(refused.code, Code::SecretField);
        let shown = format!("{refused} {refused:?}");
        prop_assert!(!shown.contains(&secret));
    }

    #[test]
    fn key_pasted_anywhere_is_never_shown(
        key in "[0-9a-f]{64}",
        prefix in prop::sample::select(vec!["", "0x"]),
        field in prop::sample::select(vec!["account", "to", "data", "gas", "chainId", "deadline", "metadata", "other"]),
    ) {
        let pasted = format!("{prefix}{key}");
        if let Err(refused) = Message::parse(&body(json!({ field: pasted }))) {
            prop_assert!(!refused.message.contains(&key), "{}", refused);
        }
    }

    #[test]
    fn accept_applies_the_policy_and_keeps_the_cap(
        policy in policy(),
        creates in any::<bool>(),
        (value, gas, price, own_cap) in (0..6_u64, 21_000..70_000_u64, 0..14_u64, proptest::option::of(0..14_u64)),
        data in vec(0..2_u8, 0..8),
        deadline_s in proptest::option::of(0..8_u64),
        sender in prop::sample::select(vec![None, Some("A1"), Some("B1")]),
        fixed in any::<bool>(),
    ) {
        let mut changes = json!({"value": value, "gas": gas, "data": format!("0x{}", hex::encode(&data))});
        let fields = changes.as_object_mut().unwrap();
        if creates {
            fields.insert("to".to_owned(), Value::Null);
        }
        if fixed {
            fields.insert("gasPrice".to_owned(), gwei(price).to_string().into());
        }
        own_cap.map(|cap| fields.insert("maxGasPrice".to_owned(), gwei(cap).to_string().into()));
        deadline_s.map(|s| fields.insert("deadline".to_owned(), (NOW.0 / 1_000 + s).into()));
        let request = signing(&body(changes));
        let accepted = accept(&request, &account(), &policy, &NETWORK, Some(gwei(price)), sender, NOW);
        let intent = Intent {
            chain_id: account().chain_id, to: request.to, value: request.value, data: request.data.clone(), gas: request.gas,
        };
        let fee = accepted.as_ref().map_or(Fee::Legacy { gas_price: gwei(price) }, |accepted| accepted.fee);
        let fee_cap = own_cap.map_or(policy.max_gas_price, |cap| gwei(cap).min(policy.max_gas_price));
        let facts = PolicyFacts { intent: &intent, fee, fee_cap, sender, deadline: request.deadline, now: NOW };
        let judged = policy.check(&facts);
        if fixed && judged.is_err() {
            prop_assert!(accepted.is_err());
        }
        if let Ok(accepted) = accepted {
            prop_assert_eq!(judged, Ok(()));
            prop_assert!(accepted.fee.price() <= accepted.fee_cap && accepted.fee_cap <= policy.max_gas_price);
            prop_assert!(request.max_gas_price.is_none_or(|own| accepted.fee_cap <= own));
            prop_assert!(accepted.intent == intent);
        }
    }
}
