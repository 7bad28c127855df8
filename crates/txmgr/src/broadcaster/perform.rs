//! Performs the machine's actions and stores the results.

use futures_util::stream::{self, StreamExt};
use tracing::{Instrument as _, Span, field};

use crate::machine::{Action, Event, SignerAsk, apply};
use crate::ports::{Chain, Happened, OutcomeTopic, PortError, ResignQueue, Store, UpdateVerdict};
use crate::record::{AttemptKind, Phase, Record, SendAnswer, SendClass};
use crate::tx::RawTx;
use crate::units::{Millis, Nonce};
use crate::wire::{OutcomeMessage, SignerPoke, WireFee};
use crate::{error_chain, meters, publish, trace};

use super::question::{Asked, Question};
use super::{Broadcaster, Lane};

/// An outcome that the topic refused is published again after this time, in milliseconds.
const REFUSED_AGAIN_MS: u64 = 30_000;

/// A transaction to send: its slot, the attempt's index and the bytes.
struct Outgoing {
    nonce: Nonce,
    number: usize,
    raw: RawTx,
}

impl<S: Store, C: Chain, R: ResignQueue, O: OutcomeTopic> Broadcaster<S, C, R, O> {
    /// Performs actions and returns how many records changed. Actions that only change records are stored first, and
    /// the results of each call before the next call. Slow questions are collected, not asked.
    pub(super) async fn perform(
        &self,
        lane: &mut Lane,
        actions: Vec<(Nonce, Action)>,
        now: Millis,
    ) -> Result<usize, PortError> {
        let mut events: Vec<(Nonce, Event)> = Vec::new();
        let mut sends: Vec<Outgoing> = Vec::new();
        let mut asks: Vec<SignerPoke> = Vec::new();
        let mut outcomes: Vec<(Nonce, OutcomeMessage)> = Vec::new();
        let mut questions: Vec<Question> = Vec::new();
        for (nonce, action) in actions {
            let Some(record) = lane.records.get(&nonce) else { continue };
            let question = |asked| Question { record: record.clone(), asked, at: now };
            match action {
                Action::Wait | Action::Leave => {}
                Action::NoteCancel(cause) => {
                    metrics::counter!(meters::CANCELS, "cause" => cause.name()).increment(1);
                    events.push((nonce, Event::CancelAsked(cause)));
                }
                Action::NoteAtCap(since) => events.push((nonce, Event::AtCap(since))),
                Action::NoteMined(receipt) => events.push((nonce, Event::Mined(receipt))),
                Action::NoteUnmined => events.push((nonce, Event::Unmined)),
                Action::Settle { receipt, witnesses } if record.lacks_reason(&receipt) => {
                    questions.push(question(Asked::Revert(receipt, witnesses)));
                }
                Action::Settle { receipt, witnesses } => {
                    events.push((nonce, Event::Finalized { receipt, revert: None, witnesses }));
                }
                Action::FindUse => {
                    questions.extend(lane.high.map(|high| question(Asked::Use(high.finalized))));
                }
                Action::Send { number } => sends.extend(outgoing(record, number)),
                Action::AskSigner(ask) => {
                    if ask.number > 0 && ask.kind == AttemptKind::Execute {
                        metrics::counter!(meters::BUMPS).increment(1);
                    }
                    asks.push(poke_of(record, &ask, lane.to_self(record), now));
                }
                Action::Publish => outcomes.extend(OutcomeMessage::of_record(record).map(|outcome| (nonce, outcome))),
            }
        }
        lane.waiting = questions;
        let mut changed = self.store_all(lane, events, now).await?;
        let sent = self.send(lane, sends, now).await;
        changed = changed.saturating_add(self.store_all(lane, sent, now).await?);
        self.ask(lane, &asks, now).await;
        Ok(changed.saturating_add(self.publish_all(lane, outcomes, now).await?))
    }

