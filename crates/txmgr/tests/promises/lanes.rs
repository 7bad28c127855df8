//! What is sent, in which order, and how much at once.

use signpost_txmgr::broadcaster::{Broadcaster, BroadcasterConfig, Lane};
use signpost_txmgr::fake::{Fate, Interceptor, Journal, MemoryChain, MemoryQueues, QueueRules, SimClock};
use signpost_txmgr::inbox::{Disposition, Incoming};
use signpost_txmgr::machine::Tuning;
use signpost_txmgr::ports::Happened;
use signpost_txmgr::units::{ChainId, TxHash};
use signpost_txmgr::wire::WireKind;

use super::fixture::{Fixture, NOW, RETENTION_MS, RULES, done, request};

/// Signs these requests of account `one`, one batch each.
fn signed(fixture: &mut Fixture, ids: &[&str]) {
    for id in ids {
        fixture.take(request(id, "one", ""), NOW);
    }
}

/// The hashes of the first attempts.
fn hashes(fixture: &Fixture, ids: &[&str]) -> Vec<TxHash> {
    ids.iter().map(|id| fixture.record(id).attempts[0].tx_hash).collect()
}

fn sent_hashes(fixture: &Fixture) -> Vec<TxHash> {
    fixture.sent().into_iter().map(|raw| raw.hash).collect()
}

/// `r-0` has a slot but no signature; `r-1` and `r-2` above it are signed.
fn with_a_gap() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.set_key_disabled("one", true);
    let first = fixture.message(request("r-0", "one", ""));
    assert_eq!(fixture.handle(&[first], NOW), [Disposition::Retry], "reserved, and not signed");
    fixture.set_key_disabled("one", false);
    signed(&mut fixture, &["r-1", "r-2"]);
    assert_eq!(fixture.record("r-0").attempts, []);
    fixture
}

#[test]
fn nothing_is_sent_above_an_unsent_slot() {
    let mut fixture = with_a_gap();
    fixture.round("one", NOW.plus(1));
    assert_eq!(fixture.sent(), [], "the lowest slot is not signed");
    fixture.round("one", NOW.plus(6_000));
    assert_eq!(fixture.sent(), [], "nor after a while");

    let asks = fixture.asks();
    assert_eq!((asks[0].request_id.as_str(), asks[0].attempt), ("r-0", 0), "the missing one is asked for");
    fixture.answer_asks(&asks[..1], NOW.plus(6_001));
    fixture.round("one", NOW.plus(6_002));
    assert_eq!(sent_hashes(&fixture), hashes(&fixture, &["r-0", "r-1", "r-2"]), "then all, lowest nonce first");
}

#[test]
fn sent_slots_are_not_sent_again_when_a_slot_is_added() {
    let mut fixture = Fixture::new();
    signed(&mut fixture, &["r-0", "r-1", "r-2"]);
    fixture.round("one", NOW);
    assert_eq!(sent_hashes(&fixture), hashes(&fixture, &["r-0", "r-1", "r-2"]));
    fixture.round("one", NOW.plus(1));
    assert_eq!(fixture.sent(), []);
    signed(&mut fixture, &["r-3"]);
    fixture.round("one", NOW.plus(2));
    assert_eq!(sent_hashes(&fixture), hashes(&fixture, &["r-3"]));
}

#[test]
fn mined_slot_without_a_stored_send_holds_nothing_back() {
    let mut fixture = Fixture::new();
    signed(&mut fixture, &["r-0"]);
    // It is sent, but the write of that fails and the pass is lost.
    fixture.set_fate("UpdateItem", Some(Fate::Fail { happened: Happened::No, throttled: false }));
    let mut lane = Lane::new(fixture.account("one"), NOW);
    assert!(done(fixture.broadcaster.round(&mut lane, NOW)).is_err());
    fixture.set_fate("UpdateItem", None);
    assert_eq!(sent_hashes(&fixture), hashes(&fixture, &["r-0"]));
    fixture.chain.mine();
    // A cancel keeps it from being sent again, which would store the send.
    fixture.take("{\"cancel\":\"r-0\"}".to_owned(), NOW.plus(1));
    signed(&mut fixture, &["r-1"]);
    assert_eq!(fixture.record("r-0").attempts[0].sent, None);
    fixture.round("one", NOW.plus(2));
    assert_eq!(sent_hashes(&fixture), hashes(&fixture, &["r-1"]));
}

#[test]
fn only_the_head_of_the_lane_is_sent_again_and_bumped() {
    let mut fixture = Fixture::new();
    fixture.forget_sends(true);
    signed(&mut fixture, &["r-0", "r-1", "r-2"]);
    fixture.round("one", NOW);
    fixture.sent();
    fixture.mine_many();
    fixture.round("one", NOW.plus(4_000));
    assert_eq!(sent_hashes(&fixture), hashes(&fixture, &["r-0"]));
    fixture.mine_many();
    fixture.round("one", NOW.plus(11_000));
    let asked: Vec<_> = fixture.asks().into_iter().map(|ask| (ask.request_id, ask.attempt, ask.kind)).collect();
    assert_eq!(asked, [("r-0".to_owned(), 1, WireKind::Execute)]);
}

