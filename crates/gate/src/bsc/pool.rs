//! The gate's view of the pool: its transactions by sender and nonce, and the decisions of a BSC pool from them (funds,
//! replacement, queue limit, delegated accounts).
//!
//! Pure: the state of the chain is an argument. Read next: [`super::chain`].

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde_json::{Value, json};
use signpost_txmgr::units::{Address, TxHash, U256};

use super::decode::Tx;
use super::refusal::Refusal;
use super::rules::Limits;
use super::upstream::quantity;

/// The limit of transactions remembered after they were mined, for re-injection.
const REMEMBERED: usize = 4_096;

/// A transaction that the gate accepted.
#[derive(Debug, Clone)]
pub(crate) struct Pooled {
    pub(crate) tx: Tx,
    pub(crate) sender: Address,
    /// Whether the node behind has it. The node gets only transactions that can be mined next; those behind a gap,
    /// those too cheap for validators, and those after them wait here.
    pub(crate) handed: bool,
}

/// A change of the node behind.
#[derive(Debug, Clone)]
pub(crate) enum Move {
    /// Forward the transaction.
    Hand(TxHash, String),
    /// Take the transaction back.
    TakeBack(TxHash),
}

/// The state of a sender on the chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    pub(crate) next: u64,
    pub(crate) balance: U256,
    pub(crate) has_code: bool,
}

/// The result of an insertion.
#[derive(Debug)]
pub(crate) struct Inserted {
    /// The transaction that was dropped from the account's queue, which may be the inserted one.
    pub(crate) dropped: Option<TxHash>,
}

/// The pool as the gate sees it.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    accounts: HashMap<Address, BTreeMap<u64, Pooled>>,
    /// All accepted transactions, also after they left the pool.
    remembered: HashMap<TxHash, Pooled>,
    order: VecDeque<TxHash>,
    /// The lowest price that validators mine.
    pub(crate) mining_floor: U256,
}

impl Pool {
    /// The transaction, if it is in the pool.
    pub(crate) fn find(&self, hash: &TxHash) -> Option<&Pooled> {
        let taken = self.remembered.get(hash)?;
        self.at(taken.sender, taken.tx.nonce).filter(|pooled| pooled.tx.hash == *hash)
    }

    /// The transaction, if it was accepted recently, even if it left the pool.
    pub(crate) fn recall(&self, hash: &TxHash) -> Option<&Pooled> {
        self.remembered.get(hash)
    }

    pub(crate) fn at(&self, sender: Address, nonce: u64) -> Option<&Pooled> {
        self.accounts.get(&sender)?.get(&nonce)
    }

