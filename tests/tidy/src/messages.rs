//! The parts of `schemas/README.md` that come from code: fields, statuses, codes and examples.
//!
//! A part stands between `<!-- from code: NAME -->` and `<!-- end -->`; the words around it are written by hand.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;
use signpost_txmgr::record::WaitCause;
use signpost_txmgr::request::Code;
use signpost_txmgr::wire::schema::schemas;

use crate::{fields, root};

const BEGIN: &str = "<!-- from code: ";
const BEGIN_ENDS: &str = " -->\n";
const END: &str = "<!-- end -->";

/// A page with its parts from code written anew.
///
/// # Panics
/// If a part has no end, or a name that nothing is known by.
#[must_use]
pub fn filled(page: &str) -> String {
    let mut parts = page.split(BEGIN);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(BEGIN_ENDS).expect("a mark ends on its line");
        let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("the part {name} has an end"));
        let _ = write!(out, "{BEGIN}{name}{BEGIN_ENDS}\n{}\n{END}{after}", section(name));
    }
    out
}

/// The page as it should be, from the one that is there.
#[must_use]
pub fn page() -> String {
    filled(&fs::read_to_string(root().join("schemas/README.md")).unwrap_or_default())
}

fn section(name: &str) -> String {
    if let Some(path) = name.strip_prefix("example ") {
        let text = fs::read_to_string(root().join("schemas/examples").join(path));
        return format!("```json\n{}```\n", text.unwrap_or_else(|_| panic!("there is an example {path}")));
    }
    match name {
        "statuses" => statuses(),
        "refusal codes" => {
            let rows = Code::ALL.iter().map(|code| (code.as_str(), code.meaning()));
            table("code", rows)
        }
        "waiting codes" => table("code", WaitCause::ALL.iter().map(|cause| (cause.code(), cause.meaning()))),
        schema => fields::table(&schema_of(schema)),
    }
}

fn schema_of(name: &str) -> Value {
    let file = format!("{name}.json");
    let found = schemas().into_iter().find(|(found, _)| *found == file);
    found.unwrap_or_else(|| panic!("nothing is known by the name {name}")).1
}

fn statuses() -> String {
    let schema = schema_of("request-status.v1");
    let all = schema["$defs"]["Status"]["oneOf"].as_array().expect("a status is one of several");
    let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
    let rows: Vec<(String, String)> = all.iter().map(|one| (text(&one["const"]), text(&one["description"]))).collect();
    table("status", rows.iter().map(|(name, meaning)| (name.as_str(), meaning.as_str())))
}

fn table<'t>(head: &str, rows: impl Iterator<Item = (&'t str, &'t str)>) -> String {
    let rows = rows.map(|(name, meaning)| format!("| `{name}` | {} |\n", fields::cell(meaning)));
    std::iter::once(format!("| {head} | meaning |\n|---|---|\n")).chain(rows).collect()
}
