//! Tests against a real node, geth. `cargo verify --real` installs it and runs them: they need the feature `geth`, so
//! that `cargo test --workspace` needs no Go and skips nothing.
//!
//! Read in this order: `tests/geth/node.rs` (starts a geth per test), `pool.rs` (what its pool accepts and keeps),
//! `restart.rs`, `rewind.rs`, `differential.rs` (the same bytes to geth and to the BSC gate); `tests/e2e/real` runs a
//! whole worker on it.
