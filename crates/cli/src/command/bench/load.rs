//! Sends the requests of a benchmark, and follows them to their outcomes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use signpost_client::{Body, Client, NotSent};
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::units::RequestId;
use signpost_txmgr::wire::RequestStatus;
use tokio::task::JoinSet;

use crate::clock::{self, Stopwatch};
use crate::command::{CommandError, Session};
use crate::ports;

/// The pause between two checks of what is due.
const TICK: Duration = Duration::from_millis(10);
/// The pause between two reads of requests that callers wait for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The pause between two reads of open requests after everything is sent: long, so that reads are no load.
const LOOK_AFTER: Duration = Duration::from_millis(500);
/// Bytes of calldata cost 40 gas at most (EIP-7623), and the call itself 21,000.
const GAS_OF_A_CALL: usize = 21_000;
const GAS_OF_A_BYTE: usize = 40;

/// How requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Load {
    /// At a fixed rate, independent of outcomes.
    Open {
        /// Requests per second.
        per_second: f64,
    },
    /// By callers that each wait for an outcome before the next request.
    Closed {
        /// The number of callers.
        clients: usize,
    },
}

/// The contents of the requests.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) to: String,
    pub(super) accounts: Vec<String>,
    pub(super) data_bytes: Vec<usize>,
}

/// The requests that were sent, and their status.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// When each request was sent, in Unix milliseconds, by id.
    pub(super) at: BTreeMap<String, u64>,
    /// The status of the requests that ended.
    pub(super) closed: BTreeMap<String, RequestStatus>,
    /// Errors of requests that SQS did not accept.
    pub(super) errors: Vec<String>,
    open: BTreeSet<String>,
}

impl Payload {
    fn body(&self, run: u64, number: usize) -> (String, String) {
        let in_turn = |count: usize| number.checked_rem(count).unwrap_or(0);
        let account = self.accounts.get(in_turn(self.accounts.len())).cloned().unwrap_or_default();
        let bytes = self.data_bytes.get(in_turn(self.data_bytes.len())).copied().unwrap_or(0);
        let id = format!("bench-{run}-{number}");
        let gas = bytes.saturating_mul(GAS_OF_A_BYTE).saturating_add(GAS_OF_A_CALL);
        let data = format!("0x{}", "11".repeat(bytes));
        let body =
            json!({ "requestId": id, "account": account, "to": self.to, "value": "1", "data": data, "gas": gas });
        (id, body.to_string())
    }
}

impl Load {
    /// Sends all requests. In a closed loop this returns when all are sent, before the last outcomes.
    pub(super) async fn run(
        self,
        session: &Session,
        payload: &Payload,
        count: usize,
        sent: &mut Sent,
    ) -> Result<(), CommandError> {
        let run = clock::now_ms();
        let (client, watch) = (ports::client(session), Stopwatch::start());
        let mut next = 0_usize;
        let mut sending: JoinSet<Result<Vec<String>, CommandError>> = JoinSet::new();
        while next < count {
            let due = match self {
                Self::Open { per_second } => due(per_second, watch.elapsed()).min(count),
                Self::Closed { clients } => next.saturating_add(clients.saturating_sub(sent.open.len())).min(count),
            };
            let mut by_account: BTreeMap<usize, Vec<String>> = BTreeMap::new();
            for number in next..due {
                let (id, body) = payload.body(run, number);
                sent.at.insert(id.clone(), clock::now_ms());
                sent.open.insert(id);
                let group = number.checked_rem(payload.accounts.len()).unwrap_or(0);
                by_account.entry(group).or_default().push(body);
            }
            next = due.max(next);
            for bodies in by_account.into_values() {
                let bodies = bodies.into_iter().map(Body::unchecked).collect();
                sending.spawn(send_all(client.clone(), bodies));
            }
            while let Some(done) = sending.try_join_next() {
                sent.errors.extend(joined(done)?);
            }
            match self {
                Self::Open { .. } => tokio::time::sleep(TICK).await,
                Self::Closed { .. } => {
                    tokio::time::sleep(LOOK_EVERY).await;
                    sent.look(session).await?;
                }
            }
        }
        while let Some(done) = sending.join_next().await {
            sent.errors.extend(joined(done)?);
        }
        Ok(())
    }
}

fn joined(
    done: Result<Result<Vec<String>, CommandError>, tokio::task::JoinError>,
) -> Result<Vec<String>, CommandError> {
    done.map_err(|error| CommandError::Input(format!("a sending task failed: {error}")))?
}

/// The number of requests that are due after `elapsed`; the first is due at once.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of requests is small and not negative"
)]
fn due(per_second: f64, elapsed: Duration) -> usize {
    ((per_second * elapsed.as_secs_f64()) as usize).saturating_add(1)
}

async fn send_all(client: Client, bodies: Vec<Body>) -> Result<Vec<String>, CommandError> {
    let (mut errors, sent) = (Vec::new(), client.send_all(&bodies).await);
    for error in sent.into_iter().filter_map(Result::err) {
        match error {
            NotSent::Refused { .. } | NotSent::Unanswered => errors.push(error.to_string()),
            NotSent::Call(_) | NotSent::NotTried => return Err(error.into()),
        }
    }
    Ok(errors)
}

impl Sent {
    /// Waits until the outcome of every sent request is published.
    pub(super) async fn until_closed(&mut self, session: &Session) -> Result<(), CommandError> {
        while !self.open.is_empty() {
            tokio::time::sleep(LOOK_AFTER).await;
            self.look(session).await?;
        }
        Ok(())
    }

    /// Reads the status of the open requests.
    async fn look(&mut self, session: &Session) -> Result<(), CommandError> {
        let ids: Vec<RequestId> = self.open.iter().filter_map(|id| id.parse().ok()).collect();
        for stored in ports::store(session).load(&ids, clock::now()).await? {
            let status = RequestStatus::of(&stored);
            if status.published_at.is_some() {
                self.open.remove(&status.request_id);
                self.closed.insert(status.request_id.clone(), status);
            }
        }
        Ok(())
    }

    /// The number of requests without an outcome.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_loop_sends_at_its_rate_from_the_start() {
        assert_eq!(due(40.0, Duration::ZERO), 1);
        assert_eq!(due(40.0, Duration::from_millis(25)), 2);
        assert_eq!(due(0.5, Duration::from_secs(10)), 6);
    }

    #[test]
    fn accounts_and_payloads_take_turns() {
        let payload = Payload { to: "0xaa".into(), accounts: vec!["a".into(), "b".into()], data_bytes: vec![0, 4] };
        let (id, body) = payload.body(7, 3);
        assert_eq!(id, "bench-7-3");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((body["account"].as_str(), body["data"].as_str()), (Some("b"), Some("0x11111111")));
        assert_eq!(body["gas"], 21_160);
    }
}
