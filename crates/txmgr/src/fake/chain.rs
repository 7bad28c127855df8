//! A chain in memory that mines by price: a pool per account with a limit, replacement rules, gaps and balances,
//! blocks with hashes, finality two blocks behind, reorganisations, foreign and reverting transactions.
//!
//! Raw bytes are decoded and their sender recovered as a node does it, so wrong bytes, a high `s` and
//! a wrong parity are noticed. Blocks come only by [`MemoryChain::mine`]. A call whose data begins
//! with [`REVERT_SELECTOR`] or [`PANIC_SELECTOR`] reverts, with that data as its revert data.
//! Nothing is executed. Read next: [`super::journal`].

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use super::decode::decode;
use super::gate::{Fate, Gate};
use super::journal::{Entry, Journal};
use super::lies::{self, FAR_AHEAD};
use super::world::{NodeMood, PoolTx, Second, World};
use crate::machine::{ReceiptView, Word};
use crate::ports::{
    Chain, ChainView, Counts, Happened, NonceUse, PortError, SlotQuery, UseQuery, ViewQuery, WitnessQuery,
};
use crate::record::{BlockRef, Foreign, Receipt, SendAnswer, SendClass};
use crate::tx::{Intent, RawTx};
use crate::units::{Address, BlockNumber, ChainId, Nonce, TxHash, U256, Wei};

pub use super::world::{Mined, Orphans, PANIC_SELECTOR, POOL_PER_ACCOUNT, REVERT_SELECTOR};

/// Senders that were recovered before, by transaction hash: shared by simulations that would
/// otherwise recover the same ones again.
pub type SenderCache = Arc<Mutex<HashMap<TxHash, Option<Address>>>>;

/// A chain in memory, seen through one node.
#[derive(Debug, Clone)]
pub struct MemoryChain {
    world: Arc<Mutex<World>>,
    senders: SenderCache,
    trusted: Option<Address>,
    gate: Gate,
    journal: Journal,
}

impl MemoryChain {
    /// A chain with its genesis block alone; every address is rich.
    #[must_use]
    pub fn new(chain_id: ChainId, gate: Gate, journal: Journal) -> Self {
        let world = Arc::new(Mutex::new(World::new(chain_id)));
        Self { world, senders: SenderCache::default(), trusted: None, gate, journal }
    }

    /// The same chain, taking senders it recovered before from `senders`.
    #[must_use]
    pub fn with_senders(mut self, senders: SenderCache) -> Self {
        self.senders = senders;
        self
    }

    /// The same chain, taking every transaction as this sender's without a look at the signature: for
    /// benchmarks of something else.
    #[must_use]
    pub fn trusting(mut self, sender: Address) -> Self {
        self.trusted = Some(sender);
        self
    }

    /// The same chain behind another gate.
    #[must_use]
    pub fn behind(&self, gate: Gate) -> Self {
        Self { gate, ..self.clone() }
    }

    /// Mines a block of everything in the pool that can go; its height.
    pub fn mine(&self) -> BlockNumber {
        BlockNumber(self.world().mine())
    }

    /// Replaces the newest blocks, at most `depth` and never a finalized one, by as many empty ones.
    /// Gives how many it were.
    pub fn reorg(&self, depth: u64, orphans: Orphans) -> u64 {
        self.world().reorg(depth, orphans)
    }

    /// Drops a transaction from the pool.
    pub fn evict(&self, hash: TxHash) -> bool {
        self.world().evict(hash)
    }

    /// Drops everything from the pool.
    pub fn evict_all(&self) {
        self.world().pool.clear();
    }

    /// The hashes in the pool, by sender and nonce.
    #[must_use]
    pub fn pool(&self) -> Vec<TxHash> {
        self.world().pool.values().map(|tx| tx.hash).collect()
    }

    /// Puts a transaction that was not signed here into the pool, over whatever has the nonce.
    pub fn foreign(&self, sender: Address, nonce: Nonce) -> TxHash {
        self.world().put_foreign(sender, nonce)
    }

    /// Sets the count of an address that has no transaction yet.
    pub fn set_nonce(&self, address: Address, nonce: Nonce) {
        self.world().account(address).start(nonce.0);
    }

    /// Sets a balance.
    pub fn set_balance(&self, address: Address, balance: Wei) {
        self.world().account(address).balance = balance.0;
    }

