//! One request in every state, with real signatures of a test key; and a head, a slot, a name.

use std::sync::Arc;

use signpost_aws::item::{self, Item, head};
use signpost_txmgr::account::{AsideCause, Gap, Head, SeenFee, SenderCounts, SetAside, Spend};
use signpost_txmgr::machine::{Event, apply};
use signpost_txmgr::record::{
    Acceptance, Attempt, AttemptKind, BlockRef, CancelCause, Foreign, Inquiry, Phase, Reason, Receipt, Record,
    Rejected, Revert, Searched, SendAnswer, SendClass, Settlement, Stored, Subject, WaitCause, Waiting,
};
use signpost_txmgr::seal::Seal;
use signpost_txmgr::signature::LocalKey;
use signpost_txmgr::tx::{Fee, Intent, UnsignedTx};
use signpost_txmgr::units::{
    AccountKey, Address, BlockHash, BlockNumber, ChainId, Digest, Gas, Millis, Nonce, RequestId, TxHash, Wei,
};
use signpost_txmgr::unusable::{KeyCall, KeyFault, Unusable};

/// The items, each with the name of its golden.
pub(crate) fn items() -> Vec<(String, Item)> {
    let account = head();
    let mut all: Vec<(String, Item)> =
        requests().iter().map(|(name, stored)| (format!("{name}.v1"), item::encode(stored))).collect();
    let id: RequestId = "order-4711".parse().unwrap();
    all.push(("head.v1".to_owned(), head::encode_head(&account)));
    all.push(("head-new.v1".to_owned(), head::encode_head(&Head { fee: None, paused: true, ..account.clone() })));
    let retired = Head { paused: true, retired_at: Some(Millis(1_790_000_000_999)), ..account.clone() };
    all.push(("head-retired.v1".to_owned(), head::encode_head(&Head { lowest_open_nonce: Nonce(43), ..retired })));
    all.push(("head-spend.v1".to_owned(), head::encode_head(&spending())));
    let unfunded = Head { unfunded_since: Some(Millis(1_790_000_001_234)), ..account.clone() };
    all.push(("head-senders.v1".to_owned(), head::encode_head(&counting())));
    all.push(("head-unfunded.v1".to_owned(), head::encode_head(&unfunded)));
    all.push(("head-unusable.v1".to_owned(), head::encode_head(&unusable())));
    all.push(("head-set-aside.v1".to_owned(), head::encode_head(&set_aside())));
    all.push(("slot.v1".to_owned(), head::encode_slot(&account.account, Nonce(42), &id)));
    all.push(("name.v1".to_owned(), head::encode_name(&account.name, &account.account)));
    all
}

pub(crate) fn head() -> Head {
    Head {
        account: account(),
        name: "hot".parse().unwrap(),
        kms_key_id: "arn:aws:kms:eu-central-1:111122223333:key/0a1b2c3d".parse().unwrap(),
        next_nonce: Nonce(43),
        lowest_open_nonce: Nonce(40),
        set_aside: Vec::new(),
        gaps: Vec::new(),
        paused: false,
        registered_at: Millis(1_789_000_000_123),
        retired_at: None,
        fee: Some(SeenFee { gas_price: Wei::from(50_000_000), observed_at: Millis(1_790_000_000_456) }),
        unfunded_since: None,
        unusable: None,
        spend: None,
        sender_counts: None,
    }
}

/// An account with an unusable key.
pub(crate) fn unusable() -> Head {
    let mark = Unusable { since: Millis(1_790_000_000_321), fault: KeyFault::Denied, call: KeyCall::Sign };
    Head { unusable: Some(mark), ..head() }
}

/// An account with slots that could not be closed, and with nonces without a request.
pub(crate) fn set_aside() -> Head {
    let slot = |nonce, cause| SetAside { nonce: Nonce(nonce), cause, since: Millis(1_790_000_001_500) };
    let set_aside = vec![slot(7, AsideCause::Unproven), slot(21, AsideCause::Unpublished), slot(39, AsideCause::Late)];
    let gaps = vec![Gap { from: Nonce(12), to: Nonce(20), since: Millis(1_790_000_001_600) }];
    Head { set_aside, gaps, ..head() }
}

