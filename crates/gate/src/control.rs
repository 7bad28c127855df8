//! Controls a running gate: with a handle in the same process, or over HTTP.
//!
//! | request | effect |
//! |---|---|
//! | `POST /_gate/script` | replaces the script; `[]` ends all faults |
//! | `GET /_gate/script` | the active rules, each with `matched` and `fired` |
//! | `GET /_gate/stats` | the counts since the start |
//! | `GET /_gate/calls` | AWS gate only: each kind of call since the start, as IAM sees it |
//!
//! A script is a list of rules, one rule, or `{"seed", "rules", "faults"}`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use crate::http::respond;
use crate::script::{Director, Fault, Rule, Script};
use crate::stats::{Stats, Tally};

/// The prefix of the gate's own paths.
pub(crate) const PREFIX: &str = "/_gate/";

/// The handle of one listener: its script and its counts.
#[derive(Debug)]
pub struct Control<F> {
    pub(crate) director: Arc<Director<F>>,
    pub(crate) tally: Arc<Tally>,
}

impl<F> Clone for Control<F> {
    fn clone(&self) -> Self {
        Self { director: self.director.clone(), tally: self.tally.clone() }
    }
}

impl<F: Fault> Control<F> {
    pub(crate) fn new(seed: u64) -> Self {
        Self { director: Arc::new(Director::new(seed)), tally: Arc::default() }
    }

    /// Replaces the script with a [`Script`], a list of rules, or one rule.
    pub fn set(&self, script: impl Into<Script<F>>) {
        self.director.set(script.into());
    }

    /// Ends all faults.
    pub fn clear(&self) {
        self.set(Vec::new());
    }

    /// The active rules as JSON, each with `matched` and `fired`.
    #[must_use]
    pub fn script(&self) -> Value {
        self.director.show()
    }

    /// The counts since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.tally.read()
    }

    /// The rule that fires now, if any; counts its fault.
    pub(crate) fn fires<'a, M>(&self, asked: impl Fn(F) -> bool, methods: &M) -> Option<Rule<F>>
    where
        M: IntoIterator<Item = &'a str> + Clone,
    {
        self.fires_where(|rule| asked(rule.fault), methods)
    }

    /// Like [`Self::fires`], with a condition on the whole rule.
    pub(crate) fn fires_where<'a, M>(&self, asked: impl Fn(&Rule<F>) -> bool, methods: &M) -> Option<Rule<F>>
    where
        M: IntoIterator<Item = &'a str> + Clone,
    {
        let rule = self.director.fires(asked, methods)?;
        self.tally.fault(&rule.fault.name());
        Some(rule)
    }

    /// Answers a request to one of the gate's own paths.
    pub(crate) fn answer(&self, method: &Method, path: &str, body: &Bytes) -> Response {
        let is = |wanted: &Method, name: &str| method == wanted && path.strip_prefix(PREFIX) == Some(name);
        if is(&Method::GET, "stats") {
            return json_answer(StatusCode::OK, &json!(self.stats()));
        }
        if is(&Method::GET, "script") {
            return json_answer(StatusCode::OK, &self.script());
        }
        if is(&Method::POST, "script") {
            let script = serde_json::from_slice::<Value>(body)
                .map_err(|error| error.to_string())
                .and_then(|json| Script::parse(&json).map_err(|error| error.to_string()));
            return match script {
                Ok(script) => {
                    self.set(script);
                    json_answer(StatusCode::OK, &self.script())
                }
                Err(reason) => problem(&reason),
            };
        }
        let known = "known are GET /_gate/stats, GET /_gate/script and POST /_gate/script";
        json_answer(StatusCode::NOT_FOUND, &json!({ "error": format!("no {method} {path}; {known}") }))
    }
}

pub(crate) fn problem(reason: &str) -> Response {
    json_answer(StatusCode::BAD_REQUEST, &json!({ "error": reason }))
}

pub(crate) fn json_answer(status: StatusCode, body: &Value) -> Response {
    respond(status, "application/json", body.to_string())
}
