//! A chain in memory: a pool with a limit per account, minimum prices, replacement rules, gaps and balances, blocks
//! with hashes, finality two blocks behind, reorganisations, foreign transactions and reverts.
//!
//! Raw bytes are decoded and the sender is recovered as in a node, so wrong bytes, a high `s` and a wrong parity are
//! detected. Only [`MemoryChain::mine`] creates blocks. No contract is executed, but a call whose data begins with
//! [`REVERT_SELECTOR`] or [`PANIC_SELECTOR`] reverts with this data as its revert data. Read next: [`super::journal`].

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use super::chain_state::{ChainState, NodeFaults, PoolTx, Second};
use super::decode::decode;
use super::interceptor::{Fate, Interceptor};
use super::journal::{Entry, Journal};
use super::lies::{self, FAR_AHEAD};
use crate::machine::{Corroboration, ReceiptView};
use crate::ports::{
    Chain, ChainView, Counts, Happened, NonceUse, PortError, SlotQuery, UseQuery, ViewQuery, WitnessQuery,
};
use crate::record::{BlockRef, Foreign, Receipt, SendAnswer, SendClass};
use crate::tx::{Intent, RawTx};
use crate::units::{Address, BlockNumber, ChainId, Nonce, TxHash, U256, Wei};

pub use super::chain_state::{Mined, Orphans, PANIC_SELECTOR, POOL_PER_ACCOUNT, REVERT_SELECTOR};

/// Recovered senders by transaction hash. Simulations share it, so that each sender is recovered only once.
pub type SenderCache = Arc<Mutex<HashMap<TxHash, Option<Address>>>>;

/// A chain in memory, behind one node.
#[derive(Debug, Clone)]
pub struct MemoryChain {
    state: Arc<Mutex<ChainState>>,
    senders: SenderCache,
    trusted: Option<Address>,
    interceptor: Interceptor,
    journal: Journal,
}

impl MemoryChain {
    /// A chain with only the genesis block. Every address has a very large balance.
    #[must_use]
    pub fn new(chain_id: ChainId, interceptor: Interceptor, journal: Journal) -> Self {
        let state = Arc::new(Mutex::new(ChainState::new(chain_id)));
        Self { state, senders: SenderCache::default(), trusted: None, interceptor, journal }
    }

    /// The same chain with a shared cache of recovered senders.
    #[must_use]
    pub fn with_senders(mut self, senders: SenderCache) -> Self {
        self.senders = senders;
        self
    }

    /// The same chain, which assumes this sender for every transaction and checks no signature. For benchmarks.
    #[must_use]
    pub fn trusting(mut self, sender: Address) -> Self {
        self.trusted = Some(sender);
        self
    }

    /// The same chain behind another interceptor.
    #[must_use]
    pub fn behind(&self, interceptor: Interceptor) -> Self {
        Self { interceptor, ..self.clone() }
    }

    /// Mines a block with all executable transactions of the pool. Returns its height.
    pub fn mine(&self) -> BlockNumber {
        BlockNumber(self.state().mine())
    }

    /// Replaces the newest blocks, at most `depth` and never a finalized one, by the same number of empty blocks.
    /// Returns this number.
    pub fn reorg(&self, depth: u64, orphans: Orphans) -> u64 {
        self.state().reorg(depth, orphans)
    }

    /// Removes a transaction from the pool. Returns whether it was there.
    pub fn evict(&self, hash: TxHash) -> bool {
        self.state().evict(hash)
    }

    /// Removes all transactions from the pool.
    pub fn evict_all(&self) {
        self.state().pool.clear();
    }

    /// The hashes in the pool, by sender and nonce.
    #[must_use]
    pub fn pool(&self) -> Vec<TxHash> {
        self.state().pool.values().map(|tx| tx.hash).collect()
    }

    /// Puts a transaction that Signpost did not sign into the pool. Replaces any transaction with this nonce.
    pub fn foreign(&self, sender: Address, nonce: Nonce) -> TxHash {
        self.state().put_foreign(sender, nonce)
    }

    /// Sets the transaction count of an address that has no transaction yet.
    pub fn set_nonce(&self, address: Address, nonce: Nonce) {
        self.state().account(address).start(nonce.0);
    }

