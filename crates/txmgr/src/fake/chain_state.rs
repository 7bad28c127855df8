//! The state of the chain in memory, and the view of a node on it.
//!
//! Pure state, under the lock of [`super::chain::MemoryChain`]. Read next: [`super::chain`].

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::lies::Lies;
use crate::record::{BlockRef, Receipt, SendAnswer, SendClass};
use crate::tx::{Fee, Intent};
use crate::units::{Address, BlockHash, BlockNumber, ChainId, Gas, Nonce, TxHash, U256, Wei, keccak256};

/// `Error(string)`: a call whose data begins with this reverts with its data.
pub const REVERT_SELECTOR: [u8; 4] = [0x08, 0xc3, 0x79, 0xa0];
/// `Panic(uint256)`: a call whose data begins with this reverts with its data.
pub const PANIC_SELECTOR: [u8; 4] = [0x4e, 0x48, 0x7b, 0x71];

/// The distance of the finalized block from the newest block (BEP-126: justified, then finalized).
const FINALITY_BLOCKS: u64 = 2;

/// The maximum number of transactions of one account in the pool (BSC: 200, executable or not). Above it, the highest
/// nonces are dropped silently.
pub const POOL_PER_ACCOUNT: usize = 200;

/// Above this balance, the cost of queued transactions is not checked: no test spends it, and a full pool takes time.
const RICH: U256 = U256([0, 0, 0, 1 << 60]);

/// A second node, which is asked only to confirm what the first node shows as final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Second {
    /// It knows the real chain.
    Honest,
    /// It does not answer.
    Silent,
}

/// The faults of the node in front of the chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the faults are independent of each other")]
pub struct NodeFaults {
    /// The number of blocks that it is behind.
    pub lag: u64,
    /// It returns null for every receipt.
    pub hides_receipts: bool,
    /// It does not find blocks by height.
    pub hides_blocks: bool,
    /// It still shows the blocks that the last reorganisation replaced.
    pub on_old_branch: bool,
    /// Some of its answers show the replaced blocks and some the new ones: two nodes behind one URL.
    pub mixed: bool,
    /// It accepts every send and drops the transaction.
    pub drops_sends: bool,
    /// It answers every send with this class and keeps no transaction.
    pub answers: Option<SendClass>,
    /// Its history is too short to find the transaction that used a nonce.
    pub pruned: bool,
    /// Its false answers.
    pub lies: Lies,
    /// The second node is asked first, and this one confirms.
    pub second_leads: bool,
}

/// What happens to the transactions of a replaced block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphans {
    /// They return to the pool.
    Return,
    /// They are dropped.
    Lose,
}

/// A transaction in a canonical block.
#[derive(Debug, Clone)]
pub struct Mined {
    /// The sender.
    pub sender: Address,
    /// The nonce.
    pub nonce: Nonce,
    /// What was executed.
    pub intent: Intent,
    /// Whether it was created by [`super::MemoryChain::foreign`].
    pub is_foreign: bool,
    /// The receipt.
    pub receipt: Receipt,
    tx: Arc<PoolTx>,
    debit: U256,
}

/// A transaction in the pool.
#[derive(Debug)]
pub(super) struct PoolTx {
    pub(super) hash: TxHash,
    sender: Address,
    nonce: Nonce,
    intent: Intent,
    fee: Fee,
    is_foreign: bool,
}

#[derive(Debug, Default)]
pub(super) struct Account {
    /// (height, transaction count) of each block that changed the count.
    history: Vec<(u64, u64)>,
    pub(super) balance: U256,
    pub(super) has_code: bool,
}

#[derive(Debug)]
pub(super) struct Block {
    hash: BlockHash,
    pub(super) txs: Vec<Mined>,
}

#[derive(Debug)]
pub(super) struct ChainState {
    pub(super) chain_id: ChainId,
    pub(super) blocks: Vec<Block>,
    pub(super) finalized: u64,
    pub(super) pool: BTreeMap<(Address, Nonce), Arc<PoolTx>>,
    pub(super) by_nonce: BTreeMap<(Address, Nonce), TxHash>,
    pub(super) faults: NodeFaults,
    pub(super) second: Option<Second>,
    /// The minimum price that the pool accepts.
    pub(super) least_price: Wei,
    /// The minimum price that is mined. Transactions between the two minimums wait in the pool.
    pub(super) mined_price: Wei,
    pub(super) price: Option<Wei>,
    /// The answers to the next sends.
    pub(super) script: VecDeque<SendClass>,
    /// The nonces that were used in any block, including replaced blocks.
    pub(super) used_once: BTreeSet<(Address, Nonce)>,
    receipts: HashMap<TxHash, Receipt>,
    accounts: BTreeMap<Address, Account>,
    /// The number of reorganisations. It makes the hashes of new blocks differ from the replaced ones.
    forks: u64,
    foreigners: u64,
    /// The branch that the last reorganisation replaced.
    stale: Option<Stale>,
}

