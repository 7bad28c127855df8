//! The payment lane of BEP-703: which transactions are payments, and the lane's rules on the chain.
//!
//! A block reserves a part of its gas for payments. General transactions never get that part; payments compete for the
//! whole block. Lanes matter only when a block is built or verified: no pool refuses a transaction for its lane, no
//! header or receipt contains the lane, and without congestion lanes change nothing. So the lane is displayed and
//! decides nothing.
//!
//! The rule is from bsc's `core/paymentlane/classify.go` and reth-bsc's `rules.rs` as of 2026-09; the contract calls
//! are from `IPaymentLaneMeta.sol`. Calldata and access lists do not matter.
//!
//! **Does not guarantee** that the answer still holds when the transaction runs: the code of `to` is checked
//! then, and the list of the parent block applies.

use serde_json::{Value, json};
use signpost_txmgr::ports::{Chain as _, PortError};
use signpost_txmgr::units::{Address, U256, Wei, keccak256};

use crate::chain::BscChain;
use crate::quantity;

/// The system contract with the ratio and the list. It has no code before the fork.
pub const CONTRACT: Address = Address([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0x07]);

/// Maximum number of listed contracts that are read, for display. Nodes use pages of 128 too.
const LISTED_MAX: u64 = 128;

/// Length of an ABI word in bytes.
const WORD: usize = 32;

/// The part of a block that a transaction can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxLane {
    /// The whole block.
    Payment(Payment),
    /// The block without the part reserved for payments.
    General(General),
}

/// Why a transaction is a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payment {
    /// Its recipient is on the list.
    Listed,
    /// It transfers BNB to an address without code.
    Transfer,
}

/// Why a transaction is not a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum General {
    /// A blob or EIP-7702 transaction, or an unknown type.
    Type,
    /// It creates a contract.
    Creation,
    /// It transfers no BNB, and its recipient is not listed.
    NoValue,
    /// Its recipient has code, a delegation included, and is not listed.
    Code,
}

/// The properties of a recipient that decide the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipient {
    /// It is on the list of [`CONTRACT`].
    pub is_listed: bool,
    /// It has code: a contract, or a delegated account.
    pub has_code: bool,
}

/// The lane's rules, read from its contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneRules {
    /// The part of a block's gas limit that is reserved for payments, in hundredths of a percent (`RATIO_DENOM` of
    /// `PaymentLane.sol` is 10,000).
    pub ratio: u64,
    /// The first 128 listed contracts.
    pub listed: Vec<Address>,
    /// Total number of listed contracts.
    pub listed_count: u64,
}

/// The lane of a transaction that is not a system transaction. `recipient` matters only if [`is_general`] gives no
/// reason.
#[must_use]
pub fn lane(tx_type: u8, to: Option<Address>, value: Wei, recipient: Recipient) -> TxLane {
    match is_general(tx_type, to) {
        Some(general) => TxLane::General(general),
        None if recipient.is_listed => TxLane::Payment(Payment::Listed),
        None if value == Wei::ZERO => TxLane::General(General::NoValue),
        None if recipient.has_code => TxLane::General(General::Code),
        None => TxLane::Payment(Payment::Transfer),
    }
}

/// The reason why a transaction is general whatever its recipient is, if there is one.
#[must_use]
pub fn is_general(tx_type: u8, to: Option<Address>) -> Option<General> {
    match (tx_type, to) {
        (0..=2, Some(_)) => None,
        (0..=2, None) => Some(General::Creation),
        _ => Some(General::Type),
    }
}

