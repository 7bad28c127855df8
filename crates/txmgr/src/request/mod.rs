//! Strict parsing of the messages of the signing queue.
//!
//! [`Message::parse`] turns the body of a message into a [`SigningRequest`] or a cancel. If it is invalid, it returns
//! [`Refused`] with a stable code and a text that names the field and the problem and says what to do.
//! [`crate::policy::accept()`] decides whether the request may be signed.
//!
//! Parsing is strict because a signature cannot be undone: an unknown field, a duplicate name, a number with a fraction
//! and an address with a wrong checksum are all refused. Names that look like a key or a mnemonic are refused first,
//! and no refusal repeats a value that may be secret.
//!
//! `sign-direct` has another format, which the same code parses: [`Direct::parse`].
//!
//! Nothing here reads a clock, looks anything up or signs. Read next: [`crate::policy`].

mod digest;
mod direct;
mod fields;
mod json;
mod names;
mod refused;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

pub use direct::{Direct, DirectRequest};
pub use fields::{MAX_METADATA_BYTES, RESERVED_ID_PREFIX};
pub use json::{MAX_BODY_BYTES, MAX_DEPTH};
pub use refused::{Code, Refused};

pub(crate) use fields::u256;
pub(crate) use names::shown;

use crate::tx::Fee;
use crate::units::{AccountKey, AccountName, Address, ChainId, Gas, Millis, ParseUnitError, RequestId, Wei};
use fields::Fields;
use json::Document;

/// One message of the signing queue.
#[expect(clippy::large_enum_variant, reason = "a cancel is rare and a message is not kept")]
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Sign and broadcast a transaction.
    Sign(SigningRequest),
    /// Cancel an earlier request: `{"cancel": "ID"}`.
    Cancel(RequestId),
}

/// A request to sign one transaction, as sent: nothing is looked up or filled in yet.
///
/// `Debug` shows the length of the calldata instead of the calldata.
#[derive(Clone, PartialEq)]
pub struct SigningRequest {
    /// The id that the caller chose: the idempotency key.
    pub id: RequestId,
    /// The account to sign with. May be omitted if only one is registered.
    pub account: Option<AccountRef>,
    /// The recipient; `None` (an explicit `null`) creates a contract.
    pub to: Option<Address>,
    /// Coins to move; 0 if left out.
    pub value: Wei,
    /// Calldata or init code; empty if left out.
    pub data: Arc<[u8]>,
    /// Gas limit.
    pub gas: Gas,
    /// The price per unit of gas.
    pub fee: FeeAsk,
    /// The maximum price per unit of gas, including replacements.
    pub max_gas_price: Option<Wei>,
    /// When the request expires. Sent as Unix time in whole seconds.
    pub deadline: Option<Millis>,
    /// The chain that the caller expects the account to be on.
    pub chain_id: Option<ChainId>,
    /// A JSON object that the outcome repeats, at most [`MAX_METADATA_BYTES`] bytes.
    pub metadata: Option<Value>,
}

impl fmt::Debug for SigningRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningRequest")
            .field("id", &self.id)
            .field("account", &self.account)
            .field("to", &self.to)
            .field("value", &self.value)
            .field("data", &format_args!("{} bytes", self.data.len()))
            .field("gas", &self.gas)
            .field("fee", &self.fee)
            .field("max_gas_price", &self.max_gas_price)
            .field("deadline", &self.deadline)
            .field("chain_id", &self.chain_id)
            .field("metadata", &self.metadata)
            .finish()
    }
}

/// How a request names its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountRef {
    /// By the name it was registered with.
    Name(AccountName),
    /// By its key, `97:0xabc…`.
    Key(AccountKey),
    /// By its address alone.
    Address(Address),
    /// Any account of a pool, `pool:NAME`. The account is chosen when the request gets its slot.
    Pool(AccountName),
}

impl AccountRef {
    /// The prefix of a pool's name in the `account` field.
    pub const POOL: &str = "pool:";
}

/// The spelling in a request.
impl fmt::Display for AccountRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Key(key) => key.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Pool(name) => write!(f, "{}{name}", Self::POOL),
        }
    }
}

impl From<AccountName> for AccountRef {
    fn from(name: AccountName) -> Self {
        Self::Name(name)
    }
}

impl From<AccountKey> for AccountRef {
    fn from(key: AccountKey) -> Self {
        Self::Key(key)
    }
}

impl From<Address> for AccountRef {
    fn from(address: Address) -> Self {
        Self::Address(address)
    }
}

/// The price per unit of gas that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeeAsk {
    /// No price in the request: the account's configured price, or the network's.
    Configured,
    /// The price in the request.
    Fixed(Fee),
}

impl RequestId {
    /// `sqs:<message id>`: the id under which a message without a usable request id is answered. No request may have
    /// such an id. Fails if the message id is not from SQS: those are short and have only letters, digits and dashes.
    pub fn of_message(message_id: &str) -> Result<Self, ParseUnitError> {
        format!("{RESERVED_ID_PREFIX}{message_id}").parse()
    }
}

impl Message {
    /// Parses the body of one message.
    ///
    /// A refusal has the request id and the metadata if they could be read, so that its outcome can be recorded and
    /// published with them. A field that appears twice is not used, nor is metadata from a body with a secret in it.
    pub fn parse(body: &str) -> Result<Self, Refused> {
        let document = Document::read(body);
        Self::read(&document).map_err(|refused| Refused {
            request_id: fields::salvaged_id(&document),
            metadata: fields::salvaged_metadata(&document).map(Box::new),
            ..refused
        })
    }

    fn read(document: &Document<'_>) -> Result<Self, Refused> {
        let fields = Fields::new(document.object()?);
        if fields.has("cancel") {
            return fields.cancel().map(Self::Cancel);
        }
        fields.refuse_unknown()?;
        Ok(Self::Sign(SigningRequest {
            id: fields.request_id()?,
            account: fields.account()?,
            to: fields.to()?,
            value: fields.wei("value")?.unwrap_or(Wei::ZERO),
            data: fields.data()?,
            gas: fields.gas()?,
            fee: fields.fee()?,
            max_gas_price: fields.wei("maxGasPrice")?,
            deadline: fields.deadline()?,
            chain_id: fields.chain_id()?,
            metadata: fields.metadata()?,
        }))
    }
}
