//! The AWS configuration from Lambda's environment only: region, credentials and endpoints are variables there.
//!
//! The AWS SDK's default chain, which also reads files and calls other services and the instance, is not linked into a
//! function: it would be a sixth of the package and slow down every start.

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
/// Selects endpoints with FIPS 140 cryptography; all AWS clients read this variable.
const FIPS: &str = "AWS_USE_FIPS_ENDPOINT";

/// The configuration of AWS clients. Lambda sets all variables; elsewhere all problems are reported together.
pub fn from_environment() -> Result<SdkConfig, ConfigError> {
    of(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn of(variable: &dyn Fn(&str) -> Option<String>) -> Result<SdkConfig, ConfigError> {
    let region = REGIONS.iter().find_map(|name| variable(name));
    let (id, key) = (variable(KEY_ID), variable(KEY));
    let missing = [(REGIONS[0], region.is_some()), (KEY_ID, id.is_some()), (KEY, key.is_some())];
    let mut problems: Vec<_> = missing
        .iter()
        .filter(|(_, there)| !there)
        .map(|(name, _)| format!("{name} is missing; Lambda sets it"))
        .collect();
    let use_fips = match variable(FIPS).map(|value| value.to_ascii_lowercase()) {
        None => Some(false),
        Some(value) if value == "true" => Some(true),
        Some(value) if value == "false" => Some(false),
        // Not guessed: a user who needs FIPS endpoints must not get others.
        Some(_) => None,
    };
    if use_fips.is_none() {
        problems.push(format!("{FIPS} is neither true nor false"));
    }
    let (Some(region), Some(id), Some(key), Some(use_fips)) = (region, id, key, use_fips) else {
        return Err(ConfigError::Environment { problems });
    };
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let credentials = Credentials::new(id, key, variable(SESSION), None, "environment");
    let mut sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new(region))
        .use_fips(use_fips)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .service_config(ServiceEndpoints);
    sdk.set_endpoint_url(variable(ENDPOINT));
    Ok(sdk.build())
}

/// Reads the endpoints of single services, like `AWS_ENDPOINT_URL_SQS`, as every AWS client does.
#[derive(Debug)]
struct ServiceEndpoints;

impl LoadServiceConfig for ServiceEndpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        std::env::var(format!("{}_{service}", key.env())).ok().filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_sdk_sqs::config::interceptors::BeforeTransmitInterceptorContextRef;
    use aws_sdk_sqs::config::{ConfigBag, Intercept, RuntimeComponents};
    use aws_sdk_sqs::error::BoxError;

    use super::*;

    #[test]
    fn lambdas_variables_are_sufficient() {
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

    /// Records the URI of a call and stops it before it is sent.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Intercept for Kept {
        fn name(&self) -> &'static str {
            "kept"
        }

        fn read_before_transmit(
            &self,
            context: &BeforeTransmitInterceptorContextRef<'_>,
            _components: &RuntimeComponents,
            _bag: &mut ConfigBag,
        ) -> Result<(), BoxError> {
            self.0.lock().unwrap().push(context.request().uri().to_owned());
            Err("no call is made".into())
        }
    }

    async fn asked(region: &'static str, fips: Option<&'static str>) -> Result<String, ConfigError> {
        let sdk = of(&|name| match name {
            "AWS_REGION" => Some(region.to_owned()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("test".to_owned()),
            "AWS_USE_FIPS_ENDPOINT" => fips.map(str::to_owned),
            _ => None,
        })?;
        let kept = Kept::default();
        let config = aws_sdk_sqs::config::Builder::from(&sdk).interceptor(kept.clone()).build();
        let _ended = aws_sdk_sqs::Client::from_conf(config).list_queues().send().await;
        let uri = kept.0.lock().unwrap().pop();
        Ok(uri.expect("the call got as far as the wire"))
    }

    #[tokio::test]
    async fn fips_endpoints_are_used_if_requested() {
        assert_eq!(asked("us-east-1", None).await.unwrap(), "https://sqs.us-east-1.amazonaws.com/");
        assert_eq!(asked("us-east-1", Some("false")).await.unwrap(), "https://sqs.us-east-1.amazonaws.com/");
        assert_eq!(asked("us-east-1", Some("true")).await.unwrap(), "https://sqs-fips.us-east-1.amazonaws.com/");
        let text = asked("us-east-1", Some("yes")).await.unwrap_err().to_string();
        assert!(text.contains("AWS_USE_FIPS_ENDPOINT is neither true nor false"), "{text}");
    }

    #[tokio::test]
    async fn partition_follows_from_the_region() {
        assert_eq!(asked("cn-north-1", None).await.unwrap(), "https://sqs.cn-north-1.amazonaws.com.cn/");
        // GovCloud's ordinary endpoints are FIPS endpoints; SQS has no other there.
        assert_eq!(asked("us-gov-west-1", Some("true")).await.unwrap(), "https://sqs.us-gov-west-1.amazonaws.com/");
    }

    #[test]
    fn missing_variables_are_reported_together() {
        let text = of(&|_| None).unwrap_err().to_string();
        for name in ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            assert!(text.contains(name), "{name} is not in {text}");
        }
    }
}
