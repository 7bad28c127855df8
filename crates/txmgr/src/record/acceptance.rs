//! Under which policy and code a request was accepted, and the parts of the request that its record does not have.
//!
//! Read next: [`super`].

use super::Record;
use crate::request::{AccountRef, FeeAsk, SigningRequest};
use crate::units::{AccountName, Digest, Wei};

/// Under which policy and code a request was accepted. It allows a record's digest to be recomputed
/// ([`Record::asked`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// SHA-256 of the text of the policy that accepted it.
    pub policy_digest: Digest,
    /// The version of the code that accepted it: [`crate::code_version`].
    pub code_version: String,
    /// Whether the request named its price. Otherwise the record's price was the account's or the network's at that
    /// time.
    pub names_fee: bool,
    /// The request's own `maxGasPrice`. The record's cap may be the policy's.
    pub max_gas_price: Option<Wei>,
    /// The pool that the request named. The record has the account that was chosen from it.
    pub pool: Option<AccountName>,
}

impl Acceptance {
    /// The acceptance of a request under this policy.
    #[must_use]
    pub fn of(request: &SigningRequest, policy_digest: Digest) -> Self {
        let pool = match &request.account {
            Some(AccountRef::Pool(name)) => Some(name.clone()),
            Some(AccountRef::Name(_) | AccountRef::Key(_) | AccountRef::Address(_)) | None => None,
        };
        Self {
            policy_digest,
            code_version: crate::code_version(),
            names_fee: matches!(request.fee, FeeAsk::Fixed(_)),
            max_gas_price: request.max_gas_price,
            pool,
        }
    }
}

impl Record {
    /// The original request, with every field that its digest covers: `asked().digest(account)` is [`Record::digest`].
    /// `None` in items of older versions.
    #[must_use]
    pub fn asked(&self) -> Option<SigningRequest> {
        let acceptance = self.acceptance.as_ref()?;
        let account = match &acceptance.pool {
            Some(pool) => AccountRef::Pool(pool.clone()),
            None => AccountRef::Key(self.account),
        };
        Some(SigningRequest {
            id: self.request_id.clone(),
            account: Some(account),
            to: self.intent.to,
            value: self.intent.value,
            data: self.intent.data.clone(),
            gas: self.intent.gas,
            fee: if acceptance.names_fee { FeeAsk::Fixed(self.fee) } else { FeeAsk::Configured },
            max_gas_price: acceptance.max_gas_price,
            deadline: self.deadline,
            chain_id: None,
            metadata: self.metadata.clone(),
        })
    }
}
