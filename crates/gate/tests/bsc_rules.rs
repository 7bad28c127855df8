//! The gate refuses what a BSC node refuses, with the node's messages and codes and in its order: each row of the table
//! is a real transaction, sent over HTTP. The messages are compared with the captured messages of the node in
//! `tests/vectors`, and our classifier must understand them.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "test code")]

mod support;

use serde_json::{Value, json};
use signpost_bsc::classify::classify;
use signpost_gate::bsc::Limits;
use signpost_txmgr::record::SendClass;
use signpost_txmgr::tx::MAX_TX_GAS;
use signpost_txmgr::units::{Address, Wei};
use support::{
    CHAIN, FLOOR, Stub, ask, assembled, bytes, dynamic, fields_of_dynamic, forged, hexed, legacy, list, number, refusal,
};

const CAPTURED: &str = include_str!("../../../tests/vectors/node-errors/bsc.json");
const GWEI: u64 = 1_000_000_000;

/// A message without its numbers.
fn shape(message: &str) -> String {
    let mut out = String::new();
    for character in message.chars() {
        if character.is_ascii_digit() {
            if !out.ends_with('N') {
                out.push('N');
            }
        } else {
            out.push(character);
        }
    }
    out
}

/// Whether this message of the node was captured, apart from numbers. RLP errors name the field; for those only the
/// beginning is compared.
fn captured(code: i64, message: &str) -> bool {
    let captured: Value = serde_json::from_str(CAPTURED).unwrap();
    let same = |row: &Value| {
        let words = row["message"].as_str().unwrap();
        row["code"] == code
            && (shape(words) == shape(message) || (words.starts_with("rlp: ") && message.starts_with("rlp: ")))
    };
    captured["errors"].as_array().unwrap().iter().any(same)
}

/// A transaction with this number of raw bytes.
fn of_size(bytes: usize) -> support::Ask {
    let of = |data: usize| support::Ask { data: vec![0; data], gas: 10_000_000, ..ask(0) };
    let mut sizes = (bytes - 200..bytes).map(of);
    sizes.find(|ask| ask.signed().bytes.len() == bytes).expect("one byte more of data is one byte more")
}

/// Fixes one fault.
type Fix = fn(&mut support::Ask);

type Row = (&'static str, String, i64, &'static str, SendClass);

fn rows_of_encoding() -> Vec<Row> {
    use SendClass::Refused;
    let good = ask(0).raw();
    let mut leading_zero = fields_of_dynamic();
    leading_zero[1] = bytes(&[0, 1]);
    let mut wide_nonce = fields_of_dynamic();
    wide_nonce[1] = bytes(&[1; 9]);
    let mut short_address = fields_of_dynamic();
    short_address[5] = bytes(&[1; 19]);
    let mut not_canonical = fields_of_dynamic();
    not_canonical[1] = vec![0x81, 0x05];
    vec![
        ("empty", "0x".into(), -32000, "typed transaction too short", Refused),
        ("a type byte alone", "0x02".into(), -32000, "typed transaction too short", Refused),
        ("type 3", "0x03c0".into(), -32000, "transaction type not supported", Refused),
        ("type 127", "0x7fc0".into(), -32000, "transaction type not supported", Refused),
        ("a string", "0x83010203".into(), -32000, "rlp: expected input list for types.LegacyTx", Refused),
        (
            "truncated",
            good[..good.len() - 2].to_owned(),
            -32000,
            "rlp: value size exceeds available input length",
            Refused,
        ),
        ("a trailing byte", format!("{good}00"), -32000, "rlp: input contains more than one value", Refused),
        (
            "a leading zero",
            forged(2, &leading_zero),
            -32000,
            "rlp: non-canonical integer (leading zero bytes) for uint64, decoding into (types.DynamicFeeTx).Nonce",
            Refused,
        ),
        (
            "a byte not as itself",
            forged(2, &not_canonical),
            -32000,
            "rlp: non-canonical size information for uint64, decoding into (types.DynamicFeeTx).Nonce",
            Refused,
        ),
        (
            "a nonce of nine bytes",
            forged(2, &wide_nonce),
            -32000,
            "rlp: input string too long for uint64, decoding into (types.DynamicFeeTx).Nonce",
            Refused,
        ),
        (
            "a short address",
            forged(2, &short_address),
            -32000,
            "rlp: input string too short for common.Address, decoding into (types.DynamicFeeTx).To",
            Refused,
        ),
        (
            "too few fields",
            hexed(&[&[2][..], &list(&[number(97)])].concat()),
            -32000,
            "rlp: too few elements for types.DynamicFeeTx",
            Refused,
        ),
        (
            "too many fields",
            forged(2, &[fields_of_dynamic(), vec![number(0)]].concat()),
            -32000,
            "rlp: input list has too many elements for types.DynamicFeeTx",
            Refused,
        ),
        (
            "an inner item too large",
            hexed(&[2, 0xc2, 0x83, 0x01]),
            -32000,
            "rlp: element is larger than containing list",
            Refused,
        ),
    ]
}

