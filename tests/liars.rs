//! Workers that return wrong results. Only debug builds can be told to lie.
#![cfg(debug_assertions)]

use serde_json::Value;

use crate::support::{Daemon, Mesh, example, executions, module, refused, text};

const LIES_ALONE: (&str, &str) = ("SHOAL_TEST_MISBEHAVE", "lie-alone");
const LIES_TOGETHER: (&str, &str) = ("SHOAL_TEST_MISBEHAVE", "lie-together");
/// Counts, asks for chance, counts on, and prints what it was given.
const CHANCE: &str = r#"(module
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\40\00\00\00\08")
    (func $count (local $i i32)
        (loop
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if 0 (i32.lt_u (local.get $i) (i32.const 1000000)))))
    (func (export "_start")
        (call $count)
        (drop (call $random (i32.const 64) (i32.const 8)))
        (call $count)
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#;

#[test]
fn a_liar_is_outvoted_named_and_not_asked_again() {
    let mesh = Mesh::start_with(5, |index| if index == 3 { vec![LIES_ALONE] } else { vec![] });
    let liar = mesh.nodes[3].id.clone();
    let requester = &mesh.nodes[0];
    // With four workers and three executions a job, the liar is soon among them.
    let caught = (0..40).find_map(|_| {
        let job = requester.json(&["job", "run", &example("wordcount/job.yaml")]);
        assert_eq!(job["State"], "Completed", "{job:#}");
        assert_eq!(job["Verification"]["Verified"], true);
        dissenters(&job).contains(&liar).then_some(job)
    });
    let caught = caught.expect("the liar is awarded one of forty jobs");
    let told = requester.describe(caught["JobID"].as_str().unwrap());
    assert_eq!(dissenters(&told), std::slice::from_ref(&liar));
    replayed(requester, &caught, &liar);
    for _ in 0..4 {
        let job = requester.json(&["job", "run", &example("wordcount/job.yaml")]);
        assert_eq!(job["State"], "Completed", "{job:#}");
        assert_eq!(job["Result"]["Hash"], caught["Result"]["Hash"], "the result was the honest one");
        assert!(executions(&job).iter().all(|execution| execution["PeerID"] != liar.as_str()), "{job:#}");
    }
}

#[test]
fn more_liars_than_agreement_allows_end_in_a_dispute_with_its_evidence() {
    let mesh = Mesh::start_with(5, |index| if index >= 2 { vec![LIES_ALONE] } else { vec![] });
    let requester = &mesh.nodes[0];
    let id = requester.submit(&["job", "run", &example("wordcount/job.yaml")]);
    let job = requester.finished(&id);
    assert_eq!(job["State"], "Failed", "{job:#}");
    assert!(job["StateReason"].as_str().unwrap().contains("disputed"), "{job:#}");
    assert_eq!(job["Verification"]["Verified"], false);
    assert!(job["Result"].is_null() || job["Result"]["Hash"].is_null(), "a dispute has no result: {job:#}");
    let revealed: Vec<Value> = executions(&job).into_iter().filter(|e| !e["ResultHash"].is_null()).collect();
    assert!(revealed.len() >= 3, "every reveal is kept: {job:#}");
    let status = requester.run(&["job", "run", &example("wordcount/job.yaml")]).status;
    assert_eq!(status.code(), Some(1), "a dispute is the job's failure");
}

#[test]
fn liars_that_agree_with_each_other_win_nothing_against_as_many_honest_ones() {
    let mesh = Mesh::start_with(5, |index| if index >= 3 { vec![LIES_TOGETHER] } else { vec![] });
    let job = mesh.nodes[0].submit(&["job", "run", &example("wordcount/job.yaml")]);
    let job = mesh.nodes[0].finished(&job);
    // Two against two: three executions always meet one honest worker, so that nobody ever leads by two.
    assert_eq!(job["State"], "Failed", "{job:#}");
    assert!(job["StateReason"].as_str().unwrap().contains("disputed"), "{job:#}");
}

#[test]
fn a_run_that_parts_from_the_others_is_looked_into() {
    let diverges = ("SHOAL_TEST_MISBEHAVE", "diverge");
    let mesh = Mesh::start_with(5, |index| if index == 3 { vec![diverges] } else { vec![] });
    let (requester, faulty) = (&mesh.nodes[0], mesh.nodes[3].id.as_str());
    let module = module(mesh.dir.path(), "chance.wasm", CHANCE);
    // All four workers run it, but one that is late on a loaded machine does not count.
    let caught = (0..20).find_map(|_| {
        let job = requester.json(&["wasm", "run", &module, "--executions", "4"]);
        (dissenters(&job) == [faulty]).then_some(job)
    });
    let job = caught.expect("the faulty worker votes in one of twenty jobs");
    let id = job["JobID"].as_str().unwrap();

    let looked = requester.run(&["--format", "json", "job", "diff", id]);
    assert_eq!(looked.status.code(), Some(1), "{}", text(&looked));
    let diff: Value = serde_json::from_slice(&looked.stdout).unwrap();
    assert_eq!((&diff["PeerID"], &diff["Same"], &diff["AsRevealed"]), (&faulty.into(), &false.into(), &true.into()));
    assert_eq!(diff["HostCalls"]["First"], 0, "{diff:#}");
    let [here, there] = ["Here", "There"].map(|side| diff[side]["Call"].as_str().unwrap());
    assert!(here != there && [here, there].iter().all(|call| call.starts_with("random_get(")), "{diff:#}");
    // The program asks for chance once it has counted: until then its memory is the same.
    assert!(diff["Checkpoints"]["First"].as_u64().unwrap() > 10, "{diff:#}");
    assert_eq!(diff["There"]["Checkpoint"]["HostCalls"], 1, "{diff:#}");
    assert!(diff["There"]["Checkpoint"]["Backtrace"].as_str().unwrap().contains("count"), "{diff:#}");
    assert_eq!(diff["Here"]["ResultHash"], job["Result"]["Hash"], "{diff:#}");

    let executions = executions(&job);
    let honest = executions.iter().find(|one| one["State"] == "Agreed").unwrap()["ExecutionID"].as_str().unwrap();
    let same = requester.json(&["job", "diff", id, honest]);
    assert_eq!((&same["Same"], &same["HostCalls"]), (&true.into(), &"Same".into()), "{same:#}");
    assert_eq!(same["Checkpoints"], "Same", "{same:#}");
    assert!(same["Here"]["Checkpoints"].as_u64().unwrap() > 10, "{same:#}");
    refused(&requester.run(&["job", "diff", id, "e-nonsense"]), &["e-nonsense", "shoal job executions"]);
}

/// The job run again by its requester agrees with everybody but the liar, who lied of what the program printed and not
/// of what it called.
fn replayed(requester: &Daemon, job: &Value, liar: &str) {
    let replay = requester.json(&["job", "replay", job["JobID"].as_str().unwrap()]);
    assert_eq!((&replay["Agrees"], &replay["ResultHash"]), (&true.into(), &job["Result"]["Hash"]), "{replay:#}");
    for compared in replay["Executions"].as_array().unwrap() {
        assert_eq!(compared["SameResult"], compared["PeerID"] != liar, "{replay:#}");
        assert_eq!(compared["SameHostCalls"], true, "{replay:#}");
    }
    let execution = &executions(job)[0];
    let at_least = |key: &str, least: u64| assert!(execution[key].as_u64().unwrap() >= least, "{key}: {execution:#}");
    at_least("HostCalls", 10);
    at_least("PeakMemoryBytes", 1 << 20);
    at_least("FuelUsed", 1 << 20);
    looked_into(requester, job, liar);
    let refusal = requester.run(&["job", "replay", job["JobID"].as_str().unwrap(), "--partition", "7"]);
    assert_eq!(refusal.status.code(), Some(2));
}

/// Run again, a liar's program does what everybody's does: it lied of what came of it.
fn looked_into(requester: &Daemon, job: &Value, liar: &str) {
    let diff = requester.json(&["job", "diff", job["JobID"].as_str().unwrap()]);
    let told = [&diff["PeerID"], &diff["Same"], &diff["AsRevealed"]];
    assert_eq!(told, [&Value::from(liar), &true.into(), &false.into()], "{diff:#}");
}

fn dissenters(job: &Value) -> Vec<String> {
    let peers = job["Verification"]["Dissenters"].as_array().cloned().unwrap_or_default();
    peers.iter().map(|peer| peer.as_str().unwrap_or_default().to_owned()).collect()
}
