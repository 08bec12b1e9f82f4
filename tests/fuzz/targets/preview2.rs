//! Whatever a component asks of the host, it stays in its sandbox: `executors/tests/sandbox` says what that means.
#![no_main]

#[path = "../../../executors/tests/sandbox/attack/mod.rs"]
mod attack;

use attack::check::{PREVIEW2, check};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check(&PREVIEW2, bytes);
});
