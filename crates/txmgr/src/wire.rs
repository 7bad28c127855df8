//! The messages as they travel: pokes between the stages, outcomes to the topic, and the status item
//! as JSON. camelCase, the same names as the attributes of the requests table; wei amounts are
//! decimal strings.
//!
//! Only shapes and conversions live here, no decisions. The JSON Schemas in `schemas/` are generated
//! from these types (feature `schema`), and a test keeps them the same. The signing request's parser
//! is [`crate::request`]. Read next: [`crate::ports`].

use serde::{Deserialize, Serialize};

use crate::record::{Attempt, AttemptKind, Phase, Reason, Record, Rejected, SendClass, Stored, Verdict};
use crate::tx::Fee;
use crate::units::{AccountKey, Digest, Millis, RequestId, TxHash, sha256};

/// "Look at this account's lane." The body of a message on the broadcast queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LanePoke {
    /// The account's key, `97:0xabc…`; also the message group.
    pub account: String,
    /// Why: told in logs, and keeps the queue's deduplication from dropping a new poke as an old one.
    pub cause: String,
}

/// "Look at this request." The body of a message on the resign queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignerPoke {
    /// The account's key; also the message group.
    pub account: String,
    /// The request.
    pub request_id: String,
    /// The number of the attempt that is missing.
    pub attempt: usize,
    /// What it is to do.
    pub kind: WireKind,
    /// Its price; left out for attempt 0, whose price is the record's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee: Option<WireFee>,
    /// Why and when: told in logs, and keeps apart two asks for the same attempt.
    pub cause: String,
}

/// Execute or cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum WireKind {
    /// Executes the request.
    Execute,
    /// A zero-value transfer to the account itself, in the request's slot.
    Cancel,
}

/// A price: `gasPrice`, or `maxFeePerGas` and `maxPriorityFeePerGas`. Decimal wei.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum WireFee {
    /// Type 0.
    #[serde(rename_all = "camelCase")]
    Legacy {
        /// Decimal wei per gas.
        gas_price: String,
    },
    /// Type 2.
    #[serde(rename_all = "camelCase")]
    Dynamic {
        /// Decimal wei per gas.
        max_fee_per_gas: String,
        /// Decimal wei per gas.
        max_priority_fee_per_gas: String,
    },
}

/// How a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// It has a nonce.
    Reserved,
    /// A signature is stored.
    Signed,
    /// Bytes were handed to a node.
    Sent,
    /// A receipt was seen; not final.
    Mined,
    /// Executed, in a finalized block.
    Confirmed,
    /// Executed and reverted, in a finalized block.
    Reverted,
    /// A cancel took its nonce, in a finalized block.
    Cancelled,
    /// A transaction not signed here took its nonce, in a finalized block.
    Displaced,
    /// Refused before it had a nonce; never signed.
    Rejected,
}

impl Status {
    /// The name, as it is in the item and in the message attributes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Signed => "signed",
            Self::Sent => "sent",
            Self::Mined => "mined",
            Self::Confirmed => "confirmed",
            Self::Reverted => "reverted",
            Self::Cancelled => "cancelled",
            Self::Displaced => "displaced",
            Self::Rejected => "rejected",
        }
    }

    /// The status of a phase.
    #[must_use]
    pub fn of(phase: &Phase) -> Self {
        match phase {
            Phase::Reserved => Self::Reserved,
            Phase::Signed => Self::Signed,
            Phase::Sent => Self::Sent,
            Phase::Mined(_) => Self::Mined,
            Phase::Settled(settlement) => match settlement.verdict {
                Verdict::Confirmed(_) => Self::Confirmed,
                Verdict::Reverted(..) => Self::Reverted,
                Verdict::Cancelled(_) => Self::Cancelled,
                Verdict::Displaced(_) => Self::Displaced,
            },
        }
    }
}

/// Why a request ended as it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WireReason {
    /// Stable, camelCase.
    pub code: String,
    /// For people: the field, the problem, the way out.
    pub message: String,
    /// Revert data of a reverted transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert: Option<WireRevert>,
}

/// Why the chain reverted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WireRevert {
    /// Decoded text.
    pub text: String,
    /// `0x` + hex of the raw revert data.
    pub raw: String,
}

