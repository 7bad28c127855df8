//! Checks of the repository itself, run as tests: dependency direction, file sizes, what
//! `machine.rs` imports, and that `schemas/` is what the code says.
//!
//! `cargo run -p signpost-tidy` writes the schemas anew.

use std::path::{Path, PathBuf};

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A schema as it stands in its file.
#[must_use]
pub fn rendered(schema: &serde_json::Value) -> String {
    format!("{schema:#}\n")
}
