//! `signpost submit`: sends requests to the signing queue, as any SQS client would.
//!
//! Sending again is harmless: the request id is the idempotency key. Waits for the queue only; `signpost status` shows
//! the status of a request.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value, json};
use signpost_client::{Body, NotSent};

use super::{CommandError, ConfigOption};
use crate::terminal::{remark, say, say_json};
use crate::{aws, clock, ports};

const EXAMPLES: &str = "\
Examples:
  signpost submit --to 0x00000000000000000000000000000000000000aa --value 1000000000 --gas 21000
  signpost submit --id invoice-4711 --account hot --to 0x55d3…7955 --data 0xa9059cbb… --gas 60000
  signpost submit --file request.json
  jq -c '.[]' requests.json | signpost submit

Numbers are decimal or 0x-hex; amounts are in wei. The same id may be sent any number of times: it is executed once.";

/// `signpost submit`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Request id, which is the idempotency key [default: a generated id]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Account to sign with; optional if only one is registered
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Recipient address
    #[arg(long, value_name = "ADDRESS", conflicts_with = "create")]
    to: Option<String>,
    /// Create a contract: no recipient; `--data` is the init code
    #[arg(long)]
    create: bool,
    /// BNB to transfer, in wei
    #[arg(long, value_name = "WEI")]
    value: Option<String>,
    /// Calldata or init code, 0x-hex
    #[arg(long, value_name = "HEX")]
    data: Option<String>,
    /// Gas limit
    #[arg(long, value_name = "GAS")]
    gas: Option<String>,
    /// Gas price (type 0) [default: the account's configured price, or the network's]
    #[arg(long, value_name = "WEI", conflicts_with_all = ["max_fee_per_gas", "max_priority_fee_per_gas"])]
    gas_price: Option<String>,
    /// Maximum fee per gas (type 2)
    #[arg(long, value_name = "WEI", requires = "max_priority_fee_per_gas")]
    max_fee_per_gas: Option<String>,
    /// Maximum priority fee per gas (type 2)
    #[arg(long, value_name = "WEI", requires = "max_fee_per_gas")]
    max_priority_fee_per_gas: Option<String>,
    /// Price cap of every attempt, per gas
    #[arg(long, value_name = "WEI")]
    max_gas_price: Option<String>,
    /// Unix time in seconds after which the request is cancelled if it is not mined
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<String>,
    /// Expected chain id; the request is rejected on another chain
    #[arg(long, value_name = "ID")]
    chain_id: Option<String>,
    /// JSON object that is copied into the outcome
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// File with the request as JSON, instead of options
    #[arg(long, value_name = "FILE", conflicts_with_all = ["to", "create", "value", "data", "gas"])]
    file: Option<PathBuf>,
    /// Send a request that the signer would reject as malformed, to see the rejection
    #[arg(long)]
    unchecked: bool,
    /// One JSON line per request
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let texts = bodies(&arguments)?;
    let bodies = if arguments.unchecked { texts.into_iter().map(Body::unchecked).collect() } else { checked(texts)? };
    let session = arguments.config.open().await?;
    let sent = ports::client(&session).send_all(&bodies).await;
    for (body, sent) in bodies.iter().zip(&sent) {
        show(body, sent, arguments.json);
    }
    Ok(if sent.iter().all(Result::is_ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(body: &Body, sent: &Result<String, NotSent>, as_json: bool) {
    let id = body.id().unwrap_or("(without id)");
    let reason = |error: &NotSent| match error {
        NotSent::Call(error) => aws::reason(error),
        NotSent::Refused { .. } | NotSent::Unanswered | NotSent::NotTried => error.to_string(),
    };
    match sent {
        Ok(message_id) if as_json => say_json(&json!({ "requestId": id, "messageId": message_id })),
        Ok(_) => say(format!("sent {id}")),
        Err(error) if as_json => say_json(&json!({ "requestId": id, "error": reason(error) })),
        Err(error) => remark(format!("not sent {id}: {}", reason(error))),
    }
}

/// Parses the requests as the signer does. If it would reject one, none is sent: a mistake needs no round trip, and
/// text that looks like a secret does not get into a queue.
fn checked(texts: Vec<String>) -> Result<Vec<Body>, CommandError> {
    let (mut bodies, mut problems) = (Vec::new(), Vec::new());
    for (text, place) in texts.into_iter().zip(1_usize..) {
        match Body::parse(text) {
            Ok(body) => bodies.push(body),
            Err(refused) => problems.push(format!("request {place}: {}: {refused}", refused.code.as_str())),
        }
    }
    if problems.is_empty() {
        return Ok(bodies);
    }
    let hint = "nothing was sent; fix it, or send it anyway with --unchecked";
    Err(CommandError::Input(format!("{}\n{hint}", problems.join("\n"))))
}

/// The bodies of the messages, from options, file or stdin.
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
        let text = "nothing to send: give --to (or --create), or --file, or JSON lines on stdin; see --help";
        return Err(CommandError::Input(text.to_owned()));
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

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        let command = Arguments::augment_args(clap::Command::new("submit").no_binary_name(true));
        Arguments::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    #[test]
    fn options_become_the_request_body() {
        let arguments = ["--id", "a-1", "--to", "0xaa", "--value", "7", "--gas", "21000", "--metadata", "{\"n\":1}"];
        let body: Value = serde_json::from_str(&body_of(&parsed(&arguments).unwrap()).unwrap()).unwrap();
        let expected =
            json!({ "requestId": "a-1", "to": "0xaa", "value": "7", "gas": "21000", "metadata": { "n": 1 } });
        assert_eq!(body, expected);
    }

    #[test]
    fn creation_has_an_explicit_null_recipient() {
        let body = body_of(&parsed(&["--id", "a-1", "--create", "--data", "0x00"]).unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["to"], Value::Null);
        assert!(body.contains("\"to\":null"), "{body}");
        assert!(parsed(&["--create", "--to", "0xaa"]).is_err());
    }

    #[test]
    fn metadata_must_be_json() {
        assert!(body_of(&parsed(&["--to", "0xaa", "--metadata", "{"]).unwrap()).is_err());
    }

    #[test]
    fn request_the_signer_would_reject_is_not_sent() {
        let good =
            body_of(&parsed(&["--id", "a-1", "--to", &format!("0x{:040}", 1), "--gas", "21000"]).unwrap()).unwrap();
        assert!(checked(vec![good.clone()]).is_ok());
        let text = checked(vec![good, "{\"privateKey\":\"0xabc\"}".to_owned()]).unwrap_err().to_string();
        assert!(text.contains("request 2:") && text.contains("--unchecked"), "{text}");
        assert!(!text.contains("0xabc"), "{text}");
    }
}
