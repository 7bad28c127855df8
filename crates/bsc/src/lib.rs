//! Signpost's chain port ([`signpost_txmgr::ports::Chain`]) on the JSON-RPC of BNB Smart Chain nodes
//! and of the local stand-ins.
//!
//! Holds no key and decides no outcome: it asks, sends, and says what nodes said. URLs may carry
//! secrets, so nothing here prints more of them than the host.
//!
//! Read in this order: [`classify`].

pub mod classify;
