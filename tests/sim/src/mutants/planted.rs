//! The list of planted bugs. A bug that the explorer plants too has the same name in [`crate::explorer::mutants`]. Read
//! next: [`super`].

/// One planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A signature is stored without a check of the version: a second one overwrites the first.
    SecondSignatureOverwrites,
    /// The same id with other contents is taken for the same request.
    ConflictAsSame,
    /// The outcome is published before it is stored.
    PublishesBeforeSettled,
    /// The message is deleted before it is handled.
    AcknowledgesBeforeEffect,
    /// The counter of the lane is moved in one write and the slots are put in another.
    CounterApart,
    /// A block is taken for final as soon as it is mined.
    OutcomeAtMined,
    /// The bytes are sent before they are stored.
    SendBeforeStore,
    /// A publication that may have failed is noted as done.
    NotesUnpublished,
    /// The nonce of a send with a lost reply is given to the next request.
    NonceHandedOn,
    /// The spend of a window is written after the slots, in a separate write.
    SpendApartFromSlot,
    /// A sender's count in a window is written after the slots, in a separate write.
    CountApartFromSlot,
    /// The longest time that a request may block its lane is not stored with it.
    ForgetsMaxHead,
    /// A head at its cap counts as capped since time 0.
    CancelsAtCapAtOnce,
    /// A repeated request for a pool gets another slot with the account it is assigned to now.
    ReassignedOnRepeat,
    /// The key service's id of the call is not kept with the attempt.
    LosesKmsRequestId,
    /// Each attempt is signed twice, and the second signature is taken.
    SignsTwice,
    /// The public key is read before each signature.
    ReadsKeyEachTime,
    /// A node answers `misconfigured`, and the account is not paused.
    IgnoresMisconfigured,
    /// A closed record may be deleted as soon as it is closed.
    ForgetsRetention,
    /// A slot without a signature is overlooked, and the slots above it are sent.
    OverlooksUnsigned,
    /// Outcomes are published without the backend's metadata.
    LosesMetadata,
    /// Outcomes are published without their reason.
    LosesReason,
    /// A message's answer is forgotten: it is judged again on every delivery.
    JudgedAnew,
    /// The refusal of a message that names another's id is published under that id.
    SpeaksForOthers,
    /// The text of a refusal depends on the time.
    TellsTheTime,
    /// A broadcaster works the lanes of another chain's Signpost.
    LaneOfAnotherChain,
    /// A pass asks its slow questions one after the other, and stores the findings only when all are answered.
    LosesTurn,
    /// An outcome that is refused for good blocks all outcomes of its batch.
    RefusedHoldsUpBatch,
    /// One node is enough for a final verdict, whatever a second one answers.
    BelievesOneNode,
    /// A second node that is in sync but has not reached the block counts as silent.
    BelievesTheFuture,
    /// No slot is set aside: a slot that cannot be closed blocks its lane. For `tests/deployments.rs`.
    SetsNothingAside,
    /// A record is signed whatever its seal says. For `tests/thief.rs`, as the next two.
    TakesAnySeal,
    /// The seal does not cover the nonce.
    SealsNoNonce,
    /// The name and key of an account are taken from the table.
    TrustsRegistry,
}

impl Mutant {
    /// The mutants that a seed can reveal, each with the invariants it may break first.
    pub const ALL: [(Self, &'static [&'static str]); 30] = [
        (Self::SecondSignatureOverwrites, &["I2"]),
        (Self::ConflictAsSame, &["I6", "I13"]),
        (Self::PublishesBeforeSettled, &["I6"]),
        (Self::AcknowledgesBeforeEffect, &["I13"]),
        (Self::CounterApart, &["I4"]),
        (Self::OutcomeAtMined, &["I6"]),
        (Self::SendBeforeStore, &["I3"]),
        (Self::NotesUnpublished, &["I11", "I13"]),
        (Self::NonceHandedOn, &["I1", "I4"]),
        (Self::SpendApartFromSlot, &["I9"]),
        (Self::CountApartFromSlot, &["I9"]),
        (Self::ForgetsMaxHead, &["I12"]),
        (Self::CancelsAtCapAtOnce, &["I9"]),
        (Self::ReassignedOnRepeat, &["G3", "I8", "I11"]),
        (Self::LosesKmsRequestId, &["evidence"]),
        (Self::SignsTwice, &["G6"]),
        (Self::ReadsKeyEachTime, &["G6"]),
        (Self::IgnoresMisconfigured, &["I14"]),
        (Self::ForgetsRetention, &["G1"]),
        (Self::OverlooksUnsigned, &["G3", "I12", "order"]),
        (Self::LosesMetadata, &["I6", "I15"]),
        (Self::LosesReason, &["G3"]),
        (Self::JudgedAnew, &["I11", "I15"]),
        (Self::SpeaksForOthers, &["I15"]),
        (Self::TellsTheTime, &["I11", "I15"]),
        (Self::LaneOfAnotherChain, &["I16"]),
        (Self::LosesTurn, &["I12"]),
        (Self::RefusedHoldsUpBatch, &["I12"]),
        (Self::BelievesOneNode, &["I6", "G3"]),
        (Self::BelievesTheFuture, &["I6", "G3"]),
    ];
}
