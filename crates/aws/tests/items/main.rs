//! The stored shape: items are read back unchanged, all earlier versions still load, and errors name the
//! malformed attribute.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::wildcard_enum_match_arm,
    clippy::needless_pass_by_value,
    clippy::format_collect,
    reason = "a test may panic, and its helpers are few and small"
)]

mod dynamodb_json;
mod examples;
mod random;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use aws_sdk_dynamodb::types::AttributeValue;
use proptest::prelude::*;
use signpost_aws::item::{self, Item, MUTABLE, Problem, head};
use signpost_txmgr::account::Head;
use signpost_txmgr::record::Stored;
use signpost_txmgr::units::Millis;
use signpost_txmgr::unusable::KeyFault;
use signpost_txmgr::wire::RequestStatus;

fn goldens() -> BTreeMap<String, Item> {
    let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/items"));
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        found.insert(name, dynamodb_json::parse(&fs::read_to_string(path).unwrap()));
    }
    found
}

#[test]
fn every_item_ever_stored_loads() {
    let goldens = goldens();
    for (name, golden) in &goldens {
        if name.starts_with("head") {
            head::decode_head(golden).unwrap_or_else(|error| panic!("{name}: {error}"));
        } else if name.starts_with("slot") {
            head::decode_slot(golden).unwrap_or_else(|error| panic!("{name}: {error}"));
        } else if name.starts_with("name") {
            head::decode_name(golden).unwrap_or_else(|error| panic!("{name}: {error}"));
        } else {
            item::decode(golden).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    assert!(goldens.len() >= 14, "only {} goldens were found", goldens.len());
}

/// A golden is never changed. When the shape changes, `VERSION` is incremented, the new shape gets new goldens
/// (`SIGNPOST_NEW_GOLDENS=1` writes the missing ones), and the old ones must still load.
#[test]
fn written_items_equal_the_goldens() {
    let add = std::env::var_os("SIGNPOST_NEW_GOLDENS").is_some();
    for (name, written) in examples::items() {
        let path = format!("{}/../../tests/vectors/items/{name}.json", env!("CARGO_MANIFEST_DIR"));
        if add && !PathBuf::from(&path).exists() {
            fs::write(&path, dynamodb_json::print(&written)).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(dynamodb_json::parse(&golden), written, "{name}");
    }
}

#[test]
fn requests_are_read_back_unchanged() {
    for (name, stored) in examples::requests() {
        assert_eq!(item::decode(&item::encode(&stored)), Ok(stored), "{name}");
    }
    let unfunded = Head { unfunded_since: Some(Millis(7)), ..examples::head() };
    let heads = [examples::head(), examples::spending(), examples::unusable(), examples::set_aside(), unfunded];
    for account in heads.into_iter().chain([examples::counting()]) {
        assert_eq!(head::decode_head(&head::encode_head(&account)), Ok(account));
    }
}

#[test]
fn fault_of_a_later_version_keeps_the_head_readable() {
    let mut written = head::encode_head(&examples::unusable());
    let Some(AttributeValue::M(mark)) = written.get_mut("unusable") else { panic!("no mark") };
    mark.insert("fault".to_owned(), AttributeValue::S("melted".to_owned()));
    let read = head::decode_head(&written).unwrap().unusable.unwrap();
    assert_eq!(read.fault, KeyFault::Unavailable);
}

#[test]
fn every_field_of_the_status_is_an_attribute() {
    for (name, stored) in examples::requests() {
        let written = item::encode(&stored);
        let status = serde_json::to_value(RequestStatus::of(&stored)).unwrap();
        for (field, shown) in status.as_object().unwrap() {
            if name == "rejected-copy" && field == "account" {
                // Not in the index: see `item::encode_rejected`.
                continue;
            }
            let Some(attribute) = written.get(field) else {
                // An empty list is omitted from the JSON and stored in the item, never the other way round.
                panic!("{name}: {field} is not an attribute");
            };
            match attribute {
                AttributeValue::S(text) if field == "metadata" => assert_eq!(&shown.to_string(), text, "{name}"),
                AttributeValue::S(text) if shown.is_string() => assert_eq!(shown, text, "{name}: {field}"),
                AttributeValue::N(digits) => assert_eq!(&shown.to_string(), digits, "{name}: {field}"),
                _ => {}
            }
        }
    }
}

#[test]
fn broken_item_is_an_error_without_its_value() {
    for (name, stored) in examples::requests() {
        let whole = item::encode(&stored);
        for attribute in whole.keys() {
            let senseless = [None, Some(AttributeValue::Null(true)), Some(AttributeValue::S("se cret".to_owned()))];
            for value in senseless {
                let mut broken = whole.clone();
                broken.remove(attribute);
                broken.extend(value.map(|value| (attribute.clone(), value)));
                if let Err(error) = item::decode(&broken) {
                    assert!(!error.to_string().contains("se cret"), "{name}: {error}");
                }
            }
        }
    }
}

#[test]
fn error_names_the_attribute_of_the_wrong_type() {
    let (_, stored) = examples::requests().into_iter().find(|(name, _)| *name == "confirmed-closed").unwrap();
    let whole = item::encode(&stored);
    // For readers only, not read back: derived from the others.
    let derived = ["reason"];
    for attribute in whole.keys().filter(|name| !derived.contains(&name.as_str())) {
        let mut broken = whole.clone();
        broken.insert(attribute.clone(), AttributeValue::Null(true));
        let error = item::decode(&broken).expect_err(attribute);
        assert_eq!(&error.attribute, attribute);
        assert!(matches!(error.problem, Problem::NotA(_)), "{error}");
    }
}

#[test]
fn error_names_an_attempt_by_its_position() {
    let (_, stored) = examples::requests().into_iter().find(|(name, _)| *name == "sent-bumped").unwrap();
    let mut broken = item::encode(&stored);
    let Some(AttributeValue::L(attempts)) = broken.get_mut("attempts") else { panic!("attempts is a list") };
    let Some(AttributeValue::M(second)) = attempts.get_mut(1) else { panic!("an attempt is a map") };
    let Some(AttributeValue::M(fee)) = second.get_mut("fee") else { panic!("a fee is a map") };
    fee.insert("gasPrice".to_owned(), AttributeValue::S("1.5".to_owned()));
    let error = item::decode(&broken).unwrap_err();
    assert_eq!(error.to_string(), "attribute attempts[1].fee.gasPrice is not a decimal number that fits");
}

#[test]
fn bytes_that_do_not_match_the_stored_hash_are_refused() {
    let (_, stored) = examples::requests().into_iter().find(|(name, _)| *name == "signed").unwrap();
    let mut broken = item::encode(&stored);
    broken.insert("value".to_owned(), AttributeValue::S("2".to_owned()));
    let error = item::decode(&broken).unwrap_err();
    assert_eq!(error.to_string(), "attribute attempts[0].txHash contradicts signature");
}

#[test]
fn item_of_a_newer_version_is_refused() {
    for (_, stored) in examples::requests() {
        let mut newer = item::encode(&stored);
        newer.insert("itemVersion".to_owned(), AttributeValue::N("2".to_owned()));
        assert_eq!(item::decode(&newer).unwrap_err().problem, Problem::Newer { found: 2 });
    }
}

#[test]
fn rejection_with_a_slot_or_a_signature_is_refused() {
    let (_, stored) = examples::requests().into_iter().find(|(name, _)| *name == "rejected").unwrap();
    for attribute in ["nonce", "attempts"] {
        let mut broken = item::encode(&stored);
        broken.insert(attribute.to_owned(), AttributeValue::N("0".to_owned()));
        assert!(item::decode(&broken).is_err(), "I7: {attribute}");
    }
}

#[test]
fn fixed_attributes_are_in_no_conditional_write() {
    let written_once =
        ["requestId", "digest", "account", "nonce", "to", "value", "data", "gas", "createdAt", "metadata"];
    for attribute in written_once {
        assert!(!MUTABLE.contains(&attribute), "{attribute}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_record_is_read_back_unchanged(record in random::record()) {
        let stored = Stored::Record(Box::new(record));
        prop_assert_eq!(item::decode(&item::encode(&stored)), Ok(stored));
    }

    #[test]
    fn any_rejection_is_read_back_unchanged(rejected in random::rejected()) {
        let stored = Stored::Rejected(rejected);
        prop_assert_eq!(item::decode(&item::encode(&stored)), Ok(stored));
    }

    #[test]
    fn any_item_survives_dynamodb_json(record in random::record()) {
        let written = item::encode(&Stored::Record(Box::new(record)));
        prop_assert_eq!(dynamodb_json::parse(&dynamodb_json::print(&written)), written);
    }
}
