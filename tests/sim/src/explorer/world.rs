//! The state of a small world: plain, compact and comparable, so that millions of states fit in memory.
//!
//! A [`World`] is a configuration with its possible faults; a [`State`] is one moment of it. Sizes are fixed: a state
//! is copied and hashed for every move. Two states that differ only in which of two equal workers does something count
//! as one ([`State::canonical`]).
//!
//! Read next: [`super::worlds`], [`super::moves`].

use signpost_txmgr::record::{AttemptKind, SendClass};

use super::lane::{ACCOUNTS, Claim, LaneState};
use super::ledger::{Chain, Seen, Tx};

/// Most messages of a world.
pub const MESSAGES: usize = 3;
/// Most request ids.
pub const REQUESTS: usize = 2;
/// Most workers of one kind.
pub const WORKERS: usize = 2;

/// A configuration, and how often each fault may happen.
#[derive(Debug, Clone)]
pub struct World {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// The messages on the signing queue.
    pub messages: Vec<MessageSpec>,
    /// The accounts that requests may use, at most [`ACCOUNTS`]: the one they name, or those of a pool.
    pub accounts: usize,
    /// Each account is on a chain of its own, in the same tables: signer and broadcaster `n` are configured for the
    /// chain of account `n`.
    pub chains: bool,
    /// Signers, at most [`WORKERS`].
    pub signers: usize,
    /// Broadcasters, at most [`WORKERS`].
    pub broadcasters: usize,
    /// How many faults of each kind.
    pub faults: Faults,
    /// A periodic sweep replaces lost pokes. Without it pokes are modelled one by one.
    pub sweep: bool,
    /// The broadcaster asks the signer for missing signatures.
    pub asks: bool,
    /// Bumps may be due.
    pub bumps: bool,
    /// Requests are priced at their cap, and may be the head of their lane for too long.
    pub capped: bool,
    /// The requests have a deadline, which may pass.
    pub deadlines: bool,
    /// A first cancel is priced at the cap, below a legal bump over what it is to replace.
    pub cheap_cancels: bool,
    /// The highest attempt number, which limits bumps; a cancel may be one more.
    pub attempts_max: u8,
}

/// A message on the signing queue: a request id with contents.
#[derive(Debug, Clone, Copy)]
pub struct MessageSpec {
    /// The request id.
    pub request: u8,
    /// Number of its contents, which decide its digest; at most 4 different ones.
    pub content: u8,
    /// Policy refuses it.
    pub refused: bool,
    /// Policy refuses it while the rule is tight: see [`State::tight`].
    pub by_rule: bool,
    /// The chain reverts it.
    pub reverts: bool,
    /// It asks to cancel the request.
    pub cancels: bool,
    /// The account it names; unused for a pool.
    pub account: u8,
}

/// How many faults of each kind may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Faults {
    /// A worker crashes; the messages it held are redelivered.
    pub crashes: u8,
    /// A call takes effect, or a send does not, and its reply is lost.
    pub lost_replies: u8,
    /// A message is redelivered while its worker still processes it.
    pub redeliveries: u8,
    /// Blocks that are not final are replaced by empty ones.
    pub reorgs: u8,
    /// The pool forgets a transaction.
    pub evictions: u8,
    /// A transaction that was not signed here takes the next nonce of the account.
    pub foreign: u8,
    /// A view comes from a node that still follows the blocks from before the last reorg.
    pub stale_views: u8,
    /// One node forgets a transaction, and another keeps it: an older attempt that can still be mined.
    pub splits: u8,
    /// A node refuses an attempt that executes a request, for good.
    pub refusals: u8,
    /// No node answers a round's questions.
    pub outages: u8,
    /// A node returns the counts and no receipt.
    pub null_receipts: u8,
    /// An operator pauses an account, and may resume it at any time.
    pub pauses: u8,
    /// An account cannot pay, until it is given funds.
    pub shortages: u8,
    /// The policy's rule becomes tight, or open again.
    pub rule_changes: u8,
    /// A message that has its answer is delivered again: its deletion is lost, or its FIFO group holds it back.
    pub held_back: u8,
}

