//! The list of accounts with an unreadable one, and the mark of an unusable key.

use serde_json::json;
use signpost_aws::item::head;
use signpost_txmgr::account::{Accounts, Head};
use signpost_txmgr::ports::Store as _;
use signpost_txmgr::units::Millis;
use signpost_txmgr::unusable::{KeyCall, KeyFault, Unusable};

use crate::fixture::{self, json_of};
use crate::script::{Asked, Script, Step};

#[tokio::test]
async fn unreadable_head_is_reported_beside_the_others() {
    let (hot, mut cold) = (fixture::head(3), fixture::head(0));
    cold.name = "cold".parse().unwrap();
    cold.account.chain_id.0 = 56;
    let entry = |account: &Head| json_of(&head::encode_name(&account.name, &account.account));
    let mut bent = head::encode_name(&"bent".parse().unwrap(), &cold.account);
    bent.remove("accountKey");
    let directory = json!({ "Items": [entry(&cold), entry(&hot), json_of(&bent)] });
    let mut broken = head::encode_head(&cold);
    broken.remove("nextNonce");
    let heads = [json_of(&broken), json_of(&head::encode_head(&hot))];
    let both = json!({ "Responses": { "accounts": heads }, "UnprocessedKeys": {} });
    let script = Script::new([Step::ok(directory), Step::ok(both)]);
    let Accounts { heads, unreadable } = fixture::store(&script).accounts().await.unwrap();
    assert_eq!(heads, [hot]);
    let [entry, head] = &unreadable[..] else { panic!("{unreadable:?}") };
    assert_eq!((entry.name.as_str(), entry.account), ("bent", None));
    assert_eq!((head.name.as_str(), head.account), ("cold", Some(cold.account)));
    assert!(head.problem.contains("nextNonce"), "{}", head.problem);
}

#[tokio::test]
async fn many_heads_are_read_in_concurrent_calls() {
    let heads = (0..250_u8).map(|number| {
        let mut head = fixture::head(0);
        head.account.address.0[0] = number;
        head.name = format!("a{number:03}").parse().unwrap();
        head
    });
    let heads = heads.collect::<Vec<_>>();
    let entries: Vec<_> = heads.iter().map(|head| json_of(&head::encode_name(&head.name, &head.account))).collect();
    let mut sorted = heads.clone();
    sorted.sort_by_key(|head| head.account);
    let chunk = |part: &[Head]| {
        let items: Vec<_> = part.iter().map(|head| json_of(&head::encode_head(head))).collect();
        Step::ok(json!({ "Responses": { "accounts": items }, "UnprocessedKeys": {} }))
    };
    let mut steps = vec![Step::ok(json!({ "Items": entries }))];
    steps.extend(sorted.chunks(100).map(chunk));
    let script = Script::new(steps);
    assert_eq!(fixture::store(&script).accounts().await.unwrap().heads, heads);
    let keys = |asked: &Asked| asked.json()["RequestItems"]["accounts"]["Keys"].as_array().unwrap().len();
    assert_eq!(script.asked()[1..].iter().map(keys).collect::<Vec<_>>(), [100, 100, 50]);
}

#[tokio::test]
async fn mark_of_an_unusable_key_is_set_and_removed() {
    let account = fixture::head(0).account;
    let mark = Unusable { since: Millis(7), fault: KeyFault::Disabled, call: KeyCall::Sign };
    let script =
        Script::new([Step::ok(json!({})), Step::ok(json!({})), Step::error(400, "ConditionalCheckFailedException")]);
    let store = fixture::store(&script);
    store.set_unusable(&account, Some(mark)).await.unwrap();
    store.set_unusable(&account, None).await.unwrap();
    let error = store.set_unusable(&account, None).await.unwrap_err();
    assert!(error.source.to_string().contains("not registered"), "{}", error.source);
    let asked = script.asked();
    let (set, removed) = (asked[0].json(), asked[1].json());
    assert_eq!(set["ExpressionAttributeNames"]["#noted"], "unusable");
    let noted = json!({ "M": { "since": { "N": "7" }, "fault": { "S": "disabled" }, "call": { "S": "sign" } } });
    assert_eq!(set["ExpressionAttributeValues"][":noted"], noted);
    assert_eq!(removed["UpdateExpression"], "REMOVE #noted");
}
