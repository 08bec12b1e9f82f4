//! What of two results has to agree, as a user says it and as a user is told. Only debug builds can be told to lie.
#![cfg(debug_assertions)]

use serde_json::Value;

use crate::docker::engine::image;
use crate::docker::{DOCKER, Nodes};
use crate::support::{Daemon, Mesh, example, executions, module, refused, text};

/// It prints something else than all others.
const LIES_ALONE: (&str, &str) = ("SHOAL_TEST_MISBEHAVE", "lie-alone");
/// Prints something else each time, and writes the same.
const NOISY: &str = "cat /proc/sys/kernel/random/uuid; echo same >/out/file";
/// Writes a file and prints nothing.
const WRITES: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\10\00\00\00\05\00\00\00")
    (data (i32.const 16) "same\n")
    (data (i32.const 32) "out/file")
    (func (export "_start")
        (drop (call $open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 8) (i32.const 1)
            (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 64)))
        (drop (call $write (i32.load (i32.const 64)) (i32.const 0) (i32.const 1) (i32.const 68)))))"#;

/// Runs a job and describes it, whatever came of it.
fn ran(node: &Daemon, arguments: &[&str]) -> Value {
    let output = node.run(&[&["--format", "json"], arguments].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
}

fn verified(job: &Value) -> bool {
    assert_eq!(job["State"], "Completed", "{job:#}");
    job["Verification"]["Verified"] == true
}

fn words(node: &Daemon, job: &Value) -> String {
    String::from_utf8(node.run(&["job", "describe", job["JobID"].as_str().unwrap()]).stdout).unwrap()
}

#[test]
fn results_that_differ_are_verified_as_far_as_they_are_compared() {
    let mesh = Mesh::start_with(4, |index| if index > 0 { vec![LIES_ALONE] } else { vec![] });
    let (node, module) = (&mesh.nodes[0], module(mesh.dir.path(), "writes.wasm", WRITES));
    let run = |compare: &str| ran(node, &["wasm", "run", &module, "-o", "out:/out", "--compare", compare]);
    for compare in ["outputs", "/out"] {
        let job = run(compare);
        assert!(verified(&job), "{job:#}");
        assert_eq!(job["Verification"]["Compare"], compare);
        let executions = executions(&job);
        let agreed: Vec<&Value> = executions.iter().filter(|one| one["State"] == "Agreed").collect();
        assert!(agreed.len() >= 2 && agreed[0]["ResultHash"] != agreed[1]["ResultHash"], "{job:#}");
        assert!(agreed.iter().all(|one| one["ComparedHash"] == agreed[0]["ComparedHash"]), "{job:#}");
        assert_eq!(job["Result"]["Hash"], agreed[0]["ResultHash"]);
        assert!(words(node, &job).contains("one execution's word"), "{}", words(node, &job));
    }
    let job = run("all");
    assert_eq!(job["State"], "Failed", "{job:#}");
    assert!(job["StateReason"].as_str().unwrap().starts_with("disputed"), "{job:#}");
}

#[test]
fn a_part_that_no_result_has_is_answered_with_those_it_has() {
    let mesh = Mesh::start(1);
    let module = module(mesh.dir.path(), "writes.wasm", WRITES);
    let run = |arguments: &[&str]| mesh.nodes[0].run(&[&["wasm", "run", &module], arguments].concat());
    refused(
        &run(&["-o", "out:/out", "--compare", "/oops"]),
        &["Compare", "'/oops'", "'all', 'outputs', 'out', 'stdout'"],
    );
    refused(&run(&["--compare", "outputs"]), &["Compare", "no ResultPaths"]);
    refused(&run(&["--verification", "none", "--compare", "stdout"]), &["Compare", "Type: quorum"]);
    refused(&run(&["--verification", "some"]), &["--verification", "none, quorum"]);
}

#[test]
fn containers_agree_where_they_are_reproducible_and_not_where_they_print_chance() {
    let Some(image) = image("agreement", &[]) else { return };
    let mesh = Nodes::start(&[&DOCKER, &DOCKER, &DOCKER, &DOCKER]);
    let run = |flags: &[&str], script: &str| {
        let fixed = ["docker", "run", "-o", "out:/out"];
        ran(&mesh.nodes[0], &[&fixed[..], flags, &[&image, "sh", "-c", script]].concat())
    };
    let unverified = run(&[], NOISY);
    assert!(!verified(&unverified), "{unverified:#}");
    let told = words(&mesh.nodes[0], &unverified);
    assert!(told.contains("no: one execution verifies nothing"), "{told}");

    assert!(verified(&run(&["--verification", "quorum"], "echo same | tee /out/file")));
    let disputed = run(&["--verification", "quorum"], NOISY);
    assert!(disputed["StateReason"].as_str().unwrap().starts_with("disputed"), "{disputed:#}");
    assert_eq!(disputed["Verification"]["Verified"], false);
    assert!(verified(&run(&["--compare", "outputs"], NOISY)));
}

#[test]
fn a_worker_that_lies_of_a_container_is_outvoted() {
    let Some(image) = image("agreement-liar", &[]) else { return };
    let mesh = Nodes::start_with(&[&DOCKER as &[&str]; 5], |index| if index == 4 { vec![LIES_ALONE] } else { vec![] });
    let liar = Value::from(mesh.nodes[4].id.as_str());
    // All four workers run it, but one that is late on a loaded machine does not count.
    let caught = (0..10).find_map(|_| {
        let job = ran(&mesh.nodes[0], &["docker", "run", "--executions", "4", &image, "echo", "the truth"]);
        assert!(verified(&job), "{job:#}");
        (job["Verification"]["Dissented"] == 1).then_some(job)
    });
    let job = caught.expect("the liar votes in one of ten jobs");
    assert_eq!(job["Verification"]["Dissenters"], Value::from(vec![liar]), "{job:#}");
}

/// A validator of what two results printed: they agree if their first bytes are digits that are at most one apart.
const NEAR: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\10\00\00\00\01\00\00\00")
    (data (i32.const 32) "a/stdoutb/stdout")
    (func $first (param $name i32) (result i32)
        (drop (call $open (i32.const 3) (i32.const 0) (local.get $name) (i32.const 8) (i32.const 0)
            (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64)))
        (drop (call $read (i32.load (i32.const 64)) (i32.const 0) (i32.const 1) (i32.const 68)))
        (i32.load8_u (i32.const 16)))
    (func (export "_start") (local $apart i32)
        (local.set $apart (i32.sub (call $first (i32.const 32)) (call $first (i32.const 40))))
        (call $exit (i32.gt_u (i32.mul (local.get $apart) (local.get $apart)) (i32.const 1)))))"#;

