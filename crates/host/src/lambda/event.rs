//! What a function is invoked with: SQS records, or the name of a task from a schedule.
//!
//! Each body stays text here: whether it is a request is for its handler to say, one by one.

use aws_lambda_events::event::sqs::SqsMessage;
use serde::Deserialize;
use signpost_txmgr::inbox::{Incoming, is_fifo};

/// A message attribute with a W3C trace context, as OpenTelemetry sends it.
const TRACE_PARENT: &str = "traceparent";

/// An event as Lambda hands it over.
#[derive(Debug, Deserialize)]
pub struct Event {
    #[serde(rename = "Records", default)]
    records: Option<Vec<SqsMessage>>,
    #[serde(default)]
    signpost: Option<String>,
}

/// What an event asks for.
#[derive(Debug)]
pub enum Work {
    /// Records of a queue.
    Records(Vec<SqsMessage>),
    /// `{"signpost": task}`.
    Task(String),
}

/// Why nothing can be done for an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Neither records nor a task, or both.
    #[error("the event is neither a batch of SQS records nor {{\"signpost\": \"sweep\"}}")]
    Unknown,
    /// A record that cannot be reported: Lambda is to deliver the whole batch again.
    #[error("record {position} of the batch has no messageId")]
    NoMessageId {
        /// From 1.
        position: usize,
    },
    /// A schedule asks for something else.
    #[error("this function has no task {task:?}")]
    UnknownTask {
        /// Its name.
        task: String,
    },
}

impl Event {
    /// Which of the two it is.
    pub fn work(self) -> Result<Work, Unusable> {
        match (self.records, self.signpost) {
            (Some(records), None) => Ok(Work::Records(records)),
            (None, Some(task)) => Ok(Work::Task(task)),
            (Some(_), Some(_)) | (None, None) => Err(Unusable::Unknown),
        }
    }
}

/// The messages of each queue, in order. One batch comes from one queue; nothing here relies on it.
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
    // Lambda takes an empty identifier for "all of them failed": such a record is not begun.
    let message_id = record.message_id.filter(|id| !id.is_empty()).ok_or(Unusable::NoMessageId { position })?;
    let mut attributes = record.attributes;
    let trace_parent = record.message_attributes.get(TRACE_PARENT).and_then(|trace| trace.string_value.clone());
    let receives = attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok());
    Ok(Incoming {
        receipt: record.receipt_handle.unwrap_or_default(),
        message_id,
        // On a standard queue a group only shares the queue fairly; it orders nothing.
        group: attributes.remove("MessageGroupId").filter(|_| fifo),
        sender: attributes.remove("SenderId"),
        // What the sender said itself comes before what AWS put there for it.
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

    fn event(text: &str) -> Result<Work, Unusable> {
        serde_json::from_str::<Event>(text).unwrap().work()
    }

    fn messages(text: &str) -> Result<Vec<(String, Vec<Incoming>)>, Unusable> {
        match event(text)? {
            Work::Records(records) => by_queue(records),
            Work::Task(task) => panic!("a task, {task}"),
        }
    }

    #[test]
    fn one_function_is_called_with_records_or_with_a_task() {
        assert!(matches!(event(r#"{"Records": []}"#), Ok(Work::Records(records)) if records.is_empty()));
        assert!(matches!(event(r#"{"signpost": "sweep"}"#), Ok(Work::Task(task)) if task == "sweep"));
        for neither in ["{}", r#"{"detail-type": "Scheduled Event"}"#, r#"{"Records": [], "signpost": "sweep"}"#] {
            assert!(matches!(event(neither), Err(Unusable::Unknown)), "{neither}");
        }
    }

    #[test]
    fn a_record_is_read_with_what_sqs_says_of_it() {
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
    fn a_group_on_a_standard_queue_orders_nothing() {
        let text = r#"{"Records": [{"messageId": "m", "body": "", "attributes": {"MessageGroupId": "tenant"},
            "eventSourceARN": "arn:aws:sqs:eu-central-1:1:signing"}]}"#;
        assert_eq!(messages(text).unwrap()[0].1[0].group, None);
    }

    #[test]
    fn a_record_that_could_not_be_reported_is_not_begun() {
        for record in [r#"{"body": ""}"#, r#"{"messageId": "", "body": ""}"#] {
            let text = format!(r#"{{"Records": [{{"messageId": "m", "body": ""}}, {record}]}}"#);
            assert_eq!(messages(&text), Err(Unusable::NoMessageId { position: 2 }));
        }
    }

    #[test]
    fn records_of_two_queues_are_kept_apart_and_in_order() {
        let record = |id: &str, arn: &str| format!(r#"{{"messageId": "{id}", "body": "", "eventSourceARN": "{arn}"}}"#);
        let records = [record("1", "a:1:x"), record("2", "a:1:y"), record("3", "a:1:x")].join(",");
        let queues = messages(&format!(r#"{{"Records": [{records}]}}"#)).unwrap();
        let ids = |messages: &[Incoming]| messages.iter().map(|m| m.message_id.clone()).collect::<Vec<_>>();
        let found: Vec<_> = queues.iter().map(|(arn, messages)| (arn.as_str(), ids(messages))).collect();
        assert_eq!(found, [("a:1:x", vec!["1".to_owned(), "3".to_owned()]), ("a:1:y", vec!["2".to_owned()])]);
    }

    #[test]
    fn an_arn_and_a_url_name_one_queue_by_account_and_name() {
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
