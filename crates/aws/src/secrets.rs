//! A secret's text from AWS Secrets Manager. Never logged, and never part of an error.
//!
//! IAM action: `secretsmanager:GetSecretValue`.

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use aws_sdk_secretsmanager::operation::get_secret_value::builders::GetSecretValueFluentBuilder;
use signpost_txmgr::ports::PortError;

use crate::clients;
use crate::fault::AwsError;
use crate::repeat::{Backoff, repeat};

const OPERATION: &str = "GetSecretValue";

/// Reads the current text of the secret with this ARN or name. Retries and timeouts of `sdk` are not used.
pub async fn text(sdk: &SdkConfig, secret: &str) -> Result<String, PortError> {
    read(client(sdk).get_secret_value().secret_id(secret)).await
}

/// Reads the current text of a secret and, during a rotation, the previous one.
pub async fn texts(sdk: &SdkConfig, secret: &str) -> Result<Vec<String>, PortError> {
    let client = client(sdk);
    let staged = |stage: &str| client.get_secret_value().secret_id(secret).version_stage(stage);
    let (current, previous) =
        futures_util::future::join(read(staged("AWSCURRENT")), read_if_there(staged("AWSPREVIOUS"))).await;
    Ok(std::iter::once(current?).chain(previous?).collect())
}

fn client(sdk: &SdkConfig) -> Client {
    let config = aws_sdk_secretsmanager::config::Builder::from(sdk)
        .retry_config(clients::no_retries())
        .timeout_config(clients::timeouts(std::time::Duration::ZERO))
        .build();
    Client::from_conf(config)
}

/// Reads the text with a client without retries of its own.
async fn read(request: GetSecretValueFluentBuilder) -> Result<String, PortError> {
    let answer = repeat(&Backoff::STANDARD, OPERATION, || request.clone().send()).await;
    text_of(answer.map_err(|failure| failure.into_port(OPERATION))?)
}

/// Reads the text; `None` if the secret has no version at this stage.
async fn read_if_there(request: GetSecretValueFluentBuilder) -> Result<Option<String>, PortError> {
    match repeat(&Backoff::STANDARD, OPERATION, || request.clone().send()).await {
        Ok(answer) => text_of(answer).map(Some),
        Err(failure) => match failure.service() {
            Some(error) if error.is_resource_not_found_exception() => Ok(None),
            _ => Err(failure.into_port(OPERATION)),
        },
    }
}

fn text_of(answer: GetSecretValueOutput) -> Result<String, PortError> {
    answer.secret_string.ok_or_else(|| AwsError::Incomplete("SecretString").unusable(OPERATION))
}
