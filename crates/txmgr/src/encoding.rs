//! The encoding that digests and seals hash. Fields come in a fixed order. Each is one byte for its kind; if present,
//! 4 bytes for its length and the bytes follow. Integers are big endian.
//!
//! An encoding never changes: newer versions compare their hashes with stored ones. Read next:
//! [`crate::request`], [`crate::seal`].

use serde_json::Value;
use sha2::digest::Update;

use crate::tx::Fee;
use crate::units::Wei;

pub(crate) const ABSENT: u8 = 0;
pub(crate) const PRESENT: u8 = 1;
pub(crate) const LEGACY: u8 = 2;
pub(crate) const DYNAMIC: u8 = 3;
/// A pool's name in place of an account's address.
pub(crate) const POOL: u8 = 4;

/// Writes fields into a hash.
pub(crate) struct Encoding<H>(H);

impl<H: Update> Encoding<H> {
    /// Begins with the encoding's name, which is unique to it.
    pub(crate) fn new(mut hash: H, name: &[u8]) -> Self {
        hash.update(name);
        Self(hash)
    }

    pub(crate) fn absent(&mut self) {
        self.0.update(&[ABSENT]);
    }

    pub(crate) fn put(&mut self, kind: u8, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).expect("a message has less than 2^32 bytes");
        self.0.update(&[kind]);
        self.0.update(&length.to_be_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn maybe(&mut self, bytes: Option<impl AsRef<[u8]>>) {
        match bytes {
            None => self.absent(),
            Some(bytes) => self.put(PRESENT, bytes.as_ref()),
        }
    }

    /// A type 2 fee is `max_fee_per_gas` followed by `max_priority_fee_per_gas`.
    pub(crate) fn fee(&mut self, fee: Fee) {
        match fee {
            Fee::Legacy { gas_price } => self.put(LEGACY, &wei(gas_price)),
            Fee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas } => {
                let both = [wei(max_fee_per_gas), wei(max_priority_fee_per_gas)];
                self.put(DYNAMIC, both.as_flattened());
            }
        }
    }

    pub(crate) fn into_hash(self) -> H {
        self.0
    }
}

pub(crate) fn wei(wei: Wei) -> [u8; 32] {
    wei.0.to_big_endian()
}

/// JSON without white space and with sorted names. The order of `serde_json`'s map depends on features that any other
/// crate may switch on, so this does not rely on it.
pub(crate) fn canonical(value: &Value) -> String {
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
