//! Every (phase × event) pair of [`machine::apply`] and a grid of views for [`machine::next_action`], as tables under
//! `snapshots/`: what is legal, what is not, and the next action. The rules that the tables do not show at a glance
//! follow as separate tests.
//!
//! To change a rule, run with `INSTA_UPDATE=always` and read the difference.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a test stops at the first surprise")]

mod capped;
mod shown;
mod stuck;

use std::fmt::Write as _;
use std::sync::Arc;

use signpost_txmgr::fees;
use signpost_txmgr::machine::{
    Action, ChainSlot, Corroboration, Event, IllegalTransition, ReceiptView, SignerAsk, SlotView, Tuning, apply,
    next_action,
};
use signpost_txmgr::record::{
    Attempt, AttemptKind, BlockRef, CancelCause, Foreign, Inquiry, Phase, Reason, Receipt, Record, Revert, SendAnswer,
    SendClass, Sent, Settlement, Subject, Verdict,
};
use signpost_txmgr::tx::{Fee, Intent, Signature};
use signpost_txmgr::units::{
    AccountKey, Address, BlockHash, BlockNumber, ChainId, Digest, Gas, Millis, Nonce, TxHash, Wei,
};

use self::shown::{describe, describe_action};

const START: Millis = Millis(1_000_000);
const NOW: Millis = Millis(2_000_000);
const NONCE: Nonce = Nonce(5);

// ---- The records -------------------------------------------------------------------------------

fn reserved() -> Record {
    Record {
        request_id: "pay-1".parse().unwrap(),
        digest: Digest([7; 32]),
        version: 1,
        account: AccountKey { chain_id: ChainId(97), address: Address([0xaa; 20]) },
        name: "treasury".parse().unwrap(),
        nonce: NONCE,
        intent: Intent {
            chain_id: ChainId(97),
            to: Some(Address([0xbb; 20])),
            value: Wei::from(1),
            data: Arc::from([]),
            gas: Gas(21_000),
        },
        fee: price(100),
        fee_cap: Wei::from(200),
        deadline: None,
        acceptance: None,
        metadata: None,
        sender: None,
        message_id: None,
        trace: None,
        seal: None,
        attempts: vec![],
        cancel: None,
        inquiry: None,
        waiting: None,
        capped_since: None,
        max_head_ms: None,
        phase: Phase::Reserved,
        created_at: START,
        updated_at: START,
    }
}

fn price(gas_price: u64) -> Fee {
    Fee::Legacy { gas_price: Wei::from(gas_price) }
}

/// An attempt whose hash is the byte `id` 32 times.
fn attempt(kind: AttemptKind, id: u8, gas_price: u64) -> Attempt {
    Attempt {
        kind,
        fee: price(gas_price),
        signature: Signature { r: [id; 32], s: [1; 32], y_odd: false },
        tx_hash: TxHash([id; 32]),
        to_self: Wei::ZERO,
        signed_at: START,
        kms_request_id: None,
        sent: None,
    }
}

fn execute(id: u8, gas_price: u64) -> Attempt {
    attempt(AttemptKind::Execute, id, gas_price)
}

fn cancel(id: u8, gas_price: u64) -> Attempt {
    attempt(AttemptKind::Cancel, id, gas_price)
}

fn answered(attempt: &Attempt, class: SendClass) -> Attempt {
    Attempt { sent: Some(Sent { at: START, answer: SendAnswer::new(class, "said") }), ..attempt.clone() }
}

fn block(number: u64, fork: u8) -> BlockRef {
    BlockRef { number: BlockNumber(number), hash: BlockHash([fork; 32]) }
}

fn receipt(id: u8, block: BlockRef) -> Receipt {
    Receipt {
        tx_hash: TxHash([id; 32]),
        block,
        succeeded: true,
        gas_used: Some(Gas(21_000)),
        effective_gas_price: Some(Wei::from(100)),
        contract: None,
    }
}

