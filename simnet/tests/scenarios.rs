//! Every scenario over a range of seeds, small enough for each change.

use shoal_protocol::shard::SHARD_NODES;
use shoal_simnet::report::Report;
use shoal_simnet::scenarios::{self, Sabotage, Scenario};
use shoal_simnet::{Behaviour, Setup, run};

/// Seeds of each scenario: with all scenarios more than two hundred runs.
const SEEDS: u64 = 14;

fn setup(seed: u64) -> Setup {
    Setup { nodes: 24, jobs: 8, seed, sealed: false }
}

fn named(name: &str) -> Scenario {
    scenarios::named(name).unwrap_or_else(|| panic!("no scenario {name}"))
}

fn expect_good(report: &Report) {
    assert!(report.is_good(), "{}", report.table());
}

fn passes(name: &str) {
    let scenario = named(name);
    for seed in 1_000..1_000 + SEEDS {
        expect_good(&run(&scenario, setup(seed)));
    }
}

macro_rules! scenario_tests {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() { passes($name); })*

        #[test]
        fn every_scenario_is_tested() {
            let tested = [$($name),*];
            let all: Vec<&str> = scenarios::all().iter().map(|scenario| scenario.name).collect();
            assert_eq!(all, tested);
            assert!(tested.len() as u64 * SEEDS >= 200);
        }
    };
}

scenario_tests! {
    jobs_complete_in_a_calm_world: "calm",
    jobs_complete_within_a_building: "lan",
    lost_messages_are_said_again: "loss",
    repeated_and_overtaken_messages_change_nothing: "duplicates",
    partitions_heal: "partitions",
    nodes_go_on_after_a_crash: "crashes",
    stragglers_hold_up_nobody: "slow",
    liars_are_outvoted: "liars",
    colluders_below_the_agreement_win_nothing: "colluders",
    neighbours_have_one_voice: "neighbours",
    free_riders_earn_nothing: "free-riders",
    debtors_lose_their_standing_and_nobody_else_does: "debtors",
    floods_wash_nothing_away: "floods",
    hoarders_keep_nobody_out: "hoarders",
    sybils_keep_nobody_out: "sybils",
    latecomers_are_heard: "churn",
    work_queues_for_busy_workers: "overload",
    arrays_complete: "arrays",
    results_are_published_under_one_name: "publishers",
    jobs_that_nobody_can_verify_end_and_say_why: "scarce",
    nodes_that_hear_nobody_run_their_own_jobs: "hermits",
    owners_help_themselves_where_nobody_else_does: "selfish",
    jobs_find_their_way_out_of_small_shards: "shards",
    everything_at_once: "chaos",
}

#[test]
fn equal_seeds_give_equal_runs_to_the_letter() {
    let scenario = named("chaos");
    let json = |seed| {
        let report = Report { wall_ms: 0, ..run(&scenario, setup(seed)) };
        serde_json::to_string(&report).expect("a report is plain data")
    };
    assert_eq!(json(7), json(7));
    assert_ne!(json(7), json(8));
}

#[test]
fn announcements_stay_under_a_kilobyte_with_real_signatures() {
    let report = run(&named("liars"), Setup { sealed: true, ..setup(3) });
    expect_good(&report);
    assert!((200..1_024).contains(&report.largest["announce"]), "{:?}", report.largest);
}

#[test]
fn jobs_typically_take_less_than_twice_as_long_beside_those_that_award_nothing() {
    let typical = |name: &str| {
        let report = run(&named(name), Setup { nodes: 24, jobs: 40, seed: 1, sealed: false });
        expect_good(&report);
        [report.latency_ms.p50, report.latency_ms.p95]
    };
    let calm = typical("calm");
    for name in ["hoarders", "sybils"] {
        let beside = typical(name);
        assert!(beside[0] < 2 * calm[0] && beside[1] < 3 * calm[1], "{name}: {beside:?} ms, {calm:?} in a calm world");
    }
}

#[test]
fn scarce_jobs_count_the_reasons_of_peers() {
    let report = run(&named("scarce"), setup(1));
    expect_good(&report);
    assert!(report.outcomes.keys().all(|outcome| outcome.contains("no wasm executor")), "{:?}", report.outcomes);
}

#[test]
fn bids_do_not_grow_with_the_mesh() {
    const WANTED: u64 = 3;
    for nodes in [10, 100, 1_000] {
        let report = run(&named("calm"), Setup { nodes, jobs: 60, seed: 5, sealed: false });
        expect_good(&report);
        assert!(report.bids.p95 <= 2 * WANTED + 4, "{nodes} nodes: {:?}", report.bids);
    }
}

#[test]
fn what_a_job_costs_does_not_grow_with_the_mesh() {
    for nodes in [2_000, 20_000] {
        let report = run(&named("calm"), Setup { nodes, jobs: 20, seed: 5, sealed: false });
        expect_good(&report);
        let (hearers, most) = (report.hearers, 4 * u64::from(SHARD_NODES));
        assert!((200..most).contains(&hearers.p50), "{nodes} nodes: {hearers:?}");
        assert!(report.heard_bytes_per_job < 1e6, "{nodes} nodes: {} bytes", report.heard_bytes_per_job);
    }
}

// --- A test that cannot fail is worthless: these worlds are broken on purpose, and the checks must say so.

fn violations(scenario: &Scenario) -> String {
    (1..6).flat_map(|seed| run(scenario, setup(seed)).violations).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_majority_of_colluders_is_noticed() {
    let mut scenario = named("colluders");
    scenario.peers[0].at_most = 20;
    let told = violations(&scenario);
    assert!(told.contains("completed with a wrong result"), "{told}");
}

#[test]
fn a_disk_that_forgets_is_noticed() {
    let told = violations(&Scenario { sabotage: Some(Sabotage::ForgetfulDisk), ..named("calm") });
    assert!(told.contains("without having saved it"), "{told}");
}

#[test]
fn workers_that_never_finish_are_noticed() {
    let told = violations(&Scenario { sabotage: Some(Sabotage::DeadWorkers), ..named("calm") });
    assert!(told.contains("jobs completed"), "{told}");
}

#[test]
fn a_restart_without_records_is_noticed() {
    let told = violations(&Scenario { sabotage: Some(Sabotage::Amnesia), ..named("crashes") });
    assert!(told.contains("never ended"), "{told}");
}

#[test]
fn honest_answers_are_needed_to_complete() {
    let mut scenario = named("liars");
    scenario.peers[0] = scenarios::Crowd { behaviour: Behaviour::Liar, share: 0.9, at_most: 23, neighbours: false };
    let told = violations(&scenario);
    assert!(told.contains("jobs completed") && !told.contains("wrong result"), "{told}");
}