fn history(node: &Daemon, job: &Value) -> String {
    String::from_utf8(node.run(&["job", "history", job["JobID"].as_str().unwrap()]).stdout).unwrap()
}

#[test]
fn a_validator_decides_what_agrees_and_is_named_with_the_result() {
    let Some(image) = image("agreement", &[]) else { return };
    let mesh = Nodes::start(&[&DOCKER, &DOCKER, &DOCKER, &DOCKER]);
    let validator = module(mesh.dir.path(), "near.wasm", NEAR);
    let run = |validator: &str, script: &str| {
        let flags = ["docker", "run", "--validator", validator, &image, "sh", "-c", script];
        ran(&mesh.nodes[0], &flags)
    };
    // Two of three that print 4 or 5 and something by chance.
    let job = run(&validator, "echo $((4 + $(od -An -N1 -tu1 /dev/urandom) % 2)); cat /proc/sys/kernel/random/uuid");
    assert!(verified(&job), "{job:#}");
    assert!(job["Verification"]["Validator"].is_string(), "{job:#}");
    assert!(words(&mesh.nodes[0], &job).contains("agree, says validator "), "{}", words(&mesh.nodes[0], &job));
    assert!(history(&mesh.nodes[0], &job).contains(" agree"), "{}", history(&mesh.nodes[0], &job));

    let fails = module(mesh.dir.path(), "fails.wasm", r#"(module (func (export "_start") (unreachable)))"#);
    let job = run(&fails, "cat /proc/sys/kernel/random/uuid");
    assert_eq!((&job["State"], &job["Verification"]["Verified"]), (&"Failed".into(), &false.into()), "{job:#}");
    assert!(job["StateReason"].as_str().unwrap().contains("the validator trapped: unreachable"), "{job:#}");
}

#[test]
fn a_validator_of_modules_lets_results_agree_that_differ_and_no_others() {
    let mesh = Mesh::start_with(4, |index| if index > 0 { vec![LIES_ALONE] } else { vec![] });
    let (node, program) = (&mesh.nodes[0], module(mesh.dir.path(), "writes.wasm", WRITES));
    let run = |validator: &str| ran(node, &["wasm", "run", "-o", "out:/out", "--validator", validator, &program]);
    // What they print begins with the same letter, and goes on with their names.
    let job = run(&module(mesh.dir.path(), "near.wasm", NEAR));
    assert!(verified(&job), "{job:#}");
    let executions = executions(&job);
    let agreed: Vec<&Value> = executions.iter().filter(|one| one["State"] == "Agreed").collect();
    assert!(agreed.len() >= 2 && agreed[0]["ResultHash"] != agreed[1]["ResultHash"], "{job:#}");
    assert_eq!((&job["Result"]["Hash"], &job["Verification"]["Dissented"]), (&agreed[0]["ResultHash"], &0.into()));
    assert!(words(node, &job).contains("agree, says validator "), "{}", words(node, &job));

    let never = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const 1))))"#;
    let job = run(&module(mesh.dir.path(), "never.wasm", never));
    assert_eq!((&job["State"], &job["Verification"]["Verified"]), (&"Failed".into(), &false.into()), "{job:#}");
    assert!(job["StateReason"].as_str().unwrap().starts_with("disputed"), "{job:#}");
    // Dissent there may be chance, so nobody is thought a liar.
    assert!(verified(&run(&module(mesh.dir.path(), "near.wasm", NEAR))));
}

