//! The reason of a revert: decodes the raw revert data of `eth_call`. If there is none and the transaction used all
//! its gas, that is the reason.
//!
//! Never fails and does no I/O: data of an unknown shape is named by its selector and kept raw. The text is untrusted,
//! because anyone may write a contract, so it is escaped ([`text::plain`]). Read next: [`crate::record`].

use crate::record::Revert;
use crate::text;
use crate::units::{Gas, U256};

/// `Error(string)`: what `revert("text")` and `require(false, "text")` give (Solidity).
const ERROR_STRING: [u8; 4] = [0x08, 0xc3, 0x79, 0xa0];
/// `Panic(uint256)`: the result of a check that the compiler inserts (Solidity since 0.8).
const PANIC: [u8; 4] = [0x4e, 0x48, 0x7b, 0x71];
/// Size of an ABI word in bytes.
const WORD: usize = 32;

/// Why a transaction reverted: from the revert data of a replay if it gave any, else from the gas used. A transaction
/// that runs out of gas has no revert data, and a replay may not even revert.
#[must_use]
pub fn reason(bytes: Option<&[u8]>, used: Option<Gas>, limit: Gas) -> Option<Revert> {
    match bytes {
        Some(bytes) if !bytes.is_empty() => Some(decode(bytes)),
        Some(_) | None if used == Some(limit) => {
            Some(Revert { text: format!("used all its gas ({})", grouped(limit.0)), raw: Vec::new() })
        }
        Some(_) | None => bytes.map(decode),
    }
}

/// Formats a number with thousands separators: `21,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len().saturating_mul(2));
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digits.len().saturating_sub(at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Decodes revert data to text and keeps the raw bytes, both bounded.
#[must_use]
pub fn decode(bytes: &[u8]) -> Revert {
    let raw = bytes.get(..Revert::MAX_BYTES).unwrap_or(bytes).to_vec();
    Revert { text: meaning(bytes), raw }
}

fn meaning(bytes: &[u8]) -> String {
    let Some((selector, arguments)) = bytes.split_first_chunk::<4>() else {
        return match bytes.len() {
            0 => "no revert data".to_owned(),
            _ => format!("revert data 0x{}", hex::encode(bytes)),
        };
    };
    let known = match *selector {
        ERROR_STRING => abi_string(arguments).map(readable),
        PANIC => abi_number(arguments).map(panic_meaning),
        _ => None,
    };
    known.unwrap_or_else(|| format!("custom error 0x{}", hex::encode(selector)))
}

/// Decodes a single string argument: the offset of its length, its length, its bytes.
fn abi_string(arguments: &[u8]) -> Option<&[u8]> {
    let offset = abi_length(arguments)?;
    let at = arguments.get(offset..)?;
    let length = abi_length(at)?;
    at.get(WORD..)?.get(..length)
}

fn abi_number(arguments: &[u8]) -> Option<U256> {
    arguments.get(..WORD).map(U256::from_big_endian)
}

/// A number used as an offset or a length; the caller's slicing checks the bounds.
fn abi_length(arguments: &[u8]) -> Option<usize> {
    usize::try_from(abi_number(arguments)?).ok()
}

fn readable(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "reverted with an empty message".to_owned();
    }
    text::plain_bytes(bytes)
}

