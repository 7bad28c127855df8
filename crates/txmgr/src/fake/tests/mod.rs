//! Tests of the fakes that are not in the contract suite, because they do not apply to the real services.

mod limits;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::chain::{MemoryChain, Orphans};
use super::chain_state::NodeFaults;
use super::interceptor::Interceptor;
use super::journal::{Entry, Journal};
use super::keys::MemoryKeys;
use super::queue::{MemoryQueue, QueueRules};
use super::store::MemoryStore;
use super::{SimClock, chain};
use crate::account::{Head, Reservation};
use crate::machine::{Corroboration, ReceiptView};
use crate::ports::{Chain, Keys, NonceUse, ReserveVerdict, SlotQuery, Store, UpdateVerdict, UseQuery, ViewQuery};
use crate::record::{Phase, Record, SendClass};
use crate::signature::PublicKey;
use crate::tx::{Fee, Intent, RawTx, Signature, UnsignedTx};
use crate::units::{AccountKey, Address, BlockNumber, ChainId, Digest, Gas, KmsKeyId, Millis, Nonce, SigningHash, Wei};

/// Polls a future once. Without a fault source, the fakes never wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a fake without a fault source completes at once"),
    }
}

fn key() -> (MemoryKeys, KmsKeyId, Address) {
    let keys = MemoryKeys::new(Interceptor::default(), Journal::kept());
    let id: KmsKeyId = "key-1".parse().unwrap();
    let address = keys.add(&id, [7; 32]);
    (keys, id, address)
}

fn intent(data: &[u8]) -> Intent {
    Intent {
        chain_id: ChainId(97),
        to: Some(Address([9; 20])),
        value: Wei::from(5),
        data: data.into(),
        gas: Gas(90_000),
    }
}

fn legacy(gwei: u64) -> Fee {
    Fee::Legacy { gas_price: Wei::from_gwei(gwei) }
}

struct Sender(MemoryKeys, KmsKeyId, Address, PublicKey);

impl Sender {
    fn new() -> Self {
        let (keys, id, address) = key();
        let public = PublicKey::from_spki(&now(keys.public_key(&id)).unwrap().spki).unwrap();
        Self(keys, id, address, public)
    }

    fn tx(&self, nonce: u64, fee: Fee, data: &[u8]) -> RawTx {
        let intent = intent(data);
        let unsigned = UnsignedTx { intent: &intent, nonce: Nonce(nonce), fee };
        let hash = unsigned.signing_hash();
        let der = now(self.0.sign(&self.1, &hash)).unwrap().der;
        unsigned.sign(&self.3.signature(&hash, &der).unwrap())
    }
}

fn chain() -> MemoryChain {
    MemoryChain::new(ChainId(97), Interceptor::default(), Journal::default())
}

fn query(address: Address, slots: &[(u64, &RawTx)]) -> ViewQuery {
    ViewQuery {
        address,
        slots: slots
            .iter()
            .map(|(nonce, raw)| SlotQuery { nonce: Nonce(*nonce), hashes: vec![raw.hash], mined_at: None })
            .collect(),
        latest_seen: Nonce(0),
        head_waits: false,
    }
}

pub(super) fn use_query(address: Address, finalized: BlockNumber) -> UseQuery {
    UseQuery { address, nonce: Nonce(0), own: Vec::new(), finalized, searched: None, now: Millis(0) }
}

#[test]
fn signatures_of_one_hash_differ_verify_and_half_have_high_s() {
    let sender = Sender::new();
    let hash = SigningHash([3; 32]);
    let ders: Vec<_> = (0..64).map(|_| now(sender.0.sign(&sender.1, &hash)).unwrap().der).collect();
    let low: Vec<Signature> = ders.iter().map(|der| sender.3.signature(&hash, der).unwrap()).collect();
    assert!(low.windows(2).all(|pair| pair[0].r != pair[1].r));
    let high = ders.iter().zip(&low).filter(|(der, low)| !der.ends_with(&low.s)).count();
    assert!((16..48).contains(&high), "{high} of 64 had high s");
}

#[test]
fn disabled_key_signs_nothing() {
    let sender = Sender::new();
    sender.0.set_disabled(&sender.1, true);
    assert!(now(sender.0.sign(&sender.1, &SigningHash([3; 32]))).is_err());
    assert_eq!(sender.0.sign_calls(), 0);
}

