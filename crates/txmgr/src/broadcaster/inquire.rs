//! The slow questions of a lane: which transaction used a nonce, and why a transaction reverted.
//!
//! A round only collects the questions: first it does, stores and publishes what is cheap. The host asks them in
//! parallel with the rounds ([`Lane::take_questions`], [`Broadcaster::inquire`]) and returns each answer separately
//! ([`Broadcaster::conclude`]), so an interrupted pass loses only the questions in progress.
//!
//! ## Guarantees
//! * A lane has at most [`super::question::AT_ONCE`] questions of a subject in progress, and at most one per slot.
//! * An answer that settles nothing is stored with the record, and the next pass continues from it.
//!
//! ## Does not guarantee
//! * That a question ends: the host bounds its time and then returns [`Finding::unanswered`].

use crate::machine::{Corroboration, Event, Tuning, witnesses_of};
use crate::ports::{Chain, NonceUse, OutcomeTopic, PortError, ResignQueue, Store, UseQuery};
use crate::record::{Inquiry, Receipt, Record, Subject};
use crate::units::{Millis, TxHash};
use crate::{error_chain, meters, revert};

use super::question::{Asked, Question};
use super::{Broadcaster, Lane};

/// The result of a question.
#[derive(Debug)]
pub struct Finding {
    question: Question,
    reply: Reply,
}

#[derive(Debug)]
enum Reply {
    /// With the revert data, if the transaction is our own and reverted.
    Use(Result<NonceUse, PortError>, Option<Vec<u8>>),
    Revert(Result<Option<Vec<u8>>, PortError>),
    None,
}

impl Finding {
    /// The result of a question that the host gave up waiting for.
    #[must_use]
    pub fn unanswered(question: Question) -> Self {
        Self { question, reply: Reply::None }
    }
}

impl<S: Store, C: Chain, R: ResignQueue, O: OutcomeTopic> Broadcaster<S, C, R, O> {
    /// Asks the nodes. Changes nothing.
    pub async fn inquire(&self, question: Question) -> Finding {
        let record = &question.record;
        let reply = match question.asked {
            Asked::Use(finalized) => {
                let searched = record.inquiry_about(Subject::Use).and_then(|inquiry| inquiry.searched);
                let query = UseQuery {
                    address: record.account.address,
                    nonce: record.nonce,
                    own: record.own_hashes(),
                    finalized,
                    searched,
                    now: question.at,
                };
                let found = self.chain.nonce_use(&query).await;
                let bytes = match &found {
                    Ok(NonceUse::Ours(receipt, _)) if record.lacks_reason(receipt) => {
                        let replayed = self.chain.revert_bytes(query.address, &record.intent, receipt.block).await;
                        replayed.ok().flatten()
                    }
                    Ok(NonceUse::Found(..) | NonceUse::Ours(..) | NonceUse::Unshown(_) | NonceUse::NotFound(_))
                    | Err(_) => None,
                };
                Reply::Use(found, bytes)
            }
            Asked::Revert(receipt, _) => {
                let address = record.account.address;
                Reply::Revert(self.chain.revert_bytes(address, &record.intent, receipt.block).await)
            }
        };
        Finding { question, reply }
    }

    /// Stores the result of a question and returns how many records changed. An error means that the store did not
    /// answer: the question is asked again.
    pub async fn conclude(&self, lane: &mut Lane, finding: Finding, now: Millis) -> Result<usize, PortError> {
        let Finding { question, reply } = finding;
        let nonce = question.record.nonce;
        lane.inquiring.remove(&nonce);
        if lane.closed.contains(&nonce) {
            return Ok(0);
        }
        let record = lane.records.entry(nonce).or_insert_with(|| question.record.clone());
        if record.phase.settlement().is_some() {
            return Ok(0);
        }
        let event = match (question.asked, reply) {
            (Asked::Use(_), Reply::Use(found, bytes)) => {
                event_of_use(record, found, bytes.as_deref(), &self.config.tuning, question.at, now)
            }
            (Asked::Revert(receipt, witnesses), Reply::Revert(bytes)) => match bytes {
                Ok(bytes) => finalized(record, receipt, bytes.as_deref(), witnesses),
                Err(error) => without_reason(record, receipt, witnesses, &error_chain(&error), question.at, now),
            },
            (Asked::Use(_), Reply::Revert(_) | Reply::None) => again(record, Subject::Use, question.at, now),
            (Asked::Revert(receipt, witnesses), Reply::Use(..) | Reply::None) => {
                without_reason(record, receipt, witnesses, "no answer in time", question.at, now)
            }
        };
        // A record settled below the low mark is published when the slots set aside are loaded.
        if nonce < lane.begin {
            lane.aside_loaded_at = None;
        }
        self.store_all(lane, vec![(nonce, event)], now).await
    }
}

