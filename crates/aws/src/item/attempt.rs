//! Attempts, prices and reasons: the parts that are maps inside an item.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use signpost_txmgr::record::{Attempt, AttemptKind, CancelCause, Reason, Revert, SendAnswer, SendClass, Sent};
use signpost_txmgr::tx::{Fee, Signature};
use signpost_txmgr::units::Wei;

use super::reader::{ItemError, Problem, Reader};
use super::{Item, item, map, n, s, set};

/// `r || s || parity`.
const SIGNATURE_BYTES: usize = 65;

pub(crate) fn encode(attempt: &Attempt) -> AttributeValue {
    let kind = match attempt.kind {
        AttemptKind::Execute => "execute",
        AttemptKind::Cancel => "cancel",
    };
    let mut entry = item([
        ("kind", s(kind)),
        ("fee", AttributeValue::M(encode_fee(&attempt.fee))),
        ("signature", encode_signature(&attempt.signature)),
        ("txHash", s(attempt.tx_hash)),
        ("signedAt", n(attempt.signed_at.0)),
    ]);
    set(&mut entry, "kmsRequestId", attempt.kms_request_id.as_ref().map(s));
    set(&mut entry, "toSelf", (attempt.to_self > Wei::ZERO).then(|| s(attempt.to_self)));
    if let Some(Sent { at, answer }) = &attempt.sent {
        entry.extend(item([
            ("sentAt", n(at.0)),
            ("answer", s(answer.class.name())),
            ("answerMessage", s(&answer.message)),
        ]));
        if let SendClass::Underpriced(least) = answer.class {
            set(&mut entry, "answerLeast", least.map(s));
        }
    }
    AttributeValue::M(entry)
}

pub(crate) fn decode(entry: &Reader<'_>) -> Result<Attempt, ItemError> {
    let kind = match entry.text("kind")? {
        "execute" => AttemptKind::Execute,
        "cancel" => AttemptKind::Cancel,
        _ => return Err(entry.error("kind", Problem::Value("is neither execute nor cancel".to_owned()))),
    };
    let sent = match entry.millis_if("sentAt")? {
        None => None,
        Some(at) => {
            let (class, message) = (decode_class(entry)?, entry.text("answerMessage")?.to_owned());
            Some(Sent { at, answer: SendAnswer { class, message } })
        }
    };
    Ok(Attempt {
        kind,
        to_self: entry.parsed_if("toSelf")?.unwrap_or(Wei::ZERO),
        fee: decode_fee(&entry.map("fee")?)?,
        signature: decode_signature(entry)?,
        tx_hash: entry.parsed("txHash")?,
        signed_at: entry.millis("signedAt")?,
        kms_request_id: entry.text_if("kmsRequestId")?.map(str::to_owned),
        sent,
    })
}

fn decode_class(entry: &Reader<'_>) -> Result<SendClass, ItemError> {
    let least: Option<Wei> = entry.parsed_if("answerLeast")?;
    let name = entry.text("answer")?;
    [
        SendClass::Accepted,
        SendClass::AlreadyKnown,
        SendClass::NonceTooLow,
        SendClass::Retry,
        SendClass::Underpriced(least),
        SendClass::Funds,
        SendClass::Refused,
        SendClass::Misconfigured,
        SendClass::Unknown,
    ]
    .into_iter()
    .find(|class| class.name() == name)
    .ok_or_else(|| entry.error("answer", Problem::Value("is not a valid answer".to_owned())))
}

fn encode_signature(signature: &Signature) -> AttributeValue {
    let mut bytes = Vec::with_capacity(SIGNATURE_BYTES);
    bytes.extend_from_slice(&signature.r);
    bytes.extend_from_slice(&signature.s);
    bytes.push(u8::from(signature.y_odd));
    AttributeValue::B(Blob::new(bytes))
}

