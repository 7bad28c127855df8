//! A refusal: a stable code for programs, a text for people. Read next: [`super::names`].

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::text;
use crate::units::RequestId;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+) => {
        /// Why a request is refused, as programs see it. A code never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code as it stands in outcomes: camelCase, never changed.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// What the code means, one sentence for people. `schemas/README.md` lists it.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim_ascii_start(),)+
                }
            }
        }
    };
}

codes! {
    /// The body is not JSON.
    NotJson = "notJson",
    /// The body is JSON, but not an object.
    NotAnObject = "notAnObject",
    /// The body is nested too deeply.
    TooDeep = "tooDeep",
    /// The body, or the transaction it asks for, is larger than the network takes.
    TooLarge = "tooLarge",
    /// A field named like a private key, a seed or a mnemonic.
    SecretField = "secretField",
    /// A field nobody knows.
    UnknownField = "unknownField",
    /// A field given twice.
    DuplicateField = "duplicateField",
    /// A field that must be there is not.
    MissingField = "missingField",
    /// `nonce` was given; we assign it.
    NonceNotAllowed = "nonceNotAllowed",
    /// The request id is not valid.
    BadRequestId = "badRequestId",
    /// The account is neither a name, a key nor an address.
    BadAccount = "badAccount",
    /// Not an integer in one of the spellings we take, or one out of range.
    BadNumber = "badNumber",
    /// Not an address.
    BadAddress = "badAddress",
    /// An address in mixed case whose EIP-55 checksum does not hold.
    BadChecksum = "badChecksum",
    /// Calldata that is not hexadecimal, or is missing where it must not be.
    BadData = "badData",
    /// Not a Unix time in seconds.
    BadDeadline = "badDeadline",
    /// `sign-direct` has no such operation.
    UnknownOperation = "unknownOperation",
    /// Metadata that is not an object.
    BadMetadata = "badMetadata",
    /// Metadata above the limit.
    MetadataTooLarge = "metadataTooLarge",
    /// Fee fields that contradict each other.
    FeeConflict = "feeConflict",
    /// The request is for another chain than the account's.
    WrongChain = "wrongChain",
    /// No such account is registered.
    UnknownAccount = "unknownAccount",
    /// Policy names no such pool of accounts.
    UnknownPool = "unknownPool",
    /// Several accounts are registered and the request names none.
    AccountRequired = "accountRequired",
    /// The account is paused.
    AccountPaused = "accountPaused",
    /// The account's key cannot be used.
    AccountUnusable = "accountUnusable",
    /// Gas below what the transaction needs to start at all.
    GasTooLow = "gasTooLow",
    /// Gas above the network's limit for one transaction, or the policy's.
    GasTooHigh = "gasTooHigh",
    /// Init code above the network's limit.
    InitCodeTooLarge = "initCodeTooLarge",
    /// A price no validator would take, or below the policy's floor.
    FeeTooLow = "feeTooLow",
    /// A price above the policy's or the request's own cap.
    FeeTooHigh = "feeTooHigh",
    /// The request names no price, the account has none, and the network's is not known yet.
    NoFee = "noFee",
    /// The deadline has passed.
    DeadlinePassed = "deadlinePassed",
    /// The deadline is further away than policy allows, or missing where policy wants one.
    DeadlineTooFar = "deadlineTooFar",
    /// Policy has no rules for the account, so nothing may be signed with it.
    NoPolicy = "noPolicy",
    /// Policy does not let the account create contracts.
    CreationNotAllowed = "creationNotAllowed",
    /// Policy does not let the account send to this address.
    ToNotAllowed = "toNotAllowed",
    /// Policy does not let the account call this function.
    SelectorNotAllowed = "selectorNotAllowed",
    /// Policy does not take requests from this sender.
    SenderNotAllowed = "senderNotAllowed",
    /// More coins than policy allows.
    ValueTooHigh = "valueTooHigh",
    /// More coins than policy lets the account spend in a window of time.
    SpendLimitReached = "spendLimitReached",
    /// More requests of one sender than policy takes in a window of time.
    RequestLimitReached = "requestLimitReached",
    /// More calldata than policy allows.
    DataTooLarge = "dataTooLarge",
    /// The request id was used before, with other contents.
    RequestIdReused = "requestIdReused",
    /// A cancel for a request nobody knows.
    UnknownRequest = "unknownRequest",
    /// A cancel by one who neither sent the request nor is listed in policy.
    CancelNotAllowed = "cancelNotAllowed",
    /// The request was cancelled before anything was signed.
    Cancelled = "cancelled",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is not a known code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a refusal code")]
pub struct UnknownCode;

impl FromStr for Code {
    type Err = UnknownCode;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text).ok_or(UnknownCode)
    }
}

/// A request that will not be signed, and why.
///
/// Its text never contains a value that could be a secret, nor calldata.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// For programs.
    pub code: Code,
    /// The field at fault, where it is one.
    pub field: Option<String>,
    /// For people: the field, the problem and the way out.
    pub message: String,
    /// The request's id, if it could be read.
    pub request_id: Option<RequestId>,
    /// The request's metadata, if it could be read and holds no secret.
    pub metadata: Option<Box<Value>>,
}

impl Refused {
    /// A refusal of the request as a whole.
    #[must_use]
    pub fn whole(code: Code, message: impl Into<String>) -> Self {
        let message = text::plain_within(&message.into(), text::REASON_MAX_CHARS);
        Self { code, field: None, message, request_id: None, metadata: None }
    }

    /// A refusal because of one field.
    #[must_use]
    pub fn field(code: Code, field: &str, message: impl Into<String>) -> Self {
        Self { field: Some(field.to_owned()), ..Self::whole(code, message) }
    }
}
