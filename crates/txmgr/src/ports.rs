//! What the core asks of the world: a store, a key service, queues, a topic, a chain.
//!
//! A port has the calls we make and no more. Each says what completion means and what a lost reply
//! leaves behind. Every error first answers **did it happen: no, yes, unknown**; retry follows from
//! that, never from text. Adapters bound and repeat by themselves what surely did not happen
//! (throttling, conflicts); what comes back here is past that.
//!
//! The in-memory worlds that keep the same promises are in `crate::fake` (feature `fake`).
//! Read next: [`crate::signer`], [`crate::broadcaster`].

use std::error::Error;
use std::fmt;
use std::future::Future;

use crate::account::{Accounts, Head, Marks, Reservation, SeenFee, StaysRegistered};
use crate::machine::{ReceiptView, Word};
use crate::record::{BlockRef, Foreign, Receipt, Record, Rejected, Searched, SendAnswer, Stored, Vacancy};
use crate::text;
use crate::tx::{Intent, RawTx};
use crate::units::{
    AccountKey, AccountName, Address, BlockNumber, ChainId, KmsKeyId, Millis, Nonce, RequestId, SigningHash, TxHash,
    Wei,
};
use crate::unusable::{KeyFault, Unusable};
use crate::wire::{LanePoke, OutcomeMessage, SignerPoke};

/// Did the call take effect?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// Surely not.
    No,
    /// Surely.
    Yes,
    /// It may have: the reply was lost.
    Unknown,
}

/// A port's call that did not complete.
#[derive(Debug, thiserror::Error)]
#[error("{operation} did not complete (took effect: {happened:?})")]
pub struct PortError {
    /// The call, by its name in the service's API.
    pub operation: &'static str,
    /// Whether it took effect.
    pub happened: Happened,
    /// The service asked us to slow down.
    pub throttled: bool,
    /// What the adapter met.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

impl PortError {
    /// The service will not take what it was given, now or later.
    #[must_use]
    pub fn refused_for_good(operation: &'static str, code: &str, message: &str) -> Self {
        let source = RefusedForGood { code: text::plain(code), message: text::plain(message) };
        Self { operation, happened: Happened::No, throttled: false, source: Box::new(source) }
    }

    /// Whether it is the contents that the service does not take: the same again is refused again.
    #[must_use]
    pub fn is_refused_for_good(&self) -> bool {
        self.source.is::<RefusedForGood>()
    }
}

/// A message that a queue or a topic does not take because of its size or contents: the source of such a
/// [`PortError`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its contents are refused for good, {code}: {message}")]
pub struct RefusedForGood {
    /// The service's code.
    pub code: String,
    /// The service's words, plain.
    pub message: String,
}

/// The two tables. All reads are strongly consistent unless they say otherwise.
pub trait Store: Send + Sync {
    /// Every registered account of every chain, without reading slots. An item that cannot be read is reported
    /// beside the others.
    fn accounts(&self) -> impl Future<Output = Result<Accounts, PortError>> + Send;

    /// The head of one account.
    fn head(&self, account: &AccountKey) -> impl Future<Output = Result<Option<Head>, PortError>> + Send;

    /// Registers an account. A lost reply: the account may be registered; registering again says [`RegisterVerdict::Exists`].
    fn register(&self, head: &Head) -> impl Future<Output = Result<RegisterVerdict, PortError>> + Send;

    /// Pauses or resumes an account. Repeating it changes nothing. A retired account is not resumed: an error.
    fn set_paused(&self, account: &AccountKey, paused: bool) -> impl Future<Output = Result<(), PortError>> + Send;

    /// Pauses an account because of a node's words, unless it is paused; or ends such a pause. One that a person
    /// made, before or since, stays as it is.
    fn set_paused_by_node(
        &self,
        account: &AccountKey,
        paused: bool,
    ) -> impl Future<Output = Result<(), PortError>> + Send;

    /// Notes on the head since when the account cannot pay, or that it can. Repeating it changes nothing.
    fn set_unfunded(
        &self,
        account: &AccountKey,
        since: Option<Millis>,
    ) -> impl Future<Output = Result<(), PortError>> + Send;

    /// Notes on the head that the account's key cannot be used, or that it can. Repeating it changes nothing.
    fn set_unusable(
        &self,
        account: &AccountKey,
        unusable: Option<Unusable>,
    ) -> impl Future<Output = Result<(), PortError>> + Send;

    /// Notes the network's price on the head.
    fn observe_fee(&self, account: &AccountKey, fee: &SeenFee) -> impl Future<Output = Result<(), PortError>> + Send;

    /// Moves `next_nonce` from `from` to `to` when no slot is open, both marks together. `false`: the
    /// head has moved meanwhile, nothing changed.
    fn fast_forward(
        &self,
        account: &AccountKey,
        from: Nonce,
        to: Nonce,
    ) -> impl Future<Output = Result<bool, PortError>> + Send;

