//! The error messages of a BSC node, each once, in the order of the node's checks: those of v1.7.3, and those of geth
//! 1.17, on which v1.8 is based, where they differ. Captured messages are in `tests/vectors/node-errors/bsc.json`;
//! `tests/real` checks them against a running geth.
//!
//! Read next: [`super::rules`], [`super::pool`].

use serde_json::{Value, json};
use signpost_txmgr::units::U256;

/// Why a node refuses a transaction or a call. `Display` is the message that callers receive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    // rpc: the parameters.
    /// No parameter.
    #[error("missing value for required argument 0")]
    MissingArgument,
    /// More than one parameter.
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
    /// Characters that are not hex digits.
    #[error("invalid argument 0: json: cannot unmarshal invalid hex string into Go value of type hexutil.Bytes")]
    BadHex,

    // core/types: the encoding.
    /// Empty, or only a type byte.
    #[error("typed transaction too short")]
    TypedTooShort,
    /// A type that no pool of this node accepts.
    #[error("transaction type not supported")]
    TypeNotSupported,
    /// The RLP does not match the type.
    #[error("rlp: {0}")]
    Rlp(String),

    // internal/ethapi: before the pool.
    /// Price × gas is above the RPC's cap (`RPCTxFeeCap`), in BNB with two digits.
    #[error("tx fee ({fee} ether) exceeds the configured cap ({cap} ether)")]
    FeeCap {
        /// The highest fee.
        fee: String,
        /// The cap.
        cap: String,
    },
    /// A legacy transaction without a chain id.
    #[error("only replay-protected (EIP-155) transactions allowed over RPC")]
    Unprotected,

    // The pool, without state.
    /// The same hash is in the pool.
    #[error("already known")]
    AlreadyKnown,
    /// Signed for another chain.
    #[error("invalid chain id for signer: have {have} want {want}")]
    ChainId {
        /// The transaction's chain id.
        have: U256,
        /// The node's chain id.
        want: u64,
    },
    /// r, s or v out of range, or s in the upper half.
    #[error("invalid transaction v, r, s values")]
    SignatureValues,
    /// No key could have made the signature.
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
    /// Init code is too large (EIP-3860).
    #[error("max initcode size exceeded: code size {size} limit {limit}")]
    InitCode {
        /// Bytes.
        size: usize,
        /// Most bytes.
        limit: usize,
    },
    /// The gas limit is too high (EIP-7825).
    #[error("transaction gas limit too high (cap: {cap}, tx: {gas})")]
    GasCap {
        /// The cap.
        cap: u64,
        /// Gas asked for.
        gas: u64,
    },
    /// The gas limit is above that of a block.
    #[error("exceeds block gas limit")]
    BlockGas,
    /// The fee has more than 256 bits.
    #[error("max fee per gas higher than 2^256-1")]
    FeeTooWide,
    /// The tip has more than 256 bits.
    #[error("max priority fee per gas higher than 2^256-1")]
    TipTooWide,
    /// The tip is above the fee.
    #[error("max priority fee per gas higher than max fee per gas")]
    TipAboveFee,
    /// The highest nonce (EIP-2681).
    #[error("nonce has max value")]
    NonceMax,
    /// Gas below the intrinsic cost (Yellow Paper, EIP-2028, EIP-2930, EIP-3860).
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGas {
        /// Gas asked for.
        gas: u64,
        /// Least gas.
        needed: u64,
    },
    /// Gas below the floor for calldata (EIP-7623).
    #[error("insufficient gas for floor data gas cost: gas {gas}, minimum needed {needed}")]
    FloorGas {
        /// Gas asked for.
        gas: u64,
        /// Least gas.
        needed: u64,
    },
    /// The tip is below `TxPool.PriceLimit`.
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
        /// The account's next nonce.
        next: u64,
        /// The transaction's nonce.
        nonce: u64,
    },
    /// The transaction alone costs more than the balance.
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {overshot}")]
    Funds {
        /// Wei.
        balance: U256,
        /// Wei.
        cost: U256,
        /// Wei.
        overshot: U256,
    },
    /// The transaction and the pending ones together cost more than the balance.
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, queued cost {queued}, tx cost {cost}, \
         overshot {overshot}"
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
    /// The replacement and the pending ones together cost more than the balance.
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, queued cost {queued}, tx bumped {bumped}, \
         overshot {overshot}"
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
    /// The sender has code (EIP-7702) and already a transaction in the pool.
    #[error("in-flight transaction limit reached for delegated accounts")]
    DelegatedInFlight,
    /// The sender has code (EIP-7702) and this is not its next nonce.
    #[error("gapped-nonce tx from delegated accounts")]
    DelegatedGap,
    /// A fee field is less than 10 % above that of the pooled transaction.
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,

    // Other calls.
    /// `eth_getFinalizedHeader` with an invalid number of validators.
    #[error("{number} neither within the range [1,{validators}] nor the range [-3,-1]")]
    Validators {
        /// The requested number.
        number: i64,
        /// The number of validators.
        validators: u64,
    },
    /// The node has no such method.
    #[error("the method {0} does not exist/is not available")]
    NoMethod(String),
    /// Receipts are being indexed.
    #[error("transaction indexing is in progress")]
    Indexing,
    /// The error of the node behind, unchanged.
    #[error("{message}")]
    Upstream {
        /// Its code.
        code: i64,
        /// Its message.
        message: String,
        /// Additional data, such as that of a revert.
        data: Option<Value>,
    },
}

impl Refusal {
    /// The JSON-RPC code: -32000 for errors of the pool, -32602 for parameters.
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
