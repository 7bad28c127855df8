//! Every attribute that a write uses, in its key, its change and its condition, is in the list of the part that makes
//! the write, and every attribute of a list is used by a write: the deployed permissions are these lists.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use signpost_aws::item::MUTABLE;
use signpost_aws::store::written::{BY_BROADCASTER, BY_OPERATOR, BY_SIGNER, OF_SLOTS};
use signpost_txmgr::account::{AsideCause, Marks, SeenFee, SenderCounts, SetAside, Spend};
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::units::{Nonce, Wei};
use signpost_txmgr::unusable::{KeyCall, KeyFault, Unusable};

use crate::fixture::{self, NOW, json_of};
use crate::script::{Script, Step};

/// The words of DynamoDB's expressions that are not attributes.
const WORDS: [&str; 7] = ["SET", "REMOVE", "AND", "OR", "attribute_exists", "attribute_not_exists", "if_not_exists"];

/// The attributes that a write uses; of a path, the first one.
fn named(write: &Value) -> BTreeSet<String> {
    let whole = ["Key", "Item"].into_iter().filter_map(|part| write[part].as_object()).flatten();
    let mut found: BTreeSet<String> = whole.map(|(name, _)| name.clone()).collect();
    for expression in ["UpdateExpression", "ConditionExpression"] {
        let text = write[expression].as_str().unwrap_or_default();
        let tokens = text.split(|c: char| !(c.is_alphanumeric() || "_#:.".contains(c)));
        let first = tokens.filter_map(|token| token.split('.').next());
        let names = first.filter(|name| !name.is_empty() && !name.starts_with(':') && !WORDS.contains(name));
        found.extend(names.map(|name| write["ExpressionAttributeNames"][name].as_str().unwrap_or(name).to_owned()));
    }
    found
}

/// The recorded writes, including those in transactions: the operation and its attributes.
fn writes(script: &Script) -> Vec<(String, BTreeSet<String>)> {
    let mut found = Vec::new();
    for asked in script.asked() {
        let body = asked.json();
        for item in body["TransactItems"].as_array().into_iter().flatten() {
            found.extend(item.as_object().unwrap().iter().map(|(kind, write)| (format!("{kind}Item"), named(write))));
        }
        if ["UpdateItem", "PutItem", "DeleteItem", "BatchWriteItem"].contains(&asked.operation.as_str()) {
            found.push((asked.operation, named(&body)));
        }
    }
    found
}

fn all(writes: &[(String, BTreeSet<String>)], operation: &str) -> BTreeSet<String> {
    writes.iter().filter(|(made, _)| made == operation).flat_map(|(_, named)| named.clone()).collect()
}

fn list(lists: &[&[&str]]) -> BTreeSet<String> {
    lists.concat().into_iter().map(str::to_owned).collect()
}

const KEY: &[&str] = &["account", "item"];

fn slot(nonce: u64) -> Step {
    let slot = signpost_aws::item::head::encode_slot(&fixture::head(0).account, Nonce(nonce), &"r-0".parse().unwrap());
    Step::ok(json!({ "Items": [json_of(&slot)], "Count": 1 }))
}

#[tokio::test]
async fn broadcaster_writes_exactly_its_list() {
    let account = fixture::head(0).account;
    let done = || Step::ok("{}");
    let steps = [done(), done(), done(), done(), done(), done(), done(), slot(5), done(), done(), slot(6), done()];
    let script = Script::new(steps);
    let store = fixture::store(&script);
    for paused in [true, false] {
        store.set_paused_by_node(&account, paused).await.unwrap();
    }
    for since in [Some(NOW), None] {
        store.set_unfunded(&account, since).await.unwrap();
    }
    let fee = SeenFee { gas_price: Wei::from_gwei(1), observed_at: NOW };
    store.observe_fee(&account, &fee).await.unwrap();
    assert!(store.fast_forward(&account, Nonce(1), Nonce(5)).await.unwrap());
    assert!(store.leave_slots(&account, Nonce(5), Nonce(6), NOW).await.unwrap());
    let before = Marks { lowest_open_nonce: Nonce(6), set_aside: Vec::new(), gaps: Vec::new() };
    let aside = SetAside { nonce: Nonce(7), cause: AsideCause::Unproven, since: NOW };
    let after = Marks { lowest_open_nonce: Nonce(8), set_aside: vec![aside], gaps: Vec::new() };
    assert!(store.move_marks(&account, &before, &after, NOW).await.unwrap());
    let writes = writes(&script);
    assert!(writes.iter().all(|(operation, _)| operation == "UpdateItem"), "{writes:?}");
    assert_eq!(all(&writes, "UpdateItem"), list(&[KEY, &BY_BROADCASTER]));
}

#[tokio::test]
async fn signer_writes_exactly_its_lists() {
    let mut group = fixture::group(1);
    group.spend = Some(Spend { window_start: NOW, spent: Wei::from(1_u64) });
    group.sender_counts = Some(SenderCounts { window_start: NOW, counts: [("AROAEXAMPLE".to_owned(), 1)].into() });
    let script = Script::new([Step::ok("{}"), Step::ok("{}"), Step::ok("{}")]);
    let store = fixture::store(&script);
    store.reserve(&group).await.unwrap();
    let unusable = Unusable { since: NOW, fault: KeyFault::Disabled, call: KeyCall::Sign };
    for mark in [Some(unusable), None] {
        store.set_unusable(&group.head.account, mark).await.unwrap();
    }
    let writes = writes(&script);
    assert_eq!(all(&writes, "UpdateItem"), list(&[KEY, &BY_SIGNER]));
    let slots: Vec<_> = writes.iter().filter(|(made, named)| made == "PutItem" && named.contains("item")).collect();
    assert_eq!(slots.len(), 1, "{writes:?}");
    assert_eq!(slots[0].1, list(&[KEY, &OF_SLOTS]));
}

#[tokio::test]
async fn operator_writes_exactly_its_list() {
    let account = fixture::head(0).account;
    let script = Script::new([Step::ok("{}"), Step::ok("{}"), Step::ok("{}"), Step::ok("{}")]);
    let store = fixture::store(&script);
    for paused in [true, false] {
        store.set_paused(&account, paused).await.unwrap();
    }
    assert!(store.set_nonce(&account, Nonce(5), Nonce(2)).await.unwrap());
    store.retire(&account, NOW).await.unwrap();
    assert_eq!(all(&writes(&script), "UpdateItem"), list(&[KEY, &BY_OPERATOR]));
}

#[tokio::test]
async fn update_uses_no_attribute_fixed_at_acceptance() {
    let script = Script::new([Step::ok("{}")]);
    fixture::store(&script).update(&fixture::signed(&fixture::group(1).records[0])).await.unwrap();
    assert_eq!(all(&writes(&script), "UpdateItem"), list(&[&["requestId", "createdAt"], &MUTABLE]));
}
