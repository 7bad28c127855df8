//! Several calls in as few requests as an endpoint accepts.
//!
//! Some endpoints accept no batches, some only small ones, and they refuse in different ways: with a status, an HTML
//! page, one error, an error per call, answers with foreign ids, or half of the answers. So error texts do not decide.
//! **When a batch fails as a whole, or all its calls get the same error, its first call is sent again alone.**
//! * If the single call fails twice, the endpoint failed. This costs three requests, whatever the number of calls.
//! * If the single call gets the same error, the error was the answer to each of the calls.
//! * Otherwise the batch was the cause, and the rest is sent again in halves, finally one by one. From then on a single
//!   call that fails between answered ones fails alone, and is repeated once at the end. Two such failures in a row
//!   end the batch.
//!
//! A rate limit, a failed connection and a timeout do not count as failures of the batch. The size that works is
//! remembered, and doubled again after a while ([`crate::batch_size::BatchSize`]).
//!
//! ## Guarantees
//! * If one request did not answer all calls, [`crate::batch_size::BatchSize::items`] is below their number afterwards
//!   (except when their bytes were too many for one request).
//! * A call that was in a failed batch is reported as [`Happened::No`] only if the batch surely had no effect.
//!
//! Read next: [`crate::endpoints`].

use signpost_txmgr::ports::Happened;
use tokio::time::Instant;

use crate::answer::{Answer, Call, CallFailure, NodeError};
use crate::reply::says_the_same;
use crate::rpc::RpcClient;

/// The outcome of one request.
#[derive(Debug)]
pub(crate) enum RequestOutcome {
    /// An answer for each call.
    Answered(Vec<Answer>),
    /// The same error for all calls: perhaps it is about the batch.
    OneError(Vec<Answer>, NodeError),
    /// No answer for any call.
    Failed(CallFailure),
}

/// The answers so far and the state of the fallback to smaller batches.
struct Progress {
    answers: Vec<Answer>,
    /// For each call, how the first batch with it failed, if that batch may have taken effect.
    doubts: Vec<Option<CallFailure>>,
    /// At least one call was answered alone.
    alive: bool,
    /// The latest single call failed.
    lost: bool,
    /// More than one request was needed.
    split: bool,
}

impl Progress {
    fn answered(&mut self, answers: Vec<Answer>) {
        self.alive |= answers.len() == 1;
        self.lost = false;
        self.answers.extend(answers);
    }

    /// A call failed alone, between others that were answered. Returns whether to continue: it is the first in a row.
    fn lost(&mut self, failure: &CallFailure) -> bool {
        let may_continue = self.alive && !self.lost && failure.may_be_of_the_batch();
        if may_continue {
            self.answers.push(Err(CallFailure::Alone(Box::new(failure.clone()))));
            self.lost = true;
        }
        may_continue
    }

    /// The next `count` calls will be repeated: notes the failure if they may have taken effect.
    fn doubt(&mut self, count: usize, failure: &CallFailure) {
        if failure.happened() != Happened::No {
            for doubt in self.doubts.iter_mut().skip(self.answers.len()).take(count) {
                doubt.get_or_insert_with(|| failure.clone());
            }
        }
    }

    /// A repeated call that surely had no effect may have had one in its first batch.
    fn finish(self) -> Vec<Answer> {
        let with_doubt = |(answer, doubt): (Answer, Option<CallFailure>)| match (answer, doubt) {
            (Err(last), Some(first)) if last.happened() == Happened::No => {
                Err(CallFailure::Again { first: Box::new(first), last: Box::new(last) })
            }
            (answer, _) => answer,
        };
        self.answers.into_iter().zip(self.doubts).map(with_doubt).collect()
    }
}

impl RpcClient {
    /// Makes several calls, in as few requests as the limits allow, one request after the other. If the endpoint
    /// fails, the rest is [`CallFailure::NotAsked`].
    pub(crate) async fn batch(&self, calls: &[Call]) -> Vec<Answer> {
        self.size.raise(Instant::now());
        let doubts = vec![None; calls.len()];
        let mut progress = Progress { answers: Vec::new(), doubts, alive: false, lost: false, split: false };
        while let Some(rest) = calls.get(progress.answers.len()..).filter(|rest| !rest.is_empty()) {
            if !self.step(rest, &mut progress).await {
                break;
            }
        }
        if progress.answers.len() == calls.len() && !progress.lost {
            self.ask_lost_again(calls, &mut progress).await;
        }
        progress.answers.resize_with(calls.len(), || Err(CallFailure::NotAsked));
        if progress.split {
            self.size.keep_below(calls.len(), Instant::now());
        }
        progress.finish()
    }

    /// Repeats each call that failed alone once more: a view with a gap is useless.
    async fn ask_lost_again(&self, calls: &[Call], progress: &mut Progress) {
        for ((call, answer), doubt) in calls.iter().zip(&mut progress.answers).zip(&mut progress.doubts) {
            let Err(CallFailure::Alone(lost)) = &*answer else { continue };
            let (RequestOutcome::Answered(again) | RequestOutcome::OneError(again, _)) =
                self.ask(std::slice::from_ref(call), 1).await.1
            else {
                return;
            };
            if lost.happened() != Happened::No {
                doubt.get_or_insert_with(|| (**lost).clone());
            }
            if let Some(again) = again.into_iter().next() {
                *answer = again;
            }
        }
    }

