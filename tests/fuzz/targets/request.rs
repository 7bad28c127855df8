//! Bodies of the signing queue and of `sign-direct`. Every permitted sender controls them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use signpost_txmgr::request::{Direct, Message, Refused};
use signpost_txmgr::units::{AccountKey, Address, ChainId};
use signpost_txmgr::{record::Reason, text};

fn is_fit_to_be_sent(refused: &Refused) {
    assert!(refused.message.chars().all(text::is_plain), "{:?}", refused.message);
    assert!(refused.message.chars().count() <= Reason::MAX_CHARS);
    if let Some(metadata) = &refused.metadata {
        keeps_its_contents(metadata);
    }
}

fn keeps_its_contents(metadata: &serde_json::Value) {
    let written = text::json(metadata).expect("metadata was JSON");
    assert_eq!(text::unsendable(&written), None);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&written).expect("it is JSON"), *metadata);
}

fuzz_target!(|body: &str| {
    match Message::parse(body) {
        Ok(Message::Sign(request)) => {
            let account = AccountKey { chain_id: ChainId(97), address: Address([7; 20]) };
            assert_eq!(request.digest(&account), request.digest(&account));
            request.metadata.iter().for_each(keeps_its_contents);
            // The same request, written as our client sends it.
            assert_eq!(Message::parse(&text::json_written(body)), Ok(Message::Sign(request)));
        }
        Ok(Message::Cancel(_)) => {}
        Err(refused) => is_fit_to_be_sent(&refused),
    }
    if let Err(refused) = Direct::parse(body, ChainId(97)) {
        is_fit_to_be_sent(&refused);
    }
});
