//! A request's record: the one durable truth about it, and its own outbox.
//!
//! A [`Record`] has a slot from its first moment. What never got a slot is [`Rejected`]. Records
//! change only through [`crate::machine::apply`]. Read next: [`crate::machine`].

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
pub use self::inquiry::{Inquiry, NoSubject, Searched, Subject};
pub use self::seal::{NoSeal, Seal};
pub use self::waiting::{NoCause, WaitCause, Waiting};

/// What the requests table holds under one request id.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "both are read once and matched at once")]
pub enum Stored {
    /// It has a slot.
    Record(Box<Record>),
    /// It never had one.
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
    /// The key.
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
    /// Why.
    pub reason: Reason,
    /// The caller's metadata, when it could be read.
    pub metadata: Option<serde_json::Value>,
    /// SQS `SenderId` of the message.
    pub sender: Option<String>,
    /// The SQS message that was refused; `None` in items of before message ids were kept.
    pub message_id: Option<String>,
    /// The id its outcome is published under, where that is not the key: this is the copy that is kept under
    /// `sqs:<message id>` when the refusal is said under the caller's own id.
    pub said_as: Option<RequestId>,
    /// When it was refused.
    pub created_at: Millis,
    /// When its outcome was published. A copy that is kept by message id has none as long as the other stands.
    pub published_at: Option<Millis>,
    /// When the item may be deleted; set when it is made.
    pub expires_at: Option<Millis>,
}

/// What was found under an id that is to be written: the write holds only while that still stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vacancy {
    /// Nothing, or an item whose time is over.
    Free,
    /// The rejection of this message; `None`: one of before message ids were kept.
    Rejected(Option<String>),
}

impl Vacancy {
    /// What a rejection that was found, or nothing, leaves to a write.
    #[must_use]
    pub fn of(found: Option<&Rejected>) -> Self {
        found.map_or(Self::Free, |rejected| Self::Rejected(rejected.message_id.clone()))
    }
}

/// A stable code with a text for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// camelCase, stable.
    pub code: String,
    /// Names the field, the problem and the way out. Never a secret's value, never calldata.
    pub message: String,
    /// Decoded revert data of a reverted transaction.
    pub revert: Option<Revert>,
    /// The id that a message named which is answered under `sqs:<message id>`, because the id is not its own.
    pub request_id: Option<RequestId>,
}

impl Reason {
    /// Characters of a message that are kept.
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
    /// Revert data kept, in bytes: a message of a screenful.
    pub const MAX_BYTES: usize = 4_096;
}

/// A request with a slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The caller's id.
    pub request_id: RequestId,
    /// Digest of the request.
    pub digest: Digest,
    /// Counts the writes; every write is conditional on the one before it.
    pub version: u64,
    /// Chain and address that sign.
    pub account: AccountKey,
    /// The account's name at reservation.
    pub name: AccountName,
    /// The slot.
    pub nonce: Nonce,
    /// What to execute.
    pub intent: Intent,
    /// The price of attempt 0.
    pub fee: Fee,
    /// No attempt that executes the request is priced above it.
    pub fee_cap: Wei,
    /// After it the request is cancelled unless mined.
    pub deadline: Option<Millis>,
    /// By what it was accepted; `None` in items of older versions.
    pub acceptance: Option<Acceptance>,
    /// How long it may hold up its lane once its price is at the cap, in milliseconds; after that it is cancelled.
    /// The policy's, as of the reservation; `None` in items of older versions: no limit.
    pub max_head_ms: Option<u64>,
    /// Echoed in the outcome.
    pub metadata: Option<serde_json::Value>,
    /// SQS `SenderId` of the message.
    pub sender: Option<String>,
    /// The SQS message that got the slot; `None` in items of before message ids were kept.
    pub message_id: Option<String>,
    /// Trace context of the message (`AWSTraceHeader` or `traceparent`).
    pub trace: Option<String>,
    /// The signer's seal over what the request fixes; `None` in items of older versions.
    pub seal: Option<Seal>,
    /// The signed transactions of the slot, in order.
    pub attempts: Vec<Attempt>,
    /// Set once, when someone or something wants it cancelled.
    pub cancel: Option<CancelCause>,
    /// Since when it is the head of its lane and its price cannot rise any more, as was noted when it should have.
    pub capped_since: Option<Millis>,
    /// How far a slow question to the nodes about this slot is, if an answer failed to come.
    pub inquiry: Option<Inquiry>,
    /// What it waits for, if it has not moved for a while.
    pub waiting: Option<Waiting>,
    /// How far it is.
    pub phase: Phase,
    /// When it was reserved.
    pub created_at: Millis,
    /// When it last changed.
    pub updated_at: Millis,
}

/// How far a record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It has a slot and no signature.
    Reserved,
    /// A signature is stored; nothing was sent as far as we know.
    Signed,
    /// Bytes were handed to a node, or may have been.
    Sent,
    /// A receipt was seen; not final.
    Mined(Receipt),
    /// The outcome is decided.
    Settled(Settlement),
}

/// A decided outcome. It never changes (I6); only its publication is noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// What happened.
    pub verdict: Verdict,
    /// How many nodes said so; `None` in items of older versions.
    pub witnesses: Option<u8>,
    /// When we knew.
    pub settled_at: Millis,
    /// When the outcome was published; the record is closed then.
    pub published_at: Option<Millis>,
    /// When the item may be deleted; set when published.
    pub expires_at: Option<Millis>,
}

