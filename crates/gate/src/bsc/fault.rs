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
//!
//! These are the odd nodes: they are so all the time, and none of them is in the mix of all faults. In each of them
//! `methods`, `contains` (in a call's parameters), `above` (calls of an array) and `every` say which calls.
//!
//! | fault | what the caller gets | usual calls |
//! |---|---|---|
//! | `batchLimit` | HTTP 500 and one error object, code 31 `Batch of more than N requests are not allowed` | arrays of more than `above` calls, 3 without |
//! | `tooLarge` | HTTP 413 and a page | arrays of more than `above` calls, 0 without |
//! | `noArrays` | HTTP 400, `invalid request` | the same |
//! | `oneErrorForAll` | HTTP 200, for each call the same error | the same |
//! | `denied` | HTTP 403 and a JSON text of a gateway | every `eth_` call |
//! | `emptyBody` | HTTP 200 and nothing | every `eth_` call |
//! | `otherBackend` | what another node behind the same URL says: one with these `rules` | every `eth_` call, the whole request |
//! | `foreignIds`, `shiftedIds`, `noIds` | ids of its own, each one more, or `null` | every `eth_` call, alone or in an array |
//! | `oddItem` | one of a batch's answers (`item`, else the second) with these `changes`, else a text | batches of two and more |
//! | `missingAnswers` | the first half of a batch's answers | batches of two and more |
//! | `nested` | the answer, or the answers, as the `result` of an answer | every `eth_` call |
//! | `truncated` | the first half of the text | every `eth_` call |
//! | `wrapped` | the text after the rule's `body` (a byte order mark without), with its `headers` | every `eth_` call |
//! | `noMethod` | -32601 in BSC's words | `eth_feeHistory`, `eth_getBlockReceipts` |
//! | `oddResult` | the right result with these `changes` | every `eth_` call |
//! | `errorAfterForward` | the rule's error, or -32603 `internal error`; the node did it | `eth_sendRawTransaction` |
//! | `frozen` | what was known at `height` | every `eth_` read |
//! | `otherBranch` | blocks and receipts under hashes of a branch of its own | every `eth_` read |
//! | `inventedReceipts` | a receipt in the finalized block, whatever was asked for | `eth_getTransactionReceipt` |
//!
//! In those that answer for the node (`http429` to `plainText`, `batchLimit` to `emptyBody`) the rule's `status`, `body` and
//! `headers` are taken where it has them.

use std::iter;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::script::{Fault, Rule};

/// Blocks a stale node is behind, and finality goes back, where the rule does not say.
pub(crate) const USUAL_LAG: u64 = 3;
/// How late a slow answer is, where the rule does not say.
pub(crate) const USUAL_SLOWNESS_MS: u64 = 500;

/// Calls of an array that are not too many for `batchLimit`, where the rule does not say.
const USUAL_BATCH: usize = 3;

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
    /// No batches above a number.
    BatchLimit,
    /// Batches are too large, says a proxy.
    TooLarge,
    /// An array is a bad request.
    NoArrays,
    /// One error, for each call of a batch.
    OneErrorForAll,
    /// A gateway does not let it through.
    Denied,
    /// No body.
    EmptyBody,
    /// Another node behind the same name.
    OtherBackend,
    /// Ids that nobody gave.
    ForeignIds,
    /// Ids of the neighbours.
    ShiftedIds,
    /// No ids.
    NoIds,
    /// One strange answer in a batch.
    OddItem,
    /// Answers for some calls of a batch.
    MissingAnswers,
    /// Answers inside an answer.
    Nested,
    /// Half a body.
    Truncated,
    /// A body with something before it.
    Wrapped,
    /// A method that is not there.
    NoMethod,
    /// A result that is a little different.
    OddResult,
    /// It was done, and the answer is an error.
    ErrorAfterForward,
    /// A head that does not move.
    Frozen,
    /// A chain with other hashes.
    OtherBranch,
    /// A receipt for everything.
    InventedReceipts,
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
    /// The answers, in an array or alone.
    Reply,
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
            | Self::ResetAfterForward
            | Self::BatchLimit
            | Self::TooLarge
            | Self::NoArrays
            | Self::OneErrorForAll
            | Self::Denied
            | Self::EmptyBody
            | Self::OtherBackend => Level::Request,
            Self::Rpc429InBatch
            | Self::Code32005
            | Self::Error
            | Self::SilentDrop
            | Self::NullReceipts
            | Self::Indexing
            | Self::Stale
            | Self::FinalizedBack
            | Self::NoMethod
            | Self::OddResult
            | Self::ErrorAfterForward
            | Self::Frozen
            | Self::OtherBranch
            | Self::InventedReceipts => Level::Call,
            Self::ReorderBatch | Self::DuplicateAnswers | Self::OddItem | Self::MissingAnswers => Level::Batch,
            Self::ForeignIds | Self::ShiftedIds | Self::NoIds | Self::Nested | Self::Truncated | Self::Wrapped => {
                Level::Reply
            }
        }
    }

    /// Arrays of more calls are concerned, where the rule does not say.
    fn usually_above(self) -> Option<usize> {
        if self == Self::BatchLimit {
            return Some(USUAL_BATCH);
        }
        matches!(self, Self::TooLarge | Self::NoArrays | Self::OneErrorForAll).then_some(0)
    }
}

impl Rule<BscFault> {
    /// Whether an array of this number of calls is concerned; a call alone is an array of none.
    pub(crate) fn is_about_array_of(&self, calls: usize) -> bool {
        self.array_limit().is_none_or(|above| calls > above)
    }

    /// Calls of an array that are not concerned yet.
    pub(crate) fn array_limit(&self) -> Option<usize> {
        self.above.or(self.fault.usually_above())
    }

    /// Whether a call with these parameters is concerned.
    pub(crate) fn is_about_params(&self, params: &Value) -> bool {
        self.contains.as_ref().is_none_or(|text| params.to_string().contains(text.as_str()))
    }
}

impl Fault for BscFault {
    fn concerns(self, method: &str) -> bool {
        let reads_height = method.starts_with("eth_") && !matches!(method, "eth_sendRawTransaction" | "eth_chainId");
        match self {
            Self::SilentDrop | Self::ErrorAfterForward => method == "eth_sendRawTransaction",
            Self::NullReceipts | Self::Indexing | Self::InventedReceipts => method == "eth_getTransactionReceipt",
            Self::NoMethod => matches!(method, "eth_feeHistory" | "eth_getBlockReceipts"),
            Self::Stale | Self::Frozen | Self::OtherBranch => reads_height,
            Self::FinalizedBack => {
                matches!(
                    method,
                    "eth_getFinalizedHeader"
                        | "eth_getFinalizedBlock"
                        | "eth_getBlockByNumber"
                        | "eth_getHeaderByNumber"
                        | "eth_getTransactionCount"
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
            | Self::DuplicateAnswers
            | Self::BatchLimit
            | Self::TooLarge
            | Self::NoArrays
            | Self::OneErrorForAll
            | Self::Denied
            | Self::EmptyBody
            | Self::OtherBackend
            | Self::ForeignIds
            | Self::ShiftedIds
            | Self::NoIds
            | Self::OddItem
            | Self::MissingAnswers
            | Self::Nested
            | Self::Truncated
            | Self::Wrapped
            | Self::OddResult => method.starts_with("eth_"),
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
