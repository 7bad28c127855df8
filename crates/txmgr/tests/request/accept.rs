//! Which requests pass the network's rules and the account's policy, and at which price.

use serde_json::{Value, json};
use signpost_txmgr::policy::{Accepted, AccountPolicy, NetworkRules, accept};
use signpost_txmgr::request::{Code, Refused};
use signpost_txmgr::tx::{Fee, MAX_INIT_CODE_BYTES, MAX_TX_BYTES, MAX_TX_GAS, Signature, UnsignedTx};
use signpost_txmgr::units::{Millis, Nonce, Wei};

use crate::{ACCOUNT, TO, account, body, signing};

pub(crate) const NOW: Millis = Millis(1_780_000_000_000);
pub(crate) const NETWORK: NetworkRules = NetworkRules { fee_floor: Wei::ZERO };

pub(crate) fn gwei(gwei: u64) -> Wei {
    Wei::from_gwei(gwei)
}

/// Judges with a floor of 1 gwei, no configured price, and a network price of 3 gwei.
fn with(changes: Value, policy: &AccountPolicy) -> Result<Accepted, Refused> {
    let network = NetworkRules { fee_floor: gwei(1) };
    let request = signing(&body(changes));
    accept(&request, &account(), policy, &network, Some(gwei(3)), None, NOW)
}

fn open(changes: Value) -> Result<Accepted, Refused> {
    let policy = AccountPolicy { allow_creation: true, ..AccountPolicy::capped(gwei(10)) };
    with(changes, &policy)
}

fn code(changes: Value) -> (Code, String) {
    let refused = open(changes).unwrap_err();
    assert_eq!(refused.request_id.map(|id| id.to_string()), Some("r-1".to_owned()));
    (refused.code, refused.field.unwrap_or_default())
}

fn legacy(gwei_price: u64) -> Fee {
    Fee::Legacy { gas_price: gwei(gwei_price) }
}

fn zeros(bytes: usize) -> String {
    format!("0x{}", "00".repeat(bytes))
}

#[test]
fn accepted_request_keeps_its_fields() {
    let asked = json!({"value": 5, "data": "0x01", "gas": 22_000, "deadline": 1_790_000_000, "metadata": {"a": 1}});
    let request = signing(&body(asked.clone()));
    let accepted = open(asked).unwrap();
    assert_eq!(accepted.intent.chain_id, account().chain_id);
    assert_eq!(accepted.intent.to, Some(TO.parse().unwrap()));
    assert_eq!(accepted.intent.value, Wei::from(5));
    assert_eq!(&*accepted.intent.data, &[1]);
    assert_eq!(accepted.deadline, Some(Millis(1_790_000_000_000)));
    assert_eq!(accepted.metadata, Some(json!({"a": 1})));
    assert_eq!(accepted.digest, request.digest(&account()));
}

#[test]
fn another_chain_or_account_is_refused() {
    assert_eq!(code(json!({"chainId": 56})), (Code::WrongChain, "chainId".to_owned()));
    let on_bsc = ACCOUNT.replace("97:", "56:");
    assert_eq!(code(json!({"account": on_bsc})), (Code::WrongChain, "account".to_owned()));
    assert_eq!(code(json!({"account": TO})), (Code::UnknownAccount, "account".to_owned()));
    assert!(open(json!({"account": ACCOUNT, "chainId": "0x61"})).is_ok());
}

#[test]
fn gas_is_between_intrinsic_gas_and_the_network_limit() {
    let gas = |data: &str, gas: u64| open(json!({"data": data, "gas": gas}));
    assert!(gas("0x", 21_000).is_ok());
    assert_eq!(gas("0x", 20_999).unwrap_err().code, Code::GasTooLow);
    // EIP-7623: a zero byte costs 10 and another 40, more than the 4 and 16 of EIP-2028.
    assert!(gas("0x0001", 21_050).is_ok());
    assert_eq!(gas("0x0001", 21_049).unwrap_err().code, Code::GasTooLow);
    assert!(gas("0x", MAX_TX_GAS).is_ok());
    assert_eq!(gas("0x", MAX_TX_GAS + 1).unwrap_err().code, Code::GasTooHigh);
    let creation = |gas: u64| open(json!({"to": null, "data": "0x00", "gas": gas}));
    assert!(creation(53_006).is_ok());
    assert_eq!(creation(53_005).unwrap_err().code, Code::GasTooLow);
}

#[test]
fn creation_needs_init_code_within_the_network_limit() {
    let creation = |data: String| open(json!({"to": null, "data": data, "gas": MAX_TX_GAS}));
    assert_eq!(creation(zeros(0)).unwrap_err().code, Code::BadData);
    assert!(creation(zeros(MAX_INIT_CODE_BYTES)).is_ok());
    assert_eq!(creation(zeros(MAX_INIT_CODE_BYTES + 1)).unwrap_err().code, Code::InitCodeTooLarge);
}

