//! Every reason for which a reservation's transaction can be cancelled.

use serde_json::{Value, json};
use signpost_aws::item::head;
use signpost_txmgr::account::{Reservation, SenderCounts, Spend};
use signpost_txmgr::ports::{Happened, PortError, RegisterVerdict, ReserveVerdict, Store as _};
use signpost_txmgr::units::{Millis, Wei};

use crate::fixture::{self, json_of};
use crate::script::{Script, Step};

/// A transaction cancelled with these codes: head, then request and slot of each record.
fn cancelled(codes: &[&str]) -> Step {
    let reasons: Vec<Value> = codes.iter().map(|code| json!({ "Code": code, "Message": format!("{code}!") })).collect();
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": format!("Transaction cancelled, please refer cancellation reasons for specific reasons {codes:?}"),
        "CancellationReasons": reasons,
    });
    Step::Answer(400, body.to_string())
}

async fn reserve(records: u64, steps: impl IntoIterator<Item = Step>) -> (Result<ReserveVerdict, PortError>, Script) {
    let script = Script::new(steps);
    let verdict = fixture::store(&script).reserve(&fixture::group(records)).await;
    (verdict, script)
}

fn refused(head_changed: bool, known: &[&str], slot_taken: bool, contended: bool) -> ReserveVerdict {
    let known = known.iter().map(|id| id.parse().unwrap()).collect();
    ReserveVerdict::NotReserved { head_changed, known, slot_taken, contended }
}

const FAILED: &str = "ConditionalCheckFailed";
const CONFLICT: &str = "TransactionConflict";

#[tokio::test]
async fn one_transaction_writes_head_requests_and_slots() {
    let (verdict, script) = reserve(2, [Step::ok("{}")]).await;
    assert_eq!(verdict.unwrap(), ReserveVerdict::Reserved);
    let asked = script.asked();
    assert_eq!(asked[0].operation, "TransactWriteItems");
    let body = asked[0].json();
    let writes = body["TransactItems"].as_array().unwrap();
    assert_eq!(writes.len(), 5);
    assert_eq!(writes[0]["Update"]["ExpressionAttributeValues"][":to"], json!({ "N": "7" }));
    assert_eq!(writes[1]["Put"]["Item"]["requestId"], json!({ "S": "r-0" }));
    assert_eq!(writes[4]["Put"]["Item"]["item"], json!({ "S": "nonce#000000000006" }));
}

#[tokio::test]
async fn spending_is_written_with_the_nonce_and_part_of_the_token() {
    let spend = |spent: u64| Some(Spend { window_start: Millis(7), spent: Wei::from(spent) });
    let script = Script::new([Step::ok("{}"), Step::ok("{}"), Step::ok("{}")]);
    for spend in [None, spend(10), spend(11)] {
        let group = Reservation { spend, ..fixture::group(1) };
        assert_eq!(fixture::store(&script).reserve(&group).await.unwrap(), ReserveVerdict::Reserved);
    }
    let asked: Vec<Value> = script.asked().iter().map(crate::script::Asked::json).collect();
    let update = |at: usize| &asked[at]["TransactItems"][0]["Update"];
    assert_eq!(update(0)["UpdateExpression"], "SET #nextNonce = :to");
    assert_eq!(update(1)["UpdateExpression"], "SET #nextNonce = :to, #spend = :spend");
    let written = json!({ "M": { "windowStart": { "N": "7" }, "spent": { "S": "10" } } });
    assert_eq!(update(1)["ExpressionAttributeValues"][":spend"], written);
    assert_eq!(
        update(1)["ConditionExpression"],
        update(0)["ConditionExpression"],
        "the condition on the nonce covers both"
    );
    let tokens: Vec<&Value> = asked.iter().map(|asked| &asked["ClientRequestToken"]).collect();
    assert!(tokens[0] != tokens[1] && tokens[1] != tokens[2], "{tokens:?}");
}