/// What happened on chain, said only of a finalized block (G3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The request was executed.
    Confirmed(Receipt),
    /// The request was executed and reverted.
    Reverted(Receipt, Option<Revert>),
    /// A cancel took the slot: the request was not executed and never will be.
    Cancelled(Receipt),
    /// A transaction we did not sign took the slot.
    Displaced(Foreign),
}

/// A transaction of the account that we did not sign: the evidence of a displacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// Its hash.
    pub tx_hash: TxHash,
    /// The finalized block it is in.
    pub block: BlockRef,
}

/// A block by height and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockRef {
    /// Height.
    pub number: BlockNumber,
    /// Hash.
    pub hash: BlockHash,
}

/// A node's word that a transaction is in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The transaction.
    pub tx_hash: TxHash,
    /// The block it is in.
    pub block: BlockRef,
    /// Status 1.
    pub succeeded: bool,
    /// Gas it used, if the node tells.
    pub gas_used: Option<Gas>,
    /// Wei per gas it paid, if the node tells.
    pub effective_gas_price: Option<Wei>,
    /// The contract it created.
    pub contract: Option<Address>,
}

/// One signed transaction for a slot. The raw bytes are rebuilt from the intent, so calldata is
/// stored once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What it does with the slot.
    pub kind: AttemptKind,
    /// Wei that a cancel moves to the account itself: 0, or 1, which BEP-703 counts as a payment.
    pub to_self: Wei,
    /// Its price.
    pub fee: Fee,
    /// Its signature.
    pub signature: Signature,
    /// Its hash.
    pub tx_hash: TxHash,
    /// When it was signed.
    pub signed_at: Millis,
    /// KMS's id of the call, the key to the audit trail's event; `None` in items of older versions.
    pub kms_request_id: Option<String>,
    /// The first send and what the node said last; `None` until recorded.
    pub sent: Option<Sent>,
}

impl Attempt {
    /// Characters of a KMS request id that are kept: it is a UUID.
    pub const KMS_REQUEST_ID_CHARS: usize = 64;
}

/// What an attempt does with its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttemptKind {
    /// Executes the request.
    Execute,
    /// Moves nothing, or 1 wei, to the account itself, so that the request can not be executed.
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

/// That bytes were handed to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The first time.
    pub at: Millis,
    /// What the node said the last time it said something new.
    pub answer: SendAnswer,
}

/// A node's answer to a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendAnswer {
    /// What it means for us.
    pub class: SendClass,
    /// The node's words, plain and cut at [`SendAnswer::MAX_CHARS`].
    pub message: String,
}

impl SendAnswer {
    /// Characters of a node's words that are kept.
    pub const MAX_CHARS: usize = 300;

    /// An answer with the node's words made plain and cut to size.
    #[must_use]
    pub fn new(class: SendClass, message: &str) -> Self {
        Self { class, message: text::plain_within(message, Self::MAX_CHARS) }
    }
}

/// What a node's answer to a send means. One table (crate `signpost-bsc`) makes it of its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SendClass {
    /// The node returned the hash. Not evidence that it kept the transaction.
    Accepted,
    /// The node has it already.
    AlreadyKnown,
    /// The nonce is used, most often by our own transaction: look, do not judge.
    NonceTooLow,
    /// The same bytes may go later or elsewhere.
    Retry,
    /// A higher price is needed; at least this many wei per gas if the node named it.
    Underpriced(Option<Wei>),
    /// The account cannot pay now.
    Funds,
    /// This transaction will never be taken.
    Refused,
    /// We are misconfigured: wrong chain id, bad signature, replay protection.
    Misconfigured,
    /// The node may or may not have taken it.
    Unknown,
}

impl SendClass {
    /// Whether a node says that it has the transaction, or had.
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
    /// A node refused the transaction for good; its words, as [`SendAnswer`] has them.
    Refused(String),
    /// The policy was tightened after the reservation; what it says.
    Policy(Reason),
    /// At its price cap, it was the head of its lane for as long as policy lets it.
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
    /// Most attempts of one slot: bumps of 10 % from the floor of 0.05 gwei reach 20 gwei in 63, and a
    /// cancel has the rest.
    pub const MAX_ATTEMPTS: usize = 80;
    /// Places among them kept for a cancel and its bumps, so that bumps never make a slot uncancellable.
    pub const CANCEL_ATTEMPTS: usize = 16;

    /// How many attempts a slot may hold once one of this kind is the newest.
    #[must_use]
    pub const fn max_attempts(kind: AttemptKind) -> usize {
        match kind {
            AttemptKind::Execute => Self::MAX_ATTEMPTS.saturating_sub(Self::CANCEL_ATTEMPTS),
            AttemptKind::Cancel => Self::MAX_ATTEMPTS,
        }
    }

    /// The intent of an attempt: the request's own, or a transfer of 0 or 1 wei to the account itself (I2).
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

    /// Which kind the next attempt has.
    #[must_use]
    pub fn next_kind(&self) -> AttemptKind {
        match self.cancel {
            Some(_) => AttemptKind::Cancel,
            None => AttemptKind::Execute,
        }
    }

    /// The bytes of a stored attempt, rebuilt; `None` if they do not hash to what was stored.
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

    /// The outcome is published; the slot may be left behind.
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

    /// Why it ended, or why a cancel is wanted; `None` for a request that goes its way.
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
