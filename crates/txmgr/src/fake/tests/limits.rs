//! Tests of limits and scripted answers of the fakes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::chain::POOL_PER_ACCOUNT;
use super::super::interceptor::{Fate, FaultSource};
use super::{
    AccountKey, Address, Chain, ChainId, Entry, Interceptor, Journal, Keys, MemoryStore, NodeFaults, Nonce, RawTx,
    Reservation, ReserveVerdict, SendClass, Sender, SigningHash, Store, Wei, chain, head, key, legacy, now, record,
    use_query,
};
use crate::ports::NonceUse;

fn send(chain: &super::MemoryChain, raw: &RawTx) -> SendClass {
    now(chain.send(raw)).class
}

#[test]
fn price_below_the_mined_minimum_blocks_the_lane() {
    let (sender, chain) = (Sender::new(), chain());
    chain.set_mined_price(Wei::from_gwei(2));
    let (cheap, above) = (sender.tx(0, legacy(1), b""), sender.tx(1, legacy(3), b""));
    assert_eq!((send(&chain, &cheap), send(&chain, &above)), (SendClass::Accepted, SendClass::Accepted));
    chain.mine();
    assert!(chain.mined().is_empty() && chain.pool().len() == 2);
    assert_eq!(send(&chain, &sender.tx(0, legacy(2), b"")), SendClass::Accepted);
    chain.mine();
    assert_eq!(chain.mined().len(), 2, "a bump to the price moves the lane");
}

#[test]
fn full_pool_silently_drops_the_highest_nonce() {
    let (sender, chain) = (Sender::new(), chain());
    let limit = u64::try_from(POOL_PER_ACCOUNT).unwrap();
    for nonce in (1..=limit).rev() {
        chain.foreign(sender.2, Nonce(nonce));
    }
    let highest = sender.tx(limit + 1, legacy(1), b"");
    assert_eq!(send(&chain, &highest), SendClass::Accepted);
    assert!(!chain.pool().contains(&highest.hash), "accepted, and dropped at once");
    let lowest = sender.tx(0, legacy(1), b"");
    assert_eq!(send(&chain, &lowest), SendClass::Accepted);
    assert!(chain.pool().contains(&lowest.hash));
    chain.mine();
    assert_eq!(chain.mined().len(), POOL_PER_ACCOUNT, "all that is left but nonce 200, which made room");
}

#[test]
fn balance_must_cover_all_transactions_in_the_pool() {
    let (sender, chain) = (Sender::new(), chain());
    let (first, second) = (sender.tx(0, legacy(1), b""), sender.tx(1, legacy(1), b""));
    // 90,000 gas at 1 gwei and 5 wei each.
    let one = Wei::from_gwei(90_000).0 + 5;
    chain.set_balance(sender.2, Wei(one * 2 - 1));
    assert_eq!((send(&chain, &first), send(&chain, &second)), (SendClass::Accepted, SendClass::Funds));
    chain.set_balance(sender.2, Wei(one * 2));
    assert_eq!(send(&chain, &second), SendClass::Accepted);
}

#[test]
fn scripted_answer_keeps_no_transaction() {
    let (sender, chain) = (Sender::new(), chain());
    let raw = sender.tx(0, legacy(1), b"");
    let classes = [
        SendClass::Accepted,
        SendClass::AlreadyKnown,
        SendClass::NonceTooLow,
        SendClass::Retry,
        SendClass::Underpriced(Some(Wei::from_gwei(3))),
        SendClass::Funds,
        SendClass::Refused,
        SendClass::Misconfigured,
        SendClass::Unknown,
    ];
    chain.answer_next(classes);
    for class in classes {
        assert_eq!(send(&chain, &raw), class);
    }
    chain.set_faults(NodeFaults { answers: Some(SendClass::Misconfigured), ..NodeFaults::default() });
    assert_eq!(send(&chain, &raw), SendClass::Misconfigured);
    assert!(chain.pool().is_empty());
    chain.set_faults(NodeFaults::default());
    assert_eq!(send(&chain, &raw), SendClass::Accepted);
}

#[test]
fn signatures_are_counted_and_key_reads_are_noted() {
    let journal = Journal::kept();
    let (_, id, _) = key();
    let keys = super::MemoryKeys::new(Interceptor::default(), journal.clone());
    keys.add(&id, [7; 32]);
    now(keys.public_key(&id)).unwrap();
    assert!(matches!(journal.drain().as_slice(), [Entry::PublicKeyRead(read)] if *read == id));
    let hash = SigningHash([3; 32]);
    assert_eq!(keys.signatures_of(&id, &hash), 0);
    now(keys.sign(&id, &hash)).unwrap();
    now(keys.sign(&id, &hash)).unwrap();
    assert_eq!((keys.signatures_of(&id, &hash), keys.signatures_of(&id, &SigningHash([4; 32]))), (2, 0));
}

/// A fault source in which every reservation conflicts with another transaction.
#[derive(Debug)]
struct Crowded;

impl FaultSource for Crowded {
    fn fate(&self, _operation: &'static str) -> Fate {
        Fate::Contend
    }
}

#[test]
fn contended_reservation_writes_nothing() {
    let store = MemoryStore::default();
    let account = AccountKey { chain_id: ChainId(97), address: Address([4; 20]) };
    now(store.register(&head(account))).unwrap();
    let group = Reservation {
        head: head(account),
        records: vec![record(account, "a", 0)],
        replaces: BTreeMap::new(),
        spend: None,
        sender_counts: None,
    };
    let crowded = store.behind(Interceptor::with(Arc::new(Crowded)));
    let mut reserving = std::pin::pin!(crowded.reserve(&group));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(reserving.as_mut().poll(&mut context).is_pending(), "a fault source makes every call yield once");
    let std::task::Poll::Ready(verdict) = reserving.as_mut().poll(&mut context) else { panic!("it yields once only") };
    let known = Vec::new();
    let expected = ReserveVerdict::NotReserved { head_changed: false, known, slot_taken: false, contended: true };
    assert_eq!(verdict.unwrap(), expected);
    assert_eq!(store.stored(&"a".parse().unwrap()), None);
}

#[test]
fn item_above_400_kib_is_refused() {
    let store = MemoryStore::default();
    let account = AccountKey { chain_id: ChainId(97), address: Address([4; 20]) };
    now(store.register(&head(account))).unwrap();
    let mut large = record(account, "a", 0);
    large.intent.data = vec![1; 399 * 1_024].into();
    let group = |record| Reservation {
        head: head(account),
        records: vec![record],
        replaces: BTreeMap::new(),
        spend: None,
        sender_counts: None,
    };
    assert!(now(store.reserve(&group(large))).is_err());
    assert_eq!(now(store.reserve(&group(record(account, "a", 0)))).unwrap(), ReserveVerdict::Reserved);
}

#[test]
fn pruned_node_does_not_find_the_user_of_a_nonce() {
    let (sender, chain) = (Sender::new(), chain());
    chain.foreign(sender.2, Nonce(0));
    let height = chain.mine();
    chain.mine();
    chain.mine();
    chain.set_faults(NodeFaults { pruned: true, ..NodeFaults::default() });
    assert_eq!(now(chain.nonce_use(&use_query(sender.2, height))).unwrap(), NonceUse::NotFound(None));
    chain.set_faults(NodeFaults::default());
    let found = now(chain.nonce_use(&use_query(sender.2, height))).unwrap();
    assert!(matches!(found, NonceUse::Found(..)), "{found:?}");
}
