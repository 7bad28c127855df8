//! Unchanged evidence passes every check, and every change is found and named.

#![allow(missing_docs, reason = "a test binary has no reader of its documentation")]
#![expect(clippy::unwrap_used, reason = "a test may end at the first surprise")]

use std::sync::Arc;

use serde_json::{Map, Value, json};
use signpost_txmgr::evidence::{Beside, Finding, of, verify};
use signpost_txmgr::header;
use signpost_txmgr::machine::{Event, apply};
use signpost_txmgr::record::{
    Acceptance, Attempt, AttemptKind, BlockRef, CancelCause, Foreign, Phase, Receipt, Record, SendAnswer, SendClass,
};
use signpost_txmgr::request::{AccountRef, FeeAsk, SigningRequest};
use signpost_txmgr::signature::LocalKey;
use signpost_txmgr::tx::{Fee, Intent, UnsignedTx};
use signpost_txmgr::units::{
    AccountKey, Address, BlockHash, BlockNumber, ChainId, Digest, Gas, Millis, Nonce, TxHash, Wei,
};
use signpost_txmgr::wire::evidence::{Evidence, SealCheck};

const NOW: Millis = Millis(1_795_348_800_000);

fn key() -> LocalKey {
    LocalKey::new([7; 32])
}

fn account() -> AccountKey {
    AccountKey { chain_id: ChainId(97), address: key().public_key().address() }
}

/// A request for a token transfer, with or without a price, for an account or a pool.
fn asked(fee: FeeAsk, pool: Option<&str>) -> SigningRequest {
    let token: Address = "0x55d398326f99059fF775485246999027B3197955".parse().unwrap();
    let data = [&[0xa9, 0x05, 0x9c, 0xbb][..], &[0; 12], &[0xaa; 20], &[0; 31], &[9]].concat();
    SigningRequest {
        id: "pay-1".parse().unwrap(),
        account: pool.map(|pool| AccountRef::Pool(pool.parse().unwrap())),
        to: Some(token),
        value: Wei::from(5),
        data: Arc::from(data),
        gas: Gas(60_000),
        fee,
        // It is above the policy's cap, so the record has another cap.
        max_gas_price: Some(Wei::from_gwei(9)),
        deadline: Some(Millis(1_795_349_000_000)),
        chain_id: None,
        metadata: Some(json!({ "order": 4711, "price": 0.10, "note": "\u{202e}" })),
    }
}

fn reserved(request: &SigningRequest) -> Record {
    Record {
        request_id: request.id.clone(),
        digest: request.digest(&account()),
        version: 0,
        account: account(),
        name: "hot".parse().unwrap(),
        nonce: Nonce(7),
        intent: Intent {
            chain_id: ChainId(97),
            to: request.to,
            value: request.value,
            data: request.data.clone(),
            gas: request.gas,
        },
        fee: Fee::Legacy { gas_price: Wei::from_gwei(1) },
        fee_cap: Wei::from_gwei(5),
        deadline: request.deadline,
        acceptance: Some(Acceptance::of(request, Digest([0x70; 32]))),
        metadata: request.metadata.clone(),
        sender: Some("AIDAEXAMPLE".to_owned()),
        message_id: Some("m-1".to_owned()),
        trace: None,
        max_head_ms: None,
        capped_since: None,
        seal: None,
        attempts: Vec::new(),
        cancel: None,
        inquiry: None,
        waiting: None,
        phase: Phase::Reserved,
        created_at: NOW,
        updated_at: NOW,
    }
}

fn after(record: &Record, event: &Event) -> Record {
    apply(record, event, NOW).unwrap()
}

fn signed(record: &Record, fee: Fee) -> Record {
    let kind = record.next_kind();
    let intent = record.intent_of(kind, Wei::ZERO);
    let unsigned = UnsignedTx { intent: &intent, nonce: record.nonce, fee };
    let hash = unsigned.signing_hash();
    let signature = key().public_key().signature(&hash, &key().sign_der(&hash, true)).unwrap();
    let attempt = Attempt {
        kind,
        to_self: Wei::ZERO,
        fee,
        signature,
        tx_hash: unsigned.sign(&signature).hash,
        signed_at: NOW,
        kms_request_id: Some("1d2e3f40-5a6b-4c7d-8e9f-0a1b2c3d4e5f".to_owned()),
        sent: None,
    };
    let number = record.attempts.len();
    let signed = after(record, &Event::Signed { number, attempt });
    after(&signed, &Event::Sent { number, answer: SendAnswer::new(SendClass::Accepted, "") })
}

/// A header whose hash is the hash of its fields.
fn header() -> Map<String, Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/headers/sepolia-8324337.json");
    header::of_block(&serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()).unwrap()
}

