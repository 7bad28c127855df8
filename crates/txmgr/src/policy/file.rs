//! Parses the policy file: TOML to [`Policies`]. All problems are reported together.
//!
//! Read next: [`super`].

use std::collections::{BTreeMap, BTreeSet};

use super::{AccountPolicy, Policies, PolicyError, RequestLimit, Selector, SenderPattern, SpendLimit};
use crate::request::{shown, u256};
use crate::spelling::nearest;
use crate::units::{AccountName, Address, Digest, Wei, sha256};

impl Policies {
    /// Parses a policy file. All problems are reported together.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let file: toml::Table = text.parse().map_err(|error: toml::de::Error| PolicyError {
            problems: vec![error.to_string().trim_end().to_owned()],
        })?;
        let mut problems = Vec::new();
        let mut root = Rules { place: String::new(), table: &file, problems: &mut problems };
        root.refuse_unknown(&["account", "default", "pool"]);
        let named = root.table_at("account");
        let pooled = root.table_at("pool");
        let default = root.table_at("default");
        let default =
            default.and_then(|table| Rules { place: "default.".to_owned(), table, problems: &mut problems }.policy());
        let mut accounts = BTreeMap::new();
        for (name, rules) in named.into_iter().flatten() {
            let place = format!("account.{}.", shown(name).unwrap_or("?"));
            match (name.parse::<AccountName>(), rules) {
                (Err(error), _) => problems.push(format!("{place}: the name {error}")),
                (Ok(_), rules) if !rules.is_table() => {
                    problems.push(format!("{place} must be a table, [account.NAME]"));
                }
                (Ok(name), rules) => {
                    let policy =
                        rules.as_table().and_then(|table| Rules { place, table, problems: &mut problems }.policy());
                    accounts.extend(policy.map(|policy| (name, policy)));
                }
            }
        }
        let pools = pools(pooled, &mut problems);
        let digest = Digest(sha256(text.as_bytes()));
        if problems.is_empty() { Ok(Self { accounts, default, pools, digest }) } else { Err(PolicyError { problems }) }
    }
}

/// The maximum number of accounts in a pool. A request for the pool reads the heads of all of them.
const POOL_MAX: usize = 100;

fn pools(pooled: Option<&toml::Table>, problems: &mut Vec<String>) -> BTreeMap<AccountName, Vec<AccountName>> {
    let mut pools = BTreeMap::new();
    for (name, rules) in pooled.into_iter().flatten() {
        let place = format!("pool.{}.", shown(name).unwrap_or("?"));
        match (name.parse::<AccountName>(), rules.as_table()) {
            (Err(error), _) => problems.push(format!("{place}: the name {error}")),
            (Ok(_), None) => problems.push(format!("{place} must be a table, [pool.NAME]")),
            (Ok(name), Some(table)) => {
                pools.insert(name, Rules { place, table, problems }.pool());
            }
        }
    }
    pools
}

/// The keys that an account's table may have.
pub(super) const KEYS: &[&str] = &[
    "max_gas_price_wei",
    "gas_price_wei",
    "min_gas_price_wei",
    "allow_to",
    "deny_to",
    "allow_creation",
    "max_gas",
    "max_value_wei",
    "spend_limit_wei",
    "spend_window_s",
    "max_requests",
    "max_requests_window_s",
    "max_head_s",
    "max_data_bytes",
    "max_deadline_s",
    "allow_selectors",
    "allow_senders",
    "cancel_senders",
];

/// A table of the file while it is parsed. An invalid value becomes a problem and counts as omitted, so that parsing
/// continues with the next value.
struct Rules<'t, 'p> {
    /// The name of the table in problems, with a dot at the end.
    place: String,
    table: &'t toml::Table,
    problems: &'p mut Vec<String>,
}

