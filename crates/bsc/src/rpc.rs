//! JSON-RPC over HTTP with one endpoint: batches cut to size, answers matched by id, and every
//! failure says whether the call took effect.
//!
//! Never repeats a call by itself, but for a batch that was refused as such. Never prints a URL: keys
//! are part of many; [`RpcClient::host`] names the endpoint.
//!
//! ## Guarantees
//! * One result per call, in the order of the calls, whatever the endpoint answers.
//! * A missing answer is never taken for `null`.
//!
//! Read next: [`crate::endpoints`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};
use signpost_txmgr::meters;
use signpost_txmgr::ports::Happened;
use signpost_txmgr::text;

use crate::classify;

/// Most bytes of a request's body: the smallest limit of a known provider is 1 MB.
const MAX_REQUEST_BYTES: usize = 900_000;

/// Most bytes of an answer's body: nodes stop at 25 MB themselves.
const MAX_RESPONSE_BYTES: usize = 32 << 20;

/// Where a body that is no JSON-RPC is searched for the words of a rate limit.
const LIMIT_WORDS_BYTES: usize = 2_048;

/// Longest wait a provider can impose on us.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

/// A connection that is not up after this long is not coming.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A method with its parameters.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) params: Value,
}

impl Call {
    pub(crate) fn new(method: &'static str, params: Value) -> Self {
        Self { method, params }
    }
}

/// An error that the node answered with.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the node says: {} (code {code})", text::plain(message))]
pub struct NodeError {
    /// JSON-RPC error code; 0 if there was none.
    pub code: i64,
    /// The node's words as they came: they are classified by them, and shown only through `Display`.
    pub message: String,
    /// What came with them.
    pub data: Option<Value>,
}

/// Why there is no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The node answered with an error.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// No connection came about.
    #[error("no connection")]
    Unreachable(#[source] Arc<reqwest::Error>),
    /// The answer did not come in time.
    #[error("no answer in time")]
    TimedOut,
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] Arc<reqwest::Error>),
    /// The endpoint wants fewer calls.
    #[error("the endpoint limits our rate")]
    RateLimited {
        /// How long it wants us to wait.
        retry_after: Option<Duration>,
    },
    /// An HTTP status in place of an answer.
    #[error("HTTP status {status}")]
    Status {
        /// The status.
        status: u16,
        /// How long the endpoint wants us to wait.
        retry_after: Option<Duration>,
    },
    /// The body is not JSON-RPC.
    #[error("the answer is not JSON-RPC")]
    NotJsonRpc,
    /// The body is too long to be read.
    #[error("the answer is longer than {MAX_RESPONSE_BYTES} bytes")]
    TooLong,
    /// The batch was refused, not a call of it.
    #[error("the batch was refused")]
    BatchRefused(#[source] NodeError),
    /// The batch's answer has none for this call.
    #[error("the call was not answered")]
    Unanswered,
    /// The call was not made, because one before it failed.
    #[error("not asked, for an earlier call failed")]
    NotAsked,
    /// The answer is not what this method gives.
    #[error("the answer to {0} makes no sense")]
    Nonsense(&'static str),
    /// The endpoint is of another chain.
    #[error("the endpoint is of chain {found}, not {expected}")]
    WrongChain {
        /// Ours.
        expected: u64,
        /// The endpoint's.
        found: u64,
    },
}

impl Failure {
    /// Whether the call took effect. Other errors of a node than these may come after the effect.
    #[must_use]
    pub fn happened(&self) -> Happened {
        match self {
            Self::Node(error) if classify::is_rate_limit(error.code, &error.message) => Happened::No,
            Self::Unreachable(_)
            | Self::RateLimited { .. }
            | Self::NotAsked
            | Self::WrongChain { .. }
            // A gateway's refusal; 408 and 499 are its timeouts.
            | Self::Status { status: 400..=407 | 409..=498, .. } => Happened::No,
            Self::Node(_)
            | Self::Status { .. }
            | Self::TimedOut
            | Self::Broken(_)
            | Self::NotJsonRpc
            | Self::TooLong
            | Self::BatchRefused(_)
            | Self::Unanswered
            | Self::Nonsense(_) => Happened::Unknown,
        }
    }

    /// The request as a whole failed, not one call of it.
    pub(crate) fn is_of_the_request(&self) -> bool {
        !matches!(self, Self::Node(_) | Self::Unanswered | Self::Nonsense(_))
    }

    /// The endpoint wants fewer calls, in whatever way it said so.
    #[must_use]
    pub fn is_rate_limit(&self) -> bool {
        match self {
            Self::RateLimited { .. } => true,
            Self::Node(error) | Self::BatchRefused(error) => classify::is_rate_limit(error.code, &error.message),
            Self::Unreachable(_)
            | Self::TimedOut
            | Self::Broken(_)
            | Self::Status { .. }
            | Self::NotJsonRpc
            | Self::TooLong
            | Self::Unanswered
            | Self::NotAsked
            | Self::Nonsense(_)
            | Self::WrongChain { .. } => false,
        }
    }
}

/// What became of one call.
pub(crate) type Answer = Result<Value, Failure>;

/// Why a client cannot be made. Positions, not URLs: they may hold keys.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not a URL, or one of another scheme.
    #[error("must be an http:// or https:// URL")]
    Url,
    /// TLS could not be set up.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// One endpoint.
pub struct RpcClient {
    http: reqwest::Client,
    url: Url,
    host: String,
    authorization: Option<HeaderValue>,
    next_id: AtomicU64,
    /// Calls per batch; goes down when the endpoint refuses batches.
    batch_items: AtomicUsize,
}

impl fmt::Debug for RpcClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcClient").field("host", &self.host).finish_non_exhaustive()
    }
}

