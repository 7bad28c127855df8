//! The wire types: pokes between the stages, outcomes to the topic, and the status item as JSON. Names are
//! camelCase, the same as the attributes of the requests table; wei amounts are decimal strings.
//!
//! This module has only types and conversions, no decisions. The JSON Schemas in `schemas/` are generated from
//! these types (feature `schema`), and a test checks that they match. The signing request's parser is
//! [`crate::request`]. Read next: [`crate::ports`].

mod convert;
pub mod evidence;
#[cfg(feature = "schema")]
pub mod schema;

pub use self::convert::{event_id, event_id_of_rejected, hex_digest};

use serde::{Deserialize, Serialize};

use crate::record::{Phase, Verdict};
use crate::units::AccountKey;

/// "Look at this account's lane." The body of a message on the broadcast queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LanePoke {
    /// The account's key, `97:0xabc…`; also the message group.
    pub account: String,
    /// Why the poke was sent, for logs. Pokes with the same account and cause are one message to the queue's
    /// deduplication ([`crate::poke`]).
    pub cause: String,
}

impl LanePoke {
    /// The account's key; `None` if it is not one.
    #[must_use]
    pub fn account(&self) -> Option<AccountKey> {
        self.account.parse().ok()
    }
}

/// "Look at this request." The body of a message on the resign queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignerPoke {
    /// The account's key; also the message group.
    pub account: String,
    /// The id of the request.
    pub request_id: String,
    /// The index of the missing attempt.
    pub attempt: usize,
    /// What the attempt is to do.
    pub kind: WireKind,
    /// The attempt's price; left out for attempt 0, which has the record's price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee: Option<WireFee>,
    /// Wei that a cancel is to move to the account itself: 1 makes it a payment for BEP-703. Any other value means 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub to_self: u64,
    /// Why and when it was sent, for logs. It distinguishes two asks for the same attempt.
    pub cause: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What an attempt does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum WireKind {
    /// Executes the request.
    Execute,
    /// A transfer of 0 or 1 wei to the account itself, in the request's slot.
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

/// The status of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// It has a nonce; nothing is signed yet.
    Reserved,
    /// A signed transaction is stored; no node has it yet.
    Signed,
    /// The signed transaction was sent to a node.
    Sent,
    /// A node showed a receipt; its block is not finalized.
    Mined,
    /// The transaction succeeded, in a finalized block.
    Confirmed,
    /// The transaction was executed and reverted, in a finalized block. `reason.revert` has the decoded data.
    Reverted,
    /// A transfer of 1 wei (or 0) from the account to itself used the nonce, in a finalized block. `reason` says why
    /// it was cancelled.
    Cancelled,
    /// A transaction that Signpost did not sign used the nonce, in a finalized block. Its hash is the evidence.
    Displaced,
    /// Refused before it had a nonce; nothing was signed. `reason` says why. The same `requestId` may be sent again.
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

/// Why a request was refused, cancelled or reverted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WireReason {
    /// A refusal code or a cause of a cancel; camelCase, and its meaning never changes.
    pub code: String,
    /// For people: the field or rule, the problem and the remedy. At most 2,000 characters.
    pub message: String,
    /// Revert data of a reverted transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert: Option<WireRevert>,
    /// The id that the message named, where it is answered under `sqs:<message id>` because that id is not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Why the chain reverted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WireRevert {
    /// `Error(string)` as its text, `Panic(uint256)` as its meaning, or the selector of a custom error.
    pub text: String,
    /// The raw revert data as 0x-hex, cut at a limit.
    pub raw: String,
}

/// The one outcome of a message: the body of a message on the outcome topic. Every copy is equal and has the same
/// `eventId`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(title = "outcome.v1"))]
pub struct OutcomeMessage {
    /// Always `outcome.v1`.
    pub schema: String,
    /// 64 hex digits, equal on every copy of an outcome; use it to drop copies. SHA-256 of the request id, the
    /// status and the deciding transaction's hash (for `rejected`: of the refused message's id).
    pub event_id: String,
    /// The caller's id, or `sqs:<message id>` for a message without a usable id, or with an id that is not its own.
    pub request_id: String,
    /// `confirmed`, `reverted`, `cancelled`, `displaced` or `rejected`.
    pub status: Status,
    /// SHA-256 of the parsed request, 64 hex digits: tells apart two requests with the same id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The account's key: chain id and lower-case address, `97:0xabc…`. Missing when the account was never known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// EIP-155 chain id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<u64>,
    /// Address that signed, EIP-55.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The nonce that the request got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<u64>,
    /// The transaction that decided it: ours, or the foreign one of `displaced`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_hash: Option<String>,
    /// Height of the finalized block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_number: Option<u64>,
    /// Hash of the finalized block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_hash: Option<String>,
    /// Gas that the transaction used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gas_used: Option<u64>,
    /// Price paid, decimal wei per gas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_gas_price: Option<String>,
    /// Number of nodes that showed the deciding transaction as finalized: 2, or 1 where no second node is
    /// configured or it did not answer. Missing for `rejected`, and in records that are older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<u8>,
    /// Address of the created contract, EIP-55.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_address: Option<String>,
    /// Why; for every status but `confirmed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<WireReason>,
    /// The request's `metadata`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Value>,
    /// SQS `SenderId` of the message this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// Id of the SQS message this answers, as `SendMessage` returned it. Missing in records that are older than this
    /// field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Unix milliseconds: when the outcome was decided. Missing for `rejected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<u64>,
    /// `true`: the topic refused the outcome for its size or contents, so `metadata` and the texts of `reason` are
    /// left out. The item in the requests table has them. The `eventId` is the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reduced: bool,
    /// The request's trace as a `traceparent`: an attribute of the message, not of its body.
    #[serde(skip)]
    pub trace: Option<String>,
}

