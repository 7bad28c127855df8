//! Writes `schemas/` from the wire types, and the page about the metrics from their list.

use std::fs;

fn main() -> std::io::Result<()> {
    for (name, schema) in signpost_txmgr::wire::schema::schemas() {
        fs::write(signpost_tidy::root().join("schemas").join(name), signpost_tidy::rendered(&schema))?;
    }
    fs::write(signpost_tidy::root().join("infra/metrics.md"), signpost_tidy::metrics_page())
}
