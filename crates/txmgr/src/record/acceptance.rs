//! By what a request was accepted, and how it was asked where its record has only what came of it.
//!
//! Read next: [`super`].

use super::Record;
use crate::request::{AccountRef, FeeAsk, SigningRequest};
use crate::units::{AccountName, Digest, Wei};

/// By what a request was accepted. With it a record's digest can be taken again ([`Record::asked`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// SHA-256 of the text of the policy that let it pass.
    pub policy_digest: Digest,
    /// The version of the code that accepted it: [`crate::code_version`].
    pub code_version: String,
    /// The request named its price. Else the record's is the account's or the network's of that time.
    pub names_fee: bool,
    /// The most the request would pay for a unit of gas, in its own words: the record's cap may be the policy's.
    pub max_gas_price: Option<Wei>,
    /// The pool it asked for: the record has the account that was chosen.
    pub pool: Option<AccountName>,
}

impl Acceptance {
    /// What is kept of a request that was accepted by this policy.
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
    /// The request as it was asked, as far as its digest goes: `asked().digest(account)` is [`Record::digest`].
    /// `None` where the item is of an older version.
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