    /// Sets both marks of a lane to `to`, also backwards, while both are at `from`: then no slot is open. For an
    /// operator; drivers only use [`Self::fast_forward`]. `false`: the head is not as it was read, nothing changed.
    fn set_nonce(
        &self,
        account: &AccountKey,
        from: Nonce,
        to: Nonce,
    ) -> impl Future<Output = Result<bool, PortError>> + Send;

    /// Pauses an account for good, while no slot is open. Repeating it keeps the first time.
    fn retire(
        &self,
        account: &AccountKey,
        now: Millis,
    ) -> impl Future<Output = Result<RetireVerdict, PortError>> + Send;

    /// Removes the head and the name of an account that was retired at `retired_until` or earlier and has no open
    /// slot. Its records and slots stay until they expire. A lost reply: it may be removed; removing it again says
    /// [`UnregisterVerdict::NotRegistered`].
    fn unregister(
        &self,
        account: &AccountKey,
        name: &AccountName,
        retired_until: Millis,
    ) -> impl Future<Output = Result<UnregisterVerdict, PortError>> + Send;

    /// Claims slots for a group of requests in one transaction, all or nothing. A lost reply: it may
    /// hold; reserving again answers with the ids as known.
    fn reserve(&self, group: &Reservation) -> impl Future<Output = Result<ReserveVerdict, PortError>> + Send;

    /// The records under these ids, those that exist, in no order. Any number of ids. An item whose time is over
    /// at `now` does not exist, whether or not it is deleted yet: DynamoDB deletes late.
    fn load(&self, ids: &[RequestId], now: Millis) -> impl Future<Output = Result<Vec<Stored>, PortError>> + Send;

    /// Writes a rejection where `over` is what is stored: nothing, or the rejection of that message. A lost reply:
    /// it may be stored; writing it again where nothing was says [`RejectVerdict::Occupied`] then.
    fn reject(
        &self,
        rejected: &Rejected,
        over: &Vacancy,
    ) -> impl Future<Output = Result<RejectVerdict, PortError>> + Send;

    /// Writes `record` if the stored version is `record.version - 1`. A lost reply: the write may
    /// hold; writing again then says [`UpdateVerdict::Stale`] with our own record.
    fn update(&self, record: &Record) -> impl Future<Output = Result<UpdateVerdict, PortError>> + Send;

    /// The slots of a lane from `from` on, in order of nonce, at most `limit`.
    fn slots(
        &self,
        account: &AccountKey,
        from: Nonce,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Nonce, RequestId)>, PortError>> + Send;

    /// Leaves the closed slots `from..to` behind: moves `lowest_open_nonce` from `from` to `to`, and lets
    /// the slot items expire. `false`: it was moved meanwhile, nothing changed.
    fn leave_slots(
        &self,
        account: &AccountKey,
        from: Nonce,
        to: Nonce,
        expires_at: Millis,
    ) -> impl Future<Output = Result<bool, PortError>> + Send;

    /// Moves all marks of a head from `before` to `after` in one write, and lets the slot items that are no
    /// longer open expire ([`Marks::left_since`]). `false`: they were moved meanwhile, nothing changed.
    fn move_marks(
        &self,
        account: &AccountKey,
        before: &Marks,
        after: &Marks,
        expires_at: Millis,
    ) -> impl Future<Output = Result<bool, PortError>> + Send;
}

/// What came of a registration.
#[expect(clippy::large_enum_variant, reason = "a registration is rare and its verdict is not kept")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisterVerdict {
    /// It is registered now.
    Registered,
    /// It was already; this is how.
    Exists(Head),
    /// Another account has the name.
    NameTaken,
}

/// What came of retiring an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetireVerdict {
    /// It is retired, now or since before.
    Retired,
    /// Slots are open; this is the head as stored.
    Open(Box<Head>),
    /// It is not registered.
    NotRegistered,
}

/// What came of removing an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnregisterVerdict {
    /// It is not registered any more.
    Unregistered,
    /// It stays, for this reason.
    Stays(StaysRegistered),
    /// No account is registered with this key and name.
    NotRegistered,
}

/// What came of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReserveVerdict {
    /// Every request has its slot.
    Reserved,
    /// Nothing was claimed, for at least one of these reasons.
    NotReserved {
        /// The head is no longer as read: nonce moved, paused, or gone.
        head_changed: bool,
        /// Requests whose id is not as the group expects: it has a record, or another rejection. Read it again.
        known: Vec<RequestId>,
        /// A slot exists where the head says none does: read the head again.
        slot_taken: bool,
        /// Another transaction was in the way, more often than the adapter repeats it.
        contended: bool,
    },
}

