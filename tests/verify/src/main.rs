//! tests/verify
fn main() {}
