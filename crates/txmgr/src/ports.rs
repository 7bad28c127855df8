//! The ports of the core: a store, a key service, queues, a topic, a chain.
//!
//! A port has only the calls that the core makes. Each documents what completion means and what a lost reply
//! leaves behind. Every error first answers **did it happen: no, yes, unknown**. Retries depend on that answer, never
//! on text. Adapters retry calls that surely did not take effect (throttling, conflicts), with bounds; an error
//! reaches the core only after those retries.
//!
//! The in-memory implementations with the same contract are in `crate::fake` (feature `fake`). Read next:
//! [`crate::signer`], [`crate::broadcaster`].

use std::error::Error;
use std::fmt;
use std::future::Future;

use crate::account::{Accounts, Head, Marks, Reservation, SeenFee, StaysRegistered};
use crate::machine::{Corroboration, ReceiptView};
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

/// A port call that did not complete.
#[derive(Debug, thiserror::Error)]
#[error("{operation} did not complete (took effect: {happened:?})")]
pub struct PortError {
    /// The call, by its name in the service's API.
    pub operation: &'static str,
    /// Whether it took effect.
    pub happened: Happened,
    /// The service asked us to slow down.
    pub throttled: bool,
    /// The adapter's error.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

impl PortError {
    /// The service refuses these contents, now and later.
    #[must_use]
    pub fn refused_for_good(operation: &'static str, code: &str, message: &str) -> Self {
        let source = RefusedForGood { code: text::plain(code), message: text::plain(message) };
        Self { operation, happened: Happened::No, throttled: false, source: Box::new(source) }
    }

    /// Whether the service refused the contents, so that a repeat would be refused too.
    #[must_use]
    pub fn is_refused_for_good(&self) -> bool {
        self.source.is::<RefusedForGood>()
    }
}

/// The source of a [`PortError`] where a queue or a topic refuses a message because of its size or contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its contents are refused for good, {code}: {message}")]
pub struct RefusedForGood {
    /// The service's error code, escaped.
    pub code: String,
    /// The service's message, escaped.
    pub message: String,
}

/// The two tables. All reads are strongly consistent unless they say otherwise.
pub trait Store: Send + Sync {
    /// Every registered account on every chain, without reading slots. Unreadable items are reported separately and do
    /// not fail the call.
    fn accounts(&self) -> impl Future<Output = Result<Accounts, PortError>> + Send;

    /// The head of one account.
    fn head(&self, account: &AccountKey) -> impl Future<Output = Result<Option<Head>, PortError>> + Send;

    /// Registers an account. A lost reply: the account may be registered; a repeat then returns
    /// [`RegisterVerdict::Exists`].
    fn register(&self, head: &Head) -> impl Future<Output = Result<RegisterVerdict, PortError>> + Send;

    /// Pauses or resumes an account. Idempotent. Resuming a retired account is an error.
    fn set_paused(&self, account: &AccountKey, paused: bool) -> impl Future<Output = Result<(), PortError>> + Send;

    /// Pauses an account because of a node's answer, unless it is paused already, or ends such a pause. A pause that an
    /// operator made stays.
    fn set_paused_by_node(
        &self,
        account: &AccountKey,
        paused: bool,
    ) -> impl Future<Output = Result<(), PortError>> + Send;

    /// Sets or clears, on the head, since when the account cannot pay. Idempotent.
    fn set_unfunded(
        &self,
        account: &AccountKey,
        since: Option<Millis>,
    ) -> impl Future<Output = Result<(), PortError>> + Send;

    /// Sets or clears the mark on the head that the account's key cannot be used. Idempotent.
    fn set_unusable(
        &self,
        account: &AccountKey,
        unusable: Option<Unusable>,
    ) -> impl Future<Output = Result<(), PortError>> + Send;

    /// Stores the network's price on the head.
    fn observe_fee(&self, account: &AccountKey, fee: &SeenFee) -> impl Future<Output = Result<(), PortError>> + Send;

    /// Moves `next_nonce` and `lowest_open_nonce` from `from` to `to` if no slot is open. `false`: the head has changed
    /// since it was read, and nothing was written.
    fn fast_forward(
        &self,
        account: &AccountKey,
        from: Nonce,
        to: Nonce,
    ) -> impl Future<Output = Result<bool, PortError>> + Send;

    /// Sets both marks of a lane to `to`, also backwards, if both are at `from`, so that no slot is open. For
    /// operators; drivers only use [`Self::fast_forward`]. `false`: the head has changed since it was read, and nothing
    /// was written.
    fn set_nonce(
        &self,
        account: &AccountKey,
        from: Nonce,
        to: Nonce,
    ) -> impl Future<Output = Result<bool, PortError>> + Send;

