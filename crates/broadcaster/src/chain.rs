//! The chain port built from the configuration: nodes, private endpoints, price limits.

use signpost_bsc::chain::{BscChain, BscConfig};
use signpost_bsc::endpoints::SendTo as SendToEndpoints;
use signpost_bsc::private::{AuthorizationHeader, PrivateEndpoint, PrivateShape};
use signpost_host::config::{self, BroadcasterSettings, SendTo};
use signpost_host::error_chain;
use signpost_host::session::Session;
use signpost_host::start::StartError;
use signpost_txmgr::units::{ChainId, U256, Wei};

/// Creates the chain port. Opens no connection yet.
pub fn chain(session: &Session<impl BroadcasterSettings>) -> Result<BscChain, StartError> {
    // Only the first call in a process has an effect; every caller installs the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let chain = session.config.chain();
    let send_to = match chain.send_to {
        SendTo::All => SendToEndpoints::All,
        SendTo::First => SendToEndpoints::First,
    };
    let endpoints = chain.private.iter().flat_map(|private| &private.endpoints).zip(1..);
    let config = BscConfig {
        private: endpoints.map(|(endpoint, number)| private_endpoint(endpoint, number)).collect::<Result<_, _>>()?,
        private_only: chain.private.as_ref().is_none_or(|private| private.only),
        send_to,
        finality: chain.finality,
        fee_floor: Wei::from(chain.fee_floor_wei),
        fee_ceiling: chain.fee_ceiling_wei.map_or(Wei(U256::MAX), Wei::from),
        ..BscConfig::new(ChainId(chain.chain_id), chain.rpc_urls.clone())
    };
    BscChain::new(&config).map_err(|error| StartError::Chain(error_chain(&error)))
}

/// A private endpoint with its authorization, which comes from the environment or from the nodes' secret.
fn private_endpoint(endpoint: &config::PrivateEndpoint, number: usize) -> Result<PrivateEndpoint, StartError> {
    let (place, value) = match &endpoint.authorization {
        config::AuthorizationSource::Variable(name) => {
            ("the environment variable of authorization_env", std::env::var(name).ok())
        }
        config::AuthorizationSource::Value(value) => ("authorization", Some(value.clone())),
    };
    let wrong = |problem: &str| StartError::Chain(format!("private[{number}]: {place} {problem}"));
    let value = value.ok_or_else(|| wrong("is not set"))?;
    let authorization = AuthorizationHeader::new(&value).map_err(|error| wrong(&error.to_string()))?;
    let shape = match endpoint.shape {
        config::PrivateShape::Bloxroute => PrivateShape::Bloxroute { mev_builders: endpoint.mev_builders.clone() },
    };
    Ok(PrivateEndpoint { url: endpoint.url.clone(), shape, authorization: Some(authorization) })
}
