//! Encodes transactions by the yellow paper, EIP-155 and EIP-1559, independently of the product's encoder, which it
//! judges. `tests/encoding.rs` compares it with `alloy`.
//!
//! Read next: `attempts.rs` beside it.

use ethereum_types::U256;
use sha3::{Digest as _, Keccak256};

/// The price fields of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Price {
    /// Type 0: wei per gas.
    Legacy(U256),
    /// Type 2: max fee per gas and max priority fee per gas, in wei.
    Dynamic(U256, U256),
}

impl Price {
    /// The most wei per gas it may pay.
    #[must_use]
    pub fn most(self) -> U256 {
        match self {
            Self::Legacy(price) | Self::Dynamic(price, _) => price,
        }
    }

    /// The same price with every field limited to `cap`.
    #[must_use]
    pub fn at_most(self, cap: U256) -> Self {
        match self {
            Self::Legacy(price) => Self::Legacy(price.min(cap)),
            Self::Dynamic(most, tip) => Self::Dynamic(most.min(cap), tip.min(cap)),
        }
    }

    /// Whether a pool accepts this price as a replacement of `old`: 10 % more in every field.
    #[must_use]
    pub fn replaces(self, old: Self) -> bool {
        let more = |old: U256, new: U256| new > old && new * 100 >= old * 110;
        match (old, self) {
            (Self::Legacy(old), Self::Legacy(new)) => more(old, new),
            (Self::Dynamic(old, old_tip), Self::Dynamic(new, tip)) => more(old, new) && more(old_tip, tip),
            (Self::Legacy(_), Self::Dynamic(..)) | (Self::Dynamic(..), Self::Legacy(_)) => false,
        }
    }
}

/// A transaction without its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The sender's nonce.
    pub nonce: u64,
    /// Type and price.
    pub price: Price,
    /// Gas limit.
    pub gas: u64,
    /// Recipient; `None` for a contract creation.
    pub to: Option<[u8; 20]>,
    /// Value in wei.
    pub value: U256,
    /// Calldata or init code.
    pub data: Vec<u8>,
}

impl Unsigned {
    /// The hash that is signed.
    #[must_use]
    pub fn signing_hash(&self) -> [u8; 32] {
        let to = string(self.to.as_ref().map_or(&[][..], |to| to.as_slice()));
        let common = [number(self.gas.into()), to, number(self.value), string(&self.data)].concat();
        match self.price {
            Price::Legacy(price) => {
                let tail = [number(self.chain_id.into()), number(U256::zero()), number(U256::zero())].concat();
                keccak(&list(&[number(self.nonce.into()), number(price), common, tail].concat()))
            }
            Price::Dynamic(most, tip) => {
                let first = [number(self.chain_id.into()), number(self.nonce.into()), number(tip), number(most)];
                let payload = [first.concat(), common, list(&[])].concat();
                keccak(&[&[2][..], &list(&payload)].concat())
            }
        }
    }

    /// The raw transaction with this signature.
    #[must_use]
    pub fn signed(&self, r: &[u8; 32], s: &[u8; 32], y_odd: bool) -> Vec<u8> {
        let to = string(self.to.as_ref().map_or(&[][..], |to| to.as_slice()));
        let common = [number(self.gas.into()), to, number(self.value), string(&self.data)].concat();
        let both = [number(U256::from_big_endian(r)), number(U256::from_big_endian(s))].concat();
        let parity = u64::from(y_odd);
        match self.price {
            Price::Legacy(price) => {
                let v = self.chain_id * 2 + 35 + parity;
                list(&[number(self.nonce.into()), number(price), common, number(v.into()), both].concat())
            }
            Price::Dynamic(most, tip) => {
                let first = [number(self.chain_id.into()), number(self.nonce.into()), number(tip), number(most)];
                let payload = [first.concat(), common, list(&[]), number(parity.into()), both].concat();
                [&[2][..], &list(&payload)].concat()
            }
        }
    }

    /// Decodes a raw transaction; `None` unless it is exactly one signed transaction of type 0 with replay protection
    /// or of type 2 with an empty access list.
    #[must_use]
    pub fn of_signed(raw: &[u8]) -> Option<Self> {
        let dynamic = raw.first() == Some(&2);
        let (fields, rest) = items(if dynamic { raw.get(1..)? } else { raw })?;
        let count = if dynamic { 12 } else { 9 };
        if fields.len() != count || !rest.is_empty() {
            return None;
        }
        let number_at = |at: usize| fields.get(at).map(|bytes| U256::from_big_endian(bytes));
        let small_at = |at: usize| number_at(at).and_then(|number| u64::try_from(number).ok());
        let (at, chain_id, nonce, price) = if dynamic {
            (4, small_at(0)?, small_at(1)?, Price::Dynamic(number_at(3)?, number_at(2)?))
        } else {
            (2, small_at(6)?.checked_sub(35)? / 2, small_at(0)?, Price::Legacy(number_at(1)?))
        };
        let to = match fields.get(at + 1)? {
            [] => None,
            bytes => Some(<[u8; 20]>::try_from(*bytes).ok()?),
        };
        let data = fields.get(at + 3)?.to_vec();
        Some(Self { chain_id, nonce, price, gas: small_at(at)?, to, value: number_at(at + 2)?, data })
    }
}

/// Keccak-256.
#[must_use]
pub fn keccak(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [byte] if *byte < 0x80 => vec![*byte],
        _ => [header(0x80, bytes.len()), bytes.to_vec()].concat(),
    }
}

fn list(payload: &[u8]) -> Vec<u8> {
    [header(0xc0, payload.len()), payload.to_vec()].concat()
}

fn number(number: U256) -> Vec<u8> {
    let bytes = number.to_big_endian();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    string(&bytes[zeros..])
}

fn header(base: u8, length: usize) -> Vec<u8> {
    if length < 56 {
        return vec![base + u8::try_from(length).unwrap()];
    }
    let bytes = length.to_be_bytes();
    let digits = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    [&[base + 55 + u8::try_from(digits.len()).unwrap()][..], digits].concat()
}

/// The payloads of a list's items, and the bytes after the list.
fn items(bytes: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let (is_list, mut payload, rest) = item(bytes)?;
    let mut found = Vec::new();
    while is_list && !payload.is_empty() {
        let (_, one, after) = item(payload)?;
        found.push(one);
        payload = after;
    }
    is_list.then_some((found, rest))
}

/// The first item: whether it is a list, its payload, and the bytes after it.
fn item(bytes: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let (first, after) = bytes.split_first()?;
    let (is_list, base) = if *first >= 0xc0 { (true, 0xc0) } else { (false, 0x80) };
    if *first < 0x80 {
        return Some((false, &bytes[..1], after));
    }
    let short = usize::from(first - base);
    let (length, after) = if short < 56 {
        (short, after)
    } else {
        let (digits, after) = after.split_at_checked(short - 55)?;
        (digits.iter().try_fold(0_usize, |sum, digit| sum.checked_mul(256)?.checked_add(usize::from(*digit)))?, after)
    };
    let (payload, rest) = after.split_at_checked(length)?;
    Some((is_list, payload, rest))
}