    /// Sets a balance.
    pub fn set_balance(&self, address: Address, balance: Wei) {
        self.state().account(address).balance = balance.0;
    }

    /// Sets whether an address has code (a delegation).
    pub fn set_code(&self, address: Address, has_code: bool) {
        self.state().account(address).has_code = has_code;
    }

    /// Sets the minimum price that the pool accepts.
    pub fn set_least_price(&self, price: Wei) {
        self.state().least_price = price;
    }

    /// Sets the minimum price that is mined. A transaction with a lower price is accepted, waits in the pool, and
    /// blocks the higher nonces of its sender.
    pub fn set_mined_price(&self, price: Wei) {
        self.state().mined_price = price;
    }

    /// Sets the answers to the next sends, in this order. These transactions are not kept.
    pub fn answer_next(&self, classes: impl IntoIterator<Item = SendClass>) {
        self.state().script.extend(classes);
    }

    /// Sets the price that the node suggests.
    pub fn set_price(&self, price: Option<Wei>) {
        self.state().price = price;
    }

    /// Adds a second node, or removes it.
    pub fn set_second(&self, second: Option<Second>) {
        self.state().second = second;
    }

    /// Sets the faults of the node.
    pub fn set_faults(&self, faults: NodeFaults) {
        self.state().faults = faults;
    }

    /// All transactions in canonical blocks, in order.
    #[must_use]
    pub fn mined(&self) -> Vec<Mined> {
        self.state().blocks.iter().flat_map(|block| block.txs.iter().cloned()).collect()
    }

    /// The canonical block at a height.
    #[must_use]
    pub fn block(&self, number: BlockNumber) -> Option<BlockRef> {
        self.state().block_ref(number.0)
    }

    /// The newest block of the chain, whatever the node shows.
    #[must_use]
    pub fn head(&self) -> BlockRef {
        let state = self.state();
        state.block_ref(state.height()).expect("the genesis block is always there")
    }

    /// The height of the newest finalized block, whatever the node shows.
    #[must_use]
    pub fn finalized(&self) -> BlockNumber {
        BlockNumber(self.state().finalized)
    }

    /// The transaction that used a nonce in a canonical block, whatever the node shows.
    #[must_use]
    pub fn used_by(&self, sender: Address, nonce: Nonce) -> Option<TxHash> {
        self.state().by_nonce.get(&(sender, nonce)).copied()
    }

    /// Whether a nonce was used in any block, including replaced blocks.
    #[must_use]
    pub fn was_used(&self, sender: Address, nonce: Nonce) -> bool {
        self.state().used_once.contains(&(sender, nonce))
    }

