//! A transaction: what to execute ([`Intent`]), the price ([`Fee`]) and the encoding ([`UnsignedTx`],
//! [`RawTx`]), either legacy with EIP-155 replay protection or type 2 (EIP-1559).
//!
//! This module never signs and never sends. Read next: [`crate::signature`].

use std::fmt;
use std::sync::Arc;

use rlp::RlpStream;

use crate::units::{Address, ChainId, Gas, Nonce, SigningHash, TxHash, Wei, keccak256};

/// The highest gas limit of a transaction: EIP-7825, on BSC since BEP-652.
pub const MAX_TX_GAS: u64 = 16_777_216;

/// The most bytes of a signed transaction that a node's pool accepts: four slots of 32 KiB (`txMaxSize` in geth's and
/// BSC's `core/txpool/legacypool`).
pub const MAX_TX_BYTES: usize = 131_072;

/// The most bytes of init code: EIP-3860, twice the largest contract of EIP-170.
pub const MAX_INIT_CODE_BYTES: usize = 49_152;

/// The highest chain id: EIP-2294, so that `v` of a legacy transaction fits 64 bits everywhere.
///
/// This crate encodes every [`ChainId`] correctly, with 128 bits for `v`. Parsers of chain ids must check this
/// bound.
pub const MAX_CHAIN_ID: u64 = 9_223_372_036_854_775_771;

/// Gas limit of a plain transfer, and so of a cancel.
pub const TRANSFER_GAS: Gas = Gas(GAS_BASE);

/// Base gas of every transaction (`G_transaction`, Yellow Paper appendix G).
const GAS_BASE: u64 = 21_000;
/// Additional gas of a contract creation (EIP-2).
const GAS_CREATION: u64 = 32_000;
/// Gas of a zero byte of calldata.
const GAS_ZERO_BYTE: u64 = 4;
/// Gas of any other byte of calldata (EIP-2028).
const GAS_NONZERO_BYTE: u64 = 16;
/// Gas of a 32-byte word of init code (EIP-3860).
const GAS_INIT_CODE_WORD: u64 = 2;
/// Floor for a zero byte of calldata, one token (EIP-7623).
const FLOOR_ZERO_BYTE: u64 = 10;
/// Floor for any other byte of calldata, four tokens (EIP-7623).
const FLOOR_NONZERO_BYTE: u64 = 40;

/// What the caller wants to execute, without nonce and fee. A bump never changes it.
///
/// `Debug` shows length and fingerprint of the calldata, never the calldata.
#[derive(Clone, PartialEq, Eq)]
pub struct Intent {
    /// The chain on which it is valid.
    pub chain_id: ChainId,
    /// The recipient; `None` creates a contract.
    pub to: Option<Address>,
    /// The amount to transfer.
    pub value: Wei,
    /// Calldata, or the init code of a creation. Shared, so that records are cheap to clone.
    pub data: Arc<[u8]>,
    /// Gas limit.
    pub gas: Gas,
}

/// The offered price per unit of gas, in wei. The variant selects the transaction type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fee {
    /// Type 0.
    Legacy {
        /// Wei per gas.
        gas_price: Wei,
    },
    /// Type 2. BSC's base fee is 0, so the sender pays the priority fee.
    Dynamic {
        /// The most wei per gas.
        max_fee_per_gas: Wei,
        /// Wei per gas for the validator; never above `max_fee_per_gas`.
        max_priority_fee_per_gas: Wei,
    },
}

/// A signature as a transaction contains it: `s` is in the lower half of the order (EIP-2).
///
/// `Debug` shows a fingerprint only: an unsent signature is worth money, and many people read logs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// x coordinate of the ephemeral point, big endian.
    pub r: [u8; 32],
    /// Big endian, at most half the order.
    pub s: [u8; 32],
    /// Parity of the ephemeral point's y, for the low `s`.
    pub y_odd: bool,
}

