//! Since when a record has got no further.

use super::*;

#[test]
fn a_higher_price_gets_a_request_no_further() {
    let bumped = Record { updated_at: NOW, ..bumped() };
    assert_eq!((bumped.moved_at(), bumped.stuck_since()), (NOW, START), "since a node took the first one");
    let nowhere = in_phase(Phase::Sent, vec![answered(&execute(1, 100), SendClass::Retry), execute(2, 110)]);
    assert_eq!(Record { updated_at: NOW, ..nowhere.clone() }.stuck_since(), nowhere.attempts[0].signed_at);
    // A cancel is another thing to wait for, and so is a block.
    let cancelled = Record { updated_at: NOW, ..cancel_signed() };
    assert_eq!(cancelled.stuck_since(), cancelled.attempts[1].signed_at);
    let mined = Record { phase: Phase::Mined(receipt(1, block(40, 1))), ..bumped };
    assert_eq!(mined.stuck_since(), NOW);
}
