//! Caches the real machine: every record that occurs is stored once and named by a [`RecordId`], and each result of
//! [`apply`] and [`next_action`] is computed once.
//!
//! So a state takes a hundred bytes, two records are equal exactly when their numbers are, and the explored machine is
//! the one that ships. Nothing here decides anything.
//!
//! Read next: [`super::moves`].

use std::collections::HashMap;
use std::sync::Arc;

use signpost_txmgr::fees;
use signpost_txmgr::machine::{
    Action, ChainSlot, Corroboration, Event, ReceiptView, SlotView, Tuning, apply, next_action,
};
use signpost_txmgr::record::{
    Attempt, AttemptKind, BlockRef, CancelCause, Foreign, Phase, Receipt, Record, SendAnswer, Verdict,
};
use signpost_txmgr::request::Message;
use signpost_txmgr::tx::{Fee, Intent, Signature};
use signpost_txmgr::units::{
    AccountKey, Address, BlockHash, BlockNumber, ChainId, Digest, Gas, Millis, Nonce, TxHash, Wei,
};
use signpost_txmgr::wire::OutcomeMessage;

use super::hash::FastHash;
use super::lane::ACCOUNTS;
use super::ledger::{Seen, Tx};
use super::mutants::ModelMutant;
use super::world::{Act, Class, Facts, RecordId, World};

/// The time of every write.
const WRITTEN: Millis = Millis(1_000_000);
/// The time of every decision: all waits that began at [`WRITTEN`] are over.
const ASKED: Millis = Millis(9_000_000);

/// An event of the machine, in compact form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelEvent {
    /// The attempt was signed, as this transaction.
    Signed(Tx),
    /// The attempt was sent to a node, with this class of answer.
    Sent(u8, Class),
    /// A receipt was seen.
    Mined(Seen),
    /// The receipt's block is no longer canonical.
    Unmined,
    /// A receipt was seen in a finalized block.
    Finalized(Seen),
    /// A foreign transaction used the nonce.
    Displaced(Seen),
    /// The deadline passed.
    CancelByDeadline,
    /// A node refuses it for good.
    CancelByRefusal,
    /// It is the head of its lane, at its cap.
    AtCap,
    /// It was the head at its cap for too long.
    CancelAtCap,
    /// A cancel was requested.
    CancelAsked,
    /// The outcome is published.
    Published,
}

/// What a broadcaster sees of a slot, in compact form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct View {
    /// A node answered; if not, the other fields mean nothing.
    pub answers: bool,
    /// Transaction count at the newest block.
    pub latest_nonce: u8,
    /// Transaction count at the finalized block.
    pub finalized_nonce: u8,
    /// Height of the finalized block.
    pub finalized: u8,
    /// The receipt of one of the record's attempts.
    pub receipt: Option<Seen>,
    /// The canonical block at the receipt's height, or the record's: height and fork.
    pub canonical: Option<(u8, u8)>,
    /// Receipt, block and finalized height come from one answer.
    pub is_one_answer: bool,
    /// The lane's head.
    pub is_lane_head: bool,
    /// Every lower slot was sent.
    pub predecessors_sent: bool,
}

/// Every record that occurred, and every answer of the machine.
#[derive(Debug)]
pub struct MachineCache {
    bumps: bool,
    capped: bool,
    deadlines: bool,
    asks: bool,
    cheap_cancels: bool,
    reverting: [bool; 4],
    digests: [[Digest; ACCOUNTS]; 4],
    records: Vec<(Record, Facts)>,
    outcomes: Vec<OutcomeMessage>,
    applied: HashMap<(RecordId, ModelEvent), Result<RecordId, String>, FastHash>,
    decided: HashMap<(RecordId, View), Arc<[Act]>, FastHash>,
}

impl MachineCache {
    /// An empty cache for a world.
    #[must_use]
    pub fn new(world: &World, mutant: Option<ModelMutant>) -> Self {
        let mut reverting = [false; 4];
        for ask in &world.messages {
            reverting[usize::from(ask.content)] |= ask.reverts;
        }
        Self {
            bumps: world.bumps,
            capped: world.capped,
            deadlines: world.deadlines,
            asks: world.asks,
            cheap_cancels: world.cheap_cancels,
            reverting,
            digests: digests(world.accounts > 1 && mutant != Some(ModelMutant::DigestOfAssigned)),
            records: Vec::new(),
            outcomes: Vec::new(),
            applied: HashMap::default(),
            decided: HashMap::default(),
        }
    }

