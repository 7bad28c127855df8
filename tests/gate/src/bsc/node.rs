//! One listener of the gate: HTTP and JSON-RPC as a BSC node (or the provider in front of one) does
//! them, single calls and batches, with the faults of its own script.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use signpost_txmgr::units::U256;

use super::chain::{Chain, Then};
use super::fault::{BscFault, Level, USUAL_LAG, USUAL_SLOWNESS_MS, error_of, http_answer};
use super::rules::raw_argument;
use super::upstream::Failure;
use super::view::{Lag, asks_finality};
use super::words::Refusal;
use crate::control::{Control, PREFIX, json_answer, problem};
use crate::http::{Line, respond, wait};
use crate::script::Rule;

/// Bytes of a request's body, as BSC limits them.
const MAX_BODY_BYTES: usize = 5_242_880;
/// Calls of a batch, as BSC limits them.
const MAX_BATCH: usize = 1_000;

/// One node of the gate.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) chain: Arc<Chain>,
    pub(crate) control: Control<BscFault>,
}

/// One call.
#[derive(Debug, Clone)]
struct Call {
    id: Value,
    method: String,
    params: Value,
}

/// The node behind does not answer.
#[derive(Debug)]
struct Down(String);

/// Answers one HTTP request.
pub(crate) async fn handle(
    State(node): State<Arc<Node>>,
    ConnectInfo(line): ConnectInfo<Line>,
    request: Request,
) -> Response {
    if line.is_stopped() {
        return line.cut();
    }
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        let text = format!("content length too large (>{MAX_BODY_BYTES})\n");
        return respond(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", text);
    };
    let path = head.uri.path();
    if path == "/_gate/chain" {
        return node.chain_control(&head.method, &body).await;
    }
    if path.starts_with(PREFIX) {
        return node.control.answer(&head.method, path, &body);
    }
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return json_answer(StatusCode::BAD_REQUEST, &failed(&Value::Null, &invalid(-32700, "parse error")));
    };
    let Value::Array(calls) = request else {
        return node.serve(line, vec![Call::read(request)], false).await;
    };
    if calls.is_empty() {
        return json_answer(StatusCode::OK, &failed(&Value::Null, &invalid(-32600, "empty batch")));
    }
    if calls.len() > MAX_BATCH {
        let refused = failed(&calls[0]["id"], &invalid(-32600, "batch too large"));
        return json_answer(StatusCode::OK, &json!([refused]));
    }
    node.serve(line, calls.into_iter().map(Call::read).collect(), true).await
}

impl Call {
    fn read(mut call: Value) -> Self {
        let mut take = |name: &str| call.get_mut(name).map(Value::take).unwrap_or_default();
        let params = take("params");
        Self {
            id: take("id"),
            method: take("method").as_str().unwrap_or_default().to_owned(),
            params: if params.is_null() { json!([]) } else { params },
        }
    }
}

impl Node {
    /// The calls of one request, with what befalls the request as a whole.
    async fn serve(self: Arc<Self>, line: Line, calls: Vec<Call>, batch: bool) -> Response {
        for call in &calls {
            self.control.tally.call(&call.method);
        }
        let methods: Vec<_> = calls.iter().map(|call| call.method.clone()).collect();
        let methods = methods.iter().map(String::as_str);
        let rule = self.control.fires(|fault| fault.level() == Level::Request, &methods);
        let befalls = |fault: BscFault| rule.as_ref().filter(|rule| rule.fault == fault);
        if let Some(response) = rule.as_ref().and_then(http_answer) {
            return response;
        }
        if let Some(rule) = befalls(BscFault::TimeoutBeforeForward) {
            return line.hang(rule.delay_ms).await;
        }
        if befalls(BscFault::ResetBeforeForward).is_some() {
            return line.cut();
        }
        if let Some(rule) = befalls(BscFault::Slow) {
            wait(rule.delay_ms.unwrap_or(USUAL_SLOWNESS_MS)).await;
        }
        // A caller that goes away undoes nothing, so what was begun is ended.
        let node = self.clone();
        let answers = tokio::spawn(async move { node.answers(calls).await });
        let mut answers = match answers.await {
            Ok(Ok(answers)) => answers,
            Ok(Err(Down(reason))) => return respond(StatusCode::BAD_GATEWAY, "text/plain", reason),
            Err(_) => return line.cut(),
        };
        if let Some(rule) = befalls(BscFault::TimeoutAfterForward) {
            return line.hang(rule.delay_ms).await;
        }
        if befalls(BscFault::ResetAfterForward).is_some() {
            return line.cut();
        }
        if !batch {
            return json_answer(StatusCode::OK, &answers.pop().unwrap_or_default());
        }
        if answers.len() > 1
            && let Some(rule) = self.control.fires(|fault| fault.level() == Level::Batch, &methods)
        {
            if rule.fault == BscFault::DuplicateAnswers {
                answers.extend(answers.clone());
            } else {
                answers.reverse();
            }
        }
        json_answer(StatusCode::OK, &Value::Array(answers))
    }

