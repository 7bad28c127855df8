//! A node's facts about the chain's rules and about itself, for display; and a node without a `finalized` block.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]
#![allow(dead_code, reason = "each test file uses a part of the stub")]

mod common;

use common::{ADDRESS, Stub, block, chain, config, error, height};
use serde_json::{Value, json};
use signpost_bsc::BscChain;
use signpost_bsc::forks::{Program, Version};
use signpost_bsc::payment_lane::{CONTRACT, LaneRules, Recipient};
use signpost_txmgr::ports::{Chain, Counts, Finality, ViewQuery};
use signpost_txmgr::units::{Address, BlockNumber, Nonce};

const TOKEN: Address = Address([0x55; 20]);

fn word(number: u64) -> String {
    format!("{number:064x}")
}

/// A node with the lane's contract: 5 %, one listed token.
async fn after_the_fork() -> Stub {
    Stub::calls(|method, params| match method {
        "eth_call" => {
            assert_eq!(params[0]["to"], json!(CONTRACT.lower()));
            let data = params[0]["data"].as_str().unwrap();
            let token = format!("{}{}", "0".repeat(24), "55".repeat(20));
            let answer = match data.len() {
                10 => word(500),
                74 => word(u64::from(data.ends_with(&token))),
                _ => [word(64), word(1), word(1), token].concat(),
            };
            Ok(json!(format!("0x{answer}")))
        }
        "eth_getCode" => Ok(json!("0x60")),
        "web3_clientVersion" => Ok(json!("Geth/v1.8.2-54afaff2-20261103/linux-amd64/go1.25.1")),
        "parlia_getTurnLength" => Ok(json!(8)),
        _ => Err(error(-32601, "the method does not exist/is not available")),
    })
    .await
}

#[tokio::test]
async fn lane_ratio_and_list_are_read_from_the_contract() {
    let stub = after_the_fork().await;
    let chain = chain(&[&stub]);
    let rules = chain.payment_lane().await.unwrap();
    assert_eq!(rules, Some(LaneRules { ratio: 500, listed: vec![TOKEN], listed_count: 1 }));
    let said = chain.lane_recipient(TOKEN).await.unwrap();
    assert_eq!(said, (Recipient { is_listed: true, has_code: true }, true));
    let said = chain.lane_recipient(ADDRESS).await.unwrap();
    assert_eq!(said, (Recipient { is_listed: false, has_code: true }, true));
}

#[tokio::test]
async fn lane_is_inactive_without_the_contract() {
    let stub = Stub::calls(|_, _| Ok(json!("0x"))).await;
    let chain = chain(&[&stub]);
    assert_eq!(chain.payment_lane().await.unwrap(), None);
    let said = chain.lane_recipient(TOKEN).await.unwrap();
    assert_eq!(said, (Recipient { is_listed: false, has_code: false }, false));
}

#[tokio::test]
async fn malformed_contract_answer_is_an_error() {
    let stub = Stub::calls(|_, _| Ok(json!("0x01"))).await;
    assert!(chain(&[&stub]).payment_lane().await.is_err());
}

#[tokio::test]
async fn node_version_and_turn_length_are_read() {
    let stub = after_the_fork().await;
    let chain = chain(&[&stub]);
    let client = chain.client().await.unwrap();
    assert_eq!((client.program, client.version), (Program::Bsc, Some(Version(1, 8, 2))));
    assert_eq!(chain.turn_length().await.unwrap(), 8);
}

#[tokio::test]
async fn missing_turn_length_is_an_error_not_zero() {
    for answer in [Err(error(-32601, "the method does not exist/is not available")), Ok(json!(0)), Ok(Value::Null)] {
        let stub = Stub::calls(move |_, _| answer.clone()).await;
        assert!(chain(&[&stub]).turn_length().await.is_err());
    }
}

/// A node that knows heights, `latest` and `pending`, but not `finalized`.
async fn without_finalized() -> Stub {
    Stub::calls(|method, params| {
        let at =
            params.as_array().and_then(|params| params.iter().find(|it| it.as_str().is_some_and(|it| it.len() < 20)));
        match (method, at.and_then(Value::as_str)) {
            (_, Some("finalized" | "safe")) => Err(error(-39001, "unknown block")),
            ("eth_blockNumber", _) => Ok(json!("0x64")),
            ("eth_getTransactionCount", Some("latest" | "pending")) => Ok(json!("0x5")),
            ("eth_getTransactionCount", Some(_)) => Ok(json!("0x4")),
            ("eth_getBlockByNumber", Some("latest")) => Ok(block(100)),
            ("eth_getBlockByNumber", Some(_)) => Ok(block(height(&params[0]))),
            _ => Ok(Value::Null),
        }
    })
    .await
}

#[tokio::test]
async fn confirmations_need_no_finalized_block() {
    let stub = without_finalized().await;
    let config = signpost_bsc::BscConfig { finality: Finality::Confirmations(15), ..config(&[&stub]) };
    let chain = BscChain::new(&config).unwrap();
    let query = ViewQuery { address: ADDRESS, slots: Vec::new(), latest_seen: Nonce(0), head_waits: false };
    let view = chain.view(&query).await.unwrap();
    assert_eq!((view.finalized.number, view.finalized_nonce), (BlockNumber(85), Nonce(4)));
    let counts = chain.counts(ADDRESS).await.unwrap();
    assert_eq!((counts.latest, counts.pending), (Nonce(5), Nonce(5)));
    assert_eq!(counts, Counts { finalized: Some(Nonce(4)), ..counts }, "the count at that many blocks back");
    assert_eq!(chain.final_count(ADDRESS).await.unwrap().0, Nonce(4));
    let asked = stub.asked();
    assert!(asked.iter().all(|(_, params)| !params.to_string().contains("finalized")), "{asked:?}");
}
