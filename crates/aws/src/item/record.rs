//! A request with a slot.

use std::sync::Arc;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use signpost_txmgr::record::{Acceptance, BlockRef, Foreign, Phase, Receipt, Record, Settlement, Verdict, Waiting};
use signpost_txmgr::tx::Intent;
use signpost_txmgr::units::{AccountKey, BlockNumber, Digest, Gas, Nonce, TxHash};
use signpost_txmgr::wire::{Status, hex_digest};

use super::attempt;
use super::inquiry;
use super::reader::{ItemError, Problem, Reader};
use super::{Item, VERSION, item, json, n, s, seconds, set};

/// The attributes that change over a record's life: a conditional write sends only these. The others, `data`
/// above all, are written once.
pub const MUTABLE: [&str; 21] = [
    "itemVersion",
    "status",
    "version",
    "attempts",
    "txHash",
    "blockNumber",
    "blockHash",
    "succeeded",
    "gasUsed",
    "effectiveGasPrice",
    "contractAddress",
    "reason",
    "cancel",
    "cappedSince",
    "inquiry",
    "waitingFor",
    "updatedAt",
    "witnesses",
    "settledAt",
    "publishedAt",
    "expiresAt",
];

/// A record as an item. `deadline` and `expiresAt` are truncated to whole seconds.
#[must_use]
pub fn encode_record(record: &Record) -> Item {
    let mut item = encode_mutable(record);
    item.extend(encode_fixed(record));
    item
}

/// The attributes that are written once.
fn encode_fixed(record: &Record) -> Item {
    let mut fixed = item([
        ("requestId", s(&record.request_id)),
        ("digest", s(hex_digest(&record.digest))),
        ("account", s(record.account)),
        ("accountName", s(&record.name)),
        ("chainId", n(record.account.chain_id.0)),
        ("from", s(record.account.address)),
        ("nonce", n(record.nonce.0)),
        ("value", s(record.intent.value)),
        ("data", AttributeValue::B(Blob::new(record.intent.data.to_vec()))),
        ("gas", n(record.intent.gas.0)),
        ("feeCap", s(record.fee_cap)),
        ("createdAt", n(record.created_at.0)),
    ]);
    fixed.extend(attempt::encode_fee(&record.fee));
    set(&mut fixed, "to", record.intent.to.map(s));
    set(&mut fixed, "deadline", record.deadline.map(seconds));
    set(&mut fixed, "maxHeadMs", record.max_head_ms.map(n));
    set(&mut fixed, "metadata", record.metadata.as_ref().map(json));
    set(&mut fixed, "sender", record.sender.as_ref().map(s));
    set(&mut fixed, "messageId", record.message_id.as_ref().map(s));
    set(&mut fixed, "trace", record.trace.as_ref().map(s));
    set(&mut fixed, "seal", record.seal.map(s));
    if let Some(acceptance) = &record.acceptance {
        fixed.extend(encode_acceptance(acceptance));
    }
    fixed
}

/// The policy and code version that accepted the request, and in `asked` the relevant fields of the request.
fn encode_acceptance(acceptance: &Acceptance) -> Item {
    let mut asked = item([("namesFee", AttributeValue::Bool(acceptance.names_fee))]);
    set(&mut asked, "maxGasPrice", acceptance.max_gas_price.map(s));
    set(&mut asked, "pool", acceptance.pool.as_ref().map(s));
    item([
        ("policyDigest", s(hex_digest(&acceptance.policy_digest))),
        ("codeVersion", s(&acceptance.code_version)),
        ("asked", AttributeValue::M(asked)),
    ])
}

fn decode_acceptance(reader: &Reader<'_>) -> Result<Option<Acceptance>, ItemError> {
    let Some(policy_digest) = decode_digest(reader, "policyDigest")? else { return Ok(None) };
    let asked = reader.map("asked")?;
    Ok(Some(Acceptance {
        policy_digest,
        code_version: reader.text("codeVersion")?.to_owned(),
        names_fee: asked.flag("namesFee")?,
        max_gas_price: asked.parsed_if("maxGasPrice")?,
        pool: asked.parsed_if("pool")?,
    }))
}

