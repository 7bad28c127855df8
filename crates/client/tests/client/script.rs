//! A scripted network: each try gets the next answer, and the requests are recorded.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use serde_json::Value;
use signpost_client::Client;

/// The network's reaction to one try: a status and a body, or the connection breaks after the request.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Answer(u16, Value),
    Lost,
}

/// The scripted network.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    steps: Arc<Mutex<VecDeque<Step>>>,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: Arc::new(Mutex::new(steps.into_iter().collect())), asked: Arc::default() }
    }

    /// A client on this network, which tries once.
    pub(crate) fn client(&self, queue: &str) -> Client {
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test")))
            .http_client(self.clone())
            .retry_config(RetryConfig::disabled())
            .build();
        Client::new(&sdk, format!("http://127.0.0.1:1/1/{queue}"), "requests")
    }

    /// The bodies of the recorded requests. Panics if steps of the script are left.
    pub(crate) fn asked(&self) -> Vec<Value> {
        let left = self.steps.lock().unwrap();
        assert!(left.is_empty(), "steps were not used: {left:?}");
        self.asked.lock().unwrap().clone()
    }
}

impl HttpClient for Script {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap();
        self.asked.lock().unwrap().push(body);
        let step = self.steps.lock().unwrap().pop_front().expect("a step for every try");
        HttpConnectorFuture::ready(match step {
            Step::Answer(status, body) => {
                Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body.to_string())))
            }
            Step::Lost => Err(ConnectorError::io(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())),
        })
    }
}
