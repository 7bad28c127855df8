//! `sign-direct` against its contract, `tests/vectors/sign-direct.json`: in process, and as the program
//! Lambda starts, between a Runtime API and a KMS of our own.

#![expect(clippy::unwrap_used, reason = "a test may end at the first surprise")]
#![expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test, as it should")]

mod cases;
mod handler;
mod kms;
mod process;
mod properties;
mod runtime_api;
