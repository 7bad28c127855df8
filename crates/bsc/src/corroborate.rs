//! One endpoint's corroboration on a fact that another endpoint showed, or that is searched for.
//!
//! Read next: `evidence.rs`, [`crate::chain`].

use serde_json::{Value, json};
use signpost_txmgr::machine::Corroboration;
use signpost_txmgr::ports::{Finality, SlotQuery, WitnessQuery};
use signpost_txmgr::record::{BlockRef, Receipt};
use signpost_txmgr::units::{Address, BlockNumber, Millis, Nonce, TxHash};

use crate::endpoints::Endpoint;
use crate::evidence::{Seen, ask, prove_by_parents};
use crate::methods::{BLOCK, COUNT};
use crate::parents;
use crate::quantity;
use crate::receipt::{is_fresh, made_at, read_block, read_receipt, whole_request};
use crate::rpc::{Call, CallFailure, need};
use crate::view::final_at;

const BLOCK_RECEIPTS: &str = "eth_getBlockReceipts";

/// Asks this endpoint about receipts that another endpoint showed final.
pub(crate) async fn witness(
    endpoint: &Endpoint,
    query: &WitnessQuery,
    finality: Finality,
) -> Result<Vec<Corroboration>, CallFailure> {
    let at = final_at(endpoint, finality).await?;
    let slots = query.finals.iter().map(|(nonce, receipt)| SlotQuery {
        nonce: *nonce,
        hashes: vec![receipt.tx_hash],
        mined_at: Some(receipt.block.number),
    });
    let mut seen = Seen::new(None);
    ask(endpoint, query.address, at, BlockNumber(u64::MAX), &slots.collect::<Vec<_>>(), &mut seen).await?;
    prove_by_parents(endpoint, query.address, at, &mut seen).await;
    let mut answers = Vec::with_capacity(query.finals.len());
    for (nonce, receipt) in &query.finals {
        answers.push(corroboration(endpoint, &seen, (*nonce, receipt), query.now).await);
    }
    Ok(answers)
}

async fn corroboration(
    endpoint: &Endpoint,
    seen: &Seen,
    (nonce, receipt): (Nonce, &Receipt),
    now: Millis,
) -> Corroboration {
    let same = |own: &Receipt| own.block == receipt.block && own.succeeded == receipt.succeeded;
    if let Some(own) = seen.finals.get(&nonce) {
        return if same(own) { Corroboration::Agrees } else { Corroboration::Contradicts };
    }
    let Some(pair) = seen.last_pair else { return Corroboration::Silent };
    if pair.block.number < receipt.block.number {
        return if is_fresh(seen.final_made_at, now) { Corroboration::NotYet } else { Corroboration::Silent };
    }
    let Some(block) = seen.canonical.get(&receipt.block.number) else { return Corroboration::Silent };
    if *block != receipt.block || pair.nonce <= nonce {
        return Corroboration::Contradicts;
    }
    let found = seen.found().find(|(at, _)| *at == nonce).map(|(_, own)| own);
    match found {
        Some(own) if same(&own) => Corroboration::Silent,
        Some(_) => Corroboration::Contradicts,
        // The endpoint has the block but gives no receipt: is the transaction in the block?
        None => match seen.txs.get(&block.hash) {
            Some(txs) if !txs.contains(&receipt.tx_hash) => Corroboration::Contradicts,
            Some(_) => match block_receipt(endpoint, block, receipt.tx_hash).await {
                Some(own) if same(&own) => Corroboration::Agrees,
                Some(_) => Corroboration::Contradicts,
                None => Corroboration::Silent,
            },
            None => Corroboration::Silent,
        },
    }
}

/// A transaction's receipt from the list of its block's receipts, for a node that does not return it by hash.
pub(crate) async fn block_receipt(endpoint: &Endpoint, block: &BlockRef, hash: TxHash) -> Option<Receipt> {
    let answer = endpoint.call(BLOCK_RECEIPTS, json!([block.hash.to_string()])).await.ok()?;
    let receipts = answer.as_array()?.iter().filter_map(|receipt| read_receipt(receipt, hash));
    receipts.into_iter().find(|receipt| receipt.block == *block)
}