    /// The facts of a record.
    #[must_use]
    pub fn facts(&self, record: RecordId) -> &Facts {
        &self.records[usize::from(record.0) - 1].1
    }

    /// The record itself.
    #[must_use]
    pub fn record(&self, record: RecordId) -> &Record {
        &self.records[usize::from(record.0) - 1].0
    }

    /// Every record that occurred.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().map(|(record, _)| record)
    }

    /// The digest of a request with these contents that is assigned to this account.
    #[must_use]
    pub fn digest(&self, content: u8, account: u8) -> Digest {
        self.digests[usize::from(content)][usize::from(account)]
    }

    /// A record as a reservation writes it.
    pub fn reserved(&mut self, request: u8, content: u8, account: u8, nonce: u8) -> RecordId {
        let digest = self.digest(content, account);
        let account = key(account);
        let record = Record {
            request_id: format!("request-{request}").parse().unwrap(),
            digest,
            version: 1,
            account,
            name: "lane".parse().unwrap(),
            nonce: Nonce(u64::from(nonce)),
            intent: Intent {
                chain_id: account.chain_id,
                to: Some(Address([0xbb; 20])),
                value: Wei::from(u64::from(content)),
                data: Arc::from([]),
                gas: Gas(21_000),
            },
            fee: fee_of(0),
            fee_cap: if self.capped { fee_of(0).price() } else { Wei::from_gwei(1) },
            deadline: self.deadlines.then_some(ASKED),
            acceptance: None,
            metadata: None,
            sender: None,
            message_id: None,
            trace: None,
            seal: None,
            attempts: Vec::new(),
            cancel: None,
            inquiry: None,
            waiting: None,
            capped_since: None,
            max_head_ms: self.capped.then_some(ASKED.since(WRITTEN)),
            phase: Phase::Reserved,
            created_at: WRITTEN,
            updated_at: WRITTEN,
        };
        self.keep(record)
    }

    /// The result of [`apply`], or its error text.
    pub fn apply(&mut self, id: RecordId, model_event: ModelEvent) -> Result<RecordId, String> {
        if let Some(known) = self.applied.get(&(id, model_event)) {
            return known.clone();
        }
        let event = self.event(model_event);
        let result = match apply(self.record(id), &event, WRITTEN) {
            Ok(next) => Ok(self.keep(next)),
            Err(illegal) => Err(illegal.to_string()),
        };
        self.applied.insert((id, model_event), result.clone());
        result
    }

    /// The results of [`next_action`] for every state of the timers, without waiting.
    pub fn decide(&mut self, id: RecordId, view: View) -> Arc<[Act]> {
        if let Some(known) = self.decided.get(&(id, view)) {
            return Arc::clone(known);
        }
        let mut acts = Vec::new();
        let choices = |possible: bool| if possible { &[false, true][..] } else { &[false][..] };
        for ask_due in choices(self.asks) {
            for bump_due in choices(self.bumps) {
                for late in choices(self.deadlines || self.capped) {
                    let act = self.decide_at(id, view, *ask_due, *bump_due, *late);
                    if act != Act::None && !acts.contains(&act) {
                        acts.push(act);
                    }
                }
            }
        }
        let acts: Arc<[Act]> = acts.into();
        self.decided.insert((id, view), Arc::clone(&acts));
        acts
    }

    fn decide_at(&self, id: RecordId, view: View, ask_due: bool, bump_due: bool, late: bool) -> Act {
        let record = self.record(id);
        let now = if late { ASKED } else { Millis(ASKED.0 - 1) };
        let receipt = match view.receipt {
            Some(seen) => ReceiptView::Found(self.receipt(seen)),
            // A slot without attempts has no receipts to read.
            None if record.attempts.is_empty() => ReceiptView::Unknown,
            None => ReceiptView::Absent,
        };
        let slot = SlotView {
            chain: view.answers.then_some(ChainSlot {
                // Enough blocks for a bump once its time has come.
                latest: BlockNumber(1_000),
                latest_nonce: Nonce(u64::from(view.latest_nonce)),
                finalized_nonce: Nonce(u64::from(view.finalized_nonce)),
                settles: settles(view, receipt),
                receipt,
                canonical: view.canonical.map(|(height, fork)| block(height, fork)),
                price: None,
            }),
            is_lane_head: view.is_lane_head,
            head_since: if bump_due { WRITTEN } else { now },
            predecessors_sent: view.predecessors_sent,
            last_sent_at: None,
            last_asked_at: (!ask_due).then_some(now),
            taken_at: Some(BlockNumber(0)),
            silent_since: None,
            // As if it had waited long enough: the worlds ask whether it may search at all.
            denied: 0,
            receiptless: u32::MAX,
        };
        match next_action(record, &slot, &Tuning::BSC, now) {
            Action::Wait => Act::None,
            Action::AskSigner(ask) => Act::Ask { number: ask.number as u8, cancel: ask.kind == AttemptKind::Cancel },
            Action::Send { number } => Act::Send(number as u8),
            Action::NoteCancel(CancelCause::Deadline) => Act::CancelByDeadline,
            Action::NoteCancel(CancelCause::Refused(_)) => Act::CancelByRefusal,
            Action::NoteAtCap(_) => Act::AtCap,
            Action::NoteCancel(CancelCause::AtCap) => Act::CancelAtCap,
            Action::NoteCancel(CancelCause::Asked | CancelCause::Policy(_)) => {
                unreachable!("only the signer notes these")
            }
            Action::NoteMined(receipt) => Act::Mined(seen(&receipt)),
            Action::NoteUnmined => Act::Unmined,
            Action::Settle { receipt, .. } => Act::Settle(seen(&receipt)),
            Action::FindUse => Act::FindUse,
            Action::Publish => Act::Publish,
            Action::Leave => Act::Leave,
        }
    }

    fn event(&self, model_event: ModelEvent) -> Event {
        match model_event {
            ModelEvent::Signed(tx) => Event::Signed {
                number: usize::from(tx.number()),
                attempt: Attempt {
                    kind: tx.kind(),
                    fee: fee_of(tx.level(self.cheap_cancels)),
                    signature: Signature { r: hash(tx), s: [1; 32], y_odd: false },
                    tx_hash: TxHash(hash(tx)),
                    to_self: Wei::ZERO,
                    signed_at: WRITTEN,
                    kms_request_id: None,
                    sent: None,
                },
            },
            ModelEvent::Sent(number, class) => {
                Event::Sent { number: usize::from(number), answer: SendAnswer::new(class.real(), "") }
            }
            ModelEvent::Mined(seen) => Event::Mined(self.receipt(seen)),
            ModelEvent::Unmined => Event::Unmined,
            ModelEvent::Finalized(seen) => Event::Finalized { receipt: self.receipt(seen), revert: None, witnesses: 1 },
            ModelEvent::Displaced(seen) => {
                let foreign = Foreign { tx_hash: TxHash(hash(seen.tx)), block: block(seen.height, seen.fork) };
                Event::Displaced { foreign, witnesses: 1 }
            }
            ModelEvent::CancelByDeadline => Event::CancelAsked(CancelCause::Deadline),
            ModelEvent::CancelByRefusal => Event::CancelAsked(CancelCause::Refused(String::new())),
            ModelEvent::AtCap => Event::AtCap(WRITTEN),
            ModelEvent::CancelAtCap => Event::CancelAsked(CancelCause::AtCap),
            ModelEvent::CancelAsked => Event::CancelAsked(CancelCause::Asked),
            ModelEvent::Published => Event::Published { expires_at: ASKED },
        }
    }

    fn receipt(&self, seen: Seen) -> Receipt {
        let executes = seen.tx.kind() == AttemptKind::Execute;
        Receipt {
            tx_hash: TxHash(hash(seen.tx)),
            block: block(seen.height, seen.fork),
            succeeded: !(executes && self.reverting[usize::from(seen.tx.content())]),
            gas_used: Some(Gas(21_000)),
            effective_gas_price: Some(Wei::from(1)),
            contract: None,
        }
    }

    fn keep(&mut self, record: Record) -> RecordId {
        if let Some(at) = self.records.iter().position(|(known, _)| *known == record) {
            return RecordId(at as u16 + 1);
        }
        let facts = self.look_at(&record);
        self.records.push((record, facts));
        RecordId(self.records.len() as u16)
    }

    fn look_at(&mut self, record: &Record) -> Facts {
        let outcome = OutcomeMessage::of_record(record).map_or(0, |outcome| self.outcome(outcome));
        let verdict = record.phase.settlement().map(|settlement| &settlement.verdict);
        let answers: Vec<_> =
            record.attempts.iter().map(|attempt| attempt.sent.as_ref().map(|sent| sent.answer.class)).collect();
        let mined = matches!(record.phase, Phase::Mined(_) | Phase::Settled(_));
        Facts {
            version: record.version,
            request: record.request_id.as_str().bytes().last().unwrap() - b'0',
            content: record.intent.value.to_string().parse().unwrap(),
            account: record.account.address.0[0] - key(0).address.0[0],
            nonce: record.nonce.0 as u8,
            attempts: record.attempts.iter().map(|attempt| tx_of(&attempt.tx_hash)).collect(),
            sent: mined || answers.last().is_some_and(Option::is_some),
            answers,
            next_kind: record.next_kind(),
            takes_attempt: !mined,
            mined,
            receipt: record.phase.receipt().map(seen),
            outcome,
            cancel: record.cancel.is_some(),
            displaced: matches!(verdict, Some(Verdict::Displaced(_))),
            cancelled: matches!(verdict, Some(Verdict::Cancelled(_))),
            closed: record.is_closed(),
        }
    }

    fn outcome(&mut self, outcome: OutcomeMessage) -> u16 {
        let known = self.outcomes.iter().position(|known| *known == outcome);
        let at = known.unwrap_or_else(|| {
            self.outcomes.push(outcome);
            self.outcomes.len() - 1
        });
        at as u16 + 1
    }
}

