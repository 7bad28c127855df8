//! What a caller asks for: one message, read strictly.
//!
//! [`Message::parse`] turns a queue message's body into a [`SigningRequest`] or a cancel, or into a
//! [`Refused`] with a stable code and a text that names the field, the problem and the way out.
//! Whether it may be signed is judged elsewhere ([`crate::policy::accept()`]).
//!
//! Reading is strict because a signature is for ever: a field we do not know, a name given twice, a
//! number with a fraction, an address with a wrong checksum are all refused. Names that look like a
//! key or a mnemonic are refused before anything else, and no refusal repeats a value it should not.
//!
//! `sign-direct` takes another shape, read by the same readers: [`Direct::parse`].
//!
//! Never reads a clock, never looks anything up, never signs. Read next: [`crate::policy`].

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
    /// Sign and post a transaction.
    Sign(SigningRequest),
    /// Cancel a request sent before: `{"cancel": "ID"}`.
    Cancel(RequestId),
}

/// A request to sign one transaction, as asked: nothing is looked up or filled in yet.
///
/// `Debug` gives the length of the calldata, never the calldata.
#[derive(Clone, PartialEq)]
pub struct SigningRequest {
    /// The caller's name for it, and its idempotency key.
    pub id: RequestId,
    /// The account to sign with; may be left out where only one is registered.
    pub account: Option<AccountRef>,
    /// The recipient; `None` (an explicit `null`) creates a contract.
    pub to: Option<Address>,
    /// Coins to move; 0 if left out.
    pub value: Wei,
    /// Calldata or init code; empty if left out.
    pub data: Arc<[u8]>,
    /// Gas limit.
    pub gas: Gas,
    /// What is offered for a unit of gas.
    pub fee: FeeAsk,
    /// The most the caller will pay for a unit of gas, bumps included.
    pub max_gas_price: Option<Wei>,
    /// When the request is worth nothing any more: Unix time, given in whole seconds.
    pub deadline: Option<Millis>,
    /// The chain the caller believes the account to be on.
    pub chain_id: Option<ChainId>,
    /// A JSON object of the caller's, echoed in the outcome; at most [`MAX_METADATA_BYTES`].
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
    /// One of a pool's, `pool:NAME`: which one is decided when it gets its slot.
    Pool(AccountName),
}

impl AccountRef {
    /// Before a pool's name, where a request names its account.
    pub const POOL: &str = "pool:";
}

/// As a request spells it.
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

/// What a request offers for a unit of gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeeAsk {
    /// Nothing named: the account's configured price, or the network's.
    Configured,
    /// Named in the request.
    Fixed(Fee),
}

impl RequestId {
    /// The id under which a message is answered that has none it may use, `sqs:<message id>`. No request may take
    /// such an id. An error if the message id is none of SQS's, which are short and made of letters, digits and dashes.
    pub fn of_message(message_id: &str) -> Result<Self, ParseUnitError> {
        format!("{RESERVED_ID_PREFIX}{message_id}").parse()
    }
}

impl Message {
    /// Reads the body of one message.
    ///
    /// A refusal carries the request id and the metadata wherever they could be read, so that its
    /// outcome can be recorded and published under them; neither is ever taken from a body in which
    /// it appears twice, and metadata not from one with a secret in it.
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
