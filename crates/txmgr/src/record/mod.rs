//! A request's record: the single source of truth about it, and its own outbox.
//!
//! A [`Record`] has a slot from the start. A request that never got a slot is [`Rejected`]. Records change only through
//! [`crate::machine::apply`]. Read next: [`crate::machine`].

mod acceptance;
mod inquiry;
mod seal;
mod waiting;

use crate::text;
use crate::tx::{Fee, Intent, RawTx, Signature, TRANSFER_GAS, UnsignedTx};
use crate::units::{
    AccountKey, AccountName, Address, BlockHash, BlockNumber, Digest, Gas, Millis, Nonce, RequestId, TxHash, Wei,
};
use std::sync::Arc;

pub use self::acceptance::Acceptance;
pub use self::inquiry::{Inquiry, Searched, Subject, UnknownSubject};
pub use self::seal::{InvalidSeal, Seal};
pub use self::waiting::{UnknownWaitCause, WaitCause, Waiting};

/// An item of the requests table.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "both are read once and matched at once")]
pub enum Stored {
    /// The request has a slot.
    Record(Box<Record>),
    /// The request was refused and never had a slot.
    Rejected(Rejected),
}

impl Rejected {
    /// The id its outcome is published under.
    #[must_use]
    pub fn outcome_id(&self) -> &RequestId {
        self.said_as.as_ref().unwrap_or(&self.request_id)
    }
}

impl Stored {
    /// The item's key.
    #[must_use]
    pub fn request_id(&self) -> &RequestId {
        match self {
            Self::Record(record) => &record.request_id,
            Self::Rejected(rejected) => &rejected.request_id,
        }
    }
}

/// A request that was refused before it got a slot. Nothing was ever signed for it (I7), so the same
/// id may be submitted again.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// The caller's id, or `sqs:<message id>` when the body had none that could be used.
    pub request_id: RequestId,
    /// Digest of the request, when it could be parsed and its account was known.
    pub digest: Option<Digest>,
    /// The account, when it was known.
    pub account: Option<AccountKey>,
    /// Why it was refused.
    pub reason: Reason,
    /// The caller's metadata, when it could be read.
    pub metadata: Option<serde_json::Value>,
    /// SQS `SenderId` of the message.
    pub sender: Option<String>,
    /// The id of the SQS message that was refused; `None` in items from before message ids were stored.
    pub message_id: Option<String>,
    /// The id under which its outcome is published, if that is not the key. Set on the copy that is stored under
    /// `sqs:<message id>` when the outcome is published under the caller's own id.
    pub said_as: Option<RequestId>,
    /// When it was refused.
    pub created_at: Millis,
    /// When its outcome was published. `None` on the copy under the message id while the other item exists.
    pub published_at: Option<Millis>,
    /// When DynamoDB may delete the item; set at creation.
    pub expires_at: Option<Millis>,
}

/// What an id holds before a write. The write fails if that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vacancy {
    /// Nothing, or an expired item.
    Free,
    /// The rejection of this message; `None` for one from before message ids were stored.
    Rejected(Option<String>),
}

impl Vacancy {
    /// The vacancy for a write over this rejection, or over nothing.
    #[must_use]
    pub fn of(found: Option<&Rejected>) -> Self {
        found.map_or(Self::Free, |rejected| Self::Rejected(rejected.message_id.clone()))
    }
}

/// Why a request ended or is to be cancelled: a stable code with a text for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Stable, in camelCase.
    pub code: String,
    /// Names the field, the problem and the remedy. Never contains a secret or calldata.
    pub message: String,
    /// Decoded revert data of a reverted transaction.
    pub revert: Option<Revert>,
    /// The request id in a message whose outcome is published under `sqs:<message id>`, because another message owns
    /// that id.
    pub request_id: Option<RequestId>,
}

impl Reason {
    /// The most characters of a message.
    pub const MAX_CHARS: usize = text::REASON_MAX_CHARS;
}

/// Why the chain reverted a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revert {
    /// `Error(string)`'s text, `Panic(uint256)`'s meaning, or the selector of a custom error.
    pub text: String,
    /// The raw revert data, cut at [`Revert::MAX_BYTES`].
    pub raw: Vec<u8>,
}

impl Revert {
    /// The most revert data that is kept, in bytes: about a screenful of text.
    pub const MAX_BYTES: usize = 4_096;
}

