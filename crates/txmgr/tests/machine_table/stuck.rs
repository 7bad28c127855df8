//! Since when a record has made no progress.

use super::*;

#[test]
fn bump_is_not_progress() {
    let bumped = Record { updated_at: NOW, ..bumped() };
    assert_eq!((bumped.moved_at(), bumped.stuck_since()), (NOW, START), "since a node accepted the first one");
    let at_no_node = in_phase(Phase::Sent, vec![answered(&execute(1, 100), SendClass::Retry), execute(2, 110)]);
    assert_eq!(Record { updated_at: NOW, ..at_no_node.clone() }.stuck_since(), at_no_node.attempts[0].signed_at);
    // A cancel starts a new wait, and so does a block.
    let cancelled = Record { updated_at: NOW, ..cancel_signed() };
    assert_eq!(cancelled.stuck_since(), cancelled.attempts[1].signed_at);
    let mined = Record { phase: Phase::Mined(receipt(1, block(40, 1))), ..bumped };
    assert_eq!(mined.stuck_since(), NOW);
}