fn block() -> BlockRef {
    let hash: BlockHash = header()[header::HASH].as_str().unwrap().parse().unwrap();
    BlockRef { number: BlockNumber(8_324_337), hash }
}

fn receipt(tx_hash: TxHash, succeeded: bool) -> Receipt {
    Receipt {
        tx_hash,
        block: block(),
        succeeded,
        gas_used: Some(Gas(52_001)),
        effective_gas_price: Some(Wei::from_gwei(1)),
        contract: None,
    }
}

fn beside(record: &Record, succeeded: bool) -> Beside {
    let decided = record.phase.settlement().map(|settlement| settlement.verdict.tx_hash());
    let receipt = decided.map(|hash| {
        let Value::Object(receipt) = json!({
            "transactionHash": hash.to_string(), "blockHash": block().hash.to_string(),
            "blockNumber": format!("{:#x}", block().number.0), "from": account().address.lower(),
            "gasUsed": "0xcb21", "effectiveGasPrice": "0x3b9aca00", "status": if succeeded { "0x1" } else { "0x0" }, "logs": [],
        }) else {
            panic!("an object")
        };
        receipt
    });
    Beside {
        seal_check: SealCheck::NotChecked,
        kms_key_id: Some("alias/hot".parse().unwrap()),
        header: receipt.as_ref().map(|_| header()),
        receipt,
        now: NOW,
    }
}

const GWEI: fn(u64) -> Fee = |gwei| Fee::Legacy { gas_price: Wei::from_gwei(gwei) };

/// The evidence of a request that was signed and bumped, and whose first attempt was mined.
fn confirmed() -> Evidence {
    let bumped = signed(&signed(&reserved(&asked(FeeAsk::Configured, None)), GWEI(1)), GWEI(2));
    let receipt = receipt(bumped.attempts[0].tx_hash, true);
    let settled = after(&bumped, &Event::Finalized { receipt, revert: None, witnesses: 2 });
    of(&settled, beside(&settled, true))
}

/// The names of the failed checks, after a round trip through JSON.
fn failed(evidence: &Value) -> Vec<String> {
    let evidence: Evidence = serde_json::from_value(evidence.clone()).unwrap();
    let failed = verify(&evidence, None).into_iter().filter(|check| matches!(check.finding, Finding::Fails(_)));
    failed.map(|check| check.name).collect()
}

fn not_checked(evidence: &Evidence) -> Vec<String> {
    let left = verify(evidence, None).into_iter().filter(|check| matches!(check.finding, Finding::NotChecked(_)));
    left.map(|check| check.name).collect()
}

#[test]
fn unchanged_evidence_passes() {
    let evidence = confirmed();
    assert_eq!(failed(&json!(evidence)), Vec::<String>::new());
    assert_eq!(not_checked(&evidence), ["seal"]);
    assert_eq!(evidence.call.function.as_deref(), Some("transfer(address,uint256)"));
    assert_eq!(evidence.call.arguments[1].value, "9");
    assert_eq!(evidence.attempts[1].recovered.as_deref(), Some(evidence.request.from.as_str()));
    assert_eq!(evidence.attempts[0].kms_request_id.as_deref(), Some("1d2e3f40-5a6b-4c7d-8e9f-0a1b2c3d4e5f"));
    assert_eq!(evidence.policy_digest, Some("70".repeat(32)));
    assert!(verify(&evidence, None).len() > 15);
}

#[test]
fn digest_is_recomputed_for_every_form_of_request() {
    let fixed = FeeAsk::Fixed(GWEI(1));
    for request in [asked(FeeAsk::Configured, None), asked(fixed, None), asked(fixed, Some("payouts"))] {
        let request = SigningRequest { max_gas_price: None, ..request };
        let evidence = of(&reserved(&request), beside(&reserved(&request), true));
        assert_eq!(failed(&json!(evidence)), Vec::<String>::new(), "{request:?}");
        assert_eq!(not_checked(&evidence), ["seal", "block"], "{request:?}");
    }
}

#[test]
fn evidence_of_every_outcome_passes() {
    let sent = signed(&reserved(&asked(FeeAsk::Configured, None)), GWEI(1));
    let of_first = |succeeded| receipt(sent.attempts[0].tx_hash, succeeded);
    let reverted = after(&sent, &Event::Finalized { receipt: of_first(false), revert: None, witnesses: 1 });
    let cancel = signed(&after(&sent, &Event::CancelAsked(CancelCause::Asked)), GWEI(2));
    assert_eq!(cancel.attempts[1].kind, AttemptKind::Cancel);
    let of_cancel = receipt(cancel.attempts[1].tx_hash, true);
    let cancelled = after(&cancel, &Event::Finalized { receipt: of_cancel, revert: None, witnesses: 1 });
    let foreign = Foreign { tx_hash: TxHash([0xf0; 32]), block: block() };
    let displaced = after(&sent, &Event::Displaced { foreign, witnesses: 1 });
    let mined = after(&sent, &Event::Mined(of_first(true)));
    for (record, succeeded) in [(reverted, false), (cancelled, true), (displaced, true), (mined, true), (sent, true)] {
        let evidence = of(&record, beside(&record, succeeded));
        assert_eq!(failed(&json!(evidence)), Vec::<String>::new(), "{:?}", record.phase);
    }
}