fn in_phase(phase: Phase, attempts: Vec<Attempt>) -> Record {
    Record { phase, attempts, ..reserved() }
}

fn wanting_cancel(record: Record) -> Record {
    Record { cancel: Some(CancelCause::Asked), ..record }
}

fn signed() -> Record {
    in_phase(Phase::Signed, vec![execute(1, 100)])
}

fn sent(class: SendClass) -> Record {
    in_phase(Phase::Sent, vec![answered(&execute(1, 100), class)])
}

fn bumped() -> Record {
    in_phase(Phase::Sent, vec![answered(&execute(1, 100), SendClass::Accepted), execute(2, 110)])
}

fn cancel_signed() -> Record {
    wanting_cancel(in_phase(Phase::Sent, vec![answered(&execute(1, 100), SendClass::Accepted), cancel(2, 110)]))
}

fn mined() -> Record {
    Record { phase: Phase::Mined(receipt(1, block(40, 1))), ..sent(SendClass::Accepted) }
}

fn settled(verdict: Verdict, published: bool) -> Record {
    let phase = Phase::Settled(Settlement {
        witnesses: Some(1),
        verdict,
        settled_at: START,
        published_at: published.then_some(START),
        expires_at: published.then_some(Millis(9_000_000)),
    });
    Record { phase, ..sent(SendClass::Accepted) }
}

fn confirmed(published: bool) -> Record {
    settled(Verdict::Confirmed(receipt(1, block(40, 1))), published)
}

fn phases() -> Vec<(&'static str, Record)> {
    let foreign = Foreign { tx_hash: TxHash([9; 32]), block: block(40, 1) };
    vec![
        ("reserved", reserved()),
        ("reserved, cancel wanted", wanting_cancel(reserved())),
        ("signed", signed()),
        ("signed, cancel wanted", wanting_cancel(signed())),
        ("sent", sent(SendClass::Accepted)),
        ("sent, bump stored", bumped()),
        ("sent, cancel wanted", wanting_cancel(sent(SendClass::Accepted))),
        ("sent, cancel stored", cancel_signed()),
        ("mined", mined()),
        ("mined, cancel wanted", wanting_cancel(mined())),
        ("confirmed", confirmed(false)),
        ("confirmed, published", confirmed(true)),
        ("reverted", settled(Verdict::Reverted(receipt(1, block(40, 1)), None), false)),
        ("cancelled", settled(Verdict::Cancelled(receipt(2, block(40, 1))), false)),
        ("displaced", settled(Verdict::Displaced(foreign), false)),
    ]
}

// ---- The events --------------------------------------------------------------------------------

