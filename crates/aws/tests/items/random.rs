//! Records and rejections with random but consistent content: the attempts' hashes match their bytes.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use signpost_txmgr::record::{
    Acceptance, Attempt, AttemptKind, BlockRef, CancelCause, Foreign, Inquiry, Phase, Reason, Receipt, Record,
    Rejected, Revert, Searched, SendAnswer, SendClass, Sent, Settlement, Subject, Verdict, WaitCause, Waiting,
};
use signpost_txmgr::seal::Seal;
use signpost_txmgr::tx::{Fee, Intent, Signature, UnsignedTx};
use signpost_txmgr::units::{
    AccountKey, Address, BlockHash, BlockNumber, ChainId, Digest, Gas, Millis, Nonce, RequestId, TxHash, U256, Wei,
};

fn wei() -> impl Strategy<Value = Wei> {
    any::<[u64; 4]>().prop_map(|words| Wei(U256(words)))
}

fn address() -> impl Strategy<Value = Address> {
    any::<[u8; 20]>().prop_map(Address)
}

fn account() -> impl Strategy<Value = AccountKey> {
    (any::<u64>(), address()).prop_map(|(chain_id, address)| AccountKey { chain_id: ChainId(chain_id), address })
}

fn millis() -> impl Strategy<Value = Millis> {
    any::<u64>().prop_map(Millis)
}

/// Stored in whole seconds.
fn whole_seconds() -> impl Strategy<Value = Millis> {
    (0..u64::MAX / 1_000).prop_map(|s| Millis(s * 1_000))
}

fn fee() -> impl Strategy<Value = Fee> {
    prop_oneof![
        wei().prop_map(|gas_price| Fee::Legacy { gas_price }),
        (wei(), wei()).prop_map(|(max_fee_per_gas, max_priority_fee_per_gas)| Fee::Dynamic {
            max_fee_per_gas,
            max_priority_fee_per_gas
        }),
    ]
}

fn words() -> impl Strategy<Value = String> {
    ".{0,40}"
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        Just(serde_json::Value::Null),
        any::<f64>().prop_map(|number| serde_json::json!(number)),
        (words(), any::<i64>()).prop_map(|(text, number)| serde_json::json!({ text: [number, null, true] })),
    ]
}

fn id() -> impl Strategy<Value = RequestId> {
    "[-_.:A-Za-z0-9]{1,128}".prop_map(|text| text.parse().unwrap())
}

fn reason() -> impl Strategy<Value = Reason> {
    let revert = (words(), vec(any::<u8>(), 0..70)).prop_map(|(text, raw)| Revert { text, raw });
    (words(), words(), option::of(revert), option::of(id())).prop_map(|(code, message, revert, request_id)| Reason {
        code,
        message,
        revert,
        request_id,
    })
}

