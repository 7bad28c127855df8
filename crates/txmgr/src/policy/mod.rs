//! What an account may sign: rules from a file that is reviewed and deployed like code.
//!
//! ```toml
//! [account.treasury]
//! max_gas_price_wei = "3000000000"       # required: the highest price of an attempt, bumps included
//! gas_price_wei = "100000000"            # for requests that name no price
//! min_gas_price_wei = "50000000"
//! allow_to = ["0x55d398326f99059ff775485246999027b3197955"]
//! deny_to = []
//! allow_creation = false                 # the default
//! max_gas = 500000
//! max_value_wei = "1000000000000000000"
//! max_data_bytes = 4096
//! spend_limit_wei = "5000000000000000000" # of all requests together, per...
//! spend_window_s = 86400
//! max_requests = 600                     # that get a slot, of each sender, per...
//! max_requests_window_s = 60
//! max_deadline_s = 3600                  # and every request must have a deadline
//! max_head_s = 600                       # the default: how long a request at its price cap may block the others
//! allow_senders = ["AIDAEXAMPLE", "AROAEXAMPLE:*"]   # a user; a role, in whatever session
//! cancel_senders = ["AROADESK:*"]        # may cancel any request, besides who sent it
//! [account.treasury.allow_selectors]     # for these contracts, these functions and no others
//! "0x55d398326f99059ff775485246999027b3197955" = ["0xa9059cbb"]
//!
//! [pool.payouts]                         # requests for `pool:payouts` are shared among these
//! accounts = ["treasury", "treasury-2"]
//!
//! [default]                              # for accounts not named; without it they may sign nothing
//! max_gas_price_wei = "3000000000"
//! ```
//!
//! **Guarantees:** what a rule does not allow is refused, with the rule's name; a file with any
//! fault at all gives no policy. **Does not guarantee** anything about a rule left out: only the
//! cap of the price must be there, and only creation is forbidden unless allowed.
//!
//! The rules are checked against a request when it is accepted and again before it is signed; what a
//! window has left is counted when the slot is reserved, in the same transaction. Never reads a file
//! or a clock. Read next: [`accept()`], [`SpendLimit`], [`RequestLimit`], [`crate::account`].

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

/// The first four bytes of calldata, which choose the function.
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
    /// Most wei per gas, bumps included.
    pub max_gas_price: Wei,
    /// Wei per gas for requests that name no price.
    pub gas_price: Option<Wei>,
    /// Least wei per gas.
    pub min_gas_price: Option<Wei>,
    /// The only recipients.
    pub allow_to: Option<BTreeSet<Address>>,
    /// Never recipients, even if allowed otherwise.
    pub deny_to: BTreeSet<Address>,
    /// Whether contracts may be created.
    pub allow_creation: bool,
    /// Most gas.
    pub max_gas: Option<u64>,
    /// Most wei of value.
    pub max_value: Option<Wei>,
    /// Most wei that all requests of a window may cost together.
    pub spend_limit: Option<SpendLimit>,
    /// Most requests of one sender that get a slot in a window.
    pub request_limit: Option<RequestLimit>,
    /// How long a request at its price cap may be the head of its lane before it is cancelled, in milliseconds.
    pub max_head_ms: u64,
    /// Most bytes of calldata or init code.
    pub max_data_bytes: Option<u64>,
    /// How far a deadline may be away, in milliseconds; a request without one is refused.
    pub max_deadline_ms: Option<u64>,
    /// For a contract named here, the only functions.
    pub allow_selectors: BTreeMap<Address, BTreeSet<Selector>>,
    /// The only senders: SQS's own `SenderId`, which a sender cannot forge.
    pub allow_senders: Option<Vec<SenderPattern>>,
    /// Senders whose cancels are taken, besides the sender of the request.
    pub cancel_senders: Vec<SenderPattern>,
}

/// What the rules are checked against.
#[derive(Debug, Clone, Copy)]
pub struct PolicyFacts<'a> {
    /// What is to be executed.
    pub intent: &'a Intent,
    /// At which price.
    pub fee: Fee,
    /// The most any attempt may pay for a unit of gas.
    pub fee_cap: Wei,
    /// Who sent the request: the `SenderId` that SQS gives.
    pub sender: Option<&'a str>,
    /// When the request is worth nothing any more.
    pub deadline: Option<Millis>,
    /// The time.
    pub now: Millis,
}

/// Everything that is wrong with a policy file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy has {} problem(s):\n  {}", problems.len(), problems.join("\n  "))]
pub struct PolicyError {
    /// One line each: the place, the problem and the way out.
    pub problems: Vec<String>,
}

impl Policies {
    /// The account's rules, or the default ones; refused if there are neither.
    pub fn of(&self, account: &AccountName) -> Result<&AccountPolicy, Refused> {
        self.accounts.get(account).or(self.default.as_ref()).ok_or_else(|| {
            let message = format!(
                "the policy has no rules for account {account}, so it may sign nothing; add [account.{account}]"
            );
            Refused::field(Code::NoPolicy, "account", message)
        })
    }

    /// Whether any rules at all take requests of this SQS sender.
    #[must_use]
    pub fn take(&self, sender: Option<&str>) -> bool {
        self.all().any(|policy| policy.check_sender(sender).is_ok())
    }

    /// Refuses a sender from which no rule accepts anything, neither a request nor a cancel.
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
                format!("`account` pool:{name} is no pool of the policy; add [pool.{name}] with its accounts");
            Refused::field(Code::UnknownPool, "account", message)
        })
    }

    /// The names of all rules.
    #[must_use]
    pub fn rules() -> &'static [&'static str] {
        file::KEYS
    }

    /// The rule that a refusal's text names, if policy is what refuses.
    #[must_use]
    pub fn rule_named(message: &str) -> Option<&'static str> {
        let word = |c: char| c.is_ascii_lowercase() || c == '_';
        message.split(|c| !word(c)).find_map(|name| Self::rules().iter().find(|key| **key == name).copied())
    }

    /// SHA-256 of the file's text, byte by byte, as `sha256sum` gives it: names the policy in records, logs and
    /// evidence.
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
    /// `max_head_s` where the file does not name it, in milliseconds. The price is raised for the first time after
    /// some 10 s: a request that could not be for ten minutes waits for the network's price to fall, and a lane of
    /// others waits with it.
    pub const MAX_HEAD_MS: u64 = 600_000;

    /// The least a policy can be: a cap on the price, and no creation.
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

    /// Checks a request against every rule; the refusal names the first that forbids it.
    pub fn check(&self, facts: &PolicyFacts<'_>) -> Result<(), Refused> {
        self.check_sender(facts.sender)?;
        self.check_recipient(facts.intent)?;
        self.check_sizes(facts.intent)?;
        self.check_fee(facts.fee)?;
        self.check_cost(facts.intent, facts.fee_cap)?;
        self.check_deadline(facts.deadline, facts.now)
    }

    /// Whether messages of this SQS sender are taken for the account at all.
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

    /// Whether this SQS sender may cancel every request of the account.
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