fn events() -> Vec<(&'static str, Event)> {
    let sign = |number, attempt| Event::Signed { number, attempt };
    let answer = |number, class| Event::Sent { number, answer: SendAnswer::new(class, "said") };
    let finalized = |receipt| Event::Finalized { receipt, revert: None, witnesses: 1 };
    let failed = |id| Receipt { succeeded: false, ..receipt(id, block(41, 1)) };
    let revert = Revert { text: "no funds".to_owned(), raw: vec![1] };
    let at = block(41, 1);
    let dynamic = Fee::Dynamic { max_fee_per_gas: Wei::from(150), max_priority_fee_per_gas: Wei::from(150) };
    vec![
        ("Signed #0 execute at 100", sign(0, execute(3, 100))),
        ("Signed #0 execute above the cap of 200", sign(0, execute(3, 201))),
        ("Signed #0 cancel at 100", sign(0, cancel(3, 100))),
        ("Signed #1 execute at 110", sign(1, execute(3, 110))),
        ("Signed #1 execute at 109, no legal bump", sign(1, execute(3, 109))),
        ("Signed #1 execute of another type", sign(1, Attempt { fee: dynamic, ..execute(3, 150) })),
        ("Signed #1 execute above the cap of 200", sign(1, execute(3, 201))),
        ("Signed #1 cancel at 110", sign(1, cancel(3, 110))),
        ("Signed #1 cancel above the cap of 200", sign(1, cancel(3, 201))),
        ("Signed #2 cancel at 121", sign(2, cancel(3, 121))),
        ("Signed #7, a number too high", sign(7, execute(3, 200))),
        ("Sent #0 accepted", answer(0, SendClass::Accepted)),
        ("Sent #0 unknown", answer(0, SendClass::Unknown)),
        ("Sent #1 accepted", answer(1, SendClass::Accepted)),
        ("Sent #7, never signed", answer(7, SendClass::Accepted)),
        ("CancelAsked by deadline", Event::CancelAsked(CancelCause::Deadline)),
        ("Mined, hash of attempt 0", Event::Mined(receipt(1, at))),
        ("Mined, hash of attempt 1", Event::Mined(receipt(2, at))),
        ("Mined, unknown hash", Event::Mined(receipt(8, at))),
        ("Unmined", Event::Unmined),
        ("Finalized, hash of attempt 0", finalized(receipt(1, at))),
        ("Finalized, hash of attempt 1", finalized(receipt(2, at))),
        ("Finalized, status 0", Event::Finalized { receipt: failed(1), revert: Some(revert), witnesses: 1 }),
        ("Finalized, unknown hash", finalized(receipt(8, at))),
        (
            "Displaced by a foreign hash",
            Event::Displaced { foreign: Foreign { tx_hash: TxHash([8; 32]), block: at }, witnesses: 1 },
        ),
        (
            "Displaced by a hash of ours",
            Event::Displaced { foreign: Foreign { tx_hash: TxHash([1; 32]), block: at }, witnesses: 1 },
        ),
        ("AtCap", Event::AtCap(NOW)),
        ("Inquired about its use", Event::Inquired(inquiry(Subject::Use, NOW))),
        ("Published", Event::Published { expires_at: Millis(9_000_000) }),
    ]
}

/// A question that was asked at `asked_at` and got no answer.
fn inquiry(subject: Subject, asked_at: Millis) -> Inquiry {
    Inquiry::after(None, subject, None, asked_at, asked_at)
}

// ---- The tables --------------------------------------------------------------------------------

/// What must hold after every event.
fn assert_kept(before: &Record, after: &Record) {
    assert_eq!(after.version, before.version + 1, "every event is one version");
    assert_eq!((after.created_at, after.updated_at), (before.created_at, NOW));
    assert_eq!((after.nonce, after.digest, &after.intent), (before.nonce, before.digest, &before.intent), "I2");
    for (old, new) in before.attempts.iter().zip(&after.attempts) {
        assert_eq!(
            (old.tx_hash, old.fee, old.signature),
            (new.tx_hash, new.fee, new.signature),
            "I3: stored is stored"
        );
    }
    assert!(after.attempts.len() >= before.attempts.len(), "I3: no attempt is forgotten");
    if let Some(settlement) = before.phase.settlement() {
        assert_eq!(after.phase.settlement().map(|new| &new.verdict), Some(&settlement.verdict), "I6");
    }
}

#[test]
fn every_phase_and_event_matches_the_table() {
    let mut table = String::from("phase | event | result\n");
    for (phase, record) in phases() {
        writeln!(table, "\n{phase}: {}", describe(&record)).unwrap();
        for (event_name, event) in events() {
            let result = match apply(&record, &event, NOW) {
                Ok(next) => {
                    assert_kept(&record, &next);
                    describe(&next)
                }
                Err(illegal) => {
                    let text = illegal.to_string().replace(&"08".repeat(32), "8").replace(&"02".repeat(32), "2");
                    format!("ILLEGAL: {}", text.replace(&"01".repeat(32), "1"))
                }
            };
            writeln!(table, "  {phase} | {event_name} | {result}").unwrap();
        }
    }
    insta::assert_snapshot!("apply", table);
}

// ---- The views ---------------------------------------------------------------------------------