/// One moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The signing queue.
    pub messages: [Message; MESSAGES],
    /// The resign queue: one message per request.
    pub resign: [Resign; REQUESTS],
    /// A poke is on the broadcast queue. Not modelled with the sweep.
    pub poke: bool,
    /// The workers with the right to use KMS.
    pub signers: [Signer; WORKERS],
    /// The workers with the right to use a node.
    pub broadcasters: [Broadcaster; WORKERS],
    /// The requests table.
    pub table: [Item; REQUESTS],
    /// The accounts' lanes.
    pub lanes: [LaneState; ACCOUNTS],
    /// The chain.
    pub chain: Chain,
    /// The chain as it was before the last reorg: what a stale node still believes. Kept only where such
    /// a node may be asked.
    pub stale: Chain,
    /// Reorgs so far; distinguishes the blocks of one height.
    pub fork: u8,
    /// Faults that may still happen.
    pub faults: Faults,
    /// The policy's rule is tight. Any refusal that changes with time is modelled by it: a spend window, a price,
    /// a pause, another policy, another registry.
    pub tight: bool,
    /// The stored answer of each refused message, by its stamp; 0 while there is none.
    pub answers: [u8; MESSAGES],
    /// The message that each record was reserved for, plus 1: the record's message id.
    pub reserved_by: [u8; REQUESTS],
    /// For the checks only: the message that a record's cancel was noted for, plus 1.
    pub cancelled_by: [u8; REQUESTS],
    /// For the checks only: the outcome published for a request, by its number in the cache.
    pub outcomes: [u16; REQUESTS],
    /// For the checks only: the account a request was reserved with first, plus 1.
    pub assigned: [u8; REQUESTS],
    /// For the checks only: the rejection published for a message, by its stamp; 0 while there is none.
    pub rejections: [u8; MESSAGES],
}

/// A message of the signing queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Message {
    /// Where it is.
    pub state: MessageState,
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MessageState {
    /// There is no such message.
    None,
    /// On the queue.
    Ready,
    /// Held by a worker.
    Taken,
    /// Deleted because its request is recorded.
    AckedAsRequest,
    /// Deleted because it was rejected.
    AckedAsRejected,
}

/// A message on the resign queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resign {
    /// Where it is: `None`, `Ready` or `Taken`.
    pub state: MessageState,
    /// The attempt asked for.
    pub number: u8,
    /// Its kind.
    pub cancel: bool,
}

/// What a signer is processing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signer {
    /// Its next step.
    pub step: SignerStep,
    /// The message it works for.
    pub job: Job,
    /// The record as it last read it.
    pub record: RecordId,
    /// The account it works with.
    pub claim: Claim,
    /// The signature it holds.
    pub tx: Tx,
    /// What was stored under the request id when it was read: 0 for nothing, or the message of a rejection plus 1.
    pub read: u8,
    /// The stamp of the answer it is about to give.
    pub stamp: u8,
}

/// What a signer works for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Job {
    /// Nothing.
    None,
    /// A message of the signing queue.
    Message(u8),
    /// The resign message of a request.
    Resign(u8),
}

/// The next port call of a signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SignerStep {
    /// Receive.
    Idle,
    /// Read what is stored under the message's own id.
    ReadOwn,
    /// Read what is stored under the request id.
    ReadAnswers,
    /// Read what is stored under the message's own id once more, and judge.
    ReadAgain,
    /// Read the head of one more account of the pool; after the last, choose.
    Choose,
    /// Read the account's head.
    ReadHead,
    /// Read the head of the account the record has its slot with.
    ReadItsHead,
    /// Claim the slot: one transaction.
    Reserve,
    /// Mutant: move the counter in a separate write.
    MoveCounter,
    /// Load the record that was there already.
    Load,
    /// KMS.
    Sign,
    /// Mutant: hand the bytes to a node before they are stored.
    SendUnstored,
    /// The conditional write.
    Store,
    /// Poke the broadcaster.
    Poke,
    /// Delete the message.
    Ack,
    /// Keep a copy of the rejection that is about to be replaced; then replace it by a rejection.
    CopyThenReject,
    /// Keep a copy of the rejection that is about to be replaced; then replace it by a record.
    CopyThenReserve,
    /// Store a rejection under the request id.
    Reject,
    /// Store the answer under the message's own id.
    StoreAnswer,
    /// Publish a rejection.
    PublishRejection,
    /// Note its publication on the stored rejection.
    MarkRejection,
    /// Delete the rejected message.
    AckRejection,
    /// Mutant: publish the rejection of a message that is deleted already.
    PublishAcked,
    /// Load the record that is to be cancelled.
    LoadCancel,
    /// Note on it that a cancel is asked for.
    NoteCancel,
}

