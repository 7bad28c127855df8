//! Claims about requests: reservation, conditional writes, rejections, reading. Lanes and accounts are
//! [`crate::lanes`].

use std::sync::Arc;

use futures_util::future::join_all;
use signpost_txmgr::account::Reservation;
use signpost_txmgr::fake::sealer;
use signpost_txmgr::machine::Event;
use signpost_txmgr::ports::{RejectVerdict, ReserveVerdict, Store, UpdateVerdict};
use signpost_txmgr::record::{
    CancelCause, Foreign, Phase, Reason, Receipt, Record, Rejected, Revert, SendClass, Stored, Vacancy, WaitCause,
    Waiting,
};
use signpost_txmgr::units::{Digest, Millis, Nonce, RequestId, TxHash};

use crate::lane::{NOW, TestLane, after, load_one, receipt, sent};

/// Calls `$each!` with the suite and all its claims.
#[macro_export]
macro_rules! store_claims {
    ($each:ident) => {
        $each! { store:
            a_reservation_claims_slots_requests_and_head,
            largest_group_is_reserved,
            the_largest_calldata_is_reserved_and_read_back,
            sixteen_reservations_at_once_leave_contiguous_nonces,
            a_stale_head_reserves_nothing,
            a_paused_account_reserves_nothing_until_it_is_resumed,
            an_unregistered_account_reserves_nothing,
            known_id_stops_its_group_and_is_reported,
            the_same_group_again_changes_nothing,
            a_rejected_id_can_be_reserved,
            a_slot_replaces_only_the_rejection_that_was_read,
            a_rejection_replaces_only_the_one_that_was_read,
            an_answer_is_kept_by_message,
            expired_item_is_absent,
            id_is_free_once_its_record_has_expired,
            every_state_is_read_back_as_it_was_written,
            waits_witnesses_and_bare_receipts_are_read_back,
            seal_is_valid_for_every_state_read_back,
            stale_update_returns_the_stored_record,
            repeated_update_finds_itself_stored,
            one_of_several_concurrent_updates_is_stored,
            update_without_a_record_is_gone,
            a_rejection_is_stored_and_replaced_by_another,
            rejection_leaves_a_reserved_request_unchanged,
            any_number_of_ids_is_read_at_once,
        }
    };
}

fn stored(record: &Record) -> Stored {
    Stored::Record(Box::new(record.clone()))
}

/// All or nothing, and I4.
pub async fn a_reservation_claims_slots_requests_and_head(store: &impl Store) {
    let lane = TestLane::new("reserve");
    let records = lane.reserved(store, 3).await;
    let head = lane.stored_head(store).await;
    assert_eq!((head.next_nonce, head.lowest_open_nonce, head.open_slots()), (Nonce(3), Nonce(0), 3));
    let slots = store.slots(&lane.account(), Nonce(0), 10).await.unwrap();
    assert_eq!(slots, [(Nonce(0), lane.id(0)), (Nonce(1), lane.id(1)), (Nonce(2), lane.id(2))]);
    for record in &records {
        assert_eq!(load_one(store, &record.request_id).await, Some(stored(record)));
    }
}

/// 40 requests are 81 items of a transaction.
pub async fn largest_group_is_reserved(store: &impl Store) {
    let lane = TestLane::new("full-group");
    let records = lane.reserved(store, 40).await;
    assert_eq!(records.len(), Reservation::MAX_RECORDS);
    assert_eq!(store.slots(&lane.account(), Nonce(0), 100).await.unwrap().len(), 40);
}

