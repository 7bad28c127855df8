//! The chain and the nodes' pool: mining, finality, reorgs, evictions, and a key used elsewhere.

use super::Moves;
use crate::explorer::lane::NONCES;
use crate::explorer::ledger::{BLOCKS, Block, Tx};
use crate::explorer::world::{Class, State, World};

/// Everything the chain may do by itself.
pub(super) fn moves(world: &World, state: &State, out: &mut Moves<'_>) {
    let chain = state.chain;
    for account in 0..world.accounts as u8 {
        account_moves(state, account, out);
    }
    if chain.finalized < chain.height {
        let mut after = *state;
        after.chain.finalized += 1;
        out.step(after, || format!("finalizes height {}", after.chain.finalized));
    }
    if state.faults.reorgs > 0 {
        for from in chain.finalized..chain.height {
            if chain.blocks()[usize::from(from)..].iter().any(|block| block.tx.is_some()) {
                for back_to_pool in [true, false] {
                    let end = if back_to_pool { "its transactions are back in the pool" } else { "they are lost" };
                    out.fault(reorg(state, from, back_to_pool), || {
                        format!("replaces its blocks from height {} on (reorg); {end}", from + 1)
                    });
                }
            }
        }
    }
}

/// What may happen to the transactions of one account.
fn account_moves(state: &State, account: u8, out: &mut Moves<'_>) {
    let (chain, lane) = (state.chain, *state.lane(account));
    let latest = usize::from(chain.latest_nonce(account));
    if latest < NONCES {
        let (tx, other) = (lane.pool[latest], lane.other[latest]);
        if tx.is_some() {
            out.step(mine(state, tx), || format!("mines {tx:?} at height {}", chain.height + 1));
        }
        if other.is_some() && other != tx {
            out.step(mine(state, other), || {
                format!("mines {other:?} of the second node at height {}", chain.height + 1)
            });
        }
    }
    if state.faults.foreign > 0 && latest < NONCES {
        let mut after = mine(state, Tx::foreign(account, latest as u8));
        after.faults.foreign -= 1;
        out.fault(after, || format!("mines a transaction signed elsewhere, with nonce {latest}"));
    }
    if state.faults.evictions > 0 {
        for (nonce, tx) in lane.pool.iter().enumerate().filter(|(_, tx)| tx.is_some()) {
            let mut after = *state;
            after.lane_mut(account).pool[nonce] = Tx::NONE;
            after.faults.evictions -= 1;
            out.fault(after, || format!("forgets {tx:?} (evicted from the pool)"));
        }
    }
    if state.faults.splits > 0 {
        for (nonce, tx) in lane.pool.iter().enumerate().filter(|(_, tx)| tx.is_some()) {
            let mut after = *state;
            after.lane_mut(account).other[nonce] = *tx;
            after.lane_mut(account).pool[nonce] = Tx::NONE;
            after.faults.splits -= 1;
            out.fault(after, || format!("forgets {tx:?}, but a second node keeps it"));
        }
    }
}

fn mine(state: &State, tx: Tx) -> State {
    let mut after = *state;
    let at = usize::from(state.chain.height);
    assert!(at < BLOCKS, "the world is too small for its reorgs");
    after.chain.blocks[at] = Block { fork: state.fork, tx };
    after.chain.height += 1;
    let lane = after.lane_mut(tx.account());
    lane.pool[usize::from(tx.nonce())] = Tx::NONE;
    lane.other[usize::from(tx.nonce())] = Tx::NONE;
    after
}

/// Replaces the blocks above `from` with empty ones on another fork.
fn reorg(state: &State, from: u8, back_to_pool: bool) -> State {
    let mut after = *state;
    after.fork += 1;
    after.faults.reorgs -= 1;
    if state.faults.stale_views > 0 {
        after.stale = state.chain;
    }
    for at in usize::from(from)..usize::from(state.chain.height) {
        let tx = state.chain.blocks[at].tx;
        if back_to_pool && tx.is_some() && !tx.is_foreign() {
            after.lane_mut(tx.account()).pool[usize::from(tx.nonce())] = tx;
        }
        after.chain.blocks[at] = Block { fork: after.fork, tx: Tx::NONE };
    }
    after
}

/// Sends a transaction to a node.
pub(super) fn send(world: &World, state: &State, tx: Tx) -> (State, Class) {
    let nonce = usize::from(tx.nonce());
    let mut after = *state;
    if tx.nonce() < state.chain.latest_nonce(tx.account()) {
        return (after, Class::NonceTooLow);
    }
    let there = state.lane(tx.account()).pool[nonce];
    if there == tx {
        return (after, Class::AlreadyKnown);
    }
    let level = |tx: Tx| tx.level(world.cheap_cancels);
    if there.is_some() && level(there) >= level(tx) {
        return (after, Class::Underpriced);
    }
    after.lane_mut(tx.account()).pool[nonce] = tx;
    (after, Class::Accepted)
}
