//! Sends from a pool of accounts: many keys share the requests, for more throughput than one key's lane allows.
//!
//! The policy lists the accounts of a pool (`[pool.NAME]`). The service picks one for each request, by a hash of its
//! id, and keeps to it for ever: a request that is sent twice finds its record and is not given to a second account.
//! There is no order between the requests of a pool.
//!
//! ```sh
//! signpost dev --account hot --account hot-2 --account hot-3    # `pool:all` has all of them
//! cargo run -p signpost-client --example pool -- batch-1
//! ```
//!
//! The argument: a name for this batch, the first part of its requests' ids.
#![allow(clippy::print_stdout, reason = "an example prints what it got")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use signpost_client::{AccountRef, Request, RequestId, Wei};

const COUNT: u32 = 12;
const PATIENCE: Duration = Duration::from_mins(2);

#[tokio::main]
async fn main() -> support::Done {
    let batch = std::env::args().nth(1).ok_or("usage: pool BATCH")?;
    let signpost = support::client(&support::aws().await)?;

    let pool = AccountRef::Pool("all".parse()?);
    let to = "0x55d398326f99059fF775485246999027B3197955".parse()?;
    let ids = (1..=COUNT).map(|at| format!("{batch}-{at}").parse()).collect::<Result<Vec<RequestId>, _>>()?;
    let requests = ids
        .iter()
        .map(|id| Request::call(id.clone(), to, 21_000).account(pool.clone()).value(Wei::from(1_000)).build())
        .collect::<Result<Vec<_>, _>>()?;
    // On a FIFO queue each request of a pool gets a message group of its own, so that none waits for another.
    for (id, sent) in ids.iter().zip(signpost.send_all(&requests).await) {
        if let Err(error) = sent {
            println!("{id}: {error}; send it again, it is safe");
        }
    }

    let mut by_account: BTreeMap<String, BTreeMap<&str, u32>> = BTreeMap::new();
    for id in &ids {
        let settled = signpost.wait(id, PATIENCE).await?;
        let from = settled.from.unwrap_or_else(|| "no account".to_owned());
        let count = by_account.entry(from).or_default().entry(settled.status.as_str()).or_default();
        *count = count.saturating_add(1);
    }
    for (account, statuses) in by_account {
        for (status, count) in statuses {
            println!("{account} {status} {count}");
        }
    }
    Ok(())
}
