//! What it costs to keep the record of a host call.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::wasi::calls::Calls;

/// Calls that are recorded at once.
const CALLS: u32 = 200_000;

/// How long the record of one call takes that moves `bytes`, the digest included.
pub(super) fn a_call(bytes: &[u8]) -> Duration {
    let start = Instant::now();
    let mut calls = Calls::new(None);
    for number in 0..CALLS {
        let arguments = [("fd", 1), ("buffers", u64::from(number)), ("count", 1), ("result", 1_048_016)];
        calls.begin("fd_write", &arguments);
        calls.moved(black_box(bytes));
        calls.moved(&number.to_le_bytes());
        calls.end(0);
    }
    black_box(calls.finish());
    start.elapsed() / CALLS
}
