//! What a subscriber's queue gets: outcomes, raw or in SNS's envelope.
#![no_main]

use libfuzzer_sys::fuzz_target;
use signpost_txmgr::text;

/// The client crate's own file: the crate would bring the SDK's SQS client along.
#[path = "../../../crates/client/src/outcome.rs"]
#[allow(dead_code, reason = "what else the client does with outcomes")]
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
