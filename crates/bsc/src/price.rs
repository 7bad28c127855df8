//! The network's price in wei per gas, read at an interval together with a view.
//!
//! Two sources, both from the node: `eth_feeHistory` gives what blocks paid and how full they were, `eth_gasPrice`
//! gives the node's own price. On BSC the second is a constant of the node's configuration, the lowest price that is
//! mined (`eth/gasprice/gasprice.go`: the oracle never has the 1,000 samples it needs).
//!
//! **The estimate.** A block with free space included everything above the lowest price. So a higher price was not
//! needed there, no matter who paid it: the block counts as the node's own price, or as its cheapest paying tenth
//! if that is lower. A full block, with [`FULL`] or more of its gas used, counts as its
//! [`FULL_PERCENTILE`]th percentile by gas. The price is the [`BLOCKS_PERCENTILE`]th percentile of the last [`BLOCKS`]
//! blocks that have a price: one high-priced block does not change it, more than five full blocks of 20 (2.25 s) do.
//! Blocks with price 0 are left out: system transactions and builders' transactions pay nothing. The base fee, 0 on
//! BSC, is added.
//!
//! A price is reported for [`AGE_MAX`] after it was read, then none is. The operator's floor and ceiling bound the
//! reported price; the caps of requests and accounts belong to the policy.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use signpost_txmgr::units::Wei;
use tokio::time::Instant;

use crate::quantity;
use crate::rpc::Call;

/// Number of blocks in the estimate: 9 s of blocks, more than two turns of 8 blocks.
const BLOCKS: u64 = 20;

/// Percentiles of a block's gas, by tip: for a block with free space, and for a full block.
const ROOMY_PERCENTILE: u64 = 10;
const FULL_PERCENTILE: u64 = 60;

/// A block is full if this part of its gas limit is used. A miner leaves out transactions that do not fit.
const FULL: f64 = 0.9;

/// Percentile of the blocks' prices that is reported.
const BLOCKS_PERCENTILE: usize = 75;

/// How long a price is reported after it was read.
const AGE_MAX: Duration = Duration::from_mins(1);

/// The last price read, and when to read it again.
#[derive(Debug)]
pub(crate) struct PriceSeen {
    every: Duration,
    floor: Wei,
    ceiling: Wei,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    asked_at: Option<Instant>,
    /// The price and when it was read.
    seen: Option<(Wei, Instant)>,
}

impl PriceSeen {
    /// A price that is reported within `floor` and `ceiling`. If they conflict, the ceiling wins.
    pub(crate) fn new(every: Duration, floor: Wei, ceiling: Wei) -> Self {
        Self { every, floor, ceiling, state: Mutex::default() }
    }

    /// The two calls that read the price, if the interval is over.
    pub(crate) fn calls_if_due(&self) -> Vec<Call> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.asked_at.is_some_and(|asked| now.saturating_duration_since(asked) < self.every) {
            return Vec::new();
        }
        state.asked_at = Some(now);
        vec![
            Call::new(
                "eth_feeHistory",
                json!([quantity::hex_number(BLOCKS), "latest", [ROOMY_PERCENTILE, FULL_PERCENTILE]]),
            ),
            Call::new("eth_gasPrice", json!([])),
        ]
    }

    /// Notes the answers. An answer without a price changes nothing, and the last price ages.
    pub(crate) fn learn(&self, history: Option<&Value>, gas_price: Option<&Value>) {
        let own = gas_price.and_then(quantity::wei).filter(|price| *price > Wei::ZERO);
        let price = history.and_then(|history| paid(history, own)).or(own);
        if let Some(price) = price.map(|price| price.max(self.floor).min(self.ceiling)) {
            let seen = Some((price, Instant::now()));
            self.state.lock().unwrap_or_else(PoisonError::into_inner).seen = seen;
        }
    }

    /// The last price, unless it is older than [`AGE_MAX`].
    pub(crate) fn last(&self) -> Option<Wei> {
        let (price, at) = self.state.lock().unwrap_or_else(PoisonError::into_inner).seen?;
        (at.elapsed() <= AGE_MAX).then_some(price)
    }
}

