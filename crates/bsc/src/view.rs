//! One round's view of an account and its open slots, from one endpoint.
//!
//! Two requests as a rule: heads and counts; then receipts and the blocks at the heights they were seen at. A third
//! one when a receipt is final the first time it is seen.
//!
//! **Evidence.** One URL may have several nodes behind it, on different branches. So a receipt is called final only
//! if one HTTP answer shows all of it: the final block, the account's count there, which is past the nonce, the
//! canonical block at the receipt's height, and the receipt in that block. An endpoint that takes fewer than
//! [`EVIDENCE_CALLS`] calls a request cannot show that; there the blocks are followed by their parents' hashes from
//! the final one down to the receipt's, which two branches cannot do together.
//!
//! A receipt counts only if it is of the hash that was asked for. `null` is "this node knows
//! none"; an error, or no answer, is "unknown".

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use signpost_txmgr::machine::{ReceiptView, Word};
use signpost_txmgr::ports::{ChainView, Counts, Finality, SlotQuery, ViewQuery, WitnessQuery};
use signpost_txmgr::record::{BlockRef, Receipt};
use signpost_txmgr::units::{Address, BlockHash, BlockNumber, Gas, Nonce, TxHash};

use crate::chain::need;
use crate::endpoints::Endpoint;
use crate::price::PriceSeen;
use crate::quantity;
use crate::rpc::{Answer, Call, Failure};

const BLOCK: &str = "eth_getBlockByNumber";
const BLOCK_BY_HASH: &str = "eth_getBlockByHash";
const BLOCK_RECEIPTS: &str = "eth_getBlockReceipts";
const COUNT: &str = "eth_getTransactionCount";
const RECEIPT: &str = "eth_getTransactionReceipt";

/// Calls that one answer must hold to show one receipt final: count and final block, the receipt and its block.
const EVIDENCE_CALLS: usize = 4;

/// Blocks followed by their parents' hashes in one round: about two minutes of them.
const WALK_BLOCKS: u64 = 256;

/// The heads of the chain and the account's count at the newest block.
struct Heads {
    latest: BlockRef,
    latest_nonce: Nonce,
    /// Final block and count there, where the node tells them together with the heads.
    finalized: Option<FinalPair>,
}

/// A final block and the account's count there, from one answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FinalPair {
    pub(crate) block: BlockRef,
    pub(crate) nonce: Nonce,
}

/// How the final block is asked for.
#[derive(Debug, Clone, Copy)]
enum FinalAt {
    Tag,
    Height(u64),
}

impl FinalAt {
    fn of(finality: Finality, latest: BlockNumber) -> Self {
        match finality {
            Finality::Finalized => Self::Tag,
            Finality::Confirmations(count) => Self::Height(latest.0.saturating_sub(count)),
        }
    }

    fn param(self) -> Value {
        match self {
            Self::Tag => json!("finalized"),
            Self::Height(height) => quantity::hex_number(height),
        }
    }

    fn pair_calls(self, address: Address) -> [Call; 2] {
        // The count first: a node that answers in order then never shows one that is ahead of its block.
        [Call::new(COUNT, json!([address.lower(), self.param()])), Call::new(BLOCK, json!([self.param(), false]))]
    }
}

/// What one node says now.
pub(crate) async fn view(
    endpoint: &Endpoint,
    query: &ViewQuery,
    finality: Finality,
    price: &PriceSeen,
) -> Result<ChainView, Failure> {
    let heads = heads(endpoint, query.address, finality, price).await?;
    endpoint.note_height(heads.latest.number.0);
    let at = FinalAt::of(finality, heads.latest.number);
    let passed = heads.latest_nonce.max(query.latest_seen);
    let slots: Vec<SlotQuery> = query.slots.iter().filter(|slot| slot.nonce < passed).cloned().collect();
    let mut seen = Seen::new(heads.finalized);
    if let Some(pair) = heads.finalized {
        seen.canonical.insert(pair.block.number, pair.block);
    }
    seen.canonical.insert(heads.latest.number, heads.latest);
    ask(endpoint, query.address, at, heads.latest.number, &slots, &mut seen).await?;
    let fresh = seen.to_prove();
    if !fresh.is_empty() {
        ask(endpoint, query.address, at, heads.latest.number, &fresh, &mut seen).await?;
    }
    prove_by_parents(endpoint, query.address, at, &mut seen).await?;
    let pair = seen.last_pair.ok_or(Failure::Nonsense(BLOCK))?;
    Ok(ChainView {
        source: endpoint.name().to_owned(),
        latest: heads.latest,
        finalized: pair.block,
        latest_nonce: heads.latest_nonce,
        finalized_nonce: pair.nonce,
        receipts: seen.answers.iter().map(|(nonce, answers)| (*nonce, seen.slot_view(answers))).collect(),
        finals: seen.finals.into_iter().collect(),
        canonical: seen.canonical.into_values().collect(),
        price: price.last(),
    })
}

