//! A batch of deliveries: in which turns its messages are judged, and what becomes of each.
//!
//! ## Guarantees
//! * Messages that name one id end in one batch as they would in batches of their own: a batch is cut before each
//!   message whose id came before, and a part is judged when the one before it is done.
//! * In a FIFO group nothing is judged behind a message that has to be retried, if it is not of the same part: it
//!   is retried too, unanswered. Within a part order needs no such rule, since slots of an account are given in
//!   message order and all or nothing.
//! * What follows a retried message of its group is retried even where it has its answer. Lambda asks for that on
//!   FIFO queues, and it costs a second copy of the answer: what is answered is never judged again.
//!
//! Read next: [`super::answer`].

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::record::Record;
use crate::request::{Message, Refused};
use crate::trace;
use crate::units::{AccountKey, Nonce, RequestId};
use crate::wire::OutcomeMessage;

use crate::inbox::{Disposition, HeldBack, Incoming, hold_back};

/// One message of a batch, read.
pub(super) struct Inbound<'d> {
    /// Its place in the batch.
    pub(super) at: usize,
    pub(super) delivery: &'d Incoming,
    pub(super) message: Result<Message, Refused>,
}

impl<'d> Inbound<'d> {
    pub(super) fn read(at: usize, delivery: &'d Incoming) -> Self {
        Self { at, delivery, message: Message::parse(&delivery.body) }
    }

    /// The id it names, if it can be used.
    pub(super) fn named(&self) -> Option<&RequestId> {
        match &self.message {
            Ok(Message::Sign(request)) => Some(&request.id),
            Ok(Message::Cancel(id)) => Some(id),
            Err(refused) => refused.request_id.as_ref(),
        }
    }
}

/// The parts of these deliveries, in order: in none does an id come twice.
fn parts<'d>(deliveries: impl Iterator<Item = (usize, &'d Incoming)>) -> Vec<Vec<Inbound<'d>>> {
    let (mut parts, mut part) = (Vec::new(), Vec::new());
    let mut ids = HashSet::new();
    for (at, delivery) in deliveries {
        let inbound = Inbound::read(at, delivery);
        let id = inbound.named().cloned().unwrap_or_else(|| delivery.id_of_its_own());
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

/// The state of one batch: what becomes of each message, and which lanes were touched.
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

    /// What is not answered yet, in parts.
    pub(super) fn parts(&self) -> Vec<Vec<Inbound<'d>>> {
        let open = self.deliveries.iter().enumerate().zip(&self.outcome).filter(|(_, outcome)| outcome.is_none());
        parts(open.map(|(delivery, _)| delivery))
    }

    /// The outcome of a message that got no slot, in the trace its sender named.
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

    /// Whether a message of an earlier part, in the same FIFO group, has to be retried.
    pub(super) fn is_held(&self, inbound: &Inbound<'_>) -> bool {
        let mut held = HeldBack::default();
        for (delivery, outcome) in self.deliveries.iter().zip(&self.outcome).take(inbound.at) {
            held.next(delivery, outcome.unwrap_or(Disposition::Done));
        }
        held.holds(inbound.delivery)
    }

    /// What becomes of each message. One that nobody answered is not done.
    pub(super) fn dispositions(self) -> Vec<Disposition> {
        let mut dispositions: Vec<_> =
            self.outcome.into_iter().map(|outcome| outcome.unwrap_or(Disposition::Retry)).collect();
        hold_back(self.deliveries, &mut dispositions);
        dispositions
    }
}
