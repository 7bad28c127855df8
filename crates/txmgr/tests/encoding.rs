//! Checks every byte of a transaction against published vectors and a second implementation (alloy).

#![allow(missing_docs, reason = "a test binary has no reader of its documentation")]
#![expect(clippy::unwrap_used, reason = "a test may end at the first surprise")]
#![expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test, as it should")]

use std::sync::Arc;

use alloy_consensus::transaction::{RlpEcdsaEncodableTx, SignerRecoverable};
use alloy_consensus::{SignableTransaction, Signed, TxEip1559, TxLegacy};
use alloy_primitives::{B256, TxKind};
use proptest::prelude::*;
use serde_json::Value;
use signpost_txmgr::signature::LocalKey;
use signpost_txmgr::tx::{
    Fee, Intent, MAX_CHAIN_ID, MAX_TX_BYTES, RawTx, Signature, UnsignedTx, floor_gas, intrinsic_gas,
};
use signpost_txmgr::units::{Address, ChainId, Gas, Nonce, U256, Wei};

fn key() -> LocalKey {
    LocalKey::new([0x46; 32])
}

fn sign(tx: &UnsignedTx<'_>, high_s: bool) -> (Signature, RawTx) {
    let hash = tx.signing_hash();
    let der = key().sign_der(&hash, high_s);
    let signature = key().public_key().signature(&hash, &der).unwrap();
    (signature, tx.sign(&signature))
}

fn transfer(chain_id: u64, value: U256) -> Intent {
    Intent {
        chain_id: ChainId(chain_id),
        to: Some(Address([0x35; 20])),
        value: Wei(value),
        data: Arc::from([]),
        gas: Gas(21_000),
    }
}

fn with_data(to: Option<Address>, data: Vec<u8>) -> Intent {
    Intent { to, data: Arc::from(data), ..transfer(56, U256::zero()) }
}

#[test]
fn example_of_eip_155_is_reproduced() {
    let intent = transfer(1, U256::exp10(18));
    let fee = Fee::Legacy { gas_price: Wei::from_gwei(20) };
    let tx = UnsignedTx { intent: &intent, nonce: Nonce(9), fee };
    assert_eq!(tx.signing_hash().to_string(), "0xdaf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53");
    for high_s in [false, true] {
        let (_, raw) = sign(&tx, high_s);
        assert_eq!(
            hex::encode(&raw.bytes),
            "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a764000080\
             25a028ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276\
             a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83"
        );
        assert_eq!(raw.hash.to_string(), "0x33469b22e9f636356c4160a87eb19df52b7412e8eac32a4a55ffe88ea8350788");
    }
}

/// A number of the vectors: JSON integer of any size, decimal string or 0x-hex.
fn number(value: &Value) -> U256 {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.strip_prefix("0x") {
        Some(digits) => U256::from_str_radix(digits, 16).unwrap(),
        None => U256::from_dec_str(&text).unwrap(),
    }
}