/// The one outcome of a request, as published. Every copy is equal and has the same `eventId`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(title = "outcome.v1"))]
pub struct OutcomeMessage {
    /// Always `outcome.v1`.
    pub schema: String,
    /// `sha256(requestId, status, txHash)` as 64 hex digits: drop what you have seen.
    pub event_id: String,
    /// The caller's id, or `sqs:<message id>` for a message that had none.
    pub request_id: String,
    /// `confirmed`, `reverted`, `cancelled`, `displaced` or `rejected`.
    pub status: Status,
    /// SHA-256 of the request this is about: tells two requests with one id apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `97:0xabc…`; missing when the account was never known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// EIP-155 chain id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<u64>,
    /// EIP-55 address that signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<u64>,
    /// The transaction that decided it: ours, or the foreign one of `displaced`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_hash: Option<String>,
    /// The finalized block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_number: Option<u64>,
    /// Its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_hash: Option<String>,
    /// Gas used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gas_used: Option<u64>,
    /// Decimal wei per gas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_gas_price: Option<String>,
    /// The contract a creation made, EIP-55.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_address: Option<String>,
    /// Why, for all but `confirmed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<WireReason>,
    /// The caller's metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Value>,
    /// Unix milliseconds: when the outcome was decided.
    pub settled_at: u64,
}

/// The item of the requests table as JSON, without `data`'s bytes being anything but hex.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(title = "request-status.v1"))]
pub struct RequestStatus {
    /// The caller's id.
    pub request_id: String,
    /// How it stands.
    pub status: Status,
    /// Counts the writes.
    pub version: u64,
    /// SHA-256 of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `97:0xabc…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// EIP-155 chain id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<u64>,
    /// EIP-55 address that signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<u64>,
    /// Recipient, EIP-55; missing for a contract creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Decimal wei.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `0x` + hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Gas limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gas: Option<u64>,
    /// Decimal wei per gas, type 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gas_price: Option<String>,
    /// Decimal wei per gas, type 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fee_per_gas: Option<String>,
    /// Decimal wei per gas, type 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_priority_fee_per_gas: Option<String>,
    /// Decimal wei per gas: no executing attempt is priced above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee_cap: Option<String>,
    /// Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// The caller's metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Value>,
    /// SQS `SenderId` of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The signed transactions of the slot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<WireAttempt>,
    /// The deciding transaction once settled or mined, the newest attempt's before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_hash: Option<String>,
    /// The block it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_number: Option<u64>,
    /// Its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_hash: Option<String>,
    /// Gas used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gas_used: Option<u64>,
    /// Decimal wei per gas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_gas_price: Option<String>,
    /// The contract a creation made, EIP-55.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_address: Option<String>,
    /// Why it ended, or why a cancel is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<WireReason>,
    /// Unix milliseconds.
    pub created_at: u64,
    /// Unix milliseconds.
    pub updated_at: u64,
    /// Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<u64>,
    /// Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<u64>,
    /// Unix **seconds** (DynamoDB's TTL); set only when closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

/// One signed transaction of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WireAttempt {
    /// What it does.
    pub kind: WireKind,
    /// Its price.
    pub fee: WireFee,
    /// Its hash.
    pub tx_hash: String,
    /// Unix milliseconds.
    pub signed_at: u64,
    /// Unix milliseconds of the first send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<u64>,
    /// What the node's answer meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The node's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_message: Option<String>,
}

impl From<&Fee> for WireFee {
    fn from(fee: &Fee) -> Self {
        match fee {
            Fee::Legacy { gas_price } => Self::Legacy { gas_price: gas_price.to_string() },
            Fee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas } => Self::Dynamic {
                max_fee_per_gas: max_fee_per_gas.to_string(),
                max_priority_fee_per_gas: max_priority_fee_per_gas.to_string(),
            },
        }
    }
}

impl WireFee {
    /// The price, if its numbers are decimal wei.
    #[must_use]
    pub fn fee(&self) -> Option<Fee> {
        Some(match self {
            Self::Legacy { gas_price } => Fee::Legacy { gas_price: gas_price.parse().ok()? },
            Self::Dynamic { max_fee_per_gas, max_priority_fee_per_gas } => Fee::Dynamic {
                max_fee_per_gas: max_fee_per_gas.parse().ok()?,
                max_priority_fee_per_gas: max_priority_fee_per_gas.parse().ok()?,
            },
        })
    }
}

impl From<AttemptKind> for WireKind {
    fn from(kind: AttemptKind) -> Self {
        match kind {
            AttemptKind::Execute => Self::Execute,
            AttemptKind::Cancel => Self::Cancel,
        }
    }
}

