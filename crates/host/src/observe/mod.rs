//! Observability of a program: logs for operators, metrics for alarms, traces for questions about
//! a single request. Each kind of program sets it up with one call: `lambda` (feature
//! `lambda`), or `start` (feature `exporters`) in a long-running program.
//!
//! Decides nothing and blocks nothing: an unreachable collector loses spans, not
//! requests. Never shows calldata, secrets or signatures; [`logs`] silences libraries that would.
//!
//! Read in this order: [`logs`], `emf`, `prometheus` and `traces`.

#[cfg(feature = "lambda")]
pub mod emf;
pub mod logs;
#[cfg(feature = "exporters")]
mod prometheus;
#[cfg(feature = "exporters")]
mod traces;

#[cfg(feature = "lambda")]
pub use self::short::lambda;

#[cfg(feature = "lambda")]
mod short {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;

    use super::emf::Emf;
    use super::logs;

    /// For a Lambda function: logs as JSON lines on stderr, metrics as CloudWatch's embedded format on
    /// stdout. The caller prints them at the end of each invocation: [`Emf::flush`].
    #[must_use]
    pub fn lambda() -> Emf {
        // For both, the first one of a process stays; a second one is ignored.
        let _ = tracing_subscriber::registry().with(logs::json(std::io::stderr)).try_init();
        logs::warn_if_unreadable();
        let emf = Emf::default();
        let _ = metrics::set_global_recorder(emf.clone());
        emf
    }
}

#[cfg(feature = "exporters")]
pub use self::long::{Logs, Observing, check_traces, start};

#[cfg(feature = "exporters")]
mod long {
    use std::io::IsTerminal as _;
    use std::path::PathBuf;
    use std::sync::Mutex;

    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;

    use super::{logs, prometheus, traces};
    use crate::config::Observe;
    use crate::start::StartError;

    /// The destination of logs.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Logs {
        /// To stderr: as text on a terminal, otherwise one JSON object per line.
        Stderr,
        /// To a new file, as text, so that the terminal stays readable.
        File(PathBuf),
    }

    /// The installed exporters; must be ended.
    #[derive(Debug)]
    pub struct Observing(Option<traces::Traces>);

    impl Observing {
        /// Sends the pending spans.
        pub async fn end(self) {
            if let Some(traces) = self.0 {
                traces.end().await;
            }
        }
    }

    /// Checks that [`start`] could set up the exporter of traces. Installs and sends nothing.
    pub fn check_traces(observe: &Observe) -> Result<(), StartError> {
        traces::endpoint(observe).map(|endpoint| traces::exporter(&endpoint)).transpose().map(drop)
    }

    /// Installs logs, metrics and traces according to the configuration; `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` and
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` override its endpoint. Must be called within the runtime.
    pub fn start(observe: &Observe, to: Logs) -> Result<Observing, StartError> {
        let layer = match to {
            Logs::Stderr if std::io::stderr().is_terminal() => logs::text(std::io::stderr, true),
            Logs::Stderr => logs::json(std::io::stderr),
            Logs::File(path) => {
                let file = std::fs::File::create(&path).map_err(|source| StartError::LogFile { path, source })?;
                logs::text(Mutex::new(file), false)
            }
        };
        let mut layers = vec![layer];
        let traces = traces::endpoint(observe).map(|endpoint| traces::install(&endpoint)).transpose()?;
        let traces = traces.map(|(layer, traces)| {
            layers.push(layer);
            traces
        });
        // The first subscriber of a process stays; a second one is ignored.
        let _ = tracing_subscriber::registry().with(layers).try_init();
        logs::warn_if_unreadable();
        if let Some(address) = observe.metrics_listen {
            prometheus::serve(address)?;
        }
        Ok(Observing(traces))
    }
}
