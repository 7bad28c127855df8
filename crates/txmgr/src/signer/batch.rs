//! A batch of deliveries: the order in which its messages are judged, and the disposition of each.
//!
//! ## Guarantees
//! * Messages with the same id in one batch have the same results as in separate batches: the batch is split before
//!   each message whose id occurred before, and the parts are judged one after the other.
//! * After a message that has to be retried, messages of its FIFO group in later parts are not judged. They are retried
//!   too, without an answer. Within a part no such rule is needed, because the slots of an account are assigned in
//!   message order, all or nothing.
//! * Messages that follow a retried message in its group are retried even if they have an answer. Lambda requires that
//!   on FIFO queues. It costs a second copy of the answer, but an answered message is never judged again.
//!
//! Read next: [`super::answer`].

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::record::Record;
use crate::request::{Message, Refused};
use crate::trace;
use crate::units::{AccountKey, Nonce, RequestId};
use crate::wire::OutcomeMessage;

use crate::inbox::{Disposition, HeldBack, Incoming, hold_back};

/// A parsed message of a batch.
pub(super) struct Inbound<'d> {
    /// The index in the batch.
    pub(super) at: usize,
    pub(super) delivery: &'d Incoming,
    pub(super) message: Result<Message, Refused>,
}

impl<'d> Inbound<'d> {
    pub(super) fn read(at: usize, delivery: &'d Incoming) -> Self {
        Self { at, delivery, message: Message::parse(&delivery.body) }
    }

    /// The request id in the message, if it is valid.
    pub(super) fn named(&self) -> Option<&RequestId> {
        match &self.message {
            Ok(Message::Sign(request)) => Some(&request.id),
            Ok(Message::Cancel(id)) => Some(id),
            Err(refused) => refused.request_id.as_ref(),
        }
    }
}

/// Splits deliveries into parts, in order. No part has the same id twice.
fn parts<'d>(deliveries: impl Iterator<Item = (usize, &'d Incoming)>) -> Vec<Vec<Inbound<'d>>> {
    let (mut parts, mut part) = (Vec::new(), Vec::new());
    let mut ids = HashSet::new();
    for (at, delivery) in deliveries {
        let inbound = Inbound::read(at, delivery);
        let id = inbound.named().cloned().unwrap_or_else(|| delivery.own_id());
        if ids.contains(&id) {
            parts.push(std::mem::take(&mut part));
            ids.clear();
        }
        ids.insert(id);
        part.push(inbound);
    }
    parts.push(part);
    parts
}

/// The state of one batch: the disposition of each message, and the lanes that were touched.
pub(super) struct Batch<'d> {
    pub(super) deliveries: &'d [Incoming],
    outcome: Vec<Option<Disposition>>,
    pub(super) touched: BTreeSet<AccountKey>,
    /// The lowest nonce of each lane among the records of the batch.
    pub(super) lowest: BTreeMap<AccountKey, Nonce>,
}

impl<'d> Batch<'d> {
    pub(super) fn new(deliveries: &'d [Incoming]) -> Self {
        let outcome = vec![None; deliveries.len()];
        Self { deliveries, outcome, touched: BTreeSet::new(), lowest: BTreeMap::new() }
    }

    /// The messages without a disposition, in parts.
    pub(super) fn parts(&self) -> Vec<Vec<Inbound<'d>>> {
        let open = self.deliveries.iter().enumerate().zip(&self.outcome).filter(|(_, outcome)| outcome.is_none());
        parts(open.map(|(delivery, _)| delivery))
    }

    /// The outcome of a message without a slot, with the trace of its sender.
    pub(super) fn in_trace(&self, at: usize, outcome: OutcomeMessage) -> OutcomeMessage {
        let trace = self.deliveries.get(at).and_then(|delivery| trace::traceparent(delivery.trace.as_deref()));
        OutcomeMessage { trace, ..outcome }
    }

    pub(super) fn touch(&mut self, account: AccountKey) {
        self.touched.insert(account);
    }

    pub(super) fn note_nonce(&mut self, record: &Record) {
        let lowest = self.lowest.entry(record.account).or_insert(record.nonce);
        *lowest = record.nonce.min(*lowest);
    }

    pub(super) fn done(&mut self, at: usize) {
        self.set(at, Disposition::Done);
    }

    pub(super) fn retry(&mut self, at: usize) {
        self.set(at, Disposition::Retry);
    }

    fn set(&mut self, at: usize, disposition: Disposition) {
        if let Some(slot) = self.outcome.get_mut(at) {
            *slot = Some(disposition);
        }
    }

    /// Whether an earlier message of the same FIFO group has to be retried.
    pub(super) fn is_held(&self, inbound: &Inbound<'_>) -> bool {
        let mut held = HeldBack::default();
        for (delivery, outcome) in self.deliveries.iter().zip(&self.outcome).take(inbound.at) {
            held.next(delivery, outcome.unwrap_or(Disposition::Done));
        }
        held.holds(inbound.delivery)
    }

    /// The disposition of each message. A message without an answer is retried.
    pub(super) fn dispositions(self) -> Vec<Disposition> {
        let mut dispositions: Vec<_> =
            self.outcome.into_iter().map(|outcome| outcome.unwrap_or(Disposition::Retry)).collect();
        hold_back(self.deliveries, &mut dispositions);
        dispositions
    }
}
