//! Private endpoints: what they are sent, and that nothing else reaches them or leaks from them.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::unnecessary_wraps,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]
#![allow(dead_code, reason = "each test file uses its part of the stub")]

mod common;

use common::{ADDRESS, CHAIN, Reply, SECRET, Stub, config, each, error, tx, whole};
use serde_json::{Value, json};
use signpost_bsc::private::{Authorization, PrivateEndpoint, PrivateShape};
use signpost_bsc::{BscChain, SendTo};
use signpost_txmgr::ports::Chain;
use signpost_txmgr::record::{SendAnswer, SendClass};
use signpost_txmgr::units::Wei;

/// A node that takes everything and knows a balance.
async fn node() -> Stub {
    Stub::calls(|method, params| match method {
        "eth_blockNumber" => Ok(json!("0x64")),
        "eth_getBalance" => Ok(json!("0x5")),
        "eth_sendRawTransaction" => Ok(json!(format!("0x{}", params[0].as_str().unwrap()[2..4].repeat(32)))),
        _ => Err(error(-32601, "the method does not exist/is not available")),
    })
    .await
}

/// bloXroute's door: takes one transaction a request and nothing else.
async fn door() -> Stub {
    Stub::raw(|body| {
        assert_eq!(body["method"], "bsc_private_tx");
        let bytes = body["params"]["transaction"].as_str().unwrap();
        assert!(!bytes.starts_with("0x"), "{bytes}");
        let hash = format!("0x{}", bytes[..2].repeat(32));
        Reply::Json(json!({"jsonrpc": "2.0", "id": body["id"], "result": {"txHash": hash}}))
    })
    .await
}

async fn door_that_says(answer: Result<Value, Value>) -> Stub {
    Stub::raw(move |body| Reply::Json(each(body, &|_, _| answer.clone()))).await
}

fn chain(nodes: &[&Stub], doors: &[&Stub], private_only: bool) -> BscChain {
    let mut config = config(nodes);
    let private = |door: &&Stub| PrivateEndpoint {
        url: door.url.clone(),
        shape: PrivateShape::Bloxroute { mev_builders: vec!["bloxroute".to_owned(), "48club".to_owned()] },
        authorization: Some(Authorization::new("key-topsecret").unwrap()),
    };
    config.private = doors.iter().map(private).collect();
    config.private_only = private_only;
    let chain = BscChain::new(&config).unwrap();
    assert!(!format!("{config:?} {chain:?}").contains(SECRET), "{config:?} {chain:?}");
    chain
}

fn sends(stub: &Stub) -> usize {
    stub.asked_for("eth_sendRawTransaction") + stub.asked_for("bsc_private_tx")
}

fn accepted() -> SendAnswer {
    SendAnswer::new(SendClass::Accepted, "")
}

#[tokio::test]
async fn transactions_go_to_the_private_endpoint_in_its_shape() {
    let (node, door) = (node().await, door().await);
    let chain = chain(&[&node], &[&door], true);
    assert_eq!(chain.send_all(&[tx(1), tx(2)]).await, [accepted(), accepted()]);
    let params = |bytes: &str| json!({"transaction": bytes, "mev_builders": ["bloxroute", "48club"]});
    let expected = ["01010101", "02020202"].map(|bytes| ("bsc_private_tx".to_owned(), params(bytes)));
    assert_eq!(door.asked(), expected, "one a request, in order");
    assert_eq!(door.authorizations(), vec![Some("key-topsecret".to_owned()); 2]);
    assert_eq!(node.requests(), 0);
}

#[tokio::test]
async fn nothing_is_read_from_a_private_endpoint_and_no_node_gets_its_secret() {
    let (node, door) = (node().await, door().await);
    let chain = chain(&[&node], &[&door], false);
    assert_eq!(chain.balance(ADDRESS).await.unwrap(), Wei::from(5));
    assert_eq!(chain.chain_id().await.unwrap(), CHAIN);
    for _ in 0..2 {
        chain.send(&tx(1)).await;
    }
    assert_eq!((door.requests(), sends(&node)), (2, 1));
    assert!(node.authorizations().iter().all(Option::is_none));
}

#[tokio::test]
async fn private_only_means_never_to_a_node() {
    let node = node().await;
    for door in [
        door().await,
        door_that_says(Err(error(-32000, "transaction underpriced"))).await,
        Stub::raw(|_| Reply::Http(401, &[], "no".to_owned())).await,
        Stub::raw(|_| Reply::Http(429, &[("retry-after", "60")], String::new())).await,
        Stub::raw(|_| Reply::Http(502, &[], String::new())).await,
    ] {
        let chain = chain(&[&node], &[&door], true);
        for _ in 0..3 {
            chain.send(&tx(1)).await;
        }
        assert!(sends(&door) > 0);
    }
    assert_eq!(sends(&node), 0);
}

