//! Parses the fields of a request.
//!
//! Each method returns the value, or a refusal that names the field and says what to do. A refusal repeats the caller's
//! text only where [`shown`] allows it. Read next: [`super::digest`].

use std::sync::Arc;

use serde_json::Value;

use super::json::{Document, Json, Object};
use super::names::{self, shown};
use super::refused::{Code, Refused};
use super::{AccountRef, FeeAsk};
use crate::encoding::canonical;
use crate::tx::{Fee, MAX_CHAIN_ID};
use crate::units::{Address, ChainId, Gas, Millis, Nonce, ParseUnitError, RequestId, U256, Wei};

/// The maximum size of metadata in bytes, as compact JSON.
pub const MAX_METADATA_BYTES: usize = 2_048;

/// Request ids with this prefix are reserved: a message without a usable id is recorded as `sqs:<message id>`.
pub const RESERVED_ID_PREFIX: &str = "sqs:";

/// The earliest deadline (September 2001). A smaller number is probably a duration.
const DEADLINE_MIN_S: u64 = 1_000_000_000;

/// The latest deadline (the year 5138). A larger number is probably in milliseconds.
const DEADLINE_MAX_S: u64 = 100_000_000_000;

/// Digits of 2^256 - 1 in decimal.
const MAX_DECIMAL_DIGITS: usize = 78;

/// Digits of 2^256 - 1 in hexadecimal.
const MAX_HEX_DIGITS: usize = 64;

/// The fields of one body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'f> {
    fields: &'f Object<'f>,
}

impl<'f> Fields<'f> {
    pub(super) fn new(fields: &'f Object<'_>) -> Self {
        Self { fields }
    }

