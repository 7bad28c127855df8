//! Computes a block's hash from its header as JSON-RPC returns it.
//!
//! The hash is the Keccak-256 of the RLP list of the header's fields: fifteen that every header has, then those that
//! forks added (EIP-1559, 4895, 4844, 4788, 7685, 7928, 7843), as far as the header has them. BSC uses the same list:
//! its own data is in `extraData` and `mixHash`, and fields that only its RPC has (`milliTimestamp`) are not hashed.
//! No I/O. Read next: [`crate::evidence`].

use rlp::RlpStream;
use serde_json::{Map, Value};

use crate::units::{BlockHash, keccak256};

/// The encoding of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// This number of bytes.
    Exactly(usize),
    /// Any number of bytes.
    Bytes,
    /// A number of at most 256 bits, without leading zeros.
    Quantity,
}

/// The fields of every header, in the order of the RLP list.
const ALWAYS: [(&str, Shape); 15] = [
    ("parentHash", Shape::Exactly(32)),
    ("sha3Uncles", Shape::Exactly(32)),
    ("miner", Shape::Exactly(20)),
    ("stateRoot", Shape::Exactly(32)),
    ("transactionsRoot", Shape::Exactly(32)),
    ("receiptsRoot", Shape::Exactly(32)),
    ("logsBloom", Shape::Exactly(256)),
    ("difficulty", Shape::Quantity),
    ("number", Shape::Quantity),
    ("gasLimit", Shape::Quantity),
    ("gasUsed", Shape::Quantity),
    ("timestamp", Shape::Quantity),
    ("extraData", Shape::Bytes),
    ("mixHash", Shape::Exactly(32)),
    ("nonce", Shape::Exactly(8)),
];

/// The fields that forks added, in the order of the RLP list.
const SINCE_A_FORK: [(&str, Shape); 8] = [
    ("baseFeePerGas", Shape::Quantity),
    ("withdrawalsRoot", Shape::Exactly(32)),
    ("blobGasUsed", Shape::Quantity),
    ("excessBlobGas", Shape::Quantity),
    ("parentBeaconBlockRoot", Shape::Exactly(32)),
    ("requestsHash", Shape::Exactly(32)),
    ("blockAccessListHash", Shape::Exactly(32)),
    ("slotNumber", Shape::Quantity),
];

/// The JSON-RPC field with the node's own value of the hash.
pub const HASH: &str = "hash";

/// Why a header's hash cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A field that every header has is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field is malformed.
    #[error("{0} is malformed")]
    Malformed(&'static str),
}

/// The hash of a header with JSON-RPC's field names. Fields that are not hashed are ignored, including [`HASH`].
pub fn hash(header: &Map<String, Value>) -> Result<BlockHash, HeaderError> {
    let mut stream = RlpStream::new();
    stream.begin_unbounded_list();
    for (name, shape) in ALWAYS {
        let value = field(header, name).ok_or(HeaderError::Missing(name))?;
        append(&mut stream, &read(value, shape).ok_or(HeaderError::Malformed(name))?);
    }
    let newest = SINCE_A_FORK.iter().rposition(|(name, _)| field(header, name).is_some());
    for (name, shape) in SINCE_A_FORK.iter().take(newest.map_or(0, |at| at.saturating_add(1))) {
        match field(header, name) {
            Some(value) => append(&mut stream, &read(value, *shape).ok_or(HeaderError::Malformed(name))?),
            // go-ethereum writes an omitted field as empty; BSC omitted the beacon root for a while.
            None => {
                stream.append_empty_data();
            }
        }
    }
    stream.finalize_unbounded_list();
    Ok(BlockHash(keccak256(stream.as_raw())))
}

/// The hashed fields of a block and the node's value of the hash; `None` if `block` is not an object.
#[must_use]
pub fn of_block(block: &Value) -> Option<Map<String, Value>> {
    let block = block.as_object()?;
    let names = ALWAYS.iter().chain(&SINCE_A_FORK).map(|(name, _)| *name).chain([HASH]);
    Some(names.filter_map(|name| Some((name.to_owned(), field(block, name)?.clone()))).collect())
}

