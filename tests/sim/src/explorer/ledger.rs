//! The chain of the small world: transactions in 16 bits, blocks, and what a node reports of them.
//!
//! Read next: [`super::lane`].

use std::fmt;

use signpost_txmgr::record::AttemptKind;

/// Most blocks.
pub const BLOCKS: usize = 6;

/// A signed transaction in 16 bits: account, content, nonce, attempt, kind, and a salt that distinguishes two
/// signatures of the same attempt. The bits are also its hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tx(pub u16);

/// A block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    /// Number of reorgs before it was made.
    pub fork: u8,
    /// The transaction in it, if any.
    pub tx: Tx,
}

/// A chain as a node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chain {
    /// The blocks from height 1.
    pub blocks: [Block; BLOCKS],
    /// Its length.
    pub height: u8,
    /// Blocks up to here are final.
    pub finalized: u8,
}

/// A transaction in a block, as a node reports it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seen {
    /// The transaction.
    pub tx: Tx,
    /// The block's height.
    pub height: u8,
    /// The block's fork, among the blocks of that height.
    pub fork: u8,
}

impl Tx {
    /// No transaction.
    pub const NONE: Self = Self(0);
    /// Signatures of one attempt that can exist at once.
    pub const SALTS: u8 = 8;
    const FOREIGN: u16 = 0x4000;

    /// A transaction that a signer signed.
    #[must_use]
    pub fn ours(content: u8, account: u8, nonce: u8, number: u8, kind: AttemptKind, salt: u8) -> Self {
        assert!(content < 4 && account < 2 && nonce < 4 && number < 8 && salt < Self::SALTS, "the world is small");
        let cancel = u16::from(kind == AttemptKind::Cancel);
        let bits = u16::from(content) | u16::from(nonce) << 2 | u16::from(number) << 4 | cancel << 7;
        Self(0x8000 | bits | u16::from(salt) << 8 | u16::from(account) << 11)
    }

    /// A transaction that was signed elsewhere with the same key.
    #[must_use]
    pub fn foreign(account: u8, nonce: u8) -> Self {
        Self(0x8000 | Self::FOREIGN | u16::from(nonce) << 2 | u16::from(account) << 11)
    }

    /// Whether it was signed elsewhere.
    #[must_use]
    pub fn is_foreign(self) -> bool {
        self.0 & Self::FOREIGN != 0
    }

    /// Whether it is a transaction at all.
    #[must_use]
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }

    /// What it asks for.
    #[must_use]
    pub fn content(self) -> u8 {
        (self.0 & 3) as u8
    }

    /// The account that signed it.
    #[must_use]
    pub fn account(self) -> u8 {
        (self.0 >> 11 & 1) as u8
    }

    /// Whether it has this account and nonce.
    #[must_use]
    pub fn is_at(self, account: u8, nonce: u8) -> bool {
        self.account() == account && self.nonce() == nonce
    }

    /// Its nonce.
    #[must_use]
    pub fn nonce(self) -> u8 {
        (self.0 >> 2 & 3) as u8
    }

    /// The number of its attempt.
    #[must_use]
    pub fn number(self) -> u8 {
        (self.0 >> 4 & 7) as u8
    }

    /// Whether it executes the request.
    #[must_use]
    pub fn kind(self) -> AttemptKind {
        if self.0 & 0x80 == 0 { AttemptKind::Execute } else { AttemptKind::Cancel }
    }

    /// Its price, in legal bumps over attempt 0. A cancel at the cap has the price of the attempt it replaces.
    #[must_use]
    pub fn level(self, cheap_cancels: bool) -> u8 {
        let cheap = cheap_cancels && self.kind() == AttemptKind::Cancel;
        self.number().saturating_sub(u8::from(cheap))
    }

    fn salt(self) -> u8 {
        (self.0 >> 8 & 7) as u8
    }
}

impl Chain {
    /// No block yet.
    pub const EMPTY: Self = Self { blocks: [Block { fork: 0, tx: Tx::NONE }; BLOCKS], height: 0, finalized: 0 };

    /// All blocks.
    #[must_use]
    pub fn blocks(&self) -> &[Block] {
        &self.blocks[..usize::from(self.height)]
    }

    /// An account's transaction count at the newest block.
    #[must_use]
    pub fn latest_nonce(&self, account: u8) -> u8 {
        count(self.blocks(), account)
    }

    /// An account's transaction count at the finalized block.
    #[must_use]
    pub fn finalized_nonce(&self, account: u8) -> u8 {
        count(&self.blocks()[..usize::from(self.finalized)], account)
    }

    /// The first transaction that matches, with its block.
    #[must_use]
    pub fn find(&self, wanted: impl Fn(Tx) -> bool) -> Option<Seen> {
        let at = self.blocks().iter().position(|block| block.tx.is_some() && wanted(block.tx))?;
        let block = self.blocks[at];
        Some(Seen { tx: block.tx, height: at as u8 + 1, fork: block.fork })
    }

    /// The block of a height, by its fork.
    #[must_use]
    pub fn fork_at(&self, height: u8) -> Option<u8> {
        self.blocks().get(usize::from(height).checked_sub(1)?).map(|block| block.fork)
    }
}

fn count(blocks: &[Block], account: u8) -> u8 {
    blocks.iter().filter(|block| block.tx.is_some() && block.tx.account() == account).count() as u8
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_some() {
            return f.write_str("none");
        }
        if self.is_foreign() {
            return write!(f, "foreign tx of nonce {}", self.nonce());
        }
        let cancel = if self.kind() == AttemptKind::Cancel { "cancel " } else { "" };
        let content = char::from(b'A' + self.content());
        let whose = if self.account() == 0 { "" } else { " of the second account" };
        write!(f, "{cancel}tx {content}{}.{}.{}{whose}", self.nonce(), self.number(), self.salt())
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in block {}", self.tx, self.height)?;
        f.write_str(&"'".repeat(usize::from(self.fork)))
    }
}
