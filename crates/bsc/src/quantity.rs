//! Numbers and bytes in Ethereum JSON-RPC's encoding: `0x` hex, quantities without leading zeros.
//!
//! A value of the wrong shape is `None`. Read next: [`crate::rpc`].

use serde_json::Value;
use signpost_txmgr::record::BlockRef;
use signpost_txmgr::units::{Address, BlockHash, BlockNumber, TxHash, U256, Wei};

/// Encodes a number as a parameter.
pub(crate) fn hex_number(number: u64) -> Value {
    Value::String(format!("0x{number:x}"))
}

/// Encodes an amount as a parameter.
pub(crate) fn hex_wei(wei: Wei) -> Value {
    Value::String(format!("0x{:x}", wei.0))
}

/// Encodes bytes as a parameter.
pub(crate) fn hex_bytes(bytes: &[u8]) -> Value {
    Value::String(format!("0x{}", hex::encode(bytes)))
}

/// Reads a number of at most 64 bits.
pub(crate) fn number(value: &Value) -> Option<u64> {
    u64::from_str_radix(digits(value)?, 16).ok()
}

/// Reads an amount.
pub(crate) fn wei(value: &Value) -> Option<Wei> {
    let digits = digits(value)?;
    (!digits.is_empty()).then(|| U256::from_str_radix(digits, 16).ok().map(Wei)).flatten()
}

/// Reads bytes.
pub(crate) fn bytes(value: &Value) -> Option<Vec<u8>> {
    hex::decode(digits(value)?).ok()
}

/// Reads a transaction hash.
pub(crate) fn tx_hash(value: &Value) -> Option<TxHash> {
    value.as_str()?.parse().ok()
}

/// Reads an address; its checksum is not checked.
pub(crate) fn address(value: &Value) -> Option<Address> {
    value.as_str()?.to_lowercase().parse().ok()
}

/// Reads a block hash.
pub(crate) fn block_hash(value: &Value) -> Option<BlockHash> {
    value.as_str()?.parse().ok()
}

/// Reads a block's height and hash from the fields with these two names.
pub(crate) fn block_ref(object: &Value, number_name: &str, hash_name: &str) -> Option<BlockRef> {
    let hash: BlockHash = object.get(hash_name)?.as_str()?.parse().ok()?;
    Some(BlockRef { number: BlockNumber(number(object.get(number_name)?)?), hash })
}

fn digits(value: &Value) -> Option<&str> {
    let digits = value.as_str()?.strip_prefix("0x")?;
    // from_str_radix would accept a sign.
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(digits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_read_strictly() {
        assert_eq!(number(&json!("0x0")), Some(0));
        assert_eq!(number(&json!("0xffffffffffffffff")), Some(u64::MAX));
        for wrong in [json!("0x"), json!("0x10000000000000000"), json!("10"), json!(10), json!(null), json!("0x+1")] {
            assert_eq!(number(&wrong), None, "{wrong}");
        }
        assert_eq!(wei(&json!("0x3b9aca00")), Some(Wei::from_gwei(1)));
        assert_eq!(wei(&json!("0x")), None);
        assert_eq!(wei(&json!(format!("0x1{}", "0".repeat(64)))), None);
    }

    #[test]
    fn numbers_are_written_without_leading_zeros() {
        assert_eq!(hex_number(0), json!("0x0"));
        assert_eq!(hex_number(4096), json!("0x1000"));
        assert_eq!(hex_wei(Wei::ZERO), json!("0x0"));
        assert_eq!(hex_wei(Wei::from_gwei(1)), json!("0x3b9aca00"));
        assert_eq!(hex_bytes(&[0, 1]), json!("0x0001"));
    }

    #[test]
    fn a_block_needs_both_height_and_hash() {
        let hash = format!("0x{}", "11".repeat(32));
        assert_eq!(
            block_ref(&json!({"number": "0x5", "hash": hash}), "number", "hash"),
            Some(BlockRef { number: BlockNumber(5), hash: BlockHash([0x11; 32]) })
        );
        assert_eq!(block_ref(&json!({"number": null, "hash": hash}), "number", "hash"), None);
        assert_eq!(block_ref(&json!({"number": "0x5", "hash": "0x11"}), "number", "hash"), None);
        assert_eq!(block_ref(&json!(null), "number", "hash"), None);
    }
}