/// A branch that is no longer canonical, but that an outdated node still shows.
#[derive(Debug)]
struct Stale {
    /// The height of the last common block.
    base: u64,
    /// The finalized height at that time.
    finalized: u64,
    blocks: Vec<Block>,
}

impl PoolTx {
    pub(super) fn new(hash: TxHash, sender: Address, nonce: Nonce, intent: Intent, fee: Fee) -> Self {
        Self { hash, sender, nonce, intent, fee, is_foreign: false }
    }

    /// The maximum price and the priority fee, in wei per gas.
    fn prices(&self) -> (U256, U256) {
        match self.fee {
            Fee::Legacy { gas_price } => (gas_price.0, gas_price.0),
            Fee::Dynamic { max_fee_per_gas, max_priority_fee_per_gas } => {
                (max_fee_per_gas.0, max_priority_fee_per_gas.0)
            }
        }
    }

    fn cost(&self) -> U256 {
        self.prices().0.saturating_mul(U256::from(self.intent.gas.0)).saturating_add(self.intent.value.0)
    }
}

impl Account {
    pub(super) fn start(&mut self, count: u64) {
        self.history = vec![(0, count)];
    }

    fn count(&self) -> u64 {
        self.history.last().map_or(0, |(_, count)| *count)
    }
}

impl ChainState {
    pub(super) fn new(chain_id: ChainId) -> Self {
        let genesis = Block { hash: BlockHash(keccak256(b"genesis")), txs: Vec::new() };
        Self {
            chain_id,
            blocks: vec![genesis],
            finalized: 0,
            second: None,
            pool: BTreeMap::new(),
            by_nonce: BTreeMap::new(),
            faults: NodeFaults::default(),
            least_price: Wei(U256::from(50_000_000)),
            mined_price: Wei::ZERO,
            price: None,
            script: VecDeque::new(),
            used_once: BTreeSet::new(),
            receipts: HashMap::new(),
            accounts: BTreeMap::new(),
            forks: 0,
            foreigners: 0,
            stale: None,
        }
    }

    pub(super) fn height(&self) -> u64 {
        u64::try_from(self.blocks.len() - 1).unwrap()
    }

    /// The old branch, if the node still shows it.
    fn branch(&self) -> Option<&Stale> {
        self.stale.as_ref().filter(|_| self.faults.on_old_branch)
    }

    /// The height of the newest block that the node has.
    pub(super) fn seen_height(&self) -> u64 {
        let lagging = self.height().saturating_sub(self.faults.lag);
        self.branch().map_or(lagging, |stale| stale.base + u64::try_from(stale.blocks.len()).unwrap())
    }

    /// The height of the newest block that the node shows as finalized.
    pub(super) fn seen_finalized(&self) -> u64 {
        self.branch().map_or(self.finalized.saturating_sub(self.faults.lag), |stale| stale.finalized)
    }

    /// The block that the node shows at a height.
    pub(super) fn seen_block(&self, number: u64) -> Option<BlockRef> {
        let old = self
            .branch()
            .and_then(|stale| stale.blocks.get(usize::try_from(number.checked_sub(stale.base + 1)?).ok()?));
        match old {
            Some(block) => Some(BlockRef { number: BlockNumber(number), hash: block.hash }),
            None => self.block_ref(number),
        }
    }

    /// The receipt that the node shows for a transaction in a block up to `upto`.
    pub(super) fn seen_receipt(&self, hash: TxHash, upto: u64) -> Option<Receipt> {
        let Some(stale) = self.branch() else { return self.receipt(hash, upto) };
        let mut old = stale.blocks.iter().flat_map(|block| &block.txs).map(|mined| mined.receipt);
        let old = old.find(|receipt| receipt.tx_hash == hash && receipt.block.number.0 <= upto);
        old.or_else(|| self.receipt(hash, upto.min(stale.base)))
    }

    /// The transaction count that the node shows for an address after the block at `height`.
    pub(super) fn seen_count(&self, address: Address, height: u64) -> Nonce {
        let Some(stale) = self.branch() else { return self.count_at(address, height) };
        let old = stale.blocks.iter().flat_map(|block| &block.txs).rev();
        let mut mine = old.filter(|mined| mined.sender == address && mined.receipt.block.number.0 <= height);
        let known = self.count_at(address, height.min(stale.base));
        mine.next().map_or(known, |last| last.nonce.plus(1))
    }

