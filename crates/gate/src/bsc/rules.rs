//! The checks of a BSC node that need no account state, in the node's order: `internal/ethapi` (fee cap, replay
//! protection), then the pool's checks without state (`core/txpool/validation.go`).
//!
//! Every limit is configurable, because BSC has changed most of them. Read next: [`super::pool`].
#![expect(clippy::arithmetic_side_effects, reason = "every divisor is a constant that is not zero")]

use std::sync::Arc;

use serde_json::Value;
use signpost_txmgr::signature::recover;
use signpost_txmgr::tx::{Intent, MAX_INIT_CODE_BYTES, MAX_TX_BYTES, MAX_TX_GAS, Signature, floor_gas, intrinsic_gas};
use signpost_txmgr::units::{Address, ChainId, Gas, U256, Wei};

use super::decode::{Tx, Wide};
use super::refusal::Refusal;

/// The order of secp256k1 (SEC 2).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba, 0xae, 0xdc,
    0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];
/// EIP-2930: gas for an address and for a storage key.
const GAS_ACCESS_ADDRESS: u64 = 2_400;
const GAS_ACCESS_KEY: u64 = 1_900;
/// EIP-7702: gas for an authorization.
const GAS_AUTHORIZATION: u64 = 25_000;
/// `NanoBlackList` of BSC's `core/types`.
const BLACK_LIST: [[u8; 20]; 3] = [
    [
        0x48, 0x9a, 0x87, 0x56, 0xc1, 0x8c, 0x0b, 0x8b, 0x24, 0xec, 0x2a, 0x2b, 0x9f, 0xf3, 0xd4, 0xd4, 0x47, 0xf7,
        0x9b, 0xec,
    ],
    [
        0xfd, 0x60, 0x42, 0xdf, 0x3d, 0x74, 0xce, 0x99, 0x59, 0x92, 0x2f, 0xec, 0x55, 0x9d, 0x79, 0x95, 0xf3, 0x93,
        0x3c, 0x55,
    ],
    [
        0xdb, 0x78, 0x9e, 0xb5, 0xbd, 0xb4, 0xe5, 0x59, 0xbe, 0xd1, 0x99, 0xb8, 0xb8, 0x2d, 0xed, 0x94, 0xe1, 0xd0,
        0x56, 0xc9,
    ],
];

/// The limits of a node and its chain.
#[derive(Debug, Clone)]
pub struct Limits {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// `TxPool.PriceLimit`: the lowest tip that the pool accepts.
    pub min_gas_price: Wei,
    /// `RPCTxFeeCap`: the highest fee of a transaction sent over RPC; zero turns the check off.
    pub fee_cap: Wei,
    /// Gas limit of a block.
    pub block_gas: u64,
    /// EIP-7825: gas limit of a transaction.
    pub max_tx_gas: u64,
    /// Size limit of a transaction: four slots of 32 KiB.
    pub max_tx_bytes: usize,
    /// EIP-3860: size limit of init code.
    pub max_init_code_bytes: usize,
    /// `TxPool.PriceBump`, in percent.
    pub price_bump_percent: u64,
    /// `TxPool.AccountQueue`: limit of transactions behind a gap per account.
    pub account_queue: usize,
    /// Number of validators of the chain.
    pub validators: u64,
    /// Addresses that may neither send nor receive.
    pub black_list: Vec<Address>,
}

impl Limits {
    /// The limits of BSC v1.7.3 and of the network: 0.05 gwei on mainnet (56), 0.1 gwei elsewhere.
    #[must_use]
    pub fn of_chain(chain_id: u64) -> Self {
        Self {
            chain_id,
            min_gas_price: Wei::from(if chain_id == 56 { 50_000_000 } else { 100_000_000 }),
            fee_cap: Wei::from(1_000_000_000_000_000_000),
            block_gas: 55_000_000,
            max_tx_gas: MAX_TX_GAS,
            max_tx_bytes: MAX_TX_BYTES,
            max_init_code_bytes: MAX_INIT_CODE_BYTES,
            price_bump_percent: 10,
            account_queue: 200,
            validators: 21,
            black_list: BLACK_LIST.map(Address).to_vec(),
        }
    }

    /// The checks before the pool.
    pub(crate) fn check_over_rpc(&self, tx: &Tx) -> Result<(), Refusal> {
        let fee = tx.fee_cap.number.saturating_mul(U256::from(tx.gas));
        if !self.fee_cap.0.is_zero() && fee > self.fee_cap.0 {
            return Err(Refusal::FeeCap { fee: in_ether(fee), cap: in_ether(self.fee_cap.0) });
        }
        if tx.chain_id.is_none() {
            return Err(Refusal::Unprotected);
        }
        Ok(())
    }

