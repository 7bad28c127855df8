//! Classifies a node's error: every captured message of every client, once.
//!
//! `cargo bench -p signpost-bsc --bench classify`.

#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::Value;
use signpost_bsc::classify::classify;

/// Code and message of every captured error.
fn captured() -> Vec<(i64, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/node-errors");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the captured errors are there") {
        let text = std::fs::read_to_string(entry.expect("an entry can be read").path()).expect("it is text");
        let file: Value = serde_json::from_str(&text).expect("it is JSON");
        for error in file["errors"].as_array().expect("it lists errors") {
            let code = error["code"].as_i64().unwrap_or(0);
            all.push((code, error["message"].as_str().expect("an error has words").to_owned()));
        }
    }
    assert!(all.len() > 100, "more than 100 errors are captured");
    all
}

fn classifying(criterion: &mut Criterion) {
    let captured = captured();
    let mut group = criterion.benchmark_group("classify");
    group.throughput(Throughput::Elements(u64::try_from(captured.len()).expect("some hundreds")));
    group.bench_function("every_captured_error", |bencher| {
        bencher.iter(|| captured.iter().map(|(code, words)| classify(*code, black_box(words))).collect::<Vec<_>>());
    });
    group.finish();
}

criterion_group!(benches, classifying);
criterion_main!(benches);
