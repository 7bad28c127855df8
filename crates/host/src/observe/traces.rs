//! Traces by OpenTelemetry, sent to a collector over OTLP/HTTP.
//!
//! The drivers open a span for each step of a request and name its trace
//! (`signpost_txmgr::trace`), which is passed to OpenTelemetry here. A span is sent with its
//! fields, but without its log lines.
//!
//! Further `OTEL_*` variables apply according to the OpenTelemetry specification: headers
//! (`OTEL_EXPORTER_OTLP_HEADERS`), sampler (`OTEL_TRACES_SAMPLER`), batches (`OTEL_BSP_*`), service name.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use signpost_txmgr::trace::{Hooks, TraceParent};
use tokio::runtime::Handle;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::{Layer as _, Registry};
use url::Url;

use super::logs::{AnyLayer, is_ours};
use crate::config::Observe;
use crate::start::StartError;

const SERVICE: &str = "signpost";
/// Timeout of a call to the collector.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_RESPONSE_BYTES: usize = 65_536;

/// The exporter of spans to the collector.
#[derive(Debug)]
pub(super) struct Traces(SdkTracerProvider);

impl Traces {
    /// Sends the pending spans, and stops.
    pub(super) async fn end(self) {
        // The shutdown blocks until the exporter, which needs this runtime, is done.
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown()).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!("the last spans were not sent");
        }
    }
}

/// The URL for spans, if traces are enabled.
pub(super) fn endpoint(observe: &Observe) -> Option<String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let of_all = set("OTEL_EXPORTER_OTLP_ENDPOINT");
    chosen(set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), of_all.as_deref(), observe.otlp_endpoint.as_deref())
}

/// The environment has priority, as with all tools; the variable for traces holds the complete URL.
fn chosen(of_traces: Option<String>, of_all: Option<&str>, configured: Option<&str>) -> Option<String> {
    let with_path = |base: &str| format!("{}/v1/traces", base.trim_end_matches('/'));
    of_traces.or_else(|| of_all.or(configured).map(with_path))
}

/// Creates the exporter. Nothing is sent yet.
pub(super) fn exporter(endpoint: &str) -> Result<SpanExporter, StartError> {
    // The URL may hold a key, so it is not printed.
    let wrong = |problem: &str| StartError::Traces(problem.to_owned());
    let url = Url::parse(endpoint).map_err(|_| wrong("the endpoint is not a valid URL"))?;
    let client = Client::new(&url).map_err(|_| wrong("the HTTP client cannot be set up"))?;
    let exporter = SpanExporter::builder().with_http().with_http_client(client).with_endpoint(endpoint);
    exporter.build().map_err(|_| wrong("the endpoint or an OTEL_ variable cannot be used"))
}

/// The layer that converts our spans to OpenTelemetry spans.
pub(super) fn install(endpoint: &str) -> Result<(AnyLayer<Registry>, Traces), StartError> {
    let exporter = exporter(endpoint)?;
    let named = std::env::var_os("OTEL_SERVICE_NAME").is_some_and(|name| !name.is_empty());
    let resource = Resource::builder();
    let resource = if named { resource } else { resource.with_service_name(SERVICE) };
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(SERVICE))
        .with_location(false)
        .with_threads(false)
        .with_filter(filter_fn(|of| of.is_span() && is_ours(of)));
    signpost_txmgr::trace::install(Hooks { join, of });
    Ok((layer.boxed(), Traces(provider)))
}

fn join(span: &Span, parent: &TraceParent) {
    let context = SpanContext::new(
        TraceId::from_bytes(parent.trace_id),
        SpanId::from_bytes(parent.span_id),
        TraceFlags::new(u8::from(parent.sampled)),
        true,
        TraceState::NONE,
    );
    // A span that the layer filters out has no parent to set.
    let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(context));
}

fn of(span: &Span) -> Option<TraceParent> {
    let context = span.context();
    let span = context.span();
    let found = span.span_context();
    found.is_valid().then(|| TraceParent {
        trace_id: found.trace_id().to_bytes(),
        span_id: found.span_id().to_bytes(),
        sampled: found.is_sampled(),
    })
}

/// An HTTP client for OTLP, the same as for nodes. The exporter runs on a separate thread.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
}

impl Client {
    fn new(url: &Url) -> Result<Self, reqwest::Error> {
        // Another part of the process may have installed a provider; any of them works.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().timeout(SEND_TIMEOUT).redirect(reqwest::redirect::Policy::none());
        // Plain HTTP needs no certificates, so the machine may have none.
        let builder = if url.scheme() == "https" { builder } else { builder.tls_certs_only([]) };
        let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let builder = if loopback { builder.no_proxy() } else { builder };
        Ok(Self { http: builder.build()?, runtime: Handle::current() })
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let request = self.http.post(head.uri.to_string()).headers(head.headers).body(body);
        let sent = self.runtime.spawn(async move {
            let mut answer = request.send().await.map_err(reqwest::Error::without_url)?;
            let status = answer.status();
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
                body.extend_from_slice(&chunk);
                body.truncate(MAX_RESPONSE_BYTES);
            }
            let mut response = http::Response::new(Bytes::from(body));
            *response.status_mut() = status;
            Ok::<_, reqwest::Error>(response)
        });
        Ok(sent.await??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_overrides_the_file_and_a_base_url_gets_a_path() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(chosen(None, None, None), None);
        assert_eq!(chosen(None, None, Some("http://a:1/")), some("http://a:1/v1/traces"));
        assert_eq!(chosen(None, Some("http://b:2"), Some("http://a:1")), some("http://b:2/v1/traces"));
        assert_eq!(chosen(some("http://c:3/own"), Some("http://b:2"), None), some("http://c:3/own"));
    }
}
