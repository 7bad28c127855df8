//! Changes to JSON in a rule, which make a correct answer odd.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One change to a value. A list of changes is applied in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// Sets these fields of an object.
    Set(Map<String, Value>),
    /// Removes these fields of an object.
    Remove(Vec<String>),
    /// Replaces the value.
    Replace(Value),
    /// Adds to a hexadecimal quantity, or subtracts from it.
    Add(i64),
}

impl Change {
    /// Applies the change. `null` stays `null` unless it is replaced.
    #[must_use]
    pub fn done_to(&self, value: Value) -> Value {
        match (self, value) {
            (Self::Replace(other), _) => other.clone(),
            (Self::Set(fields), Value::Object(mut object)) => {
                object.extend(fields.clone());
                Value::Object(object)
            }
            (Self::Remove(names), Value::Object(mut object)) => {
                object.retain(|name, _| !names.contains(name));
                Value::Object(object)
            }
            (Self::Add(more), Value::String(text)) => json!(added(&text, *more).unwrap_or(text)),
            (_, value) => value,
        }
    }

    /// Applies all changes in order.
    #[must_use]
    pub fn all_done(changes: &[Self], value: Value) -> Value {
        changes.iter().fold(value, |value, change| change.done_to(value))
    }
}

fn added(quantity: &str, more: i64) -> Option<String> {
    let number = u64::from_str_radix(quantity.strip_prefix("0x")?, 16).ok()?;
    Some(format!("{:#x}", number.saturating_add_signed(more)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(changes: &Value, value: Value) -> Value {
        Change::all_done(&serde_json::from_value::<Vec<_>>(changes.clone()).unwrap(), value)
    }

    #[test]
    fn changes_set_remove_add_and_replace() {
        let changes = json!([{ "remove": ["logs"] }, { "set": { "status": "0x0" } }]);
        assert_eq!(done(&changes, json!({ "logs": [], "status": "0x1", "n": 1 })), json!({ "status": "0x0", "n": 1 }));
        assert_eq!(done(&changes, Value::Null), Value::Null);
        assert_eq!(done(&json!([{ "add": 5 }]), json!("0xb")), "0x10");
        assert_eq!(done(&json!([{ "add": -12 }]), json!("0xb")), "0x0");
        assert_eq!(done(&json!([{ "add": 5 }]), json!("latest")), "latest");
        assert_eq!(done(&json!([{ "replace": null }]), json!(1)), Value::Null);
    }
}