impl RpcClient {
    /// A client of the endpoint at `url`. Nothing is sent yet.
    pub fn new(url: &str, timeout: Duration, batch_items: usize) -> Result<Self, ClientError> {
        let url = Url::parse(url).map_err(|_| ClientError::Url)?;
        let name = url.host_str().ok_or(ClientError::Url)?;
        let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        // Another part of the process may have installed one; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .redirect(reqwest::redirect::Policy::none());
        let builder = match url.scheme() {
            "https" => builder,
            // Nothing to verify, so a machine without certificates will do.
            "http" => builder.tls_certs_only([]),
            _ => return Err(ClientError::Url),
        };
        let loopback = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
        let builder = if loopback { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| ClientError::Client(error.without_url()))?;
        let batch_items = AtomicUsize::new(batch_items.max(1));
        Ok(Self { http, url, host, authorization: None, next_id: AtomicU64::new(1), batch_items })
    }

    /// The same, with this header on every request.
    #[must_use]
    pub fn with_authorization(self, authorization: Option<HeaderValue>) -> Self {
        Self { authorization, ..self }
    }

    /// Host and port, without what may be secret.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Most calls that one request holds now.
    pub(crate) fn batch_items(&self) -> usize {
        self.batch_items.load(Ordering::Relaxed).max(1)
    }

    /// One call.
    pub(crate) async fn call(&self, method: &'static str, params: Value) -> Answer {
        let answers = self.batch(&[Call::new(method, params)]).await;
        answers.into_iter().next().unwrap_or(Err(Failure::Unanswered))
    }

