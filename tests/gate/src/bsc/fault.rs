//! What goes wrong between us and a BSC node.
//!
//! | fault | what the caller gets | usual calls |
//! |---|---|---|
//! | `http429` | HTTP 429, `Retry-After`, a text | every `eth_` call |
//! | `rpc429InBatch` | HTTP 200, the answer of this call is an error with code 429 | every `eth_` call |
//! | `code32005` | the answer is an error -32005 `limit exceeded` | every `eth_` call |
//! | `http503` | HTTP 503, a text | every `eth_` call |
//! | `html` | a page of a proxy (HTTP 502, or the rule's `status`) | every `eth_` call |
//! | `plainText` | HTTP 400 and `message: ..., trace_id: ...` | every `eth_` call |
//! | `error` | the rule's `code` and `message` (`txpool is full` without) | every `eth_` call |
//! | `slow` | the right answer, `delayMs` late | every `eth_` call |
//! | `timeoutBeforeForward` | nothing; the node got nothing | every `eth_` call |
//! | `timeoutAfterForward` | nothing; the node did it | every `eth_` call |
//! | `resetBeforeForward`, `resetAfterForward` | the same, and the connection dies at once | every `eth_` call |
//! | `silentDrop` | the hash; the node got nothing | `eth_sendRawTransaction` |
//! | `nullReceipts` | `null` | `eth_getTransactionReceipt` |
//! | `indexing` | -32000 `transaction indexing is in progress` | `eth_getTransactionReceipt` |
//! | `stale` | what a node `blocks` behind knows | every `eth_` read |
//! | `finalizedBack` | a finalized (or safe) block `blocks` lower | the calls that name it |
//! | `reorderBatch`, `duplicateAnswers` | a batch's answers backwards, or twice | batches of two and more |

use std::iter;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::respond;
use crate::script::{Fault, Rule};

/// Blocks a stale node is behind, and finality goes back, where the rule does not say.
pub(crate) const USUAL_LAG: u64 = 3;
/// How late a slow answer is, where the rule does not say.
pub(crate) const USUAL_SLOWNESS_MS: u64 = 500;

/// How long a caller hangs in the mode of all faults: longer than patience, short enough for a run.
const ALL_HANG_MS: u64 = 8_000;

/// A fault of the BSC gate. Its name in scripts is in the table of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BscFault {
    /// HTTP 429.
    Http429,
    /// An error with code 429 in an HTTP 200.
    Rpc429InBatch,
    /// -32005.
    Code32005,
    /// HTTP 503.
    Http503,
    /// A page for a browser.
    Html,
    /// A text that is not JSON.
    PlainText,
    /// Any JSON-RPC error.
    Error,
    /// Late.
    Slow,
    /// Nothing came, nothing happened.
    TimeoutBeforeForward,
    /// Nothing came, and it happened.
    TimeoutAfterForward,
    /// The connection died before.
    ResetBeforeForward,
    /// The connection died after.
    ResetAfterForward,
    /// Accepted, and thrown away.
    SilentDrop,
    /// No receipt, for nothing.
    NullReceipts,
    /// Receipts are being indexed.
    Indexing,
    /// Behind.
    Stale,
    /// Finality goes backwards.
    FinalizedBack,
    /// Answers of a batch in another order.
    ReorderBatch,
    /// Answers of a batch twice.
    DuplicateAnswers,
}

/// Where a fault takes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// The whole HTTP request.
    Request,
    /// One call.
    Call,
    /// The array of a batch's answers.
    Batch,
}

impl BscFault {
    pub(crate) fn level(self) -> Level {
        match self {
            Self::Http429
            | Self::Http503
            | Self::Html
            | Self::PlainText
            | Self::Slow
            | Self::TimeoutBeforeForward
            | Self::TimeoutAfterForward
            | Self::ResetBeforeForward
            | Self::ResetAfterForward => Level::Request,
            Self::Rpc429InBatch
            | Self::Code32005
            | Self::Error
            | Self::SilentDrop
            | Self::NullReceipts
            | Self::Indexing
            | Self::Stale
            | Self::FinalizedBack => Level::Call,
            Self::ReorderBatch | Self::DuplicateAnswers => Level::Batch,
        }
    }
}

