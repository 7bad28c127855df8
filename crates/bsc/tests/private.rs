//! Private endpoints: which requests they get, and that nothing else reaches them or leaks from them.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::unnecessary_wraps,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]
#![allow(dead_code, reason = "each test file uses a part of the stub")]

mod common;

use common::{ADDRESS, CHAIN, Reply, SECRET, Stub, config, each, error, tx, whole};
use serde_json::{Value, json};
use signpost_bsc::private::{AuthorizationHeader, PrivateEndpoint, PrivateShape};
use signpost_bsc::{BscChain, SendTo};
use signpost_txmgr::ports::Chain;
use signpost_txmgr::record::{SendAnswer, SendClass};
use signpost_txmgr::units::Wei;

/// A node that accepts every transaction and knows a balance.
async fn node() -> Stub {
    Stub::calls(|method, params| match method {
        "eth_blockNumber" => Ok(json!("0x64")),
        "eth_getBalance" => Ok(json!("0x5")),
        "eth_sendRawTransaction" => Ok(json!(format!("0x{}", params[0].as_str().unwrap()[2..4].repeat(32)))),
        _ => Err(error(-32601, "the method does not exist/is not available")),
    })
    .await
}

/// A stub of bloXroute: accepts one transaction per request and nothing else.
async fn builder() -> Stub {
    Stub::raw(|body| {
        assert_eq!(body["method"], "bsc_private_tx");
        let bytes = body["params"]["transaction"].as_str().unwrap();
        assert!(!bytes.starts_with("0x"), "{bytes}");
        let hash = format!("0x{}", bytes[..2].repeat(32));
        Reply::Json(json!({"jsonrpc": "2.0", "id": body["id"], "result": {"txHash": hash}}))
    })
    .await
}

async fn builder_answering(answer: Result<Value, Value>) -> Stub {
    Stub::raw(move |body| Reply::Json(each(body, &|_, _| answer.clone()))).await
}