    /// Publishes outcomes. An outcome that the topic refused before waits and is then sent alone, so that it cannot
    /// fail the others of its batch.
    async fn publish_all(
        &self,
        lane: &mut Lane,
        outcomes: Vec<(Nonce, OutcomeMessage)>,
        now: Millis,
    ) -> Result<usize, PortError> {
        let (refused, fresh): (Vec<_>, Vec<_>) =
            outcomes.into_iter().partition(|(nonce, _)| lane.refused_at.contains_key(nonce));
        let published = self.publish(lane, fresh, now).await;
        let mut changed = self.store_all(lane, published, now).await?;
        for outcome in refused {
            let at = lane.refused_at.get(&outcome.0);
            if at.is_some_and(|at| now.since(*at) >= REFUSED_AGAIN_MS) {
                let published = self.publish(lane, vec![outcome], now).await;
                changed = changed.saturating_add(self.store_all(lane, published, now).await?);
            }
        }
        Ok(changed)
    }

    /// Sends bytes to the nodes, lowest nonce first. Only answers with new information become events.
    async fn send(&self, lane: &mut Lane, sends: Vec<Outgoing>, now: Millis) -> Vec<(Nonce, Event)> {
        if sends.is_empty() {
            return Vec::new();
        }
        let raws: Vec<RawTx> = sends.iter().map(|send| send.raw.clone()).collect();
        let spans: Vec<Span> = sends.iter().map(|send| send_span(lane, send)).collect();
        let answers = self.chain.send_all(&raws).await;
        let mut events = Vec::new();
        for ((send, span), answer) in sends.into_iter().zip(spans).zip(answers) {
            lane.sent_at.insert(send.nonce, now);
            let Some(record) = lane.records.get(&send.nonce) else { continue };
            span.record("answer", answer.class.name());
            span.in_scope(|| tracing::debug!("sent"));
            metrics::counter!(meters::SENDS, "class" => answer.class.name()).increment(1);
            match answer.class {
                SendClass::Misconfigured => self.pause(record, &answer).await,
                SendClass::Funds => {
                    metrics::counter!(meters::FUNDS, "account" => record.account.to_string()).increment(1);
                    tracing::warn!(account = %record.account, request_id = %record.request_id, words = %answer.message,
                        "the account cannot pay; the lane waits and continues when it is funded");
                }
                SendClass::Accepted | SendClass::AlreadyKnown if was_misconfigured(record, send.number) => {
                    self.end_pause(record).await;
                }
                SendClass::Accepted
                | SendClass::AlreadyKnown
                | SendClass::NonceTooLow
                | SendClass::Retry
                | SendClass::Underpriced(_)
                | SendClass::Refused
                | SendClass::Unknown => {}
            }
            if is_new_answer(record, send.number, &answer) {
                events.push((send.nonce, Event::Sent { number: send.number, answer }));
            }
        }
        events
    }

    /// Publishes outcomes; those that were published become events.
    async fn publish(
        &self,
        lane: &mut Lane,
        outcomes: Vec<(Nonce, OutcomeMessage)>,
        now: Millis,
    ) -> Vec<(Nonce, Event)> {
        if outcomes.is_empty() {
            return Vec::new();
        }
        let expires_at = now.plus(self.config.retention_ms);
        let spans: Vec<Span> = outcomes.iter().map(|(nonce, outcome)| publish_span(lane, *nonce, outcome)).collect();
        let (nonces, messages): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
        let answers = publish::all(&self.topic, &messages).await;
        let mut events = Vec::new();
        for (((nonce, message), span), answer) in nonces.into_iter().zip(&messages).zip(spans).zip(answers) {
            let _in_span = span.enter();
            match answer {
                Ok(()) => {
                    metrics::counter!(meters::PUBLISHED).increment(1);
                    tracing::info!("outcome published");
                    lane.refused_at.remove(&nonce);
                    events.push((nonce, Event::Published { expires_at }));
                }
                Err(error) => {
                    metrics::counter!(meters::NOT_PUBLISHED).increment(1);
                    if error.happened == Happened::No && !error.throttled {
                        lane.refused_at.insert(nonce, now);
                    }
                    tracing::warn!(error = error_chain(&error), request_id = %message.request_id, "the outcome was not published; a later round tries again");
                }
            }
        }
        events
    }