    /// All transactions in the pool, by sender and nonce.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Pooled> {
        self.accounts.values().flat_map(BTreeMap::values)
    }

    /// The transactions of a sender, by nonce.
    pub(crate) fn of(&self, sender: Address) -> impl Iterator<Item = &Pooled> {
        self.accounts.get(&sender).into_iter().flat_map(BTreeMap::values)
    }

    /// Removes transactions with nonces that the chain has used.
    pub(crate) fn prune(&mut self, sender: Address, next: u64) {
        if let Some(pooled) = self.accounts.get_mut(&sender) {
            *pooled = pooled.split_off(&next);
        }
    }

    /// Removes a transaction. Returns whether it was in the pool.
    pub(crate) fn remove(&mut self, hash: &TxHash) -> bool {
        let Some((sender, nonce)) = self.find(hash).map(|pooled| (pooled.sender, pooled.tx.nonce)) else {
            return false;
        };
        self.accounts.get_mut(&sender).is_some_and(|account| account.remove(&nonce).is_some())
    }

    pub(crate) fn set_handed(&mut self, hash: &TxHash, handed: bool) {
        let Some((sender, nonce)) = self.find(hash).map(|pooled| (pooled.sender, pooled.tx.nonce)) else {
            return;
        };
        if let Some(pooled) = self.accounts.get_mut(&sender).and_then(|account| account.get_mut(&nonce)) {
            pooled.handed = handed;
        }
    }

    /// Whether the pool accepts a transaction, after the checks without state.
    pub(crate) fn admits(&self, limits: &Limits, account: Account, tx: &Tx, sender: Address) -> Result<(), Refusal> {
        if tx.nonce < account.next {
            return Err(Refusal::NonceTooLow { next: account.next, nonce: tx.nonce });
        }
        let existing = self.at(sender, tx.nonce);
        self.check_funds(account, tx, sender)?;
        if account.has_code && existing.is_none() {
            if self.of(sender).next().is_some() {
                return Err(Refusal::DelegatedInFlight);
            }
            if tx.nonce != account.next {
                return Err(Refusal::DelegatedGap);
            }
        }
        let fees = |tx: &Tx| (tx.fee_cap.number, tx.tip_cap.number);
        if existing.is_some_and(|old| !limits.replaces(fees(&old.tx), fees(tx))) {
            return Err(Refusal::ReplacementUnderpriced);
        }
        Ok(())
    }

    /// The balance must cover all pending transactions together; those behind a gap do not count.
    fn check_funds(&self, account: Account, tx: &Tx, sender: Address) -> Result<(), Refusal> {
        let Account { balance, next, .. } = account;
        let cost = tx.cost();
        if cost > balance {
            return Err(Refusal::Funds { balance, cost, overshot: cost.saturating_sub(balance) });
        }
        let pending: Vec<_> = self.pending(sender, next).collect();
        let queued = pending.iter().fold(U256::zero(), |sum, pooled| sum.saturating_add(pooled.tx.cost()));
        let old = pending.iter().find(|pooled| pooled.tx.nonce == tx.nonce).map(|pooled| pooled.tx.cost());
        let need = queued.saturating_add(cost).saturating_sub(old.unwrap_or_default());
        if need <= balance {
            return Ok(());
        }
        let overshot = need.saturating_sub(balance);
        Err(match old {
            None => Refusal::QueuedFunds { balance, queued, cost, overshot },
            Some(old) if cost >= old => {
                Refusal::BumpFunds { balance, queued, bumped: cost.saturating_sub(old).to_string(), overshot }
            }
            Some(old) => {
                Refusal::BumpFunds { balance, queued, bumped: format!("-{}", old.saturating_sub(cost)), overshot }
            }
        })
    }

    /// The transactions that can be mined in sequence from `next` on.
    fn pending(&self, sender: Address, next: u64) -> impl Iterator<Item = &Pooled> {
        self.of(sender)
            .skip_while(move |pooled| pooled.tx.nonce < next)
            .zip(next..)
            .take_while(|(pooled, expected)| pooled.tx.nonce == *expected)
            .map(|(pooled, _)| pooled)
    }

    /// The changes that update the node behind for a sender: first the transactions to take back, highest nonce first,
    /// then those to forward, lowest nonce first.
    pub(crate) fn moves(&self, sender: Address, next: u64) -> Vec<Move> {
        let executable = self.pending(sender, next).take_while(|pooled| pooled.tx.tip_cap.number >= self.mining_floor);
        let end = executable.last().map_or(next, |last| last.tx.nonce.saturating_add(1));
        let stuck = |pooled: &&Pooled| pooled.handed && pooled.tx.nonce >= end;
        let mut moves: Vec<_> = self.of(sender).filter(stuck).map(|pooled| Move::TakeBack(pooled.tx.hash)).collect();
        moves.reverse();
        let lacking = self.of(sender).filter(|pooled| !pooled.handed && (next..end).contains(&pooled.tx.nonce));
        moves.extend(lacking.map(|pooled| Move::Hand(pooled.tx.hash, pooled.raw())));
        moves
    }

    /// Inserts a transaction, which replaces another one with its nonce. If the account's queue becomes too long, its
    /// highest nonce is silently dropped, as in the node.
    pub(crate) fn insert(&mut self, limits: &Limits, next: u64, pooled: Pooled) -> Inserted {
        let (sender, hash) = (pooled.sender, pooled.tx.hash);
        self.remember(pooled.clone());
        self.accounts.entry(sender).or_default().insert(pooled.tx.nonce, pooled);
        let pending = self.pending(sender, next).count();
        let all = self.of(sender).filter(|pooled| pooled.tx.nonce >= next).count();
        if all.saturating_sub(pending) <= limits.account_queue {
            return Inserted { dropped: None };
        }
        let dropped = self.of(sender).last().map_or(hash, |highest| highest.tx.hash);
        self.remove(&dropped);
        Inserted { dropped: Some(dropped) }
    }

    fn remember(&mut self, pooled: Pooled) {
        let hash = pooled.tx.hash;
        if self.remembered.insert(hash, pooled).is_none() {
            self.order.push_back(hash);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.remembered.remove(&oldest);
            }
        }
    }
}

impl Pooled {
    /// Its bytes as JSON-RPC writes them.
    fn raw(&self) -> String {
        format!("0x{}", hex::encode(&self.tx.raw))
    }

    /// The answer to `eth_getTransactionByHash` while it is in no block.
    pub(crate) fn to_json(&self) -> Value {
        let tx = &self.tx;
        let wide = |number: U256| json!(format!("{number:#x}"));
        let mut shown = json!({
            "hash": tx.hash.to_string(),
            "type": quantity(tx.kind.into()),
            "nonce": quantity(tx.nonce),
            "from": self.sender.lower(),
            "to": tx.to.map(|to| to.lower()),
            "value": wide(tx.value.number),
            "gas": quantity(tx.gas),
            "gasPrice": wide(tx.fee_cap.number),
            "input": format!("0x{}", hex::encode(&tx.data)),
            "chainId": wide(tx.chain_id.unwrap_or_default()),
            "r": wide(tx.r.number),
            "s": wide(tx.s.number),
            "blockHash": null,
            "blockNumber": null,
            "transactionIndex": null,
        });
        if tx.kind >= 2 {
            shown["maxFeePerGas"] = wide(tx.fee_cap.number);
            shown["maxPriorityFeePerGas"] = wide(tx.tip_cap.number);
        }
        shown
    }
}