/// The price that recent blocks required, if the node's own price is `own`; `None` if no block has a price.
fn paid(history: &Value, own: Option<Wei>) -> Option<Wei> {
    let rewards = history.get("reward")?.as_array()?;
    let ratios = history.get("gasUsedRatio").and_then(Value::as_array);
    let mut prices: Vec<Wei> = rewards
        .iter()
        .enumerate()
        .filter_map(|(at, block)| {
            let percentile = |place: usize| quantity::wei(block.get(place)?).filter(|tip| *tip > Wei::ZERO);
            // Without the ratio, the lower of the two percentiles counts.
            let is_full = ratios.and_then(|ratios| ratios.get(at)?.as_f64()).is_some_and(|ratio| ratio >= FULL);
            if is_full {
                return percentile(1);
            }
            let cheapest = percentile(0).or_else(|| percentile(1))?;
            Some(own.map_or(cheapest, |own| own.min(cheapest)))
        })
        .collect();
    prices.sort_unstable();
    let place = prices.len().checked_mul(BLOCKS_PERCENTILE)?.div_ceil(100).checked_sub(1)?;
    let tip = *prices.get(place)?;
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

    /// Blocks with their cheapest tenth, their 60th percentile and how full they were.
    fn blocks(blocks: &[(u64, u64, f64)]) -> Value {
        json!({
            "reward": blocks.iter().map(|(low, high, _)| [format!("0x{low:x}"), format!("0x{high:x}")]).collect::<Vec<_>>(),
            "gasUsedRatio": blocks.iter().map(|(_, _, ratio)| ratio).collect::<Vec<_>>(),
        })
    }

    fn paid_in_blocks(tips: &[u64]) -> Value {
        blocks(&tips.iter().map(|tip| (*tip, *tip, 0.95)).collect::<Vec<_>>())
    }

    const QUIET: (u64, u64, f64) = (5, 5, 0.2);

    #[test]
    fn high_price_in_a_quiet_block_does_not_raise_the_price() {
        for own in [json!("0x5"), json!("0x4")] {
            let mut history = vec![QUIET; 19];
            history.insert(7, (80_000, 80_000, 0.01));
            assert_eq!(price(&blocks(&history), &own), quantity::wei(&own), "{own}");
        }
        // Without a price of the node, most blocks decide.
        let mut history = vec![QUIET; 19];
        history.insert(7, (80_000, 80_000, 0.01));
        assert_eq!(price(&blocks(&history), &json!(null)), Some(Wei::from(5)));
    }

    #[test]
    fn own_transactions_do_not_raise_the_price() {
        // Only our transactions in every block, at ten times the price needed.
        assert_eq!(price(&blocks(&[(50, 50, 0.001); 20]), &json!("0x5")), Some(Wei::from(5)));
        // We pay the reported price, and it is read again.
        let mut reported = Wei::from(50);
        for _ in 0..50 {
            let paid = u64::try_from(reported.0).unwrap();
            reported = price(&blocks(&[(paid, paid, 0.3); 20]), &json!("0x5")).unwrap();
        }
        assert_eq!(reported, Wei::from(5));
    }

    #[test]
    fn price_of_full_blocks_is_reported_after_five_of_them() {
        for full in 0..=20 {
            let mut history = vec![QUIET; 20 - full];
            history.extend(vec![(7, 40, 0.99); full]);
            let reported = price(&blocks(&history), &json!("0x5"));
            assert_eq!(reported, Some(Wei::from(if full > 5 { 40 } else { 5 })), "{full} full blocks");
        }
    }

    #[test]
    fn four_full_blocks_at_any_price_do_not_raise_the_price() {
        for high in [1_000, u64::MAX] {
            let mut history = vec![QUIET; 16];
            history.extend([(high, high, 1.0); 4]);
            assert_eq!(price(&blocks(&history), &json!("0x5")), Some(Wei::from(5)));
        }
    }

    #[test]
    fn blocks_of_free_transactions_are_ignored() {
        let mut tips = vec![0; 19];
        tips.insert(7, 5);
        assert_eq!(price(&paid_in_blocks(&tips), &json!("0x9")), Some(Wei::from(5)));
        assert_eq!(
            price(&paid_in_blocks(&[0; 20]), &json!("0x9")),
            Some(Wei::from(9)),
            "only then the node's own price"
        );
        // The cheapest tenth pays nothing, the rest does.
        assert_eq!(price(&blocks(&[(0, 7, 0.2); 20]), &json!("0x9")), Some(Wei::from(7)));
    }

    #[test]
    fn base_fee_is_added() {
        let mut history = blocks(&[(8, 8, 0.95); 4]);
        history["baseFeePerGas"] = json!(["0x0", "0x1"]);
        assert_eq!(price(&history, &json!("0x3")), Some(Wei::from(9)));
    }

    #[test]
    fn incomplete_history_gives_the_lower_price() {
        let tips = json!({"reward": [["0x5", "0x9"], ["0x6", "0x9"], ["0x7"]]});
        assert_eq!(price(&tips, &json!("0x6")), Some(Wei::from(6)));
        for empty in
            [json!(null), json!({}), json!({"reward": []}), json!({"reward": [["0x0"], []]}), json!({"reward": 7})]
        {
            assert_eq!(price(&empty, &json!("0x9")), Some(Wei::from(9)), "{empty}");
            assert_eq!(price(&empty, &json!(null)), None, "{empty}");
            assert_eq!(price(&empty, &json!("0x0")), None, "{empty}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn price_is_reported_for_a_minute_after_it_was_read() {
        let seen = within(5, 9);
        seen.learn(None, Some(&json!("0x9")));
        seen.learn(None, None);
        tokio::time::advance(AGE_MAX).await;
        assert_eq!(seen.last(), Some(Wei::from(9)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(seen.last(), None, "not even the floor");
    }

    #[test]
    fn reported_price_is_within_floor_and_ceiling() {
        let seen = within(50, 100);
        for (paid, reported) in [(1, 50), (50, 50), (77, 77), (100, 100), (101, 100), (u64::MAX, 100)] {
            seen.learn(Some(&paid_in_blocks(&[paid])), None);
            assert_eq!(seen.last(), Some(Wei::from(reported)), "{paid}");
            seen.learn(None, Some(&json!(format!("0x{paid:x}"))));
            assert_eq!(seen.last(), Some(Wei::from(reported)), "{paid}");
        }
        let most = format!("0x{:x}", U256::MAX);
        let most = json!({"reward": [[most, most]], "gasUsedRatio": [1], "baseFeePerGas": ["0x1"]});
        assert_eq!(price(&most, &json!(null)), Some(Wei::from(u64::MAX)));
    }

    #[tokio::test(start_paused = true)]
    async fn price_is_read_once_per_interval() {
        let seen = within(0, 9);
        assert_eq!(seen.calls_if_due().len(), 2);
        assert!(seen.calls_if_due().is_empty());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(seen.calls_if_due().len(), 2);
    }
}