fn cancel() -> impl Strategy<Value = CancelCause> {
    prop_oneof![
        Just(CancelCause::Asked),
        Just(CancelCause::Deadline),
        Just(CancelCause::AtCap),
        words().prop_map(CancelCause::Refused),
        reason().prop_map(CancelCause::Policy),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let class = prop_oneof![
        Just(SendClass::Accepted),
        Just(SendClass::AlreadyKnown),
        Just(SendClass::NonceTooLow),
        Just(SendClass::Retry),
        option::of(wei()).prop_map(SendClass::Underpriced),
        Just(SendClass::Funds),
        Just(SendClass::Refused),
        Just(SendClass::Misconfigured),
        Just(SendClass::Unknown),
    ];
    (millis(), class, words()).prop_map(|(at, class, message)| Sent { at, answer: SendAnswer { class, message } })
}

/// An attempt with a placeholder for its hash, which depends on the record.
fn attempt() -> impl Strategy<Value = Attempt> {
    let kinds = (any::<bool>(), any::<bool>());
    let signed = (any::<([u8; 32], [u8; 32], bool)>(), millis(), option::of(words()));
    (kinds, fee(), signed, option::of(sent())).prop_map(
        |((execute, pays), fee, ((r, s, y_odd), signed_at, kms_request_id), sent)| Attempt {
            kind: if execute { AttemptKind::Execute } else { AttemptKind::Cancel },
            to_self: Wei::from(u64::from(pays && !execute)),
            fee,
            signature: Signature { r, s, y_odd },
            tx_hash: TxHash([0; 32]),
            signed_at,
            kms_request_id,
            sent,
        },
    )
}

fn block() -> impl Strategy<Value = BlockRef> {
    any::<(u64, [u8; 32])>().prop_map(|(number, hash)| BlockRef { number: BlockNumber(number), hash: BlockHash(hash) })
}

/// A receipt with a placeholder for its hash, which is that of an attempt.
fn receipt() -> impl Strategy<Value = Receipt> {
    (block(), any::<(bool, Option<u64>)>(), option::of(wei()), option::of(address())).prop_map(
        |(block, (succeeded, gas_used), effective_gas_price, contract)| Receipt {
            tx_hash: TxHash([0; 32]),
            block,
            succeeded,
            gas_used: gas_used.map(Gas),
            effective_gas_price,
            contract,
        },
    )
}

fn phase() -> impl Strategy<Value = Phase> {
    let revert = (words(), vec(any::<u8>(), 0..70)).prop_map(|(text, raw)| Revert { text, raw });
    let verdict = prop_oneof![
        receipt().prop_map(Verdict::Confirmed),
        (receipt(), option::of(revert)).prop_map(|(receipt, revert)| Verdict::Reverted(receipt, revert)),
        receipt().prop_map(Verdict::Cancelled),
        (any::<[u8; 32]>(), block())
            .prop_map(|(hash, block)| Verdict::Displaced(Foreign { tx_hash: TxHash(hash), block })),
    ];
    prop_oneof![
        Just(Phase::Reserved),
        Just(Phase::Signed),
        Just(Phase::Sent),
        receipt().prop_map(Phase::Mined),
        (verdict, option::of(any::<u8>()), millis(), option::of((millis(), whole_seconds()))).prop_map(
            |(verdict, witnesses, settled_at, published)| {
                Phase::Settled(Settlement {
                    witnesses,
                    verdict,
                    settled_at,
                    published_at: published.map(|(at, _)| at),
                    expires_at: published.map(|(_, expires_at)| expires_at),
                })
            }
        ),
    ]
}

fn intent() -> impl Strategy<Value = Intent> {
    (option::of(address()), wei(), vec(any::<u8>(), 0..100), any::<u64>()).prop_map(|(to, value, data, gas)| Intent {
        chain_id: ChainId(0),
        to,
        value,
        data: Arc::from(data),
        gas: Gas(gas),
    })
}

fn inquiry() -> impl Strategy<Value = Inquiry> {
    let subject = prop_oneof![Just(Subject::Use), Just(Subject::Revert)];
    let block = || any::<u64>().prop_map(BlockNumber);
    let searched = (block(), block()).prop_map(|(newest, oldest)| Searched { newest, oldest });
    (subject, millis(), any::<u32>(), millis(), option::of(searched)).prop_map(
        |(subject, since, fruitless, next_at, searched)| Inquiry { subject, since, fruitless, next_at, searched },
    )
}

fn acceptance() -> impl Strategy<Value = Acceptance> {
    (any::<([u8; 32], bool)>(), words(), option::of(wei()), option::of("[-_.A-Za-z0-9]{1,64}")).prop_map(
        |((policy_digest, names_fee), code_version, max_gas_price, pool)| Acceptance {
            policy_digest: Digest(policy_digest),
            code_version,
            names_fee,
            max_gas_price,
            pool: pool.map(|name| name.parse().unwrap()),
        },
    )
}

fn waiting() -> impl Strategy<Value = Waiting> {
    (select(&WaitCause::ALL[..]), millis()).prop_map(|(cause, since)| Waiting { cause, since })
}

prop_compose! {
    /// A record.
    pub(crate) fn record()(
        (request_id, name) in ("[-_.:A-Za-z0-9]{1,128}", "[-_.A-Za-z0-9]{1,64}"),
        (digest, version, nonce) in any::<([u8; 32], u64, u64)>(),
        account in account(),
        intent in intent(),
        (fee, fee_cap, deadline) in (fee(), wei(), option::of(whole_seconds())),
        (metadata, sender, message_id, trace, seal) in
            (option::of(json()), option::of(words()), option::of(words()), option::of(words()), option::of(any::<[u8; 32]>())),
        (acceptance, capped_since, max_head_ms) in (option::of(acceptance()), option::of(millis()), option::of(any::<u64>())),
        (attempts, cancel, phase) in (vec(attempt(), 1..4), option::of(cancel()), phase()),
        (inquiry, waiting, created_at, updated_at) in
            (option::of(inquiry()), option::of(waiting()), millis(), millis()),
    ) -> Record {
        let mut record = Record {
            request_id: request_id.parse().unwrap(),
            digest: Digest(digest),
            version,
            account,
            name: name.parse().unwrap(),
            nonce: Nonce(nonce),
            intent: Intent { chain_id: account.chain_id, ..intent },
            fee, fee_cap, deadline, metadata, sender, message_id, trace,
            seal: seal.map(Seal::from_bytes), acceptance, capped_since, max_head_ms, attempts, cancel, inquiry, waiting, phase,
            created_at, updated_at,
        };
        make_consistent(&mut record);
        record
    }
}

/// Sets the hashes that depend on other parts.
fn make_consistent(record: &mut Record) {
    if record.phase == Phase::Reserved {
        record.attempts.clear();
        return;
    }
    let hashes: Vec<TxHash> = record
        .attempts
        .iter()
        .map(|attempt| {
            let intent = record.intent_of(attempt.kind, attempt.to_self);
            UnsignedTx { intent: &intent, nonce: record.nonce, fee: attempt.fee }.sign(&attempt.signature).hash
        })
        .collect();
    for (attempt, hash) in record.attempts.iter_mut().zip(&hashes) {
        attempt.tx_hash = *hash;
    }
    match &mut record.phase {
        Phase::Mined(receipt) => receipt.tx_hash = hashes[0],
        Phase::Settled(settlement) => match &mut settlement.verdict {
            Verdict::Confirmed(receipt) | Verdict::Reverted(receipt, _) | Verdict::Cancelled(receipt) => {
                receipt.tx_hash = hashes[0];
            }
            Verdict::Displaced(_) => {}
        },
        Phase::Reserved | Phase::Signed | Phase::Sent => {}
    }
}

prop_compose! {
    /// A rejection.
    pub(crate) fn rejected()(
        request_id in "[-_.:A-Za-z0-9]{1,128}",
        digest in option::of(any::<[u8; 32]>()),
        account in option::of(account()),
        reason in reason(),
        (metadata, sender) in (option::of(json()), option::of(words())),
        (message_id, said_as) in (option::of(words()), option::of(id())),
        (created_at, published_at, expires_at) in (millis(), option::of(millis()), option::of(whole_seconds())),
    ) -> Rejected {
        Rejected {
            request_id: request_id.parse().unwrap(),
            digest: digest.map(Digest),
            account, reason, metadata, sender, message_id, said_as, created_at, published_at, expires_at,
        }
    }
}
