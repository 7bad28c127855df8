//! Checks each node by itself, and the clock. Checks of the chain's rules are in `rules`.

use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};
use signpost_bsc::{BscChain, BscConfig};
use signpost_txmgr::ports::Finality;
use signpost_txmgr::ports::{Chain as _, ChainView, ViewQuery};
use signpost_txmgr::units::{Address, ChainId, Nonce, Wei};

use super::{Checks, rules};
use crate::clock::{self, Stopwatch};
use crate::command::{Session, error_chain};
use crate::{amount, ports};

/// BSC finalizes two blocks behind its newest one; this is half a minute.
const FINALITY_LAG_MAX: u64 = 67;
/// A node this many blocks behind another is used last by the broadcaster.
const LAG_MAX: u64 = 10;
/// AWS refuses requests whose time is five minutes off; deadlines have a precision of a second.
const SKEW_LOOK_MS: u64 = 5_000;
const SKEW_MAX_MS: u64 = 60_000;
/// A view takes two or three requests; if it takes longer than this, every round is late.
const SLOW_MS: u128 = 1_000;

/// Checks chain id, height, finality and price of each node. Private endpoints cannot be asked.
pub(super) async fn check(session: &Session, checks: &mut Checks) {
    // Built from the whole list, which also installs the TLS provider.
    let nodes = match ports::chain(session) {
        Ok(nodes) => nodes,
        Err(error) => {
            checks.problem("nodes", error_chain(&error), "correct [chain] in the configuration");
            return;
        }
    };
    let chain = &session.config.chain;
    let (chain_id, now_s) = (ChainId(chain.chain_id), clock::now_ms() / 1_000);
    let mut heights = Vec::new();
    for (number, url) in (1_u32..).zip(&chain.rpc_urls) {
        let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
        let node = format!("node {number} ({})", host.unwrap_or_else(|| "?".to_owned()));
        // Only the host is named: a path or a parameter may contain a key.
        match ask(chain_id, chain.finality, url).await {
            Ok((alone, view, took_ms)) => {
                heights.push((node.clone(), view.latest.number.0));
                judge(session, &node, &view, took_ms, checks);
                rules::node(&node, &alone, chain_id, now_s, checks).await;
            }
            Err(found) => {
                let todo =
                    "check that it is running on the configured chain; without any node nothing is sent or settled";
                checks.problem(node, found, todo);
            }
        }
    }
    let is_silent = heights.is_empty();
    let highest = heights.iter().map(|(_, height)| *height).max().unwrap_or(0);
    for (node, height) in heights {
        let behind = highest.saturating_sub(height);
        if behind > LAG_MAX {
            checks.look(node, format!("{behind} blocks behind another"), "it is used last until it is up to date");
        }
    }
    if let Some(private) = &chain.private {
        let count = private.endpoints.len();
        checks.look("private endpoints", format!("{count}, not asked: they only accept transactions"), "");
    }
    for host in chain.in_the_clear() {
        let todo = "others on the network can read a key in its URL and change its answers: use an https:// URL";
        checks.look(format!("{host}: transport"), "http://, not encrypted", todo);
    }
    rules::forks(chain_id, now_s, checks);
    if !is_silent {
        rules::payment_lane(&nodes, checks).await;
    }
    clocks(session, checks).await;
}

/// The node as a chain of its own, its view, and how long the view took, in milliseconds.
async fn ask(chain_id: ChainId, finality: Finality, url: &str) -> Result<(BscChain, ChainView, u128), String> {
    let config = BscConfig { finality, ..BscConfig::new(chain_id, vec![url.to_owned()]) };
    let node = BscChain::new(&config).map_err(|error| error_chain(&error))?;
    let found = node.chain_id().await.map_err(|error| error_chain(&error))?;
    if found != chain_id {
        return Err(format!("it is on chain {found}, but the configuration says {chain_id}"));
    }
    let since = Stopwatch::start();
    let query = ViewQuery { address: Address([0; 20]), slots: Vec::new(), latest_seen: Nonce(0), head_waits: false };
    let view = node.view(&query).await.map_err(|error| error_chain(&error))?;
    let took_ms = since.elapsed().as_millis();
    Ok((node, view, took_ms))
}

fn judge(session: &Session, node: &str, view: &ChainView, took_ms: u128, checks: &mut Checks) {
    let chain = &session.config.chain;
    let found = format!("chain {}, block {}, answers in {took_ms} ms", chain.chain_id, view.latest.number);
    if took_ms > SLOW_MS {
        checks.look(node, found, "slow: every round of the broadcaster waits for it");
    } else {
        checks.ok(node, found);
    }
    let lag = view.latest.number.0.saturating_sub(view.finalized.number.0);
    let found = format!("{lag} block(s) behind the newest");
    match chain.finality {
        Finality::Finalized if lag > FINALITY_LAG_MAX => checks.problem(
            format!("{node}: finality"),
            found,
            "outcomes wait for finality: use another node, or check the state of the chain",
        ),
        Finality::Finalized => checks.ok(format!("{node}: finality"), found),
        Finality::Confirmations(blocks) => checks.look(
            format!("{node}: finality"),
            format!("the configuration counts {blocks} confirmations as final"),
            "a deeper reorganisation makes an outcome wrong: use \"finalized\" if the nodes support it",
        ),
    }
    let floor = Wei::from(chain.fee_floor_wei);
    let what = format!("{node}: price");
    match view.price {
        Some(price) if price < floor => {
            let found = format!("{price} wei per gas, below the floor of {floor}");
            checks.look(what, found, "requests are signed at the floor: lower fee_floor_wei if validators accept less");
            checks.show_last_as(format!("{}, below the floor of {}", amount::price(price), amount::price(floor)));
        }
        Some(price) => {
            checks.ok(what, format!("{price} wei per gas, floor {floor}"));
            checks.show_last_as(format!("{}, floor {}", amount::price(price), amount::price(floor)));
        }
        None => {
            checks.look(
                what,
                "the node reports no price",
                "requests without a price wait for a configured gas_price_wei",
            );
        }
    }
}

/// An AWS endpoint that reports the time without credentials. Regions in China have their own domain.
fn public_endpoint(region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://sqs.{region}.{domain}/")
}

/// Compares this machine's clock with that of AWS.
async fn clocks(session: &Session, checks: &mut Checks) {
    let region = session.sdk.region().map_or("us-east-1", AsRef::as_ref);
    let endpoint = session.sdk.endpoint_url().map_or_else(|| public_endpoint(region), str::to_owned);
    let answer = reqwest::Client::new().get(endpoint).timeout(std::time::Duration::from_secs(5)).send().await;
    let date = answer.ok().and_then(|answer| {
        let date = answer.headers().get("date")?.to_str().ok()?.to_owned();
        DateTime::from_str(&date, DateTimeFormat::HttpDate).ok()?.to_millis().ok()
    });
    let Some(theirs) = date.and_then(|ms| u64::try_from(ms).ok()) else {
        checks.look("clock", "AWS reported no time to compare with", "check that NTP is on");
        return;
    };
    // The header has whole seconds.
    let skew_ms = clock::now_ms().abs_diff(theirs).saturating_sub(1_000);
    let found = format!("{} s from the time of AWS", skew_ms / 1_000);
    if skew_ms > SKEW_MAX_MS {
        checks.problem("clock", found, "set it (NTP): deadlines expire at the wrong time, and AWS may refuse calls");
    } else if skew_ms > SKEW_LOOK_MS {
        checks.look("clock", found, "set it (NTP): deadlines expire at the wrong time");
    } else {
        checks.ok("clock", found);
    }
}
