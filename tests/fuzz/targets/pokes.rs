//! Messages between the stages, and the trace context in a message's attribute.
#![no_main]

use libfuzzer_sys::fuzz_target;
use signpost_txmgr::text;
use signpost_txmgr::trace::TraceParent;
use signpost_txmgr::units::RequestId;
use signpost_txmgr::wire::{LanePoke, SignerPoke};

fuzz_target!(|body: &str| {
    if let Ok(poke) = serde_json::from_str::<LanePoke>(body) {
        let _ = poke.account();
        let written = text::json(&poke).expect("a poke is JSON");
        assert_eq!(serde_json::from_str::<LanePoke>(&written).expect("it is JSON"), poke);
    }
    if let Ok(poke) = serde_json::from_str::<SignerPoke>(body) {
        let _ = (poke.request_id.parse::<RequestId>(), poke.fee.as_ref().map(signpost_txmgr::wire::WireFee::fee));
        let written = text::json(&poke).expect("a poke is JSON");
        assert_eq!(serde_json::from_str::<SignerPoke>(&written).expect("it is JSON"), poke);
    }
    if let Some(parent) = TraceParent::parse(body) {
        assert_eq!(TraceParent::parse(&parent.to_string()), Some(parent));
    }
});
