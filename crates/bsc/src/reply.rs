//! Matches the answers in one HTTP body to their calls.
//!
//! The reply to a single call is used whatever its id. In a batch the id assigns an answer to its call, and an answer
//! without one of our ids is dropped. If an id is foreign or repeated while a call has no answer, the whole reply is
//! rejected.
//!
//! Read next: `batch.rs`.

use serde_json::Value;

use crate::answer::{Answer, Call, CallFailure, NodeError};
use crate::classify;

/// The content of a body.
#[derive(Debug)]
pub(crate) struct Reply {
    /// One answer for each call, in the order of the calls.
    pub(crate) answers: Vec<Answer>,
    /// Number of answers received, valid or not.
    pub(crate) items: usize,
}

impl Reply {
    /// Sorts the answers into the order of the `count` calls, whose ids begin at `ids`. The answers may be reordered,
    /// repeated or missing, or a single object.
    pub(crate) fn read(body: &[u8], ids: u64, count: usize) -> Result<Self, CallFailure> {
        match serde_json::from_slice(body) {
            Ok(Value::Array(items)) if count == 1 => read_single(&items, ids),
            Ok(Value::Array(items)) => read_batch(&items, ids, count),
            Ok(object @ Value::Object(_)) if count == 1 => read_single(&[object], ids),
            // An error for the batch as a whole. A result cannot be assigned to a call.
            Ok(object @ Value::Object(_)) => node_error(&object).map(|error| for_all(&error, count)),
            Ok(_) | Err(_) => None,
        }
        .unwrap_or(Err(CallFailure::NotJsonRpc))
    }

    /// The error that all calls of a batch got, unless a node may well answer each of these calls with it.
    pub(crate) fn one_error_for(&self, calls: &[Call]) -> Option<NodeError> {
        let mut first: Option<&NodeError> = None;
        for answer in &self.answers {
            match answer {
                Err(CallFailure::Node(error)) if first.is_none_or(|first| is_same(first, error)) => {
                    first.get_or_insert(error);
                }
                Ok(_) | Err(CallFailure::Node(_)) => return None,
                Err(_) => {}
            }
        }
        let first = first.filter(|error| calls.len() > 1 && !classify::is_rate_limit(error.code, &error.message))?;
        let method = calls.first().map(|call| call.method);
        let are_alike = calls.iter().all(|call| Some(call.method) == method);
        let is_theirs = are_alike && self.items >= calls.len() && classify::is_known(first.code, &first.message);
        (!is_theirs).then(|| first.clone())
    }
}

/// Whether a single call got the same error as the batch.
pub(crate) fn says_the_same(answer: &Answer, error: &NodeError) -> bool {
    matches!(answer, Err(CallFailure::Node(own)) if is_same(own, error))
}

/// Compares codes and words. Words with a digit are ignored: they are numbers, ids and addresses.
fn is_same(one: &NodeError, other: &NodeError) -> bool {
    fn words(error: &NodeError) -> impl Iterator<Item = &str> {
        error.message.split_whitespace().filter(|word| !word.contains(|char: char| char.is_ascii_digit()))
    }
    one.code == other.code && words(one).eq(words(other))
}

fn read_single(items: &[Value], ids: u64) -> Option<Result<Reply, CallFailure>> {
    let own = |item: &&Value| item.get("id").and_then(read_id) == Some(ids);
    let answer = match items {
        [item] => read_item(item)?,
        // A request that could not be parsed is answered without an id.
        items => {
            items.iter().filter(own).find_map(read_item).or_else(|| items.iter().find_map(node_error).map(failed))?
        }
    };
    Some(Ok(Reply { answers: vec![answer], items: items.len() }))
}

