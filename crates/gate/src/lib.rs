//! Proxies that make the local stack as strict and as faulty as the real thing: the [`bsc`] gate in
//! front of anvil, the [`aws`] gate in front of ministack.
//!
//! Both are for tests and laptops. They hold no key, verify no AWS signature, listen where they are
//! told (loopback by default) and never change what passes without a fault's order.
//!
//! Faults come by [`script`]: rules that are handed in in process, or by `POST /_gate/script` from
//! another one; `GET /_gate/stats` counts what passed and what was injected.
//!
//! Read in this order: [`script`] (when a fault fires), [`stats`], [`control`], `http` (a server
//! that can cut a connection without an answer), [`bsc`], [`aws`].

pub mod aws;
pub mod bsc;
pub mod chance;
pub mod change;
pub mod control;
mod http;
pub mod script;
pub mod stats;

pub use http::GateError;
