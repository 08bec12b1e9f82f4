//! Jobs of many kinds on a running mesh.

use crate::support::{Mesh, example, executions, module, refused, slow_module, text, until};

#[test]
fn a_program_that_fails_is_a_completed_job_with_its_exit_code() {
    let mesh = Mesh::start(4);
    let node = &mesh.nodes[0];
    let run = node.run(&["--format", "json", "job", "run", &example("fails/job.yaml")]);
    assert_eq!(run.status.code(), Some(1), "{}", text(&run));
    let job: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(job["State"], "Completed", "{job:#}");
    assert_eq!(job["ExitCode"], 3, "{job:#}");
    let target = mesh.dir.path().join("got");
    let got = node.run(&["job", "get", job["JobID"].as_str().unwrap(), target.to_str().unwrap()]);
    assert!(got.status.success(), "{}", text(&got));
    assert_eq!(std::fs::read(target.join("exitCode")).unwrap(), b"3");
    assert!(!std::fs::read(target.join("stderr")).unwrap().is_empty(), "what a failed run wrote is kept");
    let again = node.run(&["job", "get", job["JobID"].as_str().unwrap(), target.to_str().unwrap()]);
    refused(&again, &[target.to_str().unwrap()]);
}

#[test]
fn a_result_that_cannot_be_published_fails_the_job_and_is_still_here() {
    let mesh = Mesh::start(4);
    let node = &mesh.nodes[0];
    let module = module(mesh.dir.path(), "m.wasm", "(module (func (export \"_start\")))");
    // Nobody listens on port 1.
    let nowhere = "s3://bucket/{jobID}/,opt=endpoint=http://127.0.0.1:1,opt=region=us-east-1";
    let run = node.run(&["--format", "json", "wasm", "run", "-p", nowhere, &module]);
    assert_eq!(run.status.code(), Some(1), "{}", text(&run));
    let job: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!((&job["State"], &job["Verification"]["Verified"]), (&"Failed".into(), &true.into()), "{job:#}");
    let reason = job["StateReason"].as_str().unwrap();
    assert!(reason.contains("is here, but could not be published: "), "{reason}");
    let id = job["JobID"].as_str().unwrap();
    let history = node.run(&["job", "history", id]);
    assert!(text(&history).contains("not published yet"), "{}", text(&history));
    let target = mesh.dir.path().join("got");
    let got = node.run(&["job", "get", id, target.to_str().unwrap()]);
    assert!(got.status.success(), "{}", text(&got));
    assert_eq!(std::fs::read(target.join("exitCode")).unwrap(), b"0");
}

#[test]
fn a_trap_is_a_result_too() {
    let mesh = Mesh::start(4);
    let trap = module(mesh.dir.path(), "trap.wasm", "(module (func (export \"_start\") unreachable))");
    let run = mesh.nodes[1].run(&["--format", "json", "wasm", "run", &trap]);
    assert_eq!(run.status.code(), Some(1), "{}", text(&run));
    let job: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!((&job["State"], &job["Verification"]["Verified"]), (&"Completed".into(), &true.into()), "{job:#}");
    let described = mesh.nodes[1].run(&["job", "describe", job["JobID"].as_str().unwrap()]);
    assert!(text(&described).contains("1 (trapped: unreachable code reached)"), "{}", text(&described));
}

