//! Applies the pool's rules to sends and forwards them to the node behind, one at a time: the nodes of a gate share one
//! pool and one chain.
//!
//! The view of the pool follows the chain: transactions with used nonces leave it. Before the gate refuses a
//! transaction because of a pooled one, it checks that the node behind still has that one.
//! Read next: [`super::reorg`], [`super::market`], [`super::node`].

use std::collections::BTreeSet;

use serde_json::json;
use signpost_txmgr::units::{Address, TxHash};
use tokio::sync::Mutex;

use super::decode::{Tx, decode};
use super::pool::{Account, Move, Pool, Pooled};
use super::refusal::Refusal;
use super::rules::Limits;
use super::upstream::{Failure, Upstream};

/// The state that all nodes of a gate share.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) limits: Limits,
    pub(crate) upstream: Upstream,
    pub(crate) pool: Mutex<Pool>,
}

/// What a node does with a transaction that passes its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Accepts it.
    Take,
    /// Only claims to accept it.
    Pretend,
}

/// Whether the node behind already has a transaction: by the messages of anvil and geth.
fn is_known(words: &str) -> bool {
    ["already imported", "already known"].iter().any(|known| words.contains(known))
}

impl Chain {
    pub(crate) fn new(limits: Limits, upstream: Upstream) -> Self {
        Self { limits, upstream, pool: Mutex::default() }
    }

    /// `eth_sendRawTransaction`.
    pub(crate) async fn send(&self, raw: &[u8], then: Then) -> Result<TxHash, Failure> {
        let tx = decode(raw)?;
        self.limits.check_over_rpc(&tx)?;
        let mut pool = self.pool.lock().await;
        if self.is_pooled(&mut pool, &tx.hash).await? {
            return Err(Refusal::AlreadyKnown.into());
        }
        let sender = self.limits.sender(&tx)?;
        self.limits.check_without_state(&tx, sender)?;
        let account = self.account(&mut pool, sender).await?;
        if let Err(refusal) = pool.admits(&self.limits, account, &tx, sender) {
            if !self.forget_lost(&mut pool, sender).await? {
                return Err(refusal.into());
            }
            pool.admits(&self.limits, account, &tx, sender)?;
        }
        match then {
            Then::Take => self.take(&mut pool, account, tx, sender).await,
            Then::Pretend => Ok(tx.hash),
        }
    }

    async fn take(&self, pool: &mut Pool, account: Account, tx: Tx, sender: Address) -> Result<TxHash, Failure> {
        let (hash, nonce, cost) = (tx.hash, tx.nonce, tx.cost());
        let replaced = pool.at(sender, nonce).cloned();
        let inserted = pool.insert(&self.limits, account.next, Pooled { tx, sender, handed: false });
        if inserted.dropped == Some(hash) {
            return Ok(hash);
        }
        let Err(failure) = self.settle(pool, sender, account.next, Some(hash)).await else {
            return Ok(hash);
        };
        // The node behind decides, but its messages differ from BSC's.
        let Failure::Refused(Refusal::Upstream { code, message, data }) = failure else {
            pool.remove(&hash);
            return Err(failure);
        };
        let words = message.to_lowercase();
        if is_known(&words) {
            pool.set_handed(&hash, true);
            return Err(Refusal::AlreadyKnown.into());
        }
        pool.remove(&hash);
        if let Some(replaced) = replaced {
            pool.insert(&self.limits, account.next, replaced);
        }
        Err(if words.contains("nonce too low") {
            Refusal::NonceTooLow { next: self.upstream.count(sender).await?, nonce }
        } else if words.contains("replacement transaction underpriced") {
            Refusal::ReplacementUnderpriced
        } else if words.contains("insufficient funds") {
            let balance = self.upstream.balance(sender).await?;
            Refusal::Funds { balance, cost, overshot: cost.saturating_sub(balance) }
        } else {
            Refusal::Upstream { code, message, data }
        }
        .into())
    }

    /// Updates the node behind with a sender's transactions. A refusal is an error only for `sent`; other refused
    /// transactions leave the pool, as in a BSC node when they cannot be executed.
    pub(crate) async fn settle(
        &self,
        pool: &mut Pool,
        sender: Address,
        next: u64,
        sent: Option<TxHash>,
    ) -> Result<(), Failure> {
        for next_move in pool.moves(sender, next) {
            match next_move {
                Move::TakeBack(hash) => {
                    let taken = self.upstream.call("anvil_dropTransaction", json!([hash.to_string()])).await?;
                    // Null: it was just mined and leaves the view with its nonce, or it is gone.
                    if !taken.is_null() || self.upstream.knows(&[hash]).await? == [false] {
                        pool.set_handed(&hash, false);
                    }
                }
                Move::Hand(hash, raw) => match self.upstream.call("eth_sendRawTransaction", json!([raw])).await {
                    Ok(_) => pool.set_handed(&hash, true),
                    // The node never lost it.
                    Err(Failure::Refused(refusal)) if sent != Some(hash) && is_known(&refusal.to_string()) => {
                        pool.set_handed(&hash, true);
                    }
                    Err(Failure::Refused(refusal)) if sent != Some(hash) => {
                        tracing::debug!(%hash, %refusal, "the node behind did not accept a pooled transaction");
                        pool.remove(&hash);
                    }
                    Err(failure) => return Err(failure),
                },
            }
        }
        Ok(())
    }

    /// Forwards transactions that became executable without a send, when a gap was filled around the gate.
    pub(crate) async fn settle_all(&self) -> Result<(), Failure> {
        let mut pool = self.pool.lock().await;
        let waiting: BTreeSet<_> = pool.all().filter(|pooled| !pooled.handed).map(|pooled| pooled.sender).collect();
        for sender in waiting {
            let next = self.upstream.count(sender).await?;
            pool.prune(sender, next);
            self.settle(&mut pool, sender, next, None).await?;
        }
        Ok(())
    }

    /// The state of a sender on the chain. The count is read last, so that a block in between makes the checks milder,
    /// never stricter.
    async fn account(&self, pool: &mut Pool, sender: Address) -> Result<Account, Failure> {
        let has_code = self.upstream.has_code(sender).await?;
        let balance = self.upstream.balance(sender).await?;
        let next = self.upstream.count(sender).await?;
        pool.prune(sender, next);
        Ok(Account { next, balance, has_code })
    }

    /// Whether a transaction is in the pool of the node, and not only in this view of it.
    async fn is_pooled(&self, pool: &mut Pool, hash: &TxHash) -> Result<bool, Failure> {
        let Some((sender, handed)) = pool.find(hash).map(|pooled| (pooled.sender, pooled.handed)) else {
            return Ok(false);
        };
        pool.prune(sender, self.upstream.count(sender).await?);
        if pool.find(hash).is_none() {
            return Ok(false);
        }
        if !handed || self.upstream.knows(&[*hash]).await? == [true] {
            return Ok(true);
        }
        pool.remove(hash);
        Ok(false)
    }

    /// Forgets a sender's transactions that the node behind dropped. Returns whether there were any.
    async fn forget_lost(&self, pool: &mut Pool, sender: Address) -> Result<bool, Failure> {
        let forwarded: Vec<_> = pool.of(sender).filter(|pooled| pooled.handed).map(|pooled| pooled.tx.hash).collect();
        let known = self.upstream.knows(&forwarded).await?;
        let mut any = false;
        for (hash, known) in forwarded.iter().zip(known) {
            any |= !known && pool.remove(hash);
        }
        Ok(any)
    }
}