    /// The signer of a transaction.
    pub(crate) fn sender(&self, tx: &Tx) -> Result<Address, Refusal> {
        let have = tx.chain_id.unwrap_or_default();
        if have != U256::from(self.chain_id) {
            return Err(Refusal::ChainId { have, want: self.chain_id });
        }
        let order = U256::from_big_endian(&ORDER);
        let in_range = |scalar: Wide, most: U256| scalar.fits && !scalar.number.is_zero() && scalar.number <= most;
        let y_odd = tx.y_odd.ok_or(Refusal::SignatureValues)?;
        if !in_range(tx.r, order.saturating_sub(U256::one())) || !in_range(tx.s, order / 2) {
            return Err(Refusal::SignatureValues);
        }
        let signature = Signature { r: tx.r.number.to_big_endian(), s: tx.s.number.to_big_endian(), y_odd };
        recover(&tx.signing_hash, &signature).ok_or(Refusal::Recovery)
    }

    /// The pool's checks that need no state, after the sender is known.
    pub(crate) fn check_without_state(&self, tx: &Tx, sender: Address) -> Result<(), Refusal> {
        if [Some(sender), tx.to].into_iter().flatten().any(|address| self.black_list.contains(&address)) {
            return Err(Refusal::BlackList);
        }
        if tx.raw.len() > self.max_tx_bytes {
            return Err(Refusal::Size { size: tx.raw.len(), limit: self.max_tx_bytes });
        }
        if tx.to.is_none() && tx.data.len() > self.max_init_code_bytes {
            return Err(Refusal::InitCode { size: tx.data.len(), limit: self.max_init_code_bytes });
        }
        if tx.gas > self.max_tx_gas {
            return Err(Refusal::GasCap { cap: self.max_tx_gas, gas: tx.gas });
        }
        if tx.gas > self.block_gas {
            return Err(Refusal::BlockGas);
        }
        if !tx.fee_cap.fits {
            return Err(Refusal::FeeTooWide);
        }
        if !tx.tip_cap.fits {
            return Err(Refusal::TipTooWide);
        }
        if tx.tip_cap.number > tx.fee_cap.number {
            return Err(Refusal::TipAboveFee);
        }
        if tx.nonce == u64::MAX {
            return Err(Refusal::NonceMax);
        }
        self.check_gas(tx)?;
        if tx.tip_cap.number < self.min_gas_price.0 {
            return Err(Refusal::MinimumPrice { tip: tx.tip_cap.number, needed: self.min_gas_price.0 });
        }
        if tx.kind == 4 && tx.authorizations == Some(0) {
            return Err(Refusal::NoAuthorization);
        }
        Ok(())
    }

    fn check_gas(&self, tx: &Tx) -> Result<(), Refusal> {
        let intent = Intent {
            chain_id: ChainId(self.chain_id),
            to: tx.to,
            value: Wei(tx.value.number),
            data: Arc::from(&tx.data[..]),
            gas: Gas(tx.gas),
        };
        let (addresses, keys) = tx.access;
        let needed = intrinsic_gas(&intent)
            .saturating_add(addresses.saturating_mul(GAS_ACCESS_ADDRESS))
            .saturating_add(keys.saturating_mul(GAS_ACCESS_KEY))
            .saturating_add(tx.authorizations.unwrap_or(0).saturating_mul(GAS_AUTHORIZATION));
        if tx.gas < needed {
            return Err(Refusal::IntrinsicGas { gas: tx.gas, needed });
        }
        let needed = floor_gas(&intent);
        if tx.gas < needed {
            return Err(Refusal::FloorGas { gas: tx.gas, needed });
        }
        Ok(())
    }

    /// Whether `new` may replace `old`: higher by at least the bump (rounded down, as in the node) in both fee fields.
    pub(crate) fn replaces(&self, old: (U256, U256), new: (U256, U256)) -> bool {
        let percent = U256::from(self.price_bump_percent.saturating_add(100));
        let enough = |old: U256, new: U256| new > old && new >= old.saturating_mul(percent) / 100;
        enough(old.0, new.0) && enough(old.1, new.1)
    }
}

/// The single parameter of `eth_sendRawTransaction`, parsed like Go's `hexutil.Bytes`.
pub(crate) fn raw_argument(params: &Value) -> Result<Vec<u8>, Refusal> {
    let argument = match params.as_array().map(Vec::as_slice).unwrap_or_default() {
        [] | [Value::Null] => return Err(Refusal::MissingArgument),
        [argument] => argument.as_str().ok_or(Refusal::NonString)?,
        _ => return Err(Refusal::TooManyArguments),
    };
    if argument.is_empty() {
        return Ok(Vec::new());
    }
    let digits = argument.strip_prefix("0x").or_else(|| argument.strip_prefix("0X")).ok_or(Refusal::NoPrefix)?;
    hex::decode(digits).map_err(|error| match error {
        hex::FromHexError::OddLength => Refusal::OddHex,
        hex::FromHexError::InvalidHexCharacter { .. } | hex::FromHexError::InvalidStringLength => Refusal::BadHex,
    })
}

/// Wei as BNB with two digits, as the node writes it: `1.05`, and above 2^53 with the precision of a float.
fn in_ether(wei: U256) -> String {
    let (whole, part) = wei.div_mod(U256::from(1_000_000_000_000_000_000_u64));
    let exact = format!("{whole}.{part:018}");
    exact.parse::<f64>().map_or(exact, |ether| format!("{ether:.2}"))
}
