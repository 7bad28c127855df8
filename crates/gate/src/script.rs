//! Scripts of faults: which fault, for which calls, how often.
//!
//! A script is a list of rules, or an object `{"seed": 7, "rules": [...]}`. Rules are asked in order
//! and the first that fires decides. With the same seed and the same order of calls the same faults
//! fire; calls that race each other may of course change places.
//!
//! Never says what a fault does: see [`crate::bsc::BscFault`] and [`crate::aws::AwsFault`].

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Mutex;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::change::Change;

/// What a gate can do wrong.
pub trait Fault: Copy + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Whether a rule that names no methods is about this one.
    fn concerns(self, method: &str) -> bool;

    /// Whether `wanted` of a rule names `method`. Equal unless a gate's methods have longer names.
    fn names(wanted: &str, method: &str) -> bool {
        wanted == method
    }

    /// The rules of the mode that mixes every fault.
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
    /// What happens.
    pub fault: F,
    /// The calls it is about; without any, those the fault is usually about.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// How likely it is each time, 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
    /// How often at most; without, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Matching calls to leave alone first.
    #[serde(default)]
    pub after: u64,
    /// Blocks to lag behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<u64>,
    /// How long a caller is kept waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Seconds in `Retry-After` of a 429.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// HTTP status, where the rule chooses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// An error's code: a number for JSON-RPC, a name for AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Value>,
    /// An error's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Which item of a transaction is in conflict, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<usize>,
    /// AWS gate: which entries of a batch are refused, those whose body holds this text. BSC gate, for a fault of
    /// one call: those calls only whose parameters hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Each so-many-th matching call only, from the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// BSC gate: arrays of more calls than this only. A call alone is no array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<usize>,
    /// BSC gate: the body of an answer, where the rule chooses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// BSC gate: its headers, `content-type` for one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// BSC gate: the block that a frozen node stays at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// BSC gate: what is odd about an answer.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// BSC gate: the rules of another backend. They hold always: their counts and chance are not looked at.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule<F>>,
}

fn always() -> f64 {
    1.0
}

impl<F> Rule<F> {
    /// Always, for the calls the fault is usually about.
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

    /// For entries whose body holds this text.
    #[must_use]
    pub fn containing(mut self, text: &str) -> Self {
        self.contains = Some(text.to_owned());
        self
    }

    /// For these methods only.
    #[must_use]
    pub fn methods(mut self, methods: &[&str]) -> Self {
        self.methods = methods.iter().map(|&method| method.to_owned()).collect();
        self
    }

    /// At most so often.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Not the first so many matching calls.
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

    /// Lagging so many blocks.
    #[must_use]
    pub fn blocks(mut self, blocks: u64) -> Self {
        self.blocks = Some(blocks);
        self
    }

    /// Keeping the caller waiting.
    #[must_use]
    pub fn delay_ms(mut self, delay_ms: u64) -> Self {
        self.delay_ms = Some(delay_ms);
        self
    }

    /// Each so-many-th matching call only.
    #[must_use]
    pub fn every(mut self, calls: u64) -> Self {
        self.every = Some(calls);
        self
    }

    /// Arrays of more calls only.
    #[must_use]
    pub fn above(mut self, calls: usize) -> Self {
        self.above = Some(calls);
        self
    }

    /// With this done to the answer, too.
    #[must_use]
    pub fn change(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// With this code and these words.
    #[must_use]
    pub fn error(mut self, code: impl Into<Value>, message: &str) -> Self {
        self.code = Some(code.into());
        self.message = Some(message.to_owned());
        self
    }
}

impl<F: Fault> Rule<F> {
    /// Whether it is about calls of this method.
    pub(crate) fn is_about(&self, method: &str) -> bool {
        match &self.methods[..] {
            [] => self.fault.concerns(method),
            named => named.iter().any(|wanted| F::names(wanted, method)),
        }
    }
}

/// Rules in order, and the seed of their chance.
#[derive(Debug, Clone, PartialEq)]
pub struct Script<F> {
    /// Seed; without, the gate's stream goes on.
    pub seed: Option<u64>,
    /// First match decides.
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
    /// Every fault, mixed by the gate's own probabilities.
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
    /// A key beside `seed`, `rules` and `faults`.
    #[error("a script has no key {0:?}; known are seed, rules and faults")]
    Key(String),
    /// `faults` is something else.
    #[error("faults is \"all\" or \"none\", not {0:?}")]
    Faults(String),
}

/// The script in force, and how far it is.
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

    /// The first rule that fires now for one of these methods, of those that are asked for.
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

    /// The rules and how often each fired.
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
    fn a_rule_fires_for_its_methods_after_and_times() {
        let director = director(&json!([{"fault": "code32005", "methods": ["eth_call"], "after": 1, "times": 2}]));
        assert!(!fires(&director, "eth_blockNumber"));
        let fired: Vec<_> = (0..5).map(|_| fires(&director, "eth_call")).collect();
        assert_eq!(fired, [false, true, true, false, false]);
        assert_eq!(director.show()[0]["fired"], json!(2));
    }

    #[test]
    fn a_rule_fires_every_so_often() {
        let director = director(&json!([{"fault": "stale", "every": 3, "after": 1}]));
        let fired: Vec<_> = (0..8).map(|_| fires(&director, "eth_call")).collect();
        assert_eq!(fired, [false, true, false, false, true, false, false, true]);
    }

    #[test]
    fn a_rule_without_methods_is_about_what_its_fault_is_about() {
        let director = director(&json!({"fault": "silentDrop"}));
        assert!(fires(&director, "eth_sendRawTransaction"));
        assert!(!fires(&director, "eth_getTransactionReceipt"));
    }

    #[test]
    fn the_same_seed_plays_the_same_faults() {
        let play = |seed: u64| {
            let director = director(&json!({"seed": seed, "faults": "all"}));
            (0..500).map(|_| director.fires(|_| true, &["eth_call"]).map(|rule| rule.fault.name())).collect::<Vec<_>>()
        };
        assert_eq!(play(3), play(3));
        assert_ne!(play(3), play(4));
        assert!(play(3).iter().any(Option::is_some));
    }

    #[test]
    fn what_a_script_cannot_mean_is_refused() {
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
