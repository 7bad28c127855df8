//! The auditor's own parser of messages, and its own table of permitted refusals.
//!
//! Backends in a trial write only the forms of [`crate::source`], so this parser knows no others. Read next:
//! [`super::outcomes`].

use ethereum_types::U256;
use serde_json::Value;
use signpost_txmgr::record::Record;
use signpost_txmgr::units::{AccountKey, ChainId, Millis, RequestId};

use super::Auditor;
use super::encoding::{Price, Unsigned};
use crate::deployment::{CAP_GWEI, RuleSet, SENDERS};

/// A message put on the signing queue, with its refusals and its acknowledgement.
#[derive(Debug)]
pub(super) struct TrackedMessage {
    pub(super) sender: String,
    /// The chain of the Signpost it was sent to.
    pub(super) chain_id: u64,
    pub(super) what: ParsedMessage,
    pub(super) sent_at: Millis,
    /// Every published refusal of it, as JSON.
    pub(super) refusals: Vec<String>,
    /// This message created its request's slot.
    pub(super) created: bool,
    pub(super) acknowledged: bool,
}

/// What a message says.
#[derive(Debug, Clone)]
pub(super) enum ParsedMessage {
    Sign(RequestId, Box<Contents>),
    Cancel(RequestId),
    /// An invalid message: the id it names, and the code of its refusal.
    Bad(Option<RequestId>, &'static str),
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) account: Named,
    pub(super) to: Option<[u8; 20]>,
    pub(super) value: U256,
    pub(super) data: Vec<u8>,
    pub(super) gas: u64,
    pub(super) price: Option<Price>,
    pub(super) deadline_s: Option<u64>,
    pub(super) metadata: Option<Value>,
}

/// How a request names its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// It names none: the only registered account.
    Only,
    Account(String),
    Pool(String),
}

impl ParsedMessage {
    /// Reads a body.
    pub(super) fn read(body: &str) -> Self {
        let Ok(json) = serde_json::from_str::<Value>(body) else { return Self::Bad(None, "notJson") };
        let id_at = |name: &str| json[name].as_str().and_then(|id| id.parse::<RequestId>().ok());
        if let Some(id) = id_at("cancel") {
            return Self::Cancel(id);
        }
        let id = id_at("requestId");
        if json.get("nonce").is_some() {
            return Self::Bad(id, "nonceNotAllowed");
        }
        let Some(id) = id else { return Self::Bad(None, "missingField") };
        if json.get("to").is_none() || json.get("gas").is_none() {
            return Self::Bad(Some(id), "missingField");
        }
        let contents = Contents {
            account: match json["account"].as_str() {
                None => Named::Only,
                Some(name) => match name.strip_prefix("pool:") {
                    Some(pool) => Named::Pool(pool.to_owned()),
                    None => Named::Account(name.to_owned()),
                },
            },
            to: json["to"].as_str().map(|to| bytes(to).try_into().expect("backends write 20 bytes")),
            value: number(&json["value"]),
            data: json["data"].as_str().map(bytes).unwrap_or_default(),
            gas: json["gas"].as_u64().expect("backends write gas as a number"),
            price: match (json.get("gasPrice"), json.get("maxFeePerGas")) {
                (Some(price), _) => Some(Price::Legacy(number(price))),
                (None, Some(most)) => Some(Price::Dynamic(number(most), number(&json["maxPriorityFeePerGas"]))),
                (None, None) => None,
            },
            deadline_s: json["deadline"].as_u64(),
            metadata: json.get("metadata").cloned(),
        };
        Self::Sign(id, Box::new(contents))
    }

    /// The request id it names.
    pub(super) fn names(&self) -> Option<&RequestId> {
        match self {
            Self::Sign(id, _) | Self::Cancel(id) => Some(id),
            Self::Bad(id, _) => id.as_ref(),
        }
    }
}

impl Contents {
    /// The transaction that executes it.
    pub(super) fn execute(&self, account: &AccountKey, nonce: u64, price: Price) -> Unsigned {
        let (chain_id, to, value, data) = (account.chain_id.0, self.to, self.value, self.data.clone());
        Unsigned { chain_id, nonce, price, gas: self.gas, to, value, data }
    }

    /// Whether both are the same request, given the same id. A message without an account matches any account.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let named = match (&self.account, &other.account) {
            (Named::Pool(pool), Named::Pool(other)) => pool == other,
            (Named::Pool(_), _) | (_, Named::Pool(_)) => false,
            (Named::Account(name), Named::Account(other)) => name == other,
            (Named::Only, _) | (_, Named::Only) => true,
        };
        named && Self { account: Named::Only, ..self.clone() } == Self { account: Named::Only, ..other.clone() }
    }
}

/// The transaction that cancels a slot: 0 or 1 wei from the account to itself.
pub(super) fn cancel(account: &AccountKey, nonce: u64, price: Price, wei: u64) -> Unsigned {
    let (chain_id, to) = (account.chain_id.0, Some(account.address.0));
    Unsigned { chain_id, nonce, price, gas: 21_000, to, value: U256::from(wei), data: Vec::new() }
}