async fn heads(endpoint: &Endpoint, address: Address, finality: Finality, price: &PriceSeen) -> Result<Heads, Failure> {
    let mut calls = match finality {
        Finality::Finalized => FinalAt::Tag.pair_calls(address).to_vec(),
        Finality::Confirmations(_) => Vec::new(),
    };
    calls.push(Call::new(COUNT, json!([address.lower(), "latest"])));
    calls.push(Call::new(BLOCK, json!(["latest", false])));
    let price_calls = price.calls_if_due();
    let asks_price = !price_calls.is_empty();
    calls.extend(price_calls);
    let mut answers = whole_request(endpoint.batch(&calls).await)?.into_iter();
    let mut next = || answers.next().unwrap_or(Err(Failure::Unanswered));
    let finalized = match finality {
        Finality::Finalized => {
            let nonce = Nonce(need(next(), COUNT, quantity::number)?);
            Some(FinalPair { nonce, block: need(next(), BLOCK, read_block)? })
        }
        Finality::Confirmations(_) => None,
    };
    let latest_nonce = Nonce(need(next(), COUNT, quantity::number)?);
    let latest = need(next(), BLOCK, read_block)?;
    if asks_price {
        price.learn(next().ok().as_ref(), next().ok().as_ref());
    }
    if finalized.is_some_and(|pair| pair.block.number > latest.number) {
        return Err(Failure::Nonsense("eth_getBlockByNumber: the finalized block is above the latest"));
    }
    Ok(Heads { latest, latest_nonce, finalized })
}

/// The counts of an address. A node that does not know the final block, or not the state there any more, gives the
/// other two.
pub(crate) async fn counts(endpoint: &Endpoint, address: Address, finality: Finality) -> Result<Counts, Failure> {
    let call = |at: Value| Call::new(COUNT, json!([address.lower(), at]));
    let calls = [call(json!("latest")), call(json!("pending")), call(final_at(endpoint, finality).await?.param())];
    let mut answers = whole_request(endpoint.batch(&calls).await)?.into_iter();
    let mut next = || need(answers.next().unwrap_or(Err(Failure::Unanswered)), COUNT, quantity::number).map(Nonce);
    let (latest, pending) = (next()?, next()?);
    let finalized = match next() {
        Ok(finalized) => Some(finalized),
        Err(Failure::Node(_) | Failure::Unanswered) => None,
        Err(failure) => return Err(failure),
    };
    Ok(Counts { finalized, latest, pending })
}

/// The final block and the account's count there.
pub(crate) async fn final_pair(
    endpoint: &Endpoint,
    address: Address,
    finality: Finality,
) -> Result<FinalPair, Failure> {
    let at = final_at(endpoint, finality).await?;
    let mut answers = whole_request(endpoint.batch(&at.pair_calls(address)).await)?.into_iter();
    let mut next = || answers.next().unwrap_or(Err(Failure::Unanswered));
    let nonce = Nonce(need(next(), COUNT, quantity::number)?);
    Ok(FinalPair { nonce, block: need(next(), BLOCK, read_block)? })
}

async fn final_at(endpoint: &Endpoint, finality: Finality) -> Result<FinalAt, Failure> {
    match finality {
        Finality::Finalized => Ok(FinalAt::Tag),
        Finality::Confirmations(_) => {
            let latest = need(endpoint.call("eth_blockNumber", json!([])).await, "eth_blockNumber", quantity::number)?;
            Ok(FinalAt::of(finality, BlockNumber(latest)))
        }
    }
}