#[test]
fn transaction_has_at_most_128_kib_at_any_nonce_and_price() {
    let sized = |bytes: usize| open(json!({"data": zeros(bytes), "gas": MAX_TX_GAS}));
    let longest = (MAX_TX_BYTES - 200..MAX_TX_BYTES).rev().find(|bytes| sized(*bytes).is_ok()).unwrap();
    let accepted = sized(longest).unwrap();
    let fee = Fee::Legacy { gas_price: accepted.fee_cap };
    let unsigned = UnsignedTx { intent: &accepted.intent, nonce: Nonce(u64::MAX), fee };
    let signature = Signature { r: [0xff; 32], s: [0x7f; 32], y_odd: true };
    assert_eq!(unsigned.sign(&signature).bytes.len(), MAX_TX_BYTES);
    assert_eq!(sized(longest + 1).unwrap_err().code, Code::TooLarge);
    assert_eq!(sized(200_000).unwrap_err().code, Code::TooLarge);
}

#[test]
fn fee_of_the_request_is_between_floor_and_cap() {
    assert_eq!(open(json!({"gasPrice": "1000000000"})).unwrap().fee, legacy(1));
    assert_eq!(open(json!({"gasPrice": "10000000000"})).unwrap().fee, legacy(10));
    assert_eq!(code(json!({"gasPrice": 999_999_999})), (Code::FeeTooLow, "gasPrice".to_owned()));
    assert_eq!(code(json!({"gasPrice": 10_000_000_001_u64})), (Code::FeeTooHigh, "gasPrice".to_owned()));
    let dynamic = |max: u64, priority: u64| json!({"maxFeePerGas": max, "maxPriorityFeePerGas": priority});
    let low = (Code::FeeTooLow, "maxPriorityFeePerGas".to_owned());
    assert_eq!(code(dynamic(2_000_000_000, 999_999_999)), low);
    let high = (Code::FeeTooHigh, "maxFeePerGas".to_owned());
    assert_eq!(code(dynamic(10_000_000_001, 2_000_000_000)), high);
    assert!(open(dynamic(2_000_000_000, 1_000_000_000)).is_ok());
}

#[test]
fn max_gas_price_lowers_the_policys_cap_only() {
    let cap = |wei: u64| open(json!({"maxGasPrice": wei}));
    assert_eq!(cap(4_000_000_000).unwrap().fee_cap, gwei(4));
    assert_eq!(cap(40_000_000_000).unwrap().fee_cap, gwei(10));
    let above = code(json!({"maxGasPrice": 4_000_000_000_u64, "gasPrice": 5_000_000_000_u64}));
    assert_eq!(above, (Code::FeeTooHigh, "gasPrice".to_owned()));
    let nothing_left = code(json!({"maxGasPrice": 999_999_999}));
    assert_eq!(nothing_left, (Code::FeeTooLow, "maxGasPrice".to_owned()));
}

#[test]
fn configured_price_takes_precedence_over_the_networks() {
    let configured = AccountPolicy { gas_price: Some(gwei(2)), ..AccountPolicy::capped(gwei(10)) };
    assert_eq!(with(json!({}), &configured).unwrap().fee, legacy(2));
    assert_eq!(open(json!({})).unwrap().fee, legacy(3));
}

#[test]
fn default_price_is_kept_between_floor_and_cap() {
    assert_eq!(open(json!({"maxGasPrice": 2_000_000_000})).unwrap().fee, legacy(2));
    let policy = AccountPolicy { min_gas_price: Some(gwei(5)), ..AccountPolicy::capped(gwei(10)) };
    assert_eq!(with(json!({}), &policy).unwrap().fee, legacy(5));
}

#[test]
fn request_without_any_price_is_refused() {
    let request = signing(&body(json!({})));
    let policy = AccountPolicy::capped(gwei(10));
    let refused = accept(&request, &account(), &policy, &NETWORK, None, None, NOW).unwrap_err();
    assert_eq!(refused.code, Code::NoFee);
}

#[test]
fn deadline_equal_to_now_has_passed() {
    let now_s = NOW.0 / 1_000;
    assert_eq!(code(json!({"deadline": now_s})), (Code::DeadlinePassed, "deadline".to_owned()));
    assert!(open(json!({"deadline": now_s + 1})).is_ok());
}

#[test]
fn creation_is_forbidden_unless_policy_allows_it() {
    let asked = json!({"to": null, "data": "0x00", "gas": 60_000, "metadata": {"a": 1}});
    let refused = with(asked, &AccountPolicy::capped(gwei(10))).unwrap_err();
    assert_eq!(refused.code, Code::CreationNotAllowed);
    assert_eq!(refused.metadata.as_deref(), Some(&json!({"a": 1})));
}