    pub(super) fn has(self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// The field's value. `null` is refused, because it could mean "none" or "the default".
    fn get(self, name: &str) -> Result<Option<&'f Json<'f>>, Refused> {
        match self.fields.get(name) {
            Some(Json::Null) => {
                let message = format!("`{name}` is null; leave it out or give a value");
                Err(Refused::field(code_of(name), name, message))
            }
            found => Ok(found),
        }
    }

    pub(super) fn refuse_unknown(self) -> Result<(), Refused> {
        if self.has("nonce") {
            let message = "`nonce` cannot be chosen: the account's lane assigns it; leave it out";
            return Err(Refused::field(Code::NonceNotAllowed, "nonce", message));
        }
        let Some(name) = self.fields.keys().find(|name| !names::KNOWN.contains(&name.as_ref())) else {
            return Ok(());
        };
        if let Some(name) = shown(name) {
            let advice = names::advice(name, names::KNOWN);
            let message = format!("`{name}` is not a field of a request; {advice}");
            return Err(Refused::field(Code::UnknownField, name, message));
        }
        let advice = names::advice("", names::KNOWN);
        let message = format!("the request has a field that Signpost does not know; {advice}");
        Err(Refused::whole(Code::UnknownField, message))
    }

    pub(super) fn cancel(self) -> Result<RequestId, Refused> {
        if self.fields.len() > 1 {
            let message = "a message with `cancel` has no other field; send the request in a message of its own";
            return Err(Refused::field(Code::UnknownField, "cancel", message));
        }
        id("cancel", self.get("cancel")?)
    }

    pub(super) fn request_id(self) -> Result<RequestId, Refused> {
        let id = id("requestId", self.get("requestId")?)?;
        if is_reserved(&id) {
            let message = format!("`requestId` must not start with `{RESERVED_ID_PREFIX}`; choose another id");
            return Err(Refused::field(Code::BadRequestId, "requestId", message));
        }
        Ok(id)
    }

    pub(super) fn account(self) -> Result<Option<AccountRef>, Refused> {
        let Some(json) = self.get("account")? else {
            return Ok(None);
        };
        let text = text(Code::BadAccount, "account", json)?;
        if let Some(name) = text.strip_prefix(AccountRef::POOL) {
            let name = name.parse().map_err(|error| bad_unit(Code::BadAccount, "account", &error, ACCOUNT_HELP))?;
            return Ok(Some(AccountRef::Pool(name)));
        }
        if text.contains(':') {
            let key = text.parse().map_err(|error| bad_unit(Code::BadAccount, "account", &error, ACCOUNT_HELP))?;
            return Ok(Some(AccountRef::Key(key)));
        }
        if text.starts_with("0x") {
            return address("account", text).map(|address| Some(AccountRef::Address(address)));
        }
        let name = text.parse().map_err(|error| bad_unit(Code::BadAccount, "account", &error, ACCOUNT_HELP))?;
        Ok(Some(AccountRef::Name(name)))
    }

    pub(super) fn to(self) -> Result<Option<Address>, Refused> {
        match self.fields.get("to") {
            None => {
                let message = "`to` is missing; give the recipient's address, or null to create a contract";
                Err(Refused::field(Code::MissingField, "to", message))
            }
            Some(Json::Null) => Ok(None),
            Some(json) => address("to", text(Code::BadAddress, "to", json)?).map(Some),
        }
    }

    pub(super) fn data(self) -> Result<Arc<[u8]>, Refused> {
        let Some(json) = self.get("data")? else {
            return Ok(Arc::from([]));
        };
        let bad = |problem: &str| {
            let message = format!("`data` {problem}; send 0x and two hexadecimal digits per byte, or 0x for none");
            Refused::field(Code::BadData, "data", message)
        };
        let text = text(Code::BadData, "data", json)?;
        let digits = text.strip_prefix("0x").ok_or_else(|| bad("must start with 0x"))?;
        if digits.len() % 2 != 0 {
            return Err(bad("has an odd number of digits"));
        }
        hex::decode(digits).map(Arc::from).map_err(|_| bad("is not hexadecimal"))
    }

    pub(super) fn gas(self) -> Result<Gas, Refused> {
        let Some(gas) = self.number("gas")? else {
            let message = "`gas` is missing; give the gas limit, 21000 for a plain transfer";
            return Err(Refused::field(Code::MissingField, "gas", message));
        };
        u64::try_from(gas).map(Gas).map_err(|_| {
            let message = "`gas` does not fit in 64 bits; the network takes at most 16777216";
            Refused::field(Code::GasTooHigh, "gas", message)
        })
    }

    /// The nonce that the caller chose (`sign-direct`), at most 2^64 - 2 (EIP-2681).
    pub(super) fn nonce(self) -> Result<Nonce, Refused> {
        let Some(nonce) = self.number("nonce")? else {
            let message = "`nonce` is missing; give the transaction's place among the sender's";
            return Err(Refused::field(Code::MissingField, "nonce", message));
        };
        u64::try_from(nonce).ok().filter(|nonce| *nonce != u64::MAX).map(Nonce).ok_or_else(|| {
            let message = "`nonce` is above 2^64 - 2, the last there is (EIP-2681)";
            Refused::field(Code::BadNumber, "nonce", message)
        })
    }

    pub(super) fn fee(self) -> Result<FeeAsk, Refused> {
        let gas_price = self.wei("gasPrice")?;
        let max_fee = self.wei("maxFeePerGas")?;
        let priority_fee = self.wei("maxPriorityFeePerGas")?;
        match (gas_price, max_fee, priority_fee) {
            (None, None, None) => Ok(FeeAsk::Configured),
            (Some(gas_price), None, None) => Ok(FeeAsk::Fixed(Fee::Legacy { gas_price })),
            (Some(_), _, _) => {
                let message =
                    "`gasPrice` cannot go with `maxFeePerGas` or `maxPriorityFeePerGas`; give one kind of fee";
                Err(Refused::field(Code::FeeConflict, "gasPrice", message))
            }
            (None, Some(max_fee_per_gas), Some(max_priority_fee_per_gas)) => {
                if max_priority_fee_per_gas > max_fee_per_gas {
                    let message = format!(
                        "`maxPriorityFeePerGas` {max_priority_fee_per_gas} is above `maxFeePerGas` {max_fee_per_gas}; \
                         lower it, on BSC both are usually equal"
                    );
                    return Err(Refused::field(Code::FeeConflict, "maxPriorityFeePerGas", message));
                }
                Ok(FeeAsk::Fixed(Fee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas }))
            }
            (None, Some(_), None) => Err(missing_fee("maxPriorityFeePerGas", "maxFeePerGas")),
            (None, None, Some(_)) => Err(missing_fee("maxFeePerGas", "maxPriorityFeePerGas")),
        }
    }