/// As much calldata as a pool accepts, and as many requests with it as a group may have.
pub async fn the_largest_calldata_is_reserved_and_read_back(store: &impl Store) {
    const CALLDATA_BYTES: usize = 128_000;
    let lane = TestLane::new("large");
    let head = lane.register(store).await;
    let count = u64::try_from(Reservation::MAX_BYTES / CALLDATA_BYTES).unwrap();
    let mut group = lane.group(&head, 0, count);
    for record in &mut group.records {
        record.intent.data = (0..CALLDATA_BYTES).map(|at| u8::try_from(at % 251).unwrap()).collect::<Arc<[u8]>>();
    }
    assert_eq!(store.reserve(&group).await.unwrap(), ReserveVerdict::Reserved);
    let signed = lane.signed(&group.records[7], 1);
    assert_eq!(store.update(&signed).await.unwrap(), UpdateVerdict::Stored);
    let ids: Vec<RequestId> = group.records.iter().map(|record| record.request_id.clone()).collect();
    let mut found = store.load(&ids, NOW).await.unwrap();
    found.sort_by_key(nonce_of);
    group.records[7] = signed;
    assert!(found == group.records.iter().map(stored).collect::<Vec<_>>(), "calldata is not as it was written");
}

fn nonce_of(stored: &Stored) -> Nonce {
    match stored {
        Stored::Record(record) => record.nonce,
        Stored::Rejected(_) => panic!("no rejection was stored"),
    }
}

/// I1 and I4 in any order.
pub async fn sixteen_reservations_at_once_leave_contiguous_nonces(store: &impl Store) {
    const WORKERS: u64 = 16;
    let lane = TestLane::new("crowd");
    lane.register(store).await;
    let lane = &lane;
    let worker = async |at: u64| {
        // A worker loses at most once to each of the others, apart from conflicts.
        for _ in 0..WORKERS * 20 {
            let head = lane.stored_head(store).await;
            match store.reserve(&lane.group(&head, at, 1)).await.unwrap() {
                ReserveVerdict::Reserved => return head.next_nonce,
                ReserveVerdict::NotReserved { head_changed, known, contended, slot_taken } => {
                    assert!(known.is_empty(), "nobody else has this id: {known:?}");
                    assert!(head_changed || contended, "a lost race is a moved head, not a slot ({slot_taken})");
                }
            }
        }
        panic!("worker {at} never got a slot");
    };
    let mut nonces = join_all((0..WORKERS).map(worker)).await;
    nonces.sort_unstable();
    assert_eq!(nonces, (0..WORKERS).map(Nonce).collect::<Vec<_>>());
    assert_eq!(lane.stored_head(store).await.next_nonce, Nonce(WORKERS));
    let slots = store.slots(&lane.account(), Nonce(0), 100).await.unwrap();
    assert_eq!(slots.iter().map(|(nonce, _)| *nonce).collect::<Vec<_>>(), nonces);
    for (nonce, id) in slots {
        assert_eq!(nonce_of(&load_one(store, &id).await.unwrap()), nonce, "slot and record agree");
    }
}

/// The head has moved since it was read.
pub async fn a_stale_head_reserves_nothing(store: &impl Store) {
    let lane = TestLane::new("stale-head");
    let old = lane.register(store).await;
    assert_eq!(store.reserve(&lane.group(&old, 0, 2)).await.unwrap(), ReserveVerdict::Reserved);
    let verdict = store.reserve(&lane.group(&old, 10, 2)).await.unwrap();
    assert!(matches!(&verdict, ReserveVerdict::NotReserved { head_changed: true, known, .. } if known.is_empty()));
    assert_eq!(load_one(store, &lane.id(10)).await, None);
    assert_eq!(store.slots(&lane.account(), Nonce(0), 10).await.unwrap().len(), 2);
}

/// I14, also when the head was read before the pause.
pub async fn a_paused_account_reserves_nothing_until_it_is_resumed(store: &impl Store) {
    let lane = TestLane::new("paused");
    let head = lane.register(store).await;
    store.set_paused(&lane.account(), true).await.unwrap();
    store.set_paused(&lane.account(), true).await.unwrap();
    let verdict = store.reserve(&lane.group(&head, 0, 1)).await.unwrap();
    assert!(matches!(verdict, ReserveVerdict::NotReserved { head_changed: true, .. }), "{verdict:?}");
    assert!(lane.stored_head(store).await.paused);
    assert_eq!(load_one(store, &lane.id(0)).await, None);
    store.set_paused(&lane.account(), false).await.unwrap();
    assert_eq!(store.reserve(&lane.group(&head, 0, 1)).await.unwrap(), ReserveVerdict::Reserved);
}