#[test]
fn each_partition_is_verified_on_its_own() {
    let mesh = Mesh::start(4);
    let node = &mesh.nodes[0];
    // Prints its environment: the partition's index is all that differs.
    let source = r#"(module
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start")
            (drop (call $sizes (i32.const 0) (i32.const 4)))
            (drop (call $get (i32.const 1024) (i32.const 4096)))
            (i32.store (i32.const 16) (i32.const 4096))
            (i32.store (i32.const 20) (i32.load (i32.const 4)))
            (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)))))"#;
    module(mesh.dir.path(), "env.wasm", source);
    let spec = "Name: parts\nType: batch\nCount: 5\nTasks:\n  - Name: main\n    Engine: {Type: wasm, Params: \
                {EntryModule: env.wasm}}\n    Env: {GREETING: hello}\n    InputSources:\n      - {Target: /env.wasm, \
                Source: {Type: localDirectory, Params: {SourcePath: ./env.wasm}}}\n";
    let path = mesh.dir.path().join("parts.yaml");
    std::fs::write(&path, spec).unwrap();
    let job = node.json(&["job", "run", path.to_str().unwrap()]);
    assert_eq!(job["State"], "Completed", "{job:#}");
    assert_eq!(job["Verification"]["Verified"], true);
    let target = mesh.dir.path().join("got");
    let got = node.run(&["job", "get", job["JobID"].as_str().unwrap(), target.to_str().unwrap()]);
    assert!(got.status.success(), "{}", text(&got));
    for index in 0..5 {
        let printed = std::fs::read_to_string(target.join(index.to_string()).join("stdout")).unwrap();
        assert!(printed.contains("GREETING=hello"), "{printed:?}");
        assert!(printed.contains(&format!("BACALHAU_PARTITION_INDEX={index}")), "{printed:?}");
        assert!(printed.contains("BACALHAU_PARTITION_COUNT=5"), "{printed:?}");
    }
}

#[test]
fn logs_follow_a_program_while_it_runs() {
    let mesh = Mesh::start(4);
    let node = &mesh.nodes[0];
    let job = node.submit(&["wasm", "run", &slow_module(mesh.dir.path(), 6)]);
    node.execution_in(&job, "Running");
    until("the first line arrives before the program has ended", || {
        let logs = node.run(&["job", "logs", &job]);
        String::from_utf8_lossy(&logs.stdout).contains("begun").then_some(())
    });
    let state = node.describe(&job)["State"].clone();
    assert_eq!(state, "Running", "the log came from a run that goes on");
    let all = node.run(&["job", "logs", "-f", &job]);
    assert!(all.status.success(), "{}", text(&all));
    assert_eq!(String::from_utf8_lossy(&all.stdout), "begun\ndone\n");
}

#[test]
fn stopping_a_job_stops_its_workers() {
    let mesh = Mesh::start(4);
    let node = &mesh.nodes[0];
    let job = node.submit(&["wasm", "run", &slow_module(mesh.dir.path(), 600)]);
    node.execution_in(&job, "Running");
    let stopped = node.run(&["job", "stop", &job]);
    assert!(stopped.status.success(), "{}", text(&stopped));
    let described = node.finished(&job);
    assert_eq!(described["State"], "Stopped");
    assert!(executions(&described).iter().all(|execution| execution["State"] == "Cancelled"), "{described:#}");
    for index in 1..4 {
        let work = mesh.dir.path().join(index.to_string()).join("work");
        until("the worker has let go", || {
            let mut left = std::fs::read_dir(&work).ok()?;
            left.next().is_none().then_some(())
        });
    }
    refused(&node.run(&["job", "stop", &job]), &[&job, "Stopped"]);
}

#[test]
fn nobody_who_can_is_said_with_reasons() {
    let mesh = Mesh::start(3);
    let module = module(mesh.dir.path(), "m.wasm", "(module (func (export \"_start\")))");
    let id = mesh.nodes[0].submit(&["wasm", "run", &module, "--memory", "3GiB", "--cpu", "900"]);
    let job = mesh.nodes[0].finished(&id);
    assert_eq!(job["State"], "Failed");
    let reason = job["StateReason"].as_str().unwrap();
    assert!(reason.contains("2 peers: CPU 900 >"), "{reason}");
}

