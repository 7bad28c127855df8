//! Evidence of one request: everything known about it, in one file that a third party can verify independently.
//!
//! [`of`] creates it from a record and a node's data about the deciding transaction. [`verify()`] checks it using only
//! the file, without I/O. The wire type is [`crate::wire::evidence`].
//!
//! ## Guarantees
//! * Every check that [`verify()`] passes follows from the file alone: hashes, signatures and addresses are recomputed.
//!
//! ## Does not guarantee
//! * Anything that the file cannot prove: see [`UNPROVEN`].
//!
//! Read next: [`crate::header`].

mod call;
mod verify;

use serde_json::{Map, Value};

use crate::record::{Attempt, Phase, Record};
use crate::signature::recover;
use crate::tx::{Fee, Intent, Signature, UnsignedTx};
use crate::units::{KmsKeyId, Millis, Wei};
use crate::wire::evidence::{
    Evidence, EvidenceAsked, EvidenceAttempt, EvidenceOutcome, EvidenceRequest, EvidenceSignature, SealCheck,
};
use crate::wire::{RequestStatus, WireFee, hex_digest};

pub use self::verify::{Check, Finding, UNPROVEN, verify};

/// The `schema` of every evidence file.
pub const SCHEMA: &str = "evidence.v1";

/// The contents of an evidence file that are not in the record.
#[derive(Debug, Clone, PartialEq)]
pub struct Beside {
    /// The result of the check of the record's seal.
    pub seal_check: SealCheck,
    /// The account's KMS key, if its head could be read.
    pub kms_key_id: Option<KmsKeyId>,
    /// The deciding transaction's receipt, as a node returned it.
    pub receipt: Option<Map<String, Value>>,
    /// The header of its block, as a node returned it ([`crate::header::of_block`]).
    pub header: Option<Map<String, Value>>,
    /// The time at which the file is made.
    pub now: Millis,
}

/// The evidence of a record.
#[must_use]
pub fn of(record: &Record, beside: Beside) -> Evidence {
    let acceptance = record.acceptance.as_ref();
    Evidence {
        schema: SCHEMA.to_owned(),
        made_at: beside.now.0,
        made_by: crate::code_version(),
        request: request(record),
        call: call::of(&record.intent),
        policy_digest: acceptance.map(|acceptance| hex_digest(&acceptance.policy_digest)),
        code_version: acceptance.map(|acceptance| acceptance.code_version.clone()),
        seal: record.seal.map(|seal| seal.to_string()),
        seal_check: beside.seal_check,
        approvals: Vec::new(),
        kms_key_id: beside.kms_key_id.map(|key| key.to_string()),
        attempts: (0_u64..).zip(&record.attempts).map(|(number, it)| attempt(record, number, it)).collect(),
        outcome: outcome(record),
        receipt: beside.receipt,
        header: beside.header,
    }
}

fn request(record: &Record) -> EvidenceRequest {
    let asked = record.acceptance.as_ref().map(|acceptance| EvidenceAsked {
        names_fee: acceptance.names_fee,
        max_gas_price: acceptance.max_gas_price.map(|price| price.to_string()),
        pool: acceptance.pool.as_ref().map(ToString::to_string),
    });
    EvidenceRequest {
        request_id: record.request_id.to_string(),
        digest: hex_digest(&record.digest),
        account: record.account.to_string(),
        account_name: record.name.to_string(),
        chain_id: record.account.chain_id.0,
        from: record.account.address.to_string(),
        nonce: record.nonce.0,
        to: record.intent.to.map(|to| to.to_string()),
        value: record.intent.value.to_string(),
        data: prefixed_hex(&record.intent.data),
        gas: record.intent.gas.0,
        fee: WireFee::from(&record.fee),
        fee_cap: record.fee_cap.to_string(),
        deadline: record.deadline.map(|deadline| deadline.0 / 1_000),
        max_head_ms: record.max_head_ms,
        metadata: record.metadata.clone(),
        sender: record.sender.clone(),
        message_id: record.message_id.clone(),
        asked,
        created_at: record.created_at.0,
    }
}

/// A transaction computed from its parts; used to create a file and to verify one.
struct Computed {
    signing_hash: String,
    raw: Vec<u8>,
    recovered: Option<String>,
}

fn compute(record: &Record, intent: &Intent, fee: Fee, signature: &Signature) -> Computed {
    let unsigned = UnsignedTx { intent, nonce: record.nonce, fee };
    let signing_hash = unsigned.signing_hash();
    Computed {
        signing_hash: signing_hash.to_string(),
        recovered: recover(&signing_hash, signature).map(|address| address.to_string()),
        raw: unsigned.sign(signature).bytes,
    }
}

fn attempt(record: &Record, number: u64, attempt: &Attempt) -> EvidenceAttempt {
    let intent = record.intent_of(attempt.kind, attempt.to_self);
    let computed = compute(record, &intent, attempt.fee, &attempt.signature);
    EvidenceAttempt {
        number,
        kind: attempt.kind.into(),
        to_self: (attempt.to_self > Wei::ZERO).then(|| attempt.to_self.to_string()),
        fee: WireFee::from(&attempt.fee),
        signing_hash: computed.signing_hash,
        signature: EvidenceSignature {
            r: prefixed_hex(&attempt.signature.r),
            s: prefixed_hex(&attempt.signature.s),
            y_parity: u8::from(attempt.signature.y_odd),
        },
        recovered: computed.recovered,
        raw: prefixed_hex(&computed.raw),
        // The stored hash: `verify` checks that it is the hash of the bytes.
        tx_hash: attempt.tx_hash.to_string(),
        signed_at: attempt.signed_at.0,
        kms_request_id: attempt.kms_request_id.clone(),
        sent_at: attempt.sent.as_ref().map(|sent| sent.at.0),
        answer: attempt.sent.as_ref().map(|sent| sent.answer.class.name().to_owned()),
    }
}

fn outcome(record: &Record) -> EvidenceOutcome {
    let shown = RequestStatus::of_record(record);
    let is_on_chain = matches!(record.phase, Phase::Mined(_) | Phase::Settled(_));
    EvidenceOutcome {
        status: shown.status,
        tx_hash: shown.tx_hash.filter(|_| is_on_chain),
        block_number: shown.block_number,
        block_hash: shown.block_hash,
        gas_used: shown.gas_used,
        effective_gas_price: shown.effective_gas_price,
        contract_address: shown.contract_address,
        witnesses: shown.witnesses,
        reason: shown.reason,
        settled_at: shown.settled_at,
    }
}

fn prefixed_hex(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}
