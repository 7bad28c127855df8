//! AWS as Lambda's environment says, and nothing else: region, credentials and endpoints are variables there.
//!
//! The chain of the AWS SDK that also asks files, other services and the instance is not linked into a
//! function: it makes a sixth of the package, and every start would go through it.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

use crate::config::ConfigError;

const ENDPOINT: &str = "AWS_ENDPOINT_URL";
const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION: &str = "AWS_SESSION_TOKEN";

/// What AWS clients are made of. Lambda sets all of it; outside of it the problems are told together.
pub fn from_environment() -> Result<SdkConfig, ConfigError> {
    of(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn of(variable: &dyn Fn(&str) -> Option<String>) -> Result<SdkConfig, ConfigError> {
    let region = REGIONS.iter().find_map(|name| variable(name));
    let (id, key) = (variable(KEY_ID), variable(KEY));
    let missing = [(REGIONS[0], region.is_some()), (KEY_ID, id.is_some()), (KEY, key.is_some())];
    let problems: Vec<_> = missing
        .iter()
        .filter(|(_, there)| !there)
        .map(|(name, _)| format!("{name} is missing; Lambda sets it"))
        .collect();
    let (Some(region), Some(id), Some(key)) = (region, id, key) else {
        return Err(ConfigError::Environment { problems });
    };
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let credentials = Credentials::new(id, key, variable(SESSION), None, "environment");
    let mut sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new(region))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .service_config(OfServices);
    sdk.set_endpoint_url(variable(ENDPOINT));
    Ok(sdk.build())
}

/// `AWS_ENDPOINT_URL_SQS` and the like, as every AWS client knows them.
#[derive(Debug)]
struct OfServices;

impl LoadServiceConfig for OfServices {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        std::env::var(format!("{}_{service}", key.env())).ok().filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lambdas_variables_are_all_there_is_to_know() {
        let sdk = of(&|name| match name {
            "AWS_REGION" => Some("eu-central-1".to_owned()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" | "AWS_SESSION_TOKEN" => Some("test".to_owned()),
            _ => None,
        })
        .unwrap();
        assert_eq!(sdk.region().map(Region::as_ref), Some("eu-central-1"));
        assert_eq!(sdk.endpoint_url(), None);
        assert!(sdk.credentials_provider().is_some() && sdk.http_client().is_some());
    }

    #[test]
    fn what_lambda_did_not_set_is_told_together() {
        let told = of(&|_| None).unwrap_err().to_string();
        for name in ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            assert!(told.contains(name), "{name} is not in {told}");
        }
    }
}