/// The account at an index in the pool.
fn key(account: u8) -> AccountKey {
    AccountKey { chain_id: ChainId(97), address: Address([0xaa + account; 20]) }
}

/// The digests of real requests by contents and account, for a pool or for the account itself.
fn digests(pooled: bool) -> [[Digest; ACCOUNTS]; 4] {
    let digest = |content: usize, account: usize| {
        let key = key(account as u8);
        let named = if pooled { "pool:both".to_owned() } else { key.to_string() };
        let to = Address([0xbb; 20]);
        let body = format!(
            r#"{{"requestId":"request","account":"{named}","to":"{to}","value":"{content}","data":"0x","gas":21000}}"#
        );
        match Message::parse(&body) {
            Ok(Message::Sign(request)) => request.digest(&key),
            Ok(Message::Cancel(_)) | Err(_) => unreachable!("it is a request: {body}"),
        }
    };
    std::array::from_fn(|content| std::array::from_fn(|account| digest(content, account)))
}

/// The price of a level: each is the smallest legal bump over the level before.
fn fee_of(level: u8) -> Fee {
    let mut fee = Fee::Legacy { gas_price: Wei::from(100) };
    for _ in 0..level {
        fee = fees::bump(fee, None, Wei::from_gwei(1)).unwrap();
    }
    fee
}

