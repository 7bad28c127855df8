//! Sends signed transactions to the endpoints, and combines their answers into one.
//!
//! Each endpoint gets the transactions in the order of their nonces, in batches if it accepts them. A send that was
//! answered is not repeated here: the caller sends again, and sending the same bytes twice is harmless.
//!
//! **[`SendTo::First`].** A transaction that the first endpoint did not accept goes to the next endpoint at once,
//! whatever the answer was, each transaction separately. A transaction that it accepted or already has is done. "Nonce
//! too low", "underpriced" and "funds" go to the next one too: they are one node's view, and another node may be ahead
//! or cheaper. So if any endpoint accepts, that is the answer, and if none does, all were asked. `First` and `All`
//! give the same answer and differ only in cost.
//!
//! **Privacy.** If there are private endpoints, a transaction goes to them. If the configuration allows
//! it, the public ones get it in two cases: when it is sent again, because the private endpoints did not get it into
//! a block, and when no private endpoint was reached. Sent transactions are remembered in memory,
//! not stored: another process starts with the private endpoints again.
//!
//! **Refusals.** If one node says that it will never accept a transaction, or that we are misconfigured, the answer is
//! "retry", with the node's words, until the refusal is confirmed (`refusals.rs`). The same applies to a wrong
//! chain id.
//!
//! **One combined answer.** Endpoints that were surely not reached count only if none was reached. Of the
//! others, the first answer in this order is used: accepted, already known, nonce too low (a node saw
//! it used), underpriced (at the lowest price named), funds, unknown, retry, misconfigured, refused. So
//! the answer is "refused" only if every endpoint that was reached refuses, and none of them may have the transaction.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::error::Error;
use std::sync::{Mutex, PoisonError};

use futures_util::future::join_all;
use serde_json::Value;
use signpost_txmgr::ports::Happened;
use signpost_txmgr::record::{SendAnswer, SendClass};
use signpost_txmgr::tx::RawTx;
use signpost_txmgr::units::TxHash;
use tokio::time::Instant;

use crate::classify::classify;
use crate::endpoints::{Endpoint, Endpoints, SendTo};
use crate::refusals::Refusals;
use crate::rpc::{Answer, Call, CallFailure};

/// One endpoint's answer.
#[derive(Debug, Clone)]
struct EndpointAnswer {
    host: String,
    answer: SendAnswer,
    /// The transaction reached the endpoint, or may have.
    reached: bool,
}

/// Which endpoints may see a transaction before it is in a block.
#[derive(Debug)]
pub(crate) enum Privacy {
    /// There are no private endpoints.
    None,
    /// Only the private endpoints.
    Always,
    /// The private endpoints the first time, all endpoints later.
    First(SentOnce),
}

/// The transactions that were sent before: at least the last [`SentOnce::GENERATION`] ones.
#[derive(Debug, Default)]
pub(crate) struct SentOnce(Mutex<[HashSet<TxHash>; 2]>);

impl SentOnce {
    /// More transactions than all lanes of a process have open at once.
    const GENERATION: usize = 10_000;

    /// Notes a transaction. Returns whether it was sent before.
    fn note(&self, hash: TxHash) -> bool {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sent.iter().any(|generation| generation.contains(&hash));
        let [young, old] = &mut *sent;
        young.insert(hash);
        if young.len() >= Self::GENERATION {
            *old = std::mem::take(young);
        }
        known
    }
}

/// Sends the transactions. Returns one answer for each.
pub(crate) async fn send_all(
    endpoints: &Endpoints,
    privacy: &Privacy,
    refusals: &Refusals,
    raws: &[RawTx],
) -> Vec<SendAnswer> {
    if raws.is_empty() {
        return Vec::new();
    }
    let mut heard: Vec<Vec<EndpointAnswer>> = vec![Vec::new(); raws.len()];
    if !matches!(privacy, Privacy::None) {
        let all: Vec<usize> = (0..raws.len()).collect();
        send_in_turn(endpoints.send_to(), endpoints.to_send_privately(), raws, &all, &mut heard).await;
    }
    let is_public = |at: &usize| match privacy {
        Privacy::None => true,
        Privacy::Always => false,
        Privacy::First(sent) => {
            let again = raws.get(*at).is_some_and(|raw| sent.note(raw.hash));
            again || !heard.get(*at).is_some_and(|heard| heard.iter().any(|heard| heard.reached))
        }
    };
    let public: Vec<usize> = (0..raws.len()).filter(is_public).collect();
    if !public.is_empty() {
        send_in_turn(endpoints.send_to(), endpoints.to_send().await, raws, &public, &mut heard).await;
    }
    let now = Instant::now();
    for (raw, heard) in raws.iter().zip(&mut heard) {
        hold_unconfirmed(refusals, raw.hash, heard, now);
    }
    heard.iter().map(|heard| combine(heard.iter())).collect()
}