#[test]
fn missing_fields_of_older_records_are_not_checked() {
    let old = Record { acceptance: None, ..signed(&reserved(&asked(FeeAsk::Configured, None)), GWEI(1)) };
    let evidence = of(&old, beside(&old, true));
    assert_eq!(failed(&json!(evidence)), Vec::<String>::new());
    assert_eq!(not_checked(&evidence), ["digest", "policy", "seal", "block"]);
}

/// Changes one field and returns the names of the failed checks.
fn changed(path: &str, value: Value) -> Vec<String> {
    let mut evidence = json!(confirmed());
    let place = evidence.pointer_mut(path).unwrap_or_else(|| panic!("{path} is in the file"));
    assert_ne!(*place, value, "{path}");
    *place = value;
    failed(&evidence)
}

#[test]
fn every_change_fails_its_own_check() {
    let evidence = json!(confirmed());
    let other_hash = json!(format!("0x{}", "1".repeat(64)));
    let other_address = json!("0x00000000000000000000000000000000000000AA");
    let flipped = json!(1 - evidence["attempts"][0]["signature"]["yParity"].as_u64().unwrap());
    let raw = evidence["attempts"][1]["raw"].clone();
    for (path, value, line) in [
        ("/schema", json!("evidence.v2"), "schema"),
        ("/request/requestId", json!("not an id"), "request"),
        ("/request/digest", json!("11".repeat(32)), "digest"),
        ("/request/value", json!("6"), "digest"),
        ("/request/value", json!("6"), "attempt 0: raw bytes"),
        ("/request/to", other_address.clone(), "attempt 0: signing hash"),
        ("/request/data", json!("0xa9059cbb"), "call"),
        ("/request/gas", json!(60_001), "attempt 1: signing hash"),
        ("/request/nonce", json!(8), "attempt 0: signature"),
        ("/request/chainId", json!(56), "account"),
        ("/request/from", other_address.clone(), "account"),
        ("/request/deadline", json!(1_795_349_001_u64), "digest"),
        ("/request/metadata/order", json!(4_712), "digest"),
        ("/request/feeCap", json!("1"), "attempt 0: price"),
        ("/request/asked/maxGasPrice", json!("1"), "digest"),
        ("/request/asked/namesFee", json!(true), "digest"),
        ("/call/arguments/1/value", json!("10"), "call"),
        ("/policyDigest", json!("70"), "request"),
        ("/sealCheck", json!("does not fit"), "seal"),
        ("/attempts/0/fee/gasPrice", json!("1000000001"), "attempt 0: signing hash"),
        ("/attempts/0/kind", json!("cancel"), "attempt 0: raw bytes"),
        ("/attempts/0/signingHash", other_hash.clone(), "attempt 0: signing hash"),
        ("/attempts/0/signature/r", other_hash.clone(), "attempt 0: signature"),
        ("/attempts/0/signature/s", other_hash.clone(), "attempt 0: signature"),
        ("/attempts/0/signature/yParity", flipped, "attempt 0: signature"),
        ("/attempts/0/signature/yParity", json!(2), "attempt 0: parts"),
        ("/attempts/0/recovered", other_address.clone(), "attempt 0: signature"),
        ("/attempts/0/raw", raw, "attempt 0: raw bytes"),
        ("/attempts/0/raw", json!("0x"), "attempt 0: hash"),
        ("/attempts/0/txHash", other_hash.clone(), "attempt 0: hash"),
        ("/attempts/0/txHash", other_hash.clone(), "outcome"),
        ("/attempts/1/number", json!(0), "attempt 1: parts"),
        ("/outcome/status", json!("cancelled"), "outcome"),
        ("/outcome/status", json!("reverted"), "receipt"),
        ("/outcome/status", json!("displaced"), "outcome"),
        ("/outcome/status", json!("sent"), "outcome"),
        ("/outcome/txHash", other_hash.clone(), "outcome"),
        ("/outcome/txHash", evidence["attempts"][1]["txHash"].clone(), "receipt"),
        ("/outcome/blockHash", other_hash.clone(), "block"),
        ("/outcome/blockNumber", json!(1), "block"),
        ("/outcome/gasUsed", json!(21_000), "receipt"),
        ("/receipt/transactionHash", other_hash.clone(), "receipt"),
        ("/receipt/blockHash", other_hash.clone(), "receipt"),
        ("/receipt/status", json!("0x0"), "receipt"),
        ("/receipt/from", other_address, "receipt"),
        ("/header/stateRoot", other_hash.clone(), "block header"),
        ("/header/timestamp", json!("0x1"), "block header"),
        ("/header/requestsHash", other_hash.clone(), "block header"),
        ("/header/hash", other_hash, "block header"),
        ("/header/number", json!("0x1"), "block"),
        ("/header/nonce", json!("0x"), "block header"),
    ] {
        let failed = changed(path, value.clone());
        assert!(failed.iter().any(|name| name == line), "{path} as {value}: {failed:?}");
    }
}

