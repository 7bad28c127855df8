//! A transaction as it is asked for ([`Intent`]), priced ([`Fee`]) and written ([`UnsignedTx`],
//! [`RawTx`]): legacy with EIP-155 replay protection, or type 2 (EIP-1559).
//!
//! Never signs and never sends. Read next: [`crate::signature`].

use std::sync::Arc;

use crate::units::{Address, ChainId, Gas, Nonce, TxHash, Wei};

/// What the caller wants executed, without nonce and fee. A bump never changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The chain it is meant for.
    pub chain_id: ChainId,
    /// The recipient; `None` creates a contract.
    pub to: Option<Address>,
    /// Coins to move.
    pub value: Wei,
    /// Calldata, or init code of a creation. Shared, so that a record is cheap to clone.
    pub data: Arc<[u8]>,
    /// Gas limit.
    pub gas: Gas,
}

/// What is offered for a unit of gas, in wei. Its shape chooses the transaction type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fee {
    /// Type 0.
    Legacy {
        /// Wei per gas.
        gas_price: Wei,
    },
    /// Type 2. BSC's base fee is 0, so the priority fee is what is paid.
    Dynamic {
        /// Most wei per gas.
        max_fee_per_gas: Wei,
        /// Wei per gas for the validator; never above `max_fee_per_gas`.
        max_priority_fee_per_gas: Wei,
    },
}

/// A signature as a transaction carries it: `s` is in the lower half of the order (EIP-2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// x coordinate of the ephemeral point, big endian.
    pub r: [u8; 32],
    /// Big endian, at most half the order.
    pub s: [u8; 32],
    /// Parity of the ephemeral point's y (after `s` was made low).
    pub y_odd: bool,
}

/// An intent with its place in the lane and its price: everything but the signature.
#[derive(Debug, Clone, Copy)]
pub struct UnsignedTx<'a> {
    /// What to execute.
    pub intent: &'a Intent,
    /// Its place in the lane.
    pub nonce: Nonce,
    /// Its price.
    pub fee: Fee,
}

/// The bytes a node takes, and their hash.
#[derive(Clone, PartialEq, Eq)]
pub struct RawTx {
    /// RLP (type 0) or `0x02 || RLP` (type 2).
    pub bytes: Vec<u8>,
    /// Keccak-256 of `bytes`.
    pub hash: TxHash,
}
