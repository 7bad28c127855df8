//! The trace a request belongs to, and the spans of its steps.
//!
//! A backend may say with its message which trace it is part of. The record keeps that word, and every
//! step of the request, in whatever process and after whatever queue, opens a span that says so: the
//! record is the only truth here too, pokes carry nothing. What a span becomes is the host's matter
//! ([`install`]); without a host it is fields on log lines.
//!
//! Nothing is ever decided by a trace. Read next: [`crate::signer`], [`crate::broadcaster`].

use std::fmt;
use std::sync::OnceLock;

use tracing::Span;

/// A place in a trace: W3C Trace Context's `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// Not all zero.
    pub trace_id: [u8; 16],
    /// The span to be under; not all zero.
    pub span_id: [u8; 8],
    /// Whether whoever began the trace wants it kept.
    pub sampled: bool,
}

impl TraceParent {
    /// Reads a `traceparent` (W3C Trace Context, level 1), or what SQS's `AWSTraceHeader` holds
    /// (`Root=1-…;Parent=…;Sampled=1`). Anything else names no place in a trace.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_w3c(text).or_else(|| Self::from_xray(text))
    }

    fn from_w3c(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let [version] = bytes(version)?;
        let [flags] = bytes(flags)?;
        // Later versions may add parts; ours may not.
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

/// As a `traceparent`.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{}-{}-{flags:02x}", hex::encode(self.trace_id), hex::encode(self.span_id))
    }
}

/// Lower-case hex of exactly so many bytes.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// What a host does with spans.
#[derive(Debug, Clone, Copy)]
pub struct Hooks {
    /// Puts a new span under this place.
    pub join: fn(&Span, &TraceParent),
    /// The place of a span in its trace, if it has one.
    pub of: fn(&Span) -> Option<TraceParent>,
}

static HOOKS: OnceLock<Hooks> = OnceLock::new();

/// Says what becomes of spans, once per process; the first word holds.
pub fn install(hooks: Hooks) {
    let _ = HOOKS.set(hooks);
}

/// Puts a new span under the place that a message or a record names, if it names one.
pub(crate) fn join(span: &Span, trace: Option<&str>) {
    if let Some((hooks, parent)) = HOOKS.get().zip(trace.and_then(TraceParent::parse)) {
        (hooks.join)(span, &parent);
    }
}

/// What a record keeps of the span that accepts its request: all that follows is under it. Without a host
/// that traces, the message's own word.
pub(crate) fn kept(accepting: &Span, message: Option<&str>) -> Option<String> {
    let ours = HOOKS.get().and_then(|hooks| (hooks.of)(accepting));
    ours.or_else(|| message.and_then(TraceParent::parse)).map(|parent| parent.to_string())
}

/// The `traceparent` an outcome goes out with: equal on all copies, so it is the record's or the message's.
pub(crate) fn told(trace: Option<&str>) -> Option<String> {
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
    fn a_traceparent_reads_and_writes() {
        let parent = TraceParent::parse(W3C).unwrap();
        assert_eq!((parent.trace_id[0], parent.span_id[7], parent.sampled), (0x0a, 0x31, true));
        assert_eq!(parent.to_string(), W3C);
        assert!(!TraceParent::parse(&W3C.replace("-01", "-00")).unwrap().sampled);
    }

    #[test]
    fn an_xray_header_is_the_same_place() {
        let header = "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1;Lineage=a:0";
        assert_eq!(TraceParent::parse(header), TraceParent::parse(W3C));
        assert!(!TraceParent::parse(&header.replace("Sampled=1", "Sampled=0")).unwrap().sampled);
    }

    #[test]
    fn what_names_no_place_is_none() {
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