/// A valid header of another block is not accepted as the outcome's.
#[test]
fn header_of_another_block_fails() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/headers/bsc-mainnet-1.json");
    let other: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(changed("/header", Value::Object(header::of_block(&other).unwrap())), ["block"]);
}

#[test]
fn missing_or_repeated_attempt_fails() {
    let whole = json!(confirmed());
    let mut without = whole.clone();
    without["attempts"].as_array_mut().unwrap().remove(0);
    assert!(failed(&without).contains(&"attempt 0: parts".to_owned()), "{:?}", failed(&without));
    let mut twice = whole.clone();
    let mut second = whole["attempts"][0].clone();
    second["number"] = json!(1);
    twice["attempts"][1] = second;
    assert_eq!(failed(&twice), ["attempts"]);
}

/// Fields that nothing else in the file confirms. The seal covers those of the request; the others are claims of the
/// record.
const UNCONFIRMED: [&str; 17] = [
    "/request/feeCap",
    "/madeAt",
    "/madeBy",
    "/policyDigest",
    "/codeVersion",
    "/kmsKeyId",
    "/request/requestId",
    "/request/accountName",
    "/request/sender",
    "/request/messageId",
    "/request/createdAt",
    "/attempts/0/signedAt",
    "/attempts/0/kmsRequestId",
    "/attempts/0/sentAt",
    "/attempts/0/answer",
    "/outcome/witnesses",
    "/outcome/settledAt",
];

fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| leaves(value, &format!("{path}/{name}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| leaves(value, &format!("{path}/{at}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => found.push(path.to_owned()),
    }
}

/// Another value of the same shape.
fn another(value: &Value) -> Value {
    match value {
        Value::Bool(flag) => json!(!flag),
        Value::Number(number) => json!(number.as_u64().map_or(1, |number| number ^ 1)),
        Value::String(text) => {
            let last = text.chars().last().unwrap_or('0');
            let other = if last == '1' { '2' } else { '1' };
            json!(format!("{}{other}", text.strip_suffix(last).unwrap_or_default()))
        }
        Value::Null | Value::Array(_) | Value::Object(_) => unreachable!("not a leaf"),
    }
}

#[test]
fn every_field_is_checked_or_listed_as_unconfirmed() {
    let whole = json!(confirmed());
    let mut paths = Vec::new();
    leaves(&whole, "", &mut paths);
    assert!(paths.len() > 80, "{paths:?}");
    let mut wrong = Vec::new();
    for path in paths {
        let mut evidence = whole.clone();
        let place = evidence.pointer_mut(&path).unwrap();
        *place = another(place);
        // The changed value is not valid for its type.
        let Ok(evidence) = serde_json::from_value::<Evidence>(evidence) else { continue };
        let is_confirmed = !UNCONFIRMED.contains(&path.replace("/attempts/1", "/attempts/0").as_str());
        if failed(&json!(evidence)).is_empty() == is_confirmed {
            wrong.push(path);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn odd_values_never_panic() {
    let whole = json!(confirmed());
    let mut paths = Vec::new();
    leaves(&whole, "", &mut paths);
    let odd = [
        json!(null),
        json!(""),
        json!("0x"),
        json!("0x0"),
        json!("\u{202e}"),
        json!(0),
        json!(u64::MAX),
        json!("9".repeat(200)),
    ];
    let mut checks = 0;
    for path in paths {
        for value in &odd {
            let mut evidence = whole.clone();
            *evidence.pointer_mut(&path).unwrap() = value.clone();
            if let Ok(evidence) = serde_json::from_value::<Evidence>(evidence) {
                checks += verify(&evidence, None).len();
            }
        }
    }
    assert!(checks > 1_000, "{checks}");
}

#[test]
fn unknown_field_is_refused() {
    let mut evidence = json!(confirmed());
    evidence["more"] = json!(1);
    assert!(serde_json::from_value::<Evidence>(evidence).is_err(), "a field without a check is not allowed");
}