#[test]
fn chain_mines_a_lane_in_order_and_stops_at_a_gap() {
    let (sender, chain) = (Sender::new(), chain());
    let txs: Vec<_> = (0..3).map(|nonce| sender.tx(nonce, legacy(1), b"")).collect();
    assert_eq!(now(chain.send(&txs[2])).class, SendClass::Accepted);
    assert_eq!(now(chain.send(&txs[0])).class, SendClass::Accepted);
    chain.mine();
    assert!(chain.receipt(txs[0].hash).is_some() && chain.receipt(txs[2].hash).is_none());
    now(chain.send(&txs[1]));
    chain.mine();
    let view = now(chain.view(&query(sender.2, &[(1, &txs[1]), (2, &txs[2])]))).unwrap();
    assert_eq!((view.latest_nonce, view.finalized_nonce), (Nonce(3), Nonce(0)));
    assert_eq!(view.receipts.len(), 2);
    assert_eq!(view.canonical, vec![view.latest]);
    assert_eq!(now(chain.send(&txs[1])).class, SendClass::NonceTooLow);
}

#[test]
fn replacement_needs_a_ten_percent_higher_price() {
    let (sender, chain) = (Sender::new(), chain());
    let first = sender.tx(0, legacy(100), b"");
    now(chain.send(&first));
    assert_eq!(now(chain.send(&first)).class, SendClass::AlreadyKnown);
    assert_eq!(now(chain.send(&sender.tx(0, legacy(109), b""))).class, SendClass::Underpriced(None));
    let dynamic = Fee::Dynamic { max_fee_per_gas: Wei::from_gwei(110), max_priority_fee_per_gas: Wei::from_gwei(110) };
    assert_eq!(now(chain.send(&sender.tx(0, dynamic, b""))).class, SendClass::Accepted);
    assert_eq!(chain.pool().len(), 1);
}

#[test]
fn reorg_restores_nonces_and_balances_and_removes_receipts() {
    let (sender, chain) = (Sender::new(), chain());
    let raw = sender.tx(0, legacy(1), b"");
    let before = now(chain.balance(sender.2)).unwrap();
    now(chain.send(&raw));
    let height = chain.mine();
    let old = chain.block(height);
    assert!(now(chain.balance(sender.2)).unwrap() < before);
    assert_eq!(chain.reorg(1, Orphans::Return), 1);
    assert_ne!(chain.block(height), old);
    assert_eq!(chain.receipt(raw.hash), None);
    assert_eq!(now(chain.balance(sender.2)).unwrap(), before);
    assert_eq!(now(chain.counts(sender.2)).unwrap().latest, Nonce(0));
    chain.mine();
    assert!(chain.receipt(raw.hash).is_some());
}

#[test]
fn finalized_block_is_never_replaced() {
    let chain = chain();
    for _ in 0..5 {
        chain.mine();
    }
    assert_eq!(chain.reorg(100, Orphans::Lose), 2);
}

#[test]
fn call_with_revert_selector_reverts_with_its_data() {
    let (sender, chain) = (Sender::new(), chain());
    let raw = sender.tx(0, legacy(1), &chain::REVERT_SELECTOR);
    now(chain.send(&raw));
    chain.mine();
    let receipt = chain.receipt(raw.hash).unwrap();
    assert!(!receipt.succeeded);
    let bytes = now(chain.revert_bytes(sender.2, &intent(&chain::REVERT_SELECTOR), receipt.block)).unwrap();
    assert_eq!(bytes, Some(chain::REVERT_SELECTOR.to_vec()));
}

