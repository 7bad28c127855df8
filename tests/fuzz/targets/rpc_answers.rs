//! Bodies of a node's JSON-RPC answers, with every parser of their results.
#![no_main]

use libfuzzer_sys::fuzz_target;
use signpost_bsc::fuzzing;

fuzz_target!(|input: (u8, &[u8])| {
    let (count, body) = input;
    fuzzing::read_answers(body, usize::from(count % 8) + 1);
});
