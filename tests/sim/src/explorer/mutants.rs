//! Known design bugs, switched on one at a time. The explorer must find each: a checker that has never
//! found anything shows nothing.
//!
//! A mutant changes the model of a driver, never the record machine or a check. Its name in [`super::moves`] marks
//! where it takes effect.

use std::fmt;

/// A design bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelMutant {
    /// After a send with a lost reply the slot is given to the next request.
    NonceHandedOn,
    /// The signer sends bytes to a node before they are stored.
    SendBeforeStore,
    /// A receipt settles before its block is final.
    OutcomeAtMined,
    /// `next_nonce` moves in a separate write, after the slot is put.
    CounterApart,
    /// The message of a rejected request is deleted before its outcome is published.
    AckBeforePublish,
    /// The record is marked published before its outcome is.
    MarkBeforePublish,
    /// A signature is stored without looking at the version.
    SecondSignatureOverwrites,
    /// The same id with other contents is taken for a repetition.
    ConflictAsSame,
    /// A message is deleted when its slot is reserved, before a signature is stored.
    AckBeforeStore,
    /// The event id of a rejection is made of the request id alone, and not of its message.
    RejectionsShareAnEvent,
    /// A redelivered message is judged again, although it has an answer.
    JudgedAnew,
    /// A refusal is stored and published under the message's id before the request id is locked by it.
    AnsweredBeforeLocked,
    /// A rejection is replaced under the request id before a copy of it is kept.
    CopyNotKept,
    /// What is stored for a message is read once, in any order.
    ReadOnce,
    /// A reservation replaces any rejection, not only the one that was read.
    ReservedOverAnswer,
    /// A broadcaster works on the lanes of every chain.
    LaneOfAnotherChain,
    /// A receipt is checked against the finalized height that another node reported.
    FinalityByHighWaterMark,
    /// A receipt, its block and the finalized height are taken from answers of several nodes behind one URL.
    EvidenceOfSeveralAnswers,
    /// A slot whose nonce is used without a receipt of ours is settled as displaced, without finding the foreign
    /// transaction.
    DisplacedWithoutProof,
    /// The foreign transaction is searched for up to the finalized height that another node reported.
    DisplacedByHighWaterMark,
    /// A cancelled request gives its nonce to the next one.
    CancelHandsNonceOn,
    /// The refusal of a cancel is stored under the id it names, and a repeat takes it for the request's refusal.
    CancelRefusedAsRequest,
    /// `cancelled` is published once a node accepts the cancel, while the original can still be mined.
    CancelledWhenSent,
    /// A replacement goes to a node before it is stored.
    BumpSentBeforeStored,
    /// A slot is bumped while a lower one is not mined.
    BumpOfNonHead,
    /// The lane adopts the chain's count although a slot is open.
    FastForwardOverOpenSlot,
    /// A redelivered request for a pool gets another slot with the account it is assigned to now.
    ReassignedOnRepeat,
    /// A request for a pool is signed by the account it is assigned to now, not by the one in its record.
    SignedByAssigned,
    /// The digest of a request for a pool is taken over the account it is assigned to.
    DigestOfAssigned,
    /// A reservation checks the nonce of the head and not the pause.
    ReservedWhilePaused,
}