/// I14.
pub async fn an_unregistered_account_reserves_nothing(store: &impl Store) {
    let lane = TestLane::new("unregistered");
    let verdict = store.reserve(&lane.group(&lane.head(), 0, 1)).await.unwrap();
    assert!(matches!(verdict, ReserveVerdict::NotReserved { head_changed: true, .. }), "{verdict:?}");
    assert_eq!(load_one(store, &lane.id(0)).await, None);
    assert_eq!(store.head(&lane.account()).await.unwrap(), None, "a reservation registers nothing");
}

/// I8: a known id gets no second slot, whatever its digest.
pub async fn known_id_stops_its_group_and_is_reported(store: &impl Store) {
    let lane = TestLane::new("known");
    let first = lane.reserved(store, 1).await;
    let head = lane.stored_head(store).await;
    let mut group = lane.group(&head, 5, 3);
    group.records[1].request_id = lane.id(0);
    group.records[1].digest = Digest([9; 32]);
    let known = vec![lane.id(0)];
    let verdict = store.reserve(&group).await.unwrap();
    assert_eq!(
        verdict,
        ReserveVerdict::NotReserved { head_changed: false, known, slot_taken: false, contended: false }
    );
    assert_eq!(lane.stored_head(store).await, head);
    assert_eq!(load_one(store, &lane.id(0)).await, Some(stored(&first[0])), "the first request is untouched");
    assert_eq!(load_one(store, &lane.id(5)).await, None, "all or nothing");
}

/// As in a retry after a lost reply: the verdict is that the group is reserved, or that its ids are known.
pub async fn the_same_group_again_changes_nothing(store: &impl Store) {
    let lane = TestLane::new("again");
    let head = lane.register(store).await;
    let group = lane.group(&head, 0, 2);
    assert_eq!(store.reserve(&group).await.unwrap(), ReserveVerdict::Reserved);
    let signed = lane.signed(&group.records[0], 1);
    assert_eq!(store.update(&signed).await.unwrap(), UpdateVerdict::Stored);
    match store.reserve(&group).await.unwrap() {
        ReserveVerdict::Reserved => {}
        ReserveVerdict::NotReserved { known, .. } => assert_eq!(known, [lane.id(0), lane.id(1)]),
    }
    assert_eq!(lane.stored_head(store).await.next_nonce, Nonce(2));
    assert_eq!(load_one(store, &lane.id(0)).await, Some(stored(&signed)), "what happened since is kept");
}

/// A rejection never held a nonce.
pub async fn a_rejected_id_can_be_reserved(store: &impl Store) {
    let lane = TestLane::new("corrected");
    let head = lane.register(store).await;
    let rejected = lane.rejected(0);
    assert_eq!(store.reject(&rejected, &Vacancy::Free).await.unwrap(), RejectVerdict::Stored);
    let mut group = lane.group(&head, 0, 1);
    group.replaces.insert(lane.id(0), rejected.message_id);
    assert_eq!(store.reserve(&group).await.unwrap(), ReserveVerdict::Reserved);
    assert_eq!(load_one(store, &lane.id(0)).await, Some(stored(&group.records[0])));
}

/// Either the refusal or the slot of a message wins: a slot replaces only the rejection that was read.
pub async fn a_slot_replaces_only_the_rejection_that_was_read(store: &impl Store) {
    let lane = TestLane::new("replaced");
    let head = lane.register(store).await;
    let by = |message_id: Option<&str>| Rejected { message_id: message_id.map(str::to_owned), ..lane.rejected(1) };
    let mut over = Vacancy::Free;
    for found in [Some("m-1"), None, Some("m-2")] {
        let rejected = by(found);
        assert_eq!(store.reject(&rejected, &over).await.unwrap(), RejectVerdict::Stored);
        over = Vacancy::of(Some(&rejected));
        for read in [None, Some(Some("m-1")), Some(None), Some(Some("m-2"))] {
            // Together with another request, which gets no slot either.
            let mut group = lane.group(&head, 0, 2);
            group.replaces.extend(read.map(|message_id| (lane.id(1), message_id.map(str::to_owned))));
            if read == Some(found) {
                continue;
            }
            let known = vec![lane.id(1)];
            assert_eq!(
                store.reserve(&group).await.unwrap(),
                ReserveVerdict::NotReserved { head_changed: false, known, slot_taken: false, contended: false },
                "found {found:?}, read {read:?}"
            );
            assert_eq!(load_one(store, &lane.id(1)).await, Some(Stored::Rejected(rejected.clone())));
            assert_eq!(load_one(store, &lane.id(0)).await, None);
        }
    }
    let mut group = lane.group(&head, 0, 2);
    group.replaces.insert(lane.id(1), Some("m-2".to_owned()));
    assert_eq!(store.reserve(&group).await.unwrap(), ReserveVerdict::Reserved);
    assert_eq!(load_one(store, &lane.id(1)).await, Some(stored(&group.records[1])));
}

