//! A configuration together with its AWS clients' configuration. Opens no connection.

use aws_config::SdkConfig;

use crate::aws::{self, Target};
use crate::config::Config;

/// A worker's or a function's configuration, and the configuration of its AWS clients.
#[derive(Debug, Clone)]
pub struct Session<C = Config> {
    /// The configuration.
    pub config: C,
    /// The configuration of AWS clients.
    pub sdk: SdkConfig,
}

impl Session {
    /// Reads the AWS settings from the environment.
    pub async fn new(config: Config) -> Self {
        Self { sdk: connect(&config).await, config }
    }
}

/// The configuration of AWS clients; `AWS_ENDPOINT_URL` overrides the configured endpoint.
pub async fn connect(config: &Config) -> SdkConfig {
    let overridden = std::env::var_os("AWS_ENDPOINT_URL").is_some_and(|url| !url.is_empty());
    let endpoint = if overridden { None } else { config.endpoint.clone() };
    aws::connect(&Target { endpoint, region: config.region.clone() }).await
}
