//! The event of an invocation: SQS records, or the name of a task from a schedule.
//!
//! Bodies stay text here: the handler decides for each whether it is a valid request.

use aws_lambda_events::event::sqs::SqsMessage;
use serde::Deserialize;
use signpost_txmgr::inbox::{Incoming, is_fifo};

/// The message attribute with a W3C trace context, as OpenTelemetry sends it.
const TRACE_PARENT: &str = "traceparent";

/// An event from Lambda.
#[derive(Debug, Deserialize)]
pub struct Event {
    #[serde(rename = "Records", default)]
    records: Option<Vec<SqsMessage>>,
    #[serde(default)]
    signpost: Option<String>,
}

/// The kind of an event.
#[derive(Debug)]
pub enum EventKind {
    /// Records of a queue.
    Records(Vec<SqsMessage>),
    /// `{"signpost": task}`.
    Task(String),
}

/// Why an event cannot be handled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The event has neither records nor a task, or both.
    #[error("the event is neither a batch of SQS records nor {{\"signpost\": \"sweep\"}}")]
    Unknown,
    /// A record without an id cannot be reported as failed, so Lambda must redeliver the whole batch.
    #[error("record {position} of the batch has no messageId")]
    NoMessageId {
        /// Position in the batch, from 1.
        position: usize,
    },
    /// A schedule names an unknown task.
    #[error("this function has no task {task:?}")]
    UnknownTask {
        /// The task's name.
        task: String,
    },
}

impl Event {
    /// The kind of this event.
    pub fn kind(self) -> Result<EventKind, Unusable> {
        match (self.records, self.signpost) {
            (Some(records), None) => Ok(EventKind::Records(records)),
            (None, Some(task)) => Ok(EventKind::Task(task)),
            (Some(_), Some(_)) | (None, None) => Err(Unusable::Unknown),
        }
    }
}

/// The messages of each queue, in order. A batch comes from one queue, but nothing here relies on that.
pub fn by_queue(records: Vec<SqsMessage>) -> Result<Vec<(String, Vec<Incoming>)>, Unusable> {
    let mut queues: Vec<(String, Vec<Incoming>)> = Vec::new();
    for (record, position) in records.into_iter().zip(1..) {
        let arn = record.event_source_arn.clone().unwrap_or_default();
        let message = incoming(record, is_fifo(&arn), position)?;
        match queues.iter_mut().find(|(known, _)| *known == arn) {
            Some((_, messages)) => messages.push(message),
            None => queues.push((arn, vec![message])),
        }
    }
    Ok(queues)
}

fn incoming(record: SqsMessage, fifo: bool, position: usize) -> Result<Incoming, Unusable> {
    // Lambda reads an empty identifier as "all records failed", so such a record is not handled.
    let message_id = record.message_id.filter(|id| !id.is_empty()).ok_or(Unusable::NoMessageId { position })?;
    let mut attributes = record.attributes;
    let trace_parent = record.message_attributes.get(TRACE_PARENT).and_then(|trace| trace.string_value.clone());
    let receives = attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok());
    Ok(Incoming {
        receipt: record.receipt_handle.unwrap_or_default(),
        message_id,
        // On a standard queue a group is for fair sharing only, not for order.
        group: attributes.remove("MessageGroupId").filter(|_| fifo),
        sender: attributes.remove("SenderId"),
        // The sender's own trace has priority over the one that AWS added.
        trace: trace_parent.or_else(|| attributes.remove("AWSTraceHeader")),
        receives: receives.unwrap_or(1),
        body: record.body.unwrap_or_default(),
    })
}