    async fn answers(&self, calls: Vec<Call>) -> Result<Vec<Value>, Down> {
        let mut answers = Vec::with_capacity(calls.len());
        for call in calls {
            let (id, method) = (call.id.clone(), call.method.clone());
            answers.push(match self.answer(call).await? {
                Ok(result) => {
                    self.control.tally.succeeded(&method);
                    json!({ "jsonrpc": "2.0", "id": id, "result": result })
                }
                Err(error) => failed(&id, &error),
            });
        }
        Ok(answers)
    }

    /// One call, with what befalls it: a result or an `error`.
    async fn answer(&self, call: Call) -> Result<Result<Value, Value>, Down> {
        let finality = asks_finality(&call.method, &call.params);
        let asked = |fault: BscFault| fault.level() == Level::Call && (fault != BscFault::FinalizedBack || finality);
        let rule = self.control.fires(asked, &[call.method.as_str()]);
        let (lag, then) = match &rule {
            None => (Lag::None, Then::Take),
            Some(rule) if rule.fault == BscFault::Stale => (Lag::Behind(lag_of(rule)), Then::Take),
            Some(rule) if rule.fault == BscFault::FinalizedBack => (Lag::Finality(lag_of(rule)), Then::Take),
            Some(rule) if rule.fault == BscFault::SilentDrop => (Lag::None, Then::Pretend),
            Some(rule) if rule.fault == BscFault::NullReceipts => return Ok(Ok(Value::Null)),
            Some(rule) if rule.fault == BscFault::Indexing => return Ok(Err(Refusal::Indexing.to_json())),
            Some(rule) => return Ok(Err(error_of(rule))),
        };
        let done = if call.method == "eth_sendRawTransaction" {
            self.send(&call.params, then).await
        } else {
            self.chain.read(&call.method, call.params, lag).await
        };
        match done {
            Ok(result) => Ok(Ok(result)),
            Err(Failure::Refused(refusal)) => Ok(Err(refusal.to_json())),
            Err(Failure::Down(reason)) => Err(Down(reason)),
        }
    }

    async fn send(&self, params: &Value, then: Then) -> Result<Value, Failure> {
        let sent = match raw_argument(params) {
            Ok(raw) => self.chain.send(&raw, then).await,
            Err(refusal) => Err(refusal.into()),
        };
        match &sent {
            Ok(_) if then == Then::Take => self.control.tally.accepted(),
            Err(Failure::Refused(refusal)) => self.control.tally.refused(&refusal.to_string()),
            Ok(_) | Err(Failure::Down(_)) => {}
        }
        sent.map(|hash| json!(hash.to_string()))
    }

    /// `GET` and `POST /_gate/chain`: the price validators ask for.
    async fn chain_control(&self, method: &Method, body: &[u8]) -> Response {
        if method == Method::POST {
            let wanted = serde_json::from_slice::<Value>(body).unwrap_or_default();
            let floor = wanted["miningFloorWei"].as_str().and_then(|wei| U256::from_dec_str(wei).ok());
            let Some(floor) = floor else {
                return problem("a decimal text is wanted: {\"miningFloorWei\": \"100000000\"}");
            };
            if let Err(failure) = self.chain.set_mining_floor(floor).await {
                return respond(StatusCode::BAD_GATEWAY, "text/plain", format!("{failure:?}"));
            }
        }
        match self.chain.show().await {
            Ok(shown) => json_answer(StatusCode::OK, &shown),
            Err(failure) => respond(StatusCode::BAD_GATEWAY, "text/plain", format!("{failure:?}")),
        }
    }
}

fn lag_of(rule: &Rule<BscFault>) -> u64 {
    rule.blocks.unwrap_or(USUAL_LAG)
}

fn failed(id: &Value, error: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}

fn invalid(code: i64, message: &str) -> Value {
    json!({ "code": code, "message": message })
}