/// The receipt of one of these attempts, if this endpoint shows one as final.
pub(crate) async fn own_receipt(
    endpoint: &Endpoint,
    address: Address,
    nonce: Nonce,
    own: &[TxHash],
    finality: Finality,
) -> Result<Option<Receipt>, CallFailure> {
    if own.is_empty() {
        return Ok(None);
    }
    let at = final_at(endpoint, finality).await?;
    let slot = SlotQuery { nonce, hashes: own.to_vec(), mined_at: None };
    let mut seen = Seen::new(None);
    ask(endpoint, address, at, BlockNumber(u64::MAX), &[slot], &mut seen).await?;
    let fresh = seen.to_prove();
    if !fresh.is_empty() {
        ask(endpoint, address, at, BlockNumber(u64::MAX), &fresh, &mut seen).await?;
    }
    prove_by_parents(endpoint, address, at, &mut seen).await;
    Ok(seen.finals.get(&nonce).copied())
}

/// Asks this endpoint about a transaction that used a nonce in a final block. It agrees if the block is final and
/// canonical, the count there is past the nonce, and the transaction is in the block.
pub(crate) async fn of_use(
    endpoint: &Endpoint,
    address: Address,
    nonce: Nonce,
    used: (TxHash, BlockRef),
    finality: Finality,
    now: Millis,
) -> Result<Corroboration, CallFailure> {
    let (hash, block) = used;
    let at = final_at(endpoint, finality).await?;
    let mut calls = at.pair_calls(address).to_vec();
    calls.push(Call::new(BLOCK, json!([quantity::hex_number(block.number.0), true])));
    let is_one_request = endpoint.batch_items() >= calls.len();
    let mut answers = whole_request(endpoint.batch(&calls).await)?.into_iter();
    let is_one_request = is_one_request && endpoint.batch_items() >= calls.len();
    let mut next = || answers.next().unwrap_or(Err(CallFailure::Unanswered));
    let count = need(next(), COUNT, quantity::number)?;
    let top = need(next(), BLOCK, |block| Some(block.clone()))?;
    let top_made_at = made_at(&top);
    let top = read_block(&top).ok_or(CallFailure::Malformed(BLOCK))?;
    if top.number < block.number {
        return Ok(if is_fresh(top_made_at, now) { Corroboration::NotYet } else { Corroboration::Silent });
    }
    let value = need(next(), BLOCK, |block| Some(block.clone()))?;
    let Some(own) = read_block(&value).filter(|own| own.number == block.number) else {
        return Ok(Corroboration::Silent);
    };
    if own != block || count <= nonce.0 {
        return Ok(Corroboration::Contradicts);
    }
    let Some(txs) = value.get("transactions").and_then(Value::as_array) else { return Ok(Corroboration::Silent) };
    let is_it = |tx: &&Value| tx.get("hash").and_then(quantity::tx_hash) == Some(hash);
    let Some(tx) = txs.iter().find(is_it) else { return Ok(Corroboration::Contradicts) };
    if !is_use(tx, address, nonce) {
        return Ok(Corroboration::Contradicts);
    }
    if is_one_request {
        return Ok(Corroboration::Agrees);
    }
    let line = parents::line(endpoint, address, at, block.number).await?;
    Ok(if line.holds(&block) && nonce < line.nonce { Corroboration::Agrees } else { Corroboration::Silent })
}

/// Whether a transaction uses this nonce of this address.
pub(crate) fn is_use(tx: &Value, address: Address, nonce: Nonce) -> bool {
    tx.get("from").and_then(quantity::address) == Some(address)
        && tx.get("nonce").and_then(quantity::number) == Some(nonce.0)
}