/// What a broadcaster is processing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Broadcaster {
    /// Its next step.
    pub step: BroadcasterStep,
    /// It holds a poke. Not modelled with the sweep.
    pub holds_poke: bool,
    /// The record it loaded.
    pub record: RecordId,
    /// The slot is the lane's head, by what was loaded.
    pub is_lane_head: bool,
    /// Every lower slot was sent, by what was loaded.
    pub predecessors_sent: bool,
    /// What it is about to do.
    pub act: Act,
}

/// The next port call of a broadcaster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BroadcasterStep {
    /// Load a slot and its record.
    Idle,
    /// Ask the chain.
    View,
    /// Do what was decided, or store the result.
    Do,
}

/// What a broadcaster does: the machine's action, or the event that came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Act {
    /// Nothing.
    None,
    /// Send an attempt.
    Send(u8),
    /// Store the answer.
    Sent(u8, Class),
    /// Store a receipt.
    Mined(Seen),
    /// Store that the block is no longer canonical.
    Unmined,
    /// Settle by a receipt.
    Settle(Seen),
    /// Search for the foreign transaction.
    FindUse,
    /// Settle by a foreign transaction.
    Displaced(Seen),
    /// Publish the outcome.
    Publish,
    /// Store that it is published.
    Published,
    /// Leave the slot behind.
    Leave,
    /// Ask the signer for an attempt.
    Ask {
        /// Its number.
        number: u8,
        /// Whether it is a cancel.
        cancel: bool,
    },
    /// Store that the deadline passed.
    CancelByDeadline,
    /// Store that a node refuses it for good.
    CancelByRefusal,
    /// Store that it is the head of its lane, at its cap.
    AtCap,
    /// Store that it was the head at its cap for too long.
    CancelAtCap,
    /// Adopt the chain's count for a lane without open slots.
    FastForward {
        /// The account.
        account: u8,
        /// The next nonce as it was read.
        from: u8,
        /// The count at the finalized block.
        to: u8,
    },
}

/// The answers the modelled nodes give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Taken.
    Accepted,
    /// Already in the pool.
    AlreadyKnown,
    /// The nonce is used.
    NonceTooLow,
    /// Another transaction with this nonce is in the pool and pays as much.
    Underpriced,
    /// Refused for good.
    Refused,
    /// The reply was lost.
    Unknown,
}

/// What is stored under a request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Item {
    /// Nothing.
    Vacant,
    /// A rejection that never had a slot.
    Rejected {
        /// Its publication is noted.
        published: bool,
        /// The message that it answers.
        by: u8,
        /// The stamp of its text.
        stamp: u8,
    },
    /// A record.
    Record(RecordId),
}

/// A record, by its number in the [`super::machine_cache::MachineCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(pub u16);

impl RecordId {
    /// No record.
    pub const NONE: Self = Self(0);
}

/// The parts of a record that moves and checks read.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Number of writes so far.
    pub version: u64,
    /// The request id.
    pub request: u8,
    /// Number of its contents.
    pub content: u8,
    /// The account of its slot, by its index in the pool.
    pub account: u8,
    /// Nonce of its slot.
    pub nonce: u8,
    /// Its attempts.
    pub attempts: Vec<Tx>,
    /// The last answer to each attempt.
    pub answers: Vec<Option<SendClass>>,
    /// Kind of the next attempt.
    pub next_kind: AttemptKind,
    /// Another attempt may be signed.
    pub takes_attempt: bool,
    /// A receipt was seen, or it is settled.
    pub mined: bool,
    /// The receipt it holds.
    pub receipt: Option<Seen>,
    /// The outcome, by its number in the cache; 0 while it is open.
    pub outcome: u16,
    /// A cancel is requested.
    pub cancel: bool,
    /// The outcome is `displaced`.
    pub displaced: bool,
    /// The outcome is `cancelled`.
    pub cancelled: bool,
    /// The outcome is noted as published.
    pub closed: bool,
    /// The newest attempt was sent, or is mined.
    pub sent: bool,
}

impl Class {
    /// The machine's class for it.
    #[must_use]
    pub fn real(self) -> SendClass {
        match self {
            Self::Accepted => SendClass::Accepted,
            Self::AlreadyKnown => SendClass::AlreadyKnown,
            Self::NonceTooLow => SendClass::NonceTooLow,
            Self::Underpriced => SendClass::Underpriced(None),
            Self::Refused => SendClass::Refused,
            Self::Unknown => SendClass::Unknown,
        }
    }
}