/// A field's value. Nodes may return `null` for a field of a fork that is not active yet.
fn field<'h>(header: &'h Map<String, Value>, name: &str) -> Option<&'h Value> {
    header.get(name).filter(|value| !value.is_null())
}

fn read(value: &Value, shape: Shape) -> Option<Vec<u8>> {
    let digits = value.as_str()?.strip_prefix("0x")?;
    match shape {
        Shape::Exactly(length) => hex::decode(digits).ok().filter(|bytes| bytes.len() == length),
        Shape::Bytes => hex::decode(digits).ok(),
        Shape::Quantity => {
            let bytes = hex::decode(format!("{:0>64}", Some(digits).filter(|digits| !digits.is_empty())?)).ok()?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            (bytes.len() == 32).then(|| bytes.into_iter().skip(zeros).collect())
        }
    }
}

fn append(stream: &mut RlpStream, bytes: &[u8]) {
    stream.append(&bytes);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn header() -> Map<String, Value> {
        let Value::Object(header) = json!({
            "parentHash": format!("0x{}", "11".repeat(32)), "sha3Uncles": format!("0x{}", "12".repeat(32)),
            "miner": format!("0x{}", "13".repeat(20)), "stateRoot": format!("0x{}", "14".repeat(32)),
            "transactionsRoot": format!("0x{}", "15".repeat(32)), "receiptsRoot": format!("0x{}", "16".repeat(32)),
            "logsBloom": format!("0x{}", "00".repeat(256)), "difficulty": "0x2", "number": "0x1234",
            "gasLimit": "0x3473bc0", "gasUsed": "0x0", "timestamp": "0x6903b5ec", "extraData": "0x",
            "mixHash": format!("0x{}", "00".repeat(32)), "nonce": "0x0000000000000000",
        }) else {
            panic!("an object")
        };
        header
    }

    #[test]
    fn missing_or_malformed_field_is_named() {
        for (name, _) in ALWAYS {
            let mut broken = header();
            broken.remove(name);
            assert_eq!(hash(&broken), Err(HeaderError::Missing(name)));
            for wrong in [json!("0x"), json!("11"), json!(7), json!("0xzz")] {
                broken.insert(name.to_owned(), wrong.clone());
                if name != "extraData" || wrong != json!("0x") {
                    assert_eq!(hash(&broken), Err(HeaderError::Malformed(name)), "{wrong}");
                }
            }
        }
        let mut wide = header();
        wide.insert("number".to_owned(), json!(format!("0x{}", "1".repeat(65))));
        assert_eq!(hash(&wide), Err(HeaderError::Malformed("number")));
    }

    #[test]
    fn every_kept_field_of_a_block_changes_its_hash() {
        let mut whole = header();
        for (name, shape) in SINCE_A_FORK {
            let value = if shape == Shape::Quantity { "0x7".to_owned() } else { format!("0x{}", "22".repeat(32)) };
            whole.insert(name.to_owned(), json!(value));
        }
        whole.insert("milliTimestamp".to_owned(), json!("0x1"));
        whole.insert("size".to_owned(), json!("0x2"));
        let kept = of_block(&Value::Object(whole.clone())).unwrap();
        assert_eq!(kept.len(), ALWAYS.len() + SINCE_A_FORK.len());
        let before = hash(&kept).unwrap();
        assert_eq!(hash(&whole), Ok(before));
        for (name, value) in &kept {
            let text = value.as_str().unwrap();
            let mut other = kept.clone();
            let last = if text.ends_with('0') { '1' } else { '0' };
            other.insert(
                name.clone(),
                json!(if text == "0x" { "0x00".to_owned() } else { format!("{}{last}", &text[..text.len() - 1]) }),
            );
            assert_ne!(hash(&other), Ok(before), "{name}");
        }
    }
}