#[test]
fn every_signed_legacy_case_of_sign_direct_is_reproduced() {
    let file: Value = serde_json::from_str(include_str!("../../../tests/vectors/sign-direct.json")).unwrap();
    let mut cases = 0;
    for case in file["cases"].as_array().unwrap() {
        if case["expect"]["kind"] != "signed" {
            continue;
        }
        let request: Value = serde_json::from_str(case["request"].as_str().unwrap()).unwrap();
        if request["gasPrice"].is_null() {
            continue;
        }
        cases += 1;
        let id = case["id"].as_str().unwrap();
        let expected = &case["expect"]["signed_tx"];
        let intent = Intent {
            chain_id: ChainId(expected["chainId"].as_u64().unwrap()),
            to: Some(request["to"].as_str().unwrap().parse().unwrap()),
            value: Wei(request.get("value").map_or(U256::zero(), number)),
            data: hex::decode(&request["data"].as_str().unwrap()[2..]).unwrap().into(),
            gas: Gas(number(&request["gas"]).as_u64()),
        };
        let tx = UnsignedTx {
            intent: &intent,
            nonce: Nonce(number(&request["nonce"]).as_u64()),
            fee: Fee::Legacy { gas_price: Wei(number(&request["gasPrice"])) },
        };
        let (signature, raw) = sign(&tx, cases % 2 == 0);
        let v = intent.chain_id.0 * 2 + 35 + u64::from(signature.y_odd);
        // The vectors write r and s as numbers: no leading zeros.
        let scalar = |bytes: [u8; 32]| format!("{:#x}", U256::from_big_endian(&bytes));
        assert_eq!(expected["rawTransaction"], format!("0x{}", hex::encode(&raw.bytes)), "{id}");
        assert_eq!(expected["hash"], raw.hash.to_string(), "{id}");
        assert_eq!(expected["r"], scalar(signature.r), "{id}");
        assert_eq!(expected["s"], scalar(signature.s), "{id}");
        assert_eq!(expected["v"], v, "{id}");
        assert_eq!(expected["from"], key().public_key().address().to_string(), "{id}");
    }
    assert_eq!(cases, 16, "the file changed: update the number of legacy cases");
}

/// The vectors were made with eth-account 0.14 for the key 0x46 × 32.
#[test]
fn type_2_vectors_are_reproduced() {
    let transfer = transfer(97, U256::exp10(18));
    let creation =
        Intent { chain_id: ChainId(97), gas: Gas(100_000), ..with_data(None, hex::decode("60006000f3").unwrap()) };
    let token =
        Intent { gas: Gas(60_000), ..with_data(transfer.to, [&[0xa9, 0x05, 0x9c, 0xbb][..], &[0x11; 64]].concat()) };
    let cases = [
        (
            (&transfer, 9, 3, 1),
            "0xec7b19064795579ed38659473825f241765404a4dc01b330e9c55577cc7a1c66",
            "02f8726109843b9aca0084b2d05e00825208943535353535353535353535353535353535353535880de0b6b3a7\
             64000080c001a084a4621a9171ba580a8643ffc3fb6712c89b2983ba27949683698d9f6edb2503a069286e8b3c\
             3ec701db84d2b99cf720eed927422a73137f47e658b128069ffab5",
            "0x4de4f944c499a3e33c49b83308663459da8d8dc46b3e0ee4e7475c0272726c8d",
        ),
        (
            (&creation, 0, 3, 1),
            "0x775282d7956266a7141c0c4e7f05bea29d0183d159a9b182c1f5f6d35c2d2a7c",
            "02f85c6180843b9aca0084b2d05e00830186a080808560006000f3c080a065cb8abfe1752a75504549bdcee55d\
             dcdb6e4daf13411bb85b11780d33dd5c40a061f7c955920f652a17a08d7ebe9e4798e3d2ceb9f71d6ae52cc315\
             5db803f23e",
            "0x9fc8ba6731636d4d529e33057ef599a17cf8117a4f0324e4f751402a29aef1fa",
        ),
        (
            (&token, 1 << 32, 1, 0),
            "0xace8c2b8b28519abe9a271bf13d5606bf32a3f0b26a1a47018ef2dd5083cdd7f",
            "02f8b03885010000000080843b9aca0082ea60943535353535353535353535353535353535353535\
             80b844a9059cbb1111111111111111111111111111111111111111111111111111111111111111\
             1111111111111111111111111111111111111111111111111111111111111111\
             c080a0cd8387f8d10cfaab815e753fa6f0970c931d7c0fac16ff343671fbc6ad8df0d5\
             a028b2adb64f38ba4cd591564e1c1df00ea4a18572e0e51fc5f43fa25377810598",
            "0x1d9bb5c74eecfed901ff17339863a430d36a206fc1991e5575781275fedc4f00",
        ),
    ];
    for ((intent, nonce, max_gwei, priority_gwei), signing_hash, bytes, hash) in cases {
        let tx = UnsignedTx {
            intent,
            nonce: Nonce(nonce),
            fee: Fee::Dynamic {
                max_fee_per_gas: Wei::from_gwei(max_gwei),
                max_priority_fee_per_gas: Wei::from_gwei(priority_gwei),
            },
        };
        assert_eq!(tx.signing_hash().to_string(), signing_hash);
        let (_, raw) = sign(&tx, true);
        assert_eq!(hex::encode(&raw.bytes), bytes);
        assert_eq!(raw.hash.to_string(), hash);
    }
}

