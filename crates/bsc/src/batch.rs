//! Several calls in as few requests as an endpoint takes.
//!
//! Some endpoints take no batches, some only small ones, and each says so in its own way: with a status, a page,
//! an error, an error per call, answers to nobody's question, or half of the answers. So no words decide. **A
//! batch that failed as a whole, or whose calls all got the same error, is followed by its first call alone.**
//! * That fails twice: the endpoint failed. Three requests in all, however many calls there were.
//! * That is answered by the same error: it was an answer to each of the calls.
//! * Else it was the batch, and the rest goes again in halves, in the end one by one. Then a call that fails alone
//!   beside others that are answered costs itself only, and is asked once more at the end; a second one at once ends it.
//!
//! A rate limit, no connection and no answer in time are no such failures. What size works is remembered, and
//! doubled again after a while ([`crate::batch_size::BatchSize`]).
//!
//! ## Guarantees
//! * Where calls were not all answered by one request, [`crate::batch_size::BatchSize::items`] is below their number afterwards (but
//!   where their bytes were too many for one).
//! * A call that was in a failed batch is never said to have surely done nothing, unless the batch surely did not.
//!
//! Read next: [`crate::endpoints`].

use signpost_txmgr::ports::Happened;
use tokio::time::Instant;

use crate::answer::{Answer, Call, Failure, NodeError};
use crate::reply::says_the_same;
use crate::rpc::RpcClient;

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An answer for each call.
    Answered(Vec<Answer>),
    /// The same error for all calls: perhaps it is about there being several.
    OneError(Vec<Answer>, NodeError),
    /// None for any.
    Failed(Failure),
}

/// How far the calls are.
struct Progress {
    answers: Vec<Answer>,
    /// How the first batch with each call failed, if it may have taken effect.
    doubts: Vec<Option<Failure>>,
    /// A call was answered alone.
    alive: bool,
    /// The last one failed alone.
    lost: bool,
    /// There was more than one request.
    split: bool,
}

impl Progress {
    fn answered(&mut self, answers: Vec<Answer>) {
        self.alive |= answers.len() == 1;
        self.lost = false;
        self.answers.extend(answers);
    }

    /// A call failed alone, beside others that were answered; whether it is the first in a row.
    fn lost(&mut self, failure: &Failure) -> bool {
        let may_go_on = self.alive && !self.lost && failure.may_be_of_the_batch();
        if may_go_on {
            self.answers.push(Err(Failure::Alone(Box::new(failure.clone()))));
            self.lost = true;
        }
        may_go_on
    }

    /// The next `count` calls are asked again.
    fn doubt(&mut self, count: usize, failure: &Failure) {
        if failure.happened() != Happened::No {
            for doubt in self.doubts.iter_mut().skip(self.answers.len()).take(count) {
                doubt.get_or_insert_with(|| failure.clone());
            }
        }
    }

    /// What failed surely without effect now may have taken effect before.
    fn finish(self) -> Vec<Answer> {
        let told = |(answer, doubt): (Answer, Option<Failure>)| match (answer, doubt) {
            (Err(last), Some(first)) if last.happened() == Happened::No => {
                Err(Failure::Again { first: Box::new(first), last: Box::new(last) })
            }
            (answer, _) => answer,
        };
        self.answers.into_iter().zip(self.doubts).map(told).collect()
    }
}

impl RpcClient {
    /// Several calls, in as few requests as the limits allow, one after the other. Where the endpoint failed the
    /// rest is [`Failure::NotAsked`].
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
        progress.answers.resize_with(calls.len(), || Err(Failure::NotAsked));
        if progress.split {
            self.size.keep_below(calls.len(), Instant::now());
        }
        progress.finish()
    }

    /// A call that failed alone beside others that were answered is asked once more: half a view is none.
    async fn ask_lost_again(&self, calls: &[Call], progress: &mut Progress) {
        for ((call, answer), doubt) in calls.iter().zip(&mut progress.answers).zip(&mut progress.doubts) {
            let Err(Failure::Alone(lost)) = &*answer else { continue };
            let (Outcome::Answered(again) | Outcome::OneError(again, _)) =
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

    /// One request for some of the calls, and one for the first of them alone if that failed. Whether to go on.
    async fn step(&self, rest: &[Call], progress: &mut Progress) -> bool {
        let size = self.size.items();
        let (count, outcome) = self.ask(rest, size).await;
        // Not where the bytes were too many: the endpoint has no part in that.
        progress.split |= count == size && count < rest.len();
        let (failure, said) = match outcome {
            Outcome::Answered(answers) => {
                progress.answered(answers);
                return true;
            }
            Outcome::OneError(answers, error) => (Failure::BatchRefused(error.clone()), Some((answers, error))),
            Outcome::Failed(failure) => (failure, None),
        };
        // A call by itself is its caller's to repeat.
        if !failure.may_be_of_the_batch() || progress.doubts.len() == 1 {
            progress.answers.extend((0..count).map(|_| Err(failure.clone())));
            return false;
        }
        progress.doubt(count, &failure);
        let mut alone = self.ask(rest, 1).await.1;
        if let Outcome::Failed(again) = &alone
            && count > 1
            && again.may_be_of_the_batch()
        {
            progress.doubt(1, again);
            alone = self.ask(rest, 1).await.1;
        }
        match alone {
            Outcome::Answered(alone) | Outcome::OneError(alone, _) => {
                if let Some((answers, _)) = said.filter(|(_, error)| alone.iter().all(|it| says_the_same(it, error))) {
                    progress.answers.extend(alone.into_iter().chain(answers.into_iter().skip(1)));
                    return true;
                }
                progress.answered(alone);
                if count == 1 {
                    return true;
                }
            }
            Outcome::Failed(last) => {
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
        tracing::warn!(host = self.host(), items = count, %failure, "the endpoint takes no such batch, trying half");
        true
    }

    /// One request for as many of the calls as it holds, `size` at most; for how many it was.
    async fn ask(&self, calls: &[Call], size: usize) -> (usize, Outcome) {
        let (count, reply) = self.request(calls, size).await;
        let reply = match reply {
            Ok(reply) => reply,
            Err(failure) => return (count, Outcome::Failed(failure)),
        };
        if let Some(error) = reply.one_error_for(calls.get(..count).unwrap_or(calls)) {
            return (count, Outcome::OneError(reply.answers, error));
        }
        // As many as it answers are what it takes.
        if reply.items < count {
            self.size.lower(reply.items, Instant::now());
        }
        (count, Outcome::Answered(reply.answers))
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

    /// An endpoint that does `fault` to arrays of more than `most` calls.
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
    async fn whoever_looks_afterwards_sees_that_it_was_not_one_request() {
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
            // A part of the answers.
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
    async fn a_size_that_another_raised_meanwhile_is_lowered_again() {
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
