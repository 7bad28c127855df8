//! What the client sends and what it makes of the answers. Its network is a script, its requests are
//! read by the service's own parser. Against a whole Signpost it runs in `tests/e2e`, as this crate's
//! example and in every command of the CLI.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a test ends at the first surprise")]

mod asking;
mod looking;
mod outcomes;
mod script;
mod sending;