/// A request with a slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The caller's id.
    pub request_id: RequestId,
    /// Digest of the request.
    pub digest: Digest,
    /// The number of writes; every write is conditional on the previous version.
    pub version: u64,
    /// The account that signs.
    pub account: AccountKey,
    /// The account's name at reservation.
    pub name: AccountName,
    /// The slot: the nonce of every attempt.
    pub nonce: Nonce,
    /// What to execute.
    pub intent: Intent,
    /// The price of attempt 0.
    pub fee: Fee,
    /// The highest price of an executing attempt.
    pub fee_cap: Wei,
    /// The request is cancelled if it is not mined by then.
    pub deadline: Option<Millis>,
    /// Under which policy and code it was accepted; `None` in items of older versions.
    pub acceptance: Option<Acceptance>,
    /// How long it may block its lane once its price is at the cap, in milliseconds; then it is cancelled. Set from the
    /// policy at the reservation; `None`, in items of older versions, means no limit.
    pub max_head_ms: Option<u64>,
    /// Echoed in the outcome.
    pub metadata: Option<serde_json::Value>,
    /// SQS `SenderId` of the message.
    pub sender: Option<String>,
    /// The id of the SQS message that got the slot; `None` in items from before message ids were stored.
    pub message_id: Option<String>,
    /// Trace context of the message (`AWSTraceHeader` or `traceparent`).
    pub trace: Option<String>,
    /// The signer's seal over the request's fixed fields; `None` in items of older versions.
    pub seal: Option<Seal>,
    /// The signed transactions of the slot, in order.
    pub attempts: Vec<Attempt>,
    /// Why a cancel is wanted; set once.
    pub cancel: Option<CancelCause>,
    /// Since when it has been the head of its lane at its price cap; set when a bump was due but not possible.
    pub capped_since: Option<Millis>,
    /// The state of a slow question to the nodes about this slot, while there is no answer.
    pub inquiry: Option<Inquiry>,
    /// What it waits for, if it has made no progress for a while.
    pub waiting: Option<Waiting>,
    /// The phase, with its data.
    pub phase: Phase,
    /// When it was reserved.
    pub created_at: Millis,
    /// When it last changed.
    pub updated_at: Millis,
}

/// The phase of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It has a slot and no signature.
    Reserved,
    /// A signature is stored; no send is recorded.
    Signed,
    /// The bytes were sent to a node, or may have been.
    Sent,
    /// A node returned a receipt; it is not final yet.
    Mined(Receipt),
    /// The outcome is decided.
    Settled(Settlement),
}

/// A decided outcome. It never changes (I6), except that its publication is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// What happened.
    pub verdict: Verdict,
    /// How many nodes showed it; `None` in items of older versions.
    pub witnesses: Option<u8>,
    /// When the outcome was decided.
    pub settled_at: Millis,
    /// When the outcome was published, which closes the record.
    pub published_at: Option<Millis>,
    /// When DynamoDB may delete the item; set with `published_at`.
    pub expires_at: Option<Millis>,
}

/// What happened on chain, decided only by a finalized block (G3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The request was executed.
    Confirmed(Receipt),
    /// The request was executed and reverted.
    Reverted(Receipt, Option<Revert>),
    /// A cancel used the slot: the request was not executed and never will be.
    Cancelled(Receipt),
    /// A transaction that we did not sign used the slot.
    Displaced(Foreign),
}

/// A transaction of the account that we did not sign: the evidence for [`Verdict::Displaced`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// The transaction's hash.
    pub tx_hash: TxHash,
    /// The finalized block that contains it.
    pub block: BlockRef,
}

/// A reference to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockRef {
    /// The block's height.
    pub number: BlockNumber,
    /// The block's hash.
    pub hash: BlockHash,
}

/// A receipt: a node's claim that a transaction is in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The transaction's hash.
    pub tx_hash: TxHash,
    /// The block that contains it.
    pub block: BlockRef,
    /// Whether the receipt's status is 1.
    pub succeeded: bool,
    /// Gas used, if the node returns it.
    pub gas_used: Option<Gas>,
    /// Wei per gas paid, if the node returns it.
    pub effective_gas_price: Option<Wei>,
    /// The contract that it created.
    pub contract: Option<Address>,
}

/// One signed transaction for a slot. The raw bytes are rebuilt from the intent, so calldata is stored only once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What it does with the slot.
    pub kind: AttemptKind,
    /// Wei that a cancel moves to the account itself: 0, or 1 so that BEP-703 counts it as a payment.
    pub to_self: Wei,
    /// The offered price.
    pub fee: Fee,
    /// The signature, with low `s`.
    pub signature: Signature,
    /// Keccak-256 of the raw bytes.
    pub tx_hash: TxHash,
    /// When KMS signed it.
    pub signed_at: Millis,
    /// KMS's request id, which finds the call's event in the audit trail; `None` in items of older versions.
    pub kms_request_id: Option<String>,
    /// The first send and the last answer; `None` until a send is recorded.
    pub sent: Option<Sent>,
}

