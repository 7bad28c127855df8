//! An account and its lane: one KMS key on one chain, and its sequence of nonces.
//!
//! The head is the account's one hot item: reservations are conditional on it. It never holds the status of a
//! request, which only the record has. Read next: [`crate::record`].

mod marks;

use std::collections::BTreeMap;

use crate::record::{Record, Vacancy};
use crate::units::{AccountKey, AccountName, KmsKeyId, Millis, Nonce, RequestId, Wei};
use crate::unusable::Unusable;

pub use self::marks::{AsideCause, Gap, Marks, SetAside, UnknownAsideCause};

/// An account's state, on which reservations are conditional.
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
    /// The lowest slot that is neither closed nor set aside; equals `next_nonce` if there is none.
    pub lowest_open_nonce: Nonce,
    /// Slots below the low mark that could not be closed, in order of nonce, at most [`SetAside::MAX`].
    /// Their nonces are used on chain, so they need no signature and block no other slot.
    pub set_aside: Vec<SetAside>,
    /// Nonces left behind without a request, the newest [`Gap::MAX`]. For information only.
    pub gaps: Vec<Gap>,
    /// Paused accounts get no reservation and no signature (I14).
    pub paused: bool,
    /// When it was registered.
    pub registered_at: Millis,
    /// When it was retired, which is a permanent pause.
    pub retired_at: Option<Millis>,
    /// The network's price as the broadcaster last saw it.
    pub fee: Option<SeenFee>,
    /// Since when nodes have answered that it cannot pay. Pools then use other accounts.
    pub unfunded_since: Option<Millis>,
    /// The signer's mark that its key cannot be used. Then nothing is reserved, and pools use other accounts.
    pub unusable: Option<Unusable>,
    /// The amount counted in the newest spend window, if policy limits spending. Changes only in a reservation,
    /// together with `next_nonce`, so the condition on `next_nonce` protects it too.
    pub spend: Option<Spend>,
    /// Requests per sender in the newest window, if policy limits them. Changes as `spend` does.
    pub sender_counts: Option<SenderCounts>,
}

impl Head {
    /// The head of a new account whose first nonce is `next_nonce`.
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

    /// The number of slots that are reserved and neither left behind nor set aside.
    #[must_use]
    pub fn open_slots(&self) -> u64 {
        self.next_nonce.since(self.lowest_open_nonce)
    }

    /// Why the account cannot be unregistered; `None` if it can. It must have been retired at `retired_until` or
    /// earlier.
    #[must_use]
    pub fn stays_registered(&self, retired_until: Millis) -> Option<StaysRegistered> {
        if self.open_slots() > 0 {
            return Some(StaysRegistered::Open(self.open_slots()));
        }
        // The outcome of a slot set aside is still to be published.
        if let Ok(count @ 1..) = u64::try_from(self.set_aside.len()) {
            return Some(StaysRegistered::Open(count));
        }
        match self.retired_at {
            None => Some(StaysRegistered::NotRetired),
            Some(at) if at > retired_until => Some(StaysRegistered::RetiredAt(at)),
            Some(_) => None,
        }
    }

    /// Whether the lane needs passes: a slot is open or set aside.
    #[must_use]
    pub fn needs_passes(&self) -> bool {
        self.open_slots() > 0 || !self.set_aside.is_empty()
    }

    /// The current marks.
    #[must_use]
    pub fn marks(&self) -> Marks {
        Marks { lowest_open_nonce: self.lowest_open_nonce, set_aside: self.set_aside.clone(), gaps: self.gaps.clone() }
    }

    /// Replaces the marks.
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
    /// It has this number of slots that are open or set aside.
    Open(u64),
    /// It is not retired.
    NotRetired,
    /// It was retired at this time, which is too recent.
    RetiredAt(Millis),
}

/// How long a retired account stays registered, in milliseconds. A message that names it may wait 14 days in a queue
/// and 14 more in a dead-letter queue, and its name must not belong to another account by then.
pub const UNREGISTER_AFTER_MS: u64 = 30 * 86_400_000;

/// Every registered account, of every chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Those that can be read.
    pub heads: Vec<Head>,
    /// Those that cannot. They do not affect the others.
    pub unreadable: Vec<UnreadableHead>,
}

/// A registered account whose head or directory entry cannot be read, because a later version or a person wrote
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableHead {
    /// Its registered name, escaped because it was not parsed.
    pub name: String,
    /// Its account key, if the directory has it.
    pub account: Option<AccountKey>,
    /// What is wrong with the item; contains none of its values.
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

/// The maximum total cost of the requests that got a slot in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spend {
    /// When the window began: at the first request after the previous window.
    pub window_start: Millis,
    /// Wei counted in it.
    pub spent: Wei,
}

/// The number of requests of each sender that got a slot in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderCounts {
    /// When the window began: at the first request after the previous window.
    pub window_start: Millis,
    /// Requests per principal; [`Self::OTHERS`] counts those of all principals without an own entry.
    pub counts: BTreeMap<String, u64>,
}

impl SenderCounts {
    /// Senders that one window counts separately. At about 30 bytes each they add at most 2 KB to the head, which every
    /// reservation writes.
    pub const MAX_SENDERS: usize = 64;
    /// The key for the requests of all other senders together. Not a valid principal id.
    pub const OTHERS: &'static str = "*";
    /// The key for requests whose sender SQS does not name.
    pub const UNKNOWN: &'static str = "-";

    /// A window that begins now.
    #[must_use]
    pub fn new(window_start: Millis) -> Self {
        Self { window_start, counts: BTreeMap::new() }
    }

    /// Counts one request of this principal and returns its new count.
    pub fn add(&mut self, principal: &str) -> u64 {
        let has_room = self.counts.contains_key(principal) || self.counts.len() < Self::MAX_SENDERS;
        let count = self.counts.entry(if has_room { principal } else { Self::OTHERS }.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        *count
    }

    /// Whether this is a later window or contains everything that `before` counted.
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
    /// The head as it was read. The claim fails if its `next_nonce` has changed or it is paused.
    pub head: Head,
    /// The records to create, at most [`Reservation::MAX_RECORDS`] and [`Reservation::MAX_BYTES`] of calldata.
    pub records: Vec<Record>,
    /// The head's new spend, written in the same transaction; `None` leaves it unchanged.
    pub spend: Option<Spend>,
    /// The head's new request counts; `None` leaves them unchanged.
    pub sender_counts: Option<SenderCounts>,
    /// The ids that hold a rejection, with the id of the rejected message. The claim fails if the id holds anything
    /// else by then, so a concurrent rejection of this message is not overwritten. Every other id must be free.
    pub replaces: BTreeMap<RequestId, Option<String>>,
}

impl Reservation {
    /// The most requests of one group. Two items each and the head stay under DynamoDB's 100 items.
    pub const MAX_RECORDS: usize = 40;
    /// The most calldata of one group in bytes. It leaves room for the other attributes under DynamoDB's 4 MB.
    pub const MAX_BYTES: usize = 3_000_000;

    /// What the claim expects under a request's id.
    #[must_use]
    pub fn vacancy(&self, id: &RequestId) -> Vacancy {
        self.replaces.get(id).map_or(Vacancy::Free, |message_id| Vacancy::Rejected(message_id.clone()))
    }

    /// Asserts I1, I4 and the counting of I9, ahead of the write.
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