fn is_taken(class: SendClass) -> bool {
    matches!(class, SendClass::Accepted | SendClass::AlreadyKnown)
}

fn is_refusal(class: SendClass) -> bool {
    matches!(class, SendClass::Refused | SendClass::Misconfigured)
}

/// Turns refusals that are not confirmed yet into "retry".
fn hold_unconfirmed(refusals: &Refusals, hash: TxHash, heard: &mut [EndpointAnswer], now: Instant) {
    for refusal in heard.iter().filter(|heard| is_refusal(heard.answer.class)) {
        refusals.note(hash, &refusal.host, now);
    }
    if heard.iter().any(|heard| is_taken(heard.answer.class)) {
        refusals.forget(hash);
    }
    if refusals.are_confirmed(hash, now) {
        return;
    }
    for refusal in heard.iter_mut().filter(|heard| is_refusal(heard.answer.class)) {
        let (host, words) = (&refusal.host, &refusal.answer.message);
        tracing::warn!(host, tx_hash = %hash, words, "a node refuses a transaction; no other node confirms it yet");
        refusal.answer = SendAnswer::new(SendClass::Retry, &format!("{host} alone refuses it: {words}"));
    }
}

/// Sends the transactions at these positions to the targets, and notes each target's answers.
async fn send_in_turn(
    send_to: SendTo,
    targets: Vec<(&Endpoint, Result<(), CallFailure>)>,
    raws: &[RawTx],
    places: &[usize],
    heard: &mut [Vec<EndpointAnswer>],
) {
    match send_to {
        SendTo::All => {
            let asked = targets.iter().map(|(endpoint, ready)| send_to_endpoint(endpoint, ready, raws, places));
            for answers in join_all(asked).await {
                note(places, answers, heard);
            }
        }
        SendTo::First => {
            let mut open = places.to_vec();
            for (endpoint, ready) in &targets {
                if open.is_empty() {
                    break;
                }
                let answers = send_to_endpoint(endpoint, ready, raws, &open).await;
                let mut taken =
                    answers.iter().map(|heard| is_taken(heard.answer.class)).collect::<Vec<_>>().into_iter();
                note(&open, answers, heard);
                open.retain(|_| !taken.next().unwrap_or(false));
            }
        }
    }
}

fn note(places: &[usize], answers: Vec<EndpointAnswer>, heard: &mut [Vec<EndpointAnswer>]) {
    for (at, answer) in places.iter().zip(answers) {
        if let Some(heard) = heard.get_mut(*at) {
            heard.push(answer);
        }
    }
}

async fn send_to_endpoint(
    endpoint: &Endpoint,
    ready: &Result<(), CallFailure>,
    raws: &[RawTx],
    places: &[usize],
) -> Vec<EndpointAnswer> {
    let raws: Vec<&RawTx> = places.iter().filter_map(|at| raws.get(*at)).collect();
    let answers = match ready {
        Ok(()) => {
            let calls: Vec<Call> = raws.iter().map(|raw| endpoint.kind().send_call(raw)).collect();
            endpoint.batch(&calls).await
        }
        // The check of the chain id failed: nothing was sent.
        Err(failure) => return raws.iter().map(|_| not_ready(endpoint, failure)).collect(),
    };
    raws.iter().zip(answers).map(|(raw, answer)| read_answer(endpoint, raw, answer)).collect()
}

fn not_ready(endpoint: &Endpoint, failure: &CallFailure) -> EndpointAnswer {
    let class = match failure {
        CallFailure::WrongChain { .. } => SendClass::Misconfigured,
        CallFailure::Node(_)
        | CallFailure::Unreachable(_)
        | CallFailure::TimedOut
        | CallFailure::Broken(_)
        | CallFailure::RateLimited { .. }
        | CallFailure::Status { .. }
        | CallFailure::NotJsonRpc
        | CallFailure::TooLong
        | CallFailure::BatchRefused(_)
        | CallFailure::Alone(_)
        | CallFailure::Again { .. }
        | CallFailure::Unanswered
        | CallFailure::NotAsked
        | CallFailure::Malformed(_) => SendClass::Retry,
    };
    let words = format!("{}: {failure}", endpoint.host());
    EndpointAnswer { host: endpoint.host().to_owned(), answer: SendAnswer::new(class, &words), reached: false }
}

