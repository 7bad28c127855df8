//! Entry points for fuzzers only (feature `fuzzing`): bytes taken as a node's answer go through every reader of this
//! crate, without a network.
//!
//! Checks only that no reader panics, and that every text made from the answer is safe to print.

use std::time::Duration;

use serde_json::Value;
use signpost_txmgr::text;
use signpost_txmgr::units::{Address, Nonce, TxHash, U256, Wei};

use crate::classify::{classify, is_rate_limit};
use crate::price::PriceSeen;
use crate::private::{EndpointKind, PrivateShape};
use crate::reply::Reply;
use crate::rpc::{Answer, CallFailure};
use crate::{chain, corroborate, quantity, receipt, send};

/// Reads `body` as the answer to `count` calls, and each result as the answer to every kind of call.
pub fn read_answers(body: &[u8], count: usize) {
    let words = String::from_utf8_lossy(body);
    let _ = is_rate_limit(0, &words);
    match Reply::read(body, 1, count) {
        Ok(reply) => {
            assert_eq!(reply.answers.len(), count, "one answer a call");
            reply.answers.into_iter().for_each(read_answer);
        }
        Err(failure) => assert_printable(&failure),
    }
}

fn read_answer(answer: Answer) {
    let _ = receipt::receipt_view(answer.clone(), TxHash([1; 32]));
    let _ = chain::reverted(answer.clone());
    match answer {
        Ok(result) => read_result(&result),
        Err(failure) => {
            if let CallFailure::Node(error) = &failure {
                let class = classify(error.code, &error.message);
                let said = signpost_txmgr::record::SendAnswer::new(class, &error.message);
                assert!(said.message.chars().all(text::is_plain), "{:?}", said.message);
            }
            assert_printable(&failure);
        }
    }
}

fn read_result(result: &Value) {
    let _ = (quantity::number(result), quantity::wei(result), quantity::bytes(result), quantity::tx_hash(result));
    let _ = (quantity::address(result), quantity::block_ref(result, "number", "hash"));
    if let Some(txs) = result.get("transactions").and_then(Value::as_array) {
        let _ = txs.iter().filter(|tx| corroborate::is_use(tx, Address([2; 20]), Nonce(1))).count();
    }
    let price = PriceSeen::new(Duration::ZERO, Wei::from(1), Wei(U256::MAX));
    price.learn(Some(result), Some(result));
    assert!(price.last().is_none_or(|price| price >= Wei::from(1)), "never below the floor");
    assert!(send::another_hash(result).message.chars().all(text::is_plain));
    let bloxroute = EndpointKind::Private(PrivateShape::Bloxroute { mev_builders: Vec::new() });
    let _ = (EndpointKind::Public.taken(result), bloxroute.taken(result));
}

fn assert_printable(failure: &CallFailure) {
    let _ = (failure.happened(), failure.is_rate_limit());
    assert!(signpost_txmgr::error_chain(failure).chars().all(text::is_plain), "{failure}");
}
