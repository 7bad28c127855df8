//! The AWS gate: an HTTP proxy in front of ministack that injects what no emulator shows, by script:
//! conflicts, throttling in each service's own words, replies lost after the call took effect, and
//! messages delivered twice.
//!
//! Guarantees: without a rule that fires, requests and answers pass byte for byte (but for the public key of a key
//! that is not enabled, which KMS refuses and ministack does not), `Host` included
//! (queue URLs that the emulator derives from it then point at the gate; it accepts them with any host);
//! a call that was begun is ended even if the caller goes away, but for a long poll. Does not guarantee:
//! signatures (nobody checks them), TLS.
//!
//! Read in this order: `operation` (which call it is), `fault` (what can befall it), `wire` (how
//! errors are written), `duplicate`, `keys`, `refused`, `calls` (what it is to IAM).

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
use crate::http::{GateError, Line, Served, client, respond, wait};

/// Largest body: DynamoDB's batches of 16 MB, and some room.
const MAX_BODY_BYTES: usize = 20_000_000;
/// How late a slow answer is, where the rule does not say.
const USUAL_SLOWNESS_MS: u64 = 500;
/// Headers that are about one connection and not about the message (RFC 9110, 7.6.1), and those that
/// are written anew with the body.
const OF_THE_CONNECTION: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// How a gate is made.
#[derive(Debug, Clone)]
pub struct AwsGateConfig {
    /// Endpoint of the emulator.
    pub upstream: String,
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Seed of the script's chance.
    pub seed: u64,
}

impl AwsGateConfig {
    /// On a free port of loopback.
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
    /// Listens.
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

    /// Endpoint of every service.
    #[must_use]
    pub fn url(&self) -> String {
        self.served.url()
    }

    /// Script and counts. `stats().succeeded["kms:Sign"]` is how many signatures were made, whatever
    /// the callers were told.
    #[must_use]
    pub fn control(&self) -> Control<AwsFault> {
        self.control.clone()
    }

