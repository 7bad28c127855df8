//! Claims about what an operator does to an account: setting its nonce, retiring it, removing it.

use signpost_txmgr::account::{Head, StaysRegistered};
use signpost_txmgr::ports::{RegisterVerdict, ReserveVerdict, RetireVerdict, Store, UnregisterVerdict};
use signpost_txmgr::units::{AccountName, Millis, Nonce};

use crate::lane::{NOW, TestLane};

/// Calls `$each!` with the suite and all its claims.
#[macro_export]
macro_rules! registry_claims {
    ($each:ident) => {
        $each! { registry:
            a_nonce_is_set_both_ways_and_with_both_marks,
            a_nonce_is_set_only_from_the_marks_that_were_read,
            an_account_retires_once_and_only_without_open_slots,
            a_retired_account_is_not_resumed,
            node_lifts_its_own_pause_but_not_an_operators,
            an_unregistered_account_leaves_key_and_name_free,
            only_an_account_retired_long_ago_is_unregistered,
            an_account_with_an_open_slot_is_not_unregistered,
            unregistering_again_finds_nothing,
            an_account_is_unregistered_by_its_own_name_only,
        }
    };
}

const LATER: Millis = Millis(NOW.0 + 1_000);

/// An account that was retired at [`NOW`].
async fn retired(store: &impl Store, name: &'static str) -> (TestLane, AccountName) {
    let lane = TestLane::new(name);
    lane.register(store).await;
    assert_eq!(store.retire(&lane.account(), NOW).await.unwrap(), RetireVerdict::Retired);
    (lane, name.parse().unwrap())
}

/// Forwards over a gap, and back. The next reservation begins there.
pub async fn a_nonce_is_set_both_ways_and_with_both_marks(store: &impl Store) {
    let lane = TestLane::new("nonce-set");
    let account = lane.account();
    let head = lane.register(store).await;
    for (from, to) in [(0, 7), (7, 3)] {
        assert!(store.set_nonce(&account, Nonce(from), Nonce(to)).await.unwrap());
        let expected = Head { next_nonce: Nonce(to), lowest_open_nonce: Nonce(to), ..head.clone() };
        assert_eq!(lane.stored_head(store).await, expected);
    }
    let moved = lane.stored_head(store).await;
    assert_eq!(store.reserve(&lane.group(&moved, 0, 1)).await.unwrap(), ReserveVerdict::Reserved);
    assert_eq!(store.slots(&account, Nonce(0), 10).await.unwrap(), [(Nonce(3), lane.id(0))]);
}

/// A reservation made since the read keeps its slot.
pub async fn a_nonce_is_set_only_from_the_marks_that_were_read(store: &impl Store) {
    let lane = TestLane::new("nonce-not-set");
    let account = lane.account();
    assert!(!store.set_nonce(&account, Nonce(0), Nonce(5)).await.unwrap(), "nothing is registered");
    assert_eq!(store.head(&account).await.unwrap(), None);
    lane.reserved(store, 1).await;
    assert!(!store.set_nonce(&account, Nonce(0), Nonce(5)).await.unwrap(), "slot 0 is open");
    assert!(!store.set_nonce(&account, Nonce(1), Nonce(5)).await.unwrap(), "slot 0 is open");
    let head = lane.stored_head(store).await;
    assert_eq!((head.next_nonce, head.lowest_open_nonce), (Nonce(1), Nonce(0)));
    assert!(store.leave_slots(&account, Nonce(0), Nonce(1), NOW).await.unwrap());
    assert!(!store.set_nonce(&account, Nonce(0), Nonce(5)).await.unwrap(), "it was read before the reservation");
    assert!(store.set_nonce(&account, Nonce(1), Nonce(5)).await.unwrap());
}

/// The head keeps the time of the first retirement.
pub async fn an_account_retires_once_and_only_without_open_slots(store: &impl Store) {
    let lane = TestLane::new("retiring");
    let account = lane.account();
    assert_eq!(store.retire(&account, NOW).await.unwrap(), RetireVerdict::NotRegistered);
    assert_eq!(store.head(&account).await.unwrap(), None, "retiring creates nothing");
    lane.reserved(store, 1).await;
    let open = lane.stored_head(store).await;
    assert_eq!(store.retire(&account, NOW).await.unwrap(), RetireVerdict::Open(Box::new(open.clone())));
    assert_eq!(lane.stored_head(store).await, open);
    assert!(store.leave_slots(&account, Nonce(0), Nonce(1), NOW).await.unwrap());
    for at in [NOW, LATER] {
        assert_eq!(store.retire(&account, at).await.unwrap(), RetireVerdict::Retired);
        let head = lane.stored_head(store).await;
        assert_eq!((head.paused, head.retired_at), (true, Some(NOW)));
    }
}

