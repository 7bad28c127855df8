//! Messages in a subscriber's queue: outcomes, raw or in SNS's envelope.
#![no_main]

use libfuzzer_sys::fuzz_target;
use signpost_txmgr::text;

/// The client crate's own source file; the whole crate would add the SDK's SQS client.
#[path = "../../../crates/client/src/outcome.rs"]
#[allow(dead_code, reason = "used by other parts of the client")]
mod outcome;

fuzz_target!(|body: &str| {
    if let Ok(outcome) = outcome::parse(body) {
        let written = text::json(&outcome).expect("an outcome is JSON");
        assert_eq!(text::unsendable(&written), None);
        assert_eq!(outcome::parse(&written).expect("it is an outcome"), outcome);
        let reduced = outcome.reduced();
        assert_eq!((reduced.event_id.as_str(), reduced.metadata), (outcome.event_id.as_str(), None));
    }
});
