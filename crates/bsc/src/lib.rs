//! crates/bsc
