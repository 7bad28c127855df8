//! Claims about the spend limit, with the real signer on the store: the head counts exactly the requests with slots, in
//! any order and with any number of repeats. Read next: `signpost_txmgr::policy::spend`.

use futures_util::future::join_all;
use signpost_txmgr::account::{Head, Reservation, Spend};
use signpost_txmgr::inbox::Incoming;
use signpost_txmgr::ports::{ReserveVerdict, Store};
use signpost_txmgr::record::Stored;
use signpost_txmgr::units::{Millis, Nonce, Wei};

use crate::lane::{NOW, TestLane, load_one};
use crate::signer::{LaneSigner, RULES, SIGNERS, handle_all, signer, transfer};

/// Calls `$each!` with the suite and all its claims.
#[macro_export]
macro_rules! spend_claims {
    ($each:ident) => {
        $each! { spend:
            spend_is_stored_with_the_slots_or_not_at_all,
            reservation_without_spend_keeps_the_stored_spend,
            sixteen_signers_at_once_never_exceed_the_limit,
            the_same_batch_by_sixteen_signers_counts_once,
        }
    };
}

/// What one of the requests here may cost at most: 1,000 wei and 21,000 gas at the cap of 2 wei.
const COST: u64 = 43_000;
/// Requests that fit the limit, which has room for another half.
const FIT: u64 = 9;

fn limited<S: Store>(store: S, lane: &TestLane) -> LaneSigner<S> {
    let limit = COST * FIT + COST / 2;
    signer(store, &[lane], &format!("{RULES}spend_limit_wei = {limit}\nspend_window_s = 3600\n"))
}

fn ask(lane: &TestLane, at: u64) -> Incoming {
    transfer(&lane.id(at), &lane.account().to_string())
}

/// How many of the requests `0..count` have a slot, and how many are refused for the limit.
async fn count_slots(store: &impl Store, lane: &TestLane, count: u64) -> (u64, u64) {
    let (mut slots, mut refused) = (0, 0);
    for at in 0..count {
        match load_one(store, &lane.id(at)).await {
            Some(Stored::Record(record)) => {
                assert_eq!(record.attempts.len(), 1, "what has a slot is signed");
                slots += 1;
            }
            Some(Stored::Rejected(rejected)) => {
                assert_eq!(rejected.reason.code, "spendLimitReached", "{}", rejected.reason.message);
                refused += 1;
            }
            None => panic!("request {at} has no record"),
        }
    }
    (slots, refused)
}

/// Registers a lane with its key's address, which the signer checks.
async fn registered(store: &impl Store, name: &'static str) -> TestLane {
    let lane = TestLane::new(name);
    lane.register(store).await;
    lane
}

/// The condition on the nonce protects the spend too.
pub async fn spend_is_stored_with_the_slots_or_not_at_all(store: &(impl Store + Clone)) {
    let lane = registered(store, "spend-stored").await;
    let head = lane.stored_head(store).await;
    let spend = |spent: u64| Spend { window_start: NOW, spent: Wei::from(spent) };
    let first = Reservation { spend: Some(spend(7)), ..lane.group(&head, 0, 1) };
    assert_eq!(store.reserve(&first).await.unwrap(), ReserveVerdict::Reserved);
    let moved = Head { next_nonce: Nonce(1), spend: Some(spend(7)), ..head.clone() };
    assert_eq!(lane.stored_head(store).await, moved);
    let stale = Reservation { spend: Some(spend(5)), ..lane.group(&head, 1, 1) };
    assert!(matches!(store.reserve(&stale).await.unwrap(), ReserveVerdict::NotReserved { head_changed: true, .. }));
    let known = Reservation { spend: Some(spend(12)), ..lane.group(&moved, 0, 1) };
    assert!(matches!(store.reserve(&known).await.unwrap(), ReserveVerdict::NotReserved { head_changed: false, .. }));
    assert_eq!(lane.stored_head(store).await, moved, "what got no slot does not count");
}

/// As when the limit is missing from the policy for a while.
pub async fn reservation_without_spend_keeps_the_stored_spend(store: &(impl Store + Clone)) {
    let lane = registered(store, "spend-kept").await;
    let spend = Some(Spend { window_start: Millis(3), spent: "123456789012345678901234567890".parse().unwrap() });
    let first = Reservation { spend, ..lane.group(&lane.head(), 0, 1) };
    assert_eq!(store.reserve(&first).await.unwrap(), ReserveVerdict::Reserved);
    let head = lane.stored_head(store).await;
    assert_eq!(store.reserve(&lane.group(&head, 1, 1)).await.unwrap(), ReserveVerdict::Reserved);
    assert!(store.leave_slots(&lane.account(), Nonce(0), Nonce(2), NOW).await.unwrap());
    assert!(store.fast_forward(&lane.account(), Nonce(2), Nonce(4)).await.unwrap());
    assert_eq!(lane.stored_head(store).await.spend, spend);
}

/// I9 in any order. No request is refused while there is room.
pub async fn sixteen_signers_at_once_never_exceed_the_limit(store: &(impl Store + Clone)) {
    let lane = registered(store, "spend-crowd").await;
    let lane = &lane;
    join_all((0..SIGNERS).map(|at| async move {
        let batch = vec![ask(lane, at * 2), ask(lane, at * 2 + 1)];
        handle_all(&limited(store.clone(), lane), batch).await;
    }))
    .await;
    assert_eq!(count_slots(store, lane, SIGNERS * 2).await, (FIT, SIGNERS * 2 - FIT));
    let spend = Spend { window_start: NOW, spent: Wei::from(COST * FIT) };
    assert_eq!(lane.stored_head(store).await.spend, Some(spend));
}

/// As on a standard queue, or after a crash between the slot and the signature.
pub async fn the_same_batch_by_sixteen_signers_counts_once(store: &(impl Store + Clone)) {
    let lane = registered(store, "spend-repeated").await;
    let lane = &lane;
    join_all((0..SIGNERS).map(|_| async move {
        handle_all(&limited(store.clone(), lane), (0..FIT).map(|at| ask(lane, at)).collect()).await;
    }))
    .await;
    assert_eq!(count_slots(store, lane, FIT).await, (FIT, 0));
    assert_eq!(lane.stored_head(store).await.spend.map(|spend| spend.spent), Some(Wei::from(COST * FIT)));
}
