//! Encoding and decoding of items of the requests table: one request in every state.
//!
//! `cargo bench -p signpost-aws --features dynamodb --bench items`.

#![allow(
    missing_docs,
    dead_code,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "criterion's macros, and the examples of the tests"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use signpost_aws::item;

#[path = "../tests/items/examples.rs"]
mod examples;

fn items(criterion: &mut Criterion) {
    let requests: Vec<_> = examples::requests().into_iter().map(|(_, stored)| stored).collect();
    let encoded: Vec<_> = requests.iter().map(item::encode).collect();
    let mut group = criterion.benchmark_group("items");
    group.throughput(Throughput::Elements(u64::try_from(requests.len()).expect("a dozen")));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| requests.iter().map(|stored| item::encode(black_box(stored))).collect::<Vec<_>>());
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| encoded.iter().map(|item| item::decode(black_box(item))).collect::<Vec<_>>());
    });
    group.finish();
}

criterion_group!(benches, items);
criterion_main!(benches);