    /// Stops listening; open connections end.
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

/// A request, whole.
#[derive(Debug, Clone)]
struct Asked {
    head: Parts,
    body: Bytes,
    operation: Operation,
    /// The body, if it is JSON.
    json: Value,
}

/// An answer, whole.
#[derive(Debug)]
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

async fn handle(State(proxy): State<Arc<Proxy>>, ConnectInfo(line): ConnectInfo<Line>, request: Request) -> Response {
    if line.is_stopped() {
        return line.cut();
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
    proxy.serve(line, Asked { head, body, operation, json }).await
}

impl Proxy {
    async fn serve(self: Arc<Self>, line: Line, asked: Asked) -> Response {
        let operation = asked.operation.clone();
        self.control.tally.call(&operation.name);
        // Those two are about messages, not about calls.
        let of_calls = |fault| !matches!(fault, AwsFault::DuplicateDelivery | AwsFault::RefusedForGood);
        let rule = self.control.fires(of_calls, &[operation.name.as_str()]);
        let befalls = |fault: AwsFault| rule.as_ref().filter(|rule| rule.fault == fault);
        if let Some(response) = rule.as_ref().and_then(|rule| fault::answer(rule, &operation, &asked.json)) {
            return response;
        }
        if let Some(rule) = befalls(AwsFault::TimeoutBeforeForward) {
            return line.hang(rule.delay_ms).await;
        }
        if befalls(AwsFault::ResetBeforeForward).is_some() {
            return line.cut();
        }
        if let Some(rule) = befalls(AwsFault::Slow) {
            wait(rule.delay_ms.unwrap_or(USUAL_SLOWNESS_MS)).await;
        }
        if let Some(refused) = self.key_refused(&asked).await {
            return refused.respond(&operation);
        }
        let rule_of_entries = self.control.fires(|fault| fault == AwsFault::RefusedForGood, &[operation.name.as_str()]);
        let refusal = rule_of_entries.as_ref().and_then(|rule| Some((Refusal::of(rule, &asked)?, rule.status)));
        if let Some((refusal, Some(status))) = &refusal {
            let (code, message) = refusal.words();
            return WireError::new(*status, code, message).respond(&operation);
        }
        let answered = if let Some((refusal, _)) = refusal {
            let proxy = self.clone();
            let passing = tokio::spawn(async move { proxy.pass_but(&refusal, asked).await });
            let Ok(answered) = passing.await else { return line.cut() };
            answered
        } else if operation.is("sqs:ReceiveMessage") {
            // A caller that goes away must not leave a poll behind that takes messages for nobody.
            self.pass(&asked).await
        } else {
            let proxy = self.clone();
            let passing = tokio::spawn(async move { proxy.pass(&asked).await });
            let Ok(answered) = passing.await else { return line.cut() };
            answered
        };
        let Ok(answered) = answered else {
            return WireError::unavailable(operation.service).respond(&operation);
        };
        if let Some(rule) = befalls(AwsFault::TimeoutAfterForward) {
            return line.hang(rule.delay_ms).await;
        }
        if befalls(AwsFault::ReplyLost).is_some() {
            return line.cut();
        }
        if befalls(AwsFault::Http500AfterForward).is_some() {
            return WireError::internal(operation.service).respond(&operation);
        }
        answered.into_response()
    }

    /// KMS's refusal of a public key, by the state of the key.
    async fn key_refused(&self, asked: &Asked) -> Option<WireError> {
        if !asked.operation.is("kms:GetPublicKey") {
            return None;
        }
        let described = self.forward(&keys::asking_for_state(&asked.head), asked.body.clone()).await.ok()?;
        keys::refusal(&serde_json::from_slice(&described.body).ok()?)
    }

    /// Hands a request on and brings the answer back, put right where duplicates were made.
    async fn pass(&self, asked: &Asked) -> reqwest::Result<Answered> {
        let mut answered = self.forward(&asked.head, asked.body.clone()).await?;
        if answered.status.is_success() {
            self.control.tally.succeeded(&asked.operation.name);
        }
        let bytes = asked.body.len().saturating_add(answered.body.len());
        self.control.tally.bytes(&asked.operation.name, bytes);
        if asked.operation.service != Service::Sqs {
            return Ok(answered);
        }
        let json: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
        if asked.operation.is("sqs:ReceiveMessage") {
            self.duplicate(asked, &json).await?;
        } else if let Some(right) = self.outdated.corrected(&asked.json, &json) {
            answered.status = StatusCode::OK;
            answered.headers.remove("x-amzn-query-error");
            answered.headers.remove("x-amzn-errortype");
            answered.body = Bytes::from(right.to_string());
        }
        Ok(answered)
    }

    /// Hands on what is not refused, and answers for what is.
    async fn pass_but(&self, refusal: &Refusal, mut asked: Asked) -> reqwest::Result<Answered> {
        let operation = asked.operation.clone();
        let answered = match &refusal.passing {
            None => None,
            Some(body) => {
                asked.body = body.clone();
                asked.json = serde_json::from_slice(body).unwrap_or_default();
                Some(self.pass(&asked).await?)
            }
        };
        Ok(refusal.complete(&operation, answered))
    }

    /// Makes the messages of a receive visible again, if a rule says so.
    async fn duplicate(&self, asked: &Asked, answer: &Value) -> reqwest::Result<()> {
        let handles = handles(answer);
        let asks = |fault| fault == AwsFault::DuplicateDelivery;
        if handles.is_empty()
            || !is_standard_queue(&asked.json)
            || self.control.fires(asks, &[asked.operation.name.as_str()]).is_none()
        {
            return Ok(());
        }
        let mut head = asked.head.clone();
        head.headers.insert("x-amz-target", HeaderValue::from_static("AmazonSQS.ChangeMessageVisibility"));
        for handle in handles {
            self.outdated.add(&handle);
            let body = json!({ "QueueUrl": asked.json["QueueUrl"], "ReceiptHandle": handle, "VisibilityTimeout": 0 });
            self.forward(&head, Bytes::from(body.to_string())).await?;
        }
        Ok(())
    }

    async fn forward(&self, head: &Parts, body: Bytes) -> reqwest::Result<Answered> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let headers = of_the_message(head.headers.clone());
        let url = format!("{}{path}", self.upstream);
        let response = self.http.request(head.method.clone(), url).headers(headers).body(body).send().await?;
        let status = response.status();
        let headers = of_the_message(response.headers().clone());
        Ok(Answered { status, headers, body: response.bytes().await? })
    }
}

fn of_the_message(mut headers: HeaderMap) -> HeaderMap {
    for name in OF_THE_CONNECTION {
        headers.remove(name);
    }
    headers
}

impl Answered {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body.into());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}
