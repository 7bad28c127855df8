//! Properties of every payload: the parser never panics, and the signed transaction is the requested one, as
//! a second implementation reads it.

use alloy_consensus::transaction::SignerRecoverable as _;
use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::eip2718::{Decodable2718 as _, Encodable2718 as _};
use alloy_primitives::{Address, TxKind, U256, hex};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};
use signpost_signer::direct::SignDirect;
use signpost_txmgr::request::Direct;
use signpost_txmgr::units::ChainId;

use crate::handler::{Signs, TestKeys, answer, function};

const POLICY: &str =
    "[default]\nallow_creation = true\nmax_gas_price_wei = \"340282366920938463463374607431768211455\"";

/// A valid request, and how its numbers are written.
#[derive(Debug, Clone)]
struct Asked {
    to: Option<[u8; 20]>,
    nonce: u64,
    gas: u64,
    value: Option<[u64; 4]>,
    data: Vec<u8>,
    price: u128,
    priority: Option<u128>,
    spelling: usize,
}

fn asked() -> impl Strategy<Value = Asked> {
    let call = (proptest::option::weighted(0.8, any::<[u8; 20]>()), vec(any::<u8>(), 1..80));
    let nonce = prop_oneof![0..300_u64, (0..64_u32).prop_map(|bits| (u64::MAX - 1) >> bits)];
    let value = proptest::option::of(prop_oneof![any::<[u64; 4]>(), any::<u64>().prop_map(|low| [low, 0, 0, 0])]);
    // alloy holds prices in 128 bits.
    let price = (any::<u128>(), 0..128_u32).prop_map(|(price, bits)| price >> bits);
    (call, nonce, 100_000..=16_777_216_u64, value, price, proptest::option::of(0..=100_u128), 0..3_usize).prop_map(
        |((to, data), nonce, gas, value, price, percent, spelling)| {
            let priority = percent.map(|percent| price / 100 * percent);
            Asked { to, nonce, gas, value, data, price, priority, spelling }
        },
    )
}

impl Asked {
    fn value(&self) -> U256 {
        self.value.map_or(U256::ZERO, U256::from_limbs)
    }

    fn payload(&self) -> String {
        let number = |number: U256| match self.spelling {
            0 => serde_json::from_str(&number.to_string()).unwrap(),
            1 => json!(number.to_string()),
            _ => json!(format!("{number:#x}")),
        };
        let mut request = json!({ "to": self.to.map(|to| Address::from(to).to_checksum(None)),
            "nonce": number(U256::from(self.nonce)), "gas": number(U256::from(self.gas)),
            "data": hex::encode_prefixed(&self.data) });
        if self.value.is_some() {
            request["value"] = number(self.value());
        }
        if let Some(priority) = self.priority {
            request["maxFeePerGas"] = number(U256::from(self.price));
            request["maxPriorityFeePerGas"] = number(U256::from(priority));
        } else {
            request["gasPrice"] = number(U256::from(self.price));
        }
        request.to_string()
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(0x)?[0-9a-fA-F]{0,44}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(any::<String>(), inner, 0..4).prop_map(|fields| json!(fields)),
        ]
    })
}

/// An object with our fields' names and arbitrary values.
fn almost_a_request() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "to",
        "nonce",
        "gas",
        "gasPrice",
        "maxFeePerGas",
        "maxPriorityFeePerGas",
        "value",
        "data",
        "chainId",
        "operation",
    ]);
    btree_map(name, json_value(), 0..9).prop_map(|fields| json!(fields).to_string())
}

fn blocking<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn signer(chain_id: &str) -> SignDirect<TestKeys> {
    blocking(function(Signs::High, &[("CHAIN_ID", chain_id), ("SIGNPOST_POLICY", POLICY)]))
}

proptest! {
    #[test]
    fn parser_never_panics(text in any::<String>(), near in almost_a_request(), cut in any::<prop::sample::Index>()) {
        let _ = Direct::parse(&text, ChainId(97));
        let _ = Direct::parse(&near, ChainId(97));
        let _ = Direct::parse(&String::from_utf8_lossy(&near.as_bytes()[..cut.index(near.len())]), ChainId(97));
    }

    #[test]
    fn signed_transaction_is_the_requested_one(asked in asked(), chain_id in 1..9_223_372_036_854_775_771_u64) {
        let payload = asked.payload();
        let function = signer(&chain_id.to_string());
        let answer = blocking(answer(&function, &payload));
        let signed = &answer["signed_tx"];
        prop_assert!(signed.is_object(), "{} for {}", answer, payload);
        let raw = hex::decode(signed["rawTransaction"].as_str().unwrap()).unwrap();
        let tx = TxEnvelope::decode_2718_exact(&raw).unwrap();
        prop_assert_eq!(&tx.encoded_2718(), &raw);
        prop_assert_eq!(tx.kind(), asked.to.map_or(TxKind::Create, |to| TxKind::Call(to.into())));
        prop_assert_eq!((tx.nonce(), tx.gas_limit(), tx.value()), (asked.nonce, asked.gas, asked.value()));
        prop_assert_eq!(tx.input().as_ref(), asked.data.as_slice());
        prop_assert_eq!(tx.chain_id(), Some(chain_id));
        prop_assert_eq!((tx.max_fee_per_gas(), tx.max_priority_fee_per_gas()), (asked.price, asked.priority));
        let signature = tx.signature();
        prop_assert_eq!(signature.normalize_s(), None, "s is low");
        let from = tx.recover_signer().unwrap().to_checksum(None);
        let parity = u128::from(signature.v());
        let v = if asked.priority.is_some() { parity } else { u128::from(chain_id) * 2 + 35 + parity };
        let expected = json!({ "rawTransaction": hex::encode_prefixed(&raw), "hash": tx.tx_hash().to_string(),
            "r": format!("{:#x}", signature.r()), "s": format!("{:#x}", signature.s()),
            "v": u64::try_from(v).unwrap(), "from": from, "chainId": chain_id });
        prop_assert_eq!(signed, &expected);
        prop_assert_eq!(&signed["from"], "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F");
    }
}