impl Attempt {
    /// The most characters of a KMS request id, which is a UUID.
    pub const KMS_REQUEST_ID_CHARS: usize = 64;
}

/// What an attempt does with its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttemptKind {
    /// Executes the request.
    Execute,
    /// Moves 0 or 1 wei to the account itself, so that the request cannot be executed.
    Cancel,
}

impl AttemptKind {
    /// The kind's stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Execute => "execute",
            Self::Cancel => "cancel",
        }
    }
}

/// A recorded send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// When the attempt was first sent.
    pub at: Millis,
    /// The last answer with new information.
    pub answer: SendAnswer,
}

/// A node's answer to a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendAnswer {
    /// The meaning of the answer.
    pub class: SendClass,
    /// The node's message, escaped and cut at [`SendAnswer::MAX_CHARS`].
    pub message: String,
}

impl SendAnswer {
    /// The most characters of a node's message.
    pub const MAX_CHARS: usize = 300;

    /// An answer with the node's message escaped and cut.
    #[must_use]
    pub fn new(class: SendClass, message: &str) -> Self {
        Self { class, message: text::plain_within(message, Self::MAX_CHARS) }
    }
}

/// The meaning of a node's answer to a send. One table, in the crate `signpost-bsc`, maps the messages of nodes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SendClass {
    /// The node returned the hash, which does not prove that it kept the transaction.
    Accepted,
    /// The node already has the transaction.
    AlreadyKnown,
    /// The nonce is used, usually by our own transaction. Receipts decide, not this answer.
    NonceTooLow,
    /// The node did not accept it now; the same bytes may be sent later or to another node.
    Retry,
    /// A higher price is needed, in wei per gas if the node named it.
    Underpriced(Option<Wei>),
    /// The account cannot pay now.
    Funds,
    /// The node will never accept this transaction.
    Refused,
    /// Signpost is misconfigured: wrong chain id, bad signature, replay protection.
    Misconfigured,
    /// The node may or may not have accepted it.
    Unknown,
}

impl SendClass {
    /// Whether the answer says that the node has or had the transaction.
    #[must_use]
    pub fn is_taken(self) -> bool {
        match self {
            Self::Accepted | Self::AlreadyKnown | Self::NonceTooLow => true,
            Self::Retry | Self::Underpriced(_) | Self::Funds | Self::Refused | Self::Misconfigured | Self::Unknown => {
                false
            }
        }
    }
}

/// Why a cancel is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelCause {
    /// The caller or an operator asked for it.
    Asked,
    /// The deadline passed.
    Deadline,
    /// A node refused the transaction for good, with this message (see [`SendAnswer`]).
    Refused(String),
    /// The policy was tightened after the reservation and now forbids the request.
    Policy(Reason),
    /// It was the head of its lane at its price cap for longer than policy allows.
    AtCap,
}

impl CancelCause {
    /// The cause's stable name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Deadline => "deadline",
            Self::Refused(_) => "refused",
            Self::Policy(_) => "policy",
            Self::AtCap => "atCap",
        }
    }
}

impl Record {
    /// The most attempts of one slot. Bumps of 10 % from the floor of 0.05 gwei reach 20 gwei in 63; the rest is for a
    /// cancel.
    pub const MAX_ATTEMPTS: usize = 80;
    /// Attempts reserved for a cancel and its bumps, so that bumps never prevent a cancel.
    pub const CANCEL_ATTEMPTS: usize = 16;

    /// The most attempts of a slot whose newest attempt is of this kind.
    #[must_use]
    pub const fn max_attempts(kind: AttemptKind) -> usize {
        match kind {
            AttemptKind::Execute => Self::MAX_ATTEMPTS.saturating_sub(Self::CANCEL_ATTEMPTS),
            AttemptKind::Cancel => Self::MAX_ATTEMPTS,
        }
    }

    /// The intent of an attempt: the request's, or a transfer of 0 or 1 wei to the account itself (I2).
    #[must_use]
    pub fn intent_of(&self, kind: AttemptKind, to_self: Wei) -> Intent {
        match kind {
            AttemptKind::Execute => self.intent.clone(),
            AttemptKind::Cancel => Intent {
                chain_id: self.account.chain_id,
                to: Some(self.account.address),
                value: to_self,
                data: Arc::from([]),
                gas: TRANSFER_GAS,
            },
        }
    }

    /// The kind of the next attempt.
    #[must_use]
    pub fn next_kind(&self) -> AttemptKind {
        match self.cancel {
            Some(_) => AttemptKind::Cancel,
            None => AttemptKind::Execute,
        }
    }