    /// The receipt of a mined transaction, whatever the node shows.
    #[must_use]
    pub fn receipt(&self, hash: TxHash) -> Option<Receipt> {
        let state = self.state();
        state.receipt(hash, state.height())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, ChainState> {
        self.state.lock().unwrap()
    }

    fn sender_of(&self, raw: &RawTx, signing_hash: impl FnOnce() -> Option<Address>) -> Option<Address> {
        if self.trusted.is_some() {
            return self.trusted;
        }
        *self.senders.lock().unwrap().entry(raw.hash).or_insert_with(signing_hash)
    }

    /// The second node's answer about a final receipt that the first node shows.
    fn corroboration(&self, address: Address, nonce: Nonce, receipt: &Receipt) -> Corroboration {
        let state = self.state();
        match state.second {
            None => Corroboration::Alone,
            Some(Second::Silent) => Corroboration::Silent,
            Some(Second::Honest) if receipt.block.number.0 > state.finalized => Corroboration::NotYet,
            Some(Second::Honest) => {
                let is_true = state.by_nonce.get(&(address, nonce)) == Some(&receipt.tx_hash)
                    && state.receipt(receipt.tx_hash, state.finalized) == Some(*receipt);
                // If the honest node leads, the lying node is asked, and it denies every other receipt. A false receipt
                // was shown before the honest node led, so then the honest node answers.
                let is_denied = state.faults.second_leads && state.faults.lies.any() && !nonce.0.is_multiple_of(2);
                if is_true && !is_denied { Corroboration::Agrees } else { Corroboration::Contradicts }
            }
        }
    }

    /// A lying node's answer about the use of a nonce, with the other node's answer to it.
    fn lie_of_use(&self, query: &UseQuery) -> Option<NonceUse> {
        let (lies, block) = {
            let state = self.state();
            if !state.faults.lies.receipts || state.faults.second_leads {
                return None;
            }
            (state.faults.lies, state.block_ref(state.finalized)?)
        };
        let block = if lies.blocks { lies::made_up(block.number) } else { block };
        if let (Some(hash), true) = (query.own.last(), query.nonce.0.is_multiple_of(2)) {
            let receipt = lies::receipt(*hash, block, true);
            return Some(NonceUse::Ours(receipt, self.corroboration(query.address, query.nonce, &receipt)));
        }
        let used = Foreign { tx_hash: TxHash(block.hash.0), block };
        let corroboration = match self.state().second {
            None => Corroboration::Alone,
            Some(Second::Silent) => Corroboration::Silent,
            Some(Second::Honest) => Corroboration::Contradicts,
        };
        Some(NonceUse::Found(used, corroboration))
    }

    /// Decodes raw bytes and submits the transaction, as a node does.
    fn take(&self, raw: &RawTx, keeps: bool) -> SendAnswer {
        let Ok(decoded) = decode(&raw.bytes) else {
            return SendAnswer::new(SendClass::Refused, "rlp: value size exceeds available input length");
        };
        let recovered = || decoded.sender();
        let Some(sender) = self.sender_of(raw, recovered) else {
            return SendAnswer::new(SendClass::Misconfigured, "invalid transaction v, r, s values");
        };
        let tx = PoolTx::new(raw.hash, sender, decoded.nonce, decoded.intent, decoded.fee);
        self.state().submit(tx, keeps)
    }
}

impl Chain for MemoryChain {
    async fn chain_id(&self) -> Result<ChainId, PortError> {
        let pass = self.interceptor.enter("eth_chainId").await?;
        let chain_id = self.state().chain_id;
        pass.reply(chain_id).await
    }

    async fn view(&self, query: &ViewQuery) -> Result<ChainView, PortError> {
        let pass = self.interceptor.enter("view").await?;
        let view = {
            let mut state = self.state();
            let faults = state.faults;
            if faults.second_leads && state.second == Some(Second::Honest) {
                state.faults = NodeFaults::default();
            }
            let mut view = view(&state, query);
            if state.faults.mixed {
                // The final part is from one answer, the rest from another.
                state.faults.on_old_branch = true;
                let old = self::view(&state, query);
                (view.latest, view.receipts) = (old.latest, old.receipts);
            }
            state.faults.lies.tell(query, &mut view);
            state.faults = faults;
            view
        };
        pass.reply(view).await
    }

