//! Answers of the gate instead of the node, and corrupted answers of the node. Concerns the format of HTTP and
//! JSON-RPC, never the contents of the chain.
//!
//! Read next: [`super::fault`], which lists the faults.
#![expect(clippy::wildcard_enum_match_arm, reason = "each function handles a few of many faults")]

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::fault::BscFault;
use crate::change::Change;
use crate::http::respond;
use crate::script::Rule;

const PAGE: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
    <center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
const TOO_LARGE: &str = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n\
    <center><h1>413 Request Entity Too Large</h1></center>\r\n</body>\r\n</html>\r\n";
const MESSAGE: &str = "message: too many requests from this address, trace_id: 4bf92f3577b34da6a3ce929d0e0e4736";
const DENIED: &str = r#"{"message":"the key of this application is not allowed to do this"}"#;
/// The mark that some servers send before UTF-8.
const BYTE_ORDER_MARK: &str = "\u{feff}";
/// The default index of the odd answer in a batch.
const SECOND: usize = 1;

/// The answer that replaces a whole request, if the fault has one. `ids` are the ids of its calls.
pub(crate) fn http_answer(rule: &Rule<BscFault>, ids: &[Value]) -> Option<Response> {
    let limited = || {
        let text = format!("Batch of more than {} requests are not allowed", rule.array_limit().unwrap_or(0));
        json!({ "id": 1, "error": error(rule, 31, &text) }).to_string()
    };
    let each =
        || ids.iter().map(|id| failed(id, &error(rule, 31, "Batch requests are not allowed"))).collect::<Value>();
    let (status, content_type, body) = match rule.fault {
        BscFault::Http429 => (StatusCode::TOO_MANY_REQUESTS, "text/plain", "Too Many Requests".to_owned()),
        BscFault::Http503 => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", "no healthy upstream".to_owned()),
        BscFault::Html => (StatusCode::BAD_GATEWAY, "text/html", PAGE.to_owned()),
        BscFault::PlainText => (StatusCode::BAD_REQUEST, "text/plain", MESSAGE.to_owned()),
        BscFault::BatchLimit => (StatusCode::INTERNAL_SERVER_ERROR, "application/json", limited()),
        BscFault::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "text/html", TOO_LARGE.to_owned()),
        BscFault::NoArrays => (StatusCode::BAD_REQUEST, "text/plain", "invalid request".to_owned()),
        BscFault::OneErrorForAll => (StatusCode::OK, "application/json", each().to_string()),
        BscFault::Denied => (StatusCode::FORBIDDEN, "application/json", DENIED.to_owned()),
        BscFault::EmptyBody => (StatusCode::OK, "application/json", String::new()),
        _ => return None,
    };
    let status = rule.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(status);
    let mut response = respond(status, content_type, rule.body.clone().unwrap_or(body));
    if rule.fault == BscFault::Http429 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(rule.retry_after_s.unwrap_or(1)));
    }
    put_headers(rule, &mut response);
    Some(response)
}

/// The `error` that replaces the answer to one call.
pub(crate) fn error_of(rule: &Rule<BscFault>) -> Value {
    match rule.fault {
        BscFault::Rpc429InBatch => error(rule, 429, "The requests per second (RPS) of your account has been exceeded"),
        BscFault::Code32005 => error(rule, -32005, "limit exceeded"),
        BscFault::ErrorAfterForward => error(rule, -32603, "internal error"),
        _ => error(rule, -32000, "txpool is full"),
    }
}

/// The response with the corrupted answers of a request: a single one, or those of an array.
pub(crate) fn corrupted(rule: &Rule<BscFault>, mut answers: Vec<Value>, is_array: bool) -> Response {
    match rule.fault {
        BscFault::ReorderBatch => answers.reverse(),
        BscFault::DuplicateAnswers => answers.extend(answers.clone()),
        BscFault::MissingAnswers => answers.truncate(answers.len().div_ceil(2)),
        BscFault::OddItem => {
            if let Some(item) = answers.get_mut(rule.item.unwrap_or(SECOND)) {
                let odd = Change::all_done(&rule.changes, item.take());
                *item = if rule.changes.is_empty() { json!("nonsense") } else { odd };
            }
        }
        BscFault::ForeignIds => {
            for (answer, number) in answers.iter_mut().zip(1_u64..) {
                answer["id"] = json!(format!("call-{number}"));
            }
        }
        BscFault::ShiftedIds => {
            for id in answers.iter_mut().filter_map(|answer| answer.get_mut("id")) {
                *id = json!(id.as_u64().unwrap_or(0).saturating_add(1));
            }
        }
        BscFault::NoIds => {
            for answer in &mut answers {
                answer["id"] = Value::Null;
            }
        }
        _ => {}
    }
    let mut body = if is_array { Value::Array(answers) } else { answers.pop().unwrap_or_default() };
    if rule.fault == BscFault::Nested {
        let id = if is_array { body[0]["id"].clone() } else { body["id"].clone() };
        body = json!({ "jsonrpc": "2.0", "id": id, "result": body });
    }
    let mut text = body.to_string();
    if rule.fault == BscFault::Truncated {
        text.truncate(text.len().div_euclid(2));
    } else if rule.fault == BscFault::Wrapped {
        text.insert_str(0, rule.body.as_deref().unwrap_or(BYTE_ORDER_MARK));
    }
    let mut response = respond(StatusCode::OK, "application/json", text);
    put_headers(rule, &mut response);
    response
}

/// An answer with an error.
pub(crate) fn failed(id: &Value, error: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}

fn error(rule: &Rule<BscFault>, code: i64, message: &str) -> Value {
    json!({
        "code": rule.code.clone().unwrap_or_else(|| json!(code)),
        "message": rule.message.as_deref().unwrap_or(message),
    })
}

fn put_headers(rule: &Rule<BscFault>, response: &mut Response) {
    for (name, value) in &rule.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().insert(name, value);
        }
    }
}