    /// Retires an account, which is a permanent pause, if no slot is open. A repeat keeps the first time.
    fn retire(
        &self,
        account: &AccountKey,
        now: Millis,
    ) -> impl Future<Output = Result<RetireVerdict, PortError>> + Send;

    /// Removes the head and the name of an account that was retired at `retired_until` or earlier and has no open slot.
    /// Its records and slots stay until they expire. A lost reply: it may be removed; a repeat then returns
    /// [`UnregisterVerdict::NotRegistered`].
    fn unregister(
        &self,
        account: &AccountKey,
        name: &AccountName,
        retired_until: Millis,
    ) -> impl Future<Output = Result<UnregisterVerdict, PortError>> + Send;

    /// Claims slots for a group of requests in one transaction, all or nothing. A lost reply: the slots may be
    /// claimed; a repeat then reports the ids as known.
    fn reserve(&self, group: &Reservation) -> impl Future<Output = Result<ReserveVerdict, PortError>> + Send;

    /// The items under these ids that exist, in no particular order. Takes any number of ids. An item that has expired
    /// at `now` does not exist, even if DynamoDB has not deleted it yet.
    fn load(&self, ids: &[RequestId], now: Millis) -> impl Future<Output = Result<Vec<Stored>, PortError>> + Send;

    /// Writes a rejection if the stored item matches `over`: nothing, or the rejection of that message. A lost reply:
    /// it may be stored; a repeat over [`Vacancy::Free`] then returns [`RejectVerdict::Occupied`].
    fn reject(
        &self,
        rejected: &Rejected,
        over: &Vacancy,
    ) -> impl Future<Output = Result<RejectVerdict, PortError>> + Send;

    /// Writes `record` if the stored version is `record.version - 1`. A lost reply: it may be stored; a repeat
    /// then returns [`UpdateVerdict::Stale`] with our own record.
    fn update(&self, record: &Record) -> impl Future<Output = Result<UpdateVerdict, PortError>> + Send;

    /// Up to `limit` slots of a lane from `from` upwards, in order of nonce.
    fn slots(
        &self,
        account: &AccountKey,
        from: Nonce,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Nonce, RequestId)>, PortError>> + Send;

    /// Leaves the closed slots `from..to` behind: moves `lowest_open_nonce` from `from` to `to`, and sets the expiry of
    /// the slot items. `false`: another write moved it first, and nothing was written.
    fn leave_slots(
        &self,
        account: &AccountKey,
        from: Nonce,
        to: Nonce,
        expires_at: Millis,
    ) -> impl Future<Output = Result<bool, PortError>> + Send;

    /// Moves all marks of a head from `before` to `after` in one write, and sets the expiry of the slot items that are
    /// no longer open ([`Marks::left_since`]). `false`: another write moved them first, and nothing was written.
    fn move_marks(
        &self,
        account: &AccountKey,
        before: &Marks,
        after: &Marks,
        expires_at: Millis,
    ) -> impl Future<Output = Result<bool, PortError>> + Send;
}

/// The result of a registration.
#[expect(clippy::large_enum_variant, reason = "a registration is rare and its verdict is not kept")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisterVerdict {
    /// The account is registered now.
    Registered,
    /// The account was registered before, with this head.
    Exists(Head),
    /// Another account has the name.
    NameTaken,
}

/// The result of retiring an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetireVerdict {
    /// The account is retired, by this call or an earlier one.
    Retired,
    /// The account has open slots; this is its stored head.
    Open(Box<Head>),
    /// The account is not registered.
    NotRegistered,
}

/// The result of unregistering an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnregisterVerdict {
    /// The account was removed.
    Unregistered,
    /// The account stays registered, for this reason.
    Stays(StaysRegistered),
    /// No account is registered with this key and name.
    NotRegistered,
}

/// The result of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReserveVerdict {
    /// Every request has its slot.
    Reserved,
    /// No slot was claimed, for at least one of these reasons.
    NotReserved {
        /// The head has changed since it was read: its nonce moved, it was paused or removed.
        head_changed: bool,
        /// Ids that do not hold what the group expects, but a record or another rejection. Read them again.
        known: Vec<RequestId>,
        /// A slot item exists at or above the head's `next_nonce`. Read the head again.
        slot_taken: bool,
        /// Another transaction conflicted on every try of the adapter.
        contended: bool,
    },
}