    /// Gives an address code (a delegation), or takes it away.
    pub fn set_code(&self, address: Address, has_code: bool) {
        self.world().account(address).has_code = has_code;
    }

    /// Sets the least price the pool takes.
    pub fn set_least_price(&self, price: Wei) {
        self.world().least_price = price;
    }

    /// Sets the least price that is mined. What pays less is taken, waits in the pool, and holds back what is above it.
    pub fn set_mined_price(&self, price: Wei) {
        self.world().mined_price = price;
    }

    /// The next sends are answered so, one each and in this order, and nothing of them is kept.
    pub fn answer_next(&self, classes: impl IntoIterator<Item = SendClass>) {
        self.world().script.extend(classes);
    }

    /// Sets the price the node suggests.
    pub fn set_price(&self, price: Option<Wei>) {
        self.world().price = price;
    }

    /// Puts a second node beside the first, or takes it away.
    pub fn set_second(&self, second: Option<Second>) {
        self.world().second = second;
    }

    /// Sets how the node is disposed.
    pub fn set_mood(&self, mood: NodeMood) {
        self.world().mood = mood;
    }

    /// Everything in canonical blocks, in order.
    #[must_use]
    pub fn mined(&self) -> Vec<Mined> {
        self.world().blocks.iter().flat_map(|block| block.txs.iter().cloned()).collect()
    }

    /// The canonical block at a height.
    #[must_use]
    pub fn block(&self, number: BlockNumber) -> Option<BlockRef> {
        self.world().block_ref(number.0)
    }

    /// The true newest block.
    #[must_use]
    pub fn head(&self) -> BlockRef {
        let world = self.world();
        world.block_ref(world.height()).expect("the genesis block is always there")
    }

    /// The true height of the newest finalized block.
    #[must_use]
    pub fn finalized(&self) -> BlockNumber {
        BlockNumber(self.world().finalized)
    }

    /// The transaction that truly used a nonce, in a canonical block.
    #[must_use]
    pub fn used_by(&self, sender: Address, nonce: Nonce) -> Option<TxHash> {
        self.world().by_nonce.get(&(sender, nonce)).copied()
    }

    /// Whether a nonce was used in any block, one that was replaced since included.
    #[must_use]
    pub fn was_used(&self, sender: Address, nonce: Nonce) -> bool {
        self.world().used_once.contains(&(sender, nonce))
    }

    /// Where a transaction is mined, truly.
    #[must_use]
    pub fn receipt(&self, hash: TxHash) -> Option<Receipt> {
        let world = self.world();
        world.receipt(hash, world.height())
    }

    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn sender_of(&self, raw: &RawTx, signing_hash: impl FnOnce() -> Option<Address>) -> Option<Address> {
        if self.trusted.is_some() {
            return self.trusted;
        }
        *self.senders.lock().unwrap().entry(raw.hash).or_insert_with(signing_hash)
    }

    /// What the second node says of a final receipt that the first one shows.
    fn word(&self, address: Address, nonce: Nonce, receipt: &Receipt) -> Word {
        let world = self.world();
        match world.second {
            None => Word::Alone,
            Some(Second::Silent) => Word::Silent,
            Some(Second::Honest) if receipt.block.number.0 > world.finalized => Word::NotYet,
            Some(Second::Honest) => {
                let is_true = world.by_nonce.get(&(address, nonce)) == Some(&receipt.tx_hash)
                    && world.receipt(receipt.tx_hash, world.finalized) == Some(*receipt);
                // Where the honest one leads it is the liar that is asked, and it denies every other thing. What is not
                // true it showed itself, before the other one led; of that the honest one is asked.
                let is_denied = world.mood.second_leads && world.mood.lies.any() && !nonce.0.is_multiple_of(2);
                if is_true && !is_denied { Word::Agrees } else { Word::Contradicts }
            }
        }
    }

