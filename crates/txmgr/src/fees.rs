//! The price rules of a replacement.
//!
//! BSC's pool takes a transaction over another of the same nonce only when both fee fields rise by
//! 10 % (`core/txpool/legacypool/list.go`, `PriceBump`); reth rounds up, so we do too.
//! Pure arithmetic; when to bump is [`crate::machine`]'s matter. Read next: [`crate::machine`].

use crate::tx::Fee;
use crate::units::{U256, Wei};

/// The least price a node takes in place of `old`: `max(old + 1, ceil(old × 1.10))`. `None` if it
/// leaves 256 bits.
#[must_use]
pub fn least_bump(old: Wei) -> Option<Wei> {
    let tenth_up =
        old.0.checked_mul(U256::from(110_u64))?.checked_add(U256::from(99_u64))?.checked_div(U256::from(100))?;
    Some(Wei(tenth_up.max(old.0.checked_add(U256::one())?)))
}

/// The price of the next attempt after one at `old`: the least legal bump, or the network's price
/// if that is higher, at most `cap`. `None` when the least legal bump is above the cap.
#[must_use]
pub fn bump(old: Fee, network: Option<Wei>, cap: Wei) -> Option<Fee> {
    let raise = |old: Wei| -> Option<Wei> {
        let least = least_bump(old)?;
        (least <= cap).then(|| network.map_or(least, |network| network.max(least)).min(cap))
    };
    Some(match old {
        Fee::Legacy { gas_price } => Fee::Legacy { gas_price: raise(gas_price)? },
        Fee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas } => {
            let max_fee_per_gas = raise(max_fee_per_gas)?;
            Fee::Dynamic {
                max_fee_per_gas,
                max_priority_fee_per_gas: raise(max_priority_fee_per_gas)?.min(max_fee_per_gas),
            }
        }
    })
}

/// A node takes `new` in place of `old`: the same type, and every field raised enough.
#[must_use]
pub fn is_legal_bump(old: Fee, new: Fee) -> bool {
    let raised = |old: Wei, new: Wei| least_bump(old).is_some_and(|least| new >= least);
    match (old, new) {
        (Fee::Legacy { gas_price: old }, Fee::Legacy { gas_price: new }) => raised(old, new),
        (
            Fee::Dynamic { max_fee_per_gas: old_max, max_priority_fee_per_gas: old_priority },
            Fee::Dynamic { max_fee_per_gas: new_max, max_priority_fee_per_gas: new_priority },
        ) => raised(old_max, new_max) && raised(old_priority, new_priority) && new_priority <= new_max,
        (Fee::Legacy { .. }, Fee::Dynamic { .. }) | (Fee::Dynamic { .. }, Fee::Legacy { .. }) => false,
    }
}
