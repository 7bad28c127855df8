//! Records when each block appeared and when it was final: by the block's own time in milliseconds if the node reports
//! it (`milliTimestamp`, BSC), else by the time of the first look.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock;
use crate::stack::StackError;
use crate::stack::rpc::Rpc;

/// The accuracy of times that the node does not report.
const LOOK_EVERY: Duration = Duration::from_millis(15);

/// Unix milliseconds by block.
#[derive(Debug, Default)]
pub(super) struct Seen {
    there: BTreeMap<u64, u64>,
    finalized: BTreeMap<u64, u64>,
}

impl Seen {
    /// When the block appeared.
    pub(super) fn there_at(&self, block: u64) -> Option<u64> {
        self.there.get(&block).copied()
    }

    /// When the block was final.
    pub(super) fn final_at(&self, block: u64) -> Option<u64> {
        self.finalized.range(block..).next().map(|(_, at)| *at)
    }
}

/// Watches the chain until dropped, and records its blocks in `seen`.
pub(super) async fn watch(rpc: &Rpc, seen: &mut Seen) -> StackError {
    loop {
        if let Err(error) = look(rpc, seen).await {
            return error;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(rpc: &Rpc, seen: &mut Seen) -> Result<(), StackError> {
    let (newest, newest_at) = block(rpc, json!("latest")).await?;
    let from = seen.there.last_key_value().map_or(newest, |(last, _)| last.saturating_add(1));
    for number in from..newest {
        let (_, at) = block(rpc, json!(format!("{number:#x}"))).await?;
        seen.there.insert(number, at);
    }
    seen.there.entry(newest).or_insert(newest_at);
    let (finalized, _) = block(rpc, json!("finalized")).await?;
    seen.finalized.entry(finalized).or_insert_with(clock::now_ms);
    Ok(())
}

/// A block's number, and when it appeared.
async fn block(rpc: &Rpc, which: Value) -> Result<(u64, u64), StackError> {
    let answer = rpc.call("eth_getBlockByNumber", json!([which, false])).await?;
    let field = |name: &str| answer.get(name).unwrap_or(&Value::Null);
    let number = rpc.number("eth_getBlockByNumber", field("number"))?;
    Ok((number, rpc.number("eth_getBlockByNumber", field("milliTimestamp")).unwrap_or_else(|_| clock::now_ms())))
}
