//! Claims about accounts and their lanes: registration, slots in order, the two marks.

use futures_util::future::join_all;
use signpost_txmgr::account::{AsideCause, Gap, Head, Marks, SeenFee, SetAside};
use signpost_txmgr::ports::{Happened, RegisterVerdict, ReserveVerdict, Store};
use signpost_txmgr::units::{Millis, Nonce, Wei};
use signpost_txmgr::unusable::{KeyCall, KeyFault, Unusable};

use crate::lane::{NOW, TestLane};

/// Calls `$each!` with the suite and all its claims.
#[macro_export]
macro_rules! lanes_claims {
    ($each:ident) => {
        $each! { lanes:
            a_registered_account_is_found_by_its_key_and_in_the_list,
            registering_again_returns_the_stored_head,
            a_name_belongs_to_one_account,
            one_of_several_concurrent_registrations_wins,
            unregistered_account_has_no_head,
            slots_come_in_order_of_nonce_up_to_the_limit,
            slots_are_left_behind_once,
            unreserved_slots_are_not_left_behind,
            marks_move_together_only_from_their_stored_values,
            marks_survive_all_other_changes_of_a_head,
            nonces_are_skipped_only_while_no_slot_is_open,
            observed_price_is_stored_on_the_head,
            account_with_an_unusable_key_is_marked,
        }
    };
}

/// There may be other accounts in the list.
pub async fn a_registered_account_is_found_by_its_key_and_in_the_list(store: &impl Store) {
    let (hot, cold) = (TestLane::new("listed-hot"), TestLane::new("listed-cold"));
    let heads = [hot.register(store).await, cold.register(store).await];
    assert_eq!(store.head(&hot.account()).await.unwrap().as_ref(), Some(&heads[0]));
    let accounts = store.accounts().await.unwrap();
    for head in &heads {
        assert_eq!(accounts.heads.iter().filter(|found| *found == head).count(), 1);
    }
}

/// The verdict has the head as it is stored now, not as it was requested.
pub async fn registering_again_returns_the_stored_head(store: &impl Store) {
    let lane = TestLane::new("registered-again");
    let first = lane.register(store).await;
    assert_eq!(store.register(&first).await.unwrap(), RegisterVerdict::Exists(first.clone()));
    assert_eq!(store.reserve(&lane.group(&first, 0, 2)).await.unwrap(), ReserveVerdict::Reserved);
    let another = Head { name: "registered-again-2".parse().unwrap(), next_nonce: Nonce(7), ..first.clone() };
    let moved = Head { next_nonce: Nonce(2), ..first };
    assert_eq!(store.register(&another).await.unwrap(), RegisterVerdict::Exists(moved.clone()));
    assert_eq!(lane.stored_head(store).await, moved);
}

/// Callers address accounts by name.
pub async fn a_name_belongs_to_one_account(store: &impl Store) {
    let (first, second) = (TestLane::new("named"), TestLane::new("named-too"));
    first.register(store).await;
    let thief = Head { name: "named".parse().unwrap(), ..second.head() };
    assert_eq!(store.register(&thief).await.unwrap(), RegisterVerdict::NameTaken);
    assert_eq!(store.head(&second.account()).await.unwrap(), None, "nothing of it is kept");
    second.register(store).await;
}

/// Several operators register one account.
pub async fn one_of_several_concurrent_registrations_wins(store: &impl Store) {
    let lane = TestLane::new("registered-at-once");
    let heads: Vec<Head> = (0..4).map(|at| Head { registered_at: Millis(NOW.0 + at), ..lane.head() }).collect();
    let verdicts: Vec<RegisterVerdict> =
        join_all(heads.iter().map(|head| store.register(head))).await.into_iter().map(Result::unwrap).collect();
    let stored = lane.stored_head(store).await;
    for (head, verdict) in heads.iter().zip(verdicts) {
        let expected =
            if *head == stored { RegisterVerdict::Registered } else { RegisterVerdict::Exists(stored.clone()) };
        assert_eq!(verdict, expected);
    }
}

/// No other call registers an account.
pub async fn unregistered_account_has_no_head(store: &impl Store) {
    let lane = TestLane::new("nobody");
    let account = lane.account();
    assert_eq!(store.head(&account).await.unwrap(), None);
    assert_eq!(store.set_paused(&account, true).await.unwrap_err().happened, Happened::No);
    let mark = Unusable { since: NOW, fault: KeyFault::Disabled, call: KeyCall::Read };
    assert_eq!(store.set_unusable(&account, Some(mark)).await.unwrap_err().happened, Happened::No);
    let fee = SeenFee { gas_price: Wei::from_gwei(1), observed_at: NOW };
    assert_eq!(store.observe_fee(&account, &fee).await.unwrap_err().happened, Happened::No);
    assert!(!store.fast_forward(&account, Nonce(0), Nonce(1)).await.unwrap());
    assert!(!store.leave_slots(&account, Nonce(0), Nonce(1), NOW).await.unwrap());
    assert!(store.slots(&account, Nonce(0), 10).await.unwrap().is_empty());
    assert_eq!(store.head(&account).await.unwrap(), None);
}

