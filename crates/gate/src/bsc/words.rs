//! The words of a BSC node, each once, in the order in which the node checks: v1.7.3's, and those of geth 1.17, which
//! v1.8 is made of, where they differ. Captured messages are in `tests/vectors/node-errors/bsc.json`; `tests/real`
//! holds them against a geth that runs.
//!
//! Read next: [`super::rules`], [`super::pool`].

use serde_json::{Value, json};
use signpost_txmgr::units::U256;

/// Why a node refuses a transaction or a call. `Display` is the message on the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    // rpc: the parameters.
    /// No parameter at all.
    #[error("missing value for required argument 0")]
    MissingArgument,
    /// More than one.
    #[error("too many arguments, want at most 1")]
    TooManyArguments,
    /// Not a JSON string.
    #[error("invalid argument 0: json: cannot unmarshal non-string into Go value of type hexutil.Bytes")]
    NonString,
    /// Hex, but without `0x`.
    #[error(
        "invalid argument 0: json: cannot unmarshal hex string without 0x prefix into Go value of type hexutil.Bytes"
    )]
    NoPrefix,
    /// An odd number of digits.
    #[error("invalid argument 0: json: cannot unmarshal hex string of odd length into Go value of type hexutil.Bytes")]
    OddHex,
    /// Other characters.
    #[error("invalid argument 0: json: cannot unmarshal invalid hex string into Go value of type hexutil.Bytes")]
    BadHex,

    // core/types: the encoding.
    /// Empty, or a type byte alone.
    #[error("typed transaction too short")]
    TypedTooShort,
    /// A type no pool of this node takes.
    #[error("transaction type not supported")]
    TypeNotSupported,
    /// The RLP is not what the type wants.
    #[error("rlp: {0}")]
    Rlp(String),

    // internal/ethapi: before the pool.
    /// Price × gas above the RPC's cap (`RPCTxFeeCap`), in BNB with two digits.
    #[error("tx fee ({fee} ether) exceeds the configured cap ({cap} ether)")]
    FeeCap {
        /// What it would cost at most.
        fee: String,
        /// The cap.
        cap: String,
    },
    /// No chain id in a legacy transaction.
    #[error("only replay-protected (EIP-155) transactions allowed over RPC")]
    Unprotected,

    // The pool, without state.
    /// The same hash is in the pool.
    #[error("already known")]
    AlreadyKnown,
    /// Signed for another chain.
    #[error("invalid chain id for signer: have {have} want {want}")]
    ChainId {
        /// The transaction's.
        have: U256,
        /// The node's.
        want: u64,
    },
    /// r, s or v out of range, or s in the upper half.
    #[error("invalid transaction v, r, s values")]
    SignatureValues,
    /// No key could have made it.
    #[error("recovery failed")]
    Recovery,
    /// One of three addresses, as sender or recipient.
    #[error("sender or to in black list")]
    BlackList,
    /// More than 128 KiB.
    #[error("oversized data: transaction size {size}, limit {limit}")]
    Size {
        /// Bytes.
        size: usize,
        /// Most bytes.
        limit: usize,
    },
    /// EIP-3860.
    #[error("max initcode size exceeded: code size {size} limit {limit}")]
    InitCode {
        /// Bytes.
        size: usize,
        /// Most bytes.
        limit: usize,
    },
    /// EIP-7825.
    #[error("transaction gas limit too high (cap: {cap}, tx: {gas})")]
    GasCap {
        /// The cap.
        cap: u64,
        /// Gas asked for.
        gas: u64,
    },
    /// More gas than a block has.
    #[error("exceeds block gas limit")]
    BlockGas,
    /// A fee wider than 256 bits.
    #[error("max fee per gas higher than 2^256-1")]
    FeeTooWide,
    /// A tip wider than 256 bits.
    #[error("max priority fee per gas higher than 2^256-1")]
    TipTooWide,
    /// Tip above fee.
    #[error("max priority fee per gas higher than max fee per gas")]
    TipAboveFee,
    /// EIP-2681.
    #[error("nonce has max value")]
    NonceMax,
    /// Yellow Paper, EIP-2028, EIP-2930, EIP-3860.
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGas {
        /// Gas asked for.
        gas: u64,
        /// Least gas.
        needed: u64,
    },
    /// EIP-7623.
    #[error("insufficient gas for floor data gas cost: gas {gas}, minimum needed {needed}")]
    FloorGas {
        /// Gas asked for.
        gas: u64,
        /// Least gas.
        needed: u64,
    },
    /// Below `TxPool.PriceLimit`.
    #[error("transaction gas price below minimum: gas tip cap {tip}, minimum needed {needed}")]
    MinimumPrice {
        /// Wei.
        tip: U256,
        /// Wei.
        needed: U256,
    },
    /// EIP-7702 without an authorization.
    #[error("set code tx must have at least one authorization tuple")]
    NoAuthorization,

    // The pool, with state.
    /// The nonce is used.
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow {
        /// The account's.
        next: u64,
        /// The transaction's.
        nonce: u64,
    },
    /// The transaction alone costs more than there is.
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {overshot}")]
    Funds {
        /// Wei.
        balance: U256,
        /// Wei.
        cost: U256,
        /// Wei.
        overshot: U256,
    },
    /// It costs too much together with the pending ones.
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, queued cost {queued}, tx cost {cost}, overshot {overshot}"
    )]
    QueuedFunds {
        /// Wei.
        balance: U256,
        /// Wei.
        queued: U256,
        /// Wei.
        cost: U256,
        /// Wei.
        overshot: U256,
    },
    /// It costs too much in place of the one it replaces.
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, queued cost {queued}, tx bumped {bumped}, overshot {overshot}"
    )]
    BumpFunds {
        /// Wei.
        balance: U256,
        /// Wei.
        queued: U256,
        /// Wei, signed.
        bumped: String,
        /// Wei.
        overshot: U256,
    },
    /// The sender has code (EIP-7702) and a transaction in the pool already.
    #[error("in-flight transaction limit reached for delegated accounts")]
    DelegatedInFlight,
    /// The sender has code (EIP-7702) and this is not its next nonce.
    #[error("gapped-nonce tx from delegated accounts")]
    DelegatedGap,
    /// Less than 10 % above the pooled one in a fee field.
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,

    // Other calls.
    /// `eth_getFinalizedHeader` with a number of validators that cannot be.
    #[error("{number} neither within the range [1,{validators}] nor the range [-3,-1]")]
    Validators {
        /// What was asked for.
        number: i64,
        /// How many there are.
        validators: u64,
    },
    /// The node has no such method.
    #[error("the method {0} does not exist/is not available")]
    NoMethod(String),
    /// Receipts are being indexed.
    #[error("transaction indexing is in progress")]
    Indexing,
    /// What the node behind said, in its own words.
    #[error("{message}")]
    Upstream {
        /// Its code.
        code: i64,
        /// Its words.
        message: String,
        /// What it added, as a revert's data.
        data: Option<Value>,
    },
}

