//! Duplicate delivery on standard queues: a received message is made visible again, so that the next receive also gets
//! it, with another handle.
//!
//! In SQS, a delete with the older handle of such a message succeeds, whether or not the message is deleted. The
//! emulator calls the handle invalid, so this module corrects its answers about handles that the gate made outdated.

use std::collections::HashSet;
use std::sync::Mutex;

use serde_json::{Value, json};

/// Receipt handles that are older than the last one of their message.
#[derive(Debug, Default)]
pub(crate) struct Outdated(Mutex<HashSet<String>>);

impl Outdated {
    pub(crate) fn add(&self, handle: &str) {
        self.0.lock().expect("no holder of the handles panics").insert(handle.to_owned());
    }

    fn contains(&self, handle: &Value) -> bool {
        handle.as_str().is_some_and(|handle| self.0.lock().expect("no holder of the handles panics").contains(handle))
    }

    /// The answer of SQS to a call with receipt handles, if the emulator answers differently.
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

/// The receipt handles in the answer to a receive.
pub(crate) fn handles(answer: &Value) -> Vec<String> {
    let messages = answer["Messages"].as_array().into_iter().flatten();
    messages.filter_map(|message| message["ReceiptHandle"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_about_outdated_handles_are_corrected() {
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