#[tokio::test]
async fn sender_counts_are_written_with_the_nonce() {
    let counts = |count: u64| {
        Some(SenderCounts { window_start: Millis(7), counts: [("AIDAONE".to_owned(), count)].into_iter().collect() })
    };
    let script = Script::new([Step::ok("{}"), Step::ok("{}")]);
    for sender_counts in [counts(1), counts(2)] {
        let spend = Some(Spend { window_start: Millis(7), spent: Wei::from(10) });
        let group = Reservation { spend, sender_counts, ..fixture::group(1) };
        assert_eq!(fixture::store(&script).reserve(&group).await.unwrap(), ReserveVerdict::Reserved);
    }
    let asked: Vec<Value> = script.asked().iter().map(crate::script::Asked::json).collect();
    let update = &asked[0]["TransactItems"][0]["Update"];
    assert_eq!(update["UpdateExpression"], "SET #nextNonce = :to, #spend = :spend, #senderCounts = :senderCounts");
    let written = json!({ "M": { "windowStart": { "N": "7" }, "counts": { "M": { "AIDAONE": { "N": "1" } } } } });
    assert_eq!(update["ExpressionAttributeValues"][":senderCounts"], written);
    assert_eq!(asked[0]["TransactItems"].as_array().map(Vec::len), Some(3), "and needs no separate write");
    assert_ne!(asked[0]["ClientRequestToken"], asked[1]["ClientRequestToken"]);
}

#[tokio::test]
async fn moved_head_known_id_and_taken_slot_are_distinguished() {
    let (verdict, _) = reserve(2, [cancelled(&[FAILED, "None", "None", "None", "None"])]).await;
    assert_eq!(verdict.unwrap(), refused(true, &[], false, false));
    let (verdict, _) = reserve(2, [cancelled(&["None", "None", "None", FAILED, "None"])]).await;
    assert_eq!(verdict.unwrap(), refused(false, &["r-1"], false, false));
    let (verdict, _) = reserve(2, [cancelled(&["None", "None", FAILED, "None", "None"])]).await;
    assert_eq!(verdict.unwrap(), refused(false, &[], true, false));
    let (verdict, _) = reserve(2, [cancelled(&[FAILED, FAILED, FAILED, FAILED, "None"])]).await;
    assert_eq!(verdict.unwrap(), refused(true, &["r-0", "r-1"], true, false));
}

#[tokio::test]
async fn verdict_is_not_delayed_by_a_conflict() {
    let (verdict, script) = reserve(1, [cancelled(&[CONFLICT, FAILED, "None"])]).await;
    assert_eq!(verdict.unwrap(), refused(false, &["r-0"], false, true));
    assert_eq!(script.asked().len(), 1);
}

#[tokio::test]
async fn conflict_is_retried_with_the_same_token() {
    let conflict = || cancelled(&[CONFLICT, "None", "None"]);
    let (verdict, script) = reserve(1, [conflict(), conflict(), Step::ok("{}")]).await;
    assert_eq!(verdict.unwrap(), ReserveVerdict::Reserved);
    let tokens: Vec<Value> = script.asked().iter().map(|asked| asked.json()["ClientRequestToken"].clone()).collect();
    assert_eq!(tokens[0], tokens[1]);
    assert_eq!(tokens[1], tokens[2]);
    assert_eq!(tokens[0].as_str().unwrap().len(), 32);
}

#[tokio::test]
async fn conflict_in_all_tries_is_contention() {
    let conflict = || cancelled(&[CONFLICT, "None", "None"]);
    let (verdict, script) = reserve(1, [conflict(), conflict(), conflict()]).await;
    assert_eq!(verdict.unwrap(), refused(false, &[], false, true));
    assert_eq!(script.asked().len(), 3, "tries are bounded");
}

#[tokio::test]
async fn throttled_transaction_is_retried() {
    let (verdict, _) = reserve(
        1,
        [
            cancelled(&["ThrottlingError", "None", "None"]),
            Step::error(400, "ProvisionedThroughputExceededException"),
            Step::ok("{}"),
        ],
    )
    .await;
    assert_eq!(verdict.unwrap(), ReserveVerdict::Reserved);
}

#[tokio::test]
async fn transaction_throttled_in_all_tries_did_not_happen() {
    for code in ["ThrottlingError", "ProvisionedThroughputExceeded", "RequestLimitExceeded"] {
        let throttled = || cancelled(&["None", code, CONFLICT]);
        let (verdict, _) = reserve(1, [throttled(), throttled(), throttled()]).await;
        let error = verdict.unwrap_err();
        assert!(error.throttled, "{code}");
        assert_eq!(error.happened, Happened::No, "{code}");
    }
    for code in ["ThrottlingException", "RequestLimitExceeded", "ProvisionedThroughputExceededException"] {
        let throttled = || Step::error(400, code);
        let error = reserve(1, [throttled(), throttled(), throttled()]).await.0.unwrap_err();
        assert!(error.throttled, "{code}");
        assert_eq!(error.happened, Happened::No, "{code}");
    }
}

