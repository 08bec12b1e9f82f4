//! Files that nodes refer to where they are: shared without a copy, and never believed when they have changed.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Daemon, Mesh, example, refused, text};

/// Adds a file of a mebibyte in place and returns its path and its hash.
fn added(mesh: &Mesh, node: usize) -> (PathBuf, String) {
    let path = mesh.dir.path().join("shared");
    std::fs::write(&path, "as it was\n".repeat(1 << 17)).unwrap();
    let hash = add(&mesh.nodes[node], &path);
    (path, hash)
}

fn add(node: &Daemon, path: &std::path::Path) -> String {
    let blob = node.json(&["blob", "add", "--in-place", path.to_str().unwrap()]);
    blob["Hash"].as_str().unwrap().to_owned()
}

fn cat<'a>(module: &'a str, input: &'a str) -> [&'a str; 10] {
    ["wasm", "run", "--executions", "1", "--agreement", "1", "-i", input, module, "/in.txt"]
}

#[test]
fn what_one_node_has_in_place_others_fetch_until_it_changes() {
    let mesh = Mesh::start(3);
    let (path, hash) = added(&mesh, 0);
    let usage = mesh.nodes[0].json(&["blob", "du"]);
    assert!(usage["Used"].as_u64().unwrap() < 100_000, "{usage:#}");
    let target = |name: &str| mesh.dir.path().join(name);
    let got = mesh.nodes[1].run(&["blob", "get", &hash, target("got").to_str().unwrap()]);
    assert!(got.status.success(), "{}", text(&got));
    assert_eq!(std::fs::read(target("got").join(&hash)).unwrap(), std::fs::read(&path).unwrap());
    let forget = mesh.nodes[1].run(&["blob", "gc"]);
    assert!(forget.status.success(), "{}", text(&forget));

    std::fs::write(&path, "as it is now\n".repeat(1 << 17)).unwrap();
    let shared = path.to_str().unwrap();
    let here = mesh.nodes[0].run(&["blob", "get", &hash, target("here").to_str().unwrap()]);
    refused(&here, &[shared, "has changed", "add it again"]);
    let there = mesh.nodes[2].run(&["blob", "get", &hash, target("there").to_str().unwrap()]);
    refused(&there, &[&hash]);
    assert!(!target("there").join(&hash).exists());

    let (module, input) = (example("cat/cat.wasm"), format!("{hash}:/in.txt"));
    let job = cat(&module, &input);
    refused(&mesh.nodes[0].run(&job), &[shared, "has changed"]);
    std::fs::remove_file(&path).unwrap();
    refused(&mesh.nodes[0].run(&job), &[shared, "is gone"]);
}

#[test]
fn an_execution_that_finds_its_input_changed_is_no_vote() {
    let mesh = Mesh::start(2);
    let (path, hash) = added(&mesh, 1);
    let got = mesh.dir.path().join("got");
    let got = mesh.nodes[0].run(&["blob", "get", &hash, got.to_str().unwrap()]);
    assert!(got.status.success(), "{}", text(&got));

    // The requester has what it was, so only the worker's own file is wrong.
    std::fs::write(&path, "as it is now\n".repeat(1 << 17)).unwrap();
    let (module, input) = (example("cat/cat.wasm"), format!("{hash}:/in.txt"));
    let id = mesh.nodes[0].submit(&cat(&module, &input));
    let execution = mesh.nodes[0].execution_in(&id, "Failed");
    assert_eq!((&execution["Outcome"], &execution["ResultHash"]), (&Value::Null, &Value::Null), "{execution:#}");
    let failure = execution["Failure"].as_str().unwrap();
    for part in ["machine failed", path.to_str().unwrap(), "has changed", "add it again"] {
        assert!(failure.contains(part), "{part} in {failure}");
    }
}

#[test]
fn a_collection_leaves_the_file_where_it_is() {
    let mesh = Mesh::start(1);
    let (path, hash) = added(&mesh, 0);
    let mut node = mesh.nodes.into_iter().next().unwrap();
    for command in [&["blob", "unpin", hash.as_str()][..], &["blob", "gc"]] {
        let output = node.run(command);
        assert!(output.status.success(), "{}", text(&output));
    }
    // After a restart nothing guards it any more.
    node = node.restart();
    let output = node.run(&["blob", "gc"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(node.json(&["blob", "list"]).as_array().unwrap().len(), 0);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 10 << 17);
}
