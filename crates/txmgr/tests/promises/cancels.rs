//! Who may cancel, and which transaction a cancel is.

use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::record::{AttemptKind, CancelCause};
use signpost_txmgr::units::{Gas, Nonce, U256, Wei};
use signpost_txmgr::wire::Status;

use super::fixture::{Fixture, NOW, RULES, request};

fn only_backend() -> Fixture {
    let mut fixture = Fixture::with_rules(&format!("{RULES}allow_senders = [\"backend\"]\n"));
    fixture.take(request("r-1", "one", ",\"value\":5"), NOW);
    fixture
}

#[test]
fn cancel_by_a_sender_who_is_not_allowed_is_refused() {
    for stranger in [Some("stranger"), None] {
        let mut fixture = only_backend();
        let cancel = fixture.message("{\"cancel\":\"r-1\"}".to_owned());
        let cancel = Incoming { sender: stranger.map(str::to_owned), ..cancel };
        assert_eq!(fixture.handle(&[cancel], NOW), [Disposition::Done]);
        assert_eq!(fixture.record("r-1").cancel, None, "{stranger:?}");
        let refusals = fixture.refusals();
        let [refusal] = refusals.as_slice() else { panic!("{refusals:?}") };
        assert_eq!(refusal.request_id, "sqs:m-2", "not under the id of the request it names");
        assert!(refusal.reason.as_ref().unwrap().code.ends_with("NotAllowed"), "{refusal:?}");

        fixture.finish("one", NOW.plus(100));
        assert_eq!(fixture.outcome("r-1").status, Status::Confirmed);
        assert_eq!(fixture.keys.sign_calls(), 1, "nothing but the request was signed");
    }
}

#[test]
fn cancel_by_the_requests_sender_is_accepted() {
    let mut fixture = only_backend();
    fixture.take("{\"cancel\":\"r-1\"}".to_owned(), NOW);
    assert_eq!(fixture.record("r-1").cancel, Some(CancelCause::Asked));
    assert_eq!(fixture.refusals(), []);
}

#[test]
fn repeated_cancel_pokes_the_lane_until_it_is_settled() {
    let mut fixture = Fixture::new();
    fixture.take(request("r-1", "one", ""), NOW);
    fixture.lane_pokes();
    for number in 0..2 {
        fixture.take("{\"cancel\":\"r-1\"}".to_owned(), NOW.plus(number));
        assert_eq!(fixture.lane_pokes().len(), 1, "cancel {number}: the poke before may be lost");
    }
    fixture.finish("one", NOW.plus(100));
    assert_eq!(fixture.outcome("r-1").status, Status::Cancelled);
    fixture.lane_pokes();
    fixture.take("{\"cancel\":\"r-1\"}".to_owned(), NOW.plus(60_000));
    assert_eq!(fixture.lane_pokes(), [], "nothing is left to do");
}

/// It moves 1 wei, which makes it a payment (BEP-703), if the account has no code and can spare it; else nothing.
#[test]
fn cancel_moves_at_most_one_wei_to_the_account_itself() {
    for (has_code, balance, wei) in [(false, 1_000_000_000, 1), (true, 1_000_000_000, 0), (false, 0, 0)] {
        let mut fixture = Fixture::new();
        let own = fixture.account("one").address;
        if has_code {
            fixture.chain.set_code(own, true);
        }
        let more = ",\"value\":5,\"data\":\"0x01020304\"";
        fixture.take(request("r-1", "one", more), NOW);
        if balance == 0 {
            // Enough for the gas, and no more.
            let price = fixture.record("r-1").fee.price();
            fixture.chain.set_balance(own, Wei(price.0 * U256::from(2 * 21_000)));
        }
        fixture.take("{\"cancel\":\"r-1\"}".to_owned(), NOW);
        fixture.finish("one", NOW.plus(100));

        assert_eq!(fixture.outcome("r-1").status, Status::Cancelled);
        let mined = fixture.chain.mined();
        let [cancel] = mined.as_slice() else { panic!("{mined:?}") };
        assert_eq!((cancel.sender, cancel.nonce, cancel.intent.to), (own, Nonce(0), Some(own)));
        assert_eq!(
            (cancel.intent.value, cancel.intent.gas),
            (Wei::from(wei), Gas(21_000)),
            "code: {has_code}, {balance}"
        );
        assert!(cancel.intent.data.is_empty(), "{:?}", cancel.intent.data);
    }
}

#[test]
fn cancel_replaces_the_sent_transaction_in_its_slot() {
    let mut fixture = Fixture::new();
    fixture.take(request("r-1", "one", ""), NOW);
    fixture.round("one", NOW);
    assert_eq!(fixture.chain.pool().len(), 1, "it is in the pool");
    fixture.take("{\"cancel\":\"r-1\"}".to_owned(), NOW);
    fixture.round("one", NOW.plus(1));
    let asks = fixture.asks();
    assert_eq!(asks.len(), 1);
    fixture.answer_asks(&asks, NOW.plus(2));
    let record = fixture.record("r-1");
    let [execute, cancel] = record.attempts.as_slice() else { panic!("{:?}", record.attempts) };
    assert_eq!((execute.kind, cancel.kind), (AttemptKind::Execute, AttemptKind::Cancel));
    assert_eq!(cancel.fee.price(), Wei::from(1_100_000_000_u64), "a tenth above the attempt that it replaces");
    fixture.finish("one", NOW.plus(3));
    let outcome = fixture.outcome("r-1");
    assert_eq!((outcome.status, outcome.tx_hash), (Status::Cancelled, Some(cancel.tx_hash.to_string())));
    assert_eq!(outcome.reason.unwrap().code, "cancelled");
}
