//! The lowest price that validators mine. A BSC node accepts a transaction below it, but no validator mines it: it is
//! stuck, not refused. The gate keeps such a transaction as known and pending until the price falls or a higher-priced
//! one replaces it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use signpost_txmgr::units::{TxHash, U256};

use super::chain::Chain;
use super::upstream::{Failure, wide};

impl Chain {
    /// Changes the price: takes transactions that are now too cheap back from the node behind, and forwards those that
    /// are now priced high enough.
    pub(crate) async fn set_mining_floor(&self, floor: U256) -> Result<(), Failure> {
        let mut pool = self.pool.lock().await;
        pool.mining_floor = floor;
        let senders: BTreeSet<_> = pool.all().map(|pooled| pooled.sender).collect();
        for sender in senders {
            let next = self.upstream.count(sender).await?;
            pool.prune(sender, next);
            self.settle(&mut pool, sender, next, None).await?;
        }
        Ok(())
    }

    /// `eth_feeHistory` with the price as the lowest reward.
    pub(crate) async fn fee_history(&self, params: Value) -> Result<Value, Failure> {
        let mut history = self.upstream.call("eth_feeHistory", params).await?;
        let floor = self.pool.lock().await.mining_floor;
        let rewards = history["reward"].as_array_mut().into_iter().flatten();
        for reward in rewards.filter_map(Value::as_array_mut).flatten() {
            if wide(reward).is_some_and(|reward| reward < floor) {
                *reward = json!(format!("{floor:#x}"));
            }
        }
        Ok(history)
    }

    /// `eth_getTransactionByHash`, including transactions that only the gate has.
    pub(crate) async fn transaction(&self, params: Value) -> Result<Value, Failure> {
        let hash = params[0].as_str().and_then(|hash| hash.parse::<TxHash>().ok());
        let found = self.upstream.call("eth_getTransactionByHash", params).await?;
        let Some(hash) = hash.filter(|_| found.is_null()) else {
            return Ok(found);
        };
        let pool = self.pool.lock().await;
        Ok(pool.find(&hash).filter(|pooled| !pooled.handed).map_or(Value::Null, super::pool::Pooled::to_json))
    }

    /// `anvil_dropTransaction`, including transactions that only the gate has.
    pub(crate) async fn drop_transaction(&self, params: Value) -> Result<Value, Failure> {
        let hash = params[0].as_str().and_then(|hash| hash.parse::<TxHash>().ok());
        let mut pool = self.pool.lock().await;
        let dropped = self.upstream.call("anvil_dropTransaction", params).await?;
        let ours = hash.filter(|hash| pool.remove(hash));
        Ok(if dropped.is_null() { json!(ours.map(|hash| hash.to_string())) } else { dropped })
    }

    /// The price and the size of the pool, for tests.
    pub(crate) async fn show(&self) -> Result<Value, Failure> {
        let mut pool = self.pool.lock().await;
        let senders: BTreeSet<_> = pool.all().map(|pooled| pooled.sender).collect();
        for sender in senders {
            let next = self.upstream.count(sender).await?;
            pool.prune(sender, next);
        }
        let held = pool.all().filter(|pooled| !pooled.handed).count();
        Ok(json!({ "miningFloorWei": pool.mining_floor.to_string(), "pooled": pool.all().count(), "held": held }))
    }
}