/// Whether an ARN (`arn:aws:sqs:REGION:ACCOUNT:NAME`) and a URL (`https://HOST/ACCOUNT/NAME`) name the same queue.
pub fn is_queue(arn: &str, url: &str) -> bool {
    let mut arn = arn.rsplit(':');
    let (name, account) = (arn.next(), arn.next());
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let mut path = path.trim_end_matches('/').rsplit('/');
    name.is_some() && account.is_some() && name == path.next() && account == path.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIFO: &str = "arn:aws:sqs:eu-central-1:123456789012:signing.fifo";

    fn event(text: &str) -> Result<EventKind, Unusable> {
        serde_json::from_str::<Event>(text).unwrap().kind()
    }

    fn messages(text: &str) -> Result<Vec<(String, Vec<Incoming>)>, Unusable> {
        match event(text)? {
            EventKind::Records(records) => by_queue(records),
            EventKind::Task(task) => panic!("a task, {task}"),
        }
    }

    #[test]
    fn event_has_records_or_a_task() {
        assert!(matches!(event(r#"{"Records": []}"#), Ok(EventKind::Records(records)) if records.is_empty()));
        assert!(matches!(event(r#"{"signpost": "sweep"}"#), Ok(EventKind::Task(task)) if task == "sweep"));
        for neither in ["{}", r#"{"detail-type": "Scheduled Event"}"#, r#"{"Records": [], "signpost": "sweep"}"#] {
            assert!(matches!(event(neither), Err(Unusable::Unknown)), "{neither}");
        }
    }

    #[test]
    fn record_is_read_with_its_sqs_attributes() {
        let text = format!(
            r#"{{"Records": [{{"messageId": "m-1", "receiptHandle": "r-1", "body": "not JSON", "attributes": {{
                "ApproximateReceiveCount": "3", "SenderId": "AIDA", "MessageGroupId": "hot", "SequenceNumber": "1"}},
                "messageAttributes": {{"traceparent": {{"stringValue": "00-1-2-01", "dataType": "String"}}}},
                "md5OfBody": "x", "eventSource": "aws:sqs", "eventSourceARN": "{FIFO}", "awsRegion": "eu-central-1"}}]}}"#
        );
        let expected = Incoming {
            receipt: "r-1".to_owned(),
            message_id: "m-1".to_owned(),
            group: Some("hot".to_owned()),
            sender: Some("AIDA".to_owned()),
            trace: Some("00-1-2-01".to_owned()),
            receives: 3,
            body: "not JSON".to_owned(),
        };
        assert_eq!(messages(&text), Ok(vec![(FIFO.to_owned(), vec![expected])]));
    }

    #[test]
    fn group_on_a_standard_queue_is_dropped() {
        let text = r#"{"Records": [{"messageId": "m", "body": "", "attributes": {"MessageGroupId": "tenant"},
            "eventSourceARN": "arn:aws:sqs:eu-central-1:1:signing"}]}"#;
        assert_eq!(messages(text).unwrap()[0].1[0].group, None);
    }

    #[test]
    fn record_without_an_id_is_not_handled() {
        for record in [r#"{"body": ""}"#, r#"{"messageId": "", "body": ""}"#] {
            let text = format!(r#"{{"Records": [{{"messageId": "m", "body": ""}}, {record}]}}"#);
            assert_eq!(messages(&text), Err(Unusable::NoMessageId { position: 2 }));
        }
    }

    #[test]
    fn records_of_two_queues_are_separate_and_in_order() {
        let record = |id: &str, arn: &str| format!(r#"{{"messageId": "{id}", "body": "", "eventSourceARN": "{arn}"}}"#);
        let records = [record("1", "a:1:x"), record("2", "a:1:y"), record("3", "a:1:x")].join(",");
        let queues = messages(&format!(r#"{{"Records": [{records}]}}"#)).unwrap();
        let ids = |messages: &[Incoming]| messages.iter().map(|m| m.message_id.clone()).collect::<Vec<_>>();
        let found: Vec<_> = queues.iter().map(|(arn, messages)| (arn.as_str(), ids(messages))).collect();
        assert_eq!(found, [("a:1:x", vec!["1".to_owned(), "3".to_owned()]), ("a:1:y", vec!["2".to_owned()])]);
    }

    #[test]
    fn arn_and_url_match_by_account_and_name() {
        for url in [
            "https://sqs.eu-central-1.amazonaws.com/123456789012/signing.fifo",
            "http://127.0.0.1:4566/123456789012/signing.fifo",
            "http://sqs.localhost:4566/queue/eu-central-1/123456789012/signing.fifo/",
        ] {
            assert!(is_queue(FIFO, url), "{url}");
        }
        for url in [
            "https://sqs.eu-central-1.amazonaws.com/123456789012/resigning.fifo",
            "https://sqs.eu-central-1.amazonaws.com/210987654321/signing.fifo",
            "signing.fifo",
            "",
        ] {
            assert!(!is_queue(FIFO, url), "{url}");
        }
        assert!(!is_queue("", ""));
        assert!(!is_queue("signing.fifo", "signing.fifo"));
    }
}