impl<'t> Rules<'t, '_> {
    fn policy(mut self) -> Option<AccountPolicy> {
        self.refuse_unknown(KEYS);
        let max_gas_price = self.wei("max_gas_price_wei");
        if !self.table.contains_key("max_gas_price_wei") {
            self.problem("max_gas_price_wei", "is missing; set the most wei per gas that any attempt may pay");
        }
        let policy = AccountPolicy {
            max_gas_price: max_gas_price.unwrap_or(Wei::ZERO),
            gas_price: self.wei("gas_price_wei"),
            min_gas_price: self.wei("min_gas_price_wei"),
            allow_to: self.addresses("allow_to"),
            deny_to: self.addresses("deny_to").unwrap_or_default(),
            allow_creation: self.flag("allow_creation").unwrap_or(false),
            max_gas: self.count("max_gas"),
            max_value: self.wei("max_value_wei"),
            spend_limit: self.spend_limit(),
            request_limit: self.request_limit(),
            max_head_ms: self.max_head_ms(),
            max_data_bytes: self.count("max_data_bytes"),
            max_deadline_ms: self.count("max_deadline_s").map(|seconds| seconds.saturating_mul(1_000)),
            allow_selectors: self.selectors("allow_selectors"),
            allow_senders: self.senders("allow_senders"),
            cancel_senders: self.senders("cancel_senders").unwrap_or_default(),
        };
        let cap = max_gas_price?;
        if policy.min_gas_price.is_some_and(|floor| floor > cap) {
            self.problem("min_gas_price_wei", "is above max_gas_price_wei; nothing could be signed");
        }
        if policy.gas_price.is_some_and(|price| price > cap) {
            self.problem("gas_price_wei", "is above max_gas_price_wei; lower it or raise the cap");
        }
        if policy.gas_price.zip(policy.min_gas_price).is_some_and(|(price, floor)| price < floor) {
            self.problem("gas_price_wei", "is below min_gas_price_wei; raise it or lower the floor");
        }
        Some(policy)
    }

    fn pool(mut self) -> Vec<AccountName> {
        self.refuse_unknown(&["accounts"]);
        let name = |text: &str| text.parse::<AccountName>().map_err(|error| format!("{error}; give account names"));
        let names = self.table.get("accounts").map(|value| self.list("accounts", value, name)).unwrap_or_default();
        let distinct: BTreeSet<_> = names.iter().collect();
        match names.len() {
            0 => self.problem("accounts", "is missing or empty; list the accounts that share the pool's requests"),
            count if count > POOL_MAX => {
                self.problem("accounts", &format!("has {count} names, at most {POOL_MAX} share a pool"));
            }
            count if distinct.len() < count => self.problem("accounts", "names an account twice"),
            _ => {}
        }
        names
    }

    fn spend_limit(&mut self) -> Option<SpendLimit> {
        let limit = self.wei("spend_limit_wei");
        let window_ms = self.window_ms("spend_limit_wei", "how many wei may be spent in it", "spend_window_s");
        Some(SpendLimit { limit: limit?, window_ms: window_ms? })
    }

    fn request_limit(&mut self) -> Option<RequestLimit> {
        let limit = self.count("max_requests");
        let window_ms =
            self.window_ms("max_requests", "how many requests of one sender it takes", "max_requests_window_s");
        if limit == Some(0) {
            self.problem("max_requests", "is 0 and takes nothing; set allow_senders, or pause the account");
        }
        Some(RequestLimit { limit: limit?, window_ms: window_ms? })
    }

    /// The window of a limit, in milliseconds. A limit needs a window, and a window needs a limit.
    fn window_ms(&mut self, limit: &str, what: &str, window: &str) -> Option<u64> {
        let seconds = self.count(window);
        match (self.table.contains_key(limit), self.table.contains_key(window)) {
            (true, false) => {
                self.problem(window, &format!("is missing beside {limit}; set for how many seconds it holds"));
            }
            (false, true) => self.problem(limit, &format!("is missing beside {window}; set {what}")),
            (true, true) | (false, false) => {}
        }
        if seconds == Some(0) {
            self.problem(window, "is 0, a window of no time; set a number of seconds");
        }
        seconds.map(|seconds| seconds.saturating_mul(1_000))
    }

    fn max_head_ms(&mut self) -> u64 {
        let seconds = self.count("max_head_s");
        if seconds == Some(0) {
            self.problem("max_head_s", "is 0 and would cancel what could still be mined; set a number of seconds");
        }
        seconds.map_or(AccountPolicy::MAX_HEAD_MS, |seconds| seconds.saturating_mul(1_000))
    }

    fn problem(&mut self, key: &str, problem: &str) {
        self.problems.push(format!("{}{key} {problem}", self.place));
    }

    fn refuse_unknown(&mut self, known: &[&str]) {
        for key in self.table.keys().filter(|key| !known.contains(&key.as_str())) {
            let advice = match nearest(key, known) {
                Some(known) => format!("is not known; did you mean {known}?"),
                None => format!("is not known; there are {}", known.join(", ")),
            };
            self.problem(key, &advice);
        }
    }

    fn table_at(&mut self, key: &str) -> Option<&'t toml::Table> {
        let value = self.table.get(key)?;
        let table = value.as_table();
        if table.is_none() {
            self.problem(key, &format!("is a {}; it must be a table", value.type_str()));
        }
        table
    }

    fn wei(&mut self, key: &str) -> Option<Wei> {
        let read = match self.table.get(key)? {
            toml::Value::String(text) => u256(text),
            toml::Value::Integer(number) => u256(&number.to_string()),
            toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_)
            | toml::Value::Table(_) => Err("is not a number"),
        };
        match read {
            Ok(wei) => Some(Wei(wei)),
            Err(problem) => {
                let problem = format!("{problem}; write whole wei, as 100 or \"100\"");
                self.problem(key, &problem);
                None
            }
        }
    }

    fn count(&mut self, key: &str) -> Option<u64> {
        let count = self.table.get(key)?.as_integer().and_then(|number| u64::try_from(number).ok());
        if count.is_none() {
            self.problem(key, "must be a whole number, not negative");
        }
        count
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        let flag = self.table.get(key)?.as_bool();
        if flag.is_none() {
            self.problem(key, "must be true or false");
        }
        flag
    }

    fn list<T>(&mut self, key: &str, value: &toml::Value, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut items = Vec::new();
        let Some(list) = value.as_array() else {
            self.problem(key, "must be a list of strings");
            return items;
        };
        for (at, item) in list.iter().enumerate() {
            match item.as_str().ok_or_else(|| "must be a string".to_owned()).and_then(&read) {
                Ok(item) => items.push(item),
                Err(problem) => self.problem(&format!("{key}[{at}]"), &problem),
            }
        }
        items
    }

    fn addresses(&mut self, key: &str) -> Option<BTreeSet<Address>> {
        let value = self.table.get(key)?;
        Some(self.list(key, value, address).into_iter().collect())
    }

    fn senders(&mut self, key: &str) -> Option<Vec<SenderPattern>> {
        let value = self.table.get(key)?;
        Some(self.list(key, value, |text| text.parse::<SenderPattern>().map_err(|error| error.to_string())))
    }

    fn selectors(&mut self, key: &str) -> BTreeMap<Address, BTreeSet<Selector>> {
        let mut all = BTreeMap::new();
        for (contract, list) in self.table_at(key).into_iter().flatten() {
            let place = format!("{key}.{contract}");
            let selectors = self.list(&place, list, selector).into_iter().collect();
            match address(contract) {
                Ok(contract) if all.contains_key(&contract) => {
                    self.problem(&place, "is listed twice; give it one list");
                }
                Ok(contract) => {
                    all.insert(contract, selectors);
                }
                Err(problem) => self.problem(&place, &problem),
            }
        }
        all
    }
}

fn address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|error| format!("{error}; an address is 0x and 40 hexadecimal digits"))
}

fn selector(text: &str) -> Result<Selector, String> {
    let mut selector = [0; 4];
    text.strip_prefix("0x")
        .and_then(|digits| hex::decode_to_slice(digits, &mut selector).ok())
        .map(|()| selector)
        .ok_or_else(|| "must be a function's selector, 0x and 8 hexadecimal digits".to_owned())
}
