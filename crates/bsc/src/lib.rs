//! Signpost's chain port ([`signpost_txmgr::ports::Chain`]) on the JSON-RPC of BNB Smart Chain nodes
//! and of the local stand-ins.
//!
//! Holds no key and decides no outcome: it asks, sends, and reports what nodes answered. URLs may carry
//! secrets, so nothing here prints more of a URL than its host.
//!
//! Read in this order: [`classify`], [`rpc`], [`endpoints`], [`chain`]; behind it `endpoint.rs`, `reply.rs`,
//! `batch.rs`, `limit.rs`, `view.rs`, `evidence.rs`, `parents.rs`, `corroborate.rs`, `price.rs`, `send.rs`,
//! `refusals.rs` and `search.rs`; [`private`] for send-only endpoints. [`payment_lane`] and [`forks`] are for display
//! and [`said`] is for evidence: they decide nothing. `README.md` lists the facts about the chain that the code depends
//! on.

mod answer;
mod batch;
mod batch_size;
pub mod chain;
pub mod classify;
mod corroborate;
mod endpoint;
pub mod endpoints;
mod evidence;
mod finality;
pub mod forks;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod limit;
mod methods;
mod parents;
pub mod payment_lane;
mod price;
pub mod private;
mod quantity;
mod receipt;
mod refusals;
mod reply;
pub mod rpc;
pub mod said;
mod search;
mod send;
mod view;

pub use chain::{BscChain, BscConfig, BscConfigError};
pub use endpoints::SendTo;
