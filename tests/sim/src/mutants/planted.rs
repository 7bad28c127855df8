//! The list of them. Read next: [`super`].

/// One planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A write does not look at the version: a second signature overwrites the first.
    SecondSignatureOverwrites,
    /// The same id with other contents is taken for the same request.
    ConflictAsSame,
    /// The outcome goes out before it is stored.
    PublishesBeforeSettled,
    /// The message is deleted before it is handled.
    AcknowledgesBeforeEffect,
    /// The counter of the lane is moved in one write and the slots are put in another.
    CounterApart,
    /// A block is taken for final when it is mined.
    OutcomeAtMined,
    /// The bytes are sent before they are stored.
    SendBeforeStore,
    /// A publication that may have failed is noted as done.
    NotesUnpublished,
    /// The nonce of an ambiguous send is handed on.
    NonceHandedOn,
    /// What a window took is written after the slots, in a write of its own.
    SpendApartFromSlot,
    /// What a sender had in a window, in the same way.
    CountApartFromSlot,
    /// How long a request may hold up its lane is not stored with it.
    ForgetsMaxHead,
    /// A head at its cap is taken to have been so from the beginning of time.
    CancelsAtCapAtOnce,
    /// A request for a pool that is sent again gets a slot with whichever account it is assigned to now.
    ReassignedOnRepeat,
    /// The key service's id of the call is not kept with the attempt.
    LosesKmsRequestId,
    /// Each attempt is signed twice, and the second signature is taken.
    SignsTwice,
    /// The public key is read before each signature.
    ReadsKeyEachTime,
    /// A node says that we are misconfigured, and the account is not paused.
    IgnoresMisconfigured,
    /// A closed record may be deleted as soon as it is closed.
    ForgetsRetention,
    /// A slot without a signature is not seen, and what is above it is sent.
    OverlooksUnsigned,
    /// Outcomes go out without what the backend sent along.
    LosesMetadata,
    /// Outcomes go out without their reason.
    LosesReason,
    /// What a message was answered is forgotten: it is judged anew on every delivery.
    JudgedAnew,
    /// What is said of a message that names another's id is said under that id.
    SpeaksForOthers,
    /// The text of a refusal depends on the time.
    TellsTheTime,
    /// A broadcaster works the lanes of another chain's Signpost.
    LaneOfAnotherChain,
    /// A pass asks its slow questions one after the other, and stores what they bring when all are answered.
    LosesTurn,
    /// An outcome that is refused for good holds up all that go out with it.
    RefusedHoldsUpBatch,
    /// One node's word is enough for something final, whatever a second one says.
    BelievesOneNode,
    /// Of a second node that is up to date and not that far, it is taken that it says nothing.
    BelievesTheFuture,
    /// No slot is set aside: a lane stands still behind one that cannot be closed. For `tests/worlds.rs`.
    SetsNothingAside,
    /// A record is signed whatever its seal says. For `tests/thief.rs`, as the next two.
    TakesAnySeal,
    /// The seal does not cover the nonce.
    SealsNoNonce,
    /// Name and key of an account are what the table says.
    TrustsRegistry,
}

impl Mutant {
    /// Those that show in a seed, each with the invariants it may break first.
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
