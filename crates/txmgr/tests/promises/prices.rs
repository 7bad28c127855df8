//! Replacements: the prices at which they are requested, signed and refused, for both kinds of fee.

use signpost_txmgr::fees;
use signpost_txmgr::record::AttemptKind;
use signpost_txmgr::tx::Fee;
use signpost_txmgr::units::Wei;
use signpost_txmgr::wire::{SignerPoke, Status, WireFee, WireKind};

use super::fixture::{Fixture, NOW, request};

const GWEI: u64 = 1_000_000_000;

fn dynamic(max: u64, priority: u64) -> Fee {
    Fee::Dynamic { max_fee_per_gas: Wei::from(max), max_priority_fee_per_gas: Wei::from(priority) }
}

fn legacy(price: u64) -> Fee {
    Fee::Legacy { gas_price: Wei::from(price) }
}

#[test]
fn bump_raises_both_fields_of_a_dynamic_fee() {
    let old = dynamic(1_000, 100);
    for (new, legal) in [
        ((1_100, 110), true),
        ((1_100, 109), false),
        ((1_099, 110), false),
        ((1_100, 100), false),
        ((1_000, 110), false),
        ((5_000, 100), false),
        ((1_000, 1_000), false),
        ((1_100, 1_100), true),
        ((1_100, 1_101), false),
    ] {
        assert_eq!(fees::is_legal_bump(old, dynamic(new.0, new.1)), legal, "{new:?}");
    }
}

#[test]
fn bump_keeps_both_fields_of_a_dynamic_fee_within_the_cap() {
    let cap = Wei::from(2_000);
    for (old, network, next) in [
        (dynamic(1_000, 100), None, Some(dynamic(1_100, 110))),
        (dynamic(1_001, 101), None, Some(dynamic(1_102, 112))),
        (dynamic(1_000, 100), Some(1_500), Some(dynamic(1_500, 1_500))),
        (dynamic(1_000, 100), Some(9_000), Some(dynamic(2_000, 2_000))),
        (dynamic(1_818, 100), None, Some(dynamic(2_000, 110))),
        (dynamic(1_819, 100), None, None),
    ] {
        assert_eq!(fees::bump(old, network.map(Wei::from), cap), next, "{old:?} {network:?}");
    }
}

/// A lane whose head was sent, is not mined, and is due for a bump.
fn stuck(more: &str) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.forget_sends(true);
    fixture.take(request("r-1", "one", more), NOW);
    fixture.round("one", NOW);
    fixture.mine_many();
    fixture.round("one", NOW.plus(11_000));
    fixture
}

#[test]
fn stuck_head_is_replaced_at_a_higher_price() {
    for (more, wanted) in [
        (",\"gasPrice\":\"1000000000\"", legacy(1_100_000_000)),
        (
            ",\"maxFeePerGas\":\"2000000000\",\"maxPriorityFeePerGas\":\"1000000000\"",
            dynamic(2_200_000_000, 1_100_000_000),
        ),
    ] {
        let mut fixture = stuck(more);
        let asks = fixture.asks();
        let [ask] = asks.as_slice() else { panic!("{asks:?}") };
        assert_eq!((ask.request_id.as_str(), ask.attempt, ask.kind), ("r-1", 1, WireKind::Execute));
        assert_eq!(ask.fee.as_ref().and_then(WireFee::fee), Some(wanted));

        fixture.answer_asks(&asks, NOW.plus(11_001));
        let record = fixture.record("r-1");
        let [first, bump] = record.attempts.as_slice() else { panic!("{:?}", record.attempts) };
        assert_eq!((bump.kind, bump.fee), (AttemptKind::Execute, wanted));
        assert_ne!(first.tx_hash, bump.tx_hash);

        fixture.sent();
        fixture.forget_sends(false);
        fixture.round("one", NOW.plus(11_002));
        assert_eq!(fixture.sent().iter().map(|raw| raw.hash).collect::<Vec<_>>(), [bump.tx_hash]);
        fixture.finish("one", NOW.plus(12_000));
        let outcome = fixture.outcome("r-1");
        assert_eq!((outcome.status, outcome.tx_hash), (Status::Confirmed, Some(bump.tx_hash.to_string())));
        let paid = match wanted {
            Fee::Legacy { gas_price } => gas_price,
            Fee::Dynamic { max_priority_fee_per_gas, .. } => max_priority_fee_per_gas,
        };
        assert_eq!(outcome.effective_gas_price, Some(paid.to_string()));
    }
}

#[test]
fn price_refused_by_a_node_is_raised_at_once() {
    let mut fixture = Fixture::new();
    fixture.forget_sends(true);
    fixture.take(request("r-1", "one", ""), NOW);
    fixture.round("one", NOW);
    fixture.mine_many();
    fixture.round("one", NOW.plus(10_000));
    let asks = fixture.asks();
    fixture.answer_asks(&asks, NOW.plus(10_001));
    fixture.chain.set_least_price(Wei::from_gwei(2));
    // The bump is sent and refused. The signer was asked a moment ago, but is asked again without a pause.
    fixture.round("one", NOW.plus(10_002));
    fixture.round("one", NOW.plus(10_003));
    let asks = fixture.asks();
    let [ask] = asks.as_slice() else { panic!("{asks:?}") };
    assert_eq!((ask.attempt, ask.fee.as_ref().and_then(WireFee::fee)), (2, Some(legacy(2 * GWEI))));
}

#[test]
fn signer_signs_only_bumps_that_a_node_accepts() {
    let more = ",\"maxFeePerGas\":\"2000000000\",\"maxPriorityFeePerGas\":\"1000000000\"";
    for fee in
        [dynamic(22 * GWEI / 10, GWEI), dynamic(2 * GWEI, 11 * GWEI / 10), dynamic(4 * GWEI, GWEI), legacy(3 * GWEI)]
    {
        let fixture = stuck(more);
        let ask = SignerPoke { fee: Some(WireFee::from(&fee)), ..fixture.asks().remove(0) };
        fixture.answer_asks(&[ask], NOW.plus(11_001));
        assert_eq!(fixture.record("r-1").attempts.len(), 1, "{fee:?}");
        assert_eq!(fixture.keys.sign_calls(), 1, "{fee:?}");
    }
}

#[test]
fn signer_signs_no_bump_above_the_cap() {
    let fixture = stuck("");
    let asks = fixture.asks();
    let at = |price| SignerPoke { fee: Some(WireFee::from(&legacy(price))), ..asks[0].clone() };
    fixture.answer_asks(&[at(5 * GWEI + 1)], NOW.plus(11_001));
    assert!(
        fixture.record("r-1").attempts.iter().all(|attempt| attempt.fee.price() <= Wei::from_gwei(5)),
        "nothing is priced above the cap of 5 gwei"
    );
    let fixture = stuck("");
    fixture.answer_asks(&[at(5 * GWEI)], NOW.plus(11_001));
    assert_eq!(fixture.record("r-1").attempts.len(), 2, "the cap itself is allowed");
}

#[test]
fn request_without_a_price_gets_the_accounts_price() {
    let mut fixture = Fixture::new();
    fixture.take(request("r-1", "one", ""), NOW);
    assert_eq!(fixture.record("r-1").attempts[0].fee, legacy(GWEI));
}
