//! Unregistering an account: head and name are deleted together, and a refusal has a reason.

use serde_json::{Value, json};
use signpost_aws::item::head;
use signpost_txmgr::account::{Head, StaysRegistered};
use signpost_txmgr::ports::{Happened, Store as _, UnregisterVerdict};
use signpost_txmgr::units::Nonce;

use crate::fixture::{self, NOW, json_of};
use crate::script::{Script, Step};

/// The transaction is cancelled by the stored head, or for another reason.
fn cancelled(code: &str, stored: Option<&Head>) -> Step {
    let item = stored.map_or(Value::Null, |head| json_of(&head::encode_head(head)));
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled, please refer cancellation reasons for specific reasons",
        "CancellationReasons": [{ "Code": code, "Item": item }, { "Code": "None" }],
    });
    Step::Answer(400, body.to_string())
}

async fn unregister(steps: impl IntoIterator<Item = Step>) -> (Result<UnregisterVerdict, Happened>, Script) {
    let script = Script::new(steps);
    let head = fixture::head(5);
    let verdict = fixture::store(&script).unregister(&head.account, &head.name, NOW).await;
    (verdict.map_err(|error| error.happened), script)
}

const FAILED: &str = "ConditionalCheckFailed";

#[tokio::test]
async fn head_and_name_are_deleted_in_one_transaction() {
    let (verdict, script) = unregister([Step::ok("{}")]).await;
    assert_eq!(verdict, Ok(UnregisterVerdict::Unregistered));
    let asked = script.asked();
    let parts = asked[0].json()["TransactItems"].as_array().unwrap().clone();
    let account = fixture::head(5).account.to_string();
    let keys: Vec<_> = parts.iter().map(|part| part["Delete"]["Key"].clone()).collect();
    assert_eq!(keys[0], json!({ "account": { "S": account }, "item": { "S": "head" } }));
    assert_eq!(keys[1], json!({ "account": { "S": "directory" }, "item": { "S": "hot" } }));
    assert_eq!(parts[0]["Delete"]["ExpressionAttributeValues"][":until"], json!({ "N": NOW.0.to_string() }));
    assert_eq!(parts[1]["Delete"]["ExpressionAttributeValues"][":account"], json!({ "S": account }));
}

#[tokio::test]
async fn refused_unregistration_has_a_reason() {
    let hot = fixture::head(5);
    let open = Head { lowest_open_nonce: Nonce(3), ..hot.clone() };
    for (stored, why) in [(&hot, StaysRegistered::NotRetired), (&open, StaysRegistered::Open(2))] {
        let (verdict, _) = unregister([cancelled(FAILED, Some(stored))]).await;
        assert_eq!(verdict, Ok(UnregisterVerdict::Stays(why)));
    }
    let renamed = Head { name: "cold".parse().unwrap(), ..hot };
    let (verdict, _) = unregister([cancelled(FAILED, Some(&renamed))]).await;
    assert_eq!(verdict, Ok(UnregisterVerdict::NotRegistered));
}

#[tokio::test]
async fn removal_whose_reply_was_lost_is_recognized() {
    let none = || Step::ok("{}");
    let (verdict, _) = unregister([Step::TimedOut, cancelled(FAILED, None), none()]).await;
    assert_eq!(verdict, Ok(UnregisterVerdict::Unregistered));
    let (verdict, _) = unregister([cancelled(FAILED, None), none()]).await;
    assert_eq!(verdict, Ok(UnregisterVerdict::NotRegistered), "there was no earlier try");
}

#[tokio::test]
async fn cancellation_without_a_verdict_is_an_error() {
    let (verdict, script) = unregister([cancelled("TransactionConflict", None), Step::ok("{}")]).await;
    assert_eq!(verdict, Ok(UnregisterVerdict::Unregistered), "a conflict is tried again");
    script.asked();
    let (verdict, _) = unregister([cancelled("ValidationError", None)]).await;
    assert_eq!(verdict, Err(Happened::No));
    let (verdict, _) = unregister([Step::error(400, "AccessDeniedException")]).await;
    assert_eq!(verdict, Err(Happened::No));
}