/// An account with a spend limit.
pub(crate) fn spending() -> Head {
    let spend =
        Spend { window_start: Millis(1_790_000_000_789), spent: "123456789012345678901234567890".parse().unwrap() };
    Head { spend: Some(spend), ..head() }
}

/// An account with a limit of requests per sender.
pub(crate) fn counting() -> Head {
    let counts =
        [("AIDAEXAMPLEUSERID", 3), ("AROAEXAMPLEROLEID", 250), (SenderCounts::UNKNOWN, 1), (SenderCounts::OTHERS, 7)];
    let counts = counts.into_iter().map(|(principal, count)| (principal.to_owned(), count)).collect();
    let window = SenderCounts { window_start: Millis(1_790_000_000_789), counts };
    Head { sender_counts: Some(window), ..spending() }
}

/// A request in every state, with the state's name.
pub(crate) fn requests() -> Vec<(&'static str, Stored)> {
    let record = |name, record| (name, Stored::Record(Box::new(record)));
    let signed = signed(&reserved(), gwei(1));
    let sent = sent(&signed, 0, SendClass::Underpriced(Some(Wei::from(1_200_000_000))));
    let bumped = self::sent(&self::signed(&sent, gwei(2)), 1, SendClass::AlreadyKnown);
    let mined = after(&bumped, &Event::Mined(receipt(&bumped, 1, true)));
    let cancel = |cause| after(&bumped, &Event::CancelAsked(cause));
    let policy = Reason {
        code: "toNotAllowed".to_owned(),
        message: "to is not on the list".to_owned(),
        revert: None,
        request_id: None,
    };
    let cancelled = self::signed(&cancel(CancelCause::Policy(policy)), gwei(3));
    let revert = Revert { text: "ERC20: transfer amount exceeds balance".to_owned(), raw: vec![8, 0xc3, 0x79, 0xa0] };
    let foreign = Foreign { tx_hash: TxHash([0xf0; 32]), block: block(900) };
    let limited = Record { max_head_ms: Some(600_000), ..reserved() };
    let at_node = self::sent(&self::signed(&limited, gwei(1)), 0, SendClass::Accepted);
    let capped = after(&at_node, &Event::AtCap(Millis(1_790_000_002_345)));
    let confirmed = finalized(&mined, receipt(&mined, 1, true), None);
    vec![
        record("reserved", reserved()),
        record("reserved-creation", creation()),
        record("signed", signed.clone()),
        record("sent-bumped", bumped.clone()),
        record("sent-deadline", cancel(CancelCause::Deadline)),
        record("sent-refused", cancel(CancelCause::Refused("exceeds block gas limit".to_owned()))),
        record("mined", mined.clone()),
        record("mined-inquired", after(&mined, &Event::Inquired(inquiry(Subject::Revert, None)))),
        record("sent-searched", after(&bumped, &Event::Inquired(inquiry(Subject::Use, Some(searched()))))),
        record("confirmed", confirmed.clone()),
        record("confirmed-closed", after(&confirmed, &Event::Published { expires_at: Millis(1_797_777_777_000) })),
        record("reverted", finalized(&mined, receipt(&mined, 0, false), Some(revert))),
        record("cancelled", finalized(&cancelled, receipt(&cancelled, 2, true), None)),
        record("displaced", uncounted(after(&bumped, &Event::Displaced { foreign, witnesses: 1 }))),
        record("displaced-witnessed", after(&bumped, &Event::Displaced { foreign, witnesses: 2 })),
        record(
            "confirmed-bare",
            after(&mined, &Event::Finalized { receipt: bare(&mined), revert: None, witnesses: 2 }),
        ),
        record("sent-waiting", after(&bumped, &Event::Waits(Waiting { cause: WaitCause::Block, since: Millis(7) }))),
        record("reserved-limited", limited.clone()),
        record("sent-capped", capped.clone()),
        record("sent-at-cap", after(&capped, &Event::CancelAsked(CancelCause::AtCap))),
        ("rejected", Stored::Rejected(rejected())),
        ("rejected-unknown", Stored::Rejected(unknown())),
        record("reserved-message", Record { message_id: Some(MESSAGE.to_owned()), ..reserved() }),
        record(
            "reserved-sealed",
            Record { message_id: Some(MESSAGE.to_owned()), seal: Some(Seal::from_bytes([0x5e; 32])), ..reserved() },
        ),
        ("rejected-message", Stored::Rejected(by_message())),
        ("rejected-copy", Stored::Rejected(copy())),
        ("rejected-beside", Stored::Rejected(beside())),
        record("signed-evidence", evidence()),
    ]
}

