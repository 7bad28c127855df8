//! Items of the accounts table: heads, slots, and the directory of names.
//!
//! | `account` | `item` | holds |
//! |---|---|---|
//! | `97:0xabc…` | `head` | the lane's marks, the key, the name |
//! | `97:0xabc…` | `nonce#000000000042` | the request id of a slot |
//! | `directory` | the account's name | its key: makes names unique, and lists accounts without a scan |

use signpost_txmgr::account::{Gap, Head, SeenFee, SenderCounts, SetAside, Spend};
use signpost_txmgr::units::{AccountKey, AccountName, Nonce, RequestId};
use signpost_txmgr::unusable::{KeyCall, KeyFault, Unusable};

use super::reader::{ItemError, Problem, Reader};
use super::{AttributeValue, Item, VERSION, item, map, n, s, set};

/// Sort key `item` of an account's head.
pub const HEAD: &str = "head";
/// Partition key `account` of the directory.
pub const DIRECTORY: &str = "directory";
/// `unusable.call` of a public key that could not be read or is not the account's.
const READ: &str = "read";
/// `unusable.call` of a signature that was refused.
const SIGN: &str = "sign";
/// The attribute of a head with the number of requests of each sender in the newest window.
pub(crate) const SENDER_COUNTS: &str = "senderCounts";
/// The attribute of a head with the slots set aside; missing if there are none.
pub(crate) const SET_ASIDE: &str = "setAside";
/// The attribute of a head with the nonces left behind without a request; missing if there are none.
pub(crate) const GAPS: &str = "gaps";
/// Prefix of the sort key `item` of a slot.
const SLOT: &str = "nonce#";
/// The highest nonce that fits the twelve digits of a slot's key. A lane with one transaction per
/// millisecond reaches it in thirty years.
pub const MAX_SLOT: Nonce = Nonce(999_999_999_999);

/// Key of an item of the accounts table.
#[must_use]
pub fn key(account: &AccountKey, at: &str) -> Item {
    item([("account", s(account)), ("item", s(at))])
}

/// Sort key `item` of a slot: its nonce in twelve digits, so that the order of texts is that of numbers.
#[must_use]
pub fn slot_name(nonce: Nonce) -> String {
    format!("{SLOT}{:012}", nonce.0)
}

/// A slot as an item.
#[must_use]
pub fn encode_slot(account: &AccountKey, nonce: Nonce, request_id: &RequestId) -> Item {
    let mut slot = key(account, &slot_name(nonce));
    slot.extend(item([("requestId", s(request_id)), ("itemVersion", n(VERSION))]));
    slot
}

/// Reads a slot.
pub fn decode_slot(slot: &Item) -> Result<(Nonce, RequestId), ItemError> {
    let reader = Reader::new(slot);
    let nonce = reader.text("item")?.strip_prefix(SLOT).and_then(|digits| digits.parse().ok());
    let nonce = nonce.ok_or_else(|| reader.error("item", Problem::Value("is not a slot's key".to_owned())))?;
    Ok((Nonce(nonce), reader.parsed("requestId")?))
}

/// The directory entry with an account's name.
#[must_use]
pub fn encode_name(name: &AccountName, account: &AccountKey) -> Item {
    item([("account", s(DIRECTORY)), ("item", s(name)), ("accountKey", s(account)), ("itemVersion", n(VERSION))])
}

/// The account in a directory entry.
pub fn decode_name(entry: &Item) -> Result<AccountKey, ItemError> {
    Reader::new(entry).parsed("accountKey")
}

/// A head as an item.
#[must_use]
pub fn encode_head(head: &Head) -> Item {
    let mut entry = key(&head.account, HEAD);
    entry.extend(item([
        ("itemVersion", n(VERSION)),
        ("name", s(&head.name)),
        ("kmsKeyId", s(&head.kms_key_id)),
        ("nextNonce", n(head.next_nonce.0)),
        ("lowestOpenNonce", n(head.lowest_open_nonce.0)),
        ("paused", AttributeValue::Bool(head.paused)),
        ("registeredAt", n(head.registered_at.0)),
    ]));
    set(&mut entry, "retiredAt", head.retired_at.map(|at| n(at.0)));
    set(&mut entry, "fee", head.fee.as_ref().map(encode_seen_fee));
    set(&mut entry, "unfundedSince", head.unfunded_since.map(|since| n(since.0)));
    set(&mut entry, "unusable", head.unusable.as_ref().map(encode_unusable));
    set(&mut entry, "spend", head.spend.as_ref().map(encode_spend));
    set(&mut entry, SENDER_COUNTS, head.sender_counts.as_ref().map(encode_sender_counts));
    set(&mut entry, SET_ASIDE, encode_set_aside(&head.set_aside));
    set(&mut entry, GAPS, encode_gaps(&head.gaps));
    entry
}

/// The slots set aside, if there are any.
pub(crate) fn encode_set_aside(slots: &[SetAside]) -> Option<AttributeValue> {
    let encode = |slot: &SetAside| {
        map([("nonce", n(slot.nonce.0)), ("cause", s(slot.cause.name())), ("since", n(slot.since.0))])
    };
    (!slots.is_empty()).then(|| AttributeValue::L(slots.iter().map(encode).collect()))
}