/// What an endpoint was seen to say about slots.
pub(crate) struct Seen {
    /// For each slot what was said of each of its attempts.
    answers: BTreeMap<Nonce, Vec<ReceiptView>>,
    /// The blocks at the heights asked for.
    canonical: BTreeMap<BlockNumber, BlockRef>,
    /// The transactions of those blocks.
    txs: BTreeMap<BlockHash, Vec<TxHash>>,
    /// What was shown final.
    finals: BTreeMap<Nonce, Receipt>,
    last_pair: Option<FinalPair>,
}

impl Seen {
    fn new(pair: Option<FinalPair>) -> Self {
        Self {
            answers: BTreeMap::new(),
            canonical: BTreeMap::new(),
            txs: BTreeMap::new(),
            finals: BTreeMap::new(),
            last_pair: pair,
        }
    }

    fn found(&self) -> impl Iterator<Item = (Nonce, Receipt)> {
        self.answers.iter().flat_map(|(nonce, answers)| {
            answers.iter().filter_map(|answer| match answer {
                ReceiptView::Found(receipt) => Some((*nonce, *receipt)),
                ReceiptView::Absent | ReceiptView::Unknown => None,
            })
        })
    }

    /// The receipts that look final and were not shown so.
    fn to_prove(&self) -> Vec<SlotQuery> {
        let Some(pair) = self.last_pair else { return Vec::new() };
        let is_open = |(nonce, receipt): &(Nonce, Receipt)| {
            !self.finals.contains_key(nonce)
                && receipt.block.number <= pair.block.number
                && self.canonical.get(&receipt.block.number).is_none_or(|block| *block == receipt.block)
        };
        let open = self.found().filter(is_open).map(|(nonce, receipt)| SlotQuery {
            nonce,
            hashes: vec![receipt.tx_hash],
            mined_at: Some(receipt.block.number),
        });
        open.collect()
    }

    /// A slot's receipt: that of any attempt. Two of them can only be on two branches: then the canonical one.
    fn slot_view(&self, attempts: &[ReceiptView]) -> ReceiptView {
        let mut found = attempts.iter().filter_map(|attempt| match attempt {
            ReceiptView::Found(receipt) => Some(receipt),
            ReceiptView::Absent | ReceiptView::Unknown => None,
        });
        let is_canonical = |receipt: &&Receipt| self.canonical.get(&receipt.block.number) == Some(&receipt.block);
        if let Some(receipt) = found.clone().find(is_canonical).or_else(|| found.next()) {
            ReceiptView::Found(*receipt)
        } else if attempts.is_empty() || attempts.contains(&ReceiptView::Unknown) {
            ReceiptView::Unknown
        } else {
            ReceiptView::Absent
        }
    }
}

/// Part of what is asked in one request.
#[derive(Default)]
struct Part {
    receipts: Vec<(Nonce, TxHash)>,
    heights: BTreeSet<BlockNumber>,
}

impl Part {
    fn calls(&self) -> usize {
        self.receipts.len().saturating_add(self.heights.len())
    }
}

/// Cuts what is to be asked so that each part fits one request beside the final pair, and what is asked of a slot
/// is together with the block it was seen in.
fn parts(slots: &[SlotQuery], room: usize, needs_no_block: impl Fn(BlockNumber) -> bool) -> Vec<Part> {
    let room = room.max(2);
    let mut parts = vec![Part::default()];
    for slot in slots {
        let height = slot.mined_at.filter(|height| !needs_no_block(*height));
        for hashes in slot.hashes.chunks(room.saturating_sub(1)) {
            let of_slot = hashes.len().saturating_add(usize::from(height.is_some()));
            let is_full = parts.last().is_none_or(|part| part.calls().saturating_add(of_slot) > room);
            if is_full {
                parts.push(Part::default());
            }
            if let Some(part) = parts.last_mut() {
                part.receipts.extend(hashes.iter().map(|hash| (slot.nonce, *hash)));
                part.heights.extend(height);
            }
        }
    }
    parts.retain(|part| part.calls() > 0);
    parts
}

