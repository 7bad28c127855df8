//! Policy: the rules for what an account may sign, from a file that is reviewed and deployed like code.
//!
//! ```toml
//! [account.treasury]
//! max_gas_price_wei = "3000000000"       # required: the maximum price of any attempt, including replacements
//! gas_price_wei = "100000000"            # for requests without a price
//! min_gas_price_wei = "50000000"
//! allow_to = ["0x55d398326f99059ff775485246999027b3197955"]
//! deny_to = []
//! allow_creation = false                 # the default
//! max_gas = 500000
//! max_value_wei = "1000000000000000000"
//! max_data_bytes = 4096
//! spend_limit_wei = "5000000000000000000" # total of all requests in one window
//! spend_window_s = 86400
//! max_requests = 600                     # requests of each sender that get a slot in one window
//! max_requests_window_s = 60
//! max_deadline_s = 3600                  # and every request must have a deadline
//! max_head_s = 600                       # the default: how long a request at its price cap may block the others
//! allow_senders = ["AIDAEXAMPLE", "AROAEXAMPLE:*"]   # a user; a role in any session
//! cancel_senders = ["AROADESK:*"]        # may cancel any request, besides its sender
//! [account.treasury.allow_selectors]     # the only functions that may be called in these contracts
//! "0x55d398326f99059ff775485246999027b3197955" = ["0xa9059cbb"]
//!
//! [pool.payouts]                         # requests for `pool:payouts` are distributed among these
//! accounts = ["treasury", "treasury-2"]
//!
//! [default]                              # for other accounts; without it they may sign nothing
//! max_gas_price_wei = "3000000000"
//! ```
//!
//! **Guarantees:** a request that a rule does not allow is refused with the name of the rule. A file with any error is
//! refused as a whole. **Does not guarantee** anything for an omitted rule: only the price cap is required, and only
//! contract creation is forbidden by default.
//!
//! The rules are checked when a request is accepted and again before it is signed. The limits per time window are
//! counted in the transaction that reserves the slot. Nothing here reads a file or a clock.
//!
//! Read next: [`accept()`], [`SpendLimit`], [`RequestLimit`], [`crate::account`].

mod accept;
mod direct;
mod file;
mod requests;
mod senders;
mod spend;

use std::collections::{BTreeMap, BTreeSet};

use crate::fees::priority_price;
use crate::request::{Code, Refused, shown};
use crate::tx::{Fee, Intent};
use crate::units::{AccountName, Address, Digest, Millis, Wei};

pub use accept::{Accepted, NetworkRules, accept};
pub use requests::RequestLimit;
pub use senders::{NoPattern, SenderPattern, principal};
pub use spend::SpendLimit;

/// The first four bytes of calldata, which select the function.
pub type Selector = [u8; 4];

/// The policies of all accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policies {
    accounts: BTreeMap<AccountName, AccountPolicy>,
    default: Option<AccountPolicy>,
    pools: BTreeMap<AccountName, Vec<AccountName>>,
    digest: Digest,
}

/// The rules of one account. `None` means that the rule is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountPolicy {
    /// The maximum price in wei per gas, including replacements.
    pub max_gas_price: Wei,
    /// The price in wei per gas for requests without a price.
    pub gas_price: Option<Wei>,
    /// The minimum price in wei per gas.
    pub min_gas_price: Option<Wei>,
    /// The allowed recipients.
    pub allow_to: Option<BTreeSet<Address>>,
    /// Forbidden recipients, even if `allow_to` lists them.
    pub deny_to: BTreeSet<Address>,
    /// Whether contracts may be created.
    pub allow_creation: bool,
    /// The maximum gas limit.
    pub max_gas: Option<u64>,
    /// The maximum value, in wei.
    pub max_value: Option<Wei>,
    /// The maximum total cost of all requests in one window.
    pub spend_limit: Option<SpendLimit>,
    /// The maximum number of requests of one sender that get a slot in one window.
    pub request_limit: Option<RequestLimit>,
    /// How long a request at its price cap may be the first of its lane before it is cancelled, in milliseconds.
    pub max_head_ms: u64,
    /// The maximum size of calldata or init code, in bytes.
    pub max_data_bytes: Option<u64>,
    /// The maximum time until a deadline, in milliseconds. If set, a request without a deadline is refused.
    pub max_deadline_ms: Option<u64>,
    /// The allowed functions of each contract listed here.
    pub allow_selectors: BTreeMap<Address, BTreeSet<Selector>>,
    /// The allowed senders, by the `SenderId` from SQS, which a sender cannot forge.
    pub allow_senders: Option<Vec<SenderPattern>>,
    /// Senders that may cancel any request, besides the sender of that request.
    pub cancel_senders: Vec<SenderPattern>,
}

