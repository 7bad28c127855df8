//! After a reorg of up to 64 blocks, a BSC node puts the orphaned transactions back into its pool (`legacypool.reset`).
//! anvil forgets them, and pending ones too; this module sends them again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};
use signpost_txmgr::units::TxHash;
use tokio::sync::Mutex;

use super::chain::Chain;
use super::pool::Pooled;
use super::refusal::Refusal;
use super::upstream::{Failure, number, quantity};

/// The number of blocks that a node looks back.
const DEPTH: usize = 64;
/// How many times the chain is checked again after a reorg: about three blocks.
const LOOKS_AFTER: u8 = 10;
/// The pause between two checks: a third of a block.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// A block that the gate has seen.
#[derive(Debug)]
struct Seen {
    number: u64,
    hash: Value,
    transactions: Vec<TxHash>,
}

/// The last blocks, to detect a reorg.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    seen: VecDeque<Seen>,
    /// Remaining checks after a reorg: the node behind may lose pending transactions a block later.
    looks_after: u8,
}

impl Watch {
    /// Checks the chain forever: forwards executable transactions, and with `reinject` sends orphaned ones again.
    pub(crate) async fn run(&self, chain: &Chain, reinject: bool) {
        loop {
            let mut looked = chain.settle_all().await;
            if reinject {
                looked = looked.and(self.look(chain).await.map(|_| ()));
            }
            if let Err(failure) = looked {
                tracing::debug!(?failure, "the gate could not check the chain");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Reads new blocks, and sends the transactions of orphaned blocks again. Returns their number.
    pub(crate) async fn look(&self, chain: &Chain) -> Result<usize, Failure> {
        let mut memory = self.memory.lock().await;
        let Memory { seen, looks_after } = &mut *memory;
        let mut orphaned = Vec::new();
        while let Some(newest) = seen.back() {
            if block(chain, newest.number).await?.is_some_and(|block| block["hash"] == newest.hash) {
                break;
            }
            orphaned.extend(seen.pop_back());
        }
        let gone = !orphaned.is_empty();
        let head = chain.upstream.call("eth_blockNumber", json!([])).await?;
        let head = number(&head).unwrap_or(0);
        let from = seen.back().map_or(head, |newest| newest.number.saturating_add(1));
        for at in from..=head {
            let Some(block) = block(chain, at).await? else { break };
            let transactions = block["transactions"].as_array().into_iter().flatten();
            let transactions = transactions.filter_map(|hash| hash.as_str()?.parse().ok()).collect();
            seen.push_back(Seen { number: at, hash: block["hash"].clone(), transactions });
        }
        while seen.len() > DEPTH {
            seen.pop_front();
        }
        if gone {
            *looks_after = LOOKS_AFTER;
        } else if *looks_after == 0 {
            return Ok(0);
        }
        *looks_after = looks_after.saturating_sub(1);
        let oldest_first = orphaned.into_iter().rev().flat_map(|block| block.transactions).collect();
        reinject(chain, oldest_first).await
    }
}

async fn block(chain: &Chain, number: u64) -> Result<Option<Value>, Failure> {
    let block = chain.upstream.call("eth_getBlockByNumber", json!([quantity(number), false])).await?;
    Ok(Some(block).filter(|block| !block.is_null()))
}

/// Puts back the transactions of orphaned blocks and those that the node behind lost with them, then forwards them in
/// order. Returns their number.
async fn reinject(chain: &Chain, orphaned: Vec<TxHash>) -> Result<usize, Failure> {
    let mut pool = chain.pool.lock().await;
    let mut back: Vec<Pooled> = orphaned.iter().filter_map(|hash| pool.recall(hash).cloned()).collect();
    let pending = pool.all().filter(|pooled| pooled.handed && !orphaned.contains(&pooled.tx.hash));
    back.extend(pending.cloned().collect::<Vec<_>>());
    let hashes: Vec<_> = back.iter().map(|pooled| pooled.tx.hash).collect();
    let known = chain.upstream.knows(&hashes).await?;
    let mut next_of = BTreeMap::new();
    for pooled in &back {
        next_of.insert(pooled.sender, chain.upstream.count(pooled.sender).await?);
    }
    let is_next = |pooled: &Pooled| next_of.get(&pooled.sender).is_some_and(|next| pooled.tx.nonce >= *next);
    let (known, lost): (Vec<_>, Vec<_>) =
        back.into_iter().zip(known).filter(|(pooled, _)| is_next(pooled)).partition(|(_, known)| *known);
    let affected: BTreeSet<_> = lost.iter().map(|(pooled, _)| pooled.sender).collect();
    let mut count = 0_usize;
    for (pooled, known) in known.into_iter().chain(lost) {
        let displaced = pool.at(pooled.sender, pooled.tx.nonce).is_some_and(|other| other.tx.hash != pooled.tx.hash);
        if displaced || !affected.contains(&pooled.sender) {
            continue;
        }
        if known {
            // anvil would execute it too early and drop it. A node without this method keeps it until its turn.
            match chain.upstream.call("anvil_dropTransaction", json!([pooled.tx.hash.to_string()])).await {
                Ok(_) | Err(Failure::Refused(Refusal::Upstream { code: -32601, .. })) => {}
                Err(failure) => return Err(failure),
            }
        }
        count = count.saturating_add(1);
        let next = next_of.get(&pooled.sender).copied().unwrap_or(0);
        pool.insert(&chain.limits, next, Pooled { handed: false, ..pooled });
    }
    for (sender, next) in next_of {
        chain.settle(&mut pool, sender, next, None).await?;
    }
    Ok(count)
}