    /// What a node that lies says of the use of a nonce, and the other one of that.
    fn lie_of_use(&self, query: &UseQuery) -> Option<NonceUse> {
        let (lies, block) = {
            let world = self.world();
            if !world.mood.lies.receipts || world.mood.second_leads {
                return None;
            }
            (world.mood.lies, world.block_ref(world.finalized)?)
        };
        let block = if lies.blocks { lies::made_up(block.number) } else { block };
        if let (Some(hash), true) = (query.own.last(), query.nonce.0.is_multiple_of(2)) {
            let receipt = lies::receipt(*hash, block, true);
            return Some(NonceUse::Ours(receipt, self.word(query.address, query.nonce, &receipt)));
        }
        let used = Foreign { tx_hash: TxHash(block.hash.0), block };
        let word = match self.world().second {
            None => Word::Alone,
            Some(Second::Silent) => Word::Silent,
            Some(Second::Honest) => Word::Contradicts,
        };
        Some(NonceUse::Found(used, word))
    }

    /// What a node does with raw bytes.
    fn take(&self, raw: &RawTx, keeps: bool) -> SendAnswer {
        let Ok(decoded) = decode(&raw.bytes) else {
            return SendAnswer::new(SendClass::Refused, "rlp: value size exceeds available input length");
        };
        let recovered = || decoded.sender();
        let Some(sender) = self.sender_of(raw, recovered) else {
            return SendAnswer::new(SendClass::Misconfigured, "invalid transaction v, r, s values");
        };
        let tx = PoolTx::new(raw.hash, sender, decoded.nonce, decoded.intent, decoded.fee);
        self.world().submit(tx, keeps)
    }
}

impl Chain for MemoryChain {
    async fn chain_id(&self) -> Result<ChainId, PortError> {
        let pass = self.gate.enter("eth_chainId").await?;
        let chain_id = self.world().chain_id;
        pass.reply(chain_id).await
    }

    async fn view(&self, query: &ViewQuery) -> Result<ChainView, PortError> {
        let pass = self.gate.enter("view").await?;
        let view = {
            let mut world = self.world();
            let mood = world.mood;
            if mood.second_leads && world.second == Some(Second::Honest) {
                world.mood = NodeMood::default();
            }
            let mut view = view(&world, query);
            if world.mood.mixed {
                // What is final comes from one answer, the rest from several.
                world.mood.on_old_branch = true;
                let old = self::view(&world, query);
                (view.latest, view.receipts) = (old.latest, old.receipts);
            }
            world.mood.lies.tell(query, &mut view);
            world.mood = mood;
            view
        };
        pass.reply(view).await
    }

    async fn send(&self, raw: &RawTx) -> SendAnswer {
        self.journal.note(|| Entry::Sent(raw.clone()));
        let unknown = || SendAnswer::new(SendClass::Unknown, "no answer from the node");
        let pass = match self.gate.enter("eth_sendRawTransaction").await {
            Ok(pass) => pass,
            Err(error) if error.happened == Happened::Unknown => return unknown(),
            Err(_) => return SendAnswer::new(SendClass::Retry, "txpool is full"),
        };
        let keeps = pass.fate() != Fate::Swallow;
        let answer = self.take(raw, keeps);
        pass.reply(answer).await.unwrap_or_else(|_| unknown())
    }

    async fn revert_bytes(
        &self,
        _from: Address,
        intent: &Intent,
        _block: BlockRef,
    ) -> Result<Option<Vec<u8>>, PortError> {
        let pass = self.gate.enter("eth_call").await?;
        let bytes = super::world::reverts(intent).then(|| intent.data.to_vec());
        pass.reply(bytes).await
    }

    async fn witness(&self, query: &WitnessQuery) -> Vec<Word> {
        let words = || query.finals.iter().map(|(nonce, receipt)| self.word(query.address, *nonce, receipt)).collect();
        let silent = || vec![Word::Silent; query.finals.len()];
        match self.gate.enter("witness").await {
            Ok(pass) => pass.reply(words()).await.unwrap_or_else(|_| silent()),
            Err(_) => silent(),
        }
    }

    async fn nonce_use(&self, query: &UseQuery) -> Result<NonceUse, PortError> {
        let pass = self.gate.enter("nonce_use").await?;
        if let Some(answer) = self.lie_of_use(query) {
            return pass.reply(answer).await;
        }
        let used = {
            let world = self.world();
            // Of what is not final to the node itself it cannot say that it is.
            let upto = query.finalized.0.min(world.seen_finalized());
            let by_nonce = world.by_nonce.get(&(query.address, query.nonce)).filter(|_| !world.mood.pruned);
            by_nonce.and_then(|hash| world.receipt(*hash, upto))
        };
        // It has every block's state, so it looks at no block's transactions but those of the use.
        let found = used.map_or(NonceUse::NotFound(query.searched), |receipt| {
            let is_own = query.own.contains(&receipt.tx_hash);
            let word = self.word(query.address, query.nonce, &receipt);
            let used = Foreign { tx_hash: receipt.tx_hash, block: receipt.block };
            match (is_own, self.world().mood.hides_receipts) {
                (false, _) => NonceUse::Found(used, word),
                (true, true) => NonceUse::Unshown(used),
                (true, false) => NonceUse::Ours(receipt, word),
            }
        });
        pass.reply(found).await
    }

