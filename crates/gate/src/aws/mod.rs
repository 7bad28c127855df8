//! The AWS gate: an HTTP proxy in front of ministack. A script injects faults that an emulator does not have:
//! conflicts, throttling with each service's own error, lost replies of calls that took effect, and duplicate delivery.
//!
//! Guarantees: without a rule that fires, requests and answers pass unchanged, including `Host`, so that queue URLs
//! from the emulator point to the gate (the emulator accepts them with any host). The only exception is the public key
//! of a key that is not enabled, which KMS refuses and ministack does not. A call that was started is completed even if
//! the caller disconnects, except a long poll. Does not guarantee: valid AWS signatures (nobody checks them), TLS.
//!
//! Read in this order: `operation` (identifies the call), `fault` (the faults), `wire` (the format of errors),
//! `duplicate`, `keys`, `refused`, `calls` (calls as IAM sees them).

mod calls;
mod duplicate;
mod fault;
mod keys;
mod operation;
mod refused;
mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use calls::Calls;
use duplicate::{Outdated, handles};
pub use fault::AwsFault;
use operation::{Operation, Service, is_standard_queue};
use refused::Refusal;
use wire::WireError;

use crate::control::{Control, PREFIX, json_answer};
use crate::http::{GateError, Served, Switch, client, respond, wait};

/// The size limit of a body: DynamoDB's batches of 16 MB, with some margin.
const MAX_BODY_BYTES: usize = 20_000_000;
/// The default delay of a slow answer.
const USUAL_SLOWNESS_MS: u64 = 500;
/// Headers of one connection instead of the message (RFC 9110, 7.6.1), and headers that are written again with the
/// body.
const OF_THE_CONNECTION: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The configuration of a gate.
#[derive(Debug, Clone)]
pub struct AwsGateConfig {
    /// Endpoint of the emulator.
    pub upstream: String,
    /// The address to listen on. Port 0 selects a free one.
    pub listen: SocketAddr,
    /// The random seed of the script.
    pub seed: u64,
}

impl AwsGateConfig {
    /// A gate on a free loopback port.
    #[must_use]
    pub fn new(upstream: &str) -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { upstream: upstream.trim_end_matches('/').to_owned(), listen, seed: 0 }
    }
}

/// A running gate. Stops when dropped.
#[derive(Debug)]
pub struct AwsGate {
    served: Served,
    control: Control<AwsFault>,
}

impl AwsGate {
    /// Starts to listen.
    pub async fn start(config: AwsGateConfig) -> Result<Self, GateError> {
        let control = Control::new(config.seed);
        let proxy = Arc::new(Proxy {
            http: client()?,
            upstream: config.upstream,
            control: control.clone(),
            outdated: Outdated::default(),
            calls: Calls::default(),
        });
        let router = Router::new().fallback(handle).with_state(proxy);
        Ok(Self { served: Served::start(config.listen, router).await?, control })
    }

    /// The endpoint of all services.
    #[must_use]
    pub fn url(&self) -> String {
        self.served.url()
    }

    /// Script and counts. `stats().succeeded["kms:Sign"]` is the number of signatures that were made, whatever the
    /// callers received.
    #[must_use]
    pub fn control(&self) -> Control<AwsFault> {
        self.control.clone()
    }

    /// Stops listening and closes open connections.
    pub fn stop(self) {
        drop(self);
    }
}

#[derive(Debug)]
struct Proxy {
    http: reqwest::Client,
    upstream: String,
    control: Control<AwsFault>,
    outdated: Outdated,
    calls: Calls,
}

/// A request with its whole body.
#[derive(Debug, Clone)]
struct WholeRequest {
    head: Parts,
    body: Bytes,
    operation: Operation,
    /// The body, if it is JSON.
    json: Value,
}

/// An answer with its whole body.
#[derive(Debug)]
struct WholeAnswer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

async fn handle(
    State(proxy): State<Arc<Proxy>>,
    ConnectInfo(switch): ConnectInfo<Switch>,
    request: Request,
) -> Response {
    if switch.is_stopped() {
        return switch.cut();
    }
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return respond(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "the body is too large for the gate");
    };
    if head.method == Method::GET && head.uri.path().strip_prefix(PREFIX) == Some("calls") {
        return json_answer(StatusCode::OK, &proxy.calls.show());
    }
    if head.uri.path().starts_with(PREFIX) {
        return proxy.control.answer(&head.method, head.uri.path(), &body);
    }
    proxy.calls.note(&head.headers, &body);
    let operation = Operation::read(&head.headers, &body);
    let json = serde_json::from_slice(&body).unwrap_or_default();
    proxy.serve(switch, WholeRequest { head, body, operation, json }).await
}