    pub(super) fn block_ref(&self, number: u64) -> Option<BlockRef> {
        let block = self.blocks.get(usize::try_from(number).ok()?)?;
        Some(BlockRef { number: BlockNumber(number), hash: block.hash })
    }

    pub(super) fn receipt(&self, hash: TxHash, upto: u64) -> Option<Receipt> {
        self.receipts.get(&hash).filter(|receipt| receipt.block.number.0 <= upto).copied()
    }

    pub(super) fn account(&mut self, address: Address) -> &mut Account {
        let rich = || Account { balance: U256::MAX >> 1, ..Account::default() };
        self.accounts.entry(address).or_insert_with(rich)
    }

    /// The transaction count after the block at `height`.
    pub(super) fn count_at(&self, address: Address, height: u64) -> Nonce {
        let Some(account) = self.accounts.get(&address) else { return Nonce(0) };
        let after = account.history.partition_point(|(at, _)| *at <= height);
        Nonce(after.checked_sub(1).and_then(|at| account.history.get(at)).map_or(0, |(_, count)| *count))
    }

    /// Accepts or refuses a transaction, with the checks, their order and the texts of a BSC node.
    pub(super) fn submit(&mut self, tx: PoolTx, keeps: bool) -> SendAnswer {
        if let Some(class) = self.script.pop_front().or(self.faults.answers) {
            return SendAnswer::new(class, words_of(class));
        }
        if let Err((class, words)) = self.judge(&tx) {
            return SendAnswer::new(class, words);
        }
        if keeps && !self.faults.drops_sends {
            self.keep(tx);
        }
        SendAnswer::new(SendClass::Accepted, "")
    }

    /// Puts a transaction into the pool. If the account has too many, its highest nonce is dropped, perhaps this one.
    fn keep(&mut self, tx: PoolTx) {
        let sender = tx.sender;
        self.pool.insert((sender, tx.nonce), Arc::new(tx));
        if self.pool.len() > POOL_PER_ACCOUNT {
            let mine = || self.pool.range((sender, Nonce(0))..=(sender, Nonce(u64::MAX))).map(|(place, _)| *place);
            if mine().count() > POOL_PER_ACCOUNT
                && let Some(highest) = mine().next_back()
            {
                self.pool.remove(&highest);
            }
        }
    }

    /// The maximum cost of a sender's transactions in the pool, except the one with this nonce.
    fn queued_cost(&self, sender: Address, but: Nonce) -> U256 {
        let mine = self.pool.range((sender, Nonce(0))..=(sender, Nonce(u64::MAX)));
        let others = mine.filter(|((_, nonce), _)| *nonce != but);
        others.fold(U256::zero(), |sum, (_, tx)| sum.saturating_add(tx.cost()))
    }

    fn judge(&mut self, tx: &PoolTx) -> Result<(), (SendClass, &'static str)> {
        if tx.intent.chain_id != self.chain_id {
            return Err((SendClass::Misconfigured, "invalid chain id for signer"));
        }
        let place = (tx.sender, tx.nonce);
        if self.pool.get(&place).is_some_and(|old| old.hash == tx.hash) {
            return Err((SendClass::AlreadyKnown, "already known"));
        }
        if tx.intent.gas.0 > MAX_TX_GAS {
            return Err((SendClass::Refused, "transaction gas limit too high"));
        }
        if tx.intent.gas.0 < intrinsic_gas(&tx.intent) {
            return Err((SendClass::Refused, "intrinsic gas too low"));
        }
        if tx.intent.gas.0 < floor_gas(&tx.intent) {
            return Err((SendClass::Refused, "insufficient gas for floor data gas cost"));
        }
        let (price, tip) = tx.prices();
        if tip > price {
            return Err((SendClass::Refused, "max priority fee per gas higher than max fee per gas"));
        }
        if tip < self.least_price.0 {
            return Err((SendClass::Underpriced(Some(self.least_price)), "transaction underpriced"));
        }
        let account = self.account(tx.sender);
        let balance = account.balance;
        if tx.nonce.0 < account.count() {
            return Err((SendClass::NonceTooLow, "nonce too low"));
        }
        if balance < tx.cost() {
            return Err((SendClass::Funds, "insufficient funds for gas * price + value"));
        }
        if balance < RICH && balance < self.queued_cost(tx.sender, tx.nonce).saturating_add(tx.cost()) {
            return Err((SendClass::Funds, "insufficient funds for gas * price + value: queued cost"));
        }
        if let Some(old) = self.pool.get(&place) {
            let (old_price, old_tip) = old.prices();
            let raised = |old: U256, new: U256| new > old && new * 100 >= old * 110;
            if old.is_foreign || !raised(old_price, price) || !raised(old_tip, tip) {
                return Err((SendClass::Underpriced(None), "replacement transaction underpriced"));
            }
        }
        Ok(())
    }

