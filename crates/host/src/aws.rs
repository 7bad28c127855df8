//! The settings of our AWS clients: endpoint, region and credentials come from the environment, as with every
//! AWS tool. For a loopback endpoint without them, the defaults of an emulator are used.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use signpost_txmgr::text::plain;

/// The region of an emulator, if none is set.
pub const LOOPBACK_REGION: &str = "us-east-1";

/// Settings that override the environment.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Endpoint of all services. By default `AWS_ENDPOINT_URL`, or AWS.
    pub endpoint: Option<String>,
    /// Region. By default that of the environment.
    pub region: Option<String>,
}

/// Reads the environment and builds the configuration that all AWS clients share.
pub async fn connect(target: &Target) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    let loopback = target.endpoint.clone().or_else(|| set("AWS_ENDPOINT_URL")).is_some_and(|url| is_loopback(&url));
    if let Some(region) = &target.region {
        loader = loader.region(Region::new(region.clone()));
    } else if loopback && set("AWS_REGION").or_else(|| set("AWS_DEFAULT_REGION")).is_none() {
        loader = loader.region(Region::new(LOOPBACK_REGION));
    }
    if loopback && set("AWS_ACCESS_KEY_ID").is_none() && set("AWS_PROFILE").is_none() {
        loader = loader.test_credentials();
    }
    // The SDK reads the environment's endpoints, including those of single services like AWS_ENDPOINT_URL_SQS.
    if let Some(endpoint) = &target.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    loader.load().await
}

/// AWS's error, or the reason why there was no answer, in one line.
pub fn reason<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    if let (Some(code), Some(message)) = (error.code(), error.message()) {
        return plain(&format!("{code}: {message}"));
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if matches!(error, SdkError::DispatchFailure(_)) {
        let remedy = "check AWS_ENDPOINT_URL and that the service runs (`signpost dev` starts a local one)";
        return format!("no connection ({cause}); {remedy}");
    }
    plain(&cause.to_string())
}

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether an endpoint is on this machine.
pub(crate) fn is_loopback(endpoint: &str) -> bool {
    let Ok(url) = url::Url::parse(endpoint) else {
        return false;
    };
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for endpoint in ["http://127.0.0.1:4566", "http://localhost:4566", "http://[::1]:1", "http://sqs.localhost"] {
            assert!(is_loopback(endpoint), "{endpoint}");
        }
        for endpoint in ["https://sqs.eu-west-1.amazonaws.com", "http://10.0.0.1", "http://localhost.example", "x"] {
            assert!(!is_loopback(endpoint), "{endpoint}");
        }
    }
}