#[test]
fn high_s_and_foreign_chain_ids_are_refused_as_misconfigured() {
    let (sender, chain) = (Sender::new(), chain());
    let intent = intent(b"");
    let unsigned = UnsignedTx { intent: &intent, nonce: Nonce(0), fee: legacy(1) };
    let hash = unsigned.signing_hash();
    let low = sender.3.signature(&hash, &now(sender.0.sign(&sender.1, &hash)).unwrap().der).unwrap();
    let order =
        crate::units::U256::from_str_radix("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16);
    let high = (order.unwrap() - crate::units::U256::from_big_endian(&low.s)).to_big_endian();
    let raw = unsigned.sign(&Signature { s: high, y_odd: !low.y_odd, ..low });
    assert_eq!(now(chain.send(&raw)).class, SendClass::Misconfigured);
    let other = MemoryChain::new(ChainId(56), Interceptor::default(), Journal::default());
    assert_eq!(now(other.send(&sender.tx(0, legacy(1), b""))).class, SendClass::Misconfigured);
}

#[test]
fn lagging_node_shows_an_older_state() {
    let (sender, chain) = (Sender::new(), chain());
    let raw = sender.tx(0, legacy(1), b"");
    now(chain.send(&raw));
    chain.mine();
    chain.set_faults(NodeFaults { lag: 1, ..NodeFaults::default() });
    assert_eq!(now(chain.counts(sender.2)).unwrap().latest, Nonce(0));
    assert!(now(chain.view(&query(sender.2, &[(0, &raw)]))).unwrap().receipts.is_empty());
}

#[test]
fn node_on_old_branch_shows_none_of_its_blocks_as_final() {
    let (sender, chain) = (Sender::new(), chain());
    chain.mine();
    let raw = sender.tx(0, legacy(1), b"");
    now(chain.send(&raw));
    let height = chain.mine();
    let old = chain.receipt(raw.hash);
    chain.reorg(1, Orphans::Lose);
    for _ in 0..4 {
        chain.mine();
    }
    chain.set_faults(NodeFaults { on_old_branch: true, ..NodeFaults::default() });
    let view = now(chain.view(&query(sender.2, &[(0, &raw)]))).unwrap();
    assert_eq!((view.latest.number, view.latest_nonce), (height, Nonce(1)));
    assert_eq!(view.receipts, vec![(Nonce(0), old.map_or(ReceiptView::Absent, ReceiptView::Found))]);
    assert!(view.finalized.number < height && chain.finalized() > height);
    assert_ne!(view.canonical.first().copied(), chain.block(height));
}

#[test]
fn foreign_transaction_is_found_by_its_nonce() {
    let (sender, chain) = (Sender::new(), chain());
    let hash = chain.foreign(sender.2, Nonce(0));
    let height = chain.mine();
    assert_eq!(now(chain.nonce_use(&use_query(sender.2, height))).unwrap(), NonceUse::NotFound(None));
    chain.mine();
    chain.mine();
    let found = now(chain.nonce_use(&use_query(sender.2, height))).unwrap();
    assert!(matches!(found, NonceUse::Found(foreign, Corroboration::Alone) if foreign.tx_hash == hash), "{found:?}");
    assert!(chain.mined()[0].is_foreign);
}

fn queue(rules: QueueRules) -> (MemoryQueue, SimClock) {
    let clock = SimClock::at(Millis(1_000));
    (MemoryQueue::new("signing", rules, clock.clone(), Interceptor::default(), Journal::default()), clock)
}

#[test]
fn fifo_group_is_locked_while_a_message_is_in_flight() {
    let (queue, clock) = queue(QueueRules::FIFO);
    for (body, group) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        queue.put(body, Some(group), Some(body), None);
    }
    let first = now(queue.receive_up_to(1)).unwrap();
    let second = now(queue.receive_up_to(10)).unwrap();
    assert_eq!((first[0].body.as_str(), second.len(), second[0].body.as_str()), ("a1", 1, "b1"));
    clock.advance(QueueRules::FIFO.visibility_ms);
    let again = now(queue.receive_up_to(10)).unwrap();
    let bodies: Vec<_> = again.iter().map(|message| message.body.as_str()).collect();
    assert_eq!(bodies, ["a1", "a2", "b1"]);
    assert_eq!(again[0].receives, 2);
    assert!(!now(queue.delete_one(&first[0].receipt)).unwrap(), "a stale handle deletes nothing");
}

#[test]
fn fifo_queue_drops_duplicates_for_five_minutes() {
    let (queue, clock) = queue(QueueRules::FIFO);
    queue.put("a", Some("g"), Some("one"), None);
    queue.put("a", Some("g"), Some("one"), None);
    assert_eq!(queue.len(), 1);
    clock.advance(super::queue::DEDUP_MS);
    queue.put("a", Some("g"), Some("one"), None);
    assert_eq!(queue.len(), 2);
}

#[test]
fn message_becomes_dead_letter_after_max_receives() {
    let (queue, _) = queue(QueueRules { max_receives: 2, ..QueueRules::FIFO });
    queue.put("a", Some("g"), None, None);
    queue.put("b", Some("g"), None, None);
    for _ in 0..2 {
        let message = &now(queue.receive_up_to(1)).unwrap()[0];
        assert_eq!(message.body, "a");
        now(queue.release(&message.receipt)).unwrap();
    }
    assert_eq!(now(queue.receive_up_to(1)).unwrap()[0].body, "b");
    assert_eq!(queue.dead_letters(), ["a"]);
}

