//! Changes to JSON that a rule names: what makes a true answer odd.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One change to a value. A list of them is done in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// These fields get these values, if it is an object.
    Set(Map<String, Value>),
    /// These fields go, if it is an object.
    Remove(Vec<String>),
    /// It is something else.
    Replace(Value),
    /// A quantity is so much more, or less.
    Add(i64),
}

impl Change {
    /// Does it. What is `null` stays so unless it is replaced: nothing is odd about what is not there.
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

    /// All of them, in order.
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
    fn fields_are_set_removed_and_added_to() {
        let changes = json!([{ "remove": ["logs"] }, { "set": { "status": "0x0" } }]);
        assert_eq!(done(&changes, json!({ "logs": [], "status": "0x1", "n": 1 })), json!({ "status": "0x0", "n": 1 }));
        assert_eq!(done(&changes, Value::Null), Value::Null);
        assert_eq!(done(&json!([{ "add": 5 }]), json!("0xb")), "0x10");
        assert_eq!(done(&json!([{ "add": -12 }]), json!("0xb")), "0x0");
        assert_eq!(done(&json!([{ "add": 5 }]), json!("latest")), "latest");
        assert_eq!(done(&json!([{ "replace": null }]), json!(1)), Value::Null);
    }
}
