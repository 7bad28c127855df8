//! Untrusted text: how it is escaped for display and sending, and that JSON keeps its contents.
#![allow(clippy::unwrap_used, reason = "test code")]

use proptest::prelude::*;
use serde_json::{Value, json};
use signpost_txmgr::error_chain;
use signpost_txmgr::ports::{Happened, PortError, RefusedForGood};
use signpost_txmgr::record::{Attempt, AttemptKind, Reason, SendAnswer, SendClass, Sent};
use signpost_txmgr::text;
use signpost_txmgr::tx::{Fee, Signature};
use signpost_txmgr::units::{Millis, TxHash, Wei};
use signpost_txmgr::wire::{WireAttempt, WireReason};

/// One character of each kind that is not plain: C0, DEL, C1, a soft hyphen, bidi marks, overrides and isolates,
/// zero-width characters, separators, a variation selector, the byte order mark, non-characters, a tag.
const NOT_PLAIN: [char; 26] = [
    '\0',
    '\u{7}',
    '\n',
    '\r',
    '\t',
    '\u{1b}',
    '\u{7f}',
    '\u{80}',
    '\u{85}',
    '\u{9b}',
    '\u{ad}',
    '\u{61c}',
    '\u{200b}',
    '\u{200d}',
    '\u{200f}',
    '\u{2028}',
    '\u{2029}',
    '\u{202e}',
    '\u{2066}',
    '\u{2069}',
    '\u{fe0f}',
    '\u{feff}',
    '\u{fffe}',
    '\u{ffff}',
    '\u{1_fffe}',
    '\u{e_0041}',
];

/// Any text, with many characters that are not plain.
fn foreign() -> impl Strategy<Value = String> {
    let one = prop_oneof![any::<char>(), prop::sample::select(NOT_PLAIN.to_vec()), prop::char::range(' ', '~')];
    prop::collection::vec(one, 0..64).prop_map(|all| all.into_iter().collect())
}

/// Any JSON with such texts and names.
fn foreign_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![foreign().prop_map(Value::from), any::<i64>().prop_map(Value::from), Just(Value::Null)];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(foreign(), inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn plain_text_is_sendable_and_one_line(text in foreign()) {
        let plain = text::plain(&text);
        prop_assert!(plain.chars().all(text::is_plain), "{plain:?}");
        prop_assert_eq!(text::unsendable(&plain), None);
        prop_assert!(plain.lines().count() <= 1);
    }

    #[test]
    fn plain_twice_is_plain_once(text in foreign(), max in 0..80_usize) {
        let once = text::plain_within(&text, max);
        prop_assert_eq!(text::plain_within(&once, max), once.clone());
        prop_assert!(once.chars().count() <= max);
        prop_assert!(text::plain(&text).starts_with(&once));
    }

    #[test]
    fn json_keeps_contents_and_is_plain(value in foreign_json()) {
        let written = text::json(&value).unwrap();
        prop_assert!(written.chars().all(text::is_plain), "{written:?}");
        prop_assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value.clone());
        prop_assert_eq!(text::json_written(&value.to_string()), written);
    }

    #[test]
    fn screen_has_only_lines_and_colours(text in foreign()) {
        let shown = text::screen(&format!("\u{1b}[31m{text}\u{1b}[0m"));
        let bare = shown.replace("\u{1b}[31m", "").replace("\u{1b}[0m", "");
        prop_assert!(bare.chars().all(|c| text::is_plain(c) || c == '\n' || c == '\t'), "{bare:?}");
    }
}

#[test]
fn every_character_that_is_not_plain_is_escaped() {
    for character in NOT_PLAIN {
        assert!(!text::is_plain(character), "{character:?}");
        let escaped = text::plain(&format!("a{character}b"));
        assert_eq!(escaped, format!("a{}b", character.escape_default()));
    }
    assert_eq!(text::plain("a\u{9b}2J\r\n"), "a\\u{9b}2J\\r\\n");
    for plain in ["", "reverted: 50 % of \"x\" \\ y", "Grüße, 世界, é, \u{1f600}", "\u{fffd}\u{e000}"] {
        assert_eq!(text::plain(plain), plain);
    }
}