#[test]
fn standard_queue_repeats_and_reorders_by_its_seed() {
    let rules = QueueRules { repeat_one_in: 2, disorder_seed: 5, ..QueueRules::STANDARD };
    let (queue, _) = queue(rules);
    for n in 0..20 {
        queue.put(&format!("{n:02}"), None, None, None);
    }
    let bodies: Vec<_> = now(queue.receive_up_to(100)).unwrap().into_iter().map(|message| message.body).collect();
    assert!(bodies.len() > 20);
    assert!(bodies.windows(2).any(|pair| pair[0] > pair[1]));
}

fn head(account: AccountKey) -> Head {
    Head::new(account, "hot".parse().unwrap(), "key-1".parse().unwrap(), Nonce(0), Millis(0))
}

fn record(account: AccountKey, id: &str, nonce: u64) -> Record {
    Record {
        request_id: id.parse().unwrap(),
        digest: Digest([1; 32]),
        version: 1,
        account,
        name: "hot".parse().unwrap(),
        nonce: Nonce(nonce),
        intent: intent(b""),
        fee: legacy(1),
        fee_cap: Wei::from_gwei(20),
        deadline: None,
        acceptance: None,
        metadata: None,
        sender: None,
        message_id: None,
        trace: None,
        seal: None,
        attempts: Vec::new(),
        cancel: None,
        inquiry: None,
        waiting: None,
        capped_since: None,
        max_head_ms: None,
        phase: Phase::Reserved,
        created_at: Millis(0),
        updated_at: Millis(0),
    }
}

#[test]
fn reservation_is_atomic_and_reports_every_reason() {
    let journal = Journal::kept();
    let store = MemoryStore::new(Interceptor::default(), journal.clone());
    let account = AccountKey { chain_id: ChainId(97), address: Address([4; 20]) };
    now(store.register(&head(account))).unwrap();
    let group = |ids: &[&str], from: u64| Reservation {
        head: Head { next_nonce: Nonce(from), ..head(account) },
        records: ids.iter().zip(from..).map(|(id, nonce)| record(account, id, nonce)).collect(),
        spend: None,
        sender_counts: None,
        replaces: BTreeMap::new(),
    };
    assert_eq!(now(store.reserve(&group(&["a", "b"], 0))).unwrap(), ReserveVerdict::Reserved);
    let verdict = now(store.reserve(&group(&["b", "c"], 1))).unwrap();
    let known = vec!["b".parse().unwrap()];
    assert_eq!(verdict, ReserveVerdict::NotReserved { head_changed: true, known, slot_taken: true, contended: false });
    assert_eq!(store.stored(&"c".parse().unwrap()), None);
    assert!(now(store.reserve(&group(&["c", "c"], 2))).is_err(), "one item cannot be written twice");
    now(store.set_paused(&account, true)).unwrap();
    assert_ne!(now(store.reserve(&group(&["c"], 2))).unwrap(), ReserveVerdict::Reserved);
    let reserved = journal.drain().into_iter().filter(|entry| matches!(entry, Entry::Reserved(_))).count();
    assert_eq!(reserved, 1);
}

#[test]
fn stale_write_returns_the_stored_record() {
    let store = MemoryStore::default();
    let account = AccountKey { chain_id: ChainId(97), address: Address([4; 20]) };
    now(store.register(&head(account))).unwrap();
    let group = Reservation {
        head: head(account),
        records: vec![record(account, "a", 0)],
        spend: None,
        sender_counts: None,
        replaces: BTreeMap::new(),
    };
    now(store.reserve(&group)).unwrap();
    let next = Record { version: 2, ..record(account, "a", 0) };
    assert_eq!(now(store.update(&next)).unwrap(), UpdateVerdict::Stored);
    assert_eq!(now(store.update(&next)).unwrap(), UpdateVerdict::Stale(Box::new(next)));
    let gone = Record { version: 2, ..record(account, "z", 0) };
    assert_eq!(now(store.update(&gone)).unwrap(), UpdateVerdict::Gone);
}

#[test]
fn clones_of_a_fake_share_its_state() {
    let store = MemoryStore::default();
    let other = store.clone();
    let account = AccountKey { chain_id: ChainId(97), address: Address([4; 20]) };
    now(store.register(&head(account))).unwrap();
    assert!(now(other.head(&account)).unwrap().is_some());
}