impl LaneRules {
    /// The part of the gas limit in percent, exactly.
    #[must_use]
    pub fn percent(&self) -> String {
        let (whole, rest) = (self.ratio / 100, self.ratio % 100);
        let text = format!("{whole}.{rest:02}");
        format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl BscChain {
    /// Reads ratio and list of the payment lane; `None` if its contract has no code: before the fork, and on other
    /// chains.
    pub async fn payment_lane(&self) -> Result<Option<LaneRules>, PortError> {
        let ratio = self.lane_call(&call("getPaymentLaneRatio()", &[]), number).await?;
        let Some(ratio) = ratio else { return Ok(None) };
        let page = call("getPaymentContracts(uint256,uint256)", &[U256::zero(), U256::from(LISTED_MAX)]);
        let (listed, listed_count) = self.lane_call(&page, page_of).await?.unwrap_or_default();
        Ok(Some(LaneRules { ratio, listed, listed_count }))
    }

    /// Reads a recipient's properties, and whether the lane is active: before the fork no address is listed.
    pub async fn lane_recipient(&self, to: Address) -> Result<(Recipient, bool), PortError> {
        let asked = call("isPaymentContract(address)", &[U256::from_big_endian(&to.0)]);
        let is_listed = self.lane_call(&asked, |bytes| number(bytes).map(|number| number == 1)).await?;
        let recipient = Recipient { is_listed: is_listed.unwrap_or(false), has_code: self.has_code(to).await? };
        Ok((recipient, is_listed.is_some()))
    }

    /// Calls the contract; `None` if it has no code, since such calls return no bytes.
    async fn lane_call<T: Send>(
        &self,
        data: &[u8],
        read: impl Fn(&[u8]) -> Option<T> + Send + Sync,
    ) -> Result<Option<T>, PortError> {
        let params = json!([{ "to": CONTRACT.lower(), "data": quantity::hex_bytes(data) }, "latest"]);
        let read = |answer: &Value| match quantity::bytes(answer)? {
            bytes if bytes.is_empty() => Some(None),
            bytes => read(&bytes).map(Some),
        };
        self.ask("eth_call", params, read).await
    }
}

/// Encodes a call: the selector and its argument words.
fn call(signature: &str, words: &[U256]) -> Vec<u8> {
    let hash = keccak256(signature.as_bytes());
    let selector = hash.iter().take(4).copied();
    selector.chain(words.iter().flat_map(U256::to_big_endian)).collect()
}

fn word(bytes: &[u8], at: usize) -> Option<U256> {
    let start = at.checked_mul(WORD)?;
    bytes.get(start..start.checked_add(WORD)?).map(U256::from_big_endian)
}

/// Reads the only word as a number.
fn number(bytes: &[u8]) -> Option<u64> {
    (bytes.len() == WORD).then(|| word(bytes, 0)).flatten().and_then(|word| u64::try_from(word).ok())
}

/// Reads `(address[], uint256)`: the list's offset and the total number; then the list's length and its items.
fn page_of(bytes: &[u8]) -> Option<(Vec<Address>, u64)> {
    let total = u64::try_from(word(bytes, 1)?).ok()?;
    let at = usize::try_from(word(bytes, 0)?).ok()?;
    let list = bytes.get(at..)?;
    let count = usize::try_from(word(list, 0)?).ok().filter(|count| *count <= list.len() / WORD)?;
    let item = |at: usize| {
        let word = word(list, at.checked_add(1)?)?.to_big_endian();
        word.last_chunk::<20>().copied().map(Address)
    };
    Some(((0..count).map(item).collect::<Option<_>>()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Option<Address> = Some(Address([0x55; 20]));
    const PLAIN: Recipient = Recipient { is_listed: false, has_code: false };
    const TOKEN: Recipient = Recipient { is_listed: false, has_code: true };
    const LISTED: Recipient = Recipient { is_listed: true, has_code: true };

    #[test]
    fn value_to_an_address_without_code_is_a_payment() {
        for tx_type in 0..=2 {
            assert_eq!(lane(tx_type, TO, Wei::from(1), PLAIN), TxLane::Payment(Payment::Transfer), "{tx_type}");
            assert_eq!(lane(tx_type, TO, Wei::ZERO, PLAIN), TxLane::General(General::NoValue), "{tx_type}");
            assert_eq!(lane(tx_type, TO, Wei::from(1), TOKEN), TxLane::General(General::Code), "{tx_type}");
        }
    }

    #[test]
    fn any_call_to_a_listed_recipient_is_a_payment() {
        for (value, recipient) in
            [(Wei::ZERO, LISTED), (Wei::from(1), LISTED), (Wei::ZERO, Recipient { has_code: false, ..LISTED })]
        {
            assert_eq!(lane(0, TO, value, recipient), TxLane::Payment(Payment::Listed));
        }
        // A token transfer moves no BNB.
        assert_eq!(lane(0, TO, Wei::ZERO, TOKEN), TxLane::General(General::NoValue));
    }

    #[test]
    fn creations_blobs_and_delegations_are_always_general() {
        assert_eq!(lane(2, None, Wei::from(1), LISTED), TxLane::General(General::Creation));
        for tx_type in [3, 4, 5, 0x7f] {
            assert_eq!(lane(tx_type, TO, Wei::from(1), LISTED), TxLane::General(General::Type), "{tx_type}");
        }
    }

    #[test]
    fn selectors_are_the_hash_of_the_signature() {
        // A known selector first, from ERC-20.
        assert_eq!(hex::encode(call("transfer(address,uint256)", &[])), "a9059cbb");
        let asked = call("isPaymentContract(address)", &[U256::from_big_endian(&[0x55; 20])]);
        assert_eq!((asked.len(), hex::encode(&asked[4..])), (36, format!("{}{}", "00".repeat(12), "55".repeat(20))));
        assert_eq!(CONTRACT.lower(), "0x0000000000000000000000000000000000002007");
    }

    #[test]
    fn malformed_page_of_the_list_is_rejected() {
        let words =
            |numbers: &[u64]| numbers.iter().flat_map(|it| U256::from(*it).to_big_endian()).collect::<Vec<u8>>();
        let empty = words(&[64, 0, 0]);
        assert_eq!(page_of(&empty), Some((Vec::new(), 0)));
        let two = words(&[64, 200, 2, 0x1_0000, 7]);
        let (listed, total) = page_of(&two).unwrap();
        assert_eq!((listed.len(), total, listed[1].0[19]), (2, 200, 7));
        for wrong in [words(&[64, 1, 2, 7]), words(&[9_999, 1, 0]), words(&[64]), vec![1, 2, 3], vec![0xff; 96]] {
            assert_eq!(page_of(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn ratio_is_shown_in_percent() {
        for (ratio, percent) in [(500, "5 %"), (1_000, "10 %"), (1, "0.01 %"), (250, "2.5 %")] {
            assert_eq!(LaneRules { ratio, listed: Vec::new(), listed_count: 0 }.percent(), percent);
        }
    }
}
