//! crates/aws