/// The attributes of a conditional write: those of [`MUTABLE`] that this record has.
pub(crate) fn encode_mutable(record: &Record) -> Item {
    let mut changing = item([
        ("itemVersion", n(VERSION)),
        ("status", s(Status::of(&record.phase).as_str())),
        ("version", n(record.version)),
        ("attempts", AttributeValue::L(record.attempts.iter().map(attempt::encode).collect())),
        ("updatedAt", n(record.updated_at.0)),
    ]);
    set(&mut changing, "txHash", deciding_hash(record).map(s));
    set(&mut changing, "reason", record.reason().as_ref().map(attempt::encode_reason));
    set(&mut changing, "cancel", record.cancel.as_ref().map(attempt::encode_cancel));
    set(&mut changing, "cappedSince", record.capped_since.map(|since| n(since.0)));
    set(&mut changing, "waitingFor", record.waiting.as_ref().map(encode_waiting));
    set(&mut changing, "inquiry", record.inquiry.as_ref().map(inquiry::encode));
    if let Some(receipt) = record.phase.receipt() {
        changing.extend(encode_block(&receipt.block));
        changing.insert("succeeded".to_owned(), AttributeValue::Bool(receipt.succeeded));
        set(&mut changing, "gasUsed", receipt.gas_used.map(|gas| n(gas.0)));
        set(&mut changing, "effectiveGasPrice", receipt.effective_gas_price.map(s));
        set(&mut changing, "contractAddress", receipt.contract.map(s));
    }
    if let Some(settlement) = record.phase.settlement() {
        changing.extend(encode_block(&settlement.verdict.block()));
        set(&mut changing, "witnesses", settlement.witnesses.map(|count| n(count.into())));
        changing.insert("settledAt".to_owned(), n(settlement.settled_at.0));
        set(&mut changing, "publishedAt", settlement.published_at.map(|at| n(at.0)));
        set(&mut changing, "expiresAt", settlement.expires_at.map(seconds));
    }
    changing
}

/// Code, message and start time, for readers of the item; the message is not read back.
fn encode_waiting(waiting: &Waiting) -> AttributeValue {
    AttributeValue::M(item([
        ("code", s(waiting.cause)),
        ("message", s(waiting.cause.meaning())),
        ("since", n(waiting.since.0)),
    ]))
}

/// A cause that only a later version knows is dropped: it is for display, and will be noted again.
fn decode_waiting(reader: &Reader<'_>) -> Result<Option<Waiting>, ItemError> {
    let since = reader.millis("since")?;
    Ok(reader.text("code")?.parse().ok().map(|cause| Waiting { cause, since }))
}

fn encode_block(block: &BlockRef) -> Item {
    item([("blockNumber", n(block.number.0)), ("blockHash", s(block.hash))])
}

/// The hash of the deciding transaction once mined or settled; before that, of the newest attempt.
fn deciding_hash(record: &Record) -> Option<TxHash> {
    let settled = record.phase.settlement().map(|settlement| settlement.verdict.tx_hash());
    let mined = record.phase.receipt().map(|receipt| receipt.tx_hash);
    settled.or(mined).or(record.attempts.last().map(|attempt| attempt.tx_hash))
}

pub(crate) fn decode(reader: &Reader<'_>) -> Result<Record, ItemError> {
    let account = decode_account(reader, reader.parsed("account")?)?;
    let intent = Intent {
        chain_id: account.chain_id,
        to: reader.parsed_if("to")?,
        value: reader.parsed("value")?,
        data: Arc::from(reader.bytes("data")?),
        gas: Gas(reader.number("gas")?),
    };
    let record = Record {
        request_id: reader.parsed("requestId")?,
        digest: decode_digest(reader, "digest")?.ok_or_else(|| reader.error("digest", Problem::Missing))?,
        version: reader.number("version")?,
        account,
        name: reader.parsed("accountName")?,
        nonce: Nonce(reader.number("nonce")?),
        intent,
        fee: attempt::decode_fee(reader)?,
        fee_cap: reader.parsed("feeCap")?,
        deadline: reader.seconds_if("deadline")?,
        acceptance: decode_acceptance(reader)?,
        max_head_ms: reader.number_if("maxHeadMs")?,
        metadata: reader.json_if("metadata")?,
        sender: reader.text_if("sender")?.map(str::to_owned),
        message_id: reader.text_if("messageId")?.map(str::to_owned),
        trace: reader.text_if("trace")?.map(str::to_owned),
        seal: reader.parsed_if("seal")?,
        attempts: reader.maps("attempts")?.iter().map(attempt::decode).collect::<Result<_, _>>()?,
        cancel: reader.map_if("cancel")?.as_ref().map(attempt::decode_cancel).transpose()?,
        capped_since: reader.millis_if("cappedSince")?,
        waiting: reader.map_if("waitingFor")?.as_ref().map(decode_waiting).transpose()?.flatten(),
        inquiry: reader.map_if("inquiry")?.as_ref().map(inquiry::decode).transpose()?,
        phase: decode_phase(reader)?,
        created_at: reader.millis("createdAt")?,
        updated_at: reader.millis("updatedAt")?,
    };
    check(reader, &record)?;
    Ok(record)
}

