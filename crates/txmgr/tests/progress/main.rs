//! A pass always makes progress: slow or impossible work does not block other work, and decisions and answers
//! survive an interrupted pass.

#![allow(missing_docs, reason = "a test binary has no reader of its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test ends at the first thing that is not as it should be"
)]

mod fixture;
mod inquiry;

use std::pin::pin;
use std::task::{Context, Waker};

use futures_util::FutureExt as _;
use signpost_txmgr::account::{AsideCause, Gap};
use signpost_txmgr::broadcaster::{Finding, Question};
use signpost_txmgr::fake::chain::REVERT_SELECTOR;
use signpost_txmgr::record::{Phase, Stored, Subject, Verdict};
use signpost_txmgr::units::Nonce;

use fixture::{Fixture, ROUND_MS};

const MINUTE_MS: u64 = 60_000;

/// Uses the nonces `0..count` with transactions that were not signed here, and finalizes them.
fn foreign_uses(fixture: &Fixture, count: u64) {
    for nonce in 0..count {
        fixture.chain.inner.foreign(fixture.account.address, Nonce(nonce));
    }
    for _ in 0..4 {
        fixture.chain.inner.mine();
    }
}

#[test]
fn searches_longer_than_one_invocation_end() {
    for slots in [20, 60] {
        let mut fixture = Fixture::new();
        fixture.chain.search_turns = 10;
        fixture.request(0..slots, "0x");
        foreign_uses(&fixture, u64::try_from(slots).unwrap());
        let driver = fixture.broadcaster();
        for _pass in 0..50 {
            let mut lane = fixture.lane();
            let mut left: u32 = 100;
            while left > 0 {
                fixture.now = fixture.now.plus(ROUND_MS);
                let mut round = pin!(driver.round(&mut lane, fixture.now));
                let mut context = Context::from_waker(Waker::noop());
                // The pass is interrupted when its polls are used up.
                while left > 0 && round.as_mut().poll(&mut context).is_pending() {
                    left -= 1;
                }
                left = left.saturating_sub(1);
                fixture.chain.inner.mine();
            }
        }
        assert_eq!(fixture.open(0..slots), [], "of {slots}");
        let verdicts = (0..slots).filter(|at| fixture.record(*at).phase.name() == "displaced");
        assert_eq!(verdicts.count(), slots);
    }
}

#[test]
fn unanswered_searches_do_not_delay_other_slots() {
    let mut fixture = Fixture::new();
    fixture.request(0..100, "0x");
    foreign_uses(&fixture, 80);
    let driver = fixture.broadcaster();
    let mut lane = fixture.lane();
    let mut asked: Vec<Question> = Vec::new();
    for _ in 0..6 {
        fixture.step(&driver, &mut lane);
        asked.extend(lane.take_questions());
    }
    assert_eq!(fixture.open(80..100), [], "six blocks are enough for the slots that are not displaced");
    assert_eq!(asked.len(), 4, "and the number of questions in progress is limited");
    let first = asked.remove(0);
    let finding = driver.inquire(first).now_or_never().unwrap();
    assert_eq!(driver.conclude(&mut lane, finding, fixture.now).now_or_never().unwrap().unwrap(), 1);
    assert_eq!(fixture.record(0).phase.name(), "displaced", "stored separately, while others are in progress");
}

#[test]
fn time_limit_for_a_revert_reason_spans_passes() {
    let mut fixture = Fixture::new();
    let data = format!("0x{}", hex(&REVERT_SELECTOR));
    fixture.request(0..3, &data);
    fixture.request(3..6, "0x");
    let driver = fixture.broadcaster();
    let mut lane = fixture.lane();
    for _ in 0..6 {
        fixture.step(&driver, &mut lane);
    }
    assert_eq!(fixture.open(3..6), [], "outcomes without a revert reason are published");
    assert_eq!(fixture.open(0..3), [(0, "mined"), (1, "mined"), (2, "mined")]);
    // Each pass asks, gets no answer for five seconds, and ends.
    let mut asked = 0;
    let begun = fixture.now;
    while !fixture.open(0..3).is_empty() {
        let mut lane = fixture.lane();
        fixture.step(&driver, &mut lane);
        let questions = lane.take_questions();
        asked += questions.len();
        fixture.now = fixture.now.plus(5_000);
        for question in questions {
            let finding = Finding::unanswered(question);
            driver.conclude(&mut lane, finding, fixture.now).now_or_never().unwrap().unwrap();
        }
        fixture.step(&driver, &mut lane);
        assert!(fixture.now.since(begun) < MINUTE_MS, "{:?}", fixture.open(0..3));
    }
    assert!(fixture.now.since(begun) >= 30_000, "the reason was waited for");
    assert!(asked <= 12, "asked {asked} times for three slots");
    for at in 0..3 {
        let Phase::Settled(settlement) = fixture.record(at).phase else { panic!("settled") };
        assert!(matches!(settlement.verdict, Verdict::Reverted(_, None)));
    }
}

