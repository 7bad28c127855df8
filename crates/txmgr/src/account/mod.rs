//! An account and its lane: one KMS key on one chain, and its nonces in order.
//!
//! The head is the account's one hot item: reservations are conditional on it. It never says how a
//! request stands; that is the record's word. Read next: [`crate::record`].

mod marks;

use std::collections::BTreeMap;

use crate::record::{Record, Vacancy};
use crate::units::{AccountKey, AccountName, KmsKeyId, Millis, Nonce, RequestId, Wei};
use crate::unusable::Unusable;

pub use self::marks::{AsideCause, Gap, Marks, NoAsideCause, SetAside};

/// The state of an account that reservations are conditional on.
///
/// Invariant: `lowest_open_nonce <= next_nonce`; every slot below `lowest_open_nonce` is closed, set aside,
/// or part of a gap that the chain has used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Chain and address.
    pub account: AccountKey,
    /// The name callers use.
    pub name: AccountName,
    /// The KMS key that signs for it.
    pub kms_key_id: KmsKeyId,
    /// The nonce the next reservation gets.
    pub next_nonce: Nonce,
    /// The lowest slot that is neither closed nor set aside; equals `next_nonce` when none is.
    pub lowest_open_nonce: Nonce,
    /// Slots below the low mark that could not be closed, in order of nonce, at most [`SetAside::MAX`].
    /// Their nonces are used on chain: they need no signature and are in no other slot's way.
    pub set_aside: Vec<SetAside>,
    /// Nonces left behind without a request, the newest at most [`Gap::MAX`]. Nothing is done about them.
    pub gaps: Vec<Gap>,
    /// Paused accounts get no reservation and no signature (I14).
    pub paused: bool,
    /// When it was registered.
    pub registered_at: Millis,
    /// When it was retired: paused for good. Nothing takes it back.
    pub retired_at: Option<Millis>,
    /// The network's price as the broadcaster last saw it.
    pub fee: Option<SeenFee>,
    /// Since when the newest answers of nodes say that it cannot pay. Requests for a pool go to others.
    pub unfunded_since: Option<Millis>,
    /// Its key cannot be used, as the signer found last. Nothing is reserved, and pools use other accounts.
    pub unusable: Option<Unusable>,
    /// What the newest spend window took, where policy limits spending. Changes only in a reservation,
    /// together with `next_nonce`: the condition on that holds for this too.
    pub spend: Option<Spend>,
    /// How many requests of each sender the newest window took, where policy limits them. Changes as `spend` does.
    pub sender_counts: Option<SenderCounts>,
}

impl Head {
    /// The head of an account that is being registered, with `next_nonce` as its first.
    #[must_use]
    pub fn new(
        account: AccountKey,
        name: AccountName,
        kms_key_id: KmsKeyId,
        next_nonce: Nonce,
        registered_at: Millis,
    ) -> Self {
        Self {
            account,
            name,
            kms_key_id,
            next_nonce,
            lowest_open_nonce: next_nonce,
            set_aside: Vec::new(),
            gaps: Vec::new(),
            paused: false,
            registered_at,
            fee: None,
            retired_at: None,
            unfunded_since: None,
            unusable: None,
            spend: None,
            sender_counts: None,
        }
    }

    /// Slots reserved and neither left behind nor set aside.
    #[must_use]
    pub fn open_slots(&self) -> u64 {
        self.next_nonce.since(self.lowest_open_nonce)
    }

    /// Why the account cannot be unregistered, if it must have been retired at `retired_until` or earlier.
    #[must_use]
    pub fn stays_registered(&self, retired_until: Millis) -> Option<StaysRegistered> {
        if self.open_slots() > 0 {
            return Some(StaysRegistered::Open(self.open_slots()));
        }
        // A slot set aside still has an outcome to come.
        if let Ok(count @ 1..) = u64::try_from(self.set_aside.len()) {
            return Some(StaysRegistered::Open(count));
        }
        match self.retired_at {
            None => Some(StaysRegistered::NotRetired),
            Some(at) if at > retired_until => Some(StaysRegistered::RetiredAt(at)),
            Some(_) => None,
        }
    }

    /// Whether a pass has anything to do here: a slot is open or set aside.
    #[must_use]
    pub fn needs_passes(&self) -> bool {
        self.open_slots() > 0 || !self.set_aside.is_empty()
    }

    /// The marks as they are.
    #[must_use]
    pub fn marks(&self) -> Marks {
        Marks { lowest_open_nonce: self.lowest_open_nonce, set_aside: self.set_aside.clone(), gaps: self.gaps.clone() }
    }

    /// Puts other marks in their place.
    pub fn set_marks(&mut self, marks: Marks) {
        let Marks { lowest_open_nonce, set_aside, gaps } = marks;
        self.lowest_open_nonce = lowest_open_nonce;
        self.set_aside = set_aside;
        self.gaps = gaps;
    }
}

/// Why an account stays registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaysRegistered {
    /// It has this number of open slots.
    Open(u64),
    /// It is not retired.
    NotRetired,
    /// It was retired at this time, which is too short ago.
    RetiredAt(Millis),
}

