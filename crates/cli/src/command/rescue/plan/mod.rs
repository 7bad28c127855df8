//! The commands that help a request, as lines for people and as JSON. Pure.

use std::path::Path;

use serde_json::{Value, json};
use signpost_host::config::Chain;
use signpost_txmgr::fees;
use signpost_txmgr::record::{Attempt, AttemptKind, Phase, Record, WaitCause};
use signpost_txmgr::units::{Nonce, RequestId, Wei};

use crate::amount;
use crate::command::bump;

/// Sends standard input; the URL is appended.
const CURL: &str = "curl -sS -H 'content-type: application/json' --data-binary @-";
/// Builds the JSON-RPC request with the raw transaction. `printf` is a shell built-in and takes 128 KiB, more than the
/// arguments of a program may have.
const BODY: &str = r#"printf '{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["%s"]}'"#;

/// Facts from outside the record.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) chain: &'a Chain,
    /// `--config`, if it was given: the printed commands need it too.
    pub(super) config: Option<&'a Path>,
    pub(super) is_paused: bool,
    pub(super) ahead: Option<Ahead>,
}

/// A request that must be mined first.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) nonce: Nonce,
    pub(super) id: RequestId,
}

/// Everything that is printed.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    record: &'a Record,
    place: &'a Place<'a>,
    nodes: Vec<Node>,
    explorer: Option<String>,
    /// The command, or why it is not possible.
    bump: Result<String, String>,
    cancel: Result<String, String>,
}

/// A configured node without its URL.
#[derive(Debug)]
struct Node {
    name: String,
    variable: String,
}

impl<'a> Plan<'a> {
    pub(super) fn of(record: &'a Record, place: &'a Place<'a>) -> Self {
        let nodes = (1_u32..).zip(&place.chain.rpc_urls).map(|(number, url)| {
            let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
            let name = format!("node {number} ({})", host.unwrap_or_else(|| "?".to_owned()));
            Node { name, variable: format!("BSC_RPC_{number}") }
        });
        let explorer = place.chain.explorer_url.clone().or_else(|| explorer_of(place.chain.chain_id));
        let explorer = explorer.map(|url| url.trim_end_matches('/').to_owned());
        Self {
            record,
            place,
            nodes: nodes.collect(),
            explorer,
            bump: bump_price(record)
                .map(|price| command(place, &format!("signpost bump {} --max-gas-price {price}", record.request_id))),
            cancel: not_cancelled(record).map(|()| command(place, &format!("signpost cancel {}", record.request_id))),
        }
    }

    fn transaction_page(&self, attempt: &Attempt) -> Option<String> {
        self.explorer.as_ref().map(|url| format!("{url}/tx/{}", attempt.tx_hash))
    }