/// A transaction without its signature: an intent with its nonce and its price.
#[derive(Debug, Clone, Copy)]
pub struct UnsignedTx<'a> {
    /// What to execute.
    pub intent: &'a Intent,
    /// Its position in the lane.
    pub nonce: Nonce,
    /// The offered price.
    pub fee: Fee,
}

/// The bytes that a node accepts, and their hash.
///
/// `Debug` shows the hash, never the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct RawTx {
    /// RLP (type 0) or `0x02 || RLP` (type 2).
    pub bytes: Vec<u8>,
    /// Keccak-256 of `bytes`.
    pub hash: TxHash,
}

/// Gas charged before the first instruction runs. A transaction with a lower limit is never mined.
///
/// It is 21,000, plus 4 per zero byte and 16 per other byte of calldata (EIP-2028). A creation adds 32,000 (EIP-2) and
/// 2 per 32-byte word of init code (EIP-3860).
#[must_use]
pub fn intrinsic_gas(intent: &Intent) -> u64 {
    let (zero, nonzero) = count_bytes(&intent.data);
    let data = zero.saturating_mul(GAS_ZERO_BYTE).saturating_add(nonzero.saturating_mul(GAS_NONZERO_BYTE));
    let creation = if intent.to.is_none() {
        let words = zero.saturating_add(nonzero).div_ceil(32);
        GAS_CREATION.saturating_add(words.saturating_mul(GAS_INIT_CODE_WORD))
    } else {
        0
    };
    GAS_BASE.saturating_add(data).saturating_add(creation)
}

/// The least gas limit for this calldata, whatever the execution uses (EIP-7623): 21,000, plus 10 per zero byte and 40
/// per other byte. A valid limit is at least this and [`intrinsic_gas`].
#[must_use]
pub fn floor_gas(intent: &Intent) -> u64 {
    let (zero, nonzero) = count_bytes(&intent.data);
    GAS_BASE
        .saturating_add(zero.saturating_mul(FLOOR_ZERO_BYTE))
        .saturating_add(nonzero.saturating_mul(FLOOR_NONZERO_BYTE))
}

impl Fee {
    /// The highest price per unit of gas: `gas_price` or `max_fee_per_gas`. Caps and bumps apply to this price.
    #[must_use]
    pub fn price(&self) -> Wei {
        match *self {
            Self::Legacy { gas_price } => gas_price,
            Self::Dynamic { max_fee_per_gas, .. } => max_fee_per_gas,
        }
    }
}

