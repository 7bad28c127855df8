//! Escapes untrusted text so that it can be shown and sent.
//!
//! Nodes, contracts, services and senders control their texts, which may contain terminal escape sequences,
//! characters that hide or reverse what follows, and characters that SQS and SNS refuse. [`plain`] replaces such
//! characters with visible escapes. [`json`] writes JSON with JSON's own escapes, so the parsed contents stay the same.
//! Both use the same definition, [`is_plain`].
//!
//! ## Guarantees
//! * The result is one line of characters that SQS and SNS accept (XML 1.0's `Char`). None is invisible or
//!   changes how others are shown.
//! * [`plain`] leaves plain text within its length unchanged, so it may be applied at every boundary.
//!
//! ## Does not guarantee
//! * That an escape can be distinguished from the same characters in the original text.
//! * That letters that look alike are distinguished.
//!
//! Read next: [`crate::wire`].

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde::ser::Error as _;
use serde_json::ser::{Formatter, Serializer};

/// The most characters of a reason's message: enough for a node's or a contract's text and a list of names.
pub const REASON_MAX_CHARS: usize = 2_000;

/// The default limit of a foreign text in characters: some lines of a screen.
pub const MAX_CHARS: usize = 1_000;

/// The most bytes of a message with its attributes, and of all entries of a batch together. It is the default limit of
/// an SNS topic (`MaximumMessageSize` raises it up to 1 MiB), and every SQS queue accepts it (new queues accept 1 MiB).
/// Sources: SNS guide, "Publishing large messages"; SQS guide, "Message quotas"; both read 2026-11-27.
pub const MAX_MESSAGE_BYTES: usize = 262_144;

/// Escapes every character of `text` that is not [`is_plain`] (`\u{9b}`, `\n`), and cuts the result at
/// [`MAX_CHARS`].
#[must_use]
pub fn plain(text: &str) -> String {
    plain_within(text, MAX_CHARS)
}

/// As [`plain`], with the result cut at `max_chars`. An escape is never cut in two.
#[must_use]
pub fn plain_within(text: &str, max_chars: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max_chars));
    let mut left = max_chars;
    for character in text.chars() {
        let escape = (!is_plain(character)).then(|| character.escape_default());
        let width = escape.as_ref().map_or(1, ExactSizeIterator::len);
        let Some(rest) = left.checked_sub(width) else { break };
        left = rest;
        match escape {
            Some(escape) => out.extend(escape),
            None => out.push(character),
        }
    }
    out
}

/// As [`plain`], line by line: for a text of our own that contains foreign parts.
#[must_use]
pub fn plain_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(plain).collect();
    lines.join("\n")
}

/// As [`plain`], for bytes that should be UTF-8. Invalid sequences (also lone surrogates) become U+FFFD.
#[must_use]
pub fn plain_bytes(bytes: &[u8]) -> String {
    plain(&String::from_utf8_lossy(bytes))
}

/// Whether a character can be shown and sent as it is.
#[must_use]
pub fn is_plain(character: char) -> bool {
    !(character.is_control() || is_noncharacter(character) || is_separator(character) || is_invisible(character))
}

/// Unicode's 66 non-characters. U+FFFE and U+FFFF are not in XML 1.0's `Char`; the others are, but have no
/// meaning.
fn is_noncharacter(character: char) -> bool {
    let code = u32::from(character);
    matches!(code, 0xfdd0..=0xfdef) || code & 0xfffe == 0xfffe
}

/// Line and paragraph separators: some programs treat them as line ends. The ASCII ones are control characters.
fn is_separator(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}')
}

/// Unicode's `Default_Ignorable_Code_Point` (zero-width characters, bidirectional isolates and overrides,
/// variation selectors, tags), the bidirectional marks that are not in it, and the interlinear annotations.
fn is_invisible(character: char) -> bool {
    matches!(
        u32::from(character),
        0xad | 0x34f
            | 0x61c
            | 0x115f..=0x1160
            | 0x17b4..=0x17b5
            | 0x180b..=0x180f
            | 0x200b..=0x200f
            | 0x202a..=0x202e
            | 0x2060..=0x206f
            | 0x3164
            | 0xfe00..=0xfe0f
            | 0xfeff
            | 0xffa0
            | 0xfff0..=0xfffb
            | 0x1_bca0..=0x1_bca3
            | 0x1_d173..=0x1_d17a
            | 0xe_0000..=0xe_0fff
    )
}

/// Writes `value` as JSON on one line, with JSON's own escapes for every character that is not plain. The parsed
/// contents stay the same. Every outgoing body is written by this function.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, PlainFormatter))?;
    // The bytes are ASCII and pieces of `str`s, so they are UTF-8.
    String::from_utf8(bytes).map_err(serde_json::Error::custom)
}

/// Compact JSON whose strings are plain.
#[derive(Debug, Clone, Copy)]
struct PlainFormatter;

impl Formatter for PlainFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, character)) = rest.char_indices().find(|(_, character)| !is_plain(*character)) {
            let (before, after) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = after.get(character.len_utf8()..).unwrap_or_default();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Escapes `text` for a terminal, in any length, but keeps line ends and the colours that [`colour_len`] accepts. It is
/// the last step before a screen. It does not replace [`plain`] for foreign parts, because it keeps their line ends.
#[must_use]
pub fn screen(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let kept = if matches!(character, '\n' | '\t') || is_plain(character) {
            character.len_utf8()
        } else {
            colour_len(rest).unwrap_or(0)
        };
        let (before, after) = rest.split_at(kept);
        out.push_str(before);
        rest = after;
        if kept == 0 {
            out.extend(character.escape_default());
            rest = rest.get(character.len_utf8()..).unwrap_or_default();
        }
    }
    out
}

/// The length of an escape sequence at the start of `text` that sets colour or weight (`ESC [ 1 ; 31 m`); `None` if
/// there is none, or if it hides the text after it (8).
fn colour_len(text: &str) -> Option<usize> {
    const LONGEST: usize = 12;
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.bytes().take(LONGEST).position(|byte| byte == b'm')?;
    let sets = parameters.get(..end)?.split(';').all(|one| one != "8" && one.bytes().all(|b| b.is_ascii_digit()));
    sets.then(|| end.saturating_add("\u{1b}[m".len()))
}

/// Escapes JSON written elsewhere: every character that is not plain becomes JSON's own escape. White space stays,
/// because it separates JSON's tokens; all other such characters can only be inside strings.
#[must_use]
pub fn json_written(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if matches!(character, '\n' | '\r' | '\t') || is_plain(character) {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// The first character that SQS and SNS refuse in a body or an attribute, because it is not in XML 1.0's `Char`
/// (SQS API reference, `SendMessage`).
#[must_use]
pub fn unsendable(text: &str) -> Option<char> {
    let is_sendable = |character: &char| matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{1_0000}'..);
    text.chars().find(|character| !is_sendable(character))
}