    async fn final_count(&self, address: Address) -> Result<(Nonce, Word), PortError> {
        let pass = self.gate.enter("final_count").await?;
        let answer = {
            let world = self.world();
            let mut first = world.seen_count(address, world.seen_finalized());
            if world.mood.lies.counts && !world.mood.second_leads {
                first = Nonce(first.0 + FAR_AHEAD);
            }
            match world.second {
                None => (first, Word::Alone),
                Some(Second::Silent) => (first, Word::Silent),
                Some(Second::Honest) => {
                    let second = world.seen_count(address, world.finalized);
                    (first.min(second), if first == second { Word::Agrees } else { Word::NotYet })
                }
            }
        };
        pass.reply(answer).await
    }

    async fn has_code(&self, address: Address) -> Result<bool, PortError> {
        let pass = self.gate.enter("eth_getCode").await?;
        let has_code = self.world().account(address).has_code;
        pass.reply(has_code).await
    }

    async fn balance(&self, address: Address) -> Result<Wei, PortError> {
        let pass = self.gate.enter("eth_getBalance").await?;
        let balance: U256 = self.world().account(address).balance;
        pass.reply(Wei(balance)).await
    }

    async fn counts(&self, address: Address) -> Result<Counts, PortError> {
        let pass = self.gate.enter("eth_getTransactionCount").await?;
        let counts = {
            let world = self.world();
            let latest = world.seen_count(address, world.seen_height());
            let executable = (latest.0..).take_while(|nonce| world.pool.contains_key(&(address, Nonce(*nonce))));
            Counts {
                latest,
                pending: executable.last().map_or(latest, |last| Nonce(last).plus(1)),
                finalized: Some(world.seen_count(address, world.seen_finalized())),
            }
        };
        pass.reply(counts).await
    }
}

fn view(world: &World, query: &ViewQuery) -> ChainView {
    let height = world.seen_height();
    let finalized = world.seen_finalized();
    let known = |number| world.seen_block(number).expect("no higher than the newest block");
    let latest_nonce = world.seen_count(query.address, height);
    let below = latest_nonce.max(query.latest_seen);
    let mut receipts = Vec::new();
    let mut heights: BTreeSet<u64> = query.slots.iter().filter_map(|slot| slot.mined_at).map(|at| at.0).collect();
    for SlotQuery { nonce, hashes, .. } in query.slots.iter().filter(|slot| slot.nonce < below) {
        let found = hashes.iter().find_map(|hash| world.seen_receipt(*hash, height));
        let found = found.filter(|_| !world.mood.hides_receipts);
        if let Some(receipt) = found {
            heights.insert(receipt.block.number.0);
        }
        receipts.push((*nonce, found.map_or(ReceiptView::Absent, ReceiptView::Found)));
    }
    let answer = heights.iter().filter(|number| **number <= height && !world.mood.hides_blocks);
    let canonical: Vec<BlockRef> = answer.filter_map(|number| world.seen_block(*number)).collect();
    let finalized_nonce = world.seen_count(query.address, finalized);
    let is_final = |nonce: Nonce, receipt: &Receipt| {
        nonce < finalized_nonce && receipt.block.number.0 <= finalized && canonical.contains(&receipt.block)
    };
    let found = receipts.iter().filter_map(|(nonce, receipt)| match receipt {
        ReceiptView::Found(receipt) if is_final(*nonce, receipt) => Some((*nonce, *receipt)),
        ReceiptView::Found(_) | ReceiptView::Absent | ReceiptView::Unknown => None,
    });
    ChainView {
        source: "the chain in memory".to_owned(),
        latest: known(height),
        finalized: known(finalized),
        latest_nonce,
        finalized_nonce,
        finals: found.collect(),
        receipts,
        canonical,
        price: world.price,
    }
}