/// The chain has not used the slot.
fn chain() -> ChainSlot {
    ChainSlot {
        latest_nonce: NONCE,
        finalized_nonce: NONCE,
        latest: BlockNumber(100),
        settles: None,
        receipt: ReceiptView::Absent,
        canonical: None,
        price: None,
    }
}

fn seen(chain: ChainSlot) -> SlotView {
    SlotView {
        chain: Some(chain),
        is_lane_head: true,
        head_since: NOW,
        predecessors_sent: true,
        last_sent_at: None,
        last_asked_at: None,
        taken_at: Some(BlockNumber(0)),
        silent_since: None,
        receiptless: 0,
        denied: 0,
    }
}

fn found(id: u8, at: BlockRef, finalized: u64, canonical: Option<BlockRef>) -> SlotView {
    let past = NONCE.plus(1);
    seen(ChainSlot {
        latest_nonce: past,
        finalized_nonce: if finalized >= at.number.0 { past } else { NONCE },
        latest: BlockNumber(100),
        settles: (finalized >= at.number.0 && canonical == Some(at)).then(|| (receipt(id, at), Corroboration::Alone)),
        receipt: ReceiptView::Found(receipt(id, at)),
        canonical,
        price: None,
    })
}

/// The same with the answer of a second node, which was first asked at `since`.
fn second(view: SlotView, word: Corroboration, since: Millis) -> SlotView {
    let chain =
        view.chain.map(|chain| ChainSlot { settles: chain.settles.map(|(receipt, _)| (receipt, word)), ..chain });
    SlotView { chain, silent_since: Some(since), ..view }
}

fn views() -> Vec<(&'static str, SlotView)> {
    let (at, other) = (block(40, 1), block(40, 2));
    let latest = ChainSlot { latest_nonce: NONCE.plus(1), ..chain() };
    let passed = ChainSlot { finalized_nonce: NONCE.plus(1), ..latest.clone() };
    let silent = |canonical| seen(ChainSlot { receipt: ReceiptView::Unknown, canonical, ..latest.clone() });
    let long_head = SlotView { head_since: START, ..seen(chain()) };
    vec![
        ("no node answers", SlotView { chain: None, ..seen(chain()) }),
        ("not mined, head, just begun", seen(chain())),
        ("not mined, head, sent a moment ago", SlotView { last_sent_at: Some(NOW), ..seen(chain()) }),
        ("not mined, head, asked a moment ago", SlotView { last_asked_at: Some(NOW), ..seen(chain()) }),
        ("not mined, head for long", long_head.clone()),
        (
            "not mined, head for long, network's price 130",
            SlotView { chain: Some(ChainSlot { price: Some(Wei::from(130)), ..chain() }), ..long_head.clone() },
        ),
        ("not mined, head for long, asked a moment ago", SlotView { last_asked_at: Some(NOW), ..long_head.clone() }),
        ("not mined, not head", SlotView { is_lane_head: false, ..long_head.clone() }),
        ("not mined, lower slots unsent", SlotView { is_lane_head: false, predecessors_sent: false, ..long_head }),
        ("count past the slot, no receipt", seen(latest.clone())),
        ("count past the slot, node says nothing", silent(None)),
        ("finalized count past the slot, no receipt", seen(passed.clone())),
        (
            "finalized count past the slot, no receipt in three rounds",
            SlotView { receiptless: 3, ..seen(passed.clone()) },
        ),
        (
            "finalized count past the slot, node says nothing in three rounds",
            SlotView { receiptless: 3, ..seen(ChainSlot { receipt: ReceiptView::Unknown, ..passed }) },
        ),
        ("receipt 40/1, not final", found(1, at, 30, Some(at))),
        ("receipt 40/2 of a reorg, not final", found(1, other, 30, Some(other))),
        ("receipt 40/1, final", found(1, at, 40, Some(at))),
        ("receipt 40/1, final, a second node agrees", second(found(1, at, 40, Some(at)), Corroboration::Agrees, NOW)),
        (
            "receipt 40/1, final, a second node says nothing",
            second(found(1, at, 40, Some(at)), Corroboration::Silent, NOW),
        ),
        (
            "receipt 40/1, final, a second node says nothing for its time",
            second(found(1, at, 40, Some(at)), Corroboration::Silent, START),
        ),
        (
            "receipt 40/1, final, a second node contradicts for as long",
            second(found(1, at, 40, Some(at)), Corroboration::Contradicts, START),
        ),
        ("receipt 40/1 at a final height, other block canonical", found(1, at, 40, Some(other))),
        ("receipt 40/1 at a final height, canonical block untold", found(1, at, 40, None)),
        ("receipt of attempt 1 in 40/1, final", found(2, at, 41, Some(at))),
        ("no receipt, block 40/2 canonical", silent(Some(other))),
        ("no receipt, block 40/1 canonical", silent(Some(at))),
    ]
}