/// From any nonce, across numbers of digits and pages.
pub async fn slots_come_in_order_of_nonce_up_to_the_limit(store: &impl Store) {
    let lane = TestLane::new("pages");
    lane.reserved(store, 110).await;
    let account = lane.account();
    let slots = store.slots(&account, Nonce(0), 1_000).await.unwrap();
    assert_eq!(slots, (0..110).map(|at| (Nonce(at), lane.id(at))).collect::<Vec<_>>());
    assert_eq!(store.slots(&account, Nonce(8), 3).await.unwrap(), slots[8..11]);
    assert_eq!(store.slots(&account, Nonce(98), 4).await.unwrap(), slots[98..102]);
    assert!(store.slots(&account, Nonce(110), 10).await.unwrap().is_empty());
    assert!(store.slots(&account, Nonce(0), 0).await.unwrap().is_empty());
}

/// A pass that another pass overtook moves nothing.
pub async fn slots_are_left_behind_once(store: &impl Store) {
    let lane = TestLane::new("left");
    lane.reserved(store, 40).await;
    let account = lane.account();
    let expires_at = Millis(NOW.0 + 86_400_000);
    assert!(store.leave_slots(&account, Nonce(0), Nonce(30), expires_at).await.unwrap());
    assert!(!store.leave_slots(&account, Nonce(0), Nonce(35), expires_at).await.unwrap(), "it has moved meanwhile");
    let head = lane.stored_head(store).await;
    assert_eq!((head.lowest_open_nonce, head.next_nonce), (Nonce(30), Nonce(40)));
    let open = store.slots(&account, head.lowest_open_nonce, 100).await.unwrap();
    assert_eq!(open, (30..40).map(|at| (Nonce(at), lane.id(at))).collect::<Vec<_>>());
    assert!(store.leave_slots(&account, Nonce(30), Nonce(40), expires_at).await.unwrap());
    assert_eq!(lane.stored_head(store).await.open_slots(), 0);
}

/// The mark never passes the next nonce.
pub async fn unreserved_slots_are_not_left_behind(store: &impl Store) {
    let lane = TestLane::new("left-too-far");
    lane.reserved(store, 2).await;
    assert!(!store.leave_slots(&lane.account(), Nonce(0), Nonce(3), NOW).await.unwrap());
    assert_eq!(lane.stored_head(store).await.lowest_open_nonce, Nonce(0));
}

fn aside(nonce: u64) -> SetAside {
    SetAside { nonce: Nonce(nonce), cause: AsideCause::Unproven, since: Millis(NOW.0 + nonce) }
}

fn marks(lowest: u64, set_aside: &[u64], gaps: &[(u64, u64)]) -> Marks {
    let gap = |(from, to): &(u64, u64)| Gap { from: Nonce(*from), to: Nonce(*to), since: NOW };
    Marks {
        lowest_open_nonce: Nonce(lowest),
        set_aside: set_aside.iter().copied().map(aside).collect(),
        gaps: gaps.iter().map(gap).collect(),
    }
}

/// As when two passes saw the same head, or another pass closed a set-aside slot.
pub async fn marks_move_together_only_from_their_stored_values(store: &impl Store) {
    let lane = TestLane::new("marks");
    lane.reserved(store, 20).await;
    let account = lane.account();
    let expires_at = Millis(NOW.0 + 86_400_000);
    let steps = [
        marks(0, &[], &[]),
        marks(4, &[1, 3], &[]),
        marks(9, &[1, 3, 8], &[(5, 7)]),
        marks(9, &[3, 8], &[(5, 7)]),
        marks(20, &[], &[(5, 7), (12, 13)]),
        marks(20, &[], &[]),
    ];
    for pair in steps.windows(2) {
        for stale in steps.iter().filter(|marks| **marks != pair[0]) {
            let to = marks(20, &[], &[]);
            assert!(!store.move_marks(&account, stale, &to, expires_at).await.unwrap(), "{stale:?} is not stored");
        }
        assert!(store.move_marks(&account, &pair[0], &pair[1], expires_at).await.unwrap());
        assert_eq!(lane.stored_head(store).await.marks(), pair[1]);
    }
    let beyond = marks(21, &[], &[]);
    assert!(!store.move_marks(&account, &steps[5], &beyond, expires_at).await.unwrap(), "slot 20 is not reserved");
    assert_eq!(lane.stored_head(store).await.marks(), steps[5]);
    assert!(!store.move_marks(&TestLane::new("marks-of-nobody").account(), &steps[0], &steps[1], NOW).await.unwrap());
}

