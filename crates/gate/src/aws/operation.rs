//! Identifies service and operation of a request, from the request only: `X-Amz-Target` in the JSON protocols, `Action`
//! in the Query protocol.

use axum::http::HeaderMap;
use serde_json::Value;

/// The services the project uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    DynamoDb,
    Kms,
    Sqs,
    Sns,
    /// Another service, or one of the emulator's own paths.
    Other,
}

/// The protocol of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Json10,
    Json11,
    /// Form requests and XML answers.
    Query,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) service: Service,
    pub(crate) protocol: Protocol,
    /// `service:Operation`, as in scripts and counts.
    pub(crate) name: String,
}

impl Operation {
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Self {
        if let Some(target) = text(headers, "x-amz-target") {
            let (prefix, action) = target.rsplit_once('.').unwrap_or(("", target));
            let (service, protocol) = match prefix {
                "DynamoDB_20120810" => (Service::DynamoDb, Protocol::Json10),
                "TrentService" => (Service::Kms, Protocol::Json11),
                "AmazonSQS" => (Service::Sqs, Protocol::Json10),
                _ => (Service::Other, Protocol::Json10),
            };
            return Self::new(service, protocol, action);
        }
        let is_form = text(headers, "content-type").is_some_and(|kind| kind.starts_with("application/x-www-form"));
        let action = is_form.then(|| form_value(body, "Action")).flatten();
        // The credential scope: `.../eu-west-1/sns/aws4_request`.
        let scope =
            text(headers, "authorization").and_then(|line| line.split("/aws4_request").next()?.rsplit('/').next());
        match (action, scope) {
            (Some(action), Some("sqs")) => Self::new(Service::Sqs, Protocol::Query, &action),
            (Some(action), Some("sns") | None) => Self::new(Service::Sns, Protocol::Query, &action),
            (Some(action), Some(_)) => Self::new(Service::Other, Protocol::Query, &action),
            (None, _) => Self::new(Service::Other, Protocol::Json10, "?"),
        }
    }

    fn new(service: Service, protocol: Protocol, action: &str) -> Self {
        let prefix = match service {
            Service::DynamoDb => "dynamodb",
            Service::Kms => "kms",
            Service::Sqs => "sqs",
            Service::Sns => "sns",
            Service::Other => "other",
        };
        Self { service, protocol, name: format!("{prefix}:{action}") }
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.name == name
    }
}

/// Whether a call of the JSON protocol names a standard queue, which may deliver a message more than once.
pub(crate) fn is_standard_queue(request: &Value) -> bool {
    request["QueueUrl"].as_str().is_some_and(|url| url.strip_suffix(".fifo").is_none())
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A value of a form. Action names need no decoding.
fn form_value(body: &[u8], wanted: &str) -> Option<String> {
    let body = std::str::from_utf8(body).ok()?;
    body.split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| *name == wanted)
        .map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn operation(headers: &[(&'static str, &'static str)], body: &str) -> Operation {
        let headers = headers
            .iter()
            .map(|(name, value)| (axum::http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        Operation::read(&headers.collect(), body.as_bytes())
    }

    #[test]
    fn call_is_identified_by_target_or_action() {
        for (target, name, protocol) in [
            ("DynamoDB_20120810.TransactWriteItems", "dynamodb:TransactWriteItems", Protocol::Json10),
            ("TrentService.Sign", "kms:Sign", Protocol::Json11),
            ("AmazonSQS.ReceiveMessage", "sqs:ReceiveMessage", Protocol::Json10),
            ("AWSEvents.PutEvents", "other:PutEvents", Protocol::Json10),
        ] {
            let found = operation(&[("x-amz-target", target)], "{}");
            assert_eq!((found.name.as_str(), found.protocol), (name, protocol));
        }
        let form = ("content-type", "application/x-www-form-urlencoded");
        for (scope, name) in [("sns", "sns:PublishBatch"), ("sqs", "sqs:PublishBatch"), ("iam", "other:PublishBatch")] {
            let line: &'static str = match scope {
                "sns" => "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/sns/aws4_request, SignedHeaders=host",
                "sqs" => "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host",
                _ => "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/iam/aws4_request, SignedHeaders=host",
            };
            let body = "Action=PublishBatch&Version=2010-03-31";
            assert_eq!(operation(&[form, ("authorization", line)], body).name, name);
        }
        assert_eq!(operation(&[form], "Action=Publish").service, Service::Sns);
        assert_eq!(operation(&[], "").name, "other:?");
    }
}
