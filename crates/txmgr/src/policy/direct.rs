//! What `sign-direct` may sign: the network's rules, and the policy's where there is one.
//!
//! Never looks anything up. The request is read in [`crate::request::Direct`]. Read next: [`super::SpendLimit`].

use super::accept::{check_gas, check_size};
use super::{AccountPolicy, PolicyFacts};
use crate::request::{Code, DirectRequest, Refused};
use crate::units::Millis;

impl DirectRequest {
    /// Checks the request against the network's rules, and against the policy where there is one.
    /// Without a policy, contracts are not created: a recipient left out by mistake costs its value.
    ///
    /// A policy's rules about deadlines and SQS senders refuse every request, which has neither;
    /// [`AccountPolicy::unfit_for_direct`] says so at the start.
    pub fn check(&self, policy: Option<&AccountPolicy>) -> Result<(), Refused> {
        if policy.is_none() && self.intent.to.is_none() {
            let message = "`to` is null: contracts are created only where a policy has allow_creation = true";
            return Err(Refused::field(Code::CreationNotAllowed, "to", message));
        }
        check_gas(&self.intent)?;
        check_size(&self.intent, self.fee, self.fee.price())?;
        let Some(policy) = policy else { return Ok(()) };
        // There is no deadline to compare the time with.
        let now = Millis(0);
        let (fee, fee_cap) = (self.fee, self.fee.price());
        policy.check(&PolicyFacts { intent: &self.intent, fee, fee_cap, sender: None, deadline: None, now })
    }
}

impl AccountPolicy {
    /// The first rule that `sign-direct` cannot check: it knows no sender and no deadline, and
    /// counts nothing.
    #[must_use]
    pub fn unfit_for_direct(&self) -> Option<&'static str> {
        let counted = (self.spend_limit, self.request_limit);
        match (&self.allow_senders, self.max_deadline_ms, counted) {
            (Some(_), _, _) => Some("allow_senders"),
            (None, Some(_), _) => Some("max_deadline_s"),
            (None, None, (Some(_), _)) => Some("spend_limit_wei"),
            (None, None, (None, Some(_))) => Some("max_requests"),
            (None, None, (None, None)) => None,
        }
    }
}
