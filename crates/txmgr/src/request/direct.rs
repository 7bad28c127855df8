//! A request to `sign-direct`: one complete transaction, including its nonce.
//!
//! For programs that manage their own nonces and need only a signature. The payload is parsed as strictly as a message
//! on the queue, by the same code. The differences: `nonce` and all other fields except `value` are required, and
//! nothing is looked up or filled in.
//!
//! The error texts for missing fields and for secrets are part of the function's contract
//! (`tests/vectors/sign-direct.json`). Read next: [`super::fields`].

use super::fields::Fields;
use super::json::{Document, Json};
use super::names::{self, shown};
use super::{Code, FeeAsk, Refused};
use crate::tx::{Fee, Intent, UnsignedTx};
use crate::units::{ChainId, Nonce, Wei};

/// The names of all fields.
const KNOWN: &[&str] =
    &["to", "nonce", "gas", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "value", "data", "chainId"];

/// The required fields for type 0, in the order in which a refusal lists them.
const REQUIRED: &[&str] = &["gas", "gasPrice", "to", "nonce", "data"];

/// The required fields for type 2, in the order in which a refusal lists them.
const REQUIRED_DYNAMIC: &[&str] = &["gas", "maxFeePerGas", "maxPriorityFeePerGas", "to", "nonce", "data"];

/// Top-level fields of the events of other AWS services.
const EVENT_FIELDS: &[&str] = &["Records", "body", "headers", "requestContext", "detail", "detail-type"];

/// One invocation of `sign-direct`.
#[derive(Debug, Clone, PartialEq)]
pub enum Direct {
    /// `{"operation":"status"}`: report the key and the chain.
    Status,
    /// Sign this transaction.
    Sign(DirectRequest),
}

/// A transaction to sign without changes.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectRequest {
    /// What to execute.
    pub intent: Intent,
    /// The nonce, chosen by the caller.
    pub nonce: Nonce,
    /// The fee per unit of gas.
    pub fee: Fee,
}

impl Direct {
    /// Parses the payload of an invocation. The transaction is for chain `chain_id`.
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

    /// The transaction that is signed.
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
        let message = format!("the request has a field that Signpost does not know; {}", names::advice("", KNOWN));
        return Refused::whole(Code::UnknownField, message);
    };
    let advice = names::advice(name, KNOWN);
    Refused::field(Code::UnknownField, name, format!("`{name}` is not a field of a request; {advice}"))
}