fn read_answer(endpoint: &Endpoint, raw: &RawTx, answer: Answer) -> EndpointAnswer {
    let (answer, reached) = match answer {
        Ok(result) if endpoint.kind().taken(&result) == Some(raw.hash) => {
            (SendAnswer::new(SendClass::Accepted, ""), true)
        }
        Ok(result) => (another_hash(&result), true),
        Err(CallFailure::Node(error)) => {
            let failure = CallFailure::Node(error.clone());
            let class = classify(error.code, &error.message);
            (SendAnswer::new(class, &error.message), !failure.is_rate_limit())
        }
        Err(failure) => {
            let reached = failure.happened() != Happened::No;
            let class = if reached { SendClass::Unknown } else { SendClass::Retry };
            let error: &dyn Error = &failure;
            tracing::warn!(host = endpoint.host(), tx_hash = %raw.hash, error, "a send got no answer");
            (SendAnswer::new(class, &format!("{}: {failure}", endpoint.host())), reached)
        }
    };
    tracing::debug!(
        host = endpoint.host(),
        tx_hash = %raw.hash,
        class = ?answer.class,
        words = answer.message,
        "a node answered a send"
    );
    EndpointAnswer { host: endpoint.host().to_owned(), answer, reached }
}

/// The answer to a send if the node returned another hash than ours.
pub(crate) fn another_hash(result: &Value) -> SendAnswer {
    let words = format!("the node returned another hash: {}", result.as_str().unwrap_or("not a text"));
    SendAnswer::new(SendClass::Unknown, &words)
}

fn combine<'a>(heard: impl Iterator<Item = &'a EndpointAnswer> + Clone) -> SendAnswer {
    let best = heard.min_by_key(|heard| (Reverse(heard.reached), rank(heard.answer.class), heard.answer.class));
    best.map_or_else(
        || SendAnswer::new(SendClass::Retry, "every endpoint limits our rate at the moment"),
        |heard| heard.answer.clone(),
    )
}

/// Position in the order that the module describes.
fn rank(class: SendClass) -> u8 {
    match class {
        SendClass::Accepted => 0,
        SendClass::AlreadyKnown => 1,
        SendClass::NonceTooLow => 2,
        SendClass::Underpriced(_) => 3,
        SendClass::Funds => 4,
        SendClass::Unknown => 5,
        SendClass::Retry => 6,
        SendClass::Misconfigured => 7,
        SendClass::Refused => 8,
    }
}

#[cfg(test)]
mod tests {
    use signpost_txmgr::units::Wei;

    use super::*;

    fn combined(classes: &[(SendClass, bool)]) -> SendClass {
        let heard: Vec<EndpointAnswer> = classes
            .iter()
            .map(|(class, reached)| EndpointAnswer {
                host: String::new(),
                answer: SendAnswer::new(*class, ""),
                reached: *reached,
            })
            .collect();
        combine(heard.iter()).class
    }

    #[test]
    fn one_accepting_endpoint_is_enough() {
        for other in [SendClass::Refused, SendClass::Misconfigured, SendClass::Unknown, SendClass::NonceTooLow] {
            assert_eq!(combined(&[(other, true), (SendClass::Accepted, true)]), SendClass::Accepted);
            assert_eq!(combined(&[(other, true), (SendClass::AlreadyKnown, true)]), SendClass::AlreadyKnown);
        }
    }

    #[test]
    fn refusal_counts_only_if_all_reached_endpoints_refuse() {
        assert_eq!(combined(&[(SendClass::Refused, true), (SendClass::Unknown, true)]), SendClass::Unknown);
        assert_eq!(combined(&[(SendClass::Refused, true), (SendClass::Retry, true)]), SendClass::Retry);
        assert_eq!(combined(&[(SendClass::Refused, true), (SendClass::Funds, true)]), SendClass::Funds);
        assert_eq!(combined(&[(SendClass::Refused, true), (SendClass::Refused, true)]), SendClass::Refused);
        assert_eq!(combined(&[(SendClass::Refused, true), (SendClass::Retry, false)]), SendClass::Refused);
        assert_eq!(combined(&[(SendClass::Refused, true), (SendClass::Misconfigured, true)]), SendClass::Misconfigured);
    }

    #[test]
    fn lowest_price_named_is_used() {
        let (low, high) = (Some(Wei::from(5)), Some(Wei::from(9)));
        let classes = [(SendClass::Underpriced(high), true), (SendClass::Underpriced(low), true)];
        assert_eq!(combined(&classes), SendClass::Underpriced(low));
    }

    #[test]
    fn sent_transactions_are_remembered_within_a_bound() {
        let sent = SentOnce::default();
        let hash = |at: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&at.to_be_bytes());
            TxHash(bytes)
        };
        for at in 0..SentOnce::GENERATION * 3 {
            assert!(!sent.note(hash(at)), "{at}");
            assert!(sent.note(hash(at)) && sent.note(hash(at.saturating_sub(SentOnce::GENERATION / 2))), "{at}");
            assert!(sent.0.lock().unwrap().iter().all(|generation| generation.len() <= SentOnce::GENERATION));
        }
    }

    #[test]
    fn no_endpoint_to_send_to_is_a_retry() {
        assert_eq!(combined(&[]), SendClass::Retry);
    }
}
