//! The price rules of a replacement.
//!
//! BSC's pool takes a transaction over another of the same nonce only when both fee fields rise by
//! 10 % (`core/txpool/legacypool/list.go`, `PriceBump`); reth rounds up, so we do too.
//! Pure arithmetic; when to bump is [`crate::machine`]'s matter. Read next: [`crate::machine`].

use crate::tx::Fee;
use crate::units::{U256, Wei};

/// The new price in hundredths of the old.
const BUMPED_PERCENT: u64 = 110;

/// What a validator gets for a unit of gas while the base fee is 0, as it is on BSC: what a floor is
/// held against. A cap is held against [`Fee::price`].
#[must_use]
pub fn priority_price(fee: Fee) -> Wei {
    match fee {
        Fee::Legacy { gas_price } => gas_price,
        Fee::Dynamic { max_priority_fee_per_gas, .. } => max_priority_fee_per_gas,
    }
}

/// The least price a node takes in place of `old`: `max(old + 1, ceil(old × 1.10))`. `None` if it
/// leaves 256 bits.
#[must_use]
pub fn least_bump(old: Wei) -> Option<Wei> {
    let bumped = old.0.checked_mul(U256::from(BUMPED_PERCENT))?;
    let tenth_up = bumped.checked_add(U256::from(99_u64))?.checked_div(U256::from(100_u64))?;
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

/// `fee` with no field above `cap`.
#[must_use]
pub fn at_most(fee: Fee, cap: Wei) -> Fee {
    match fee {
        Fee::Legacy { gas_price } => Fee::Legacy { gas_price: gas_price.min(cap) },
        Fee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas } => Fee::Dynamic {
            max_fee_per_gas: max_fee_per_gas.min(cap),
            max_priority_fee_per_gas: max_priority_fee_per_gas.min(cap),
        },
    }
}

/// The price at which an attempt at `old` is replaced when `wanted` is asked for and `cap` is the most that is
/// allowed today: `wanted`, or less. `None` when that is no legal bump: the old attempt stays the newest.
#[must_use]
pub fn replacement(old: Fee, wanted: Fee, cap: Wei) -> Option<Fee> {
    let fee = at_most(wanted, cap);
    is_legal_bump(old, fee).then_some(fee)
}

