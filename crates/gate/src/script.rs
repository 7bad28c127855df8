//! Fault scripts: which fault is injected into which calls, and how often.
//!
//! A script is a list of rules, or an object `{"seed": 7, "rules": [...]}`. Rules are checked in order, and the first
//! one that fires decides. The same seed and the same order of calls lead to the same faults; concurrent calls may
//! change their order.
//!
//! The effects of the faults are in [`crate::bsc::BscFault`] and [`crate::aws::AwsFault`].

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Mutex;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::change::Change;

/// A fault that a gate can inject.
pub trait Fault: Copy + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Whether a rule without `methods` applies to this method.
    fn concerns(self, method: &str) -> bool;

    /// Whether `wanted` in a rule matches `method`. By default they must be equal.
    fn names(wanted: &str, method: &str) -> bool {
        wanted == method
    }

    /// The rules of the mode with all faults.
    fn all() -> Vec<Rule<Self>>;

    /// Its name in scripts and counts.
    fn name(self) -> String {
        json!(self).as_str().unwrap_or("?").to_owned()
    }
}

/// A fault and when it fires.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule<F> {
    /// The fault.
    pub fault: F,
    /// The methods to which it applies; if empty, the usual methods of the fault.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// The probability for each matching call, 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
    /// How often it fires at most; `None` means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// How many matching calls pass before the rule starts.
    #[serde(default)]
    pub after: u64,
    /// How many blocks a node lags behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<u64>,
    /// How long the caller waits, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Seconds in `Retry-After` of a 429.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// The HTTP status, if not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The error code: a number for JSON-RPC, a name for AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Value>,
    /// The error message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The index of the item in conflict in a transaction, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<usize>,
    /// AWS gate: refuses only the entries of a batch whose body contains this text. BSC gate: for a fault of a single
    /// call, applies only to calls whose parameters contain it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Fires only for every n-th matching call, starting with the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// BSC gate: applies only to arrays of more calls than this. A single call is not an array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<usize>,
    /// BSC gate: the body of the answer, if not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// BSC gate: headers of the answer, for example `content-type`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// BSC gate: the block at which a frozen node stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// BSC gate: changes that make an answer odd.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// BSC gate: the rules of another backend. They always apply; their limits and probabilities are ignored.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule<F>>,
}

fn always() -> f64 {
    1.0
}

