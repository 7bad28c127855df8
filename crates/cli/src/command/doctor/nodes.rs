//! The nodes, each asked alone, and the clocks. What they say of the chain's rules is in `rules`.

use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};
use signpost_bsc::{BscChain, BscConfig};
use signpost_txmgr::ports::Finality;
use signpost_txmgr::ports::{Chain as _, ChainView, ViewQuery};
use signpost_txmgr::units::{Address, ChainId, Nonce, Wei};

use super::{Checks, rules};
use crate::clock::{self, Stopwatch};
use crate::command::{Session, told};
use crate::world;

/// BSC finalizes two blocks behind its newest; this is half a minute.
const FINALITY_LAG_MAX: u64 = 67;
/// Blocks behind another node: what the broadcaster reads from last.
const LAG_MAX: u64 = 10;
/// AWS refuses signatures five minutes off; deadlines are meant to the second.
const SKEW_LOOK_MS: u64 = 5_000;
const SKEW_MAX_MS: u64 = 60_000;
/// A view takes two or three requests; above this every round is late.
const SLOW_MS: u128 = 1_000;

/// Chain id, height, finality, price of each node; private endpoints cannot be asked.
pub(super) async fn check(session: &Session, checks: &mut Checks) {
    // The whole list as it is configured: also installs what TLS needs.
    let nodes = match world::chain(session) {
        Ok(nodes) => nodes,
        Err(error) => {
            checks.problem("nodes", told(&error), "correct [chain] in the configuration");
            return;
        }
    };
    let chain = &session.config.chain;
    let (chain_id, now_s) = (ChainId(chain.chain_id), clock::now_ms() / 1_000);
    let mut heights = Vec::new();
    for (number, url) in (1_u32..).zip(&chain.rpc_urls) {
        let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
        let node = format!("node {number} ({})", host.unwrap_or_else(|| "?".to_owned()));
        // Its host alone is named: a path or a parameter may be a key.
        match ask(chain_id, chain.finality, url).await {
            Ok((alone, view, took_ms)) => {
                heights.push((node.clone(), view.latest.number.0));
                judge(session, &node, &view, took_ms, checks);
                rules::node(&node, &alone, chain_id, now_s, checks).await;
            }
            Err(found) => {
                let todo =
                    "see that it runs and is of the configured chain; without any node nothing is sent or settled";
                checks.problem(node, found, todo);
            }
        }
    }
    let is_silent = heights.is_empty();
    let highest = heights.iter().map(|(_, height)| *height).max().unwrap_or(0);
    for (node, height) in heights {
        let behind = highest.saturating_sub(height);
        if behind > LAG_MAX {
            checks.look(node, format!("{behind} blocks behind another"), "it is read from last until it is up to date");
        }
    }
    if let Some(private) = &chain.private {
        let count = private.endpoints.len();
        checks.look("private endpoints", format!("{count}, not asked: they only take transactions"), "");
    }
    for host in chain.in_the_clear() {
        let todo = "whoever is on the way can read a key in its URL and change what it says: give an https:// URL";
        checks.look(format!("{host}: transport"), "http://, not encrypted", todo);
    }
    rules::forks(chain_id, now_s, checks);
    if !is_silent {
        rules::payment_lane(&nodes, checks).await;
    }
    clocks(session, checks).await;
}

/// The node by itself, what it sees, and how long it took to say so, in milliseconds.
async fn ask(chain_id: ChainId, finality: Finality, url: &str) -> Result<(BscChain, ChainView, u128), String> {
    let config = BscConfig { finality, ..BscConfig::new(chain_id, vec![url.to_owned()]) };
    let node = BscChain::new(&config).map_err(|error| told(&error))?;
    let found = node.chain_id().await.map_err(|error| told(&error))?;
    if found != chain_id {
        return Err(format!("it is of chain {found}, and the configuration says {chain_id}"));
    }
    let since = Stopwatch::start();
    let query = ViewQuery { address: Address([0; 20]), slots: Vec::new(), latest_seen: Nonce(0), head_waits: false };
    let view = node.view(&query).await.map_err(|error| told(&error))?;
    let took_ms = since.elapsed().as_millis();
    Ok((node, view, took_ms))
}

fn judge(session: &Session, node: &str, view: &ChainView, took_ms: u128, checks: &mut Checks) {
    let chain = &session.config.chain;
    let found = format!("chain {}, block {}, answers in {took_ms} ms", chain.chain_id, view.latest.number);
    if took_ms > SLOW_MS {
        checks.look(node, found, "slow: a round waits for it every block");
    } else {
        checks.ok(node, found);
    }
    let lag = view.latest.number.0.saturating_sub(view.finalized.number.0);
    let found = format!("{lag} block(s) behind the newest");
    match chain.finality {
        Finality::Finalized if lag > FINALITY_LAG_MAX => checks.problem(
            format!("{node}: finality"),
            found,
            "outcomes wait for finality: ask another node, or see the chain's state",
        ),
        Finality::Finalized => checks.ok(format!("{node}: finality"), found),
        Finality::Confirmations(blocks) => checks.look(
            format!("{node}: finality"),
            format!("the configuration takes {blocks} confirmations for final"),
            "a deeper reorganisation makes an outcome untrue: use \"finalized\" where nodes have it",
        ),
    }
    let floor = Wei::from(chain.fee_floor_wei);
    let what = format!("{node}: price");
    match view.price {
        Some(price) if price < floor => checks.look(
            what,
            format!("{price} wei per gas, below the floor of {floor}"),
            "requests are signed at the floor: lower fee_floor_wei if validators take less",
        ),
        Some(price) => checks.ok(what, format!("{price} wei per gas, floor {floor}")),
        None => {
            checks.look(what, "the node names no price", "requests that name none wait for a configured gas_price_wei");
        }
    }
}

/// Where AWS answers anybody with the time: China's regions have a domain of their own.
fn public_endpoint(region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://sqs.{region}.{domain}/")
}

/// This machine's clock against AWS's.
async fn clocks(session: &Session, checks: &mut Checks) {
    let region = session.sdk.region().map_or("us-east-1", AsRef::as_ref);
    let endpoint = session.sdk.endpoint_url().map_or_else(|| public_endpoint(region), str::to_owned);
    let answer = reqwest::Client::new().get(endpoint).timeout(std::time::Duration::from_secs(5)).send().await;
    let date = answer.ok().and_then(|answer| {
        let date = answer.headers().get("date")?.to_str().ok()?.to_owned();
        DateTime::from_str(&date, DateTimeFormat::HttpDate).ok()?.to_millis().ok()
    });
    let Some(theirs) = date.and_then(|ms| u64::try_from(ms).ok()) else {
        checks.look("clock", "AWS told no time to compare with", "see that NTP is on");
        return;
    };
    // The header has whole seconds.
    let skew_ms = clock::now_ms().abs_diff(theirs).saturating_sub(1_000);
    let found = format!("{} s off AWS's", skew_ms / 1_000);
    if skew_ms > SKEW_MAX_MS {
        checks.problem("clock", found, "set it (NTP): deadlines pass at the wrong time, and AWS will refuse calls");
    } else if skew_ms > SKEW_LOOK_MS {
        checks.look("clock", found, "set it (NTP): deadlines pass at the wrong time");
    } else {
        checks.ok("clock", found);
    }
}
