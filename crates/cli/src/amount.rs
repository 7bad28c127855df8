//! Amounts as a person reads them: exact wei, with BNB or gwei beside it. JSON output has wei alone.
//!
//! The conversion is exact: no digit is rounded or cut, so that the two numbers are always equal.

use std::fmt::Display;

/// Decimal places of BNB: 1 BNB is 10^18 wei.
const BNB_DECIMALS: usize = 18;
/// Decimal places of gwei, the unit in which gas prices are quoted: 1 gwei is 10^9 wei.
const GWEI_DECIMALS: usize = 9;

/// An amount of wei (decimal digits) with BNB beside it: `1500000000000000000 wei (1.5 BNB)`.
#[must_use]
pub fn wei(amount: impl Display) -> String {
    with_unit(&amount.to_string(), "wei", BNB_DECIMALS, "BNB")
}

/// A gas price in wei (decimal digits) with gwei beside it: `100000000 wei per gas (0.1 gwei)`.
#[must_use]
pub fn price(wei_per_gas: impl Display) -> String {
    with_unit(&wei_per_gas.to_string(), "wei per gas", GWEI_DECIMALS, "gwei")
}

/// The amount, and the same amount in the larger unit. Text that is not a decimal number is shown without the latter.
fn with_unit(digits: &str, unit: &str, decimals: usize, larger: &str) -> String {
    match scaled(digits, decimals) {
        Some(number) => format!("{digits} {unit} ({number} {larger})"),
        None => format!("{digits} {unit}"),
    }
}

/// A decimal number divided by ten to the power of `decimals`, without trailing zeros.
fn scaled(digits: &str, decimals: usize) -> Option<String> {
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let padded = format!("{digits:0>width$}", width = decimals.saturating_add(1));
    let (whole, fraction) = padded.split_at_checked(padded.len().saturating_sub(decimals))?;
    let fraction = fraction.trim_end_matches('0');
    Some(if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use signpost_txmgr::units::{U256, Wei};

    use super::*;

    #[test]
    fn amount_is_shown_in_wei_and_exactly_in_bnb() {
        for (amount, shown) in [
            ("0", "0 wei (0 BNB)"),
            ("1", "1 wei (0.000000000000000001 BNB)"),
            ("63000000000010", "63000000000010 wei (0.00006300000000001 BNB)"),
            ("999999999999999999", "999999999999999999 wei (0.999999999999999999 BNB)"),
            ("1000000000000000000", "1000000000000000000 wei (1 BNB)"),
            ("1500000000000000000", "1500000000000000000 wei (1.5 BNB)"),
            ("10000000000000000000000", "10000000000000000000000 wei (10000 BNB)"),
        ] {
            assert_eq!(wei(amount), shown);
            assert_eq!(wei(amount.parse::<Wei>().unwrap()), shown, "as a number");
        }
    }

    #[test]
    fn largest_amount_keeps_all_digits() {
        let shown = wei(Wei(U256::MAX));
        let bnb = "115792089237316195423570985008687907853269984665640564039457.584007913129639935";
        assert!(shown.ends_with(&format!("({bnb} BNB)")), "{shown}");
    }

    #[test]
    fn gas_price_is_shown_in_gwei() {
        assert_eq!(price(Wei::from(100_000_000)), "100000000 wei per gas (0.1 gwei)");
        assert_eq!(price(3_000_000_000_u64), "3000000000 wei per gas (3 gwei)");
        assert_eq!(price(1), "1 wei per gas (0.000000001 gwei)");
    }

    #[test]
    fn text_that_is_not_decimal_is_shown_as_it_is() {
        for text in ["", "0x10", "1.5", "-1"] {
            assert_eq!(wei(text), format!("{text} wei"));
        }
    }
}
