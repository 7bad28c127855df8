//! The requests of the demonstration: every kind, in two waves, because calls need the address of the contract that
//! the first wave creates.

use serde_json::{Value, json};

use crate::command::dev::DENIED;

/// Requests that are not plain transfers.
const SPECIAL: usize = 6;
/// Transfers needed for the repeated request and for the reused id.
const TRANSFERS_MIN: usize = 2;
/// The fewest requests that show every kind.
pub(super) const COUNT_MIN: usize = SPECIAL + TRANSFERS_MIN;

const RECIPIENT: &str = "0x00000000000000000000000000000000000a11ce";
const CREATION: &str = "contract-creation";

/// A counter: a call without data adds one to slot 0, a call with data reverts with a reason.
///
/// ```text
/// init     PUSH1 4d DUP1 PUSH1 0b PUSH1 00 CODECOPY PUSH1 00 RETURN
/// 00       CALLDATASIZE PUSH1 0e JUMPI
/// 04       PUSH1 00 SLOAD PUSH1 01 ADD PUSH1 00 SSTORE STOP
/// 0e       JUMPDEST
///          PUSH4 08c379a0 PUSH1 e0 SHL PUSH1 00 MSTORE     Error(string)
///          PUSH1 20 PUSH1 04 MSTORE                        where the text is
///          PUSH1 0f PUSH1 24 MSTORE                        its length
///          PUSH32 "the pot is dry." PUSH1 44 MSTORE        its bytes
///          PUSH1 64 PUSH1 00 REVERT
/// ```
const COUNTER: &str = concat!(
    "0x604d80600b6000396000f3",
    "36600e57",
    "60005460010160005500",
    "5b",
    "6308c379a060e01b600052",
    "6020600452",
    "600f602452",
    "7f74686520706f74206973206472792e",
    "0000000000000000000000000000000000",
    "604452",
    "60646000fd",
);

/// The expected outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Confirmed,
    Reverted,
    Rejected,
}

impl Expected {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Reverted => "reverted",
            Self::Rejected => "rejected",
        }
    }
}

/// One request of the demonstration.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) id: String,
    pub(super) body: String,
    pub(super) expected: Expected,
}

/// The requests that need only the account: `count` in total with those of [`second_wave`].
pub(super) fn first_wave(account: &str, count: usize) -> Vec<Asked> {
    let transfers = count.saturating_sub(SPECIAL);
    let mut asked: Vec<Asked> = (1..=transfers).map(|number| transfer(account, number)).collect();
    let creation = json!({ "requestId": CREATION, "account": account, "to": null, "data": COUNTER, "gas": 200_000 });
    let invalid =
        json!({ "requestId": "too-little-gas", "account": account, "to": RECIPIENT, "value": 1, "gas": 20_000 });
    let refused =
        json!({ "requestId": "forbidden-recipient", "account": account, "to": DENIED, "value": 1, "gas": 21_000 });
    asked.insert(0, one(&creation, Expected::Confirmed));
    asked.push(one(&invalid, Expected::Rejected));
    asked.push(one(&refused, Expected::Rejected));
    asked
}

/// The requests that call the contract.
pub(super) fn second_wave(account: &str, contract: &str) -> Vec<Asked> {
    let call = |id: &str, data: &str| {
        let gas = "60000";
        json!({ "requestId": id, "account": account, "to": contract, "data": data, "gas": gas })
    };
    vec![
        one(&call("contract-call-1", "0x"), Expected::Confirmed),
        one(&call("contract-call-2", "0x"), Expected::Confirmed),
        one(&call("contract-call-that-reverts", "0x01"), Expected::Reverted),
    ]
}

/// Calls that increase the counter.
pub(super) const CALLS_THAT_COUNT: u64 = 2;

/// A repeat of the first transfer in another notation, and another transfer under the second one's id.
pub(super) fn repeats(account: &str) -> Vec<String> {
    let repeat =
        json!({ "requestId": transfer_id(1), "account": account, "to": RECIPIENT, "value": "0x1", "gas": "0x5208" });
    let other =
        json!({ "requestId": transfer_id(2), "account": account, "to": RECIPIENT, "value": 999, "gas": 21_000 });
    vec![repeat.to_string(), other.to_string()]
}

/// The id of the request that creates the contract.
pub(super) fn creation_id() -> &'static str {
    CREATION
}

/// The id of a transfer, by its number from 1.
pub(super) fn transfer_id(number: usize) -> String {
    format!("transfer-{number}")
}

/// Every third transfer has EIP-1559 prices, the others use the account's price.
fn transfer(account: &str, number: usize) -> Asked {
    let id = transfer_id(number);
    let mut body = json!({ "requestId": id, "account": account, "to": RECIPIENT, "value": number, "gas": 21_000 });
    if number.is_multiple_of(3)
        && let Some(fields) = body.as_object_mut()
    {
        fields.insert("maxFeePerGas".to_owned(), json!("200000000"));
        fields.insert("maxPriorityFeePerGas".to_owned(), json!("200000000"));
        fields.insert("metadata".to_owned(), json!({ "number": number }));
    }
    one(&body, Expected::Confirmed)
}

fn one(body: &Value, expected: Expected) -> Asked {
    let id = body.get("requestId").and_then(Value::as_str).unwrap_or_default().to_owned();
    Asked { id, body: body.to_string(), expected }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use signpost_txmgr::request::Message;

    use super::*;

    #[test]
    fn plan_has_the_requested_count_and_unique_ids() {
        for count in [COUNT_MIN, 24, 300] {
            let contract = "0x00000000000000000000000000000000000000cc";
            let all = [first_wave("hot", count), second_wave("hot", contract)].concat();
            let ids: BTreeSet<_> = all.iter().map(|asked| asked.id.clone()).collect();
            assert_eq!((all.len(), ids.len()), (count, count));
        }
    }

    #[test]
    fn requests_parse_and_the_repeat_equals_the_original() {
        let first = first_wave("hot", COUNT_MIN);
        for asked in &first {
            Message::parse(&asked.body).unwrap_or_else(|refused| panic!("{}: {refused:?}", asked.id));
        }
        let sent = first.iter().find(|asked| asked.id == "transfer-1").map(|asked| asked.body.clone()).unwrap();
        let again = repeats("hot").remove(0);
        assert_ne!(sent, again, "SQS would drop an identical body");
        assert_eq!(Message::parse(&sent).unwrap(), Message::parse(&again).unwrap());
    }

    #[test]
    fn contract_has_its_declared_length() {
        let runtime = COUNTER.strip_prefix("0x604d80600b6000396000f3").unwrap();
        assert_eq!(runtime.len() / 2, 0x4d);
        assert_eq!(&runtime[0x0e * 2..0x0f * 2], "5b");
    }
}