#[test]
fn no_chain_id_overflows_v() {
    for chain_id in [0, 1, 46, 56, 97, MAX_CHAIN_ID, u64::MAX] {
        let intent = transfer(chain_id, U256::zero());
        let tx = UnsignedTx { intent: &intent, nonce: Nonce(u64::MAX), fee: Fee::Legacy { gas_price: Wei::from(1) } };
        let (signature, raw) = sign(&tx, false);
        let v: u128 = rlp::Rlp::new(&raw.bytes).val_at(6).unwrap();
        assert_eq!(v, u128::from(chain_id) * 2 + 35 + u128::from(signature.y_odd));
        assert_eq!(u64::try_from(v).is_ok(), chain_id <= MAX_CHAIN_ID);
    }
}

#[test]
fn gas_follows_the_eips() {
    let to = Some(Address([1; 20]));
    let gas = |to, data| {
        let intent = with_data(to, data);
        (intrinsic_gas(&intent), floor_gas(&intent))
    };
    assert_eq!(gas(to, vec![]), (21_000, 21_000));
    assert_eq!(gas(to, vec![0]), (21_004, 21_010));
    assert_eq!(gas(to, vec![1]), (21_016, 21_040));
    assert_eq!(gas(to, vec![1; 1000]), (37_000, 61_000));
    assert_eq!(gas(None, vec![]), (53_000, 21_000));
    assert_eq!(gas(None, vec![0; 32]), (53_130, 21_320));
    assert_eq!(gas(None, vec![0; 33]), (53_136, 21_330));
}

#[test]
fn price_is_the_maximum_that_is_paid() {
    let (one, two) = (Wei::from_gwei(1), Wei::from_gwei(2));
    let dynamic = Fee::Dynamic { max_fee_per_gas: two, max_priority_fee_per_gas: one };
    assert_eq!(Fee::Legacy { gas_price: one }.price(), one);
    assert_eq!(dynamic.price(), two);
}

#[test]
fn debug_shows_neither_calldata_nor_signature_nor_bytes() {
    let intent = with_data(None, vec![0xab; 40]);
    let fee = Fee::Legacy { gas_price: Wei::ZERO };
    let tx = UnsignedTx { intent: &intent, nonce: Nonce(0), fee };
    let (signature, raw) = sign(&tx, false);
    let text = format!("{tx:?} {signature:?} {raw:?}");
    assert!(text.contains(&raw.hash.to_string()), "{text}");
    assert!(text.contains("40 bytes #"), "{text}");
    let secrets = [hex::encode(signature.r), hex::encode(signature.s), "abab".to_owned()];
    for secret in secrets.iter().map(String::as_str).chain(["171"]) {
        assert!(!text.contains(secret), "{text}");
    }
    let other = Signature { y_odd: !signature.y_odd, ..signature };
    assert_ne!(format!("{signature:?}"), format!("{other:?}"));
}

