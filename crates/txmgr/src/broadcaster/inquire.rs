//! The slow questions of a lane: which transaction used a nonce, and why one reverted.
//!
//! A round decides them and asks none: what is cheap is done, stored and published first. The host asks
//! them beside the rounds ([`Lane::take_questions`], [`Broadcaster::inquire`]) and brings back each answer
//! by itself ([`Broadcaster::conclude`]), so that a pass broken off loses only what was being asked.
//!
//! ## Guarantees
//! * Of one lane at most [`AT_ONCE`] questions of a subject are asked at once, and one about a slot.
//! * An answer that settles nothing is stored with the record: the next pass goes on from there.
//!
//! ## Does not guarantee
//! * That a question ends: the host bounds its time and brings back [`Finding::unanswered`].

use crate::machine::Event;
use crate::ports::{Chain, NonceUse, OutcomeTopic, PortError, ResignQueue, Store};
use crate::record::{Inquiry, Receipt, Record, Subject};
use crate::units::{BlockNumber, Millis, Nonce};
use crate::{meters, revert, told};

use super::{Broadcaster, Lane};

/// Questions of one subject that a lane asks at once. A proof takes some twenty calls, one after the other,
/// and public nodes allow 33 a second.
pub(super) const AT_ONCE: usize = 4;

/// A slow question about one slot.
#[derive(Debug, Clone)]
pub struct Question {
    pub(super) record: Record,
    pub(super) asked: Asked,
    /// When it was decided.
    pub(super) at: Millis,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    /// Which transaction used the nonce, in a block up to this one.
    Use(BlockNumber),
    /// Why the transaction of this receipt reverted.
    Revert(Receipt),
}

/// What came of a question.
#[derive(Debug)]
pub struct Finding {
    question: Question,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Use(Result<NonceUse, PortError>),
    Revert(Result<Option<Vec<u8>>, PortError>),
    None,
}

impl Question {
    pub(super) fn subject(&self) -> Subject {
        match self.asked {
            Asked::Use(_) => Subject::Use,
            Asked::Revert(_) => Subject::Revert,
        }
    }

    /// Its place among others: since when it is due, and its slot.
    pub(super) fn turn(&self) -> (Option<Millis>, Nonce) {
        let due_at = self.record.inquiry_about(self.subject()).map(|inquiry| inquiry.next_at);
        (due_at, self.record.nonce)
    }
}

impl Finding {
    /// The nodes took longer than the host waits.
    #[must_use]
    pub fn unanswered(question: Question) -> Self {
        Self { question, answer: Answer::None }
    }
}

impl<S: Store, C: Chain, R: ResignQueue, O: OutcomeTopic> Broadcaster<S, C, R, O> {
    /// Asks the nodes. Changes nothing.
    pub async fn inquire(&self, question: Question) -> Finding {
        let record = &question.record;
        let answer = match question.asked {
            Asked::Use(finalized) => {
                let searched = record.inquiry_about(Subject::Use).and_then(|inquiry| inquiry.searched);
                let address = record.account.address;
                Answer::Use(self.chain.nonce_use(address, record.nonce, finalized, searched).await)
            }
            Asked::Revert(receipt) => {
                let address = record.account.address;
                Answer::Revert(self.chain.revert_bytes(address, &record.intent, receipt.block).await)
            }
        };
        Finding { question, answer }
    }

    /// Stores what a question brought; how many records changed. An error means that the store did not
    /// answer: it is asked again.
    pub async fn conclude(&self, lane: &mut Lane, finding: Finding, now: Millis) -> Result<usize, PortError> {
        let Finding { question, answer } = finding;
        let nonce = question.record.nonce;
        lane.inquiring.remove(&nonce);
        if lane.closed.contains(&nonce) {
            return Ok(0);
        }
        let record = lane.records.entry(nonce).or_insert_with(|| question.record.clone());
        if record.phase.settlement().is_some() {
            return Ok(0);
        }
        let event = match (question.asked, answer) {
            (Asked::Use(_), Answer::Use(found)) => event_of_use(record, found, question.at, now),
            (Asked::Revert(receipt), Answer::Revert(bytes)) => {
                event_of_revert(record, receipt, bytes, question.at, now)
            }
            (Asked::Use(_), Answer::Revert(_) | Answer::None) => again(record, Subject::Use, question.at, now),
            (Asked::Revert(receipt), Answer::Use(_) | Answer::None) => {
                without_reason(record, receipt, "no answer in time", question.at, now)
            }
        };
        // What is settled below the low mark is published when the slots set aside are looked at.
        if nonce < lane.begin {
            lane.aside_looked_at = None;
        }
        self.store_all(lane, vec![(nonce, event)], now).await
    }
}

fn again(record: &Record, subject: Subject, asked_at: Millis, now: Millis) -> Event {
    Event::Inquired(Inquiry::after(record.inquiry, subject, None, asked_at, now))
}

/// Without the foreign transaction itself there is no verdict.
fn event_of_use(record: &Record, found: Result<NonceUse, PortError>, asked_at: Millis, now: Millis) -> Event {
    match found {
        Ok(NonceUse::Found(foreign)) if record.attempt_of(foreign.tx_hash).is_none() => {
            metrics::counter!(meters::DISPLACED).increment(1);
            tracing::warn!(request_id = %record.request_id, nonce = %record.nonce, foreign = %foreign.tx_hash,
                "displaced: a transaction not signed here used the nonce");
            Event::Displaced(foreign)
        }
        // Our own: a node kept its receipt from us, and will give it.
        Ok(NonceUse::Found(_)) => again(record, Subject::Use, asked_at, now),
        Ok(NonceUse::NotFound(searched)) => {
            Event::Inquired(Inquiry::after(record.inquiry, Subject::Use, searched, asked_at, now))
        }
        Err(error) => {
            tracing::warn!(error = told(&error), request_id = %record.request_id, "the nonce's use cannot be searched; no verdict");
            again(record, Subject::Use, asked_at, now)
        }
    }
}

fn event_of_revert(
    record: &Record,
    receipt: Receipt,
    bytes: Result<Option<Vec<u8>>, PortError>,
    asked_at: Millis,
    now: Millis,
) -> Event {
    match bytes {
        Ok(bytes) => Event::Finalized { receipt, revert: bytes.map(|bytes| revert::decode(&bytes)) },
        Err(error) => without_reason(record, receipt, &told(&error), asked_at, now),
    }
}

/// The block is final, so the outcome can wait for its reason, but not for ever.
fn without_reason(record: &Record, receipt: Receipt, error: &str, asked_at: Millis, now: Millis) -> Event {
    let waited_ms = record.unanswered_ms(Subject::Revert, now).max(now.since(asked_at));
    if waited_ms < Inquiry::PATIENCE_MS {
        tracing::debug!(error, request_id = %record.request_id, "the revert cannot be replayed now");
        return again(record, Subject::Revert, asked_at, now);
    }
    tracing::warn!(error, request_id = %record.request_id, waited_ms,
        "the revert cannot be replayed; the outcome goes without its reason");
    Event::Finalized { receipt, revert: None }
}