#[test]
fn search_continues_after_the_last_pass_and_backs_off() {
    let mut fixture = Fixture::new();
    *fixture.chain.pruned.lock().unwrap() = true;
    for _ in 0..50 {
        fixture.chain.inner.mine();
    }
    fixture.request(0..2, "0x");
    foreign_uses(&fixture, 1);
    let driver = fixture.broadcaster();
    let begun = fixture.now;
    while fixture.now.since(begun) < 9 * MINUTE_MS {
        let mut lane = fixture.lane();
        for _ in 0..10 {
            fixture.round(&driver, &mut lane);
        }
    }
    let searches = fixture.chain.searches.lock().unwrap().clone();
    let oldest: Vec<u64> = searches.iter().flatten().map(|searched| searched.oldest.0).collect();
    assert!(searches[0].is_none() && searches[1].is_some(), "{searches:?}");
    assert!(oldest.windows(2).all(|pair| pair[0] >= pair[1]), "never upwards: {oldest:?}");
    assert!(oldest.windows(2).take(4).all(|pair| pair[0] > pair[1]), "further each time: {oldest:?}");
    assert!(searches.len() <= 16, "{} searches in nine minutes", searches.len());
    assert_eq!(fixture.open(1..2), [], "the other slot is closed");
    assert!(fixture.record(0).inquiry_about(Subject::Use).is_some());
}

#[test]
fn unproven_use_is_set_aside_and_published_once_proven() {
    let mut fixture = Fixture::new();
    *fixture.chain.pruned.lock().unwrap() = true;
    fixture.request(0..1, "0x");
    foreign_uses(&fixture, 1);
    let driver = fixture.broadcaster();
    for _ in 0..20 {
        let mut lane = fixture.lane();
        fixture.round(&driver, &mut lane);
        fixture.now = fixture.now.plus(MINUTE_MS);
    }
    let head = fixture.head();
    assert_eq!((head.open_slots(), head.set_aside.len()), (0, 1));
    assert_eq!((head.set_aside[0].nonce, head.set_aside[0].cause), (Nonce(0), AsideCause::Unproven));
    let sweep = driver.sweep(fixture.now).now_or_never().unwrap().unwrap();
    assert_eq!(sweep.pokes.len(), 1, "it is still checked");

    // The lane continues like any other.
    fixture.request(1..12, "0x");
    let mut lane = fixture.lane();
    for _ in 0..8 {
        fixture.round(&driver, &mut lane);
    }
    assert_eq!((fixture.open(1..12), fixture.head().open_slots()), (vec![], 0));

    *fixture.chain.pruned.lock().unwrap() = false;
    for _ in 0..12 {
        let mut lane = fixture.lane();
        for _ in 0..3 {
            fixture.round(&driver, &mut lane);
        }
        fixture.now = fixture.now.plus(MINUTE_MS);
    }
    assert_eq!(fixture.record(0).phase.name(), "displaced");
    assert!(fixture.record(0).is_closed() && !fixture.head().needs_passes());
    let expires = fixture.store.inner.with_tables(|tables| tables.slots[&(fixture.account, Nonce(0))].expires_at);
    assert!(expires.is_some(), "its slot is left behind with the others");
}

#[test]
fn slots_above_an_unproven_unsigned_slot_are_sent() {
    let mut fixture = Fixture::new();
    *fixture.chain.pruned.lock().unwrap() = true;
    fixture.fail_signing(true);
    fixture.request(0..1, "0x");
    foreign_uses(&fixture, 1);
    fixture.fail_signing(false);
    fixture.request(1..2, "0x");
    assert_eq!(fixture.open(0..2), [(0, "reserved"), (1, "signed")]);
    let driver = fixture.broadcaster();
    let mut lane = fixture.lane();
    for _ in 0..8 {
        fixture.round(&driver, &mut lane);
        fixture.answer_asks();
    }
    assert_eq!(fixture.open(1..2), [], "the chain has used the nonce below");
}

