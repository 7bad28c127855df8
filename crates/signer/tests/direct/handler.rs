//! The handler in process, with keys in memory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use signpost_signer::direct::SignDirect;
use signpost_signer::direct::config::DirectConfig;
use signpost_txmgr::ports::{Happened, KeyAnswer, KeyCallError, Keys, KmsSignature, PortError};
use signpost_txmgr::signature::LocalKey;
use signpost_txmgr::units::{KmsKeyId, SigningHash};

use crate::cases::{self, KEY_ID, SECRET, error};

const TIME_LIMIT: Duration = Duration::from_secs(30);
const REQUEST_ID: &str = "an invocation";

/// How an in-memory key answers `Sign`.
#[derive(Clone, Copy)]
pub(crate) enum Signs {
    Low,
    High,
    AnotherHash,
    Never,
    Failing { throttled: bool, happened: Happened },
}

/// One deterministic key.
#[derive(Clone)]
pub(crate) struct TestKeys {
    signs: Signs,
    calls: Arc<AtomicU32>,
}

impl Keys for TestKeys {
    async fn public_key(&self, key: &KmsKeyId) -> Result<KeyAnswer, KeyCallError> {
        Ok(KeyAnswer { id: key.clone(), spki: LocalKey::new(SECRET).spki() })
    }

    async fn sign(&self, key: &KmsKeyId, hash: &SigningHash) -> Result<KmsSignature, KeyCallError> {
        assert_eq!(key.as_str(), KEY_ID);
        self.calls.fetch_add(1, Ordering::Relaxed);
        let local = LocalKey::new(SECRET);
        let signed = |der| Ok(KmsSignature { der, request_id: None });
        match self.signs {
            Signs::Low => signed(local.sign_der(hash, false)),
            Signs::High => signed(local.sign_der(hash, true)),
            Signs::AnotherHash => signed(local.sign_der(&SigningHash([7; 32]), false)),
            Signs::Never => std::future::pending().await,
            Signs::Failing { throttled, happened } => {
                let call = PortError { operation: "Sign", happened, throttled, source: "a test's error".into() };
                Err(KeyCallError { fault: None, call })
            }
        }
    }
}

/// A function with this environment and the key's id.
pub(crate) async fn function(signs: Signs, env: &[(&str, &str)]) -> SignDirect<TestKeys> {
    let config = config(env).unwrap();
    SignDirect::start(TestKeys { signs, calls: Arc::default() }, config).await.unwrap()
}

fn config(env: &[(&str, &str)]) -> Result<DirectConfig, String> {
    let lookup = |name: &str| {
        let found = env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        found.or_else(|| match name {
            "KMS_KEY_ID" => Some(KEY_ID.to_owned()),
            // The contract has no policy.
            "SIGNPOST_POLICY" => Some("none".to_owned()),
            _ => None,
        })
    };
    DirectConfig::read(lookup, Path::new("/nowhere")).map_err(|error| error.to_string())
}

pub(crate) async fn answer(function: &SignDirect<TestKeys>, payload: &str) -> Value {
    serde_json::to_value(function.answer(payload, REQUEST_ID, TIME_LIMIT).await).unwrap()
}

const TESTNET: &[(&str, &str)] = &[("ETH_NETWORK", "bsc-testnet")];

fn transfer() -> Value {
    json!({ "to": "0x3535353535353535353535353535353535353535", "nonce": 3, "gas": 21000,
            "gasPrice": 10_000_000_000_u64, "data": "0x" })
}

fn transfer_with(change: impl FnOnce(&mut Value)) -> String {
    let mut request = transfer();
    change(&mut request);
    request.to_string()
}

#[tokio::test]
async fn every_contract_case_holds_for_low_and_high_s_from_kms() {
    for case in cases::all() {
        let env: Vec<_> = case.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if case.refuses_to_start() {
            let problem = config(&env).unwrap_err();
            assert!(problem.contains(case.variable()), "{}: {problem}", case.id);
            continue;
        }
        for signs in [Signs::Low, Signs::High] {
            case.judge(&answer(&function(signs, &env).await, &case.request).await);
        }
    }
}

