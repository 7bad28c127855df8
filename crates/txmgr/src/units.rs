//! The basic quantities and names: addresses, hashes, wei, nonces, times.
//!
//! Each is a separate type whose constructor validates, so a nonce cannot be mistaken for a block number, or
//! milliseconds for seconds. Nothing here is serialisable: the wire forms are in [`crate::wire`], the stored forms in
//! `signpost-aws`.
//!
//! Read next: [`crate::tx`], [`crate::request`].

use std::fmt;
use std::str::FromStr;

pub use ethereum_types::U256;
use sha2::Digest as _;
use sha3::Keccak256;

/// Keccak-256, the hash of Ethereum.
#[must_use]
pub fn keccak256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(&Keccak256::digest(bytes));
    out
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(&sha2::Sha256::digest(bytes));
    out
}

/// Why a text does not parse as a quantity. Never contains the text itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseUnitError {
    /// The text does not start with `0x`.
    #[error("must start with 0x")]
    NoPrefix,
    /// A character is not a hexadecimal digit, or the number of digits is odd.
    #[error("is not hexadecimal")]
    NotHex,
    /// The number of bytes is wrong.
    #[error("must be {expected} bytes long, not {found}")]
    Length {
        /// The required number of bytes.
        expected: usize,
        /// The number of bytes in the text.
        found: usize,
    },
    /// A mixed-case address with a wrong EIP-55 checksum.
    #[error("has a wrong EIP-55 checksum; send it all lower case or correct it")]
    Checksum,
    /// Not a decimal number, or too large.
    #[error("is not a decimal number that fits")]
    NotDecimal,
    /// A name has characters or a length that are not allowed.
    #[error("must be 1 to {max} characters of A-Z a-z 0-9 and {extra}")]
    Name {
        /// Most characters allowed.
        max: usize,
        /// The punctuation allowed besides letters and digits.
        extra: &'static str,
    },
}

fn hex_bytes<const N: usize>(text: &str) -> Result<[u8; N], ParseUnitError> {
    let digits = text.strip_prefix("0x").ok_or(ParseUnitError::NoPrefix)?;
    let mut out = [0; N];
    hex::decode_to_slice(digits, &mut out).map_err(|error| match error {
        hex::FromHexError::InvalidHexCharacter { .. } => ParseUnitError::NotHex,
        hex::FromHexError::OddLength | hex::FromHexError::InvalidStringLength => {
            ParseUnitError::Length { expected: N, found: digits.len().div_ceil(2) }
        }
    })?;
    Ok(out)
}

macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "0x{}", hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseUnitError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                hex_bytes(text).map(Self)
            }
        }
    };
}

bytes32!(
    /// Hash of a signed transaction: Keccak-256 of its raw bytes. `0x` + 64 hex digits.
    TxHash
);
bytes32!(
    /// What KMS signs: Keccak-256 of the unsigned transaction (EIP-155, EIP-2718). Not the tx hash.
    SigningHash
);
bytes32!(
    /// Hash of a block. `0x` + 64 hex digits.
    BlockHash
);
bytes32!(
    /// SHA-256 of the canonical request. The same request id with another digest is a conflict.
    Digest
);

/// A 20-byte account address. `Display` is the EIP-55 mixed-case form.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub [u8; 20]);

