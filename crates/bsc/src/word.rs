//! One endpoint's word on a fact that another endpoint showed, or that is searched for.
//!
//! Read next: `evidence.rs`, [`crate::chain`].

use serde_json::{Value, json};
use signpost_txmgr::machine::Word;
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
) -> Result<Vec<Word>, CallFailure> {
    let at = final_at(endpoint, finality).await?;
    let slots = query.finals.iter().map(|(nonce, receipt)| SlotQuery {
        nonce: *nonce,
        hashes: vec![receipt.tx_hash],
        mined_at: Some(receipt.block.number),
    });
    let mut seen = Seen::new(None);
    ask(endpoint, query.address, at, BlockNumber(u64::MAX), &slots.collect::<Vec<_>>(), &mut seen).await?;
    prove_by_parents(endpoint, query.address, at, &mut seen).await;
    let mut words = Vec::with_capacity(query.finals.len());
    for (nonce, receipt) in &query.finals {
        words.push(word(endpoint, &seen, (*nonce, receipt), query.now).await);
    }
    Ok(words)
}

async fn word(endpoint: &Endpoint, seen: &Seen, (nonce, receipt): (Nonce, &Receipt), now: Millis) -> Word {
    let same = |own: &Receipt| own.block == receipt.block && own.succeeded == receipt.succeeded;
    if let Some(own) = seen.finals.get(&nonce) {
        return if same(own) { Word::Agrees } else { Word::Contradicts };
    }
    let Some(pair) = seen.last_pair else { return Word::Silent };
    if pair.block.number < receipt.block.number {
        return if is_fresh(seen.final_made_at, now) { Word::NotYet } else { Word::Silent };
    }
    let Some(block) = seen.canonical.get(&receipt.block.number) else { return Word::Silent };
    if *block != receipt.block || pair.nonce <= nonce {
        return Word::Contradicts;
    }
    let found = seen.found().find(|(at, _)| *at == nonce).map(|(_, own)| own);
    match found {
        Some(own) if same(&own) => Word::Silent,
        Some(_) => Word::Contradicts,
        // The endpoint has the block but gives no receipt: is the transaction in the block?
        None => match seen.txs.get(&block.hash) {
            Some(txs) if !txs.contains(&receipt.tx_hash) => Word::Contradicts,
            Some(_) => match block_receipt(endpoint, block, receipt.tx_hash).await {
                Some(own) if same(&own) => Word::Agrees,
                Some(_) => Word::Contradicts,
                None => Word::Silent,
            },
            None => Word::Silent,
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
pub(crate) async fn use_word(
    endpoint: &Endpoint,
    address: Address,
    nonce: Nonce,
    used: (TxHash, BlockRef),
    finality: Finality,
    now: Millis,
) -> Result<Word, CallFailure> {
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
        return Ok(if is_fresh(top_made_at, now) { Word::NotYet } else { Word::Silent });
    }
    let value = need(next(), BLOCK, |block| Some(block.clone()))?;
    let Some(own) = read_block(&value).filter(|own| own.number == block.number) else { return Ok(Word::Silent) };
    if own != block || count <= nonce.0 {
        return Ok(Word::Contradicts);
    }
    let Some(txs) = value.get("transactions").and_then(Value::as_array) else { return Ok(Word::Silent) };
    let is_it = |tx: &&Value| tx.get("hash").and_then(quantity::tx_hash) == Some(hash);
    let Some(tx) = txs.iter().find(is_it) else { return Ok(Word::Contradicts) };
    if !is_use(tx, address, nonce) {
        return Ok(Word::Contradicts);
    }
    if is_one_request {
        return Ok(Word::Agrees);
    }
    let line = parents::line(endpoint, address, at, block.number).await?;
    Ok(if line.holds(&block) && nonce < line.nonce { Word::Agrees } else { Word::Silent })
}

/// Whether a transaction uses this nonce of this address.
pub(crate) fn is_use(tx: &Value, address: Address, nonce: Nonce) -> bool {
    tx.get("from").and_then(quantity::address) == Some(address)
        && tx.get("nonce").and_then(quantity::number) == Some(nonce.0)
}
