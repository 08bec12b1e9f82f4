//! How long results stay, with their requester and with those that made them.

use std::path::Path;

use serde_json::Value;

use crate::support::{Daemon, Mesh, module, refused, text, until};

/// A module that prints a line.
fn prints(dir: &Path, line: &str) -> String {
    let (length, name) = (line.len() + 1, format!("{line}.wasm"));
    let source = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "{line}\n")
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 16))
                (i32.store (i32.const 4) (i32.const {length}))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    );
    module(dir, &name, &source)
}

/// A mesh whose first node has run a program, and what `describe` says of that.
fn ran(line: &str, retention: &str) -> (Mesh, Value) {
    let mesh = Mesh::start(4);
    let job = run(&mesh, line, retention);
    (mesh, job)
}

fn run(mesh: &Mesh, line: &str, retention: &str) -> Value {
    let module = prints(mesh.dir.path(), line);
    let job = mesh.nodes[0].json(&["wasm", "run", &module, "-p", &format!("blob,opt=retention={retention}")]);
    assert_eq!(job["State"], "Completed", "{job:#}");
    job
}

fn id(job: &Value) -> &str {
    job["JobID"].as_str().unwrap()
}

fn result(job: &Value) -> &str {
    job["Result"]["Hash"].as_str().unwrap()
}

/// The pins of a blob; none if it is not here.
fn pins(node: &Daemon, hash: &str) -> Option<Vec<Value>> {
    let blobs = node.json(&["blob", "list"]);
    let blob = blobs.as_array().unwrap().iter().find(|blob| blob["Hash"] == hash)?.clone();
    Some(blob["Pins"].as_array().unwrap().clone())
}

/// Waits until a blob has a pin of that beginning with an end, and returns the end.
fn end_of(node: &Daemon, hash: &str, prefix: &str) -> String {
    until(&format!("{prefix} has an end"), || {
        let pin = pins(node, hash)?.into_iter().find(|pin| pin["Name"].as_str().unwrap().starts_with(prefix))?;
        Some(pin["Until"].as_str()?.to_owned())
    })
}

/// Collects until a blob is gone.
fn collect(node: &Daemon, hash: &str) {
    until("nothing keeps the blob", || {
        let output = node.run(&["blob", "gc"]);
        assert!(output.status.success(), "{}", text(&output));
        pins(node, hash).is_none().then_some(())
    });
}

fn agreeing<'a>(mesh: &'a Mesh, job: &Value) -> Vec<&'a Daemon> {
    let executions = job["Executions"].as_array().unwrap().iter().filter(|one| one["State"] == "Agreed");
    executions.map(|one| &mesh.nodes[mesh.index_of(&one["PeerID"])]).collect()
}

#[test]
fn a_result_is_kept_as_long_as_its_job_says_across_restarts() {
    let (mut mesh, job) = ran("kept", "7d");
    let kept_until = job["Result"]["KeptUntil"].as_str().unwrap();
    let pin = format!("job/{}/result/0", id(&job));
    assert_eq!(end_of(&mesh.nodes[0], result(&job), &pin), kept_until);
    let shown = mesh.nodes[0].run(&["job", "describe", id(&job)]);
    assert!(text(&shown).contains(kept_until), "{}", text(&shown));

    let requester = mesh.nodes.remove(0).restart();
    assert_eq!(requester.describe(id(&job))["Result"]["KeptUntil"], kept_until);
    assert_eq!(end_of(&requester, result(&job), &pin), kept_until);

    let module = prints(mesh.dir.path(), "kept");
    let long = requester.run(&["wasm", "run", &module, "-p", "blob,opt=retention=400d"]);
    refused(&long, &["Retention", "is 400d", "365d (max_retention)"]);
}

#[test]
fn who_made_a_result_gives_it_to_anybody_when_its_requester_is_gone() {
    let (mut mesh, job) = ran("remembered", "7d");
    for worker in agreeing(&mesh, &job) {
        let end = end_of(worker, result(&job), "agreed/e-");
        assert!(end.as_str() < job["Result"]["KeptUntil"].as_str().unwrap(), "a worker keeps it for a day at most");
    }
    mesh.nodes.remove(0).kill();
    let worker = mesh.nodes.remove(0).restart();
    end_of(&worker, result(&job), "agreed/e-");

    let stranger = Daemon::start(&mesh.dir.path().join("stranger"), &["--join", &worker.ticket]);
    stranger.connected(1);
    let target = mesh.dir.path().join("got");
    until("the mesh's directory knows who has it", || {
        let got = stranger.run(&["blob", "get", result(&job), target.to_str().unwrap()]);
        got.status.success().then_some(())
    });
    assert_eq!(std::fs::read(target.join("stdout")).unwrap(), b"remembered\n");
}