#[tokio::test]
async fn else_what_is_sent_again_goes_to_the_nodes_too() {
    let (node, door) = (node().await, door().await);
    let chain = chain(&[&node], &[&door], false);
    assert_eq!(chain.send_all(&[tx(1), tx(2)]).await, [accepted(), accepted()]);
    assert_eq!((sends(&door), sends(&node)), (2, 0));
    assert_eq!(chain.send_all(&[tx(2), tx(3)]).await, [accepted(), accepted()]);
    assert_eq!((sends(&door), sends(&node)), (4, 1));
    assert_eq!(node.asked().last().unwrap().1, json!(["0x02020202"]));
}

#[tokio::test]
async fn else_what_reached_no_private_endpoint_goes_to_the_nodes_at_once() {
    let node = node().await;
    let shut = Stub::raw(|_| Reply::Http(403, &[], "no".to_owned())).await;
    assert_eq!(chain(&[&node], &[&shut], false).send(&tx(1)).await, accepted());
    assert_eq!(sends(&node), 1);
    // It may be there.
    let mute = Stub::raw(|_| Reply::Http(502, &[], String::new())).await;
    assert_eq!(chain(&[&node], &[&mute], false).send(&tx(1)).await.class, SendClass::Unknown);
    assert_eq!(sends(&node), 1);
}

#[tokio::test]
async fn a_private_endpoint_s_words_are_held_against_the_same_table() {
    let node = node().await;
    for (answer, class) in [
        (Err(error(-32000, "nonce too low")), SendClass::NonceTooLow),
        (Err(error(-32000, "already known")), SendClass::AlreadyKnown),
        (Err(error(-32000, "insufficient funds for gas * price + value")), SendClass::Funds),
        (Err(error(-32005, "limit exceeded")), SendClass::Retry),
        (Err(error(-32000, "something nobody has heard of")), SendClass::Unknown),
        (Ok(json!({"txHash": tx(9).hash.to_string()})), SendClass::Unknown),
        (Ok(json!(null)), SendClass::Unknown),
        (Ok(json!({"tx_hash": tx(1).hash.to_string()})), SendClass::Accepted),
    ] {
        let door = door_that_says(answer).await;
        let answer = chain(&[&node], &[&door], true).send(&tx(1)).await;
        assert_eq!(answer.class, class, "{}", answer.message);
        assert!(!answer.message.contains(SECRET), "{}", answer.message);
    }
}

#[tokio::test]
async fn a_private_endpoint_that_failed_is_tried_again_when_no_other_is_left() {
    let (node, door) = (node().await, Stub::raw(|_| Reply::Http(502, &[], String::new())).await);
    let alone = chain(&[&node], &[&door], true);
    for tries in 1..=3 {
        assert_eq!(alone.send(&tx(1)).await.class, SendClass::Unknown);
        assert_eq!(sends(&door), tries);
    }
    let limited = Stub::raw(|_| Reply::Http(429, &[("retry-after", "60")], String::new())).await;
    let alone = chain(&[&node], &[&limited], true);
    for _ in 0..3 {
        assert_eq!(alone.send(&tx(1)).await.class, SendClass::Retry);
    }
    assert_eq!(sends(&limited), 1, "its limit is respected");
}

#[tokio::test]
async fn all_or_the_first_holds_among_private_endpoints_too() {
    let (node, first, second) = (node().await, door().await, door().await);
    chain(&[&node], &[&first, &second], true).send(&tx(1)).await;
    assert_eq!((sends(&first), sends(&second)), (1, 1));
    let mut config = config(&[&node]);
    config.send_to = SendTo::First;
    config.private = [&first, &second]
        .map(|door| PrivateEndpoint {
            url: door.url.clone(),
            shape: PrivateShape::Bloxroute { mev_builders: Vec::new() },
            authorization: None,
        })
        .to_vec();
    assert_eq!(BscChain::new(&config).unwrap().send(&tx(1)).await, accepted());
    assert_eq!((sends(&first), sends(&second)), (2, 1));
    assert_eq!(first.authorizations().last().unwrap(), &None);
}

#[test]
fn a_private_endpoint_s_url_is_not_shown_when_it_is_wrong() {
    let mut config = signpost_bsc::BscConfig::new(CHAIN, vec!["http://127.0.0.1:1".to_owned()]);
    config.private = vec![PrivateEndpoint {
        url: "ftp://topsecret@host".to_owned(),
        shape: PrivateShape::Bloxroute { mev_builders: Vec::new() },
        authorization: None,
    }];
    let error = BscChain::new(&config).unwrap_err();
    assert!(error.to_string().contains("private endpoint 1 cannot be used"));
    assert!(!whole(&error).contains(SECRET), "{error:?}");
}
