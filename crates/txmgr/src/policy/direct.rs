//! Checks of `sign-direct`: the network's rules, and the policy if there is one.
//!
//! Looks nothing up. [`crate::request::Direct`] parses the request. Read next: [`super::SpendLimit`].

use super::accept::{check_gas, check_size};
use super::{AccountPolicy, PolicyFacts};
use crate::request::{Code, DirectRequest, Refused};
use crate::units::Millis;

impl DirectRequest {
    /// Checks the request against the network's rules, and against the policy if there is one. Without a policy, no
    /// contract may be created: if the recipient is omitted by mistake, the value is lost.
    ///
    /// Policy rules about deadlines and SQS senders would refuse every request, because it has neither;
    /// [`AccountPolicy::unfit_for_direct`] reports them at the start.
    pub fn check(&self, policy: Option<&AccountPolicy>) -> Result<(), Refused> {
        if policy.is_none() && self.intent.to.is_none() {
            let message = "`to` is null: contracts are created only where a policy has allow_creation = true";
            return Err(Refused::field(Code::CreationNotAllowed, "to", message));
        }
        check_gas(&self.intent)?;
        check_size(&self.intent, self.fee, self.fee.price())?;
        let Some(policy) = policy else { return Ok(()) };
        // There is no deadline, so the time does not matter.
        let now = Millis(0);
        let (fee, fee_cap) = (self.fee, self.fee.price());
        policy.check(&PolicyFacts { intent: &self.intent, fee, fee_cap, sender: None, deadline: None, now })
    }
}

impl AccountPolicy {
    /// The first rule that `sign-direct` cannot check: it has no sender and no deadline, and keeps no counts.
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
