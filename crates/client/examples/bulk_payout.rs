//! Pays a list of recipients from a CSV file, each exactly once, however often it is run.
//!
//! The file names each payout by an id of your own (an invoice, a ledger entry: never the number of the row), and the
//! request's id is made of it. So a second run, a run after a crash in the middle, and two runs at the same time all
//! ask for the same requests, and the service executes a request id at most once.
//!
//! ```sh
//! signpost dev                      # in another terminal; it prints the variables to export
//! printf '%s\n' id,to,bnb invoice-1,0x55d398326f99059fF775485246999027B3197955,0.001 > payouts.csv
//! cargo run -p signpost-client --example bulk_payout -- payouts.csv
//! ```
//!
//! The arguments: the file, and the account (`hot` if left out, `pool:NAME` for a pool). Nothing is sent if any row
//! is wrong. Exit code 0: every payout is confirmed; 1: see the last lines, correct the cause and run it again.
#![allow(clippy::print_stdout, reason = "an example prints what it did")]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use signpost_client::{AccountRef, Address, Body, Client, OutcomeMessage, Request, RequestId, Status, Wei};
use support::Done;

/// For all payouts together. A run that ends before they do is repeated.
const PATIENCE: Duration = Duration::from_mins(2);
const PAUSE: Duration = Duration::from_millis(500);
const WEI_DIGITS: usize = 18;

/// One row, with the request it asks for.
struct Payout {
    id: RequestId,
    to: Address,
    amount: Wei,
    request: Body,
    /// SQS's id of the message that this run sent for it, if it did.
    message: Option<String>,
    outcome: Option<OutcomeMessage>,
}

#[tokio::main]
async fn main() -> Done<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("usage: bulk_payout FILE.csv [ACCOUNT | pool:NAME]")?;
    let account = account(arguments.next().as_deref().unwrap_or("hot"))?;
    let mut payouts = match read(&file, &account)? {
        Ok(payouts) => payouts,
        Err(problems) => {
            println!("nothing is sent:\n{}", problems.join("\n"));
            return Ok(ExitCode::FAILURE);
        }
    };
    let signpost = support::client(&support::aws().await)?;
    let unknown = not_sent_yet(&signpost, &payouts).await?;
    send(&signpost, &mut payouts, &unknown).await;
    // What is not settled by then continues, and the next run finds it.
    let _ = tokio::time::timeout(PATIENCE, settle(&signpost, &mut payouts)).await;
    summary(&payouts)
}

fn account(text: &str) -> Done<AccountRef> {
    Ok(match text.strip_prefix(AccountRef::POOL) {
        Some(pool) => AccountRef::Pool(pool.parse()?),
        None => AccountRef::Name(text.parse()?),
    })
}

/// All rows, or all problems: a file that is half right is not paid by half.
fn read(file: &str, account: &AccountRef) -> Done<Result<Vec<Payout>, Vec<String>>> {
    let mut rows = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(file)?;
    if rows.headers()? != ["id", "to", "bnb"].as_slice() {
        return Err(format!("{file}: the first line must be id,to,bnb").into());
    }
    let (mut payouts, mut problems, mut ids) = (Vec::new(), Vec::new(), HashSet::new());
    for (row, line) in rows.records().zip(2_u32..) {
        match row.map_err(Into::into).and_then(|row| payout(&row, account)) {
            Ok(payout) if !ids.insert(payout.id.clone()) => {
                problems.push(format!("line {line}: {} is there twice", payout.id));
            }
            Ok(payout) => payouts.push(payout),
            Err(error) => problems.push(format!("line {line}: {error}")),
        }
    }
    Ok(if problems.is_empty() { Ok(payouts) } else { Err(problems) })
}

