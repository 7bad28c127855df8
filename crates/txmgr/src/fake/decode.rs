//! A strict decoder of raw transactions, as in a node. It shares no code with the encoder in [`crate::tx`].
//!
//! Read next: [`super::chain`].

use std::sync::Arc;

use k256::ecdsa::{RecoveryId, Signature as Ecdsa, VerifyingKey};
use rlp::{DecoderError, Rlp, RlpStream};
use sha3::{Digest as _, Keccak256};

use crate::tx::{Fee, Intent};
use crate::units::{Address, ChainId, Gas, Nonce, U256, Wei};

/// A decoded transaction.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) intent: Intent,
    pub(super) nonce: Nonce,
    pub(super) fee: Fee,
    /// The Keccak-256 of the received fields without the signature.
    signed: [u8; 32],
    r: [u8; 32],
    s: [u8; 32],
    y_odd: bool,
}

impl Decoded {
    /// The sender. `None` if `s` is high (EIP-2) or the signature is invalid.
    pub(super) fn sender(&self) -> Option<Address> {
        let signature = Ecdsa::from_scalars(self.r, self.s).ok()?;
        // Normalization changes only a high `s`.
        if signature.normalize_s() != signature {
            return None;
        }
        let recovery = RecoveryId::new(self.y_odd, false);
        let key = VerifyingKey::recover_from_prehash(&self.signed, &signature, recovery).ok()?;
        let hash = Keccak256::digest(&key.to_sec1_point(false).as_bytes()[1..]);
        let mut address = [0; 20];
        address.copy_from_slice(&hash[12..]);
        Some(Address(address))
    }
}

/// The Keccak-256 of the first received fields, with `before` in front of the list and `after` at its end.
fn hash_of(list: &Rlp<'_>, fields: usize, before: &[u8], after: &[u64]) -> Result<[u8; 32], DecoderError> {
    let mut stream = RlpStream::new_list(fields + after.len());
    for at in 0..fields {
        stream.append_raw(list.at(at)?.as_raw(), 1);
    }
    for number in after {
        stream.append(number);
    }
    let mut hash = Keccak256::new();
    hash.update(before);
    hash.update(stream.as_raw());
    Ok(hash.finalize().into())
}

/// Decodes type 0 with replay protection, or type 2 with an empty access list.
pub(super) fn decode(raw: &[u8]) -> Result<Decoded, DecoderError> {
    match raw.first() {
        Some(2) => decode_dynamic(&whole(&raw[1..], 12)?),
        Some(byte) if *byte >= 0xc0 => decode_legacy(&whole(raw, 9)?),
        Some(_) | None => Err(DecoderError::Custom("transaction type not supported")),
    }
}

fn whole(bytes: &[u8], fields: usize) -> Result<Rlp<'_>, DecoderError> {
    let list = Rlp::new(bytes);
    if list.payload_info()?.total() != bytes.len() || list.item_count()? != fields {
        return Err(DecoderError::Custom("bytes follow, or fields are missing"));
    }
    Ok(list)
}

fn decode_legacy(list: &Rlp<'_>) -> Result<Decoded, DecoderError> {
    let v: u64 = list.val_at(6)?;
    let parity = v.checked_sub(35).ok_or(DecoderError::Custom("only replay-protected (EIP-155)"))?;
    Ok(Decoded {
        nonce: Nonce(list.val_at(0)?),
        fee: Fee::Legacy { gas_price: wei(list, 1)? },
        intent: intent(list, 2, ChainId(parity / 2))?,
        signed: hash_of(list, 6, &[], &[parity / 2, 0, 0])?,
        r: word(list, 7)?,
        s: word(list, 8)?,
        y_odd: parity % 2 == 1,
    })
}

fn decode_dynamic(list: &Rlp<'_>) -> Result<Decoded, DecoderError> {
    if list.at(8)?.item_count()? != 0 {
        return Err(DecoderError::Custom("an access list was never asked for"));
    }
    Ok(Decoded {
        nonce: Nonce(list.val_at(1)?),
        fee: Fee::Dynamic { max_priority_fee_per_gas: wei(list, 2)?, max_fee_per_gas: wei(list, 3)? },
        intent: intent(list, 4, ChainId(list.val_at(0)?))?,
        signed: hash_of(list, 9, &[2], &[])?,
        r: word(list, 10)?,
        s: word(list, 11)?,
        y_odd: list.val_at(9)?,
    })
}

/// `gas, to, value, data` from field `at` on.
fn intent(list: &Rlp<'_>, at: usize, chain_id: ChainId) -> Result<Intent, DecoderError> {
    let to = match list.at(at + 1)?.data()? {
        [] => None,
        bytes => Some(Address(bytes.try_into().map_err(|_| DecoderError::RlpInvalidLength)?)),
    };
    Ok(Intent {
        chain_id,
        to,
        value: wei(list, at + 2)?,
        data: Arc::from(list.at(at + 3)?.data()?),
        gas: Gas(list.val_at(at)?),
    })
}

fn wei(list: &Rlp<'_>, at: usize) -> Result<Wei, DecoderError> {
    Ok(Wei(U256::from_big_endian(&word(list, at)?)))
}

fn word(list: &Rlp<'_>, at: usize) -> Result<[u8; 32], DecoderError> {
    let bytes = list.at(at)?.data()?;
    if bytes.len() > 32 || bytes.first() == Some(&0) {
        return Err(DecoderError::RlpInvalidIndirection);
    }
    let mut word = [0; 32];
    word[32 - bytes.len()..].copy_from_slice(bytes);
    Ok(word)
}
