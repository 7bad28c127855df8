//! The faults between a caller and a BSC node.
//!
//! | fault | what the caller receives | usual calls |
//! |---|---|---|
//! | `http429` | HTTP 429, `Retry-After`, a text | every `eth_` call |
//! | `rpc429InBatch` | HTTP 200, an error with code 429 for this call | every `eth_` call |
//! | `code32005` | an error -32005 `limit exceeded` | every `eth_` call |
//! | `http503` | HTTP 503, a text | every `eth_` call |
//! | `html` | an HTML page of a proxy (HTTP 502, or the rule's `status`) | every `eth_` call |
//! | `plainText` | HTTP 400 and `message: ..., trace_id: ...` | every `eth_` call |
//! | `error` | the rule's `code` and `message` (default `txpool is full`) | every `eth_` call |
//! | `slow` | the right answer, `delayMs` late | every `eth_` call |
//! | `timeoutBeforeForward` | nothing; the node does not get the call | every `eth_` call |
//! | `timeoutAfterForward` | nothing; the node executes the call | every `eth_` call |
//! | `resetBeforeForward`, `resetAfterForward` | the same, but the connection closes at once | every `eth_` call |
//! | `silentDrop` | the hash; the node does not get the transaction | `eth_sendRawTransaction` |
//! | `nullReceipts` | `null` | `eth_getTransactionReceipt` |
//! | `indexing` | -32000 `transaction indexing is in progress` | `eth_getTransactionReceipt` |
//! | `stale` | the state of a node `blocks` behind | every `eth_` read |
//! | `finalizedBack` | a finalized (or safe) block `blocks` lower | the calls that name it |
//! | `reorderBatch`, `duplicateAnswers` | a batch's answers in reverse order, or twice | batches of two and more |
//!
//! The next faults are for odd nodes, which behave like this all the time; none of them is in the mix of all faults.
//! `methods`, `contains` (in a call's parameters), `above` (calls of an array) and `every` select the calls.
//!
//! | fault | what the caller receives | usual calls |
//! |---|---|---|
//! | `batchLimit` | HTTP 500 and one error object, code 31 | arrays of more than `above` calls (default 3) |
//! | `tooLarge` | HTTP 413 and an HTML page | arrays of more than `above` calls (default 0) |
//! | `noArrays` | HTTP 400, `invalid request` | the same |
//! | `oneErrorForAll` | HTTP 200, the same error for each call | the same |
//! | `denied` | HTTP 403 and a JSON text of a gateway | every `eth_` call |
//! | `emptyBody` | HTTP 200 and nothing | every `eth_` call |
//! | `otherBackend` | answers of another node with these `rules` | every `eth_` call, the whole request |
//! | `foreignIds`, `shiftedIds`, `noIds` | unknown ids, ids plus one, or `null` | every `eth_` call |
//! | `oddItem` | a batch with one odd answer, see below | batches of two and more |
//! | `missingAnswers` | the first half of a batch's answers | batches of two and more |
//! | `nested` | the answer or answers as the `result` of another answer | every `eth_` call |
//! | `truncated` | the first half of the text | every `eth_` call |
//! | `wrapped` | the text after the rule's `body` (default: a byte order mark) | every `eth_` call |
//! | `noMethod` | -32601 with BSC's message | `eth_feeHistory`, `eth_getBlockReceipts` |
//! | `oddResult` | the right result with these `changes` | every `eth_` call |
//! | `errorAfterForward` | the rule's error (default -32603); the node executes the call | `eth_sendRawTransaction` |
//! | `frozen` | the state at `height` | every `eth_` read |
//! | `otherBranch` | blocks and receipts with hashes of another branch | every `eth_` read |
//! | `inventedReceipts` | a receipt in the finalized block for any transaction | `eth_getTransactionReceipt` |
//!
//! `oddItem` changes the answer with the index `item` (default: the second) by the rule's `changes`; without changes it
//! is a text. `wrapped` also sends the rule's `headers`. Faults that answer instead of the node (`http429` to
//! `plainText`, `batchLimit` to `emptyBody`) use the rule's `status`, `body` and `headers` if it has them.

use std::iter;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::script::{Fault, Rule};

/// The default number of blocks that a stale node is behind and that finality goes back.
pub(crate) const USUAL_LAG: u64 = 3;
/// The default delay of a slow answer.
pub(crate) const USUAL_SLOWNESS_MS: u64 = 500;

/// The default number of calls in an array that `batchLimit` accepts.
const USUAL_BATCH: usize = 3;

/// How long a caller hangs in the mode of all faults: longer than timeouts, short enough for a test run.
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
    /// An HTML page.
    Html,
    /// A text that is not JSON.
    PlainText,
    /// Any JSON-RPC error.
    Error,
    /// A late answer.
    Slow,
    /// No answer, and no effect.
    TimeoutBeforeForward,
    /// No answer, but the call took effect.
    TimeoutAfterForward,
    /// A closed connection, and no effect.
    ResetBeforeForward,
    /// A closed connection, but the call took effect.
    ResetAfterForward,
    /// A hash for a transaction that is dropped.
    SilentDrop,
    /// `null` instead of receipts.
    NullReceipts,
    /// Receipts are being indexed.
    Indexing,
    /// A node that is behind.
    Stale,
    /// Finality goes backwards.
    FinalizedBack,
    /// Answers of a batch in another order.
    ReorderBatch,
    /// Answers of a batch twice.
    DuplicateAnswers,
    /// A limit of calls per batch.
    BatchLimit,
    /// A proxy that calls batches too large.
    TooLarge,
    /// Arrays are bad requests.
    NoArrays,
    /// The same error for each call of a batch.
    OneErrorForAll,
    /// A gateway that denies access.
    Denied,
    /// An empty body.
    EmptyBody,
    /// Another node behind the same URL.
    OtherBackend,
    /// Unknown ids.
    ForeignIds,
    /// Each id plus one.
    ShiftedIds,
    /// No ids.
    NoIds,
    /// One odd answer in a batch.
    OddItem,
    /// Answers to only some calls of a batch.
    MissingAnswers,
    /// Answers inside an answer.
    Nested,
    /// Half a body.
    Truncated,
    /// A body with a prefix.
    Wrapped,
    /// A missing method.
    NoMethod,
    /// A changed result.
    OddResult,
    /// An error for a call that took effect.
    ErrorAfterForward,
    /// A head that does not move.
    Frozen,
    /// A chain with other hashes.
    OtherBranch,
    /// A receipt for everything.
    InventedReceipts,
}

/// The level at which a fault applies.
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

    /// The default of `above` for faults of arrays.
    fn usually_above(self) -> Option<usize> {
        if self == Self::BatchLimit {
            return Some(USUAL_BATCH);
        }
        matches!(self, Self::TooLarge | Self::NoArrays | Self::OneErrorForAll).then_some(0)
    }
}

impl Rule<BscFault> {
    /// Whether the rule applies to an array of this number of calls; a single call counts as an array of none.
    pub(crate) fn is_about_array_of(&self, calls: usize) -> bool {
        self.array_limit().is_none_or(|above| calls > above)
    }

    /// The number of calls in an array up to which the rule does not apply.
    pub(crate) fn array_limit(&self) -> Option<usize> {
        self.above.or(self.fault.usually_above())
    }

    /// Whether the rule applies to a call with these parameters.
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
                // A lost reply to a send is the most important fault, so it is frequent.
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
