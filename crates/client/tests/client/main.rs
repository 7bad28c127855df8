//! The client's requests and how it reads the answers. Its network is a script, and the service's parser reads its
//! requests. `tests/e2e` runs it against a complete Signpost, as this crate's example and in every command of the CLI.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a test may panic")]

mod asking;
mod looking;
mod outcomes;
mod script;
mod sending;