/// A record with the fields for evidence: the policy, the code version, and KMS's request id.
fn evidence() -> Record {
    let acceptance = Acceptance {
        policy_digest: Digest([0x70; 32]),
        code_version: "0.1.0+0123abcd".to_owned(),
        names_fee: true,
        max_gas_price: Some(Wei::from_gwei(7)),
        pool: Some("payouts".parse().unwrap()),
    };
    let mut signed = signed(&Record { acceptance: Some(acceptance), ..reserved() }, gwei(1));
    for attempt in &mut signed.attempts {
        attempt.kms_request_id = Some("1d2e3f40-5a6b-4c7d-8e9f-0a1b2c3d4e5f".to_owned());
    }
    signed
}

/// A receipt with only the required fields.
fn bare(record: &Record) -> Receipt {
    Receipt { gas_used: None, effective_gas_price: None, contract: None, ..receipt(record, 1, true) }
}

/// The id of an SQS message.
const MESSAGE: &str = "5fea7756-0ea4-451a-a703-a558b933e274";

fn searched() -> Searched {
    Searched { newest: BlockNumber(990), oldest: BlockNumber(863) }
}

fn inquiry(subject: Subject, searched: Option<Searched>) -> Inquiry {
    let (asked, answered) = (Millis(1_790_000_002_000), Millis(1_790_000_002_345));
    Inquiry::after(None, subject, searched, asked, answered)
}

fn account() -> AccountKey {
    AccountKey { chain_id: ChainId(97), address: key().public_key().address() }
}

fn key() -> LocalKey {
    LocalKey::new([7; 32])
}

fn gwei(gwei: u64) -> Fee {
    Fee::Legacy { gas_price: Wei::from_gwei(gwei) }
}

fn block(number: u64) -> BlockRef {
    BlockRef { number: BlockNumber(number), hash: BlockHash([9; 32]) }
}

fn reserved() -> Record {
    let to: Address = "0x00000000000000000000000000000000000000aa".parse().unwrap();
    Record {
        request_id: "order-4711".parse().unwrap(),
        digest: Digest([0xd1; 32]),
        version: 1,
        account: account(),
        name: "hot".parse().unwrap(),
        nonce: Nonce(42),
        intent: Intent {
            chain_id: ChainId(97),
            to: Some(to),
            value: "1000000000000000000000".parse().unwrap(),
            data: Arc::from([0xa9, 0x05, 0x9c, 0xbb, 0x00]),
            gas: Gas(60_000),
        },
        fee: gwei(1),
        fee_cap: Wei::from_gwei(5),
        deadline: Some(Millis(1_790_000_600_000)),
        acceptance: None,
        metadata: Some(serde_json::json!({ "order": 4711, "price": 0.1, "tags": ["a", null, true] })),
        sender: Some("AIDAEXAMPLE".to_owned()),
        message_id: None,
        trace: Some("Root=1-67891233-abcdef012345678912345678".to_owned()),
        seal: None,
        attempts: Vec::new(),
        cancel: None,
        inquiry: None,
        waiting: None,
        capped_since: None,
        max_head_ms: None,
        phase: Phase::Reserved,
        created_at: Millis(1_790_000_000_001),
        updated_at: Millis(1_790_000_000_001),
    }
}

fn creation() -> Record {
    let intent = Intent { to: None, value: Wei::ZERO, data: Arc::from([]), ..reserved().intent };
    let fee = Fee::Dynamic { max_fee_per_gas: Wei::from_gwei(2), max_priority_fee_per_gas: Wei::from_gwei(1) };
    Record { intent, fee, deadline: None, metadata: None, sender: None, trace: None, ..reserved() }
}