    /// Rebuilds the bytes of a stored attempt; `None` if they do not hash to the stored hash.
    #[must_use]
    pub fn raw(&self, attempt: &Attempt) -> Option<RawTx> {
        let intent = self.intent_of(attempt.kind, attempt.to_self);
        let raw = UnsignedTx { intent: &intent, nonce: self.nonce, fee: attempt.fee }.sign(&attempt.signature);
        (raw.hash == attempt.tx_hash).then_some(raw)
    }

    /// The attempt with this hash.
    #[must_use]
    pub fn attempt_of(&self, tx_hash: TxHash) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.tx_hash == tx_hash)
    }

    /// The hashes of its attempts, the newest first.
    #[must_use]
    pub fn own_hashes(&self) -> Vec<TxHash> {
        self.attempts.iter().rev().map(|attempt| attempt.tx_hash).collect()
    }

    /// Whether the outcome is published, so that the slot may be left behind.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(&self.phase, Phase::Settled(settlement) if settlement.published_at.is_some())
    }

    fn at_cap_too_long(&self) -> String {
        let limit = self.max_head_ms.map_or(String::new(), |limit| format!(" of {}", limit / 1_000));
        let cap = self.fee_cap;
        format!(
            "no block had it at its price cap of {cap} wei per gas within policy max_head_s{limit}, and others of the account waited behind it; send it again under a new id with a higher `maxGasPrice`"
        )
    }

    /// Why it ended, or why a cancel is wanted; `None` for a confirmed request and one in progress.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        let plain = |code: &str, message: String| {
            Some(Reason { code: code.to_owned(), message, revert: None, request_id: None })
        };
        match self.phase.settlement().map(|settlement| &settlement.verdict) {
            Some(Verdict::Confirmed(_)) => None,
            Some(Verdict::Reverted(_, revert)) => {
                let text = revert.as_ref().map_or("no revert data could be read", |revert| revert.text.as_str());
                let message = format!("the transaction reverted: {text}");
                Some(Reason { code: "reverted".to_owned(), message, revert: revert.clone(), request_id: None })
            }
            Some(Verdict::Displaced(foreign)) => plain(
                "displaced",
                format!("transaction {} was not signed here and used nonce {}", foreign.tx_hash, self.nonce),
            ),
            Some(Verdict::Cancelled(_)) | None => self.cancel.as_ref().and_then(|cause| match cause {
                CancelCause::Asked => plain("cancelled", "a cancel was asked for".to_owned()),
                CancelCause::Deadline => plain("deadlinePassed", "the deadline passed before it was mined".to_owned()),
                CancelCause::Refused(words) => plain("refusedByNode", format!("a node refuses it for good: {words}")),
                CancelCause::Policy(reason) => Some(reason.clone()),
                CancelCause::AtCap => plain("atCapTooLong", self.at_cap_too_long()),
            }),
        }
    }
}

impl Phase {
    /// The phase's name: the record's `status` up to `mined`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Signed => "signed",
            Self::Sent => "sent",
            Self::Mined(_) => "mined",
            Self::Settled(settlement) => settlement.verdict.name(),
        }
    }

    /// The receipt of one of our attempts, seen or final.
    #[must_use]
    pub fn receipt(&self) -> Option<&Receipt> {
        match self {
            Self::Reserved | Self::Signed | Self::Sent => None,
            Self::Mined(receipt) => Some(receipt),
            Self::Settled(settlement) => match &settlement.verdict {
                Verdict::Confirmed(receipt) | Verdict::Reverted(receipt, _) | Verdict::Cancelled(receipt) => {
                    Some(receipt)
                }
                Verdict::Displaced(_) => None,
            },
        }
    }

    /// The settlement, once there is one.
    #[must_use]
    pub fn settlement(&self) -> Option<&Settlement> {
        match self {
            Self::Settled(settlement) => Some(settlement),
            Self::Reserved | Self::Signed | Self::Sent | Self::Mined(_) => None,
        }
    }
}

impl Verdict {
    /// The outcome's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Confirmed(_) => "confirmed",
            Self::Reverted(..) => "reverted",
            Self::Cancelled(_) => "cancelled",
            Self::Displaced(_) => "displaced",
        }
    }

    /// The transaction that decided it.
    #[must_use]
    pub fn tx_hash(&self) -> TxHash {
        match self {
            Self::Confirmed(receipt) | Self::Reverted(receipt, _) | Self::Cancelled(receipt) => receipt.tx_hash,
            Self::Displaced(foreign) => foreign.tx_hash,
        }
    }

    /// The finalized block it is in.
    #[must_use]
    pub fn block(&self) -> BlockRef {
        match self {
            Self::Confirmed(receipt) | Self::Reverted(receipt, _) | Self::Cancelled(receipt) => receipt.block,
            Self::Displaced(foreign) => foreign.block,
        }
    }
}
