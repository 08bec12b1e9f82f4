//! Commands without a running node.

use serde_json::Value;

use crate::support::{Mesh, example, module, run, text};

#[test]
fn alone_a_command_runs_the_module_and_says_that_nothing_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(&dir.path().join("none"), &["job", "run", &example("wordcount/job.yaml")]);
    assert!(ran.status.success(), "{}", text(&ran));
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(said.contains("verifies nothing"), "{said}");
}

#[test]
fn alone_one_execution_that_was_asked_for_needs_no_warning() {
    let dir = tempfile::tempdir().unwrap();
    let module = module(dir.path(), "m.wasm", "(module (func (export \"_start\")))");
    let ran = run(&dir.path().join("none"), &["--format", "json", "wasm", "run", &module, "--executions", "1"]);
    assert!(ran.status.success(), "{}", text(&ran));
    let job: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((&job["State"], &job["Verification"]["Verified"]), (&"Completed".into(), &false.into()), "{job:#}");
    assert!(!String::from_utf8_lossy(&ran.stderr).contains("verifies nothing"), "{}", text(&ran));
}

#[test]
fn with_a_ticket_a_command_uses_the_mesh() {
    let mesh = Mesh::start(4);
    let dir = mesh.dir.path().join("none");
    let target = mesh.dir.path().join("got");
    let arguments = ["--format", "json", "job", "run", &example("wordcount/job.yaml")];
    let join = ["--join", &mesh.nodes[0].ticket, "--download", target.to_str().unwrap()];
    let ran = run(&dir, &[&arguments[..], &join[..]].concat());
    assert!(ran.status.success(), "{}", text(&ran));
    let job: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(job["Verification"]["Verified"], true, "{job:#}");
    let expected = std::fs::read(example("wordcount/expected/outputs/counts.tsv")).unwrap();
    assert_eq!(std::fs::read(target.join("outputs/counts.tsv")).unwrap(), expected);
}

#[test]
fn an_exit_code_of_the_program_is_a_failure_of_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(&dir.path().join("none"), &["job", "run", &example("fails/job.yaml")]);
    assert_eq!(ran.status.code(), Some(1), "{}", text(&ran));
}