/// The facts that the rules are checked against.
#[derive(Debug, Clone, Copy)]
pub struct PolicyFacts<'a> {
    /// What to execute.
    pub intent: &'a Intent,
    /// The price of the attempt.
    pub fee: Fee,
    /// The maximum price per unit of gas of any attempt.
    pub fee_cap: Wei,
    /// The `SenderId` from SQS.
    pub sender: Option<&'a str>,
    /// When the request expires.
    pub deadline: Option<Millis>,
    /// The current time.
    pub now: Millis,
}

/// All problems of a policy file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy has {} problem(s):\n  {}", problems.len(), problems.join("\n  "))]
pub struct PolicyError {
    /// One line for each: the place, the problem and what to do.
    pub problems: Vec<String>,
}

impl Policies {
    /// The account's rules, or the default rules. Refused if there are neither.
    pub fn of(&self, account: &AccountName) -> Result<&AccountPolicy, Refused> {
        self.accounts.get(account).or(self.default.as_ref()).ok_or_else(|| {
            let message = format!(
                "the policy has no rules for account {account}, so it may sign nothing; add [account.{account}]"
            );
            Refused::field(Code::NoPolicy, "account", message)
        })
    }

    /// Whether the rules of any account accept requests from this SQS sender.
    #[must_use]
    pub fn take(&self, sender: Option<&str>) -> bool {
        self.all().any(|policy| policy.check_sender(sender).is_ok())
    }

    /// Refuses a sender if no account's rules accept its requests or cancels.
    pub fn check_known(&self, sender: Option<&str>) -> Result<(), Refused> {
        if self.take(sender) || self.all().any(|policy| policy.takes_cancels_of(sender)) {
            return Ok(());
        }
        let text = format!("no policy lists {} in allow_senders; nothing is taken from it", sender_text(sender));
        Err(Refused::whole(Code::SenderNotAllowed, text))
    }

    fn all(&self) -> impl Iterator<Item = &AccountPolicy> {
        self.accounts.values().chain(&self.default)
    }

    /// The accounts of a pool, in the order of the file.
    pub fn pool(&self, name: &AccountName) -> Result<&[AccountName], Refused> {
        self.pools.get(name).map(Vec::as_slice).ok_or_else(|| {
            let message =
                format!("`account` pool:{name} is not a pool in the policy; add [pool.{name}] with its accounts");
            Refused::field(Code::UnknownPool, "account", message)
        })
    }

    /// The names of all rules.
    #[must_use]
    pub fn rules() -> &'static [&'static str] {
        file::KEYS
    }

    /// The rule in the text of a refusal, if policy refused it.
    #[must_use]
    pub fn rule_named(message: &str) -> Option<&'static str> {
        let word = |c: char| c.is_ascii_lowercase() || c == '_';
        message.split(|c| !word(c)).find_map(|name| Self::rules().iter().find(|key| **key == name).copied())
    }

    /// The SHA-256 of the file, as `sha256sum` prints it. It identifies the policy in records, logs and evidence.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The accounts named in the file.
    pub fn accounts(&self) -> impl Iterator<Item = (&AccountName, &AccountPolicy)> {
        self.accounts.iter()
    }
}

impl AccountPolicy {
    /// The default of `max_head_s`, in milliseconds. The price is raised for the first time after about 10 s. A request
    /// that has been at its cap for ten minutes waits for the network's price to fall, and blocks the rest of its lane.
    pub const MAX_HEAD_MS: u64 = 600_000;

    /// The minimal policy: a price cap, and no contract creation.
    #[must_use]
    pub fn capped(max_gas_price: Wei) -> Self {
        Self {
            max_gas_price,
            gas_price: None,
            min_gas_price: None,
            allow_to: None,
            deny_to: BTreeSet::new(),
            allow_creation: false,
            max_gas: None,
            max_value: None,
            spend_limit: None,
            request_limit: None,
            max_head_ms: Self::MAX_HEAD_MS,
            max_data_bytes: None,
            max_deadline_ms: None,
            allow_selectors: BTreeMap::new(),
            allow_senders: None,
            cancel_senders: Vec::new(),
        }
    }

    /// Checks a request against all rules. The refusal names the first rule that forbids it.
    pub fn check(&self, facts: &PolicyFacts<'_>) -> Result<(), Refused> {
        self.check_sender(facts.sender)?;
        self.check_recipient(facts.intent)?;
        self.check_sizes(facts.intent)?;
        self.check_fee(facts.fee)?;
        self.check_cost(facts.intent, facts.fee_cap)?;
        self.check_deadline(facts.deadline, facts.now)
    }

