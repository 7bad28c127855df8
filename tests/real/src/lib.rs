//! Tests against a real node, geth. `cargo verify --real` installs it and runs them: they are behind the feature
//! `geth`, so that `cargo test --workspace` needs no Go and skips nothing.
//!
//! Read in this order: `tests/geth/node.rs` (a geth of the test's own), `pool.rs` (what its pool takes and keeps),
//! `restart.rs`, `rewind.rs`, `differential.rs` (the same bytes to geth and to the BSC gate);
//! `tests/e2e/real` has a whole worker on it.
