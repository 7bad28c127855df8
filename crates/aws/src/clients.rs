//! How a client of AWS is set up: rustls with ring, short patience, and no repetition inside the SDK.
//!
//! The adapters repeat calls themselves ([`crate::repeat`]): only who sees every single try can say
//! whether one of them may have taken effect. Region, credentials and `AWS_ENDPOINT_URL` are the
//! environment's, as with every AWS tool. Read next: [`crate::fault`].

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

/// To a service of the same region a connection takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// One try. The slowest call, a transaction of 4 MB, takes below a second; a reply later than this is
/// taken for lost.
const TRY_TIMEOUT: Duration = Duration::from_secs(8);

/// The configuration all clients of a process share, from the environment.
///
/// Reads files and, for credentials, may ask the instance's or the container's own endpoint.
pub async fn from_environment() -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(no_retries())
        .timeout_config(timeouts(Duration::ZERO))
        .load()
        .await
}

/// The SDK tries once; [`crate::repeat`] does the rest.
pub(crate) fn no_retries() -> RetryConfig {
    RetryConfig::disabled()
}

/// The patience with one try, for a call that the service holds open for `held`.
pub(crate) fn timeouts(held: Duration) -> TimeoutConfig {
    let patience = TRY_TIMEOUT.saturating_add(held);
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(patience)
        .operation_timeout(patience.saturating_add(CONNECT_TIMEOUT))
        .build()
}
