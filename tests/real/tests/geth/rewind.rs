//! A reorganisation: `debug_setHead` removes blocks, and others take their place.

use serde_json::{Value, json};

use crate::node::{Node, by_hand, number, plain, priced, refused, wei};
use crate::support::{Ask, FLOOR, address};

impl Node {
    /// Removes the newest blocks.
    pub(crate) async fn rewind(&self, blocks: u64) {
        let to = self.height().await - blocks;
        self.rpc.call("debug_setHead", json!([format!("{to:#x}")])).await;
        self.until("the chain is rewound", async || self.height().await == to).await;
    }
}

#[tokio::test]
async fn rewound_blocks_do_not_return_transactions_to_the_pool() {
    let node = Node::start("rewind", by_hand()).await;
    let (first, second) = (plain(1, 0), plain(1, 1));
    for one in [&first, &second] {
        node.take(one).await;
        node.mine().await;
    }
    node.take(&plain(1, 2)).await;
    node.until_pooled(1, 0).await;
    let block = node.receipt(&first).await["blockHash"].clone();

    node.rewind(2).await;
    assert_eq!((node.receipt(&first).await, node.receipt(&second).await), (Value::Null, Value::Null));
    assert!(!node.knows(&first).await, "not put back, unlike after a fork whose branches the node both has");
    node.until("what was executable waits for the gap", async || node.pooled().await == (0, 1)).await;
    assert_eq!((node.count(1, "latest").await, node.count(1, "pending").await), (0, 0));
    assert_eq!(node.rpc.call("eth_getBlockByHash", json!([block, false])).await, Value::Null);

    // The same bytes can be sent again.
    for one in [&first, &second] {
        node.take(one).await;
    }
    node.until_pooled(3, 0).await;
    node.mine().await;
    assert_eq!(node.count(1, "latest").await, 3);
    let receipt = node.receipt(&first).await;
    assert!(receipt["status"] == "0x1" && receipt["blockHash"] != block, "{receipt}");
}

#[tokio::test]
async fn another_transaction_with_the_nonce_may_be_mined_instead() {
    let node = Node::start("rewind-other", by_hand()).await;
    let original = plain(1, 0);
    let other = Ask { to: Some(address(1)), value: wei(1), ..priced(1, 0, 2 * FLOOR) };
    node.take(&original).await;
    node.mine().await;
    node.rewind(1).await;
    node.mine_only(&[&other]).await;
    assert_eq!(node.receipt(&other).await["status"], "0x1");
    assert_eq!(node.receipt(&original).await, Value::Null);
    assert_eq!(node.send(&original).await, refused("nonce too low: next nonce 1, tx nonce 0"));
}

#[tokio::test]
async fn rewind_takes_finality_back() {
    let node = Node::start("rewind-final", by_hand()).await;
    for _ in 0..3 {
        node.mine().await;
    }
    // geth moves these only with blocks that it makes by itself.
    let height = async |tag: &str| number(&node.rpc.call("eth_getBlockByNumber", json!([tag, false])).await["number"]);
    assert_eq!((height("finalized").await, height("safe").await, height("latest").await), (0, 1, 4));
    node.rewind(4).await;
    assert_eq!((height("finalized").await, height("latest").await), (0, 0), "finality is not protected, unlike on BSC");
    assert_eq!(node.rpc.call("eth_getBlockByNumber", json!(["0x1", false])).await, Value::Null);
}
