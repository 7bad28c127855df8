//! Refuses entries of a batch permanently: removes them from the call and adds them to the failures of its answer, in
//! the format of SQS or SNS. The other entries pass.
//!
//! The body alone decides, so the same entry is refused every time: entries that contain the rule's `contains`, or all;
//! never an outcome that is marked as reduced.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::fault::AwsFault;
use super::operation::Operation;
use super::{WholeAnswer, WholeRequest};
use crate::script::Rule;

/// The prefix of an entry's parameters in an SNS form: `PublishBatchRequestEntries.member.1.Message`.
const MEMBERS: &str = "PublishBatchRequestEntries.member.";
/// The mark of an outcome that was reduced because it had been refused.
const REDUCED: &str = "\"reduced\":true";

/// A batch call without its refused entries.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The body with the entries that pass; `None` if there are none.
    pub(crate) passing: Option<Bytes>,
    /// The ids of the refused entries.
    ids: Vec<String>,
    code: String,
    message: String,
}

impl Refusal {
    /// The entries that a rule refuses; `None` if there are none.
    pub(crate) fn of(rule: &Rule<AwsFault>, request: &WholeRequest) -> Option<Self> {
        let refuses = |body: &str| {
            let wanted = rule.contains.as_deref().is_none_or(|text| body.contains(text));
            wanted && !body.contains(REDUCED)
        };
        let (passing, ids) = match request.operation.name.as_str() {
            "sqs:SendMessageBatch" => split_json(&request.json, refuses),
            "sns:PublishBatch" => split_form(&request.body, refuses),
            _ => return None,
        };
        let usual =
            if request.operation.is("sns:PublishBatch") { "InvalidParameter" } else { "InvalidMessageContents" };
        let code = rule.code.as_ref().and_then(Value::as_str).unwrap_or(usual).to_owned();
        let message = rule.message.clone().unwrap_or_else(|| "injected by the gate's script".to_owned());
        (!ids.is_empty()).then_some(Self { passing, ids, code, message })
    }

    /// Code and message, for the refusal of the whole call.
    pub(crate) fn code_and_message(&self) -> (&str, &str) {
        (&self.code, &self.message)
    }

    /// The answer for the entries that passed, with failures added for the refused ones.
    pub(crate) fn complete(&self, operation: &Operation, answered: Option<WholeAnswer>) -> WholeAnswer {
        let is_sns = operation.is("sns:PublishBatch");
        let mut answered = answered.unwrap_or_else(|| empty(is_sns));
        if !answered.status.is_success() {
            return answered;
        }
        let body = if is_sns { self.in_xml(&answered.body) } else { self.in_json(&answered.body) };
        answered.body = Bytes::from(body);
        answered
    }

    fn in_json(&self, body: &[u8]) -> String {
        let mut answer: Value = serde_json::from_slice(body).unwrap_or_else(|_| json!({}));
        let mut failed = answer["Failed"].as_array().cloned().unwrap_or_default();
        failed.extend(
            self.ids
                .iter()
                .map(|id| json!({ "Id": id, "SenderFault": true, "Code": self.code, "Message": self.message })),
        );
        answer["Failed"] = Value::Array(failed);
        answer.to_string()
    }

    fn in_xml(&self, body: &[u8]) -> String {
        let body = String::from_utf8_lossy(body);
        let member = |id: &String| {
            let (code, message) = (&self.code, &self.message);
            format!(
                "<member><Code>{code}</Code><Id>{id}</Id><Message>{message}</Message>\
                 <SenderFault>true</SenderFault></member>"
            )
        };
        let members: String = self.ids.iter().map(member).collect();
        for (place, with) in [
            ("</Failed>", format!("{members}</Failed>")),
            ("<Failed/>", format!("<Failed>{members}</Failed>")),
            ("<Failed />", format!("<Failed>{members}</Failed>")),
        ] {
            if body.contains(place) {
                return body.replacen(place, &with, 1);
            }
        }
        body.replacen("</PublishBatchResult>", &format!("<Failed>{members}</Failed></PublishBatchResult>"), 1)
    }
}

/// The answer to a call without entries.
fn empty(is_sns: bool) -> WholeAnswer {
    let (kind, body) = if is_sns {
        let xml = "<PublishBatchResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishBatchResult>\
                   <Successful/><Failed/></PublishBatchResult><ResponseMetadata><RequestId>gate</RequestId>\
                   </ResponseMetadata></PublishBatchResponse>";
        ("text/xml", xml)
    } else {
        ("application/x-amz-json-1.0", "{\"Successful\":[]}")
    };
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
    WholeAnswer { status: StatusCode::OK, headers, body: Bytes::from_static(body.as_bytes()) }
}

fn split_json(request: &Value, refuses: impl Fn(&str) -> bool) -> (Option<Bytes>, Vec<String>) {
    let entries = request["Entries"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let (taken_out, passing): (Vec<Value>, Vec<Value>) =
        entries.into_iter().partition(|entry| refuses(&text(entry, "MessageBody")));
    let ids = taken_out.iter().map(|entry| text(entry, "Id")).collect();
    let mut rest = request.clone();
    let any = !passing.is_empty();
    rest["Entries"] = Value::Array(passing);
    (any.then(|| Bytes::from(rest.to_string())), ids)
}

fn split_form(body: &[u8], refuses: impl Fn(&str) -> bool) -> (Option<Bytes>, Vec<String>) {
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(body).into_owned().collect();
    let place = |name: &str| {
        let (number, field) = name.strip_prefix(MEMBERS)?.split_once('.')?;
        Some((number.parse::<usize>().ok()?, field.to_owned()))
    };
    let of = |number: usize, wanted: &str| {
        let found = pairs.iter().find(|(name, _)| place(name) == Some((number, wanted.to_owned())));
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let mut numbers: Vec<usize> = pairs.iter().filter_map(|(name, _)| place(name)).map(|(number, _)| number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let (taken_out, passing): (Vec<usize>, Vec<usize>) =
        numbers.into_iter().partition(|number| refuses(&of(*number, "Message")));
    let ids = taken_out.iter().map(|number| of(*number, "Id")).collect();
    if passing.is_empty() {
        return (None, ids);
    }
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in &pairs {
        match place(name) {
            None => {
                form.append_pair(name, value);
            }
            Some((number, field)) => {
                // Members must be numbered from 1 without gaps.
                if let Some(at) = passing.iter().position(|other| *other == number) {
                    form.append_pair(&format!("{MEMBERS}{}.{field}", at.saturating_add(1)), value);
                }
            }
        }
    }
    (Some(Bytes::from(form.finish())), ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_form_members_are_numbered_from_one() {
        let form = "Action=PublishBatch&PublishBatchRequestEntries.member.1.Id=0\
                    &PublishBatchRequestEntries.member.1.Message=bad\
                    &PublishBatchRequestEntries.member.2.Id=1\
                    &PublishBatchRequestEntries.member.2.Message=good+one&TopicArn=t";
        let (passing, ids) = split_form(form.as_bytes(), |body| body == "bad");
        assert_eq!(ids, ["0"]);
        let passing = String::from_utf8(passing.unwrap().to_vec()).unwrap();
        assert_eq!(
            passing,
            "Action=PublishBatch&PublishBatchRequestEntries.member.1.Id=1\
             &PublishBatchRequestEntries.member.1.Message=good+one&TopicArn=t"
        );
        assert_eq!(split_form(form.as_bytes(), |_| true), (None, vec!["0".to_owned(), "1".to_owned()]));
    }
}
