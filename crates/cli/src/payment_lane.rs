//! Describes the BEP-703 lane of a transaction, for `status`, `policy check` and `doctor`.
//!
//! The rule is in [`signpost_bsc::payment_lane`]. A command waits only briefly for it: without an answer from a node the
//! text says what the lane depends on.

use std::time::Duration;

use signpost_bsc::BscChain;
use signpost_bsc::payment_lane::{self, General, Payment, TxLane};
use signpost_txmgr::ports::PortError;
use signpost_txmgr::tx::Fee;
use signpost_txmgr::units::{Address, Wei};

/// How long a command waits for a node's answer about the lane, which is only an addition to its output.
const NODE_TIMEOUT: Duration = Duration::from_secs(3);

/// The text where the chain does not have the contract.
pub(crate) const NOT_ACTIVE: &str = "the payment lane is not active yet";

/// A lane in words, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaneText {
    /// `payment` or `general`, if it is certain.
    pub(crate) name: Option<&'static str>,
    /// The lane with its reason, or what it depends on.
    pub(crate) text: String,
}

/// The type byte of a transaction with this fee.
pub(crate) fn tx_type(fee: &Fee) -> u8 {
    match fee {
        Fee::Legacy { .. } => 0,
        Fee::Dynamic { .. } => 2,
    }
}

/// The lane of a transaction. Asks the nodes for what the rule needs; the text says when no node answered.
pub(crate) async fn of(nodes: Option<&BscChain>, tx_type: u8, to: Option<Address>, value: Wei) -> LaneText {
    let Some(recipient) = to.filter(|_| payment_lane::is_general(tx_type, to).is_none()) else {
        let unused = payment_lane::Recipient { is_listed: false, has_code: false };
        return known(payment_lane::lane(tx_type, to, value, unused), to, true);
    };
    let Some(nodes) = nodes else { return depends(recipient, value, "no node was asked") };
    let asked = tokio::time::timeout(NODE_TIMEOUT, nodes.lane_recipient(recipient)).await;
    let answer: Option<Result<_, PortError>> = asked.ok();
    match answer {
        Some(Ok((found, is_active))) => known(payment_lane::lane(tx_type, to, value, found), to, is_active),
        Some(Err(_)) | None => depends(recipient, value, "no node answered"),
    }
}

fn known(lane: TxLane, to: Option<Address>, is_active: bool) -> LaneText {
    let to = to.map_or_else(String::new, |to| to.to_string());
    let (name, why) = match lane {
        TxLane::Payment(Payment::Listed) => ("payment", format!("{to} is on the payment list")),
        TxLane::Payment(Payment::Transfer) => ("payment", format!("it moves BNB, and {to} has no code")),
        TxLane::General(General::Type) => ("general", "its transaction type is never a payment".to_owned()),
        TxLane::General(General::Creation) => ("general", "it creates a contract".to_owned()),
        TxLane::General(General::NoValue) => {
            ("general", format!("it moves no BNB, and {to} is not on the payment list"))
        }
        TxLane::General(General::Code) => ("general", format!("{to} has code and is not on the payment list")),
    };
    let text = if is_active { format!("{name}: {why}") } else { format!("{name}: {why} ({NOT_ACTIVE})") };
    LaneText { name: Some(name), text }
}

fn depends(to: Address, value: Wei, why: &str) -> LaneText {
    let list = "on the payment list (isPaymentContract of 0x…2007)";
    let text = if value == Wei::ZERO {
        format!("general, unless {to} is {list}; {why}")
    } else {
        format!("payment if {to} has no code or is {list}, else general; {why}")
    };
    LaneText { name: None, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Address = Address([0x55; 20]);

    #[tokio::test]
    async fn lane_text_without_node_says_what_lane_depends_on() {
        let shown = of(None, 0, Some(TO), Wei::from(1)).await;
        assert!(shown.name.is_none() && shown.text.starts_with("payment if 0x5555"), "{shown:?}");
        let shown = of(None, 2, Some(TO), Wei::ZERO).await;
        assert!(shown.name.is_none() && shown.text.starts_with("general, unless 0x5555"), "{shown:?}");
        assert!(shown.text.contains("0x…2007") && shown.text.ends_with("no node was asked"), "{shown:?}");
    }

    #[tokio::test]
    async fn creation_is_general_without_asking_a_node() {
        let shown = of(None, 0, None, Wei::from(1)).await;
        assert_eq!(shown, LaneText { name: Some("general"), text: "general: it creates a contract".to_owned() });
    }

    #[test]
    fn lane_text_before_fork_says_lane_is_not_active() {
        let shown = known(TxLane::Payment(Payment::Transfer), Some(TO), false);
        assert!(shown.text.ends_with("(the payment lane is not active yet)"), "{shown:?}");
        assert_eq!(shown.name, Some("payment"));
        let shown = known(TxLane::Payment(Payment::Listed), Some(TO), true);
        assert!(!shown.text.contains("not active"), "{shown:?}");
    }
}