#[test]
fn a_result_that_is_not_kept_any_more_is_fetched_from_whoever_has_it() {
    let (mesh, job) = ran("elsewhere", "1s");
    let requester = &mesh.nodes[0];
    let kept = agreeing(&mesh, &job)[0].run(&["blob", "pin", result(&job)]);
    assert!(kept.status.success(), "{}", text(&kept));
    collect(requester, result(&job));
    let stdout = requester.run(&["job", "cat", &format!("{}/stdout", id(&job))]);
    assert_eq!(stdout.stdout, b"elsewhere\n", "{}", text(&stdout));
}

#[test]
fn a_result_that_nobody_has_any_more_is_missed_in_plain_words() {
    let (mesh, job) = ran("gone", "1s");
    mesh.nodes.iter().for_each(|node| collect(node, result(&job)));
    let requester = &mesh.nodes[0];
    let kept_until = requester.describe(id(&job))["Result"]["KeptUntil"].as_str().unwrap().to_owned();
    let words = ["the result of job", id(&job), "is gone", &kept_until, "submit the job again", "Retention"];
    let target = mesh.dir.path().join("got");
    for command in [&["job", "ls", id(&job)][..], &["job", "get", id(&job), target.to_str().unwrap()]] {
        refused(&requester.run(command), &words);
    }
    refused(&requester.run(&["job", "cat", &format!("{}/stdout", id(&job))]), &words);
    assert!(!target.exists());
}

#[test]
fn a_result_of_several_partitions_that_is_not_kept_any_more_is_still_described_and_fetched() {
    let mesh = Mesh::start(4);
    let requester = &mesh.nodes[0];
    let module = prints(mesh.dir.path(), "parts");
    let job = requester.json(&["wasm", "run", &module, "--count", "2", "-p", "blob,opt=retention=1s"]);
    collect(requester, result(&job));
    let described = requester.describe(id(&job));
    assert_eq!(described["Result"]["KeptUntil"], job["Result"]["KeptUntil"], "{described:#}");
    assert_eq!(described["Result"]["Hash"], Value::Null, "its parts are not here");
    let stdout = requester.run(&["job", "cat", &format!("{}/1/stdout", id(&job))]);
    assert_eq!(stdout.stdout, b"parts\n", "{}", text(&stdout));
}

#[test]
fn a_worker_that_keeps_nothing_for_others_lets_go() {
    let mesh = Mesh::start_with(4, |_| vec![("SHOAL_WORKER_RETENTION", "0")]);
    let job = run(&mesh, "forgotten", "7d");
    agreeing(&mesh, &job).into_iter().for_each(|worker| collect(worker, result(&job)));
}

/// A release build cannot be told when to die.
#[cfg(debug_assertions)]
#[test]
fn a_requester_killed_at_the_end_of_a_job_remembers_when_its_result_ends() {
    let mesh = Mesh::start(4);
    let join = ["--join", &mesh.nodes[0].ticket];
    let dir = mesh.dir.path().join("requester");
    let mut requester = Daemon::start_with(&dir, &join, &[("SHOAL_TEST_MISBEHAVE", "die-after-End")]);
    requester.connected(4);
    let module = prints(mesh.dir.path(), "killed");
    // The command may lose its node before it has an answer.
    drop(requester.run(&["wasm", "run", &module, "-p", "blob,opt=retention=7d", "--detach"]));
    requester.wait_for_death();
    let requester = requester.restart();
    let jobs = requester.json(&["job", "list"]);
    let job = requester.describe(jobs[0]["JobID"].as_str().unwrap());
    assert_eq!(job["State"], "Completed", "{job:#}");
    assert_eq!(end_of(&requester, result(&job), "job/"), job["Result"]["KeptUntil"]);
}
