//! JSON-RPC over HTTP with one endpoint. Every failure reports whether the call took effect.
//!
//! Repeats no call on its own, except those of a batch that failed as a whole. Never prints a URL, because many URLs
//! contain keys; [`RpcClient::host`] names the endpoint.
//!
//! ## Guarantees
//! * One result per call, in the order of the calls, whatever the endpoint answers.
//! * A missing answer is never reported as `null`.
//!
//! Read next: `reply.rs`, `batch.rs`; then [`crate::endpoints`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};
use signpost_txmgr::meters;

use crate::answer::MAX_RESPONSE_BYTES;
pub(crate) use crate::answer::{Answer, Call, need};
pub use crate::answer::{CallFailure, NodeError};
use crate::batch_size::BatchSize;
use crate::classify;
use crate::reply::Reply;

/// Maximum size of a request body in bytes: the smallest limit of a known provider is 1 MB.
const MAX_REQUEST_BYTES: usize = 900_000;

/// Number of leading bytes of a body without JSON-RPC that are searched for the words of a rate limit.
const LIMIT_WORDS_BYTES: usize = 2_048;

/// Maximum wait that a provider can request.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

/// Timeout for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a client cannot be created. The URL is not printed, because it may hold a key.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The text is not a URL, or has another scheme.
    #[error("must be an http:// or https:// URL")]
    Url,
    /// TLS could not be set up.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// A JSON-RPC client for one endpoint.
pub struct RpcClient {
    http: reqwest::Client,
    url: Url,
    host: String,
    authorization: Option<HeaderValue>,
    next_id: AtomicU64,
    pub(crate) size: BatchSize,
}

impl fmt::Debug for RpcClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcClient").field("host", &self.host).finish_non_exhaustive()
    }
}

impl RpcClient {
    /// A client for the endpoint at `url`. Nothing is sent yet.
    pub fn new(url: &str, timeout: Duration, batch_items: usize) -> Result<Self, ClientError> {
        let url = Url::parse(url).map_err(|_| ClientError::Url)?;
        let name = url.host_str().ok_or(ClientError::Url)?;
        let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        // Another part of the process may have installed a provider; any of them works.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .redirect(reqwest::redirect::Policy::none());
        let builder = match url.scheme() {
            "https" => builder,
            // Plain HTTP needs no certificates, so the machine may have none.
            "http" => builder.tls_certs_only([]),
            _ => return Err(ClientError::Url),
        };
        let loopback = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
        let builder = if loopback { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| ClientError::Client(error.without_url()))?;
        let size = BatchSize::new(batch_items);
        Ok(Self { http, url, host, authorization: None, next_id: AtomicU64::new(1), size })
    }

    /// Adds this header to every request.
    #[must_use]
    pub fn with_authorization(self, authorization: Option<HeaderValue>) -> Self {
        Self { authorization, ..self }
    }

    /// Host and port, without the parts of the URL that may be secret.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Maximum number of calls per request at the moment.
    pub(crate) fn batch_items(&self) -> usize {
        self.size.items()
    }

    /// Makes one call.
    pub(crate) async fn call(&self, method: &'static str, params: Value) -> Answer {
        let answers = self.batch(&[Call::new(method, params)]).await;
        answers.into_iter().next().unwrap_or(Err(CallFailure::Unanswered))
    }

    /// Sends one request with as many of the calls as fit, at most `size`. Returns how many it held.
    pub(crate) async fn request(&self, calls: &[Call], size: usize) -> (usize, Result<Reply, CallFailure>) {
        let ids = self.next_id.fetch_add(u64::try_from(calls.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let (body, count) = body(calls, ids, size);
        (count, self.post(body, ids, count).await)
    }

    async fn post(&self, body: Vec<u8>, ids: u64, count: usize) -> Result<Reply, CallFailure> {
        let answers = self.round_trip(body, ids, count).await;
        let outcome = match &answers {
            Ok(_) => "answered",
            Err(failure) if failure.is_rate_limit() => "limited",
            Err(_) => "failed",
        };
        metrics::counter!(meters::RPC_REQUESTS, "host" => self.host.clone(), "outcome" => outcome).increment(1);
        answers
    }

    async fn round_trip(&self, body: Vec<u8>, ids: u64, count: usize) -> Result<Reply, CallFailure> {
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
                return Err(CallFailure::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(CallFailure::RateLimited { retry_after });
        }
        let reply = Reply::read(&body, ids, count);
        // Some nodes set an HTTP status with a JSON-RPC error. Without JSON-RPC, only the status is left.
        if !matches!(reply, Err(CallFailure::NotJsonRpc)) {
            return reply;
        }
        let words = body.get(..LIMIT_WORDS_BYTES).unwrap_or(&body);
        if !status.is_server_error() && classify::is_rate_limit(0, &String::from_utf8_lossy(words)) {
            return Err(CallFailure::RateLimited { retry_after });
        }
        if status.is_success() { reply } else { Err(CallFailure::Status { status: status.as_u16(), retry_after }) }
    }
}

/// The body for as many of the calls as fit, and their number. A single call is not an array, because some providers
/// accept no batches.
fn body(calls: &[Call], ids: u64, size: usize) -> (Vec<u8>, usize) {
    let mut items: Vec<Vec<u8>> = Vec::new();
    let mut bytes: usize = 0;
    for (call, id) in calls.iter().zip(ids..).take(size.max(1)) {
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

fn failure_of(error: reqwest::Error) -> CallFailure {
    let error = error.without_url();
    if error.is_connect() {
        CallFailure::Unreachable(Arc::new(error))
    } else if error.is_timeout() {
        CallFailure::TimedOut
    } else {
        CallFailure::Broken(Arc::new(error))
    }
}

/// How long the endpoint asks us to wait, at most [`RETRY_AFTER_MAX`].
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let asked = text(RETRY_AFTER)?;
    let wait = if let Ok(seconds) = asked.parse() {
        Duration::from_secs(seconds)
    } else {
        // The form with a date refers to the endpoint's clock, which the `Date` header gives. A past date, or a
        // missing `Date` header, requests no wait.
        let (until, now) = (httpdate::parse_http_date(asked).ok()?, text(DATE)?);
        until.duration_since(httpdate::parse_http_date(now).ok()?).ok()?
    };
    Some(wait.min(RETRY_AFTER_MAX))
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
    fn retry_after_is_read_in_seconds_or_as_a_date() {
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
    fn unreadable_or_past_retry_after_is_none() {
        const DATE: Option<&str> = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:30 GMT", DATE), None, "it is in the past");
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:44 GMT", None), None, "no date to count from");
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:44 GMT", Some("now")), None);
        for asked in ["soon", "-7", "7.5", ""] {
            assert_eq!(wait(asked, DATE), None, "{asked}");
        }
    }
}
