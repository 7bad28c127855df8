//! One listener of the gate: HTTP and JSON-RPC like a BSC node or its provider, with single calls and batches, and with
//! the faults of its own script.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use signpost_txmgr::units::U256;

use super::answers::{corrupted, error_of, failed, http_answer};
use super::chain::{Chain, Then};
use super::fault::{BscFault, Level, USUAL_LAG, USUAL_SLOWNESS_MS};
use super::odd::{other_branch, true_params};
use super::refusal::Refusal;
use super::rules::raw_argument;
use super::upstream::Failure;
use super::view::{Lag, asks_finality};
use crate::change::Change;
use crate::control::{Control, PREFIX, json_answer, problem};
use crate::http::{Switch, respond, wait};
use crate::script::Rule;

/// BSC's limit of a request's body, in bytes.
const MAX_BODY_BYTES: usize = 5_242_880;
/// BSC's limit of calls in a batch.
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
    ConnectInfo(switch): ConnectInfo<Switch>,
    request: Request,
) -> Response {
    if switch.is_stopped() {
        return switch.cut();
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
        return node.serve(switch, vec![Call::read(request)], false).await;
    };
    if calls.is_empty() {
        return json_answer(StatusCode::OK, &failed(&Value::Null, &invalid(-32600, "empty batch")));
    }
    if calls.len() > MAX_BATCH {
        let refused = failed(&calls[0]["id"], &invalid(-32600, "batch too large"));
        return json_answer(StatusCode::OK, &json!([refused]));
    }
    node.serve(switch, calls.into_iter().map(Call::read).collect(), true).await
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
    /// Answers the calls of one request, with faults of the whole request.
    async fn serve(self: Arc<Self>, switch: Switch, calls: Vec<Call>, batch: bool) -> Response {
        for call in &calls {
            self.control.tally.call(&call.method);
        }
        let methods: Vec<_> = calls.iter().map(|call| call.method.clone()).collect();
        let methods = methods.iter().map(String::as_str);
        let size = if batch { calls.len() } else { 0 };
        let of_request = |rule: &Rule<BscFault>| rule.fault.level() == Level::Request && rule.is_about_array_of(size);
        let rule = self.control.fires_where(of_request, &methods);
        let injected = |fault: BscFault| rule.as_ref().filter(|rule| rule.fault == fault);
        let ids: Vec<_> = calls.iter().map(|call| call.id.clone()).collect();
        if let Some(response) = rule.as_ref().and_then(|rule| http_answer(rule, &ids)) {
            return response;
        }
        if let Some(rule) = injected(BscFault::TimeoutBeforeForward) {
            return switch.hang(rule.delay_ms).await;
        }
        if injected(BscFault::ResetBeforeForward).is_some() {
            return switch.cut();
        }
        if let Some(rule) = injected(BscFault::Slow) {
            wait(rule.delay_ms.unwrap_or(USUAL_SLOWNESS_MS)).await;
        }
        // A call that was started is completed even if the caller disconnects.
        let node = self.clone();
        let other = injected(BscFault::OtherBackend).map(|rule| rule.rules.clone());
        let answers = tokio::spawn(async move { node.answers(calls, other).await });
        let mut answers = match answers.await {
            Ok(Ok(answers)) => answers,
            Ok(Err(Down(reason))) => return respond(StatusCode::BAD_GATEWAY, "text/plain", reason),
            Err(_) => return switch.cut(),
        };
        if let Some(rule) = injected(BscFault::TimeoutAfterForward) {
            return switch.hang(rule.delay_ms).await;
        }
        if injected(BscFault::ResetAfterForward).is_some() {
            return switch.cut();
        }
        let of_reply = |rule: &Rule<BscFault>| {
            let level = rule.fault.level();
            (level == Level::Reply || (level == Level::Batch && size > 1)) && rule.is_about_array_of(size)
        };
        match self.control.fires_where(of_reply, &methods) {
            Some(rule) => corrupted(&rule, answers, batch),
            None if batch => json_answer(StatusCode::OK, &Value::Array(answers)),
            None => json_answer(StatusCode::OK, &answers.pop().unwrap_or_default()),
        }
    }

    /// Answers the calls in order, with the script's faults or those of another backend.
    async fn answers(&self, calls: Vec<Call>, other: Option<Vec<Rule<BscFault>>>) -> Result<Vec<Value>, Down> {
        let mut answers = Vec::with_capacity(calls.len());
        for call in calls {
            let (id, method) = (call.id.clone(), call.method.clone());
            answers.push(match self.answer(call, other.as_deref()).await? {
                Ok(result) => {
                    self.control.tally.succeeded(&method);
                    json!({ "jsonrpc": "2.0", "id": id, "result": result })
                }
                Err(error) => failed(&id, &error),
            });
        }
        Ok(answers)
    }

    /// The rule that fires for one call.
    fn rule_of(&self, call: &Call, other: Option<&[Rule<BscFault>]>) -> Option<Rule<BscFault>> {
        let finality = asks_finality(&call.method, &call.params);
        let of_call = |rule: &Rule<BscFault>| {
            rule.fault.level() == Level::Call
                && (rule.fault != BscFault::FinalizedBack || finality)
                && rule.is_about_params(&call.params)
        };
        match other {
            Some(rules) => rules.iter().find(|rule| of_call(rule) && rule.is_about(&call.method)).cloned(),
            None => self.control.fires_where(of_call, &[call.method.as_str()]),
        }
    }

    /// Answers one call with its fault: a result or an `error`.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other faults of a call are errors")]
    async fn answer(&self, call: Call, other: Option<&[Rule<BscFault>]>) -> Result<Result<Value, Value>, Down> {
        let Call { method, params, .. } = &call;
        let Some(rule) = self.rule_of(&call, other) else {
            return result_or_error(self.ask(method, params.clone(), Lag::None, Then::Take).await);
        };
        let ask = |lag, then| self.ask(method, params.clone(), lag, then);
        match rule.fault {
            BscFault::Stale => result_or_error(ask(Lag::Behind(lag_of(&rule)), Then::Take).await),
            BscFault::Frozen => {
                let head = self.chain.head().await.map_err(down)?;
                result_or_error(ask(Lag::Behind(head.saturating_sub(rule.height.unwrap_or(0))), Then::Take).await)
            }
            BscFault::FinalizedBack => result_or_error(ask(Lag::Finality(lag_of(&rule)), Then::Take).await),
            BscFault::SilentDrop => result_or_error(ask(Lag::None, Then::Pretend).await),
            BscFault::NullReceipts => Ok(Ok(Value::Null)),
            BscFault::Indexing => Ok(Err(Refusal::Indexing.to_json())),
            BscFault::NoMethod => Ok(Err(Refusal::NoMethod(call.method).to_json())),
            BscFault::InventedReceipts => result_or_error(self.chain.invented_receipt(params).await),
            BscFault::OddResult => {
                let done = ask(Lag::None, Then::Take).await;
                result_or_error(done.map(|result| Change::all_done(&rule.changes, result)))
            }
            BscFault::OtherBranch => {
                let done = self.ask(
                    method,
                    true_params(method, params.clone()),
                    Lag::Behind(rule.blocks.unwrap_or(0)),
                    Then::Take,
                );
                result_or_error(done.await.map(other_branch))
            }
            BscFault::ErrorAfterForward => {
                result_or_error(ask(Lag::None, Then::Take).await)?.ok();
                Ok(Err(error_of(&rule)))
            }
            _ => Ok(Err(error_of(&rule))),
        }
    }

    async fn ask(&self, method: &str, params: Value, lag: Lag, then: Then) -> Result<Value, Failure> {
        if method == "eth_sendRawTransaction" {
            self.send(&params, then).await
        } else {
            self.chain.read(method, params, lag).await
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

    /// `GET` and `POST /_gate/chain`: the lowest price that validators mine.
    async fn chain_control(&self, method: &Method, body: &[u8]) -> Response {
        if method == Method::POST {
            let wanted = serde_json::from_slice::<Value>(body).unwrap_or_default();
            let floor = wanted["miningFloorWei"].as_str().and_then(|wei| U256::from_dec_str(wei).ok());
            let Some(floor) = floor else {
                return problem("the body must have a decimal string: {\"miningFloorWei\": \"100000000\"}");
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

/// The answer to the caller, unless the node behind is down.
fn result_or_error(done: Result<Value, Failure>) -> Result<Result<Value, Value>, Down> {
    match done {
        Ok(result) => Ok(Ok(result)),
        Err(Failure::Refused(refusal)) => Ok(Err(refusal.to_json())),
        Err(failure @ Failure::Down(_)) => Err(down(failure)),
    }
}

fn down(failure: Failure) -> Down {
    match failure {
        Failure::Refused(refusal) => Down(refusal.to_string()),
        Failure::Down(reason) => Down(reason),
    }
}

fn lag_of(rule: &Rule<BscFault>) -> u64 {
    rule.blocks.unwrap_or(USUAL_LAG)
}

fn invalid(code: i64, message: &str) -> Value {
    json!({ "code": code, "message": message })
}