impl Fault for BscFault {
    fn concerns(self, method: &str) -> bool {
        let reads_height = method.starts_with("eth_") && !matches!(method, "eth_sendRawTransaction" | "eth_chainId");
        match self {
            Self::SilentDrop => method == "eth_sendRawTransaction",
            Self::NullReceipts | Self::Indexing => method == "eth_getTransactionReceipt",
            Self::Stale => reads_height,
            Self::FinalizedBack => {
                matches!(
                    method,
                    "eth_getFinalizedHeader"
                        | "eth_getFinalizedBlock"
                        | "eth_getBlockByNumber"
                        | "eth_getHeaderByNumber"
                )
            }
            Self::Http429
            | Self::Rpc429InBatch
            | Self::Code32005
            | Self::Http503
            | Self::Html
            | Self::PlainText
            | Self::Error
            | Self::Slow
            | Self::TimeoutBeforeForward
            | Self::TimeoutAfterForward
            | Self::ResetBeforeForward
            | Self::ResetAfterForward
            | Self::ReorderBatch
            | Self::DuplicateAnswers => method.starts_with("eth_"),
        }
    }

    fn all() -> Vec<Rule<Self>> {
        let send = &["eth_sendRawTransaction"];
        let each = |faults: &[Self], probability: f64| {
            faults.iter().map(|fault| Rule::new(*fault).probability(probability)).collect::<Vec<_>>()
        };
        iter::empty()
            .chain([
                // A lost reply to a send is the fault that matters most, so it comes often.
                Rule::new(Self::ResetAfterForward).methods(send).probability(0.10),
                Rule::new(Self::TimeoutAfterForward).methods(send).probability(0.02).delay_ms(ALL_HANG_MS),
                Rule::new(Self::SilentDrop).probability(0.10),
                Rule::new(Self::Error).methods(send).probability(0.03).error(-32000, "txpool is full"),
                Rule::new(Self::Stale).probability(0.05).blocks(4),
                Rule::new(Self::FinalizedBack).probability(0.10).blocks(5),
            ])
            .chain(each(&[Self::NullReceipts, Self::Indexing], 0.08))
            .chain(each(&[Self::Http429, Self::Rpc429InBatch, Self::Code32005, Self::Http503], 0.02))
            .chain(each(&[Self::Html, Self::PlainText, Self::ResetBeforeForward, Self::ResetAfterForward], 0.01))
            .chain(each(&[Self::ReorderBatch, Self::DuplicateAnswers], 0.10))
            .chain([
                Rule::new(Self::Slow).probability(0.03).delay_ms(300),
                Rule::new(Self::TimeoutBeforeForward).probability(0.002).delay_ms(ALL_HANG_MS),
            ])
            .collect()
    }
}

/// The answer that stands for a whole request, if the fault has one.
pub(crate) fn http_answer(rule: &Rule<BscFault>) -> Option<Response> {
    let status = |usual| rule.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(usual);
    let response = match rule.fault {
        BscFault::Http429 => {
            let mut response = respond(StatusCode::TOO_MANY_REQUESTS, "text/plain", "Too Many Requests");
            let retry_after = HeaderValue::from(rule.retry_after_s.unwrap_or(1));
            response.headers_mut().insert(header::RETRY_AFTER, retry_after);
            response
        }
        BscFault::Http503 => respond(status(StatusCode::SERVICE_UNAVAILABLE), "text/plain", "no healthy upstream"),
        BscFault::Html => {
            let page = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
                <center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
            respond(status(StatusCode::BAD_GATEWAY), "text/html", page)
        }
        BscFault::PlainText => {
            let text = "message: too many requests from this address, trace_id: 4bf92f3577b34da6a3ce929d0e0e4736";
            respond(status(StatusCode::BAD_REQUEST), "text/plain", text)
        }
        BscFault::Slow
        | BscFault::TimeoutBeforeForward
        | BscFault::TimeoutAfterForward
        | BscFault::ResetBeforeForward
        | BscFault::ResetAfterForward
        | BscFault::Rpc429InBatch
        | BscFault::Code32005
        | BscFault::Error
        | BscFault::SilentDrop
        | BscFault::NullReceipts
        | BscFault::Indexing
        | BscFault::Stale
        | BscFault::FinalizedBack
        | BscFault::ReorderBatch
        | BscFault::DuplicateAnswers => return None,
    };
    Some(response)
}

/// The `error` that stands for one call's answer.
pub(crate) fn error_of(rule: &Rule<BscFault>) -> Value {
    let (code, message) = if rule.fault == BscFault::Rpc429InBatch {
        (429, "The requests per second (RPS) of your account has been exceeded")
    } else if rule.fault == BscFault::Code32005 {
        (-32005, "limit exceeded")
    } else {
        (-32000, "txpool is full")
    };
    json!({
        "code": rule.code.clone().unwrap_or_else(|| json!(code)),
        "message": rule.message.as_deref().unwrap_or(message),
    })
}
