//! An account and its requests, and a store on a scripted network.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};
use signpost_aws::item::Item;
use signpost_aws::store::{DynamoStore, TableNames};
use signpost_txmgr::account::{Head, Reservation};
use signpost_txmgr::machine::{Event, apply};
use signpost_txmgr::record::{Attempt, AttemptKind, Phase, Record};
use signpost_txmgr::signature::LocalKey;
use signpost_txmgr::tx::{Fee, Intent, UnsignedTx};
use signpost_txmgr::units::{AccountKey, ChainId, Digest, Gas, Millis, Nonce, Wei, sha256};

use crate::script::{IMPATIENT, Script};

/// The time of all events.
pub(crate) const NOW: Millis = Millis(1_790_000_000_000);

pub(crate) fn store(script: &Script) -> DynamoStore {
    let client = aws_sdk_dynamodb::Client::new(&script.sdk());
    DynamoStore::with_client(
        client,
        TableNames { requests: "requests".to_owned(), accounts: "accounts".to_owned() },
        IMPATIENT,
    )
}

pub(crate) fn head(next_nonce: u64) -> Head {
    let account = AccountKey { chain_id: ChainId(97), address: key().public_key().address() };
    Head::new(account, "hot".parse().unwrap(), "key-1".parse().unwrap(), Nonce(next_nonce), NOW)
}

/// `r-0`, `r-1`, … from nonce 5 on.
pub(crate) fn group(count: u64) -> Reservation {
    let head = head(5);
    let records = (0..count).map(|at| record(&head, at)).collect();
    Reservation { head, records, spend: None, sender_counts: None, replaces: BTreeMap::new() }
}

fn record(head: &Head, at: u64) -> Record {
    let id = format!("r-{at}");
    Record {
        digest: Digest(sha256(id.as_bytes())),
        request_id: id.parse().unwrap(),
        version: 1,
        account: head.account,
        name: head.name.clone(),
        nonce: head.next_nonce.plus(at),
        intent: Intent {
            chain_id: head.account.chain_id,
            to: Some(head.account.address),
            value: Wei::from(at),
            data: Arc::from([1, 2, 3]),
            gas: Gas(30_000),
        },
        fee: Fee::Legacy { gas_price: Wei::from_gwei(1) },
        fee_cap: Wei::from_gwei(5),
        deadline: None,
        acceptance: None,
        metadata: None,
        sender: None,
        message_id: Some("m-1".to_owned()),
        trace: None,
        seal: None,
        attempts: Vec::new(),
        cancel: None,
        inquiry: None,
        waiting: None,
        capped_since: None,
        max_head_ms: None,
        phase: Phase::Reserved,
        created_at: NOW,
        updated_at: NOW,
    }
}

pub(crate) fn signed(record: &Record) -> Record {
    let unsigned = UnsignedTx { intent: &record.intent, nonce: record.nonce, fee: record.fee };
    let hash = unsigned.signing_hash();
    let signature = key().public_key().signature(&hash, &key().sign_der(&hash, false)).unwrap();
    let attempt = Attempt {
        kind: AttemptKind::Execute,
        fee: record.fee,
        signature,
        tx_hash: unsigned.sign(&signature).hash,
        to_self: Wei::ZERO,
        signed_at: NOW,
        kms_request_id: None,
        sent: None,
    };
    apply(record, &Event::Signed { number: 0, attempt }, NOW).unwrap()
}

fn key() -> LocalKey {
    LocalKey::new([3; 32])
}

/// An item in the form of DynamoDB's answers.
pub(crate) fn json_of(item: &Item) -> Value {
    item.iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

fn attribute(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(digits) => json!({ "N": digits }),
        AttributeValue::Bool(flag) => json!({ "BOOL": flag }),
        AttributeValue::B(bytes) => json!({ "B": aws_smithy_types::base64::encode(bytes) }),
        AttributeValue::L(list) => json!({ "L": list.iter().map(attribute).collect::<Vec<_>>() }),
        AttributeValue::M(item) => json!({ "M": json_of(item) }),
        other => panic!("we never store {other:?}"),
    }
}
