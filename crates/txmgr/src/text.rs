//! Foreign text, made fit to be shown and sent.
//!
//! Nodes, contracts, services and senders write what they like: escape sequences that drive a terminal,
//! characters that hide or reverse what follows, characters that SQS and SNS do not take. [`plain`] spells them
//! out; [`json`] writes JSON with them as JSON's own escapes, so that its contents stay the same for whoever
//! parses it. Both go by one list, [`is_plain`].
//!
//! ## Guarantees
//! * What comes out has only characters that SQS and SNS take (XML 1.0's `Char`), one line, and no character
//!   that is invisible or changes how others are shown.
//! * [`plain`] of plain text within its length is that text: it may be applied at every boundary.
//!
//! ## Does not guarantee
//! * That the text can be told from one that held the spelling of an escape to begin with.
//! * That letters which look alike are told apart.
//!
//! Read next: [`crate::wire`].

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde::ser::Error as _;
use serde_json::ser::{Formatter, Serializer};

/// Characters of a reason's message that are kept: one with a node's words or a contract's text, and a list of names.
pub const REASON_MAX_CHARS: usize = 2_000;

/// Characters of a foreign text that are kept where nothing else is said: some lines of a screen.
pub const MAX_CHARS: usize = 1_000;

/// Most bytes of a message with its attributes, and of all entries of a batch together: what an SNS topic takes
/// unless its `MaximumMessageSize` says more (up to 1 MiB), and what every SQS queue takes: new ones take 1 MiB (SNS
/// guide, "Publishing large messages"; SQS guide, "Message quotas"; both read 2026-11-27).
pub const MAX_MESSAGE_BYTES: usize = 262_144;

/// `text` with every character that [`is_plain`] does not take spelled out (`\u{9b}`, `\n`), cut at
/// [`MAX_CHARS`].
#[must_use]
pub fn plain(text: &str) -> String {
    plain_within(text, MAX_CHARS)
}

/// As [`plain`], cut at `max_chars` of what comes out. An escape is never cut in two.
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

/// As [`plain`], line by line: a text of our own with foreign parts in it.
#[must_use]
pub fn plain_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(plain).collect();
    lines.join("\n")
}

/// As [`plain`], of bytes that should be UTF-8; what is none (a lone surrogate too) becomes U+FFFD.
#[must_use]
pub fn plain_bytes(bytes: &[u8]) -> String {
    plain(&String::from_utf8_lossy(bytes))
}

/// Whether a character can be shown and sent as it is.
#[must_use]
pub fn is_plain(character: char) -> bool {
    !(character.is_control() || is_noncharacter(character) || is_separator(character) || is_invisible(character))
}

/// Unicode's 66 non-characters. U+FFFE and U+FFFF are not in XML 1.0's `Char`; the others are in it, but mean
/// nothing to anybody.
fn is_noncharacter(character: char) -> bool {
    let code = u32::from(character);
    matches!(code, 0xfdd0..=0xfdef) || code & 0xfffe == 0xfffe
}

/// Line and paragraph separators: a new line to some readers. The ASCII ones are control characters.
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

/// `value` as JSON on one line, with every character that is not plain as JSON's own escape: the contents are
/// the same once it is parsed. Every body that leaves is written by this.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, PlainFormatter))?;
    // What is written is pieces of `str`s and ASCII.
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

/// `text` for a terminal: as [`plain`] in any length, but with its line ends and the colours that
/// [`colour_len`] knows. The last gate before a screen, and no substitute for [`plain`] of a part: a foreign line
/// end would pass.
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

/// The length of the escape sequence at the start of `text` that sets a colour or a weight (`ESC [ 1 ; 31 m`).
/// Not the one that hides what follows (8).
fn colour_len(text: &str) -> Option<usize> {
    const LONGEST: usize = 12;
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.bytes().take(LONGEST).position(|byte| byte == b'm')?;
    let sets = parameters.get(..end)?.split(';').all(|one| one != "8" && one.bytes().all(|b| b.is_ascii_digit()));
    sets.then(|| end.saturating_add("\u{1b}[m".len()))
}

/// JSON that somebody else wrote, with every character that is not plain as JSON's own escape. White space stays:
/// in JSON it is between the parts, and all else that is not plain can only be within its strings.
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

/// The first character that SQS and SNS do not take in a body or an attribute: one that is not XML 1.0's `Char`
/// (SQS API reference, `SendMessage`).
#[must_use]
pub fn unsendable(text: &str) -> Option<char> {
    let takes = |character: &char| matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{1_0000}'..);
    text.chars().find(|character| !takes(character))
}