    pub(super) fn put_foreign(&mut self, sender: Address, nonce: Nonce) -> TxHash {
        self.foreigners += 1;
        let hash = TxHash(keccak256(format!("foreign {}", self.foreigners).as_bytes()));
        let intent = Intent {
            chain_id: self.chain_id,
            to: Some(sender),
            value: Wei::ZERO,
            data: Arc::from([]),
            gas: Gas(21_000),
        };
        // It cannot be replaced by ours, so one that is never mined would block its lane forever.
        let fee = Fee::Legacy { gas_price: self.least_price.max(self.mined_price) };
        self.pool.insert((sender, nonce), Arc::new(PoolTx { hash, sender, nonce, intent, fee, is_foreign: true }));
        hash
    }

    pub(super) fn evict(&mut self, hash: TxHash) -> bool {
        let before = self.pool.len();
        self.pool.retain(|_, tx| tx.hash != hash);
        self.pool.len() < before
    }

    pub(super) fn mine(&mut self) -> u64 {
        let number = self.open_block();
        let mut senders: Vec<Address> = Vec::new();
        let mut from = Address([0; 20]);
        while let Some(((sender, _), _)) = self.pool.range((from, Nonce(0))..).next() {
            senders.push(*sender);
            let Some(next) = successor(*sender) else { break };
            from = next;
        }
        for sender in senders {
            self.mine_lane(sender, number);
        }
        number
    }

    fn mine_lane(&mut self, sender: Address, number: u64) {
        let first = self.account(sender).count();
        let mut count = first;
        while let Some(tx) = self.pool.get(&(sender, Nonce(count))).cloned() {
            // A transaction below the minimum price waits in the pool, with all higher nonces.
            if tx.prices().1 < self.mined_price.0 || self.account(sender).balance < tx.cost() {
                break;
            }
            self.pool.remove(&(sender, Nonce(count)));
            self.include(tx, number);
            count += 1;
        }
        if count > first {
            self.account(sender).history.push((number, count));
        }
    }

    fn open_block(&mut self) -> u64 {
        let number = self.height() + 1;
        let parent = self.blocks.last().map_or([0; 32], |block| block.hash.0);
        let mut seed = parent.to_vec();
        seed.extend_from_slice(&number.to_be_bytes());
        seed.extend_from_slice(&self.forks.to_be_bytes());
        self.blocks.push(Block { hash: BlockHash(keccak256(&seed)), txs: Vec::new() });
        self.finalized = self.finalized.max(number.saturating_sub(FINALITY_BLOCKS));
        number
    }

    fn include(&mut self, tx: Arc<PoolTx>, number: u64) {
        let succeeded = !reverts(&tx.intent);
        let gas_used = intrinsic_gas(&tx.intent).max(floor_gas(&tx.intent));
        let price = tx.prices().1;
        let moved = if succeeded { tx.intent.value.0 } else { U256::zero() };
        let debit = price * U256::from(gas_used) + moved;
        let block = self.block_ref(number).expect("the block was opened");
        let receipt = Receipt {
            tx_hash: tx.hash,
            block,
            succeeded,
            gas_used: Some(Gas(gas_used)),
            effective_gas_price: Some(Wei(price)),
            contract: (tx.intent.to.is_none() && succeeded).then(|| created(tx.sender, tx.nonce)),
        };
        let sender = self.account(tx.sender);
        sender.balance -= debit;
        if let Some(to) = tx.intent.to {
            let to = self.account(to);
            to.balance = to.balance.saturating_add(moved);
        }
        self.receipts.insert(tx.hash, receipt);
        self.by_nonce.insert((tx.sender, tx.nonce), tx.hash);
        self.used_once.insert((tx.sender, tx.nonce));
        let mined = Mined {
            sender: tx.sender,
            nonce: tx.nonce,
            intent: tx.intent.clone(),
            is_foreign: tx.is_foreign,
            receipt,
            tx,
            debit,
        };
        if let Some(block) = self.blocks.last_mut() {
            block.txs.push(mined);
        }
    }

