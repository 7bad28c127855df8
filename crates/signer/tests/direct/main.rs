//! `sign-direct` against its contract, `tests/vectors/sign-direct.json`: in process, and as the real program
//! with a fake Runtime API and a fake KMS.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::arithmetic_side_effects, reason = "an overflow correctly fails the test")]

mod cases;
mod handler;
mod kms;
mod process;
mod properties;
mod runtime_api;
