//! The slow questions of a lane: which transaction used a nonce, and why one reverted.
//!
//! A round decides them and asks none: what is cheap is done, stored and published first. The host asks
//! them beside the rounds ([`Lane::take_questions`], [`Broadcaster::inquire`]) and brings back each answer
//! by itself ([`Broadcaster::conclude`]), so that a pass broken off loses only what was being asked.
//!
//! ## Guarantees
//! * Of one lane at most [`super::question::AT_ONCE`] questions of a subject are asked at once, and one about a slot.
//! * An answer that settles nothing is stored with the record: the next pass goes on from there.
//!
//! ## Does not guarantee
//! * That a question ends: the host bounds its time and brings back [`Finding::unanswered`].

use crate::machine::{Event, Tuning, Word, witnesses_of};
use crate::ports::{Chain, NonceUse, OutcomeTopic, PortError, ResignQueue, Store, UseQuery};
use crate::record::{Inquiry, Receipt, Record, Subject};
use crate::units::{Millis, TxHash};
use crate::{meters, revert, told};

use super::question::{Asked, Question};
use super::{Broadcaster, Lane};

/// What came of a question.
#[derive(Debug)]
pub struct Finding {
    question: Question,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    /// With the revert data, if it is our own transaction and reverted.
    Use(Result<NonceUse, PortError>, Option<Vec<u8>>),
    Revert(Result<Option<Vec<u8>>, PortError>),
    None,
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
                Answer::Use(found, bytes)
            }
            Asked::Revert(receipt, _) => {
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
            (Asked::Use(_), Answer::Use(found, bytes)) => {
                event_of_use(record, found, bytes.as_deref(), &self.config.tuning, question.at, now)
            }
            (Asked::Revert(receipt, witnesses), Answer::Revert(bytes)) => match bytes {
                Ok(bytes) => finalized(record, receipt, bytes.as_deref(), witnesses),
                Err(error) => without_reason(record, receipt, witnesses, &told(&error), question.at, now),
            },
            (Asked::Use(_), Answer::Revert(_) | Answer::None) => again(record, Subject::Use, question.at, now),
            (Asked::Revert(receipt, witnesses), Answer::Use(..) | Answer::None) => {
                without_reason(record, receipt, witnesses, "no answer in time", question.at, now)
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

/// Without the transaction itself there is no verdict.
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
        Ok(NonceUse::Found(foreign, word)) if record.attempt_of(foreign.tx_hash).is_none() => {
            let Some(witnesses) = agreed(record, word, foreign.tx_hash, waited_ms, tuning) else {
                return again(record, Subject::Use, asked_at, now);
            };
            metrics::counter!(meters::DISPLACED).increment(1);
            tracing::warn!(request_id = %record.request_id, nonce = %record.nonce, foreign = %foreign.tx_hash,
                "displaced: a transaction not signed here used the nonce");
            Event::Displaced { foreign, witnesses }
        }
        Ok(NonceUse::Ours(receipt, word)) if record.attempt_of(receipt.tx_hash).is_some() => {
            match agreed(record, word, receipt.tx_hash, waited_ms, tuning) {
                Some(witnesses) => finalized(record, receipt, bytes, witnesses),
                None => again(record, Subject::Use, asked_at, now),
            }
        }
        // Our own: the nodes keep its receipt from us.
        Ok(NonceUse::Unshown(own) | NonceUse::Found(own, _)) => {
            tracing::warn!(request_id = %record.request_id, nonce = %record.nonce, tx_hash = %own.tx_hash, block = %own.block.number,
                "the transaction is in a final block and no node shows its receipt; no verdict");
            again(record, Subject::Use, asked_at, now)
        }
        Ok(NonceUse::Ours(..)) => again(record, Subject::Use, asked_at, now),
        Ok(NonceUse::NotFound(searched)) => {
            Event::Inquired(Inquiry::after(record.inquiry, Subject::Use, searched, asked_at, now))
        }
        Err(error) => {
            tracing::warn!(error = told(&error), request_id = %record.request_id, "the nonce's use cannot be searched; no verdict");
            again(record, Subject::Use, asked_at, now)
        }
    }
}

/// How many nodes say so, if they are enough.
fn agreed(record: &Record, word: Word, tx_hash: TxHash, waited_ms: u64, tuning: &Tuning) -> Option<u8> {
    if word == Word::Contradicts {
        metrics::counter!(meters::CONTRADICTED, "account" => record.account.to_string()).increment(1);
        tracing::warn!(request_id = %record.request_id, nonce = %record.nonce, %tx_hash,
            "two nodes contradict each other about the use of a nonce; no verdict until they agree");
    }
    witnesses_of(word, waited_ms, tuning)
}

fn finalized(record: &Record, receipt: Receipt, bytes: Option<&[u8]>, witnesses: u8) -> Event {
    let revert = revert::reason(bytes, receipt.gas_used, record.intent.gas).filter(|_| !receipt.succeeded);
    Event::Finalized { receipt, revert, witnesses }
}

/// The block is final, so the outcome can wait for its reason, but not for ever.
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
        tracing::debug!(error, request_id = %record.request_id, "the revert cannot be replayed now");
        return again(record, Subject::Revert, asked_at, now);
    }
    tracing::warn!(error, request_id = %record.request_id, waited_ms,
        "the revert cannot be replayed; the outcome goes without what the contract said");
    finalized(record, receipt, None, witnesses)
}
