//! Cancels a request, and finds out whether the cancel was in time.
//!
//! A cancel is a request like any other: it promises nothing. The outcome is decided by the transaction that a
//! finalized block has at the request's nonce: `cancelled` if that is a transfer of the account to itself, `confirmed`
//! or `reverted` if the request was faster. In both cases there is one outcome, and it is final.
//!
//! ```sh
//! signpost dev                      # in another terminal; it prints the variables to export
//! cargo run -p signpost-client --example cancel -- cancel-1
//! ```
//!
//! The arguments: the request's id (each run needs a new one), and the account (`hot` if left out).
#![allow(clippy::print_stdout, reason = "an example prints what it got")]

mod support;

use std::time::Duration;

use signpost_client::{AccountName, Body, Request, RequestId, Status, Wei};

const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::main]
async fn main() -> support::Done {
    let mut arguments = std::env::args().skip(1);
    let id: RequestId = arguments.next().ok_or("usage: cancel ID [ACCOUNT]")?.parse()?;
    let account: AccountName = arguments.next().as_deref().unwrap_or("hot").parse()?;
    let signpost = support::client(&support::aws().await)?;

    // In the message group of its request a cancel cannot overtake it. Both go out in one call here, because a block
    // takes half a second: usually a cancel is sent later, or `Request::deadline` makes it unnecessary.
    let to = "0x55d398326f99059fF775485246999027B3197955".parse()?;
    let request = Request::call(id.clone(), to, 21_000).account(account.clone()).value(Wei::from(1_000)).build()?;
    let cancel = Body::cancel(&id).in_group(account.as_str());
    let sent = signpost.send_all(&[request, cancel]).await;
    let messages = sent.into_iter().collect::<Result<Vec<_>, _>>()?;

    let settled = signpost.wait(&id, PATIENCE).await?;
    let tx_hash = settled.tx_hash.unwrap_or_default();
    match settled.status {
        Status::Cancelled => println!("{id} cancelled: the account paid itself at this nonce, {tx_hash}"),
        Status::Confirmed | Status::Reverted => {
            println!("{id} {}: the cancel came too late, {tx_hash}", settled.status.as_str());
        }
        Status::Displaced | Status::Rejected => {
            println!("{id} {}: {:?}", settled.status.as_str(), settled.reason);
        }
        Status::Reserved | Status::Signed | Status::Sent | Status::Mined => unreachable!("`wait` ends with an outcome"),
    }

    // A cancel that was refused has an outcome of its own, under its message's id: whoever sends it must be the sender
    // of the request or be listed in the policy's `cancel_senders`.
    if let Some(message) = messages.last()
        && let Some(refused) = signpost.outcome(&RequestId::of_message(message)?).await?
    {
        println!("the cancel was refused: {:?}", refused.reason);
    }
    Ok(())
}