/// An operator has a reason for a pause; a node that changes its answer does not know it.
pub async fn node_lifts_its_own_pause_but_not_an_operators(store: &impl Store) {
    let lane = TestLane::new("pauses");
    let account = lane.account();
    lane.reserved(store, 1).await;
    let is_paused = async || lane.stored_head(store).await.paused;
    store.set_paused_by_node(&account, false).await.unwrap();
    assert!(!is_paused().await);
    for _ in 0..2 {
        store.set_paused_by_node(&account, true).await.unwrap();
        assert!(is_paused().await);
    }
    store.set_paused_by_node(&account, false).await.unwrap();
    assert!(!is_paused().await);
    // An operator's pause, before a node's and after it.
    for by_node_first in [false, true] {
        if by_node_first {
            store.set_paused_by_node(&account, true).await.unwrap();
        }
        store.set_paused(&account, true).await.unwrap();
        store.set_paused_by_node(&account, true).await.unwrap();
        store.set_paused_by_node(&account, false).await.unwrap();
        assert!(is_paused().await, "{by_node_first}");
        store.set_paused(&account, false).await.unwrap();
        assert!(!is_paused().await);
    }
    store.set_paused_by_node(&account, true).await.unwrap();
    assert!(store.leave_slots(&account, Nonce(0), Nonce(1), NOW).await.unwrap());
    assert_eq!(store.retire(&account, NOW).await.unwrap(), RetireVerdict::Retired);
    store.set_paused_by_node(&account, false).await.unwrap();
    assert!(is_paused().await, "retired is for good");
}

/// Retired is for good.
pub async fn a_retired_account_is_not_resumed(store: &impl Store) {
    let (lane, _) = retired(store, "retired").await;
    store.set_paused(&lane.account(), false).await.unwrap_err();
    store.set_paused(&lane.account(), true).await.unwrap();
    assert!(lane.stored_head(store).await.paused);
    let verdict = store.reserve(&lane.group(&lane.head(), 0, 1)).await.unwrap();
    assert!(matches!(verdict, ReserveVerdict::NotReserved { head_changed: true, .. }), "{verdict:?}");
}

/// Both may be registered again.
pub async fn an_unregistered_account_leaves_key_and_name_free(store: &impl Store) {
    let (lane, name) = retired(store, "unregistered-1").await;
    let account = lane.account();
    assert_eq!(store.unregister(&account, &name, NOW).await.unwrap(), UnregisterVerdict::Unregistered);
    assert_eq!(store.head(&account).await.unwrap(), None);
    assert!(store.accounts().await.unwrap().heads.iter().all(|head| head.account != account));
    let successor = Head { name, ..TestLane::new("unregistered-2").head() };
    assert_eq!(store.register(&successor).await.unwrap(), RegisterVerdict::Registered, "the name is free");
    let again = Head { name: "unregistered-3".parse().unwrap(), ..lane.head() };
    assert_eq!(store.register(&again).await.unwrap(), RegisterVerdict::Registered, "the key is free");
    let accounts = store.accounts().await.unwrap().heads;
    assert!(accounts.contains(&successor) && accounts.contains(&again));
}

/// The limit is exact to the millisecond.
pub async fn only_an_account_retired_long_ago_is_unregistered(store: &impl Store) {
    let lane = TestLane::new("unregistered-early");
    let (account, name) = (lane.account(), "unregistered-early".parse().unwrap());
    let head = lane.register(store).await;
    let stays = UnregisterVerdict::Stays(StaysRegistered::NotRetired);
    assert_eq!(store.unregister(&account, &name, NOW).await.unwrap(), stays);
    store.set_paused(&account, true).await.unwrap();
    assert_eq!(store.unregister(&account, &name, NOW).await.unwrap(), stays, "paused is not retired");
    store.retire(&account, LATER).await.unwrap();
    let stays = UnregisterVerdict::Stays(StaysRegistered::RetiredAt(LATER));
    assert_eq!(store.unregister(&account, &name, Millis(LATER.0 - 1)).await.unwrap(), stays);
    assert_eq!(lane.stored_head(store).await, Head { paused: true, retired_at: Some(LATER), ..head });
    assert_eq!(store.register(&lane.head()).await.unwrap(), RegisterVerdict::Exists(lane.stored_head(store).await));
    assert_eq!(store.unregister(&account, &name, LATER).await.unwrap(), UnregisterVerdict::Unregistered);
}

/// Its request would have no account to finish under.
pub async fn an_account_with_an_open_slot_is_not_unregistered(store: &impl Store) {
    let lane = TestLane::new("unregistered-open");
    let (account, name) = (lane.account(), "unregistered-open".parse().unwrap());
    lane.reserved(store, 2).await;
    let stays = UnregisterVerdict::Stays(StaysRegistered::Open(2));
    assert_eq!(store.unregister(&account, &name, NOW).await.unwrap(), stays);
    assert_eq!(lane.stored_head(store).await.open_slots(), 2);
}

/// As in a retry after a lost reply.
pub async fn unregistering_again_finds_nothing(store: &impl Store) {
    let (lane, name) = retired(store, "unregistered-twice").await;
    let account = lane.account();
    assert_eq!(store.unregister(&account, &name, NOW).await.unwrap(), UnregisterVerdict::Unregistered);
    assert_eq!(store.unregister(&account, &name, NOW).await.unwrap(), UnregisterVerdict::NotRegistered);
}

/// The name of another account stays.
pub async fn an_account_is_unregistered_by_its_own_name_only(store: &impl Store) {
    let (lane, name) = retired(store, "unregistered-own").await;
    let (other, other_name) = retired(store, "unregistered-other").await;
    let verdict = store.unregister(&lane.account(), &other_name, NOW).await.unwrap();
    assert_eq!(verdict, UnregisterVerdict::NotRegistered);
    let accounts = store.accounts().await.unwrap().heads;
    for (lane, name) in [(lane, name), (other, other_name)] {
        assert!(accounts.iter().any(|head| head.account == lane.account() && head.name == name));
    }
}