/// Only a move of the marks changes them.
pub async fn marks_survive_all_other_changes_of_a_head(store: &impl Store) {
    let lane = TestLane::new("marks-stay");
    lane.reserved(store, 6).await;
    let head = lane.stored_head(store).await;
    let account = lane.account();
    let wanted = marks(3, &[0, 2], &[(1, 2)]);
    assert!(store.move_marks(&account, &head.marks(), &wanted, NOW).await.unwrap());
    store.set_paused(&account, true).await.unwrap();
    store.set_paused(&account, false).await.unwrap();
    let head = lane.stored_head(store).await;
    assert_eq!(store.reserve(&lane.group(&head, 6, 2)).await.unwrap(), ReserveVerdict::Reserved);
    assert!(store.leave_slots(&account, Nonce(3), Nonce(8), NOW).await.unwrap());
    assert!(store.fast_forward(&account, Nonce(8), Nonce(9)).await.unwrap(), "what is set aside is not open");
    let head = lane.stored_head(store).await;
    assert_eq!((&head.set_aside, &head.gaps), (&wanted.set_aside, &wanted.gaps));
    assert_eq!((head.open_slots(), head.needs_passes()), (0, true));
}

/// I4: a recorded fast-forward is the only gap that is allowed.
pub async fn nonces_are_skipped_only_while_no_slot_is_open(store: &impl Store) {
    let lane = TestLane::new("skipped");
    let account = lane.account();
    let head = lane.register(store).await;
    assert!(store.fast_forward(&account, Nonce(0), Nonce(5)).await.unwrap());
    assert!(!store.fast_forward(&account, Nonce(0), Nonce(6)).await.unwrap(), "it has moved meanwhile");
    let moved = Head { next_nonce: Nonce(5), lowest_open_nonce: Nonce(5), ..head };
    assert_eq!(lane.stored_head(store).await, moved);
    assert_eq!(store.reserve(&lane.group(&moved, 0, 1)).await.unwrap(), ReserveVerdict::Reserved);
    assert!(!store.fast_forward(&account, Nonce(6), Nonce(9)).await.unwrap(), "slot 5 is open");
    assert!(!store.fast_forward(&account, Nonce(5), Nonce(9)).await.unwrap(), "slot 5 is open");
    assert_eq!(lane.stored_head(store).await.next_nonce, Nonce(6));
}

/// A price on the head does not hinder a reservation.
pub async fn observed_price_is_stored_on_the_head(store: &impl Store) {
    let lane = TestLane::new("priced");
    let head = lane.register(store).await;
    for gwei in [3, 2] {
        let observed_at = Millis(NOW.0 + 10 - gwei);
        let fee = SeenFee { gas_price: Wei::from_gwei(gwei), observed_at };
        store.observe_fee(&lane.account(), &fee).await.unwrap();
        assert_eq!(lane.stored_head(store).await, Head { fee: Some(fee), ..head.clone() });
    }
    assert_eq!(store.reserve(&lane.group(&head, 0, 1)).await.unwrap(), ReserveVerdict::Reserved);
    assert!(lane.stored_head(store).await.fee.is_some());
}

/// The mark is set, changed and cleared. It does not hinder a reservation.
pub async fn account_with_an_unusable_key_is_marked(store: &impl Store) {
    let lane = TestLane::new("unusable");
    let head = lane.register(store).await;
    let mark = Unusable { since: NOW, fault: KeyFault::Disabled, call: KeyCall::Read };
    for mark in [Some(mark), Some(Unusable { fault: KeyFault::Denied, call: KeyCall::Sign, ..mark }), None, None] {
        store.set_unusable(&lane.account(), mark).await.unwrap();
        assert_eq!(lane.stored_head(store).await, Head { unusable: mark, ..head.clone() });
    }
    store.set_unusable(&lane.account(), Some(mark)).await.unwrap();
    assert_eq!(store.reserve(&lane.group(&head, 0, 1)).await.unwrap(), ReserveVerdict::Reserved);
    assert_eq!(lane.stored_head(store).await.unusable, Some(mark));
}
