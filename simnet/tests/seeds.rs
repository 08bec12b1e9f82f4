//! Seeds that once failed, and what each of them taught.

use shoal_simnet::{Setup, run, scenarios};

/// Scenario, nodes, jobs, seed.
const SEEDS: &[(&str, usize, usize, u64)] = &[
    // A progress that its commitment overtakes must not be answered with "unused": the worker let go of its answer.
    ("duplicates", 30, 15, 1),
    ("floods", 30, 20, 1),
    // A repeated award that comes after the end started the execution again, with another salt.
    ("duplicates", 30, 15, 11),
    ("chaos", 30, 15, 6),
    // A crash in the middle of a verdict left votes that were never told of it.
    ("chaos", 30, 15, 14),
    // A crash during submit left an event without its job, and the next submit wrote over it.
    ("crashes", 30, 15, 11),
    // One peer that says a bid again and again silenced every honest one, round after round.
    ("floods", 40, 40, 1),
    // A worker that crashed between letting go of a result and forgetting the execution was told to keep it.
    ("chaos", 24, 8, 1_012),
];

#[test]
fn seeds_that_once_failed_pass() {
    for (name, nodes, jobs, seed) in SEEDS.iter().copied() {
        let scenario = scenarios::named(name).unwrap_or_else(|| panic!("no scenario {name}"));
        let report = run(&scenario, Setup { nodes, jobs, seed, sealed: false });
        assert!(report.is_good(), "{}", report.table());
    }
}