/// The result of writing a rejection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RejectVerdict {
    /// The rejection is stored.
    Stored,
    /// The id holds something else, a record or another rejection; nothing was written.
    Occupied,
}

/// The result of a conditional write of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum UpdateVerdict {
    /// The record is stored.
    Stored,
    /// Another write came first; this is the stored record.
    Stale(Box<Record>),
    /// The record no longer exists.
    Gone,
}

/// A key's public key, as the key service returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAnswer {
    /// The key's ARN, even if the call named an alias, which may be moved to another key.
    pub id: KmsKeyId,
    /// Its `SubjectPublicKeyInfo` in DER.
    pub spki: Vec<u8>,
}

/// A signature as the key service returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KmsSignature {
    /// ECDSA in DER; `s` may be high.
    pub der: Vec<u8>,
    /// The service's request id, if it returned one. It finds the call's event in the audit trail (`CloudTrail`).
    pub request_id: Option<String>,
}

/// The key service. Signing twice gives two different signatures: KMS is not deterministic.
pub trait Keys: Send + Sync {
    /// Returns the public key (`GetPublicKey`).
    fn public_key(&self, key: &KmsKeyId) -> impl Future<Output = Result<KeyAnswer, KeyCallError>> + Send;

    /// Signs the hash with ECDSA (`Sign`, `ECDSA_SHA_256`, `DIGEST`). A lost reply leaves only an event in the audit
    /// trail.
    fn sign(
        &self,
        key: &KmsKeyId,
        hash: &SigningHash,
    ) -> impl Future<Output = Result<KmsSignature, KeyCallError>> + Send;
}

/// A failed call to the key service.
#[derive(Debug)]
pub struct KeyCallError {
    /// The key's fault; `None` when the service did not answer, so that the key may be healthy.
    pub fault: Option<KeyFault>,
    /// The failed call.
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

/// The queue from the signer to the broadcaster.
pub trait BroadcastQueue: Send + Sync {
    /// Sends pokes for these lanes. The sweep makes up for a lost poke, and a repeated one is harmless. A poke that the
    /// queue refuses for good is an error, returned after the others are sent.
    fn poke_lanes(&self, pokes: &[LanePoke]) -> impl Future<Output = Result<(), PortError>> + Send;
}

/// The queue from the broadcaster to the signer.
pub trait ResignQueue: Send + Sync {
    /// Sends pokes for these requests. Lost and repeated pokes are harmless.
    fn poke_signer(&self, pokes: &[SignerPoke]) -> impl Future<Output = Result<(), PortError>> + Send;
}

/// The outcome topic.
pub trait OutcomeTopic: Send + Sync {
    /// Publishes outcomes; one result each, in order. A lost reply: the outcome may be published; a repeat
    /// sends a copy with the same `eventId`. An outcome that the topic refuses because of its contents is
    /// [`PortError::is_refused_for_good`]; the others are published all the same. Call it through
    /// [`crate::publish::all`], which publishes a refused outcome in reduced form.
    fn publish(&self, outcomes: &[OutcomeMessage]) -> impl Future<Output = Vec<Result<(), PortError>>> + Send;
}

/// The chain, through one or more nodes.
pub trait Chain: Send + Sync {
    /// `eth_chainId`.
    fn chain_id(&self) -> impl Future<Output = Result<ChainId, PortError>> + Send;

    /// One round's view of an account and its open slots, all from one node.
    fn view(&self, query: &ViewQuery) -> impl Future<Output = Result<ChainView, PortError>> + Send;

    /// Sends raw bytes to the configured nodes. Never an error: an unknown result is
    /// [`crate::record::SendClass::Unknown`], and unknown counts as sent.
    fn send(&self, raw: &RawTx) -> impl Future<Output = SendAnswer> + Send;

    /// Sends several transactions of one lane, lowest nonce first; one answer each.
    fn send_all(&self, raws: &[RawTx]) -> impl Future<Output = Vec<SendAnswer>> + Send {
        async move {
            let mut answers = Vec::with_capacity(raws.len());
            for raw in raws {
                answers.push(self.send(raw).await);
            }
            answers
        }
    }

