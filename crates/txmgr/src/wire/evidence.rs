//! `evidence.v1`: one request with the evidence of its outcome, for a reader who has only the file.
//!
//! Made and verified by [`crate::evidence`].

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Status, WireFee, WireKind, WireReason};

/// The file that `signpost evidence` writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(title = "evidence.v1"))]
pub struct Evidence {
    /// Always `evidence.v1`.
    pub schema: String,
    /// Unix milliseconds: when the file was made.
    pub made_at: u64,
    /// The version of the code that made the file.
    pub made_by: String,
    /// The request as it was accepted.
    pub request: EvidenceRequest,
    /// What it does, decoded from its calldata as far as possible.
    pub call: EvidenceCall,
    /// SHA-256 of the text of the policy that accepted it; missing in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_digest: Option<String>,
    /// The version of the code that accepted it; missing as `policyDigest` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_version: Option<String>,
    /// The signer's HMAC-SHA-256 over the request's fixed fields, 64 hex digits; missing if the record has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
    /// Whether the seal fits, as the maker of the file found.
    pub seal_check: SealCheck,
    /// Who approved it; empty if nobody was asked.
    pub approvals: Vec<Value>,
    /// The account's KMS key when the file was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key_id: Option<String>,
    /// Everything that was ever signed for it, in order.
    pub attempts: Vec<EvidenceAttempt>,
    /// The record's outcome when the file was made.
    pub outcome: EvidenceOutcome,
    /// The deciding transaction's receipt, as a node gave it (`eth_getTransactionReceipt`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Map<String, Value>>,
    /// The header of its block: all fields that are hashed, and `hash`, as a node gave them (`eth_getBlockByHash`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Map<String, Value>>,
}

/// A request as it was accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceRequest {
    /// The caller's id.
    pub request_id: String,
    /// SHA-256 of the request as it was asked, 64 hex digits.
    pub digest: String,
    /// `97:0xabc…`.
    pub account: String,
    /// The account's name when it was accepted.
    pub account_name: String,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// EIP-55 address that signs.
    pub from: String,
    /// The slot.
    pub nonce: u64,
    /// Recipient, EIP-55; missing for a contract creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Decimal wei.
    pub value: String,
    /// `0x` + hex.
    pub data: String,
    /// Gas limit.
    pub gas: u64,
    /// The price of attempt 0.
    pub fee: WireFee,
    /// Decimal wei per gas: no executing attempt is priced above it.
    pub fee_cap: String,
    /// Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// Milliseconds it may hold up its lane at its price cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_head_ms: Option<u64>,
    /// The caller's metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// SQS `SenderId` of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The SQS message it is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The other fields that the digest covers; missing in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<EvidenceAsked>,
    /// Unix milliseconds.
    pub created_at: u64,
}

/// The original fields of a request for its price and its account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceAsked {
    /// Whether it named its price; otherwise the price is the account's or the network's.
    pub names_fee: bool,
    /// Decimal wei per gas: its own cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_gas_price: Option<String>,
    /// The pool it asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceCall {
    /// `payment` without calldata, `call` or `creation`.
    pub kind: CallKind,
    /// `0x` + 8 hex digits: the first four bytes of calldata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// A function of ERC-20 or ERC-721 with this selector. Another function may have the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Its arguments, where the calldata is exactly those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<EvidenceArgument>,
}

/// A kind of transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum CallKind {
    /// No calldata.
    Payment,
    /// Calldata for a recipient.
    Call,
    /// A contract's creation.
    Creation,
}

/// An argument of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceArgument {
    /// Its type in the ABI.
    pub kind: String,
    /// An EIP-55 address, a decimal number, or `true` or `false`.
    pub value: String,
}

/// The result of checking the seal against the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SealCheck {
    /// A holder of the key made it over the record's contents.
    #[serde(rename = "fits")]
    Fits,
    /// It is missing, or belongs to another record or key.
    #[serde(rename = "does not fit")]
    DoesNotFit,
    /// The maker of the file has no key.
    #[serde(rename = "not checked: no key here")]
    NotChecked,
}

/// One signed transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceAttempt {
    /// Its place, from 0.
    pub number: u64,
    /// What it does.
    pub kind: WireKind,
    /// Decimal wei that a cancel moves to the account itself; left out where it is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_self: Option<String>,
    /// Its price.
    pub fee: WireFee,
    /// `0x` + 64 hex digits: what KMS signed.
    pub signing_hash: String,
    /// KMS's answer, with low `s`.
    pub signature: EvidenceSignature,
    /// The address that the signature recovers to, EIP-55; missing where it recovers to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<String>,
    /// `0x` + hex: the bytes that were sent to nodes.
    pub raw: String,
    /// Keccak-256 of the raw bytes.
    pub tx_hash: String,
    /// Unix milliseconds.
    pub signed_at: u64,
    /// KMS's id of the call: `requestID` of its event in the trail. Missing in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_request_id: Option<String>,
    /// Unix milliseconds of the first send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<u64>,
    /// What the node's answer meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// A signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceSignature {
    /// `0x` + 64 hex digits.
    pub r: String,
    /// `0x` + 64 hex digits.
    pub s: String,
    /// 0 or 1.
    pub y_parity: u8,
}

/// The outcome of a request, from its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceOutcome {
    /// The request's status.
    pub status: Status,
    /// The transaction that decided it, or was mined: one of the attempts, or the foreign one of `displaced`.
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
    /// How many nodes showed the deciding transaction final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<u8>,
    /// Why it ended, or why a cancel is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<WireReason>,
    /// Unix milliseconds: when the outcome was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<u64>,
}
