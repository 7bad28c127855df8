//! The table checked against captured messages, row by row and client by client.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Captured {
    client: String,
    errors: Vec<CapturedError>,
}

#[derive(Deserialize)]
struct CapturedError {
    code: i64,
    message: String,
    class: String,
}

macro_rules! captured {
    ($($client:literal),+) => {
        [$(include_str!(concat!("../../../../tests/vectors/node-errors/", $client, ".json"))),+]
    };
}

const CAPTURED: [&str; 14] = captured!(
    "anvil",
    "besu",
    "bsc",
    "bsc-1.8",
    "erigon",
    "ganache",
    "gateway",
    "geth",
    "hardhat",
    "nethermind",
    "nethermind-old",
    "provider",
    "reth",
    "reth-bsc"
);

fn captured() -> Vec<(String, CapturedError)> {
    CAPTURED
        .iter()
        .map(|file| serde_json::from_str::<Captured>(file).unwrap())
        .flat_map(|file| file.errors.into_iter().map(move |error| (file.client.clone(), error)))
        .collect()
}

/// The class as the files write it, for example `underpriced 100`.
fn class_of(text: &str) -> SendClass {
    match text.split_once(' ').unwrap_or((text, "")) {
        ("accepted", "") => SendClass::Accepted,
        ("alreadyKnown", "") => SendClass::AlreadyKnown,
        ("nonceTooLow", "") => SendClass::NonceTooLow,
        ("retry", "") => SendClass::Retry,
        ("underpriced", "") => SendClass::Underpriced(None),
        ("underpriced", least) => SendClass::Underpriced(Some(least.parse().unwrap())),
        ("funds", "") => SendClass::Funds,
        ("refused", "") => SendClass::Refused,
        ("misconfigured", "") => SendClass::Misconfigured,
        ("unknown", "") => SendClass::Unknown,
        _ => panic!("not a valid class: {text}"),
    }
}

fn row_of(error: &CapturedError) -> Option<&'static Row> {
    find(error.code, &error.message.to_lowercase())
}

#[test]
fn captured_messages_are_classified_as_recorded() {
    for (client, error) in captured() {
        assert_eq!(
            classify(error.code, &error.message),
            class_of(&error.class),
            "{client}: {} {}",
            error.code,
            error.message
        );
    }
}

#[test]
fn every_row_matches_a_message_of_each_named_client() {
    let captured = captured();
    for row in TABLE {
        let hit: BTreeSet<&str> = captured
            .iter()
            .filter(|(_, error)| row_of(error).is_some_and(|found| std::ptr::eq(found, row)))
            .map(|(client, _)| client.as_str())
            .collect();
        assert_eq!(hit, row.clients.split(' ').collect(), "clients of {row:?}");
    }
}

#[test]
fn no_row_is_shadowed_by_an_earlier_row() {
    for (at, row) in TABLE.iter().enumerate() {
        for earlier in &TABLE[..at] {
            match (earlier.sign, row.sign) {
                (Sign::Words(first), Sign::Words(second)) => {
                    assert!(!has_words(second, first), "{second:?} is shadowed by {first:?}");
                }
                (first, second) => assert_ne!(first, second),
            }
        }
    }
}

#[test]
fn words_of_the_table_are_lower_case() {
    for row in TABLE {
        let words = match (row.sign, row.meaning) {
            (_, Underpriced(Least::At(words) | Least::Above(words))) | (Sign::Words(words), _) => words,
            (Sign::Code(_), _) => continue,
        };
        assert_eq!(words, words.to_lowercase());
    }
}

#[test]
fn text_after_the_matched_words_does_not_change_the_class() {
    for (client, error) in captured() {
        let longer = format!("{} (see the node's log)", error.message);
        assert_eq!(classify(error.code, &longer), class_of(&error.class), "{client}: {longer}");
    }
}

#[test]
fn code_alone_is_unknown_where_clients_differ() {
    for code in [-32000, -32001, -32002, -32003, -32004, -32010, -32600, -32602, -32603, -32700, 3, 4] {
        assert_eq!(classify(code, "something new"), SendClass::Unknown, "{code}");
    }
}

#[test]
fn words_do_not_match_inside_other_words() {
    assert_eq!(classify(-32000, "unknown transaction"), SendClass::Unknown);
    assert_eq!(classify(-32000, "the block is undetermined: undermined"), SendClass::Unknown);
}

#[test]
fn revert_reasons_are_not_taken_for_node_errors() {
    for words in ["already known", "insufficient funds", "invalid signature", "nonce too low"] {
        assert_eq!(classify(3, &format!("execution reverted: {words}")), SendClass::Unknown, "{words}");
    }
}

#[test]
fn rate_limits_differ_from_limits_on_transactions() {
    for (client, error) in captured() {
        let limited = client == "provider" && error.class == "retry";
        assert_eq!(is_rate_limit(error.code, &error.message), limited, "{client}: {}", error.message);
    }
}

/// The sender retries, with this endpoint or another. Such an error never causes a bump, a pause or a cancel.
#[test]
fn gateway_errors_are_retried_or_unknown() {
    for (client, error) in captured().iter().filter(|(client, _)| ["gateway", "provider"].contains(&client.as_str())) {
        let class = classify(error.code, &error.message);
        assert!(matches!(class, SendClass::Retry | SendClass::Unknown), "{client}: {}", error.message);
    }
}

#[test]
fn batch_refusals_are_recognized() {
    for message in [
        "batch too large",
        "Number of requests exceeds max batch size",
        "Batch requests are not supported on this plan",
    ] {
        assert!(is_batch_refusal(message), "{message}");
    }
    assert!(!is_batch_refusal("already known"));
}

#[test]
fn unreadable_minimum_prices_are_ignored() {
    let huge = "9".repeat(200);
    for least in ["", "x", "-5", huge.as_str()] {
        let message = format!("transaction underpriced: gas tip cap 1, minimum needed {least}");
        assert_eq!(classify(-32000, &message), SendClass::Underpriced(None), "{message}");
    }
}
