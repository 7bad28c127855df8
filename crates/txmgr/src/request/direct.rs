//! What a caller asks of `sign-direct`: one transaction with everything in it, the nonce too.
//!
//! For programs that keep their nonces themselves and want a signature and nothing else. Read as
//! strictly as a queue's message, by the same readers; what differs is that `nonce` is required, that
//! every field but `value` must be there, and that nothing is looked up or filled in.
//!
//! The texts for missing fields and for secrets are part of the function's contract
//! (`tests/vectors/sign-direct.json`). Read next: [`super::fields`].

use super::fields::Fields;
use super::json::{Document, Json};
use super::names::{self, shown};
use super::{Code, FeeAsk, Refused};
use crate::tx::{Fee, Intent, UnsignedTx};
use crate::units::{ChainId, Nonce, Wei};

/// Every field of a request for a signature.
const KNOWN: &[&str] =
    &["to", "nonce", "gas", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "value", "data", "chainId"];

/// Required fields, in the order in which a refusal lists them, for type 0...
const REQUIRED: &[&str] = &["gas", "gasPrice", "to", "nonce", "data"];

/// ...and for type 2.
const REQUIRED_DYNAMIC: &[&str] = &["gas", "maxFeePerGas", "maxPriorityFeePerGas", "to", "nonce", "data"];

/// Fields that only another service's event has at its top.
const EVENT_FIELDS: &[&str] = &["Records", "body", "headers", "requestContext", "detail", "detail-type"];

/// One invocation of `sign-direct`.
#[derive(Debug, Clone, PartialEq)]
pub enum Direct {
    /// `{"operation":"status"}`: which key signs, and for which chain.
    Status,
    /// Sign this.
    Sign(DirectRequest),
}

/// A transaction to sign as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectRequest {
    /// What to execute.
    pub intent: Intent,
    /// Its place among the sender's transactions: the caller's business alone.
    pub nonce: Nonce,
    /// Its price.
    pub fee: Fee,
}

impl Direct {
    /// Reads an invocation's payload; the transaction will be one of `chain_id`.
    pub fn parse(body: &str, chain_id: ChainId) -> Result<Self, Refused> {
        let document = Document::read(body);
        if let Some(names) = document.secret_names() {
            let message = format!("refusing request: secret key material must not be sent to the signer ({names})");
            return Err(Refused::whole(Code::SecretField, message));
        }
        let object = document.object()?;
        let fields = Fields::new(object);
        if let Some(operation) = object.get("operation") {
            return match operation {
                Json::Text(text) if text == "status" && object.len() == 1 => Ok(Self::Status),
                Json::Text(text) if text == "status" => {
                    let message = "`operation` status takes no other field";
                    Err(Refused::field(Code::UnknownField, "operation", message))
                }
                Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::List(_) | Json::Object(_) => {
                    let message = "`operation` is not known; there is \"status\", and without `operation` a transaction is signed";
                    Err(Refused::field(Code::UnknownOperation, "operation", message))
                }
            };
        }
        if let Some(name) = object.keys().find(|name| !KNOWN.contains(&name.as_ref())) {
            return Err(unknown(name));
        }
        DirectRequest::read(fields, chain_id).map(Self::Sign)
    }
}

impl DirectRequest {
    fn read(fields: Fields<'_>, chain_id: ChainId) -> Result<Self, Refused> {
        let dynamic = fields.has("maxFeePerGas") || fields.has("maxPriorityFeePerGas");
        let required = if dynamic { REQUIRED_DYNAMIC } else { REQUIRED };
        let missing: Vec<_> = required.iter().copied().filter(|name| !fields.has(name)).collect();
        if let Some(first) = missing.first() {
            let message = format!("missing parameter(s) - sign requires {}", missing.join(", "));
            return Err(Refused::field(Code::MissingField, first, message));
        }
        if let Some(asked) = fields.chain_id()?.filter(|asked| *asked != chain_id) {
            let message =
                format!("`chainId` asks for chain {asked}, but this function signs for chain {chain_id}; call another");
            return Err(Refused::field(Code::WrongChain, "chainId", message));
        }
        let FeeAsk::Fixed(fee) = fields.fee()? else {
            unreachable!("a fee is among the required fields");
        };
        let intent = Intent {
            chain_id,
            to: fields.to()?,
            value: fields.wei("value")?.unwrap_or(Wei::ZERO),
            data: fields.data()?,
            gas: fields.gas()?,
        };
        Ok(Self { intent, nonce: fields.nonce()?, fee })
    }

    /// What is signed.
    #[must_use]
    pub fn unsigned(&self) -> UnsignedTx<'_> {
        UnsignedTx { intent: &self.intent, nonce: self.nonce, fee: self.fee }
    }
}

fn unknown(name: &str) -> Refused {
    if EVENT_FIELDS.contains(&name) {
        let message = format!("`{name}` is a field of another service's event; send the request itself as the payload");
        return Refused::field(Code::UnknownField, name, message);
    }
    let Some(name) = shown(name) else {
        let message = format!("the request has a field we do not know; {}", names::advice("", KNOWN));
        return Refused::whole(Code::UnknownField, message);
    };
    let advice = names::advice(name, KNOWN);
    Refused::field(Code::UnknownField, name, format!("`{name}` is not a field of a request; {advice}"))
}
