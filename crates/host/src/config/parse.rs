//! Reads the configuration file, section by section.
//!
//! Read next: [`super::reader`], which reads one section.

use std::path::Path;

use signpost_txmgr::inbox::is_fifo;
use signpost_txmgr::ports::Finality;

use super::reader::Section;
use super::{
    AccountsFrom, AuthorizationSource, BROADCASTER_CONCURRENCY, CONFIRMATIONS_MAX, Chain, Config, Observe, Private,
    PrivateEndpoint, PrivateShape, Queues, RETENTION_DAYS, RETENTION_DAYS_MIN, SIGNER_CONCURRENCY, SealFrom, SendTo,
    TIMING_MAX_MS, Tables, Timing, Worker,
};

const CONCURRENCY_MAX: u64 = 4_096;
/// Default visibility timeout: a lane waits half a minute after a crash, and three renewals fit into it.
const VISIBILITY_S: u64 = 30;
const VISIBILITY_MIN_S: u64 = 3;
/// Twelve hours, SQS's limit.
const VISIBILITY_MAX_S: u64 = 43_200;
const ROOT_KEYS: &[&str] = &[
    "region",
    "endpoint",
    "chain",
    "queues",
    "tables",
    "topic",
    "policy",
    "seal",
    "accounts",
    "retention",
    "timing",
    "worker",
    "metrics",
    "traces",
];
const CHAIN_KEYS: &[&str] = &[
    "chain_id",
    "rpc_urls",
    "send_to",
    "fee_floor_wei",
    "finality",
    "fee_ceiling_wei",
    "private_only",
    "private",
    "verdicts",
    "explorer_url",
];
const PRIVATE_KEYS: &[&str] = &["url", "shape", "authorization_env", "mev_builders"];

/// Reads every section, even after problems in earlier ones.
pub(super) fn read(file: &toml::Table, here: &Path, problems: &mut Vec<String>) -> Option<Config> {
    let mut root = Section::root(file, problems);
    root.only(ROOT_KEYS);
    let region = root.optional_text("region");
    let endpoint = root.optional_url("endpoint");
    let chain = read_chain(&mut root.required_section("chain", CHAIN_KEYS));
    let queues = read_queues(&mut root.required_section("queues", &["signing_url", "resign_url", "broadcast_url"]));
    let mut tables = root.required_section("tables", &["requests", "accounts"]);
    let (requests, accounts) = (tables.text("requests"), tables.text("accounts"));
    let outcomes_arn = root.required_section("topic", &["outcomes_arn"]).text("outcomes_arn");
    let policy_file = root.required_section("policy", &["file"]).text("file");
    let seal = read_seal(&mut root, here);
    let signed_for = read_accounts(&mut root);
    let retention_days =
        root.section("retention", &["days"]).within("days", RETENTION_DAYS_MIN, 36_500).or(Some(RETENTION_DAYS));
    let timing =
        read_timing(&mut root.section("timing", &["bump_after_ms", "rebroadcast_after_ms", "poll_ms", "sweep_ms"]));
    let worker =
        read_worker(&mut root.section("worker", &["signer_concurrency", "broadcaster_concurrency", "visibility_s"]));
    let observe = Observe {
        metrics_listen: root.section("metrics", &["listen"]).optional_address("listen"),
        otlp_endpoint: root.section("traces", &["otlp_endpoint"]).optional_url("otlp_endpoint"),
    };
    Some(Config {
        region,
        endpoint,
        chain: chain?,
        queues: queues?,
        tables: Tables { requests: requests?, accounts: accounts? },
        outcomes_arn: outcomes_arn?,
        policy_file: here.join(policy_file?),
        seal,
        accounts: signed_for,
        retention_days: retention_days?,
        timing,
        worker,
        observe,
    })
}

/// Optional: programs that do not sign leave it out.
fn read_seal(root: &mut Section<'_, '_>, here: &Path) -> Option<SealFrom> {
    let mut section = root.optional_section("seal", &["secret_arn", "key_file"])?;
    match (section.optional_text("secret_arn"), section.optional_text("key_file")) {
        (Some(secret), None) => Some(SealFrom::Secret(secret)),
        (None, Some(file)) => Some(SealFrom::File(here.join(file))),
        (None, None) => {
            section.problem("key_file", "is missing (or seal.secret_arn, a secret of Secrets Manager)");
            None
        }
        (Some(_), Some(_)) => {
            section.problem("key_file", "and seal.secret_arn are both set; set one of them");
            None
        }
    }
}

/// Optional: programs that do not sign leave it out.
fn read_accounts(root: &mut Section<'_, '_>) -> Option<AccountsFrom> {
    let mut section = root.optional_section("accounts", &["pinned", "trust_registry"])?;
    let trusts = section.optional_flag("trust_registry").unwrap_or(false);
    let has_list = section.has("pinned");
    let pinned = section.optional_texts("pinned")?;
    match (trusts, has_list) {
        (true, false) => Some(AccountsFrom::Registry),
        (false, true) => Some(AccountsFrom::Listed(pinned)),
        (false, false) => {
            section.problem(
                "pinned",
                "is missing: list the accounts, NAME=0xADDRESS=KMS_KEY each (or trust_registry = true, if nobody else \
                 can write the accounts table)",
            );
            None
        }
        (true, true) => {
            section.problem("trust_registry", "and accounts.pinned are both set; choose one");
            None
        }
    }
}

