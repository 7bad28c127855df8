//! JSON as YAML that people can read: block style, a fixed order of names, long texts folded.

use std::fmt::Write as _;

use serde_json::Value;

/// Columns of a line of folded text.
const MAX_COLUMNS: usize = 120;

/// Names that come first, in this order; all others follow by the alphabet.
const FIRST: [&str; 17] = [
    "asyncapi",
    "info",
    "title",
    "version",
    "name",
    "address",
    "action",
    "channel",
    "summary",
    "description",
    "type",
    "properties",
    "channels",
    "operations",
    "components",
    "messages",
    "schemas",
];

/// A value as a YAML document.
#[must_use]
pub fn document(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

/// A list or map of at least one entry, each on lines of its own.
fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            let place = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
            let mut names: Vec<&String> = map.keys().collect();
            names.sort_by_key(|name| (place(name), name.as_str()));
            for name in names {
                let _ = write!(out, "{indent}{}:", scalar(name));
                entry(&map[name], depth, out);
            }
        }
        Value::Array(list) => {
            for one in list {
                let _ = write!(out, "{indent}-");
                entry(one, depth, out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = writeln!(out, "{indent}{value}");
        }
    }
}

/// What follows a name or a dash.
fn entry(value: &Value, depth: usize, out: &mut String) {
    let deeper = depth.saturating_add(1);
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(value, deeper, out);
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            block(value, deeper, out);
        }
        Value::String(text) if text.contains(' ') && text.len() > 60 && !text.contains('\n') => {
            out.push_str(" >-\n");
            folded(text, &"  ".repeat(deeper), out);
        }
        Value::String(text) => {
            let _ = writeln!(out, " {}", scalar(text));
        }
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {
            let _ = writeln!(out, " {value}");
        }
    }
}

fn folded(text: &str, indent: &str, out: &mut String) {
    let mut line = indent.to_owned();
    for word in text.split_whitespace() {
        if line.len() > indent.len() {
            if line.chars().count().saturating_add(word.chars().count()) >= MAX_COLUMNS {
                let _ = writeln!(out, "{line}");
                indent.clone_into(&mut line);
            } else {
                line.push(' ');
            }
        }
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

/// A text without quotes where YAML reads it as nothing else; as a JSON string elsewhere.
fn scalar(text: &str) -> String {
    let known = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str());
    let starts = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '$');
    let plain = |one: char| one.is_ascii_alphanumeric() || " $_./-".contains(one);
    if starts && !known && !text.ends_with(' ') && text.chars().all(plain) {
        return text.to_owned();
    }
    Value::from(text).to_string()
}
