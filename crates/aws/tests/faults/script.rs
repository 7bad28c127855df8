//! An AWS client on a scripted network: each try gets the next step, and the requests are recorded.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::dns::ResolveDnsError;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use serde_json::Value;
use signpost_aws::repeat::Backoff;

/// Three tries without waits.
pub(crate) const IMPATIENT: Backoff = Backoff { tries: 3, first_ms: 0, max_ms: 0 };

/// The network's reaction to one try.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// The service answers.
    Answer(u16, String),
    /// The connection is refused.
    Refused,
    /// The name has no address.
    NoAddress,
    /// The connection broke after the request was sent.
    Lost,
    /// No answer came in time.
    TimedOut,
}

impl Step {
    /// The service answers with success.
    pub(crate) fn ok(body: impl ToString) -> Self {
        Self::Answer(200, body.to_string())
    }

    /// The service answers with an error, in the form of DynamoDB, KMS and SQS.
    pub(crate) fn error(status: u16, code: &str) -> Self {
        let body = serde_json::json!({ "__type": format!("com.amazonaws.any#{code}"), "message": format!("{code}!") });
        Self::Answer(status, body.to_string())
    }
}

/// The scripted network.
#[derive(Clone)]
pub(crate) struct Script(Arc<Mutex<State>>);

struct State {
    steps: VecDeque<Step>,
    asked: Vec<Asked>,
}

/// A request that was made.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The operation, by the header of the JSON protocols; empty in SNS.
    pub(crate) operation: String,
    /// The body.
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self(Arc::new(Mutex::new(State { steps: steps.into_iter().collect(), asked: Vec::new() })))
    }

    /// The configuration of a client on this network, which tries once, like our clients.
    pub(crate) fn sdk(&self) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test")))
            .http_client(self.clone())
            .retry_config(RetryConfig::disabled())
            .build()
    }

    /// The recorded requests. Panics if steps of the script are left.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let state = self.0.lock().unwrap();
        assert!(state.steps.is_empty(), "{} steps were not used: {:?}", state.steps.len(), state.steps);
        state.asked.clone()
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl HttpClient for Script {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let operation = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = operation.rsplit('.').next().unwrap_or_default().to_owned();
        let body = String::from_utf8(request.body().bytes().unwrap_or_default().to_vec()).unwrap();
        let mut state = self.0.lock().unwrap();
        state.asked.push(Asked { operation, body });
        let request_id = format!("request-{}", state.asked.len());
        let io = |kind: std::io::ErrorKind| ConnectorError::io(std::io::Error::from(kind).into());
        HttpConnectorFuture::ready(match state.steps.pop_front().expect("a step for every try") {
            Step::Answer(status, body) => {
                let mut answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
                answer.headers_mut().insert("x-amzn-requestid", request_id);
                Ok(answer)
            }
            Step::Refused => Err(io(std::io::ErrorKind::ConnectionRefused)),
            Step::NoAddress => Err(ConnectorError::io(ResolveDnsError::new("no such host").into())),
            Step::Lost => Err(io(std::io::ErrorKind::ConnectionReset)),
            Step::TimedOut => Err(ConnectorError::timeout("no answer within 8 s".into())),
        })
    }
}
