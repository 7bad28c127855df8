//! The conditional write of a record, rejections, and batch reads.

use serde_json::{Value, json};
use signpost_aws::item::{self, MUTABLE};
use signpost_txmgr::ports::{Happened, RejectVerdict, ReserveVerdict, Store as _, UpdateVerdict};
use signpost_txmgr::record::{Reason, Record, Rejected, Stored, Vacancy};
use signpost_txmgr::units::{Digest, RequestId};

use crate::fixture::{self, NOW, json_of};
use crate::script::{Script, Step};

fn refused_by(stored: Option<&Stored>) -> Step {
    let mut body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
        "message": "The conditional request failed",
    });
    if let Some(stored) = stored {
        body["Item"] = json_of(&item::encode(stored));
    }
    Step::Answer(400, body.to_string())
}

fn stored(record: &Record) -> Stored {
    Stored::Record(Box::new(record.clone()))
}

fn rejected() -> Rejected {
    Rejected {
        request_id: "r-0".parse().unwrap(),
        digest: None,
        account: None,
        reason: Reason {
            code: "notJson".to_owned(),
            message: "the body is not JSON".to_owned(),
            revert: None,
            request_id: None,
        },
        metadata: None,
        sender: None,
        message_id: Some("m-1".to_owned()),
        said_as: None,
        created_at: NOW,
        published_at: None,
        expires_at: None,
    }
}

#[tokio::test]
async fn update_sends_mutable_attributes_and_never_calldata() {
    let script = Script::new([Step::ok("{}")]);
    let record = fixture::signed(&fixture::group(1).records[0]);
    assert_eq!(fixture::store(&script).update(&record).await.unwrap(), UpdateVerdict::Stored);
    let asked = script.asked();
    let body = asked[0].json();
    let names: Vec<&str> =
        body["ExpressionAttributeNames"].as_object().unwrap().values().map(|name| name.as_str().unwrap()).collect();
    for written_once in ["data", "to", "value", "account", "nonce", "digest", "seal"] {
        assert!(!names.contains(&written_once), "{written_once}");
    }
    assert_eq!(body["ExpressionAttributeValues"][":before"], json!({ "N": "1" }));
    let expression = body["UpdateExpression"].as_str().unwrap();
    let (set, remove) = expression.split_once(" REMOVE ").unwrap();
    for name in MUTABLE {
        let wants = if item::encode_record(&record).contains_key(name) { set } else { remove };
        assert!(wants.contains(&format!("#{name}")), "{name} in {expression}");
    }
}

#[tokio::test]
async fn stale_write_returns_the_stored_record_without_a_read() {
    let ours = fixture::signed(&fixture::group(1).records[0]);
    let mut theirs = ours.clone();
    theirs.attempts[0].signed_at = fixture::NOW;
    theirs.updated_at.0 += 1;
    let script = Script::new([refused_by(Some(&stored(&theirs)))]);
    let verdict = fixture::store(&script).update(&ours).await.unwrap();
    assert_eq!(verdict, UpdateVerdict::Stale(Box::new(theirs)));
    assert_eq!(script.asked().len(), 1);
}

#[tokio::test]
async fn write_whose_reply_was_lost_is_stored() {
    let ours = fixture::signed(&fixture::group(1).records[0]);
    let script = Script::new([Step::Lost, refused_by(Some(&stored(&ours)))]);
    assert_eq!(fixture::store(&script).update(&ours).await.unwrap(), UpdateVerdict::Stored);
    script.asked();
}

#[tokio::test]
async fn missing_or_replaced_record_is_gone() {
    let ours = fixture::signed(&fixture::group(1).records[0]);
    let mut other = ours.clone();
    other.digest = Digest([1; 32]);
    let rejection = Stored::Rejected(rejected());
    for found in [None, Some(&stored(&other)), Some(&rejection)] {
        let script = Script::new([refused_by(found)]);
        assert_eq!(fixture::store(&script).update(&ours).await.unwrap(), UpdateVerdict::Gone);
    }
}

#[tokio::test]
async fn write_that_conflicts_with_a_transaction_is_retried() {
    let ours = fixture::signed(&fixture::group(1).records[0]);
    let script = Script::new([Step::error(400, "TransactionConflictException"), Step::ok("{}")]);
    assert_eq!(fixture::store(&script).update(&ours).await.unwrap(), UpdateVerdict::Stored);
    let conflict = || Step::error(400, "TransactionConflictException");
    let script = Script::new([conflict(), conflict(), conflict()]);
    let error = fixture::store(&script).update(&ours).await.unwrap_err();
    assert_eq!((error.happened, error.throttled), (Happened::No, false));
}

#[tokio::test]
async fn rejection_does_not_replace_a_request_with_a_slot() {
    let script = Script::new([refused_by(None), Step::ok("{}")]);
    let store = fixture::store(&script);
    assert_eq!(store.reject(&rejected(), &Vacancy::Free).await.unwrap(), RejectVerdict::Occupied);
    assert_eq!(store.reject(&rejected(), &Vacancy::Free).await.unwrap(), RejectVerdict::Stored);
    script.asked();
}

