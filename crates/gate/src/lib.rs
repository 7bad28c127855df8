//! Proxies that make the local stack as strict as the real services and inject their faults: the [`bsc`] gate in front
//! of anvil, the [`aws`] gate in front of ministack.
//!
//! Both are for tests and laptops. They have no keys, verify no AWS signatures, listen on the configured address
//! (loopback by default) and change traffic only for a fault or a documented rule.
//!
//! A [`script`] defines the faults: rules that are set in the process, or by `POST /_gate/script` from another process.
//! `GET /_gate/stats` returns the counts of calls and of injected faults.
//!
//! Read in this order: [`script`] (when a fault fires), [`stats`], [`control`], `http` (a server that can close a
//! connection without an answer), [`bsc`], [`aws`].

pub mod aws;
pub mod bsc;
pub mod chance;
pub mod change;
pub mod control;
mod http;
pub mod script;
pub mod stats;

pub use http::GateError;
