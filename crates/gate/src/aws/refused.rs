//! Entries of a batch that are refused for good: taken out of the call, and put among the failures of its answer,
//! as SQS and SNS word it. The others pass.
//!
//! Which entries is decided by their bodies alone, so the same entry is refused every time it comes: those that
//! hold the rule's `contains`, or all; never an outcome that says it is reduced.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::fault::AwsFault;
use super::operation::Operation;
use super::{Answered, Asked};
use crate::script::Rule;

/// The parameters of an entry in SNS's form: `PublishBatchRequestEntries.member.1.Message`.
const MEMBERS: &str = "PublishBatchRequestEntries.member.";
/// What an outcome says that was reduced because it was refused before.
const REDUCED: &str = "\"reduced\":true";

/// A batch call without its refused entries.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The call's body with the entries that pass; `None` if there are none.
    pub(crate) passing: Option<Bytes>,
    /// Ids of the refused entries.
    ids: Vec<String>,
    code: String,
    message: String,
}

impl Refusal {
    /// What a rule refuses of a call; `None` if nothing.
    pub(crate) fn of(rule: &Rule<AwsFault>, asked: &Asked) -> Option<Self> {
        let refuses = |body: &str| {
            let wanted = rule.contains.as_deref().is_none_or(|text| body.contains(text));
            wanted && !body.contains(REDUCED)
        };
        let (passing, ids) = match asked.operation.name.as_str() {
            "sqs:SendMessageBatch" => split_json(&asked.json, refuses),
            "sns:PublishBatch" => split_form(&asked.body, refuses),
            _ => return None,
        };
        let usual = if asked.operation.is("sns:PublishBatch") { "InvalidParameter" } else { "InvalidMessageContents" };
        let code = rule.code.as_ref().and_then(Value::as_str).unwrap_or(usual).to_owned();
        let message = rule.message.clone().unwrap_or_else(|| "by the gate's script".to_owned());
        (!ids.is_empty()).then_some(Self { passing, ids, code, message })
    }

    /// Code and words, for the refusal of the whole call.
    pub(crate) fn words(&self) -> (&str, &str) {
        (&self.code, &self.message)
    }

    /// The answer to what passed, with the failures of what did not.
    pub(crate) fn complete(&self, operation: &Operation, answered: Option<Answered>) -> Answered {
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
                "<member><Code>{code}</Code><Id>{id}</Id><Message>{message}</Message><SenderFault>true</SenderFault></member>"
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

/// The answer to a call of no entries.
fn empty(is_sns: bool) -> Answered {
    let (kind, body) = if is_sns {
        let xml = "<PublishBatchResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishBatchResult>\
                   <Successful/><Failed/></PublishBatchResult><ResponseMetadata><RequestId>gate</RequestId>\
                   </ResponseMetadata></PublishBatchResponse>";
        ("text/xml", xml)
    } else {
        ("application/x-amz-json-1.0", "{\"Successful\":[]}")
    };
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
    Answered { status: StatusCode::OK, headers, body: Bytes::from_static(body.as_bytes()) }
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
                // Members are numbered from 1 without gaps.
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
    fn a_form_keeps_its_other_members_numbered_from_one() {
        let form = "Action=PublishBatch&PublishBatchRequestEntries.member.1.Id=0&PublishBatchRequestEntries.member.1.Message=bad\
                    &PublishBatchRequestEntries.member.2.Id=1&PublishBatchRequestEntries.member.2.Message=good+one&TopicArn=t";
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