impl From<WireKind> for AttemptKind {
    fn from(kind: WireKind) -> Self {
        match kind {
            WireKind::Execute => Self::Execute,
            WireKind::Cancel => Self::Cancel,
        }
    }
}

impl From<&Reason> for WireReason {
    fn from(reason: &Reason) -> Self {
        Self {
            code: reason.code.clone(),
            message: reason.message.clone(),
            revert: reason
                .revert
                .as_ref()
                .map(|revert| WireRevert { text: revert.text.clone(), raw: format!("0x{}", hex::encode(&revert.raw)) }),
        }
    }
}

/// `sha256(requestId, status, txHash)`, the parts parted by a zero byte, in hex.
#[must_use]
pub fn event_id(request_id: &RequestId, status: Status, tx_hash: Option<TxHash>) -> String {
    let tx_hash = tx_hash.map(|hash| hash.to_string()).unwrap_or_default();
    hex::encode(sha256(format!("{request_id}\0{}\0{tx_hash}", status.as_str()).as_bytes()))
}

impl OutcomeMessage {
    /// The `schema` of every outcome.
    pub const SCHEMA: &'static str = "outcome.v1";

    /// The outcome of a settled record; `None` while it is not settled.
    #[must_use]
    pub fn of_record(record: &Record) -> Option<Self> {
        let Phase::Settled(settlement) = &record.phase else { return None };
        let status = Status::of(&record.phase);
        let tx_hash = settlement.verdict.tx_hash();
        let shown = RequestStatus::of_record(record);
        Some(Self {
            schema: Self::SCHEMA.to_owned(),
            event_id: event_id(&record.request_id, status, Some(tx_hash)),
            request_id: shown.request_id,
            status,
            digest: shown.digest,
            account: shown.account,
            chain_id: shown.chain_id,
            from: shown.from,
            nonce: shown.nonce,
            tx_hash: Some(tx_hash.to_string()),
            block_number: shown.block_number,
            block_hash: shown.block_hash,
            gas_used: shown.gas_used,
            effective_gas_price: shown.effective_gas_price,
            contract_address: shown.contract_address,
            reason: shown.reason,
            metadata: shown.metadata,
            settled_at: settlement.settled_at.0,
        })
    }

    /// The outcome of a rejection.
    #[must_use]
    pub fn of_rejected(rejected: &Rejected) -> Self {
        Self {
            schema: Self::SCHEMA.to_owned(),
            event_id: event_id(&rejected.request_id, Status::Rejected, None),
            request_id: rejected.request_id.to_string(),
            status: Status::Rejected,
            digest: rejected.digest.map(|digest| hex_digest(&digest)),
            account: rejected.account.as_ref().map(ToString::to_string),
            chain_id: rejected.account.map(|account| account.chain_id.0),
            from: rejected.account.map(|account| account.address.to_string()),
            nonce: None,
            tx_hash: None,
            block_number: None,
            block_hash: None,
            gas_used: None,
            effective_gas_price: None,
            contract_address: None,
            reason: Some(WireReason::from(&rejected.reason)),
            metadata: rejected.metadata.clone(),
            settled_at: rejected.created_at.0,
        }
    }
}

/// A digest as 64 hex digits.
#[must_use]
pub fn hex_digest(digest: &Digest) -> String {
    hex::encode(digest.0)
}

impl RequestStatus {
    /// How a stored request stands.
    #[must_use]
    pub fn of(stored: &Stored) -> Self {
        match stored {
            Stored::Record(record) => Self::of_record(record),
            Stored::Rejected(rejected) => Self::of_rejected(rejected),
        }
    }