fn hash(tx: Tx) -> [u8; 32] {
    let mut hash = [0x5a; 32];
    hash[..2].copy_from_slice(&tx.0.to_be_bytes());
    hash
}

fn tx_of(hash: &TxHash) -> Tx {
    Tx(u16::from_be_bytes([hash.0[0], hash.0[1]]))
}

fn block(height: u8, fork: u8) -> BlockRef {
    let mut hash = [0xb1; 32];
    hash[..2].copy_from_slice(&[height, fork]);
    BlockRef { number: BlockNumber(u64::from(height)), hash: BlockHash(hash) }
}

fn seen(receipt: &Receipt) -> Seen {
    let [height, fork, ..] = receipt.block.hash.0;
    Seen { tx: tx_of(&receipt.tx_hash), height, fork }
}

/// The receipt, if the same answer shows it in a finalized block.
fn settles(view: View, receipt: ReceiptView) -> Option<(Receipt, Corroboration)> {
    let ReceiptView::Found(receipt) = receipt else { return None };
    if !view.is_one_answer {
        return None;
    }
    let height = receipt.block.number.0;
    let is_canonical = view.canonical.is_some_and(|(height, fork)| block(height, fork) == receipt.block);
    (height <= u64::from(view.finalized) && is_canonical).then_some((receipt, Corroboration::Alone))
}