/// How long a retired account stays registered, in milliseconds: a message that names it may wait 14 days in a queue
/// and 14 more in a dead-letter queue, and must still find the account it was sent for, not another one under
/// its name.
pub const UNREGISTER_AFTER_MS: u64 = 30 * 86_400_000;

/// Every registered account, of every chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Those that can be read.
    pub heads: Vec<Head>,
    /// Those that cannot. They concern nobody else.
    pub unreadable: Vec<UnreadableHead>,
}

/// A registered account whose head, or entry in the directory, cannot be read: it was written by a later
/// version, or by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableHead {
    /// The name it is registered with, made plain: it was not parsed.
    pub name: String,
    /// Its key, where the directory says it.
    pub account: Option<AccountKey>,
    /// What is wrong with the item; shows no value of it.
    pub problem: String,
}

/// A price seen on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenFee {
    /// Wei per gas.
    pub gas_price: Wei,
    /// When it was seen.
    pub observed_at: Millis,
}

/// What the requests that got a slot in one window may cost at most, all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spend {
    /// When the window began: with the first request after the one before had ended.
    pub window_start: Millis,
    /// Wei counted in it.
    pub spent: Wei,
}

/// How many requests of each sender got a slot in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderCounts {
    /// When the window began: with the first request after the one before had ended.
    pub window_start: Millis,
    /// Requests of each principal; under [`Self::OTHERS`] those of all for whom there was no room.
    pub counts: BTreeMap<String, u64>,
}

impl SenderCounts {
    /// Senders that one window counts apart: with about 30 bytes for each they make the head, which every
    /// reservation writes, 2 KB larger at most.
    pub const MAX_SENDERS: usize = 64;
    /// Under which the requests of all other senders are counted together. No id of a principal.
    pub const OTHERS: &'static str = "*";
    /// Under which requests are counted whose sender SQS does not name.
    pub const UNKNOWN: &'static str = "-";

    /// A window that begins now.
    #[must_use]
    pub fn new(window_start: Millis) -> Self {
        Self { window_start, counts: BTreeMap::new() }
    }

    /// Counts one request of this principal; how many it has then.
    pub fn add(&mut self, principal: &str) -> u64 {
        let has_room = self.counts.contains_key(principal) || self.counts.len() < Self::MAX_SENDERS;
        let count = self.counts.entry(if has_room { principal } else { Self::OTHERS }.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        *count
    }

    /// Whether nothing that `before` counted is missing here, or this is a later window.
    fn counts_on(&self, before: &Self) -> bool {
        let has = |(principal, count): (&String, &u64)| self.counts.get(principal).is_some_and(|now| now >= count);
        self.window_start > before.window_start || before.counts.iter().all(has)
    }
}

/// The claim of the next slots of one lane for a group of requests, all or nothing.
///
/// `records[i]` claims nonce `head.next_nonce + i` (I4).
#[derive(Debug, Clone)]
pub struct Reservation {
    /// The head as it was read; the claim holds only while its `next_nonce` stands and it is not paused.
    pub head: Head,
    /// The requests, at most [`Reservation::MAX_RECORDS`] and [`Reservation::MAX_BYTES`] of calldata.
    pub records: Vec<Record>,
    /// What the head's spend becomes in the same transaction; `None` leaves it as it is.
    pub spend: Option<Spend>,
    /// The same for its counts of requests.
    pub sender_counts: Option<SenderCounts>,
    /// The requests whose id holds a rejection, with the message it refused: the claim holds only while exactly
    /// that stands, so that what refuses this very message meanwhile is not written over. Every other id is free.
    pub replaces: BTreeMap<RequestId, Option<String>>,
}

impl Reservation {
    /// Requests of one group: two items each and the head stay under DynamoDB's 100 items.
    pub const MAX_RECORDS: usize = 40;
    /// Calldata of one group in bytes: leaves room for the other attributes under DynamoDB's 4 MB.
    pub const MAX_BYTES: usize = 3_000_000;

    /// What the claim expects under a request's id.
    #[must_use]
    pub fn vacancy(&self, id: &RequestId) -> Vacancy {
        self.replaces.get(id).map_or(Vacancy::Free, |message_id| Vacancy::Rejected(message_id.clone()))
    }

    /// Checks I1, I4 and the count of I9 before the write.
    pub fn assert_contiguous(&self) {
        let mut nonce = self.head.next_nonce;
        for record in &self.records {
            assert_eq!(record.nonce, nonce, "I4: reserved nonces are contiguous");
            assert_eq!(record.account, self.head.account, "I1: a slot belongs to its account");
            nonce = nonce.plus(1);
        }
        if let (Some(before), Some(after)) = (self.head.spend, self.spend) {
            let counts_on = after.window_start > before.window_start || after.spent >= before.spent;
            assert!(counts_on, "I9: what was spent in a window is never forgotten");
        }
        if let (Some(before), Some(after)) = (&self.head.sender_counts, &self.sender_counts) {
            assert!(after.counts_on(before), "I9: what a sender had in a window is never forgotten");
        }
        assert!(self.records.len() <= Self::MAX_RECORDS, "a group stays within DynamoDB's limits");
    }
}