    /// Sends one request for some of the calls, and their first call alone if that fails. Returns whether to continue.
    async fn step(&self, rest: &[Call], progress: &mut Progress) -> bool {
        let size = self.size.items();
        let (count, outcome) = self.ask(rest, size).await;
        // Not if the bytes were too many: that is our own limit, not the endpoint's.
        progress.split |= count == size && count < rest.len();
        let (failure, said) = match outcome {
            RequestOutcome::Answered(answers) => {
                progress.answered(answers);
                return true;
            }
            RequestOutcome::OneError(answers, error) => {
                (CallFailure::BatchRefused(error.clone()), Some((answers, error)))
            }
            RequestOutcome::Failed(failure) => (failure, None),
        };
        // A single call is repeated by its caller.
        if !failure.may_be_of_the_batch() || progress.doubts.len() == 1 {
            progress.answers.extend((0..count).map(|_| Err(failure.clone())));
            return false;
        }
        progress.doubt(count, &failure);
        let mut alone = self.ask(rest, 1).await.1;
        if let RequestOutcome::Failed(again) = &alone
            && count > 1
            && again.may_be_of_the_batch()
        {
            progress.doubt(1, again);
            alone = self.ask(rest, 1).await.1;
        }
        match alone {
            RequestOutcome::Answered(alone) | RequestOutcome::OneError(alone, _) => {
                if let Some((answers, _)) = said.filter(|(_, error)| alone.iter().all(|it| says_the_same(it, error))) {
                    progress.answers.extend(alone.into_iter().chain(answers.into_iter().skip(1)));
                    return true;
                }
                progress.answered(alone);
                if count == 1 {
                    return true;
                }
            }
            RequestOutcome::Failed(last) => {
                if !progress.lost(&last) {
                    progress.answers.push(Err(last));
                    progress.answers.extend((1..count).map(|_| Err(failure.clone())));
                    return false;
                }
                if count == 1 {
                    return true;
                }
            }
        }
        progress.split = true;
        self.size.lower(count.div_euclid(2), Instant::now());
        tracing::warn!(host = self.host(), items = count, %failure, "the endpoint refuses such batches, trying half");
        true
    }

    /// Sends one request with at most `size` of the calls. Returns how many it held.
    async fn ask(&self, calls: &[Call], size: usize) -> (usize, RequestOutcome) {
        let (count, reply) = self.request(calls, size).await;
        let reply = match reply {
            Ok(reply) => reply,
            Err(failure) => return (count, RequestOutcome::Failed(failure)),
        };
        if let Some(error) = reply.one_error_for(calls.get(..count).unwrap_or(calls)) {
            return (count, RequestOutcome::OneError(reply.answers, error));
        }
        // The number of answers is the size that the endpoint accepts.
        if reply.items < count {
            self.size.lower(reply.items, Instant::now());
        }
        (count, RequestOutcome::Answered(reply.answers))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Bytes;
    use axum::http::StatusCode;
    use serde_json::{Value, json};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A status and a body.
    type Fault = fn(&[Value]) -> (u16, String);

    /// An endpoint that answers arrays of more than `most` calls with `fault`.
    async fn endpoint(most: usize, fault: Fault) -> RpcClient {
        let answer = |item: &Value| json!({"id": item["id"], "result": item["params"]});
        let handler = axum::routing::post(move |body: Bytes| async move {
            let body: Value = serde_json::from_slice(&body).unwrap();
            let (status, body) = match body.as_array() {
                Some(items) if items.len() > most => fault(items),
                Some(items) => (200, items.iter().map(answer).collect::<Value>().to_string()),
                None => (200, answer(&body).to_string()),
            };
            (StatusCode::from_u16(status).unwrap(), body)
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/", handler)).await });
        RpcClient::new(&url, Duration::from_secs(5), 20).unwrap()
    }

    #[tokio::test]
    async fn size_is_below_call_count_after_split_batch() {
        let faults: [Fault; 5] = [
            |_| (500, json!({"error": {"code": 31, "message": "three at most"}}).to_string()),
            |_| (413, String::new()),
            |items| {
                (
                    200,
                    items.iter().map(|it| json!({"id": it["id"], "error": {"code": 1}})).collect::<Value>().to_string(),
                )
            },
            |_| (200, "[]".to_owned()),
            // Some of the answers.
            |items| (200, json!([{"id": items[0]["id"], "result": items[0]["params"]}]).to_string()),
        ];
        for fault in faults {
            for count in 2..=20_u8 {
                let client = endpoint(3.min(usize::from(count) - 1), fault).await;
                let calls: Vec<Call> = (0..count).map(|at| Call::new("eth_call", json!([at]))).collect();
                let answers = client.batch(&calls).await;
                assert!(client.size.items() < calls.len(), "{count}");
                for (answer, call) in answers.iter().zip(&calls).filter(|(answer, _)| answer.is_ok()) {
                    assert_eq!(answer.as_ref().unwrap(), &call.params, "each its own");
                }
            }
        }
    }

    #[tokio::test]
    async fn size_raised_by_concurrent_batch_is_lowered_again() {
        let client = endpoint(20, |_| (500, String::new())).await;
        let calls: Vec<Call> = (0..8).map(|at| Call::new("eth_call", json!([at]))).collect();
        client.size.lower(4, Instant::now());
        let doubts = vec![None; calls.len()];
        let mut progress = Progress { answers: Vec::new(), doubts, alive: false, lost: false, split: false };
        assert!(client.step(&calls, &mut progress).await && progress.split);
        client.size.raise(Instant::now() + SECOND * 10);
        assert_eq!(client.size.items(), 8);
        client.size.keep_below(calls.len(), Instant::now());
        assert_eq!(client.size.items(), 7);
        // One request leaves the size as it is.
        client.batch(&calls[..7]).await;
        assert_eq!(client.size.items(), 7);
    }
}