fn read_chain(section: &mut Section<'_, '_>) -> Option<Chain> {
    let chain_id = section.whole("chain_id", 1, u64::MAX);
    let rpc_urls = section.urls("rpc_urls");
    let send_to = read_send_to(section, "send_to");
    let fee_floor_wei = section.whole("fee_floor_wei", 0, u64::MAX);
    let fee_ceiling_wei = section.within("fee_ceiling_wei", 1, u64::MAX);
    if fee_ceiling_wei.zip(fee_floor_wei).is_some_and(|(ceiling, floor)| ceiling < floor) {
        section.problem("fee_ceiling_wei", "is below fee_floor_wei");
    }
    let explorer_url = section.optional_url("explorer_url");
    let private = read_private(section, PRIVATE_KEYS);
    let finality =
        section.word_or("finality", ("finalized", Finality::Finalized), CONFIRMATIONS_MAX, Finality::Confirmations);
    let two_verdicts = read_verdicts(section, "verdicts", rpc_urls.as_deref());
    Some(Chain {
        chain_id: chain_id?,
        rpc_urls: rpc_urls?,
        send_to: send_to?,
        fee_floor_wei: fee_floor_wei?,
        fee_ceiling_wei,
        private,
        finality: finality?,
        two_verdicts: two_verdicts?,
        explorer_url,
    })
}

/// Whether nothing counts as final without a second node's word. If so, a second node must be configured.
pub(super) fn read_verdicts(section: &mut Section<'_, '_>, key: &str, rpc_urls: Option<&[String]>) -> Option<bool> {
    match section.optional_text(key).as_deref() {
        None | Some("one") => Some(false),
        Some("two") if rpc_urls.is_some_and(|urls| urls.len() < 2) => {
            section.problem(key, LONELY_VERDICTS);
            None
        }
        Some("two") => Some(true),
        Some(_) => {
            section.problem(
                key,
                "must be \"one\" (waits at most 30 s for a second node) or \"two\" (waits until a second node agrees)",
            );
            None
        }
    }
}

/// The problem of two verdicts with only one node.
pub(super) const LONELY_VERDICTS: &str =
    "is \"two\", and only one node is configured; add a second one of another provider";

pub(super) fn read_send_to(section: &mut Section<'_, '_>, key: &str) -> Option<SendTo> {
    match section.text(key)?.as_str() {
        "all" => Some(SendTo::All),
        "first" => Some(SendTo::First),
        _ => {
            section.problem(key, "must be \"all\" (every node gets each transaction) or \"first\"");
            None
        }
    }
}

/// Private endpoints require `private_only`, which has no default: it decides who may see a transaction.
pub(super) fn read_private(section: &mut Section<'_, '_>, keys: &[&str]) -> Option<Private> {
    let endpoints = section.each("private", keys, read_private_endpoint)?;
    if endpoints.is_empty() {
        if section.optional_flag("private_only").is_some() {
            section.problem("private_only", "applies to private endpoints only, and there is no [[chain.private]]");
        }
        return None;
    }
    Some(Private { only: section.flag("private_only")?, endpoints })
}

fn read_private_endpoint(section: &mut Section<'_, '_>) -> Option<PrivateEndpoint> {
    let url = section.url("url");
    let shape = match section.optional_text("shape").as_deref() {
        None | Some("bloxroute") => PrivateShape::Bloxroute,
        Some(_) => {
            section.problem("shape", "must be \"bloxroute\"");
            return None;
        }
    };
    let authorization = read_authorization(section);
    let mev_builders = section.optional_texts("mev_builders")?;
    Some(PrivateEndpoint { url: url?, shape, authorization: authorization?, mev_builders })
}

/// The key `authorization` is allowed only in a secret; in a file it was reported as unknown before.
fn read_authorization(section: &mut Section<'_, '_>) -> Option<AuthorizationSource> {
    if section.has("authorization") {
        return section.text("authorization").map(AuthorizationSource::Value);
    }
    let name = section.text("authorization_env")?;
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Some(AuthorizationSource::Variable(name));
    }
    // The value may be the secret itself, so it is not printed.
    section.problem("authorization_env", "must be the name of an environment variable, not its value");
    None
}

fn read_queues(section: &mut Section<'_, '_>) -> Option<Queues> {
    let signing_url = section.url("signing_url");
    let (resign_url, broadcast_url) = (must_be_fifo(section, "resign_url"), must_be_fifo(section, "broadcast_url"));
    Some(Queues { signing_url: signing_url?, resign_url: resign_url?, broadcast_url: broadcast_url? })
}

/// The URL of a queue between the stages, which must be FIFO.
pub(super) fn must_be_fifo(section: &mut Section<'_, '_>, key: &str) -> Option<String> {
    let url = section.url(key)?;
    if !is_fifo(&url) {
        section.problem(key, "must be a FIFO queue: message groups ensure that a lane has one pass at a time");
    }
    Some(url)
}

fn read_timing(section: &mut Section<'_, '_>) -> Timing {
    Timing {
        bump_after_ms: section.within("bump_after_ms", 1, TIMING_MAX_MS),
        rebroadcast_after_ms: section.within("rebroadcast_after_ms", 1, TIMING_MAX_MS),
        poll_ms: section.within("poll_ms", 1, TIMING_MAX_MS),
        sweep_ms: section.within("sweep_ms", 1, TIMING_MAX_MS),
    }
}

fn read_worker(section: &mut Section<'_, '_>) -> Worker {
    let mut concurrency = |key: &str, default| section.within(key, 1, CONCURRENCY_MAX).unwrap_or(default);
    Worker {
        signer_concurrency: concurrency("signer_concurrency", SIGNER_CONCURRENCY),
        broadcaster_concurrency: concurrency("broadcaster_concurrency", BROADCASTER_CONCURRENCY),
        visibility_s: section.within("visibility_s", VISIBILITY_MIN_S, VISIBILITY_MAX_S).unwrap_or(VISIBILITY_S),
    }
}