fn rows_of_signature() -> Vec<Row> {
    use SendClass::{Misconfigured, Refused};
    let mut other_chain = ask(0);
    other_chain.chain = 98;
    let mut other_chain_legacy = other_chain.clone();
    other_chain_legacy.fee = legacy(FLOOR);
    let mut expensive = ask(0);
    expensive.fee = dynamic(50_000 * GWEI, GWEI);
    let unprotected = [number(0), number(FLOOR), number(21_000), bytes(&[0x77; 20]), number(1), bytes(&[])];
    let (fields, word) = (fields_of_dynamic(), [1; 32]);
    let mut off_curve = [0; 32];
    off_curve[31] = 5;
    vec![
        (
            "above the fee cap",
            expensive.raw(),
            -32000,
            "tx fee (1.05 ether) exceeds the configured cap (1.00 ether)",
            Refused,
        ),
        (
            "without replay protection",
            forged(0, &unprotected),
            -32000,
            "only replay-protected (EIP-155) transactions allowed over RPC",
            Misconfigured,
        ),
        ("another chain", other_chain.raw(), -32000, "invalid chain id for signer: have 98 want 97", Misconfigured),
        (
            "another chain, legacy",
            other_chain_legacy.raw(),
            -32000,
            "invalid chain id for signer: have 98 want 97",
            Misconfigured,
        ),
        ("high s", ask(0).high_s(), -32000, "invalid transaction v, r, s values", Misconfigured),
        (
            "r is zero",
            assembled(2, &fields, number(0), &[], &word),
            -32000,
            "invalid transaction v, r, s values",
            Misconfigured,
        ),
        (
            "parity of two",
            assembled(2, &fields, number(2), &word, &word),
            -32000,
            "invalid transaction v, r, s values",
            Misconfigured,
        ),
        (
            "r on no point of the curve",
            assembled(2, &fields, number(0), &off_curve, &word),
            -32000,
            "recovery failed",
            Misconfigured,
        ),
    ]
}

