//! `signpost submit`: sends requests to the signing queue, as any SQS client would.
//!
//! Sending again is harmless: the request id is the idempotency key. Does not wait for anything but
//! the queue; how a request stands is what `signpost status` shows.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use serde_json::{Map, Value, json};
use signpost_txmgr::request::Message;
use signpost_txmgr::units::sha256;

use super::{CommandError, ConfigOption};
use crate::config::is_fifo;
use crate::terminal::{remark, say};
use crate::{aws, clock};

/// Messages of one `SendMessageBatch`, the most SQS takes.
const BATCH_MAX: usize = 10;
/// Bytes of one `SendMessageBatch` that every SQS takes.
const BATCH_BYTES_MAX: usize = 262_144;
/// Group of requests that name no account: they all mean the same one.
const NO_ACCOUNT: &str = "-";

const EXAMPLES: &str = "\
Examples:
  signpost submit --to 0x00000000000000000000000000000000000000aa --value 1000000000 --gas 21000
  signpost submit --id invoice-4711 --account hot --to 0x55d3…7955 --data 0xa9059cbb… --gas 60000
  signpost submit --file request.json
  jq -c '.[]' requests.json | signpost submit

Numbers are decimal or 0x-hex; amounts are wei. The same id may be sent as often as you like: it is
executed once.";

/// `signpost submit`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Your name for the request, and its idempotency key; without it one is made up
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Account to sign with; may be left out where only one is registered
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Recipient
    #[arg(long, value_name = "ADDRESS", conflicts_with = "create")]
    to: Option<String>,
    /// Create a contract: no recipient, `--data` is its init code
    #[arg(long)]
    create: bool,
    /// Coins to move, in wei
    #[arg(long, value_name = "WEI")]
    value: Option<String>,
    /// Calldata or init code, 0x-hex
    #[arg(long, value_name = "HEX")]
    data: Option<String>,
    /// Gas limit
    #[arg(long, value_name = "GAS")]
    gas: Option<String>,
    /// Wei per gas; without a price the account's configured one is taken
    #[arg(long, value_name = "WEI", conflicts_with_all = ["max_fee_per_gas", "max_priority_fee_per_gas"])]
    gas_price: Option<String>,
    /// Wei per gas (type 2)
    #[arg(long, value_name = "WEI", requires = "max_priority_fee_per_gas")]
    max_fee_per_gas: Option<String>,
    /// Wei per gas (type 2)
    #[arg(long, value_name = "WEI", requires = "max_fee_per_gas")]
    max_priority_fee_per_gas: Option<String>,
    /// No attempt may pay more, in wei per gas
    #[arg(long, value_name = "WEI")]
    max_gas_price: Option<String>,
    /// Unix time in seconds after which the request is cancelled unless mined
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<String>,
    /// The chain you mean; refused if it is another
    #[arg(long, value_name = "ID")]
    chain_id: Option<String>,
    /// JSON object to find again in the outcome
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// A file with the request as JSON, instead of options
    #[arg(long, value_name = "FILE", conflicts_with_all = ["to", "create", "value", "data", "gas"])]
    file: Option<PathBuf>,
    /// Send what the signer would refuse by its form, to see how it does
    #[arg(long)]
    unchecked: bool,
    /// One JSON line per request on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let bodies = bodies(&arguments)?;
    if !arguments.unchecked {
        check(&bodies)?;
    }
    let session = arguments.config.open().await?;
    let sqs = aws_sdk_sqs::Client::new(&session.sdk);
    let queue = &session.config.queues.signing_url;
    let mut refused = false;
    for batch in batches(&bodies) {
        for (body, sent) in batch.iter().zip(send(&sqs, queue, batch).await?) {
            refused |= sent.is_err();
            show(body, &sent, arguments.json);
        }
    }
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(body: &str, sent: &Result<String, String>, as_json: bool) {
    let id = field(body, "requestId").unwrap_or_else(|| "(without id)".to_owned());
    match sent {
        Ok(message_id) if as_json => say(json!({ "requestId": id, "messageId": message_id }).to_string()),
        Ok(_) => say(format!("sent {id}")),
        Err(reason) if as_json => say(json!({ "requestId": id, "error": reason }).to_string()),
        Err(reason) => remark(format!("not sent {id}: {reason}")),
    }
}