#[test]
fn nothing_is_sent_above_an_unsigned_and_unused_slot() {
    let mut fixture = Fixture::new();
    fixture.fail_signing(true);
    fixture.request(0..1, "0x");
    fixture.fail_signing(false);
    fixture.request(1..2, "0x");
    let driver = fixture.broadcaster();
    let mut lane = fixture.lane();
    for _ in 0..8 {
        fixture.round(&driver, &mut lane);
    }
    assert_eq!(fixture.open(0..2), [(0, "reserved"), (1, "signed")]);
}

#[test]
fn lane_continues_above_an_unpublishable_outcome() {
    let mut fixture = Fixture::new();
    *fixture.topic.refused.lock().unwrap() = Some("r-0".to_owned());
    let driver = fixture.broadcaster();
    let mut lane = fixture.lane();
    for at in 0..120 {
        fixture.request(at * 10..at * 10 + 10, "0x");
        fixture.round(&driver, &mut lane);
    }
    for _ in 0..8 {
        fixture.round(&driver, &mut lane);
    }
    assert_eq!(fixture.open(0..1_200), [(0, "confirmed")]);
    let head = fixture.head();
    assert_eq!((head.open_slots(), head.set_aside.len()), (0, 1));
    assert_eq!((head.set_aside[0].nonce, head.set_aside[0].cause), (Nonce(0), AsideCause::Unpublished));

    *fixture.topic.refused.lock().unwrap() = None;
    let mut lane = fixture.lane();
    fixture.round(&driver, &mut lane);
    assert!(fixture.record(0).is_closed() && !fixture.head().needs_passes());
}

/// With a hundred thousand slots that are settled before the pass begins.
#[test]
fn lane_continues_above_a_stuck_slot_at_constant_cost() {
    let mut fixture = Fixture::new();
    *fixture.topic.refused.lock().unwrap() = Some("r-0".to_owned());
    fixture.request(0..1, "0x");
    let driver = fixture.broadcaster();
    let mut lane = fixture.lane();
    for _ in 0..6 {
        fixture.round(&driver, &mut lane);
    }
    assert_eq!(fixture.open(0..1), [(0, "confirmed")]);
    let settled = fixture.record(0);
    let mut most = 0;
    for group in 0..400_u64 {
        fixture.store.inner.with_tables(|tables| {
            let head = tables.heads.get_mut(&fixture.account).unwrap();
            for _ in 0..250 {
                let mut record = settled.clone();
                record.nonce = head.next_nonce;
                record.request_id = format!("s-{}", record.nonce).parse().unwrap();
                let slot =
                    signpost_txmgr::fake::store::Slot { request_id: record.request_id.clone(), expires_at: None };
                tables.slots.insert((fixture.account, record.nonce), slot);
                tables.requests.insert(record.request_id.clone(), Stored::Record(Box::new(record)));
                head.next_nonce = head.next_nonce.plus(1);
            }
        });
        // A new pass each time, as after every invocation.
        let mut lane = fixture.lane();
        for _ in 0..4 {
            fixture.round(&driver, &mut lane);
        }
        let before = *fixture.store.read.lock().unwrap();
        fixture.round(&driver, &mut lane);
        let read = *fixture.store.read.lock().unwrap() - before;
        most = most.max(read);
        let open = fixture.head().open_slots();
        assert!(open <= 301, "group {group}: {open} slots are held back");
    }
    assert!(most <= 4, "{most} items were read for a round in which nothing was new");
    let head = fixture.head();
    assert_eq!((head.next_nonce, head.open_slots(), head.set_aside.len()), (Nonce(100_001), 0, 1));
}

