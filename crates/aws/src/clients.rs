//! The setup of AWS clients: rustls with ring, short timeouts, and no retries inside the SDK.
//!
//! The adapters repeat calls themselves ([`crate::repeat`]), because they must see every try to know
//! whether one of them may have taken effect. Region, credentials and `AWS_ENDPOINT_URL` come from the
//! environment, as with every AWS tool. Read next: [`crate::fault`].

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

/// Timeout for opening a connection: to a service in the same region it takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of one try. The slowest call, a transaction of 4 MB, takes less than a second; a later reply
/// counts as lost.
const TRY_TIMEOUT: Duration = Duration::from_secs(8);

/// The configuration that all clients of a process share, from the environment.
///
/// Reads files and, for credentials, may call the endpoint of the instance or the container.
pub async fn from_environment() -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(no_retries())
        .timeout_config(timeouts(Duration::ZERO))
        .load()
        .await
}

/// The SDK tries once; [`crate::repeat`] makes the other tries.
pub(crate) fn no_retries() -> RetryConfig {
    RetryConfig::disabled()
}

/// The timeouts of one try of a call that the service holds open for `held`.
pub(crate) fn timeouts(held: Duration) -> TimeoutConfig {
    let timeout = TRY_TIMEOUT.saturating_add(held);
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(timeout)
        .operation_timeout(timeout.saturating_add(CONNECT_TIMEOUT))
        .build()
}