fn rows_of_limits() -> Vec<Row> {
    use SendClass::{Refused, Underpriced};
    let with = |change: &dyn Fn(&mut support::Ask)| {
        let mut ask = ask(0);
        change(&mut ask);
        ask.raw()
    };
    let black: Address = "0x489a8756c18c0b8b24ec2a2b9ff3d4d447f79bec".parse().unwrap();
    let set_code = [fields_of_dynamic(), vec![list(&[])]].concat();
    let too_wide = |at: usize| {
        let mut fields = fields_of_dynamic();
        fields[4] = number(0);
        fields[at] = bytes(&[1; 33]);
        forged(2, &fields)
    };
    vec![
        ("to the black list", with(&|ask| ask.to = Some(black)), -32000, "sender or to in black list", Refused),
        (
            "above 128 KiB",
            of_size(131_073).raw(),
            -32000,
            "oversized data: transaction size 131073, limit 131072",
            Refused,
        ),
        (
            "init code of 49,153 bytes",
            with(&|ask| (ask.to, ask.data, ask.gas) = (None, vec![0; 49_153], 10_000_000)),
            -32000,
            "max initcode size exceeded: code size 49153 limit 49152",
            Refused,
        ),
        (
            "more gas than EIP-7825 allows",
            with(&|ask| ask.gas = MAX_TX_GAS + 1),
            -32000,
            "transaction gas limit too high (cap: 16777216, tx: 16777217)",
            Refused,
        ),
        ("a fee of 33 bytes", too_wide(3), -32000, "max fee per gas higher than 2^256-1", Refused),
        ("a tip of 33 bytes", too_wide(2), -32000, "max priority fee per gas higher than 2^256-1", Refused),
        (
            "tip above fee",
            with(&|ask| ask.fee = dynamic(FLOOR, FLOOR + 1)),
            -32000,
            "max priority fee per gas higher than max fee per gas",
            Refused,
        ),
        ("the last nonce", with(&|ask| ask.nonce = u64::MAX), -32000, "nonce has max value", Refused),
        (
            "one gas too few",
            with(&|ask| ask.gas = 20_999),
            -32000,
            "intrinsic gas too low: gas 20999, minimum needed 21000",
            Refused,
        ),
        (
            "below the floor of EIP-7623",
            with(&|ask| (ask.data, ask.gas) = (vec![1; 1_000], 37_010)),
            -32000,
            "insufficient gas for floor data gas cost: gas 37010, minimum needed 61000",
            Refused,
        ),
        (
            "below the least price",
            with(&|ask| ask.fee = dynamic(FLOOR, FLOOR - 1)),
            -32000,
            "transaction gas price below minimum: gas tip cap 99999999, minimum needed 100000000",
            Underpriced(Some(Wei::from(FLOOR))),
        ),
        (
            "set code without an authorization",
            forged(4, &set_code),
            -32000,
            "set code tx must have at least one authorization tuple",
            Refused,
        ),
    ]
}

#[tokio::test]
async fn gate_refuses_with_the_messages_of_a_bsc_node() {
    let stub = Stub::rich();
    let (gate, rpc) = stub.gate(|_| {}).await;
    let rows = [rows_of_encoding(), rows_of_signature(), rows_of_limits()].concat();
    for (case, raw, code, message, class) in &rows {
        let refused = rpc.send(raw).await.expect_err(case);
        assert_eq!(refused, (*code, (*message).to_owned()), "{case}");
        assert_eq!(classify(*code, message), *class, "{case}");
        assert!(captured(*code, message), "{case}: this message was never captured: {message}");
    }
    assert_eq!(stub.count("eth_sendRawTransaction"), 0, "no refused transaction reaches the node behind");
    let stats = gate.control().stats();
    assert_eq!(stats.refused.values().sum::<u64>(), u64::try_from(rows.len()).unwrap());
    assert_eq!(stats.refused["rlp"], 10);
    assert_eq!(stats.accepted, 0);
}

#[tokio::test]
async fn parameters_are_parsed_like_in_go() {
    let (_gate, rpc) = Stub::rich().gate(|_| {}).await;
    let unmarshal = "invalid argument 0: json: cannot unmarshal";
    let go = "into Go value of type hexutil.Bytes";
    for (params, message) in [
        (json!([]), "missing value for required argument 0".to_owned()),
        (json!(["0x00", 1]), "too many arguments, want at most 1".to_owned()),
        (json!([1]), format!("{unmarshal} non-string {go}")),
        (json!(["02c0"]), format!("{unmarshal} hex string without 0x prefix {go}")),
        (json!(["0x0"]), format!("{unmarshal} hex string of odd length {go}")),
        (json!(["0xzz"]), format!("{unmarshal} invalid hex string {go}")),
    ] {
        let answer = rpc.answer("eth_sendRawTransaction", params).await;
        assert_eq!(refusal(&answer), (-32602, message));
    }
}

