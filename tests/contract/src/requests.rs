//! Claims about the request limit per sender, with the real signer on the store: the head counts exactly the requests
//! with slots, by sender, in any order and with any number of repeats. Read next:
//! `signpost_txmgr::policy::RequestLimit`.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use signpost_txmgr::account::{Head, Reservation, SenderCounts};
use signpost_txmgr::inbox::Incoming;
use signpost_txmgr::ports::{ReserveVerdict, Store};
use signpost_txmgr::record::Stored;
use signpost_txmgr::units::{Millis, Nonce};

use crate::lane::{NOW, TestLane, load_one};
use crate::signer::{LaneSigner, RULES, SIGNERS, handle_all, signer, transfer};

/// Calls `$each!` with the suite and all its claims.
#[macro_export]
macro_rules! requests_claims {
    ($each:ident) => {
        $each! { requests:
            sender_counts_are_stored_with_the_slots_or_not_at_all,
            reservation_without_counts_keeps_the_stored_counts,
            sixteen_signers_at_once_give_each_sender_its_share,
            the_same_requests_by_sixteen_signers_count_once,
        }
    };
}

/// Requests of one sender in a window.
const LIMIT: u64 = 5;

fn limited<S: Store>(store: S, lane: &TestLane) -> LaneSigner<S> {
    signer(store, &[lane], &format!("{RULES}max_requests = {LIMIT}\nmax_requests_window_s = 3600\n"))
}

fn ask(lane: &TestLane, at: u64, sender: &str) -> Incoming {
    Incoming { sender: Some(sender.to_owned()), ..transfer(&lane.id(at), &lane.account().to_string()) }
}

fn counted(counts: &[(&str, u64)]) -> SenderCounts {
    let counts: BTreeMap<_, _> = counts.iter().map(|(sender, count)| ((*sender).to_owned(), *count)).collect();
    SenderCounts { window_start: NOW, counts }
}

/// How many of these requests have a slot; the others are refused for the limit.
async fn slots(store: &impl Store, lane: &TestLane, requests: impl Iterator<Item = u64>) -> u64 {
    let mut slots = 0;
    for at in requests {
        match load_one(store, &lane.id(at)).await {
            Some(Stored::Record(_)) => slots += 1,
            Some(Stored::Rejected(rejected)) => {
                assert_eq!(rejected.reason.code, "requestLimitReached", "{}", rejected.reason.message);
            }
            None => panic!("request {at} has no record"),
        }
    }
    slots
}

async fn registered(store: &impl Store, name: &'static str) -> TestLane {
    let lane = TestLane::new(name);
    lane.register(store).await;
    lane
}

/// The condition on the nonce protects the counts too. A sender's name may be any that SQS gives.
pub async fn sender_counts_are_stored_with_the_slots_or_not_at_all(store: &(impl Store + Clone)) {
    let lane = registered(store, "requests-stored").await;
    let head = lane.stored_head(store).await;
    let counts =
        Some(counted(&[("AIDAONE", 1), ("AROA.TWO#x", 7), (SenderCounts::UNKNOWN, 1), (SenderCounts::OTHERS, 2)]));
    let first = Reservation { sender_counts: counts.clone(), ..lane.group(&head, 0, 1) };
    assert_eq!(store.reserve(&first).await.unwrap(), ReserveVerdict::Reserved);
    let moved = Head { next_nonce: Nonce(1), sender_counts: counts, ..head.clone() };
    assert_eq!(lane.stored_head(store).await, moved);
    let less = Some(SenderCounts { window_start: Millis(NOW.0 + 1), ..counted(&[]) });
    let stale = Reservation { sender_counts: less.clone(), ..lane.group(&head, 1, 1) };
    assert!(matches!(store.reserve(&stale).await.unwrap(), ReserveVerdict::NotReserved { head_changed: true, .. }));
    let known = Reservation { sender_counts: less, ..lane.group(&moved, 0, 1) };
    assert!(matches!(store.reserve(&known).await.unwrap(), ReserveVerdict::NotReserved { head_changed: false, .. }));
    assert_eq!(lane.stored_head(store).await, moved, "what got no slot does not count");
}

/// As when the limit is missing from the policy for a while.
pub async fn reservation_without_counts_keeps_the_stored_counts(store: &(impl Store + Clone)) {
    let lane = registered(store, "requests-kept").await;
    let counts = Some(counted(&[("AIDAONE", 3)]));
    let first = Reservation { sender_counts: counts.clone(), ..lane.group(&lane.head(), 0, 1) };
    assert_eq!(store.reserve(&first).await.unwrap(), ReserveVerdict::Reserved);
    let head = lane.stored_head(store).await;
    assert_eq!(store.reserve(&lane.group(&head, 1, 1)).await.unwrap(), ReserveVerdict::Reserved);
    assert!(store.leave_slots(&lane.account(), Nonce(0), Nonce(2), NOW).await.unwrap());
    assert_eq!(lane.stored_head(store).await.sender_counts, counts);
}

/// I9 in any order: no sender is refused below its limit, whatever others request. The sessions of a role are one
/// sender.
pub async fn sixteen_signers_at_once_give_each_sender_its_share(store: &(impl Store + Clone)) {
    let lane = registered(store, "requests-crowd").await;
    let lane = &lane;
    join_all((0..SIGNERS).map(|at| async move {
        let many = ask(lane, at, &format!("AROAMANY:task-{at}"));
        let few = (at < 3).then(|| ask(lane, 100 + at, "AIDAFEW"));
        handle_all(&limited(store.clone(), lane), [many].into_iter().chain(few).collect()).await;
    }))
    .await;
    assert_eq!(slots(store, lane, 0..SIGNERS).await, LIMIT);
    assert_eq!(slots(store, lane, 100..103).await, 3);
    let counts = counted(&[("AIDAFEW", 3), ("AROAMANY", LIMIT)]);
    assert_eq!(lane.stored_head(store).await.sender_counts, Some(counts));
}

/// As on a standard queue, or after a crash between the slot and the signature.
pub async fn the_same_requests_by_sixteen_signers_count_once(store: &(impl Store + Clone)) {
    let lane = registered(store, "requests-repeated").await;
    let lane = &lane;
    join_all((0..SIGNERS).map(|_| async move {
        handle_all(&limited(store.clone(), lane), (0..LIMIT).map(|at| ask(lane, at, "AIDAONE")).collect()).await;
    }))
    .await;
    assert_eq!(slots(store, lane, 0..LIMIT).await, LIMIT);
    assert_eq!(lane.stored_head(store).await.sender_counts, Some(counted(&[("AIDAONE", LIMIT)])));
}
