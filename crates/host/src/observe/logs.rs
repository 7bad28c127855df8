//! Logs: which lines are written, and in which format.
//!
//! `RUST_LOG` selects targets with levels: `info`, `warn,signpost_bsc=debug`. Filters by spans and fields are not
//! supported, since they need a regular expression engine in the functions' packages. INFO is a phase
//! change, WARN needs attention, ERROR concerns an invariant or money.
//!
//! ## Guarantees
//! * Whatever `RUST_LOG` is, libraries write nothing below INFO: at finer levels the AWS
//!   SDK and the HTTP client log complete requests and answers, with calldata, and with signatures before they
//!   are stored.
//! * No line contains a control character or an invisible character, from any source.

use std::io;

use signpost_txmgr::text;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt as _, FilterFn, Targets, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Filter;
use tracing_subscriber::registry::LookupSpan;

/// A layer of any kind.
pub(super) type AnyLayer<S> = Box<dyn Layer<S> + Send + Sync>;

/// One JSON object per line, with its enclosing spans.
pub(super) fn json<S, W>(writer: W) -> AnyLayer<S>
where
    S: Subscriber + for<'s> LookupSpan<'s> + Send + Sync,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_writer(Clean { writer, clean: text::json_written });
    layer.with_filter(filter(std::env::var("RUST_LOG").ok().as_deref())).boxed()
}

/// Plain text lines for humans.
#[cfg(feature = "exporters")]
pub(super) fn text<S, W>(writer: W, colours: bool) -> AnyLayer<S>
where
    S: Subscriber + for<'s> LookupSpan<'s> + Send + Sync,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(Clean { writer, clean: text::screen });
    layer.with_filter(filter(std::env::var("RUST_LOG").ok().as_deref())).boxed()
}

/// A writer that cleans each line. The layers write complete lines.
#[derive(Debug)]
struct Clean<W> {
    writer: W,
    clean: fn(&str) -> String,
}

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Clean<W> {
    type Writer = Clean<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Clean { writer: self.writer.make_writer(), clean: self.clean }
    }

    fn make_writer_for(&'w self, of: &Metadata<'_>) -> Self::Writer {
        Clean { writer: self.writer.make_writer_for(of), clean: self.clean }
    }
}

impl<W: io::Write> io::Write for Clean<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write_all((self.clean)(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// The filter of `RUST_LOG`, limited to what may be logged; `info` if it is empty or cannot be read.
fn filter<S>(asked: Option<&str>) -> impl Filter<S> + Send + Sync + 'static
where
    S: Subscriber + 'static,
{
    let asked: Option<Targets> = asked.filter(|asked| !asked.trim().is_empty()).and_then(|asked| asked.parse().ok());
    let asked = asked.unwrap_or_else(|| Targets::new().with_default(Level::INFO));
    asked.and(discreet())
}

/// Logs a warning if `RUST_LOG` cannot be read. Call it after logging is set up.
pub(super) fn warn_if_unreadable() {
    let asked = std::env::var("RUST_LOG").unwrap_or_default();
    if !asked.trim().is_empty() && asked.parse::<Targets>().is_err() {
        tracing::warn!("RUST_LOG cannot be read; the level is info");
    }
}

fn discreet() -> FilterFn {
    filter_fn(is_discreet)
}

fn is_discreet(of: &Metadata<'_>) -> bool {
    *of.level() <= Level::INFO || is_ours(of)
}

/// Whether an event or span comes from code of this repository.
pub(super) fn is_ours(of: &Metadata<'_>) -> bool {
    of.target() == "signpost" || of.target().starts_with("signpost_")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that are written with this `RUST_LOG`.
    fn written(asked: Option<&str>) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false);
        let layer = layer.with_writer(move || writer.clone()).with_filter(filter(asked));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::trace!(target: "aws_smithy_runtime::client", "a request with its body");
            tracing::info!(target: "hyper_util", "theirs, important");
            let _span = tracing::info_span!(target: "signpost_txmgr::signer", "sign", request_id = "r-1").entered();
            tracing::debug!(target: "signpost_txmgr::signer", "ours, fine");
            tracing::info!(target: "signpost_txmgr::signer", "ours");
        });
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn finest_level_shows_our_lines_but_not_those_of_libraries() {
        let all = written(Some("trace"));
        assert!(all.contains("ours, fine") && all.contains("theirs, important"), "{all}");
        assert!(!all.contains("with its body"), "{all}");
        assert!(!written(Some("aws_smithy_runtime=trace,info")).contains("with its body"));
    }

    #[test]
    fn missing_or_unreadable_filter_means_info() {
        for asked in [None, Some(""), Some("signpost[{=x"), Some("info")] {
            let lines = written(asked);
            assert!(lines.contains("\"ours\"") && !lines.contains("ours, fine"), "{asked:?}: {lines}");
        }
    }

    #[test]
    fn lines_contain_no_control_characters() {
        let odd = "no\u{9b}2J\u{1b}[2J\u{7f}\u{202e}";
        let kept = Kept::default();
        let writer = kept.clone();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(json(move || writer.clone())), || {
            tracing::warn!(target: "signpost_txmgr::signer", words = odd, "a node says");
        });
        let line = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(line.trim_end().chars().all(text::is_plain), "{line:?}");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["words"], odd, "the text is preserved");
    }

    #[test]
    fn line_has_the_fields_of_its_request() {
        let lines = written(None);
        let line = lines.lines().find(|line| line.contains("\"ours\"")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["spans"][0]["request_id"], "r-1");
    }
}
