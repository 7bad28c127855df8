//! The lane of one account, and what a signer reads of it to choose an account for a request.
//!
//! Read next: [`super::world`].

use std::hash::{Hash, Hasher};

use super::ledger::Tx;

/// The most accounts of a world: those of one pool.
pub const ACCOUNTS: usize = 2;
/// The most nonces of each account.
pub const NONCES: usize = 3;

/// One account's nonces, in the table and at the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneState {
    /// The head: the nonce the next reservation gets.
    pub next_nonce: u8,
    /// The head: the lowest slot not left behind.
    pub lowest_open: u8,
    /// The head: the account is paused.
    pub paused: bool,
    /// The head: the account cannot pay.
    pub unfunded: bool,
    /// The slots: request id plus 1, or 0 for none.
    pub slots: [u8; NONCES],
    /// What the nodes hold unmined, by nonce.
    pub pool: [Tx; NONCES],
    /// What a second node still holds; nothing is sent to that node any more.
    pub other: [Tx; NONCES],
    /// For the checks only: the contents ever signed for a nonce, as a set of bits.
    pub signed: [u8; NONCES],
    /// For the checks only: the nonces a fast-forward skipped, as a set of bits.
    pub skipped: u8,
}

impl LaneState {
    /// Nothing has happened yet.
    pub const NEW: Self = Self {
        next_nonce: 0,
        lowest_open: 0,
        paused: false,
        unfunded: false,
        slots: [0; NONCES],
        pool: [Tx::NONE; NONCES],
        other: [Tx::NONE; NONCES],
        signed: [0; NONCES],
        skipped: 0,
    };

    /// The status of the account for a request of a pool.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match (self.paused, self.unfunded) {
            (true, _) => Standing::Paused,
            (false, true) => Standing::Unfunded,
            (false, false) => Standing::Open,
        }
    }
}

/// Hashed as four words instead of twenty: the second lane is unused in most worlds, and hashed in all.
impl Hash for LaneState {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Self { next_nonce, lowest_open, paused, unfunded, slots, pool, other, signed, skipped } = self;
        let marks = [*next_nonce, *lowest_open];
        let word = |of: &[u8]| of.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        hasher.write_u64(word(slots) << 40 | word(signed) << 16 | word(&marks));
        hasher.write_u64(word(&[u8::from(*paused), u8::from(*unfunded), *skipped]));
        for [first, second, third] in [pool, other] {
            hasher.write_u64(u64::from(first.0) | u64::from(second.0) << 16 | u64::from(third.0) << 32);
        }
    }
}

/// The account a signer works with, as of its last read of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim {
    /// The account.
    pub account: u8,
    /// The next nonce.
    pub nonce: u8,
    /// The account's status when its head was read.
    pub standing: Standing,
    /// Heads read so far, while an account of a pool is chosen.
    pub read: u8,
}

impl Claim {
    /// No head is read. For an account that is never paused, a read would give the same.
    pub const NONE: Self = Self { account: 0, nonce: 0, standing: Standing::Open, read: 0 };

    /// A claim on this account, of which only is known that it is open.
    #[must_use]
    pub fn on(account: u8) -> Self {
        Self { account, ..Self::NONE }
    }

    /// The account takes no requests.
    #[must_use]
    pub fn is_closed(self) -> bool {
        matches!(self.standing, Standing::PausedSince | Standing::Paused)
    }
}

/// The status of an account when its head was read. Of a pool, the account with the highest status is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standing {
    /// It was open when it was chosen, and has been paused since.
    PausedSince,
    /// It takes no requests.
    Paused,
    /// It waits for funds.
    Unfunded,
    /// It takes requests.
    Open,
}
