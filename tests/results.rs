//! Results of jobs: listed, printed, and written in whole or in part.

use serde_json::Value;

use crate::support::{Daemon, Mesh, example, refused, text};

/// Counts words on a mesh of four; returns the mesh and the job's id.
fn counted() -> (Mesh, String) {
    let mesh = Mesh::start(4);
    let job = mesh.nodes[0].json(&["job", "run", &example("wordcount/job.yaml")]);
    assert_eq!(job["State"], "Completed", "{job:#}");
    (mesh, job["JobID"].as_str().unwrap().to_owned())
}

fn names(rows: &Value) -> Vec<&str> {
    rows.as_array().unwrap().iter().map(|row| row["Name"].as_str().unwrap()).collect()
}

fn ran(node: &Daemon, arguments: &[&str]) -> Vec<u8> {
    let output = node.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    output.stdout
}

#[test]
fn one_file_of_a_result_is_listed_printed_and_written() {
    let (mesh, job) = counted();
    let node = &mesh.nodes[0];
    assert_eq!(names(&node.json(&["job", "ls", &job])), ["exitCode", "outputs/", "stderr", "stdout"]);
    let within = format!("{job}/outputs");
    assert_eq!(names(&node.json(&["job", "ls", &within])), ["counts.tsv"]);
    let all = node.json(&["job", "ls", "-R", &job]);
    assert!(names(&all).contains(&"outputs/counts.tsv"), "{all:#}");

    let expected = std::fs::read(example("wordcount/expected/outputs/counts.tsv")).unwrap();
    assert_eq!(ran(node, &["job", "cat", &format!("{job}/outputs/counts.tsv")]), expected);
    refused(&node.run(&["job", "cat", &format!("{job}/outputs")]), &["outputs is a folder", "job ls"]);
    refused(&node.run(&["job", "cat", &format!("{job}/output")]), &["output", "exitCode, outputs/, stderr, stdout"]);
    refused(&node.run(&["job", "cat", &job]), &["names no file", "stdout"]);

    let target = mesh.dir.path().join("part");
    let dir = target.to_str().unwrap();
    ran(node, &["job", "get", &within, dir]);
    assert_eq!(std::fs::read(target.join("outputs/counts.tsv")).unwrap(), expected);
    assert!(!target.join("stdout").exists(), "only what was asked for is written");
}

#[test]
fn what_is_there_is_replaced_only_by_force() {
    let (mesh, job) = counted();
    let node = &mesh.nodes[0];
    let target = mesh.dir.path().join("got");
    let dir = target.to_str().unwrap();
    ran(node, &["job", "get", &job, dir]);
    std::fs::write(target.join("exitCode"), "mine").unwrap();
    std::fs::write(target.join("notes"), "mine").unwrap();
    refused(&node.run(&["job", "get", &job, dir]), &[dir, "--force"]);
    refused(&node.run(&["job", "get", &format!("{job}/exitCode"), dir]), &["exitCode", "--force"]);
    assert_eq!(std::fs::read(target.join("exitCode")).unwrap(), b"mine");

    ran(node, &["job", "get", "--force", &job, dir]);
    assert_eq!(std::fs::read(target.join("exitCode")).unwrap(), b"0");
    assert_eq!(std::fs::read(target.join("notes")).unwrap(), b"mine", "what the result has not stays");
}

#[test]
fn what_each_execution_revealed_has_a_folder_of_its_own() {
    let (mesh, job) = counted();
    let node = &mesh.nodes[0];
    let described = node.describe(&job);
    let executions: Vec<&Value> = described["Executions"].as_array().unwrap().iter().collect();
    let agreed = executions.iter().find(|one| one["State"] == "Agreed").unwrap();
    let execution = agreed["ExecutionID"].as_str().unwrap();
    let listed = node.json(&["job", "ls", "--all-executions", &job]);
    assert!(names(&listed).contains(&format!("{execution}/").as_str()), "{listed:#}");
    let code = format!("{job}/{execution}/exitCode");
    assert_eq!(ran(node, &["job", "cat", "--all-executions", &code]), b"0");
    let target = mesh.dir.path().join("all");
    ran(node, &["job", "get", "--all-executions", &job, target.to_str().unwrap()]);
    assert_eq!(std::fs::read(target.join(execution).join("exitCode")).unwrap(), b"0");
}