/// Asks for receipts and for the blocks they were seen in, with the final pair where one of them may be final.
async fn ask(
    endpoint: &Endpoint,
    address: Address,
    at: FinalAt,
    latest: BlockNumber,
    slots: &[SlotQuery],
    seen: &mut Seen,
) -> Result<(), Failure> {
    let limit = endpoint.batch_items();
    // Two branches may meet at one URL: the newest block is only a shortcut for what cannot be final yet.
    let parts = parts(slots, limit.saturating_sub(2), |height| height >= latest);
    let pair = at.pair_calls(address);
    let asks_pair = |part: &Part| {
        let is_final = |height: &BlockNumber| seen.last_pair.is_none_or(|pair| *height <= pair.block.number);
        limit >= EVIDENCE_CALLS && part.heights.iter().any(is_final)
    };
    let with_pair: Vec<bool> = parts.iter().map(asks_pair).collect();
    if seen.last_pair.is_none() && !with_pair.contains(&true) {
        let mut answers = whole_request(endpoint.batch(&pair).await)?.into_iter();
        let nonce = Nonce(need(answers.next().unwrap_or(Err(Failure::Unanswered)), COUNT, quantity::number)?);
        let block = need(answers.next().unwrap_or(Err(Failure::Unanswered)), BLOCK, read_block)?;
        seen.last_pair = Some(FinalPair { block, nonce });
    }
    for (part, with_pair) in parts.into_iter().zip(with_pair) {
        let mut calls: Vec<Call> = if with_pair { pair.to_vec() } else { Vec::new() };
        calls.extend(part.receipts.iter().map(|(_, hash)| Call::new(RECEIPT, json!([hash.to_string()]))));
        calls.extend(part.heights.iter().map(|height| block_call(*height)));
        let is_one_request = endpoint.batch_items() >= calls.len();
        let mut answers = whole_request(endpoint.batch(&calls).await)?.into_iter();
        let is_one_request = is_one_request && endpoint.batch_items() >= calls.len();
        let mut next = || answers.next().unwrap_or(Err(Failure::Unanswered));
        let pair = if with_pair {
            let (nonce, block) = (next(), next());
            let nonce = need(nonce, COUNT, quantity::number).ok().map(Nonce);
            let block = need(block, BLOCK, read_block).ok();
            nonce.zip(block).map(|(nonce, block)| FinalPair { block, nonce })
        } else {
            None
        };
        let receipts: Vec<(Nonce, ReceiptView)> =
            part.receipts.iter().map(|(nonce, hash)| (*nonce, receipt_view(next(), *hash))).collect();
        let mut blocks: BTreeMap<BlockNumber, BlockRef> = BTreeMap::new();
        for height in &part.heights {
            let Ok(value) = next() else { continue };
            if let Some(block) = read_block(&value).filter(|block| block.number == *height) {
                blocks.insert(*height, block);
                seen.txs.insert(block.hash, tx_hashes(&value));
            }
        }
        if let Some(pair) = pair.filter(|_| is_one_request) {
            blocks.entry(pair.block.number).or_insert(pair.block);
            let is_final = |nonce: Nonce, receipt: &Receipt| {
                nonce < pair.nonce
                    && receipt.block.number <= pair.block.number
                    && blocks.get(&receipt.block.number) == Some(&receipt.block)
            };
            seen.finals.extend(receipts.iter().filter_map(|(nonce, receipt)| match receipt {
                ReceiptView::Found(receipt) if is_final(*nonce, receipt) => Some((*nonce, *receipt)),
                ReceiptView::Found(_) | ReceiptView::Absent | ReceiptView::Unknown => None,
            }));
        }
        seen.last_pair = pair.or(seen.last_pair);
        seen.canonical.extend(blocks);
        for (nonce, receipt) in receipts {
            seen.answers.entry(nonce).or_default().push(receipt);
        }
    }
    Ok(())
}