fn payout(row: &csv::StringRecord, account: &AccountRef) -> Result<Payout, Box<dyn Error>> {
    let field = |at| row.get(at).unwrap_or_default();
    let id: RequestId = format!("payout-{}", field(0)).parse()?;
    let to: Address = field(1).parse()?;
    let amount = wei(field(2)).ok_or_else(|| format!("{:?} is not an amount of BNB", field(2)))?;
    let request = Request::call(id.clone(), to, 21_000).account(account.clone()).value(amount).build();
    let request = request.map_err(|refused| format!("{}: {}", refused.code.as_str(), refused.message))?;
    Ok(Payout { id, to, amount, request, message: None, outcome: None })
}

/// The places of the payouts to send: those that have no record, and those that were rejected, because a request that
/// was rejected never got a nonce. An id whose record says something else stops the run.
async fn not_sent_yet(signpost: &Client, payouts: &[Payout]) -> Done<Vec<usize>> {
    let mut places = Vec::new();
    for (place, payout) in payouts.iter().enumerate() {
        let Some(known) = signpost.status(&payout.id).await? else {
            places.push(place);
            continue;
        };
        if known.status == Status::Rejected {
            places.push(place);
        } else if known.to != Some(payout.to.to_string()) || known.value != Some(payout.amount.to_string()) {
            return Err(format!("{} was used for another payout; nothing is sent", payout.id).into());
        }
    }
    Ok(places)
}

async fn send(signpost: &Client, payouts: &mut [Payout], places: &[usize]) {
    let requests: Vec<Body> = places.iter().map(|place| payouts[*place].request.clone()).collect();
    for (place, sent) in places.iter().zip(signpost.send_all(&requests).await) {
        match sent {
            Ok(message) => payouts[*place].message = Some(message),
            Err(error) => println!("{}: {error}; run it again", payouts[*place].id),
        }
    }
    println!("{} payouts, {} sent by this run", payouts.len(), places.len());
}

/// Looks at each payout until it has its outcome. What was rejected before is answered anew by this run's message.
async fn settle(signpost: &Client, payouts: &mut [Payout]) -> Done {
    while payouts.iter().any(|payout| payout.outcome.is_none()) {
        for payout in payouts.iter_mut().filter(|payout| payout.outcome.is_none()) {
            // A read that fails is tried again.
            payout.outcome = match &payout.message {
                Some(message) => signpost.answer_to(&payout.id, message).await,
                None => signpost.outcome(&payout.id).await,
            }
            .unwrap_or_default();
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

fn summary(payouts: &[Payout]) -> Done<ExitCode> {
    let mut totals: BTreeMap<&str, (u32, Wei)> = BTreeMap::new();
    for payout in payouts {
        let status = payout.outcome.as_ref().map_or("open", |outcome| outcome.status.as_str());
        let (count, total) = totals.entry(status).or_insert((0, Wei::ZERO));
        *count = count.saturating_add(1);
        *total = Wei(total.0.checked_add(payout.amount.0).ok_or("the amounts are larger than any chain has")?);
        let tx_hash = payout.outcome.as_ref().and_then(|outcome| outcome.tx_hash.as_deref()).unwrap_or("-");
        println!("{} {status} {} BNB {tx_hash}", payout.id, bnb(payout.amount));
        if let Some(reason) = payout.outcome.as_ref().and_then(|outcome| outcome.reason.as_ref()) {
            println!("  {}: {}", reason.code, reason.message);
        }
    }
    for (status, (count, total)) in &totals {
        println!("{status}: {count}, {} BNB", bnb(*total));
    }
    let all_confirmed = totals.keys().all(|status| *status == Status::Confirmed.as_str());
    Ok(if all_confirmed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Decimal BNB as wei, exactly: no floating point near money.
fn wei(bnb: &str) -> Option<Wei> {
    let (whole, part) = bnb.split_once('.').unwrap_or((bnb, ""));
    if whole.is_empty() || part.len() > WEI_DIGITS {
        return None;
    }
    format!("{whole}{part:0<WEI_DIGITS$}").parse().ok()
}

fn bnb(wei: Wei) -> String {
    let digits = format!("{:0>19}", wei.to_string());
    let (whole, part) = digits.split_at(digits.len().saturating_sub(WEI_DIGITS));
    format!("{whole}.{part}").trim_end_matches('0').trim_end_matches('.').to_owned()
}