/// What came of writing a rejection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RejectVerdict {
    /// It is stored.
    Stored,
    /// Something else is stored under the id, a record or another rejection; nothing changed.
    Occupied,
}

/// What came of a conditional write.
#[derive(Debug, Clone, PartialEq)]
pub enum UpdateVerdict {
    /// It is stored.
    Stored,
    /// Another write came first; this is what is stored now.
    Stale(Box<Record>),
    /// There is no such record any more.
    Gone,
}

/// A key's public half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAnswer {
    /// The key itself: its ARN, also when it was asked for by an alias, which may be moved to another key.
    pub id: KmsKeyId,
    /// Its `SubjectPublicKeyInfo` in DER.
    pub spki: Vec<u8>,
}

/// A signature as the key service gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KmsSignature {
    /// ECDSA in DER; `s` may be high.
    pub der: Vec<u8>,
    /// The service's id of the call, if it told one: by it the audit trail of the service (`CloudTrail`) is searched.
    pub request_id: Option<String>,
}

/// The key service. Signing twice gives two different signatures: KMS is not deterministic.
pub trait Keys: Send + Sync {
    /// The key's public half (`GetPublicKey`).
    fn public_key(&self, key: &KmsKeyId) -> impl Future<Output = Result<KeyAnswer, KeyCallError>> + Send;

    /// An ECDSA signature of the hash (`Sign`, `ECDSA_SHA_256`, `DIGEST`).
    /// A lost reply leaves nothing behind but the audit trail.
    fn sign(
        &self,
        key: &KmsKeyId,
        hash: &SigningHash,
    ) -> impl Future<Output = Result<KmsSignature, KeyCallError>> + Send;
}

/// A call to the key service that brought no answer.
#[derive(Debug)]
pub struct KeyCallError {
    /// What is wrong with the key; `None` when the service did not answer, which says nothing about the key.
    pub fault: Option<KeyFault>,
    /// The call.
    pub call: PortError,
}

impl fmt::Display for KeyCallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.call.fmt(f)
    }
}

impl Error for KeyCallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.call.source()
    }
}

/// The way from the signer to the broadcaster.
pub trait BroadcastQueue: Send + Sync {
    /// Says "look at these lanes". A lost poke is made good by the sweep, a repeated one is harmless. One that
    /// the queue will never take is an error once the others are sent.
    fn poke_lanes(&self, pokes: &[LanePoke]) -> impl Future<Output = Result<(), PortError>> + Send;
}

/// The way from the broadcaster to the signer.
pub trait ResignQueue: Send + Sync {
    /// Says "look at these requests". Lost and repeated pokes are harmless.
    fn poke_signer(&self, pokes: &[SignerPoke]) -> impl Future<Output = Result<(), PortError>> + Send;
}

/// The outcome topic.
pub trait OutcomeTopic: Send + Sync {
    /// Publishes outcomes; one answer each, in order. A lost reply: it may be out; publishing again
    /// sends a copy with the same `eventId`. One that the topic will never take is
    /// [`PortError::is_refused_for_good`], and the others go out all the same. Called through
    /// [`crate::publish::all`], which publishes such a one in a form that is taken.
    fn publish(&self, outcomes: &[OutcomeMessage]) -> impl Future<Output = Vec<Result<(), PortError>>> + Send;
}

/// The chain, through one or more nodes.
pub trait Chain: Send + Sync {
    /// `eth_chainId`.
    fn chain_id(&self) -> impl Future<Output = Result<ChainId, PortError>> + Send;

    /// One round's view of an account and its open slots, all from one node.
    fn view(&self, query: &ViewQuery) -> impl Future<Output = Result<ChainView, PortError>> + Send;

    /// Hands raw bytes to the configured nodes. Never an error: an unknown result is
    /// [`crate::record::SendClass::Unknown`], and unknown counts as sent.
    fn send(&self, raw: &RawTx) -> impl Future<Output = SendAnswer> + Send;

    /// Hands several transactions of one lane over, lowest nonce first; one answer each.
    fn send_all(&self, raws: &[RawTx]) -> impl Future<Output = Vec<SendAnswer>> + Send {
        async move {
            let mut answers = Vec::with_capacity(raws.len());
            for raw in raws {
                answers.push(self.send(raw).await);
            }
            answers
        }
    }