impl<F> Rule<F> {
    /// A rule that always fires, for the usual methods of the fault.
    #[must_use]
    pub fn new(fault: F) -> Self {
        Self {
            fault,
            methods: Vec::new(),
            probability: always(),
            times: None,
            after: 0,
            blocks: None,
            delay_ms: None,
            retry_after_s: None,
            status: None,
            code: None,
            message: None,
            item: None,
            contains: None,
            every: None,
            above: None,
            body: None,
            headers: BTreeMap::new(),
            height: None,
            changes: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// Only for entries whose body contains this text.
    #[must_use]
    pub fn containing(mut self, text: &str) -> Self {
        self.contains = Some(text.to_owned());
        self
    }

    /// Only for these methods.
    #[must_use]
    pub fn methods(mut self, methods: &[&str]) -> Self {
        self.methods = methods.iter().map(|&method| method.to_owned()).collect();
        self
    }

    /// At most this many times.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Only after this many matching calls.
    #[must_use]
    pub fn after(mut self, calls: u64) -> Self {
        self.after = calls;
        self
    }

    /// With this probability, 0 to 1.
    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    /// With a lag of this many blocks.
    #[must_use]
    pub fn blocks(mut self, blocks: u64) -> Self {
        self.blocks = Some(blocks);
        self
    }

    /// With this delay.
    #[must_use]
    pub fn delay_ms(mut self, delay_ms: u64) -> Self {
        self.delay_ms = Some(delay_ms);
        self
    }

    /// Only for every n-th matching call.
    #[must_use]
    pub fn every(mut self, calls: u64) -> Self {
        self.every = Some(calls);
        self
    }

    /// Only for arrays of more calls.
    #[must_use]
    pub fn above(mut self, calls: usize) -> Self {
        self.above = Some(calls);
        self
    }

    /// With another change to the answer.
    #[must_use]
    pub fn change(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// With this error code and message.
    #[must_use]
    pub fn error(mut self, code: impl Into<Value>, message: &str) -> Self {
        self.code = Some(code.into());
        self.message = Some(message.to_owned());
        self
    }
}

impl<F: Fault> Rule<F> {
    /// Whether the rule applies to calls of this method.
    pub(crate) fn is_about(&self, method: &str) -> bool {
        match &self.methods[..] {
            [] => self.fault.concerns(method),
            named => named.iter().any(|wanted| F::names(wanted, method)),
        }
    }
}

/// Rules in order, and their random seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Script<F> {
    /// The random seed; `None` continues the gate's current stream.
    pub seed: Option<u64>,
    /// The rules; the first one that fires decides.
    pub rules: Vec<Rule<F>>,
}

impl<F> From<Vec<Rule<F>>> for Script<F> {
    fn from(rules: Vec<Rule<F>>) -> Self {
        Self { seed: None, rules }
    }
}

impl<F> From<Rule<F>> for Script<F> {
    fn from(rule: Rule<F>) -> Self {
        Self { seed: None, rules: vec![rule] }
    }
}

impl<F: Fault> Script<F> {
    /// All faults, with the gate's own probabilities.
    #[must_use]
    pub fn all(seed: u64) -> Self {
        Self { seed: Some(seed), rules: F::all() }
    }

    /// Reads a list of rules, one rule, or `{"seed", "rules", "faults": "all" | "none"}`.
    pub fn parse(json: &Value) -> Result<Self, ScriptError> {
        let rules = |value: &Value| serde_json::from_value::<Vec<Rule<F>>>(value.clone()).map_err(ScriptError::Rule);
        let Some(object) = json.as_object() else {
            return rules(json).map(Self::from);
        };
        if object.contains_key("fault") {
            return rules(&json!([json])).map(Self::from);
        }
        if let Some(unknown) = object.keys().find(|key| !["seed", "rules", "faults"].contains(&key.as_str())) {
            return Err(ScriptError::Key(unknown.clone()));
        }
        let mut script = Self { seed: object.get("seed").and_then(Value::as_u64), rules: Vec::new() };
        match object.get("faults").map(Value::as_str) {
            None | Some(Some("none")) => {}
            Some(Some("all")) => script.rules = F::all(),
            Some(other) => return Err(ScriptError::Faults(other.unwrap_or_default().to_owned())),
        }
        if let Some(own) = object.get("rules") {
            script.rules.splice(0..0, rules(own)?);
        }
        Ok(script)
    }
}

/// Why a script cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// A rule has an unknown fault, a wrong type or an unknown key.
    #[error("a rule of the script cannot be read: {0}")]
    Rule(#[source] serde_json::Error),
    /// A key other than `seed`, `rules` and `faults`.
    #[error("a script has no key {0:?}; known are seed, rules and faults")]
    Key(String),
    /// `faults` has another value.
    #[error("faults must be \"all\" or \"none\", not {0:?}")]
    Faults(String),
}

/// The active script and its progress.
#[derive(Debug)]
pub(crate) struct Director<F> {
    state: Mutex<State<F>>,
}

#[derive(Debug)]
struct State<F> {
    rules: Vec<Played<F>>,
    chance: Chance,
}

#[derive(Debug)]
struct Played<F> {
    rule: Rule<F>,
    matched: u64,
    fired: u64,
}

impl<F: Fault> Director<F> {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: Mutex::new(State { rules: Vec::new(), chance: Chance::new(seed) }) }
    }