/// Solidity's panic codes (Solidity documentation, "Panic via assert and Error via require").
fn panic_meaning(code: U256) -> String {
    let meaning = match u64::try_from(code) {
        Ok(0x00) => "generic panic of the compiler",
        Ok(0x01) => "assertion failed",
        Ok(0x11) => "arithmetic overflow or underflow",
        Ok(0x12) => "division or modulo by zero",
        Ok(0x21) => "value out of range for an enum",
        Ok(0x22) => "wrongly encoded byte array in storage",
        Ok(0x31) => "pop of an empty array",
        Ok(0x32) => "array index out of bounds",
        Ok(0x41) => "too much memory asked for",
        Ok(0x51) => "call of an uninitialised internal function",
        Ok(_) | Err(_) => "unknown panic code",
    };
    format!("panic 0x{code:02x}: {meaning}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "test code")]

    use super::*;

    fn word(number: u64) -> [u8; WORD] {
        U256::from(number).to_big_endian()
    }

    fn error_string(offset: u64, length: u64, text: &[u8]) -> Vec<u8> {
        let mut data = ERROR_STRING.to_vec();
        data.extend(word(offset));
        data.extend(word(length));
        data.extend(text);
        data.resize(data.len().next_multiple_of(WORD) + 4, 0);
        data
    }

    fn panic(code: u64) -> Vec<u8> {
        [PANIC.as_slice(), &word(code)].concat()
    }

    #[test]
    fn error_string_decodes_to_its_text() {
        let data = error_string(32, 9, b"too late!");
        assert_eq!(decode(&data), Revert { text: "too late!".to_owned(), raw: data });
    }

    #[test]
    fn panic_decodes_to_code_and_meaning() {
        assert_eq!(decode(&panic(0x11)).text, "panic 0x11: arithmetic overflow or underflow");
        assert_eq!(decode(&panic(1)).text, "panic 0x01: assertion failed");
        assert_eq!(decode(&panic(0x99)).text, "panic 0x99: unknown panic code");
        let huge = [PANIC.as_slice(), &[0xff; 32]].concat();
        assert!(decode(&huge).text.ends_with("unknown panic code"));
    }

    #[test]
    fn custom_errors_show_their_selector_and_keep_the_bytes() {
        let data = [&[0xde, 0xad, 0xbe, 0xef][..], &word(7)].concat();
        assert_eq!(decode(&data), Revert { text: "custom error 0xdeadbeef".to_owned(), raw: data });
    }

    #[test]
    fn short_and_empty_data_are_named() {
        assert_eq!(decode(&[]), Revert { text: "no revert data".to_owned(), raw: Vec::new() });
        assert_eq!(decode(&[1, 2, 3]).text, "revert data 0x010203");
    }

    #[test]
    fn without_revert_data_using_all_gas_is_the_reason() {
        let of = |bytes: Option<&[u8]>, used| reason(bytes, used, Gas(60_000)).map(|revert| revert.text);
        let all = Some("used all its gas (60,000)".to_owned());
        for bytes in [None, Some([].as_slice())] {
            assert_eq!(of(bytes, Some(Gas(60_000))), all, "{bytes:?}");
        }
        // Revert data takes precedence.
        let data = panic(1);
        assert_eq!(of(Some(&data), Some(Gas(60_000))), Some("panic 0x01: assertion failed".to_owned()));
        // Gas is left, or the gas used is unknown.
        for used in [Some(Gas(59_999)), None] {
            assert_eq!(of(Some(&[]), used), Some("no revert data".to_owned()));
            assert_eq!(of(None, used), None);
        }
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (21_000, "21,000"), (16_777_216, "16,777,216")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn broken_encodings_fall_back_to_the_selector() {
        let huge_offset = [ERROR_STRING.as_slice(), &[0xff; 64]].concat();
        for data in
            [ERROR_STRING.to_vec(), error_string(32, 10_000, b"short"), error_string(9_999, 5, b"short"), huge_offset]
        {
            assert_eq!(decode(&data).text, "custom error 0x08c379a0");
        }
        assert_eq!(decode(&PANIC).text, "custom error 0x4e487b71");
    }

    #[test]
    fn hostile_text_is_bounded_and_escaped() {
        let text = decode(&error_string(32, 8, b"a\x1b[31m\xff\n")).text;
        assert_eq!(text, "a\\u{1b}[31m\u{fffd}\\n");
        let long = decode(&error_string(32, 10_000, &[b'x'; 10_000]));
        assert_eq!(long.text.chars().count(), text::MAX_CHARS);
        assert_eq!(long.raw.len(), Revert::MAX_BYTES);
    }

    #[test]
    fn empty_revert_message_is_reported_as_empty() {
        assert_eq!(decode(&error_string(32, 0, b"")).text, "reverted with an empty message");
    }
}