    fn account_page(&self) -> Option<String> {
        self.explorer.as_ref().map(|url| format!("{url}/address/{}", self.record.account.address))
    }

    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let Self { record, place, .. } = self;
        let fact = |name: &str, value: String| format!("{name:<14}{value}");
        let mut lines = vec![
            fact("request", record.request_id.to_string()),
            fact("status", record.phase.name().to_owned()),
            fact(
                "nonce",
                format!(
                    "{} of {} ({}), chain {}",
                    record.nonce, record.name, record.account.address, place.chain.chain_id
                ),
            ),
        ];
        lines.extend(record.waiting.map(|waiting| fact("waits for", meaning(waiting.cause))));
        lines.extend(place.ahead.as_ref().map(|Ahead { nonce, id }| {
            let first = command(place, &format!("signpost rescue {id}"));
            fact("behind", format!("nonce {nonce}, which must be mined first: {first}"))
        }));
        lines.extend(self.account_page().map(|page| fact("account page", page)));
        lines.push(String::new());
        lines.extend(self.notes());
        lines.extend(self.nodes.iter().map(|Node { name, variable }| format!("  export {variable}=…   # {name}")));
        for (number, attempt) in record.attempts.iter().enumerate() {
            lines.push(String::new());
            lines.extend(self.attempt_lines(number, attempt));
        }
        lines.push(String::new());
        let shown = |command: &Result<String, String>| command.clone().unwrap_or_else(|why| format!("no: {why}"));
        lines.push(fact("raise price", shown(&self.bump)));
        lines.push(fact("cancel", shown(&self.cancel)));
        if place.is_paused {
            let resume = command(place, &format!("signpost account resume {}", record.name));
            lines.push(fact("first", format!("the account is paused and signs nothing: {resume}")));
        }
        lines
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Phase::Settled(_) = self.record.phase {
            notes.push(format!("It has its outcome, {}: there is nothing to do.", self.record.phase.name()));
        }
        if let Some(private) = &self.place.chain.private {
            let only = if private.only { ", and private_only is set" } else { "" };
            notes.push(format!(
                "{} private endpoint(s) are configured{only}: a public node shows what it receives to everybody.",
                private.endpoints.len()
            ));
        }
        notes.push(
            "Any of these uses the nonce; the newest has the highest price. Set the nodes' URLs of chain.rpc_urls:"
                .to_owned(),
        );
        notes
    }

    fn attempt_lines(&self, number: usize, attempt: &Attempt) -> Vec<String> {
        let mut lines = vec![format!(
            "attempt {number}: {}, {}, {}",
            what(attempt),
            amount::price(attempt.fee.price()),
            attempt.tx_hash
        )];
        lines.push(format!("  {}", answer(attempt)));
        lines.extend(self.transaction_page(attempt).map(|page| format!("  {page}")));
        let Some(raw) = self.raw(attempt) else {
            lines.push("  its bytes do not match the stored hash: see `signpost audit`".to_owned());
            return lines;
        };
        lines.push(format!("  RAW_{number}={raw}"));
        for node in &self.nodes {
            lines.push(format!("  {BODY} \"$RAW_{number}\" | {CURL} \"${}\"", node.variable));
        }
        lines
    }

    fn raw(&self, attempt: &Attempt) -> Option<String> {
        self.record.raw(attempt).map(|raw| format!("0x{}", hex::encode(raw.bytes)))
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let Self { record, place, .. } = self;
        let attempts = record.attempts.iter().zip(0_u32..).map(|(attempt, number)| {
            let raw = self.raw(attempt);
            let curl = |raw: &String| -> Vec<String> {
                let of = |node: &Node| format!("{BODY} '{raw}' | {CURL} \"${}\"", node.variable);
                self.nodes.iter().map(of).collect()
            };
            json!({ "attempt": number, "kind": attempt.kind.name(), "txHash": attempt.tx_hash.to_string(),
                "gasPrice": attempt.fee.price().to_string(),
                "answer": attempt.sent.as_ref().map(|sent| sent.answer.class.name()),
                "explorer": self.transaction_page(attempt), "raw": raw, "curl": raw.as_ref().map(curl) })
        });
        let nodes = self.nodes.iter().map(|Node { name, variable }| json!({ "name": name, "variable": variable }));
        let behind = |Ahead { nonce, id }: &Ahead| json!({ "nonce": nonce.0, "requestId": id.as_str() });
        let waits = |cause: WaitCause| json!({ "code": cause.code(), "message": cause.meaning() });
        json!({
            "requestId": record.request_id.as_str(),
            "status": record.phase.name(),
            "account": record.account.to_string(),
            "name": record.name.to_string(),
            "chainId": place.chain.chain_id,
            "nonce": record.nonce.0,
            "waitingFor": record.waiting.map(|waiting| waits(waiting.cause)),
            "behind": place.ahead.as_ref().map(behind),
            "paused": place.is_paused,
            "explorer": self.account_page(),
            "nodes": nodes.collect::<Vec<_>>(),
            "attempts": attempts.collect::<Vec<_>>(),
            "bump": self.bump.as_ref().ok(),
            "noBump": self.bump.as_ref().err(),
            "cancel": self.cancel.as_ref().ok(),
            "noCancel": self.cancel.as_ref().err(),
        })
    }
}

/// `BscScan` for the two networks that it serves.
fn explorer_of(chain_id: u64) -> Option<String> {
    match chain_id {
        56 => Some("https://bscscan.com".to_owned()),
        97 => Some("https://testnet.bscscan.com".to_owned()),
        _ => None,
    }
}

fn command(place: &Place<'_>, words: &str) -> String {
    match place.config {
        Some(path) => format!("{words} --config '{}'", path.display().to_string().replace('\'', r"'\''")),
        None => words.to_owned(),
    }
}

/// The lowest price of the next attempt, or the reason why it cannot be signed.
fn bump_price(record: &Record) -> Result<Wei, String> {
    let last = bump::newest(record).map_err(|error| error.to_string())?;
    let price = fees::least_bump(last.fee.price()).ok_or("its price cannot be raised further")?;
    bump::raised(record, last, price).map(|_| price).map_err(|error| error.to_string())
}

fn not_cancelled(record: &Record) -> Result<(), String> {
    let id = &record.request_id;
    match (&record.phase, &record.cancel) {
        (Phase::Settled(_), _) => Err(format!("{id} has its outcome: {}", record.phase.name())),
        (Phase::Mined(_), _) => Err(format!("{id} is already mined and waits for finality")),
        (Phase::Reserved | Phase::Signed | Phase::Sent, Some(cause)) => {
            Err(format!("a cancel is already requested ({})", cause.name()))
        }
        (Phase::Reserved | Phase::Signed | Phase::Sent, None) => Ok(()),
    }
}

fn meaning(cause: WaitCause) -> String {
    format!("{cause}: {}", cause.meaning())
}

fn what(attempt: &Attempt) -> String {
    match attempt.kind {
        AttemptKind::Execute => "executes the request".to_owned(),
        AttemptKind::Cancel => format!("cancels it, {} from the account to itself", amount::wei(attempt.to_self)),
    }
}

fn answer(attempt: &Attempt) -> String {
    match &attempt.sent {
        None => "not sent to a node yet, as far as is known".to_owned(),
        Some(sent) if sent.answer.message.is_empty() => format!("last answer: {}", sent.answer.class.name()),
        Some(sent) => format!("last answer: {} (\"{}\")", sent.answer.class.name(), sent.answer.message),
    }
}

#[cfg(test)]
mod tests;