    pub(crate) fn set(&self, script: Script<F>) {
        let mut state = self.lock();
        if let Some(seed) = script.seed {
            state.chance = Chance::new(seed);
        }
        state.rules = script.rules.into_iter().map(|rule| Played { rule, matched: 0, fired: 0 }).collect();
    }

    /// The first rule that satisfies `asked` and fires now for one of these methods.
    pub(crate) fn fires<'a, M>(&self, asked: impl Fn(&Rule<F>) -> bool, methods: &M) -> Option<Rule<F>>
    where
        M: IntoIterator<Item = &'a str> + Clone,
    {
        let mut state = self.lock();
        let State { rules, chance } = &mut *state;
        for Played { rule, matched, fired } in rules {
            if !asked(rule) || !methods.clone().into_iter().any(|method| rule.is_about(method)) {
                continue;
            }
            let turn = matched.saturating_sub(rule.after);
            let is_its_turn = *matched >= rule.after && turn.is_multiple_of(rule.every.unwrap_or(1));
            *matched = matched.saturating_add(1);
            let spent = rule.times.is_some_and(|times| *fired >= times);
            if is_its_turn && !spent && chance.hits(rule.probability) {
                *fired = fired.saturating_add(1);
                return Some(rule.clone());
            }
        }
        None
    }

    /// The rules, with how often each matched and fired.
    pub(crate) fn show(&self) -> Value {
        let state = self.lock();
        let rules = state.rules.iter().map(|Played { rule, matched, fired }| {
            let mut shown = json!(rule);
            shown["matched"] = json!(matched);
            shown["fired"] = json!(fired);
            shown
        });
        rules.collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<F>> {
        self.state.lock().expect("no holder of the script panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bsc::BscFault;

    fn director(script: &Value) -> Director<BscFault> {
        let director = Director::new(1);
        director.set(Script::parse(script).unwrap());
        director
    }

    fn fires(director: &Director<BscFault>, method: &str) -> bool {
        director.fires(|_| true, &[method]).is_some()
    }

    #[test]
    fn rule_respects_methods_after_and_times() {
        let director = director(&json!([{"fault": "code32005", "methods": ["eth_call"], "after": 1, "times": 2}]));
        assert!(!fires(&director, "eth_blockNumber"));
        let fired: Vec<_> = (0..5).map(|_| fires(&director, "eth_call")).collect();
        assert_eq!(fired, [false, true, true, false, false]);
        assert_eq!(director.show()[0]["fired"], json!(2));
    }

    #[test]
    fn rule_fires_for_every_nth_call() {
        let director = director(&json!([{"fault": "stale", "every": 3, "after": 1}]));
        let fired: Vec<_> = (0..8).map(|_| fires(&director, "eth_call")).collect();
        assert_eq!(fired, [false, true, false, false, true, false, false, true]);
    }

    #[test]
    fn rule_without_methods_applies_to_usual_methods() {
        let director = director(&json!({"fault": "silentDrop"}));
        assert!(fires(&director, "eth_sendRawTransaction"));
        assert!(!fires(&director, "eth_getTransactionReceipt"));
    }

    #[test]
    fn same_seed_fires_the_same_faults() {
        let play = |seed: u64| {
            let director = director(&json!({"seed": seed, "faults": "all"}));
            (0..500).map(|_| director.fires(|_| true, &["eth_call"]).map(|rule| rule.fault.name())).collect::<Vec<_>>()
        };
        assert_eq!(play(3), play(3));
        assert_ne!(play(3), play(4));
        assert!(play(3).iter().any(Option::is_some));
    }

    #[test]
    fn invalid_script_is_refused() {
        for wrong in [
            json!([{"fault": "http430"}]),
            json!([{"fault": "http429", "probabilty": 1}]),
            json!({"seeds": 1}),
            json!({"faults": "some"}),
            json!(3),
        ] {
            assert!(Script::<BscFault>::parse(&wrong).is_err(), "{wrong}");
        }
        assert_eq!(Script::<BscFault>::parse(&json!([])).unwrap().rules, []);
    }
}
