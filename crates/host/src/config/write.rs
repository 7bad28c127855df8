//! Writes a configuration file that reads back as the same configuration.

use signpost_txmgr::ports::Finality;
use toml::{Table, Value};

use super::{AccountsFrom, AuthorizationSource, Chain, Config, PrivateShape, SealFrom, SendTo};

impl Config {
    /// The text of a configuration file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut file = Table::new();
        if let Some(region) = &self.region {
            file.insert("region".to_owned(), text(region));
        }
        if let Some(endpoint) = &self.endpoint {
            file.insert("endpoint".to_owned(), text(endpoint));
        }
        let timing = [
            ("bump_after_ms", self.timing.bump_after_ms),
            ("rebroadcast_after_ms", self.timing.rebroadcast_after_ms),
            ("poll_ms", self.timing.poll_ms),
            ("sweep_ms", self.timing.sweep_ms),
        ];
        let sections = [
            ("chain", chain(&self.chain)),
            (
                "queues",
                vec![
                    ("signing_url", text(&self.queues.signing_url)),
                    ("resign_url", text(&self.queues.resign_url)),
                    ("broadcast_url", text(&self.queues.broadcast_url)),
                ],
            ),
            ("tables", vec![("requests", text(&self.tables.requests)), ("accounts", text(&self.tables.accounts))]),
            ("topic", vec![("outcomes_arn", text(&self.outcomes_arn))]),
            ("policy", vec![("file", text(&self.policy_file.display().to_string()))]),
            ("retention", vec![("days", number(self.retention_days))]),
            ("timing", timing.into_iter().filter_map(|(key, ms)| Some((key, number(ms?)))).collect()),
            (
                "worker",
                vec![
                    ("signer_concurrency", number(self.worker.signer_concurrency)),
                    ("broadcaster_concurrency", number(self.worker.broadcaster_concurrency)),
                    ("visibility_s", number(self.worker.visibility_s)),
                ],
            ),
        ];
        let shown = [
            ("metrics", "listen", self.observe.metrics_listen.map(|address| address.to_string())),
            ("traces", "otlp_endpoint", self.observe.otlp_endpoint.clone()),
        ];
        let shown = shown.into_iter().filter_map(|(name, key, value)| Some((name, vec![(key, text(&value?))])));
        let seal = self.seal.as_ref().map(|seal| match seal {
            SealFrom::Secret(secret) => ("secret_arn", text(secret)),
            SealFrom::File(file) => ("key_file", text(&file.display().to_string())),
        });
        let accounts = self.accounts.as_ref().map(|accounts| match accounts {
            AccountsFrom::Registry => ("trust_registry", Value::Boolean(true)),
            AccountsFrom::Listed(pinned) => ("pinned", texts(pinned)),
        });
        let signing = [("seal", seal), ("accounts", accounts)];
        let signing = signing.into_iter().filter_map(|(name, entry)| Some((name, vec![entry?])));
        for (name, entries) in sections.into_iter().chain(shown).chain(signing) {
            file.insert(name.to_owned(), section(entries));
        }
        file.to_string()
    }
}

fn chain(chain: &Chain) -> Vec<(&'static str, Value)> {
    let send_to = match chain.send_to {
        SendTo::All => "all",
        SendTo::First => "first",
    };
    let finality = match chain.finality {
        Finality::Finalized => text("finalized"),
        Finality::Confirmations(blocks) => number(blocks),
    };
    let mut entries = vec![
        ("chain_id", number(chain.chain_id)),
        ("rpc_urls", texts(&chain.rpc_urls)),
        ("send_to", text(send_to)),
        ("fee_floor_wei", number(chain.fee_floor_wei)),
        ("finality", finality),
    ];
    entries.extend(chain.two_verdicts.then(|| ("verdicts", text("two"))));
    entries.extend(chain.fee_ceiling_wei.map(|ceiling| ("fee_ceiling_wei", number(ceiling))));
    entries.extend(chain.explorer_url.as_deref().map(|url| ("explorer_url", text(url))));
    if let Some(private) = &chain.private {
        let endpoints = private.endpoints.iter().map(|endpoint| {
            let shape = match endpoint.shape {
                PrivateShape::Bloxroute => "bloxroute",
            };
            let mut entries = vec![
                ("url", text(&endpoint.url)),
                ("shape", text(shape)),
                ("mev_builders", texts(&endpoint.mev_builders)),
            ];
            match &endpoint.authorization {
                AuthorizationSource::Variable(name) => entries.push(("authorization_env", text(name))),
                // The value belongs in a secret, not in a file.
                AuthorizationSource::Value(_) => {}
            }
            section(entries)
        });
        entries.push(("private", Value::Array(endpoints.collect())));
        entries.push(("private_only", Value::Boolean(private.only)));
    }
    entries
}

fn section(entries: Vec<(&str, Value)>) -> Value {
    Value::Table(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn texts(list: &[String]) -> Value {
    Value::Array(list.iter().map(|entry| text(entry)).collect())
}

fn number(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}
