//! Which lane of BEP-703 a transaction is in, in words: for `status`, `policy check` and `doctor`.
//!
//! The rule is [`signpost_bsc::lane`]. Nothing waits long for it: without a node's answer it is said what it depends on.

use std::time::Duration;

use signpost_bsc::BscChain;
use signpost_bsc::lane::{self, General, Payment, TxLane};
use signpost_txmgr::ports::PortError;
use signpost_txmgr::tx::Fee;
use signpost_txmgr::units::{Address, Wei};

/// How long a command waits for a node's answer that is not its own matter.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is said where the contract is not there.
pub(crate) const NOT_ACTIVE: &str = "the payment lane is not active yet";

/// A lane, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// `payment` or `general`, if that is sure.
    pub(crate) name: Option<&'static str>,
    /// The same with its reason, or what it depends on.
    pub(crate) text: String,
}

/// The type byte of a transaction with this fee.
pub(crate) fn tx_type(fee: &Fee) -> u8 {
    match fee {
        Fee::Legacy { .. } => 0,
        Fee::Dynamic { .. } => 2,
    }
}

/// The lane of a transaction. Asks the nodes what the rule needs; without any, or without an answer, says so.
pub(crate) async fn of(nodes: Option<&BscChain>, tx_type: u8, to: Option<Address>, value: Wei) -> Told {
    let Some(recipient) = to.filter(|_| lane::is_general(tx_type, to).is_none()) else {
        let nobody = lane::Recipient { is_listed: false, has_code: false };
        return known(lane::lane(tx_type, to, value, nobody), to, true);
    };
    let Some(nodes) = nodes else { return depends(recipient, value, "no node was asked") };
    let said: Option<Result<_, PortError>> = tokio::time::timeout(PATIENCE, nodes.lane_recipient(recipient)).await.ok();
    match said {
        Some(Ok((found, is_active))) => known(lane::lane(tx_type, to, value, found), to, is_active),
        Some(Err(_)) | None => depends(recipient, value, "no node could say"),
    }
}

fn known(lane: TxLane, to: Option<Address>, is_active: bool) -> Told {
    let to = to.map_or_else(String::new, |to| to.to_string());
    let (name, why) = match lane {
        TxLane::Payment(Payment::Listed) => ("payment", format!("{to} is on the payment list")),
        TxLane::Payment(Payment::Transfer) => ("payment", format!("it moves BNB, and {to} has no code")),
        TxLane::General(General::Type) => ("general", "of a type that is never a payment".to_owned()),
        TxLane::General(General::Creation) => ("general", "it creates a contract".to_owned()),
        TxLane::General(General::NoValue) => {
            ("general", format!("it moves no BNB, and {to} is not on the payment list"))
        }
        TxLane::General(General::Code) => ("general", format!("{to} has code and is not on the payment list")),
    };
    let text = if is_active { format!("{name}: {why}") } else { format!("{name}: {why} ({NOT_ACTIVE})") };
    Told { name: Some(name), text }
}

fn depends(to: Address, value: Wei, why: &str) -> Told {
    let list = "on the payment list (isPaymentContract of 0x…2007)";
    let text = if value == Wei::ZERO {
        format!("general, unless {to} is {list}; {why}")
    } else {
        format!("payment if {to} has no code or is {list}, else general; {why}")
    };
    Told { name: None, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Address = Address([0x55; 20]);

    #[tokio::test]
    async fn without_a_node_it_is_said_what_the_lane_depends_on() {
        let told = of(None, 0, Some(TO), Wei::from(1)).await;
        assert!(told.name.is_none() && told.text.starts_with("payment if 0x5555"), "{told:?}");
        let told = of(None, 2, Some(TO), Wei::ZERO).await;
        assert!(told.name.is_none() && told.text.starts_with("general, unless 0x5555"), "{told:?}");
        assert!(told.text.contains("0x…2007") && told.text.ends_with("no node was asked"), "{told:?}");
    }

    #[tokio::test]
    async fn a_creation_is_general_and_no_node_is_needed() {
        let told = of(None, 0, None, Wei::from(1)).await;
        assert_eq!(told, Told { name: Some("general"), text: "general: it creates a contract".to_owned() });
    }

    #[test]
    fn before_the_fork_it_is_said_that_the_lane_is_not_active() {
        let told = known(TxLane::Payment(Payment::Transfer), Some(TO), false);
        assert!(told.text.ends_with("(the payment lane is not active yet)"), "{told:?}");
        assert_eq!(told.name, Some("payment"));
        let told = known(TxLane::Payment(Payment::Listed), Some(TO), true);
        assert!(!told.text.contains("not active"), "{told:?}");
    }
}
