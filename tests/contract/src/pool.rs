//! Claims about key pools, with the real signer on the store: one request has one slot, whichever of the pool's
//! accounts a repeat would be assigned to.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use signpost_txmgr::account::Head;
use signpost_txmgr::inbox::Incoming;
use signpost_txmgr::ports::Store;
use signpost_txmgr::record::{Record, Stored};
use signpost_txmgr::units::{Millis, Nonce};

use crate::lane::{NOW, TestLane, load_one};
use crate::signer::{LaneSigner, RULES, SIGNERS, handle_all, signer, transfer};

/// Calls `$each!` with the suite and all its claims.
#[macro_export]
macro_rules! pool_claims {
    ($each:ident) => {
        $each! { pool:
            pool_shares_requests_and_repeats_keep_their_account,
            pool_skips_paused_and_unfunded_accounts_if_it_can,
            sixteen_signers_and_a_pause_never_give_a_request_two_slots,
            unfunded_mark_is_set_and_cleared_on_the_head,
        }
    };
}

/// Requests of a claim.
const COUNT: u64 = 24;

struct Pool {
    name: &'static str,
    lanes: [TestLane; 3],
}

impl Pool {
    /// Three registered accounts.
    async fn registered(store: &impl Store, name: &'static str, lanes: [&'static str; 3]) -> Self {
        let lanes = lanes.map(TestLane::new);
        for lane in &lanes {
            lane.register(store).await;
        }
        Self { name, lanes }
    }

    fn signer<S: Store>(&self, store: S) -> LaneSigner<S> {
        let names: Vec<_> = self.lanes.iter().map(|lane| format!("\"{}\"", lane.head().name)).collect();
        let policy = format!("{RULES}[pool.{}]\naccounts = [{}]\n", self.name, names.join(", "));
        signer(store, &self.lanes.each_ref(), &policy)
    }

    fn asks(&self) -> Vec<Incoming> {
        (0..COUNT).map(|at| transfer(&self.lanes[0].id(at), &format!("pool:{}", self.name))).collect()
    }

    /// The signed records of all requests.
    async fn records(&self, store: &impl Store) -> Vec<Record> {
        let mut records = Vec::new();
        for at in 0..COUNT {
            let Some(Stored::Record(record)) = load_one(store, &self.lanes[0].id(at)).await else {
                panic!("request {at} has no slot")
            };
            assert_eq!(record.attempts.len(), 1, "what has a slot is signed, by the key of its account");
            records.push(*record);
        }
        records
    }

    /// Asserts that the slots of all lanes are exactly those of the records.
    async fn assert_one_slot_each(&self, store: &impl Store) {
        let mut slots = BTreeSet::new();
        for lane in &self.lanes {
            let head = lane.stored_head(store).await;
            let found = store.slots(&lane.account(), Nonce(0), 1_000).await.unwrap();
            assert_eq!(u64::try_from(found.len()).unwrap(), head.next_nonce.0, "nonces without a gap");
            slots.extend(found.into_iter().map(|(nonce, id)| (id, lane.account(), nonce)));
        }
        let records = self.records(store).await;
        let recorded: BTreeSet<_> =
            records.into_iter().map(|record| (record.request_id, record.account, record.nonce)).collect();
        assert_eq!(slots, recorded);
    }
}

/// A hash of the request id chooses the account, and the record keeps it.
pub async fn pool_shares_requests_and_repeats_keep_their_account(store: &(impl Store + Clone)) {
    let pool = Pool::registered(store, "shared", ["shared-a", "shared-b", "shared-c"]).await;
    handle_all(&pool.signer(store.clone()), pool.asks()).await;
    let first = pool.records(store).await;
    let owners: BTreeSet<_> = first.iter().map(|record| record.account).collect();
    assert_eq!(owners.len(), 3, "every account has its share of {COUNT}");
    for lane in &pool.lanes {
        store.set_paused(&lane.account(), true).await.unwrap();
        handle_all(&pool.signer(store.clone()), pool.asks()).await;
        assert!(pool.records(store).await == first, "a repeat changes nothing");
        store.set_paused(&lane.account(), false).await.unwrap();
    }
    pool.assert_one_slot_each(store).await;
}

/// If every account is paused or unfunded, requests wait for funds and are not refused.
pub async fn pool_skips_paused_and_unfunded_accounts_if_it_can(store: &(impl Store + Clone)) {
    let pool = Pool::registered(store, "choosy", ["choosy-a", "choosy-b", "choosy-c"]).await;
    let [a, b, c] = pool.lanes.each_ref().map(TestLane::account);
    store.set_paused(&a, true).await.unwrap();
    store.set_unfunded(&b, Some(NOW)).await.unwrap();
    let (mut asks, signer) = (pool.asks(), pool.signer(store.clone()));
    let rest = asks.split_off(8);
    handle_all(&signer, asks).await;
    store.set_unfunded(&c, Some(NOW)).await.unwrap();
    handle_all(&signer, rest).await;
    let records = pool.records(store).await;
    assert!(records[..8].iter().all(|record| record.account == c));
    let owners: BTreeSet<_> = records[8..].iter().map(|record| record.account).collect();
    assert_eq!(owners, BTreeSet::from([b, c]));
    pool.assert_one_slot_each(store).await;
}

/// I1 and I8. Each signer sees the pauses at another time.
pub async fn sixteen_signers_and_a_pause_never_give_a_request_two_slots(store: &(impl Store + Clone)) {
    let pool = Pool::registered(store, "crowd", ["pool-crowd-a", "pool-crowd-b", "pool-crowd-c"]).await;
    let pool = &pool;
    let signers = (0..SIGNERS).map(|_| async move {
        // A few at a time, so that the pauses come in between.
        let signer = pool.signer(store.clone());
        for part in pool.asks().chunks(3) {
            handle_all(&signer, part.to_vec()).await;
        }
    });
    let operator = async {
        for lane in pool.lanes.iter().cycle().take(12) {
            store.set_paused(&lane.account(), true).await.unwrap();
            store.head(&lane.account()).await.unwrap();
            store.set_paused(&lane.account(), false).await.unwrap();
        }
    };
    futures_util::future::join(join_all(signers), operator).await;
    pool.assert_one_slot_each(store).await;
}

/// The mark does not hinder anything else.
pub async fn unfunded_mark_is_set_and_cleared_on_the_head(store: &(impl Store + Clone)) {
    let lane = TestLane::new("unfunded");
    assert!(store.set_unfunded(&lane.account(), Some(NOW)).await.is_err(), "it is not registered");
    let head = lane.register(store).await;
    for since in [Some(NOW), Some(Millis(NOW.0 + 1)), None, None] {
        store.set_unfunded(&lane.account(), since).await.unwrap();
        assert_eq!(lane.stored_head(store).await, Head { unfunded_since: since, ..head.clone() });
    }
}