impl UnsignedTx<'_> {
    /// The hash to sign.
    ///
    /// Legacy (EIP-155): Keccak-256 of
    /// `rlp([nonce, gasPrice, gas, to, value, data, chainId, 0, 0])`. Type 2 (EIP-1559): of `0x02 ||
    /// rlp([chainId, nonce, maxPriorityFee, maxFee, gas, to, value, data, accessList])`, whose access
    /// list is always empty here.
    #[must_use]
    pub fn signing_hash(&self) -> SigningHash {
        SigningHash(keccak256(self.encode(None).as_raw()))
    }

    /// Encodes the transaction with this signature. The same arguments give the same bytes, so a stored
    /// signature is enough to send again.
    ///
    /// Does not check the signature: it comes from [`crate::signature::PublicKey::signature`], or
    /// [`crate::signature::PublicKey::verifies`] has checked it.
    #[must_use]
    pub fn sign(&self, signature: &Signature) -> RawTx {
        let bytes = Vec::from(self.encode(Some(signature)).out());
        let hash = TxHash(keccak256(&bytes));
        RawTx { bytes, hash }
    }

    /// The most bytes the signed transaction can have, for any `r` and `s`. Compare it with
    /// [`MAX_TX_BYTES`] before a signature is paid for. The real length is rarely less.
    #[must_use]
    pub fn max_raw_len(&self) -> usize {
        let widest = Signature { r: [u8::MAX; 32], s: [u8::MAX; 32], y_odd: true };
        self.encode(Some(&widest)).as_raw().len()
    }

    fn encode(&self, signature: Option<&Signature>) -> RlpStream {
        match self.fee {
            Fee::Legacy { gas_price } => self.encode_legacy(gas_price, signature),
            Fee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas } => {
                self.encode_dynamic(max_fee_per_gas, max_priority_fee_per_gas, signature)
            }
        }
    }

    fn encode_legacy(&self, gas_price: Wei, signature: Option<&Signature>) -> RlpStream {
        let mut stream = RlpStream::new_list(9);
        stream.append(&self.nonce.0);
        append_wei(&mut stream, gas_price);
        self.append_call(&mut stream);
        match signature {
            None => {
                stream.append(&self.intent.chain_id.0);
                stream.append_empty_data().append_empty_data();
            }
            Some(signature) => {
                stream.append(&eip155_v(self.intent.chain_id, signature.y_odd));
                append_integer(&mut stream, &signature.r);
                append_integer(&mut stream, &signature.s);
            }
        }
        stream
    }

    fn encode_dynamic(&self, max: Wei, priority: Wei, signature: Option<&Signature>) -> RlpStream {
        let mut stream = RlpStream::new();
        stream.append_raw(&[2], 0);
        stream.begin_list(if signature.is_some() { 12 } else { 9 });
        stream.append(&self.intent.chain_id.0).append(&self.nonce.0);
        append_wei(&mut stream, priority);
        append_wei(&mut stream, max);
        self.append_call(&mut stream);
        stream.begin_list(0);
        if let Some(signature) = signature {
            stream.append(&signature.y_odd);
            append_integer(&mut stream, &signature.r);
            append_integer(&mut stream, &signature.s);
        }
        stream
    }

    /// Appends `gas, to, value, data`, the fields common to both types.
    fn append_call(&self, stream: &mut RlpStream) {
        let Intent { to, value, data, gas, .. } = self.intent;
        stream.append(&gas.0);
        match to {
            Some(address) => stream.append(&address.0.as_slice()),
            None => stream.append_empty_data(),
        };
        append_wei(stream, *value);
        stream.append(&&data[..]);
    }
}

impl fmt::Debug for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = format!("{} bytes #{}", self.data.len(), fingerprint(&self.data));
        f.debug_struct("Intent")
            .field("chain_id", &self.chain_id)
            .field("to", &self.to)
            .field("value", &self.value)
            .field("data", &format_args!("{data}"))
            .field("gas", &self.gas)
            .finish()
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [u8::from(self.y_odd); 65];
        bytes[..32].copy_from_slice(&self.r);
        bytes[32..64].copy_from_slice(&self.s);
        write!(f, "Signature(#{})", fingerprint(&bytes))
    }
}

impl fmt::Debug for RawTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawTx({}, {} bytes)", self.hash, self.bytes.len())
    }
}

/// Part of a hash: enough to distinguish two values in a log, too little to reveal them.
fn fingerprint(bytes: &[u8]) -> String {
    hex::encode(&keccak256(bytes)[..4])
}

/// Counts the zero bytes and the other bytes.
fn count_bytes(data: &[u8]) -> (u64, u64) {
    let zero = data.iter().map(|byte| u64::from(*byte == 0)).sum();
    let all = u64::try_from(data.len()).unwrap_or(u64::MAX);
    (zero, all.saturating_sub(zero))
}

/// `v` of EIP-155. No chain id overflows it.
fn eip155_v(chain_id: ChainId, y_odd: bool) -> u128 {
    u128::from(chain_id.0)
        .checked_mul(2)
        .and_then(|twice| twice.checked_add(35))
        .and_then(|even| even.checked_add(u128::from(y_odd)))
        .expect("twice a 64-bit number and 36 fit in 128 bits")
}

fn append_wei(stream: &mut RlpStream, amount: Wei) {
    append_integer(stream, &amount.0.to_big_endian());
}

/// RLP integers have no leading zeros; 0 is the empty string.
fn append_integer(stream: &mut RlpStream, big_endian: &[u8]) {
    let start = big_endian.iter().position(|byte| *byte != 0).unwrap_or(big_endian.len());
    stream.append(&&big_endian[start..]);
}