#[test]
fn what_is_no_validator_is_refused_before_anything_runs() {
    let mesh = Mesh::start(1);
    let writes = module(mesh.dir.path(), "writes.wasm", WRITES);
    let text = mesh.dir.path().join("text.wasm");
    std::fs::write(&text, "text").unwrap();
    let run = |flags: &[&str]| mesh.nodes[0].run(&[&["wasm", "run", &writes], flags].concat());
    refused(&run(&["--validator", text.to_str().unwrap()]), &["--validator", "text.wasm", "not a WebAssembly module"]);
    refused(&run(&["--validator", "nowhere.wasm"]), &["--validator", "nowhere.wasm"]);
    let blob = mesh.nodes[0].json(&["blob", "add", text.to_str().unwrap()]);
    let hash = blob["Hash"].as_str().unwrap();
    refused(&run(&["--validator", hash]), &["the validator", hash, "not a WebAssembly module"]);
    refused(&run(&["--verification", "none", "--validator", &writes]), &["Validator", "Type: quorum"]);
}

#[test]
fn a_requester_that_dies_with_results_to_compare_compares_them_when_it_is_back() {
    let Some(image) = image("agreement", &[]) else { return };
    let dies = ("SHOAL_TEST_MISBEHAVE", "die-after-Verify");
    let mut mesh = Nodes::start_with(&[&DOCKER as &[&str]; 4], |index| if index == 0 { vec![dies] } else { vec![] });
    let validator = module(mesh.dir.path(), "near.wasm", NEAR);
    let script = "echo 4; cat /proc/sys/kernel/random/uuid";
    let flags = ["docker", "run", "--detach", "--id-only", "--validator", &validator, &image, "sh", "-c", script];
    let id = String::from_utf8(mesh.nodes[0].run(&flags).stdout).unwrap().trim().to_owned();
    // It dies as soon as the validator has said something, and before it says anything of it.
    mesh.nodes[0].wait_for_death();
    let back = mesh.nodes.remove(0).restart();
    let job = back.finished(&id);
    assert!(verified(&job), "{job:#}");
    assert!(job["Verification"]["Agreed"].as_u64().unwrap() >= 2, "{job:#}");
}

#[test]
fn the_validator_example_verifies_what_is_never_the_same() {
    let Some(name) = image("agreement", &[]) else { return };
    let mesh = Nodes::start(&[&DOCKER, &DOCKER, &DOCKER, &DOCKER]);
    let pushed = mesh.nodes[0].json(&["docker", "push-image", &name]);
    let variable = format!("image={}", pushed["Hash"].as_str().unwrap());
    let job = ran(&mesh.nodes[0], &["job", "run", &example("docker-validator/job.yaml"), "-V", &variable]);
    assert!(verified(&job), "{job:#}");
    let inputs = job["Inputs"].as_array().unwrap();
    assert!(inputs.iter().any(|input| input["Target"] == "/validator.wasm"), "{job:#}");
    let told = history(&mesh.nodes[0], &job);
    assert!(told.contains("3 numbers, at most ") && told.contains("% apart"), "{told}");
}
