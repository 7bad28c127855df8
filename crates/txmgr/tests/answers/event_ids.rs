//! Event ids never change: consumers use them to drop copies. The expected ids were computed independently, with
//! `hashlib`, from the texts in the comments.

use signpost_txmgr::record::{Reason, Rejected};
use signpost_txmgr::units::{Digest, Millis, TxHash};
use signpost_txmgr::wire::{OutcomeMessage, Status, event_id};

const MESSAGE: &str = "5fea7756-0ea4-451a-a703-a558b933e274";

fn rejected(request_id: &str, message_id: Option<&str>) -> Rejected {
    Rejected {
        request_id: request_id.parse().unwrap(),
        digest: None,
        account: None,
        reason: Reason { code: "notJson".to_owned(), message: "no".to_owned(), revert: None, request_id: None },
        metadata: None,
        sender: None,
        message_id: message_id.map(str::to_owned),
        said_as: None,
        created_at: Millis(1_790_000_000_001),
        published_at: None,
        expires_at: None,
    }
}

fn event_of(rejected: &Rejected) -> String {
    OutcomeMessage::of_rejected(rejected).event_id
}

#[test]
fn event_ids_match_the_golden_values() {
    // `order-1`, `confirmed` and the hash, separated by zero bytes: as in the first version.
    let decided = event_id(&"order-1".parse().unwrap(), Status::Confirmed, &TxHash([0x11; 32]));
    assert_eq!(decided, "4d37ffd9dffa3cd6dbe56bd95028a87f6d93c8d02912f2bc23afc6daa2b918bd");
    // `outcome.v1`, `requestId=order-1`, `status=rejected`, `message=…`, one per line.
    let refused = event_of(&rejected("order-1", Some(MESSAGE)));
    assert_eq!(refused, "9cdf96ec5a82191067680317b2c2bb8935e418a3e89b0e27f9b0571bf46d061e");
    let own = event_of(&rejected(&format!("sqs:{MESSAGE}"), Some(MESSAGE)));
    assert_eq!(own, "051218bec653d2f7ac6b2755b58870398218ae5d3df03e2cb6b7a3ab243b1a37");
    // `rejectedAt=1790000000001` in place of the message.
    let old = event_of(&rejected("order-1", None));
    assert_eq!(old, "d31a3f82d54520b654ff048b7a8dd3760963ba9dbaf747e69cf37034de9b7a87");
}

#[test]
fn event_id_depends_on_the_message_and_not_on_the_reason() {
    let first = rejected("order-1", Some(MESSAGE));
    let other = Rejected {
        digest: Some(Digest([1; 32])),
        reason: Reason { code: "other".to_owned(), message: "other".to_owned(), ..first.reason.clone() },
        metadata: Some(serde_json::json!({ "a": 1 })),
        sender: Some("AIDA".to_owned()),
        created_at: Millis(7),
        published_at: Some(Millis(8)),
        ..first.clone()
    };
    assert_eq!(event_of(&first), event_of(&other));
    let kept = Rejected {
        request_id: format!("sqs:{MESSAGE}").parse().unwrap(),
        said_as: Some(first.request_id.clone()),
        ..first.clone()
    };
    assert_eq!(event_of(&first), event_of(&kept), "a copy under the message id is the same outcome");
    assert_ne!(event_of(&first), event_of(&rejected("order-1", Some("another"))));
}
