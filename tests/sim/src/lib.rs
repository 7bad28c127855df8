//! tests/sim