    /// Refuses messages from an SQS sender that is not allowed.
    pub fn check_sender(&self, sender: Option<&str>) -> Result<(), Refused> {
        let Some(allowed) = &self.allow_senders else {
            return Ok(());
        };
        if sender.is_some_and(|sender| allowed.iter().any(|pattern| pattern.matches(sender))) {
            return Ok(());
        }
        let text = format!("policy allow_senders does not list {}", sender_text(sender));
        Err(Refused::whole(Code::SenderNotAllowed, text))
    }

    /// Whether this SQS sender may cancel any request of the account.
    #[must_use]
    pub fn takes_cancels_of(&self, sender: Option<&str>) -> bool {
        sender.is_some_and(|sender| self.cancel_senders.iter().any(|pattern| pattern.matches(sender)))
    }

    fn check_recipient(&self, intent: &Intent) -> Result<(), Refused> {
        let Some(to) = intent.to else {
            if self.allow_creation {
                return Ok(());
            }
            let message = "policy allow_creation is false: this account creates no contracts; give a recipient in `to`";
            return Err(Refused::field(Code::CreationNotAllowed, "to", message));
        };
        if self.deny_to.contains(&to) {
            return Err(Refused::field(Code::ToNotAllowed, "to", format!("policy deny_to lists {to}")));
        }
        if self.allow_to.as_ref().is_some_and(|allowed| !allowed.contains(&to)) {
            return Err(Refused::field(Code::ToNotAllowed, "to", format!("policy allow_to does not list {to}")));
        }
        let Some(allowed) = self.allow_selectors.get(&to) else {
            return Ok(());
        };
        let selector = intent.data.first_chunk::<4>();
        if selector.is_some_and(|selector| allowed.contains(selector)) {
            return Ok(());
        }
        let called =
            selector.map_or("a call without one".to_owned(), |selector| format!("0x{}", hex::encode(selector)));
        let message = format!("policy allow_selectors of {to} does not list {called}");
        Err(Refused::field(Code::SelectorNotAllowed, "data", message))
    }

    fn check_sizes(&self, intent: &Intent) -> Result<(), Refused> {
        let over = |code, field, rule, found: &dyn std::fmt::Display, limit: &dyn std::fmt::Display| {
            Err(Refused::field(code, field, format!("policy {rule} is {limit}: `{field}` {found} is above it")))
        };
        let bytes = u64::try_from(intent.data.len()).unwrap_or(u64::MAX);
        match (self.max_value, self.max_gas, self.max_data_bytes) {
            (Some(limit), _, _) if intent.value > limit => {
                over(Code::ValueTooHigh, "value", "max_value_wei", &intent.value, &limit)
            }
            (_, Some(limit), _) if intent.gas.0 > limit => {
                over(Code::GasTooHigh, "gas", "max_gas", &intent.gas, &limit)
            }
            (_, _, Some(limit)) if bytes > limit => {
                over(Code::DataTooLarge, "data", "max_data_bytes", &format_args!("of {bytes} bytes"), &limit)
            }
            _ => Ok(()),
        }
    }

    fn check_fee(&self, fee: Fee) -> Result<(), Refused> {
        let (low, high) = match fee {
            Fee::Legacy { .. } => ("gasPrice", "gasPrice"),
            Fee::Dynamic { .. } => ("maxPriorityFeePerGas", "maxFeePerGas"),
        };
        let (limit, found) = (self.max_gas_price, fee.price());
        if found > limit {
            let message = format!("policy max_gas_price_wei is {limit}: `{high}` {found} is above it");
            return Err(Refused::field(Code::FeeTooHigh, high, message));
        }
        let found = priority_price(fee);
        match self.min_gas_price {
            Some(limit) if found < limit => {
                let message = format!("policy min_gas_price_wei is {limit}: `{low}` {found} is below it");
                Err(Refused::field(Code::FeeTooLow, low, message))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_deadline(&self, deadline: Option<Millis>, now: Millis) -> Result<(), Refused> {
        let Some(limit) = self.max_deadline_ms else {
            return Ok(());
        };
        let problem = match deadline {
            None => "the request has none".to_owned(),
            Some(deadline) if deadline.since(now) > limit => "`deadline` is further away".to_owned(),
            Some(_) => return Ok(()),
        };
        let message = format!("policy max_deadline_s is {}: {problem}; give a nearer one", limit / 1_000);
        Err(Refused::field(Code::DeadlineTooFar, "deadline", message))
    }
}

fn sender_text(sender: Option<&str>) -> String {
    match sender {
        None => "a sender that is not known".to_owned(),
        Some(sender) => format!("sender {}", shown(sender).unwrap_or("(of that id)")),
    }
}
