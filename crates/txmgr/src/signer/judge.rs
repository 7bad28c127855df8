//! The decision on one message: by its stored answer, or by the static checks and policy.
//!
//! Calls no port. Read next: [`super::reservation`].

use tracing::Span;

use crate::account::Head;
use crate::inbox::Incoming;
use crate::policy::{NetworkRules, Policies, accept};
use crate::record::{Record, Rejected};
use crate::request::{Message, Refused, SigningRequest};
use crate::trace;
use crate::units::{AccountName, Millis, RequestId};

use super::answer::{Found, MessageStatus};
use super::batch::Inbound;
use super::cancel::Cancel;
use super::heads::Heads;
use super::pool::{Pools, Unresolved};
use super::rejection::{Place, Refusal, reused};
use super::reservation::Candidate;
use super::stranger::stranger;

/// The decision on one message.
pub(super) enum Judgement<'d> {
    /// It is accepted and needs a slot.
    Candidate(Box<Candidate<'d>>),
    /// It was accepted before: this record is the answer.
    Accepted(Box<Record>),
    /// It was refused before: this rejection is the answer.
    Answered(Box<Rejected>),
    /// It is refused.
    Refused(Box<Refusal>),
    /// It cancels a request.
    Cancel(Cancel),
    /// It cannot be judged now.
    Retry,
}

/// Judges messages. Needs no port.
pub(super) struct Judge<'a> {
    pub(super) pools: Pools<'a>,
    pub(super) policies: &'a Policies,
    pub(super) network: &'a NetworkRules,
}

impl Judge<'_> {
    /// Decides on one message: by its stored answer, or by static checks and policy.
    pub(super) fn judge<'d>(&self, inbound: Inbound<'d>, found: &Found, heads: &Heads, now: Millis) -> Judgement<'d> {
        let (at, delivery, named) = (inbound.at, inbound.delivery, inbound.named().cloned());
        let request = match inbound.message {
            Ok(Message::Sign(request)) => Ok(request),
            Ok(Message::Cancel(id)) => return self.judge_cancel(at, delivery, id, found),
            Err(refused) => Err(refused),
        };
        let stranger = stranger(self.policies, at, delivery, || named.clone());
        // The record of another message does not answer a stranger, even if the requests are equal.
        let asked = if stranger.is_some() { None } else { request.as_ref().ok() };
        let status = found.status_of(delivery, named.as_ref(), asked, self.pools.chain_id);
        if let (MessageStatus::Taken | MessageStatus::New(_), Some(refusal)) = (&status, stranger) {
            return Judgement::Refused(Box::new(refusal));
        }
        let replaces = match status {
            MessageStatus::Record(record) => return Judgement::Accepted(record),
            MessageStatus::Refused(rejected) => return Judgement::Answered(rejected),
            MessageStatus::Taken => return Judgement::Refused(Box::new(self.conflict(at, request, named, heads))),
            MessageStatus::New(replaces) => replaces,
        };
        let request = match request {
            Ok(request) => request,
            Err(refused) => {
                let place = self.place(named, replaces, None, delivery);
                let refusal = Refusal { at, place, request: None, account: None, digest: None, refused };
                return Judgement::Refused(Box::new(refusal));
            }
        };
        match self.pools.head_of(&request, heads) {
            Ok(head) => self.judge_request(at, delivery, request, replaces, head, now),
            Err(Unresolved::Unread) => Judgement::Retry,
            Err(Unresolved::Refused(refused)) => {
                let refused = Refused { metadata: request.metadata.clone().map(Box::new), ..*refused };
                let place = self.place(named, replaces, None, delivery);
                let request = Some(Box::new(request));
                Judgement::Refused(Box::new(Refusal { at, place, request, account: None, digest: None, refused }))
            }
        }
    }

    fn judge_cancel<'d>(&self, at: usize, delivery: &'d Incoming, id: RequestId, found: &Found) -> Judgement<'d> {
        if let Some(rejected) = found.refusal_of(delivery) {
            return Judgement::Answered(Box::new(rejected.clone()));
        }
        // Ignore requests of another Signpost that shares the tables.
        let ours = |record: &&Record| record.account.chain_id == self.pools.chain_id;
        let record = found.record(&id).filter(ours).cloned().map(Box::new);
        let is_noted = record.as_ref().is_some_and(|record| record.cancel.is_some());
        match stranger(self.policies, at, delivery, || Some(id.clone())) {
            // This message may have written the cancel itself, when policy still listed its sender.
            Some(refusal) if !is_noted => Judgement::Refused(Box::new(refusal)),
            Some(_) | None => Judgement::Cancel(Cancel { at, id, record }),
        }
    }

    fn judge_request<'d>(
        &self,
        at: usize,
        delivery: &'d Incoming,
        request: SigningRequest,
        replaces: Option<Box<Rejected>>,
        head: &Head,
        now: Millis,
    ) -> Judgement<'d> {
        let sender = delivery.sender.as_deref();
        let verdict = self.policies.of(&head.name).and_then(|policy| {
            // First, so that a refused sender learns nothing else.
            policy.check_sender(sender)?;
            let price = head.fee.map(|fee| fee.gas_price);
            accept(&request, &head.account, policy, self.network, price, sender, now)
        });
        match verdict {
            Ok(accepted) => {
                let span = Span::current();
                Judgement::Candidate(Box::new(Candidate {
                    at,
                    delivery,
                    request,
                    account: head.account,
                    accepted,
                    policy_digest: self.policies.digest(),
                    replaces,
                    trace: trace::kept(&span, delivery.trace.as_deref()),
                    span,
                }))
            }
            Err(refused) => {
                let (account, digest) = (Some(head.account), Some(request.digest(&head.account)));
                let refused = Refused { metadata: request.metadata.clone().map(Box::new), ..refused };
                let place = self.place(Some(request.id.clone()), replaces, Some(&head.name), delivery);
                let request = Some(Box::new(request));
                Judgement::Refused(Box::new(Refusal { at, place, request, account, digest, refused }))
            }
        }
    }

    /// The refusal of a message whose id belongs to the record of another request.
    fn conflict(
        &self,
        at: usize,
        request: Result<SigningRequest, Refused>,
        named: Option<RequestId>,
        heads: &Heads,
    ) -> Refusal {
        let (request, problem, metadata) = match request {
            Ok(request) => {
                let metadata = request.metadata.clone().map(Box::new);
                (Some(Box::new(request)), None, metadata)
            }
            Err(refused) => (None, Some(refused.message), refused.metadata),
        };
        let head = request.as_ref().and_then(|request| self.pools.head_of(request, heads).ok());
        let account = head.map(|head| head.account);
        let digest = request.as_ref().and_then(|request| Some(request.digest(&account?)));
        let id = named.as_ref().map_or("", RequestId::as_str);
        let refused = reused(id, problem.as_deref(), metadata);
        Refusal { at, place: Place::Own(named), request, account, digest, refused }
    }

    /// The id for the rejection of a message: the id that it names only if policy accepts its sender. `account` is the
    /// account of the request, if it is known.
    fn place(
        &self,
        named: Option<RequestId>,
        replaces: Option<Box<Rejected>>,
        account: Option<&AccountName>,
        delivery: &Incoming,
    ) -> Place {
        let sender = delivery.sender.as_deref();
        let policies = &self.policies;
        let is_taken = match account.map(|account| policies.of(account)) {
            Some(Ok(policy)) => policy.check_sender(sender).is_ok(),
            Some(Err(_)) | None => policies.take(sender),
        };
        match named {
            Some(id) if is_taken => Place::Named(id, replaces),
            Some(_) | None => Place::Own(named),
        }
    }
}