    /// Several calls, in as few requests as the limits allow, one after the other. After a request
    /// that failed as a whole the rest is [`Failure::NotAsked`].
    pub(crate) async fn batch(&self, calls: &[Call]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(calls.len());
        while let Some(rest) = calls.get(answers.len()..).filter(|rest| !rest.is_empty()) {
            let ids = self.next_id.fetch_add(u64::try_from(rest.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
            let (body, count) = self.body(rest, ids);
            match self.post(body, ids, count).await {
                Ok(some) => answers.extend(some),
                Err(Failure::BatchRefused(_)) if count > 1 => {
                    // Each refusal halves the batch, so this ends with single calls.
                    self.batch_items.store(count.div_euclid(2), Ordering::Relaxed);
                    tracing::warn!(host = self.host, items = count, "the endpoint refuses a batch, trying half");
                }
                Err(failure) => {
                    answers.extend((0..count).map(|_| Err(failure.clone())));
                    answers.resize_with(calls.len(), || Err(Failure::NotAsked));
                }
            }
        }
        answers
    }

    /// The body for as many of the calls as fit, and their number. A single call is no array:
    /// some providers take no batches at all.
    fn body(&self, calls: &[Call], ids: u64) -> (Vec<u8>, usize) {
        let limit = self.batch_items.load(Ordering::Relaxed).max(1);
        let mut items: Vec<Vec<u8>> = Vec::new();
        let mut bytes: usize = 0;
        for (call, id) in calls.iter().zip(ids..).take(limit) {
            let item = json!({"jsonrpc": "2.0", "id": id, "method": call.method, "params": call.params});
            let item = item.to_string().into_bytes();
            bytes = bytes.saturating_add(item.len()).saturating_add(1);
            if bytes > MAX_REQUEST_BYTES && !items.is_empty() {
                break;
            }
            items.push(item);
        }
        let count = items.len();
        let body = items.join(&b","[..]);
        (if count == 1 { body } else { [b"[", body.as_slice(), b"]"].concat() }, count)
    }

    async fn post(&self, body: Vec<u8>, ids: u64, count: usize) -> Result<Vec<Answer>, Failure> {
        let answers = self.round_trip(body, ids, count).await;
        let outcome = match &answers {
            Ok(_) => "answered",
            Err(failure) if failure.is_rate_limit() => "limited",
            Err(_) => "failed",
        };
        metrics::counter!(meters::RPC_REQUESTS, "host" => self.host.clone(), "outcome" => outcome).increment(1);
        answers
    }

    async fn round_trip(&self, body: Vec<u8>, ids: u64, count: usize) -> Result<Vec<Answer>, Failure> {
        let request = self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
        let request = match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        };
        let mut response = request.send().await.map_err(failure_of)?;
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failure_of)? {
            if body.len().saturating_add(chunk.len()) > MAX_RESPONSE_BYTES {
                return Err(Failure::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Failure::RateLimited { retry_after });
        }
        let answers = read_body(&body, ids, count);
        // Some nodes put a status on a JSON-RPC error; without one the status is all there is.
        if !matches!(answers, Err(Failure::NotJsonRpc)) {
            return answers;
        }
        let words = body.get(..LIMIT_WORDS_BYTES).unwrap_or(&body);
        if !status.is_server_error() && classify::is_rate_limit(0, &String::from_utf8_lossy(words)) {
            return Err(Failure::RateLimited { retry_after });
        }
        if status.is_success() { answers } else { Err(Failure::Status { status: status.as_u16(), retry_after }) }
    }
}

fn failure_of(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    if error.is_connect() {
        Failure::Unreachable(Arc::new(error))
    } else if error.is_timeout() {
        Failure::TimedOut
    } else {
        Failure::Broken(Arc::new(error))
    }
}

/// What the endpoint wants us to wait, at most [`RETRY_AFTER_MAX`].
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let asked = text(RETRY_AFTER)?;
    let wait = if let Ok(seconds) = asked.parse() {
        Duration::from_secs(seconds)
    } else {
        // The form with a date is meant by the endpoint's clock, which its `Date` tells. A date that is
        // over, or no date to count from, asks for nothing.
        let (until, now) = (httpdate::parse_http_date(asked).ok()?, text(DATE)?);
        until.duration_since(httpdate::parse_http_date(now).ok()?).ok()?
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// Puts the answers in the order of the calls: they may come reordered, twice, not at all, or
/// as a single object.
pub(crate) fn read_body(body: &[u8], ids: u64, count: usize) -> Result<Vec<Answer>, Failure> {
    let mut answers: Vec<Option<Answer>> = vec![None; count];
    let items = match serde_json::from_slice(body) {
        Ok(Value::Array(items)) => items,
        Ok(Value::Object(object)) => {
            let object = Value::Object(object);
            // An error for the batch as a whole.
            if let Some(error) = node_error(&object).filter(|_| count > 1) {
                return if refuses_batches(&error) {
                    Err(Failure::BatchRefused(error))
                } else {
                    Ok(vec![Err(Failure::Node(error)); count])
                };
            }
            vec![object]
        }
        Ok(_) | Err(_) => return Err(Failure::NotJsonRpc),
    };
    let mut ours = false;
    for item in &items {
        let answer = match (node_error(item), item.get("result")) {
            // geth refuses a batch in the place of its first call.
            (Some(error), _) if count > 1 && classify::is_batch_refusal(&error.message) => {
                return Err(Failure::BatchRefused(error));
            }
            // What could not be parsed is answered without an id.
            (Some(error), _) if count == 1 => return Ok(vec![Err(Failure::Node(error))]),
            (Some(error), _) => Err(Failure::Node(error)),
            (None, Some(result)) => Ok(result.clone()),
            // Neither a result nor an error: as good as no answer.
            (None, None) => continue,
        };
        let place = item.get("id").and_then(read_id).and_then(|id| usize::try_from(id.checked_sub(ids)?).ok());
        if let Some(place) = place.and_then(|place| answers.get_mut(place)) {
            ours = true;
            // The first answer counts; a second one is not more true.
            place.get_or_insert(answer);
        }
    }
    if !ours {
        return Err(Failure::NotJsonRpc);
    }
    Ok(answers.into_iter().map(|answer| answer.unwrap_or(Err(Failure::Unanswered))).collect())
}

/// Ids come back as they went out, from some gateways as text.
fn read_id(id: &Value) -> Option<u64> {
    id.as_u64().or_else(|| id.as_str()?.parse().ok())
}

/// Whether the error is about there being a batch at all: JSON-RPC's "invalid request" and "parse error".
fn refuses_batches(error: &NodeError) -> bool {
    !classify::is_rate_limit(error.code, &error.message)
        && (classify::is_batch_refusal(&error.message) || matches!(error.code, -32600 | -32700))
}

fn node_error(item: &Value) -> Option<NodeError> {
    let error = item.get("error").filter(|error| error.is_object())?;
    let code = error.get("code");
    let code = code.and_then(|code| code.as_i64().or_else(|| code.as_str()?.parse().ok())).unwrap_or(0);
    let message = error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(NodeError { code, message, data: error.get("data").filter(|data| !data.is_null()).cloned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(asked: &'static str, date: Option<&'static str>) -> Option<Duration> {
        let mut headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(asked))]);
        headers.extend(date.map(|date| (DATE, HeaderValue::from_static(date))));
        retry_after(&headers)
    }

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_by_a_date() {
        const DATE: Option<&str> = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(wait("7", None), seconds(7));
        assert_eq!(wait(" 7 ", DATE), seconds(7));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:44 GMT", DATE), seconds(7));
        assert_eq!(wait("Sunday, 06-Nov-94 08:49:44 GMT", DATE), seconds(7));
        assert_eq!(wait("Mon, 07 Nov 1994 08:49:37 GMT", DATE), Some(RETRY_AFTER_MAX));
        assert_eq!(wait("86400", DATE), Some(RETRY_AFTER_MAX));
    }

    #[test]
    fn a_wait_that_cannot_be_told_is_none() {
        const DATE: Option<&str> = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:30 GMT", DATE), None, "it is over");
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:44 GMT", None), None, "from when?");
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:44 GMT", Some("now")), None);
        for asked in ["soon", "-7", "7.5", ""] {
            assert_eq!(wait(asked, DATE), None, "{asked}");
        }
    }
}