/// The same for two refusals.
pub async fn a_rejection_replaces_only_the_one_that_was_read(store: &impl Store) {
    let lane = TestLane::new("rejections");
    let by = |message_id: Option<&str>| Rejected { message_id: message_id.map(str::to_owned), ..lane.rejected(0) };
    let messages = [Some("m-1"), None, Some("m-2")];
    let mut over = Vacancy::Free;
    for found in messages {
        let rejected = by(found);
        assert_eq!(store.reject(&rejected, &over).await.unwrap(), RejectVerdict::Stored);
        over = Vacancy::of(Some(&rejected));
        let others = messages.iter().filter(|other| **other != found).map(|other| Vacancy::of(Some(&by(*other))));
        for other in others.chain([Vacancy::Free]) {
            let verdict = store.reject(&by(Some("m-3")), &other).await.unwrap();
            assert_eq!(verdict, RejectVerdict::Occupied, "found {found:?}, expected {other:?}");
            assert_eq!(load_one(store, &lane.id(0)).await, Some(Stored::Rejected(rejected.clone())));
        }
    }
}

/// A message's answer is stored under its own id too, and outlives the rejection under the id that it named.
pub async fn an_answer_is_kept_by_message(store: &impl Store) {
    let lane = TestLane::new("answers");
    let named = lane.rejected(0);
    let kept = Rejected {
        request_id: RequestId::of_message(&format!("{}-m-0", lane.id(0)).replace(':', "-")).unwrap(),
        said_as: Some(lane.id(0)),
        ..named.clone()
    };
    let beside = Rejected {
        request_id: RequestId::of_message("answers-m-1").unwrap(),
        reason: Reason { request_id: Some(lane.id(0)), ..named.reason.clone() },
        account: None,
        ..named.clone()
    };
    for rejected in [&named, &kept, &beside] {
        assert_eq!(store.reject(rejected, &Vacancy::Free).await.unwrap(), RejectVerdict::Stored);
        assert_eq!(load_one(store, &rejected.request_id).await, Some(Stored::Rejected(rejected.clone())));
        assert_eq!(store.reject(rejected, &Vacancy::Free).await.unwrap(), RejectVerdict::Occupied, "it is kept once");
    }
    let other = Rejected { message_id: Some("m-7".to_owned()), ..named.clone() };
    let over = Vacancy::of(Some(&named));
    assert_eq!(store.reject(&other, &over).await.unwrap(), RejectVerdict::Stored);
    assert_eq!(load_one(store, &kept.request_id).await, Some(Stored::Rejected(kept)));
}

/// TTL deletes late: an expired item counts as deleted before that.
pub async fn expired_item_is_absent(store: &impl Store) {
    let lane = TestLane::new("absent");
    let expires_at = Millis(NOW.0 + 60_000);
    let rejected = Rejected { expires_at: Some(expires_at), ..lane.rejected(0) };
    assert_eq!(store.reject(&rejected, &Vacancy::Free).await.unwrap(), RejectVerdict::Stored);
    let ids = [lane.id(0)];
    assert_eq!(store.load(&ids, Millis(expires_at.0 - 1)).await.unwrap().len(), 1);
    assert_eq!(store.load(&ids, expires_at).await.unwrap(), []);
    let later = Rejected { message_id: Some("m-9".to_owned()), created_at: expires_at, ..lane.rejected(0) };
    assert_eq!(store.reject(&later, &Vacancy::Free).await.unwrap(), RejectVerdict::Stored);
}