/// The item of the requests table as JSON. In the table `data` is binary; here it is 0x-hex.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", schemars(title = "request-status.v1"))]
pub struct RequestStatus {
    /// The caller's id.
    pub request_id: String,
    /// Where the request is.
    pub status: Status,
    /// Number of writes to the record.
    pub version: u64,
    /// SHA-256 of the parsed request, 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The account's key: chain id and lower-case address, `97:0xabc…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// EIP-155 chain id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<u64>,
    /// Address that signs, EIP-55.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The nonce that the request got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<u64>,
    /// Recipient, EIP-55; missing for a contract creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Decimal wei to transfer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Calldata or init code, 0x-hex.
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
    /// Unix seconds: cancelled unless mined by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// The request's `metadata`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Value>,
    /// SQS `SenderId` of the message that brought the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// Id of the SQS message that brought the request. Missing in records that are older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The signer's seal over what the request fixes: HMAC-SHA-256 as 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
    /// SHA-256 of the text of the policy that allowed it. Missing for `rejected`, and in records that are older than
    /// this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_digest: Option<String>,
    /// The version of the code that accepted it, `RELEASE+COMMIT` or `RELEASE`; missing as `policyDigest` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_version: Option<String>,
    /// The signed transactions of the slot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<WireAttempt>,
    /// The deciding transaction once settled or mined, the newest attempt's before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_hash: Option<String>,
    /// Height of the block with the transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_number: Option<u64>,
    /// Hash of the block with the transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_hash: Option<String>,
    /// Gas that the transaction used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gas_used: Option<u64>,
    /// Price paid, decimal wei per gas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_gas_price: Option<String>,
    /// Number of nodes that showed the deciding transaction as finalized: 2, or 1 where no second node is
    /// configured or it did not answer. Missing for `rejected`, and in records that are older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<u8>,
    /// Address of the created contract, EIP-55.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_address: Option<String>,
    /// Why it was refused, cancelled or reverted, or why a cancel is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<WireReason>,
    /// What the request waits for, if it has not moved for 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<WireWaiting>,
    /// Unix milliseconds: when the request was accepted or refused.
    pub created_at: u64,
    /// Unix milliseconds: the newest write.
    pub updated_at: u64,
    /// Unix milliseconds: when the outcome was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<u64>,
    /// Unix milliseconds: when the outcome was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<u64>,
    /// Unix **seconds**, DynamoDB's TTL: when the item may be deleted. Set when the record is closed, for `rejected`
    /// at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

/// What a request waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WireWaiting {
    /// A stable code: `signature`, `node`, `predecessor`, `block`, `priceCap`, `finality`, `secondNode`,
    /// `contradiction`, `receipt`, `funds` or `seal`.
    pub code: String,
    /// What it means and what helps.
    pub message: String,
    /// Unix milliseconds: since when the request has not moved.
    pub since: u64,
}

/// One signed transaction of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WireAttempt {
    /// Executes the request, or cancels it.
    pub kind: WireKind,
    /// Decimal wei that a cancel moves to the account itself; left out where it is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_self: Option<String>,
    /// Price of the attempt: `gasPrice`, or `maxFeePerGas` and `maxPriorityFeePerGas`.
    pub fee: WireFee,
    /// Transaction hash.
    pub tx_hash: String,
    /// Unix milliseconds.
    pub signed_at: u64,
    /// KMS's request id of the call that signed it: `requestID` of its event in CloudTrail. Missing in attempts that
    /// are older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_request_id: Option<String>,
    /// Unix milliseconds of the first send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<u64>,
    /// How the node's answer was classified: `accepted`, `alreadyKnown`, `nonceTooLow`, `retry`, `underpriced`,
    /// `funds`, `refused`, `misconfigured` or `unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The text of the node's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_message: Option<String>,
}
