//! Handing signed transactions to the endpoints, and making one answer of several.
//!
//! Each endpoint gets the transactions in the order of their nonces, in batches where it takes them. Nothing that was
//! answered is repeated here: whoever asks sends again, and the same bytes do no harm.
//!
//! **To the first.** What it did not take goes on to the next endpoint at once, whatever it said or did not say, each
//! transaction by itself; what it took, or already has, is done. Also "nonce too low", "underpriced" and "funds" go
//! on: they are one node's view, and another's may be newer or cheaper. So where any endpoint takes it, that is the
//! answer, as if all had been asked; and where none does, all have been: one to the first and one to all differ in
//! what they cost.
//!
//! **Privacy.** Where there are private endpoints, a transaction goes to them. If the configuration allows
//! it, the public ones get it too: when it is sent again, since then the private way did not get it into
//! a block, and when no private endpoint was reached. What was sent before is remembered by the process,
//! not stored: another process begins with the private ones again.
//!
//! **Refusals.** One node's word that it will never take a transaction, or that we are misconfigured, is "retry", with
//! its words, until it is confirmed (`refusals.rs`). So is that an endpoint is of another chain.
//!
//! **One answer of several.** Endpoints that were surely not reached count only if none was reached. Of the
//! others the first in this order speaks for all: accepted, already known, nonce too low (someone saw
//! it used), underpriced (at the least price named), funds, unknown, retry, misconfigured, refused. So
//! a refusal is told only if every endpoint that was reached refuses, and none of them may have it.

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
use crate::rpc::{Answer, Call, Failure};

/// One endpoint's answer.
#[derive(Debug, Clone)]
struct Heard {
    host: String,
    answer: SendAnswer,
    /// The transaction got there, or may have.
    reached: bool,
}

/// Who may see a transaction before it is in a block.
#[derive(Debug)]
pub(crate) enum Privacy {
    /// There are no private endpoints.
    None,
    /// Only private endpoints.
    Always,
    /// Private endpoints the first time, all of them later.
    First(SentOnce),
}

/// The transactions that were sent before: at least the last [`SentOnce::GENERATION`] of them.
#[derive(Debug, Default)]
pub(crate) struct SentOnce(Mutex<[HashSet<TxHash>; 2]>);

impl SentOnce {
    /// More than all lanes of a process have open at once.
    const GENERATION: usize = 10_000;

    /// Notes a transaction; whether it was known.
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

/// One answer for each transaction.
pub(crate) async fn send_all(
    endpoints: &Endpoints,
    privacy: &Privacy,
    refusals: &Refusals,
    raws: &[RawTx],
) -> Vec<SendAnswer> {
    if raws.is_empty() {
        return Vec::new();
    }
    let mut heard: Vec<Vec<Heard>> = vec![Vec::new(); raws.len()];
    if !matches!(privacy, Privacy::None) {
        let all: Vec<usize> = (0..raws.len()).collect();
        hand_out(endpoints.send_to(), endpoints.to_send_privately(), raws, &all, &mut heard).await;
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
        hand_out(endpoints.send_to(), endpoints.to_send().await, raws, &public, &mut heard).await;
    }
    let now = Instant::now();
    for (raw, heard) in raws.iter().zip(&mut heard) {
        weigh(refusals, raw.hash, heard, now);
    }
    heard.iter().map(|heard| combine(heard.iter())).collect()
}

fn is_taken(class: SendClass) -> bool {
    matches!(class, SendClass::Accepted | SendClass::AlreadyKnown)
}

fn is_refusal(class: SendClass) -> bool {
    matches!(class, SendClass::Refused | SendClass::Misconfigured)
}

/// Makes a refusal that nobody confirms yet a matter of the way there.
fn weigh(refusals: &Refusals, hash: TxHash, heard: &mut [Heard], now: Instant) {
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
        tracing::warn!(host, tx_hash = %hash, words, "a node refuses a transaction; no other says so yet");
        refusal.answer = SendAnswer::new(SendClass::Retry, &format!("{host} alone refuses it: {words}"));
    }
}

/// Hands the transactions at these places to the targets, and notes what each target said of each.
async fn hand_out(
    send_to: SendTo,
    targets: Vec<(&Endpoint, Result<(), Failure>)>,
    raws: &[RawTx],
    places: &[usize],
    heard: &mut [Vec<Heard>],
) {
    match send_to {
        SendTo::All => {
            let asked = targets.iter().map(|(endpoint, ready)| hand_over(endpoint, ready, raws, places));
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
                let answers = hand_over(endpoint, ready, raws, &open).await;
                let mut taken =
                    answers.iter().map(|heard| is_taken(heard.answer.class)).collect::<Vec<_>>().into_iter();
                note(&open, answers, heard);
                open.retain(|_| !taken.next().unwrap_or(false));
            }
        }
    }
}

fn note(places: &[usize], answers: Vec<Heard>, heard: &mut [Vec<Heard>]) {
    for (at, answer) in places.iter().zip(answers) {
        if let Some(heard) = heard.get_mut(*at) {
            heard.push(answer);
        }
    }
}