impl Address {
    /// `0x` + 40 lower-case hex digits: the form used in keys.
    #[must_use]
    pub fn lower(&self) -> String {
        format!("0x{}", hex::encode(self.0))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = hex::encode(self.0);
        let hash = keccak256(digits.as_bytes());
        f.write_str("0x")?;
        for (at, digit) in digits.chars().enumerate() {
            let byte = hash.get(at / 2).copied().unwrap_or(0);
            let nibble = if at % 2 == 0 { byte >> 4 } else { byte & 0xf };
            let digit = if nibble >= 8 { digit.to_ascii_uppercase() } else { digit };
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = ParseUnitError;

    /// Accepts all lower case and all upper case; mixed case must have a valid EIP-55 checksum.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = Self(hex_bytes(text)?);
        let digits = &text[2..];
        let mixed = digits.bytes().any(|b| b.is_ascii_lowercase()) && digits.bytes().any(|b| b.is_ascii_uppercase());
        if mixed && address.to_string() != text {
            return Err(ParseUnitError::Checksum);
        }
        Ok(address)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// EIP-155 chain id: 56 is BSC, 97 is Chapel.
    ChainId
);
number!(
    /// Transaction count of an account, and so the position of a transaction in its lane.
    Nonce
);
number!(
    /// Height of a block.
    BlockNumber
);
number!(
    /// Units of gas.
    Gas
);
number!(
    /// Unix time in milliseconds. Always an argument, never read here.
    Millis
);

impl Nonce {
    /// The nonce `count` positions later.
    ///
    /// EIP-2681 limits nonces to 2^64 - 2, which no lane reaches.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.checked_add(count).expect("EIP-2681: a nonce stays below 2^64 - 1"))
    }

    /// The number of slots from `earlier` up to this nonce; 0 if `earlier` is not lower.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Millis {
    /// `count` milliseconds later.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// Milliseconds since `earlier`; 0 if the clock went back.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

const WEI_PER_GWEI: u64 = 1_000_000_000;

/// An amount of the chain's coin in wei (10^-18 BNB).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Wei(pub U256);

impl Wei {
    /// No wei at all.
    pub const ZERO: Self = Self(U256::zero());

    /// Whole gwei, rounded down; `u64::MAX` if there are more.
    #[must_use]
    pub fn whole_gwei(self) -> u64 {
        let gwei = self.0.checked_div(WEI_PER_GWEI.into()).unwrap_or_default();
        u64::try_from(gwei).unwrap_or(u64::MAX)
    }

    /// `gwei` × 10^9 wei.
    #[must_use]
    pub fn from_gwei(gwei: u64) -> Self {
        Self(U256::from(gwei).saturating_mul(U256::from(WEI_PER_GWEI)))
    }
}

impl From<u64> for Wei {
    fn from(wei: u64) -> Self {
        Self(U256::from(wei))
    }
}

impl fmt::Display for Wei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Wei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wei", self.0)
    }
}

impl FromStr for Wei {
    type Err = ParseUnitError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParseUnitError::NotDecimal);
        }
        U256::from_dec_str(text).map(Self).map_err(|_| ParseUnitError::NotDecimal)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:expr, $extra:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Most characters.
            pub const MAX_CHARS: usize = $max;

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseUnitError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let allowed = |b: u8| b.is_ascii_alphanumeric() || $extra.as_bytes().contains(&b);
                if text.is_empty() || text.len() > Self::MAX_CHARS || !text.bytes().all(allowed) {
                    return Err(ParseUnitError::Name { max: Self::MAX_CHARS, extra: $extra });
                }
                Ok(Self(text.to_owned()))
            }
        }
    };
}

name!(
    /// The caller's name for one request, and its idempotency key.
    RequestId, 128, "-_.:"
);
name!(
    /// An account's name, chosen at registration.
    AccountName, 64, "-_."
);
name!(
    /// A KMS key id, key ARN or alias, as KMS accepts it.
    KmsKeyId, 256, "-_/:."
);

/// The key of an account: `97:0xabc…` (chain id, address in lower case).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountKey {
    /// The chain the account signs for.
    pub chain_id: ChainId,
    /// The address of its KMS key.
    pub address: Address,
}

impl fmt::Display for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.chain_id, self.address.lower())
    }
}

impl FromStr for AccountKey {
    type Err = ParseUnitError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (chain_id, address) = text.split_once(':').ok_or(ParseUnitError::NotDecimal)?;
        Ok(Self {
            chain_id: ChainId(chain_id.parse().map_err(|_| ParseUnitError::NotDecimal)?),
            address: address.parse()?,
        })
    }
}
