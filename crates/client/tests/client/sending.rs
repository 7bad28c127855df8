//! Every request gets its own answer.

use std::collections::HashSet;

use serde_json::{Value, json};
use signpost_client::{Body, NotSent};

use crate::script::{Script, Step};

fn bodies(count: usize) -> Vec<Body> {
    (0..count)
        .map(|at| Body::unchecked(json!({ "requestId": format!("r-{at}"), "account": "hot" }).to_string()))
        .collect()
}

fn all_accepted(count: usize) -> Step {
    let entry = |at: usize| json!({ "Id": at.to_string(), "MessageId": format!("m-{at}") });
    Step::Answer(200, json!({ "Successful": (0..count).map(entry).collect::<Vec<_>>() }))
}

#[tokio::test]
async fn messages_are_sent_in_batches_of_ten_in_order() {
    let script = Script::new([all_accepted(10), all_accepted(10), all_accepted(3)]);
    let sent = script.client("signing.fifo").send_all(&bodies(23)).await;
    assert_eq!(sent.len(), 23);
    assert!(sent.iter().all(Result::is_ok));
    let asked = script.asked();
    let entries: Vec<&Value> = asked.iter().flat_map(|call| call["Entries"].as_array().unwrap()).collect();
    let ids: Vec<String> = entries
        .iter()
        .map(|entry| Body::unchecked(entry["MessageBody"].as_str().unwrap()).id().unwrap().to_owned())
        .collect();
    assert_eq!(ids, (0..23).map(|at| format!("r-{at}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn refused_message_does_not_hold_back_the_others() {
    let answer = json!({
        "Successful": [{ "Id": "0", "MessageId": "m-0" }],
        "Failed": [{ "Id": "1", "Code": "InvalidMessageContents", "Message": "no", "SenderFault": true }],
    });
    let script = Script::new([Step::Answer(200, answer)]);
    let sent = script.client("signing").send_all(&bodies(3)).await;
    assert_eq!(sent[0].as_ref().unwrap(), "m-0");
    let refused = sent[1].as_ref().unwrap_err();
    assert!(matches!(refused, NotSent::Refused { code, .. } if code == "InvalidMessageContents"));
    assert!(!refused.may_have_arrived());
    // SQS's answer does not contain the third message.
    assert!(matches!(&sent[2], Err(unanswered @ NotSent::Unanswered) if unanswered.may_have_arrived()));
    script.asked();
}

#[tokio::test]
async fn no_message_overtakes_those_of_a_lost_call() {
    let script = Script::new([all_accepted(10), Step::Lost]);
    let sent = script.client("signing.fifo").send_all(&bodies(25)).await;
    assert!(sent[..10].iter().all(Result::is_ok));
    assert!(sent[10..20].iter().all(|one| matches!(one, Err(lost @ NotSent::Call(_)) if lost.may_have_arrived())));
    assert!(sent[20..].iter().all(|one| matches!(one, Err(not @ NotSent::NotTried) if !not.may_have_arrived())));
    script.asked();
}

#[tokio::test]
async fn call_refused_by_sqs_has_no_effect() {
    let no_queue = json!({ "__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no queue" });
    let script = Script::new([Step::Answer(400, no_queue)]);
    let refused = script.client("signing").send(&bodies(1)[0]).await.unwrap_err();
    assert!(matches!(refused, NotSent::Call(_)) && !refused.may_have_arrived());
}

#[tokio::test]
async fn fifo_group_is_the_account_and_ids_are_random() {
    let script = Script::new([all_accepted(5), all_accepted(1)]);
    let id = "r-0".parse().unwrap();
    let same = r#"{"requestId":"r-0","account":"hot"}"#;
    let bodies = [
        Body::unchecked(same),
        Body::unchecked(same),
        Body::unchecked(r#"{"requestId":"r-1"}"#),
        Body::cancel(&id).in_group("hot"),
        Body::unchecked(r#"{"requestId":"r-2","account":"pool:payouts"}"#),
    ];
    script.client("signing.fifo").send_all(&bodies).await;
    script.client("signing").send(&bodies[0]).await.unwrap();
    let asked = script.asked();
    let entry = |call: usize, at: usize, name: &str| asked[call]["Entries"][at][name].clone();
    let groups: Vec<Value> = (0..5).map(|at| entry(0, at, "MessageGroupId")).collect();
    // A pool has no order: each of its requests has its own group.
    assert_eq!(groups, ["hot", "hot", "-", "hot", "r-2"]);
    // Not derived from the body, or another sender could block the id: the same body gets another id.
    let ids: HashSet<String> =
        (0..5).map(|at| entry(0, at, "MessageDeduplicationId").as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 5);
    assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())), "{ids:?}");
    // A standard queue accepts neither.
    assert_eq!((entry(1, 0, "MessageGroupId"), entry(1, 0, "MessageDeduplicationId")), (Value::Null, Value::Null));
}
