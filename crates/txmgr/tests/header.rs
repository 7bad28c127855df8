//! Checks header hashes against real blocks and a second implementation (alloy).

#![allow(missing_docs, reason = "a test binary has no reader of its documentation")]

use std::fs;
use std::path::Path;

use alloy_consensus::Header;
use alloy_primitives::{Address, B64, B256, Bloom, Bytes, U256};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use signpost_txmgr::header::{HASH, hash, of_block};

/// Block 1 of BSC, with only the fields of every header, and a block of Sepolia with all fields up to Prague.
#[test]
fn real_headers_hash_to_their_block_hashes() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/headers");
    let mut count = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let block: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let header = of_block(&block).unwrap();
        assert_eq!(hash(&header).unwrap().to_string(), header[HASH], "{}", path.display());
        count += 1;
    }
    assert_eq!(count, 2);
}

/// The header as a node returns it, with only the hashed fields.
fn as_json(header: &Header) -> Map<String, Value> {
    let optional = |name: &str, value: Option<String>| value.map(|value| (name.to_owned(), json!(value)));
    let number = |number: u64| format!("{number:#x}");
    let mut json: Map<String, Value> = [
        ("parentHash", header.parent_hash.to_string()),
        ("sha3Uncles", header.ommers_hash.to_string()),
        ("miner", header.beneficiary.to_string()),
        ("stateRoot", header.state_root.to_string()),
        ("transactionsRoot", header.transactions_root.to_string()),
        ("receiptsRoot", header.receipts_root.to_string()),
        ("logsBloom", header.logs_bloom.to_string()),
        ("difficulty", format!("{:#x}", header.difficulty)),
        ("number", number(header.number)),
        ("gasLimit", number(header.gas_limit)),
        ("gasUsed", number(header.gas_used)),
        ("timestamp", number(header.timestamp)),
        ("extraData", header.extra_data.to_string()),
        ("mixHash", header.mix_hash.to_string()),
        ("nonce", header.nonce.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), json!(value)))
    .collect();
    json.extend(optional("baseFeePerGas", header.base_fee_per_gas.map(number)));
    json.extend(optional("withdrawalsRoot", header.withdrawals_root.map(|hash| hash.to_string())));
    json.extend(optional("blobGasUsed", header.blob_gas_used.map(number)));
    json.extend(optional("excessBlobGas", header.excess_blob_gas.map(number)));
    json.extend(optional("parentBeaconBlockRoot", header.parent_beacon_block_root.map(|hash| hash.to_string())));
    json.extend(optional("requestsHash", header.requests_hash.map(|hash| hash.to_string())));
    json.extend(optional("blockAccessListHash", header.block_access_list_hash.map(|hash| hash.to_string())));
    json.extend(optional("slotNumber", header.slot_number.map(number)));
    json
}

prop_compose! {
    /// A header with the fields of this number of forks.
    fn header()(
        hashes in any::<[[u8; 32]; 10]>(),
        numbers in any::<[u64; 8]>(),
        small in any::<[u8; 2]>(),
        (bloom, extra) in (any::<u8>(), prop::collection::vec(any::<u8>(), 0..200)),
        forks in 0_usize..=8,
    ) -> Header {
        let hash = |at: usize| B256::from(hashes[at]);
        let since = |fork: usize| forks >= fork;
        Header {
            parent_hash: hash(0),
            ommers_hash: hash(1),
            beneficiary: Address::from_slice(&hashes[2][..20]),
            state_root: hash(3),
            transactions_root: hash(4),
            receipts_root: hash(5),
            logs_bloom: Bloom::repeat_byte(bloom),
            difficulty: U256::from(small[0]),
            number: numbers[0],
            gas_limit: numbers[1],
            gas_used: u64::from(small[1]),
            timestamp: numbers[2],
            extra_data: Bytes::from(extra),
            mix_hash: hash(6),
            nonce: B64::from(numbers[3]),
            base_fee_per_gas: since(1).then_some(numbers[4]),
            withdrawals_root: since(2).then_some(hash(7)),
            blob_gas_used: since(3).then_some(numbers[5]),
            excess_blob_gas: since(4).then_some(numbers[6]),
            parent_beacon_block_root: since(5).then_some(hash(8)),
            requests_hash: since(6).then_some(hash(9)),
            block_access_list_hash: since(7).then_some(hash(0)),
            slot_number: since(8).then_some(numbers[7]),
        }
    }
}

proptest! {
    #[test]
    fn every_header_hash_equals_alloys(header in header()) {
        let ours = hash(&as_json(&header)).unwrap();
        prop_assert_eq!(ours.0, header.hash_slow().0);
    }
}