/// Where one answer cannot hold the evidence: the blocks from the final one down by their parents' hashes.
async fn prove_by_parents(endpoint: &Endpoint, address: Address, at: FinalAt, seen: &mut Seen) -> Result<(), Failure> {
    if endpoint.batch_items() >= EVIDENCE_CALLS {
        return Ok(());
    }
    let open = seen.to_prove();
    let Some(lowest) = open.iter().filter_map(|slot| slot.mined_at).min() else { return Ok(()) };
    let value = need(endpoint.call(BLOCK, json!([at.param(), false])).await, BLOCK, |block| Some(block.clone()))?;
    let top = read_block(&value).ok_or(Failure::Nonsense(BLOCK))?;
    let count = Call::new(COUNT, json!([address.lower(), quantity::hex_number(top.number.0)]));
    let nonce = Nonce(need(endpoint.call(count.method, count.params).await, COUNT, quantity::number)?);
    let mut line = BTreeMap::from([(top.number, top)]);
    let (mut block, mut value) = (top, value);
    while block.number > lowest && top.number.0.saturating_sub(block.number.0) < WALK_BLOCKS {
        let parent = value.get("parentHash").and_then(quantity::block_hash).ok_or(Failure::Nonsense(BLOCK))?;
        let answer = endpoint.call(BLOCK_BY_HASH, json!([parent.to_string(), false])).await;
        value = need(answer, BLOCK_BY_HASH, |block| Some(block.clone()))?;
        let below =
            read_block(&value).filter(|it| it.hash == parent && it.number.0.checked_add(1) == Some(block.number.0));
        block = below.ok_or(Failure::Nonsense(BLOCK_BY_HASH))?;
        line.insert(block.number, block);
    }
    let is_final =
        |(at, receipt): &(Nonce, Receipt)| *at < nonce && line.get(&receipt.block.number) == Some(&receipt.block);
    let shown: Vec<(Nonce, Receipt)> = seen.found().filter(is_final).collect();
    seen.finals.extend(shown);
    Ok(())
}

/// What this endpoint says of receipts that another one showed final.
pub(crate) async fn witness(
    endpoint: &Endpoint,
    query: &WitnessQuery,
    finality: Finality,
) -> Result<Vec<Word>, Failure> {
    let at = final_at(endpoint, finality).await?;
    let slots = query.finals.iter().map(|(nonce, receipt)| SlotQuery {
        nonce: *nonce,
        hashes: vec![receipt.tx_hash],
        mined_at: Some(receipt.block.number),
    });
    let mut seen = Seen::new(None);
    ask(endpoint, query.address, at, BlockNumber(u64::MAX), &slots.collect::<Vec<_>>(), &mut seen).await?;
    prove_by_parents(endpoint, query.address, at, &mut seen).await?;
    let mut words = Vec::with_capacity(query.finals.len());
    for (nonce, receipt) in &query.finals {
        words.push(word(endpoint, &seen, *nonce, receipt).await);
    }
    Ok(words)
}

