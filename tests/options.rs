//! Bacalhau's options of the commands that run jobs and list them, with real processes.

use crate::support::{Mesh, module, refused, slow_module, text};

/// A job that no worker of the mesh may take, and that waits for one.
const NOBODYS: [&str; 5] = ["--constraints", "nobody=has", "--queue-timeout", "600", "--wait-timeout-secs=1"];

fn good(mesh: &Mesh) -> String {
    module(mesh.dir.path(), "good.wasm", "(module (func (export \"_start\")))")
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn who_waits_no_longer_is_told_and_the_job_goes_on() {
    let mesh = Mesh::start(2);
    let (node, good) = (&mesh.nodes[0], good(&mesh));
    let left = node.run(&[&["wasm", "run", &good], &NOBODYS[..]].concat());
    assert_eq!(left.status.code(), Some(124), "{}", text(&left));
    assert!(left.stdout.is_empty(), "{}", text(&left));
    let said = lossy(&left.stderr);
    assert!(said.contains("the time to wait is over, but job j-") && said.contains("shoal job get"), "{said}");

    let left = node.run(&[&["--format", "json", "wasm", "run", &good], &NOBODYS[..]].concat());
    assert_eq!(left.status.code(), Some(124), "{}", text(&left));
    let job: serde_json::Value = serde_json::from_slice(&left.stdout).expect("one document");
    let id = job["JobID"].as_str().unwrap();
    assert!(["Pending", "Queued"].iter().any(|state| node.describe(id)["State"] == *state), "{job:#}");
    node.json(&["job", "stop", id]);
}

#[test]
fn not_to_wait_is_to_detach() {
    let mesh = Mesh::start(2);
    let (node, good) = (&mesh.nodes[0], good(&mesh));
    let run = node.run(&["wasm", "run", &good, "--executions", "1", "--wait=false"]);
    assert!(run.status.success(), "{}", text(&run));
    assert_eq!(node.finished(lossy(&run.stdout).trim())["State"], "Completed");
    refused(&node.run(&["wasm", "run", &good, "--wait=false", "--follow"]), &["--follow", "--wait=false"]);
    refused(&node.run(&["wasm", "run", &good, "--detach", "--wait-timeout-secs", "9"]), &["--wait-timeout-secs"]);
    let waited = node.run(&["wasm", "run", &good, "--executions", "1", "--wait", "--wait-timeout-secs", "0"]);
    assert!(waited.status.success(), "{}", text(&waited));
}

#[test]
fn executions_are_told_one_by_one_to_who_asks() {
    let mesh = Mesh::start(4);
    let (node, good) = (&mesh.nodes[0], good(&mesh));
    let run = node.run(&["wasm", "run", &good, "--node-details", "--group-events"]);
    assert!(run.status.success(), "{}", text(&run));
    let (printed, told) = (lossy(&run.stdout), lossy(&run.stderr));
    assert!(printed.contains("EXECUTION") && printed.contains("exited with code 0"), "{}", text(&run));
    let execution = |line: &str| line.split_whitespace().find(|word| word.starts_with("e-")).map(str::to_owned);
    let mut order: Vec<String> = told.lines().filter_map(execution).collect();
    assert!(order.len() >= 6, "each was awarded and ran: {told}");
    order.dedup();
    let mut apart = order.clone();
    apart.sort();
    apart.dedup();
    assert_eq!(order.len(), apart.len(), "the lines of an execution are together: {told}");
    assert!(order.iter().all(|id| printed.contains(id.as_str())), "{}", text(&run));
}

#[test]
fn lists_have_the_form_that_was_asked_for() {
    let mesh = Mesh::start(2);
    let (node, good) = (&mesh.nodes[0], good(&mesh));
    let name = "first, \"quoted\"";
    let id = node.submit(&["wasm", "run", &good, "--executions", "1", "--name", name, "--labels", "a=b"]);
    node.finished(&id);
    let prints = |arguments: &[&str]| {
        let output = node.run(arguments);
        assert!(output.status.success(), "{}", text(&output));
        lossy(&output.stdout)
    };
    let csv = prints(&["job", "list", "--output", "csv"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "created,id,name,engine,type,verification,state");
    assert!(lines[1].contains(&format!("{id},\"first, \"\"quoted\"\"\",wasm,batch,none,Completed")), "{csv}");
    assert_eq!(prints(&["job", "list", "--output", "csv", "--hide-header"]).lines().count(), 1);
    let table = prints(&["job", "list", "--hide-header", "--no-style"]);
    assert!(!table.contains("CREATED") && !table.contains(&id) && table.contains(&id[..12]), "{table}");
    assert!(prints(&["job", "list", "--wide", "--pretty"]).contains(&id));
    assert!(prints(&["job", "executions", &id, "--wide"]).contains(&mesh.nodes[1].id));
    let steps = |kind: &str| prints(&["job", "history", &id, "--event-type", kind, "--output", "csv"]);
    assert!(steps("job").contains(",submitted,") && !steps("job").contains(",e-"), "{}", steps("job"));
    assert!(steps("execution").lines().skip(1).all(|line| line.contains(",e-")), "{}", steps("execution"));
    refused(&node.run(&["--format", "csv", "job", "list"]), &["csv", "json"]);
}

#[test]
fn the_last_lines_of_a_log_are_enough() {
    let mesh = Mesh::start(2);
    let node = &mesh.nodes[0];
    let job = node.submit(&["wasm", "run", "--executions", "1", &slow_module(mesh.dir.path(), 1)]);
    node.finished(&job);
    for (arguments, expected) in [(&["--tail=1"][..], "done\n"), (&["-t"], "begun\ndone\n"), (&["--tail=0"], "")] {
        for follow in [&[][..], &["--follow"]] {
            let logs = node.run(&[&["job", "logs", &job], arguments, follow].concat());
            assert!(logs.status.success(), "{}", text(&logs));
            assert_eq!(lossy(&logs.stdout), expected, "{arguments:?} {follow:?}");
        }
    }
}

#[test]
fn old_options_work_and_say_what_they_are_called_today() {
    let mesh = Mesh::start(2);
    let (node, good) = (&mesh.nodes[0], good(&mesh));
    let old = ["wasm", "run", &good, "--dry-run", "--concurrency", "2", "-s", "region=eu"];
    let run = node.run(&old);
    assert!(run.status.success(), "{}", text(&run));
    assert!(lossy(&run.stdout).contains("Count: 2") && lossy(&run.stdout).contains("region"), "{}", text(&run));
    let told = lossy(&run.stderr);
    assert!(told.contains("write --count") && told.contains("write --constraints"), "{told}");
    let run = node.run(&[&old[..], &["--hide-warnings"]].concat());
    assert!(run.status.success() && run.stderr.is_empty(), "{}", text(&run));
    refused(&node.run(&["wasm", "run", &good, "--target", "all"]), &["--target all", "--count"]);
}
