//! The two marks of a head, slots in pages, and observed prices.

use serde_json::{Value, json};
use signpost_aws::item::head;
use signpost_txmgr::account::{Accounts, AsideCause, Gap, Head, Marks, SeenFee, SetAside};
use signpost_txmgr::ports::{Happened, Store as _};
use signpost_txmgr::units::{Millis, Nonce, Wei};

use crate::fixture::{self, NOW, json_of};
use crate::script::{Script, Step};

fn refused_by(next_nonce: u64) -> Step {
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
        "Item": json_of(&head::encode_head(&fixture::head(next_nonce))),
    });
    Step::Answer(400, body.to_string())
}

fn slots(nonces: std::ops::Range<u64>, more: bool) -> Step {
    let account = fixture::head(0).account;
    let last = nonces.end;
    let id = "r-0".parse().unwrap();
    let items: Vec<Value> = nonces.map(|nonce| json_of(&head::encode_slot(&account, Nonce(nonce), &id))).collect();
    let mut body = json!({ "Items": items, "Count": items.len() });
    if more {
        body["LastEvaluatedKey"] = json_of(&head::key(&account, &head::slot_name(Nonce(last))));
    }
    Step::ok(body)
}

#[tokio::test]
async fn concurrently_moved_head_is_not_changed() {
    let account = fixture::head(0).account;
    let script = Script::new([refused_by(9), refused_by(9)]);
    let store = fixture::store(&script);
    assert!(!store.fast_forward(&account, Nonce(5), Nonce(9)).await.unwrap(), "another writer's move is not ours");
    assert!(!store.leave_slots(&account, Nonce(5), Nonce(9), NOW).await.unwrap());
    script.asked();
}

#[tokio::test]
async fn move_whose_reply_was_lost_is_recognized() {
    let account = fixture::head(0).account;
    let script = Script::new([Step::TimedOut, refused_by(9)]);
    assert!(fixture::store(&script).fast_forward(&account, Nonce(5), Nonce(9)).await.unwrap());
    let script = Script::new([Step::TimedOut, refused_by(7)]);
    assert!(!fixture::store(&script).fast_forward(&account, Nonce(5), Nonce(9)).await.unwrap());
}

#[tokio::test]
async fn slots_are_read_in_pages_up_to_the_limit() {
    let account = fixture::head(0).account;
    let script = Script::new([slots(5..8, true), slots(8..9, true), slots(9..10, false)]);
    let found = fixture::store(&script).slots(&account, Nonce(5), 100).await.unwrap();
    assert_eq!(found.iter().map(|(nonce, _)| nonce.0).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
    assert!(script.asked()[1].body.contains("nonce#000000000008"), "the second page starts where the first ended");

    let script = Script::new([slots(5..8, true)]);
    assert_eq!(fixture::store(&script).slots(&account, Nonce(5), 3).await.unwrap().len(), 3);
    assert_eq!(script.asked()[0].json()["Limit"], json!(3));
}

#[tokio::test]
async fn slots_left_behind_expire_after_the_head_moved() {
    let account = fixture::head(0).account;
    let gone = Step::error(400, "ConditionalCheckFailedException");
    let script = Script::new([Step::ok("{}"), slots(5..8, false), Step::ok("{}"), gone, Step::ok("{}")]);
    assert!(fixture::store(&script).leave_slots(&account, Nonce(5), Nonce(45), Millis(8_000)).await.unwrap());
    let asked = script.asked();
    let operations: Vec<&str> = asked.iter().map(|asked| asked.operation.as_str()).collect();
    assert_eq!(operations, ["UpdateItem", "Query", "UpdateItem", "UpdateItem", "UpdateItem"]);
    for (asked, nonce) in asked[2..].iter().zip(5..) {
        let body = asked.json();
        assert_eq!(body["Key"], json_of(&head::key(&account, &head::slot_name(Nonce(nonce)))));
        assert_eq!(body["UpdateExpression"], json!("SET #expiresAt = :at"), "nothing else of a slot changes");
        assert_eq!(
            body["ConditionExpression"],
            json!("attribute_exists(#account)"),
            "an update of a missing item would create it"
        );
        assert_eq!(body["ExpressionAttributeValues"], json!({ ":at": { "N": "8" } }));
    }
}

#[tokio::test]
async fn failure_to_set_an_expiry_does_not_undo_the_move() {
    let account = fixture::head(0).account;
    let denied = Step::error(400, "AccessDeniedException");
    let script = Script::new([Step::ok("{}"), denied]);
    assert!(fixture::store(&script).leave_slots(&account, Nonce(5), Nonce(6), NOW).await.unwrap());
    script.asked();
}

fn marks(lowest: u64, set_aside: &[u64], gaps: &[(u64, u64)]) -> Marks {
    let slot = |nonce: &u64| SetAside { nonce: Nonce(*nonce), cause: AsideCause::Unproven, since: NOW };
    let gap = |(from, to): &(u64, u64)| Gap { from: Nonce(*from), to: Nonce(*to), since: NOW };
    Marks {
        lowest_open_nonce: Nonce(lowest),
        set_aside: set_aside.iter().map(slot).collect(),
        gaps: gaps.iter().map(gap).collect(),
    }
}

fn refused_by_marks(marks: &Marks) -> Step {
    let mut stored = Head { next_nonce: Nonce(99), ..fixture::head(5) };
    stored.set_marks(marks.clone());
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
        "Item": json_of(&head::encode_head(&stored)),
    });
    Step::Answer(400, body.to_string())
}