/// TTL deletes late: the expiry time decides, not the deletion.
pub async fn id_is_free_once_its_record_has_expired(store: &impl Store) {
    let lane = TestLane::new("expiring");
    let mut records = lane.reserved(store, 2).await;
    let expires_at = Millis(NOW.0 + 86_400_000);
    for record in &mut records {
        for next in closed(&lane, record, expires_at) {
            assert_eq!(store.update(&next).await.unwrap(), UpdateVerdict::Stored);
        }
    }
    let head = lane.stored_head(store).await;
    let mut group = lane.group(&head, 0, 1);
    group.records[0].created_at = Millis(expires_at.0 - 1_000);
    let known = vec![lane.id(0)];
    let verdict = store.reserve(&group).await.unwrap();
    assert_eq!(
        verdict,
        ReserveVerdict::NotReserved { head_changed: false, known, slot_taken: false, contended: false }
    );
    let mut rejected = lane.rejected(1);
    rejected.created_at = Millis(expires_at.0 - 1_000);
    assert_eq!(store.reject(&rejected, &Vacancy::Free).await.unwrap(), RejectVerdict::Occupied);

    group.records[0].created_at = Millis(expires_at.0 + 1_000);
    assert_eq!(store.reserve(&group).await.unwrap(), ReserveVerdict::Reserved);
    assert_eq!(load_one(store, &lane.id(0)).await, Some(stored(&group.records[0])));
    rejected.created_at = Millis(expires_at.0 + 1_000);
    assert_eq!(store.reject(&rejected, &Vacancy::Free).await.unwrap(), RejectVerdict::Stored);
}

/// From signature to close, one event after the other.
fn closed(lane: &TestLane, record: &Record, expires_at: Millis) -> Vec<Record> {
    let signed = lane.signed(record, 1);
    let sent = sent(&signed, SendClass::Accepted);
    let settled = after(&sent, &Event::Finalized { receipt: receipt(&sent, 8, true), revert: None, witnesses: 1 });
    let published = after(&settled, &Event::Published { expires_at });
    vec![signed, sent, settled, published]
}

/// Every phase, verdict, cause and answer.
pub async fn every_state_is_read_back_as_it_was_written(store: &impl Store) {
    let lane = TestLane::new("states");
    let records = lane.reserved(store, 5).await;
    let expires_at = Millis(NOW.0 + 86_400_000);

    let signed = lane.signed(&records[0], 1);
    let first_sent = sent(&signed, SendClass::Underpriced(None));
    let second = lane.signed(&first_sent, 2);
    let bumped = sent(&second, SendClass::AlreadyKnown);
    let mined = after(&bumped, &Event::Mined(receipt(&bumped, 7, true)));
    let unmined = after(&mined, &Event::Unmined);
    let mined_again = after(&unmined, &Event::Mined(receipt(&bumped, 9, true)));
    let settled =
        after(&mined_again, &Event::Finalized { receipt: receipt(&bumped, 9, true), revert: None, witnesses: 1 });
    let published = after(&settled, &Event::Published { expires_at });
    let confirmed = vec![signed, first_sent, second, bumped, mined, unmined, mined_again, settled, published];

    let signed = lane.signed(&records[1], 1);
    let revert = Some(Revert { text: "too late".to_owned(), raw: vec![1, 2, 3] });
    let reverted = after(&signed, &Event::Finalized { receipt: receipt(&signed, 9, false), revert, witnesses: 1 });

    let refused = after(&lane.signed(&records[2], 1), &Event::CancelAsked(CancelCause::Refused("no".to_owned())));
    let cancelled = lane.signed(&refused, 2);
    let cancelled = [
        lane.signed(&records[2], 1),
        refused,
        cancelled.clone(),
        after(&cancelled, &Event::Finalized { receipt: receipt(&cancelled, 9, true), revert: None, witnesses: 1 }),
    ];

    let block = receipt(&confirmed[0], 9, true).block;
    let foreign = Event::Displaced { foreign: Foreign { tx_hash: TxHash([5; 32]), block }, witnesses: 1 };
    let asked = after(&records[4], &Event::CancelAsked(CancelCause::Deadline));
    let stories =
        [confirmed, vec![signed, reverted], cancelled.to_vec(), vec![after(&records[3], &foreign)], vec![asked]];
    for state in stories.into_iter().flatten() {
        assert_eq!(store.update(&state).await.unwrap(), UpdateVerdict::Stored, "version {}", state.version);
        assert_eq!(load_one(store, &state.request_id).await, Some(stored(&state)));
    }
}