impl ModelMutant {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::NonceHandedOn,
        Self::SendBeforeStore,
        Self::OutcomeAtMined,
        Self::CounterApart,
        Self::AckBeforePublish,
        Self::MarkBeforePublish,
        Self::SecondSignatureOverwrites,
        Self::ConflictAsSame,
        Self::AckBeforeStore,
        Self::RejectionsShareAnEvent,
        Self::JudgedAnew,
        Self::AnsweredBeforeLocked,
        Self::CopyNotKept,
        Self::ReadOnce,
        Self::ReservedOverAnswer,
        Self::LaneOfAnotherChain,
        Self::FinalityByHighWaterMark,
        Self::EvidenceOfSeveralAnswers,
        Self::DisplacedWithoutProof,
        Self::DisplacedByHighWaterMark,
        Self::CancelHandsNonceOn,
        Self::CancelRefusedAsRequest,
        Self::CancelledWhenSent,
        Self::BumpSentBeforeStored,
        Self::BumpOfNonHead,
        Self::FastForwardOverOpenSlot,
        Self::ReassignedOnRepeat,
        Self::SignedByAssigned,
        Self::DigestOfAssigned,
        Self::ReservedWhilePaused,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NonceHandedOn => "nonce-handed-on",
            Self::SendBeforeStore => "send-before-store",
            Self::OutcomeAtMined => "outcome-at-mined",
            Self::CounterApart => "counter-apart",
            Self::AckBeforePublish => "ack-before-publish",
            Self::MarkBeforePublish => "mark-before-publish",
            Self::SecondSignatureOverwrites => "second-signature-overwrites",
            Self::ConflictAsSame => "conflict-as-same",
            Self::AckBeforeStore => "ack-before-store",
            Self::RejectionsShareAnEvent => "rejections-share-an-event",
            Self::JudgedAnew => "judged-anew",
            Self::AnsweredBeforeLocked => "answered-before-locked",
            Self::CopyNotKept => "copy-not-kept",
            Self::ReadOnce => "read-once",
            Self::ReservedOverAnswer => "reserved-over-answer",
            Self::LaneOfAnotherChain => "lane-of-another-chain",
            Self::FinalityByHighWaterMark => "finality-by-high-water-mark",
            Self::EvidenceOfSeveralAnswers => "evidence-of-several-answers",
            Self::DisplacedWithoutProof => "displaced-without-proof",
            Self::DisplacedByHighWaterMark => "displaced-by-high-water-mark",
            Self::CancelHandsNonceOn => "cancel-hands-nonce-on",
            Self::CancelRefusedAsRequest => "cancel-refused-as-request",
            Self::CancelledWhenSent => "cancelled-when-sent",
            Self::BumpSentBeforeStored => "bump-sent-before-stored",
            Self::BumpOfNonHead => "bump-of-non-head",
            Self::FastForwardOverOpenSlot => "fast-forward-over-open-slot",
            Self::ReassignedOnRepeat => "reassigned-on-repeat",
            Self::SignedByAssigned => "signed-by-assigned",
            Self::DigestOfAssigned => "digest-of-assigned",
            Self::ReservedWhilePaused => "reserved-while-paused",
        }
    }

    /// The world that shows it.
    #[must_use]
    pub fn world(self) -> &'static str {
        match self {
            Self::OutcomeAtMined => "reorg",
            Self::MarkBeforePublish => "asks",
            Self::SecondSignatureOverwrites => "duplicates",
            Self::RejectionsShareAnEvent | Self::CopyNotKept | Self::ReadOnce => "resubmitted",
            Self::JudgedAnew | Self::AnsweredBeforeLocked | Self::ReservedOverAnswer => "rules",
            Self::LaneOfAnotherChain => "chains",
            Self::FinalityByHighWaterMark | Self::EvidenceOfSeveralAnswers => "nodes",
            Self::DisplacedWithoutProof => "outage",
            Self::DisplacedByHighWaterMark => "forks",
            Self::CancelHandsNonceOn => "cancel-lane",
            Self::CancelRefusedAsRequest => "stray-cancel",
            Self::CancelledWhenSent => "refusals",
            Self::BumpSentBeforeStored => "bumps",
            Self::BumpOfNonHead => "bump-lane",
            Self::FastForwardOverOpenSlot => "foreign",
            Self::ReassignedOnRepeat | Self::SignedByAssigned | Self::DigestOfAssigned => "pool",
            Self::ReservedWhilePaused => "pool-paused",
            Self::AckBeforePublish | Self::ConflictAsSame => "conflict",
            Self::NonceHandedOn | Self::SendBeforeStore | Self::CounterApart | Self::AckBeforeStore => "base",
        }
    }

    /// The invariant it breaks.
    #[must_use]
    pub fn breaks(self) -> &'static str {
        match self {
            Self::CancelHandsNonceOn => "I1",
            Self::SendBeforeStore | Self::SecondSignatureOverwrites | Self::BumpSentBeforeStored => "I3",
            Self::OutcomeAtMined
            | Self::FinalityByHighWaterMark
            | Self::EvidenceOfSeveralAnswers
            | Self::DisplacedWithoutProof
            | Self::DisplacedByHighWaterMark
            | Self::CancelledWhenSent => "I6",
            Self::BumpOfNonHead => "head-only",
            Self::AckBeforePublish
            | Self::MarkBeforePublish
            | Self::CancelRefusedAsRequest
            | Self::FastForwardOverOpenSlot => "I12",
            Self::ConflictAsSame | Self::ReassignedOnRepeat | Self::SignedByAssigned | Self::DigestOfAssigned => "I8",
            Self::ReservedWhilePaused => "I14",
            Self::AckBeforeStore => "I13",
            Self::RejectionsShareAnEvent
            | Self::JudgedAnew
            | Self::AnsweredBeforeLocked
            | Self::CopyNotKept
            | Self::ReadOnce
            | Self::ReservedOverAnswer => "I15",
            Self::NonceHandedOn | Self::CounterApart | Self::LaneOfAnotherChain => "I4",
        }
    }
}

impl ModelMutant {
    /// The length of its shortest trace.
    #[must_use]
    pub fn moves(self) -> usize {
        match self {
            Self::LaneOfAnotherChain => 4,
            Self::CounterApart | Self::AckBeforeStore => 5,
            Self::SendBeforeStore | Self::ReservedWhilePaused => 7,
            Self::CancelRefusedAsRequest => 11,
            Self::AckBeforePublish | Self::ConflictAsSame | Self::SignedByAssigned | Self::AnsweredBeforeLocked => 12,
            Self::ReservedOverAnswer | Self::ReassignedOnRepeat | Self::DigestOfAssigned => 13,
            Self::RejectionsShareAnEvent => 14,
            Self::NonceHandedOn | Self::JudgedAnew => 15,
            Self::SecondSignatureOverwrites | Self::OutcomeAtMined => 16,
            Self::FinalityByHighWaterMark
            | Self::EvidenceOfSeveralAnswers
            | Self::DisplacedWithoutProof
            | Self::FastForwardOverOpenSlot => 17,
            Self::BumpSentBeforeStored => 19,
            Self::DisplacedByHighWaterMark | Self::CancelHandsNonceOn => 20,
            Self::MarkBeforePublish | Self::ReadOnce => 21,
            Self::CopyNotKept => 23,
            Self::BumpOfNonHead | Self::CancelledWhenSent => 26,
        }
    }
}

impl fmt::Display for ModelMutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