    /// A time in whole Unix seconds. RFC 3339 text is refused. Durations are refused too: the message may wait in a
    /// queue, so "in five minutes" has no fixed meaning.
    pub(super) fn deadline(self) -> Result<Option<Millis>, Refused> {
        let bad = |problem: &str| {
            let message = format!("`deadline` {problem}; give a Unix time in whole seconds, such as 1790000000");
            Refused::field(Code::BadDeadline, "deadline", message)
        };
        let Some(json) = self.get("deadline")? else {
            return Ok(None);
        };
        let seconds = u256_of(json).map_err(bad)?;
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
        match seconds {
            0..DEADLINE_MIN_S => Err(bad("is long past, or a duration")),
            DEADLINE_MIN_S..=DEADLINE_MAX_S => Ok(Some(Millis(seconds.saturating_mul(1_000)))),
            _ => Err(bad("is too far away, or in milliseconds")),
        }
    }

    pub(super) fn chain_id(self) -> Result<Option<ChainId>, Refused> {
        let Some(id) = self.number("chainId")? else {
            return Ok(None);
        };
        let id = u64::try_from(id).ok();
        let id = id.filter(|id| (1..=MAX_CHAIN_ID).contains(id));
        id.map(|id| Some(ChainId(id))).ok_or_else(|| {
            let message = "`chainId` is not a valid chain id (EIP-2294); 56 is BSC, 97 its test network Chapel";
            Refused::field(Code::BadNumber, "chainId", message)
        })
    }

    pub(super) fn metadata(self) -> Result<Option<Value>, Refused> {
        let Some(json) = self.get("metadata")? else {
            return Ok(None);
        };
        if !matches!(json, Json::Object(_)) {
            let message = format!("`metadata` is {}; send a JSON object", json.kind());
            return Err(Refused::field(Code::BadMetadata, "metadata", message));
        }
        let value = json.to_value();
        let size = canonical(&value).len();
        if size > MAX_METADATA_BYTES {
            let message =
                format!("`metadata` has {size} bytes, at most {MAX_METADATA_BYTES}; keep a reference to it instead");
            return Err(Refused::field(Code::MetadataTooLarge, "metadata", message));
        }
        Ok(Some(value))
    }

    pub(super) fn wei(self, name: &'static str) -> Result<Option<Wei>, Refused> {
        self.number(name).map(|number| number.map(Wei))
    }

    fn number(self, name: &'static str) -> Result<Option<U256>, Refused> {
        let Some(json) = self.get(name)? else {
            return Ok(None);
        };
        u256_of(json).map(Some).map_err(|problem| {
            let written = match json {
                Json::Number(text) => shown(text),
                Json::Text(text) => shown(text),
                Json::Null | Json::Bool(_) | Json::List(_) | Json::Object(_) => None,
            };
            let written = written.map(|text| format!(" {text}")).unwrap_or_default();
            let message = format!(
                "`{name}`{written} {problem}; send an integer as 21000, \"21000\" or \"0x5208\"{unit}",
                unit = if ["gas", "chainId", "nonce"].contains(&name) { "" } else { ", in wei" },
            );
            Refused::field(Code::BadNumber, name, message)
        })
    }
}