    /// Replays a reverted transaction (`eth_call` at its block); the raw revert data if the node gives any.
    fn revert_bytes(
        &self,
        from: Address,
        intent: &Intent,
        block: BlockRef,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, PortError>> + Send;

    /// What an endpoint other than the view's says of the receipts that the view shows final: one word each, in
    /// order. Never an error: an endpoint that cannot say is [`Word::Silent`].
    fn witness(&self, query: &WitnessQuery) -> impl Future<Output = Vec<Word>> + Send;

    /// The transaction that used a nonce: first the own receipts are asked for at every endpoint, then the block is
    /// searched where the account's count steps over the nonce, and its transactions. Looks at a bounded number of
    /// blocks and says how far it got.
    fn nonce_use(&self, query: &UseQuery) -> impl Future<Output = Result<NonceUse, PortError>> + Send;

    /// The account's transaction count at the final block: the lower of what two endpoints tell, with
    /// [`Word::Agrees`], or [`Word::NotYet`] where they differ; or one's, with [`Word::Alone`] or, where the others do not answer, [`Word::Silent`].
    fn final_count(&self, address: Address) -> impl Future<Output = Result<(Nonce, Word), PortError>> + Send;

    /// Whether the address has code (an EIP-7702 delegation, for a key's address).
    fn has_code(&self, address: Address) -> impl Future<Output = Result<bool, PortError>> + Send;

    /// The balance at the newest block.
    fn balance(&self, address: Address) -> impl Future<Output = Result<Wei, PortError>> + Send;

    /// The address's transaction counts, all from one node in one request.
    fn counts(&self, address: Address) -> impl Future<Output = Result<Counts, PortError>> + Send;
}

/// Transaction counts of one address, as one node gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// At the newest block.
    pub latest: Nonce,
    /// With what the node's pool could put into the next block.
    pub pending: Nonce,
    /// At the finalized block; `None` where the node does not give it.
    pub finalized: Option<Nonce>,
}

/// When a block counts as final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finality {
    /// BEP-126 fast finality: the node's `finalized` block.
    Finalized,
    /// With this many blocks on top of it. For chains and nodes without fast finality, which are not asked for
    /// their `finalized` block then; a deeper reorg makes an outcome untrue.
    Confirmations(u64),
}

/// Receipts that one endpoint showed final, for a second one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessQuery {
    /// The account's address.
    pub address: Address,
    /// Who showed them: [`ChainView::source`].
    pub source: String,
    /// The slots and their receipts.
    pub finals: Vec<(Nonce, Receipt)>,
    /// The time, to tell whether a node keeps up.
    pub now: Millis,
}

/// A question for the use of a nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UseQuery {
    /// The account's address.
    pub address: Address,
    /// The nonce.
    pub nonce: Nonce,
    /// The hashes of our own attempts, the newest first.
    pub own: Vec<TxHash>,
    /// The final block as far as is known.
    pub finalized: BlockNumber,
    /// What an earlier search said: this one goes on below it.
    pub searched: Option<Searched>,
    /// The time, to tell whether a node keeps up.
    pub now: Millis,
}

/// What a search for the use of a nonce found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonceUse {
    /// This transaction used it, in a final block; what a second endpoint says of that.
    Found(Foreign, Word),
    /// One of our own did, and this is its receipt, shown final by one endpoint; what a second one says of it.
    Ours(Receipt, Word),
    /// One of our own did: it is in this final block, and no endpoint gives its receipt.
    Unshown(Foreign),
    /// Not found, which proves nothing: the blocks whose transactions were looked at so far, those of
    /// earlier calls included.
    NotFound(Option<Searched>),
}

/// What one round asks of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewQuery {
    /// The account's address.
    pub address: Address,
    /// The signed, open slots in order.
    pub slots: Vec<SlotQuery>,
    /// Look for receipts of slots below this count too, whatever this node's own count is.
    pub latest_seen: Nonce,
    /// A node took the lowest transaction some blocks ago and none has it, as far as was seen: perhaps another node
    /// knows better.
    pub head_waits: bool,
}

/// What one round asks about a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotQuery {
    /// Its nonce.
    pub nonce: Nonce,
    /// The hashes of its attempts, the newest first.
    pub hashes: Vec<TxHash>,
    /// The height of the receipt we hold, whose canonical block is wanted.
    pub mined_at: Option<BlockNumber>,
}

/// What one node said in one round.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainView {
    /// Which endpoint it was.
    pub source: String,
    /// The newest block.
    pub latest: BlockRef,
    /// The newest final block.
    pub finalized: BlockRef,
    /// Transaction count at the newest block.
    pub latest_nonce: Nonce,
    /// Transaction count at the final block.
    pub finalized_nonce: Nonce,
    /// For every slot below the counts: its receipt. Slots not asked about are missing.
    pub receipts: Vec<(Nonce, ReceiptView)>,
    /// The receipts that one answer of this node shows final (I18): the final block, the account's count there,
    /// which is past the nonce, the canonical block at the receipt's height, and the receipt in it.
    pub finals: Vec<(Nonce, Receipt)>,
    /// The canonical blocks at the heights asked for and at those of the receipts found; a height
    /// the node could not tell is missing.
    pub canonical: Vec<BlockRef>,
    /// The network's price in wei per gas, when the adapter follows it.
    pub price: Option<Wei>,
}