fn signed(record: &Record, fee: Fee) -> Record {
    let kind = record.next_kind();
    let intent = record.intent_of(kind, Wei::ZERO);
    let unsigned = UnsignedTx { intent: &intent, nonce: record.nonce, fee };
    let hash = unsigned.signing_hash();
    let signature = key().public_key().signature(&hash, &key().sign_der(&hash, true)).unwrap();
    let tx_hash = unsigned.sign(&signature).hash;
    let attempt = Attempt {
        kind,
        to_self: Wei::ZERO,
        fee,
        signature,
        tx_hash,
        signed_at: Millis(1_790_000_000_100),
        kms_request_id: None,
        sent: None,
    };
    assert!(attempt.kind == AttemptKind::Execute || record.cancel.is_some());
    after(record, &Event::Signed { number: record.attempts.len(), attempt })
}

fn sent(record: &Record, number: usize, class: SendClass) -> Record {
    after(record, &Event::Sent { number, answer: SendAnswer::new(class, "the node's words") })
}

fn receipt(record: &Record, attempt: usize, succeeded: bool) -> Receipt {
    Receipt {
        tx_hash: record.attempts[attempt].tx_hash,
        block: block(800),
        succeeded,
        gas_used: Some(Gas(52_001)),
        effective_gas_price: Some(Wei::from_gwei(1)),
        contract: succeeded.then_some(Address([0xcc; 20])),
    }
}

/// The shape that was stored before witnesses were counted.
fn finalized(record: &Record, receipt: Receipt, revert: Option<Revert>) -> Record {
    uncounted(after(record, &Event::Finalized { receipt, revert, witnesses: 1 }))
}

fn uncounted(record: Record) -> Record {
    let Phase::Settled(settlement) = record.phase else { panic!("not settled") };
    Record { phase: Phase::Settled(Settlement { witnesses: None, ..settlement }), ..record }
}

fn after(record: &Record, event: &Event) -> Record {
    apply(record, event, Millis(record.updated_at.0 + 1_250)).unwrap()
}

fn rejected() -> Rejected {
    Rejected {
        request_id: "order-4712".parse().unwrap(),
        digest: Some(Digest([0xd2; 32])),
        account: Some(account()),
        reason: Reason {
            code: "requestIdReused".to_owned(),
            message: "requestId was used for another request".to_owned(),
            revert: None,
            request_id: None,
        },
        metadata: Some(serde_json::json!("plain")),
        sender: Some("AIDAEXAMPLE".to_owned()),
        message_id: None,
        said_as: None,
        created_at: Millis(1_790_000_000_001),
        published_at: Some(Millis(1_790_000_000_777)),
        expires_at: Some(Millis(1_797_777_777_000)),
    }
}

fn unknown() -> Rejected {
    Rejected {
        request_id: "sqs:5fea7756-0ea4-451a-a703-a558b933e274".parse().unwrap(),
        digest: None,
        account: None,
        metadata: None,
        sender: None,
        published_at: None,
        expires_at: None,
        reason: Reason {
            code: "notJson".to_owned(),
            message: "the body is not JSON".to_owned(),
            revert: None,
            request_id: None,
        },
        ..rejected()
    }
}

/// A rejection stored under the caller's id.
fn by_message() -> Rejected {
    Rejected { message_id: Some(MESSAGE.to_owned()), ..rejected() }
}

/// The same rejection, stored under the message id.
fn copy() -> Rejected {
    Rejected {
        request_id: format!("sqs:{MESSAGE}").parse().unwrap(),
        said_as: Some(by_message().request_id),
        published_at: None,
        ..by_message()
    }
}

/// A rejection stored under the message id, because its own id belongs to another request.
fn beside() -> Rejected {
    let named = by_message().request_id;
    Rejected {
        request_id: format!("sqs:{MESSAGE}").parse().unwrap(),
        reason: Reason { request_id: Some(named), ..rejected().reason },
        ..by_message()
    }
}