#[test]
fn head_raised_after_a_restore_does_not_block_the_lane() {
    let mut fixture = Fixture::new();
    fixture.chain.inner.set_nonce(fixture.account.address, Nonce(10));
    fixture.store.inner.with_tables(|tables| tables.heads.get_mut(&fixture.account).unwrap().next_nonce = Nonce(10));
    let driver = fixture.broadcaster();
    let mut lane = fixture.lane();
    for at in 0..120 {
        fixture.request(at * 10..at * 10 + 10, "0x");
        fixture.round(&driver, &mut lane);
    }
    for _ in 0..8 {
        fixture.round(&driver, &mut lane);
    }
    assert_eq!(fixture.open(0..1_200), []);
    let head = fixture.head();
    assert!(!head.needs_passes(), "{head:?}");
    assert_eq!(head.gaps.iter().map(|gap| (gap.from, gap.to)).collect::<Vec<_>>(), [(Nonce(0), Nonce(10))]);
}

#[test]
fn lost_record_is_left_behind_only_if_its_nonce_is_used() {
    let mut fixture = Fixture::new();
    fixture.request(0..3, "0x");
    let lost = fixture.store.inner.with_tables(|tables| tables.requests.remove(&"r-0".parse().unwrap())).unwrap();
    let driver = fixture.broadcaster();
    let mut lane = fixture.lane();
    for _ in 0..10 {
        fixture.round(&driver, &mut lane);
    }
    assert_eq!(fixture.head().lowest_open_nonce, Nonce(0), "its transaction may be at a node");
    assert_eq!(fixture.open(1..3), [(1, "signed"), (2, "signed")], "and nothing can be mined above");

    // The record is restored, as from a backup, and processed.
    fixture.store.inner.with_tables(|tables| tables.requests.insert("r-0".parse().unwrap(), lost.clone()));
    for _ in 0..8 {
        fixture.round(&driver, &mut lane);
    }
    assert_eq!((fixture.open(0..3), fixture.head().open_slots()), (vec![], 0));

    // A lost record whose nonce is used is left behind.
    fixture.request(3..5, "0x");
    let mut lane = fixture.lane();
    fixture.round(&driver, &mut lane);
    fixture.store.inner.with_tables(|tables| tables.requests.remove(&"r-3".parse().unwrap()));
    for _ in 0..10 {
        fixture.round(&driver, &mut lane);
    }
    let head = fixture.head();
    assert_eq!((fixture.open(4..5), head.open_slots()), (vec![], 0));
    assert!(matches!(head.gaps[..], [Gap { from: Nonce(3), to: Nonce(4), .. }]), "{:?}", head.gaps);
}

#[test]
fn one_incomplete_read_leaves_no_record_behind() {
    let mut fixture = Fixture::new();
    fixture.request(0..2, "0x");
    let driver = fixture.broadcaster();
    let mut lane = fixture.lane();
    for _ in 0..4 {
        fixture.round(&driver, &mut lane);
    }
    let id = "r-0".parse().unwrap();
    fixture.request(2..4, "0x");
    let id_of_two = "r-2".parse().unwrap();
    fixture.round(&driver, &mut lane);
    let hidden = fixture.store.inner.with_tables(|tables| tables.requests.remove(&id_of_two)).unwrap();
    for _ in 0..2 {
        fixture.round(&driver, &mut lane);
    }
    fixture.store.inner.with_tables(|tables| tables.requests.insert(id_of_two, hidden));
    for _ in 0..8 {
        fixture.round(&driver, &mut lane);
    }
    assert!(matches!(fixture.store.inner.stored(&id), Some(Stored::Record(record)) if record.is_closed()));
    assert_eq!((fixture.open(0..4), fixture.head().gaps.len()), (vec![], 0));
}

#[test]
fn low_mark_stays_when_too_many_slots_are_set_aside() {
    let mut fixture = Fixture::new();
    *fixture.chain.pruned.lock().unwrap() = true;
    fixture.request(0..90, "0x");
    foreign_uses(&fixture, 70);
    let driver = fixture.broadcaster();
    for _ in 0..40 {
        let mut lane = fixture.lane();
        for _ in 0..3 {
            fixture.round(&driver, &mut lane);
        }
        fixture.now = fixture.now.plus(MINUTE_MS);
    }
    let head = fixture.head();
    assert_eq!((head.set_aside.len(), head.lowest_open_nonce), (64, Nonce(64)));
    assert_eq!(fixture.open(70..90), [], "the slots above are processed");
    fixture.request(90..120, "0x");
    let mut lane = fixture.lane();
    for _ in 0..8 {
        fixture.round(&driver, &mut lane);
    }
    assert_eq!(fixture.open(70..120), []);
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