fn next_records() -> Vec<(&'static str, Record)> {
    let mut records = phases();
    let passed_deadline = |record: Record| Record { deadline: Some(NOW), ..record };
    records.extend(vec![
        ("reserved just now", Record { updated_at: NOW, ..reserved() }),
        ("reserved, deadline passed", passed_deadline(reserved())),
        ("signed, deadline passed", passed_deadline(signed())),
        ("sent, deadline passed", passed_deadline(sent(SendClass::Accepted))),
        ("mined, deadline passed", passed_deadline(mined())),
        ("sent, unknown", sent(SendClass::Unknown)),
        ("sent, already known", sent(SendClass::AlreadyKnown)),
        ("sent, nonce too low", sent(SendClass::NonceTooLow)),
        ("sent, retry", sent(SendClass::Retry)),
        ("sent, underpriced", sent(SendClass::Underpriced(None))),
        ("sent, underpriced, 150 wanted", sent(SendClass::Underpriced(Some(Wei::from(150))))),
        ("sent, funds", sent(SendClass::Funds)),
        ("sent, refused", sent(SendClass::Refused)),
        ("sent, misconfigured", sent(SendClass::Misconfigured)),
        ("sent at the cap", in_phase(Phase::Sent, vec![answered(&execute(1, 190), SendClass::Accepted)])),
        ("cancel sent, refused", {
            let mut record = cancel_signed();
            record.attempts[1] = answered(&cancel(2, 110), SendClass::Refused);
            record
        }),
    ]);
    records
}

#[test]
fn every_record_and_view_matches_the_table() {
    let mut table = String::from("record | view | next action\n");
    for (name, record) in next_records() {
        writeln!(table, "\n{name}: {}", describe(&record)).unwrap();
        for (view_name, view) in views() {
            let action = describe_action(&next_action(&record, &view, &Tuning::BSC, NOW));
            writeln!(table, "  {name} | {view_name} | {action}").unwrap();
        }
    }
    insta::assert_snapshot!("next_action", table);
}

/// The replacements of fees with two fields: how much each field is raised.
#[test]
fn both_fields_of_a_dynamic_fee_are_raised() {
    let dynamic = |most: u64, priority: u64| Fee::Dynamic {
        max_fee_per_gas: Wei::from(most),
        max_priority_fee_per_gas: Wei::from(priority),
    };
    let sent = |fee, class| in_phase(Phase::Sent, vec![answered(&Attempt { fee, ..execute(1, 0) }, class)]);
    let records = [
        ("accepted", sent(dynamic(100, 40), SendClass::Accepted)),
        ("rounded up", sent(dynamic(101, 41), SendClass::Accepted)),
        ("underpriced", sent(dynamic(100, 40), SendClass::Underpriced(None))),
        ("underpriced, 150 wanted", sent(dynamic(100, 40), SendClass::Underpriced(Some(Wei::from(150))))),
        ("near the cap of 200", sent(dynamic(181, 40), SendClass::Accepted)),
        ("at the cap of 200", sent(dynamic(182, 40), SendClass::Accepted)),
        ("cancel wanted", wanting_cancel(sent(dynamic(100, 40), SendClass::Accepted))),
    ];
    let mut table = String::from("record | view | next action\n");
    for (name, record) in records {
        writeln!(table, "\n{name}: {}", describe(&record)).unwrap();
        for (view_name, view) in views().into_iter().filter(|(name, _)| name.starts_with("not mined, head")) {
            let action = describe_action(&next_action(&record, &view, &Tuning::BSC, NOW));
            writeln!(table, "  {name} | {view_name} | {action}").unwrap();
        }
    }
    insta::assert_snapshot!("dynamic_fees", table);
}

