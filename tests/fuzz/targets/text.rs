//! Foreign text on its way to a terminal, a log or a message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use signpost_txmgr::text;

fuzz_target!(|bytes: &[u8]| {
    let foreign = String::from_utf8_lossy(bytes);
    let plain = text::plain(&foreign);
    assert!(plain.chars().all(text::is_plain) && plain.chars().count() <= text::MAX_CHARS);
    assert_eq!(text::plain(&plain), plain);
    assert_eq!(text::unsendable(&plain), None);
    let json = text::json(&*foreign).expect("a string is JSON");
    assert!(json.chars().all(text::is_plain));
    assert_eq!(serde_json::from_str::<String>(&json).expect("it is JSON"), foreign);
    let screen = text::screen(&foreign);
    assert_eq!(text::screen(&screen), screen);
    // Every escape character begins a colour.
    for after in screen.split('\u{1b}').skip(1) {
        let (parameters, _) = after.strip_prefix('[').and_then(|rest| rest.split_once('m')).expect("a colour");
        assert!(parameters.chars().all(|c| c.is_ascii_digit() || c == ';'));
    }
});
