//! The names of fields: those we know, those people write instead, those nobody may send.
//!
//! Also decides what of a caller's text a refusal may repeat. Read next: [`super::json`].

use crate::spelling::{letters, nearest};

/// Every field of a signing request.
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

/// Names other tools use, with the letters only, and what to say.
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

/// Secret-like names, letters only and in lower case. The whole name must be one of these...
const SECRET_NAMES: &[&str] =
    &["seed", "secret", "skeys", "skey", "secretkey", "privkey", "seedphrase", "recoveryphrase"];

/// ...or contain one of these, which mean nothing else.
const SECRET_PARTS: &[&str] = &["privatekey", "mnemonic"];

/// Most characters of a caller's text that a refusal repeats.
const MAX_SHOWN_CHARS: usize = 64;

/// A run of this many hexadecimal digits is longer than an address: it may be a key, and is not shown.
const HEX_RUN_HIDDEN: usize = 41;

/// The secret-like name that `name` is or contains. The answer is our word, never the caller's.
pub(super) fn secret_like(name: &str) -> Option<&'static str> {
    let letters = letters(name);
    let whole = SECRET_NAMES.iter().find(|secret| **secret == letters);
    whole.or_else(|| SECRET_PARTS.iter().find(|part| letters.contains(**part))).copied()
}

/// What to say about a field that is not one of `known`.
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

/// `text` as a refusal may repeat it: short, plain, and nothing that could be a key or a phrase.
pub(crate) fn shown(text: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-+.:*".contains(&b);
    let short = !text.is_empty() && text.len() <= MAX_SHOWN_CHARS && text.bytes().all(plain);
    let hides_key = text.split(|c: char| !c.is_ascii_hexdigit()).any(|run| run.len() >= HEX_RUN_HIDDEN);
    (short && !hides_key).then_some(text)
}
