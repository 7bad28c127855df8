//! Errors in the format of each service.
//!
//! | | code | HTTP | body |
//! |---|---|---|---|
//! | DynamoDB | `com.amazonaws.dynamodb.v20120810#X` | 400 | JSON 1.0 |
//! | KMS | `X` | 400 | JSON 1.1 |
//! | SQS | `com.amazonaws.sqs#X`, and `x-amzn-query-error` | 400 | JSON 1.0 |
//! | SNS | `<Code>X</Code>` | 400 | XML |

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::operation::{Operation, Protocol, Service};
use crate::http::respond;

static REQUESTS: AtomicU64 = AtomicU64::new(1);

/// An error of a service.
#[derive(Debug, Clone)]
pub(crate) struct WireError {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    /// Members of the body besides code and message.
    pub(crate) more: Map<String, Value>,
}

impl WireError {
    pub(crate) fn new(status: u16, code: &str, message: &str) -> Self {
        Self { status, code: code.to_owned(), message: message.to_owned(), more: Map::new() }
    }

    /// The throttling error of a service.
    pub(crate) fn throttle(service: Service) -> Self {
        match service {
            Service::DynamoDb => Self::new(
                400,
                "ThrottlingException",
                "Throughput exceeds the current capacity of your table or index. DynamoDB is automatically scaling \
                 your table or index so please try again shortly.",
            ),
            Service::Kms => Self::new(
                400,
                "ThrottlingException",
                "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
            ),
            Service::Sqs => Self::new(400, "RequestThrottled", "Request is throttled."),
            Service::Sns => Self::new(400, "Throttling", "Rate exceeded"),
            Service::Other => Self::new(400, "ThrottlingException", "Rate exceeded"),
        }
    }

    /// The error of a table without capacity; for other services the same as [`Self::throttle`].
    pub(crate) fn no_capacity(service: Service) -> Self {
        if service != Service::DynamoDb {
            return Self::throttle(service);
        }
        Self::new(
            400,
            "ProvisionedThroughputExceededException",
            "The level of configured provisioned throughput for the table was exceeded. Consider increasing your \
             provisioning level with the UpdateTable API.",
        )
    }

    /// The internal error of a service.
    pub(crate) fn internal(service: Service) -> Self {
        let code = match service {
            Service::DynamoDb => "InternalServerError",
            Service::Kms => "KMSInternalException",
            Service::Sqs | Service::Other => "InternalFailure",
            Service::Sns => "InternalError",
        };
        Self::new(500, code, "The request processing has failed because of an unknown error, exception or failure.")
    }

    /// The unavailability error of a service.
    pub(crate) fn unavailable(service: Service) -> Self {
        let code = match service {
            Service::DynamoDb | Service::Kms => "ServiceUnavailableException",
            Service::Sqs | Service::Sns | Service::Other => "ServiceUnavailable",
        };
        Self::new(503, code, "The request has failed due to a temporary failure of the server.")
    }

    /// A conflict with another transaction: for a transaction of `items` items at the index `item`, else for a single
    /// write.
    pub(crate) fn conflict(items: Option<usize>, item: usize) -> Self {
        let message = "Transaction is ongoing for the item";
        let Some(items) = items else {
            return Self::new(400, "TransactionConflictException", message);
        };
        let in_conflict = item.min(items.saturating_sub(1));
        let code = |at: usize| if at == in_conflict { "TransactionConflict" } else { "None" };
        let codes: Vec<_> = (0..items).map(code).collect();
        let reasons: Value =
            codes
                .iter()
                .map(|code| {
                    if *code == "None" { json!({ "Code": code }) } else { json!({ "Code": code, "Message": message }) }
                })
                .collect();
        let list = codes.join(", ");
        let message = format!("Transaction cancelled, please refer cancellation reasons for specific reasons [{list}]");
        let mut error = Self::new(400, "TransactionCanceledException", &message);
        error.more.insert("CancellationReasons".to_owned(), reasons);
        error
    }

    /// The answer to a call.
    pub(crate) fn respond(&self, operation: &Operation) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let fault = if status.is_server_error() { "Receiver" } else { "Sender" };
        let id = request_id();
        let mut response = match operation.protocol {
            Protocol::Query => {
                let body = format!(
                    "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>{fault}</Type>\
                     <Code>{}</Code><Message>{}</Message></Error><RequestId>{id}</RequestId></ErrorResponse>",
                    self.code, self.message
                );
                respond(status, "text/xml", body)
            }
            Protocol::Json10 => respond(status, "application/x-amz-json-1.0", self.json(operation).to_string()),
            Protocol::Json11 => respond(status, "application/x-amz-json-1.1", self.json(operation).to_string()),
        };
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert("x-amzn-requestid", id);
        }
        if let (Service::Sqs, Ok(legacy)) =
            (operation.service, HeaderValue::from_str(&format!("{};{fault}", self.code)))
        {
            headers.insert("x-amzn-query-error", legacy);
        }
        response
    }

    fn json(&self, operation: &Operation) -> Value {
        let namespace = match operation.service {
            Service::DynamoDb => "com.amazonaws.dynamodb.v20120810#",
            Service::Sqs => "com.amazonaws.sqs#",
            Service::Kms | Service::Sns | Service::Other => "",
        };
        let mut body = self.more.clone();
        // DynamoDB writes `Message` only for a cancelled transaction.
        let member = if self.more.is_empty() { "message" } else { "Message" };
        body.insert("__type".to_owned(), json!(format!("{namespace}{}", self.code)));
        body.insert(member.to_owned(), json!(self.message));
        Value::Object(body)
    }
}

fn request_id() -> String {
    format!("9a7e0000-0000-4000-8000-{:012x}", REQUESTS.fetch_add(1, Ordering::Relaxed))
}