#[test]
fn a_part_of_another_nodes_folder_is_an_input() {
    let mesh = Mesh::start(4);
    let folder = mesh.dir.path().join("folder");
    std::fs::create_dir_all(folder.join("sub/deep")).unwrap();
    std::fs::write(folder.join("large.bin"), vec![7; 3 << 20]).unwrap();
    std::fs::write(folder.join("sub/a.txt"), "one\n").unwrap();
    std::fs::write(folder.join("sub/deep/b.txt"), "two\n").unwrap();
    let added = mesh.nodes[1].json(&["blob", "add", folder.to_str().unwrap()]);
    let (hash, ticket) = (added["Hash"].as_str().unwrap(), added["Ticket"].as_str().unwrap());
    let cat = example("cat/cat.wasm");
    let node = &mesh.nodes[0];

    // The submitting node has nothing of it, and the ticket says who has.
    let part = format!("{ticket}/sub/deep/b.txt:/in.txt");
    let job = node.json(&["wasm", "run", "-i", &part, &cat, "/in.txt"]);
    assert_eq!(job["Verification"]["Verified"], true, "{job:#}");
    let input = &job["Inputs"][0];
    assert_eq!((&input["Target"], &input["Type"], &input["Bytes"]), (&"/in.txt".into(), &"blob".into(), &4.into()));
    assert_eq!(input["Origin"], format!("{hash}/sub/deep/b.txt"), "{job:#}");
    let printed = node.run(&["job", "cat", &format!("{}/stdout", job["JobID"].as_str().unwrap())]);
    assert_eq!(printed.stdout, b"two\n", "{}", text(&printed));
    let blobs = node.json(&["blob", "list"]);
    let whole = blobs.as_array().unwrap().iter().any(|blob| blob["Bytes"].as_u64() >= Some(3 << 20));
    assert!(!whole, "only the part has travelled: {blobs:#}");

    // The same in a job file, of a folder, by hash: what the node has is not asked for again.
    let spec = mesh.dir.path().join("part.yaml");
    let source = format!("{{Type: blob, Params: {{Ticket: {ticket}, Path: sub}}}}");
    let inputs = format!(
        "[{{Target: /sub, Source: {source}}}, {{Target: /m, Source: {{Type: localDirectory, Params: {{SourcePath: {cat}}}}}}}]"
    );
    let task = format!(
        "{{Name: main, Engine: {{Type: wasm, Params: {{EntryModule: /m, Parameters: [/sub/a.txt, /sub/deep/b.txt]}}}}, InputSources: {inputs}}}"
    );
    std::fs::write(&spec, format!("Type: batch\nTasks: [{task}]\n")).unwrap();
    let job = node.json(&["job", "run", spec.to_str().unwrap()]);
    let printed = node.run(&["job", "cat", &format!("{}/stdout", job["JobID"].as_str().unwrap())]);
    assert_eq!(printed.stdout, b"one\ntwo\n", "{}", text(&printed));

    let wrong = node.run(&["wasm", "run", "-i", &format!("{ticket}/sub/c.txt"), &cat]);
    refused(&wrong, &["sub/c.txt in blob", "sub has: a.txt, deep/"]);
}

#[test]
fn a_blob_goes_from_node_to_node_by_its_ticket() {
    let mesh = Mesh::start(3);
    let folder = mesh.dir.path().join("folder");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    std::fs::write(folder.join("a.txt"), "one").unwrap();
    std::fs::write(folder.join("sub/b.bin"), vec![7; 3 << 20]).unwrap();
    let added = mesh.nodes[1].json(&["blob", "add", folder.to_str().unwrap()]);
    let ticket = added["Ticket"].as_str().unwrap_or_else(|| panic!("{added:#}"));
    let target = mesh.dir.path().join("copy");
    let got = mesh.nodes[2].run(&["blob", "get", ticket, target.to_str().unwrap()]);
    assert!(got.status.success(), "{}", text(&got));
    assert_eq!(std::fs::read(target.join("sub/b.bin")).unwrap(), vec![7; 3 << 20]);
    assert_eq!(std::fs::read(target.join("a.txt")).unwrap(), b"one");
}
