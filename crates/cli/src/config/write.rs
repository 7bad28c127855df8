//! Writes a configuration file that reads back as the same configuration.

use signpost_txmgr::broadcaster::Finality;
use toml::{Table, Value};

use super::{Config, SendTo};

impl Config {
    /// The text of a configuration file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let text = |text: &str| Value::String(text.to_owned());
        let number = |number: u64| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let section = |entries: Vec<(&str, Value)>| {
            Value::Table(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
        };
        let mut file = Table::new();
        if let Some(region) = &self.region {
            file.insert("region".to_owned(), text(region));
        }
        if let Some(endpoint) = &self.endpoint {
            file.insert("endpoint".to_owned(), text(endpoint));
        }
        let send_to = match self.chain.send_to {
            SendTo::All => "all",
            SendTo::First => "first",
        };
        let finality = match self.chain.finality {
            Finality::Finalized => text("finalized"),
            Finality::Confirmations(blocks) => number(blocks),
        };
        let timing = [
            ("bump_after_ms", self.timing.bump_after_ms),
            ("rebroadcast_after_ms", self.timing.rebroadcast_after_ms),
            ("poll_ms", self.timing.poll_ms),
            ("sweep_ms", self.timing.sweep_ms),
        ];
        let sections = [
            (
                "chain",
                vec![
                    ("chain_id", number(self.chain.chain_id)),
                    ("rpc_urls", Value::Array(self.chain.rpc_urls.iter().map(|url| text(url)).collect())),
                    ("send_to", text(send_to)),
                    ("fee_floor_wei", number(self.chain.fee_floor_wei)),
                    ("finality", finality),
                ],
            ),
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
        for (name, entries) in sections {
            file.insert(name.to_owned(), section(entries));
        }
        file.to_string()
    }
}