#[tokio::test]
async fn first_fault_in_the_nodes_order_is_reported() {
    let (_gate, rpc) = Stub::rich().gate(|_| {}).await;
    let mut wrong = ask(0);
    // All faults at once, fixed one by one in the order of the node's checks.
    (wrong.chain, wrong.gas, wrong.nonce) = (98, MAX_TX_GAS + 1, u64::MAX);
    (wrong.fee, wrong.data) = (dynamic(100 * GWEI, 200 * GWEI), vec![1; 140_000]);
    let fixes: [(&str, Fix); 8] = [
        ("tx fee", |ask| ask.fee = dynamic(1, 2)),
        ("invalid chain id", |ask| ask.chain = CHAIN),
        ("oversized data", |ask| ask.data = vec![1; 1_000]),
        ("transaction gas limit too high", |ask| ask.gas = 20_999),
        ("max priority fee", |ask| ask.fee = dynamic(2, 2)),
        ("nonce has max value", |ask| ask.nonce = 0),
        ("intrinsic gas", |ask| ask.gas = 37_000),
        ("insufficient gas for floor", |ask| ask.gas = 61_000),
    ];
    for (words, fix) in fixes {
        let (_, message) = rpc.send(&wrong.raw()).await.unwrap_err();
        assert!(message.starts_with(words), "{message} is not {words}");
        fix(&mut wrong);
    }
    let (_, message) = rpc.send(&wrong.raw()).await.unwrap_err();
    assert!(message.starts_with("transaction gas price below minimum"), "{message}");
}

#[tokio::test]
async fn valid_transactions_are_forwarded_unchanged() {
    let stub = Stub::rich();
    let (gate, rpc) =
        stub.gate(|config| config.limits = Limits { black_list: vec![], ..Limits::of_chain(CHAIN) }).await;
    let mut legacy_one = ask(0);
    legacy_one.fee = legacy(FLOOR);
    let mut creation = ask(1);
    (creation.to, creation.data, creation.gas) = (None, vec![0x60; 100], 100_000);
    for ask in [legacy_one, creation, ask(2)] {
        let signed = ask.signed();
        assert_eq!(rpc.send(&ask.raw()).await, Ok(signed.hash.to_string()));
        assert_eq!(stub.last("eth_sendRawTransaction"), json!([ask.raw()]));
    }
    assert!(rpc.send(&support::Ask { nonce: 9, ..of_size(131_072) }.raw()).await.is_ok(), "the largest");
    // 2,400 gas for the address and 1,900 for the key (EIP-2930).
    let mut fields = fields_of_dynamic();
    (fields[1], fields[8]) = (number(3), list(&[list(&[bytes(&[9; 20]), list(&[bytes(&[1; 32])])])]));
    let (_, message) = rpc.send(&forged(2, &fields)).await.unwrap_err();
    assert_eq!(message, "intrinsic gas too low: gas 21000, minimum needed 25300");
    fields[4] = number(25_300);
    assert!(rpc.send(&forged(2, &fields)).await.is_ok());
    let mut first = vec![number(CHAIN), number(4), number(FLOOR), number(21_000)];
    first.extend([bytes(&[0x77; 20]), number(1), bytes(&[]), list(&[])]);
    assert!(rpc.send(&forged(1, &first)).await.is_ok(), "type 1");
    assert_eq!(gate.control().stats().accepted, 6);
}

#[tokio::test]
async fn lowest_price_and_block_limit_are_configurable() {
    let stub = Stub::rich();
    let limits =
        Limits { min_gas_price: Wei::from(1), fee_cap: Wei::ZERO, block_gas: 30_000, ..Limits::of_chain(CHAIN) };
    let (_gate, rpc) = stub.gate(|config| config.limits = limits).await;
    let mut cheap = ask(0);
    cheap.fee = dynamic(1, 1);
    assert!(rpc.send(&cheap.raw()).await.is_ok());
    cheap.gas = 30_001;
    assert_eq!(rpc.send(&cheap.raw()).await, Err((-32000, "exceeds block gas limit".to_owned())));
    assert_eq!(Limits::of_chain(56).min_gas_price, Wei::from(50_000_000));
}
