//! What is left of pool and chain after a node restarts.

use serde_json::json;
use signpost_cli::stack::geth::Geth;

use crate::node::{Node, by_hand, number, plain};

/// One mined, two executable, one behind a gap.
async fn with_a_pool(name: &str, geth: Geth) -> Node {
    let node = Node::start(name, geth).await;
    node.take(&plain(1, 0)).await;
    node.mine().await;
    for nonce in [1, 2, 9] {
        node.take(&plain(1, nonce)).await;
    }
    node.until_pooled(2, 1).await;
    node
}

#[tokio::test]
async fn without_a_journal_the_same_bytes_are_taken_again() {
    let node = with_a_pool("restart", by_hand()).await.restart("-TERM").await;
    assert_eq!(node.pooled().await, (0, 0));
    assert_eq!((node.count(1, "latest").await, node.count(1, "pending").await), (1, 1), "the chain is there");
    assert_eq!(node.receipt(&plain(1, 0)).await["status"], "0x1");
    assert!(!node.knows(&plain(1, 1)).await, "and a lost transaction looks like one that was never sent");
    node.take(&plain(1, 1)).await;
    node.mine().await;
    assert_eq!(node.receipt(&plain(1, 1)).await["status"], "0x1");
}

#[tokio::test]
async fn with_a_journal_the_pool_is_back_ten_seconds_later() {
    let locals = Geth { locals: true, ..by_hand() };
    for signal in ["-TERM", "-KILL"] {
        let node = with_a_pool(&format!("journal{signal}"), locals.clone()).await.restart(signal).await;
        assert_eq!(node.pooled().await, (0, 0), "{signal}: not at once");
        node.until("what was pooled is back", async || {
            node.knows(&plain(1, 9)).await && node.knows(&plain(1, 1)).await
        })
        .await;
    }
}

#[tokio::test]
async fn killed_node_rewinds_and_may_show_receipts_it_lost() {
    let node = with_a_pool("killed", by_hand()).await;
    assert_eq!(node.height().await, 2);
    let node = node.restart("-KILL").await;
    // The node goes back to the state it had written, that of the first block, and has made one block since.
    assert_eq!((node.height().await, node.count(1, "latest").await), (1, 0));
    // Blocks and receipts above its head may be left, and it may return them: a receipt means nothing without the
    // node's own head.
    let receipt = node.receipt(&plain(1, 0)).await;
    assert!(receipt.is_null() || number(&receipt["blockNumber"]) > 1, "{receipt}");
    for _ in 0..2 {
        node.mine().await;
    }
    // Other blocks took their place. The node may still return the old receipt, of a block that is not on its chain: a
    // receipt means nothing without the canonical block at its height either.
    let receipt = node.receipt(&plain(1, 0)).await;
    if !receipt.is_null() {
        let height = &receipt["blockNumber"];
        let canonical = node.rpc.call("eth_getBlockByNumber", json!([height, false])).await;
        assert_ne!(canonical["hash"], receipt["blockHash"], "{receipt}");
        println!("a receipt of a block that is not on the chain: {receipt}");
    }
    assert_eq!(node.count(1, "latest").await, 0);
}
