//! What every example begins with: the AWS connection and the client, from the variables that `signpost dev` prints.

use std::env::var;
use std::error::Error;

use aws_config::SdkConfig;
use signpost_client::Client;

/// What an example ends with: nothing, or why it could not do its work.
pub(crate) type Done<T = ()> = Result<T, Box<dyn Error>>;

/// The AWS connection: `AWS_ENDPOINT_URL`, `AWS_REGION` and credentials, as every AWS SDK reads them.
pub(crate) async fn aws() -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(aws_smithy_http_client::tls::Provider::Rustls(
            aws_smithy_http_client::tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https();
    aws_config::from_env().http_client(http).load().await
}

/// The client: `SIGNING_QUEUE_URL` and `REQUESTS_TABLE`.
pub(crate) fn client(aws: &SdkConfig) -> Done<Client> {
    Ok(Client::new(aws, var("SIGNING_QUEUE_URL")?, var("REQUESTS_TABLE")?))
}
