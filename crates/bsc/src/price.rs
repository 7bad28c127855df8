//! The network's price in wei per gas, asked for once in a while together with a view.
//!
//! BSC's `eth_gasPrice` is a constant of the node, and low percentiles of its blocks are 0 (system
//! transactions, builders), so the price is the larger of it and the median of the blocks' 60th
//! percentile, plus the base fee, which is 0 on BSC. Knows no caps and floors: those are the policy's.

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
    state: Mutex<(Option<Instant>, Option<Wei>)>,
}

impl PriceSeen {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, state: Mutex::default() }
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
        let price = history.and_then(paid).max(gas_price.and_then(quantity::wei));
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = price.filter(|price| *price > Wei::ZERO);
    }

    pub(crate) fn last(&self) -> Option<Wei> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

/// What was paid lately. Empty blocks say 0, which says nothing.
fn paid(history: &Value) -> Option<Wei> {
    let rewards = history.get("reward")?.as_array()?;
    let mut tips: Vec<Wei> = rewards.iter().filter_map(|block| quantity::wei(block.get(0)?)).collect();
    tips.retain(|tip| *tip > Wei::ZERO);
    tips.sort_unstable();
    let median = *tips.get(tips.len().div_euclid(2))?;
    let base_fees = history.get("baseFeePerGas").and_then(Value::as_array);
    let base_fee = base_fees.and_then(|fees| fees.last()).and_then(quantity::wei).unwrap_or(Wei::ZERO);
    Some(Wei(median.0.saturating_add(base_fee.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(history: &Value, gas_price: &Value) -> Option<Wei> {
        let seen = PriceSeen::new(Duration::from_secs(3));
        seen.learn(Some(history), Some(gas_price));
        seen.last()
    }

    #[test]
    fn price_is_the_larger_of_what_is_paid_and_the_nodes() {
        let history = json!({"reward": [["0x0"], ["0x5"], ["0x7"], ["0x6"]], "baseFeePerGas": ["0x0", "0x1"]});
        assert_eq!(price(&history, &json!("0x3")), Some(Wei::from(7)));
        assert_eq!(price(&history, &json!("0x9")), Some(Wei::from(9)));
    }

    #[test]
    fn a_price_that_cannot_be_told_is_none() {
        for empty in [json!(null), json!({}), json!({"reward": []}), json!({"reward": [["0x0"], []]})] {
            assert_eq!(price(&empty, &json!("0x9")), Some(Wei::from(9)), "{empty}");
            assert_eq!(price(&empty, &json!(null)), None, "{empty}");
            assert_eq!(price(&empty, &json!("0x0")), None, "{empty}");
        }
        let seen = PriceSeen::new(Duration::from_secs(3));
        seen.learn(None, Some(&json!("0x9")));
        seen.learn(None, None);
        assert_eq!(seen.last(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn price_is_asked_for_once_in_a_while() {
        let seen = PriceSeen::new(Duration::from_secs(3));
        assert_eq!(seen.calls_if_due().len(), 2);
        assert!(seen.calls_if_due().is_empty());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(seen.calls_if_due().len(), 2);
    }
}
