//! The limit of what an account may spend in a window of time.
//!
//! **What counts** is the most a request can take from the account, taken when it gets its slot: its
//! value and its gas at the highest price that any attempt may pay, bumps included; or a cancel at
//! the policy's cap, if that is higher. What it really costs is known only when it is final, and
//! by then it may be too late to say no. So a limit is never passed, whatever is bumped, and a request
//! that was cancelled, reverted or cheaper than it could have been has counted in full: giving back
//! would need a second truth beside the record. A refused request never counts.
//!
//! **A window** begins with the first request after the one before has ended, and takes no more than
//! the limit. Two windows may touch, so any span of that length sees at most twice the limit.
//!
//! Never stores anything: the count stands on the account's head and changes only in the transaction
//! that reserves the slots. Read next: [`crate::account::Reservation`].

use super::AccountPolicy;
use crate::account::Spend;
use crate::request::{Code, Refused};
use crate::tx::{Intent, TRANSFER_GAS};
use crate::units::{Gas, Millis, Wei};

/// A spend limit per time window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpendLimit {
    /// Most wei of one window.
    pub limit: Wei,
    /// How long a window is, in milliseconds.
    pub window_ms: u64,
}

impl SpendLimit {
    /// What is spent in the window that `now` falls in. A clock that is behind the one that opened the
    /// window is in it too.
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
    /// The most wei that a slot of this request can cost.
    #[must_use]
    pub fn cost(&self, intent: &Intent, fee_cap: Wei) -> Wei {
        let gas = |gas: Gas, price: Wei| price.0.saturating_mul(gas.0.into());
        let executed = intent.value.0.saturating_add(gas(intent.gas, fee_cap));
        Wei(executed.max(gas(TRANSFER_GAS, self.max_gas_price)))
    }

    /// What is spent when this request gets a slot too; refused if the window has less left. `None`
    /// if nothing limits it.
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
            // Neither what is left nor until when: a refusal's text does not depend on the time.
            let message = format!(
                "{}: the request may cost {cost} wei, more than this window has left; send it again in a later one, under the same id",
                limit.text()
            );
            return Err(Refused::whole(Code::SpendLimitReached, message));
        }
        Ok(Some(Spend { spent: total, ..before }))
    }

    /// A request that is above the limit alone fits into no window.
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