fn again(record: &Record, subject: Subject, asked_at: Millis, now: Millis) -> Event {
    Event::Inquired(Inquiry::after(record.inquiry, subject, None, asked_at, now))
}

/// The event that follows from a search. Without the transaction itself there is no verdict.
fn event_of_use(
    record: &Record,
    found: Result<NonceUse, PortError>,
    bytes: Option<&[u8]>,
    tuning: &Tuning,
    asked_at: Millis,
    now: Millis,
) -> Event {
    let waited_ms = record.unanswered_ms(Subject::Use, now).max(now.since(asked_at));
    match found {
        Ok(NonceUse::Found(foreign, corroboration)) if record.attempt_of(foreign.tx_hash).is_none() => {
            let Some(witnesses) = agreed(record, corroboration, foreign.tx_hash, waited_ms, tuning) else {
                return again(record, Subject::Use, asked_at, now);
            };
            metrics::counter!(meters::DISPLACED).increment(1);
            tracing::warn!(request_id = %record.request_id, nonce = %record.nonce, foreign = %foreign.tx_hash,
                "displaced: a transaction not signed here used the nonce");
            Event::Displaced { foreign, witnesses }
        }
        Ok(NonceUse::Ours(receipt, corroboration)) if record.attempt_of(receipt.tx_hash).is_some() => {
            match agreed(record, corroboration, receipt.tx_hash, waited_ms, tuning) {
                Some(witnesses) => finalized(record, receipt, bytes, witnesses),
                None => again(record, Subject::Use, asked_at, now),
            }
        }
        // Our own transaction, whose receipt no node returns.
        Ok(NonceUse::Unshown(own) | NonceUse::Found(own, _)) => {
            tracing::warn!(request_id = %record.request_id, nonce = %record.nonce, tx_hash = %own.tx_hash, block = %own.block.number,
                "the transaction is in a final block but no node shows its receipt; no verdict");
            again(record, Subject::Use, asked_at, now)
        }
        Ok(NonceUse::Ours(..)) => again(record, Subject::Use, asked_at, now),
        Ok(NonceUse::NotFound(searched)) => {
            Event::Inquired(Inquiry::after(record.inquiry, Subject::Use, searched, asked_at, now))
        }
        Err(error) => {
            tracing::warn!(error = error_chain(&error), request_id = %record.request_id, "the search for the use of the nonce failed; no verdict");
            again(record, Subject::Use, asked_at, now)
        }
    }
}

/// How many nodes agree, if they are enough.
fn agreed(
    record: &Record,
    corroboration: Corroboration,
    tx_hash: TxHash,
    waited_ms: u64,
    tuning: &Tuning,
) -> Option<u8> {
    if corroboration == Corroboration::Contradicts {
        metrics::counter!(meters::CONTRADICTED, "account" => record.account.to_string()).increment(1);
        tracing::warn!(request_id = %record.request_id, nonce = %record.nonce, %tx_hash,
            "two nodes contradict each other about the use of a nonce; no verdict until they agree");
    }
    witnesses_of(corroboration, waited_ms, tuning)
}

fn finalized(record: &Record, receipt: Receipt, bytes: Option<&[u8]>, witnesses: u8) -> Event {
    let revert = revert::reason(bytes, receipt.gas_used, record.intent.gas).filter(|_| !receipt.succeeded);
    Event::Finalized { receipt, revert, witnesses }
}

/// The event for a revert whose reason is not known. The block is final, so the outcome waits for the reason, but only
/// for [`Inquiry::PATIENCE_MS`].
fn without_reason(
    record: &Record,
    receipt: Receipt,
    witnesses: u8,
    error: &str,
    asked_at: Millis,
    now: Millis,
) -> Event {
    let waited_ms = record.unanswered_ms(Subject::Revert, now).max(now.since(asked_at));
    if waited_ms < Inquiry::PATIENCE_MS {
        tracing::debug!(error, request_id = %record.request_id, "the replay of the revert failed");
        return again(record, Subject::Revert, asked_at, now);
    }
    tracing::warn!(error, request_id = %record.request_id, waited_ms,
        "the revert cannot be replayed; the outcome is published without its reason");
    finalized(record, receipt, None, witnesses)
}
