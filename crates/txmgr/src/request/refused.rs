//! Refusals: a stable code for programs and a text for people. Read next: [`super::names`].

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::text;
use crate::units::RequestId;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+) => {
        /// Why a request is refused. A code never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code in outcomes: camelCase, never changed.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The meaning of the code, in one sentence. `schemas/README.md` lists it.
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
    /// The body is larger than SQS allows, or the transaction is larger than the network allows.
    TooLarge = "tooLarge",
    /// A field has the name of a private key, a seed or a mnemonic.
    SecretField = "secretField",
    /// The message has a field that Signpost does not know.
    UnknownField = "unknownField",
    /// A field is given twice.
    DuplicateField = "duplicateField",
    /// A required field is missing.
    MissingField = "missingField",
    /// The message has a `nonce`, but Signpost assigns nonces.
    NonceNotAllowed = "nonceNotAllowed",
    /// The request id is not valid.
    BadRequestId = "badRequestId",
    /// The account is not a valid name, key or address.
    BadAccount = "badAccount",
    /// The value is not an integer in an accepted format, or is out of range.
    BadNumber = "badNumber",
    /// The value is not an address.
    BadAddress = "badAddress",
    /// The address is in mixed case and its EIP-55 checksum is wrong.
    BadChecksum = "badChecksum",
    /// The calldata is not hexadecimal, or the init code of a creation is missing.
    BadData = "badData",
    /// The deadline is not a Unix time in seconds.
    BadDeadline = "badDeadline",
    /// `sign-direct` has no such operation.
    UnknownOperation = "unknownOperation",
    /// The metadata is not a JSON object.
    BadMetadata = "badMetadata",
    /// The metadata is larger than the limit.
    MetadataTooLarge = "metadataTooLarge",
    /// The fee fields contradict each other.
    FeeConflict = "feeConflict",
    /// The request is for a different chain than the account.
    WrongChain = "wrongChain",
    /// No such account is registered.
    UnknownAccount = "unknownAccount",
    /// The policy has no pool with this name.
    UnknownPool = "unknownPool",
    /// Several accounts are registered, and the request does not name one.
    AccountRequired = "accountRequired",
    /// The account is paused.
    AccountPaused = "accountPaused",
    /// The account's key cannot be used.
    AccountUnusable = "accountUnusable",
    /// The gas limit is below the minimum that the network requires for the transaction.
    GasTooLow = "gasTooLow",
    /// The gas limit is above the network's limit for one transaction, or above the policy's.
    GasTooHigh = "gasTooHigh",
    /// The init code is larger than the network's limit.
    InitCodeTooLarge = "initCodeTooLarge",
    /// The price is below the minimum of the network or of the policy.
    FeeTooLow = "feeTooLow",
    /// The price is above the cap of the policy or of the request.
    FeeTooHigh = "feeTooHigh",
    /// The request has no price, no price is configured for the account, and the network's price is not known yet.
    NoFee = "noFee",
    /// The deadline has passed.
    DeadlinePassed = "deadlinePassed",
    /// The deadline is later than policy allows, or policy requires one and it is missing.
    DeadlineTooFar = "deadlineTooFar",
    /// Policy has no rules for the account, so nothing may be signed with it.
    NoPolicy = "noPolicy",
    /// Policy does not let the account create contracts.
    CreationNotAllowed = "creationNotAllowed",
    /// Policy does not let the account send to this address.
    ToNotAllowed = "toNotAllowed",
    /// Policy does not let the account call this function.
    SelectorNotAllowed = "selectorNotAllowed",
    /// Policy does not accept requests from this sender.
    SenderNotAllowed = "senderNotAllowed",
    /// The value is above the limit of the policy.
    ValueTooHigh = "valueTooHigh",
    /// The request would exceed the policy's spend limit per time window.
    SpendLimitReached = "spendLimitReached",
    /// The request would exceed the policy's limit of requests per sender and time window.
    RequestLimitReached = "requestLimitReached",
    /// The calldata is larger than policy allows.
    DataTooLarge = "dataTooLarge",
    /// The request id was used before with different contents.
    RequestIdReused = "requestIdReused",
    /// The cancel names an unknown request.
    UnknownRequest = "unknownRequest",
    /// The sender of the cancel did not send the request and is not in `cancel_senders` of the policy.
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
/// The text never contains calldata or a value that could be a secret.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The code, for programs.
    pub code: Code,
    /// The invalid field, if it is one field.
    pub field: Option<String>,
    /// For people: the field, the problem and what to do.
    pub message: String,
    /// The request id, if it could be read.
    pub request_id: Option<RequestId>,
    /// The metadata, if it could be read and the body has no secret.
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
