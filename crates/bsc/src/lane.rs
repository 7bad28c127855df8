//! The payment lane of BEP-703: which transactions are payments, and what the chain says of the lane.
//!
//! A block keeps a part of its gas for payments. General transactions never get that part; payments bid for all of
//! the block. Only who makes or checks a block knows lanes: no pool refuses by them, no header and no receipt tells
//! them, and without congestion they change nothing. So the lane is only shown, and nothing is decided by it.
//!
//! The rule is that of bsc's `core/paymentlane/classify.go` and reth-bsc's `rules.rs` as of 2026-09; the questions
//! are those of `IPaymentLaneMeta.sol`. Calldata and access lists do not matter.
//!
//! **Does not guarantee** that the answer still holds when the transaction runs: whether `to` has code is decided
//! then, and the list is the parent block's.

use serde_json::{Value, json};
use signpost_txmgr::ports::{Chain as _, PortError};
use signpost_txmgr::units::{Address, U256, Wei, keccak256};

use crate::chain::BscChain;
use crate::quantity;

/// The system contract with the ratio and the list; without code before the fork.
pub const CONTRACT: Address = Address([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0x07]);

/// Listed contracts that are read: what a person looks at. The nodes' own pages have 128.
const LISTED_MAX: u64 = 128;

/// Bytes of an ABI word.
const WORD: usize = 32;

/// Which part of a block a transaction can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// All of it.
    Payment(Payment),
    /// All but what is kept for payments.
    General(General),
}

/// Why a transaction is a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payment {
    /// Its recipient is on the list.
    Listed,
    /// It moves coins to an address without code.
    Transfer,
}

/// Why a transaction is no payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum General {
    /// Blob and EIP-7702 transactions, and types not known here.
    Type,
    /// It creates a contract.
    Creation,
    /// It moves no coins, and its recipient is not listed.
    NoValue,
    /// Its recipient has code, a delegation included, and is not listed.
    Code,
}

/// What the chain says of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipient {
    /// It is on the list of [`CONTRACT`].
    pub is_listed: bool,
    /// It has code: a contract, or a delegated account.
    pub has_code: bool,
}

/// What the lane's contract says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneRules {
    /// The part of a block's gas limit that is kept for payments, in hundredths of a percent (`RATIO_DENOM` of
    /// `PaymentLane.sol` is 10,000).
    pub ratio: u64,
    /// Listed contracts, the first 128 of them.
    pub listed: Vec<Address>,
    /// How many are listed.
    pub listed_count: u64,
}

/// The lane of a transaction that is no system transaction. `recipient` is asked only where it decides, see
/// [`is_general`].
#[must_use]
pub fn lane(tx_type: u8, to: Option<Address>, value: Wei, recipient: Recipient) -> Lane {
    match is_general(tx_type, to) {
        Some(general) => Lane::General(general),
        None if recipient.is_listed => Lane::Payment(Payment::Listed),
        None if value == Wei::ZERO => Lane::General(General::NoValue),
        None if recipient.has_code => Lane::General(General::Code),
        None => Lane::Payment(Payment::Transfer),
    }
}

/// Why no recipient can make a payment of it, if so.
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
    /// Ratio and list of the payment lane; `None` where its contract has no code: before the fork, and on other
    /// chains.
    pub async fn payment_lane(&self) -> Result<Option<LaneRules>, PortError> {
        let ratio = self.lane_call(&call("getPaymentLaneRatio()", &[]), number).await?;
        let Some(ratio) = ratio else { return Ok(None) };
        let page = call("getPaymentContracts(uint256,uint256)", &[U256::zero(), U256::from(LISTED_MAX)]);
        let (listed, listed_count) = self.lane_call(&page, page_of).await?.unwrap_or_default();
        Ok(Some(LaneRules { ratio, listed, listed_count }))
    }

    /// What the chain says of a recipient, and whether the lane is active: before, nobody is listed.
    pub async fn lane_recipient(&self, to: Address) -> Result<(Recipient, bool), PortError> {
        let asked = call("isPaymentContract(address)", &[U256::from_big_endian(&to.0)]);
        let is_listed = self.lane_call(&asked, |bytes| number(bytes).map(|number| number == 1)).await?;
        let recipient = Recipient { is_listed: is_listed.unwrap_or(false), has_code: self.has_code(to).await? };
        Ok((recipient, is_listed.is_some()))
    }

    /// A call to the contract; `None` if there is none: such calls return nothing.
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

/// Selector and words.
fn call(signature: &str, words: &[U256]) -> Vec<u8> {
    let hash = keccak256(signature.as_bytes());
    let selector = hash.iter().take(4).copied();
    selector.chain(words.iter().flat_map(U256::to_big_endian)).collect()
}

fn word(bytes: &[u8], at: usize) -> Option<U256> {
    let start = at.checked_mul(WORD)?;
    bytes.get(start..start.checked_add(WORD)?).map(U256::from_big_endian)
}

/// The only word, as a number.
fn number(bytes: &[u8]) -> Option<u64> {
    (bytes.len() == WORD).then(|| word(bytes, 0)).flatten().and_then(|word| u64::try_from(word).ok())
}

/// `(address[], uint256)`: the offset of the list and how many are listed; then the list's length and its items.
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
    fn coins_to_an_address_without_code_are_a_payment() {
        for tx_type in 0..=2 {
            assert_eq!(lane(tx_type, TO, Wei::from(1), PLAIN), Lane::Payment(Payment::Transfer), "{tx_type}");
            assert_eq!(lane(tx_type, TO, Wei::ZERO, PLAIN), Lane::General(General::NoValue), "{tx_type}");
            assert_eq!(lane(tx_type, TO, Wei::from(1), TOKEN), Lane::General(General::Code), "{tx_type}");
        }
    }

    #[test]
    fn a_listed_recipient_makes_a_payment_of_any_call() {
        for (value, recipient) in
            [(Wei::ZERO, LISTED), (Wei::from(1), LISTED), (Wei::ZERO, Recipient { has_code: false, ..LISTED })]
        {
            assert_eq!(lane(0, TO, value, recipient), Lane::Payment(Payment::Listed));
        }
        // A token's transfer moves no coins.
        assert_eq!(lane(0, TO, Wei::ZERO, TOKEN), Lane::General(General::NoValue));
    }

    #[test]
    fn creations_blobs_and_delegations_are_general_whatever_is_listed() {
        assert_eq!(lane(2, None, Wei::from(1), LISTED), Lane::General(General::Creation));
        for tx_type in [3, 4, 5, 0x7f] {
            assert_eq!(lane(tx_type, TO, Wei::from(1), LISTED), Lane::General(General::Type), "{tx_type}");
        }
    }

    #[test]
    fn selectors_are_the_hash_of_the_signature() {
        // Known ones first: of ERC-20.
        assert_eq!(hex::encode(call("transfer(address,uint256)", &[])), "a9059cbb");
        let asked = call("isPaymentContract(address)", &[U256::from_big_endian(&[0x55; 20])]);
        assert_eq!((asked.len(), hex::encode(&asked[4..])), (36, format!("{}{}", "00".repeat(12), "55".repeat(20))));
        assert_eq!(CONTRACT.lower(), "0x0000000000000000000000000000000000002007");
    }

    #[test]
    fn a_page_of_the_list_is_read_whole_or_not_at_all() {
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
    fn the_ratio_is_told_in_percent() {
        for (ratio, percent) in [(500, "5 %"), (1_000, "10 %"), (1, "0.01 %"), (250, "2.5 %")] {
            assert_eq!(LaneRules { ratio, listed: Vec::new(), listed_count: 0 }.percent(), percent);
        }
    }
}
