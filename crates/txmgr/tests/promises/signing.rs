//! Which key signs, how often the key service is called, and which lanes are poked.

use signpost_txmgr::fake::Fate;
use signpost_txmgr::inbox::Disposition;
use signpost_txmgr::ports::Happened;
use signpost_txmgr::start::KeyTrouble;
use signpost_txmgr::unusable::KeyFault;
use signpost_txmgr::wire::Status;

use super::fixture::{Fixture, NOW, done, key_id, request};

#[test]
fn public_key_is_read_once_per_process() {
    let mut fixture = Fixture::new();
    done(fixture.signer.warm_up(NOW)).unwrap();
    assert_eq!(fixture.keys.public_key_calls(), 2, "one for each account");
    for number in 0..3 {
        let batch: Vec<_> = ["one", "two"]
            .map(|account| fixture.message(request(&format!("{account}-{number}"), account, "")))
            .into_iter()
            .collect();
        assert_eq!(fixture.handle(&batch, NOW), [Disposition::Done; 2]);
    }
    fixture.finish("one", NOW);
    assert_eq!(fixture.keys.public_key_calls(), 2);
}

#[test]
fn signer_without_warm_up_reads_a_key_once_too() {
    let mut fixture = Fixture::new();
    for number in 0..3 {
        fixture.take(request(&format!("r-{number}"), "one", ""), NOW);
    }
    assert_eq!(fixture.keys.public_key_calls(), 1);
}

#[test]
fn start_finds_a_key_of_another_address() {
    let fixture = Fixture::new();
    let expected = fixture.account("one").address;
    let found = fixture.keys.add(&key_id("one"), [9; 32]);
    let trouble = done(fixture.signer.check_key(&key_id("one"), expected)).unwrap_err();
    let KeyTrouble::WrongAddress { expected: of_account, found: of_key } = trouble else { panic!("{trouble:?}") };
    assert_eq!((of_account, of_key), (expected, found));
    done(fixture.signer.warm_up(NOW)).unwrap();
    let mark = fixture.head("one").unusable.unwrap();
    assert_eq!(mark.fault, KeyFault::WrongAddress, "it is reported, and stops only its own account");
}

#[test]
fn key_of_another_address_signs_nothing() {
    let mut fixture = Fixture::new();
    fixture.keys.add(&key_id("one"), [9; 32]);
    let message = fixture.message(request("r-1", "one", ""));
    assert_eq!(fixture.handle(&[message], NOW), [Disposition::Done], "it is refused");
    assert_eq!(fixture.keys.sign_calls(), 0);
}

#[test]
fn every_attempt_is_one_signature() {
    let mut fixture = Fixture::new();
    fixture.forget_sends(true);
    let first = fixture.take(request("r-1", "one", ""), NOW);
    assert_eq!(fixture.keys.sign_calls(), 1);
    assert_eq!(fixture.handle(&[first], NOW.plus(1)), [Disposition::Done], "the message is redelivered");
    assert_eq!(fixture.keys.sign_calls(), 1);

    fixture.round("one", NOW);
    fixture.mine_many();
    fixture.round("one", NOW.plus(11_000));
    let bump = fixture.asks();
    assert_eq!(bump.len(), 1);
    fixture.answer_asks(&bump, NOW.plus(11_001));
    assert_eq!(fixture.record("r-1").attempts.len(), 2, "the bump is signed");
    fixture.answer_asks(&bump, NOW.plus(11_002));
    assert_eq!(fixture.keys.sign_calls(), 2, "the ask was delivered twice");

    fixture.take("{\"cancel\":\"r-1\"}".to_owned(), NOW.plus(11_003));
    fixture.round("one", NOW.plus(17_000));
    let cancel = fixture.asks();
    fixture.answer_asks(&cancel, NOW.plus(17_001));
    fixture.answer_asks(&cancel, NOW.plus(17_002));
    assert_eq!(fixture.record("r-1").attempts.len(), 3);
    assert_eq!(fixture.keys.sign_calls(), 3);
}

#[test]
fn lane_is_poked_after_a_signature_or_a_cancel() {
    let mut fixture = Fixture::new();
    fixture.forget_sends(true);
    let batch: Vec<_> = ["a", "b"].map(|id| fixture.message(request(id, "one", ""))).into_iter().collect();
    assert_eq!(fixture.handle(&batch, NOW), [Disposition::Done; 2]);
    let poked = |fixture: &Fixture| fixture.lane_pokes().into_iter().map(|poke| poke.account).collect::<Vec<_>>();
    let one = [fixture.account("one").to_string()];
    assert_eq!(poked(&fixture), one, "once for the batch, and no other lane");

    fixture.round("one", NOW);
    fixture.mine_many();
    fixture.round("one", NOW.plus(11_000));
    let asks = fixture.asks();
    fixture.answer_asks(&asks, NOW.plus(11_001));
    assert_eq!(poked(&fixture), one, "a bump was signed");

    fixture.take("{\"cancel\":\"b\"}".to_owned(), NOW.plus(11_002));
    assert_eq!(poked(&fixture), one, "a cancel was stored");
}

#[test]
fn failed_poke_does_not_retry_the_message() {
    let mut fixture = Fixture::new();
    fixture.set_fate("SendMessageBatch", Some(Fate::Fail { happened: Happened::No, throttled: true }));
    fixture.take(request("r-1", "one", ""), NOW);
    assert_eq!(fixture.record("r-1").attempts.len(), 1);
}

#[test]
fn account_may_be_named_by_its_key_or_address() {
    for name in ["one", "two"] {
        let mut fixture = Fixture::new();
        let account = fixture.account(name);
        let ways = [account.to_string(), account.address.to_string(), account.address.lower()];
        for (number, way) in ways.iter().enumerate() {
            let id = format!("r-{number}");
            fixture.take(request(&id, way, ""), NOW);
            let record = fixture.record(&id);
            assert_eq!((record.account, record.name.as_str()), (account, name), "{way}");
        }
        fixture.finish(name, NOW);
        assert!(fixture.chain.mined().iter().all(|mined| mined.sender == account.address));
        assert_eq!(fixture.chain.mined().len(), ways.len());
    }
}

#[test]
fn account_is_required_where_several_are_registered() {
    let mut fixture = Fixture::new();
    fixture.take(r#"{"requestId":"a","to":"0x2222222222222222222222222222222222222222","gas":21000}"#.to_owned(), NOW);
    assert_eq!(fixture.outcome("a").reason.unwrap().code, "accountRequired");
    assert_eq!(fixture.keys.sign_calls(), 0);
}

#[test]
fn request_for_an_unregistered_account_is_rejected() {
    let mut fixture = Fixture::new();
    let unknown = "0x00000000000000000000000000000000000000aa";
    for (id, way) in [("a", unknown.to_owned()), ("b", format!("97:{unknown}")), ("c", "three".to_owned())] {
        fixture.take(request(id, &way, ""), NOW);
        let outcome = fixture.outcome(id);
        assert_eq!((outcome.status, outcome.reason.unwrap().code.as_str()), (Status::Rejected, "unknownAccount"));
    }
    assert_eq!(fixture.keys.sign_calls(), 0);
}