fn number(json: &Value) -> U256 {
    match json {
        Value::String(digits) => U256::from_dec_str(digits).expect("backends write decimal wei"),
        Value::Number(number) => number.as_u64().expect("backends write small numbers").into(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => U256::zero(),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.strip_prefix("0x").expect("backends write 0x");
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("backends write hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

impl Auditor {
    /// A message was put on a signing queue.
    pub fn message_sent(&mut self, message_id: &str, body: &str, sender: &str, chain_id: ChainId, now: Millis) {
        let asked = TrackedMessage {
            sender: sender.to_owned(),
            chain_id: chain_id.0,
            sent_at: now,
            what: ParsedMessage::read(body),
            refusals: Vec::new(),
            created: false,
            acknowledged: false,
        };
        self.messages.insert(message_id.to_owned(), asked);
    }

    /// Signers start with these rules from now on.
    pub fn rules_changed(&mut self, rule_set: RuleSet, now: Millis) {
        self.rule_sets.push((now, rule_set));
    }

    /// Whether matching rules were in force after `since`, or at any time.
    pub(super) fn any_rule_set(&self, since: Option<Millis>, holds: impl Fn(RuleSet) -> bool) -> bool {
        let until = |at: usize| self.rule_sets.get(at + 1).map(|(end, _)| *end);
        let lasted = |at: usize| since.is_none_or(|since| until(at).is_none_or(|end| end >= since));
        self.rule_sets.iter().enumerate().any(|(at, (_, rule_set))| lasted(at) && holds(*rule_set))
    }

    /// Whether a message may be refused with this code, given what happened so far.
    pub(super) fn may_refuse(&self, asked: &TrackedMessage, code: &str, now: Millis) -> bool {
        // A stranger gets this code for every message.
        if !SENDERS.contains(&asked.sender.as_str()) {
            return code == "senderNotAllowed";
        }
        match &asked.what {
            // Judged in `judge_repeat`, which knows the record of the id.
            _ if code == "requestIdReused" => true,
            ParsedMessage::Bad(_, own) => *own == code,
            ParsedMessage::Cancel(id) => {
                let record = self.records.get(id).filter(|record| record.account.chain_id.0 == asked.chain_id);
                match code {
                    "unknownRequest" => {
                        record.is_none_or(|_| self.reserved_at.get(id).is_none_or(|at| *at >= asked.sent_at))
                    }
                    "cancelNotAllowed" => record.is_some_and(|record| record.sender.as_ref() != Some(&asked.sender)),
                    _ => false,
                }
            }
            ParsedMessage::Sign(_, contents) => self.may_refuse_request(contents, code, now),
        }
    }

    fn may_refuse_request(&self, contents: &Contents, code: &str, now: Millis) -> bool {
        match code {
            "accountPaused" => self.lanes.values().any(|lane| lane.was_paused),
            "accountUnusable" => self.keys_failed,
            "spendLimitReached" => self.spend_window_s.is_some(),
            "requestLimitReached" => self.request_window_s.is_some(),
            "toNotAllowed" => {
                contents.to.is_some_and(|to| self.any_rule_set(None, |rule_set| !rule_set.allows(Some(to))))
            }
            "creationNotAllowed" => contents.to.is_none() && self.any_rule_set(None, |rule_set| !rule_set.allows(None)),
            "feeTooHigh" => {
                let most = contents.price.map_or(U256::MAX, Price::most);
                self.any_rule_set(None, |rule_set| {
                    most > U256::from(rule_set.cap_gwei()) * U256::from(1_000_000_000_u64)
                })
            }
            "noFee" => contents.price.is_none() && self.any_rule_set(None, RuleSet::is_unpriced),
            "noPolicy" => self.any_rule_set(None, RuleSet::is_bare),
            "unknownPool" => matches!(contents.account, Named::Pool(_)) && self.any_rule_set(None, RuleSet::is_bare),
            "deadlinePassed" => contents.deadline_s.is_some_and(|deadline| deadline * 1_000 <= now.0),
            "accountRequired" => contents.account == Named::Only && self.lanes.len() > 1,
            "unknownAccount" => self.is_unknown(contents),
            _ => false,
        }
    }

    /// Whether the account that a request names was unregistered at some time, or is on another chain.
    fn is_unknown(&self, contents: &Contents) -> bool {
        match &contents.account {
            Named::Only => false,
            Named::Account(name) => !self.first_names.contains(name),
            Named::Pool(_) => self.any_rule_set(None, RuleSet::is_bare),
        }
    }

    /// Whether the record was reserved for these contents.
    pub(super) fn is_record_of(&self, chain_id: u64, contents: &Contents, record: &Record) -> bool {
        record.account.chain_id.0 == chain_id
            && self.wanted.get(&record.request_id).is_some_and(|wanted| wanted.is_same(contents))
    }

    /// The highest cap of all rule sets, in wei per gas.
    pub(super) fn cap() -> U256 {
        U256::from(CAP_GWEI) * U256::from(1_000_000_000_u64)
    }
}
