//! Checks of the repository itself, run as tests: dependency direction, file sizes, what the machine imports, what
//! pages and comments cite, and that the files made from code are what the code says.
//!
//! `cargo run -p signpost-tidy` writes those files anew: the JSON Schemas, the AsyncAPI document and its page, the
//! tables in `schemas/README.md`, and `infra/metrics.md`. Read in this order: [`made`], [`messages`], [`fields`],
//! [`asyncapi`], [`yaml`].

pub mod asyncapi;
pub mod fields;
pub mod messages;
pub mod yaml;

use std::path::{Path, PathBuf};
use std::process::Command;

use signpost_txmgr::meters::{self, Kind, Meter};
use signpost_txmgr::wire::schema::schemas;

/// The first line of a file that is made whole.
const MADE_BY: &str = "Made by `cargo run -p signpost-tidy`; do not edit.";

/// Every file that is made from code, by its path, with the text it should have.
#[must_use]
pub fn made() -> Vec<(String, String)> {
    let schemas = schemas().into_iter().map(|(name, schema)| (format!("schemas/{name}"), rendered(&schema)));
    let others = [
        ("schemas/asyncapi.yaml", asyncapi::file()),
        ("schemas/asyncapi.md", asyncapi::page()),
        ("schemas/README.md", messages::page()),
        ("infra/metrics.md", metrics_page()),
    ];
    schemas.chain(others.map(|(path, text)| (path.to_owned(), text))).collect()
}

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