async fn hand_over(endpoint: &Endpoint, ready: &Result<(), Failure>, raws: &[RawTx], places: &[usize]) -> Vec<Heard> {
    let raws: Vec<&RawTx> = places.iter().filter_map(|at| raws.get(*at)).collect();
    let answers = match ready {
        Ok(()) => {
            let calls: Vec<Call> = raws.iter().map(|raw| endpoint.kind().send_call(raw)).collect();
            endpoint.batch(&calls).await
        }
        // Asking for the chain id failed: nothing was sent.
        Err(failure) => return raws.iter().map(|_| not_ready(endpoint, failure)).collect(),
    };
    raws.iter().zip(answers).map(|(raw, answer)| hear(endpoint, raw, answer)).collect()
}

fn not_ready(endpoint: &Endpoint, failure: &Failure) -> Heard {
    let class = match failure {
        Failure::WrongChain { .. } => SendClass::Misconfigured,
        Failure::Node(_)
        | Failure::Unreachable(_)
        | Failure::TimedOut
        | Failure::Broken(_)
        | Failure::RateLimited { .. }
        | Failure::Status { .. }
        | Failure::NotJsonRpc
        | Failure::TooLong
        | Failure::BatchRefused(_)
        | Failure::Alone(_)
        | Failure::Again { .. }
        | Failure::Unanswered
        | Failure::NotAsked
        | Failure::Nonsense(_) => SendClass::Retry,
    };
    let words = format!("{}: {failure}", endpoint.host());
    Heard { host: endpoint.host().to_owned(), answer: SendAnswer::new(class, &words), reached: false }
}

fn hear(endpoint: &Endpoint, raw: &RawTx, answer: Answer) -> Heard {
    let (answer, reached) = match answer {
        Ok(result) if endpoint.kind().taken(&result) == Some(raw.hash) => {
            (SendAnswer::new(SendClass::Accepted, ""), true)
        }
        Ok(result) => (another_hash(&result), true),
        Err(Failure::Node(error)) => {
            let failure = Failure::Node(error.clone());
            let class = classify(error.code, &error.message);
            (SendAnswer::new(class, &error.message), !failure.is_rate_limit())
        }
        Err(failure) => {
            let reached = failure.happened() != Happened::No;
            let class = if reached { SendClass::Unknown } else { SendClass::Retry };
            let error: &dyn Error = &failure;
            tracing::warn!(host = endpoint.host(), tx_hash = %raw.hash, error, "a send without an answer");
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
    Heard { host: endpoint.host().to_owned(), answer, reached }
}

/// The node took something else than what we handed over, or says so.
pub(crate) fn another_hash(result: &Value) -> SendAnswer {
    let words = format!("the node returned another hash: {}", result.as_str().unwrap_or("not a text"));
    SendAnswer::new(SendClass::Unknown, &words)
}

fn combine<'a>(heard: impl Iterator<Item = &'a Heard> + Clone) -> SendAnswer {
    let best = heard.min_by_key(|heard| (Reverse(heard.reached), rank(heard.answer.class), heard.answer.class));
    best.map_or_else(
        || SendAnswer::new(SendClass::Retry, "every endpoint limits our rate at the moment"),
        |heard| heard.answer.clone(),
    )
}

/// Place in the order of the module's description.
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
        let heard: Vec<Heard> = classes
            .iter()
            .map(|(class, reached)| Heard {
                host: String::new(),
                answer: SendAnswer::new(*class, ""),
                reached: *reached,
            })
            .collect();
        combine(heard.iter()).class
    }

    #[test]
    fn one_endpoint_that_took_it_is_enough() {
        for other in [SendClass::Refused, SendClass::Misconfigured, SendClass::Unknown, SendClass::NonceTooLow] {
            assert_eq!(combined(&[(other, true), (SendClass::Accepted, true)]), SendClass::Accepted);
            assert_eq!(combined(&[(other, true), (SendClass::AlreadyKnown, true)]), SendClass::AlreadyKnown);
        }
    }

    #[test]
    fn a_refusal_counts_only_if_all_that_were_reached_refuse() {
        assert_eq!(combined(&[(SendClass::Refused, true), (SendClass::Unknown, true)]), SendClass::Unknown);
        assert_eq!(combined(&[(SendClass::Refused, true), (SendClass::Retry, true)]), SendClass::Retry);
        assert_eq!(combined(&[(SendClass::Refused, true), (SendClass::Funds, true)]), SendClass::Funds);
        assert_eq!(combined(&[(SendClass::Refused, true), (SendClass::Refused, true)]), SendClass::Refused);
        assert_eq!(combined(&[(SendClass::Refused, true), (SendClass::Retry, false)]), SendClass::Refused);
        assert_eq!(combined(&[(SendClass::Refused, true), (SendClass::Misconfigured, true)]), SendClass::Misconfigured);
    }

    #[test]
    fn the_least_price_named_speaks_for_all() {
        let (low, high) = (Some(Wei::from(5)), Some(Wei::from(9)));
        let classes = [(SendClass::Underpriced(high), true), (SendClass::Underpriced(low), true)];
        assert_eq!(combined(&classes), SendClass::Underpriced(low));
    }

    #[test]
    fn what_was_sent_is_remembered_for_a_while() {
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
    fn nobody_to_send_to_is_a_retry() {
        assert_eq!(combined(&[]), SendClass::Retry);
    }
}