async fn word(endpoint: &Endpoint, seen: &Seen, nonce: Nonce, receipt: &Receipt) -> Word {
    let same = |own: &Receipt| own.block == receipt.block && own.succeeded == receipt.succeeded;
    if let Some(own) = seen.finals.get(&nonce) {
        return if same(own) { Word::Agrees } else { Word::Contradicts };
    }
    // It is not that far, or does not say how far it is.
    let Some(pair) = seen.last_pair.filter(|pair| pair.block.number >= receipt.block.number) else {
        return Word::Silent;
    };
    let Some(block) = seen.canonical.get(&receipt.block.number) else { return Word::Silent };
    if *block != receipt.block || pair.nonce <= nonce {
        return Word::Contradicts;
    }
    let found = seen.found().find(|(at, _)| *at == nonce).map(|(_, own)| own);
    match found {
        Some(own) if same(&own) => Word::Silent,
        Some(_) => Word::Contradicts,
        // It has the block, and gives no receipt: is the transaction in it?
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

/// A transaction's receipt from all receipts of its block, for a node that does not give it by its hash.
pub(crate) async fn block_receipt(endpoint: &Endpoint, block: &BlockRef, hash: TxHash) -> Option<Receipt> {
    let answer = endpoint.call(BLOCK_RECEIPTS, json!([block.hash.to_string()])).await.ok()?;
    let receipts = answer.as_array()?.iter().filter_map(|receipt| read_receipt(receipt, hash));
    receipts.into_iter().find(|receipt| receipt.block == *block)
}

/// The receipt of one of these attempts that this endpoint shows final, if it shows one.
pub(crate) async fn own_receipt(
    endpoint: &Endpoint,
    address: Address,
    nonce: Nonce,
    own: &[TxHash],
    finality: Finality,
) -> Result<Option<Receipt>, Failure> {
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
    prove_by_parents(endpoint, address, at, &mut seen).await?;
    Ok(seen.finals.get(&nonce).copied())
}

/// What this endpoint says of a transaction that used a nonce in a final block: its block is final and canonical,
/// the count there is past the nonce, and the transaction is in it.
pub(crate) async fn use_word(
    endpoint: &Endpoint,
    address: Address,
    nonce: Nonce,
    used: (TxHash, BlockRef),
    finality: Finality,
) -> Result<Word, Failure> {
    let (hash, block) = used;
    let at = final_at(endpoint, finality).await?;
    let mut calls = at.pair_calls(address).to_vec();
    calls.push(Call::new(BLOCK, json!([quantity::hex_number(block.number.0), true])));
    let is_one_request = endpoint.batch_items() >= calls.len();
    let mut answers = whole_request(endpoint.batch(&calls).await)?.into_iter();
    let is_one_request = is_one_request && endpoint.batch_items() >= calls.len();
    let mut next = || answers.next().unwrap_or(Err(Failure::Unanswered));
    let count = need(next(), COUNT, quantity::number)?;
    let top = need(next(), BLOCK, read_block)?;
    if top.number < block.number {
        return Ok(Word::Silent);
    }
    let value = need(next(), BLOCK, |block| Some(block.clone()))?;
    let Some(own) = read_block(&value).filter(|own| own.number == block.number) else { return Ok(Word::Silent) };
    if own != block || count <= nonce.0 {
        return Ok(Word::Contradicts);
    }
    let Some(txs) = value.get("transactions").and_then(Value::as_array) else { return Ok(Word::Silent) };
    let is_it = |tx: &&Value| tx.get("hash").and_then(quantity::tx_hash) == Some(hash);
    Ok(match txs.iter().find(is_it) {
        Some(tx) if crate::search::is_use(tx, address, nonce) && is_one_request => Word::Agrees,
        Some(tx) if crate::search::is_use(tx, address, nonce) => Word::Silent,
        Some(_) | None => Word::Contradicts,
    })
}

/// The answers, unless a request failed as a whole: then another endpoint is better than half a view.
fn whole_request(answers: Vec<Answer>) -> Result<Vec<Answer>, Failure> {
    match answers.iter().find_map(|answer| answer.as_ref().err().filter(|failure| failure.is_of_the_request())) {
        Some(failure) => Err(failure.clone()),
        None => Ok(answers),
    }
}

fn block_call(height: BlockNumber) -> Call {
    Call::new(BLOCK, json!([quantity::hex_number(height.0), false]))
}

fn read_block(value: &Value) -> Option<BlockRef> {
    quantity::block_ref(value, "number", "hash")
}

/// The hashes of a block's transactions, as far as it names them.
fn tx_hashes(block: &Value) -> Vec<TxHash> {
    let txs = block.get("transactions").and_then(Value::as_array);
    txs.into_iter().flatten().filter_map(quantity::tx_hash).collect()
}

pub(crate) fn receipt_view(answer: Answer, hash: TxHash) -> ReceiptView {
    match answer {
        Ok(Value::Null) => ReceiptView::Absent,
        Ok(value) => read_receipt(&value, hash).map_or_else(
            || {
                tracing::warn!(tx_hash = %hash, "a receipt that cannot be read, or of something else");
                ReceiptView::Unknown
            },
            ReceiptView::Found,
        ),
        Err(failure) => {
            tracing::debug!(tx_hash = %hash, %failure, "no answer about a receipt");
            ReceiptView::Unknown
        }
    }
}

/// What a verdict needs must be there: the transaction's hash, its block and its status. The rest is for display,
/// and absent where it is missing or odd. A hash names its sender, so `from` is not asked.
fn read_receipt(value: &Value, hash: TxHash) -> Option<Receipt> {
    if quantity::tx_hash(value.get("transactionHash")?)? != hash {
        return None;
    }
    let succeeded = match quantity::number(value.get("status")?)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some(Receipt {
        tx_hash: hash,
        block: quantity::block_ref(value, "blockNumber", "blockHash")?,
        succeeded,
        gas_used: value.get("gasUsed").and_then(quantity::number).map(Gas),
        effective_gas_price: value.get("effectiveGasPrice").and_then(quantity::wei),
        contract: value.get("contractAddress").and_then(quantity::address),
    })
}