fn chain(nodes: &[&Stub], builders: &[&Stub], private_only: bool) -> BscChain {
    let mut config = config(nodes);
    let private = |builder: &&Stub| PrivateEndpoint {
        url: builder.url.clone(),
        shape: PrivateShape::Bloxroute { mev_builders: vec!["bloxroute".to_owned(), "48club".to_owned()] },
        authorization: Some(AuthorizationHeader::new("key-topsecret").unwrap()),
    };
    config.private = builders.iter().map(private).collect();
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
async fn private_endpoint_gets_transactions_in_its_format() {
    let (node, builder) = (node().await, builder().await);
    let chain = chain(&[&node], &[&builder], true);
    assert_eq!(chain.send_all(&[tx(1), tx(2)]).await, [accepted(), accepted()]);
    let params = |bytes: &str| json!({"transaction": bytes, "mev_builders": ["bloxroute", "48club"]});
    let expected = ["01010101", "02020202"].map(|bytes| ("bsc_private_tx".to_owned(), params(bytes)));
    assert_eq!(builder.asked(), expected, "one per request, in order");
    assert_eq!(builder.authorizations(), vec![Some("key-topsecret".to_owned()); 2]);
    assert_eq!(node.requests(), 0);
}

#[tokio::test]
async fn private_endpoint_is_never_read_and_keeps_its_secret() {
    let (node, builder) = (node().await, builder().await);
    let chain = chain(&[&node], &[&builder], false);
    assert_eq!(chain.balance(ADDRESS).await.unwrap(), Wei::from(5));
    assert_eq!(chain.chain_id().await.unwrap(), CHAIN);
    for _ in 0..2 {
        chain.send(&tx(1)).await;
    }
    assert_eq!((builder.requests(), sends(&node)), (2, 1));
    assert!(node.authorizations().iter().all(Option::is_none));
}

#[tokio::test]
async fn private_only_sends_nothing_to_nodes() {
    let node = node().await;
    for builder in [
        builder().await,
        builder_answering(Err(error(-32000, "transaction underpriced"))).await,
        Stub::raw(|_| Reply::Http(401, &[], "no".to_owned())).await,
        Stub::raw(|_| Reply::Http(429, &[("retry-after", "60")], String::new())).await,
        Stub::raw(|_| Reply::Http(502, &[], String::new())).await,
    ] {
        let chain = chain(&[&node], &[&builder], true);
        for _ in 0..3 {
            chain.send(&tx(1)).await;
        }
        assert!(sends(&builder) > 0);
    }
    assert_eq!(sends(&node), 0);
}

#[tokio::test]
async fn repeated_send_goes_to_nodes_unless_private_only() {
    let (node, builder) = (node().await, builder().await);
    let chain = chain(&[&node], &[&builder], false);
    assert_eq!(chain.send_all(&[tx(1), tx(2)]).await, [accepted(), accepted()]);
    assert_eq!((sends(&builder), sends(&node)), (2, 0));
    assert_eq!(chain.send_all(&[tx(2), tx(3)]).await, [accepted(), accepted()]);
    assert_eq!((sends(&builder), sends(&node)), (4, 1));
    assert_eq!(node.asked().last().unwrap().1, json!(["0x02020202"]));
}

#[tokio::test]
async fn send_goes_to_nodes_if_no_private_endpoint_was_reached() {
    let node = node().await;
    let shut = Stub::raw(|_| Reply::Http(403, &[], "no".to_owned())).await;
    assert_eq!(chain(&[&node], &[&shut], false).send(&tx(1)).await, accepted());
    assert_eq!(sends(&node), 1);
    // The transaction may have reached the private endpoint.
    let mute = Stub::raw(|_| Reply::Http(502, &[], String::new())).await;
    assert_eq!(chain(&[&node], &[&mute], false).send(&tx(1)).await.class, SendClass::Unknown);
    assert_eq!(sends(&node), 1);
}

#[tokio::test]
async fn private_endpoint_answers_use_the_same_table() {
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
        let builder = builder_answering(answer).await;
        let answer = chain(&[&node], &[&builder], true).send(&tx(1)).await;
        assert_eq!(answer.class, class, "{}", answer.message);
        assert!(!answer.message.contains(SECRET), "{}", answer.message);
    }
}

#[tokio::test]
async fn failed_private_endpoint_is_retried_without_others() {
    let (node, builder) = (node().await, Stub::raw(|_| Reply::Http(502, &[], String::new())).await);
    let alone = chain(&[&node], &[&builder], true);
    for tries in 1..=3 {
        assert_eq!(alone.send(&tx(1)).await.class, SendClass::Unknown);
        assert_eq!(sends(&builder), tries);
    }
    let limited = Stub::raw(|_| Reply::Http(429, &[("retry-after", "60")], String::new())).await;
    let alone = chain(&[&node], &[&limited], true);
    for _ in 0..3 {
        assert_eq!(alone.send(&tx(1)).await.class, SendClass::Retry);
    }
    assert_eq!(sends(&limited), 1, "its rate limit is respected");
}

#[tokio::test]
async fn send_to_setting_applies_to_private_endpoints() {
    let (node, first, second) = (node().await, builder().await, builder().await);
    chain(&[&node], &[&first, &second], true).send(&tx(1)).await;
    assert_eq!((sends(&first), sends(&second)), (1, 1));
    let mut config = config(&[&node]);
    config.send_to = SendTo::First;
    config.private = [&first, &second]
        .map(|builder| PrivateEndpoint {
            url: builder.url.clone(),
            shape: PrivateShape::Bloxroute { mev_builders: Vec::new() },
            authorization: None,
        })
        .to_vec();
    assert_eq!(BscChain::new(&config).unwrap().send(&tx(1)).await, accepted());
    assert_eq!((sends(&first), sends(&second)), (2, 1));
    assert_eq!(first.authorizations().last().unwrap(), &None);
}

#[test]
fn error_for_a_private_endpoint_hides_its_url() {
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
