//! Revert data, which a contract controls.
#![no_main]

use libfuzzer_sys::fuzz_target;
use signpost_txmgr::record::Revert;
use signpost_txmgr::{revert, text};

fuzz_target!(|data: &[u8]| {
    let Revert { text, raw } = revert::decode(data);
    assert!(!text.is_empty());
    assert!(text.chars().all(text::is_plain), "{text:?}");
    assert!(text.chars().count() <= text::MAX_CHARS);
    assert!(data.starts_with(&raw) && raw.len() <= Revert::MAX_BYTES);
});