    async fn ask(&self, lane: &mut Lane, asks: &[SignerPoke], now: Millis) {
        if asks.is_empty() {
            return;
        }
        match self.resign.poke_signer(asks).await {
            Ok(()) => {
                for record in lane.records.values() {
                    if asks.iter().any(|ask| ask.request_id == record.request_id.as_str()) {
                        lane.asked_at.insert(record.nonce, now);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(error = error_chain(&error), account = %lane.account, "the signer was not asked; a later round tries again");
            }
        }
    }

    /// Applies the events and stores the records, several concurrently. After a lost race the lane keeps the stored
    /// record.
    pub(super) async fn store_all(
        &self,
        lane: &mut Lane,
        events: Vec<(Nonce, Event)>,
        now: Millis,
    ) -> Result<usize, PortError> {
        let mut nexts = Vec::with_capacity(events.len());
        for (nonce, event) in events {
            let Some(record) = lane.records.get(&nonce) else { continue };
            match apply(record, &event, now) {
                Ok(next) => nexts.push(next),
                Err(error) => {
                    tracing::error!(error = error_chain(&error), request_id = %record.request_id, "the machine decided an action that it does not allow");
                }
            }
        }
        let writes = nexts.into_iter().map(|next| {
            let span = trace::step!("store", &next);
            span.record("status", next.phase.name());
            if let Some(tx_hash) = next.phase.receipt().map(|receipt| receipt.tx_hash) {
                span.record("tx_hash", field::display(tx_hash));
            }
            let in_span = span.clone();
            async move {
                let verdict = self.store.update(&next).await;
                (next, span, verdict)
            }
            .instrument(in_span)
        });
        let mut writing = stream::iter(writes).buffer_unordered(self.config.write_concurrency.max(1));
        let (mut changed, mut failed) = (0_usize, None);
        while let Some((next, span, verdict)) = writing.next().await {
            let _in_span = span.enter();
            match verdict {
                Ok(UpdateVerdict::Stored) => {
                    tracing::info!("stored");
                    changed = changed.saturating_add(1);
                    record_metrics(&next);
                    lane.keep(next);
                }
                Ok(UpdateVerdict::Stale(theirs)) => {
                    changed = changed.saturating_add(1);
                    lane.keep(*theirs);
                }
                Ok(UpdateVerdict::Gone) => {
                    tracing::error!(request_id = %next.request_id, "an open record no longer exists");
                    lane.records.remove(&next.nonce);
                }
                // The write may have taken effect: the next round reads the record again.
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(changed), Err)
    }

    /// Ends the pause for a misconfiguration, because a node accepted the transaction after all.
    async fn end_pause(&self, record: &Record) {
        tracing::warn!(account = %record.account, request_id = %record.request_id,
            "a node accepted a transaction that was answered as misconfigured; the pause for that ends, an operator's pause does not");
        if let Err(error) = self.store.set_paused_by_node(&record.account, false).await {
            tracing::error!(error = error_chain(&error), account = %record.account, "the pause could not be ended; use `account resume`");
        }
    }

    /// Pauses the account because a node says that our transactions are malformed. Nothing more is signed until an
    /// operator has looked or a node accepts the transaction.
    async fn pause(&self, record: &Record, answer: &SendAnswer) {
        metrics::counter!(meters::PAUSED).increment(1);
        tracing::error!(account = %record.account, request_id = %record.request_id, words = %answer.message,
            "the node says we are misconfigured; the account is paused");
        if let Err(error) = self.store.set_paused_by_node(&record.account, true).await {
            tracing::error!(error = error_chain(&error), account = %record.account, "the account could not be paused; the next send will try again");
        }
    }
}

/// Whether the attempt's last answer was "misconfigured".
fn was_misconfigured(record: &Record, number: usize) -> bool {
    let sent = record.attempts.get(number).and_then(|attempt| attempt.sent.as_ref());
    sent.is_some_and(|sent| sent.answer.class == SendClass::Misconfigured)
}

fn send_span(lane: &Lane, send: &Outgoing) -> Span {
    let Some(record) = lane.records.get(&send.nonce) else { return Span::none() };
    let span = trace::step!("send", record);
    span.record("attempt", send.number);
    span.record("tx_hash", field::display(send.raw.hash));
    span
}

fn publish_span(lane: &Lane, nonce: Nonce, outcome: &OutcomeMessage) -> Span {
    let Some(record) = lane.records.get(&nonce) else { return Span::none() };
    let span = trace::step!("publish", record);
    span.record("status", outcome.status.as_str());
    if let Some(tx_hash) = &outcome.tx_hash {
        span.record("tx_hash", tx_hash.as_str());
    }
    span
}

/// Records the metrics that follow from a stored change.
fn record_metrics(record: &Record) {
    let age = || f64::from(u32::try_from(record.updated_at.since(record.created_at)).unwrap_or(u32::MAX));
    match &record.phase {
        Phase::Mined(_) => metrics::histogram!(meters::MINED_AFTER).record(age()),
        Phase::Settled(settlement) if settlement.published_at.is_none() => {
            metrics::counter!(meters::SETTLED, "status" => settlement.verdict.name()).increment(1);
            metrics::histogram!(meters::FINAL_AFTER).record(age());
        }
        Phase::Reserved | Phase::Signed | Phase::Sent | Phase::Settled(_) => {}
    }
}

fn outgoing(record: &Record, number: usize) -> Option<Outgoing> {
    let attempt = record.attempts.get(number)?;
    let raw = record.raw(attempt);
    if raw.is_none() {
        tracing::error!(request_id = %record.request_id, attempt = number, "I3: the stored bytes do not hash to the stored hash; not sent");
    }
    raw.map(|raw| Outgoing { nonce: record.nonce, number, raw })
}

/// Whether an answer is the first for the attempt or adds information. "A node has it" is new if no node was known to
/// have it. A later rate limit or silence is not new, since the first node still has it. So at most two answers of
/// these classes are stored per attempt, and the stored one tells whether the attempt must be sent again.
fn is_new_answer(record: &Record, number: usize, answer: &SendAnswer) -> bool {
    let Some(attempt) = record.attempts.get(number) else { return false };
    let Some(sent) = &attempt.sent else { return true };
    match (is_at_a_node(sent.answer.class), is_at_a_node(answer.class)) {
        (Some(before), Some(now)) => now && !before,
        (None, _) | (_, None) => sent.answer.class != answer.class,
    }
}

/// Whether an answer of this class shows that a node has the transaction. `None` for the classes in which the node
/// refuses the transaction itself.
fn is_at_a_node(class: SendClass) -> Option<bool> {
    match class {
        SendClass::Retry | SendClass::Unknown => Some(false),
        SendClass::Accepted | SendClass::AlreadyKnown | SendClass::NonceTooLow => Some(true),
        SendClass::Underpriced(_) | SendClass::Funds | SendClass::Refused | SendClass::Misconfigured => None,
    }
}

fn poke_of(record: &Record, ask: &SignerAsk, to_self: u64, now: Millis) -> SignerPoke {
    SignerPoke {
        account: record.account.to_string(),
        request_id: record.request_id.to_string(),
        attempt: ask.number,
        kind: ask.kind.into(),
        fee: ask.fee.as_ref().map(WireFee::from),
        to_self,
        cause: format!("asked at {now}"),
    }
}
