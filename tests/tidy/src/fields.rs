//! The fields of a JSON Schema as a Markdown table: one row per field, with dotted names for what is inside.

use std::fmt::Write as _;

use serde_json::Value;

/// The table of a schema's fields: those that are always there first, in the type's order.
#[must_use]
pub fn table(schema: &Value) -> String {
    let mut out = "| field | type | always | meaning |\n|---|---|---|---|\n".to_owned();
    rows(schema, schema, "", true, &mut out);
    out
}

/// The rows of an object's fields. What is only one of several shapes has no field that is always there.
fn rows(root: &Value, object: &Value, prefix: &str, only_shape: bool, out: &mut String) {
    let none = serde_json::Map::new();
    let properties = object["properties"].as_object().unwrap_or(&none);
    let required: Vec<&str> = object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let optional = properties.keys().map(String::as_str).filter(|name| !required.contains(name));
    for name in required.iter().copied().chain(optional) {
        let property = &properties[name];
        let always = if only_shape && required.contains(&name) { "yes" } else { "" };
        let (inside, name) = inside(root, property, &format!("{prefix}{name}"));
        let kind = kind(root, property);
        let meaning = described(root, property);
        let _ = writeln!(out, "| `{name}` | {kind} | {always} | {meaning} |");
        let only_shape = inside.len() == 1;
        for object in inside {
            rows(root, object, &format!("{name}."), only_shape, out);
        }
    }
}

/// The objects that a field holds, and its name, with `[]` for a list.
fn inside<'s>(root: &'s Value, property: &'s Value, name: &str) -> (Vec<&'s Value>, String) {
    let found = resolved(root, property);
    if found["type"] == "array" {
        let (objects, _) = inside(root, &found["items"], name);
        return (objects, format!("{name}[]"));
    }
    let choices = choices(found);
    let objects = if found["properties"].is_object() { vec![found] } else { choices };
    (
        objects.into_iter().map(|one| resolved(root, one)).filter(|one| one["properties"].is_object()).collect(),
        name.to_owned(),
    )
}

/// What a schema may be, without null.
fn choices(schema: &Value) -> Vec<&Value> {
    let listed = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
    listed.into_iter().flatten().filter(|one| one["type"] != "null").collect()
}

/// A schema, or the one that it refers to, also where that may be null.
fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    if let Some(path) = schema["$ref"].as_str() {
        let target = root.pointer(path.trim_start_matches('#')).expect("a reference leads somewhere");
        return resolved(root, target);
    }
    match choices(schema).as_slice() {
        [only] => resolved(root, only),
        _ => schema,
    }
}

fn kind(root: &Value, property: &Value) -> String {
    // These two have names of their own in the text around the table.
    match property["$ref"].as_str() {
        Some("#/$defs/Quantity") => return "number".to_owned(),
        Some("#/$defs/Recipient") => return "address or `null`".to_owned(),
        Some("#/$defs/Status") => return "[status](#statuses)".to_owned(),
        Some(_) | None => {}
    }
    let found = resolved(root, property);
    let words: Vec<String> =
        choices(found).iter().filter_map(|one| one["const"].as_str()).map(|word| format!("`{word}`")).collect();
    if !words.is_empty() {
        return words.join(" or ");
    }
    let types = &found["type"];
    let name = types.as_array().and_then(|all| all.iter().find(|one| *one != "null")).unwrap_or(types).as_str();
    match name {
        Some("array") if kind(root, &found["items"]) == "object" => "list of objects".to_owned(),
        Some("array") => format!("list of {}", kind(root, &found["items"])),
        Some(name) => name.to_owned(),
        None if choices(found).is_empty() => "any JSON".to_owned(),
        None => "object".to_owned(),
    }
}

fn described(root: &Value, property: &Value) -> String {
    let own = property["description"].as_str();
    cell(own.or_else(|| resolved(root, property)["description"].as_str()).unwrap_or_default())
}

/// A text as the cell of a table.
#[must_use]
pub fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