impl Signer {
    /// Nothing in hand.
    pub const IDLE: Self = Self {
        step: SignerStep::Idle,
        job: Job::None,
        record: RecordId::NONE,
        claim: Claim::NONE,
        tx: Tx::NONE,
        read: 0,
        stamp: 0,
    };
}

impl Resign {
    /// No ask.
    pub const NONE: Self = Self { state: MessageState::None, number: 0, cancel: false };

    /// Whether the requested attempt is the record's next one.
    #[must_use]
    pub fn asks_for(self, facts: &Facts) -> bool {
        usize::from(self.number) == facts.attempts.len() && self.cancel == (facts.next_kind == AttemptKind::Cancel)
    }
}

impl Broadcaster {
    /// Nothing in hand.
    pub const IDLE: Self = Self {
        step: BroadcasterStep::Idle,
        holds_poke: false,
        record: RecordId::NONE,
        is_lane_head: false,
        predecessors_sent: false,
        act: Act::None,
    };

    /// The state after a round; the pass may continue.
    #[must_use]
    pub fn rested(self) -> Self {
        Self { holds_poke: self.holds_poke, ..Self::IDLE }
    }
}

impl World {
    /// Whether requests are for a pool of all accounts.
    #[must_use]
    pub fn is_pool(&self) -> bool {
        self.accounts > 1 && !self.chains
    }

    /// Whether a worker serves an account's chain. With one chain, every worker does.
    #[must_use]
    pub fn works_for(&self, worker: usize, account: u8) -> bool {
        !self.chains || worker == usize::from(account)
    }
}

impl Item {
    /// What a reader remembers of it: 0 for nothing, or the message of a rejection plus 1.
    #[must_use]
    pub fn read(self) -> u8 {
        match self {
            Self::Rejected { by, .. } => by + 1,
            Self::Vacant | Self::Record(_) => 0,
        }
    }
}

impl State {
    /// The messages are on the queue and nothing has happened.
    #[must_use]
    pub fn first(world: &World) -> Self {
        let delivered = |at| if at < world.messages.len() { MessageState::Ready } else { MessageState::None };
        Self {
            messages: std::array::from_fn(|at| Message { state: delivered(at) }),
            resign: [Resign::NONE; REQUESTS],
            poke: false,
            signers: [Signer::IDLE; WORKERS],
            broadcasters: [Broadcaster::IDLE; WORKERS],
            table: [Item::Vacant; REQUESTS],
            lanes: [LaneState::NEW; ACCOUNTS],
            chain: Chain::EMPTY,
            stale: Chain::EMPTY,
            fork: 0,
            faults: world.faults,
            tight: world.messages.iter().any(|ask| ask.by_rule),
            answers: [0; MESSAGES],
            reserved_by: [0; REQUESTS],
            cancelled_by: [0; REQUESTS],
            outcomes: [0; REQUESTS],
            assigned: [0; REQUESTS],
            rejections: [0; MESSAGES],
        }
    }

    /// The same with equal workers in a fixed order, the busy ones first. Workers of two chains are not equal.
    #[must_use]
    pub fn canonical(mut self, world: &World) -> Self {
        if world.chains {
            return self;
        }
        self.signers.sort_unstable_by(|a, b| b.cmp(a));
        self.broadcasters.sort_unstable_by(|a, b| b.cmp(a));
        self
    }

    /// An account's lane.
    #[must_use]
    pub fn lane(&self, account: u8) -> &LaneState {
        &self.lanes[usize::from(account)]
    }

    /// An account's lane, mutable.
    pub fn lane_mut(&mut self, account: u8) -> &mut LaneState {
        &mut self.lanes[usize::from(account)]
    }

    /// The record of a slot, if it is stored.
    #[must_use]
    pub fn record_at(&self, account: u8, nonce: u8) -> Option<RecordId> {
        let request = self.lane(account).slots.get(usize::from(nonce))?.checked_sub(1)?;
        match self.table[usize::from(request)] {
            Item::Record(record) => Some(record),
            Item::Vacant | Item::Rejected { .. } => None,
        }
    }

    /// The records of the table.
    pub fn records(&self) -> impl Iterator<Item = RecordId> + '_ {
        self.table.iter().filter_map(|item| match item {
            Item::Record(record) => Some(*record),
            Item::Vacant | Item::Rejected { .. } => None,
        })
    }
}
