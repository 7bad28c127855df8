//! The price rules of a replacement.
//!
//! BSC's pool replaces a transaction with another of the same nonce only when both fee fields rise by 10 %
//! (`core/txpool/legacypool/list.go`, `PriceBump`). reth rounds up, so we do too. This module is pure arithmetic;
//! [`crate::machine`] decides when to bump. Read next: [`crate::machine`].

use crate::tx::Fee;
use crate::units::{U256, Wei};

/// The least new price, in percent of the old one.
const BUMPED_PERCENT: u64 = 110;

/// What a validator earns per unit of gas while the base fee is 0, as on BSC. A price floor is checked against this; a
/// price cap is checked against [`Fee::price`].
#[must_use]
pub fn priority_price(fee: Fee) -> Wei {
    match fee {
        Fee::Legacy { gas_price } => gas_price,
        Fee::Dynamic { max_priority_fee_per_gas, .. } => max_priority_fee_per_gas,
    }
}

/// The least price at which a node replaces `old`: `max(old + 1, ceil(old × 1.10))`. `None` if it exceeds 256 bits.
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

/// Whether a node replaces `old` with `new`: both have the same type, and every field is raised enough.
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

/// The price that replaces an attempt at `old`: `wanted`, lowered to today's `cap`. `None` when the result is not a
/// legal bump: the old attempt then stays the newest.
#[must_use]
pub fn replacement(old: Fee, wanted: Fee, cap: Wei) -> Option<Fee> {
    let fee = at_most(wanted, cap);
    is_legal_bump(old, fee).then_some(fee)
}

/// The price of the first cancel of a signed slot: `wanted`, lowered to today's `cap`. It need not be a legal bump: a
/// node that holds the executing attempt mines that one, any other node mines the cancel, and the slot ends either
/// way. `None` instead of 0 wei, which no validator accepts.
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
    fn bump_is_one_wei_or_a_tenth_rounded_up() {
        for (old, new) in [(0, 1), (1, 2), (9, 10), (10, 11), (11, 13), (100, 110), (101, 112)] {
            assert_eq!(bumped(old, None, 1_000), Some(Wei::from(new)), "{old}");
        }
    }

    #[test]
    fn bump_follows_the_network_price_up_to_the_cap() {
        assert_eq!(bumped(100, Some(50), 1_000), Some(Wei::from(110)));
        assert_eq!(bumped(100, Some(500), 1_000), Some(Wei::from(500)));
        assert_eq!(bumped(100, Some(5_000), 1_000), Some(Wei::from(1_000)));
    }

    #[test]
    fn no_bump_when_the_least_bump_exceeds_the_cap() {
        assert_eq!(bumped(100, None, 110), Some(Wei::from(110)));
        assert_eq!(bumped(100, Some(500), 109), None);
    }

    #[test]
    fn legacy_and_dynamic_fees_never_replace_each_other() {
        let legacy = Fee::Legacy { gas_price: Wei::from(1) };
        let dynamic = Fee::Dynamic { max_fee_per_gas: Wei::from(9), max_priority_fee_per_gas: Wei::from(9) };
        assert!(!is_legal_bump(legacy, dynamic));
        assert!(!is_legal_bump(dynamic, legacy));
    }

    proptest! {
        #[test]
        fn every_bump_is_legal_and_within_the_cap(old in fee(), network in proptest::option::of(wei()), cap in wei()) {
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
        fn replacement_is_a_legal_bump_within_the_cap_or_none(old in fee(), wanted in fee(), cap in wei()) {
            match replacement(old, wanted, cap) {
                Some(new) => {
                    prop_assert!(is_legal_bump(old, new));
                    prop_assert!(new.price() <= cap && new.price() <= wanted.price());
                    prop_assert!(priority_price(new) > Wei::ZERO);
                    // The price is lowered only by the cap.
                    prop_assert!(new == wanted || new.price() == cap || priority_price(new) == cap);
                }
                None => prop_assert!(!is_legal_bump(old, wanted) || wanted.price() > cap),
            }
        }

        #[test]
        fn uncapped_bump_is_replaced_iff_the_least_bump_fits_the_cap(
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
        fn first_cancel_is_within_the_cap_and_never_free(wanted in fee(), cap in wei()) {
            match first_cancel(wanted, cap) {
                Some(fee) => {
                    prop_assert!(fee.price() <= cap && fee.price() <= wanted.price());
                    prop_assert!(priority_price(fee) > Wei::ZERO);
                }
                None => prop_assert!(cap == Wei::ZERO || priority_price(wanted) == Wei::ZERO),
            }
        }

        #[test]
        fn higher_old_or_network_price_never_lowers_the_bump(
            (low, high) in (wei(), wei()).prop_map(|(a, b)| (a.min(b), a.max(b))),
            network in proptest::option::of(wei()),
            cap in wei(),
        ) {
            let bump_from = |gas_price, network| bump(Fee::Legacy { gas_price }, network, cap).map(|fee| fee.price());
            if let Some(from_high) = bump_from(high, network) {
                prop_assert!(bump_from(low, network).is_some_and(|from_low| from_low <= from_high));
            }
            prop_assert!(bump_from(low, Some(low)) <= bump_from(low, Some(high)));
        }

        #[test]
        fn one_wei_below_the_least_bump_is_not_legal(old in wei()) {
            if let Some(least) = least_bump(old) {
                let offered = |wei| Fee::Legacy { gas_price: wei };
                prop_assert!(is_legal_bump(offered(old), offered(least)));
                let less = Wei(least.0.saturating_sub(U256::one()));
                prop_assert!(!is_legal_bump(offered(old), offered(less)));
            }
        }
    }
}