/// Every decided action leads to an event that `apply` accepts: the two functions agree.
#[test]
fn every_next_action_leads_to_a_legal_event() {
    for (name, record) in next_records() {
        for (view_name, view) in views() {
            let event = match next_action(&record, &view, &Tuning::BSC, NOW) {
                Action::Wait | Action::Leave => continue,
                Action::AskSigner(ask) => Event::Signed {
                    number: ask.number,
                    attempt: Attempt { kind: ask.kind, fee: ask.fee.unwrap_or(record.fee), ..execute(3, 0) },
                },
                Action::Send { number } => Event::Sent { number, answer: SendAnswer::new(SendClass::Accepted, "said") },
                Action::NoteCancel(cause) => Event::CancelAsked(cause),
                Action::NoteAtCap(since) => Event::AtCap(since),
                Action::NoteMined(receipt) => Event::Mined(receipt),
                Action::NoteUnmined => Event::Unmined,
                Action::Settle { receipt, witnesses } => Event::Finalized { receipt, revert: None, witnesses },
                Action::FindUse => {
                    let foreign = Foreign { tx_hash: TxHash([8; 32]), block: block(40, 1) };
                    Event::Displaced { foreign, witnesses: 1 }
                }
                Action::Publish => Event::Published { expires_at: NOW },
            };
            // Nodes are asked only for receipts of the record's own attempts.
            let asked_for = match &view.chain {
                Some(ChainSlot { receipt: ReceiptView::Found(receipt), .. }) => {
                    record.attempt_of(receipt.tx_hash).is_some()
                }
                Some(_) | None => true,
            };
            if asked_for {
                let result = apply(&record, &event, NOW);
                assert!(result.is_ok(), "{name} | {view_name} | {event:?}: {result:?}");
            }
        }
    }
}

// ---- Claims ------------------------------------------------------------------------------------

#[test]
fn misconfigured_is_sent_again_slowly_and_never_bumped() {
    let record = sent(SendClass::Misconfigured);
    let answered = SlotView { last_sent_at: Some(NOW), ..seen(chain()) };
    assert_eq!(next_action(&record, &answered, &Tuning::BSC, NOW), Action::Wait);
    let next_pass = seen(chain());
    assert_eq!(next_action(&record, &next_pass, &Tuning::BSC, NOW), Action::Send { number: 0 });
}

#[test]
fn receipt_contradicted_by_its_own_node_is_not_stored() {
    let (at, other) = (block(40, 1), block(40, 2));
    let contradictory = found(1, at, 30, Some(other));
    assert_eq!(next_action(&sent(SendClass::Accepted), &contradictory, &Tuning::BSC, NOW), Action::Wait);
    let mined_elsewhere = Record { phase: Phase::Mined(receipt(1, block(39, 1))), ..mined() };
    assert_eq!(next_action(&mined_elsewhere, &contradictory, &Tuning::BSC, NOW), Action::Wait);
}

#[test]
fn signer_is_not_asked_for_a_used_slot() {
    let used = ChainSlot { latest_nonce: NONCE.plus(1), ..chain() };
    for (name, record) in next_records() {
        for receipt in [ReceiptView::Absent, ReceiptView::Unknown] {
            let view = SlotView { head_since: START, ..seen(ChainSlot { receipt, ..used.clone() }) };
            let action = next_action(&record, &view, &Tuning::BSC, NOW);
            assert!(!matches!(action, Action::AskSigner(_) | Action::NoteCancel(_)), "{name}: {action:?}");
        }
    }
}