    pub(super) fn reorg(&mut self, depth: u64, orphans: Orphans) -> u64 {
        let depth = depth.min(self.height() - self.finalized);
        if depth == 0 {
            return 0;
        }
        self.forks += 1;
        let mut orphaned = Vec::new();
        let mut replaced = Vec::new();
        for _ in 0..depth {
            let height = self.height();
            let Some(block) = self.blocks.pop() else { break };
            for mined in block.txs.iter().rev() {
                self.receipts.remove(&mined.tx.hash);
                self.by_nonce.remove(&(mined.sender, mined.nonce));
                let sender = self.account(mined.sender);
                sender.balance += mined.debit;
                if sender.history.last().is_some_and(|(at, _)| *at == height) {
                    sender.history.pop();
                }
                if let (Some(to), true) = (mined.intent.to, mined.receipt.succeeded) {
                    self.account(to).balance -= mined.intent.value.0;
                }
                orphaned.push(Arc::clone(&mined.tx));
            }
            replaced.push(block);
        }
        replaced.reverse();
        self.stale = Some(Stale { base: self.height(), finalized: self.finalized, blocks: replaced });
        for _ in 0..depth {
            self.open_block();
        }
        if orphans == Orphans::Return {
            for tx in orphaned {
                self.pool.entry((tx.sender, tx.nonce)).or_insert(tx);
            }
        }
        depth
    }
}

/// Whether the transaction reverts.
pub(super) fn reverts(intent: &Intent) -> bool {
    intent.to.is_some() && (intent.data.starts_with(&REVERT_SELECTOR) || intent.data.starts_with(&PANIC_SELECTOR))
}

/// The gas of a transfer (yellow paper, `G_transaction`).
const TRANSFER: u64 = 21_000;
/// The gas of a creation (`G_txcreate`), and of each word of its init code (EIP-3860).
const CREATION: u64 = 32_000;
const INIT_CODE_WORD: u64 = 2;
/// The gas of a zero and of a non-zero byte of calldata (EIP-2028), and the floor for a token of calldata (EIP-7623).
const ZERO_BYTE: u64 = 4;
const OTHER_BYTE: u64 = 16;
const TOKEN_FLOOR: u64 = 10;
/// The maximum gas limit of one transaction (EIP-7825).
const MAX_TX_GAS: u64 = 1 << 24;

/// The intrinsic gas of a transaction. Shares no code with [`crate::tx`], so that it can check those figures.
fn intrinsic_gas(intent: &Intent) -> u64 {
    let (zeros, others) = bytes_of(intent);
    let words = (zeros + others).div_ceil(32);
    let creation = if intent.to.is_none() { CREATION + INIT_CODE_WORD * words } else { 0 };
    TRANSFER + ZERO_BYTE * zeros + OTHER_BYTE * others + creation
}

/// The minimum gas because of the calldata.
fn floor_gas(intent: &Intent) -> u64 {
    let (zeros, others) = bytes_of(intent);
    TRANSFER + TOKEN_FLOOR * (zeros + 4 * others)
}

fn bytes_of(intent: &Intent) -> (u64, u64) {
    let count = |zero: bool| intent.data.iter().filter(|byte| (**byte == 0) == zero).count();
    (u64::try_from(count(true)).unwrap(), u64::try_from(count(false)).unwrap())
}

/// A node's text for this class of answer.
fn words_of(class: SendClass) -> &'static str {
    match class {
        SendClass::Accepted => "",
        SendClass::AlreadyKnown => "already known",
        SendClass::NonceTooLow => "nonce too low",
        SendClass::Retry => "limit exceeded",
        SendClass::Underpriced(_) => "transaction underpriced",
        SendClass::Funds => "insufficient funds for gas * price + value",
        SendClass::Refused => "transaction type not supported",
        SendClass::Misconfigured => "invalid chain id for signer",
        SendClass::Unknown => "no answer from the node",
    }
}

fn created(sender: Address, nonce: Nonce) -> Address {
    let mut stream = rlp::RlpStream::new_list(2);
    stream.append(&sender.0.as_slice()).append(&nonce.0);
    let hash = keccak256(stream.as_raw());
    let mut address = [0; 20];
    address.copy_from_slice(&hash[12..]);
    Address(address)
}

fn successor(address: Address) -> Option<Address> {
    let mut bytes = address.0;
    for byte in bytes.iter_mut().rev() {
        let (next, wrapped) = byte.overflowing_add(1);
        *byte = next;
        if !wrapped {
            return Some(Address(bytes));
        }
    }
    None
}
