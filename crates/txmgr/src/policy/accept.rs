//! Checks a request against the rules of the network and the account's policy, and sets its price.
//!
//! Every node would accept a transaction that passes here, as far as that can be known without a call to a node. The
//! sources are EIP-2028, EIP-3860 and EIP-7623 for gas, EIP-7825 for the gas limit, and the transaction pool for sizes.
//!
//! Looks nothing up: account, prices and time are arguments. Read next: [`super::direct`].

use serde_json::Value;

use super::{AccountPolicy, PolicyFacts};
use crate::fees::priority_price;
use crate::request::{AccountRef, Code, FeeAsk, Refused, SigningRequest};
use crate::tx::{Fee, Intent, MAX_INIT_CODE_BYTES, MAX_TX_BYTES, MAX_TX_GAS, UnsignedTx, floor_gas, intrinsic_gas};
use crate::units::{AccountKey, Digest, Millis, Nonce, Wei};

/// An upper bound for the size of a raw transaction without its data, in bytes. The exact size is computed only if the
/// data is within this distance of the limit.
const ENVELOPE_MAX_BYTES: usize = 512;

/// The rules of the network, from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkRules {
    /// The minimum price in wei per gas that validators accept: 0.05 gwei on BSC, 0.1 gwei on Chapel.
    pub fee_floor: Wei,
}

/// A request that may be signed, with its price.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// What to execute.
    pub intent: Intent,
    /// The fee of attempt 0.
    pub fee: Fee,
    /// The maximum price per unit of gas of any attempt: the cap of the policy or of the request, whichever is lower.
    pub fee_cap: Wei,
    /// When the request expires.
    pub deadline: Option<Millis>,
    /// The caller's metadata, which the outcome repeats.
    pub metadata: Option<Value>,
    /// The digest with which another message with the same id is compared.
    pub digest: Digest,
}

/// Checks a request against its account, the network's rules and the account's policy, and sets its price.
///
/// `account` is the account that the request resolved to, `observed_price` the network's price as last observed, and
/// `sender` the `SenderId` from SQS. A refusal contains the request's id and metadata.
pub fn accept(
    request: &SigningRequest,
    account: &AccountKey,
    policy: &AccountPolicy,
    network: &NetworkRules,
    observed_price: Option<Wei>,
    sender: Option<&str>,
    now: Millis,
) -> Result<Accepted, Refused> {
    let priced = || {
        check_account(request, account)?;
        let intent = Intent {
            chain_id: account.chain_id,
            to: request.to,
            value: request.value,
            data: request.data.clone(),
            gas: request.gas,
        };
        check_gas(&intent)?;
        let fee_cap = request.max_gas_price.map_or(policy.max_gas_price, |cap| cap.min(policy.max_gas_price));
        let fee = price(request, policy, network, observed_price, fee_cap)?;
        check_size(&intent, fee, fee_cap)?;
        check_deadline(request.deadline, now)?;
        policy.check(&PolicyFacts { intent: &intent, fee, fee_cap, sender, deadline: request.deadline, now })?;
        Ok((intent, fee, fee_cap))
    };
    let (intent, fee, fee_cap) = priced().map_err(|refused: Refused| Refused {
        request_id: Some(request.id.clone()),
        metadata: request.metadata.clone().map(Box::new),
        ..refused
    })?;
    Ok(Accepted {
        intent,
        fee,
        fee_cap,
        deadline: request.deadline,
        metadata: request.metadata.clone(),
        digest: request.digest(account),
    })
}

fn check_account(request: &SigningRequest, account: &AccountKey) -> Result<(), Refused> {
    let ours = account.chain_id;
    let wrong_chain = |field: &str, asked| {
        let message = format!(
            "`{field}` asks for chain {asked}, but the account is on chain {ours}; name an account of that chain"
        );
        Refused::field(Code::WrongChain, field, message)
    };
    let wrong_address = || {
        let message = "`account` is not the account the request was resolved to; name a registered account";
        Refused::field(Code::UnknownAccount, "account", message)
    };
    match &request.account {
        Some(AccountRef::Key(key)) if key.address != account.address => return Err(wrong_address()),
        Some(AccountRef::Address(address)) if *address != account.address => {
            return Err(wrong_address());
        }
        Some(AccountRef::Key(key)) if key.chain_id != ours => {
            return Err(wrong_chain("account", key.chain_id));
        }
        Some(AccountRef::Key(_) | AccountRef::Address(_) | AccountRef::Name(_) | AccountRef::Pool(_)) | None => {}
    }
    match request.chain_id {
        Some(asked) if asked != ours => Err(wrong_chain("chainId", asked)),
        Some(_) | None => Ok(()),
    }
}