/// Encodes `tx` with the same signature in both implementations and compares every step.
fn assert_same_as_alloy<T>(tx: &UnsignedTx<'_>, other: T, high_s: bool) -> Result<(), TestCaseError>
where
    T: SignableTransaction<alloy_primitives::Signature> + RlpEcdsaEncodableTx,
    Signed<T>: SignerRecoverable,
{
    prop_assert_eq!(tx.signing_hash().0, other.signature_hash().0);
    let (signature, raw) = sign(tx, high_s);
    let signed = other.into_signed(alloy_primitives::Signature::from_scalars_and_parity(
        B256::from(signature.r),
        B256::from(signature.s),
        signature.y_odd,
    ));
    let mut bytes = Vec::new();
    signed.eip2718_encode(&mut bytes);
    prop_assert_eq!(&raw.bytes, &bytes);
    prop_assert_eq!(raw.hash.0, signed.hash().0);
    let sender = signed.recover_signer().unwrap();
    prop_assert_eq!(key().public_key().address().0, sender.into_array());
    prop_assert!(bytes.len() <= tx.max_raw_len() && tx.max_raw_len() <= bytes.len() + 8);
    Ok(())
}

/// Numbers of every width, including the limits.
fn wide() -> impl Strategy<Value = u64> {
    prop_oneof![
        prop::sample::select(vec![0, 1, 127, 128, u64::MAX]),
        (any::<u64>(), 0_u32..64).prop_map(|(number, by)| number >> by),
    ]
}

fn prices() -> impl Strategy<Value = u128> {
    prop_oneof![
        prop::sample::select(vec![0, u128::MAX]),
        (any::<u128>(), 0_u32..128).prop_map(|(number, by)| number >> by),
    ]
}

fn amounts() -> impl Strategy<Value = U256> {
    prop_oneof![
        Just(U256::zero()),
        Just(U256::MAX),
        (any::<[u8; 32]>(), 0_usize..256).prop_map(|(bytes, by)| U256::from_big_endian(&bytes) >> by),
    ]
}

fn calldata() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => Just(Vec::new()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        4 => prop::collection::vec(any::<u8>(), 2..80),
        2 => prop::collection::vec(any::<u8>(), 80..400),
        1 => (any::<u8>(), 65_000_usize..MAX_TX_BYTES).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

prop_compose! {
    fn intents()(
        chain_id in prop_oneof![Just(56), Just(97), wide().prop_map(|id| id.min(MAX_CHAIN_ID))],
        to in any::<Option<[u8; 20]>>(),
        value in amounts(),
        data in calldata(),
        gas in wide(),
    ) -> Intent {
        Intent {
            chain_id: ChainId(chain_id),
            to: to.map(Address),
            value: Wei(value),
            data: Arc::from(data),
            gas: Gas(gas),
        }
    }
}

fn kind(intent: &Intent) -> TxKind {
    intent.to.map_or(TxKind::Create, |to| TxKind::Call(to.0.into()))
}

fn uint(value: Wei) -> alloy_primitives::U256 {
    alloy_primitives::U256::from_be_bytes(value.0.to_big_endian())
}

proptest! {
    #[test]
    fn legacy_encoding_equals_alloys(
        intent in intents(), nonce in wide(), gas_price in prices(), high_s in any::<bool>(),
    ) {
        let fee = Fee::Legacy { gas_price: Wei(gas_price.into()) };
        let other = TxLegacy {
            chain_id: Some(intent.chain_id.0),
            nonce,
            gas_price,
            gas_limit: intent.gas.0,
            to: kind(&intent),
            value: uint(intent.value),
            input: intent.data.to_vec().into(),
        };
        assert_same_as_alloy(&UnsignedTx { intent: &intent, nonce: Nonce(nonce), fee }, other, high_s)?;
    }

    #[test]
    fn type_2_encoding_equals_alloys(
        intent in intents(), nonce in wide(), max in prices(), priority in prices(), high_s in any::<bool>(),
    ) {
        let fee = Fee::Dynamic {
            max_fee_per_gas: Wei(max.into()),
            max_priority_fee_per_gas: Wei(priority.into()),
        };
        let other = TxEip1559 {
            chain_id: intent.chain_id.0,
            nonce,
            gas_limit: intent.gas.0,
            max_fee_per_gas: max,
            max_priority_fee_per_gas: priority,
            to: kind(&intent),
            value: uint(intent.value),
            access_list: alloy_eips::eip2930::AccessList::default(),
            input: intent.data.to_vec().into(),
        };
        assert_same_as_alloy(&UnsignedTx { intent: &intent, nonce: Nonce(nonce), fee }, other, high_s)?;
    }
}
