//! crates/txmgr
