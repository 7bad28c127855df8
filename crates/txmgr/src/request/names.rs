//! The names of fields: known ones, names that other tools use, and names that suggest a secret.
//!
//! [`shown`] decides which text of the caller a refusal may repeat. Read next: [`super::json`].

use crate::spelling::{letters, nearest};

/// The names of all fields of a signing request.
pub(super) const KNOWN: &[&str] = &[
    "requestId",
    "account",
    "to",
    "value",
    "data",
    "gas",
    "gasPrice",
    "maxFeePerGas",
    "maxPriorityFeePerGas",
    "maxGasPrice",
    "deadline",
    "chainId",
    "metadata",
];

/// Names that other tools use, in letters only, and the advice for each.
const FOREIGN: &[(&str, &str)] = &[
    ("id", "use `requestId`"),
    ("input", "use `data`"),
    ("calldata", "use `data`"),
    ("bytecode", "use `data`"),
    ("gaslimit", "use `gas`"),
    ("amount", "use `value`"),
    ("from", "use `account`"),
    ("sender", "use `account`"),
    ("recipient", "use `to`"),
    ("expiry", "use `deadline`"),
    ("type", "leave it out; the fee fields choose the transaction type"),
    ("accesslist", "leave it out; access lists are not supported"),
    ("authorizationlist", "leave it out; delegations are not supported"),
];

/// Names of secrets, in lower-case letters only. A field is refused if its whole name is one of these.
const SECRET_NAMES: &[&str] =
    &["seed", "secret", "skeys", "skey", "secretkey", "privkey", "seedphrase", "recoveryphrase"];

/// Parts of names of secrets. A field is refused if its name contains one of these.
const SECRET_PARTS: &[&str] = &["privatekey", "mnemonic"];

/// The maximum number of characters of the caller's text that a refusal repeats.
const MAX_SHOWN_CHARS: usize = 64;

/// A run of this many hexadecimal digits is longer than an address: it may be a key, so it is not repeated.
const HEX_RUN_HIDDEN: usize = 41;

/// The name of a secret that `name` is or contains. The result is from our lists, not from the caller.
pub(super) fn secret_like(name: &str) -> Option<&'static str> {
    let letters = letters(name);
    let whole = SECRET_NAMES.iter().find(|secret| **secret == letters);
    whole.or_else(|| SECRET_PARTS.iter().find(|part| letters.contains(**part))).copied()
}

/// The advice for a field that is not one of `known`.
pub(super) fn advice(name: &str, known: &[&str]) -> String {
    let letters = letters(name);
    let fits = |advice: &str| {
        let named = advice.strip_prefix("use `").and_then(|rest| rest.strip_suffix('`'));
        named.is_none_or(|field| known.contains(&field))
    };
    if let Some((_, advice)) = FOREIGN.iter().find(|(foreign, advice)| *foreign == letters && fits(advice)) {
        return (*advice).to_owned();
    }
    match nearest(name, known) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("the fields are {}", known.join(", ")),
    }
}

/// Returns `text` if a refusal may repeat it: it is short, plain, and cannot be a key or a mnemonic.
pub(crate) fn shown(text: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-+.:*".contains(&b);
    let short = !text.is_empty() && text.len() <= MAX_SHOWN_CHARS && text.bytes().all(plain);
    let hides_key = text.split(|c: char| !c.is_ascii_hexdigit()).any(|run| run.len() >= HEX_RUN_HIDDEN);
    (short && !hides_key).then_some(text)
}