#[tokio::test]
async fn permanent_errors_are_tried_once() {
    for code in ["ItemCollectionSizeLimitExceeded", "ValidationError", "AccessDenied", "SomethingNew"] {
        let (verdict, script) = reserve(1, [cancelled(&["None", code, "None"])]).await;
        let error = verdict.unwrap_err();
        assert_eq!((error.happened, error.throttled), (Happened::No, false), "{code}");
        assert!(error.source.to_string().contains(code), "{}", error.source);
        assert_eq!(script.asked().len(), 1);
    }
    for code in ["ValidationException", "IdempotentParameterMismatchException", "ResourceNotFoundException"] {
        let (verdict, script) = reserve(1, [Step::error(400, code)]).await;
        let error = verdict.unwrap_err();
        assert_eq!((error.happened, error.throttled), (Happened::No, false), "{code}");
        assert!(error.source.to_string().contains(code), "{}", error.source);
        assert_eq!(script.asked().len(), 1);
    }
}

#[tokio::test]
async fn transaction_in_progress_is_retried() {
    let in_progress = || Step::error(400, "TransactionInProgressException");
    let (verdict, _) = reserve(1, [Step::TimedOut, in_progress(), Step::ok("{}")]).await;
    assert_eq!(verdict.unwrap(), ReserveVerdict::Reserved);
    let (verdict, _) = reserve(1, [in_progress(), in_progress(), in_progress()]).await;
    assert_eq!(verdict.unwrap_err().happened, Happened::Unknown);
}

#[tokio::test]
async fn lost_reply_is_unknown_and_no_connection_is_no() {
    for (step, happened) in [
        (Step::Lost, Happened::Unknown),
        (Step::TimedOut, Happened::Unknown),
        (Step::error(500, "InternalServerError"), Happened::Unknown),
        (Step::Answer(502, "<html>".to_owned()), Happened::Unknown),
        (Step::Answer(200, "{".to_owned()), Happened::Unknown),
        (Step::Refused, Happened::No),
        (Step::NoAddress, Happened::No),
    ] {
        let (verdict, _) = reserve(1, [step.clone(), step.clone(), step.clone()]).await;
        let error = verdict.unwrap_err();
        assert_eq!((error.happened, error.throttled), (happened, false), "{step:?}");
    }
}

#[tokio::test]
async fn uncertain_try_stays_unknown_after_later_tries() {
    let throttled = || Step::error(400, "ThrottlingException");
    let (verdict, _) = reserve(1, [Step::Lost, Step::Refused, Step::Refused]).await;
    assert_eq!(verdict.unwrap_err().happened, Happened::Unknown);
    let (verdict, _) = reserve(1, [Step::TimedOut, throttled(), throttled()]).await;
    let error = verdict.unwrap_err();
    assert_eq!((error.happened, error.throttled), (Happened::Unknown, true));
}

#[tokio::test]
async fn empty_group_makes_no_call() {
    let (verdict, script) = reserve(0, []).await;
    assert_eq!(verdict.unwrap(), ReserveVerdict::Reserved);
    assert!(script.asked().is_empty());
}

#[tokio::test]
async fn registering_again_returns_the_stored_head() {
    let stored = fixture::head(9);
    let script = Script::new([Step::Answer(
        400,
        json!({
            "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
            "CancellationReasons": [{ "Code": FAILED, "Item": json_of(&head::encode_head(&stored)) }, { "Code": FAILED }],
        })
        .to_string(),
    )]);
    let verdict = fixture::store(&script).register(&fixture::head(0)).await.unwrap();
    assert_eq!(verdict, RegisterVerdict::Exists(stored));
}

#[tokio::test]
async fn name_of_another_account_is_taken() {
    let script = Script::new([cancelled(&["None", FAILED])]);
    assert_eq!(fixture::store(&script).register(&fixture::head(0)).await.unwrap(), RegisterVerdict::NameTaken);
    let script = Script::new([cancelled(&["None", CONFLICT]), Step::ok("{}")]);
    assert_eq!(fixture::store(&script).register(&fixture::head(0)).await.unwrap(), RegisterVerdict::Registered);
}