/// Reads the requests as the signer will. If it would refuse one, none is sent: what was mistyped
/// needs no round trip, and what looks like a secret does not get into a queue.
fn check(bodies: &[String]) -> Result<(), CommandError> {
    let problems: Vec<String> = bodies
        .iter()
        .zip(1_usize..)
        .filter_map(|(body, place)| {
            let refused = Message::parse(body).err()?;
            Some(format!("request {place}: {}: {refused}", refused.code.as_str()))
        })
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    let way_out = "nothing was sent; mend it, or send it all the same with --unchecked";
    Err(CommandError::Input(format!("{}\n{way_out}", problems.join("\n"))))
}

/// The bodies of the messages, by options, file or stdin.
fn bodies(arguments: &Arguments) -> Result<Vec<String>, CommandError> {
    if let Some(path) = &arguments.file {
        let text = std::fs::read_to_string(path).map_err(|source| CommandError::File { path: path.clone(), source })?;
        return Ok(vec![text]);
    }
    if arguments.to.is_some() || arguments.create {
        return Ok(vec![body_of(arguments)?]);
    }
    let stdin = io::stdin();
    if stdin.is_terminal() {
        let way_out = "nothing to send: give --to (or --create), or --file, or JSON lines on stdin; see --help";
        return Err(CommandError::Input(way_out.to_owned()));
    }
    let lines: Result<Vec<String>, _> = stdin.lock().lines().collect();
    let lines = lines.map_err(|source| CommandError::File { path: "stdin".into(), source })?;
    let bodies: Vec<String> = lines.into_iter().filter(|line| !line.trim().is_empty()).collect();
    if bodies.is_empty() {
        return Err(CommandError::Input("stdin had no request; give one JSON object per line".to_owned()));
    }
    Ok(bodies)
}

fn body_of(arguments: &Arguments) -> Result<String, CommandError> {
    let id = arguments.id.clone().unwrap_or_else(|| format!("cli-{}-{}", clock::now_ms(), std::process::id()));
    let mut body = Map::new();
    body.insert("requestId".to_owned(), Value::String(id));
    let texts = [
        ("account", &arguments.account),
        ("to", &arguments.to),
        ("value", &arguments.value),
        ("data", &arguments.data),
        ("gas", &arguments.gas),
        ("gasPrice", &arguments.gas_price),
        ("maxFeePerGas", &arguments.max_fee_per_gas),
        ("maxPriorityFeePerGas", &arguments.max_priority_fee_per_gas),
        ("maxGasPrice", &arguments.max_gas_price),
        ("deadline", &arguments.deadline),
        ("chainId", &arguments.chain_id),
    ];
    for (name, value) in texts {
        body.extend(value.clone().map(|value| (name.to_owned(), Value::String(value))));
    }
    if arguments.create {
        body.insert("to".to_owned(), Value::Null);
    }
    if let Some(text) = &arguments.metadata {
        let metadata = serde_json::from_str(text)
            .map_err(|error| CommandError::Input(format!("--metadata is not JSON: {error}")))?;
        body.insert("metadata".to_owned(), metadata);
    }
    Ok(Value::Object(body).to_string())
}

/// Splits messages into what one call takes, keeping their order.
pub fn batches(bodies: &[String]) -> Vec<&[String]> {
    let mut batches = Vec::new();
    let mut rest = bodies;
    while !rest.is_empty() {
        let mut bytes = 0_usize;
        let fitting = rest.iter().take(BATCH_MAX).take_while(|body| {
            bytes = bytes.saturating_add(body.len());
            bytes <= BATCH_BYTES_MAX
        });
        // A message that is too large by itself goes alone: SQS will say so.
        let (batch, after) = rest.split_at(fitting.count().max(1));
        batches.push(batch);
        rest = after;
    }
    batches
}

/// Sends one batch; for each message its id, or why SQS did not take it.
pub async fn send(
    sqs: &aws_sdk_sqs::Client,
    queue: &str,
    batch: &[String],
) -> Result<Vec<Result<String, String>>, CommandError> {
    send_in(sqs, queue, batch, None).await
}

