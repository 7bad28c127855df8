//! The cost of signing without KMS, by stage and in total, compared with one ECDSA verification and with
//! alloy doing the same work.
//!
//! `cargo bench -p signpost-txmgr --bench signing`; the goal is a ratio of at most 1.3 to one verification.
//! alloy converts a KMS signature to a transaction as its AWS signer does: DER, low s, then both parities
//! are tried until the recovered address is the account's.

#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]

use std::hint::black_box;
use std::sync::Arc;

use alloy_consensus::{SignableTransaction as _, TxLegacy};
use alloy_primitives::TxKind;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use k256::ecdsa::signature::hazmat::PrehashVerifier as _;
use k256::ecdsa::{Signature, VerifyingKey};
use signpost_txmgr::policy::{AccountPolicy, NetworkRules, accept};
use signpost_txmgr::request::Message;
use signpost_txmgr::signature::LocalKey;
use signpost_txmgr::tx::{Fee, Intent, UnsignedTx};
use signpost_txmgr::units::{AccountKey, Address, ChainId, Gas, Millis, Nonce, U256, Wei};

/// The number of transactions that are measured in turn, half of them with a high s.
const VARIANTS: u64 = 64;

/// A token transfer, the most common call.
fn intent() -> Intent {
    let mut data = vec![0xa9, 0x05, 0x9c, 0xbb];
    data.resize(68, 0x11);
    Intent {
        chain_id: ChainId(56),
        to: Some(Address([0x55; 20])),
        value: Wei(U256::zero()),
        data: Arc::from(data),
        gas: Gas(60_000),
    }
}

fn signing(criterion: &mut Criterion) {
    let key = LocalKey::new([0x46; 32]);
    let public = key.public_key();
    let intent = intent();
    let unsigned =
        |nonce| UnsignedTx { intent: &intent, nonce: Nonce(nonce), fee: Fee::Legacy { gas_price: Wei::from_gwei(1) } };
    let mut group = criterion.benchmark_group("signing");

    let verifying = VerifyingKey::from_sec1_bytes(&key.spki()[23..]).expect("the SPKI ends with the point");
    let signed: Vec<_> = (0..VARIANTS)
        .map(|nonce| {
            let hash = unsigned(nonce).signing_hash();
            let signature = Signature::from_der(&key.sign_der(&hash, false)).expect("just signed");
            (hash, signature)
        })
        .collect();
    let mut turn = signed.iter().cycle();
    group.bench_function("k256_verify_prehash", |bencher| {
        bencher.iter_batched(
            || turn.next().expect("a cycle does not end"),
            |(hash, signature)| black_box(&verifying).verify_prehash(&hash.0, signature),
            BatchSize::SmallInput,
        );
    });

    let returned: Vec<_> =
        (0..VARIANTS).map(|nonce| (nonce, key.sign_der(&unsigned(nonce).signing_hash(), nonce % 2 == 1))).collect();
    let mut turn = returned.iter().cycle();
    group.bench_function("hash_der_low_s_parity_encode", |bencher| {
        bencher.iter_batched(
            || turn.next().expect("a cycle does not end"),
            |(nonce, der)| {
                let tx = black_box(unsigned(*nonce));
                let hash = tx.signing_hash();
                let signature = black_box(&public).signature(&hash, der).expect("signed by this key");
                tx.sign(&signature)
            },
            BatchSize::SmallInput,
        );
    });

    let mut turn = returned.iter().cycle();
    group.bench_function("alloy_hash_der_low_s_parity_encode", |bencher| {
        bencher.iter_batched(
            || turn.next().expect("a cycle does not end"),
            |(nonce, der)| alloy_signs(black_box(*nonce), der, public.address()),
            BatchSize::SmallInput,
        );
    });
    let (nonce, der) = returned.first().expect("there are many");
    assert_eq!(
        alloy_signs(*nonce, der, public.address()),
        unsigned(*nonce)
            .sign(&public.signature(&unsigned(*nonce).signing_hash(), der).expect("signed by this key"))
            .bytes,
        "both make the same bytes"
    );

    group.bench_function("hash_and_encode_alone", |bencher| {
        let (nonce, der) = returned.first().expect("there are many");
        let tx = unsigned(*nonce);
        let signature = public.signature(&tx.signing_hash(), der).expect("signed by this key");
        bencher.iter(|| (black_box(&tx).signing_hash(), tx.sign(&signature)));
    });
    let (account, policy, network) = accepting(public.address());
    let bodies: Vec<_> = returned.iter().map(|(nonce, der)| (*nonce, body(*nonce), der)).collect();
    let mut turn = bodies.iter().cycle();
    group.bench_function("message_to_raw_without_kms", |bencher| {
        bencher.iter_batched(
            || turn.next().expect("a cycle does not end"),
            |(nonce, body, der)| {
                let Ok(Message::Sign(request)) = Message::parse(black_box(body)) else {
                    unreachable!("the body is a signing request")
                };
                let accepted =
                    accept(&request, &account, &policy, &network, None, None, NOW).expect("within the policy");
                let tx = UnsignedTx { intent: &accepted.intent, nonce: Nonce(*nonce), fee: accepted.fee };
                let signature = public.signature(&tx.signing_hash(), der).expect("signed by this key");
                tx.sign(&signature)
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// Converts KMS's signature to the bytes of [`intent`] at one gwei, with alloy.
fn alloy_signs(nonce: u64, der: &[u8], signer: Address) -> Vec<u8> {
    let intent = intent();
    let tx = TxLegacy {
        chain_id: Some(intent.chain_id.0),
        nonce,
        gas_price: 1_000_000_000,
        gas_limit: intent.gas.0,
        to: TxKind::Call(alloy_primitives::Address::new(intent.to.expect("a call").0)),
        value: alloy_primitives::U256::ZERO,
        input: intent.data.to_vec().into(),
    };
    let hash = tx.signature_hash();
    let signature = Signature::from_der(der).expect("KMS returns DER");
    let scalar = |bytes: &[u8]| alloy_primitives::U256::from_be_slice(bytes);
    let (r, s) = signature.split_bytes();
    let even = alloy_primitives::Signature::new(scalar(&r), scalar(&s), false);
    let even = even.normalize_s().unwrap_or(even).with_parity(false);
    let is_ours = |candidate: &alloy_primitives::Signature| {
        candidate.recover_address_from_prehash(&hash).is_ok_and(|found| found.as_slice() == signer.0)
    };
    let found = [even, even.with_parity(true)].into_iter().find(is_ours).expect("signed by this key");
    let mut bytes = Vec::new();
    tx.into_signed(found).rlp_encode(&mut bytes);
    bytes
}

const NOW: Millis = Millis(1_795_348_800_000);

/// The request for [`intent`].
fn body(nonce: u64) -> String {
    let data = hex::encode(&intent().data);
    format!(
        r#"{{"requestId":"payout-{nonce}","account":"payouts","to":"0x5555555555555555555555555555555555555555","data":"0x{data}","gas":60000,"gasPrice":"1000000000","metadata":{{"batch":17}}}}"#
    )
}

fn accepting(address: Address) -> (AccountKey, AccountPolicy, NetworkRules) {
    let account = AccountKey { chain_id: ChainId(56), address };
    (account, AccountPolicy::capped(Wei::from_gwei(5)), NetworkRules { fee_floor: Wei::from(50_000_000) })
}

criterion_group!(benches, signing);
criterion_main!(benches);