fn decode_signature(entry: &Reader<'_>) -> Result<Signature, ItemError> {
    let bytes = entry.bytes("signature")?;
    let wrong =
        || entry.error("signature", Problem::Value("is not r, s and a parity of 0 or 1 in 65 bytes".to_owned()));
    let (r, rest) = bytes.split_first_chunk().ok_or_else(wrong)?;
    let (s, parity) = rest.split_first_chunk().ok_or_else(wrong)?;
    let y_odd = match parity {
        [0] => false,
        [1] => true,
        _ => return Err(wrong()),
    };
    Ok(Signature { r: *r, s: *s, y_odd })
}

/// A fee, with the field names of a request.
pub(crate) fn encode_fee(fee: &Fee) -> Item {
    match fee {
        Fee::Legacy { gas_price } => item([("gasPrice", s(gas_price))]),
        Fee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas } => {
            item([("maxFeePerGas", s(max_fee_per_gas)), ("maxPriorityFeePerGas", s(max_priority_fee_per_gas))])
        }
    }
}

pub(crate) fn decode_fee(entry: &Reader<'_>) -> Result<Fee, ItemError> {
    match entry.parsed_if("gasPrice")? {
        Some(_) if entry.has("maxFeePerGas") => Err(entry.error("gasPrice", Problem::Contradicts("maxFeePerGas"))),
        Some(gas_price) => Ok(Fee::Legacy { gas_price }),
        None => Ok(Fee::Dynamic {
            max_fee_per_gas: entry.parsed("maxFeePerGas")?,
            max_priority_fee_per_gas: entry.parsed("maxPriorityFeePerGas")?,
        }),
    }
}

pub(crate) fn encode_reason(reason: &Reason) -> AttributeValue {
    let mut entry = item([("code", s(&reason.code)), ("message", s(&reason.message))]);
    let revert = reason.revert.as_ref();
    set(&mut entry, "revert", revert.map(encode_revert));
    set(&mut entry, "requestId", reason.request_id.as_ref().map(s));
    AttributeValue::M(entry)
}

pub(crate) fn decode_reason(entry: &Reader<'_>) -> Result<Reason, ItemError> {
    Ok(Reason {
        code: entry.text("code")?.to_owned(),
        message: entry.text("message")?.to_owned(),
        revert: entry.map_if("revert")?.as_ref().map(decode_revert).transpose()?,
        request_id: entry.parsed_if("requestId")?,
    })
}

fn encode_revert(revert: &Revert) -> AttributeValue {
    map([("text", s(&revert.text)), ("raw", AttributeValue::B(Blob::new(revert.raw.clone())))])
}

fn decode_revert(entry: &Reader<'_>) -> Result<Revert, ItemError> {
    Ok(Revert { text: entry.text("text")?.to_owned(), raw: entry.bytes("raw")?.to_vec() })
}

pub(crate) fn encode_cancel(cause: &CancelCause) -> AttributeValue {
    match cause {
        CancelCause::Asked => map([("cause", s("asked"))]),
        CancelCause::Deadline => map([("cause", s("deadline"))]),
        CancelCause::Refused(words) => map([("cause", s("refused")), ("message", s(words))]),
        CancelCause::AtCap => map([("cause", s("atCap"))]),
        CancelCause::Policy(reason) => map([("cause", s("policy")), ("reason", encode_reason(reason))]),
    }
}

pub(crate) fn decode_cancel(entry: &Reader<'_>) -> Result<CancelCause, ItemError> {
    Ok(match entry.text("cause")? {
        "asked" => CancelCause::Asked,
        "deadline" => CancelCause::Deadline,
        "refused" => CancelCause::Refused(entry.text("message")?.to_owned()),
        "atCap" => CancelCause::AtCap,
        "policy" => CancelCause::Policy(decode_reason(&entry.map("reason")?)?),
        _ => return Err(entry.error("cause", Problem::Value("is not a valid cause of a cancel".to_owned()))),
    })
}