#[tokio::test]
async fn marks_move_only_from_the_marks_that_were_read() {
    let account = fixture::head(0).account;
    let (before, after) = (marks(5, &[2], &[]), marks(9, &[6], &[(3, 4)]));
    let none = || slots(0..0, false);
    let script = Script::new([Step::ok("{}"), none(), none(), none()]);
    assert!(fixture::store(&script).move_marks(&account, &before, &after, NOW).await.unwrap());
    let asked = script.asked();
    let update = asked[0].json();
    assert_eq!(
        update["ConditionExpression"],
        json!(
            "#lowestOpenNonce = :from AND #nextNonce >= :to AND #setAside = :setAsideBefore AND attribute_not_exists(#gaps)"
        )
    );
    assert_eq!(update["UpdateExpression"], json!("SET #lowestOpenNonce = :to, #setAside = :setAside, #gaps = :gaps"));
    let ranges: Vec<String> =
        asked[1..].iter().map(|asked| asked.json()["ExpressionAttributeValues"].to_string()).collect();
    for (range, (from, to)) in ranges.iter().zip([(2, 2), (5, 5), (7, 8)]) {
        assert!(range.contains(&format!("nonce#{from:012}")) && range.contains(&format!("nonce#{to:012}")), "{range}");
    }

    let script = Script::new([Step::ok("{}"), none()]);
    assert!(fixture::store(&script).move_marks(&account, &after, &marks(9, &[], &[]), NOW).await.unwrap());
    let update = script.asked()[0].json();
    assert_eq!(update["UpdateExpression"], json!("SET #lowestOpenNonce = :to REMOVE #setAside, #gaps"));
}

#[tokio::test]
async fn marks_moved_by_another_stay_and_a_lost_reply_is_ours() {
    let account = fixture::head(0).account;
    let (before, after) = (marks(5, &[], &[]), marks(9, &[5], &[]));
    let script = Script::new([refused_by_marks(&after)]);
    assert!(
        !fixture::store(&script).move_marks(&account, &before, &after, NOW).await.unwrap(),
        "there was no earlier try"
    );
    let script = Script::new([Step::TimedOut, refused_by_marks(&after), slots(0..0, false)]);
    assert!(fixture::store(&script).move_marks(&account, &before, &after, NOW).await.unwrap());
    let script = Script::new([Step::TimedOut, refused_by_marks(&marks(9, &[6], &[]))]);
    assert!(!fixture::store(&script).move_marks(&account, &before, &after, NOW).await.unwrap());
}

#[tokio::test]
async fn older_price_is_not_an_error_but_unknown_account_is() {
    let account = fixture::head(0).account;
    let fee = SeenFee { gas_price: Wei::from_gwei(1), observed_at: NOW };
    let unknown = || Step::error(400, "ConditionalCheckFailedException");
    let script = Script::new([refused_by(1), unknown(), unknown()]);
    let store = fixture::store(&script);
    store.observe_fee(&account, &fee).await.unwrap();
    let error = store.observe_fee(&account, &fee).await.unwrap_err();
    assert!(error.source.to_string().contains("not registered"), "{}", error.source);
    let error = store.set_paused(&account, true).await.unwrap_err();
    assert_eq!(error.happened, Happened::No);
    assert!(error.source.to_string().contains("not registered"), "{}", error.source);
}

#[tokio::test]
async fn accounts_are_read_from_all_pages_of_the_directory() {
    let (hot, mut cold) = (fixture::head(3), fixture::head(0));
    cold.name = "cold".parse().unwrap();
    cold.account.chain_id.0 = 56;
    let entry = |account: &signpost_txmgr::account::Head| json_of(&head::encode_name(&account.name, &account.account));
    let first = json!({ "Items": [entry(&cold)], "LastEvaluatedKey": entry(&cold) });
    let second = json!({ "Items": [entry(&hot)] });
    let heads = [json_of(&head::encode_head(&hot)), json_of(&head::encode_head(&cold))];
    let both = json!({ "Responses": { "accounts": heads }, "UnprocessedKeys": {} });
    let script = Script::new([Step::ok(first), Step::ok(second), Step::ok(both)]);
    let accounts = fixture::store(&script).accounts().await.unwrap();
    assert_eq!(accounts, Accounts { heads: vec![cold, hot], unreadable: vec![] });
    script.asked();
}
