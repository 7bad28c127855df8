//! Duplicate delivery on standard queues: a message that was just received is made visible again, so
//! the next receive gets it too, under another handle.
//!
//! On SQS the older handle of such a message still works for the caller's purposes: deleting by it
//! succeeds, whether or not the message goes. The emulator calls it invalid, so its answers about
//! handles the gate has outdated are put right here.

use std::collections::HashSet;
use std::sync::Mutex;

use serde_json::{Value, json};

/// Receipt handles that are older than their message's last one.
#[derive(Debug, Default)]
pub(crate) struct Outdated(Mutex<HashSet<String>>);

impl Outdated {
    pub(crate) fn add(&self, handle: &str) {
        self.0.lock().expect("no holder of the handles panics").insert(handle.to_owned());
    }

    fn contains(&self, handle: &Value) -> bool {
        handle.as_str().is_some_and(|handle| self.0.lock().expect("no holder of the handles panics").contains(handle))
    }

    /// What SQS would answer to a call that names receipt handles, if the emulator answers otherwise.
    pub(crate) fn corrected(&self, request: &Value, answer: &Value) -> Option<Value> {
        if answer["__type"].is_string() {
            return self.contains(&request["ReceiptHandle"]).then(|| json!({}));
        }
        let failed = answer["Failed"].as_array()?;
        let handle_of = |id: &Value| {
            let entries = request["Entries"].as_array()?;
            entries.iter().find(|entry| entry["Id"] == *id).map(|entry| &entry["ReceiptHandle"])
        };
        let (fine, failed): (Vec<&Value>, Vec<&Value>) =
            failed.iter().partition(|failure| handle_of(&failure["Id"]).is_some_and(|handle| self.contains(handle)));
        if fine.is_empty() {
            return None;
        }
        let mut successful = answer["Successful"].as_array().cloned().unwrap_or_default();
        successful.extend(fine.into_iter().map(|failure| json!({ "Id": failure["Id"] })));
        Some(json!({ "Successful": successful, "Failed": failed }))
    }
}

/// The handles of a receive's messages.
pub(crate) fn handles(answer: &Value) -> Vec<String> {
    let messages = answer["Messages"].as_array().into_iter().flatten();
    messages.filter_map(|message| message["ReceiptHandle"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_about_outdated_handles_are_put_right() {
        let outdated = Outdated::default();
        outdated.add("old");
        let invalid = json!({ "__type": "ReceiptHandleIsInvalid", "message": "..." });
        assert_eq!(outdated.corrected(&json!({ "ReceiptHandle": "old" }), &invalid), Some(json!({})));
        assert_eq!(outdated.corrected(&json!({ "ReceiptHandle": "new" }), &invalid), None);
        let request =
            json!({ "Entries": [{ "Id": "1", "ReceiptHandle": "old" }, { "Id": "2", "ReceiptHandle": "x" }] });
        let answer = json!({ "Failed": [{ "Id": "1" }, { "Id": "2" }], "Successful": [{ "Id": "3" }] });
        let right = json!({ "Failed": [{ "Id": "2" }], "Successful": [{ "Id": "3" }, { "Id": "1" }] });
        assert_eq!(outdated.corrected(&request, &answer), Some(right));
        assert_eq!(outdated.corrected(&request, &json!({ "Successful": [{ "Id": "1" }] })), None);
    }
}
