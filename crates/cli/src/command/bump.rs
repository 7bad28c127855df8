//! `signpost bump`: asks the signer for another attempt of a stuck request at a higher price.
//!
//! Uses the resign queue, as the broadcaster does. The signer applies the same rules: the next attempt is at least a
//! tenth higher in price, within the request's cap and the current policy, and stored before it is sent. A bump does
//! not change the cap: it limits operators too.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use signpost_aws::store::DynamoStore;
use signpost_txmgr::fees;
use signpost_txmgr::ports::{ResignQueue as _, Store as _};
use signpost_txmgr::record::{Attempt, AttemptKind, Phase, Record, Stored};
use signpost_txmgr::tx::Fee;
use signpost_txmgr::units::{RequestId, Wei};
use signpost_txmgr::wire::{SignerPoke, WireFee};

use super::confirm::Yes;
use super::registered::of_our_chain;
use super::{CommandError, ConfigOption, request_id};
use crate::clock::{self, Stopwatch};
use crate::terminal::{say, say_json};
use crate::{amount, ports};

/// The pause between two reads of the record: signing takes some tens of milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  signpost bump invoice-4711 --max-gas-price 2000000000
  signpost bump invoice-4711 --max-gas-price 2000000000 --yes --json

Works on any request that is signed and not mined. The head of a lane is bumped automatically, by a tenth every ten
seconds. Nothing is signed above the request's cap (`feeCap`: its `maxGasPrice`, or the policy's cap when it was
accepted). In that case run `signpost cancel ID`, which may use the policy's current cap, and send the request again
under another id. Both fields of a type 2 price are raised.";

/// `signpost bump`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Id of the request
    #[arg(value_name = "ID")]
    id: String,
    /// The new price, in wei per gas
    #[arg(long, value_name = "WEI")]
    max_gas_price: String,
    /// How long to wait for the new attempt to be stored
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
    #[command(flatten)]
    yes: Yes,
    /// One JSON line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let id = request_id(&arguments.id)?;
    let given = &arguments.max_gas_price;
    let price: Wei = given.parse().map_err(|error| {
        CommandError::Input(format!("--max-gas-price {given} is not a valid amount of wei: it {error}"))
    })?;
    let session = arguments.config.open().await?;
    let store = ports::store(&session);
    let record = load(&store, &id).await?;
    of_our_chain(&session, &record.account)?;
    let head = store.head(&record.account).await?;
    if head.is_none_or(|head| head.paused) {
        let text =
            format!("{} is paused and signs nothing; `signpost account resume {}` first", record.name, record.name);
        return Err(CommandError::Input(text));
    }
    let last = newest(&record)?;
    let fee = raised(&record, last, price)?;
    let (number, kind) = (record.attempts.len(), record.next_kind());
    arguments.yes.or_ask(&format!(
        "{id} (nonce {}) gets attempt {number}: {} at {} instead of {}; a signature cannot be revoked.",
        record.nonce,
        kind.name(),
        amount::price(fee.price()),
        amount::price(last.fee.price())
    ))?;
    let poke = SignerPoke {
        account: record.account.to_string(),
        request_id: id.to_string(),
        attempt: number,
        kind: kind.into(),
        fee: Some(WireFee::from(&fee)),
        to_self: 0,
        cause: format!("an operator asked at {}", clock::now()),
    };
    ports::resign_queue(&session).poke_signer(&[poke]).await?;
    let timeout = Duration::from_secs(arguments.wait);
    let Some(attempt) = stored_attempt(&store, &id, number, timeout).await? else {
        let hint = "the policy may refuse the price (see the signer's log), or no signer is running";
        return Err(CommandError::Unknown(format!("no attempt {number} of {id} after {} s: {hint}", arguments.wait)));
    };
    let (hash, price) = (attempt.tx_hash, attempt.fee.price());
    if arguments.json {
        let line = json!({ "requestId": id.as_str(), "attempt": number, "kind": kind.name(),
            "txHash": hash.to_string(), "gasPrice": price.to_string() });
        say_json(&line);
    } else {
        say(format!("{id}: attempt {number} is signed at {}: {hash}", amount::price(price)));
        say(format!("see: signpost status {id} --watch"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn load(store: &DynamoStore, id: &RequestId) -> Result<Record, CommandError> {
    match store.load(std::slice::from_ref(id), clock::now()).await?.into_iter().next() {
        Some(Stored::Record(record)) => Ok(*record),
        Some(Stored::Rejected(_)) => {
            Err(CommandError::Input(format!("{id} was rejected and never signed; see `signpost status {id}`")))
        }
        None => Err(CommandError::Unknown(format!("no request {id}; see `signpost requests list`"))),
    }
}

/// The attempt that a bump replaces.
pub(super) fn newest(record: &Record) -> Result<&Attempt, CommandError> {
    let (id, input) = (&record.request_id, |text: String| Err(CommandError::Input(text)));
    match record.phase {
        Phase::Reserved => input(format!("{id} is not signed yet; it will be signed at its own price")),
        Phase::Mined(_) => input(format!("{id} is already mined and waits for finality")),
        Phase::Settled(_) => input(format!("{id} has its outcome: {}", record.phase.name())),
        Phase::Signed | Phase::Sent => match record.attempts.last() {
            Some(last) => Ok(last),
            None => input(format!("{id} has no attempt; see `signpost audit`")),
        },
    }
}

/// The price of the next attempt, or the reason for which the signer would refuse it.
pub(super) fn raised(record: &Record, last: &Attempt, price: Wei) -> Result<Fee, CommandError> {
    let kind = record.next_kind();
    if kind == AttemptKind::Execute && price > record.fee_cap {
        let (id, cap) = (&record.request_id, record.fee_cap);
        let hint = format!("`signpost cancel {id}` frees the slot");
        return Err(CommandError::Input(format!(
            "{price} is above the cap of {id}, which is {cap} wei per gas; {hint}"
        )));
    }
    if record.attempts.len() >= Record::max_attempts(kind) {
        let text =
            format!("{} has reached the attempt limit of a slot; `signpost cancel` still has some", record.request_id);
        return Err(CommandError::Input(text));
    }
    fees::bump(last.fee, Some(price), price).ok_or_else(|| {
        let needed = fees::least_bump(last.fee.price()).map_or_else(|| "more".to_owned(), |wei| wei.to_string());
        CommandError::Input(format!(
            "{price} replaces nothing: nodes require at least {needed} wei per gas, a tenth more"
        ))
    })
}

/// The attempt once it is stored.
async fn stored_attempt(
    store: &DynamoStore,
    id: &RequestId,
    number: usize,
    timeout: Duration,
) -> Result<Option<Attempt>, CommandError> {
    let waited = Stopwatch::start();
    loop {
        if let Some(attempt) = load(store, id).await?.attempts.get(number) {
            return Ok(Some(attempt.clone()));
        }
        if waited.elapsed() >= timeout {
            return Ok(None);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
