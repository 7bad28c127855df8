//! The auditor's own encoder agrees with alloy.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a test")]

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope, TxLegacy};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256};
use signpost_sim::auditor::encoding::{Price, Unsigned, keccak};
use signpost_sim::random::Random;

fn wei(random: &mut Random) -> u64 {
    // Every length in bytes, zero too.
    random.draw() >> random.below(65).min(63)
}

fn unsigned(random: &mut Random) -> Unsigned {
    let length = usize::try_from([0, 1, 4, 55, 56, 300, 70_000][random.place(7)]).unwrap();
    let data = (0..length).map(|_| random.draw().to_be_bytes()[0]).collect();
    let (one, two) = (wei(random).into(), wei(random).into());
    Unsigned {
        chain_id: 1 + random.below(1 << 40),
        nonce: random.below(300),
        price: if random.per_mille(500) { Price::Legacy(one) } else { Price::Dynamic(one, two) },
        gas: 21_000 + random.below(1 << 24),
        to: random.per_mille(700).then(|| [random.draw().to_be_bytes()[0]; 20]),
        value: wei(random).into(),
        data,
    }
}

fn alloy(unsigned: &Unsigned, signature: Signature) -> ([u8; 32], TxEnvelope) {
    let small = |number: ethereum_types::U256| number.as_u128();
    let to = unsigned.to.map_or(TxKind::Create, |to| TxKind::Call(Address::from(to)));
    let (value, input) = (U256::from(small(unsigned.value)), Bytes::from(unsigned.data.clone()));
    let (nonce, gas_limit) = (unsigned.nonce, unsigned.gas);
    match unsigned.price {
        Price::Legacy(price) => {
            let (chain_id, gas_price) = (Some(unsigned.chain_id), small(price));
            let tx = TxLegacy { chain_id, nonce, gas_price, gas_limit, to, value, input };
            (tx.signature_hash().0, tx.into_signed(signature).into())
        }
        Price::Dynamic(most, tip) => {
            let (max_fee_per_gas, max_priority_fee_per_gas) = (small(most), small(tip));
            let (chain_id, access_list) = (unsigned.chain_id, alloy_eips::eip2930::AccessList::default());
            let tx = TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas,
                max_priority_fee_per_gas,
                to,
                value,
                access_list,
                input,
            };
            (tx.signature_hash().0, tx.into_signed(signature).into())
        }
    }
}

#[test]
fn auditor_encodes_like_alloy_and_reads_it_back() {
    let mut random = Random::new(1);
    for _ in 0..2_000 {
        let unsigned = unsigned(&mut random);
        let words = [random.draw(), wei(&mut random)].map(|number| U256::from(number).to_be_bytes::<32>());
        let odd = random.per_mille(500);
        let signature = Signature::new(U256::from_be_bytes(words[0]), U256::from_be_bytes(words[1]), odd);
        let (hash, envelope) = alloy(&unsigned, signature);
        assert_eq!(unsigned.signing_hash(), hash, "{unsigned:?}");
        let raw = unsigned.signed(&words[0], &words[1], odd);
        assert_eq!(raw, envelope.encoded_2718(), "{unsigned:?}");
        assert_eq!(keccak(&raw), envelope.tx_hash().0);
        assert_eq!(Unsigned::of_signed(&raw), Some(unsigned));
        let longer = [raw.clone(), vec![0]].concat();
        assert_eq!(Unsigned::of_signed(&longer), None, "nothing follows a transaction");
        assert_eq!(Unsigned::of_signed(&raw[..raw.len() - 1]), None);
    }
}
