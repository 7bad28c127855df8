//! The trace a request belongs to, and the spans of its steps.
//!
//! A backend may send a trace context with its message. The record stores it, and every step of the request
//! opens a span in that trace, in every process. Pokes carry no trace context: the record is the only source. The
//! host decides what becomes of a span ([`install`]); without a host a span only adds fields to log lines.
//!
//! No decision depends on a trace. Read next: [`crate::signer`], [`crate::broadcaster`].

use std::fmt;
use std::sync::OnceLock;

use tracing::Span;

/// A parent span in a trace: W3C Trace Context's `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; not all zero.
    pub trace_id: [u8; 16],
    /// The parent span; not all zero.
    pub span_id: [u8; 8],
    /// The sampled flag, set by the service that began the trace.
    pub sampled: bool,
}

impl TraceParent {
    /// Parses a `traceparent` (W3C Trace Context, level 1) or an SQS `AWSTraceHeader`
    /// (`Root=1-…;Parent=…;Sampled=1`). `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_w3c(text).or_else(|| Self::from_xray(text))
    }

    fn from_w3c(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let [version] = bytes(version)?;
        let [flags] = bytes(flags)?;
        // Later versions may add parts; version 0 has exactly four.
        let known = version != 0xff && (version != 0 || parts.next().is_none());
        known.then(|| Self::new(bytes(trace_id)?, bytes(span_id)?, flags & 1 == 1)).flatten()
    }

    fn from_xray(text: &str) -> Option<Self> {
        let part = |name: &str| {
            let mut parts = text.split(';').filter_map(|part| part.trim().split_once('='));
            parts.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let (epoch, rest) = part("Root")?.strip_prefix("1-")?.split_once('-')?;
        Self::new(bytes(&format!("{epoch}{rest}"))?, bytes(part("Parent")?)?, part("Sampled") == Some("1"))
    }

    fn new(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool) -> Option<Self> {
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self { trace_id, span_id, sampled })
    }
}

/// Writes a `traceparent`.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{}-{}-{flags:02x}", hex::encode(self.trace_id), hex::encode(self.span_id))
    }
}

/// Decodes lower-case hex of exactly `N` bytes.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// How the host's tracing backend links spans.
#[derive(Debug, Clone, Copy)]
pub struct Hooks {
    /// Sets the parent of a new span.
    pub join: fn(&Span, &TraceParent),
    /// The trace context of a span, if it has one.
    pub of: fn(&Span) -> Option<TraceParent>,
}

static HOOKS: OnceLock<Hooks> = OnceLock::new();

/// Installs the host's hooks, once per process; later calls have no effect.
pub fn install(hooks: Hooks) {
    let _ = HOOKS.set(hooks);
}

/// Sets the parent of a new span to the trace context of a message or a record, if there is one.
pub(crate) fn join(span: &Span, trace: Option<&str>) {
    if let Some((hooks, parent)) = HOOKS.get().zip(trace.and_then(TraceParent::parse)) {
        (hooks.join)(span, &parent);
    }
}

/// The trace context that a record stores: that of the span that accepts the request, so that all later spans are
/// its children. Without a tracing host, the message's own.
pub(crate) fn kept(accepting: &Span, message: Option<&str>) -> Option<String> {
    let ours = HOOKS.get().and_then(|hooks| (hooks.of)(accepting));
    ours.or_else(|| message.and_then(TraceParent::parse)).map(|parent| parent.to_string())
}

/// The `traceparent` of an outcome. All copies must be equal, so it comes from the record or the message.
pub(crate) fn traceparent(trace: Option<&str>) -> Option<String> {
    trace.and_then(TraceParent::parse).map(|parent| parent.to_string())
}

/// The span of one step of a request, in the request's trace.
macro_rules! step {
    ($name:literal, $record:expr) => {{
        let record: &crate::record::Record = $record;
        let span = tracing::info_span!(
            $name,
            request_id = %record.request_id,
            account = %record.account,
            nonce = record.nonce.0,
            attempt = tracing::field::Empty,
            tx_hash = tracing::field::Empty,
            answer = tracing::field::Empty,
            status = tracing::field::Empty,
        );
        crate::trace::join(&span, record.trace.as_deref());
        span
    }};
}
pub(crate) use step;

#[cfg(test)]
mod tests {
    use super::*;

    const W3C: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn traceparent_round_trips() {
        let parent = TraceParent::parse(W3C).unwrap();
        assert_eq!((parent.trace_id[0], parent.span_id[7], parent.sampled), (0x0a, 0x31, true));
        assert_eq!(parent.to_string(), W3C);
        assert!(!TraceParent::parse(&W3C.replace("-01", "-00")).unwrap().sampled);
    }

    #[test]
    fn xray_header_parses_to_the_same_parent() {
        let header = "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1;Lineage=a:0";
        assert_eq!(TraceParent::parse(header), TraceParent::parse(W3C));
        assert!(!TraceParent::parse(&header.replace("Sampled=1", "Sampled=0")).unwrap().sampled);
    }

    #[test]
    fn malformed_trace_context_is_none() {
        for text in [
            "",
            "00-1",
            "Root=1-2",
            "Root=1-0af76519-16cd43dd8448eb211c80319c",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text}");
        }
        assert!(TraceParent::parse(&format!("{}-more", W3C.replacen("00-", "01-", 1))).is_some(), "a later version");
    }
}
