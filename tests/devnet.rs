//! The first thing a newcomer tries.

use serde_json::Value;

use crate::support::{example, executions, refused, run, text};

#[test]
fn a_mesh_in_one_process_runs_one_command() {
    let dir = tempfile::tempdir().unwrap();
    let wordcount = example("wordcount/job.yaml");
    let ran =
        run(&dir.path().join("d"), &["--format", "json", "devnet", "--nodes", "5", "--", "job", "run", &wordcount]);
    assert!(ran.status.success(), "{}", text(&ran));
    let job: Value = serde_json::from_slice(&ran.stdout).expect("stdout is one JSON document");
    assert_eq!(job["State"], "Completed", "{job:#}");
    assert_eq!(job["Verification"]["Verified"], true);
    assert_eq!(executions(&job).len(), 3);
    let said = String::from_utf8_lossy(&ran.stderr).to_lowercase();
    for step in ["announce", "bid", "award", "commit", "reveal"] {
        assert!(said.contains(step), "{step} is not shown:\n{said}");
    }
}

#[test]
fn the_status_of_the_command_is_that_of_the_devnet() {
    let dir = tempfile::tempdir().unwrap();
    let fails = run(&dir.path().join("a"), &["devnet", "--nodes", "4", "--", "job", "run", &example("fails/job.yaml")]);
    assert_eq!(fails.status.code(), Some(1), "{}", text(&fails));
    refused(&run(&dir.path().join("b"), &["devnet", "--nodes", "0", "--", "job", "list"]), &["0"]);
}
