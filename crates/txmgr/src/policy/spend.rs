//! The spend limit of an account per time window.
//!
//! **A request counts** with its maximum cost, when it gets its slot: its value and its gas at the highest price of any
//! attempt, including replacements; or a cancel at the policy's cap, if that costs more. The real cost is known only
//! when the transaction is final, which may be too late to refuse. So the limit is never exceeded, and a request that
//! was cancelled, reverted or cheaper also counts in full: a refund would need a second source of truth besides the
//! record. A refused request does not count.
//!
//! **A window** begins with the first request after the previous window ended, and its total is at most the limit. Two
//! windows may touch, so any span of that length has at most twice the limit.
//!
//! Stores nothing: the total is part of the account's head and changes only in the transaction that reserves the slots.
//!
//! Read next: [`crate::account::Reservation`].

use super::AccountPolicy;
use crate::account::Spend;
use crate::request::{Code, Refused};
use crate::tx::{Intent, TRANSFER_GAS};
use crate::units::{Gas, Millis, Wei};

/// A spend limit per time window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpendLimit {
    /// The maximum total of one window, in wei.
    pub limit: Wei,
    /// The length of a window, in milliseconds.
    pub window_ms: u64,
}

impl SpendLimit {
    /// The total of the window that contains `now`. A clock that is behind the clock that opened the window counts as
    /// within the window.
    fn current(self, spend: Option<Spend>, now: Millis) -> Spend {
        let open = spend.filter(|spend| now.since(spend.window_start) < self.window_ms);
        open.unwrap_or(Spend { window_start: now, spent: Wei::ZERO })
    }

    fn is_over(self, spent: Wei) -> bool {
        spent > self.limit
    }

    fn text(self) -> String {
        format!("policy spend_limit_wei is {} per spend_window_s of {}", self.limit, self.window_ms / 1_000)
    }
}

impl AccountPolicy {
    /// The maximum cost of a slot for this request, in wei.
    #[must_use]
    pub fn cost(&self, intent: &Intent, fee_cap: Wei) -> Wei {
        let gas = |gas: Gas, price: Wei| price.0.saturating_mul(gas.0.into());
        let executed = intent.value.0.saturating_add(gas(intent.gas, fee_cap));
        Wei(executed.max(gas(TRANSFER_GAS, self.max_gas_price)))
    }

    /// The total including this request. Refused if it exceeds the limit. `None` if there is no limit.
    pub fn spend(
        &self,
        spend: Option<Spend>,
        intent: &Intent,
        fee_cap: Wei,
        now: Millis,
    ) -> Result<Option<Spend>, Refused> {
        let Some(limit) = self.spend_limit else { return Ok(None) };
        self.check_cost(intent, fee_cap)?;
        let (cost, before) = (self.cost(intent, fee_cap), limit.current(spend, now));
        let total = Wei(before.spent.0.saturating_add(cost.0));
        if limit.is_over(total) {
            // No remaining amount and no end of the window: the text of a refusal does not depend on the time.
            let message = format!(
                "{}: the request may cost {cost} wei, more than this window has left; send it again in a later one, under the same id",
                limit.text()
            );
            return Err(Refused::whole(Code::SpendLimitReached, message));
        }
        Ok(Some(Spend { spent: total, ..before }))
    }

    /// Refuses a request that exceeds the limit alone, because it fits into no window.
    pub(super) fn check_cost(&self, intent: &Intent, fee_cap: Wei) -> Result<(), Refused> {
        let Some(limit) = self.spend_limit else { return Ok(()) };
        let cost = self.cost(intent, fee_cap);
        if limit.is_over(cost) {
            let message = format!(
                "{}: the request may cost {cost} wei, more than a whole window has; lower `value`, `gas` or `maxGasPrice`",
                limit.text()
            );
            return Err(Refused::whole(Code::SpendLimitReached, message));
        }
        Ok(())
    }
}
