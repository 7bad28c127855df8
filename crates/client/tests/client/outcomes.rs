//! Outcomes, raw and in SNS's envelope, and their copies.

use serde_json::json;
use signpost_client::outcome::{OutcomeError, Seen, parse};
use signpost_client::{OutcomeMessage, Status};

fn example(name: &str) -> String {
    let path = format!("{}/../../schemas/examples/outcome.v1/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn event(id: &str) -> OutcomeMessage {
    OutcomeMessage { event_id: id.to_owned(), ..parse(&example("confirmed")).unwrap() }
}

#[test]
fn raw_and_enveloped_bodies_are_the_same_outcome() {
    let raw = parse(&example("confirmed")).unwrap();
    assert_eq!(raw.status, Status::Confirmed);
    let envelope = json!({ "Type": "Notification", "TopicArn": "arn:aws:sns:x:1:t", "Message": example("confirmed") });
    assert_eq!(parse(&envelope.to_string()).unwrap(), raw);
    assert_eq!(parse(&example("rejected")).unwrap().status, Status::Rejected);
}

#[test]
fn invalid_outcome_and_newer_schema_are_different_errors() {
    for body in ["", "[]", "{}", r#"{"Type":"Notification","Message":"hello"}"#, &example("bad-status")] {
        assert!(matches!(parse(body), Err(OutcomeError::NotAnOutcome(_))), "{body}");
    }
    let newer = example("confirmed").replace("outcome.v1", "outcome.v2");
    assert!(matches!(parse(&newer), Err(OutcomeError::Schema(schema)) if schema == "outcome.v2"));
}

#[test]
fn copy_is_recognized_until_its_id_is_evicted() {
    let mut seen = Seen::new(2);
    let [a, b, c] = ["a", "b", "c"].map(event);
    assert!(seen.is_first(&a) && seen.is_first(&b));
    assert!(!seen.is_first(&a) && !seen.is_first(&b));
    assert!(seen.is_first(&c), "c evicts a, the oldest");
    assert!(!seen.is_first(&b) && seen.is_first(&a));
}

#[test]
fn forgotten_outcome_counts_as_first_again() {
    let mut seen = Seen::new(2);
    let a = event("a");
    assert!(seen.is_first(&a));
    seen.forget(&a);
    assert!(seen.is_first(&a) && !seen.is_first(&a));
}
