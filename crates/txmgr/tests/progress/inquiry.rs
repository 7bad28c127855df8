//! What the machine decides about a slot while its slow question has no answer.

use signpost_txmgr::machine::{
    Action, ChainSlot, Corroboration, Event, ReceiptView, SlotView, Tuning, apply, next_action,
};
use signpost_txmgr::record::{BlockRef, Foreign, Inquiry, Phase, Receipt, Record, Subject};
use signpost_txmgr::units::{BlockHash, BlockNumber, Gas, Millis, Nonce, TxHash, Wei};

use super::fixture::{Fixture, NOW};

const AT: BlockRef = BlockRef { number: BlockNumber(40), hash: BlockHash([1; 32]) };

/// A signed request in slot 0.
fn signed() -> Record {
    let fixture = Fixture::new();
    fixture.request(0..1, "0x");
    fixture.record(0)
}

/// A view in which the slot is used and the node gives this answer about its receipt.
fn used(receipt: ReceiptView) -> SlotView {
    let count = Nonce(1);
    let chain = ChainSlot {
        latest_nonce: count,
        finalized_nonce: count,
        latest: BlockNumber(100),
        settles: match receipt {
            ReceiptView::Found(receipt) => Some((receipt, Corroboration::Alone)),
            ReceiptView::Absent | ReceiptView::Unknown => None,
        },
        receipt,
        canonical: Some(AT),
        price: None,
    };
    SlotView {
        chain: Some(chain),
        is_lane_head: false,
        head_since: NOW,
        predecessors_sent: true,
        last_sent_at: None,
        last_asked_at: None,
        taken_at: Some(BlockNumber(0)),
        silent_since: None,
        receiptless: 3,
        denied: 0,
    }
}

fn receipt(record: &Record, succeeded: bool) -> Receipt {
    Receipt {
        tx_hash: record.attempts[0].tx_hash,
        block: AT,
        succeeded,
        gas_used: Some(Gas(21_000)),
        effective_gas_price: Some(Wei::from(1)),
        contract: None,
    }
}

fn asked(record: &Record, subject: Subject, at: Millis) -> Record {
    Record { inquiry: Some(Inquiry::after(None, subject, None, at, at)), ..record.clone() }
}

#[test]
fn unanswered_question_waits_for_its_pause() {
    let record = signed();
    let next = |record: &Record, receipt| next_action(record, &used(receipt), &Tuning::BSC, NOW);
    let (soon, late) = (Millis(NOW.0 - Inquiry::PAUSE_MS + 1), Millis(NOW.0 - Inquiry::PAUSE_MS));
    assert_eq!(next(&asked(&record, Subject::Use, soon), ReceiptView::Absent), Action::Wait);
    assert_eq!(next(&asked(&record, Subject::Use, late), ReceiptView::Absent), Action::FindUse);
    assert_eq!(next(&asked(&record, Subject::Revert, soon), ReceiptView::Absent), Action::FindUse);

    let (failed, succeeded) = (receipt(&record, false), receipt(&record, true));
    let waiting = asked(&record, Subject::Revert, soon);
    assert_eq!(next(&waiting, ReceiptView::Found(failed)), Action::Wait);
    assert_eq!(
        next(&asked(&record, Subject::Revert, late), ReceiptView::Found(failed)),
        Action::Settle { receipt: failed, witnesses: 1 }
    );
    let mined = Record { phase: Phase::Mined(failed), ..waiting.clone() };
    assert_eq!(next(&mined, ReceiptView::Found(failed)), Action::Wait);
    assert_eq!(
        next(&waiting, ReceiptView::Found(succeeded)),
        Action::Settle { receipt: succeeded, witnesses: 1 },
        "it needs no reason"
    );
}

#[test]
fn outcome_ends_the_inquiry() {
    let record = signed();
    let asking = asked(&record, Subject::Use, NOW);
    let mined = apply(&asking, &Event::Mined(receipt(&record, true)), NOW).unwrap();
    assert!(apply(&mined, &Event::Unmined, NOW).unwrap().inquiry.is_some());
    for event in [
        Event::Finalized { receipt: receipt(&record, true), revert: None, witnesses: 1 },
        Event::Displaced { foreign: Foreign { tx_hash: TxHash([8; 32]), block: AT }, witnesses: 1 },
    ] {
        assert_eq!(apply(&mined, &event, NOW).unwrap().inquiry, None, "{}", event.name());
    }
}
