//! Writes `schemas/` from the wire types.

use std::fs;

fn main() -> std::io::Result<()> {
    for (name, schema) in signpost_txmgr::wire::schema::schemas() {
        fs::write(signpost_tidy::root().join("schemas").join(name), signpost_tidy::rendered(&schema))?;
    }
    Ok(())
}
