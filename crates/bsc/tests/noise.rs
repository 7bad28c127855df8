//! Nodes that fail every third call at random: views and witnesses succeed anyway, after a few rounds.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "test code"
)]
#![allow(dead_code, reason = "each test file uses a part of the stub")]

mod common;

use std::sync::Mutex;
use std::time::Duration;

use common::{ADDRESS, Reply, Stub, block, block_hash, chain, each, error, height, tx};
use serde_json::{Value, json};
use signpost_txmgr::machine::Corroboration;
use signpost_txmgr::ports::{Chain as _, SlotQuery, ViewQuery, WitnessQuery};
use signpost_txmgr::units::{BlockNumber, Millis, Nonce};

fn answer(method: &str, params: &Value) -> Result<Value, Value> {
    let at = |height: u64| {
        let mut block = block(height);
        block["parentHash"] = json!(block_hash(height - 1));
        Ok(block)
    };
    match method {
        "eth_blockNumber" => Ok(json!("0x64")),
        "eth_getTransactionCount" => Ok(json!("0x8")),
        "eth_getBlockByNumber" | "eth_getBlockByHash" => match params[0].as_str().unwrap() {
            "latest" => at(100),
            "finalized" => at(98),
            _ => at(height(&params[0])),
        },
        "eth_getTransactionReceipt" => {
            let byte = u64::from_str_radix(&params[0].as_str().unwrap()[2..4], 16).unwrap();
            let height = 90 + byte;
            Ok(
                json!({"transactionHash": params[0], "status": "0x1", "blockNumber": format!("0x{height:x}"), "blockHash": block_hash(height)}),
            )
        }
        _ => Err(error(-32601, "the method does not exist/is not available")),
    }
}

/// The fault of a third of the calls.
#[derive(Debug, Clone, Copy)]
enum Noise {
    /// The request that contains them gets an HTTP status.
    Request,
    /// They get a JSON-RPC error.
    Call,
}

async fn noisy(noise: Noise, seed: u64) -> Stub {
    let state = Mutex::new(seed);
    let is_hit = move || {
        let mut state = state.lock().unwrap();
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % 10 < 3
    };
    Stub::raw(move |body| match noise {
        Noise::Request if (0..body.as_array().map_or(1, Vec::len)).fold(false, |hit, _| is_hit() || hit) => {
            Reply::Http(503, &[], "busy".to_owned())
        }
        Noise::Request => Reply::Json(each(body, &answer)),
        Noise::Call => Reply::Json(each(body, &|method, params| {
            if is_hit() { Err(error(-32000, "txpool is full")) } else { answer(method, params) }
        })),
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn views_and_witnesses_succeed_if_every_third_call_fails() {
    for noise in [Noise::Request, Noise::Call] {
        let stubs = [noisy(noise, 1).await, noisy(noise, 2).await];
        let chain = chain(&stubs.iter().collect::<Vec<_>>());
        let slot = |n: u8| SlotQuery {
            nonce: Nonce(n.into()),
            hashes: vec![tx(n).hash],
            mined_at: Some(BlockNumber(90 + u64::from(n))),
        };
        let query =
            ViewQuery { address: ADDRESS, slots: (5..8).map(slot).collect(), latest_seen: Nonce(0), head_waits: false };
        let (mut views, mut agreed) = (0, 0);
        for _ in 0..20 {
            tokio::time::advance(Duration::from_millis(200)).await;
            let Ok(view) = chain.view(&query).await else { continue };
            views += 1;
            let asked = WitnessQuery { address: ADDRESS, source: view.source, finals: view.finals, now: Millis(0) };
            agreed += chain.witness(&asked).await.iter().filter(|word| **word == Corroboration::Agrees).count();
        }
        // Without repeated calls it would be 1 and 0.
        assert!(views >= 4 && agreed >= 3, "{noise:?}: {views} views, {agreed} receipts shown by both");
    }
}