/// Checks the relations between the attributes (I2, I3): a record that violates them is not processed.
fn check(reader: &Reader<'_>, record: &Record) -> Result<(), ItemError> {
    if let Some(newest) = record.attempts.last() {
        if record.raw(newest).is_none() {
            let name = format!("attempts[{}].txHash", record.attempts.len().saturating_sub(1));
            return Err(reader.error(&name, Problem::Contradicts("signature")));
        }
    } else if matches!(record.phase, Phase::Signed | Phase::Sent | Phase::Mined(_)) {
        return Err(reader.error("status", Problem::Contradicts("attempts")));
    }
    if record.phase == Phase::Reserved && !record.attempts.is_empty() {
        return Err(reader.error("status", Problem::Contradicts("attempts")));
    }
    if let Some(receipt) = record.phase.receipt()
        && record.attempt_of(receipt.tx_hash).is_none()
    {
        return Err(reader.error("txHash", Problem::Contradicts("attempts")));
    }
    if reader.parsed_if("txHash")? != deciding_hash(record) {
        return Err(reader.error("txHash", Problem::Contradicts("attempts")));
    }
    Ok(())
}

fn decode_phase(reader: &Reader<'_>) -> Result<Phase, ItemError> {
    let verdict = match reader.text("status")? {
        "reserved" => return Ok(Phase::Reserved),
        "signed" => return Ok(Phase::Signed),
        "sent" => return Ok(Phase::Sent),
        "mined" => return decode_receipt(reader).map(Phase::Mined),
        "confirmed" => Verdict::Confirmed(decode_receipt(reader)?),
        "reverted" => {
            let revert = reader.map_if("reason")?.as_ref().map(attempt::decode_reason).transpose()?;
            Verdict::Reverted(decode_receipt(reader)?, revert.and_then(|reason| reason.revert))
        }
        "cancelled" => Verdict::Cancelled(decode_receipt(reader)?),
        "displaced" => Verdict::Displaced(Foreign { tx_hash: reader.parsed("txHash")?, block: decode_block(reader)? }),
        _ => return Err(reader.error("status", Problem::Value("is not a valid status".to_owned()))),
    };
    Ok(Phase::Settled(Settlement {
        verdict,
        witnesses: reader.number_if("witnesses")?.map(|count| u8::try_from(count).unwrap_or(u8::MAX)),
        settled_at: reader.millis("settledAt")?,
        published_at: reader.millis_if("publishedAt")?,
        expires_at: reader.seconds_if("expiresAt")?,
    }))
}

fn decode_receipt(reader: &Reader<'_>) -> Result<Receipt, ItemError> {
    Ok(Receipt {
        tx_hash: reader.parsed("txHash")?,
        block: decode_block(reader)?,
        succeeded: reader.flag("succeeded")?,
        gas_used: reader.number_if("gasUsed")?.map(Gas),
        effective_gas_price: reader.parsed_if("effectiveGasPrice")?,
        contract: reader.parsed_if("contractAddress")?,
    })
}

fn decode_block(reader: &Reader<'_>) -> Result<BlockRef, ItemError> {
    Ok(BlockRef { number: BlockNumber(reader.number("blockNumber")?), hash: reader.parsed("blockHash")? })
}

/// Checks the account against `chainId` and `from`, which repeat it for readers.
pub(crate) fn decode_account(reader: &Reader<'_>, account: AccountKey) -> Result<AccountKey, ItemError> {
    if reader.number("chainId")? != account.chain_id.0 {
        return Err(reader.error("chainId", Problem::Contradicts("account")));
    }
    if reader.parsed::<signpost_txmgr::units::Address>("from")? != account.address {
        return Err(reader.error("from", Problem::Contradicts("account")));
    }
    Ok(account)
}

/// Reads 64 hex digits, without the prefix that other hashes have.
pub(crate) fn decode_digest(reader: &Reader<'_>, name: &str) -> Result<Option<Digest>, ItemError> {
    let value = |why: signpost_txmgr::units::ParseUnitError| reader.error(name, Problem::Value(why.to_string()));
    reader.text_if(name)?.map(|text| format!("0x{text}").parse().map_err(value)).transpose()
}
