//! The messages backends send in a trial: requests, repeats, conflicts, bad ones, cancels.
//!
//! What a request asks depends on its number alone, so that trials share signatures. Read next:
//! [`crate::auditor`].

use signpost_txmgr::fake::chain::{PANIC_SELECTOR, REVERT_SELECTOR};

use crate::random::Random;
use crate::world::ALLOWED;

/// One message and when it is sent.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Milliseconds after the start.
    pub at_ms: u64,
    /// Its body.
    pub body: String,
    /// Its group on a FIFO queue.
    pub group: &'static str,
}

/// `requests` requests for these accounts over `span_ms`, with everything that comes along, in order of time.
#[must_use]
pub fn plan(random: &mut Random, requests: usize, accounts: &[&'static str], span_ms: u64) -> Vec<Planned> {
    let mut planned = Vec::new();
    for number in 0..requests {
        let at_ms = random.below(span_ms);
        let account = accounts[random.place(accounts.len())];
        let mut later = |body: String, random: &mut Random| {
            planned.push(Planned { at_ms: at_ms + random.below(8_000), body, group: account });
        };
        let deadline = random.per_mille(60).then(|| (crate::world::START.0 + at_ms) / 1_000 + 2 + random.below(12));
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
        planned.push(Planned { at_ms, body: asked, group: account });
    }
    planned.sort_by_key(|planned| planned.at_ms);
    planned
}

/// The contents of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// As it should be.
    Good,
    /// The same id, another value.
    Other,
    /// A recipient policy does not allow.
    Forbidden,
}

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
        1 => ",\"maxFeePerGas\":\"2000000000\",\"maxPriorityFeePerGas\":\"1000000000\"",
        2 => "",
        4 => ",\"gasPrice\":\"5000000000\"",
        _ => ",\"gasPrice\":\"1000000000\"",
    };
    let deadline = deadline.map(|at| format!(",\"deadline\":{at}")).unwrap_or_default();
    format!(
        "{{\"requestId\":\"r-{number}\",\"account\":\"{account}\",\"to\":{to},\"value\":{value},\"data\":\"{data}\",\"gas\":90000{fee}{deadline},\"metadata\":{{\"n\":{number}}}}}"
    )
}

fn bad(number: usize, account: &str, random: &mut Random) -> String {
    match random.below(5) {
        0 => "not JSON".to_owned(),
        1 => body(number + 1_000, account, Variant::Forbidden, None),
        2 => format!("{{\"requestId\":\"bad-{number}\",\"account\":\"{account}\",\"nonce\":1}}"),
        3 => format!("{{\"cancel\":\"nobody-{number}\"}}"),
        // A bad body under the id of a good request.
        _ => format!("{{\"requestId\":\"r-{number}\",\"account\":\"{account}\",\"gas\":1}}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |digits, byte| digits + &format!("{byte:02x}"))
}