pub(super) fn check_gas(intent: &Intent) -> Result<(), Refused> {
    let gas = intent.gas.0;
    let (least, rule) = match (intrinsic_gas(intent), floor_gas(intent)) {
        (intrinsic, floor) if floor > intrinsic => (floor, "the calldata floor of EIP-7623"),
        (intrinsic, _) => (intrinsic, "what the transaction costs before anything runs"),
    };
    if gas < least {
        let message = format!("`gas` {gas} is below {least}, {rule}; give at least that and what the execution needs");
        return Err(Refused::field(Code::GasTooLow, "gas", message));
    }
    if gas > MAX_TX_GAS {
        let message = format!("`gas` {gas} is above {MAX_TX_GAS}, the network's limit for one transaction (EIP-7825)");
        return Err(Refused::field(Code::GasTooHigh, "gas", message));
    }
    Ok(())
}

pub(super) fn check_size(intent: &Intent, fee: Fee, fee_cap: Wei) -> Result<(), Refused> {
    let data = intent.data.len();
    if intent.to.is_none() && data == 0 {
        let message = "`data` is empty, but a creation needs init code; give it, or an address in `to`";
        return Err(Refused::field(Code::BadData, "data", message));
    }
    if intent.to.is_none() && data > MAX_INIT_CODE_BYTES {
        let message =
            format!("`data` is init code of {data} bytes; the network takes {MAX_INIT_CODE_BYTES} (EIP-3860)");
        return Err(Refused::field(Code::InitCodeTooLarge, "data", message));
    }
    if data.saturating_add(ENVELOPE_MAX_BYTES) <= MAX_TX_BYTES {
        return Ok(());
    }
    // The nonce is not known yet, and a bump may add a byte to the price: assume the largest values.
    let fee = match fee {
        Fee::Legacy { .. } => Fee::Legacy { gas_price: fee_cap },
        Fee::Dynamic { .. } => Fee::Dynamic { max_fee_per_gas: fee_cap, max_priority_fee_per_gas: fee_cap },
    };
    let size = UnsignedTx { intent, nonce: Nonce(u64::MAX), fee }.max_raw_len();
    if size > MAX_TX_BYTES {
        let message = format!("`data` of {data} bytes makes a transaction of {size}; the network takes {MAX_TX_BYTES}");
        return Err(Refused::field(Code::TooLarge, "data", message));
    }
    Ok(())
}

fn check_deadline(deadline: Option<Millis>, now: Millis) -> Result<(), Refused> {
    match deadline {
        Some(deadline) if deadline <= now => {
            let message = "`deadline` has passed; send the request again with a later one";
            Err(Refused::field(Code::DeadlinePassed, "deadline", message))
        }
        Some(_) | None => Ok(()),
    }
}

/// The fee in the request, or else the account's configured price, or else the network's price. The last two are raised
/// to the floor and lowered to the cap.
fn price(
    request: &SigningRequest,
    policy: &AccountPolicy,
    network: &NetworkRules,
    observed_price: Option<Wei>,
    cap: Wei,
) -> Result<Fee, Refused> {
    let floor = policy.min_gas_price.map_or(network.fee_floor, |policy| policy.max(network.fee_floor));
    let capped_by = match request.max_gas_price {
        Some(own) if own < policy.max_gas_price => "maxGasPrice",
        Some(_) | None => "the policy's max_gas_price_wei",
    };
    match request.fee {
        FeeAsk::Fixed(fee) => {
            let (low, high) = match fee {
                Fee::Legacy { .. } => ("gasPrice", "gasPrice"),
                Fee::Dynamic { .. } => ("maxPriorityFeePerGas", "maxFeePerGas"),
            };
            if fee.price() > cap {
                let message = format!("`{high}` {} is above {capped_by} {cap}; offer at most that", fee.price());
                return Err(Refused::field(Code::FeeTooHigh, high, message));
            }
            if priority_price(fee) < floor {
                let message = format!(
                    "`{low}` {} is below {floor}, the least that is mined; offer at least that",
                    priority_price(fee)
                );
                return Err(Refused::field(Code::FeeTooLow, low, message));
            }
            Ok(fee)
        }
        FeeAsk::Configured => {
            if cap < floor {
                let field = if capped_by == "maxGasPrice" { "maxGasPrice" } else { "gasPrice" };
                let message = format!("{capped_by} {cap} is below {floor}, the least that is mined; raise it");
                return Err(Refused::field(Code::FeeTooLow, field, message));
            }
            let Some(price) = policy.gas_price.or(observed_price) else {
                let message = "`gasPrice` is missing, the account has no configured price and the network's is not known yet; name one";
                return Err(Refused::field(Code::NoFee, "gasPrice", message));
            };
            Ok(Fee::Legacy { gas_price: price.max(floor).min(cap) })
        }
    }
}
