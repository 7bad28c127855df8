//! Checks of the repository itself, run as tests: dependency direction, file sizes, what
//! `machine.rs` imports, and that `schemas/` and the page about the metrics are what the code says.
//!
//! `cargo run -p signpost-tidy` writes the schemas and that page anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use signpost_txmgr::meters::{self, Kind, Meter};

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What `cargo metadata` says of the workspace; what is not downloaded is not looked for.
///
/// # Panics
/// If cargo does not run, or fails.
#[must_use]
pub fn metadata(more: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline"])
        .args(more)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// A schema as it stands in its file.
#[must_use]
pub fn rendered(schema: &serde_json::Value) -> String {
    format!("{schema:#}\n")
}

/// The page about the metrics, from the one list of them.
#[must_use]
pub fn metrics_page() -> String {
    let rows = meters::ALL.iter().map(|meter| {
        let kind = match meter.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels = meter.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let Meter { name, unit, meaning, alarm, .. } = meter;
        format!("| `{name}` | {kind} | {} | {labels} | {meaning} | {alarm} |\n", unit.name())
    });
    std::iter::once(METRICS_HEAD.to_owned()).chain(rows).collect()
}

const METRICS_HEAD: &str = "\
# Metrics

One list for both ways out: the worker's Prometheus endpoint (`[metrics] listen`), and the Lambda functions'
CloudWatch embedded metric format (namespace `Signpost`; labels are dimensions). A metric is never evidence:
verdicts come from the requests table. Written by `cargo run -p signpost-tidy` from `crates/txmgr/src/meters.rs`.

| name | kind | unit | labels | meaning | look when |
|---|---|---|---|---|---|
";