#[test]
fn every_character_outside_xml_is_escaped() {
    for code in 0..=0x0010_ffff_u32 {
        let Some(character) = char::from_u32(code) else { continue };
        let in_xml = matches!(code, 0x9 | 0xa | 0xd | 0x20..=0xd7ff | 0xe000..=0xfffd | 0x1_0000..);
        assert_eq!(text::unsendable(&character.to_string()).is_none(), in_xml, "U+{code:04X}");
        assert!(in_xml || !text::is_plain(character), "U+{code:04X}");
    }
}

#[test]
fn escape_is_never_cut_in_two() {
    assert_eq!(text::plain_within("ab\u{9b}c", 7), "ab");
    assert_eq!(text::plain_within("ab\u{9b}c", 8), "ab\\u{9b}");
    assert_eq!(text::plain(&"x".repeat(5_000)).len(), text::MAX_CHARS);
}

#[test]
fn lone_surrogate_in_bytes_is_replaced() {
    assert_eq!(text::plain_bytes(b"a\xed\xa0\x80b\x1b"), "a\u{fffd}\u{fffd}\u{fffd}b\\u{1b}");
}

#[test]
fn json_escapes_beyond_the_first_plane_as_pairs() {
    let value = json!({ "memo\u{202e}": "a\u{ffff}\u{1_ffff}\"\n" });
    assert_eq!(text::json(&value).unwrap(), r#"{"memo\u202e":"a\uffff\ud83f\udfff\"\n"}"#);
    let exact: Value = serde_json::from_str(r#"{"n":1.50000000000000000001}"#).unwrap();
    assert_eq!(text::json(&exact).unwrap(), exact.to_string(), "numbers stay as they were written");
}

#[test]
fn screen_keeps_our_colours_and_no_other_sequence() {
    assert_eq!(text::screen("\u{1b}[1;31mred\u{1b}[0m\n"), "\u{1b}[1;31mred\u{1b}[0m\n");
    for sequence in ["\u{1b}[2J", "\u{1b}]0;owned\u{7}", "\u{1b}[8mhidden", "\u{1b}[31", "\u{9b}31m", "\u{1b}[1;8m"] {
        let shown = text::screen(sequence);
        assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{7}']), "{shown:?}");
    }
}

#[test]
fn message_of_a_node_is_escaped_and_bounded() {
    let words = "nope\u{1b}]0;owned\u{7}\u{1b}[2J\r\nfake line \u{202e}txt";
    let answer = SendAnswer::new(SendClass::Refused, words);
    assert_eq!(answer.message, "nope\\u{1b}]0;owned\\u{7}\\u{1b}[2J\\r\\nfake line \\u{202e}txt");
    let long = SendAnswer::new(SendClass::Refused, &"\u{9b}".repeat(1_000));
    assert_eq!(long.message.len(), SendAnswer::MAX_CHARS);
}

#[test]
fn texts_of_older_items_are_escaped_on_output() {
    let reason =
        Reason { code: "refusedByNode".to_owned(), message: "no\u{1b}[2J".to_owned(), revert: None, request_id: None };
    assert_eq!(WireReason::from(&reason).message, "no\\u{1b}[2J");
    let long = Reason { message: "x".repeat(9_000), ..reason };
    assert_eq!(WireReason::from(&long).message.len(), Reason::MAX_CHARS);
    let answer = SendAnswer { class: SendClass::Refused, message: "no\u{9b}2J".to_owned() };
    let attempt = Attempt {
        kind: AttemptKind::Execute,
        fee: Fee::Legacy { gas_price: Wei::from(1) },
        signature: Signature { r: [1; 32], s: [1; 32], y_odd: false },
        tx_hash: TxHash([1; 32]),
        to_self: Wei::ZERO,
        signed_at: Millis(1),
        kms_request_id: None,
        sent: Some(Sent { at: Millis(2), answer }),
    };
    assert_eq!(WireAttempt::from(&attempt).answer_message.unwrap(), "no\\u{9b}2J");
}

#[test]
fn error_text_is_escaped() {
    let source = Box::new(std::io::Error::other("the service says \u{1b}[2J\u{202e}"));
    let error = PortError { operation: "Publish", happened: Happened::No, throttled: false, source };
    assert!(error_chain(&error).ends_with("the service says \\u{1b}[2J\\u{202e}"), "{}", error_chain(&error));
    let refused = PortError::refused_for_good("Publish", "InvalidParameter", "no\u{7}");
    assert!(refused.is_refused_for_good());
    let source: &RefusedForGood = refused.source.downcast_ref().unwrap();
    assert_eq!(source.message, "no\\u{7}");
}
