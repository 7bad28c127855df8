//! A transaction as it is asked for ([`Intent`]), priced ([`Fee`]) and written ([`UnsignedTx`],
//! [`RawTx`]): legacy with EIP-155 replay protection, or type 2 (EIP-1559).
//!
//! Never signs and never sends. Read next: [`crate::signature`].

use std::fmt;
use std::sync::Arc;

use rlp::RlpStream;

use crate::units::{Address, ChainId, Gas, Nonce, SigningHash, TxHash, Wei, keccak256};

/// Most gas a transaction may ask for: EIP-7825, on BSC since BEP-652.
pub const MAX_TX_GAS: u64 = 16_777_216;

/// Most bytes of a signed transaction that a node's pool takes: four slots of 32 KiB
/// (`txMaxSize` in geth's and BSC's `core/txpool/legacypool`).
pub const MAX_TX_BYTES: usize = 131_072;

/// Most bytes of init code: EIP-3860, twice the largest contract of EIP-170.
pub const MAX_INIT_CODE_BYTES: usize = 49_152;

/// Highest chain id in use: EIP-2294, so that `v` of a legacy transaction fits 64 bits everywhere.
///
/// The encoding here is right for every [`ChainId`]: `v` is computed with 128 bits. This is the
/// bound for whoever reads a chain id from outside.
pub const MAX_CHAIN_ID: u64 = 9_223_372_036_854_775_771;

/// Gas limit of a plain transfer, and so of a cancel.
pub const TRANSFER_GAS: Gas = Gas(GAS_BASE);

/// Gas of any transaction (`G_transaction`, Yellow Paper appendix G).
const GAS_BASE: u64 = 21_000;
/// Gas of creating a contract, on top (EIP-2).
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

/// What the caller wants executed, without nonce and fee. A bump never changes it.
///
/// `Debug` gives length and fingerprint of the calldata, never the calldata.
#[derive(Clone, PartialEq, Eq)]
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
///
/// `Debug` gives a fingerprint: an unsent signature is worth money, and logs are read by many.
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
///
/// `Debug` gives the hash, never the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct RawTx {
    /// RLP (type 0) or `0x02 || RLP` (type 2).
    pub bytes: Vec<u8>,
    /// Keccak-256 of `bytes`.
    pub hash: TxHash,
}

/// Gas that is taken before the first instruction runs; a lower limit never enters a block.
///
/// 21,000; 4 for a zero byte and 16 for any other byte of calldata (EIP-2028); for a creation
/// 32,000 (EIP-2) and 2 for each 32-byte word of init code (EIP-3860).
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

/// Least gas limit for so much calldata, whatever the execution uses (EIP-7623): 21,000, and 10 for
/// a zero byte and 40 for any other byte. A valid limit is at least this and [`intrinsic_gas`].
#[must_use]
pub fn floor_gas(intent: &Intent) -> u64 {
    let (zero, nonzero) = count_bytes(&intent.data);
    GAS_BASE
        .saturating_add(zero.saturating_mul(FLOOR_ZERO_BYTE))
        .saturating_add(nonzero.saturating_mul(FLOOR_NONZERO_BYTE))
}

impl Fee {
    /// The most that is paid for a unit of gas: `gas_price` or `max_fee_per_gas`. Caps and bumps
    /// are rules about this.
    #[must_use]
    pub fn price(&self) -> Wei {
        match *self {
            Self::Legacy { gas_price } => gas_price,
            Self::Dynamic { max_fee_per_gas, .. } => max_fee_per_gas,
        }
    }
}

impl UnsignedTx<'_> {
    /// What is signed.
    ///
    /// Legacy (EIP-155): Keccak-256 of
    /// `rlp([nonce, gasPrice, gas, to, value, data, chainId, 0, 0])`. Type 2 (EIP-1559): of `0x02 ||
    /// rlp([chainId, nonce, maxPriorityFee, maxFee, gas, to, value, data, accessList])`, whose access
    /// list is always empty here.
    #[must_use]
    pub fn signing_hash(&self) -> SigningHash {
        SigningHash(keccak256(self.encode(None).as_raw()))
    }

    /// Puts the signature in its place. The same arguments give the same bytes, so a stored
    /// signature is enough to send again.
    ///
    /// Does not check the signature: [`crate::signature::PublicKey::signature`] made it, or
    /// [`crate::signature::PublicKey::verifies`] approved it.
    #[must_use]
    pub fn sign(&self, signature: &Signature) -> RawTx {
        let bytes = Vec::from(self.encode(Some(signature)).out());
        let hash = TxHash(keccak256(&bytes));
        RawTx { bytes, hash }
    }

    /// Most bytes the signed transaction can have, whatever `r` and `s` turn out to be: to be held
    /// against [`MAX_TX_BYTES`] before a signature is paid for. The real length is rarely less.
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

    /// `gas, to, value, data`: the same four in both types.
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

/// Enough of a hash to tell two values apart in a log, too little to say what they are.
fn fingerprint(bytes: &[u8]) -> String {
    hex::encode(&keccak256(bytes)[..4])
}

/// How many bytes are zero, and how many are not.
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

/// RLP knows no leading zeros: zero is the empty string.
fn append_integer(stream: &mut RlpStream, big_endian: &[u8]) {
    let start = big_endian.iter().position(|byte| *byte != 0).unwrap_or(big_endian.len());
    stream.append(&&big_endian[start..]);
}