#[tokio::test]
async fn rejection_replaces_only_the_rejection_that_was_read() {
    let free = "attribute_not_exists(#requestId) OR #expiresAt <= :now";
    let of_message = format!("{free} OR (#status = :rejected AND #messageId = :messageId)");
    let of_none = format!("{free} OR (#status = :rejected AND attribute_not_exists(#messageId))");
    let expected: [(Vacancy, &str, &[&str], &[&str]); 3] = [
        (Vacancy::Free, free, &["requestId", "expiresAt"], &[":now"]),
        (
            Vacancy::Rejected(Some("m-9".to_owned())),
            &of_message,
            &["requestId", "expiresAt", "status", "messageId"],
            &[":now", ":rejected", ":messageId"],
        ),
        (Vacancy::Rejected(None), &of_none, &["requestId", "expiresAt", "status", "messageId"], &[":now", ":rejected"]),
    ];
    for (vacancy, condition, names, values) in expected {
        let script = Script::new([Step::ok("{}"), Step::ok("{}")]);
        let store = fixture::store(&script);
        assert_eq!(store.reject(&rejected(), &vacancy).await.unwrap(), RejectVerdict::Stored);
        let mut group = fixture::group(1);
        if let Vacancy::Rejected(message_id) = &vacancy {
            group.replaces.insert(group.records[0].request_id.clone(), message_id.clone());
        }
        assert_eq!(store.reserve(&group).await.unwrap(), ReserveVerdict::Reserved);
        let asked = script.asked();
        let put = &asked[1].json()["TransactItems"][1]["Put"];
        for asked in [&asked[0].json(), put] {
            assert_eq!(asked["ConditionExpression"], condition);
            // DynamoDB refuses names and values that no expression uses.
            assert_eq!(keys(&asked["ExpressionAttributeNames"]), sorted(names.iter().map(|name| format!("#{name}"))));
            assert_eq!(keys(&asked["ExpressionAttributeValues"]), sorted(values.iter().map(ToString::to_string)));
        }
    }
}

fn keys(object: &Value) -> Vec<String> {
    sorted(object.as_object().unwrap().keys().cloned())
}

fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<_> = texts.collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn expired_item_is_not_read() {
    let old = |seconds: u64| {
        let mut item = json_of(&item::encode_rejected(&rejected()));
        item["expiresAt"] = json!({ "N": seconds.to_string() });
        Step::ok(json!({ "Responses": { "requests": [item] }, "UnprocessedKeys": {} }))
    };
    let script = Script::new([old(NOW.0 / 1_000), old(NOW.0 / 1_000 + 1)]);
    let store = fixture::store(&script);
    assert_eq!(store.load(&ids(1), NOW).await.unwrap().len(), 0);
    assert_eq!(store.load(&ids(1), NOW).await.unwrap().len(), 1);
    script.asked();
}

fn answer(found: &[&Record], left: &[&str]) -> Step {
    let items: Vec<Value> = found.iter().map(|record| json_of(&item::encode_record(record))).collect();
    let keys: Vec<Value> = left.iter().map(|id| json!({ "requestId": { "S": id } })).collect();
    let unprocessed = if keys.is_empty() { json!({}) } else { json!({ "requests": { "Keys": keys } }) };
    Step::ok(json!({ "Responses": { "requests": items }, "UnprocessedKeys": unprocessed }))
}

fn ids(count: u64) -> Vec<RequestId> {
    (0..count).map(|at| format!("r-{at}").parse().unwrap()).collect()
}

#[tokio::test]
async fn unprocessed_keys_are_requested_again() {
    let records = fixture::group(3).records;
    let script = Script::new([
        answer(&[&records[0]], &["r-1", "r-2"]),
        answer(&[], &["r-1", "r-2"]),
        answer(&[&records[1]], &["r-2"]),
        answer(&[], &["r-2"]),
        answer(&[], &["r-2"]),
        answer(&[&records[2]], &[]),
    ]);
    let found = fixture::store(&script).load(&ids(3), NOW).await.unwrap();
    assert_eq!(found, records.iter().map(stored).collect::<Vec<_>>());
    let asked = script.asked();
    assert_eq!(asked[5].json()["RequestItems"]["requests"]["Keys"], json!([{ "requestId": { "S": "r-2" } }]));
    assert_eq!(asked[5].json()["RequestItems"]["requests"]["ConsistentRead"], json!(true));
}

#[tokio::test]
async fn keys_unprocessed_in_all_tries_are_throttling() {
    let nothing = || answer(&[], &["r-0"]);
    let script = Script::new([nothing(), nothing(), nothing()]);
    let error = fixture::store(&script).load(&ids(1), NOW).await.unwrap_err();
    assert!(error.throttled);
    script.asked();
}

#[tokio::test]
async fn ids_are_read_once_each_in_batches_of_a_hundred() {
    let script = Script::new([answer(&[], &[]), answer(&[], &[]), answer(&[], &[])]);
    let mut wanted = ids(250);
    wanted.extend(ids(100));
    assert!(fixture::store(&script).load(&wanted, NOW).await.unwrap().is_empty());
    let sizes: Vec<usize> = script
        .asked()
        .iter()
        .map(|asked| asked.json()["RequestItems"]["requests"]["Keys"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [100, 100, 50]);
}

#[tokio::test]
async fn broken_item_is_an_error_that_names_the_attribute() {
    let mut broken = json_of(&item::encode_record(&fixture::group(1).records[0]));
    broken["gas"] = json!({ "S": "many" });
    let script = Script::new([Step::ok(json!({ "Responses": { "requests": [broken] }, "UnprocessedKeys": {} }))]);
    let error = fixture::store(&script).load(&ids(1), NOW).await.unwrap_err();
    let cause = error.source.source().map(ToString::to_string);
    assert_eq!(cause.as_deref(), Some("attribute gas is not a number"));
}