    /// How a record stands.
    #[must_use]
    pub fn of_record(record: &Record) -> Self {
        let (gas_price, max_fee, max_priority) = match record.fee {
            Fee::Legacy { gas_price } => (Some(gas_price.to_string()), None, None),
            Fee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas } => {
                (None, Some(max_fee_per_gas.to_string()), Some(max_priority_fee_per_gas.to_string()))
            }
        };
        let receipt = record.phase.receipt();
        let settlement = record.phase.settlement();
        let block = settlement.map(|settlement| settlement.verdict.block()).or(receipt.map(|receipt| receipt.block));
        let tx_hash = settlement
            .map(|settlement| settlement.verdict.tx_hash())
            .or(receipt.map(|receipt| receipt.tx_hash))
            .or(record.attempts.last().map(|attempt| attempt.tx_hash));
        Self {
            request_id: record.request_id.to_string(),
            status: Status::of(&record.phase),
            version: record.version,
            digest: Some(hex_digest(&record.digest)),
            account: Some(record.account.to_string()),
            chain_id: Some(record.account.chain_id.0),
            from: Some(record.account.address.to_string()),
            nonce: Some(record.nonce.0),
            to: record.intent.to.map(|to| to.to_string()),
            value: Some(record.intent.value.to_string()),
            data: Some(format!("0x{}", hex::encode(&record.intent.data))),
            gas: Some(record.intent.gas.0),
            gas_price,
            max_fee_per_gas: max_fee,
            max_priority_fee_per_gas: max_priority,
            fee_cap: Some(record.fee_cap.to_string()),
            deadline: record.deadline.map(|deadline| deadline.0 / 1_000),
            metadata: record.metadata.clone(),
            sender: record.sender.clone(),
            attempts: record.attempts.iter().map(WireAttempt::from).collect(),
            tx_hash: tx_hash.map(|hash| hash.to_string()),
            block_number: block.map(|block| block.number.0),
            block_hash: block.map(|block| block.hash.to_string()),
            gas_used: receipt.map(|receipt| receipt.gas_used.0),
            effective_gas_price: receipt.map(|receipt| receipt.effective_gas_price.to_string()),
            contract_address: receipt.and_then(|receipt| receipt.contract).map(|contract| contract.to_string()),
            reason: record.reason().as_ref().map(WireReason::from),
            created_at: record.created_at.0,
            updated_at: record.updated_at.0,
            settled_at: settlement.map(|settlement| settlement.settled_at.0),
            published_at: settlement.and_then(|settlement| settlement.published_at).map(|at| at.0),
            expires_at: settlement.and_then(|settlement| settlement.expires_at).map(seconds),
        }
    }

    /// How a rejection stands.
    #[must_use]
    pub fn of_rejected(rejected: &Rejected) -> Self {
        Self {
            request_id: rejected.request_id.to_string(),
            status: Status::Rejected,
            version: 0,
            digest: rejected.digest.map(|digest| hex_digest(&digest)),
            account: rejected.account.as_ref().map(AccountKey::to_string),
            chain_id: rejected.account.map(|account| account.chain_id.0),
            from: rejected.account.map(|account| account.address.to_string()),
            nonce: None,
            to: None,
            value: None,
            data: None,
            gas: None,
            gas_price: None,
            max_fee_per_gas: None,
            max_priority_fee_per_gas: None,
            fee_cap: None,
            deadline: None,
            metadata: rejected.metadata.clone(),
            sender: rejected.sender.clone(),
            attempts: Vec::new(),
            tx_hash: None,
            block_number: None,
            block_hash: None,
            gas_used: None,
            effective_gas_price: None,
            contract_address: None,
            reason: Some(WireReason::from(&rejected.reason)),
            created_at: rejected.created_at.0,
            updated_at: rejected.published_at.unwrap_or(rejected.created_at).0,
            settled_at: Some(rejected.created_at.0),
            published_at: rejected.published_at.map(|at| at.0),
            expires_at: rejected.expires_at.map(seconds),
        }
    }
}

fn seconds(at: Millis) -> u64 {
    at.0 / 1_000
}

impl From<&Attempt> for WireAttempt {
    fn from(attempt: &Attempt) -> Self {
        Self {
            kind: attempt.kind.into(),
            fee: WireFee::from(&attempt.fee),
            tx_hash: attempt.tx_hash.to_string(),
            signed_at: attempt.signed_at.0,
            sent_at: attempt.sent.as_ref().map(|sent| sent.at.0),
            answer: attempt.sent.as_ref().map(|sent| sent.answer.class.name().to_owned()),
            answer_message: attempt.sent.as_ref().map(|sent| sent.answer.message.clone()),
        }
    }
}

impl SendClass {
    /// The class's stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::AlreadyKnown => "alreadyKnown",
            Self::NonceTooLow => "nonceTooLow",
            Self::Retry => "retry",
            Self::Underpriced(_) => "underpriced",
            Self::Funds => "funds",
            Self::Refused => "refused",
            Self::Misconfigured => "misconfigured",
            Self::Unknown => "unknown",
        }
    }
}