/// Every wait cause, the time since a request is at its cap, the number of nodes that agreed on an outcome, and a
/// receipt with the fewest fields.
pub async fn waits_witnesses_and_bare_receipts_are_read_back(store: &impl Store) {
    let lane = TestLane::new("waits");
    let records = lane.reserved(store, 2).await;
    let mut states = vec![lane.signed(&records[0], 1)];
    for cause in WaitCause::ALL {
        let waits = Event::Waits(Waiting { cause, since: Millis(NOW.0 + 5) });
        states.push(after(states.last().unwrap(), &waits));
    }
    let sent = sent(states.last().unwrap(), SendClass::Accepted);
    let capped = after(&sent, &Event::AtCap(Millis(NOW.0 + 9)));
    let over = after(&capped, &Event::CancelAsked(CancelCause::AtCap));
    let full = receipt(&sent, 8, true);
    let bare = Receipt { gas_used: None, effective_gas_price: None, contract: None, ..full };
    let settled = after(&over, &Event::Finalized { receipt: bare, revert: None, witnesses: 2 });
    states.extend([sent, capped, over, settled]);
    let block = full.block;
    let foreign = Foreign { tx_hash: TxHash([6; 32]), block };
    states.push(after(&records[1], &Event::Displaced { foreign, witnesses: 2 }));
    for state in states {
        assert_eq!(store.update(&state).await.unwrap(), UpdateVerdict::Stored, "version {}", state.version);
        assert_eq!(load_one(store, &state.request_id).await, Some(stored(&state)));
    }
}

/// Every field that a seal covers is read back as it was written, in every state of the request (I17).
pub async fn seal_is_valid_for_every_state_read_back(store: &impl Store) {
    let lane = TestLane::new("sealed");
    let [mut record]: [Record; 1] = lane.reserved(store, 1).await.try_into().unwrap();
    for step in 0..4_u64 {
        let Some(Stored::Record(read)) = load_one(store, &lane.id(0)).await else { panic!("it is a record") };
        assert_eq!(sealer().check(&read, &read.name), Ok(()), "step {step}");
        record = match step {
            0 => lane.signed(&record, 1),
            1 => sent(&record, SendClass::Accepted),
            _ => after(&record, &Event::CancelAsked(CancelCause::Asked)),
        };
        assert_eq!(store.update(&record).await.unwrap(), UpdateVerdict::Stored);
    }
}

/// The loser of a race continues with what the winner wrote.
pub async fn stale_update_returns_the_stored_record(store: &impl Store) {
    let lane = TestLane::new("stale-update");
    let records = lane.reserved(store, 1).await;
    let winner = lane.signed(&records[0], 1);
    let loser = lane.signed(&records[0], 2);
    assert_eq!(store.update(&winner).await.unwrap(), UpdateVerdict::Stored);
    assert_eq!(store.update(&loser).await.unwrap(), UpdateVerdict::Stale(Box::new(winner.clone())));
    let ahead = sent(&sent(&winner, SendClass::Accepted), SendClass::AlreadyKnown);
    assert_eq!(
        store.update(&ahead).await.unwrap(),
        UpdateVerdict::Stale(Box::new(winner.clone())),
        "no version is skipped"
    );
    assert_eq!(load_one(store, &lane.id(0)).await, Some(stored(&winner)));
}

