//! The small steps of a request, each alone: parsing a message, checking it against a policy, and the record
//! machine.
//!
//! `cargo bench -p signpost-txmgr --bench parts`. Compare with one `k256` verification of the bench
//! `signing`: each of these should be negligible beside it.

#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use signpost_txmgr::machine::{ChainSlot, Corroboration, Event, ReceiptView, SlotView, Tuning, apply, next_action};
use signpost_txmgr::policy::{Accepted, AccountPolicy, NetworkRules, Policies, accept};
use signpost_txmgr::record::{Attempt, AttemptKind, BlockRef, Phase, Receipt, Record, SendAnswer, SendClass};
use signpost_txmgr::request::{Message, SigningRequest};
use signpost_txmgr::signature::LocalKey;
use signpost_txmgr::tx::UnsignedTx;
use signpost_txmgr::units::{AccountKey, BlockHash, BlockNumber, ChainId, Gas, Millis, Nonce, Wei};

const NOW: Millis = Millis(1_795_348_800_000);

/// Every rule, with values for a payout account.
const POLICY: &str = r#"
[account.payouts]
max_gas_price_wei = "5000000000"
gas_price_wei = "100000000"
min_gas_price_wei = "50000000"
allow_to = ["0x55d398326f99059fF775485246999027B3197955", "0x5555555555555555555555555555555555555555"]
deny_to = ["0x000000000000000000000000000000000000dEaD"]
max_value_wei = "1000000000000000000"
max_gas = 500000
max_data_bytes = 4096
allow_senders = ["AIDAEXAMPLE", "AROAEXAMPLE:*"]
allow_selectors = { "0x5555555555555555555555555555555555555555" = ["0xa9059cbb"] }
"#;

fn body() -> String {
    format!(
        r#"{{"requestId":"payout-1","account":"payouts","to":"0x5555555555555555555555555555555555555555","data":"0xa9059cbb{}","gas":60000,"gasPrice":"1000000000","metadata":{{"batch":17}}}}"#,
        "11".repeat(64)
    )
}

fn request() -> SigningRequest {
    match Message::parse(&body()) {
        Ok(Message::Sign(request)) => request,
        Ok(Message::Cancel(_)) | Err(_) => unreachable!("the body is a signing request"),
    }
}

fn account() -> AccountKey {
    AccountKey { chain_id: ChainId(56), address: LocalKey::new([0x46; 32]).public_key().address() }
}

fn accepted(request: &SigningRequest, account: &AccountKey, policy: &AccountPolicy) -> Accepted {
    let network = NetworkRules { fee_floor: Wei::from(50_000_000) };
    accept(request, account, policy, &network, None, Some("AROAEXAMPLE:i-0abc"), NOW).expect("within the policy")
}

fn reading(criterion: &mut Criterion) {
    let policies = Policies::from_toml(POLICY).expect("a policy");
    let policy = policies.of(&"payouts".parse().expect("a name")).expect("it has rules");
    let (body, request, account) = (body(), request(), account());
    let mut group = criterion.benchmark_group("parts");
    group.bench_function("parse", |bencher| bencher.iter(|| Message::parse(black_box(&body))));
    group.bench_function("checks_policy_digest", |bencher| {
        bencher.iter(|| accepted(black_box(&request), &account, policy));
    });
    group.finish();
}

/// A record that was reserved, signed and sent.
fn sent() -> Record {
    let policies = Policies::from_toml(POLICY).expect("a policy");
    let policy = policies.of(&"payouts".parse().expect("a name")).expect("it has rules");
    let key = LocalKey::new([0x46; 32]);
    let accepted = accepted(&request(), &account(), policy);
    let reserved = Record {
        request_id: "payout-1".parse().expect("an id"),
        digest: accepted.digest,
        version: 1,
        account: AccountKey { chain_id: ChainId(56), address: key.public_key().address() },
        name: "payouts".parse().expect("a name"),
        nonce: Nonce(7),
        intent: accepted.intent,
        fee: accepted.fee,
        fee_cap: Wei::from_gwei(5),
        deadline: None,
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
        max_head_ms: None,
        phase: Phase::Reserved,
        created_at: NOW,
        updated_at: NOW,
    };
    let tx = UnsignedTx { intent: &reserved.intent, nonce: reserved.nonce, fee: reserved.fee };
    let hash = tx.signing_hash();
    let signature = key.public_key().signature(&hash, &key.sign_der(&hash, false)).expect("just signed");
    let attempt = Attempt {
        kind: AttemptKind::Execute,
        fee: reserved.fee,
        signature,
        tx_hash: tx.sign(&signature).hash,
        to_self: Wei::ZERO,
        signed_at: NOW,
        kms_request_id: None,
        sent: None,
    };
    let signed = apply(&reserved, &Event::Signed { number: 0, attempt }, NOW).expect("legal");
    let answer = SendAnswer::new(SendClass::Accepted, "");
    apply(&signed, &Event::Sent { number: 0, answer }, NOW).expect("legal")
}

fn machine(criterion: &mut Criterion) {
    let record = sent();
    let receipt = Receipt {
        tx_hash: record.attempts.first().expect("it was signed").tx_hash,
        block: BlockRef { number: BlockNumber(100), hash: BlockHash([9; 32]) },
        succeeded: true,
        gas_used: Some(Gas(51_000)),
        effective_gas_price: Some(Wei::from_gwei(1)),
        contract: None,
    };
    let chain = ChainSlot {
        latest_nonce: Nonce(8),
        finalized_nonce: Nonce(7),
        latest: BlockNumber(100),
        settles: Some((receipt, Corroboration::Alone)),
        receipt: ReceiptView::Found(receipt),
        canonical: Some(receipt.block),
        price: None,
    };
    let view = SlotView {
        chain: Some(chain),
        is_lane_head: true,
        head_since: NOW,
        predecessors_sent: true,
        last_sent_at: Some(NOW),
        last_asked_at: None,
        taken_at: Some(BlockNumber(0)),
        silent_since: None,
        receiptless: 3,
        denied: 0,
    };
    let mut group = criterion.benchmark_group("machine");
    group.bench_function("next_action", |bencher| {
        bencher.iter(|| next_action(black_box(&record), &view, &Tuning::BSC, NOW));
    });
    group.bench_function("apply_mined", |bencher| {
        bencher.iter(|| apply(black_box(&record), &Event::Mined(receipt), NOW));
    });
    group.finish();
}

criterion_group!(benches, reading, machine);
criterion_main!(benches);
