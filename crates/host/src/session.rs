//! A configuration together with AWS as it says. Connects to nothing by itself.

use aws_config::SdkConfig;

use crate::aws::{self, Target};
use crate::config::Config;

/// A configuration, a file's or a function's, and AWS as it says.
#[derive(Debug, Clone)]
pub struct Session<C = Config> {
    /// The configuration.
    pub config: C,
    /// What AWS clients are made of.
    pub sdk: SdkConfig,
}

impl Session {
    /// Reads the environment for what AWS clients need.
    pub async fn new(config: Config) -> Self {
        Self { sdk: connect(&config).await, config }
    }
}

/// AWS as the configuration says; `AWS_ENDPOINT_URL` overrides its endpoint.
pub async fn connect(config: &Config) -> SdkConfig {
    let overridden = std::env::var_os("AWS_ENDPOINT_URL").is_some_and(|url| !url.is_empty());
    let endpoint = if overridden { None } else { config.endpoint.clone() };
    aws::connect(&Target { endpoint, region: config.region.clone() }).await
}