/// As in a retry after a lost reply.
pub async fn repeated_update_finds_itself_stored(store: &impl Store) {
    let lane = TestLane::new("update-again");
    let records = lane.reserved(store, 1).await;
    let signed = lane.signed(&records[0], 1);
    assert_eq!(store.update(&signed).await.unwrap(), UpdateVerdict::Stored);
    match store.update(&signed).await.unwrap() {
        UpdateVerdict::Stored => {}
        UpdateVerdict::Stale(found) => assert_eq!(*found, signed),
        UpdateVerdict::Gone => panic!("it was stored a moment ago"),
    }
    assert_eq!(load_one(store, &lane.id(0)).await, Some(stored(&signed)));
}

/// Several workers may sign the same attempt, and KMS gives each a different signature.
pub async fn one_of_several_concurrent_updates_is_stored(store: &impl Store) {
    let lane = TestLane::new("update-crowd");
    let records = lane.reserved(store, 1).await;
    let candidates: Vec<Record> = (1..6).map(|gwei| lane.signed(&records[0], gwei)).collect();
    let verdicts = join_all(candidates.iter().map(|candidate| store.update(candidate))).await;
    let Some(Stored::Record(winner)) = load_one(store, &lane.id(0)).await else { panic!("the record is there") };
    for (candidate, verdict) in candidates.iter().zip(verdicts) {
        let expected = if *candidate == *winner { UpdateVerdict::Stored } else { UpdateVerdict::Stale(winner.clone()) };
        assert_eq!(verdict.unwrap(), expected);
    }
}

/// An update creates nothing.
pub async fn update_without_a_record_is_gone(store: &impl Store) {
    let lane = TestLane::new("gone");
    let signed = lane.signed(&lane.record(0, Nonce(0)), 1);
    assert_eq!(store.update(&signed).await.unwrap(), UpdateVerdict::Gone);
    assert_eq!(load_one(store, &lane.id(0)).await, None);
    store.reject(&lane.rejected(0), &Vacancy::Free).await.unwrap();
    assert_eq!(store.update(&signed).await.unwrap(), UpdateVerdict::Gone);
    assert_eq!(load_one(store, &lane.id(0)).await, Some(Stored::Rejected(lane.rejected(0))));
}

/// By a repeat of itself, and by the note that it was published.
pub async fn a_rejection_is_stored_and_replaced_by_another(store: &impl Store) {
    let lane = TestLane::new("rejected");
    let first = lane.rejected(0);
    let mut second = first.clone();
    second.published_at = Some(Millis(NOW.0 + 5));
    second.expires_at = Some(Millis(NOW.0 + 86_400_000));
    let own = Vacancy::of(Some(&first));
    for (rejected, over) in [(&first, &Vacancy::Free), (&first, &own), (&second, &own)] {
        assert_eq!(store.reject(rejected, over).await.unwrap(), RejectVerdict::Stored);
        assert_eq!(load_one(store, &lane.id(0)).await, Some(Stored::Rejected(rejected.clone())));
    }
    let mut without_account = lane.rejected(1);
    without_account.account = None;
    assert_eq!(store.reject(&without_account, &Vacancy::Free).await.unwrap(), RejectVerdict::Stored);
    assert_eq!(load_one(store, &lane.id(1)).await, Some(Stored::Rejected(without_account)));
}

/// I7 and I8.
pub async fn rejection_leaves_a_reserved_request_unchanged(store: &impl Store) {
    let lane = TestLane::new("occupied");
    let records = lane.reserved(store, 1).await;
    assert_eq!(store.reject(&lane.rejected(0), &Vacancy::Free).await.unwrap(), RejectVerdict::Occupied);
    assert_eq!(load_one(store, &lane.id(0)).await, Some(stored(&records[0])));
    assert_eq!(records[0].phase, Phase::Reserved);
}

/// More ids than one call of DynamoDB reads, some of them without an item.
pub async fn any_number_of_ids_is_read_at_once(store: &impl Store) {
    let lane = TestLane::new("many");
    let records = lane.reserved(store, 120).await;
    let ids: Vec<RequestId> = (0..250).map(|at| lane.id(at)).collect();
    let mut found = store.load(&ids, NOW).await.unwrap();
    found.sort_by_key(nonce_of);
    assert_eq!(found, records.iter().map(stored).collect::<Vec<_>>());
    assert!(store.load(&[], NOW).await.unwrap().is_empty());
}
