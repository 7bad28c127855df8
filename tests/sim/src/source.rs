//! The messages that backends send in a trial: requests, repeats, conflicts, invalid messages, cancels.
//!
//! The contents of a request depend on its number only, so that trials share signatures. Read next: [`crate::auditor`].

use signpost_txmgr::fake::chain::{PANIC_SELECTOR, REVERT_SELECTOR};

use crate::deployment::{ALLOWED, SENDERS, STRANGER};
use crate::random::Random;

/// One message and when it is sent.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Milliseconds after the start.
    pub at_ms: u64,
    /// Its body.
    pub body: String,
    /// Its group on a FIFO queue.
    pub group: &'static str,
    /// Who sends it.
    pub sender: &'static str,
}

/// Plans `requests` requests for these accounts within `span_ms`, with repeats, conflicts and cancels, in order of
/// time. With `stranger`, some messages are a stranger's. An empty account name is left out of the body.
#[must_use]
pub fn plan(
    random: &mut Random,
    requests: usize,
    accounts: &[&'static str],
    span_ms: u64,
    stranger: bool,
) -> Vec<Planned> {
    let mut planned = Vec::new();
    for number in 0..requests {
        let at_ms = random.below(span_ms);
        let account = accounts[random.place(accounts.len())];
        let mut later = |body: String, random: &mut Random| {
            let at_ms = at_ms + random.below(8_000);
            planned.push(Planned { at_ms, body, group: group_of(account), sender: SENDERS[0] });
        };
        let deadline =
            random.per_mille(60).then(|| (crate::deployment::START.0 + at_ms) / 1_000 + 2 + random.below(12));
        let asked = body(number, account, Variant::Good, deadline);
        if random.per_mille(250) {
            later(asked.clone(), random);
        }
        if random.per_mille(150) {
            later(body(number, account, Variant::Other, None), random);
        }
        if random.per_mille(180) {
            later(format!("{{\"cancel\":\"r-{number}\"}}"), random);
        }
        if random.per_mille(150) {
            later(bad(number, account, random), random);
        }
        if stranger && random.per_mille(200) {
            let body = match random.below(3) {
                0 => body(number, account, Variant::Good, deadline),
                1 => body(number, account, Variant::Other, None),
                _ => format!("{{\"cancel\":\"r-{number}\"}}"),
            };
            // At any time, before or after the request with this id.
            planned.push(Planned { at_ms: random.below(span_ms), body, group: group_of(account), sender: STRANGER });
        }
        planned.push(Planned { at_ms, body: asked, group: group_of(account), sender: SENDERS[0] });
    }
    planned.sort_by_key(|planned| planned.at_ms);
    planned
}

fn group_of(account: &'static str) -> &'static str {
    if account.is_empty() { "only" } else { account }
}

/// The same message with another id. One in ten keeps its id, which the other Signpost uses too.
pub fn renamed(body: &str, random: &mut Random) -> String {
    if random.per_mille(100) { body.to_owned() } else { body.replace("\"r-", "\"q-") }
}

/// The contents of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// A valid request.
    Good,
    /// The same id, another value.
    Other,
    /// A recipient that policy does not allow.
    Forbidden,
}

/// The number of a request whose price is its own cap, 1.5 gwei, so that it is never bumped. The same holds for every
/// twelfth request from there on.
pub const CAPPED: usize = 9;

/// The body of request `number`.
#[must_use]
pub fn body(number: usize, account: &str, variant: Variant, deadline: Option<u64>) -> String {
    let value = if variant == Variant::Other { 7_000 + number } else { number };
    let to = match variant {
        Variant::Forbidden => "0x4444444444444444444444444444444444444444".to_owned(),
        Variant::Good | Variant::Other => ALLOWED[number % ALLOWED.len()].lower(),
    };
    let (to, value, data) = match number % 10 {
        3 => (format!("\"{to}\""), value, hex(&REVERT_SELECTOR)),
        6 => (format!("\"{to}\""), value, hex(&PANIC_SELECTOR)),
        8 if variant == Variant::Good => ("null".to_owned(), value, hex(&[0x60, 0x00, 0x60, 0x00])),
        _ => (format!("\"{to}\""), value, hex(&[])),
    };
    let fee = match number % 6 {
        _ if number % 12 == CAPPED => ",\"gasPrice\":\"1500000000\",\"maxGasPrice\":\"1500000000\"",
        1 => ",\"maxFeePerGas\":\"2000000000\",\"maxPriorityFeePerGas\":\"1000000000\"",
        2 => "",
        4 => ",\"gasPrice\":\"5000000000\"",
        _ => ",\"gasPrice\":\"1000000000\"",
    };
    let deadline = deadline.map(|at| format!(",\"deadline\":{at}")).unwrap_or_default();
    let account = account_field(account);
    format!(
        "{{\"requestId\":\"r-{number}\",{account}\"to\":{to},\"value\":{value},\"data\":\"{data}\",\"gas\":90000{fee}{deadline},\"metadata\":{{\"n\":{number}}}}}"
    )
}

/// The `account` field; nothing for an empty name.
fn account_field(account: &str) -> String {
    if account.is_empty() { String::new() } else { format!("\"account\":\"{account}\",") }
}

fn bad(number: usize, account: &str, random: &mut Random) -> String {
    let field = account_field(account);
    match random.below(5) {
        0 => "not JSON".to_owned(),
        1 => body(number + 1_000, account, Variant::Forbidden, None),
        2 => format!("{{\"requestId\":\"bad-{number}\",{field}\"nonce\":1}}"),
        3 => format!("{{\"cancel\":\"nobody-{number}\"}}"),
        // An invalid body with the id of a valid request.
        _ => format!("{{\"requestId\":\"r-{number}\",{field}\"gas\":1}}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |digits, byte| digits + &format!("{byte:02x}"))
}