#[test]
fn unsigned_reservation_with_a_used_slot_may_be_displaced() {
    let passed = ChainSlot {
        latest_nonce: NONCE.plus(1),
        finalized_nonce: NONCE.plus(1),
        receipt: ReceiptView::Unknown,
        ..chain()
    };
    assert_eq!(next_action(&reserved(), &seen(passed), &Tuning::BSC, NOW), Action::FindUse);
}

#[test]
fn cancel_above_the_requests_cap_is_still_bumped() {
    let mut record = cancel_signed();
    record.attempts[1] = answered(&cancel(2, 300), SendClass::Underpriced(None));
    let wanted = SignerAsk { number: 2, kind: AttemptKind::Cancel, fee: Some(price(330)) };
    assert_eq!(next_action(&record, &seen(chain()), &Tuning::BSC, NOW), Action::AskSigner(wanted));
}

#[test]
fn bumps_leave_room_for_a_cancel() {
    let mut record = Record { fee_cap: Wei(fees::least_bump(Wei::from(1)).unwrap().0 << 64), ..reserved() };
    let mut fee = record.fee;
    for number in 0.. {
        let attempt = Attempt { fee, ..execute(1, 0) };
        match apply(&record, &Event::Signed { number, attempt }, NOW) {
            Ok(next) => record = next,
            Err(illegal) => {
                assert_eq!(illegal, IllegalTransition::TooMany);
                break;
            }
        }
        fee = fees::bump(fee, None, record.fee_cap).unwrap();
    }
    for attempt in &mut record.attempts {
        attempt.sent = answered(&execute(1, 0), SendClass::Accepted).sent;
    }
    let number = record.attempts.len();
    let long_head = SlotView { head_since: START, ..seen(chain()) };
    assert_eq!(next_action(&record, &long_head, &Tuning::BSC, NOW), Action::Send { number: number - 1 });

    let record = wanting_cancel(record);
    let Action::AskSigner(ask) = next_action(&record, &long_head, &Tuning::BSC, NOW) else { panic!("a cancel is due") };
    let attempt = Attempt { kind: ask.kind, fee: ask.fee.unwrap(), ..execute(2, 0) };
    assert!(apply(&record, &Event::Signed { number, attempt }, NOW).is_ok());
}

#[test]
fn possibly_unsent_slot_is_sent_again_behind_the_head() {
    let behind = SlotView { is_lane_head: false, ..seen(chain()) };
    for class in [SendClass::Retry, SendClass::Unknown] {
        assert_eq!(next_action(&sent(class), &behind, &Tuning::BSC, NOW), Action::Send { number: 0 });
    }
    assert_eq!(next_action(&sent(SendClass::Accepted), &behind, &Tuning::BSC, NOW), Action::Wait);
}

#[test]
fn time_of_the_first_send_stays() {
    let event = Event::Sent { number: 0, answer: SendAnswer::new(SendClass::AlreadyKnown, "known") };
    let next = apply(&sent(SendClass::Accepted), &event, NOW).unwrap();
    let kept = next.attempts[0].sent.as_ref().unwrap();
    assert_eq!((kept.at, kept.answer.class), (START, SendClass::AlreadyKnown));
}

#[test]
fn view_without_a_node_never_settles_or_bumps() {
    for (name, record) in next_records() {
        let blind = SlotView { chain: None, head_since: START, ..seen(chain()) };
        let action = next_action(&record, &blind, &Tuning::BSC, NOW);
        let judged =
            matches!(action, Action::Settle { .. } | Action::NoteMined(_) | Action::NoteUnmined | Action::FindUse);
        let bumped = matches!(&action, Action::AskSigner(ask) if ask.kind == AttemptKind::Execute && ask.number > 0);
        assert!(!judged && !bumped, "{name}: {action:?}");
    }
}