/// The price of the first cancel of a signed slot: as asked for, or today's cap if that is less, also where no
/// legal bump fits below it. If a node holds the executing attempt, that is mined; if none does, the
/// cancel is: either way the slot ends. `None` rather than 0 wei, which no validator takes.
#[must_use]
pub fn first_cancel(wanted: Fee, cap: Wei) -> Option<Fee> {
    let fee = at_most(wanted, cap);
    (priority_price(fee) > Wei::ZERO).then_some(fee)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wei() -> impl Strategy<Value = Wei> {
        prop_oneof![
            (0..1_000_u64).prop_map(Wei::from),
            any::<u64>().prop_map(Wei::from),
            any::<[u64; 4]>().prop_map(|limbs| Wei(U256(limbs))),
            Just(Wei(U256::MAX)),
        ]
    }

    fn fee() -> impl Strategy<Value = Fee> {
        prop_oneof![
            wei().prop_map(|gas_price| Fee::Legacy { gas_price }),
            (wei(), wei())
                .prop_map(|(a, b)| Fee::Dynamic { max_fee_per_gas: a.max(b), max_priority_fee_per_gas: a.min(b) }),
        ]
    }

    fn bumped(old: u64, network: Option<u64>, cap: u64) -> Option<Wei> {
        let old = Fee::Legacy { gas_price: Wei::from(old) };
        bump(old, network.map(Wei::from), Wei::from(cap)).map(|fee| fee.price())
    }

    #[test]
    fn a_bump_is_one_wei_or_a_tenth_rounded_up() {
        for (old, new) in [(0, 1), (1, 2), (9, 10), (10, 11), (11, 13), (100, 110), (101, 112)] {
            assert_eq!(bumped(old, None, 1_000), Some(Wei::from(new)), "{old}");
        }
    }

    #[test]
    fn the_network_s_price_is_followed_up_to_the_cap() {
        assert_eq!(bumped(100, Some(50), 1_000), Some(Wei::from(110)));
        assert_eq!(bumped(100, Some(500), 1_000), Some(Wei::from(500)));
        assert_eq!(bumped(100, Some(5_000), 1_000), Some(Wei::from(1_000)));
    }

    #[test]
    fn a_bump_that_replaces_nothing_is_none() {
        assert_eq!(bumped(100, None, 110), Some(Wei::from(110)));
        assert_eq!(bumped(100, Some(500), 109), None);
    }

    #[test]
    fn another_type_never_replaces() {
        let legacy = Fee::Legacy { gas_price: Wei::from(1) };
        let dynamic = Fee::Dynamic { max_fee_per_gas: Wei::from(9), max_priority_fee_per_gas: Wei::from(9) };
        assert!(!is_legal_bump(legacy, dynamic));
        assert!(!is_legal_bump(dynamic, legacy));
    }

    proptest! {
        #[test]
        fn every_bump_is_legal_and_below_the_cap(old in fee(), network in proptest::option::of(wei()), cap in wei()) {
            match bump(old, network, cap) {
                Some(new) => {
                    prop_assert!(is_legal_bump(old, new));
                    prop_assert!(new.price() <= cap);
                    prop_assert!(priority_price(new) <= new.price());
                    prop_assert!(!is_legal_bump(old, old));
                }
                None => prop_assert!(least_bump(old.price()).is_none_or(|least| least > cap)),
            }
        }

        #[test]
        fn a_replacement_is_a_legal_bump_within_the_cap_or_none(old in fee(), wanted in fee(), cap in wei()) {
            match replacement(old, wanted, cap) {
                Some(new) => {
                    prop_assert!(is_legal_bump(old, new));
                    prop_assert!(new.price() <= cap && new.price() <= wanted.price());
                    prop_assert!(priority_price(new) > Wei::ZERO);
                    // Nothing is given away: below the cap it is what was asked for.
                    prop_assert!(new == wanted || new.price() == cap || priority_price(new) == cap);
                }
                None => prop_assert!(!is_legal_bump(old, wanted) || wanted.price() > cap),
            }
        }

        #[test]
        fn what_the_broadcaster_asks_for_is_replaced_whenever_the_least_bump_fits(
            old in fee(),
            network in proptest::option::of(wei()),
            cap in wei(),
        ) {
            let no_cap = Wei(U256::MAX);
            if let Some(wanted) = bump(old, network, no_cap) {
                prop_assert_eq!(replacement(old, wanted, cap).is_some(), bump(old, None, cap).is_some());
            }
        }

        #[test]
        fn a_first_cancel_is_within_the_cap_and_never_free(wanted in fee(), cap in wei()) {
            match first_cancel(wanted, cap) {
                Some(fee) => {
                    prop_assert!(fee.price() <= cap && fee.price() <= wanted.price());
                    prop_assert!(priority_price(fee) > Wei::ZERO);
                }
                None => prop_assert!(cap == Wei::ZERO || priority_price(wanted) == Wei::ZERO),
            }
        }

        #[test]
        fn a_dearer_transaction_or_network_never_bumps_lower(
            (low, high) in (wei(), wei()).prop_map(|(a, b)| (a.min(b), a.max(b))),
            network in proptest::option::of(wei()),
            cap in wei(),
        ) {
            let of = |gas_price, network| bump(Fee::Legacy { gas_price }, network, cap).map(|fee| fee.price());
            if let Some(from_high) = of(high, network) {
                prop_assert!(of(low, network).is_some_and(|from_low| from_low <= from_high));
            }
            prop_assert!(of(low, Some(low)) <= of(low, Some(high)));
        }

        #[test]
        fn one_wei_less_than_the_least_bump_is_not_legal(old in wei()) {
            if let Some(least) = least_bump(old) {
                let offered = |wei| Fee::Legacy { gas_price: wei };
                prop_assert!(is_legal_bump(offered(old), offered(least)));
                let less = Wei(least.0.saturating_sub(U256::one()));
                prop_assert!(!is_legal_bump(offered(old), offered(less)));
            }
        }
    }
}
