//! The network's price in wei per gas, asked for once in a while together with a view.
//!
//! BSC's `eth_gasPrice` is a constant of the node's configuration (its oracle never has the samples it
//! wants), so what blocks paid comes first: the highest of the last blocks' 60th percentiles, so that a
//! price just risen is seen at once. Blocks that say 0 are left out: system transactions and those of
//! builders pay nothing, and fill low percentiles and whole quiet blocks. Only if all say 0 the node's own
//! price counts. The base fee, 0 on BSC, is added. The operator's floor and ceiling hold what is told;
//! the caps of requests and accounts are the policy's.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use signpost_txmgr::units::Wei;
use tokio::time::Instant;

use crate::quantity;
use crate::rpc::Call;

/// Blocks looked at: 9 s of them, a proposer's turn and a bit.
const BLOCKS: u64 = 20;

/// Percentile of the gas of a block, by tip.
const PERCENTILE: u64 = 60;

/// The price as last seen.
#[derive(Debug)]
pub(crate) struct PriceSeen {
    every: Duration,
    floor: Wei,
    ceiling: Wei,
    state: Mutex<(Option<Instant>, Option<Wei>)>,
}

impl PriceSeen {
    /// A price never told below `floor` nor above `ceiling`; the ceiling is the stronger.
    pub(crate) fn new(every: Duration, floor: Wei, ceiling: Wei) -> Self {
        Self { every, floor, ceiling, state: Mutex::default() }
    }

    /// The two calls that tell the price, if it is time to ask again.
    pub(crate) fn calls_if_due(&self) -> Vec<Call> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.is_some_and(|asked| now.saturating_duration_since(asked) < self.every) {
            return Vec::new();
        }
        state.0 = Some(now);
        vec![
            Call::new("eth_feeHistory", json!([quantity::hex_number(BLOCKS), "latest", [PERCENTILE]])),
            Call::new("eth_gasPrice", json!([])),
        ]
    }

    /// Notes what they answered. A price that cannot be told is none, not the one before.
    pub(crate) fn learn(&self, history: Option<&Value>, gas_price: Option<&Value>) {
        let own = || gas_price.and_then(quantity::wei).filter(|price| *price > Wei::ZERO);
        let price = history.and_then(paid).or_else(own).map(|price| price.max(self.floor).min(self.ceiling));
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = price;
    }

    pub(crate) fn last(&self) -> Option<Wei> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

/// What was paid lately; `None` if no block says.
fn paid(history: &Value) -> Option<Wei> {
    let rewards = history.get("reward")?.as_array()?;
    let tips = rewards.iter().filter_map(|block| quantity::wei(block.get(0)?));
    let tip = tips.max().filter(|tip| *tip > Wei::ZERO)?;
    let base_fees = history.get("baseFeePerGas").and_then(Value::as_array);
    let base_fee = base_fees.and_then(|fees| fees.last()).and_then(quantity::wei).unwrap_or(Wei::ZERO);
    Some(Wei(tip.0.saturating_add(base_fee.0)))
}

#[cfg(test)]
mod tests {
    use signpost_txmgr::units::U256;

    use super::*;

    fn within(floor: u64, ceiling: u64) -> PriceSeen {
        PriceSeen::new(Duration::from_secs(3), Wei::from(floor), Wei::from(ceiling))
    }

    fn price(history: &Value, gas_price: &Value) -> Option<Wei> {
        let seen = within(0, u64::MAX);
        seen.learn(Some(history), Some(gas_price));
        seen.last()
    }

    fn paid_in_blocks(tips: &[u64]) -> Value {
        json!({"reward": tips.iter().map(|tip| [format!("0x{tip:x}")]).collect::<Vec<_>>()})
    }

    #[test]
    fn what_blocks_paid_comes_before_the_constant_of_a_node() {
        let history = json!({"reward": [["0x0"], ["0x5"], ["0x7"], ["0x6"]], "baseFeePerGas": ["0x0", "0x1"]});
        for gas_price in [json!("0x3"), json!("0x9"), json!(null)] {
            assert_eq!(price(&history, &gas_price), Some(Wei::from(8)), "{gas_price}");
        }
    }

    #[test]
    fn a_risen_price_is_seen_in_its_first_block() {
        assert_eq!(price(&paid_in_blocks(&[5, 5, 5, 50]), &json!("0x3")), Some(Wei::from(50)));
    }

    #[test]
    fn blocks_of_free_transactions_do_not_lower_the_price() {
        let mut tips = vec![0; 19];
        tips.insert(7, 5);
        assert_eq!(price(&paid_in_blocks(&tips), &json!("0x9")), Some(Wei::from(5)));
        assert_eq!(price(&paid_in_blocks(&[0; 20]), &json!("0x9")), Some(Wei::from(9)), "only then the node's own");
    }

    #[test]
    fn a_price_that_cannot_be_told_is_none() {
        for empty in [json!(null), json!({}), json!({"reward": []}), json!({"reward": [["0x0"], []]})] {
            assert_eq!(price(&empty, &json!("0x9")), Some(Wei::from(9)), "{empty}");
            assert_eq!(price(&empty, &json!(null)), None, "{empty}");
            assert_eq!(price(&empty, &json!("0x0")), None, "{empty}");
        }
        let seen = within(5, 9);
        seen.learn(None, Some(&json!("0x9")));
        seen.learn(None, None);
        assert_eq!(seen.last(), None, "not the one before, nor the floor");
    }

    #[test]
    fn a_price_is_told_within_floor_and_ceiling() {
        let seen = within(50, 100);
        for (paid, told) in [(1, 50), (50, 50), (77, 77), (100, 100), (101, 100), (u64::MAX, 100)] {
            seen.learn(Some(&paid_in_blocks(&[paid])), None);
            assert_eq!(seen.last(), Some(Wei::from(told)), "{paid}");
            seen.learn(None, Some(&json!(format!("0x{paid:x}"))));
            assert_eq!(seen.last(), Some(Wei::from(told)), "{paid}");
        }
        let most = json!({"reward": [[format!("0x{:x}", U256::MAX)]], "baseFeePerGas": ["0x1"]});
        assert_eq!(price(&most, &json!(null)), Some(Wei::from(u64::MAX)));
    }

    #[tokio::test(start_paused = true)]
    async fn price_is_asked_for_once_in_a_while() {
        let seen = within(0, 9);
        assert_eq!(seen.calls_if_due().len(), 2);
        assert!(seen.calls_if_due().is_empty());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(seen.calls_if_due().len(), 2);
    }
}
