//! Converts records to wire types. Read next: [`super`] for the types.

use crate::record::{Attempt, AttemptKind, Phase, Reason, Record, Rejected, SendAnswer, SendClass, Stored, Waiting};
use crate::text;
use crate::trace;
use crate::tx::Fee;
use crate::units::{AccountKey, Digest, Millis, RequestId, TxHash, Wei, sha256};
use crate::wire::WireWaiting;

use super::{OutcomeMessage, RequestStatus, Status, WireAttempt, WireFee, WireKind, WireReason, WireRevert};

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
    /// The price; `None` if a number is not decimal wei.
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
            code: text::plain(&reason.code),
            // Items of older versions may not be escaped.
            message: text::plain_within(&reason.message, Reason::MAX_CHARS),
            revert: reason.revert.as_ref().map(|revert| WireRevert {
                text: text::plain(&revert.text),
                raw: format!("0x{}", hex::encode(&revert.raw)),
            }),
            request_id: reason.request_id.as_ref().map(ToString::to_string),
        }
    }
}

/// The `eventId` of an outcome that a transaction decided: SHA-256, in hex, of request id, status and the transaction's
/// hash, separated by zero bytes. It has not changed since the first version, so an outcome that is published again
/// after an upgrade keeps its id.
#[must_use]
pub fn event_id(request_id: &RequestId, status: Status, tx_hash: &TxHash) -> String {
    hex::encode(sha256(format!("{request_id}\0{}\0{tx_hash}", status.as_str()).as_bytes()))
}

/// The `eventId` of a rejection: SHA-256, in hex, of one `name=value` line per part. The reason is not a part, since a
/// message has one outcome.
///
/// A rejection without a message id (stored by an older version) is identified by the time of the refusal. If it is
/// published again by hand after the upgrade, its `eventId` differs from the old one, which hashed debug output.
#[must_use]
pub fn event_id_of_rejected(rejected: &Rejected) -> String {
    let evidence = match &rejected.message_id {
        Some(message_id) => format!("message={message_id}"),
        None => format!("rejectedAt={}", rejected.created_at.0),
    };
    let (schema, id, status) = (OutcomeMessage::SCHEMA, rejected.outcome_id(), Status::Rejected.as_str());
    hex::encode(sha256(format!("{schema}\nrequestId={id}\nstatus={status}\n{evidence}").as_bytes()))
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
            event_id: event_id(&record.request_id, status, &tx_hash),
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
            witnesses: shown.witnesses,
            contract_address: shown.contract_address,
            reason: shown.reason,
            metadata: shown.metadata,
            sender: shown.sender,
            message_id: shown.message_id,
            settled_at: Some(settlement.settled_at.0),
            reduced: false,
            trace: trace::traceparent(record.trace.as_deref()),
        })
    }

    /// The outcome of a rejection.
    #[must_use]
    pub fn of_rejected(rejected: &Rejected) -> Self {
        Self {
            schema: Self::SCHEMA.to_owned(),
            event_id: event_id_of_rejected(rejected),
            request_id: rejected.outcome_id().to_string(),
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
            witnesses: None,
            contract_address: None,
            reason: Some(WireReason::from(&rejected.reason)),
            metadata: rejected.metadata.clone(),
            sender: rejected.sender.clone(),
            message_id: rejected.message_id.clone(),
            settled_at: None,
            reduced: false,
            trace: None,
        }
    }

    /// The outcome without foreign contents: no metadata, no revert data, and the reason's code in place of its text.
    #[must_use]
    pub fn reduced(&self) -> Self {
        let reason = self.reason.as_ref().map(|reason| WireReason {
            message: reason.code.clone(),
            revert: None,
            ..reason.clone()
        });
        Self { metadata: None, reason, reduced: true, ..self.clone() }
    }
}

/// A digest as 64 hex digits.
#[must_use]
pub fn hex_digest(digest: &Digest) -> String {
    hex::encode(digest.0)
}

impl RequestStatus {
    /// The status of a stored item.
    #[must_use]
    pub fn of(stored: &Stored) -> Self {
        match stored {
            Stored::Record(record) => Self::of_record(record),
            Stored::Rejected(rejected) => Self::of_rejected(rejected),
        }
    }

    /// The status of a record.
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
            message_id: record.message_id.clone(),
            seal: record.seal.map(|seal| seal.to_string()),
            policy_digest: record.acceptance.as_ref().map(|acceptance| hex_digest(&acceptance.policy_digest)),
            code_version: record.acceptance.as_ref().map(|acceptance| acceptance.code_version.clone()),
            attempts: record.attempts.iter().map(WireAttempt::from).collect(),
            tx_hash: tx_hash.map(|hash| hash.to_string()),
            block_number: block.map(|block| block.number.0),
            block_hash: block.map(|block| block.hash.to_string()),
            gas_used: receipt.and_then(|receipt| receipt.gas_used).map(|gas| gas.0),
            effective_gas_price: receipt.and_then(|receipt| receipt.effective_gas_price).map(|price| price.to_string()),
            witnesses: settlement.and_then(|settlement| settlement.witnesses),
            contract_address: receipt.and_then(|receipt| receipt.contract).map(|contract| contract.to_string()),
            reason: record.reason().as_ref().map(WireReason::from),
            waiting_for: record.waiting.as_ref().map(WireWaiting::from),
            created_at: record.created_at.0,
            updated_at: record.updated_at.0,
            settled_at: settlement.map(|settlement| settlement.settled_at.0),
            published_at: settlement.and_then(|settlement| settlement.published_at).map(|at| at.0),
            expires_at: settlement.and_then(|settlement| settlement.expires_at).map(seconds),
        }
    }

    /// The status of a rejection.
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
            message_id: rejected.message_id.clone(),
            seal: None,
            policy_digest: None,
            code_version: None,
            attempts: Vec::new(),
            tx_hash: None,
            block_number: None,
            block_hash: None,
            gas_used: None,
            effective_gas_price: None,
            witnesses: None,
            contract_address: None,
            reason: Some(WireReason::from(&rejected.reason)),
            waiting_for: None,
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
            to_self: (attempt.to_self > Wei::ZERO).then(|| attempt.to_self.to_string()),
            fee: WireFee::from(&attempt.fee),
            tx_hash: attempt.tx_hash.to_string(),
            signed_at: attempt.signed_at.0,
            kms_request_id: attempt.kms_request_id.clone(),
            sent_at: attempt.sent.as_ref().map(|sent| sent.at.0),
            answer: attempt.sent.as_ref().map(|sent| sent.answer.class.name().to_owned()),
            answer_message: attempt
                .sent
                .as_ref()
                .map(|sent| text::plain_within(&sent.answer.message, SendAnswer::MAX_CHARS)),
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

impl From<&Waiting> for WireWaiting {
    fn from(waiting: &Waiting) -> Self {
        let (code, message) = (waiting.cause.code().to_owned(), waiting.cause.meaning().to_owned());
        Self { code, message, since: waiting.since.0 }
    }
}
