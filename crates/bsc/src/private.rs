//! Endpoints that are sent to and never read from: a builder's door, past the public pools.
//!
//! Each has its own request, named by its [`PrivateShape`]; what they answer is held against the same
//! table as a node's words. Knows nothing of when they are used: that is `send.rs`.
//!
//! Never prints an authorization.

use std::fmt;

use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use signpost_txmgr::tx::RawTx;
use signpost_txmgr::units::TxHash;

use crate::quantity;
use crate::rpc::Call;

/// What an endpoint is for, and how it is asked to take a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointKind {
    /// A node: read from and sent to.
    Public,
    /// Sent to only.
    Private(PrivateShape),
}

/// The request of a private endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrivateShape {
    /// bloXroute's `bsc_private_tx`
    /// (<https://docs.bloxroute.com/bsc/submit-transactions/bsc-private-transactions>): parameters by name,
    /// the bytes in hex without `0x`, one transaction a request.
    Bloxroute {
        /// Builders who get it: `bloxroute`, `48club`, `blockrazor`, `jetbldr`, `nodereal`, or `all`. None leaves
        /// it to bloXroute, which takes its own.
        mev_builders: Vec<String>,
    },
}

impl EndpointKind {
    /// The call that hands a transaction over.
    pub(crate) fn send_call(&self, raw: &RawTx) -> Call {
        match self {
            Self::Public => Call::new("eth_sendRawTransaction", json!([quantity::hex_bytes(&raw.bytes)])),
            Self::Private(PrivateShape::Bloxroute { mev_builders }) => {
                let mut params = json!({"transaction": hex::encode(&raw.bytes)});
                if let (Some(params), false) = (params.as_object_mut(), mev_builders.is_empty()) {
                    params.insert("mev_builders".to_owned(), json!(mev_builders));
                }
                Call::new("bsc_private_tx", params)
            }
        }
    }

    /// The hash of the transaction that was taken. bloXroute names it inside an object, under either name, its
    /// text alone has been seen too; the prefix may be left out.
    pub(crate) fn taken(&self, result: &Value) -> Option<TxHash> {
        match self {
            Self::Public => quantity::tx_hash(result),
            Self::Private(PrivateShape::Bloxroute { .. }) => {
                let named = ["txHash", "tx_hash"].iter().find_map(|name| result.get(name));
                let text = named.unwrap_or(result).as_str()?;
                format!("0x{}", text.strip_prefix("0x").unwrap_or(text)).parse().ok()
            }
        }
    }
}

/// A private endpoint's configuration. `Debug` gives no URL.
#[derive(Clone)]
pub struct PrivateEndpoint {
    /// `http` or `https`. May hold a key.
    pub url: String,
    /// Its request.
    pub shape: PrivateShape,
    /// What goes into the `Authorization` header.
    pub authorization: Option<Authorization>,
}

impl fmt::Debug for PrivateEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateEndpoint")
            .field("shape", &self.shape)
            .field("authorization", &self.authorization)
            .finish_non_exhaustive()
    }
}

/// The value of an `Authorization` header: a secret, printed by nothing.
#[derive(Clone)]
pub struct Authorization(HeaderValue);

/// A text that is empty, or that no HTTP header can hold. It is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is empty, or holds characters that a header cannot")]
pub struct NotAHeader;

impl Authorization {
    /// The header's whole value, as the provider gives it. White space around it is left out.
    pub fn new(value: &str) -> Result<Self, NotAHeader> {
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| NotAHeader)?;
        value.set_sensitive(true);
        if value.is_empty() { Err(NotAHeader) } else { Ok(Self(value)) }
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "1111111111111111111111111111111111111111111111111111111111111111";

    fn bloxroute(mev_builders: &[&str]) -> EndpointKind {
        let mev_builders = mev_builders.iter().map(|&name| name.to_owned()).collect();
        EndpointKind::Private(PrivateShape::Bloxroute { mev_builders })
    }

    #[test]
    fn bytes_go_to_a_node_with_a_prefix_and_to_bloxroute_without() {
        let raw = RawTx { bytes: vec![2, 0xf8], hash: TxHash([0x11; 32]) };
        let call = EndpointKind::Public.send_call(&raw);
        assert_eq!((call.method, call.params), ("eth_sendRawTransaction", json!(["0x02f8"])));
        let call = bloxroute(&[]).send_call(&raw);
        assert_eq!((call.method, call.params), ("bsc_private_tx", json!({"transaction": "02f8"})));
        let call = bloxroute(&["bloxroute", "48club"]).send_call(&raw);
        assert_eq!(call.params, json!({"transaction": "02f8", "mev_builders": ["bloxroute", "48club"]}));
    }

    #[test]
    fn the_hash_is_found_wherever_bloxroute_puts_it() {
        let prefixed = format!("0x{HASH}");
        for result in [
            json!(prefixed),
            json!(HASH),
            json!({"txHash": prefixed}),
            json!({"txHash": HASH}),
            json!({"tx_hash": prefixed, "more": 1}),
        ] {
            assert_eq!(bloxroute(&[]).taken(&result), Some(TxHash([0x11; 32])), "{result}");
        }
        for result in [json!(null), json!({}), json!({"txHash": 5}), json!("0x11"), json!("ok"), json!([])] {
            assert_eq!(bloxroute(&[]).taken(&result), None, "{result}");
        }
        assert_eq!(EndpointKind::Public.taken(&json!({"txHash": prefixed})), None);
    }

    #[test]
    fn an_authorization_is_not_printed() {
        let endpoint = PrivateEndpoint {
            url: "https://host/topsecret".to_owned(),
            shape: PrivateShape::Bloxroute { mev_builders: Vec::new() },
            authorization: Some(Authorization::new(" topsecret\n").unwrap()),
        };
        let text = format!("{endpoint:?} {:?}", endpoint.authorization.as_ref().unwrap().header());
        assert!(!text.contains("topsecret"), "{text}");
        assert_eq!(endpoint.authorization.unwrap().header(), "topsecret");
        for wrong in ["", " ", "top\nsecret", "top\0secret"] {
            assert_eq!(Authorization::new(wrong).unwrap_err(), NotAHeader, "{wrong:?}");
        }
    }
}