impl Refusal {
    /// The JSON-RPC code: -32000 for everything the pool says, -32602 for parameters.
    #[must_use]
    pub fn code(&self) -> i64 {
        match self {
            Self::MissingArgument
            | Self::TooManyArguments
            | Self::NonString
            | Self::NoPrefix
            | Self::OddHex
            | Self::BadHex => -32602,
            Self::NoMethod(_) => -32601,
            Self::Upstream { code, .. } => *code,
            Self::TypedTooShort
            | Self::TypeNotSupported
            | Self::Rlp(_)
            | Self::FeeCap { .. }
            | Self::Unprotected
            | Self::AlreadyKnown
            | Self::ChainId { .. }
            | Self::SignatureValues
            | Self::Recovery
            | Self::BlackList
            | Self::Size { .. }
            | Self::InitCode { .. }
            | Self::GasCap { .. }
            | Self::BlockGas
            | Self::FeeTooWide
            | Self::TipTooWide
            | Self::TipAboveFee
            | Self::NonceMax
            | Self::IntrinsicGas { .. }
            | Self::FloorGas { .. }
            | Self::MinimumPrice { .. }
            | Self::NoAuthorization
            | Self::NonceTooLow { .. }
            | Self::Funds { .. }
            | Self::QueuedFunds { .. }
            | Self::BumpFunds { .. }
            | Self::DelegatedInFlight
            | Self::DelegatedGap
            | Self::ReplacementUnderpriced
            | Self::Validators { .. }
            | Self::Indexing => -32000,
        }
    }

    /// The `error` member of an answer.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut error = json!({ "code": self.code(), "message": self.to_string() });
        if let Self::Upstream { data: Some(data), .. } = self {
            error["data"] = data.clone();
        }
        error
    }
}