impl Proxy {
    async fn serve(self: Arc<Self>, switch: Switch, request: WholeRequest) -> Response {
        let operation = request.operation.clone();
        self.control.tally.call(&operation.name);
        // These two apply to messages, not to calls.
        let of_calls = |fault| !matches!(fault, AwsFault::DuplicateDelivery | AwsFault::RefusedForGood);
        let rule = self.control.fires(of_calls, &[operation.name.as_str()]);
        let injected = |fault: AwsFault| rule.as_ref().filter(|rule| rule.fault == fault);
        if let Some(response) = rule.as_ref().and_then(|rule| fault::answer(rule, &operation, &request.json)) {
            return response;
        }
        if let Some(rule) = injected(AwsFault::TimeoutBeforeForward) {
            return switch.hang(rule.delay_ms).await;
        }
        if injected(AwsFault::ResetBeforeForward).is_some() {
            return switch.cut();
        }
        if let Some(rule) = injected(AwsFault::Slow) {
            wait(rule.delay_ms.unwrap_or(USUAL_SLOWNESS_MS)).await;
        }
        if let Some(refused) = self.key_refused(&request).await {
            return refused.respond(&operation);
        }
        let rule_of_entries = self.control.fires(|fault| fault == AwsFault::RefusedForGood, &[operation.name.as_str()]);
        let refusal = rule_of_entries.as_ref().and_then(|rule| Some((Refusal::of(rule, &request)?, rule.status)));
        if let Some((refusal, Some(status))) = &refusal {
            let (code, message) = refusal.code_and_message();
            return WireError::new(*status, code, message).respond(&operation);
        }
        let answered = if let Some((refusal, _)) = refusal {
            let proxy = self.clone();
            let passing = tokio::spawn(async move { proxy.pass_unrefused(&refusal, request).await });
            let Ok(answered) = passing.await else { return switch.cut() };
            answered
        } else if operation.is("sqs:ReceiveMessage") {
            // If the caller disconnects, the poll must not continue and receive messages for nobody.
            self.pass(&request).await
        } else {
            let proxy = self.clone();
            let passing = tokio::spawn(async move { proxy.pass(&request).await });
            let Ok(answered) = passing.await else { return switch.cut() };
            answered
        };
        let Ok(answered) = answered else {
            return WireError::unavailable(operation.service).respond(&operation);
        };
        if let Some(rule) = injected(AwsFault::TimeoutAfterForward) {
            return switch.hang(rule.delay_ms).await;
        }
        if injected(AwsFault::ReplyLost).is_some() {
            return switch.cut();
        }
        if injected(AwsFault::Http500AfterForward).is_some() {
            return WireError::internal(operation.service).respond(&operation);
        }
        answered.into_response()
    }

    /// KMS's refusal of a public key, from the state of the key.
    async fn key_refused(&self, request: &WholeRequest) -> Option<WireError> {
        if !request.operation.is("kms:GetPublicKey") {
            return None;
        }
        let described = self.forward(&keys::asking_for_state(&request.head), request.body.clone()).await.ok()?;
        keys::refusal(&serde_json::from_slice(&described.body).ok()?)
    }

    /// Forwards a request and returns the answer, corrected for duplicate deliveries.
    async fn pass(&self, request: &WholeRequest) -> reqwest::Result<WholeAnswer> {
        let mut answered = self.forward(&request.head, request.body.clone()).await?;
        if answered.status.is_success() {
            self.control.tally.succeeded(&request.operation.name);
        }
        let bytes = request.body.len().saturating_add(answered.body.len());
        self.control.tally.bytes(&request.operation.name, bytes);
        if request.operation.service != Service::Sqs {
            return Ok(answered);
        }
        let json: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
        if request.operation.is("sqs:ReceiveMessage") {
            self.duplicate(request, &json).await?;
        } else if let Some(right) = self.outdated.corrected(&request.json, &json) {
            answered.status = StatusCode::OK;
            answered.headers.remove("x-amzn-query-error");
            answered.headers.remove("x-amzn-errortype");
            answered.body = Bytes::from(right.to_string());
        }
        Ok(answered)
    }

    /// Forwards the entries that are not refused, and adds failures for the refused ones.
    async fn pass_unrefused(&self, refusal: &Refusal, mut request: WholeRequest) -> reqwest::Result<WholeAnswer> {
        let operation = request.operation.clone();
        let answered = match &refusal.passing {
            None => None,
            Some(body) => {
                request.body = body.clone();
                request.json = serde_json::from_slice(body).unwrap_or_default();
                Some(self.pass(&request).await?)
            }
        };
        Ok(refusal.complete(&operation, answered))
    }

    /// Makes received messages visible again, if a rule fires.
    async fn duplicate(&self, request: &WholeRequest, answer: &Value) -> reqwest::Result<()> {
        let handles = handles(answer);
        let is_duplicate = |fault| fault == AwsFault::DuplicateDelivery;
        if handles.is_empty()
            || !is_standard_queue(&request.json)
            || self.control.fires(is_duplicate, &[request.operation.name.as_str()]).is_none()
        {
            return Ok(());
        }
        let mut head = request.head.clone();
        head.headers.insert("x-amz-target", HeaderValue::from_static("AmazonSQS.ChangeMessageVisibility"));
        for handle in handles {
            self.outdated.add(&handle);
            let body = json!({ "QueueUrl": request.json["QueueUrl"], "ReceiptHandle": handle, "VisibilityTimeout": 0 });
            self.forward(&head, Bytes::from(body.to_string())).await?;
        }
        Ok(())
    }

    async fn forward(&self, head: &Parts, body: Bytes) -> reqwest::Result<WholeAnswer> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let headers = of_the_message(head.headers.clone());
        let url = format!("{}{path}", self.upstream);
        let response = self.http.request(head.method.clone(), url).headers(headers).body(body).send().await?;
        let status = response.status();
        let headers = of_the_message(response.headers().clone());
        Ok(WholeAnswer { status, headers, body: response.bytes().await? })
    }
}

fn of_the_message(mut headers: HeaderMap) -> HeaderMap {
    for name in OF_THE_CONNECTION {
        headers.remove(name);
    }
    headers
}

impl WholeAnswer {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body.into());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}
