//! `shoal wasm inspect`, with and without a node.

use serde_json::Value;

use crate::support::{Mesh, example, module, refused, run, text};

#[test]
fn a_module_is_inspected_without_a_node() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("none");
    let seams = run(&data, &["wasm", "inspect", &example("seam-carving/seam-carving.wasm")]);
    assert!(seams.status.success(), "{}", text(&seams));
    let said = String::from_utf8(seams.stdout).unwrap();
    for words in ["Runs", "yes, under wasm-", "_start", "wasi_snapshot_preview1.fd_read", "instructions in"] {
        assert!(said.contains(words), "{words:?} is missing in:\n{said}");
    }
    assert!(!data.exists(), "inspecting keeps nothing");
}

#[test]
fn what_cannot_run_is_status_1_with_every_reason() {
    let dir = tempfile::tempdir().unwrap();
    let source = r#"(module (import "env" "magic" (func)) (func (export "_start") (param i32)))"#;
    let module = module(dir.path(), "m.wasm", source);
    let inspected = run(&dir.path().join("none"), &["wasm", "inspect", &module, "--format", "json"]);
    assert_eq!(inspected.status.code(), Some(1), "{}", text(&inspected));
    let report: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!((&report["Runs"], report["Problems"].as_array().unwrap().len()), (&false.into(), 2), "{report:#}");
    assert_eq!(report["Imports"][0]["Provider"], Value::Null);
}

#[test]
fn an_import_module_counts_when_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let (holidays, easter) = (example("import-module/holidays.wasm"), example("import-module/easter.wasm"));
    let with = ["wasm", "inspect", &holidays, "-I", &format!("{easter}:easter")];
    let with = run(&dir.path().join("none"), &with);
    assert!(with.status.success() && String::from_utf8_lossy(&with.stdout).contains("import module easter"));
    let without = run(&dir.path().join("none"), &["wasm", "inspect", &holidays]);
    assert_eq!(without.status.code(), Some(1), "{}", text(&without));
}

#[test]
fn a_blob_of_the_running_node_is_inspected_by_its_hash() {
    let mesh = Mesh::start(1);
    let node = &mesh.nodes[0];
    let added = node.json(&["blob", "add", &example("cat/cat.wasm")]);
    let report = node.json(&["wasm", "inspect", added["Hash"].as_str().unwrap()]);
    assert_eq!((&report["Hash"], &report["Runs"]), (&added["Hash"], &true.into()), "{report:#}");
    refused(&node.run(&["wasm", "inspect", &"ab".repeat(32)]), &["abab"]);
}

#[test]
fn what_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    refused(&run(&dir.path().join("none"), &["wasm", "inspect", "nowhere.wasm"]), &["nowhere.wasm", "no such file"]);
    refused(&run(&dir.path().join("none"), &["wasm", "inspect", &"ab".repeat(32)]), &["no node is running"]);
}
