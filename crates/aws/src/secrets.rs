//! A secret's text from AWS Secrets Manager. Never logged, and never part of an error.
//!
//! IAM action: `secretsmanager:GetSecretValue`.

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use signpost_txmgr::ports::PortError;

use crate::clients;
use crate::fault::AwsError;
use crate::repeat::{Backoff, repeat};

/// Reads the current text of the secret with this ARN or name. Retries and time-outs of `sdk` are not used.
pub async fn text(sdk: &SdkConfig, secret: &str) -> Result<String, PortError> {
    let config = aws_sdk_secretsmanager::config::Builder::from(sdk)
        .retry_config(clients::no_retries())
        .timeout_config(clients::timeouts(std::time::Duration::ZERO))
        .build();
    read(&Client::from_conf(config), &Backoff::STANDARD, secret).await
}

/// Reads it with a client that does not retry by itself.
async fn read(client: &Client, backoff: &Backoff, secret: &str) -> Result<String, PortError> {
    const OPERATION: &str = "GetSecretValue";
    let request = client.get_secret_value().secret_id(secret);
    let answer =
        repeat(backoff, OPERATION, || request.clone().send()).await.map_err(|failure| failure.into_port(OPERATION))?;
    answer.secret_string.ok_or_else(|| AwsError::Incomplete("SecretString").unusable(OPERATION))
}