/// Sends one batch, in this FIFO group where the bodies name none.
pub async fn send_in(
    sqs: &aws_sdk_sqs::Client,
    queue: &str,
    batch: &[String],
    group: Option<&str>,
) -> Result<Vec<Result<String, String>>, CommandError> {
    let mut call = sqs.send_message_batch().queue_url(queue);
    for (at, body) in batch.iter().enumerate() {
        let mut entry = SendMessageBatchRequestEntry::builder().id(at.to_string()).message_body(body);
        if is_fifo(queue) {
            // The same body within five minutes is the same message; the request id guards beyond.
            entry = entry
                .message_group_id(field(body, "account").unwrap_or_else(|| group.unwrap_or(NO_ACCOUNT).to_owned()))
                .message_deduplication_id(hex::encode(sha256(body.as_bytes())));
        }
        call = call.entries(entry.build().expect("id and body are set"));
    }
    let answer = call
        .send()
        .await
        .map_err(|error| CommandError::Aws { operation: "SendMessageBatch", reason: aws::reason(&error) })?;
    let lost = || Err("SQS said nothing about it; send it again".to_owned());
    let mut sent: Vec<Result<String, String>> = batch.iter().map(|_| lost()).collect();
    let mut note = |id: &str, result: Result<String, String>| {
        if let Some(slot) = id.parse().ok().and_then(|at: usize| sent.get_mut(at)) {
            *slot = result;
        }
    };
    for entry in answer.successful {
        note(&entry.id, Ok(entry.message_id));
    }
    for entry in answer.failed {
        note(&entry.id, Err(format!("{}: {}", entry.code, entry.message.unwrap_or_default())));
    }
    Ok(sent)
}

/// A text field of a body, if the body is a JSON object that has it.
fn field(body: &str, name: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    body.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        let command = Arguments::augment_args(clap::Command::new("submit").no_binary_name(true));
        Arguments::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    #[test]
    fn options_become_the_body_of_a_request() {
        let arguments = ["--id", "a-1", "--to", "0xaa", "--value", "7", "--gas", "21000", "--metadata", "{\"n\":1}"];
        let body: Value = serde_json::from_str(&body_of(&parsed(&arguments).unwrap()).unwrap()).unwrap();
        let expected =
            json!({ "requestId": "a-1", "to": "0xaa", "value": "7", "gas": "21000", "metadata": { "n": 1 } });
        assert_eq!(body, expected);
    }

    #[test]
    fn a_creation_says_explicitly_that_it_has_no_recipient() {
        let body = body_of(&parsed(&["--id", "a-1", "--create", "--data", "0x00"]).unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["to"], Value::Null);
        assert!(body.contains("\"to\":null"), "{body}");
        assert!(parsed(&["--create", "--to", "0xaa"]).is_err());
    }

    #[test]
    fn metadata_that_is_not_json_is_an_error() {
        assert!(body_of(&parsed(&["--to", "0xaa", "--metadata", "{"]).unwrap()).is_err());
    }

    #[test]
    fn what_the_signer_would_refuse_is_not_sent() {
        let good =
            body_of(&parsed(&["--id", "a-1", "--to", &format!("0x{:040}", 1), "--gas", "21000"]).unwrap()).unwrap();
        assert!(check(std::slice::from_ref(&good)).is_ok());
        let told = check(&[good, "{\"privateKey\":\"0xabc\"}".to_owned()]).unwrap_err().to_string();
        assert!(told.contains("request 2:") && told.contains("--unchecked"), "{told}");
        assert!(!told.contains("0xabc"), "{told}");
    }

    #[test]
    fn batches_keep_the_order_and_the_limits() {
        let small: Vec<String> = (0..25).map(|at| at.to_string()).collect();
        let sizes: Vec<usize> = batches(&small).iter().map(|batch| batch.len()).collect();
        assert_eq!(sizes, [10, 10, 5]);
        assert_eq!(batches(&small).concat(), small);

        let large = vec!["x".repeat(200_000), "y".repeat(100_000), "z".repeat(300_000), "1".to_owned()];
        let sizes: Vec<usize> = batches(&large).iter().map(|batch| batch.len()).collect();
        assert_eq!(sizes, [1, 1, 1, 1]);
        assert_eq!(batches(&large).concat(), large);
    }
}
