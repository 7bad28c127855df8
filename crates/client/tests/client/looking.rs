//! Reading a request's status, and waiting for its outcome. The items are the goldens, which every version can read.

use std::time::Duration;

use serde_json::{Value, json};
use signpost_client::{ReadError, Status};

use crate::script::{Script, Step};

/// A time limit that no test reaches.
const TIME_LIMIT: Duration = Duration::from_mins(1);

/// A stored item, in DynamoDB's JSON.
fn item(name: &str) -> Value {
    let path = format!("{}/../../tests/vectors/items/{name}.v1.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn stored(name: &str) -> Step {
    Step::Answer(200, json!({ "Item": item(name) }))
}

fn nothing() -> Step {
    Step::Answer(200, json!({}))
}

fn id() -> signpost_client::RequestId {
    "invoice-4711".parse().unwrap()
}

#[tokio::test]
async fn status_is_read_by_one_consistent_get() {
    let script = Script::new([stored("mined"), nothing()]);
    let client = script.client("signing");
    let status = client.status(&id()).await.unwrap().unwrap();
    assert_eq!(status.status, Status::Mined);
    assert!(client.status(&id()).await.unwrap().is_none());
    let asked = script.asked();
    assert_eq!(asked[0]["Key"], json!({ "requestId": { "S": "invoice-4711" } }));
    assert_eq!(asked[0]["ConsistentRead"], true);
}

#[tokio::test]
async fn wait_ends_with_the_outcome_despite_failed_reads() {
    let script = Script::new([nothing(), Step::Lost, stored("mined"), stored("confirmed")]);
    let settled = script.client("signing").wait(&id(), TIME_LIMIT).await.unwrap();
    assert_eq!(settled.status, Status::Confirmed);
    script.asked();
}

#[tokio::test]
async fn reached_time_limit_is_not_a_verdict() {
    let script = Script::new([stored("mined")]);
    let not_yet = script.client("signing").wait(&id(), Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(not_yet.last.unwrap().status, Status::Mined);
    assert!(not_yet.trouble.is_none());

    let script = Script::new([Step::Lost]);
    let not_yet = script.client("signing").wait(&id(), Duration::from_millis(100)).await.unwrap_err();
    assert!(not_yet.last.is_none());
    assert!(matches!(not_yet.trouble, Some(ReadError::Call(_))));
}

#[tokio::test]
async fn follow_reports_each_change_once() {
    let script = Script::new([nothing(), nothing(), stored("mined"), stored("mined"), stored("confirmed")]);
    let (client, id) = (script.client("signing"), id());
    let mut changes = client.follow(&id);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(changes.next().await.unwrap().map(|status| status.status));
    }
    assert_eq!(seen, [None, Some(Status::Mined), Some(Status::Confirmed)]);
    script.asked();
}

#[tokio::test]
async fn outcome_is_read_from_the_record_once_it_is_decided() {
    let script = Script::new([nothing(), stored("mined"), stored("reverted")]);
    let client = script.client("signing");
    assert!(client.outcome(&id()).await.unwrap().is_none());
    assert!(client.outcome(&id()).await.unwrap().is_none(), "mined is not final");
    let outcome = client.outcome(&id()).await.unwrap().unwrap();
    assert_eq!(outcome.status, Status::Reverted);
    assert_eq!(outcome.event_id.len(), 64, "as every published copy has it");
    assert!(outcome.reason.is_some() && outcome.block_number.is_some());
    script.asked();
}

#[tokio::test]
async fn answer_to_a_message_is_not_an_older_rejection() {
    const OURS: &str = "5fea7756-0ea4-451a-a703-a558b933e274";
    let mut rejected = item("rejected-message");
    rejected["messageId"] = json!({ "S": "another" });
    let of_another = Step::Answer(200, json!({ "Item": rejected }));
    rejected["messageId"] = json!({ "S": OURS });
    let of_ours = Step::Answer(200, json!({ "Item": rejected }));
    let script = Script::new([nothing(), of_another, nothing(), of_ours, nothing(), stored("confirmed")]);
    let client = script.client("signing");
    assert!(client.answer_to(&id(), OURS).await.unwrap().is_none());
    assert_eq!(client.answer_to(&id(), OURS).await.unwrap().unwrap().status, Status::Rejected);
    assert_eq!(client.answer_to(&id(), OURS).await.unwrap().unwrap().status, Status::Confirmed);
    let keys: Vec<_> = script.asked().iter().map(|asked| asked["Key"]["requestId"]["S"].clone()).collect();
    assert_eq!(keys[..2], [json!(format!("sqs:{OURS}")), json!("invoice-4711")], "its own refusal is looked for first");
}

#[tokio::test]
async fn answer_to_a_refused_message_is_kept_under_its_id() {
    let script = Script::new([stored("rejected-copy")]);
    let answer = script.client("signing").answer_to(&id(), "5fea7756-0ea4-451a-a703-a558b933e274").await;
    assert_eq!(answer.unwrap().unwrap().status, Status::Rejected);
    script.asked();
}
