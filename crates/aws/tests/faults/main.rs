//! What no emulator shows and AWS does: conflicts on a hot item, throttling, partial answers, replies that are
//! lost. The clients are the real ones; their network is a script.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a test ends at the first surprise")]

mod keys;
mod lane;
mod queues;
mod requests;
mod reserving;
mod script;
mod world;