#[test]
fn slot_above_a_mined_one_is_the_head() {
    let mut fixture = Fixture::new();
    signed(&mut fixture, &["r-0"]);
    fixture.round("one", NOW);
    fixture.chain.mine();
    fixture.forget_sends(true);
    signed(&mut fixture, &["r-1", "r-2"]);
    fixture.round("one", NOW.plus(1));
    fixture.sent();
    fixture.round("one", NOW.plus(4_000));
    assert_eq!(sent_hashes(&fixture), hashes(&fixture, &["r-1"]), "r-0 is mined and not final yet");
}

#[test]
fn slots_in_flight_stay_within_the_window() {
    let ids = ["r-0", "r-1", "r-2", "r-3", "r-4", "r-5", "r-6"];
    let mut fixture = Fixture::with(RULES, 3);
    signed(&mut fixture, &ids);
    fixture.round("one", NOW);
    assert_eq!(sent_hashes(&fixture), hashes(&fixture, &ids[..3]));
    fixture.round("one", NOW.plus(500));
    assert_eq!(fixture.sent(), [], "nothing was mined");

    fixture.chain.mine();
    // The first round sees that it was mined, the second looks further.
    for at in [1_000, 1_500] {
        fixture.round("one", NOW.plus(at));
    }
    assert_eq!(sent_hashes(&fixture), hashes(&fixture, &ids[3..6]));
    fixture.finish("one", NOW.plus(2_000));
    assert_eq!(fixture.chain.mined().len(), ids.len());
}

#[test]
fn pause_by_a_node_ends_when_a_node_accepts_the_bytes() {
    let mut fixture = Fixture::new();
    signed(&mut fixture, &["r-0"]);
    let paused = |fixture: &Fixture| fixture.head("one").paused;
    fixture.chain.answer_next([signpost_txmgr::record::SendClass::Misconfigured]);
    fixture.round("one", NOW);
    assert!(paused(&fixture));
    // It is sent again at the slow pace, and accepted.
    fixture.round("one", NOW.plus(60_000));
    assert!(!paused(&fixture));
    fixture.finish("one", NOW.plus(61_000));
    assert_eq!(fixture.chain.mined().len(), 1);
}

#[test]
fn account_is_paused_when_a_node_answers_misconfigured() {
    let mut fixture = Fixture::new();
    signed(&mut fixture, &["r-0"]);
    fixture.take(request("t-0", "two", ""), NOW);

    // The configured node is on another chain.
    let (interceptor, journal) = (Interceptor::default(), Journal::default());
    let chain = MemoryChain::new(ChainId(56), interceptor.clone(), journal.clone());
    let queues = MemoryQueues::new(QueueRules::FIFO, &SimClock::at(NOW), &interceptor, &journal);
    let config = BroadcasterConfig {
        chain_id: ChainId(97),
        tuning: Tuning::BSC,
        window: BroadcasterConfig::WINDOW,
        retention_ms: RETENTION_MS,
        write_concurrency: 1,
    };
    let misconfigured = Broadcaster::new(fixture.store.clone(), chain.clone(), queues, fixture.topic.clone(), config);
    let mut lane = Lane::new(fixture.account("one"), NOW);
    done(misconfigured.round(&mut lane, NOW)).unwrap();

    assert!(fixture.head("one").paused, "nothing more is signed for it until an operator has looked");
    assert!(!fixture.head("two").paused, "the other account is not affected");
    assert_eq!(fixture.record("r-0").attempts[0].sent.as_ref().unwrap().answer.message, "invalid chain id for signer");
    let before = fixture.keys.sign_calls();
    fixture.take(request("r-1", "one", ""), NOW.plus(1));
    assert_eq!(fixture.rejected("r-1").reason.code, "accountPaused");
    assert_eq!(fixture.keys.sign_calls(), before, "I14");
}

#[test]
fn fifo_messages_after_a_retried_one_of_their_group_wait() {
    let mut fixture = Fixture::new();
    fixture.set_key_disabled("one", true);
    let mut batch: Vec<Incoming> = Vec::new();
    for (id, account, group) in [
        ("a", "two", Some("g")),
        ("b", "one", Some("g")),
        ("c", "two", Some("g")),
        ("d", "two", Some("other")),
        ("e", "two", None),
    ] {
        let message = fixture.message(request(id, account, ""));
        batch.push(Incoming { group: group.map(str::to_owned), ..message });
    }
    assert_eq!(
        fixture.handle(&batch, NOW),
        [Disposition::Done, Disposition::Retry, Disposition::Retry, Disposition::Done, Disposition::Done]
    );
}
