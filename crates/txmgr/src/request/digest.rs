//! The digest: what makes two messages under one id the same request, or a conflict.
//!
//! It is taken over what was understood, never over how it was written: `1`, `"1"` and `"0x1"`,
//! the order of the fields, and whether the account was named, addressed or left out make no
//! difference. Of a request for a pool it is the pool's name that counts, not the account it was assigned
//! to: that may be another one when the message comes again. The request id is not part of it: digests are only compared under one id.
//!
//! The encoding is for ever, because a stored digest is compared with one computed later by a newer
//! version. It is the text [`VERSION`] and then, in this order, account address, chain id, to,
//! value, data, gas, fee, max gas price, deadline, metadata; each is one byte of kind (0 absent, 4 a pool's name),
//! and where present the length of the bytes as 4 bytes and the bytes. Integers are big endian: 8
//! bytes for chain id, gas and deadline (in milliseconds), 32 for wei. A type 2 fee is its maximum
//! followed by its priority fee. Metadata is JSON without blanks, names sorted by their UTF-8 bytes, numbers
//! as the caller wrote them. Known answers are kept in `tests/vectors/requests`.
//!
//! Read next: [`super::accept()`].

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{AccountRef, FeeAsk, SigningRequest};
use crate::tx::Fee;
use crate::units::{AccountKey, Digest, Wei};

/// Names the encoding; another encoding needs another name.
const VERSION: &[u8] = b"signpost signing-request v1";

const ABSENT: u8 = 0;
const PRESENT: u8 = 1;
const LEGACY: u8 = 2;
const DYNAMIC: u8 = 3;
const POOL: u8 = 4;

impl SigningRequest {
    /// SHA-256 of the request as it was understood, for the account it resolved to.
    #[must_use]
    pub fn digest(&self, account: &AccountKey) -> Digest {
        let mut encoding = Encoding::new();
        match &self.account {
            Some(AccountRef::Pool(name)) => encoding.put(POOL, name.as_str().as_bytes()),
            Some(AccountRef::Name(_) | AccountRef::Key(_) | AccountRef::Address(_)) | None => {
                encoding.put(PRESENT, &account.address.0);
            }
        }
        encoding.put(PRESENT, &account.chain_id.0.to_be_bytes());
        encoding.maybe(self.to.map(|to| to.0));
        encoding.put(PRESENT, &wei(self.value));
        encoding.put(PRESENT, &self.data);
        encoding.put(PRESENT, &self.gas.0.to_be_bytes());
        match self.fee {
            FeeAsk::Configured => encoding.absent(),
            FeeAsk::Fixed(Fee::Legacy { gas_price }) => encoding.put(LEGACY, &wei(gas_price)),
            FeeAsk::Fixed(Fee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas }) => {
                let both = [wei(max_fee_per_gas), wei(max_priority_fee_per_gas)];
                encoding.put(DYNAMIC, both.as_flattened());
            }
        }
        encoding.maybe(self.max_gas_price.map(wei));
        encoding.maybe(self.deadline.map(|deadline| deadline.0.to_be_bytes()));
        encoding.maybe(self.metadata.as_ref().map(canonical));
        encoding.finish()
    }
}

struct Encoding(Sha256);

impl Encoding {
    fn new() -> Self {
        let mut sha256 = Sha256::new();
        sha256.update(VERSION);
        Self(sha256)
    }

    fn absent(&mut self) {
        self.0.update([ABSENT]);
    }

    fn put(&mut self, kind: u8, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).expect("a message has less than 2^32 bytes");
        self.0.update([kind]);
        self.0.update(length.to_be_bytes());
        self.0.update(bytes);
    }

    fn maybe(&mut self, bytes: Option<impl AsRef<[u8]>>) {
        match bytes {
            None => self.absent(),
            Some(bytes) => self.put(PRESENT, bytes.as_ref()),
        }
    }

    fn finish(self) -> Digest {
        let mut out = [0; 32];
        out.copy_from_slice(&self.0.finalize());
        Digest(out)
    }
}

fn wei(wei: Wei) -> [u8; 32] {
    wei.0.to_big_endian()
}

/// JSON without blanks, names sorted. The order of `serde_json`'s own map depends on features that
/// any other crate may switch on, so it is not relied upon.
pub(super) fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string());
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (at, (name, value)) in fields.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
    }
}
