//! The sandbox from inside: programs that call the host in any order with any arguments.
//!
//! `tests/fuzz` has the same checks for a fuzzer that looks for new paths through the host's code.

mod attack;

use attack::check::{PREVIEW1, PREVIEW2, check};
use proptest::prelude::*;
use shoal_protocol::task::Outcome;

/// Bytes of a script's source: some 200 calls.
const SOURCE_BYTES: usize = 6_000;
/// Scripts whose success is counted.
const SEEDS: u64 = 20;

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_calls_of_preview_1_lead_out_of_the_sandbox(bytes in prop::collection::vec(any::<u8>(), 0..SOURCE_BYTES)) {
        check(&PREVIEW1, &bytes);
    }

    #[test]
    fn no_calls_of_preview_2_lead_out_of_the_sandbox(bytes in prop::collection::vec(any::<u8>(), 0..SOURCE_BYTES)) {
        check(&PREVIEW2, &bytes);
    }
}

/// What would pass whatever the sandbox did is no attack.
#[test]
fn most_scripts_get_far_and_leave_files() {
    for (name, guest) in [("preview 1", &*PREVIEW1), ("preview 2", &*PREVIEW2)] {
        let (mut ended, mut files) = (0, 0);
        for seed in 0..SEEDS {
            let mut bytes = vec![0; SOURCE_BYTES];
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
            let came = check(guest, &bytes);
            ended += u64::from(came.outcome == Outcome::Exited(0) && came.calls.count > 100);
            files += came.left.values().flatten().count() as u64;
        }
        assert!(ended > SEEDS / 2 && files > SEEDS, "{name}: of {SEEDS} {ended} ended, leaving {files} files");
    }
}
