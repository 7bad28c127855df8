//! tests/contract