#[tokio::test]
async fn request_costs_one_signature_and_refused_one_none() {
    let calls = Arc::<AtomicU32>::default();
    let keys = TestKeys { signs: Signs::High, calls: Arc::clone(&calls) };
    let function = SignDirect::start(keys, config(TESTNET).unwrap()).await.unwrap();
    assert!(answer(&function, &transfer().to_string()).await["signed_tx"].is_object());
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    error(&answer(&function, &transfer_with(|request| request["gas"] = json!(20_999))).await);
    answer(&function, r#"{"operation":"status"}"#).await;
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn status_names_the_key_and_its_chain() {
    let function = function(Signs::Never, TESTNET).await;
    let expected =
        json!({ "address": "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F", "chainId": 97, "kmsKeyId": KEY_ID });
    assert_eq!(answer(&function, r#"{"operation":"status"}"#).await, expected);
    for (payload, code) in [
        (r#"{"operation":"sign"}"#, "unknownOperation"),
        (r#"{"operation":null}"#, "unknownOperation"),
        (r#"{"operation":"status","nonce":1}"#, "unknownField"),
    ] {
        assert_eq!(error(&answer(&function, payload).await).1, code, "{payload}");
    }
}

#[tokio::test]
async fn invalid_request_gets_a_code_and_a_text_with_the_field() {
    let function = function(Signs::Low, TESTNET).await;
    let with = |field: &str, value: Value| transfer_with(|request| request[field] = value);
    for (payload, code, words) in [
        ("[]".to_owned(), "notAnObject", "a list"),
        ("17".to_owned(), "notAnObject", "a number"),
        ("null".to_owned(), "notAnObject", "null"),
        ("{".to_owned(), "notJson", "line 1"),
        ("[".repeat(10_000), "notJson", "not JSON"),
        (r#"{"gas":1,"gas":2}"#.to_owned(), "duplicateField", "`gas`"),
        (r#"{"Records":[]}"#.to_owned(), "unknownField", "another service's event"),
        (with("type", json!(2)), "unknownField", "the fee fields choose the transaction type"),
        (with("gasLimit", json!(21_000)), "unknownField", "use `gas`"),
        (with("from", json!("0x00")), "unknownField", "the fields are to, nonce"),
        (with("chainId", json!(56)), "wrongChain", "signs for chain 97"),
        (with("nonce", json!(u64::MAX)), "badNumber", "EIP-2681"),
        (with("gas", json!(16_777_217)), "gasTooHigh", "EIP-7825"),
        (with("gas", json!(20_999)), "gasTooLow", "below 21000"),
        (with("to", Value::Null), "creationNotAllowed", "allow_creation"),
        (with("data", json!(format!("0x{}", "00".repeat(131_072)))), "gasTooLow", "EIP-7623"),
        (with("maxFeePerGas", json!(1)), "missingField", "sign requires maxPriorityFeePerGas"),
    ] {
        let answer = answer(&function, &payload).await;
        let (text, found) = error(&answer);
        assert_eq!(found, code, "{text}");
        assert!(text.contains(words), "{text}");
    }
    assert!(answer(&function, &with("chainId", json!("0x61"))).await["signed_tx"].is_object());
}

#[tokio::test]
async fn secret_field_is_named_but_its_value_is_not_repeated() {
    let function = function(Signs::Low, TESTNET).await;
    let phrase = "abandon".repeat(20);
    for (name, shown) in [("Seed_Phrase", "Seed_Phrase"), (format!("mnemonic {phrase}").as_str(), "mnemonic")] {
        let answer = answer(&function, &json!({ "deep": [{ name: phrase }] }).to_string()).await;
        let expected = format!("refusing request: secret key material must not be sent to the signer ({shown})");
        assert_eq!(error(&answer), (expected.as_str(), "secretField"));
    }
}

#[tokio::test]
async fn all_secret_fields_are_named_sorted_and_once() {
    let function = function(Signs::Low, TESTNET).await;
    let refusal =
        |names: &str| format!("refusing request: secret key material must not be sent to the signer ({names})");
    let several = r#"{"seed":1,"a":[{"privateKey":2,"SKEYS":3}],"mnemonic":4,"b":{"seed":5,"private_key":6},"gas":7}"#;
    let expected = refusal("SKEYS, mnemonic, privateKey, private_key, seed");
    assert_eq!(error(&answer(&function, several).await), (expected.as_str(), "secretField"));
    // Invalid JSON is read up to the error.
    let expected = refusal("mnemonic, seed");
    assert_eq!(error(&answer(&function, r#"{"seed":1,"mnemonic":2,"#).await).0, expected);
    // The number of names in the answer is bounded.
    let many: Vec<_> = (0..1_000).map(|number| format!(r#""mnemonic{number:03}":0"#)).collect();
    let answer = answer(&function, &format!("{{{}}}", many.join(","))).await;
    let named: Vec<_> = (0..16).map(|number| format!("mnemonic{number:03}")).collect();
    assert_eq!(error(&answer).0, refusal(&format!("{}, and others", named.join(", "))));
}

#[tokio::test]
async fn policy_of_the_function_applies() {
    let policy = r#"
        [account.sign-direct]
        max_gas_price_wei = "10000000000"
        max_value_wei = "7"
        allow_creation = true
        deny_to = ["0x55d398326f99059ff775485246999027b3197955"]
    "#;
    let function = function(Signs::Low, &[("ETH_NETWORK", "bsc"), ("SIGNPOST_POLICY", policy)]).await;
    for (field, value, code) in [
        ("gasPrice", json!(10_000_000_001_u64), "feeTooHigh"),
        ("value", json!("8"), "valueTooHigh"),
        ("to", json!("0x55d398326f99059ff775485246999027b3197955"), "toNotAllowed"),
    ] {
        let answer = answer(&function, &transfer_with(|request| request[field] = value)).await;
        assert_eq!(error(&answer).1, code);
    }
    let creation = transfer_with(|request| {
        request["to"] = Value::Null;
        request["data"] = json!("0x60006000f3");
        request["gas"] = json!(100_000);
    });
    for allowed in [creation, transfer_with(|request| request["value"] = json!(7))] {
        assert!(answer(&function, &allowed).await["signed_tx"].is_object(), "{allowed}");
    }
}

#[tokio::test]
async fn failed_kms_signature_is_an_error_with_a_code() {
    let failing = |throttled, happened| Signs::Failing { throttled, happened };
    for (signs, code) in [
        (failing(true, Happened::No), "throttled"),
        (failing(false, Happened::Unknown), "kmsTimeout"),
        (failing(false, Happened::No), "kmsFailed"),
        (Signs::AnotherHash, "badSignature"),
    ] {
        let answer = answer(&function(signs, TESTNET).await, &transfer().to_string()).await;
        assert_eq!(error(&answer).1, code);
    }
}

#[tokio::test]
async fn silent_kms_is_not_waited_for_beyond_the_time_limit() {
    let function = function(Signs::Never, TESTNET).await;
    let answer = function.answer(&transfer().to_string(), REQUEST_ID, Duration::from_millis(5)).await;
    assert_eq!(error(&serde_json::to_value(answer).unwrap()).1, "kmsTimeout");
}
