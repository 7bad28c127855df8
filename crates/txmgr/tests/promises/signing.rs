//! Which key signs, how often the key service is called, and which lanes are poked.

use signpost_txmgr::fake::Fate;
use signpost_txmgr::inbox::Disposition;
use signpost_txmgr::ports::Happened;
use signpost_txmgr::start::KeyTrouble;
use signpost_txmgr::unusable::KeyFault;
use signpost_txmgr::wire::Status;

use super::world::{NOW, World, done, key_id, request};

#[test]
fn public_key_is_read_once_per_process() {
    let mut world = World::new();
    done(world.signer.warm_up(NOW)).unwrap();
    assert_eq!(world.keys.public_key_calls(), 2, "one for each account");
    for number in 0..3 {
        let batch: Vec<_> = ["one", "two"]
            .map(|account| world.message(request(&format!("{account}-{number}"), account, "")))
            .into_iter()
            .collect();
        assert_eq!(world.handle(&batch, NOW), [Disposition::Done; 2]);
    }
    world.finish("one", NOW);
    assert_eq!(world.keys.public_key_calls(), 2);
}

#[test]
fn signer_without_warm_up_reads_a_key_once_too() {
    let mut world = World::new();
    for number in 0..3 {
        world.take(request(&format!("r-{number}"), "one", ""), NOW);
    }
    assert_eq!(world.keys.public_key_calls(), 1);
}

#[test]
fn start_finds_a_key_of_another_address() {
    let world = World::new();
    let expected = world.account("one").address;
    let found = world.keys.add(&key_id("one"), [9; 32]);
    let trouble = done(world.signer.check_key(&key_id("one"), expected)).unwrap_err();
    let KeyTrouble::WrongAddress { expected: of_account, found: of_key } = trouble else { panic!("{trouble:?}") };
    assert_eq!((of_account, of_key), (expected, found));
    done(world.signer.warm_up(NOW)).unwrap();
    let mark = world.head("one").unusable.unwrap();
    assert_eq!(mark.fault, KeyFault::WrongAddress, "it is reported, and stops only its own account");
}

#[test]
fn key_of_another_address_signs_nothing() {
    let mut world = World::new();
    world.keys.add(&key_id("one"), [9; 32]);
    let message = world.message(request("r-1", "one", ""));
    assert_eq!(world.handle(&[message], NOW), [Disposition::Done], "it is refused");
    assert_eq!(world.keys.sign_calls(), 0);
}

#[test]
fn every_attempt_is_one_signature() {
    let mut world = World::new();
    world.forget_sends(true);
    let first = world.take(request("r-1", "one", ""), NOW);
    assert_eq!(world.keys.sign_calls(), 1);
    assert_eq!(world.handle(&[first], NOW.plus(1)), [Disposition::Done], "the message is redelivered");
    assert_eq!(world.keys.sign_calls(), 1);

    world.round("one", NOW);
    world.mine_many();
    world.round("one", NOW.plus(11_000));
    let bump = world.asks();
    assert_eq!(bump.len(), 1);
    world.answer_asks(&bump, NOW.plus(11_001));
    assert_eq!(world.record("r-1").attempts.len(), 2, "the bump is signed");
    world.answer_asks(&bump, NOW.plus(11_002));
    assert_eq!(world.keys.sign_calls(), 2, "the ask was delivered twice");

    world.take("{\"cancel\":\"r-1\"}".to_owned(), NOW.plus(11_003));
    world.round("one", NOW.plus(17_000));
    let cancel = world.asks();
    world.answer_asks(&cancel, NOW.plus(17_001));
    world.answer_asks(&cancel, NOW.plus(17_002));
    assert_eq!(world.record("r-1").attempts.len(), 3);
    assert_eq!(world.keys.sign_calls(), 3);
}

#[test]
fn lane_is_poked_after_a_signature_or_a_cancel() {
    let mut world = World::new();
    world.forget_sends(true);
    let batch: Vec<_> = ["a", "b"].map(|id| world.message(request(id, "one", ""))).into_iter().collect();
    assert_eq!(world.handle(&batch, NOW), [Disposition::Done; 2]);
    let poked = |world: &World| world.lane_pokes().into_iter().map(|poke| poke.account).collect::<Vec<_>>();
    let one = [world.account("one").to_string()];
    assert_eq!(poked(&world), one, "once for the batch, and no other lane");

    world.round("one", NOW);
    world.mine_many();
    world.round("one", NOW.plus(11_000));
    let asks = world.asks();
    world.answer_asks(&asks, NOW.plus(11_001));
    assert_eq!(poked(&world), one, "a bump was signed");

    world.take("{\"cancel\":\"b\"}".to_owned(), NOW.plus(11_002));
    assert_eq!(poked(&world), one, "a cancel was stored");
}

#[test]
fn failed_poke_does_not_retry_the_message() {
    let mut world = World::new();
    world.set_fate("SendMessageBatch", Some(Fate::Fail { happened: Happened::No, throttled: true }));
    world.take(request("r-1", "one", ""), NOW);
    assert_eq!(world.record("r-1").attempts.len(), 1);
}

#[test]
fn account_may_be_named_by_its_key_or_address() {
    for name in ["one", "two"] {
        let mut world = World::new();
        let account = world.account(name);
        let ways = [account.to_string(), account.address.to_string(), account.address.lower()];
        for (number, way) in ways.iter().enumerate() {
            let id = format!("r-{number}");
            world.take(request(&id, way, ""), NOW);
            let record = world.record(&id);
            assert_eq!((record.account, record.name.as_str()), (account, name), "{way}");
        }
        world.finish(name, NOW);
        assert!(world.chain.mined().iter().all(|mined| mined.sender == account.address));
        assert_eq!(world.chain.mined().len(), ways.len());
    }
}

#[test]
fn account_is_required_where_several_are_registered() {
    let mut world = World::new();
    world.take(r#"{"requestId":"a","to":"0x2222222222222222222222222222222222222222","gas":21000}"#.to_owned(), NOW);
    assert_eq!(world.outcome("a").reason.unwrap().code, "accountRequired");
    assert_eq!(world.keys.sign_calls(), 0);
}

#[test]
fn request_for_an_unregistered_account_is_rejected() {
    let mut world = World::new();
    let unknown = "0x00000000000000000000000000000000000000aa";
    for (id, way) in [("a", unknown.to_owned()), ("b", format!("97:{unknown}")), ("c", "three".to_owned())] {
        world.take(request(id, &way, ""), NOW);
        let outcome = world.outcome(id);
        assert_eq!((outcome.status, outcome.reason.unwrap().code.as_str()), (Status::Rejected, "unknownAccount"));
    }
    assert_eq!(world.keys.sign_calls(), 0);
}