const ACCOUNT_HELP: &str = "give the account's name, its address, its key such as 97:0x… with both, or pool:NAME";

/// The request id of a refused message, if it has a valid one.
pub(super) fn salvaged_id(document: &Document<'_>) -> Option<RequestId> {
    document.request_id()?.parse().ok().filter(|id| !is_reserved(id))
}

/// The metadata of a refused message, if it can be echoed.
pub(super) fn salvaged_metadata(document: &Document<'_>) -> Option<Value> {
    Fields::new(document.object().ok()?).metadata().ok().flatten()
}

fn is_reserved(id: &RequestId) -> bool {
    id.as_str().starts_with(RESERVED_ID_PREFIX)
}

/// The code for a value of the wrong type in this field.
fn code_of(name: &str) -> Code {
    match name {
        "requestId" | "cancel" => Code::BadRequestId,
        "account" => Code::BadAccount,
        "data" => Code::BadData,
        "deadline" => Code::BadDeadline,
        "metadata" => Code::BadMetadata,
        _ => Code::BadNumber,
    }
}

fn missing_fee(missing: &'static str, given: &str) -> Refused {
    let message = format!("`{missing}` is missing beside `{given}`; give both, or `gasPrice` alone");
    Refused::field(Code::MissingField, missing, message)
}

fn id(name: &'static str, json: Option<&Json<'_>>) -> Result<RequestId, Refused> {
    let Some(json) = json else {
        let message =
            format!("`{name}` is missing; give each request an id of its own, it is sent again under the same one");
        return Err(Refused::field(Code::MissingField, name, message));
    };
    let help = "a UUID is a good id";
    text(Code::BadRequestId, name, json)?.parse().map_err(|error| bad_unit(Code::BadRequestId, name, &error, help))
}

fn text<'j>(code: Code, name: &str, json: &'j Json<'_>) -> Result<&'j str, Refused> {
    match json {
        Json::Text(text) => Ok(text),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::List(_) | Json::Object(_) => {
            let message = format!("`{name}` is {}; send a string", json.kind());
            Err(Refused::field(code, name, message))
        }
    }
}

fn address(name: &'static str, text: &str) -> Result<Address, Refused> {
    text.parse().map_err(|error| {
        let code = if error == ParseUnitError::Checksum { Code::BadChecksum } else { Code::BadAddress };
        bad_unit(code, name, &error, "an address is 0x and 40 hexadecimal digits")
    })
}

fn bad_unit(code: Code, name: &str, error: &ParseUnitError, help: &str) -> Refused {
    Refused::field(code, name, format!("`{name}` {error}; {help}"))
}

fn u256_of(json: &Json<'_>) -> Result<U256, &'static str> {
    match json {
        // JSON has no hexadecimal numbers, so this is decimal or refused.
        Json::Number(text) => u256(text),
        Json::Text(text) => u256(text),
        Json::Null | Json::Bool(_) | Json::List(_) | Json::Object(_) => Err("is not a number"),
    }
}

/// Parses `21000` or `0x5208`: no sign, fraction, exponent or whitespace, no leading zero in decimal, at most
/// 2^256 - 1. The error is the end of a sentence about the value.
pub(crate) fn u256(text: &str) -> Result<U256, &'static str> {
    if let Some(digits) = text.strip_prefix("0x") {
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("is not hexadecimal after 0x");
        }
        let digits = digits.trim_start_matches('0');
        if digits.len() > MAX_HEX_DIGITS {
            return Err("does not fit in 256 bits");
        }
        return U256::from_str_radix(if digits.is_empty() { "0" } else { digits }, 16)
            .map_err(|_| "is not hexadecimal");
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("is not a whole number without sign, fraction or exponent");
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err("starts with a zero");
    }
    if text.len() > MAX_DECIMAL_DIGITS {
        return Err("does not fit in 256 bits");
    }
    U256::from_dec_str(text).map_err(|_| "does not fit in 256 bits")
}