    async fn send(&self, raw: &RawTx) -> SendAnswer {
        self.journal.note(|| Entry::Sent(raw.clone()));
        let unknown = || SendAnswer::new(SendClass::Unknown, "no answer from the node");
        let pass = match self.interceptor.enter("eth_sendRawTransaction").await {
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
        let pass = self.interceptor.enter("eth_call").await?;
        let bytes = super::chain_state::reverts(intent).then(|| intent.data.to_vec());
        pass.reply(bytes).await
    }

    async fn witness(&self, query: &WitnessQuery) -> Vec<Corroboration> {
        let corroborations =
            || query.finals.iter().map(|(nonce, receipt)| self.corroboration(query.address, *nonce, receipt)).collect();
        let silent = || vec![Corroboration::Silent; query.finals.len()];
        match self.interceptor.enter("witness").await {
            Ok(pass) => pass.reply(corroborations()).await.unwrap_or_else(|_| silent()),
            Err(_) => silent(),
        }
    }

    async fn nonce_use(&self, query: &UseQuery) -> Result<NonceUse, PortError> {
        let pass = self.interceptor.enter("nonce_use").await?;
        if let Some(answer) = self.lie_of_use(query) {
            return pass.reply(answer).await;
        }
        let used = {
            let state = self.state();
            // The node reports nothing as final that is not final in its own view.
            let upto = query.finalized.0.min(state.seen_finalized());
            let by_nonce = state.by_nonce.get(&(query.address, query.nonce)).filter(|_| !state.faults.pruned);
            by_nonce.and_then(|hash| state.receipt(*hash, upto))
        };
        // The fake finds the use directly, so it does not search through blocks.
        let found = used.map_or(NonceUse::NotFound(query.searched), |receipt| {
            let is_own = query.own.contains(&receipt.tx_hash);
            let corroboration = self.corroboration(query.address, query.nonce, &receipt);
            let used = Foreign { tx_hash: receipt.tx_hash, block: receipt.block };
            match (is_own, self.state().faults.hides_receipts) {
                (false, _) => NonceUse::Found(used, corroboration),
                (true, true) => NonceUse::Unshown(used),
                (true, false) => NonceUse::Ours(receipt, corroboration),
            }
        });
        pass.reply(found).await
    }

    async fn final_count(&self, address: Address) -> Result<(Nonce, Corroboration), PortError> {
        let pass = self.interceptor.enter("final_count").await?;
        let answer = {
            let state = self.state();
            let mut first = state.seen_count(address, state.seen_finalized());
            if state.faults.lies.counts && !state.faults.second_leads {
                first = Nonce(first.0 + FAR_AHEAD);
            }
            match state.second {
                None => (first, Corroboration::Alone),
                Some(Second::Silent) => (first, Corroboration::Silent),
                Some(Second::Honest) => {
                    let second = state.seen_count(address, state.finalized);
                    (first.min(second), if first == second { Corroboration::Agrees } else { Corroboration::NotYet })
                }
            }
        };
        pass.reply(answer).await
    }

    async fn has_code(&self, address: Address) -> Result<bool, PortError> {
        let pass = self.interceptor.enter("eth_getCode").await?;
        let has_code = self.state().account(address).has_code;
        pass.reply(has_code).await
    }

    async fn balance(&self, address: Address) -> Result<Wei, PortError> {
        let pass = self.interceptor.enter("eth_getBalance").await?;
        let balance: U256 = self.state().account(address).balance;
        pass.reply(Wei(balance)).await
    }

    async fn counts(&self, address: Address) -> Result<Counts, PortError> {
        let pass = self.interceptor.enter("eth_getTransactionCount").await?;
        let counts = {
            let state = self.state();
            let latest = state.seen_count(address, state.seen_height());
            let executable = (latest.0..).take_while(|nonce| state.pool.contains_key(&(address, Nonce(*nonce))));
            Counts {
                latest,
                pending: executable.last().map_or(latest, |last| Nonce(last).plus(1)),
                finalized: Some(state.seen_count(address, state.seen_finalized())),
            }
        };
        pass.reply(counts).await
    }
}

fn view(state: &ChainState, query: &ViewQuery) -> ChainView {
    let height = state.seen_height();
    let finalized = state.seen_finalized();
    let known = |number| state.seen_block(number).expect("no higher than the newest block");
    let latest_nonce = state.seen_count(query.address, height);
    let below = latest_nonce.max(query.latest_seen);
    let mut receipts = Vec::new();
    let mut heights: BTreeSet<u64> = query.slots.iter().filter_map(|slot| slot.mined_at).map(|at| at.0).collect();
    for SlotQuery { nonce, hashes, .. } in query.slots.iter().filter(|slot| slot.nonce < below) {
        let found = hashes.iter().find_map(|hash| state.seen_receipt(*hash, height));
        let found = found.filter(|_| !state.faults.hides_receipts);
        if let Some(receipt) = found {
            heights.insert(receipt.block.number.0);
        }
        receipts.push((*nonce, found.map_or(ReceiptView::Absent, ReceiptView::Found)));
    }
    let answer = heights.iter().filter(|number| **number <= height && !state.faults.hides_blocks);
    let canonical: Vec<BlockRef> = answer.filter_map(|number| state.seen_block(*number)).collect();
    let finalized_nonce = state.seen_count(query.address, finalized);
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
        price: state.price,
    }
}