fn read_batch(items: &[Value], ids: u64, count: usize) -> Option<Result<Reply, CallFailure>> {
    let mut answers: Vec<Option<Answer>> = vec![None; count];
    let (mut ours, mut strange) = (false, false);
    for item in items {
        // geth refuses a batch with an error in place of its first answer.
        if let Some(error) = node_error(item).filter(|error| classify::is_batch_refusal(&error.message)) {
            return Some(Err(CallFailure::BatchRefused(error)));
        }
        let (Some(answer), Some(id)) = (read_item(item), item.get("id").and_then(read_id)) else { continue };
        let place = id.checked_sub(ids).and_then(|place| usize::try_from(place).ok());
        match place.and_then(|place| answers.get_mut(place)) {
            // The first answer counts; a second one is not more reliable.
            Some(Some(_)) | None => strange = true,
            Some(place) => {
                *place = Some(answer);
                ours = true;
            }
        }
    }
    if !ours {
        return items.iter().find_map(node_error).map(|error| for_all(&error, count));
    }
    if strange && answers.iter().any(Option::is_none) {
        return None;
    }
    let answers = answers.into_iter().map(|answer| answer.unwrap_or(Err(CallFailure::Unanswered))).collect();
    Some(Ok(Reply { answers, items: items.len() }))
}

/// One error as the answer to every call.
fn for_all(error: &NodeError, count: usize) -> Result<Reply, CallFailure> {
    if classify::is_batch_refusal(&error.message) && !classify::is_rate_limit(error.code, &error.message) {
        return Err(CallFailure::BatchRefused(error.clone()));
    }
    Ok(Reply { answers: vec![failed(error.clone()); count], items: 1 })
}

fn failed(error: NodeError) -> Answer {
    Err(CallFailure::Node(error))
}

/// An item with neither a result nor an error is not a valid answer.
fn read_item(item: &Value) -> Option<Answer> {
    node_error(item).map(failed).or_else(|| item.get("result").cloned().map(Ok))
}

/// Reads an id; some gateways return ids as text.
fn read_id(id: &Value) -> Option<u64> {
    id.as_u64().or_else(|| id.as_str()?.parse().ok())
}

fn node_error(item: &Value) -> Option<NodeError> {
    let error = item.get("error").filter(|error| error.is_object())?;
    let code = error.get("code");
    let code = code.and_then(|code| code.as_i64().or_else(|| code.as_str()?.parse().ok())).unwrap_or(0);
    let message = error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(NodeError { code, message, data: error.get("data").filter(|data| !data.is_null()).cloned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The answers to three calls with the ids 7, 8 and 9, as text; `None` if the reply is rejected.
    fn read(body: &Value) -> Option<Vec<String>> {
        let reply = Reply::read(body.to_string().as_bytes(), 7, 3).ok()?;
        let text = |answer: Answer| match answer {
            Ok(value) => value.to_string(),
            Err(failure) => failure.to_string(),
        };
        Some(reply.answers.into_iter().map(text).collect())
    }

    fn item(id: &Value) -> Value {
        json!({"id": id, "result": id})
    }

    #[test]
    fn foreign_or_repeated_id_with_missing_answer_rejects_all() {
        let items = |ids: &[Value]| read(&ids.iter().map(item).collect());
        assert_eq!(items(&[json!(9), json!(7), json!(8)]).unwrap(), ["7", "8", "9"]);
        assert_eq!(items(&[json!(7), json!(8), json!(9), json!(77), json!(8)]).unwrap(), ["7", "8", "9"]);
        assert_eq!(items(&[json!(7), json!(9)]).unwrap(), ["7", "the call was not answered", "9"]);
        assert_eq!(items(&[json!(7), json!(null), json!(9)]).unwrap()[1], "the call was not answered");
        assert_eq!(items(&[json!(8), json!(9), json!(10)]), None, "off by one");
        assert_eq!(items(&[json!(7), json!(7), json!(9)]), None, "the second may belong to another call");
        assert_eq!(items(&[json!(0), json!(1), json!(2)]), None);
    }

    #[test]
    fn error_words_are_compared_without_numbers() {
        let error = |code, message: &str| NodeError { code, message: message.to_owned(), data: None };
        let same = |one: &str, other: &str| is_same(&error(1, one), &error(1, other));
        assert!(same("no batches, trace 0a77", "no batches, trace 0b91"));
        assert!(same("", ""));
        assert!(!same("no batches", "no such block"));
        assert!(!is_same(&error(1, "no"), &error(2, "no")));
    }
}