    /// Replays a reverted transaction (`eth_call` at its block). Returns the raw revert data if the node gives any.
    fn revert_bytes(
        &self,
        from: Address,
        intent: &Intent,
        block: BlockRef,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, PortError>> + Send;

    /// Asks an endpoint other than the view's about the receipts that the view shows final: one answer each, in
    /// order. Never an error: an endpoint that cannot answer is [`Corroboration::Silent`].
    fn witness(&self, query: &WitnessQuery) -> impl Future<Output = Vec<Corroboration>> + Send;

    /// Finds the transaction that used a nonce. First asks every endpoint for the receipts of our own attempts; then
    /// searches for the block in which the account's count passes the nonce, and reads its transactions. Reads a
    /// bounded number of blocks and returns how far it got.
    fn nonce_use(&self, query: &UseQuery) -> impl Future<Output = Result<NonceUse, PortError>> + Send;

    /// The account's transaction count at the final block. With two endpoints it is the lower count, with
    /// [`Corroboration::Agrees`] if they are equal and [`Corroboration::NotYet`] if they differ. With one endpoint the
    /// answer is [`Corroboration::Alone`] if it is the only one configured, and [`Corroboration::Silent`] if the others
    /// do not answer.
    fn final_count(&self, address: Address) -> impl Future<Output = Result<(Nonce, Corroboration), PortError>> + Send;

    /// Whether the address has code. For a key's address that is an EIP-7702 delegation.
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
    /// Including the transactions in the node's pool that are ready for the next block.
    pub pending: Nonce,
    /// At the finalized block; `None` if the node does not return it.
    pub finalized: Option<Nonce>,
}

/// When a block counts as final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finality {
    /// BEP-126 fast finality: the node's `finalized` block.
    Finalized,
    /// This many blocks follow it. For chains and nodes without fast finality; their `finalized` block is then not
    /// asked for. A deeper reorg makes a published outcome false.
    Confirmations(u64),
}

/// Asks a second endpoint about receipts that the first one showed final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessQuery {
    /// The account's address.
    pub address: Address,
    /// The first endpoint: [`ChainView::source`].
    pub source: String,
    /// The nonces and their receipts.
    pub finals: Vec<(Nonce, Receipt)>,
    /// The current time, to detect a node that is behind.
    pub now: Millis,
}

/// Asks which transaction used a nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UseQuery {
    /// The account's address.
    pub address: Address,
    /// The nonce that was used.
    pub nonce: Nonce,
    /// The hashes of our own attempts, the newest first.
    pub own: Vec<TxHash>,
    /// The newest final block known so far.
    pub finalized: BlockNumber,
    /// The blocks that earlier searches covered: this search continues below them.
    pub searched: Option<Searched>,
    /// The current time, to detect a node that is behind.
    pub now: Millis,
}

/// The result of a search for the transaction that used a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonceUse {
    /// This transaction used it, in a final block; and the second endpoint's answer about that.
    Found(Foreign, Corroboration),
    /// One of our attempts used it: its receipt, shown final by one endpoint, and the second endpoint's answer.
    Ours(Receipt, Corroboration),
    /// One of our attempts used it and is in this final block, but no endpoint returns its receipt.
    Unshown(Foreign),
    /// Not found, which proves nothing. Holds the blocks searched so far, including earlier calls.
    NotFound(Option<Searched>),
}

/// What one round asks the chain about an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewQuery {
    /// The account's address.
    pub address: Address,
    /// The signed, open slots in order.
    pub slots: Vec<SlotQuery>,
    /// Also ask for receipts of slots below this count, even if the node's own count is lower.
    pub latest_seen: Nonce,
    /// A node accepted the lowest open transaction some blocks ago, and no block seen so far contains it. Another node
    /// may have newer blocks.
    pub head_waits: bool,
}

/// What one round asks about a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotQuery {
    /// The slot's nonce.
    pub nonce: Nonce,
    /// The hashes of its attempts, the newest first.
    pub hashes: Vec<TxHash>,
    /// The height of the stored receipt: return the canonical block there.
    pub mined_at: Option<BlockNumber>,
}

/// One node's view in one round.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainView {
    /// The endpoint that answered.
    pub source: String,
    /// The newest block.
    pub latest: BlockRef,
    /// The newest final block.
    pub finalized: BlockRef,
    /// Transaction count at the newest block.
    pub latest_nonce: Nonce,
    /// Transaction count at the final block.
    pub finalized_nonce: Nonce,
    /// The receipt of every queried slot below the counts.
    pub receipts: Vec<(Nonce, ReceiptView)>,
    /// The receipts that this node shows final in one reply (I18). The reply has the final block, the account's count
    /// there, which is above the nonce, the canonical block at the receipt's height, and the receipt in that block.
    pub finals: Vec<(Nonce, Receipt)>,
    /// The canonical blocks at the queried heights and at those of the receipts found. A height that the node could not
    /// answer is missing.
    pub canonical: Vec<BlockRef>,
    /// The network's price in wei per gas, if the adapter reads it.
    pub price: Option<Wei>,
}