/// The nonces left behind without a request, if there are any.
pub(crate) fn encode_gaps(gaps: &[Gap]) -> Option<AttributeValue> {
    let encode = |gap: &Gap| map([("from", n(gap.from.0)), ("to", n(gap.to.0)), ("since", n(gap.since.0))]);
    (!gaps.is_empty()).then(|| AttributeValue::L(gaps.iter().map(encode).collect()))
}

/// The price on a head.
#[must_use]
pub fn encode_seen_fee(fee: &SeenFee) -> AttributeValue {
    map([("gasPrice", s(fee.gas_price)), ("observedAt", n(fee.observed_at.0))])
}

/// The mark of an account whose key cannot be used.
#[must_use]
pub fn encode_unusable(unusable: &Unusable) -> AttributeValue {
    let call = match unusable.call {
        KeyCall::Read => READ,
        KeyCall::Sign => SIGN,
    };
    map([("since", n(unusable.since.0)), ("fault", s(unusable.fault)), ("call", s(call))])
}

/// A fault that only a later version knows counts as temporary: it must not make the head unreadable.
fn decode_unusable(reader: &Reader<'_>) -> Result<Unusable, ItemError> {
    let fault = reader.text("fault")?.parse().unwrap_or(KeyFault::Unavailable);
    let call = if reader.text("call")? == SIGN { KeyCall::Sign } else { KeyCall::Read };
    Ok(Unusable { since: reader.millis("since")?, fault, call })
}

/// The amount spent in a head's spend window.
#[must_use]
pub fn encode_spend(spend: &Spend) -> AttributeValue {
    map([("windowStart", n(spend.window_start.0)), ("spent", s(spend.spent))])
}

/// The number of requests of each sender in a head's window.
#[must_use]
pub fn encode_sender_counts(window: &SenderCounts) -> AttributeValue {
    let counts = window.counts.iter().map(|(principal, count)| (principal.clone(), n(*count))).collect();
    map([("windowStart", n(window.window_start.0)), ("counts", AttributeValue::M(counts))])
}

fn decode_sender_counts(window: &Reader<'_>) -> Result<SenderCounts, ItemError> {
    let counts = window.map("counts")?;
    let counts = counts.names().map(|principal| Ok((principal.to_owned(), counts.number(principal)?)));
    Ok(SenderCounts { window_start: window.millis("windowStart")?, counts: counts.collect::<Result<_, _>>()? })
}

/// Reads a head.
pub fn decode_head(entry: &Item) -> Result<Head, ItemError> {
    let reader = Reader::new(entry);
    reader.version()?;
    let fee = match reader.map_if("fee")? {
        None => None,
        Some(fee) => Some(SeenFee { gas_price: fee.parsed("gasPrice")?, observed_at: fee.millis("observedAt")? }),
    };
    let spend = match reader.map_if("spend")? {
        None => None,
        Some(spend) => Some(Spend { window_start: spend.millis("windowStart")?, spent: spend.parsed("spent")? }),
    };
    let unusable = reader.map_if("unusable")?.map(|unusable| decode_unusable(&unusable)).transpose()?;
    let set_aside = |slot: &Reader<'_>| {
        Ok(SetAside { nonce: Nonce(slot.number("nonce")?), cause: slot.parsed("cause")?, since: slot.millis("since")? })
    };
    let gap = |gap: &Reader<'_>| {
        Ok(Gap { from: Nonce(gap.number("from")?), to: Nonce(gap.number("to")?), since: gap.millis("since")? })
    };
    let head = Head {
        account: reader.parsed("account")?,
        name: reader.parsed("name")?,
        kms_key_id: reader.parsed("kmsKeyId")?,
        next_nonce: Nonce(reader.number("nextNonce")?),
        lowest_open_nonce: Nonce(reader.number("lowestOpenNonce")?),
        set_aside: reader.maps_if(SET_ASIDE)?.iter().map(set_aside).collect::<Result<_, ItemError>>()?,
        gaps: reader.maps_if(GAPS)?.iter().map(gap).collect::<Result<_, ItemError>>()?,
        paused: reader.flag("paused")?,
        registered_at: reader.millis("registeredAt")?,
        retired_at: reader.millis_if("retiredAt")?,
        fee,
        unfunded_since: reader.millis_if("unfundedSince")?,
        unusable,
        spend,
        sender_counts: reader.map_if(SENDER_COUNTS)?.map(|window| decode_sender_counts(&window)).transpose()?,
    };
    if head.retired_at.is_some() && !head.paused {
        return Err(reader.error("retiredAt", Problem::Contradicts("paused")));
    }
    if head.lowest_open_nonce > head.next_nonce {
        return Err(reader.error("lowestOpenNonce", Problem::Contradicts("nextNonce")));
    }
    if head.set_aside.iter().any(|slot| slot.nonce >= head.lowest_open_nonce) {
        return Err(reader.error(SET_ASIDE, Problem::Contradicts("lowestOpenNonce")));
    }
    Ok(head)
}
