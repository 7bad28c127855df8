//! Send-only endpoints: they submit transactions to block builders and bypass the public pools.
//!
//! Each has its own request format, a [`PrivateShape`]. Their answers are checked against the same
//! table as a node's. `send.rs` decides when they are used.
//!
//! Never prints an authorization.

use std::fmt;

use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use signpost_txmgr::tx::RawTx;
use signpost_txmgr::units::TxHash;

use crate::quantity;
use crate::rpc::Call;

/// What an endpoint is used for, and its request format for sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointKind {
    /// A node: read from and sent to.
    Public,
    /// Sent to only.
    Private(PrivateShape),
}

/// The request format of a private endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrivateShape {
    /// bloXroute's `bsc_private_tx`
    /// (<https://docs.bloxroute.com/bsc/submit-transactions/bsc-private-transactions>): parameters by name,
    /// the bytes in hex without `0x`, one transaction a request.
    Bloxroute {
        /// Builders that get the transaction: `bloxroute`, `48club`, `blockrazor`, `jetbldr`, `nodereal`, or `all`. If
        /// empty, bloXroute uses its own builder.
        mev_builders: Vec<String>,
    },
}

impl EndpointKind {
    /// The call that sends a transaction.
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

    /// The hash of the accepted transaction. bloXroute returns it inside an object, under one of two names, or as plain
    /// text; the prefix may be missing.
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

/// A private endpoint's configuration. `Debug` does not print the URL.
#[derive(Clone)]
pub struct PrivateEndpoint {
    /// `http` or `https`. May hold a key.
    pub url: String,
    /// The request format.
    pub shape: PrivateShape,
    /// The value of the `Authorization` header.
    pub authorization: Option<AuthorizationHeader>,
}

impl fmt::Debug for PrivateEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateEndpoint")
            .field("shape", &self.shape)
            .field("authorization", &self.authorization)
            .finish_non_exhaustive()
    }
}

/// The value of an `Authorization` header: a secret that is never printed.
#[derive(Clone)]
pub struct AuthorizationHeader(HeaderValue);

/// A text that is empty or not valid in an HTTP header. The text is not printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is empty, or holds characters that a header cannot")]
pub struct NotAHeader;

impl AuthorizationHeader {
    /// The complete value of the header, as the provider gives it. Surrounding white space is trimmed.
    pub fn new(value: &str) -> Result<Self, NotAHeader> {
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| NotAHeader)?;
        value.set_sensitive(true);
        if value.is_empty() { Err(NotAHeader) } else { Ok(Self(value)) }
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for AuthorizationHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorizationHeader(…)")
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
    fn node_gets_prefixed_hex_and_bloxroute_bare_hex() {
        let raw = RawTx { bytes: vec![2, 0xf8], hash: TxHash([0x11; 32]) };
        let call = EndpointKind::Public.send_call(&raw);
        assert_eq!((call.method, call.params), ("eth_sendRawTransaction", json!(["0x02f8"])));
        let call = bloxroute(&[]).send_call(&raw);
        assert_eq!((call.method, call.params), ("bsc_private_tx", json!({"transaction": "02f8"})));
        let call = bloxroute(&["bloxroute", "48club"]).send_call(&raw);
        assert_eq!(call.params, json!({"transaction": "02f8", "mev_builders": ["bloxroute", "48club"]}));
    }

    #[test]
    fn hash_is_read_from_every_bloxroute_answer() {
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
    fn authorization_is_not_printed() {
        let endpoint = PrivateEndpoint {
            url: "https://host/topsecret".to_owned(),
            shape: PrivateShape::Bloxroute { mev_builders: Vec::new() },
            authorization: Some(AuthorizationHeader::new(" topsecret\n").unwrap()),
        };
        let text = format!("{endpoint:?} {:?}", endpoint.authorization.as_ref().unwrap().header());
        assert!(!text.contains("topsecret"), "{text}");
        assert_eq!(endpoint.authorization.unwrap().header(), "topsecret");
        for wrong in ["", " ", "top\nsecret", "top\0secret"] {
            assert_eq!(AuthorizationHeader::new(wrong).unwrap_err(), NotAHeader, "{wrong:?}");
        }
    }
}
