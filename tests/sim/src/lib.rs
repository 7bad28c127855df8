//! tests/sim
pub mod explorer;
